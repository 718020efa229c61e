// Systems of equations, inverses and determinants. One factorisation of a matrix serves all that is asked of it in a
// recording, forward and backward: operations here take it as a further operand, from which no gradient flows.
#include <cmath>
#include <limits>

#include <armagrad/autodiff/ops/lapack.hpp>

namespace armagrad {
namespace detail {
namespace {

// The memory of an LU factorisation of an n x n matrix: the factors, then rcond and what else is to be known.
template <class eT>
struct Lu {
  static_assert(sizeof(blas_int) <= sizeof(eT));
  static std::size_t size(std::size_t n) { return n * n + n + 4; }
  Lu(eT* memory, std::size_t n)
      : factors(memory), extra(memory + n * n), pivots(reinterpret_cast<blas_int*>(extra + 4)) {}
  // For LAPACK routines that do not write what they take as non-const.
  Lu(View<const eT> v, std::size_t n) : Lu(const_cast<eT*>(v.data), n) {}

  eT* factors;  // L and U in one n x n matrix; of a band matrix those of gbtrf, 2 kl + ku + 1 rows
  eT* extra;
  blas_int* pivots;
  // The reciprocal condition number in the 1-norm; 0: exactly singular; -1: not yet asked for (`known_rcond`).
  eT& rcond() { return extra[0]; }
  eT& below() { return extra[1]; }  // the diagonals of a band matrix below the main one, and above; -1: dense
  eT& above() { return extra[2]; }
  eT& norm() { return extra[3]; }  // of A, the 1-norm
  bool banded() const { return extra[1] >= 0; }
  blas_int kl() const { return static_cast<blas_int>(extra[1]); }
  blas_int ku() const { return static_cast<blas_int>(extra[2]); }
  blas_int band_rows() const { return 2 * kl() + ku() + 1; }
  /// U's diagonal.
  eT diagonal(std::size_t i, std::size_t n) const {
    if (!banded()) return factors[i * n + i];
    return factors[i * static_cast<std::size_t>(band_rows()) + static_cast<std::size_t>(kl() + ku())];
  }
  bool odd(std::size_t n) const {  // whether the permutation is
    bool odd = false;
    for (std::size_t i = 0; i < n; ++i) odd ^= pivots[i] != static_cast<blas_int>(i + 1);
    return odd;
  }
};

// Counts the diagonals that are not zero; false as soon as a band factorisation would not pay.
template <class eT>
bool is_band(View<const eT> a, std::size_t& kl, std::size_t& ku) {
  const std::size_t n = a.rows;
  kl = ku = 0;
  if (n < 32 || a.data[n - 1] != eT(0) || a.data[(n - 1) * a.ld] != eT(0)) return false;
  for (std::size_t j = 0; j < n; ++j) {
    const eT* x = a.data + j * a.ld;
    std::size_t first = 0, last = n - 1;
    while (first < j && x[first] == eT(0)) ++first;
    while (last > j && x[last] == eT(0)) --last;
    ku = std::max(ku, j - first);
    kl = std::max(kl, last - j);
    if (4 * (2 * kl + ku + 1) > n) return false;
  }
  return true;
}

template <class eT>
void lu_factors(const Command<eT>& c) {
  const View<const eT> a = c.in[0];
  blas_int n = static_cast<blas_int>(a.rows), info = 0;
  Lu<eT> lu(c.out.data, a.rows);
  const char* by = attributes_of<AskedBy>(c).by;
  lu.rcond() = n == 0 ? 1 : -1;
  lu.below() = lu.above() = -1;
  std::size_t kl = 0, ku = 0;
  if (!is_band(a, kl, ku)) {
    eT norm = 0;
    for (std::size_t j = 0; j < a.cols; ++j) {  // each column is read once from far
      const View<const eT> column{a.data + j * a.ld, a.rows, 1, a.rows};
      copy_contiguous(column, lu.factors + j * a.rows);
      const eT sum = norm1(column);
      norm = sum <= norm ? norm : std::isfinite(sum) ? sum : norm1_of_finite(by, a);
    }
    lu.norm() = norm;
    if (!factorise_lu(a.rows, a.cols, lu.factors, a.rows, lu.pivots)) lu.rcond() = 0;
    return;
  }
  lu.norm() = norm1_of_finite(by, a);
  lu.below() = static_cast<eT>(kl);
  lu.above() = static_cast<eT>(ku);
  blas_int below = lu.kl(), above = lu.ku(), rows = lu.band_rows();
  for (std::size_t j = 0; j < a.cols; ++j) {
    eT* column = lu.factors + j * static_cast<std::size_t>(rows);
    std::fill_n(column, rows, eT(0));
    for (std::size_t i = j > ku ? j - ku : 0; i < std::min<std::size_t>(j + kl + 1, a.rows); ++i)
      column[kl + ku + i - j] = a.data[i + j * a.ld];
  }
  arma::lapack::gbtrf(&n, &n, &below, &above, lu.factors, &rows, lu.pivots, &info);
  if (info != 0) lu.rcond() = 0;
}

// The estimate of LAPACK's gecon, made when a solve asks first. A log_det never does, an inverse knows without it.
template <class eT>
eT known_rcond(Lu<eT>& lu, std::size_t order) {
  if (lu.rcond() >= 0) return lu.rcond();
  Scratch scratch;
  char one = '1';
  blas_int n = static_cast<blas_int>(order), info = 0;
  auto* integers = scratch.take<blas_int>(order);
  if (lu.banded()) {
    blas_int below = lu.kl(), above = lu.ku(), rows = lu.band_rows();
    arma::lapack::gbcon(&one, &n, &below, &above, lu.factors, &rows, lu.pivots, &lu.norm(), &lu.rcond(),
                        scratch.take<eT>(3 * order), integers, &info);
  } else {
    arma::lapack::gecon(&one, &n, lu.factors, &n, &lu.norm(), &lu.rcond(), scratch.take<eT>(4 * order), integers,
                        &info);
  }
  if (!(lu.rcond() >= 0)) lu.rcond() = 0;  // NaN, from overflow
  return lu.rcond();
}

template <class eT>
void require_regular(const char* by, std::uint32_t n, eT rcond, bool checked) {
  if (n > 0 && !(rcond > (checked ? std::numeric_limits<eT>::epsilon() : eT(0))))
    fail_singular(by, n, static_cast<double>(rcond));
}

// in: B, LU
template <class eT>
void lu_solve(const Command<eT>& c) {
  const auto& o = attributes_of<SolveOptions>(c);
  const View<const eT> b = c.in[0];
  Lu<eT> lu(c.in[1], b.rows);
  if (o.checked)
    require_regular(o.by, b.rows, known_rcond(lu, b.rows), true);
  else if (lu.rcond() == eT(0))
    fail_singular(o.by, b.rows, 0);
  if (b.size() == 0) return;
  if (!lu.banded()) return solve_factorised(o.transposed, b.rows, b.cols, lu.factors, lu.pivots, b.data, c.out.data);
  copy_contiguous(b, c.out.data);
  char trans = o.transposed ? 'T' : 'N';
  blas_int n = static_cast<blas_int>(b.rows), m = static_cast<blas_int>(b.cols), info = 0;
  blas_int below = lu.kl(), above = lu.ku(), rows = lu.band_rows();
  arma::lapack::gbtrs(&trans, &n, &below, &above, &m, lu.factors, &rows, lu.pivots, c.out.data, &n, &info);
}

template <class eT>
void set_identity(View<eT> y) {
  std::fill_n(y.data, y.size(), eT(0));
  for (std::size_t i = 0; i < y.rows; ++i) y.data[i * (y.rows + 1)] = 1;
}

template <class eT>
void write_inverse(Lu<eT>& lu, View<eT> y) {
  blas_int n = static_cast<blas_int>(y.rows), info = 0;
  if (lu.banded()) {
    set_identity(y);
    char trans = 'N';
    blas_int below = lu.kl(), above = lu.ku(), rows = lu.band_rows();
    arma::lapack::gbtrs(&trans, &n, &below, &above, &n, lu.factors, &rows, lu.pivots, y.data, &n, &info);
    return;
  }
  const std::size_t order = y.rows;
  // L^-1, which is triangular, then U^-1 times it, then the exchanges: getri in products instead of substitutions.
  set_identity(y);
  constexpr std::size_t block = 64;
  for (std::size_t k = 0; k < order; k += block) {
    const std::size_t size = std::min(block, order - k), next = k + size;
    substitute(false, false, true, size, next, lu.factors + k * (order + 1), order, y.data + k, order);
    multiply(false, false, order - next, next, size, lu.factors + next + k * order, order, y.data + k, order,
             y.data + next, order, eT(-1), eT(1));
  }
  substitute(true, false, false, order, order, lu.factors, order, y.data, order);
  for (std::size_t j = order; j-- > 0;)
    if (const auto p = static_cast<std::size_t>(lu.pivots[j]) - 1; p != j)
      std::swap_ranges(y.data + j * order, y.data + (j + 1) * order, y.data + p * order);
}

template <class eT>
void transpose_in_place(View<eT> y) {
  const std::size_t n = y.rows;
  for_pairs(n, [=](std::size_t i, std::size_t j) { std::swap(y.data[i + j * n], y.data[j + i * n]); });
}

// in: LU
template <class eT>
void lu_inverse(const Command<eT>& c) {
  const auto& o = attributes_of<InverseOptions>(c);
  const std::uint32_t n = c.out.rows;
  Lu<eT> lu(c.in[0], n);
  if (n == 0) return;
  if (lu.rcond() == eT(0)) fail_singular(o.by, n, 0);
  write_inverse(lu, c.out);
  const eT rcond = 1 / (lu.norm() * norm1(View<const eT>(c.out)));
  lu.rcond() = rcond > 0 ? rcond : 0;  // 0 also for NaN
  require_regular(o.by, n, lu.rcond(), true);
  if (o.transposed) transpose_in_place(c.out);
}

// in: LU
template <class eT>
void determinant(const Command<eT>& c) {
  const std::uint32_t n = attributes_of<Order>(c).n;
  const Lu<eT> lu(c.in[0], n);
  eT det = lu.odd(n) ? -1 : 1;
  for (std::size_t i = 0; i < n; ++i) det *= lu.diagonal(i, n);
  *c.out.data = det;
}
template <class eT>
void log_determinant(const Command<eT>& c) {
  const std::uint32_t n = attributes_of<Order>(c).n;
  const Lu<eT> lu(c.in[0], n);
  eT sum = 0, sign = lu.odd(n) ? -1 : 1;
  for (std::size_t i = 0; i < n; ++i) {
    const eT d = lu.diagonal(i, n);
    sum += std::log(std::abs(d));
    sign *= static_cast<eT>((d > 0) - (d < 0));
  }
  *c.out.data = sum;
  *c.more_out[0].data = sign;
}

// A = U diag(s) V' with |det U det V| = 1; `sign` is det U det V. U, V: n x n.
template <class eT>
void signed_svd(View<const eT> a, eT* u, eT* s, eT* vt, eT& sign) {
  Scratch scratch;
  const std::size_t order = a.rows;
  blas_int n = static_cast<blas_int>(order), info = 0, query = -1;
  eT* x = scratch.take<eT>(order * order);
  auto* integers = scratch.take<blas_int>(8 * order);
  copy_contiguous(a, x);
  char all = 'A';
  eT best = 0;
  arma::lapack::gesdd(&all, &n, &n, x, &n, s, u, &n, vt, &n, &best, &query, integers, &info);
  auto size = static_cast<blas_int>(best);
  arma::lapack::gesdd(&all, &n, &n, x, &n, s, u, &n, vt, &n, scratch.take<eT>(static_cast<std::size_t>(size)), &size,
                      integers, &info);
  if (info != 0) fail_to_converge("det", a.rows, a.cols);
  sign = 1;
  for (const eT* q : {u, vt}) {
    copy_contiguous(View<const eT>{q, a.rows, a.rows, a.rows}, x);
    factorise_lu(order, order, x, order, integers);
    for (std::size_t i = 0; i < order; ++i)
      if ((x[i * (order + 1)] < 0) != (integers[i] != static_cast<blas_int>(i + 1))) sign = -sign;
  }
}

// The matrix of cofactors, det(A) A^-T where A is regular: in A = U diag(s) V' it is det(U) det(V) U diag(p) V', p(i)
// the product of the other singular values, at every rank.   in: A, LU
template <class eT>
void cofactors(const Command<eT>& c) {
  const std::size_t n = c.out.rows;
  if (n == 0) return;
  Lu<eT> lu(c.in[1], n);
  Scratch scratch;
  if (known_rcond(lu, n) > std::sqrt(std::numeric_limits<eT>::epsilon())) {
    eT det = lu.odd(n) ? -1 : 1;
    for (std::size_t i = 0; i < n; ++i) det *= lu.diagonal(i, n);
    write_inverse(lu, c.out);
    transpose_in_place(c.out);
    for (std::size_t i = 0; i < c.out.size(); ++i) c.out.data[i] *= det;
    return;
  }
  eT *u = scratch.take<eT>(n * n), *vt = scratch.take<eT>(n * n), *s = scratch.take<eT>(n), *p = scratch.take<eT>(n);
  eT sign;
  signed_svd(c.in[0], u, s, vt, sign);
  for (std::size_t i = 0; i < n; ++i) {
    p[i] = sign;
    for (std::size_t k = 0; k < n; ++k)
      if (k != i) p[i] *= s[k];
  }
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t r = 0; r < n; ++r) u[r + i * n] *= p[i];
  multiply(false, false, n, n, n, u, n, vt, n, c.out.data, n);
}

// The derivative of <cofactors(A), W> by A: with M = U' W V and q(i, j) the product of the singular values but i and j,
// it is det(U) det(V) U H V', H(i, i) = sum over j of q(i, j) M(j, j), H(i, j) = -q(i, j) M(j, i).   in: A, W
template <class eT>
void cofactors_derivative(const Command<eT>& c) {
  const std::size_t n = c.out.rows;
  if (n == 0) return;
  Scratch scratch;
  eT *u = scratch.take<eT>(n * n), *vt = scratch.take<eT>(n * n), *s = scratch.take<eT>(n);
  eT *m = scratch.take<eT>(n * n), *h = scratch.take<eT>(n * n), *t = scratch.take<eT>(n * n);
  eT sign;
  signed_svd(c.in[0], u, s, vt, sign);
  multiply(true, false, n, n, n, u, n, c.in[1].data, c.in[1].ld, t, n);
  multiply(false, true, n, n, n, t, n, vt, n, m, n);
  std::fill_n(h, n * n, eT(0));
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t j = 0; j < i; ++j) {
      eT q = sign;
      for (std::size_t k = 0; k < n; ++k)
        if (k != i && k != j) q *= s[k];
      h[i * (n + 1)] += q * m[j * (n + 1)];
      h[j * (n + 1)] += q * m[i * (n + 1)];
      h[i + j * n] = -q * m[j + i * n];
      h[j + i * n] = -q * m[i + j * n];
    }
  multiply(false, false, n, n, n, u, n, h, n, t, n);
  multiply(false, false, n, n, n, t, n, vt, n, c.out.data, n);
}

// in: A, B
template <class eT>
void triangular_solve_host(const Command<eT>& c) {
  const auto& o = attributes_of<TriangularOptions>(c);
  const View<const eT> a = c.in[0], b = c.in[1];
  copy_contiguous(b, c.out.data);
  if (a.size() == 0) return;
  char uplo = o.triangle == Triangle::upper ? 'U' : 'L', unit = 'N', one = '1';
  blas_int n = static_cast<blas_int>(a.rows), lda = static_cast<blas_int>(a.ld), info = 0;
  if (o.checked) {
    Scratch scratch;
    eT rcond = 0;
    for (std::size_t j = 0; j < a.cols; ++j)
      for (std::size_t i = uplo == 'U' ? 0 : j; i < (uplo == 'U' ? j + 1 : a.rows); ++i)
        if (!std::isfinite(a.data[i + j * a.ld])) fail_not_finite(o.by, a.rows, a.cols);
    arma::lapack::trcon(&one, &uplo, &unit, &n, a.data, &lda, &rcond, scratch.take<eT>(3 * a.rows),
                        scratch.take<blas_int>(a.rows), &info);
    if (o.rows > 0 && !(rcond > std::numeric_limits<eT>::epsilon()))
      fail_dependent(o.by, o.rows, o.cols, static_cast<double>(rcond));
    require_regular(o.by, a.rows, rcond, true);
  }
  if (!substitute(uplo == 'U', o.transposed, false, a.rows, b.cols, a.data, a.ld, c.out.data, a.rows))
    fail_singular(o.by, a.rows, 0);
}

// in: B, R
template <class eT>
void cholesky_solve(const Command<eT>& c) {
  const View<const eT> b = c.in[0], r = c.in[1];
  copy_contiguous(b, c.out.data);
  for (const bool transposed : {true, false})
    substitute(true, transposed, false, b.rows, b.cols, r.data, r.ld, c.out.data, b.rows);
}
// R^-1 R^-T, the upper triangle in blocks of columns.   in: R
template <class eT>
void cholesky_inverse(const Command<eT>& c) {
  const std::size_t n = c.out.rows;
  const View<const eT> r = c.in[0];
  constexpr std::size_t block = 64;
  Scratch scratch;
  eT *x = scratch.take<eT>(n * n), *y = c.out.data;
  set_identity(View<eT>{x, c.out.rows, c.out.rows, c.out.rows});
  for (std::size_t j = 0; j < n; j += block)
    substitute(true, false, false, std::min(j + block, n), std::min(block, n - j), r.data, r.ld, x + j * n, n);
  for (std::size_t j = 0; j < n; j += block) {
    const std::size_t size = std::min(block, n - j);
    multiply(false, true, j + size, size, n - j, x + j * n, n, x + j * (n + 1), n, y + j * n, n);
  }
  for_pairs(n, [=](std::size_t i, std::size_t j) { y[i + j * n] = y[j + i * n]; });
}
// in: R
template <class eT>
void cholesky_log_determinant(const Command<eT>& c) {
  eT sum = 0;
  for (std::size_t i = 0; i < c.in[0].rows; ++i) sum += std::log(c.in[0].data[i * (c.in[0].ld + 1)]);
  *c.out.data = 2 * sum;
}

// in: B, Q, R with A = Q R, or with A' = Q R and fewer rows than columns
template <class eT>
void least_squares(const Command<eT>& c) {
  const auto& o = attributes_of<SolveOptions>(c);
  const View<const eT> b = c.in[0], q = c.in[1], r = c.in[2];
  blas_int n = static_cast<blas_int>(r.rows), info = 0;
  char uplo = 'U', unit = 'N', one = '1';
  if (c.out.size() == 0) return;
  if (n == 0) {
    std::fill_n(c.out.data, c.out.size(), eT(0));
    return;
  }
  Scratch scratch;
  if (o.checked) {
    eT rcond = 0;
    arma::lapack::trcon(&one, &uplo, &unit, &n, r.data, &n, &rcond, scratch.take<eT>(3 * r.rows),
                        scratch.take<blas_int>(r.rows), &info);
    if (!(rcond > std::numeric_limits<eT>::epsilon()))
      fail_rank(o.by, o.transposed ? q.cols : q.rows, o.transposed ? q.rows : q.cols);
  }
  if (!o.transposed) {  // R^-1 Q' B
    multiply(true, false, q.cols, b.cols, q.rows, q.data, q.ld, b.data, b.ld, c.out.data, c.out.ld);
    substitute(true, false, false, r.rows, b.cols, r.data, r.ld, c.out.data, c.out.ld);
  } else {  // Q R^-T B
    eT* y = scratch.take<eT>(b.size());
    copy_contiguous(b, y);
    substitute(true, true, false, r.rows, b.cols, r.data, r.ld, y, b.rows);
    multiply(false, false, q.rows, b.cols, q.cols, q.data, q.ld, y, b.rows, c.out.data, c.out.ld);
  }
}

template <class eT>
Var<eT> lu_of(Var<eT> a, const char* by);

}  // namespace

