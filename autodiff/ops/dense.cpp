#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include <armagrad/autodiff/device/lanes.hpp>
#include <armagrad/autodiff/device/products.hpp>
#include <armagrad/autodiff/device/versions.hpp>
#include <armagrad/autodiff/ops/dense.hpp>
#include <armagrad/autodiff/ops/lapack.hpp>

namespace armagrad::detail {

namespace {

constexpr std::size_t block = 32;  // substitution and Cholesky end their halving here
constexpr std::size_t panel = 16;  // and LU here

template <class eT>
void subtract_product(bool ta, std::size_t m, std::size_t n, std::size_t k, const eT* a, std::size_t lda, const eT* b,
                      std::size_t ldb, eT* c, std::size_t ldc) {
  product<eT>(ta, false, eT(-1), ta ? view(a, k, m, lda) : view(a, m, k, lda), view(b, k, n, ldb), eT(1),
              view(c, m, n, ldc));
}

// The larger half of n, in whole blocks.
constexpr std::size_t half(std::size_t n, std::size_t unit) { return (n / 2 + unit - 1) / unit * unit; }

template <class eT>
struct Triangular {
  bool upper, transposed, unit;
  std::size_t n, m;
  const eT* t;
  std::size_t ldt;
  eT* b;
  std::size_t ldb;
  bool down() const { return upper == transposed; }  // from the first row to the last
};

// At most `block` rows. A few columns of B at a time are copied so that they lie side by side in registers.
template <class eT>
void substitute_block(const Triangular<eT>& p) {
  constexpr std::size_t width = 2 * lanes<eT>, step = 4;  // rows at once
  const std::size_t n = p.n;
  alignas(64) eT rows[block * block] = {}, inverse[block] = {}, x[block * width] = {};  // in the order of substitution
  const auto at = [&](std::size_t i) { return p.down() ? i : n - 1 - i; };
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t k = 0; k < i; ++k)
      rows[i * block + k] = p.transposed ? p.t[at(k) + at(i) * p.ldt] : p.t[at(i) + at(k) * p.ldt];
    inverse[i] = p.unit ? eT(1) : 1 / p.t[at(i) * (p.ldt + 1)];
  }
  const auto lane = [&x](std::size_t i, std::size_t w) -> Lanes<eT>& {
    return *reinterpret_cast<Lanes<eT>*>(x + i * width + w * lanes<eT>);
  };
  // Elements i of the columns between B and x, whole squares of them in registers.
  const auto turn = [&](std::size_t first, bool back) {
    constexpr std::size_t square = lanes<eT>;
    const std::size_t count = std::min(width, p.m - first), whole = n / square * square;
    for (std::size_t j = 0; j < count; j += square) {
      eT* const b = p.b + (first + j) * p.ldb;
      std::size_t i = 0;
      for (; i < (j + square <= count ? whole : 0); i += square) {
        Lanes<eT> s[square];
        if (back) {
          for (std::size_t k = 0; k < square; ++k) s[k] = lane(at(i + k), j / square);
          transpose<eT>(s);
          for (std::size_t k = 0; k < square; ++k) store(b + i + k * p.ldb, s[k]);
        } else {
          for (std::size_t k = 0; k < square; ++k) load(s[k], b + i + k * p.ldb);
          transpose<eT>(s);
          for (std::size_t k = 0; k < square; ++k) lane(at(i + k), j / square) = s[k];
        }
      }
      for (std::size_t k = 0; k < std::min(square, count - j); ++k)
        for (std::size_t r = i; r < n; ++r) {
          eT &of_b = b[r + k * p.ldb], &of_x = x[at(r) * width + j + k];
          back ? of_b = of_x : of_x = of_b;
        }
    }
  };
  for (std::size_t first = 0; first < p.m; first += width) {
    turn(first, false);
    for (std::size_t i = 0; i < n; i += step) {
      const eT* r = rows + i * block;
      Lanes<eT> s[step][2];
      for (std::size_t q = 0; q < step; ++q)
        for (std::size_t w = 0; w < 2; ++w) s[q][w] = lane(i + q, w);
      for (std::size_t k = 0; k < i; ++k)
        for (std::size_t q = 0; q < step; ++q)
          for (std::size_t w = 0; w < 2; ++w) s[q][w] -= r[q * block + k] * lane(k, w);
      for (std::size_t q = 0; q < step; ++q)
        for (std::size_t w = 0; w < 2; ++w) {
          for (std::size_t k = 0; k < q; ++k) s[q][w] -= r[q * block + i + k] * s[k][w];
          lane(i + q, w) = s[q][w] *= inverse[i + q];
        }
    }
    turn(first, true);
  }
}

