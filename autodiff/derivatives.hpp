// Derivatives beyond the gradient: products with the Jacobian from both sides, Jacobians, Hessians. Each comes in two
// forms: of a recording (`jvp(y, x, v)`, Vars in, and for products Vars out, which have derivatives in turn), and of a
// function at given matrices (`jvp(f, x, v)`, matrices out). Where functions have several inputs, a Jacobian's or
// Hessian's rows and columns follow vec(x), column-major, of the inputs one after another.
#pragma once

#include <array>
#include <tuple>
#include <vector>

#include <armagrad/autodiff/gradient.hpp>

namespace armagrad {

// Of a recording. All throw StateError unless the Vars are of one tape and every x requires a gradient, and ShapeError
// where a direction has not the shape it should have. What does not depend on x has derivative 0.

/// J'u: the gradient of <u, y> by each x. u has y's shape.
template <class eT>
std::vector<Var<eT>> vjp(Var<eT> y, const std::vector<Var<eT>>& xs, Var<eT> u);
template <class eT>
Var<eT> vjp(Var<eT> y, Var<eT> x, Var<eT> u) {
  return vjp(y, std::vector<Var<eT>>{x}, u).front();
}

/// J v: how y moves when each x moves in direction v, of x's shape (forward mode).
template <class eT>
Var<eT> jvp(Var<eT> y, const std::vector<Var<eT>>& xs, const std::vector<Var<eT>>& vs);
template <class eT>
Var<eT> jvp(Var<eT> y, Var<eT> x, Var<eT> v) {
  return jvp(y, std::vector<Var<eT>>{x}, std::vector<Var<eT>>{v});
}

/// H v for a 1x1 y: how the gradients by xs move when the xs move in directions vs (forward over reverse).
template <class eT>
std::vector<Var<eT>> hvp(Var<eT> y, const std::vector<Var<eT>>& xs, const std::vector<Var<eT>>& vs);
template <class eT>
Var<eT> hvp(Var<eT> y, Var<eT> x, Var<eT> v) {
  return hvp(y, std::vector<Var<eT>>{x}, std::vector<Var<eT>>{v}).front();
}

enum class Direction {
  automatic,  ///< forward where that takes fewer passes, counting that many directions go in one
  forward,    ///< columns, by tangents
  reverse,    ///< rows, by gradients
};

/// dvec(y)/dvec(xs), elements of y x elements of the xs. Leaves the recording and its gradients as they were, and takes
/// no memory of the tape beyond the call.
template <class eT>
arma::Mat<eT> jacobian(Var<eT> y, const std::vector<Var<eT>>& xs, Direction = Direction::automatic);
template <class eT>
arma::Mat<eT> jacobian(Var<eT> y, Var<eT> x, Direction direction = Direction::automatic) {
  return jacobian(y, std::vector<Var<eT>>{x}, direction);
}

/// The second derivatives of a 1x1 y, n x n and symmetric, n the elements of the xs. As jacobian it leaves no trace.
template <class eT>
arma::Mat<eT> hessian(Var<eT> y, const std::vector<Var<eT>>& xs, Direction = Direction::automatic);
template <class eT>
arma::Mat<eT> hessian(Var<eT> y, Var<eT> x, Direction direction = Direction::automatic) {
  return hessian(y, std::vector<Var<eT>>{x}, direction);
}

// Of a function at given matrices. `f` takes as many Vars as there are matrices and returns a Var.

namespace detail {

template <class X>
using element = typename std::decay_t<X>::elem_type;

/// f at the given matrices, recorded on a tape of its own.
template <class eT, std::size_t n>
struct Recorded {
  static_assert(
      std::is_same_v<eT, float> || std::is_same_v<eT, double>,
      "the inputs must be matrices of float or double; convert others with arma::conv_to<arma::mat>::from(A)");
  template <class F, class... Xs>
  explicit Recorded(F&& f, const Xs&... inputs) : xs{tape.variable(arma::Mat<eT>(inputs))...}, y(std::apply(f, xs)) {
    static_assert((std::is_same_v<element<Xs>, eT> && ...), "all inputs must have one element type");
  }
  std::vector<Var<eT>> list() const { return {xs.begin(), xs.end()}; }

