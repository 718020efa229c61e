// The digits pipeline: linear models and a small network on the 8x8 digits, each trained to its own stopping rule.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "zoo/report.hpp"

namespace armagrad::zoo {

struct DigitsOptions {
  std::vector<int> models{};  ///< numbers as in the published table; empty: all that are here
  std::uint64_t seed = 1;     ///< of the first run's weights; further runs take the next seeds
  int seeds = 1;              ///< runs per model
  long epochs = 100000;       ///< at most
  double lr = 1e-2;
};

/// The numbers of the models that are here.
std::vector<int> digits_models();

/// @throws OptionError for a model that is not here or an option out of range.
void check(const DigitsOptions& options);

/// Checks the options, then trains. @throws ValueError when a loss is not finite.
Report digits(const DigitsOptions& options);

}  // namespace armagrad::zoo