template <class eT>
void substitute(const Triangular<eT>& p) {
  if (p.n == 0 || p.m == 0) return;
  if (p.n <= block) return run_version<&substitute_block<eT>, const Triangular<eT>&>(p);
  const std::size_t top = half(p.n, block), rest = p.n - top;
  Triangular<eT> first = p, last = p;
  first.n = top;
  last.n = rest;
  last.t += top * (p.ldt + 1);
  last.b += top;
  const eT* beside = p.upper ? p.t + top * p.ldt : p.t + top;  // what couples the two
  if (p.down()) {
    substitute(first);
    subtract_product(p.transposed, rest, p.m, top, beside, p.ldt, p.b, p.ldb, last.b, p.ldb);
    substitute(last);
  } else {
    substitute(last);
    subtract_product(p.transposed, top, p.m, rest, beside, p.ldt, last.b, p.ldb, p.b, p.ldb);
    substitute(first);
  }
}

// The first place of the largest |x|.
template <class eT>
std::size_t largest(const eT* x, std::size_t n) {
  Lanes<eT> most{};
  std::size_t i = 0;
  for (; i + lanes<eT> <= n; i += lanes<eT>) {
    Lanes<eT> v;
    load(v, x + i);
    const Lanes<eT> size = v < 0 ? -v : v;
    most = size > most ? size : most;
  }
  eT best = 0;
  for (std::size_t k = 0; k < lanes<eT>; ++k) best = std::max(best, most[k]);
  for (; i < n; ++i) best = std::max(best, std::abs(x[i]));
  for (i = 0; i < n; ++i)
    if (std::abs(x[i]) == best) return i;
  return 0;
}

template <class eT>
struct Panel {
  std::size_t m, n;
  eT* a;
  std::size_t lda;
  blas_int* pivots;
  bool regular;
};

// At most `panel` columns, one after the other: each takes all that the earlier ones subtract from it at once.
template <class eT>
void factorise_panel(Panel<eT>& p) {
  for (std::size_t j = 0; j < p.n; ++j) {
    eT *y = p.a + j * p.lda, f[panel];
    const std::size_t done = std::min(j, p.m);
    for (std::size_t k = 0; k < done; ++k) {  // L's unit triangle
      f[k] = y[k];
      for (std::size_t i = k + 1; i < done; ++i) y[i] -= f[k] * p.a[i + k * p.lda];
    }
    if (j >= p.m) continue;
    std::size_t i = done;
    for (; i + 2 * lanes<eT> <= p.m; i += 2 * lanes<eT>) {
      Lanes<eT> s, t, l;
      load(s, y + i);
      load(t, y + i + lanes<eT>);
      for (std::size_t k = 0; k < done; ++k) {
        load(l, p.a + i + k * p.lda);
        s -= f[k] * l;
        load(l, p.a + i + lanes<eT> + k * p.lda);
        t -= f[k] * l;
      }
      store(y + i, s);
      store(y + i + lanes<eT>, t);
    }
    for (; i < p.m; ++i)
      for (std::size_t k = 0; k < done; ++k) y[i] -= f[k] * p.a[i + k * p.lda];
    const std::size_t pivot = j + largest(y + j, p.m - j);
    p.pivots[j] = static_cast<blas_int>(pivot + 1);
    if (y[pivot] == eT(0)) {
      p.regular = false;
      continue;
    }
    if (pivot != j)
      for (std::size_t k = 0; k < p.n; ++k) std::swap(p.a[j + k * p.lda], p.a[pivot + k * p.lda]);
    if (std::abs(y[j]) >= std::numeric_limits<eT>::min()) {
      const eT inverse = 1 / y[j];
      for (i = j + 1; i < p.m; ++i) y[i] *= inverse;
    } else {
      for (i = j + 1; i < p.m; ++i) y[i] /= y[j];
    }
  }
}