struct LuFactors {
  static constexpr auto name = "lu_factors";
  static constexpr const char* operands[] = {"A", nullptr};
  using Attributes = AskedBy;
  static Shape shape(Operands& in) {
    const std::size_t size = Lu<double>::size(in[0].rows);
    in.require(size <= ~std::uint32_t{0}, "it has more elements than LAPACK can count");
    return {static_cast<std::uint32_t>(size), 1};
  }
  template <class eT>
  static void eval(Eval<eT>& e) {
    run_kernel<"lu_factors", lu_factors<eT>>(e, 0, 1);
  }
};

// Of dX: dB - product(dA, X), for every direction. B is operand `b`.
template <class eT, class F>
Var<eT> right_side(ForwardRule<eT>& r, std::size_t b, F product) {
  if (!r.has_tangent(0)) return r.tangent(b);
  const Var<eT> moved = r.by_direction(0, [&](Var<eT> da) { return product(da, r.result()); });
  return r.has_tangent(b) ? r.tangent(b) - moved : -moved;
}

// X with A X = B, or A' X = B. With A Z' = G: dB = Z, dA = -Z X'.
struct LuSolve {
  static constexpr auto name = "solve";
  static constexpr const char* operands[] = {"A", "B", "factors", nullptr};
  static constexpr std::uint8_t helpers = 0b100;
  using Attributes = SolveOptions;
  static Shape shape(Operands& in) { return in[1]; }
  template <class eT>
  static void eval(Eval<eT>& e) {
    run_kernel<"lu_solve", lu_solve<eT>>(e, 1, 3);
  }
  template <class eT>
  static void vjp(Rule<eT>& r) {
    const auto& o = r.template attributes<Attributes>();
    const Var<eT> x = r.result(),
                  z = apply<LuSolve>({o.by, !o.transposed, o.checked}, r.operand(0), r.grad(), r.operand(2));
    if (r.needs(1)) r.accumulate(1, z);
    if (r.needs(0)) r.accumulate(0, -(o.transposed ? matmul(x, z.t()) : matmul(z, x.t())));  // (n x m)(m x n)
  }
  static constexpr bool many_directions = true;
  template <class eT>
  static void jvp(ForwardRule<eT>& r) {  // A dX = dB - dA X
    const auto& o = r.template attributes<Attributes>();
    const Var<eT> b = right_side(r, 1, [&](Var<eT> da, Var<eT> x) { return matmul(o.transposed ? da.t() : da, x); });
    r.add(apply<LuSolve>(o, r.operand(0), b, r.operand(2)));
  }
};

