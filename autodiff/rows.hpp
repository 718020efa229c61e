// From a row of elementwise.def to an operation: the loop over its value, the fused loop over its derivative, and the
// rule that uses the second in a first-order pass and the derivative's text on Vars otherwise.
#pragma once

#include <algorithm>
#include <utility>

#include <armagrad/autodiff/device/kernels.hpp>
#include <armagrad/autodiff/device/versions.hpp>
#include <armagrad/autodiff/graph.hpp>
#include <armagrad/autodiff/operations.hpp>
#include <armagrad/autodiff/ops/known.hpp>
#include <armagrad/autodiff/row_list.hpp>
#include <armagrad/autodiff/samples.hpp>

namespace armagrad::detail {

/// A Var whose operators work element by element, and whose functions are those of math.hpp.
template <class eT>
struct Elementwise {
  Var<eT> v;
};

#define ARMAGRAD_EW(op, function)                                     \
  template <class eT>                                                 \
  Elementwise<eT> operator op(Elementwise<eT> a, Elementwise<eT> b) { \
    return {function(a.v, b.v)};                                      \
  }                                                                   \
  template <class eT>                                                 \
  Elementwise<eT> operator op(Elementwise<eT> a, double b) {          \
    return {a.v op b};                                                \
  }                                                                   \
  template <class eT>                                                 \
  Elementwise<eT> operator op(double a, Elementwise<eT> b) {          \
    return {a op b.v};                                                \
  }
ARMAGRAD_EW(+, add)
ARMAGRAD_EW(-, subtract)
ARMAGRAD_EW(*, multiply)
ARMAGRAD_EW(/, divide)
ARMAGRAD_EW(>, greater)
ARMAGRAD_EW(>=, greater_equal)
ARMAGRAD_EW(<, less)
ARMAGRAD_EW(<=, less_equal)
ARMAGRAD_EW(==, equal)
ARMAGRAD_EW(!=, not_equal)
#undef ARMAGRAD_EW
template <class eT>
Elementwise<eT> operator&(Elementwise<eT> a, Elementwise<eT> b) {
  return a * b;
}
template <class eT>
Elementwise<eT> operator-(Elementwise<eT> a) {
  return {-a.v};
}

#define ARMAGRAD_EW(name)                   \
  template <class eT>                       \
  Elementwise<eT> name(Elementwise<eT> x) { \
    return {armagrad::name(x.v)};           \
  }
ARMAGRAD_EW(exp)
ARMAGRAD_EW(log)
ARMAGRAD_EW(log1p)
ARMAGRAD_EW(expm1)
ARMAGRAD_EW(sqrt)
ARMAGRAD_EW(abs)
ARMAGRAD_EW(sign)
ARMAGRAD_EW(sin)
ARMAGRAD_EW(cos)
ARMAGRAD_EW(tanh)
ARMAGRAD_EW(erf)
ARMAGRAD_EW(sigmoid)
#undef ARMAGRAD_EW
template <class eT>
Elementwise<eT> pow(Elementwise<eT> x, double p) {
  return {armagrad::pow(x.v, p)};
}
template <class eT>
Elementwise<eT> select(Elementwise<eT> mask, Elementwise<eT> a, Elementwise<eT> b) {
  return {add(keep_if(a.v, mask.v), keep_unless(b.v, mask.v))};
}
template <class eT>
Elementwise<eT> select(Elementwise<eT> mask, Elementwise<eT> a, double b) {
  const Elementwise<eT> kept{keep_if(a.v, mask.v)};
  return b == 0 ? kept : kept + b * (mask == 0.0);
}

/// out = alpha * f(in[0], in[1], ...) + beta * out, element by element; inputs that are a row, a column or 1x1 are
/// repeated along `out`. One loop serves all shapes: what is repeated down a column is written out a piece at a time.
template <class eT, class F, std::size_t... k>
inline void map(const Command<eT>& c, F f, std::index_sequence<k...>) {
  constexpr std::size_t inputs = sizeof...(k), piece = 256;
  const auto loop = [&](std::size_t n, eT* y, const auto&... x) {
    const eT alpha = c.alpha, beta = c.beta;
    if (beta == eT(0)) {
      ARMAGRAD_NO_OVERLAP
      for (std::size_t i = 0; i < n; ++i) y[i] = alpha * f(x[i]...);
    } else {
      ARMAGRAD_NO_OVERLAP
      for (std::size_t i = 0; i < n; ++i) y[i] = alpha * f(x[i]...) + beta * y[i];
    }
  };
  if (((c.in[k].size() == c.out.size()) && ...)) return loop(c.out.size(), c.out.data, c.in[k].data...);
  const bool one_column = ((c.in[k].size() == c.out.size() || c.in[k].size() == 1) && ...);
  const std::size_t rows = one_column ? c.out.size() : c.out.rows, cols = one_column ? 1 : c.out.cols;
  eT repeated[inputs][piece];
  const eT* x[inputs];
  for (std::size_t j = 0; j < cols; ++j)
    for (std::size_t i = 0; i < rows; i += piece) {
      const std::size_t n = rows - i < piece ? rows - i : piece;
      for (std::size_t q = 0; q < inputs; ++q) {
        const View<const eT>& in = c.in[q];
        x[q] = in.data + (in.cols == 1 ? 0 : j * in.ld);
        if (in.rows != 1 || (one_column && in.size() != 1)) {
          x[q] += i;
        } else {
          if (i == 0) std::fill_n(repeated[q], rows < piece ? rows : piece, *x[q]);
          x[q] = repeated[q];
        }
      }
      loop(n, c.out.data + j * c.out.ld + i, x[k]...);
    }
}

template <class Row, class eT>
std::pair<eT, eT> scalar_parameters(const Command<eT>& c) {
  if constexpr (Row::parameters == 0) return {eT(0), eT(0)};
  const auto& s = *static_cast<const ScalarAttributes*>(c.attributes);
  return {static_cast<eT>(s.p), static_cast<eT>(s.q)};
}

template <class Row, class eT>
struct RowKernels {
  static void value_host(const Command<eT>& c) {
    if constexpr (Row::arity == 1) {
      const auto [p, q] = scalar_parameters<Row>(c);
      const eT p_ = p, q_ = q;
      map(
          c, [p_, q_](eT x) { return Row::template value<eT>(x, p_, q_); }, std::make_index_sequence<1>());
    } else {
      map(
          c, [](eT a, eT b) { return Row::template value<eT>(a, b); }, std::make_index_sequence<2>());
    }
  }
  /// in = g, x, y or g, a, b, y
  template <int k>
  static void derivative_host(const Command<eT>& c) {
    if constexpr (Row::arity == 1) {
      const auto [p, q] = scalar_parameters<Row>(c);
      const eT p_ = p, q_ = q;
      map(
          c, [p_, q_](eT g, eT x, eT y) { return Row::template derivative<0, eT, eT>(g, x, y, p_, q_); },
          std::make_index_sequence<3>());
    } else {
      map(
          c, [](eT g, eT a, eT b, eT y) { return Row::template derivative<k, eT, eT>(g, a, b, y); },
          std::make_index_sequence<4>());
    }
  }
  static inline const Kernel<eT> value = versions<eT, &value_host>(Row::name, true);
  template <int k>
  static inline const Kernel<eT> derivative = versions<eT, &derivative_host<k>>(Row::derivative_names[k], true);
};

struct NoAttributes {};
struct HasScalarAttributes {
  using Attributes = ScalarAttributes;
};
template <class Row>
using RowAttributes = std::conditional_t<(Row::parameters > 0), HasScalarAttributes, NoAttributes>;

/// The fused derivative by operand k, as an operation on (g, operands..., y), for where nothing flows back through it.
template <class Row, int k>
struct RowDerivative : RowAttributes<Row> {
  template <class eT>
  static constexpr const Kernel<eT>* kernel() {
    return &RowKernels<Row, eT>::template derivative<k>;
  }
  static constexpr auto name = Row::derivative_names[k];
  static constexpr bool accumulates = true;
  static constexpr bool in_place = true;
  static Shape shape(Operands& in) { return in[0]; }
  template <class eT>
  static void eval(Eval<eT>& e) {
    e.run(e.command(*kernel<eT>()));
  }
};
/// Row's derivative by operand k at (operands..., y), times g.
template <class Row, int k, class eT>
Var<eT> derivative(Var<eT> g, Var<eT> x, Var<eT> y, const ScalarAttributes& s = {}) {
  if (g.graph().may_fuse()) {
    if constexpr (Row::parameters > 0)
      return apply<RowDerivative<Row, k>>(s, g, x, y);
    else
      return apply<RowDerivative<Row, k>>(g, x, y);
  }
  using E = Elementwise<eT>;
  return Row::template derivative<0, E, double>(E{g}, E{x}, E{y}, s.p, s.q).v;
}
template <class Row, int k, class eT>
Var<eT> derivative2(Var<eT> g, Var<eT> a, Var<eT> b, Var<eT> y) {
  if (g.graph().may_fuse()) return apply<RowDerivative<Row, k>>(g, a, b, y);
  using E = Elementwise<eT>;
  return Row::template derivative<k, E, double>(E{g}, E{a}, E{b}, E{y}).v;
}

/// Defined beside the list of rows, for the generated tests.
template <class Row>
void row_samples(Samples& s);

template <class Row>
struct RowOperation : RowAttributes<Row> {
  template <class eT>
  static constexpr const Kernel<eT>* kernel() {
    return &RowKernels<Row, eT>::value;
  }
  static constexpr auto name = Row::name;
  static constexpr const char* operands[] = {Row::arity == 1 ? "x" : "A", "B", nullptr};
  static constexpr bool accumulates = true;
  static constexpr bool in_place = true;
  static Shape shape(Operands& in) {
    if constexpr (Row::arity == 1)
      return in[0];
    else
      return in.broadcast(0, 1);
  }
  template <class eT>
  static void eval(Eval<eT>& e) {
    e.run(e.command(*kernel<eT>()));
  }
  template <class eT>
  requires(Row::derivatives > 0) static void vjp(Rule<eT>& r) {
    if constexpr (Row::arity == 1) {
      if constexpr (Row::parameters > 0)
        r.accumulate(0,
                     derivative<Row, 0>(r.grad(), r.operand(0), r.result(), r.template attributes<ScalarAttributes>()));
      else
        r.accumulate(0, derivative<Row, 0>(r.grad(), r.operand(0), r.result()));
    } else {
      if (r.needs(0)) r.accumulate(0, derivative2<Row, 0>(r.grad(), r.operand(0), r.operand(1), r.result()));
      if constexpr (Row::derivatives == 2)
        if (r.needs(1)) r.accumulate(1, derivative2<Row, 1>(r.grad(), r.operand(0), r.operand(1), r.result()));
    }
  }
  template <class eT>
  requires(Row::derivatives > 0 && Row::arity == 1) static bool direct(Graph<eT>& g, std::uint32_t node) {
    return g.direct_step(node, RowKernels<Row, eT>::template derivative<0>);
  }
  static constexpr bool many_directions = true;
  template <class eT>
  requires(Row::derivatives >
           0) static void jvp(ForwardRule<eT>& r) {  // the derivative is linear in g: g is the tangent
    const Var<eT> y = r.spread(r.result());
    if constexpr (Row::arity == 1) {
      const Var<eT> x = r.spread(r.operand(0));
      if constexpr (Row::parameters > 0)
        r.add(derivative<Row, 0>(r.tangent(0), x, y, r.template attributes<ScalarAttributes>()));
      else
        r.add(derivative<Row, 0>(r.tangent(0), x, y));
    } else {
      Var<eT> a = r.operand(0), b = r.operand(1);
      if (r.directions() > 1) {  // a row or a column cannot be broadcast over a stack
        const Shape s = r.result().shape();
        a = r.spread(repeat_to(a, s)), b = r.spread(repeat_to(b, s));
      }
      if (r.has_tangent(0)) r.add(derivative2<Row, 0>(r.broadcast_tangent(0), a, b, y));
      if constexpr (Row::derivatives == 2)
        if (r.has_tangent(1)) r.add(derivative2<Row, 1>(r.broadcast_tangent(1), a, b, y));
    }
  }
  static void samples(Samples& s) { row_samples<Row>(s); }
};
}  // namespace armagrad::detail

