// Eigenvalues, singular values and what is made of them.
//
// Where values repeat, vectors are not unique. A derivative exists if what was computed does not depend on the choice
// of vectors; the incoming gradients tell that (see `require_unambiguous`), and where they do not, an error says so.
#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include <armagrad/autodiff/device/versions.hpp>
#include <armagrad/autodiff/ops/decompositions.hpp>
#include <armagrad/autodiff/ops/lapack.hpp>

namespace armagrad {
namespace detail {
namespace {

// Times I - 2 u u', u the unit vector of `generic_element`, from the right: the `count` columns that column(k) names.
template <class eT, class Column>
void reflect_columns(View<eT> v, std::size_t count, Column column) {
  eT norm = 0;
  for (std::size_t k = 0; k < count; ++k) norm += generic_element<eT>(k) * generic_element<eT>(k);
  for (std::size_t i = 0; i < v.rows; ++i) {
    eT sum = 0;
    for (std::size_t k = 0; k < count; ++k) sum += v.data[i + column(k) * v.ld] * generic_element<eT>(k);
    sum *= 2 / norm;
    for (std::size_t k = 0; k < count; ++k) v.data[i + column(k) * v.ld] -= sum * generic_element<eT>(k);
  }
}
// Of `count` values in order calls f(first, size) for those that are equal, several each.
template <class eT, class F>
void for_equal_values(const eT* w, std::size_t count, eT top, F f) {
  const eT equal = equal_value_tolerance(top);
  for (std::size_t i = 0, end = 0; i < count; i = end) {
    for (end = i + 1; end < count && std::abs(w[end] - w[i]) <= equal;) ++end;
    if (end - i > 1) f(i, end - i);
  }
}

template <class eT>
void decompose_symmetric(const Command<eT>& c) {
  const char* by = attributes_of<AskedBy>(c).by;
  const std::size_t order = c.in[0].rows;
  Scratch scratch;
  const bool vectors = c.more_out[0].data != nullptr;
  eT* v = vectors ? c.more_out[0].data : scratch.take<eT>(order * order);
  load_symmetric(by, c.in[0], v);
  if (order == 0) return;
  constexpr std::size_t small = 8;  // where LAPACK is faster
  if (vectors && order > small && eigen_decomposition(order, norm1(View<const eT>(c.more_out[0])), v, c.out.data))
    return;
  char job = vectors ? 'V' : 'N', uplo = 'U';
  blas_int n = static_cast<blas_int>(order), info = 0, query = -1, integers = 0;
  eT best = 0;
  arma::lapack::syevd(&job, &uplo, &n, v, &n, c.out.data, &best, &query, &integers, &query, &info);
  auto size = static_cast<blas_int>(best);
  arma::lapack::syevd(&job, &uplo, &n, v, &n, c.out.data, scratch.take<eT>(static_cast<std::size_t>(size)), &size,
                      scratch.take<blas_int>(static_cast<std::size_t>(integers)), &integers, &info);
  if (info != 0) fail_to_converge(by, c.in[0].rows, c.in[0].cols);
}
// Values and, with more_out[0], vectors of a symmetric matrix, ascending.
template <class eT>
void eigen_host(const Command<eT>& c) {
  decompose_symmetric(c);
  const View<eT> v = c.more_out[0];
  const std::size_t n = c.out.rows;
  if (v.data == nullptr || n == 0) return;
  const eT *w = c.out.data, top = std::max(std::abs(w[0]), std::abs(w[n - 1]));
  for_equal_values(w, n, top, [&v](std::size_t first, std::size_t size) {
    reflect_columns(v, size, [first](std::size_t k) { return first + k; });
  });
}

template <class eT>
void transpose_into(const eT* from, std::size_t rows, std::size_t cols, eT* to) {
  constexpr std::size_t block = 16;
  for (std::size_t c = 0; c < cols; c += block)
    for (std::size_t r = 0; r < rows; r += block)
      for (std::size_t j = c; j < std::min(c + block, cols); ++j)
        for (std::size_t i = r; i < std::min(r + block, rows); ++i) to[j + i * cols] = from[i + j * rows];
}

// Descending singular values; with job 'S' or 'A' also U and V'. vt: v_cols x cols.
template <class eT>
void singular_values(const char* by, View<const eT> a, char job, eT* s, eT* u, eT* vt, std::size_t v_cols) {
  norm1_of_finite(by, a);
  Scratch scratch;
  eT* x = scratch.take<eT>(a.size());
  copy_contiguous(a, x);
  const std::size_t k = std::min(a.rows, a.cols);
  blas_int m = static_cast<blas_int>(a.rows), n = static_cast<blas_int>(a.cols),
           ldv = static_cast<blas_int>(std::max<std::size_t>(v_cols, 1));
  blas_int info = 0, query = -1;
  auto* integers = scratch.take<blas_int>(8 * k);
  eT best = 0;
  arma::lapack::gesdd(&job, &m, &n, x, &m, s, u, &m, vt, &ldv, &best, &query, integers, &info);
  auto size = static_cast<blas_int>(best);
  eT* work = scratch.take<eT>(static_cast<std::size_t>(size));
  arma::lapack::gesdd(&job, &m, &n, x, &m, s, u, &m, vt, &ldv, work, &size, integers, &info);
  if (info == 0) return;
  // Divide and conquer gives up on a few matrices that the older algorithm can do.
  copy_contiguous(a, x);
  arma::lapack::gesvd(&job, &job, &m, &n, x, &m, s, u, &m, vt, &ldv, &best, &query, &info);
  size = static_cast<blas_int>(best);
  work = scratch.take<eT>(static_cast<std::size_t>(size));
  arma::lapack::gesvd(&job, &job, &m, &n, x, &m, s, u, &m, vt, &ldv, work, &size, &info);
  if (info != 0) fail_to_converge(by, a.rows, a.cols);
}

template <class eT>
void singular_values_host(const Command<eT>& c) {
  if (c.out.size() == 0) return;
  eT none = 0;
  singular_values(attributes_of<AskedBy>(c).by, c.in[0], 'N', c.out.data, &none, &none, 0);
}

template <class eT>
void decompose(const Command<eT>& c) {
  const View<const eT> a = c.in[0];
  const View<eT> u = c.out, s = c.more_out[0], v = c.more_out[1];
  if (a.size() == 0) {
    for (const View<eT>& q : {u, v}) {
      std::fill_n(q.data, q.size(), eT(0));
      for (std::size_t i = 0; i < std::min(q.rows, q.cols); ++i) q.data[i * (q.ld + 1)] = 1;
    }
    return;
  }
  Scratch scratch;
  eT* vt = scratch.take<eT>(v.size());
  const char* by = attributes_of<AskedBy>(c).by;
  const bool econ = u.cols == s.rows && v.cols == s.rows;
  if (econ) {
    const eT norm = norm1_of_finite(by, a);
    View<const eT> x = a;
    eT *left = u.data, *right = v.data;
    if (a.rows < a.cols) {
      eT* at = scratch.take<eT>(a.size());
      transpose_into(a.data, a.rows, a.cols, at);
      x = {at, a.cols, a.rows, a.cols};
      std::swap(left, right);
    }
    if (x.rows > largest_small_svd
            ? singular_value_decomposition(x.rows, x.cols, norm, x.data, x.ld, left, s.data, right)
            : small_svd(x.rows, x.cols, x.data, x.ld, left, s.data, right))
      return;
  }
  singular_values(by, a, econ ? 'S' : 'A', s.data, u.data, vt, v.cols);
  transpose_into(vt, v.cols, v.rows, v.data);
}
// out: U, s, V; econ or full by their shapes
template <class eT>
void svd_host(const Command<eT>& c) {
  decompose(c);
  const View<eT> u = c.out, s = c.more_out[0], v = c.more_out[1];
  if (c.in[0].size() == 0) return;
  std::size_t rank = 0;  // both bases are free where the values are 0, and what completes a square factor is
  while (rank < s.rows && s.data[rank] > equal_value_tolerance(s.data[0])) ++rank;
  for (const View<eT>& q : {u, v}) {
    for_equal_values(s.data, rank, s.data[0], [&q](std::size_t first, std::size_t size) {
      reflect_columns(q, size, [first](std::size_t k) { return first + k; });
    });
    reflect_rest(q, rank);
  }
}

// out(i, j) = 1 / (w(j) - w(i)), and 0 where the two are the same but for rounding.
template <class eT>
void gaps_host(const Command<eT>& c) {
  const std::size_t n = c.out.rows;
  const eT* w = c.in[0].data;
  eT top = 0;
  for (std::size_t i = 0; i < n; ++i) top = std::max(top, std::abs(w[i]));
  const eT same = same_value_tolerance(n, top);
  for (std::size_t j = 0; j < n; ++j)
    for (std::size_t i = 0; i < n; ++i) {
      const eT gap = w[j] - w[i];
      c.out.data[i + j * n] = std::abs(gap) <= same ? eT(0) : 1 / gap;
    }
}
// out(i, j) = 1 / (s(i) + s(j)), and 0 where both are 0 but for rounding.
template <class eT>
void sums_host(const Command<eT>& c) {
  const std::size_t n = c.out.rows;
  const eT* s = c.in[0].data;
  const eT zero = n == 0 ? eT(0) : same_value_tolerance(n, s[0]);
  for (std::size_t j = 0; j < n; ++j)
    for (std::size_t i = 0; i < n; ++i) {
      const eT sum = s[i] + s[j];
      c.out.data[i + j * n] = sum <= 2 * zero ? eT(0) : 1 / sum;
    }
}
// 1 / s, and 0 where s is 0 but for rounding.
template <class eT>
void reciprocals_host(const Command<eT>& c) {
  const std::size_t n = c.out.size();
  const eT zero = n == 0 ? eT(0) : same_value_tolerance(n, c.in[0].data[0]);
  for (std::size_t i = 0; i < n; ++i) c.out.data[i] = c.in[0].data[i] <= zero ? eT(0) : 1 / c.in[0].data[i];
}

// 0; throws if the incoming gradients say that vectors of a repeated value were told apart (see Ambiguity).
//   in: M, w, dw, for singular values also N = V' dV beside M = U' dU
template <class eT>
void require_unambiguous(const Command<eT>& c) {
  const auto& o = attributes_of<AmbiguityOptions>(c);
  const std::size_t n = c.in[0].rows;
  const eT *m = c.in[0].data, *w = c.in[1].data, *dw = c.in[2].data, *v = c.in[3].data;
  *c.out.data = 0;
  if (n == 0) return;
  eT top = 0, scale = 0, largest = 0;
  for (std::size_t i = 0; i < n; ++i) top = std::max(top, std::abs(w[i]));
  const eT same = same_value_tolerance(n, top), small = std::sqrt(std::numeric_limits<eT>::epsilon());
  bool repeated = o.singular && w[n - 1] <= same;
  for (std::size_t i = 0; i + 1 < n && !repeated; ++i)
    for (std::size_t j = i + 1; j < n && !repeated; ++j) {
      repeated = std::abs(w[i] - w[j]) <= same;
      if (o.symmetric && !repeated) break;  // sorted
    }
  if (!repeated) return;
  for (std::size_t i = 0; i < n * n; ++i)
    scale = std::max({scale, std::abs(m[i]), o.singular ? std::abs(v[i]) : eT(0)});
  for (std::size_t i = 0; i < n && o.values; ++i) largest = std::max(largest, std::abs(dw[i]));
  const Ambiguity<eT> ambiguous{
      o.values, o.singular, o.symmetric, n, m, w, dw, v, same, small * scale, zero_beside(largest, scale, top, small)};
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t j = i + 1; j < n; ++j)
      if (ambiguous.same_value(i, j) && ambiguous.at(i, j)) fail_ambiguous(o, static_cast<double>(w[i]), i, j);
}

// 0; throws if M = V' dA V says that dA splits a repeated value: then its vectors jump.   in: M, w
template <class eT>
void require_moving(const Command<eT>& c) {
  const auto& o = attributes_of<AmbiguityOptions>(c);
  const std::size_t n = c.in[0].rows;
  const eT *m = c.in[0].data, *w = c.in[1].data;
  *c.out.data = 0;
  eT top = 0, scale = 0;
  for (std::size_t i = 0; i < n; ++i) top = std::max(top, std::abs(w[i]));
  for (std::size_t i = 0; i < n * n; ++i) scale = std::max(scale, std::abs(m[i]));
  const eT same = same_value_tolerance(n, top), zero = std::sqrt(std::numeric_limits<eT>::epsilon()) * scale;
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t j = i + 1; j < n; ++j)
      if (std::abs(w[i] - w[j]) <= same && (std::abs(m[i + j * n]) > zero || std::abs(m[j + i * n]) > zero ||
                                            std::abs(m[i * (n + 1)] - m[j * (n + 1)]) > zero))
        fail_ambiguous(o, static_cast<double>(w[i]), i, j, split_by_direction);
}

template <class eT>
struct Gapped {
  std::size_t n;
  const eT *m, *v, *w;
  eT same;
  eT* out;
};
// skew(M) % E, or with V skew(M + V) % E + skew(M - V) % F. What is across the diagonal is read in tiles.
template <class eT>
void divide_by_gaps(const Gapped<eT>& p) {
  constexpr std::size_t tile = 16;
  const std::size_t n = p.n;
  eT across_m[tile][tile] = {}, across_v[tile][tile] = {};
  for (std::size_t c = 0; c < n; c += tile)
    for (std::size_t r = 0; r < n; r += tile) {
      const std::size_t cols = std::min(tile, n - c), rows = std::min(tile, n - r);
      for (std::size_t i = 0; i < rows; ++i)
        for (std::size_t j = 0; j < cols; ++j) {
          across_m[j][i] = p.m[c + j + (r + i) * n];
          if (p.v != nullptr) across_v[j][i] = p.v[c + j + (r + i) * n];
        }
      for (std::size_t j = 0; j < cols; ++j) {
        const eT at = p.w[c + j], *w = p.w + r, *m = p.m + r + (c + j) * n;
        eT* to = p.out + r + (c + j) * n;
        if (p.v == nullptr) {
          for (std::size_t i = 0; i < rows; ++i) {
            const eT gap = at - w[i], x = (m[i] - across_m[j][i]) / (2 * gap);
            to[i] = std::abs(gap) <= p.same ? eT(0) : x;
          }
          continue;
        }
        const eT* v = p.v + r + (c + j) * n;
        for (std::size_t i = 0; i < rows; ++i) {
          const eT gap = at - w[i], sum = at + w[i], x = m[i] - across_m[j][i], y = v[i] - across_v[j][i];
          const eT even = (x + y) / (2 * gap), odd = (x - y) / (2 * sum);
          to[i] = (std::abs(gap) <= p.same ? eT(0) : even) + (sum <= 2 * p.same ? eT(0) : odd);
        }
      }
    }
}

// What the rules below put between the vectors: skew(M) % E + diag(dw), for singular values
// skew(M + N) % E + skew(M - N) % F + diag(dw), with the check of `require_unambiguous`. In one pass, for first
// derivatives, of which none are taken.   in: M, w, dw, for singular values also N
template <class eT>
void between_vectors(const Command<eT>& c) {
  const auto& o = attributes_of<AmbiguityOptions>(c);
  const std::size_t n = c.out.rows;
  const eT *m = c.in[0].data, *w = c.in[1].data, *v = c.in[3].data;
  if (n == 0) return;
  Command<eT> check = c;
  eT nothing;
  check.out.data = &nothing;
  require_unambiguous(check);
  eT top = 0;
  for (std::size_t i = 0; i < n; ++i) top = std::max(top, std::abs(w[i]));
  const eT same = same_value_tolerance(n, top);
  run_version<&divide_by_gaps<eT>, const Gapped<eT>&>({n, m, o.singular ? v : nullptr, w, same, c.out.data});
  for (std::size_t i = 0; i < n; ++i) c.out.data[i * (n + 1)] = o.values ? c.in[2].data[i] : eT(0);
}

// V X V' for a symmetric X, of which half is computed.   in: V, X
template <class eT>
void turn_symmetric(const Command<eT>& c) {
  const View<const eT> v = c.in[0], x = c.in[1];
  const std::size_t n = v.rows;
  constexpr std::size_t block = 64;
  Scratch scratch;
  eT *t = scratch.take<eT>(n * n), *y = c.out.data;
  multiply(false, false, n, n, n, v.data, v.ld, x.data, x.ld, t, n);
  for (std::size_t j = 0; j < n; j += block)  // from the diagonal down
    multiply(false, true, n - j, std::min(block, n - j), n, t + j, n, v.data + j, v.ld, y + j * (n + 1), n);
  for_pairs(n, [=](std::size_t i, std::size_t j) { y[j + i * n] = y[i + j * n]; });
}

// 0; throws if a column of X that belongs to a singular value 0 is not 0.   in: X, s
template <class eT>
void require_nothing_at_zero(const Command<eT>& c) {
  const View<const eT> x = c.in[0], s = c.in[1];
  *c.out.data = 0;
  if (s.size() == 0) return;
  const eT zero = same_value_tolerance(s.size(), s.data[0]);
  eT scale = 0;
  for (std::size_t i = 0; i < x.size(); ++i) scale = std::max(scale, std::abs(x.data[i]));
  for (std::size_t j = 0; j < s.size(); ++j) {
    if (s.data[j] > zero) continue;
    for (std::size_t i = 0; i < x.rows; ++i)
      if (std::abs(x.data[i + j * x.ld]) > std::sqrt(std::numeric_limits<eT>::epsilon()) * scale)
        fail_at_zero(attributes_of<AskedBy>(c).by, j);
  }
}

// out: values (n x 1), vectors (n x n) of a general matrix
template <class eT>
void general_eigen_host(const Command<eT>& c) {
  const View<const eT> a = c.in[0];
  norm1_of_finite("eig_gen", a);
  if (a.size() == 0) return;
  Scratch scratch;
  eT *x = scratch.take<eT>(a.size()), *imaginary = scratch.take<eT>(a.rows), none = 0, best = 0;
  copy_contiguous(a, x);
  char no = 'N', yes = 'V';
  blas_int n = static_cast<blas_int>(a.rows), one = 1, query = -1, info = 0;
  arma::lapack::geev(&no, &yes, &n, x, &n, c.out.data, imaginary, &none, &one, c.more_out[0].data, &n, &best, &query,
                     &info);
  auto size = static_cast<blas_int>(best);
  arma::lapack::geev(&no, &yes, &n, x, &n, c.out.data, imaginary, &none, &one, c.more_out[0].data, &n,
                     scratch.take<eT>(static_cast<std::size_t>(size)), &size, &info);
  if (info != 0) fail_to_converge("eig_gen", a.rows, a.cols);
  for (std::size_t i = 0; i < a.rows; ++i)
    if (imaginary[i] != eT(0))
      throw ValueError(
          fmt::format("eig_gen: A is {} and the eigenvalues {} and {} (counted from 0) are complex, {:.6g} "
                      "+- {:.6g}i; only real ones are supported: for a symmetric matrix use eig_sym, for "
                      "sums over all of them trace, det or expmat",
                      size_text(a), i, i + 1, c.out.data[i], std::abs(imaginary[i])));
  const eT *w = c.out.data,
           *top = std::max_element(w, w + a.rows, [](eT p, eT q) { return std::abs(p) < std::abs(q); });
  const eT equal = equal_value_tolerance(std::abs(*top));
  auto* same = scratch.take<std::uint32_t>(a.rows);
  for (std::uint32_t i = 0; i < a.rows; ++i) {  // each group by its first: the values are in no order
    std::uint32_t count = 0;
    for (std::uint32_t j = 0; j < a.rows; ++j) {
      if (std::abs(w[j] - w[i]) > equal) continue;
      if (j < i) break;
      same[count++] = j;
    }
    if (count < 2) continue;
    const View<eT> v = c.more_out[0];
    reflect_columns(v, count, [same](std::size_t k) { return same[k]; });
    for (std::uint32_t k = 0; k < count; ++k) {
      eT *to = v.data + same[k] * v.ld, squares = 0;
      for (std::size_t r = 0; r < v.rows; ++r) squares += to[r] * to[r];
      for (std::size_t r = 0; r < v.rows; ++r) to[r] /= std::sqrt(squares);
    }
  }
}

// 0; throws unless the columns of X are linearly independent.
template <class eT>
void require_diagonalisable(const Command<eT>& c) {
  const View<const eT> x = c.in[0];
  *c.out.data = 0;
  if (x.size() == 0) return;
  Scratch scratch;
  eT *lu = scratch.take<eT>(x.size()), rcond = 0;
  copy_contiguous(x, lu);
  char one = '1';
  blas_int n = static_cast<blas_int>(x.rows), info = 0;
  const eT norm = norm1_of_finite("eig_gen", x);
  auto* integers = scratch.take<blas_int>(x.rows);
  if (factorise_lu(x.rows, x.cols, lu, x.rows, integers))
    arma::lapack::gecon(&one, &n, lu, &n, &norm, &rcond, scratch.take<eT>(4 * x.rows), integers, &info);
  if (!(rcond > std::numeric_limits<eT>::epsilon()))
    throw ValueError(
        fmt::format("eig_gen: A is {} and defective: it has fewer independent eigenvectors (reciprocal "
                    "condition number {:.2g}) than eigenvalues, which then have no derivatives; use "
                    "functions of A itself (trace, det, expmat)",
                    size_text(x), static_cast<double>(rcond)));
}

template <class eT>
std::size_t numerical_rank(const ToleranceOptions& o, View<const eT> s) {
  std::size_t rank = 0;
  if (s.size() == 0) return 0;
  const eT tolerance = rank_tolerance(o, s.data[0]);
  while (rank < s.size() && s.data[rank] > tolerance) ++rank;
  return rank;
}

// in: U, s, V
template <class eT>
void pinv_host(const Command<eT>& c) {
  const auto& o = attributes_of<ToleranceOptions>(c);
  const View<const eT> u = c.in[0], s = c.in[1], v = c.in[2];
  const std::size_t rank = numerical_rank(o, s);
  Scratch scratch;
  eT* scaled = scratch.take<eT>(v.rows * rank);
  for (std::size_t j = 0; j < rank; ++j)
    for (std::size_t i = 0; i < v.rows; ++i) scaled[i + j * v.rows] = v.data[i + j * v.ld] / s.data[j];
  multiply(false, true, v.rows, u.rows, rank, scaled, v.rows, u.data, u.ld, c.out.data, c.out.ld);
}
// What Pinv's rule says, for first derivatives, of which none are taken. Where the rank is full, M or N is 0, which the
// rule cannot know.   in: A, P, G, s
template <class eT>
void pinv_gradient(const Command<eT>& c) {
  const View<const eT> a = c.in[0], p = c.in[1], g = c.in[2];
  const View<eT> da = c.out;
  const std::size_t m = a.rows, n = a.cols, rank = numerical_rank(attributes_of<ToleranceOptions>(c), c.in[3]);
  Scratch scratch;
  eT *pg = scratch.take<eT>(m * m), *x = scratch.take<eT>(m * n), *q = scratch.take<eT>(n * n);
  const auto add_to = [&](const eT* from) {
    for (std::size_t i = 0; i < da.size(); ++i) da.data[i] += from[i];
  };
  multiply(true, false, m, m, n, p.data, p.ld, g.data, g.ld, pg, m);
  multiply(false, true, m, n, m, pg, m, p.data, p.ld, da.data, da.ld, eT(-1));
  if (rank < m) {
    multiply(true, true, m, n, m, pg, m, p.data, p.ld, x, m);  // G' P P'
    multiply(false, false, n, n, m, p.data, p.ld, x, m, q, n);
    add_to(x);
    multiply(false, false, m, n, n, a.data, a.ld, q, n, da.data, da.ld, eT(-1), eT(1));
  }
  if (rank < n) {
    multiply(false, true, n, n, m, p.data, p.ld, g.data, g.ld, q, n);
    multiply(true, false, m, n, n, p.data, p.ld, q, n, x, m);  // P' P G'
    multiply(false, false, m, m, n, x, m, p.data, p.ld, pg, m);
    add_to(x);
    multiply(false, false, m, n, m, pg, m, a.data, a.ld, da.data, da.ld, eT(-1), eT(1));
  }
}
template <class eT>
void rank_host(const Command<eT>& c) {
  *c.out.data = static_cast<eT>(numerical_rank(attributes_of<ToleranceOptions>(c), c.in[0]));
}

// in: s. The gradient needs a regular matrix, the value does not.
template <class eT>
void cond_host(const Command<eT>& c) {
  const View<const eT> s = c.in[0];
  const eT least = s.size() == 0 ? eT(0) : s.data[s.size() - 1];
  if (s.size() == 0) {
    *c.out.data = 0;
    return;
  }
  *c.out.data = least > 0 ? s.data[0] / least : std::numeric_limits<eT>::infinity();
}
template <class eT>
void require_finite_condition(const Command<eT>& c) {
  if (!(*c.in[0].data < largest_condition<eT>)) fail_condition(static_cast<double>(*c.in[0].data));
  *c.out.data = *c.in[0].data;
}

template <class eT>
Var<eT> skew(Var<eT> m) {
  return 0.5 * (m - m.t());
}
template <class eT>
bool wants_gradient(Var<eT> a) {
  return a.requires_grad() && a.graph().gradients_enabled();
}

}  // namespace

