// The report of the digits pipeline.
#pragma once

#include <vector>

#include "zoo/digits.hpp"
#include "zoo/digits_run.hpp"

namespace armagrad::zoo {

struct FinishedRun {
  Run run;
  double train, test;      // accuracy
  arma::fmat test_scores;  // 10 x 360
  arma::fmat weights;      // 10 x 64 of a linear model; empty for a network
};

/// A model's runs, one per seed.
struct ModelRuns {
  Model model;
  std::vector<FinishedRun> runs;
};

struct Effort {
  double seconds;  ///< on the clock on the wall, for all runs
  int jobs;        ///< runs side by side
  bool finished;   ///< false: interrupted
};

/// @param done in order of the models' numbers; may be empty
Report digits_report(const DigitsOptions& options, const Digits& digits, const std::vector<ModelRuns>& done,
                     const Effort& effort);

}  // namespace armagrad::zoo
