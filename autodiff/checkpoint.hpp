// checkpoint: compute again instead of keeping.
#pragma once

#include <functional>
#include <memory>
#include <type_traits>
#include <unordered_set>
#include <vector>

#include <armagrad/autodiff/var.hpp>

namespace armagrad {

namespace detail {
template <class eT>
using Recomputed = std::function<Var<eT>(const std::vector<Var<eT>>&)>;
template <class eT>
Var<eT> checkpoint(Recomputed<eT> f, const std::vector<Var<eT>>& xs);

/// A module: its parameters are to be trained where they are.
template <class F>
concept has_named_parameters = requires(F f) {
  f.named_parameters();
};

/// Notices parameters that are made while it lives: a copy of f must not have its own.
class NoNewParameters {
 public:
  NoNewParameters();
  NoNewParameters(const NoNewParameters&) = delete;
  NoNewParameters& operator=(const NoNewParameters&) = delete;
  ~NoNewParameters();
  void check() const;  // StateError if there are any

 private:
  std::unique_ptr<std::unordered_set<const void*>> made_;
  std::unordered_set<const void*>* outer_;
};
}  // namespace detail

/// f(x, others...), of which the tape keeps inputs and result alone: backward computes f again for what is between.
/// Costs one more forward pass of f and saves its memory; nested checkpoints save more and cost more.
///   h = checkpoint(block, h);                                      // a module, its parameters get their gradients
///   h = checkpoint([&](auto x, auto s) { return tanh(w * x + s); }, h, s);
/// f may use parameters and constants from outside, but every other Var must be one of its arguments. A module given by
/// name is kept by reference and must live until backward, as must what a lambda refers to; any other f is copied, and
/// StateError if that would copy parameters. f must compute the same again: StateError
/// in backward if it does not (nn::Dropout repeats its masks). Differentiable gradients (`grad`, `jvp`, `hessian`)
/// record f as if there were no checkpoint. StateError within a capture.
template <class F, class eT, class... Vars>
Var<eT> checkpoint(F&& f, Var<eT> x, Vars... others) {
  static_assert((std::is_same_v<Vars, Var<eT>> && ...), "the arguments of a checkpointed function must be Vars");
  const auto call = [](auto& function, const std::vector<Var<eT>>& xs) -> Var<eT> {
    return [&]<std::size_t... k>(std::index_sequence<k...>) { return function(xs[k]...); }
    (std::make_index_sequence<1 + sizeof...(Vars)>());
  };
  if constexpr (std::is_lvalue_reference_v<F> && detail::has_named_parameters<F>) {
    return detail::checkpoint<eT>([&f, call](const std::vector<Var<eT>>& xs) { return call(f, xs); }, {x, others...});
  } else {
    const detail::NoNewParameters guard;
    const auto held = std::make_shared<std::decay_t<F>>(std::forward<F>(f));
    guard.check();
    return detail::checkpoint<eT>([held, call](const std::vector<Var<eT>>& xs) { return call(*held, xs); },
                                  {x, others...});
  }
}

}  // namespace armagrad