// Hidden operations of the derivative rules.

struct Gaps {
  static constexpr auto name = "gaps";
  static constexpr const char* operands[] = {"w", nullptr};
  static Shape shape(Operands& in) { return {in[0].rows, in[0].rows}; }
  template <class eT>
  static void eval(Eval<eT>& e) {
    run_kernel<"gaps", gaps_host<eT>>(e, 0, 1);
  }
  template <class eT>
  static void vjp(Rule<eT>& r) {  // dE(i, j) = -E(i, j)^2 (dw(j) - dw(i))
    const Var<eT> t = r.grad() % square(r.result());
    r.accumulate(0, sum(t, 1) - sum(t, 0).t());
  }
  template <class eT>
  static void jvp(ForwardRule<eT>& r) {
    const Var<eT> dw = r.tangent(0);
    r.add(square(r.result()) % (dw - dw.t()));
  }
};
struct Sums {
  static constexpr auto name = "sums";
  static constexpr const char* operands[] = {"s", nullptr};
  static Shape shape(Operands& in) { return {in[0].rows, in[0].rows}; }
  template <class eT>
  static void eval(Eval<eT>& e) {
    run_kernel<"sums", sums_host<eT>>(e, 0, 1);
  }
  template <class eT>
  static void vjp(Rule<eT>& r) {
    const Var<eT> t = r.grad() % square(r.result());
    r.accumulate(0, -(sum(t, 1) + sum(t, 0).t()));
  }
  template <class eT>
  static void jvp(ForwardRule<eT>& r) {
    const Var<eT> ds = r.tangent(0);
    r.add(-(square(r.result()) % (ds + ds.t())));
  }
};
struct Reciprocals {
  static constexpr auto name = "reciprocals";
  static constexpr const char* operands[] = {"s", nullptr};
  static Shape shape(Operands& in) { return in[0]; }
  template <class eT>
  static void eval(Eval<eT>& e) {
    run_kernel<"reciprocals", reciprocals_host<eT>>(e, 0, 1);
  }
  template <class eT>
  static void vjp(Rule<eT>& r) {
    r.accumulate(0, -(r.grad() % square(r.result())));
  }
  template <class eT>
  static void jvp(ForwardRule<eT>& r) {
    r.add(-(r.tangent(0) % square(r.result())));
  }
};
struct RequireUnambiguous {
  static constexpr auto name = "vectors";
  using Attributes = AmbiguityOptions;
  static Shape shape(Operands&) { return {1, 1}; }
  template <class eT>
  static void eval(Eval<eT>& e) {
    run_kernel<"unambiguous", require_unambiguous<eT>>(e, 0, e.size());
  }
};
struct BetweenVectors {
  static constexpr auto name = "vectors";
  using Attributes = AmbiguityOptions;
  static Shape shape(Operands& in) { return in[0]; }
  template <class eT>
  static void eval(Eval<eT>& e) {
    run_kernel<"between_vectors", between_vectors<eT>>(e, 0, e.size());
  }
};
struct TurnSymmetric {
  static constexpr auto name = "eig_sym";
  static constexpr const char* operands[] = {"V", "X", nullptr};
  static Shape shape(Operands& in) { return in[0]; }
  template <class eT>
  static void eval(Eval<eT>& e) {
    run_kernel<"turn_symmetric", turn_symmetric<eT>>(e, 0, 2);
  }
};
struct RequireNothingAtZero {
  static constexpr auto name = "vectors";
  using Attributes = AskedBy;
  static Shape shape(Operands&) { return {1, 1}; }
  template <class eT>
  static void eval(Eval<eT>& e) {
    run_kernel<"nothing_at_zero", require_nothing_at_zero<eT>>(e, 0, 2);
  }
};