// The same for a symmetric positive definite A = R' R.
struct CholeskySolve {
  static constexpr auto name = "solve";
  static constexpr const char* operands[] = {"A", "B", "R", nullptr};
  static constexpr std::uint8_t helpers = 0b100;
  static Shape shape(Operands& in) { return in[1]; }
  template <class eT>
  static void eval(Eval<eT>& e) {
    run_kernel<"cholesky_solve", cholesky_solve<eT>>(e, 1, 3);
  }
  template <class eT>
  static void vjp(Rule<eT>& r) {
    const Var<eT> x = r.result(), z = apply<CholeskySolve>(r.operand(0), r.grad(), r.operand(2));
    if (r.needs(1)) r.accumulate(1, z);
    if (!r.needs(0)) return;
    r.accumulate(0, -0.5 * matmul(z, x.t()));
    r.accumulate(0, -0.5 * matmul(x, z.t()));
  }
  static constexpr bool many_directions = true;
  template <class eT>
  static void jvp(ForwardRule<eT>& r) {
    const Var<eT> b = right_side(r, 1, [](Var<eT> da, Var<eT> x) { return matmul(symmetric_part(da), x); });
    r.add(apply<CholeskySolve>(r.operand(0), b, r.operand(2)));
  }
};

struct TriangularSolve {
  static constexpr auto name = "solve";
  static constexpr const char* operands[] = {"A", "B", nullptr};
  using Attributes = TriangularOptions;
  static Shape shape(Operands& in) { return in[1]; }
  template <class eT>
  static void eval(Eval<eT>& e) {
    run_kernel<"triangular_solve", triangular_solve_host<eT>>(e, 0, 2);
  }
  template <class eT>
  static void vjp(Rule<eT>& r) {
    const auto& o = r.template attributes<Attributes>();
    const Var<eT> x = r.result(),
                  z = apply<TriangularSolve>({o.by, o.triangle, !o.transposed, false, 0, 0}, r.operand(0), r.grad());
    if (r.needs(1)) r.accumulate(1, z);
    if (!r.needs(0)) return;
    const Var<eT> da = -(o.transposed ? matmul(x, z.t()) : matmul(z, x.t()));
    r.accumulate(0, o.triangle == Triangle::upper ? trimatu(da) : trimatl(da));
  }
  static constexpr bool many_directions = true;
  template <class eT>
  static void jvp(ForwardRule<eT>& r) {
    const auto& o = r.template attributes<Attributes>();
    const Var<eT> b = right_side(r, 1, [&](Var<eT> da, Var<eT> x) {
      const Var<eT> dt = o.triangle == Triangle::upper ? trimatu(da) : trimatl(da);
      return matmul(o.transposed ? dt.t() : dt, x);
    });
    r.add(apply<TriangularSolve>({o.by, o.triangle, o.transposed, false, 0, 0}, r.operand(0), b));
  }
};

