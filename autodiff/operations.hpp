// The operations: functions on Vars, found by argument lookup. Names, dimension arguments and meanings are Armadillo's
// where it has the function; shapes are rows x columns and columns are samples. All throw ShapeError, naming operation
// and operands, when shapes do not fit, and StateError for Vars of different tapes or of a recording that is gone.
#pragma once

#include <type_traits>

#include <armagrad/autodiff/parameter.hpp>
#include <armagrad/autodiff/var.hpp>

namespace armagrad {

namespace detail {

template <class T>
inline constexpr bool is_var = false;
template <class eT>
inline constexpr bool is_var<Var<eT>> = true;
template <class T>
inline constexpr bool is_parameter = false;
template <class eT>
inline constexpr bool is_parameter<Parameter<eT>> = true;
template <class T>
concept RealScalar = std::is_arithmetic_v<T> && !std::is_same_v<T, bool> && !std::is_same_v<T, char> &&
                     !std::is_same_v<T, signed char> && !std::is_same_v<T, unsigned char>;
template <class T>
concept DenseExpression = arma::is_arma_type<T>::value;
template <class T>
concept SparseMatrix = arma::is_arma_sparse_type<T>::value;
/// At least one of the two is a Var: armagrad's operators look no further than that, and then say what fits.
template <class A, class B>
concept WithVar = is_var<A> || is_var<B>;

template <class A, class B>
struct common_element {
  using type = typename B::elem_type;
};
template <class eT, class B>
struct common_element<Var<eT>, B> {
  using type = eT;
};
template <class A, class B>
using element_of = typename common_element<A, B>::type;

template <class T, class eT>
constexpr bool fits() {
  if constexpr (is_var<T> || is_parameter<T> || DenseExpression<T>)
    return std::is_same_v<typename T::elem_type, eT>;
  else
    return RealScalar<T>;
}

template <class eT>
Var<eT> constant_like(Var<eT> like, const arma::Mat<eT>& value);
template <class eT>
Var<eT> constant_like(Var<eT> like, eT value);
template <class eT>
Var<eT> parameter_like(Var<eT> like, const Parameter<eT>& p);
template <class eT>
Var<eT> sparse_product(const arma::SpMat<eT>& a, Var<eT> b);

/// `x` as a Var on the tape of `like`; matrices are copied, parameters aliased.
template <class eT, class T>
Var<eT> as_var(Var<eT> like, const T& x) {
  static_assert(
      fits<T, eT>(),
      "an operand beside a Var must be a Var, a Parameter or a dense Armadillo expression of the same element "
      "type (float or double), or a real number; complex, cube, field, sparse, bool and char operands do not fit, "
      "and an integer matrix or one of the other float type is to be converted with arma::conv_to<arma::mat>::from(A)");
  if constexpr (!fits<T, eT>())
    return like;  // one message is enough
  else if constexpr (is_var<T>)
    return x;
  else if constexpr (is_parameter<T>)
    return parameter_like(like, x);
  else if constexpr (DenseExpression<T>)
    return constant_like(like, arma::Mat<eT>(x));
  else
    return constant_like(like, static_cast<eT>(x));
}
template <class A, class B>
auto the_var(const A& a, const B& b) {
  if constexpr (is_var<A>)
    return a;
  else
    return b;
}

template <class... T>
inline constexpr bool never = false;

}  // namespace detail

// Arithmetic. A column is broadcast over columns, a row over rows, a 1x1 over everything.

template <class eT>
Var<eT> add(Var<eT> a, Var<eT> b);
template <class eT>
Var<eT> subtract(Var<eT> a, Var<eT> b);
template <class eT>
Var<eT> multiply(Var<eT> a, Var<eT> b);  // element by element
template <class eT>
Var<eT> divide(Var<eT> a, Var<eT> b);  // element by element
template <class eT>
Var<eT> scale(Var<eT> x, double p);  // p x
template <class eT>
Var<eT> add_scalar(Var<eT> x, double p);
template <class eT>
Var<eT> scalar_divide(Var<eT> x, double p);  // p / x
/// Matrix product, rows(a) x columns(b); a 1x1 operand scales the other.
template <class eT>
Var<eT> matmul(Var<eT> a, Var<eT> b);

template <class A, class B>
requires detail::WithVar<A, B>
auto operator+(const A& a, const B& b) {
  const auto like = detail::the_var(a, b);
  if constexpr (detail::RealScalar<B>)
    return add_scalar(like, static_cast<double>(b));
  else if constexpr (detail::RealScalar<A>)
    return add_scalar(like, static_cast<double>(a));
  else
    return add(detail::as_var(like, a), detail::as_var(like, b));
}
template <class A, class B>
requires detail::WithVar<A, B>
auto operator-(const A& a, const B& b) {
  const auto like = detail::the_var(a, b);
  if constexpr (detail::RealScalar<B>)
    return add_scalar(like, -static_cast<double>(b));
  else if constexpr (detail::RealScalar<A>)
    return add_scalar(scale(like, -1.0), static_cast<double>(a));
  else
    return subtract(detail::as_var(like, a), detail::as_var(like, b));
}
/// The matrix product.
template <class A, class B>
requires detail::WithVar<A, B>
auto operator*(const A& a, const B& b) {
  const auto like = detail::the_var(a, b);
  if constexpr (detail::RealScalar<B>)
    return scale(like, static_cast<double>(b));
  else if constexpr (detail::RealScalar<A>)
    return scale(like, static_cast<double>(a));
  else if constexpr (detail::SparseMatrix<A>)
    return detail::sparse_product(arma::SpMat<typename B::elem_type>(a), b);
  else
    return matmul(detail::as_var(like, a), detail::as_var(like, b));
}
/// The product element by element.
template <class A, class B>
requires detail::WithVar<A, B>
auto operator%(const A& a, const B& b) {
  const auto like = detail::the_var(a, b);
  return multiply(detail::as_var(like, a), detail::as_var(like, b));
}
template <class A, class B>
requires detail::WithVar<A, B>
auto operator/(const A& a, const B& b) {
  const auto like = detail::the_var(a, b);
  if constexpr (detail::RealScalar<B>)
    return scale(like, 1.0 / static_cast<double>(b));
  else if constexpr (detail::RealScalar<A>)
    return scalar_divide(like, static_cast<double>(a));
  else
    return divide(detail::as_var(like, a), detail::as_var(like, b));
}
template <class eT>
Var<eT> operator-(Var<eT> x) {
  return scale(x, -1.0);
}
template <class eT>
Var<eT> operator+(Var<eT> x) {
  return x;
}

// Comparisons: masks of 0 and 1 for `where`, without gradient.

template <class eT>
Var<eT> greater(Var<eT> a, Var<eT> b);
template <class eT>
Var<eT> greater_equal(Var<eT> a, Var<eT> b);
template <class eT>
Var<eT> less(Var<eT> a, Var<eT> b);
template <class eT>
Var<eT> less_equal(Var<eT> a, Var<eT> b);
template <class eT>
Var<eT> equal(Var<eT> a, Var<eT> b);
template <class eT>
Var<eT> not_equal(Var<eT> a, Var<eT> b);

#define ARMAGRAD_COMPARISON(op, name)                              \
  template <class A, class B>                                      \
  requires detail::WithVar<A, B>                                   \
  auto operator op(const A& a, const B& b) {                       \
    const auto like = detail::the_var(a, b);                       \
    return name(detail::as_var(like, a), detail::as_var(like, b)); \
  }
ARMAGRAD_COMPARISON(>, greater)
ARMAGRAD_COMPARISON(>=, greater_equal)
ARMAGRAD_COMPARISON(<, less)
ARMAGRAD_COMPARISON(<=, less_equal)
ARMAGRAD_COMPARISON(==, equal)
ARMAGRAD_COMPARISON(!=, not_equal)
#undef ARMAGRAD_COMPARISON

/// a where the mask is not 0, else 0; and the reverse.
template <class eT>
Var<eT> keep_if(Var<eT> a, Var<eT> mask);
template <class eT>
Var<eT> keep_unless(Var<eT> a, Var<eT> mask);
/// a where the mask holds, else b: where(x > 0, x, 0.1 * x). Neither side's NaN or infinity leaks into the other.
template <class eT, class A, class B>
Var<eT> where(Var<eT> mask, const A& a, const B& b) {
  return add(keep_if(detail::as_var(mask, a), mask), keep_unless(detail::as_var(mask, b), mask));
}

// Element by element. Derivatives at kinks are listed in elementwise.def.

#define ARMAGRAD_DECLARE(name) \
  template <class eT>          \
  Var<eT> name(Var<eT> x);
ARMAGRAD_DECLARE(exp)
ARMAGRAD_DECLARE(log)
ARMAGRAD_DECLARE(log1p)
ARMAGRAD_DECLARE(expm1)
ARMAGRAD_DECLARE(sqrt)
ARMAGRAD_DECLARE(square)
ARMAGRAD_DECLARE(abs)
ARMAGRAD_DECLARE(sign)  // -1, 0 or 1; its derivative is 0
ARMAGRAD_DECLARE(sin)
ARMAGRAD_DECLARE(cos)
ARMAGRAD_DECLARE(tanh)
ARMAGRAD_DECLARE(erf)
ARMAGRAD_DECLARE(sigmoid)
ARMAGRAD_DECLARE(softplus)
ARMAGRAD_DECLARE(relu)
ARMAGRAD_DECLARE(gelu)  // x Phi(x), with erf, not the tanh approximation
#undef ARMAGRAD_DECLARE

/// x^p for a constant p; the base must be positive unless p is an integer.
template <class eT>
Var<eT> pow(Var<eT> x, double p);
template <class eT>
Var<eT> leaky_relu(Var<eT> x, double slope = 0.01);
/// OptionError unless low <= high.
template <class eT>
Var<eT> clamp(Var<eT> x, double low, double high);

template <class eT>
Var<eT> min(Var<eT> a, Var<eT> b);
template <class eT>
Var<eT> max(Var<eT> a, Var<eT> b);

// Reductions. `dim` is the dimension that disappears: 0 reduces each column to one element, 1 each row.

/// The smallest / largest element of each column (dim 0) or row (dim 1); the gradient goes to the first such element.
template <class eT>
Var<eT> min_along(Var<eT> x, int dim);
template <class eT>
Var<eT> max_along(Var<eT> x, int dim);

#define ARMAGRAD_EXTREMUM(name)                                                                                \
  /** Element by element with another matrix, or along a dimension with an integer, as in Armadillo. */        \
  template <class A, class B>                                                                                  \
  requires detail::WithVar<A, B>                                                                               \
  auto name(const A& a, const B& b) {                                                                          \
    static_assert(!std::is_floating_point_v<A> && !std::is_floating_point_v<B>,                                \
                  #name "(x, number) would mean a dimension in Armadillo: use clamp, or a 1x1 Var or matrix"); \
    if constexpr (std::is_integral_v<B>)                                                                       \
      return name##_along(a, static_cast<int>(b));                                                             \
    else                                                                                                       \
      return name(detail::as_var(detail::the_var(a, b), a), detail::as_var(detail::the_var(a, b), b));         \
  }
ARMAGRAD_EXTREMUM(min)
ARMAGRAD_EXTREMUM(max)
#undef ARMAGRAD_EXTREMUM

/// The sum of all elements, 1x1.
template <class eT>
Var<eT> accu(Var<eT> x);
template <class eT>
Var<eT> sum(Var<eT> x, int dim);
template <class eT>
Var<eT> mean(Var<eT> x, int dim);
/// The variance along `dim`, divided by n - 1 (norm_type 0) or n (norm_type 1).
template <class eT>
Var<eT> var(Var<eT> x, int norm_type, int dim);
/// log(sum(exp(x), dim)) without overflow.
template <class eT>
Var<eT> log_sum_exp(Var<eT> x, int dim);

#define ARMAGRAD_NEEDS_DIMENSION(name)                                                       \
  template <class eT>                                                                        \
  Var<eT> name(Var<eT> x) {                                                                  \
    static_assert(detail::never<eT>, #name                                                   \
                  "(x) of a Var needs its dimension: Armadillo decides by the type whether " \
                  "x is a vector, and a Var's type does not tell");                          \
    return x;                                                                                \
  }
ARMAGRAD_NEEDS_DIMENSION(sum)
ARMAGRAD_NEEDS_DIMENSION(mean)
ARMAGRAD_NEEDS_DIMENSION(var)
ARMAGRAD_NEEDS_DIMENSION(min)
ARMAGRAD_NEEDS_DIMENSION(max)
ARMAGRAD_NEEDS_DIMENSION(log_sum_exp)
#undef ARMAGRAD_NEEDS_DIMENSION

/// "fro": the Frobenius norm, for a vector also its 2-norm. 0 has the sub-gradient 0.
template <class eT>
Var<eT> norm(Var<eT> x, const char* method);
/// The p-norm of a vector, p = 1 or 2. For a matrix p = 2 would be the spectral norm: ShapeError, use "fro".
template <class eT>
Var<eT> norm(Var<eT> x, int p = 2);
/// The sum of the products of corresponding elements, 1x1; the operands need as many elements each.
template <class eT>
Var<eT> dot(Var<eT> a, Var<eT> b);
template <class A, class B>
requires(detail::WithVar<A, B> && !(detail::is_var<A> && detail::is_var<B>)) auto dot(const A& a, const B& b) {
  return dot(detail::as_var(detail::the_var(a, b), a), detail::as_var(detail::the_var(a, b), b));
}
template <class eT>
Var<eT> trace(Var<eT> x);

// Shapes.

template <class eT>
Var<eT> trans(Var<eT> x) {
  return x.t();
}
template <class eT>
Var<eT> reshape(Var<eT> x, arma::uword rows, arma::uword cols);  // column-major; the elements must be as many
template <class eT>
Var<eT> vectorise(Var<eT> x) {
  return reshape(x, x.n_elem(), 1);
}
template <class eT>
Var<eT> repmat(Var<eT> x, arma::uword down, arma::uword across);
template <class eT>
Var<eT> join_rows(Var<eT> a, Var<eT> b);  // side by side
template <class eT>
Var<eT> join_cols(Var<eT> a, Var<eT> b);  // one above the other
template <class A, class B>
requires(detail::WithVar<A, B> && !(detail::is_var<A> && detail::is_var<B>)) auto join_rows(const A& a, const B& b) {
  return join_rows(detail::as_var(detail::the_var(a, b), a), detail::as_var(detail::the_var(a, b), b));
}
template <class A, class B>
requires(detail::WithVar<A, B> && !(detail::is_var<A> && detail::is_var<B>)) auto join_cols(const A& a, const B& b) {
  return join_cols(detail::as_var(detail::the_var(a, b), a), detail::as_var(detail::the_var(a, b), b));
}
/// A vector as the diagonal of a square matrix.
template <class eT>
Var<eT> diagmat(Var<eT> v);
/// The main diagonal as a column.
template <class eT>
Var<eT> diagvec(Var<eT> x);
/// x within zeros: the rows x cols matrix that has x from (first_row, first_col) on.
template <class eT>
Var<eT> embed(Var<eT> x, arma::uword rows, arma::uword cols, arma::uword first_row, arma::uword first_col);
/// x without its history: no gradient flows through.
template <class eT>
Var<eT> detach(Var<eT> x);

// Networks. A batch is features x samples.

/// W x + b: (out x in) (in x batch) + (out x 1).
template <class eT>
Var<eT> affine_vars(Var<eT> w, Var<eT> x, Var<eT> b);
/// max(0, W x + b) in one operation.
template <class eT>
Var<eT> affine_relu_vars(Var<eT> w, Var<eT> x, Var<eT> b);
template <class W, class eT, class B>
Var<eT> affine(const W& w, Var<eT> x, const B& b) {
  return affine_vars(detail::as_var(x, w), x, detail::as_var(x, b));
}
template <class W, class eT, class B>
Var<eT> affine_relu(const W& w, Var<eT> x, const B& b) {
  return affine_relu_vars(detail::as_var(x, w), x, detail::as_var(x, b));
}
/// exp(x) / sum(exp(x)) of each column (dim 0) or row (dim 1).
template <class eT>
Var<eT> softmax(Var<eT> x, int dim = 0);
template <class eT>
Var<eT> log_softmax(Var<eT> x, int dim = 0);
/// Each element 0 with probability p, else divided by 1 - p (0 <= p < 1). The mask is a function of seed and call: give
/// another `call` every time. nn::Dropout does.
template <class eT>
Var<eT> dropout(Var<eT> x, double p, std::uint64_t seed, std::uint64_t call);
template <class eT>
struct Labels;
/// The sum over columns of -log softmax(logits)[label], 1x1; logits are classes x batch, labels one per column.
/// Its gradient stays exact where float would round p - 1 to 0. ValueError for a label that is not below the rows.
template <class eT>
Var<eT> cross_entropy_sum(Var<eT> logits, const arma::Row<std::size_t>& labels);
template <class eT>
Var<eT> cross_entropy_sum(Var<eT> logits, const Labels<eT>& labels);
/// The sum of the squared differences, 1x1.
template <class eT>
Var<eT> squared_error(Var<eT> a, Var<eT> b);

// Linear algebra.

/// X with A X = B. Square A: LU with partial pivoting (LAPACK gesv); otherwise the least-squares solution of smallest
/// norm of a full-rank A, by QR (gels). ValueError when A is singular to working precision.
template <class eT>
Var<eT> solve(Var<eT> a, Var<eT> b);
template <class A, class B>
requires(detail::WithVar<A, B> && !(detail::is_var<A> && detail::is_var<B>)) auto solve(const A& a, const B& b) {
  return solve(detail::as_var(detail::the_var(a, b), a), detail::as_var(detail::the_var(a, b), b));
}
/// ValueError when singular to working precision.
template <class eT>
Var<eT> inv(Var<eT> a);
/// The Moore-Penrose inverse (SVD). The gradient is that at constant rank (Golub and Pereyra 1973).
template <class eT>
Var<eT> pinv(Var<eT> a);

}  // namespace armagrad
