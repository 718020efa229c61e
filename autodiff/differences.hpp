// Finite differences, for the checks.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

namespace armagrad {

struct Difference {
  double value;
  double error;
};

// Ridders' extrapolation of central differences to step 0: a tableau in which each column cancels one more even order.
template <class F>
Difference ridders(F f, double step) {
  constexpr int size = 12;
  constexpr double shrink = 1.6;
  double table[size][size];
  Difference best{0, std::numeric_limits<double>::infinity()};
  for (int i = 0; i < size; ++i, step /= shrink) {
    table[0][i] = (f(step) - f(-step)) / (2 * step);
    double factor = shrink * shrink;
    for (int j = 1; j <= i; ++j, factor *= shrink * shrink) {
      table[j][i] = (factor * table[j - 1][i] - table[j - 1][i - 1]) / (factor - 1);
      const double error =
          std::max(std::abs(table[j][i] - table[j - 1][i]), std::abs(table[j][i] - table[j - 1][i - 1]));
      if (error <= best.error) best = {table[j][i], error};
    }
    if (i > 0 && std::abs(table[i][i] - table[i - 1][i - 1]) >= 2 * best.error) break;
  }
  return best;
}

}  // namespace armagrad