// Least squares for a tall A, the solution of smallest norm for a wide one; derivatives for full rank (Golub and
// Pereyra 1973): with Z = (A')^+ G, dB = Z and dA = -Z X' + (B - A X) W', A W = Z, for a tall A;
// dA = -Z X' + Y (G - A' Z)', A' Y = X, for a wide one.
struct LeastSquares {
  static constexpr auto name = "solve";
  static constexpr const char* operands[] = {"A", "B", "Q", "R", nullptr};
  static constexpr std::uint8_t helpers = 0b1100;
  using Attributes = SolveOptions;
  static Shape shape(Operands& in) { return {in[0].cols, in[1].cols}; }
  template <class eT>
  static void eval(Eval<eT>& e) {
    run_kernel<"least_squares", least_squares<eT>>(e, 1, 4);
  }
  template <class eT>
  static void vjp(Rule<eT>& r) {
    const auto& o = r.template attributes<Attributes>();
    const Var<eT> a = r.operand(0), b = r.operand(1), q = r.operand(2), rr = r.operand(3), x = r.result(), g = r.grad();
    const auto adjoint = [&](Var<eT> y) { return apply<LeastSquares>({o.by, !o.transposed, false}, a.t(), y, q, rr); };
    const Var<eT> z = adjoint(g);  // (m x p)
    if (r.needs(1)) r.accumulate(1, z);
    if (!r.needs(0)) return;
    r.accumulate(0, -matmul(z, x.t()));  // (m x p)(p x n)
    if (!o.transposed)
      r.accumulate(0, matmul(b - matmul(a, x), apply<LeastSquares>({o.by, false, false}, a, z, q, rr).t()));
    else
      r.accumulate(0, matmul(adjoint(x), (g - matmul(a.t(), z)).t()));
  }
  template <class eT>
  static void jvp(ForwardRule<eT>& r) {
    const auto& o = r.template attributes<Attributes>();
    const Var<eT> a = r.operand(0), q = r.operand(2), rr = r.operand(3), x = r.result();
    const auto inverse = [&](Var<eT> y) { return apply<LeastSquares>({o.by, o.transposed, false}, a, y, q, rr); };
    const auto adjoint = [&](Var<eT> y) { return apply<LeastSquares>({o.by, !o.transposed, false}, a.t(), y, q, rr); };
    Var<eT> b = right_side(r, 1, [](Var<eT> da, Var<eT> at) { return matmul(da, at); });
    if (!r.has_tangent(0)) return r.add(inverse(b));
    const Var<eT> dat = r.tangent(0).t();
    if (!o.transposed)  // A^+ (dB - dA X) + (A' A)^-1 dA' (B - A X)
      return r.add(inverse(b + adjoint(matmul(dat, r.operand(1) - matmul(a, x)))));
    const Var<eT> w = matmul(dat, adjoint(x));  // dA' (A A')^-1 B, of which what A does not see is added
    r.add(w + inverse(b - matmul(a, w)));
  }
};

