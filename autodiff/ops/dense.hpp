// Triangular solves, LU and Cholesky in halves, so that nearly all of the work is matrix products, and the SVD of small
// matrices. OpenBLAS's own take up to three times as long on a core: its products are as fast as any, its substitution
// and its panels are not. The backward errors are those of LAPACK's routines: substitution stays substitution, no
// diagonal block is inverted.
#pragma once

#include <cstddef>

#include <armagrad/autodiff/armadillo.hpp>

namespace armagrad::detail {

/// X with op(T) X = B in place of the n x m B; T is triangular, and `unit`: with ones on its diagonal (not read then).
/// False, and nothing done, if one of these is 0.
template <class eT>
bool substitute(bool upper, bool transposed, bool unit, std::size_t n, std::size_t m, const eT* t, std::size_t ldt,
                eT* b, std::size_t ldb);

/// P A = L U in place of the m x n A as by LAPACK's getrf, rows counted from 1. False if a pivot is 0.
template <class eT>
bool factorise_lu(std::size_t m, std::size_t n, eT* a, std::size_t lda, arma::blas_int* pivots);

/// X with op(A) X = B for A's factors and pivots as `factorise_lu` makes them; no pivot is 0. B and X: n x m,
/// contiguous, and not in one place.
template <class eT>
void solve_factorised(bool transposed, std::size_t n, std::size_t m, const eT* lu, const arma::blas_int* pivots,
                      const eT* b, eT* x);

/// R with R' R = A in place of A's upper triangle; below the diagonal is scratch. The order of the leading block that
/// is not positive definite, or 0.
template <class eT>
std::size_t factorise_cholesky(std::size_t n, eT* a, std::size_t lda);

/// A = U diag(s) V' for m x n, n <= m <= `largest_small_svd`, s descending; U: m x n, V: n x n, contiguous. One-sided
/// Jacobi rotations (Hestenes 1958), which there take half of LAPACK's time and are at least as exact. False, and the
/// results undefined, if A does not have full rank to working precision, or is very large or small.
constexpr std::size_t largest_small_svd = 16;
template <class eT>
bool small_svd(std::size_t m, std::size_t n, const eT* a, std::size_t lda, eT* u, eT* s, eT* v);

}  // namespace armagrad::detail
