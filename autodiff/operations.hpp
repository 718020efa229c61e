// The operations: functions on Vars, found by argument lookup. Names, dimension arguments and meanings are Armadillo's
// where it has the function; shapes are rows x columns and columns are samples. All throw ShapeError, naming operation
// and operands, when shapes do not fit, OptionError for an option, dimension or number outside of what is said here,
// and StateError for Vars of different tapes or of a recording that is gone.
#pragma once

#include <functional>
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

// Element by element: in x's shape, or in that which two operands have when they are broadcast. Derivatives at kinks
// are listed in elementwise.def.

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
/// x, but low where it is below and high where it is above; low <= high.
template <class eT>
Var<eT> clamp(Var<eT> x, double low, double high);

/// The smaller / larger of two elements; the gradient of equal ones goes to a.
template <class eT>
Var<eT> min(Var<eT> a, Var<eT> b);
template <class eT>
Var<eT> max(Var<eT> a, Var<eT> b);

// Reductions. `dim` is the dimension that disappears: of an m x n matrix 0 reduces each column to one element, 1 x n,
// and 1 each row, m x 1.

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
/// The sums of the columns (dim 0) or rows (dim 1).
template <class eT>
Var<eT> sum(Var<eT> x, int dim);
/// Their means.
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

/// Norms, 1x1, by Armadillo's names. Of a vector: p = 1 or 2, "inf" (the largest |x|), "-inf" (the smallest), "fro"
/// (2). Of a matrix: p = 1 (the largest column sum of |x|), 2 (the largest singular value), "inf" (the largest row
/// sum), "fro" (the root of the sum of squares). Where there is no derivative the gradient is a sub-gradient: 0 at x =
/// 0, the first of equal largest elements or sums, one of equal singular values' pairs of vectors.
template <class eT>
Var<eT> norm(Var<eT> x, const char* method);
template <class eT>
Var<eT> norm(Var<eT> x, int p = 2);
/// The sum of the products of corresponding elements, 1x1; the operands need as many elements each.
template <class eT>
Var<eT> dot(Var<eT> a, Var<eT> b);
template <class A, class B>
requires(detail::WithVar<A, B> && !(detail::is_var<A> && detail::is_var<B>)) auto dot(const A& a, const B& b) {
  return dot(detail::as_var(detail::the_var(a, b), a), detail::as_var(detail::the_var(a, b), b));
}
/// The sum of the main diagonal of an m x n matrix, 1x1.
template <class eT>
Var<eT> trace(Var<eT> x);

// Shapes.

/// n x m of an m x n matrix, as x.t().
template <class eT>
Var<eT> trans(Var<eT> x) {
  return x.t();
}
template <class eT>
Var<eT> reshape(Var<eT> x, arma::uword rows, arma::uword cols);  // column-major; the elements must be as many
/// The columns of x one below the other, n_elem x 1.
template <class eT>
Var<eT> vectorise(Var<eT> x) {
  return reshape(x, x.n_elem(), 1);
}
/// Copies of an m x n matrix, `down` below and `across` beside each other: (m down) x (n across).
template <class eT>
Var<eT> repmat(Var<eT> x, arma::uword down, arma::uword across);
/// Side by side, of as many rows each: m x (n + q).
template <class eT>
Var<eT> join_rows(Var<eT> a, Var<eT> b);
/// One above the other, of as many columns each: (m + p) x n.
template <class eT>
Var<eT> join_cols(Var<eT> a, Var<eT> b);
template <class A, class B>
requires(detail::WithVar<A, B> && !(detail::is_var<A> && detail::is_var<B>)) auto join_rows(const A& a, const B& b) {
  return join_rows(detail::as_var(detail::the_var(a, b), a), detail::as_var(detail::the_var(a, b), b));
}
template <class A, class B>
requires(detail::WithVar<A, B> && !(detail::is_var<A> && detail::is_var<B>)) auto join_cols(const A& a, const B& b) {
  return join_cols(detail::as_var(detail::the_var(a, b), a), detail::as_var(detail::the_var(a, b), b));
}
/// A vector of n elements as the diagonal of an n x n matrix.
template <class eT>
Var<eT> diagmat(Var<eT> v);
/// The main diagonal of an m x n matrix, min(m, n) x 1.
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

// Linear algebra. A matrix is factorised once in a recording for all that is asked of it, also by the gradient. All
// have second derivatives, but for eigenvalues and singular values at repeated ones (ValueError). What factorises A,
// and expmat, is a ValueError, naming the operation, where A holds NaN or infinity. Operations on symmetric matrices
// refuse one that is not (up to rounding) and are functions of (A + A') / 2: their gradients are symmetric.
// docs/linear-algebra.md says what happens at singular matrices and repeated values.