struct RequireMoving {
  static constexpr auto name = "vectors";
  using Attributes = AmbiguityOptions;
  static Shape shape(Operands&) { return {1, 1}; }
  template <class eT>
  static void eval(Eval<eT>& e) {
    run_kernel<"moving", require_moving<eT>>(e, 0, 2);
  }
};

struct RequireDiagonalisable {
  static constexpr auto name = "eig_gen";
  static Shape shape(Operands&) { return {1, 1}; }
  template <class eT>
  static void eval(Eval<eT>& e) {
    run_kernel<"diagonalisable", require_diagonalisable<eT>>(e, 0, 1);
  }
};

// A = V diag(w) V'. With M = V' dV and E(i, j) = 1 / (w(j) - w(i)): dA = V (skew(M) % E + diag(dw)) V'.
struct EigSym {
  static constexpr auto name = "eig_sym";
  static constexpr const char* operands[] = {"A", nullptr};
  static constexpr std::uint8_t results = 2;
  using Attributes = AskedBy;
  static Shape shape(Operands& in) {
    in.result(1, in[0]);
    return {in[0].rows, 1};
  }
  template <class eT>
  static void eval(Eval<eT>& e) {
    run_kernel<"eigen", eigen_host<eT>>(e, 0, 1, 2);
  }
  template <class eT>
  static void vjp(Rule<eT>& r) {
    const Var<eT> w = r.result(0), v = r.result(1);
    if (!r.has_grad(1)) {
      r.accumulate(0, matmul(multiply(v, r.grad(0).t()), v.t()));
      return;
    }
    const Var<eT> m = matmul(v.t(), r.grad(1));  // (n x n)
    const bool values = r.has_grad(0);
    const AmbiguityOptions o{name, values, false, true};
    if (m.graph().may_fuse()) {
      const Var<eT> inner = apply<BetweenVectors>(o, m, w, values ? r.grad(0) : w);
      return r.accumulate(0, apply<TurnSymmetric>(v, inner));
    }
    Var<eT> inner = skew(m) % apply<Gaps>(w);
    inner = inner + (values ? apply<RequireUnambiguous>(o, m, w, r.grad(0)) : apply<RequireUnambiguous>(o, m, w));
    if (values) inner = inner + diagmat(r.grad(0));
    r.accumulate(0, matmul(matmul(v, inner), v.t()));
  }
  template <class eT>
  static void jvp(ForwardRule<eT>& r) {  // dw = diag(M), dV = V (M % E) with M = V' dA V
    const Var<eT> w = r.result(0), v = r.result(1), m = matmul(matmul(v.t(), symmetric_part(r.tangent(0))), v);
    r.add(diagvec(m), 0);
    if (r.needs(1) && v.n_elem() != 0)
      r.add(matmul(v, m % apply<Gaps>(w)) + apply<RequireMoving>({name, false, false, true}, m, w), 1);
  }
  static void samples(Samples& s) {
    const auto values = [](const auto& in) { return eig_sym(symmetric_part(in[0])); };
    const auto plain = [](const std::vector<arma::mat>& in) -> arma::mat {
      return arma::eig_sym(symmetric_part(in[0]));
    };
    // Signs of vectors are LAPACK's; what does not depend on them is compared.
    const auto vectors = [](const auto& in) { return square(eig_sym(symmetric_part(in[0]), with_vectors).vectors); };
    const auto plain_vectors = [](const std::vector<arma::mat>& in) -> arma::mat {
      arma::vec w;
      arma::mat v;
      arma::eig_sym(w, v, symmetric_part(in[0]));
      return square(v);
    };
    const auto both = [](const auto& in) {
      const auto [w, v] = eig_sym(symmetric_part(in[0]), with_vectors);
      return v * diagmat(exp(w) % w) * v.t();
    };
    const auto plain_both = [](const std::vector<arma::mat>& in) -> arma::mat {
      arma::vec w;
      arma::mat v;
      arma::eig_sym(w, v, symmetric_part(in[0]));
      return v * arma::diagmat(arma::exp(w) % w) * v.t();
    };
    arma::mat a = s.uniform(3, 3, -1, 1);
    a.diag() += arma::vec{-2, 0, 2};
    s.add({a}, values, plain);
    s.add({a}, vectors, plain_vectors);
    s.add({a}, both, plain_both);
    s.add({s.uniform(1, 1)}, values, plain);
    s.add({s.uniform(1, 1)}, both, plain_both);
    s.add({arma::mat(0, 0)}, values, [](const std::vector<arma::mat>&) { return arma::mat(0, 1); });
    s.add({arma::mat(0, 0)}, vectors, [](const std::vector<arma::mat>& in) { return in[0]; });
    const arma::mat q = arma::orth(s.uniform(3, 3));
    s.add(
        {arma::mat(q * arma::diagmat(arma::vec{1, 1, 2}) * q.t())},
        [values](const auto& in) { return sum(values(in), 0); },
        [](const std::vector<arma::mat>& in) { return arma::mat{arma::trace(in[0])}; });
    s.fails(
        {arma::mat(2, 3)}, [](const auto& in) { return eig_sym(in[0]); }, "eig_sym: A is 2x3: it must be square");
    s.fails(
        {arma::mat{{2, 1}, {0, 2}}}, [](const auto& in) { return eig_sym(in[0]); },
        "eig_sym: A is 2x2 and not symmetric: A(0, 1) is 1, A(1, 0) is 0");
    s.fails({arma::mat(2, 2, arma::fill::value(arma::datum::inf))}, values, "eig_sym: A (2x2) holds NaN or infinity");
    s.fails(
        {arma::mat(3, 3, arma::fill::eye)},
        [both](const auto& in) {
          const auto y = accu(both(in));
          y.backward();
          return y;
        },
        "eig_sym: the eigenvalues 0 and 1 (counted from 0) are both 1, so their vectors are not unique, and the "
        "incoming gradient depends on which were chosen; use spectral(A, f, df) for a function of the matrix, "
        "trace(spectral(A, f, df)) for a sum over the eigenvalues, or, for first derivatives, functions of the "
        "eigenvalues alone");
    // M is 0 there, and what is missing is not; sums of LAPACK's vectors of the identity are stationary.
    s.fails(
        {arma::mat(2, 2, arma::fill::eye)},
        [](const auto& in) {
          const auto [w, v] = eig_sym(in[0], with_vectors);
          const auto y = accu(v * diagmat(log(w)) * v.t());
          y.backward();
          return y;
        },
        "eig_sym: the eigenvalues 0 and 1 (counted from 0) are both 1");
    s.fails(
        {arma::mat(2, 2, arma::fill::eye)},
        [](const auto& in) {
          const auto y = accu(eig_sym(in[0], with_vectors).vectors);
          y.backward();
          return y;
        },
        "eig_sym: the eigenvalues 0 and 1 (counted from 0) are both 1");
  }
};
struct EigSymValues {
  static constexpr auto name = "eig_sym";
  static constexpr const char* operands[] = {"A", nullptr};
  using Attributes = AskedBy;
  static Shape shape(Operands& in) { return {in[0].rows, 1}; }
  template <class eT>
  static void eval(Eval<eT>& e) {
    run_kernel<"eigen", eigen_host<eT>>(e, 0, 1);
  }
};

