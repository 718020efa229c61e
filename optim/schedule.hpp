// Learning rates over time: plain functions of the step, to be given to Sgd::set_lr.
#pragma once

#include <cstddef>

namespace armagrad::optim {

/// lr * factor^(step / every), with whole division. OptionError unless every > 0.
double step_rate(double lr, std::size_t step, std::size_t every, double factor = 0.1);

/// From lr at step 0 along half a cosine to `last` at step `total`, and `last` from there on (Loshchilov and Hutter
/// 2017). OptionError unless total > 0.
double cosine_rate(double lr, std::size_t step, std::size_t total, double last = 0);

struct OneCycle {
  double peak;                // the largest rate
  std::size_t total;          // steps
  double warm_up = 0.3;       // the share of steps that rise
  double start_divisor = 25;  // starts at peak / start_divisor
  double end_divisor = 1e4;   // ends at peak / start_divisor / end_divisor
};

/// Up to the peak and down again, each along half a cosine (Smith and Topin 2018; PyTorch's OneCycleLR with two
/// phases). Steps from `total` on keep the last rate. OptionError unless total > 1, 0 < warm_up < 1 and the divisors
/// are positive.
double one_cycle_rate(const OneCycle& cycle, std::size_t step);

}  // namespace armagrad::optim