/// A row's function and its samples.
#define ARMAGRAD_UNARY_OPERATION(name, lo, hi, reference)                  \
  template <class eT>                                                      \
  Var<eT> name(Var<eT> x) {                                                \
    return apply<detail::RowOperation<math::name##_row>>(x);               \
  }                                                                        \
  template <>                                                              \
  inline void detail::row_samples<math::name##_row>(Samples & s) {         \
    const auto f = [](const auto& in) { return name(in[0]); };             \
    const auto plain = [](const std::vector<arma::mat>& in) -> arma::mat { \
      const arma::mat& x = in[0];                                          \
      return reference;                                                    \
    };                                                                     \
    for (const auto& [rows, cols] : {std::pair{3, 4}, {1, 1}, {2, 0}})     \
      s.add({s.uniform(rows, cols, lo, hi)}, f, plain);                    \
  }

/// An element-wise operation of your own: a row as in elementwise.def, at file scope. It becomes `armagrad::name`, and
/// `check_operation<armagrad::name_operation>()` tests it. Which functions the texts may use is said in math.hpp.
///   ARMAGRAD_ELEMENTWISE(softsign, x / (1 + abs(x)), g / ((1 + abs(x)) * (1 + abs(x))), -3, 3, x / (1 + arma::abs(x)))
#define ARMAGRAD_ELEMENTWISE(name, value, derivative, lo, hi, reference) \
  namespace armagrad::math {                                             \
  ARMAGRAD_UNARY_ROW(name, value, derivative, 0)                         \
  }                                                                      \
  namespace armagrad {                                                   \
  ARMAGRAD_UNARY_OPERATION(name, lo, hi, reference)                      \
  using name##_operation = detail::RowOperation<math::name##_row>;       \
  }