// A X = X diag(w), the columns of X of length 1. With M = X' dX and E as above:
// dA = X^-T ((M - X' X diag(M)) % E + diag(dw)) X' (Giles 2008, with the lengths kept at 1).
struct EigGen {
  static constexpr auto name = "eig_gen";
  static constexpr const char* operands[] = {"A", nullptr};
  static constexpr std::uint8_t results = 2;
  static Shape shape(Operands& in) {
    in.require(in[0].rows == in[0].cols, "it must be square");
    in.result(1, in[0]);
    return {in[0].rows, 1};
  }
  template <class eT>
  static void eval(Eval<eT>& e) {
    run_kernel<"eigen_general", general_eigen_host<eT>>(e, 0, 1, 2);
  }
  template <class eT>
  static void vjp(Rule<eT>& r) {
    const Var<eT> w = r.result(0), x = r.result(1);
    const bool values = r.has_grad(0), vectors = r.has_grad(1);
    Var<eT> inner = apply<RequireDiagonalisable>(x);
    if (vectors) {
      const Var<eT> m = matmul(x.t(), r.grad(1)), k = m - multiply(matmul(x.t(), x), diagvec(m).t());
      const AmbiguityOptions o{name, values, false, false};
      inner = inner + k % apply<Gaps>(w) +
              (values ? apply<RequireUnambiguous>(o, k, w, r.grad(0)) : apply<RequireUnambiguous>(o, k, w));
      if (values) inner = inner + diagmat(r.grad(0));
    } else {
      inner = inner + diagmat(r.grad(0));
    }
    r.accumulate(0, solve(x.t(), matmul(inner, x.t())));
  }
  template <class eT>
  static void jvp(
      ForwardRule<eT>& r) {  // with M = X^-1 dA X: dw = diag(M), dX = X (M % E), less what would lengthen it
    const Var<eT> w = r.result(0), x = r.result(1);
    if (x.n_elem() == 0) return;
    const Var<eT> m = solve(x, matmul(r.tangent(0), x)) + apply<RequireDiagonalisable>(x);
    r.add(diagvec(m), 0);
    if (!r.needs(1)) return;
    const Var<eT> dx = matmul(x, m % apply<Gaps>(w)) + apply<RequireMoving>({name, false, false, false}, m, w);
    r.add(dx - multiply(x, sum(x % dx, 0)), 1);
  }
  static void samples(Samples& s) {
    // Far apart, so that the values are real and keep their order near the sample.
    const auto separated = [&s](arma::uword n) {
      arma::mat a = s.uniform(n, n, -0.9, 0.9);
      a.diag() += arma::linspace(0, 4 * static_cast<double>(n), n);
      return a;
    };
    // LAPACK's order may differ between float and double: power sums do not.
    const auto values = [](const auto& in) {
      const auto w = eig_gen(in[0]);
      return join_cols(join_cols(sum(w, 0), sum(square(w), 0)), sum(pow(w, 3), 0));
    };
    const auto plain = [](const std::vector<arma::mat>& in) -> arma::mat {
      const arma::vec w = arma::real(arma::eig_gen(in[0]));
      return arma::vec{arma::accu(w), arma::accu(arma::square(w)), arma::accu(arma::pow(w, 3))};
    };
    const auto both = [](const auto& in) {
      const auto [w, x] = eig_gen(in[0], with_vectors);
      return square(x) * w;
    };
    const auto plain_both = [](const std::vector<arma::mat>& in) -> arma::mat {
      arma::cx_vec w;
      arma::cx_mat x;
      arma::eig_gen(w, x, in[0]);
      return arma::square(arma::real(x)) * arma::real(w);
    };
    s.add({separated(3)}, values, plain);
    s.add({separated(3)}, both, plain_both);
    s.add({s.uniform(1, 1)}, values, plain);
    s.add(
        {arma::mat(0, 0)}, [](const auto& in) { return eig_gen(in[0]); },
        [](const std::vector<arma::mat>&) { return arma::mat(0, 1); });
    s.fails(
        {arma::mat(2, 3)}, [](const auto& in) { return eig_gen(in[0]); }, "eig_gen: A is 2x3: it must be square");
    s.fails(
        {arma::mat{{1, 2}, {-2, 1}}}, [](const auto& in) { return eig_gen(in[0]); },
        "eig_gen: A is 2x2 and the eigenvalues 0 and 1 (counted from 0) are complex, 1 +- 2i; only real ones are "
        "supported");
    s.fails(
        {arma::mat{{1, 1}, {0, 1}}},
        [](const auto& in) {
          const auto y = accu(eig_gen(in[0]));
          y.backward();
          return y;
        },
        "eig_gen: A is 2x2 and defective");
    s.fails(
        {arma::mat(2, 2, arma::fill::eye)},
        [](const auto& in) {
          const auto [w, x] = eig_gen(in[0], with_vectors);
          const auto y = accu(x * diagmat(exp(w)) * inv(x));
          y.backward();
          return y;
        },
        "eig_gen: the eigenvalues 0 and 1 (counted from 0) are both 1");
    s.fails(
        {arma::mat(2, 2, arma::fill::eye)},
        [](const auto& in) {
          const auto y = eig_gen(in[0], with_vectors).vectors(1, 0);
          y.backward();
          return y;
        },
        "eig_gen: the eigenvalues 0 and 1 (counted from 0) are both 1");
  }
};

