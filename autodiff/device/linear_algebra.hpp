// The kernels of linear algebra, by name, and what the code for the CPU and that for CUDA share: attributes, and the
// words of refusals. Contracts, with A = in[0], B = in[1] and so on; all matrices lie there as one piece:
//
//   trimatu, trimatl    out = A above or below a diagonal (TriangleOptions), 0 elsewhere
//   symmatu, symmatl    out = A with its upper or lower triangle repeated in the other
//   fold_upper, fold_lower   the transposes of these as linear maps: both triangles onto the one
//   cumsum, sort, reorder    along a dimension; sort's more_out[0] says where each element comes from
//   lu_factors          out = an LU factorisation of A with its estimated rcond, in the device's own layout
//   lu_solve            out = B^-1 A or B^-T A, with B the factors (SolveOptions)
//   lu_inverse          out = A^-1 or A^-T, with A the factors
//   determinant, log_determinant   of factors A; more_out[0] is the sign
//   cofactors           out = det(A) A^-T at every rank, with B the factors; cofactors_derivative: of <cofactors(A), B>
//   triangular_solve    out = A^-1 B or A^-T B, of A the named triangle alone
//   cholesky            out = R with R' R = A, upper triangular
//   cholesky_solve      out = (B' B)^-1 A;  cholesky_inverse: out = (A' A)^-1;  cholesky_log_determinant: of A' A
//   least_squares       out from A = right side, B = Q, C = R
//   lu                  out, more_out = L, U, P;  qr: out, more_out[0] = Q, R, square or economical by their shapes
//   eigen               out = eigenvalues, ascending, more_out[0] = vectors unless it has no data, of a symmetric A
//   singular_values     out = singular values, descending;  svd: out, more_out = U, s, V, by their shapes
//                       (eigen, svd and qr: where A leaves vectors free they are reflected, see generic_element)
//   gaps, sums, reciprocals, pinv, rank, cond     of values and vectors
//   cholesky_gradient, between_vectors, pinv_gradient     first derivatives, in one pass
//   turn_symmetric      out = A B A' for a symmetric B
//   convolve            out(i) = sum over k of A(s i + t k + c) B(k), A continued by 0 (ConvOptions)
//   invariant, unambiguous, moving, nothing_at_zero, finite_condition, varying   out = 0 (finite_condition: A), or an
//                       error
//
// These are the CPU's alone: eigen_general, diagonalisable, expmat, expmat_derivative, spectral, spectral_derivative,
// spectral_second_derivative.
#pragma once

#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <string>

#include <armagrad/autodiff/device/device.hpp>
#include <armagrad/autodiff/error.hpp>
#include <armagrad/autodiff/math.hpp>