// Rows from, ..., to - 1 of n columns exchanged with those that `pivots` names.
template <class eT>
void exchange(std::size_t n, eT* a, std::size_t lda, const blas_int* pivots, std::size_t from, std::size_t to) {
  for (std::size_t j = 0; j < n; ++j) {
    eT* x = a + j * lda;
    for (std::size_t i = from; i < to; ++i) std::swap(x[i], x[static_cast<std::size_t>(pivots[i]) - 1]);
  }
}

template <class eT>
struct Upper {
  std::size_t n;
  eT* a;
  std::size_t lda;
  std::size_t failed;
};

// At most `block` rows; in the copy each row is whole, what is left of the diagonal being of no use.
template <class eT>
void cholesky_block(Upper<eT>& p) {
  constexpr std::size_t parts = block / lanes<eT>;
  alignas(64) eT r[block * block] = {};
  for (std::size_t j = 0; j < p.n; ++j)
    for (std::size_t i = 0; i <= j; ++i) r[i * block + j] = p.a[i + j * p.lda];
  const auto row = [&r](std::size_t i) { return reinterpret_cast<Lanes<eT>*>(r + i * block); };
  for (std::size_t i = 0; i < p.n; ++i) {
    Lanes<eT> sum[parts];
    for (std::size_t w = 0; w < parts; ++w) sum[w] = row(i)[w];
    for (std::size_t k = 0; k < i; ++k)
      for (std::size_t w = 0; w < parts; ++w) sum[w] -= r[k * block + i] * row(k)[w];
    for (std::size_t w = 0; w < parts; ++w) row(i)[w] = sum[w];
    const eT square = r[i * block + i];
    if (!(square > eT(0))) {
      p.failed = i + 1;
      return;
    }
    const eT root = std::sqrt(square);
    for (std::size_t w = 0; w < parts; ++w) row(i)[w] *= 1 / root;
    r[i * block + i] = root;
  }
  for (std::size_t j = 0; j < p.n; ++j)
    for (std::size_t i = 0; i <= j; ++i) p.a[i + j * p.lda] = r[i * block + j];
}

// C - X' X in place of C's upper triangle: n x n, k x n.
template <class eT>
void subtract_gram(std::size_t n, std::size_t k, const eT* x, std::size_t ldx, eT* c, std::size_t ldc) {
  if (n <= 2 * block) return subtract_product(true, n, n, k, x, ldx, x, ldx, c, ldc);
  const std::size_t left = half(n, block), right = n - left;
  subtract_gram(left, k, x, ldx, c, ldc);
  subtract_product(true, left, right, k, x, ldx, x + left * ldx, ldx, c + left * ldc, ldc);
  subtract_gram(right, k, x + left * ldx, ldx, c + left * (ldc + 1), ldc);
}

template <class eT>
struct SmallSvd {
  std::size_t m, n;
  const eT* a;
  std::size_t lda;
  eT *u, *s, *v;
  bool done;
};