namespace {

// The gradient by A = U diag(s) V' (economical) from those that came in. With M = U' dU, N = V' dV,
// E(i, j) = 1 / (s(j) - s(i)), F(i, j) = 1 / (s(i) + s(j)):
// dA = U [skew(M + N) % E + skew(M - N) % F + diag(ds)] V' + (I - U U') dU S^-1 V' + U S^-1 dV' (I - V V').
// Where a value is 0 its vector on the long side is one of several: dU and dV must then leave it alone, and ds as well,
// of which they know the share of that one only (see Ambiguity).
template <class eT>
Var<eT> svd_gradient(const char* by, Rule<eT>& r, Var<eT> u, Var<eT> s, Var<eT> v, std::optional<Var<eT>> du,
                     std::optional<Var<eT>> ds, std::optional<Var<eT>> dv) {
  if (!du && !dv) return matmul(multiply(u, ds->t()), v.t());
  const Shape square{s.shape().rows, s.shape().rows};
  const Var<eT> m = du ? matmul(u.t(), *du) : r.constant(square, 0),
                n = dv ? matmul(v.t(), *dv) : r.constant(square, 0);
  if (ds && u.n_rows() != v.n_rows()) ds = *ds + apply<RequireNothingAtZero>({by}, ds->t(), s);
  const AmbiguityOptions o{by, ds.has_value(), true, true};
  const auto between = [&] {
    const Var<eT> all = ds ? *ds : s;
    if (m.graph().may_fuse()) return apply<BetweenVectors>(o, m, s, all, n);
    const Var<eT> inner =
        skew(m + n) % apply<Gaps>(s) + skew(m - n) % apply<Sums>(s) + apply<RequireUnambiguous>(o, m, s, all, n);
    return ds ? inner + diagmat(*ds) : inner;
  };
  const Var<eT> inverse_s = apply<Reciprocals>(s).t();            // 1 x k
  const auto outside = [&](Var<eT> q, Var<eT> dq, Var<eT> qdq) {  // (I - Q Q') dQ S^-1
    const Var<eT> x = dq - matmul(q, qdq);
    return multiply(x, inverse_s) + apply<RequireNothingAtZero>({by}, x, s);
  };
  Var<eT> left = matmul(u, between());
  if (du && u.n_rows() > u.n_cols()) left = left + outside(u, *du, m);
  Var<eT> da = matmul(left, v.t());
  if (dv && v.n_rows() > v.n_cols()) da = da + matmul(u, outside(v, *dv, n).t());
  return da;
}

// What moves U, s and V, economical, when dA moves A = U diag(s) V'. With P = U' dA V: ds = diag(P),
// dU = U [(P + P') % E + (P - P') % F] / 2 + (I - U U') dA V S^-1 and dV = V [(P + P') % E - (P - P') % F] / 2 + the
// same with A'.
template <class eT>
struct SvdTangents {
  std::optional<Var<eT>> u;
  Var<eT> s;
  std::optional<Var<eT>> v;
};
template <class eT>
SvdTangents<eT> svd_tangents(const char* by, bool vectors, Var<eT> u, Var<eT> s, Var<eT> v, Var<eT> da) {
  const Var<eT> av = matmul(da, v), p = matmul(u.t(), av);  // m x k, k x k
  const Var<eT> ds = diagvec(p);
  if (!vectors) return {std::nullopt, ds, std::nullopt};
  const Var<eT> even = 0.5 * ((p + p.t()) % apply<Gaps>(s)) + apply<RequireMoving>({by, false, true, true}, p, s),
                odd = 0.5 * ((p - p.t()) % apply<Sums>(s)), inverse_s = apply<Reciprocals>(s).t();  // k x k, 1 x k
  const auto outside = [&](Var<eT> q, Var<eT> x) {                                                  // (I - Q Q') X S^-1
    const Var<eT> y = x - matmul(q, matmul(q.t(), x));
    return multiply(y, inverse_s) + apply<RequireNothingAtZero>({by}, y, s);
  };
  Var<eT> du = matmul(u, even + odd), dv = matmul(v, even - odd);
  if (u.n_rows() > u.n_cols()) du = du + outside(u, av);
  if (v.n_rows() > v.n_cols()) dv = dv + outside(v, matmul(da.t(), u));
  return {du, ds, dv};
}

template <class eT>
std::optional<Var<eT>> grad_if_any(Rule<eT>& r, std::size_t k) {
  if (!r.has_grad(k)) return std::nullopt;
  return r.grad(k);
}

}  // namespace

