#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include <armagrad/autodiff/error.hpp>
#include <armagrad/nn/finite.hpp>

namespace armagrad::nn {

template <class eT>
double require_finite(eT loss, Module<eT>& model, std::size_t step) {
  if (std::isfinite(loss)) return static_cast<double>(loss);
  std::string where =
      "every parameter is still finite, but they may be large; else look at the data and the loss function";
  const auto parameters = model.named_parameters();
  const auto first = [&parameters](auto is_finite) {
    return std::find_if(parameters.begin(), parameters.end(), [&](const auto& p) { return !is_finite(*p.parameter); });
  };
  const auto value = first([](const Parameter<eT>& p) { return p.value().is_finite(); });
  const auto gradient = first([](const Parameter<eT>& p) { return p.grad().is_finite(); });
  if (value != parameters.end())
    where = fmt::format("the first parameter that is not finite is {}", value->name);
  else if (gradient != parameters.end())
    where = fmt::format("the parameters are finite; the first gradient that is not is that of {}", gradient->name);
  throw ValueError(
      fmt::format("training: the loss is {} at step {}: {}; lower the learning rate, clip the gradients or "
                  "check the data",
                  loss, step, where));
}

template double require_finite(float, Module<float>&, std::size_t);
template double require_finite(double, Module<double>&, std::size_t);

}  // namespace armagrad::nn