// Rotates pairs of columns of A and of V, from the identity on, until A's are orthogonal: then they are U's times s.
template <class eT>
void rotate_columns(SmallSvd<eT>& p) {
  constexpr std::size_t rows = largest_small_svd, parts = rows / lanes<eT>;
  constexpr eT epsilon = std::numeric_limits<eT>::epsilon();
  using Column = Lanes<eT>[parts];
  alignas(64) Column a[rows] = {}, v[rows] = {};
  eT squares[rows] = {}, largest = 0;
  const std::size_t n = p.n;
  const auto element = [](Column& c, std::size_t i) -> eT& { return reinterpret_cast<eT*>(&c[0])[i]; };
  const auto dot = [](const Column& x, const Column& y) {
    Lanes<eT> sum = x[0] * y[0];
    for (std::size_t w = 1; w < parts; ++w) sum += x[w] * y[w];
    for (std::size_t step = lanes<eT> / 2; step > 0; step /= 2)
      for (std::size_t i = 0; i < step; ++i) sum[i] += sum[i + step];
    return sum[0];
  };
  for (std::size_t j = 0; j < n; ++j) {
    for (std::size_t i = 0; i < p.m; ++i) element(a[j], i) = p.a[i + j * p.lda];
    element(v[j], j) = 1;
  }
  bool rotated = true;
  const std::size_t players = n + n % 2;  // every pair once in a sweep; those of a round are apart from each other
  for (int sweep = 0; rotated; ++sweep) {
    if (sweep == 20) return;
    rotated = false;
    for (std::size_t j = 0; j < n; ++j) squares[j] = dot(a[j], a[j]);
    for (std::size_t round = 0; round + 1 < players; ++round)
      for (std::size_t k = 0; k < players / 2; ++k) {
        const std::size_t one = k == 0 ? players - 1 : (round + k) % (players - 1),
                          other = (round + players - 1 - k) % (players - 1), i = std::min(one, other),
                          j = std::max(one, other);
        if (j >= n) continue;
        const eT product = dot(a[i], a[j]);
        if (!(std::abs(product) > epsilon * std::sqrt(squares[i] * squares[j]))) continue;
        rotated = true;
        const eT zeta = (squares[j] - squares[i]) / (2 * product);
        const eT t = std::copysign(1 / (std::abs(zeta) + std::sqrt(1 + zeta * zeta)), zeta);
        const eT cosine = 1 / std::sqrt(1 + t * t), sine = cosine * t;
        for (std::size_t w = 0; w < parts; ++w) {
          const Lanes<eT> x = a[i][w], y = a[j][w], q = v[i][w], r = v[j][w];
          a[i][w] = cosine * x - sine * y;
          a[j][w] = sine * x + cosine * y;
          v[i][w] = cosine * q - sine * r;
          v[j][w] = sine * q + cosine * r;
        }
        squares[i] -= t * product;
        squares[j] += t * product;
      }
  }
  std::size_t order[rows];
  for (std::size_t j = 0; j < n; ++j) {
    squares[j] = dot(a[j], a[j]);
    largest = std::max(largest, squares[j]);
    order[j] = j;
  }
  std::sort(order, order + n, [&](std::size_t i, std::size_t j) { return squares[i] > squares[j]; });
  const eT ratio = 16 * static_cast<eT>(p.m) * epsilon;
  const eT safe = std::sqrt(std::numeric_limits<eT>::min()) / epsilon;  // squares neither overflow nor lose digits
  p.done = squares[order[n - 1]] > ratio * ratio * largest && squares[order[n - 1]] > safe && largest < 1 / safe;
  if (!p.done) return;
  for (std::size_t j = 0; j < n; ++j) {
    const std::size_t from = order[j];
    p.s[j] = std::sqrt(squares[from]);
    for (std::size_t i = 0; i < p.m; ++i) p.u[i + j * p.m] = element(a[from], i) / p.s[j];
    for (std::size_t i = 0; i < n; ++i) p.v[i + j * n] = element(v[from], i);
  }
}

}  // namespace

template <class eT>
bool small_svd(std::size_t m, std::size_t n, const eT* a, std::size_t lda, eT* u, eT* s, eT* v) {
  SmallSvd<eT> p{m, n, a, lda, u, s, v, false};
  run_version<&rotate_columns<eT>, SmallSvd<eT>&>(p);
  return p.done;
}

template <class eT>
bool substitute(bool upper, bool transposed, bool unit, std::size_t n, std::size_t m, const eT* t, std::size_t ldt,
                eT* b, std::size_t ldb) {
  if (n == 0 || m == 0) return true;
  for (std::size_t i = 0; i < n; ++i)
    if (!unit && t[i * (ldt + 1)] == eT(0)) return false;
  if (m >= 4) {
    substitute(Triangular<eT>{upper, transposed, unit, n, m, t, ldt, b, ldb});
    return true;
  }
  char uplo = upper ? 'U' : 'L', trans = transposed ? 'T' : 'N', diagonal = unit ? 'U' : 'N';
  auto rows = static_cast<blas_int>(n), cols = static_cast<blas_int>(m), ld = static_cast<blas_int>(ldt),
       ldx = static_cast<blas_int>(ldb), info = blas_int{0};
  arma::lapack::trtrs(&uplo, &trans, &diagonal, &rows, &cols, t, &ld, b, &ldx, &info);
  return info == 0;
}