// X with A X = B: which of the above, and with which factorisation.
struct Solve {
  static constexpr auto name = "solve";
  static void samples(Samples& s) {
    const auto f = [](const auto& in) { return solve(in[0], in[1]); };
    const auto plain = [](const std::vector<arma::mat>& in) -> arma::mat { return arma::solve(in[0], in[1]); };
    s.add({well_conditioned(s, 3, 3), s.uniform(3, 2)}, f, plain);
    s.add({well_conditioned(s, 1, 1), s.uniform(1, 1)}, f, plain);
    s.add({well_conditioned(s, 2, 2), s.uniform(2, 0)}, f,
          [](const std::vector<arma::mat>&) { return arma::mat(2, 0); });
    s.add({arma::mat(0, 0), arma::mat(0, 2)}, f, [](const std::vector<arma::mat>&) { return arma::mat(0, 2); });
    s.add({well_conditioned(s, 5, 2), s.uniform(5, 2)}, f, plain);
    s.add({well_conditioned(s, 2, 4), s.uniform(2, 3)}, f, plain);
    s.add({s.uniform(4, 1, 0.5, 1), s.uniform(4, 2)}, f, plain);
    s.add({well_conditioned(s, 0, 2), arma::mat(0, 3)}, f,
          [](const std::vector<arma::mat>&) { return arma::mat(2, 3); });
    s.add(
        {well_conditioned(s, 3, 3), s.uniform(3, 2)}, [](const auto& in) { return solve(trans(in[0]), in[1]); },
        [](const std::vector<arma::mat>& in) -> arma::mat { return arma::solve(in[0].t(), in[1]); });
    s.add(
        {well_conditioned(s, 3, 3), s.uniform(3, 2)},
        [](const auto& in) { return solve(in[0], solve(in[0], in[1])) + solve(trans(in[0]), in[1]); },
        [](const std::vector<arma::mat>& in) -> arma::mat {
          return arma::solve(in[0], arma::solve(in[0], in[1])) + arma::solve(in[0].t(), in[1]);
        });
    for (const bool upper : {true, false}) {
      s.add(
          {well_conditioned(s, 3, 3), s.uniform(3, 2)},
          [upper](const auto& in) { return solve(upper ? trimatu(in[0]) : trimatl(in[0]), in[1]); },
          [upper](const std::vector<arma::mat>& in) -> arma::mat {
            return upper ? arma::solve(arma::trimatu(in[0]), in[1]) : arma::solve(arma::trimatl(in[0]), in[1]);
          });
      s.add(
          {well_conditioned(s, 3, 3), s.uniform(3, 2)},
          [upper](const auto& in) {
            return solve(trans(in[0]), in[1], upper ? arma::solve_opts::flag_triu : arma::solve_opts::flag_tril);
          },
          [upper](const std::vector<arma::mat>& in) -> arma::mat {
            const arma::mat a = in[0].t();
            return upper ? arma::solve(arma::trimatu(a), in[1]) : arma::solve(arma::trimatl(a), in[1]);
          });
    }
    s.add(
        {positive_definite(s, 3), s.uniform(3, 2)},
        [](const auto& in) { return solve(symmetric_part(in[0]), in[1], arma::solve_opts::likely_sympd); },
        [](const std::vector<arma::mat>& in) -> arma::mat { return arma::solve(symmetric_part(in[0]), in[1]); });
    s.add(
        {well_conditioned(s, 4, 2), s.uniform(4, 2)},
        [](const auto& in) { return solve(in[0], in[1], arma::solve_opts::force_approx); }, plain);
    arma::mat band(34, 34);  // 2 diagonals below the main one, 1 above
    band.diag().fill(4);
    band.diag(1) = s.uniform(33, 1);
    band.diag(-1) = s.uniform(33, 1);
    band.diag(-2) = s.uniform(32, 1);
    for (const bool transposed : {false, true})
      s.add(
           {band, s.uniform(34, 2)},
           [transposed](const auto& in) { return solve(transposed ? trans(in[0]) : in[0], in[1]); },
           [transposed](const std::vector<arma::mat>& in) -> arma::mat {
             return arma::solve(transposed ? arma::mat(in[0].t()) : in[0], in[1]);
           })
          .check_gradient = false;  // 1156 entries; tests/linear_algebra_test.cpp compares with the dense system
    s.fails({arma::mat(3, 3, arma::fill::eye), arma::mat(2, 1)}, f,
            "solve: A is 3x3, B is 2x1: both must have as many rows (3 and 2)");
    s.fails(
        {arma::mat(2, 2, arma::fill::ones), arma::mat(2, 1)}, f,
        "solve: A is 2x2 and singular to working precision (reciprocal condition number 0); use pinv, or add a small "
        "multiple of the identity");
    s.fails({arma::mat(3, 2, arma::fill::ones), arma::mat(3, 1)}, f, "solve: A is 3x2 and does not have full rank");
    s.fails({arma::mat(2, 3, arma::fill::ones), arma::mat(2, 1)}, f, "solve: A is 2x3 and does not have full rank");
    s.fails({arma::mat(2, 2, arma::fill::value(arma::datum::nan)), arma::mat(2, 1)}, f,
            "solve: A (2x2) holds NaN or infinity");
    s.fails(
        {arma::mat{{1, 2}, {0, 0}}, arma::mat(2, 1)}, [](const auto& in) { return solve(trimatu(in[0]), in[1]); },
        "solve: A is 2x2 and singular to working precision (reciprocal condition number 0)");
    s.fails(
        {arma::mat{{1, 2}, {2, 1}}, arma::mat(2, 1)},
        [](const auto& in) { return solve(in[0], in[1], arma::solve_opts::likely_sympd); },
        "solve: A is 2x2 and not positive definite: its leading 2x2 block is not");
    s.fails(
        {arma::mat(2, 2, arma::fill::eye), arma::mat(2, 1)},
        [](const auto& in) { return solve(in[0], in[1], arma::solve_opts::refine); },
        "solve: the options equilibrate and refine have no counterpart here; leave them out");
    s.fails(
        {arma::mat(3, 2), arma::mat(3, 1)},
        [](const auto& in) { return solve(in[0], in[1], arma::solve_opts::likely_sympd); },
        "solve: A is 3x2, B is 3x1: with this option A must be square");
  }
};