/// X with A X = B. Square A: LU with partial pivoting, of band matrices within the band (LAPACK getrf, gbtrf);
/// triangular A, that is trimatu, trimatl, or a factor of chol, lu and qr_econ: substitution (trtrs). Otherwise the
/// least-squares solution, of smallest norm for a wide A, of a full-rank A (QR). ValueError when A is singular to
/// working precision. Options are Armadillo's: likely_sympd (Cholesky; ValueError unless A is symmetric positive
/// definite), fast and allow_ugly (no look at the condition), triu and tril (that triangle of A alone), force_approx
/// (pinv(A) * B); equilibrate and refine are an OptionError.
template <class eT>
Var<eT> solve(Var<eT> a, Var<eT> b, arma::uword flags = arma::solve_opts::flag_none);
template <class A, class B>
requires(detail::WithVar<A, B> && !(detail::is_var<A> && detail::is_var<B>)) auto solve(const A& a, const B& b) {
  return solve(detail::as_var(detail::the_var(a, b), a), detail::as_var(detail::the_var(a, b), b));
}
template <class A, class B>
requires detail::WithVar<A, B>
auto solve(const A& a, const B& b, const arma::solve_opts::opts& options) {
  return solve(detail::as_var(detail::the_var(a, b), a), detail::as_var(detail::the_var(a, b), b), options.flags);
}
/// ValueError when singular to working precision.
template <class eT>
Var<eT> inv(Var<eT> a);
/// Of a symmetric positive definite A, by its Cholesky factor. ValueError for others.
template <class eT>
Var<eT> inv_sympd(Var<eT> a);
/// The Moore-Penrose inverse (SVD). Singular values up to `tolerance` count as 0; 0 stands for Armadillo's
/// max(rows, columns) epsilon times the largest one. The gradient is that at constant rank (Golub and Pereyra 1973).
template <class eT>
Var<eT> pinv(Var<eT> a, double tolerance = 0);

/// 1x1. Its gradient is the matrix of cofactors, right at every rank, and so is its second derivative.
template <class eT>
Var<eT> det(Var<eT> a);
template <class eT>
struct LogDetResult {
  Var<eT> value, sign;
};
/// log |det A|, and the sign of det A, which has no gradient. A singular A has value -infinity and no gradient:
/// ValueError in backward.
template <class eT>
LogDetResult<eT> log_det(Var<eT> a);
/// log det of a symmetric positive definite A. ValueError for others.
template <class eT>
Var<eT> log_det_sympd(Var<eT> a);

/// The triangle of a square A from the k-th diagonal on, upwards or downwards, within zeros (k = 0: the main diagonal,
/// > 0: above it).
template <class eT>
Var<eT> trimatu(Var<eT> a, int k = 0);
template <class eT>
Var<eT> trimatl(Var<eT> a, int k = 0);
/// The upper or lower triangle of a square A, mirrored.
template <class eT>
Var<eT> symmatu(Var<eT> a);
template <class eT>
Var<eT> symmatl(Var<eT> a);

/// R with R' R = A, upper triangular; with "lower" L = R'. ValueError unless A is symmetric positive definite.
template <class eT>
Var<eT> chol(Var<eT> a, const char* layout = "upper");
template <class eT>
struct LuResult {
  Var<eT> L, U, P;
};
/// P' L U = A (m x n): L m x k with unit diagonal, U k x n, k = min(m, n), P a permutation, without gradient.
/// ValueError in backward where the first k columns of A are dependent to working precision.
template <class eT>
LuResult<eT> lu(Var<eT> a);
template <class eT>
struct QrResult {
  Var<eT> Q, R;
};
/// Q R = A (m x n): Q m x k with orthonormal columns, R k x n upper triangular, k = min(m, n). ValueError in backward
/// where the first k columns of A are dependent to working precision.
template <class eT>
QrResult<eT> qr_econ(Var<eT> a);
/// Q m x m, R m x n, refused as qr_econ is. A gradient that depends on the choice of Q's columns from the n-th on is a
/// ValueError.
template <class eT>
QrResult<eT> qr(Var<eT> a);