struct SvdEcon {
  static constexpr auto name = "svd_econ";
  static constexpr const char* operands[] = {"A", nullptr};
  static constexpr std::uint8_t results = 3;
  using Attributes = AskedBy;
  static Shape shape(Operands& in) {
    const std::uint32_t k = std::min(in[0].rows, in[0].cols);
    in.result(1, {k, 1});
    in.result(2, {in[0].cols, k});
    return {in[0].rows, k};
  }
  template <class eT>
  static void eval(Eval<eT>& e) {
    run_kernel<"svd", svd_host<eT>>(e, 0, 1, 3);
  }
  template <class eT>
  static void vjp(Rule<eT>& r) {
    r.accumulate(0, svd_gradient(name, r, r.result(0), r.result(1), r.result(2), grad_if_any(r, 0), grad_if_any(r, 1),
                                 grad_if_any(r, 2)));
  }
  template <class eT>
  static void jvp(ForwardRule<eT>& r) {
    if (r.result(1).n_elem() == 0) return;
    const auto [du, ds, dv] =
        svd_tangents(name, r.needs(0) || r.needs(2), r.result(0), r.result(1), r.result(2), r.tangent(0));
    r.add(ds, 1);
    if (du) r.add(*du, 0);
    if (dv) r.add(*dv, 2);
  }
  static void samples(Samples& s) {
    // Signs of vectors are LAPACK's; what does not depend on them is compared.
    const auto f = [](const auto& in) {
      const auto [U, S, V] = svd_econ(in[0]);
      return U * diagmat(exp(S) % S) * V.t();
    };
    const auto plain = [](const std::vector<arma::mat>& in) -> arma::mat {
      arma::mat U, V;
      arma::vec S;
      arma::svd_econ(U, S, V, in[0]);
      return U * arma::diagmat(arma::exp(S) % S) * V.t();
    };
    const auto left = [](const auto& in) { return square(svd_econ(in[0]).U); };
    const auto right = [](const auto& in) { return square(svd_econ(in[0]).V); };
    for (const auto& [rows, cols] : {std::pair{3, 3}, {4, 2}, {2, 4}, {1, 1}, {3, 1}, {1, 3}}) {
      const arma::mat a = well_conditioned(s, rows, cols) % arma::repmat(arma::linspace(0.5, 1, rows), 1, cols);
      s.add({a}, f, plain);
      s.add({a}, left, [](const std::vector<arma::mat>& in) -> arma::mat {
        arma::mat U, V;
        arma::vec S;
        arma::svd_econ(U, S, V, in[0]);
        return square(U);
      });
      s.add({a}, right, [](const std::vector<arma::mat>& in) -> arma::mat {
        arma::mat U, V;
        arma::vec S;
        arma::svd_econ(U, S, V, in[0]);
        return square(V);
      });
    }
    s.add(
        {well_conditioned(s, 3, 2)}, [](const auto& in) { return svd_econ(trans(in[0])).s; },
        [](const std::vector<arma::mat>& in) -> arma::mat { return arma::svd(in[0]); });
    s.add(
        {arma::mat(2, 0)}, [](const auto& in) { return svd_econ(in[0]).U; },
        [](const std::vector<arma::mat>&) { return arma::mat(2, 0); });
    s.fails(
        {arma::mat(3, 3, arma::fill::eye)},
        [](const auto& in) {
          const auto [U, S, V] = svd_econ(in[0]);
          const auto y = accu(U * diagmat(S) * V.t());
          y.backward();
          return y;
        },
        "svd_econ: the singular values 0 and 1 (counted from 0) are both 1, so their vectors are not unique, and the "
        "incoming gradient depends on which were chosen; use functions of A itself (pinv, solve, norm), "
        "trace(spectral(A.t() * A, f, df)) for a sum over the squares of the singular values, or, for first "
        "derivatives, functions of the singular values alone");
    s.fails(
        {arma::mat{{1, 0}, {0, 0}, {0, 0}}},
        [](const auto& in) {
          const auto y = svd_econ(in[0]).U(2, 1);
          y.backward();
          return y;
        },
        "svd_econ: the singular value 1 (counted from 0) is 0, so its vectors are not unique");
    const auto product = [](const auto& in) {
      const auto [U, S, V] = svd_econ(in[0]);
      const auto y = accu(U * diagmat(S) * V.t());
      y.backward();
      return y;
    };
    for (const arma::mat& a : {arma::mat{{1, 0}, {0, 0}, {0, 0}}, arma::mat{{1, 0, 0}, {0, 0, 0}}})
      s.fails({a}, product, "svd_econ: the singular value 1 (counted from 0) is 0");
    s.fails(
        {arma::mat(2, 2, arma::fill::eye)},
        [](const auto& in) {
          const auto [U, S, V] = svd_econ(in[0]);
          const auto y = accu(U * diagmat(log(S)) * V.t());
          y.backward();
          return y;
        },
        "svd_econ: the singular values 0 and 1 (counted from 0) are both 1");
    s.fails({arma::mat(2, 2, arma::fill::value(arma::datum::nan))}, left, "svd_econ: A (2x2) holds NaN or infinity");
  }
};