template <class eT>
bool factorise_lu(std::size_t m, std::size_t n, eT* a, std::size_t lda, blas_int* pivots) {
  if (m == 0 || n == 0) return true;
  if (n <= panel) {
    Panel<eT> p{m, n, a, lda, pivots, true};
    run_version<&factorise_panel<eT>, Panel<eT>&>(p);
    return p.regular;
  }
  const std::size_t left = std::min(m, half(n, panel)), right = n - left, below = m - left;
  eT* beside = a + left * lda;
  bool regular = factorise_lu(m, left, a, lda, pivots);
  exchange(right, beside, lda, pivots, 0, left);
  substitute(Triangular<eT>{false, false, true, left, right, a, lda, beside, lda});
  subtract_product(false, below, right, left, a + left, lda, beside, lda, beside + left, lda);
  regular &= factorise_lu(below, right, beside + left, lda, pivots + left);
  const std::size_t last = left + std::min(below, right);
  for (std::size_t i = left; i < last; ++i) pivots[i] += static_cast<blas_int>(left);
  exchange(left, a, lda, pivots, left, last);
  return regular;
}

template <class eT>
void solve_factorised(bool transposed, std::size_t n, std::size_t m, const eT* lu, const blas_int* pivots, const eT* b,
                      eT* x) {
  // All exchanges as one permutation: row i of P B is row from(i) of B.
  Scratch scratch;
  auto* from = scratch.take<std::size_t>(n);
  eT* column = scratch.take<eT>(n);
  for (std::size_t i = 0; i < n; ++i) from[i] = i;
  for (std::size_t i = 0; i < n; ++i) std::swap(from[i], from[static_cast<std::size_t>(pivots[i]) - 1]);
  if (transposed) std::copy_n(b, n * m, x);
  for (std::size_t j = 0; j < (transposed ? 0 : m); ++j)
    for (std::size_t i = 0; i < n; ++i) x[i + j * n] = b[from[i] + j * n];
  substitute(transposed, transposed, !transposed, n, m, lu, n, x, n);
  substitute(!transposed, transposed, transposed, n, m, lu, n, x, n);
  for (std::size_t j = 0; j < (transposed ? m : 0); ++j) {
    std::copy_n(x + j * n, n, column);
    for (std::size_t i = 0; i < n; ++i) x[from[i] + j * n] = column[i];
  }
}

template <class eT>
std::size_t factorise_cholesky(std::size_t n, eT* a, std::size_t lda) {
  if (n == 0) return 0;
  if (n <= block) {
    Upper<eT> p{n, a, lda, 0};
    run_version<&cholesky_block<eT>, Upper<eT>&>(p);
    return p.failed;
  }
  const std::size_t top = half(n, block), rest = n - top;
  eT* beside = a + top * lda;
  if (const std::size_t failed = factorise_cholesky(top, a, lda); failed != 0) return failed;
  substitute(Triangular<eT>{true, true, false, top, rest, a, lda, beside, lda});
  subtract_gram(rest, top, beside, lda, beside + top, lda);
  const std::size_t failed = factorise_cholesky(rest, beside + top, lda);
  return failed == 0 ? 0 : top + failed;
}

#define ARMAGRAD_INSTANTIATE(eT)                                                                                  \
  template bool substitute(bool, bool, bool, std::size_t, std::size_t, const eT*, std::size_t, eT*, std::size_t); \
  template bool factorise_lu(std::size_t, std::size_t, eT*, std::size_t, blas_int*);                              \
  template void solve_factorised(bool, std::size_t, std::size_t, const eT*, const blas_int*, const eT*, eT*);     \
  template bool small_svd(std::size_t, std::size_t, const eT*, std::size_t, eT*, eT*, eT*);                       \
  template std::size_t factorise_cholesky(std::size_t, eT*, std::size_t);
ARMAGRAD_INSTANTIATE(float)
ARMAGRAD_INSTANTIATE(double)
#undef ARMAGRAD_INSTANTIATE

}  // namespace armagrad::detail
