#pragma once

#include <armagrad/nn/module.hpp>

namespace armagrad::nn {

/// Stops a training that has gone wrong. Throws ValueError when `loss` is NaN or infinite, naming the step and the
/// first parameter whose value or gradient is not finite; returns the loss otherwise. Call it after backward and
/// before the optimizer's step: until then the parameters still show where it began.
template <class eT>
double require_finite(eT loss, Module<eT>& model, std::size_t step);

}  // namespace armagrad::nn