// U and V square. What is right of U1 and V1, the economical ones, is some basis: with U2' dU2 symmetric, dU2 adds
// -U2 dU2' U1 to dU1 (see Qr), and V2 likewise.
struct SvdFull {
  static constexpr auto name = "svd";
  static constexpr const char* operands[] = {"A", nullptr};
  static constexpr std::uint8_t results = 3;
  using Attributes = AskedBy;
  static Shape shape(Operands& in) {
    in.result(1, {std::min(in[0].rows, in[0].cols), 1});
    in.result(2, {in[0].cols, in[0].cols});
    return {in[0].rows, in[0].rows};
  }
  template <class eT>
  static void eval(Eval<eT>& e) {
    run_kernel<"svd", svd_host<eT>>(e, 0, 1, 3);
  }
  template <class eT>
  static void vjp(Rule<eT>& r) {
    const Var<eT> s = r.result(1);
    const arma::uword k = s.n_elem();
    if (k == 0) return;
    Var<eT> factors[2] = {r.result(0), r.result(2)};
    std::optional<Var<eT>> grads[2] = {grad_if_any(r, 0), grad_if_any(r, 2)};
    std::optional<Var<eT>> checks;
    for (int i : {0, 1}) {
      const Var<eT> q = factors[i];
      const arma::uword all = q.n_cols();
      if (all == k) continue;
      const Var<eT> q1 = q.cols(0, k - 1), q2 = q.cols(k, all - 1);
      if (grads[i]) {
        const Var<eT> dq2 = grads[i]->cols(k, all - 1), m = matmul(q2.t(), dq2);
        grads[i] = grads[i]->cols(0, k - 1) - matmul(q2, matmul(dq2.t(), q1));
        const Var<eT> check = require_any_basis(m, name);
        checks = checks ? *checks + check : check;
      }
      factors[i] = q1;
    }
    Var<eT> da = svd_gradient(name, r, factors[0], s, factors[1], grads[0], grad_if_any(r, 1), grads[1]);
    r.accumulate(0, checks ? da + *checks : da);
  }
  template <class eT>
  static void jvp(ForwardRule<eT>& r) {
    const Var<eT> u = r.result(0), s = r.result(1), v = r.result(2);
    const arma::uword k = s.n_elem();
    if (k == 0) return;
    const auto first = [k](Var<eT> q) { return q.n_cols() == k ? q : q.cols(0, k - 1); };
    const auto t = svd_tangents(name, r.needs(0) || r.needs(2), first(u), s, first(v), r.tangent(0));
    r.add(t.s, 1);
    const auto completed = [&](Var<eT> q, Var<eT> dq) {  // the other columns follow: dQ2 = -Q1 dQ1' Q2
      if (q.n_cols() == k) return dq;
      return join_rows(dq, -matmul(first(q), matmul(dq.t(), q.cols(k, q.n_cols() - 1))));
    };
    if (t.u) r.add(completed(u, *t.u), 0);
    if (t.v) r.add(completed(v, *t.v), 2);
  }
  static void samples(Samples& s) {
    const auto f = [](const auto& in) {
      const auto [U, S, V] = svd(in[0], with_vectors);
      const arma::uword k = S.n_elem();
      const auto y = U.cols(0, k - 1) * diagmat(exp(S) % S) * V.cols(0, k - 1).t();
      if (U.n_cols() > k) {
        const auto rest = U.cols(k, U.n_cols() - 1);
        return join_rows(y, rest * rest.t());
      }
      if (V.n_cols() == k) return y;
      const auto rest = V.cols(k, V.n_cols() - 1);
      return join_cols(y, rest * rest.t());
    };
    const auto plain = [](const std::vector<arma::mat>& in) -> arma::mat {
      arma::mat U, V;
      arma::vec S;
      arma::svd(U, S, V, in[0]);
      const arma::uword k = S.n_elem;
      arma::mat y = U.cols(0, k - 1) * arma::diagmat(arma::exp(S) % S) * V.cols(0, k - 1).t();
      if (U.n_cols > k) return arma::join_rows(y, arma::mat(U.tail_cols(U.n_cols - k) * U.tail_cols(U.n_cols - k).t()));
      if (V.n_cols == k) return y;
      return arma::join_cols(y, arma::mat(V.tail_cols(V.n_cols - k) * V.tail_cols(V.n_cols - k).t()));
    };
    const auto values = [](const auto& in) { return svd(in[0]); };
    const auto plain_values = [](const std::vector<arma::mat>& in) -> arma::mat { return arma::svd(in[0]); };
    for (const auto& [rows, cols] : {std::pair{3, 3}, {4, 2}, {2, 4}, {1, 1}, {3, 1}}) {
      const arma::mat a = well_conditioned(s, rows, cols) % arma::repmat(arma::linspace(0.5, 1, rows), 1, cols);
      s.add({a}, f, plain);
      s.add({a}, values, plain_values);
    }
    s.add({arma::mat(0, 2)}, values, [](const std::vector<arma::mat>&) { return arma::mat(0, 1); });
    // The nuclear norm at repeated values.
    const arma::mat q = arma::orth(s.uniform(3, 3)), p = arma::orth(s.uniform(3, 3));
    s.add(
        {arma::mat(q * arma::diagmat(arma::vec{2, 2, 1}) * p.t())},
        [values](const auto& in) { return sum(values(in), 0); },
        [](const std::vector<arma::mat>&) { return arma::mat{5.0}; });
    s.fails(
        {well_conditioned(s, 4, 2)},
        [](const auto& in) {
          const auto y = svd(in[0], with_vectors).U(0, 2);
          y.backward();
          return y;
        },
        "svd: the gradient depends on how the last 2 columns of a square factor are chosen, which A does not "
        "determine; "
        "use svd_econ, or only what any choice agrees on, like Q2 Q2'");
    s.fails(
        {arma::mat{{1, 0}, {0, 0}, {0, 0}}},
        [](const auto& in) {
          const auto [U, S, V] = svd(in[0], with_vectors);
          const auto y = accu(U.cols(0, 1) * diagmat(S) * V.t());
          y.backward();
          return y;
        },
        "svd: the singular value 1 (counted from 0) is 0");
    s.fails(
        {arma::mat{{1, 0}, {0, 2}, {0, 0}, {0, 0}}},
        [](const auto& in) {
          const auto y = svd(in[0], with_vectors).U(2, 2);
          y.backward();
          return y;
        },
        "svd: the gradient depends on how the last 2 columns of a square factor are chosen");
    s.fails({arma::mat(2, 2, arma::fill::value(arma::datum::nan))}, values, "svd: A (2x2) holds NaN or infinity");
  }
};
struct SvdValues {
  static constexpr auto name = "svd";
  static constexpr const char* operands[] = {"A", nullptr};
  using Attributes = AskedBy;
  static Shape shape(Operands& in) { return {std::min(in[0].rows, in[0].cols), 1}; }
  template <class eT>
  static void eval(Eval<eT>& e) {
    run_kernel<"singular_values", singular_values_host<eT>>(e, 0, 1);
  }
};

struct PinvGradient {
  static constexpr auto name = "pinv";
  static constexpr const char* operands[] = {"A", "P", "dP", "s", nullptr};
  using Attributes = ToleranceOptions;
  static Shape shape(Operands& in) { return in[0]; }
  template <class eT>
  static void eval(Eval<eT>& e) {
    run_kernel<"pinv_gradient", pinv_gradient<eT>>(e, 0, 4);
  }
};
// The Moore-Penrose inverse P. With M = I - A P and N = I - P A, at constant rank
// dA = -P' G P' + M G' P P' + P' P G' N.
struct Pinv {
  static constexpr auto name = "pinv";
  static constexpr const char* operands[] = {"A", "U", "s", "V", nullptr};
  static constexpr std::uint8_t helpers = 0b1110;
  using Attributes = ToleranceOptions;
  static Shape shape(Operands& in) { return {in[0].cols, in[0].rows}; }
  template <class eT>
  static void eval(Eval<eT>& e) {
    run_kernel<"pinv", pinv_host<eT>>(e, 1, 4);
  }
  template <class eT>
  static void vjp(Rule<eT>& r) {
    const Var<eT> a = r.operand(0), p = r.result(), g = r.grad(), pt = p.t(), gt = g.t();
    if (p.graph().may_fuse())
      return r.accumulate(0, apply<PinvGradient>(r.template attributes<Attributes>(), a, p, g, r.operand(2)));
    const Var<eT> gp = matmul(gt, p);      // (m x n)(n x m)
    r.accumulate(0, -matmul(gp.t(), pt));  // -P' G P'
    const Var<eT> gpp = matmul(gp, pt);    // (m x m)(m x n)
    r.accumulate(0, gpp);
    r.accumulate(0, -matmul(a, matmul(p, gpp)));
    const Var<eT> ppg = matmul(pt, matmul(p, gt));  // (m x n)(n x m)(m x n)
    r.accumulate(0, ppg);
    r.accumulate(0, -matmul(matmul(ppg, p), a));
  }
  template <class eT>
  static void jvp(ForwardRule<eT>& r) {  // dP = -P dA P + P P' dA' M + N dA' P' P
    const Var<eT> a = r.operand(0), p = r.result(), pt = p.t(), da = r.tangent(0), dat = da.t();
    const Var<eT> left = matmul(p, matmul(pt, dat)), right = matmul(matmul(dat, pt), p);  // n x m both
    r.add(left - matmul(matmul(left, a), p) + right - matmul(p, matmul(a, right)) - matmul(matmul(p, da), p));
  }
  static void samples(Samples& s) {
    const auto f = [](const auto& in) { return pinv(in[0]); };
    const auto plain = [](const std::vector<arma::mat>& in) -> arma::mat { return arma::pinv(in[0]); };
    s.add({well_conditioned(s, 3, 3)}, f, plain);
    s.add({well_conditioned(s, 4, 2)}, f, plain);
    s.add({well_conditioned(s, 2, 4)}, f, plain);
    s.add({well_conditioned(s, 1, 1)}, f, plain);
    s.add({arma::mat(0, 2)}, f, [](const std::vector<arma::mat>&) { return arma::mat(2, 0); });
    // Rank 2 wherever the two factors are moved to.
    s.add(
        {well_conditioned(s, 4, 2), well_conditioned(s, 2, 3)},
        [](const auto& in) { return pinv(in[0] * in[1], 1e-3); },
        [](const std::vector<arma::mat>& in) -> arma::mat { return arma::pinv(in[0] * in[1], 1e-3); });
    s.fails({arma::mat(2, 2, arma::fill::value(arma::datum::nan))}, f, "pinv: A (2x2) holds NaN or infinity");
    s.fails(
        {arma::mat(2, 2)}, [](const auto& in) { return pinv(in[0], -1); },
        "pinv: the tolerance is -1; it must not be negative");
  }
};

// How many singular values are above the tolerance; piecewise constant, so no gradient flows.
struct Rank {
  static constexpr auto name = "rank";
  static constexpr const char* operands[] = {"s", nullptr};
  using Attributes = ToleranceOptions;
  static Shape shape(Operands&) { return {1, 1}; }
  template <class eT>
  static void eval(Eval<eT>& e) {
    run_kernel<"rank", rank_host<eT>>(e, 0, 1);
  }
  static void samples(Samples& s) {
    const auto f = [](const auto& in) { return rank(in[0]); };
    const auto plain = [](const std::vector<arma::mat>& in) {
      return arma::mat{static_cast<double>(arma::rank(in[0]))};
    };
    s.add({well_conditioned(s, 4, 3)}, f, plain);
    s.add({arma::mat{{1, 2}, {2, 4}}}, f, plain);
    s.add({arma::mat(2, 2)}, f, plain);
    s.add({arma::mat(0, 2)}, f, plain);
    s.add(
        {arma::diagmat(arma::vec{1, 0.1})}, [](const auto& in) { return rank(in[0], 0.5); },
        [](const std::vector<arma::mat>& in) { return arma::mat{static_cast<double>(arma::rank(in[0], 0.5))}; });
    s.fails(
        {arma::mat(2, 2, arma::fill::eye)},
        [](const auto& in) {
          const auto y = rank(in[0]);
          y.backward();
          return y;
        },
        "backward: rank has no gradient");
  }
};