struct LuInverse {
  static constexpr auto name = "inv";
  static constexpr const char* operands[] = {"A", "factors", nullptr};
  static constexpr std::uint8_t helpers = 0b10;
  using Attributes = InverseOptions;
  static Shape shape(Operands& in) { return in[0]; }
  template <class eT>
  static void eval(Eval<eT>& e) {
    run_kernel<"lu_inverse", lu_inverse<eT>>(e, 1, 2);
  }
  template <class eT>
  static void vjp(Rule<eT>& r) {  // Y = A^-1: dA = -Y' dY Y';  Y = A^-T: dA = -Y dY' Y
    const bool transposed = r.template attributes<Attributes>().transposed;
    const Var<eT> y = r.result(), yt = transposed ? y : y.t(), g = transposed ? r.grad().t() : r.grad();
    r.accumulate(0, -matmul(matmul(yt, g), yt));
  }
  template <class eT>
  static void jvp(ForwardRule<eT>& r) {
    const bool transposed = r.template attributes<Attributes>().transposed;
    const Var<eT> y = r.result(), da = r.tangent(0);
    r.add(-matmul(matmul(y, transposed ? da.t() : da), y));
  }
};
struct Inv {
  static constexpr auto name = "inv";
  static void samples(Samples& s) {
    const auto f = [](const auto& in) { return inv(in[0]); };
    const auto plain = [](const std::vector<arma::mat>& in) -> arma::mat { return arma::inv(in[0]); };
    s.add({well_conditioned(s, 3, 3)}, f, plain);
    s.add({well_conditioned(s, 1, 1)}, f, plain);
    s.add({arma::mat(0, 0)}, f, [](const std::vector<arma::mat>& in) { return in[0]; });
    s.add(
        {well_conditioned(s, 3, 3)}, [](const auto& in) { return inv(trans(in[0])); },
        [](const std::vector<arma::mat>& in) -> arma::mat { return arma::inv(in[0]).t(); });
    s.add(
        {well_conditioned(s, 3, 3)}, [](const auto& in) { return inv(trimatl(in[0])); },
        [](const std::vector<arma::mat>& in) -> arma::mat { return arma::inv(arma::trimatl(in[0])); });
    s.fails({arma::mat(2, 3)}, f, "inv: A is 2x3: it must be square");
    s.fails({arma::mat(2, 2, arma::fill::ones)}, f,
            "inv: A is 2x2 and singular to working precision (reciprocal condition number 0); use pinv");
  }
};

struct CholeskyInverse {
  static constexpr auto name = "inv_sympd";
  static constexpr const char* operands[] = {"A", "R", nullptr};
  static constexpr std::uint8_t helpers = 0b10;
  using Attributes = AskedBy;
  static Shape shape(Operands& in) { return in[0]; }
  template <class eT>
  static void eval(Eval<eT>& e) {
    run_kernel<"cholesky_inverse", cholesky_inverse<eT>>(e, 1, 2);
  }
  template <class eT>
  static void vjp(Rule<eT>& r) {  // the symmetric part of -Y dY Y
    const Var<eT> y = r.result(), h = matmul(matmul(y, r.grad()), y);
    r.accumulate(0, -0.5 * h);
    r.accumulate(0, -0.5 * h.t());
  }
  template <class eT>
  static void jvp(ForwardRule<eT>& r) {
    const Var<eT> y = r.result();
    r.add(-matmul(matmul(y, symmetric_part(r.tangent(0))), y));
  }
};
struct InvSympd {
  static constexpr auto name = "inv_sympd";
  static void samples(Samples& s) {
    const auto f = [](const auto& in) { return inv_sympd(symmetric_part(in[0])); };
    const auto plain = [](const std::vector<arma::mat>& in) -> arma::mat {
      return arma::inv_sympd(symmetric_part(in[0]));
    };
    s.add({positive_definite(s, 3)}, f, plain);
    s.add({positive_definite(s, 1)}, f, plain);
    s.add({arma::mat(0, 0)}, f, [](const std::vector<arma::mat>& in) { return in[0]; });
    s.fails(
        {arma::mat(2, 3)}, [](const auto& in) { return inv_sympd(in[0]); }, "inv_sympd: A is 2x3: it must be square");
    s.fails({arma::mat{{1, 2}, {2, 1}}}, f, "inv_sympd: A is 2x2 and not positive definite");
  }
};