  Tape<eT> tape{};
  std::array<Var<eT>, n> xs;
  Var<eT> y;
};
template <class F, class... Xs>
auto recorded(F&& f, const Xs&... xs) {
  return Recorded<element<std::tuple_element_t<0, std::tuple<Xs...>>>, sizeof...(Xs)>(std::forward<F>(f), xs...);
}
template <class F, class... Xs>
auto recorded_at(F&& f, const std::tuple<Xs...>& xs) {
  return std::apply([&f](const auto&... x) { return recorded(std::forward<F>(f), x...); }, xs);
}

/// J'u by a first-order pass; H v by a forward pass of which nothing is recorded for further derivatives.
template <class eT>
std::vector<arma::Mat<eT>> pull(Var<eT> y, const std::vector<Var<eT>>& xs, Var<eT> u);
template <class eT>
std::vector<arma::Mat<eT>> hessian_product(Var<eT> y, const std::vector<Var<eT>>& xs, const std::vector<Var<eT>>& vs);

template <class eT, class... Vs>
std::vector<Var<eT>> constants(Tape<eT>& tape, const std::tuple<Vs...>& vs) {
  return std::apply([&tape](const auto&... v) { return std::vector{tape.constant(arma::Mat<eT>(v))...}; }, vs);
}

/// As a tuple of n matrices, after `first`.
template <class eT, class... First, std::size_t... k>
auto as_tuple(const std::vector<arma::Mat<eT>>& list, std::index_sequence<k...>, First&&... first) {
  return std::tuple{std::forward<First>(first)..., list[k]...};
}

}  // namespace detail

/// [y, dy]: f at xs, and how it moves when the xs move in directions vs: jvp(f, std::tie(A, b), std::tie(dA, db)).
template <class F, class... Xs, class... Vs>
auto jvp(F&& f, const std::tuple<Xs...>& xs, const std::tuple<Vs...>& vs) {
  static_assert(sizeof...(Xs) == sizeof...(Vs), "there must be one direction for each input");
  auto at = detail::recorded_at(std::forward<F>(f), xs);
  const auto directions = detail::constants(at.tape, vs);
  const auto guard = at.tape.no_grad();
  return std::tuple{at.y.value(), jvp(at.y, at.list(), directions).value()};
}
/// The same for one input.
template <class F, class X, class V>
requires(detail::DenseExpression<X>&& detail::DenseExpression<V>) auto jvp(F&& f, const X& x, const V& v) {
  return jvp(std::forward<F>(f), std::tie(x), std::tie(v));
}

/// [y, dA, db]: f at xs and the gradients of <u, f(xs)> by each of them: vjp(f, std::tie(A, b), u).
template <class F, class... Xs, class U>
requires detail::DenseExpression<U>
auto vjp(F&& f, const std::tuple<Xs...>& xs, const U& u) {
  auto at = detail::recorded_at(std::forward<F>(f), xs);
  const auto seed = detail::constants(at.tape, std::tie(u)).front();
  return detail::as_tuple(detail::pull(at.y, at.list(), seed), std::index_sequence_for<Xs...>(), at.y.value());
}
/// The same for one input: [y, dx].
template <class F, class X, class U>
requires(detail::DenseExpression<X>&& detail::DenseExpression<U>) auto vjp(F&& f, const X& x, const U& u) {
  return vjp(std::forward<F>(f), std::tie(x), u);
}

/// H v for an f whose result is 1x1: hvp(f, std::tie(A, b), std::tie(vA, vb)) is a tuple of matrices of A's and b's
/// shapes.
template <class F, class... Xs, class... Vs>
auto hvp(F&& f, const std::tuple<Xs...>& xs, const std::tuple<Vs...>& vs) {
  static_assert(sizeof...(Xs) == sizeof...(Vs), "there must be one direction for each input");
  auto at = detail::recorded_at(std::forward<F>(f), xs);
  return detail::as_tuple(detail::hessian_product(at.y, at.list(), detail::constants(at.tape, vs)),
                          std::index_sequence_for<Xs...>());
}
/// The same for one input: a matrix of x's shape.
template <class F, class X, class V>
requires(detail::DenseExpression<X>&& detail::DenseExpression<V>) auto hvp(F&& f, const X& x, const V& v) {
  return std::get<0>(hvp(std::forward<F>(f), std::tie(x), std::tie(v)));
}

/// dvec(f)/dvec(x), elements of f(x) x elements of x; with several inputs their columns stand side by side.
template <class F, class X, class... Xs>
requires detail::DenseExpression<X>
auto jacobian(F&& f, const X& x, const Xs&... xs) {
  const auto at = detail::recorded(std::forward<F>(f), x, xs...);
  return jacobian(at.y, at.list());
}

/// The n x n second derivatives of an f whose result is 1x1, n the elements of all inputs together; symmetric.
template <class F, class X, class... Xs>
requires detail::DenseExpression<X>
auto hessian(F&& f, const X& x, const Xs&... xs) {
  const auto at = detail::recorded(std::forward<F>(f), x, xs...);
  return hessian(at.y, at.list());
}

/// What a Newton step needs, in the order of vec(x): solve(hessian, gradient).
template <class eT>
struct SecondOrder {
  eT value;
  arma::Col<eT> gradient;
  arma::Mat<eT> hessian;
};
template <class eT>
SecondOrder<eT> value_grad_hessian(Var<eT> y, const std::vector<Var<eT>>& xs);
template <class F, class X, class... Xs>
requires detail::DenseExpression<X>
auto value_grad_hessian(F&& f, const X& x, const Xs&... xs) {
  const auto at = detail::recorded(std::forward<F>(f), x, xs...);
  return value_grad_hessian(at.y, at.list());
}

}  // namespace armagrad
