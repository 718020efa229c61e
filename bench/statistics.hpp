// Median and quartiles of repeated timings.
#pragma once

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <vector>

namespace armagrad::bench {

/// The value below which a share `q` of the values lies, interpolated between neighbours (NumPy's default).
inline double quantile(std::vector<double> values, double q) {
  if (values.empty()) throw std::invalid_argument("quantile: there is no value");
  std::sort(values.begin(), values.end());
  const double at = q * static_cast<double>(values.size() - 1);
  const auto below = static_cast<std::size_t>(at), above = std::min(below + 1, values.size() - 1);
  return values[below] + (at - std::floor(at)) * (values[above] - values[below]);
}

struct Spread {
  double median, low, high;  ///< low and high: the quartiles
};

inline Spread spread(const std::vector<double>& values) {
  return {quantile(values, 0.5), quantile(values, 0.25), quantile(values, 0.75)};
}

/// Spread of a_i / b_i over the rounds i.
inline Spread ratio(std::vector<double> a, const std::vector<double>& b) {
  if (a.size() != b.size()) throw std::invalid_argument("ratio: unequal numbers of rounds");
  for (std::size_t i = 0; i < a.size(); ++i) a[i] /= b[i];
  return spread(a);
}

}  // namespace armagrad::bench
