// The digits pipeline: linear models and a small network on the 8x8 digits, each trained to its own stopping rule.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "zoo/report.hpp"

namespace armagrad::zoo {

struct DigitsOptions {
  std::vector<int> models{};  ///< numbers as in the published table; empty: all
  std::uint64_t seed = 1;     ///< of the first run's weights; further runs take the next seeds
  int seeds = 1;              ///< runs per model
  long epochs = 100000;       ///< at most
  double lr = 1e-2;
  std::optional<long> batch{};  ///< images per update; as published (all or 64, by model) unless given
  std::string device = "cpu";   ///< or "cuda"
  int jobs = 0;  ///< runs side by side, each in a thread; 0: as many as there are processors; one on CUDA

  /// Where runs are kept: one that is interrupted goes on there with `resume`. Empty: nowhere.
  std::filesystem::path checkpoints{};
  bool resume = false;
  double checkpoint_seconds = 2;    ///< between two checkpoints of a run
  std::function<bool()> stopped{};  ///< asked after each epoch, by every thread; true ends the runs there
};

/// @throws OptionError for a model that is not there or an option out of range; DeviceError where the device is not
///   there; with `resume` DataError for a checkpoint that is damaged, of another run or with other options.
void check(const DigitsOptions& options);

struct DigitsResult {
  Report report;
  std::size_t models;  ///< in the report
  bool finished;       ///< false: it was stopped, and the report has the models that were done
};

/// Checks the options, then trains. @throws ValueError when a loss is not finite.
DigitsResult digits(const DigitsOptions& options);

/// Once the report is written, the checkpoints of these runs are of no more use.
void remove_checkpoints(const DigitsOptions& options);

}  // namespace armagrad::zoo
