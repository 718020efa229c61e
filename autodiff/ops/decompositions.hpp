// Eigenvectors of symmetric matrices and singular vectors: Householder reflections to a tridiagonal or bidiagonal
// matrix, divide and conquer on that, and the reflections back. LAPACK's methods, in code that uses the processor's
// registers where LAPACK's is bound by memory (its bidiagonalisation reads the matrix twice a column) or scalar (its
// secular equations). The errors are those of LAPACK's routines, up to a small factor.
#pragma once

#include <cstddef>

#include <armagrad/autodiff/armadillo.hpp>

namespace armagrad::detail {

/// A = V diag(w) V' for a finite symmetric n x n A, V in place of A, w ascending. `norm` is A's 1-norm. False, and A is
/// what it was, where the iterations did not converge or the norm is 0 or infinite; LAPACK then has the last word.
template <class eT>
bool eigen_decomposition(std::size_t n, eT norm, eT* a, eT* w);

/// A = U diag(s) V' for a finite m x n A, m >= n, s descending; U: m x n, V: n x n, contiguous. False as above.
template <class eT>
bool singular_value_decomposition(std::size_t m, std::size_t n, eT norm, const eT* a, std::size_t lda, eT* u, eT* s,
                                  eT* v);

// ---- the parts

/// A matrix in memory for whole registers: its rows continued by zeros to the next whole one and more, its columns by
/// four columns of zeros.
template <class eT>
struct Padded {
  std::size_t rows, cols, ld;
  eT* data;
  static std::size_t leading(std::size_t rows);
  static std::size_t size(std::size_t rows, std::size_t cols) { return leading(rows) * (cols + 4); }
  eT* column(std::size_t j) const { return data + j * ld; }
};

/// Q' A Q = T for the symmetric A, both triangles of which are there: T's diagonal d and the diagonal e beside it. The
/// reflections I - tau(i) v v', whose product is Q, have v in A's column i, from row i + 1 on, where it is 1.
template <class eT>
void tridiagonalise(const Padded<eT>& a, eT* d, eT* e, eT* tau);

/// Q' A P = B for an m x n A, m >= n: B's diagonal d and the diagonal e above it. Q's reflections are in A's columns
/// from the diagonal down, P's in the columns of `right` (n x n) from one below it, where they are 1.
template <class eT>
void bidiagonalise(const Padded<eT>& a, eT* d, eT* e, eT* tau_left, const Padded<eT>& right, eT* tau_right);

/// Q C in place of the n x m C, for the product Q of reflections with vectors in the first `count` columns of V, from
/// row i + `below` on.
template <class eT>
void reflect(const Padded<eT>& v, std::size_t count, std::size_t below, const eT* tau, std::size_t m, eT* c,
             std::size_t ldc);

/// T = V diag(d) V' for the tridiagonal T of diagonal d and, beside it, e, of a norm about 1: both are scratch
/// afterwards but for the values in d. `order` names the columns of ascending values. V: n x n. False if a value is not
/// finite or a root was not found.
template <class eT>
bool tridiagonal_eigen(std::size_t n, double* d, double* e, eT* v, std::size_t* order);

/// B = U diag(d) V' for the upper bidiagonal B of diagonal d and, above it, e, as above.
template <class eT>
bool bidiagonal_svd(std::size_t n, double* d, double* e, eT* u, eT* v, std::size_t* order);

}  // namespace armagrad::detail