/// For the forms that give vectors as well: eig_sym(A, with_vectors).
struct WithVectors {};
inline constexpr WithVectors with_vectors{};
template <class eT>
struct EigResult {
  Var<eT> values, vectors;
};
/// The eigenvalues of a symmetric A, ascending, n x 1; vectors in the columns of an n x n matrix. Where values repeat,
/// functions of the values are right if they treat equal ones equally (others get a sub-gradient) and have no second
/// derivatives (ValueError); a gradient that depends on the choice of vectors, or on both these values and vectors, is
/// a ValueError. Vectors of equal values are some basis of their space, in no particular direction.
template <class eT>
Var<eT> eig_sym(Var<eT> a);
template <class eT>
EigResult<eT> eig_sym(Var<eT> a, WithVectors);
/// The eigenvalues of a general A, in LAPACK's order (geev), all of them real: ValueError for complex ones. Vectors
/// have length 1. A defective A has no gradient: ValueError in backward. What is said of eig_sym at repeated values
/// holds.
template <class eT>
Var<eT> eig_gen(Var<eT> a);
template <class eT>
EigResult<eT> eig_gen(Var<eT> a, WithVectors);
template <class eT>
struct SvdResult {
  Var<eT> U, s, V;
};
/// The singular values of A (m x n), descending, k x 1, k = min(m, n). What is said of eig_sym at repeated values
/// holds, and of a value 0 if m and n differ.
template <class eT>
Var<eT> svd(Var<eT> a);
/// U diag(s) V' = A: U m x k, V n x k.
template <class eT>
SvdResult<eT> svd_econ(Var<eT> a);
/// U m x m, V n x n. A gradient that depends on the choice of their columns from the k-th on is a ValueError.
template <class eT>
SvdResult<eT> svd(Var<eT> a, WithVectors);
/// The largest singular value over the smallest, 1x1; infinite where that is 0. No gradient (ValueError in backward) if
/// A is singular to working precision.
template <class eT>
Var<eT> cond(Var<eT> a);
/// How many singular values are above `tolerance` (0: as in pinv), 1x1. It is piecewise constant: no gradient flows.
template <class eT>
Var<eT> rank(Var<eT> a, double tolerance = 0);

/// The matrix exponential (Pade approximation, scaling and squaring: Higham 2005). Derivatives of every order.
/// ValueError where it overflows, as of the functions below.
template <class eT>
Var<eT> expmat(Var<eT> a);
/// The same for a symmetric A, by its eigenvalues.
template <class eT>
Var<eT> expmat_sym(Var<eT> a);
/// The square root of a symmetric positive semi-definite A; a singular one has no gradient. ValueError for others.
template <class eT>
Var<eT> sqrtmat_sympd(Var<eT> a);
/// The logarithm of a symmetric positive definite A. ValueError for others.
template <class eT>
Var<eT> logmat_sympd(Var<eT> a);
/// V diag(f(w)) V' for a symmetric A = V diag(w) V'; df is f's derivative. Right at repeated values, to second order;
/// where values repeat or nearly do, the second derivative takes f'' from differences of df (to about 1e-10).
template <class eT>
Var<eT> spectral(Var<eT> a, std::function<double(double)> f, std::function<double(double)> df);

/// The Kronecker product, the blocks a(i, j) B: (m p) x (n q) of A m x n and B p x q.
template <class eT>
Var<eT> kron(Var<eT> a, Var<eT> b);
/// The symmetric Toeplitz matrix with first column a, or that with first column a and first row b (b's first element is
/// not used), of as many rows as a has elements and as many columns as b has. Both are vectors.
template <class eT>
Var<eT> toeplitz(Var<eT> a);
template <class eT>
Var<eT> toeplitz(Var<eT> a, Var<eT> b);
/// The convolution of two vectors, a column if a is one: "full", or "same", the central part as long as a.
template <class eT>
Var<eT> conv(Var<eT> a, Var<eT> b, const char* shape = "full");
/// Of vectors of 3 elements, in a's shape.
template <class eT>
Var<eT> cross(Var<eT> a, Var<eT> b);
#define ARMAGRAD_WITH_MATRIX(name)                                                                                 \
  template <class A, class B>                                                                                      \
  requires(detail::WithVar<A, B> && !(detail::is_var<A> && detail::is_var<B>)) auto name(const A& a, const B& b) { \
    return name(detail::as_var(detail::the_var(a, b), a), detail::as_var(detail::the_var(a, b), b));               \
  }
ARMAGRAD_WITH_MATRIX(kron)
ARMAGRAD_WITH_MATRIX(toeplitz)
ARMAGRAD_WITH_MATRIX(conv)
ARMAGRAD_WITH_MATRIX(cross)
#undef ARMAGRAD_WITH_MATRIX
/// Covariances and correlations between the columns of x, n x p, whose rows are observations (a row alone is a column),
/// as in Armadillo: p x p. norm_type 0 divides by n - 1, 1 by n; correlations are the same for both. That of a constant
/// column is a ValueError.
template <class eT>
Var<eT> cov(Var<eT> x, int norm_type = 0);
template <class eT>
Var<eT> cor(Var<eT> x, int norm_type = 0);
/// Between the columns of x, n x p, and those of y, n x q: p x q.
template <class eT>
Var<eT> cov(Var<eT> x, Var<eT> y, int norm_type = 0);
template <class eT>
Var<eT> cor(Var<eT> x, Var<eT> y, int norm_type = 0);
/// The sums of the first 1, 2, ... elements of each column (dim 0) or row (dim 1), in x's shape.
template <class eT>
Var<eT> cumsum(Var<eT> x, int dim);
/// Each column (dim 0) or row (dim 1) in order, "ascend" or "descend"; equal elements keep theirs. ValueError for NaN.
template <class eT>
Var<eT> sort(Var<eT> x, const char* direction, int dim);

}  // namespace armagrad