// Derivatives: that of det is the matrix of cofactors, right at every rank.
struct CofactorsDerivative {
  static constexpr auto name = "det";
  static constexpr const char* operands[] = {"A", "W", nullptr};
  static Shape shape(Operands& in) { return in[0]; }
  template <class eT>
  static void eval(Eval<eT>& e) {
    run_kernel<"cofactors_derivative", cofactors_derivative<eT>>(e, 0, 2);
  }
  // det(A) (tr(B W) B' - B' W' B') for a regular A = B^-1. Symmetric in W and what it is multiplied with; the
  // derivative by A is written for a regular A.
  template <class eT>
  static void vjp(Rule<eT>& r) {
    if (r.needs(1)) r.accumulate(1, apply<CofactorsDerivative>(r.operand(0), r.grad()));
    if (r.needs(0)) r.accumulate(0, third(r.operand(0), r.operand(1), r.grad()));
  }
  template <class eT>
  static void jvp(ForwardRule<eT>& r) {
    if (r.has_tangent(1)) r.add(apply<CofactorsDerivative>(r.operand(0), r.tangent(1)));
    if (r.has_tangent(0)) r.add(third(r.operand(0), r.operand(1), r.tangent(0)));
  }
  template <class eT>
  static Var<eT> third(Var<eT> a, Var<eT> w, Var<eT> g) {
    const Var<eT> b = inverse(a, false, "det's third derivative"), bw = matmul(b, w), bg = matmul(b, g);
    const Var<eT> tw = trace(bw), tg = trace(bg), bwbg = matmul(bw, bg), bgbw = matmul(bg, bw);
    const Var<eT> q = multiply(tw, tg) - trace(bwbg);
    const Var<eT> inner =
        multiply(b, q) - multiply(matmul(bw, b), tg) - multiply(matmul(bg, b), tw) + matmul(bwbg, b) + matmul(bgbw, b);
    return multiply(det(a), inner.t());
  }
};
struct Cofactors {
  static constexpr auto name = "det";
  static constexpr const char* operands[] = {"A", "factors", nullptr};
  static constexpr std::uint8_t helpers = 0b10;
  static Shape shape(Operands& in) { return in[0]; }
  template <class eT>
  static void eval(Eval<eT>& e) {
    run_kernel<"cofactors", cofactors<eT>>(e, 0, 2);
  }
  template <class eT>
  static void vjp(Rule<eT>& r) {
    r.accumulate(0, apply<CofactorsDerivative>(r.operand(0), r.grad()));
  }
  template <class eT>
  static void jvp(ForwardRule<eT>& r) {  // det's second derivative is symmetric
    r.add(apply<CofactorsDerivative>(r.operand(0), r.tangent(0)));
  }
};
struct Det {
  static constexpr auto name = "det";
  static constexpr const char* operands[] = {"A", "factors", nullptr};
  static constexpr std::uint8_t helpers = 0b10;
  using Attributes = Order;
  static Shape shape(Operands&) { return {1, 1}; }
  template <class eT>
  static void eval(Eval<eT>& e) {
    run_kernel<"determinant", determinant<eT>>(e, 1, 2);
  }
  template <class eT>
  static void vjp(Rule<eT>& r) {
    r.accumulate(0, multiply(apply<Cofactors>(r.operand(0), r.operand(1)), r.grad()));
  }
  template <class eT>
  static void jvp(ForwardRule<eT>& r) {
    r.add(dot(apply<Cofactors>(r.operand(0), r.operand(1)), r.tangent(0)));
  }
  static void samples(Samples& s) {
    const auto f = [](const auto& in) { return det(in[0]); };
    const auto plain = [](const std::vector<arma::mat>& in) { return arma::mat{arma::det(in[0])}; };
    s.add({well_conditioned(s, 3, 3)}, f, plain);
    s.add({well_conditioned(s, 1, 1)}, f, plain);
    s.add({arma::mat(1, 1)}, f, plain);
    s.add({arma::mat(0, 0)}, f, plain);
    s.add({arma::mat{{0, 1, 2}, {1, 0, 3}, {4, -3, 8}}}, f, plain);
    const arma::mat x = s.uniform(4, 4), y = s.uniform(4, 4);
    for (const arma::uword rank : {0u, 1u, 2u, 3u})  // in float the value is not 0 but near it
      s.add({rank == 0 ? arma::mat(4, 4) : arma::mat(x.head_cols(rank) * y.head_rows(rank))}, f,
            [](const std::vector<arma::mat>&) { return arma::mat{0.0}; });
    s.add({arma::diagmat(arma::vec{1, 2, 0})}, f, [](const std::vector<arma::mat>&) { return arma::mat{0.0}; });
    s.fails({arma::mat(2, 3)}, f, "det: A is 2x3: it must be square");
    s.fails({arma::mat{arma::datum::inf}}, f, "det: A (1x1) holds NaN or infinity");
  }
};

struct LogDet {
  static constexpr auto name = "log_det";
  static constexpr const char* operands[] = {"A", "factors", nullptr};
  static constexpr std::uint8_t results = 2;  // log |det A|, and det A's sign, which is piecewise constant
  static constexpr std::uint8_t helpers = 0b10;
  using Attributes = Order;
  static Shape shape(Operands& in) {
    in.result(1, {1, 1});
    return {1, 1};
  }
  template <class eT>
  static void eval(Eval<eT>& e) {
    run_kernel<"log_determinant", log_determinant<eT>>(e, 1, 2, 2);
  }
  template <class eT>
  static void vjp(Rule<eT>& r) {
    if (r.has_grad(0)) r.accumulate(0, multiply(inverse(r.operand(0), true, name), r.grad()));
  }
  template <class eT>
  static void jvp(ForwardRule<eT>& r) {
    r.add(dot(inverse(r.operand(0), true, name), r.tangent(0)));
  }
  static void samples(Samples& s) {
    const auto f = [](const auto& in) { return log_det(in[0]).value; };
    const auto plain = [](const std::vector<arma::mat>& in) { return arma::mat{arma::log_det(in[0]).real()}; };
    s.add({well_conditioned(s, 3, 3)}, f, plain);
    s.add({-well_conditioned(s, 3, 3)}, f, plain);
    s.add({well_conditioned(s, 1, 1)}, f, plain);
    s.add({arma::mat(0, 0)}, f, [](const std::vector<arma::mat>&) { return arma::mat{0.0}; });
    s.add(
         {-well_conditioned(s, 3, 3)}, [](const auto& in) { return log_det(in[0]).sign; },
         [](const std::vector<arma::mat>&) { return arma::mat{-1.0}; })
        .check_gradient = false;
    s.fails({arma::mat(2, 3)}, f, "log_det: A is 2x3: it must be square");
    s.fails(
        {arma::mat(2, 2, arma::fill::ones)},
        [](const auto& in) {
          const auto y = log_det(in[0]).value;
          y.backward();
          return y;
        },
        "log_det: A is 2x2 and singular to working precision");
  }
};

struct LogDetSympd {
  static constexpr auto name = "log_det_sympd";
  static constexpr const char* operands[] = {"A", "R", nullptr};
  static constexpr std::uint8_t helpers = 0b10;
  static Shape shape(Operands&) { return {1, 1}; }
  template <class eT>
  static void eval(Eval<eT>& e) {
    run_kernel<"cholesky_log_determinant", cholesky_log_determinant<eT>>(e, 1, 2);
  }
  template <class eT>
  static void vjp(Rule<eT>& r) {
    r.accumulate(0, multiply(apply<CholeskyInverse>({name}, r.operand(0), r.operand(1)), r.grad()));
  }
  template <class eT>
  static void jvp(ForwardRule<eT>& r) {
    r.add(dot(apply<CholeskyInverse>({name}, r.operand(0), r.operand(1)), r.tangent(0)));
  }
  static void samples(Samples& s) {
    const auto f = [](const auto& in) { return log_det_sympd(symmetric_part(in[0])); };
    const auto plain = [](const std::vector<arma::mat>& in) {
      return arma::mat{arma::log_det_sympd(symmetric_part(in[0]))};
    };
    s.add({positive_definite(s, 3)}, f, plain);
    s.add({positive_definite(s, 1)}, f, plain);
    s.add({arma::mat(0, 0)}, f, [](const std::vector<arma::mat>&) { return arma::mat{0.0}; });
    s.fails({arma::mat{{1, 2}, {2, 1}}}, f,
            "log_det_sympd: A is 2x2 and not positive definite: its leading 2x2 block is not; if it should be, add a "
            "small multiple of the identity");
  }
};