struct Cond {
  static constexpr auto name = "cond";
  static constexpr const char* operands[] = {"s", nullptr};
  static Shape shape(Operands&) { return {1, 1}; }
  template <class eT>
  static void eval(Eval<eT>& e) {
    run_kernel<"cond", cond_host<eT>>(e, 0, 1);
  }
  template <class eT>
  static void vjp(Rule<eT>& r) {
    const Var<eT> s = r.operand(0);
    const arma::uword k = s.n_elem();
    if (k == 0) return;
    const Var<eT> y = apply<FiniteCondition>(r.result());
    if (k == 1) return r.accumulate(0, 0 * y);  // of one singular value it is 1
    const Var<eT> least = s.rows(k - 1, k - 1), g = divide(r.grad(), least);
    r.accumulate(0, embed(g, k, 1, 0, 0));
    r.accumulate(0, -embed(multiply(g, y), k, 1, k - 1, 0));
  }
  template <class eT>
  static void jvp(ForwardRule<eT>& r) {
    const Var<eT> s = r.operand(0), ds = r.tangent(0);
    const arma::uword k = s.n_elem();
    if (k == 0) return;
    const Var<eT> y = apply<FiniteCondition>(r.result());
    if (k == 1) return r.add(0 * y);
    r.add(divide(ds.rows(0, 0) - multiply(y, ds.rows(k - 1, k - 1)), s.rows(k - 1, k - 1)));
  }
  struct FiniteCondition {
    static constexpr auto name = "cond";
    static Shape shape(Operands& in) { return in[0]; }
    template <class eT>
    static void eval(Eval<eT>& e) {
      run_kernel<"finite_condition", require_finite_condition<eT>>(e, 0, 1);
    }
    template <class eT>
    static void vjp(Rule<eT>& r) {
      r.accumulate(0, r.grad());
    }
    template <class eT>
    static void jvp(ForwardRule<eT>& r) {
      r.add(r.tangent(0));
    }
  };
  static void samples(Samples& s) {
    const auto f = [](const auto& in) { return cond(in[0]); };
    const auto plain = [](const std::vector<arma::mat>& in) { return arma::mat{arma::cond(in[0])}; };
    for (const auto& [rows, cols] : {std::pair{3, 3}, {4, 2}, {2, 4}, {1, 1}, {3, 1}})
      s.add({well_conditioned(s, rows, cols) % arma::repmat(arma::linspace(0.5, 1, rows), 1, cols)}, f, plain);
    s.fails(
        {arma::mat{{1, 0}, {0, 0}}},
        [](const auto& in) {
          const auto y = cond(in[0]);
          y.backward();
          return y;
        },
        "cond: A is singular to working precision (condition number inf), where it has no gradient");
    s.fails(
        {arma::mat{{0.1, 0.3}, {0.3, 0.9}}},
        [](const auto& in) {
          const auto y = cond(in[0]);
          y.backward();
          return y;
        },
        "cond: A is singular to working precision (condition number ");
    s.fails(
        {arma::mat(1, 1)},
        [](const auto& in) {
          const auto y = cond(in[0]);
          y.backward();
          return y;
        },
        "cond: A is singular to working precision (condition number inf)");
  }
};

namespace {

template <class eT>
SvdResult<eT> economical_svd(Var<eT> a, const char* by) {
  const SeenThrough<eT> s = see_through_transposes(a);
  const Var<eT> u = kept_or_recorded<SvdEcon>(s.var(a.graph()), by);
  if (s.transposed) return {result_of(u, 2), result_of(u, 1), u};
  return {u, result_of(u, 1), result_of(u, 2)};
}
// With their vectors if a gradient will need these.
template <class eT>
Var<eT> singular_values_of(Var<eT> a, const char* by) {
  if (wants_gradient(a)) return economical_svd(a, by).s;
  return kept_or_recorded<SvdValues>(see_through_transposes(a).var(a.graph()), by);
}

void require_tolerance(const char* operation, double tolerance) {
  if (!(tolerance >= 0))
    throw OptionError(fmt::format("{}: the tolerance is {}; it must not be negative", operation, tolerance));
}

}  // namespace

template <class eT>
EigResult<eT> symmetric_eigen(Var<eT> a, const char* by) {
  require_square(by, a);
  const Var<eT> w = kept_or_recorded<EigSym>(see_through_transposes(a).var(a.graph()), by);
  return {w, result_of(w, 1)};
}

template <class eT>
Var<eT> pseudo_inverse(Var<eT> a, double tolerance, const char* by) {
  const auto [u, s, v] = economical_svd(a, by);
  return apply<Pinv>({tolerance, std::max(a.shape().rows, a.shape().cols)}, a, u, s, v);
}

template <class eT>
void reflect_rest(View<eT> q, std::size_t first) {
  if (q.cols <= first || q.rows < first + 2) return;  // nothing is free but signs
  const std::size_t m = q.rows;
  const auto with = [m](const eT* x, const eT* y) {
    eT sum = 0;
    for (std::size_t i = 0; i < m; ++i) sum += x[i] * y[i];
    return sum;
  };
  const auto subtract = [m](eT factor, const eT* x, eT* from) {
    for (std::size_t i = 0; i < m; ++i) from[i] -= factor * x[i];
  };
  Scratch scratch;
  eT* p = scratch.take<eT>(m);
  for (std::size_t i = 0; i < m; ++i) p[i] = generic_element<eT>(i);
  for (int twice = 0; twice < 2; ++twice)
    for (std::size_t j = 0; j < first; ++j) subtract(with(q.data + j * q.ld, p), q.data + j * q.ld, p);
  const eT norm = with(p, p);
  for (std::size_t j = first; j < q.cols; ++j) subtract(2 * with(q.data + j * q.ld, p) / norm, p, q.data + j * q.ld);
}

template <class eT>
Var<eT> spectral_norm(Var<eT> a) {
  return singular_values_of(a, "norm").rows(0, 0);
}

}  // namespace detail

template <class eT>
Var<eT> eig_sym(Var<eT> a) {
  if (detail::wants_gradient(a)) return detail::symmetric_eigen(a, "eig_sym").values;
  detail::require_square("eig_sym", a);
  return detail::kept_or_recorded<detail::EigSymValues>(detail::see_through_transposes(a).var(a.graph()), "eig_sym");
}
template <class eT>
EigResult<eT> eig_sym(Var<eT> a, WithVectors) {
  return detail::symmetric_eigen(a, "eig_sym");
}
template <class eT>
EigResult<eT> eig_gen(Var<eT> a, WithVectors) {
  const Var<eT> w = apply<detail::EigGen>(a);
  return {w, detail::result_of(w, 1)};
}
template <class eT>
Var<eT> eig_gen(Var<eT> a) {
  return apply<detail::EigGen>(a);
}
template <class eT>
Var<eT> svd(Var<eT> a) {
  return detail::singular_values_of(a, "svd");
}
template <class eT>
SvdResult<eT> svd(Var<eT> a, WithVectors) {
  const Var<eT> u = apply<detail::SvdFull>({"svd"}, a);
  return {u, detail::result_of(u, 1), detail::result_of(u, 2)};
}
template <class eT>
SvdResult<eT> svd_econ(Var<eT> a) {
  return detail::economical_svd(a, "svd_econ");
}
template <class eT>
Var<eT> pinv(Var<eT> a, double tolerance) {
  detail::require_tolerance("pinv", tolerance);
  return detail::pseudo_inverse(a, tolerance, "pinv");
}
template <class eT>
Var<eT> rank(Var<eT> a, double tolerance) {
  detail::require_tolerance("rank", tolerance);
  return apply<detail::Rank>({tolerance, std::max(a.shape().rows, a.shape().cols)},
                             detail::singular_values_of(a, "rank"));
}
template <class eT>
Var<eT> cond(Var<eT> a) {
  return apply<detail::Cond>(detail::singular_values_of(a, "cond"));
}

#define ARMAGRAD_INSTANTIATE(eT)                                         \
  template Var<eT> eig_sym(Var<eT>);                                     \
  template EigResult<eT> eig_sym(Var<eT>, WithVectors);                  \
  template Var<eT> eig_gen(Var<eT>);                                     \
  template EigResult<eT> eig_gen(Var<eT>, WithVectors);                  \
  template Var<eT> svd(Var<eT>);                                         \
  template SvdResult<eT> svd(Var<eT>, WithVectors);                      \
  template SvdResult<eT> svd_econ(Var<eT>);                              \
  template Var<eT> pinv(Var<eT>, double);                                \
  template Var<eT> rank(Var<eT>, double);                                \
  template Var<eT> cond(Var<eT>);                                        \
  template EigResult<eT> detail::symmetric_eigen(Var<eT>, const char*);  \
  template Var<eT> detail::pseudo_inverse(Var<eT>, double, const char*); \
  template void detail::reflect_rest(View<eT>, std::size_t);             \
  template Var<eT> detail::spectral_norm(Var<eT>);
ARMAGRAD_INSTANTIATE(float)
ARMAGRAD_INSTANTIATE(double)
#undef ARMAGRAD_INSTANTIATE

}  // namespace armagrad

ARMAGRAD_LIST_OPERATIONS(spectral, EigSym, EigGen, SvdEcon, SvdFull, Pinv, Rank, Cond)
