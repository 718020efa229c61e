// Gradients of functions, and their check against finite differences.
#pragma once

#include <functional>
#include <ostream>
#include <string>
#include <tuple>
#include <vector>

#include <armagrad/autodiff/operations.hpp>
#include <armagrad/autodiff/tape.hpp>

namespace armagrad {

/// dy/dx for a 1x1 y, as Vars on the same tape: differentiable themselves, so the gradient of a gradient is
/// grad(f(grad(y, x)), x). An x that y does not depend on gets zeros. StateError unless every x requires a gradient.
template <class eT>
std::vector<Var<eT>> grad(Var<eT> y, const std::vector<Var<eT>>& xs);
template <class eT>
Var<eT> grad(Var<eT> y, Var<eT> x) {
  return grad(y, std::vector<Var<eT>>{x}).front();
}

/// The value of `f` at the given matrices and its gradient by each of them: f takes as many Vars and returns a 1x1 Var.
///   auto [value, dA, db] = value_and_grad([](auto A, auto b) { return norm(solve(A, b), "fro"); }, A, b);
template <class F, class X, class... Xs>
requires detail::DenseExpression<X>
auto value_and_grad(F&& f, const X& x, const Xs&... xs) {
  using eT = typename X::elem_type;
  static_assert(
      std::is_same_v<eT, float> || std::is_same_v<eT, double>,
      "the inputs must be matrices of float or double; convert others with arma::conv_to<arma::mat>::from(A)");
  static_assert((std::is_same_v<typename Xs::elem_type, eT> && ...), "all inputs must have one element type");
  Tape<eT> tape;
  const std::tuple vars{tape.variable(arma::Mat<eT>(x)), tape.variable(arma::Mat<eT>(xs))...};
  const Var<eT> y = std::apply(f, vars);
  y.backward();
  return std::apply([&](auto... v) { return std::tuple{y.item(), v.grad()...}; }, vars);
}

/// The gradient alone; with several inputs a tuple of them.
template <class F, class X, class... Xs>
requires detail::DenseExpression<X>
auto grad(F&& f, const X& x, const Xs&... xs) {
  return std::apply(
      [](const auto&, auto&&... g) {
        if constexpr (sizeof...(g) == 1)
          return arma::Mat<typename X::elem_type>(std::move(g)...);
        else
          return std::tuple{std::move(g)...};
      },
      value_and_grad(std::forward<F>(f), x, xs...));
}

/// Computes f without a gradient being recorded: no_grad(tape, [&] { ... }).
template <class eT, class F>
auto no_grad(Tape<eT>& tape, F&& f) {
  const auto guard = tape.no_grad();
  return f();
}

/// What a gradient check found. The error of an entry is |analytic - numeric| / max(1, largest gradient entry).
struct GradcheckResult {
  bool ok = true;
  double worst = 0;         // the largest error of an entry
  double uncertainty = 0;   // the largest error estimate of the finite differences themselves, on the same scale
  std::size_t entries = 0;  // checked
  std::string log;          // one line for every wrong entry: input, row, column, both numbers

  explicit operator bool() const { return ok; }
  friend std::ostream& operator<<(std::ostream& out, const GradcheckResult& r) { return out << r.log; }
};

struct GradcheckOptions {
  double tolerance = 1e-7;
  double step = 0.02;  // the first step of the extrapolation, relative to max(1, |entry|)
};

using CheckedFunction = std::function<Var<double>(const std::vector<Var<double>>&)>;
namespace detail {
GradcheckResult gradcheck(const CheckedFunction& f, const std::vector<arma::mat>& inputs, GradcheckOptions options);
}

/// Compares the gradient of f at `inputs` with finite differences in double, extrapolated (Ridders 1982). A result that
/// is not 1x1 is weighted with fixed pseudo-random numbers and summed. A function that is not finite there fails.
template <class F>
GradcheckResult gradcheck(F&& f, const std::vector<arma::mat>& inputs, GradcheckOptions options = {}) {
  return detail::gradcheck(f, inputs, options);
}
/// The same with matrices and Vars one by one, as value_and_grad takes them: gradcheck(f, A, b).
template <class F, class X, class... Xs>
requires detail::DenseExpression<X> GradcheckResult gradcheck(F&& f, const X& x, const Xs&... xs) {
  const auto spread = [&f]<std::size_t... k>(const std::vector<Var<double>>& in, std::index_sequence<k...>) {
    return f(in[k]...);
  };
  return detail::gradcheck(CheckedFunction([&spread](const std::vector<Var<double>>& in) {
                             return spread(in, std::make_index_sequence<1 + sizeof...(Xs)>());
                           }),
                           std::vector<arma::mat>{arma::mat(x), arma::mat(xs)...}, {});
}
/// The same for the gradient of a fixed pseudo-random combination of f's gradients: f's second derivatives.
GradcheckResult gradgradcheck(const CheckedFunction& f, const std::vector<arma::mat>& inputs, GradcheckOptions = {});

}  // namespace armagrad
