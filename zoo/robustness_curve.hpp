// One accuracy curve over many images: minutes to hours of work that can be interrupted and resumed.
#pragma once

#include <filesystem>
#include <functional>
#include <string>

#include "zoo/robustness_model.hpp"

namespace armagrad::zoo {

struct CurveJob {
  std::string title{};                   ///< for progress and messages
  const data::Dataset<float>* images{};  ///< attacked
  std::vector<double> epsilons{};
  robust::PgdOptions<float> attack{};  ///< its callbacks are this function's
  std::filesystem::path checkpoint{};  ///< a file, made and replaced while it runs, gone at the end; empty: none
  bool resume = false;                 ///< go on from the checkpoint if there is one
  double checkpoint_seconds = 20;
  std::function<bool()> stopped{};  ///< true: write the checkpoint and end with Interrupted
};

/// Looks at the checkpoint that `job` would go on from, before any work.
/// @throws OptionError when it is of another job, DataError when it is damaged
void check_checkpoint(ImageModel& model, const CurveJob& job);

/// @throws Interrupted; OptionError when the checkpoint is of another job; DataError when it is damaged or cannot be
/// written
robust::AttackCurve attack_curve(ImageModel& model, const CurveJob& job);

/// Removes a finished job's checkpoint.
void remove_checkpoint(const CurveJob& job);

}  // namespace armagrad::zoo