namespace {

template <class eT>
Var<eT> lu_of(Var<eT> a, const char* by) {
  return kept_or_recorded<LuFactors>(a, by);
}

}  // namespace

template <class eT>
Var<eT> triangular_solve(Var<eT> a, Var<eT> b, Triangle triangle, bool transposed, bool checked, const char* by) {
  return apply<TriangularSolve>({by, triangle, transposed, checked, 0, 0}, a, b);
}

template <class eT>
Var<eT> solve_with_factor(Var<eT> t, Var<eT> b, bool transposed, const char* by, Shape a) {
  return apply<TriangularSolve>({by, Triangle::upper, transposed, true, a.rows, a.cols}, t, b);
}

template <class eT>
Var<eT> inverse(Var<eT> a, bool transposed, const char* by) {
  const SeenThrough<eT> s = see_through_transposes(a);
  const Var<eT> of = s.var(a.graph());
  return apply<LuInverse>({by, transposed != s.transposed}, of, lu_of(of, by));
}

template <class eT>
Var<eT> solve_square(Var<eT> a, Var<eT> b, arma::uword flags) {
  namespace o = arma::solve_opts;
  const bool checked = (flags & (o::flag_fast | o::flag_allow_ugly)) == 0;
  const SeenThrough<eT> s = see_through_transposes(a);
  const Var<eT> of = s.var(a.graph());
  Triangle triangle = (flags & o::flag_triu) != 0   ? Triangle::upper
                      : (flags & o::flag_tril) != 0 ? Triangle::lower
                                                    : Triangle::none;
  if (triangle != Triangle::none && s.transposed)
    triangle = triangle == Triangle::upper ? Triangle::lower : Triangle::upper;
  if (triangle == Triangle::none && (flags & o::flag_no_trimat) == 0) triangle = triangle_of(of);
  if (triangle != Triangle::none) return triangular_solve(of, b, triangle, s.transposed, checked, "solve");
  if ((flags & o::flag_likely_sympd) != 0) return apply<CholeskySolve>(of, b, cholesky(of, "solve"));
  return apply<LuSolve>({"solve", s.transposed, checked}, of, b, lu_of(of, "solve"));
}

}  // namespace detail

template <class eT>
Var<eT> solve(Var<eT> a, Var<eT> b, arma::uword flags) {
  namespace o = arma::solve_opts;
  if ((flags & (o::flag_equilibrate | o::flag_refine)) != 0)
    throw OptionError("solve: the options equilibrate and refine have no counterpart here; leave them out");
  const bool square = a.n_rows() == a.n_cols();
  detail::check_shapes("solve", {a, b}, [&](Operands& in) {
    in.require(in[0].rows == in[1].rows, "both must have as many rows (", in[0].rows, " and ", in[1].rows, ")");
    in.require(square || (flags & (o::flag_triu | o::flag_tril | o::flag_likely_sympd)) == 0,
               "with this option A must be square");
  });
  if ((flags & o::flag_force_approx) != 0) return matmul(detail::pseudo_inverse(a, 0, "solve"), b);
  if (square) return detail::solve_square(a, b, flags);
  const bool wide = a.n_rows() < a.n_cols();
  const auto [q, r] = detail::economical_qr(wide ? a.t() : a, "solve");
  const bool checked = (flags & (o::flag_fast | o::flag_allow_ugly)) == 0;
  return apply<detail::LeastSquares>({"solve", wide, checked}, a, b, q, r);
}
template <class eT>
Var<eT> inv(Var<eT> a) {
  detail::require_square("inv", a);
  const auto s = detail::see_through_transposes(a);
  const Var<eT> of = s.var(a.graph());
  if (const detail::Triangle t = detail::triangle_of(of); t != detail::Triangle::none)
    return detail::triangular_solve(of,
                                    detail::constant_like(a, arma::Mat<eT>(a.n_rows(), a.n_rows(), arma::fill::eye)), t,
                                    s.transposed, true, "inv");
  return detail::inverse(a, false, "inv");
}
template <class eT>
Var<eT> inv_sympd(Var<eT> a) {
  const Var<eT> r = detail::cholesky(a, "inv_sympd");
  return apply<detail::CholeskyInverse>({"inv_sympd"}, a, r);
}
template <class eT>
Var<eT> det(Var<eT> a) {
  detail::require_square("det", a);
  const Var<eT> of = detail::see_through_transposes(a).var(a.graph());
  return apply<detail::Det>({a.shape().rows}, of, detail::lu_of(of, "det"));
}
template <class eT>
LogDetResult<eT> log_det(Var<eT> a) {
  detail::require_square("log_det", a);
  const Var<eT> of = detail::see_through_transposes(a).var(a.graph());
  const Var<eT> y = apply<detail::LogDet>({a.shape().rows}, of, detail::lu_of(of, "log_det"));
  return {y, detail::result_of(y, 1)};
}
template <class eT>
Var<eT> log_det_sympd(Var<eT> a) {
  const Var<eT> r = detail::cholesky(a, "log_det_sympd");
  return apply<detail::LogDetSympd>(a, r);
}

#define ARMAGRAD_INSTANTIATE(eT)                                                                  \
  template Var<eT> solve(Var<eT>, Var<eT>, arma::uword);                                          \
  template Var<eT> inv(Var<eT>);                                                                  \
  template Var<eT> inv_sympd(Var<eT>);                                                            \
  template Var<eT> det(Var<eT>);                                                                  \
  template LogDetResult<eT> log_det(Var<eT>);                                                     \
  template Var<eT> log_det_sympd(Var<eT>);                                                        \
  template Var<eT> detail::triangular_solve(Var<eT>, Var<eT>, Triangle, bool, bool, const char*); \
  template Var<eT> detail::solve_with_factor(Var<eT>, Var<eT>, bool, const char*, Shape);         \
  template Var<eT> detail::inverse(Var<eT>, bool, const char*);
ARMAGRAD_INSTANTIATE(float)
ARMAGRAD_INSTANTIATE(double)
#undef ARMAGRAD_INSTANTIATE

}  // namespace armagrad

ARMAGRAD_LIST_OPERATIONS(solves, Solve, Inv, InvSympd, Det, LogDet, LogDetSympd)
