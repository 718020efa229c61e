// Numbers as a person reads them, the same in reports, plots and progress lines.
#pragma once

#include <string>

namespace armagrad::zoo {

/// The smallest and the largest of some values, such as one accuracy over several seeds.
struct Range {
  double low = 0;
  double high = 0;
};

/// `value` with this many digits after the point; "not finite" for NaN and infinities.
std::string fixed(double value, int decimals);

/// `value` with at most this many significant digits, no trailing zeros; "not finite" for NaN and infinities.
std::string significant(double value, int digits = 10);

/// A share as a percentage: 0.9639 is "96.39 %".
std::string percent(double share, int decimals = 2);

/// A time span: "0.42 s", "42.3 s", "3 min 05 s", "2 h 07 min".
std::string duration(double seconds);

}  // namespace armagrad::zoo
