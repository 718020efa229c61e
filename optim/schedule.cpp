#include <algorithm>
#include <cmath>
#include <numbers>

#include <fmt/format.h>

#include <armagrad/autodiff/error.hpp>
#include <armagrad/optim/schedule.hpp>

namespace armagrad::optim {
namespace {

// Half a cosine from `from` (share 0) to `to` (share 1).
double anneal(double from, double to, double share) {
  return to + (from - to) * (1 + std::cos(std::numbers::pi * share)) / 2;
}

}  // namespace

double step_rate(double lr, std::size_t step, std::size_t every, double factor) {
  if (every == 0) throw OptionError("step_rate: every is 0; it must be positive");
  const std::size_t drops = step / every;
  return lr * std::pow(factor, static_cast<double>(drops));
}

double cosine_rate(double lr, std::size_t step, std::size_t total, double last) {
  if (total == 0) throw OptionError("cosine_rate: total is 0; it must be positive");
  return anneal(lr, last, static_cast<double>(std::min(step, total)) / static_cast<double>(total));
}

double one_cycle_rate(const OneCycle& c, std::size_t step) {
  if (c.total < 2 || !(c.warm_up > 0 && c.warm_up < 1) || !(c.start_divisor > 0) || !(c.end_divisor > 0))
    throw OptionError(
        fmt::format("one_cycle_rate: total {}, warm_up {}, divisors {} and {}; total must be above 1, warm_up "
                    "between 0 and 1, the divisors positive",
                    c.total, c.warm_up, c.start_divisor, c.end_divisor));
  const double start = c.peak / c.start_divisor, end = start / c.end_divisor;
  const double last = static_cast<double>(c.total - 1), top = c.warm_up * static_cast<double>(c.total) - 1;
  const double at = std::min(static_cast<double>(step), last);
  if (at < top) return anneal(start, c.peak, at / top);
  return anneal(c.peak, end, (at - top) / (last - top));
}

}  // namespace armagrad::optim