namespace armagrad::detail {

/// The function the user called, for messages; first in the attributes of operations that several functions share.
struct AskedBy {
  const char* by;
};
struct SolveOptions {
  const char* by;
  bool transposed, checked;
};
struct InverseOptions {
  const char* by;
  bool transposed;
};
struct Order {
  std::uint32_t n;
};
enum class Triangle : std::uint8_t { none, lower, upper };
struct TriangularOptions {
  const char* by;
  Triangle triangle;
  bool transposed, checked;
  std::uint32_t rows, cols;  // of the matrix that it is a factor of, which a refusal names; 0: of none
};
struct TriangleOptions {
  int diagonal;  // the last one kept: 0 the main one, above it 1, 2, ..., below it -1, -2, ...
};
struct CumsumOptions {
  int dim;
  bool backwards;
};
struct SortOptions {
  bool descending;
  int dim;
};
struct ConvOptions {
  int s, t;  // 1 or -1
  std::int64_t c;
  std::uint32_t rows;
};
struct ToleranceOptions {
  double tolerance;
  std::uint32_t largest_side;
};
struct AmbiguityOptions {
  const char* by;
  bool values;    // a gradient by the values, in[2], came in as well
  bool singular;  // the values are singular values, and in[0] is U' dU, in[3] V' dV
  bool symmetric;
};

/// Two eigenvalues or singular values of an n x n matrix, `top` the largest in size, that rounding cannot tell apart.
template <class eT>
eT same_value_tolerance(std::size_t n, eT top) {
  return 16 * static_cast<eT>(n) * std::numeric_limits<eT>::epsilon() * top;
}
/// The smallest singular value that counts, `top` the largest: Armadillo's rule, for pinv and rank.
template <class eT>
eT rank_tolerance(const ToleranceOptions& o, eT top) {
  return o.tolerance > 0 ? static_cast<eT>(o.tolerance)
                         : static_cast<eT>(o.largest_side) * top * std::numeric_limits<eT>::epsilon();
}

// Vectors of equal values are some basis of their space. LAPACK's often lie along the axes, where a function that
// depends on the choice may happen to be stationary, so that its gradient does not tell; and a matrix that is 0 on the
// diagonal there need not be 0. So they are reflected at a plane in no particular direction: then it tells.

/// Element k of its normal, before that has length 1.
template <class eT>
ARMAGRAD_HD eT generic_element(std::size_t k) {
  const double x = 0.6180339887498949 * static_cast<double>(k + 1);
  return static_cast<eT>(1 + x - static_cast<double>(static_cast<std::uint64_t>(x)));
}
/// Values this close, `top` the largest in size, are equal but for the last bits: vectors may be mixed without a loss.
template <class eT>
eT equal_value_tolerance(eT top) {
  return 4 * std::numeric_limits<eT>::epsilon() * top;
}

/// Whether the incoming gradients tell vectors of a repeated value apart. With M = V' dV, a rotation of the vectors of
/// w(i) = w(j) changes the result at the rate M(i, j) - M(j, i), which must be 0. If a gradient dw came in too, that is
/// not enough: dw is the diagonal of a block of V' dA V, of which the rest cannot be known from dV and dw. Of
/// V diag(f(w)) V' it is f'(w) V' W V, and M has no trace of that. But the vectors are in no particular direction:
/// where the diagonal is 0 the block is.
///   M, w, dw, for singular values also N = V' dV beside M = U' dU
template <class eT>
struct Ambiguity {
  bool values, singular, symmetric;
  std::size_t n;
  const eT *m, *w, *dw, *v;
  eT same;        // see same_value_tolerance
  eT zero;        // what is nothing in M and N
  eT zero_value;  // and in dw

