// The element-wise operations: elementwise.def made public functions and test samples.
#include <fmt/format.h>

#include <armagrad/autodiff/error.hpp>
#include <armagrad/autodiff/rows.hpp>

namespace armagrad {

namespace detail {

template <class eT>
const OperationInfo<eT>* scale_info() {
  return &operation_info<RowOperation<math::scale_row>, eT>;
}
template const OperationInfo<float>* scale_info();
template const OperationInfo<double>* scale_info();

}  // namespace detail

#define ARMAGRAD_UNARY(name, value, derivative, lo, hi, reference) \
  ARMAGRAD_UNARY_OPERATION(name, lo, hi, reference)                \
  template Var<float> name(Var<float>);                            \
  template Var<double> name(Var<double>);

// As above, with parameters: the function itself is written below, where its checks are.
#define ARMAGRAD_UNARY_P(name, value, derivative, lo, hi, p_, q_, reference)       \
  template <>                                                                      \
  void detail::row_samples<math::name##_row>(Samples & s) {                        \
    const auto plain = [](const std::vector<arma::mat>& in) -> arma::mat {         \
      const arma::mat& x = in[0];                                                  \
      return reference;                                                            \
    };                                                                             \
    for (const auto& [rows, cols] : {std::pair{3, 4}, {1, 1}, {2, 0}})             \
      s.add(                                                                       \
          {s.uniform(rows, cols, lo, hi)},                                         \
          [](const auto& in) {                                                     \
            return apply<detail::RowOperation<math::name##_row>>({p_, q_}, in[0]); \
          },                                                                       \
          plain);                                                                  \
  }

#define ARMAGRAD_BINARY_SAMPLES(name, lo, hi, reference)                                                  \
  template <class eT>                                                                                     \
  Var<eT> name(Var<eT> a, Var<eT> b) {                                                                    \
    return apply<detail::RowOperation<math::name##_row>>(a, b);                                           \
  }                                                                                                       \
  template Var<float> name(Var<float>, Var<float>);                                                       \
  template Var<double> name(Var<double>, Var<double>);                                                    \
  template <>                                                                                             \
  void detail::row_samples<math::name##_row>(Samples & s) {                                               \
    const auto f = [](const auto& in) { return name(in[0], in[1]); };                                     \
    using Shapes = std::array<arma::uword, 4>;                                                            \
    for (const Shapes& n : {Shapes{3, 4, 3, 4},                                                           \
                            {3, 4, 3, 1},                                                                 \
                            {3, 1, 3, 4},                                                                 \
                            {3, 4, 1, 4},                                                                 \
                            {1, 4, 3, 1},                                                                 \
                            {3, 4, 1, 1},                                                                 \
                            {1, 1, 3, 4},                                                                 \
                            {1, 1, 1, 1},                                                                 \
                            {3, 0, 3, 0}})                                                                \
      s.add({s.uniform(n[0], n[1], lo, hi), s.uniform(n[2], n[3], lo, hi)}, f,                            \
            [](const std::vector<arma::mat>& in) -> arma::mat {                                           \
              const arma::uword rows = std::max(in[0].n_rows, in[1].n_rows);                              \
              const arma::uword cols = in[0].n_cols == 1 ? in[1].n_cols : in[0].n_cols;                   \
              const arma::mat a = arma::repmat(in[0], rows / in[0].n_rows, in[0].n_cols == 1 ? cols : 1); \
              const arma::mat b = arma::repmat(in[1], rows / in[1].n_rows, in[1].n_cols == 1 ? cols : 1); \
              return arma::conv_to<arma::mat>::from(reference);                                           \
            });                                                                                           \
    s.fails({arma::mat(2, 3), arma::mat(4, 3)}, f,                                                        \
            #name ": A is 2x3, B is 4x3: the rows (2 and 4) must be equal, or 1 to be repeated");         \
    s.fails({arma::mat(2, 3), arma::mat(2, 2)}, f,                                                        \
            #name ": A is 2x3, B is 2x2: the columns (3 and 2) must be equal, or 1 to be repeated");      \
  }
#define ARMAGRAD_BINARY(name, value, by_a, by_b, lo, hi, reference) ARMAGRAD_BINARY_SAMPLES(name, lo, hi, reference)
#define ARMAGRAD_MASK(name, value, reference) ARMAGRAD_BINARY_SAMPLES(name, -3, 3, reference)
#define ARMAGRAD_MASKED(name, value, by_a, reference) ARMAGRAD_BINARY_SAMPLES(name, -3, 3, reference)
#include <armagrad/autodiff/elementwise.def>
#undef ARMAGRAD_UNARY
#undef ARMAGRAD_UNARY_P
#undef ARMAGRAD_BINARY
#undef ARMAGRAD_MASK
#undef ARMAGRAD_MASKED

#define ARMAGRAD_WITH_ONE_PARAMETER(name)                              \
  template <class eT>                                                  \
  Var<eT> name(Var<eT> x, double p) {                                  \
    return apply<detail::RowOperation<math::name##_row>>({p, 0.0}, x); \
  }                                                                    \
  template Var<float> name(Var<float>, double);                        \
  template Var<double> name(Var<double>, double);
ARMAGRAD_WITH_ONE_PARAMETER(scale)
ARMAGRAD_WITH_ONE_PARAMETER(add_scalar)
ARMAGRAD_WITH_ONE_PARAMETER(scalar_divide)
ARMAGRAD_WITH_ONE_PARAMETER(leaky_relu)
#undef ARMAGRAD_WITH_ONE_PARAMETER

template <class eT>
Var<eT> pow(Var<eT> x, double p) {
  // 1 everywhere; the row's slope, 0 x^-1, would be NaN at 0.
  if (p == 0) return add_scalar(keep_if(x, detail::constant_like(x, eT(0))), 1.0);
  return apply<detail::RowOperation<math::pow_row>>({p, 0.0}, x);
}
template Var<float> pow(Var<float>, double);
template Var<double> pow(Var<double>, double);

template <class eT>
Var<eT> clamp(Var<eT> x, double low, double high) {
  if (!(low <= high)) throw OptionError(fmt::format("clamp: low ({}) must not be above high ({})", low, high));
  return apply<detail::RowOperation<math::clamp_row>>({low, high}, x);
}
template Var<float> clamp(Var<float>, double, double);
template Var<double> clamp(Var<double>, double, double);

namespace detail {
void list_elementwise(OperationList& to) {
#define ARMAGRAD_UNARY(name, ...) list<RowOperation<math::name##_row>>(to);
#define ARMAGRAD_UNARY_P ARMAGRAD_UNARY
#define ARMAGRAD_BINARY ARMAGRAD_UNARY
#define ARMAGRAD_MASK ARMAGRAD_UNARY
#define ARMAGRAD_MASKED ARMAGRAD_UNARY
#include <armagrad/autodiff/elementwise.def>
}
}  // namespace detail

}  // namespace armagrad
