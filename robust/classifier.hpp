// What attacks need of a model: its logits as a function of its input.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <type_traits>

#include <armagrad/nn/module.hpp>

namespace armagrad::robust {

/// A closed interval of numbers, such as the range of the data.
struct Interval {
  double low;
  double high;
};

namespace detail {

/// Refers to a module, or to a function from Var<eT> to Var<eT>: features x batch to logits, classes x batch. The model
/// must compute each column from that column alone. Several threads call it at once, each with a tape of its own.
template <class eT>
struct Classifier {
  std::function<Var<eT>(Var<eT>)> forward;
  Device device = Device::cpu();
  std::function<std::string()> bad_parameter = [] { return std::string(); };  // the first that is not finite
};

/// The name of the first parameter that is not finite; empty when all are.
template <class eT>
std::string bad_parameter(nn::Module<eT>& module);

/// A classifier and what holds it in evaluation mode meanwhile.
template <class eT>
struct Evaluated {
  std::optional<nn::detail::Evaluation> mode{};
  Classifier<eT> classifier{};

  template <class M>
  explicit Evaluated(M& model) {
    classifier.forward = [&model](Var<eT> x) -> Var<eT> { return model(x); };
    if constexpr (std::is_base_of_v<nn::Module<eT>, M>) {
      mode.emplace(model);
      classifier.device = model.device();
      classifier.bad_parameter = [&model] { return bad_parameter<eT>(model); };
    }
  }
};

}  // namespace detail
}  // namespace armagrad::robust