  ARMAGRAD_HD bool same_value(std::size_t i, std::size_t j) const { return math::abs(w[i] - w[j]) <= same; }
  ARMAGRAD_HD bool at(std::size_t i, std::size_t j) const {  // i < j, of the same value
    const std::size_t ij = i + j * n, ji = j + i * n;
    const eT mij = m[ij] + (singular ? v[ij] : 0), mji = m[ji] + (singular ? v[ji] : 0);
    bool depends = symmetric ? math::abs(mij - mji) > zero : math::abs(mij) > zero || math::abs(mji) > zero;
    if (singular && w[i] <= same) depends |= math::abs((m[ij] - v[ij]) - (m[ji] - v[ji])) > zero;
    if (values) depends |= math::abs(dw[i]) > zero_value || math::abs(dw[j]) > zero_value;
    return depends;
  }
};

/// What is nothing in gradients by values, of which `largest` is the largest in size, beside M with its largest
/// `scale`.
template <class eT>
ARMAGRAD_HD eT zero_beside(eT largest, eT scale, eT top, eT small_beside_it) {
  const eT by_vectors = top > eT(0) ? scale / top : eT(0);
  return small_beside_it * (largest < by_vectors ? by_vectors : largest);
}

// ---- refusals; the .cu files have no fmt

[[gnu::format(printf, 1, 2)]] inline std::string formatted(const char* format, ...) {
  char text[600];
  std::va_list values;
  va_start(values, format);
  std::vsnprintf(text, sizeof text, format, values);
  va_end(values);
  return text;
}

[[noreturn]] inline void fail_singular(const char* by, std::uint32_t n, double rcond) {
  throw ValueError(
      formatted("%s: A is %ux%u and singular to working precision (reciprocal condition number %.2g); use pinv, or add "
                "a small multiple of the identity",
                by, n, n, rcond));
}
[[noreturn]] inline void fail_not_finite(const char* by, std::uint32_t rows, std::uint32_t cols) {
  throw ValueError(formatted("%s: A (%ux%u) holds NaN or infinity", by, rows, cols));
}
/// LAPACK's iterations, or cuSOLVER's, ended without a result.
[[noreturn]] inline void fail_to_converge(const char* by, std::uint32_t rows, std::uint32_t cols) {
  throw ValueError(formatted("%s: LAPACK's iterations on A (%ux%u) did not converge", by, rows, cols));
}
[[noreturn]] inline void fail_not_definite(const char* by, std::uint32_t n, int block) {
  throw ValueError(
      formatted("%s: A is %ux%u and not positive definite: its leading %dx%d block is not; if it should be, add a "
                "small multiple of the identity",
                by, n, n, block, block));
}
/// Throws for the pair of elements that are `apart`.
template <class eT>
void fail_not_symmetric(const char* by, View<const eT> a, eT apart) {
  for (std::uint32_t j = 0; j < a.cols; ++j)
    for (std::uint32_t i = j; i < a.rows; ++i) {
      const eT x = a.data[i + std::size_t{j} * a.ld], y = a.data[j + std::size_t{i} * a.ld];
      if (math::abs(x - y) != apart) continue;
      throw ValueError(
          formatted("%s: A is %ux%u and not symmetric: A(%u, %u) is %.6g, A(%u, %u) is %.6g; if one triangle is meant, "
                    "symmatu(A) or symmatl(A) repeats it, and (A + A.t()) / 2 is the symmetric part",
                    by, a.rows, a.cols, j, i, static_cast<double>(y), i, j, static_cast<double>(x)));
    }
}
[[noreturn]] inline void fail_rank(const char* by, std::uint32_t rows, std::uint32_t cols) {
  throw ValueError(formatted(
      "%s: A is %ux%u and does not have full rank; use pinv(A) * B for the solution of smallest norm", by, rows, cols));
}
/// R of A = Q R, or U of P' L U = A, is singular.
[[noreturn]] inline void fail_dependent(const char* by, std::uint32_t rows, std::uint32_t cols, double rcond) {
  throw ValueError(formatted(
      "%s: A is %ux%u and its first %u columns are linearly dependent (reciprocal condition number %.2g), where "
      "the factors have no derivative; leave out a dependent column, or use pinv",
      by, rows, cols, rows < cols ? rows : cols, rcond));
}
[[noreturn]] inline void fail_basis(const char* by, std::uint32_t columns) {
  throw ValueError(
      formatted("%s: the gradient depends on how the last %u columns of a square factor are chosen, which A does not "
                "determine; use %s_econ, or only what any choice agrees on, like Q2 Q2'",
                by, columns, by));
}
inline constexpr const char* instead_of_singular_vectors =
    "use functions of A itself (pinv, solve, norm), trace(spectral(A.t() * A, f, df)) for a sum over the squares of "
    "the singular values, or, for first derivatives, functions of the singular values alone";
inline constexpr const char* split_by_direction =
    "the direction of forward mode splits them, where only reverse mode (grad) can tell what does not depend on the "
    "choice";
[[noreturn]] inline void fail_ambiguous(const AmbiguityOptions& o, double value, std::size_t i, std::size_t j,
                                        const char* why = "the incoming gradient depends on which were chosen") {
  throw ValueError(formatted(
      "%s: the %s %zu and %zu (counted from 0) are both %.10g, so their vectors are not unique, and %s; %s", o.by,
      o.singular ? "singular values" : "eigenvalues", i, j, value, why,
      o.singular    ? instead_of_singular_vectors
      : o.symmetric ? "use spectral(A, f, df) for a function of the matrix, trace(spectral(A, f, df)) for a "
                      "sum over the eigenvalues, or, for first derivatives, functions of the eigenvalues alone"
                    : "use functions of A itself (expmat, solve, trace(A * A)), or, for first derivatives, "
                      "functions of the eigenvalues alone"));
}
[[noreturn]] inline void fail_at_zero(const char* by, std::size_t j) {
  throw ValueError(
      formatted("%s: the singular value %zu (counted from 0) is 0, so its vectors are not unique, and the incoming "
                "gradient depends on which were chosen; %s",
                by, j, instead_of_singular_vectors));
}
/// The largest condition number that has a gradient.
template <class eT>
constexpr eT largest_condition = 1 / std::numeric_limits<eT>::epsilon();
[[noreturn]] inline void fail_condition(double condition) {
  throw ValueError(formatted(
      "cond: A is singular to working precision (condition number %.2g), where it has no gradient; add a small "
      "multiple of the identity",
      condition));
}
[[noreturn]] inline void fail_constant(std::size_t column) {
  throw ValueError(
      formatted("cor: column %zu (counted from 0) is constant or not finite, and its correlations are not defined; "
                "leave it out",
                column));
}
[[noreturn]] inline void fail_nan(std::uint32_t rows, std::uint32_t cols) {
  throw ValueError(formatted("sort: x (%ux%u) holds NaN", rows, cols));
}

}  // namespace armagrad::detail
