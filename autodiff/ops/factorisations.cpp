// Triangles, and factorisations into them: Cholesky, LU, QR.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include <armagrad/autodiff/ops/lapack.hpp>

namespace armagrad {
namespace detail {
namespace {

template <class eT, bool upper>
void copy_triangle(const Command<eT>& c) {
  const std::int64_t d = attributes_of<TriangleOptions>(c).diagonal, rows = c.out.rows;
  for (std::int64_t j = 0; j < c.out.cols; ++j) {
    const eT* x = c.in[0].data + j * c.in[0].ld;
    eT* y = c.out.data + j * c.out.ld;
    // Above diagonal d are the rows i <= j - d, below it i >= j - d.
    const std::int64_t from = upper ? 0 : std::clamp<std::int64_t>(j - d, 0, rows);
    const std::int64_t to = upper ? std::clamp<std::int64_t>(j - d + 1, 0, rows) : rows;
    std::fill_n(y, from, eT(0));
    std::copy(x + from, x + to, y + from);
    std::fill(y + to, y + rows, eT(0));
  }
}

template <class eT, bool upper>
void mirror_triangle(const Command<eT>& c) {
  const std::size_t n = c.out.rows;
  constexpr std::size_t block = 16;
  for (std::size_t k = 0; k < n; k += block)
    for (std::size_t r = 0; r < n; r += block)
      for (std::size_t j = k; j < std::min(k + block, n); ++j)
        for (std::size_t i = r; i < std::min(r + block, n); ++i) {
          const bool here = upper ? i <= j : i >= j;
          c.out.data[i + j * c.out.ld] = c.in[0].data[here ? i + j * c.in[0].ld : j + i * c.in[0].ld];
        }
}

// Where a gradient by the mirrored triangle's elements goes: both halves onto the triangle.
template <class eT, bool upper>
void fold_triangle(const Command<eT>& c) {
  const std::size_t n = c.out.rows;
  constexpr std::size_t block = 16;
  for (std::size_t k = 0; k < n; k += block)
    for (std::size_t r = 0; r < n; r += block)
      for (std::size_t j = k; j < std::min(k + block, n); ++j)
        for (std::size_t i = r; i < std::min(r + block, n); ++i) {
          const eT x = c.in[0].data[i + j * c.in[0].ld], xt = c.in[0].data[j + i * c.in[0].ld];
          c.out.data[i + j * c.out.ld] = i == j ? x : ((upper ? i < j : i > j) ? x + xt : eT(0));
        }
}

template <class eT>
void cholesky_host(const Command<eT>& c) {
  const char* by = attributes_of<AskedBy>(c).by;
  load_symmetric(by, c.in[0], c.out.data);
  const std::size_t order = c.out.rows;
  if (order == 0) return;
  if (const std::size_t failed = factorise_cholesky(order, c.out.data, order); failed != 0)
    fail_not_definite(by, c.out.rows, static_cast<int>(failed));
  for (std::size_t j = 0; j < order; ++j) std::fill_n(c.out.data + j * order + j + 1, order - j - 1, eT(0));
}

// The gradient by A = R' R from G, that by R: W + W' with W = R^-1 T R^-T, T the lower triangle of R G', half of it and
// half of that on the diagonal. T' and R^-1 T' are upper triangular, and made in blocks of columns.   in: R, G
template <class eT>
void cholesky_gradient(const Command<eT>& c) {
  const View<const eT> r = c.in[0], g = c.in[1];
  const std::size_t n = r.rows;
  constexpr std::size_t block = 64;
  Scratch scratch;
  eT *x = scratch.take<eT>(n * n), *w = c.out.data;
  for (std::size_t first = 0; first < n; first += block) {
    const std::size_t size = std::min(block, n - first), next = first + size;
    multiply(false, true, next, size, n - first, g.data + first * g.ld, g.ld, r.data + first * (r.ld + 1), r.ld,
             x + first * n, n, eT(0.5));
    for (std::size_t j = first; j < next; ++j) {
      x[j * (n + 1)] /= 2;
      std::fill(x + j * n + j + 1, x + (j + 1) * n, eT(0));
    }
    substitute(true, false, false, next, size, r.data, r.ld, x + first * n, n);
  }
  for_pairs(n, [=](std::size_t i, std::size_t j) {  // W = x'
    w[i + j * n] = x[j + i * n];
    w[j + i * n] = x[i + j * n];
  });
  substitute(true, false, false, n, n, r.data, r.ld, w, n);
  for_pairs(n, [=](std::size_t i, std::size_t j) { w[i + j * n] = w[j + i * n] = w[i + j * n] + w[j + i * n]; });
}

// out: L (m x k), U (k x n), P (m x m) with P' L U = A, k = min(m, n)
template <class eT>
void lu_host(const Command<eT>& c) {
  const View<const eT> a = c.in[0];
  const View<eT> l = c.out, u = c.more_out[0], p = c.more_out[1];
  norm1_of_finite("lu", a);
  Scratch scratch;
  eT* x = scratch.take<eT>(a.size());
  auto* pivots = scratch.take<blas_int>(l.cols);
  auto* order = scratch.take<std::uint32_t>(a.rows);
  copy_contiguous(a, x);
  factorise_lu(a.rows, a.cols, x, a.rows, pivots);
  for (std::size_t j = 0; j < l.cols; ++j)
    for (std::size_t i = 0; i < l.rows; ++i)
      l.data[i + j * l.ld] = i > j ? x[i + j * a.rows] : (i == j ? eT(1) : eT(0));
  for (std::size_t j = 0; j < u.cols; ++j)
    for (std::size_t i = 0; i < u.rows; ++i) u.data[i + j * u.ld] = i <= j ? x[i + j * a.rows] : eT(0);
  for (std::uint32_t i = 0; i < a.rows; ++i) order[i] = i;
  for (std::size_t i = 0; i < l.cols; ++i) std::swap(order[i], order[static_cast<std::size_t>(pivots[i]) - 1]);
  std::fill_n(p.data, p.size(), eT(0));
  for (std::size_t i = 0; i < a.rows; ++i) p.data[i + std::size_t{order[i]} * p.ld] = 1;
}

// out: Q (m x q), R (q x n), q = m or min(m, n)
template <class eT>
void qr_host(const Command<eT>& c) {
  const View<const eT> a = c.in[0];
  const View<eT> q = c.out, r = c.more_out[0];
  const std::size_t k = std::min(a.rows, a.cols);
  norm1_of_finite(attributes_of<AskedBy>(c).by, a);
  Scratch scratch;
  eT *tau = scratch.take<eT>(k), *x = q.data;
  if (q.cols < a.cols) x = scratch.take<eT>(a.size());
  copy_contiguous(a, x);
  blas_int m = static_cast<blas_int>(a.rows), n = static_cast<blas_int>(a.cols),
           columns = static_cast<blas_int>(q.cols), reflectors = static_cast<blas_int>(k), info = 0;
  blas_int size = 64 * std::max({n, columns, blas_int{1}});
  eT* work = scratch.take<eT>(static_cast<std::size_t>(size));
  if (k > 0) arma::lapack::geqrf(&m, &n, x, &m, tau, work, &size, &info);
  for (std::size_t j = 0; j < r.cols; ++j)
    for (std::size_t i = 0; i < r.rows; ++i) r.data[i + j * r.ld] = i <= j ? x[i + j * a.rows] : eT(0);
  if (q.size() == 0) return;
  if (x != q.data) std::copy_n(x, q.size(), q.data);
  if (k == 0) {
    std::fill_n(q.data, q.size(), eT(0));
    for (std::size_t i = 0; i < q.cols; ++i) q.data[i * (q.ld + 1)] = 1;
  } else {
    arma::lapack::orgqr(&m, &columns, &reflectors, q.data, &m, tau, work, &size, &info);
    reflect_rest(q, k);
  }
}

// 0 if S is symmetric; throws otherwise.
template <class eT>
void require_invariant(const Command<eT>& c) {
  const View<const eT> s = c.in[0];
  eT largest = 0, apart = 0;
  for (std::size_t j = 0; j < s.cols; ++j)
    for (std::size_t i = 0; i < s.rows; ++i) {
      largest = std::max(largest, std::abs(s.data[i + j * s.ld]));
      apart = std::max(apart, std::abs(s.data[i + j * s.ld] - s.data[j + i * s.ld]));
    }
  if (!(apart <= std::sqrt(std::numeric_limits<eT>::epsilon()) * largest))
    fail_basis(attributes_of<AskedBy>(c).by, s.rows);
  *c.out.data = 0;
}

// How the derivative rules name parts: those of a matrix with no rows or columns are not asked for.
template <class eT>
Var<eT> left(Var<eT> x, arma::uword n) {
  return n == x.n_cols() ? x : x.cols(0, n - 1);
}
template <class eT>
Var<eT> right(Var<eT> x, arma::uword from) {
  return x.cols(from, x.n_cols() - 1);
}
template <class eT>
Var<eT> above(Var<eT> x, arma::uword n) {
  return n == x.n_rows() ? x : x.rows(0, n - 1);
}
template <class eT>
Var<eT> below(Var<eT> x, arma::uword from) {
  return x.rows(from, x.n_rows() - 1);
}
// Y with Y T' = X for an upper triangular factor T of an A of this shape: X T^-T.
template <class eT>
Var<eT> times_inverse_transposed(Var<eT> x, Var<eT> t, const char* by, Shape a) {
  return solve_with_factor(t, x.t(), false, by, a).t();
}

template <class eT>
QrResult<eT> results_of(Var<eT> q) {
  return {q, result_of(q, 1)};
}

// The gradient by a tall A = Q R, from those by Q and R: with M = R dR' - dQ' Q,
// dA = (dQ + Q sym(M)) R^-T, where sym repeats the lower triangle.
template <class eT>
Var<eT> qr_gradient(Var<eT> q, Var<eT> r, Var<eT> dq, Var<eT> dr, const char* by, Shape a) {
  const Var<eT> m = matmul(r, dr.t()) - matmul(dq.t(), q);
  return times_inverse_transposed(dq + matmul(q, symmatl(m)), r, by, a);
}

// The same for a square Q: what is on and above the diagonal of Q' dQ cancels, and is left out. Of a wide
// A = [X Y] = Q [U V] the gradient by Y is Q dV, and as V = Q' Y, Y dV' adds to dQ: with S = U dU' and
// Z = Q' dQ + V dV', dX = Q (symmatl(S) + tril(Z - Z', -1)) U^-T.
template <class eT>
Var<eT> wide_qr_gradient(Var<eT> q, Var<eT> r, Var<eT> dq, Var<eT> dr, const char* by) {
  const arma::uword m = q.n_rows();
  const bool wide = m < r.n_cols();
  const Var<eT> turned = matmul(q.t(), dq), z = wide ? turned + matmul(right(r, m), right(dr, m).t()) : turned;
  const Var<eT> inner = symmatl(matmul(left(r, m), left(dr, m).t())) + trimatl(z - z.t(), -1);
  const Var<eT> dx = times_inverse_transposed(matmul(q, inner), left(r, m), by, r.shape());
  return wide ? join_rows(dx, matmul(q, right(dr, m))) : dx;
}

// With W = dA R^-1 and M = Q' W = Q' dQ + dR R^-1, of which one is skew and the other, T, upper triangular:
// T = M - tril(M) + tril(M)', tril without the diagonal, dQ = W - Q T and dR = T R. What a wide A has to the right is
// Q V. Columns that complete a basis, Q2, follow the others: dQ2 = -Q dQ' Q2.
template <class eT>
void qr_tangents(ForwardRule<eT>& r, Var<eT> q, Var<eT> rr, const char* by) {
  const Var<eT> a = r.operand(0), da = r.tangent(0);
  const arma::uword k = q.n_cols();
  const Var<eT> w = solve_with_factor(left(rr, k), left(da, k).t(), true, by, a.shape()).t();
  const Var<eT> m = matmul(q.t(), w), low = trimatl(m, -1), t = m - low + low.t();
  Var<eT> dq = w - matmul(q, t), dr = matmul(t, left(rr, k));
  if (a.n_cols() > k) dr = join_rows(dr, matmul(dq.t(), right(a, k)) + matmul(q.t(), right(da, k)));
  const Shape whole = r.result(1).shape();
  if (whole.rows > k) dr = embed(dr, whole.rows, whole.cols, 0, 0);
  if (const Var<eT> all = r.result(0); all.n_cols() > k) dq = join_rows(dq, -matmul(q, matmul(dq.t(), right(all, k))));
  r.add(dq, 0);
  r.add(dr, 1);
}

}  // namespace

template <bool upper>
struct Trimat {
  static constexpr auto name = upper ? "trimatu" : "trimatl";
  static constexpr bool linear = true;
  static constexpr const char* operands[] = {"A", nullptr};
  using Attributes = TriangleOptions;
  static Shape shape(Operands& in) {
    in.require(in[0].rows == in[0].cols, "it must be square");
    return in[0];
  }
  template <class eT>
  static void eval(Eval<eT>& e) {
    run_kernel<upper ? KernelName("trimatu") : KernelName("trimatl"), copy_triangle<eT, upper>>(e, 0, 1);
  }
  template <class eT>
  static void vjp(Rule<eT>& r) {
    r.accumulate(0, apply<Trimat>(r.template attributes<Attributes>(), r.grad()));
  }
  static void samples(Samples& s) {
    for (const int k : {0, 1, -1, 5, -5})
      s.add(
          {s.uniform(3, 3)}, [k](const auto& in) { return upper ? trimatu(in[0], k) : trimatl(in[0], k); },
          [k](const std::vector<arma::mat>& in) -> arma::mat {
            arma::mat y(3, 3);  // Armadillo's trimatu(A, k) refuses a diagonal beyond the matrix
            for (int i = 0; i < 3; ++i)
              for (int j = 0; j < 3; ++j)
                if (upper ? j - i >= k : j - i <= k) y(i, j) = in[0](i, j);
            return y;
          });
    s.add(
        {s.uniform(1, 1)}, [](const auto& in) { return upper ? trimatu(in[0]) : trimatl(in[0]); },
        [](const std::vector<arma::mat>& in) { return in[0]; });
    s.add(
        {arma::mat(0, 0)}, [](const auto& in) { return upper ? trimatu(in[0]) : trimatl(in[0]); },
        [](const std::vector<arma::mat>& in) { return in[0]; });
    s.fails(
        {arma::mat(2, 3)}, [](const auto& in) { return upper ? trimatu(in[0]) : trimatl(in[0]); },
        std::string(name) + ": A is 2x3: it must be square");
  }
};
using Trimatu = Trimat<true>;
using Trimatl = Trimat<false>;

template <bool upper>
struct FoldTriangle;
template <bool upper>
struct Symmat {
  static constexpr auto name = upper ? "symmatu" : "symmatl";
  static constexpr bool linear = true;
  static constexpr const char* operands[] = {"A", nullptr};
  static Shape shape(Operands& in) {
    in.require(in[0].rows == in[0].cols, "it must be square");
    return in[0];
  }
  template <class eT>
  static void eval(Eval<eT>& e) {
    run_kernel<upper ? KernelName("symmatu") : KernelName("symmatl"), mirror_triangle<eT, upper>>(e, 0, 1);
  }
  template <class eT>
  static void vjp(Rule<eT>& r) {
    r.accumulate(0, apply<FoldTriangle<upper>>(r.grad()));
  }
  static void samples(Samples& s) {
    const auto f = [](const auto& in) { return upper ? symmatu(in[0]) : symmatl(in[0]); };
    const auto plain = [](const std::vector<arma::mat>& in) -> arma::mat {
      return upper ? arma::mat(arma::symmatu(in[0])) : arma::mat(arma::symmatl(in[0]));
    };
    s.add({s.uniform(3, 3)}, f, plain);
    s.add({s.uniform(1, 1)}, f, plain);
    s.add({arma::mat(0, 0)}, f, plain);
    s.fails({arma::mat(2, 3)}, f, std::string(name) + ": A is 2x3: it must be square");
  }
};
template <bool upper>
struct FoldTriangle {
  static constexpr auto name = "fold_triangle";
  static constexpr bool linear = true;
  static Shape shape(Operands& in) { return in[0]; }
  template <class eT>
  static void eval(Eval<eT>& e) {
    run_kernel<upper ? KernelName("fold_upper") : KernelName("fold_lower"), fold_triangle<eT, upper>>(e, 0, 1);
  }
  template <class eT>
  static void vjp(Rule<eT>& r) {
    r.accumulate(0, apply<Symmat<upper>>(apply<Trimat<upper>>({0}, r.grad())));
  }
};
using Symmatu = Symmat<true>;
using Symmatl = Symmat<false>;

// What Chol's rule says, in one pass: for first derivatives, of which none are taken.
struct CholGradient {
  static constexpr auto name = "chol";
  static constexpr const char* operands[] = {"R", "dR", nullptr};
  static Shape shape(Operands& in) { return in[0]; }
  template <class eT>
  static void eval(Eval<eT>& e) {
    run_kernel<"cholesky_gradient", cholesky_gradient<eT>>(e, 0, 2);
  }
};

// R with R' R = A, upper triangular. With S = symmatl(R dR') / 2: dA = R^-1 S R^-T (Murray 2016, arXiv:1602.07527).
struct Chol {
  static constexpr auto name = "chol";
  static constexpr const char* operands[] = {"A", nullptr};
  using Attributes = AskedBy;
  static Shape shape(Operands& in) { return in[0]; }
  template <class eT>
  static void eval(Eval<eT>& e) {
    run_kernel<"cholesky", cholesky_host<eT>>(e, 0, 1);
  }
  template <class eT>
  static void vjp(Rule<eT>& r) {
    const Var<eT> c = r.result();
    if (c.graph().may_fuse()) return r.accumulate(0, apply<CholGradient>(c, r.grad()));
    const Var<eT> s = 0.5 * symmatl(matmul(c, r.grad().t()));  // (n x n)
    const Var<eT> y = triangular_solve(c, s, Triangle::upper, false, false, name);
    r.accumulate(0, triangular_solve(c, y.t(), Triangle::upper, false, false, name));
  }
  template <class eT>
  static void jvp(ForwardRule<eT>& r) {  // dR R^-1 is the upper triangle of R^-T dA R^-1, half of it on the diagonal
    const Var<eT> c = r.result(), da = symmetric_part(r.tangent(0));
    const auto from_left = [c](Var<eT> x) { return triangular_solve(c, x, Triangle::upper, true, false, name); };
    const Var<eT> m = from_left(from_left(da).t());
    r.add(matmul(trimatu(m) - 0.5 * diagmat(diagvec(m)), c));
  }
  static void samples(Samples& s) {
    const auto f = [](const auto& in) { return chol(symmetric_part(in[0])); };
    const auto plain = [](const std::vector<arma::mat>& in) -> arma::mat { return arma::chol(symmetric_part(in[0])); };
    s.add({positive_definite(s, 3)}, f, plain);
    s.add({positive_definite(s, 1)}, f, plain);
    s.add({arma::mat(0, 0)}, f, plain);
    s.add(
        {positive_definite(s, 3)}, [](const auto& in) { return chol(symmetric_part(in[0]), "lower"); },
        [](const std::vector<arma::mat>& in) -> arma::mat { return arma::chol(symmetric_part(in[0]), "lower"); });
    s.fails(
        {arma::mat(2, 3)}, [](const auto& in) { return chol(in[0]); }, "chol: A is 2x3: it must be square");
    s.fails({arma::mat{{1, 2, 0}, {2, 1, 0}, {0, 0, 1}}}, f,
            "chol: A is 3x3 and not positive definite: its leading 2x2 block is not; if it should be, add a small "
            "multiple of the identity");
    s.fails(
        {arma::mat{{2, 1}, {0, 2}}}, [](const auto& in) { return chol(in[0]); },
        "chol: A is 2x2 and not symmetric: A(0, 1) is 1, A(1, 0) is 0; if one triangle is meant, symmatu(A) or "
        "symmatl(A) repeats it, and (A + A.t()) / 2 is the symmetric part");
    s.fails({arma::mat(2, 2, arma::fill::value(arma::datum::nan))}, f, "chol: A (2x2) holds NaN or infinity");
    s.fails(
        {arma::mat(2, 2, arma::fill::eye)}, [](const auto& in) { return chol(in[0], "left"); },
        "chol: there is no layout \"left\"; use \"upper\" or \"lower\"");
  }
};

// L, U and P with P' L U = A. For the square part, dA = P' L^-T (tril(L' dL, -1) + triu(dU U')) U^-T; what a wide A has
// to the right is L^-1 times it in U, what a tall one has below is it times U^-1 in L.
struct LuParts {
  static constexpr auto name = "lu";
  static constexpr const char* operands[] = {"A", nullptr};
  static constexpr std::uint8_t results = 3;
  static Shape shape(Operands& in) {
    const std::uint32_t k = std::min(in[0].rows, in[0].cols);
    in.result(1, {k, in[0].cols});
    in.result(2, {in[0].rows, in[0].rows});
    return {in[0].rows, k};
  }
  template <class eT>
  static void eval(Eval<eT>& e) {
    run_kernel<"lu", lu_host<eT>>(e, 0, 1, 3);
  }
  template <class eT>
  static void vjp(Rule<eT>& r) {
    const arma::uword m = r.operand(0).n_rows(), n = r.operand(0).n_cols(), k = std::min(m, n);
    if (k == 0 || !(r.has_grad(0) || r.has_grad(1))) return;  // P is piecewise constant
    const Var<eT> l = above(r.result(0), k), u = left(r.result(1), k);
    const auto lt_solve = [&](Var<eT> x) { return triangular_solve(l, x, Triangle::lower, true, false, name); };
    Var<eT> dl = above(r.grad(0), k),
            du = r.has_grad(1) ? left(r.grad(1), k) : r.constant({u.shape().rows, u.shape().cols}, 0);
    Var<eT> rest = dl;  // of dA, before P'
    if (m < n && r.has_grad(1)) {
      rest = lt_solve(right(r.grad(1), k));
      dl = dl - matmul(rest, right(r.result(1), k).t());
    } else if (m > n) {
      rest = times_inverse_transposed(below(r.grad(0), k), u, name, r.operand(0).shape());
      du = du - matmul(below(r.result(0), k).t(), rest);
    }
    const Var<eT> inner = trimatl(matmul(l.t(), dl), -1) + trimatu(matmul(du, u.t()));
    Var<eT> da = times_inverse_transposed(lt_solve(inner), u, name, r.operand(0).shape());
    if (m < n) da = r.has_grad(1) ? join_rows(da, rest) : embed(da, m, n, 0, 0);
    if (m > n) da = join_cols(da, rest);
    r.accumulate(0, matmul(r.result(2).t(), da));
  }
  template <class eT>
  static void jvp(ForwardRule<eT>& r) {  // L^-1 P dA U^-1 = L^-1 dL + dU U^-1, one below the diagonal, one not
    const arma::uword m = r.operand(0).n_rows(), n = r.operand(0).n_cols(), k = std::min(m, n);
    if (k == 0) return;
    const Var<eT> l = above(r.result(0), k), u = left(r.result(1), k), da = matmul(r.result(2), r.tangent(0));
    const auto l_solve = [&](Var<eT> x) { return triangular_solve(l, x, Triangle::lower, false, false, name); };
    const auto over_u = [&](Var<eT> x) { return solve_with_factor(u, x.t(), true, name, r.operand(0).shape()).t(); };
    const Var<eT> inner = over_u(l_solve(above(left(da, k), k)));
    Var<eT> dl = matmul(l, trimatl(inner, -1)), du = matmul(trimatu(inner), u);
    if (m > n) dl = join_cols(dl, over_u(below(da, k) - matmul(below(r.result(0), k), du)));
    if (m < n) du = join_rows(du, l_solve(right(da, k) - matmul(dl, right(r.result(1), k))));
    r.add(dl, 0);
    r.add(du, 1);
  }
  static void samples(Samples& s) {
    const auto l = [](const auto& in) { return lu(in[0]).L; };
    const auto u = [](const auto& in) { return lu(in[0]).U; };
    const auto both = [](const auto& in) {
      const auto [L, U, P] = lu(in[0]);
      return square(L) * U + P;
    };
    const auto parts = [](const arma::mat& a) {
      std::array<arma::mat, 3> p;
      arma::lu(p[0], p[1], p[2], a);
      return p;
    };
    for (const auto& [rows, cols] : {std::pair{3, 3}, {4, 2}, {2, 4}, {1, 1}}) {
      const arma::mat a = arma::reverse(well_conditioned(s, rows, cols));  // so that rows are exchanged
      s.add({a}, l, [parts](const std::vector<arma::mat>& in) -> arma::mat { return parts(in[0])[0]; });
      s.add({a}, u, [parts](const std::vector<arma::mat>& in) -> arma::mat { return parts(in[0])[1]; });
      if (rows == cols)
        s.add({a}, both, [parts](const std::vector<arma::mat>& in) -> arma::mat {
          const auto p = parts(in[0]);
          return square(p[0]) * p[1] + p[2];
        });
    }
    s.add({arma::mat(0, 2)}, u, [](const std::vector<arma::mat>&) { return arma::mat(0, 2); });
    s.add({arma::mat(2, 0)}, l, [](const std::vector<arma::mat>&) { return arma::mat(2, 0); });
    s.fails(
        {arma::mat(2, 2, arma::fill::ones)},
        [](const auto& in) {
          const auto y = accu(lu(in[0]).L);
          y.backward();
          return y;
        },
        "lu: A is 2x2 and its first 2 columns are linearly dependent (reciprocal condition number 0), where the "
        "factors have no derivative; leave out a dependent column, or use pinv");
    s.fails(
        {arma::mat{{0.1, 0.3}, {0.3, 0.9}, {0.7, 2.1}}},
        [](const auto& in) {
          const auto y = accu(lu(in[0]).L);
          y.backward();
          return y;
        },
        "lu: A is 3x2 and its first 2 columns are linearly dependent (reciprocal condition number ");
    s.fails({arma::mat(2, 2, arma::fill::value(arma::datum::nan))}, l, "lu: A (2x2) holds NaN or infinity");
  }
};

struct QrEcon {
  static constexpr auto name = "qr_econ";
  static constexpr const char* operands[] = {"A", nullptr};
  static constexpr std::uint8_t results = 2;
  using Attributes = AskedBy;
  static Shape shape(Operands& in) {
    const std::uint32_t k = std::min(in[0].rows, in[0].cols);
    in.result(1, {k, in[0].cols});
    return {in[0].rows, k};
  }
  template <class eT>
  static void eval(Eval<eT>& e) {
    run_kernel<"qr", qr_host<eT>>(e, 0, 1, 2);
  }
  template <class eT>
  static void vjp(Rule<eT>& r) {
    if (r.result(0).n_elem() == 0) return;
    const Var<eT> q = r.result(0), rr = r.result(1), dq = r.grad(0);
    const Var<eT> dr = r.has_grad(1) ? r.grad(1) : r.constant(rr.shape(), 0);
    const Shape a = r.operand(0).shape();
    r.accumulate(0, a.rows <= a.cols ? wide_qr_gradient(q, rr, dq, dr, name) : qr_gradient(q, rr, dq, dr, name, a));
  }
  template <class eT>
  static void jvp(ForwardRule<eT>& r) {
    if (r.result(0).n_elem() != 0) qr_tangents(r, r.result(0), r.result(1), name);
  }
  static void samples(Samples& s) {
    const auto q = [](const auto& in) { return qr_econ(in[0]).Q; };
    const auto rr = [](const auto& in) { return qr_econ(in[0]).R; };
    const auto both = [](const auto& in) {
      const auto [Q, R] = qr_econ(in[0]);
      return square(Q) * R;
    };
    const auto parts = [](const arma::mat& a) {
      std::array<arma::mat, 2> p;
      arma::qr_econ(p[0], p[1], a);
      return p;
    };
    for (const auto& [rows, cols] : {std::pair{3, 3}, {4, 2}, {2, 4}, {1, 1}, {3, 1}}) {
      const arma::mat a = well_conditioned(s, rows, cols);
      s.add({a}, q, [parts](const std::vector<arma::mat>& in) -> arma::mat { return parts(in[0])[0]; });
      s.add({a}, rr, [parts](const std::vector<arma::mat>& in) -> arma::mat { return parts(in[0])[1]; });
      s.add({a}, both, [parts](const std::vector<arma::mat>& in) -> arma::mat {
        const auto p = parts(in[0]);
        return square(p[0]) * p[1];
      });
    }
    s.add({arma::mat(0, 2)}, rr, [](const std::vector<arma::mat>&) { return arma::mat(0, 2); });
    s.add({arma::mat(2, 0)}, q, [](const std::vector<arma::mat>&) { return arma::mat(2, 0); });
    s.fails(
        {arma::mat(2, 2)},
        [](const auto& in) {
          const auto y = accu(qr_econ(in[0]).R);
          y.backward();
          return y;
        },
        "qr_econ: A is 2x2 and its first 2 columns are linearly dependent (reciprocal condition number 0)");
    s.fails(
        {arma::mat{{1, 2}, {2, 4}, {3, 6}}},
        [](const auto& in) {
          const auto y = accu(qr_econ(in[0]).R);
          y.backward();
          return y;
        },
        "qr_econ: A is 3x2 and its first 2 columns are linearly dependent (reciprocal condition number ");
  }
};

// Q square. Its last columns, Q2, are some basis of what the first ones leave out, and Q1' dQ2 = -dQ1' Q2: a gradient
// dQ2 adds -Q2 dQ2' Q1 to dQ1, if no other basis would change it, that is, if Q2' dQ2 is symmetric.
struct RequireInvariant {
  static constexpr auto name = "basis";
  using Attributes = AskedBy;
  static Shape shape(Operands&) { return {1, 1}; }
  template <class eT>
  static void eval(Eval<eT>& e) {
    run_kernel<"invariant", require_invariant<eT>>(e, 0, 1);
  }
};
template <class eT>
Var<eT> require_any_basis(Var<eT> s, const char* by) {
  return apply<RequireInvariant>({by}, s);
}
struct Qr {
  static constexpr auto name = "qr";
  static constexpr const char* operands[] = {"A", nullptr};
  static constexpr std::uint8_t results = 2;
  using Attributes = AskedBy;
  static Shape shape(Operands& in) {
    in.result(1, in[0]);
    return {in[0].rows, in[0].rows};
  }
  template <class eT>
  static void eval(Eval<eT>& e) {
    run_kernel<"qr", qr_host<eT>>(e, 0, 1, 2);
  }
  template <class eT>
  static void vjp(Rule<eT>& r) {
    const Var<eT> q = r.result(0), rr = r.result(1), dq = r.grad(0);
    const Shape a = r.operand(0).shape();
    const arma::uword m = a.rows, n = a.cols;
    if (m == 0 || n == 0) return;
    const Var<eT> dr = r.has_grad(1) ? r.grad(1) : r.constant(rr.shape(), 0);
    if (m <= n) return r.accumulate(0, wide_qr_gradient(q, rr, dq, dr, name));
    const Var<eT> q1 = left(q, n), q2 = right(q, n), dq2 = right(dq, n);
    const Var<eT> dq1 = left(dq, n) - matmul(q2, matmul(dq2.t(), q1));
    r.accumulate(
        0, qr_gradient(q1, above(rr, n), dq1, above(dr, n), name, a) + require_any_basis(matmul(q2.t(), dq2), name));
  }
  template <class eT>
  static void jvp(ForwardRule<eT>& r) {
    const arma::uword n = std::min(r.operand(0).n_rows(), r.operand(0).n_cols());
    if (n != 0) qr_tangents(r, left(r.result(0), n), above(r.result(1), n), name);
  }
  static void samples(Samples& s) {
    const auto f = [](const auto& in) {
      const auto [Q, R] = qr(in[0]);
      const arma::uword k = std::min(R.n_rows(), R.n_cols()), m = Q.n_rows();
      const auto y = square(Q.cols(0, k - 1)) * R.rows(0, k - 1);
      if (m == k) return y;
      const auto rest = Q.cols(k, m - 1);
      return join_rows(y, rest * rest.t());
    };
    const auto plain = [](const std::vector<arma::mat>& in) -> arma::mat {
      arma::mat Q, R;
      arma::qr(Q, R, in[0]);
      const arma::uword k = std::min(R.n_rows, R.n_cols), m = Q.n_rows;
      arma::mat y = square(Q.cols(0, k - 1)) * R.rows(0, k - 1);
      if (m == k) return y;
      const arma::mat rest = Q.cols(k, m - 1);
      return arma::join_rows(y, rest * rest.t());
    };
    for (const auto& [rows, cols] : {std::pair{3, 3}, {4, 2}, {2, 4}, {1, 1}, {3, 1}})
      s.add({well_conditioned(s, rows, cols)}, f, plain);
    s.add(
        {arma::mat(2, 0)}, [](const auto& in) { return qr(in[0]).Q; },
        [](const std::vector<arma::mat>&) { return arma::mat(2, 2, arma::fill::eye); });
    s.fails(
        {well_conditioned(s, 4, 2)},
        [](const auto& in) {
          const auto y = qr(in[0]).Q(0, 2);
          y.backward();
          return y;
        },
        "qr: the gradient depends on how the last 2 columns of a square factor are chosen, which A does not determine; "
        "use qr_econ, or only what any choice agrees on, like Q2 Q2'");
    s.fails(
        {arma::mat(arma::vec{2, 0, 0})},  // LAPACK's Q is diagonal
        [](const auto& in) {
          const auto y = accu(qr(in[0]).Q);
          y.backward();
          return y;
        },
        "qr: the gradient depends on how the last 2 columns of a square factor are chosen");
    s.fails(
        {arma::mat{{1, 2}, {2, 4}, {3, 6}}},
        [](const auto& in) {
          const auto y = accu(qr(in[0]).R);
          y.backward();
          return y;
        },
        "qr: A is 3x2 and its first 2 columns are linearly dependent (reciprocal condition number ");
  }
};

namespace {

// Addresses: the QR of a transposed matrix is kept apart from that of the matrix.
template <class eT>
constexpr char kept_qr_of_transposed = 0;

}  // namespace

template <class eT>
Triangle triangle_of(Var<eT> a) {
  const Graph<eT>& g = a.graph();
  const SeenThrough<eT> s = see_through_transposes(a);
  const Node<eT>& n = g.node(s.node);
  const OperationInfo<eT>* op = g.node(s.node - n.result).op;
  Triangle t = Triangle::none;
  const auto diagonal = [&n] { return static_cast<const TriangleOptions*>(n.attributes)->diagonal; };
  if ((op == &operation_info<Trimatu, eT> && diagonal() >= 0) || op == &operation_info<Chol, eT>) t = Triangle::upper;
  if (op == &operation_info<Trimatl, eT> && diagonal() <= 0) t = Triangle::lower;
  if (n.shape.rows == n.shape.cols) {
    if (op == &operation_info<LuParts, eT> && n.result < 2) t = n.result == 0 ? Triangle::lower : Triangle::upper;
    if ((op == &operation_info<QrEcon, eT> || op == &operation_info<Qr, eT>)&&n.result == 1) t = Triangle::upper;
  }
  if (t != Triangle::none && s.transposed) t = t == Triangle::upper ? Triangle::lower : Triangle::upper;
  return t;
}

template <class eT>
Var<eT> cholesky(Var<eT> a, const char* by) {
  require_square(by, a);
  return kept_or_recorded<Chol>(see_through_transposes(a).var(a.graph()), by);
}

template <class eT>
QrResult<eT> economical_qr(Var<eT> a, const char* by) {
  const SeenThrough<eT> s = see_through_transposes(a);
  if (!s.transposed) return results_of(kept_or_recorded<QrEcon>(s.var(a.graph()), by));
  Graph<eT>& g = a.graph();
  if (const std::uint32_t i = g.kept(s.node, &kept_qr_of_transposed<eT>, true); i != Graph<eT>::no_node)
    return results_of(g.var(i));
  const Var<eT> q = apply<QrEcon>({by}, a);
  g.keep(s.node, &kept_qr_of_transposed<eT>, q.index());
  return results_of(q);
}

}  // namespace detail

template <class eT>
Var<eT> trimatu(Var<eT> a, int k) {
  return apply<detail::Trimatu>({k}, a);
}
template <class eT>
Var<eT> trimatl(Var<eT> a, int k) {
  return apply<detail::Trimatl>({k}, a);
}
template <class eT>
Var<eT> symmatu(Var<eT> a) {
  return apply<detail::Symmatu>(a);
}
template <class eT>
Var<eT> symmatl(Var<eT> a) {
  return apply<detail::Symmatl>(a);
}
template <class eT>
Var<eT> chol(Var<eT> a, const char* layout) {
  const bool lower = std::strcmp(layout, "lower") == 0;
  if (!lower && std::strcmp(layout, "upper") != 0)
    throw OptionError(fmt::format("chol: there is no layout \"{}\"; use \"upper\" or \"lower\"", layout));
  const Var<eT> r = detail::cholesky(a, "chol");
  return lower ? r.t() : r;
}
template <class eT>
LuResult<eT> lu(Var<eT> a) {
  const Var<eT> l = apply<detail::LuParts>(a);
  return {l, detail::result_of(l, 1), detail::result_of(l, 2)};
}
template <class eT>
QrResult<eT> qr_econ(Var<eT> a) {
  return detail::economical_qr(a, "qr_econ");
}
template <class eT>
QrResult<eT> qr(Var<eT> a) {
  return detail::results_of(apply<detail::Qr>({"qr"}, a));
}

#define ARMAGRAD_INSTANTIATE(eT)                                    \
  template Var<eT> trimatu(Var<eT>, int);                           \
  template Var<eT> trimatl(Var<eT>, int);                           \
  template Var<eT> symmatu(Var<eT>);                                \
  template Var<eT> symmatl(Var<eT>);                                \
  template Var<eT> chol(Var<eT>, const char*);                      \
  template LuResult<eT> lu(Var<eT>);                                \
  template QrResult<eT> qr_econ(Var<eT>);                           \
  template QrResult<eT> qr(Var<eT>);                                \
  template detail::Triangle detail::triangle_of(Var<eT>);           \
  template Var<eT> detail::require_any_basis(Var<eT>, const char*); \
  template Var<eT> detail::cholesky(Var<eT>, const char*);          \
  template QrResult<eT> detail::economical_qr(Var<eT>, const char*);
ARMAGRAD_INSTANTIATE(float)
ARMAGRAD_INSTANTIATE(double)
#undef ARMAGRAD_INSTANTIATE

}  // namespace armagrad

ARMAGRAD_LIST_OPERATIONS(factorisations, Trimatu, Trimatl, Symmatu, Symmatl, Chol, LuParts, QrEcon, Qr)
