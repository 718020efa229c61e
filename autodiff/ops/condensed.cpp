// Householder reflections to tridiagonal and bidiagonal form, and back. As in LAPACK's latrd and labrd a panel of
// columns is reduced against the matrix as it was before the panel, A - W Z' being what it would be, and then the rest
// catches up by one product. What takes the time is the pass over that rest in each column. Both passes below read it
// once, each column while it is in the nearest cache: of a symmetric matrix half serves for all, and for the
// bidiagonal form A' v and A u come from the same pass (Howell, Demmel, Fulton, Hammarling and Marmol, "Cache efficient
// bidiagonalization using BLAS 2.5 operators", 2008): u differs only by its length and in one element from a row that
// is known, element for element, as soon as A' v is.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include <armagrad/autodiff/device/lanes.hpp>
#include <armagrad/autodiff/device/products.hpp>
#include <armagrad/autodiff/device/versions.hpp>
#include <armagrad/autodiff/ops/decompositions.hpp>
#include <armagrad/autodiff/ops/lapack.hpp>

namespace armagrad::detail {

namespace {

constexpr std::size_t panel = 16;      // columns; a multiple of every register's length
constexpr std::size_t together = 4;    // columns of a pass
constexpr std::size_t reflected = 32;  // reflections that become one product

template <class eT>
std::size_t whole(std::size_t i) {  // the first row of i's register
  return i / lanes<eT> * lanes<eT>;
}

// Rows from, ..., to - 1, in whole registers, of `cols` columns.
template <class eT>
struct Columns {
  std::size_t from, to, cols;
  const eT* data;
  std::size_t ld;
};
// y(k) - X g(k) in place of the y(k).
template <std::size_t count, class eT>
void subtract(const Columns<eT>& x, const eT* const (&g)[count], eT* const (&y)[count]) {
  constexpr std::size_t step = lanes<eT>, wide = 2;
  std::size_t i = x.from;
  for (; i + wide * step <= x.to; i += wide * step) {
    Lanes<eT> s[count][wide];
    for (std::size_t k = 0; k < count; ++k)
      for (std::size_t w = 0; w < wide; ++w) load(s[k][w], y[k] + i + w * step);
    for (std::size_t j = 0; j < x.cols; ++j)
      for (std::size_t w = 0; w < wide; ++w) {
        Lanes<eT> v;
        load(v, x.data + i + w * step + j * x.ld);
        for (std::size_t k = 0; k < count; ++k) s[k][w] -= g[k][j] * v;
      }
    for (std::size_t k = 0; k < count; ++k)
      for (std::size_t w = 0; w < wide; ++w) store(y[k] + i + w * step, s[k][w]);
  }
  for (; i < x.to; i += step)
    for (std::size_t k = 0; k < count; ++k) {
      Lanes<eT> s, v;
      load(s, y[k] + i);
      for (std::size_t j = 0; j < x.cols; ++j) {
        load(v, x.data + i + j * x.ld);
        s -= g[k][j] * v;
      }
      store(y[k] + i, s);
    }
}
// g = X' v.
template <class eT>
void dots(const Columns<eT>& x, const eT* v, eT* g) {
  std::size_t j = 0;
  for (; j + together <= x.cols; j += together) {
    const eT* a = x.data + j * x.ld;
    Lanes<eT> sum[together] = {}, p, q;
    for (std::size_t i = x.from; i < x.to; i += lanes<eT>) {
      load(p, v + i);
      for (std::size_t k = 0; k < together; ++k) {
        load(q, a + i + k * x.ld);
        sum[k] += p * q;
      }
    }
    for (std::size_t k = 0; k < together; ++k) g[j + k] = sum_of<eT>(sum[k]);
  }
  for (; j < x.cols; ++j) {
    Lanes<eT> sum{}, p, q;
    for (std::size_t i = x.from; i < x.to; i += lanes<eT>) {
      load(p, v + i);
      load(q, x.data + i + j * x.ld);
      sum += p * q;
    }
    g[j] = sum_of<eT>(sum);
  }
}

// v' v.
template <class eT>
eT squares_of(const eT* v, std::size_t from, std::size_t to) {
  constexpr std::size_t step = lanes<eT>;
  Lanes<eT> sum[together] = {}, x;
  std::size_t i = from;
  for (; i + together * step <= to; i += together * step)
    for (std::size_t k = 0; k < together; ++k) {
      load(x, v + i + k * step);
      sum[k] += x * x;
    }
  for (; i < to; i += step) {
    load(x, v + i);
    sum[0] += x * x;
  }
  sum[0] += sum[1];
  sum[2] += sum[3];
  sum[0] += sum[2];
  return sum_of<eT>(sum[0]);
}

template <class eT>
struct Reflection {
  eT beta, tau, by;  // v is x times `by`, with 1 in its place
};
// I - tau v v' with v(at) = 1 that takes x to beta in the place `at`. v: x from there on, 0 before, and v afterwards.
// What is nothing even to a square beside a matrix of norm 1 is left where it is.
template <class eT>
Reflection<eT> reflection(eT* v, std::size_t at, std::size_t to) {
  const eT alpha = v[at];
  v[at] = 0;
  const eT squares = squares_of(v, whole<eT>(at), to);
  if (squares < std::numeric_limits<eT>::min() / std::numeric_limits<eT>::epsilon()) {
    std::fill(v + at, v + to, eT(0));
    return {alpha, 0, 0};
  }
  const eT beta = -std::copysign(std::sqrt(alpha * alpha + squares), alpha), by = 1 / (alpha - beta);
  for (std::size_t i = whole<eT>(at); i < to; ++i) v[i] *= by;
  v[at] = 1;
  return {beta, (beta - alpha) / beta, by};
}

template <class eT>
struct Tridiagonal {
  Padded<eT> a;
  std::size_t first, count;
  eT *d, *e, *tau;
  Padded<eT> w;  // v, p, v, p, ...: Z has the two of a pair exchanged
};

// y = A v for the rest, from the column `first` on: its diagonal blocks, one register high, and what is below them.
template <class eT>
void multiply_symmetric(const Padded<eT>& a, std::size_t first, std::size_t to, const eT* v, eT* y) {
  constexpr std::size_t step = lanes<eT>;
  for (std::size_t i = whole<eT>(first); i < to; i += step) store(y + i, Lanes<eT>{});
  for (std::size_t c = whole<eT>(first); c < a.cols; c += step)
    for (std::size_t j = c; j < std::min(c + step, a.cols); j += together) {
      const eT* x[together];
      eT by[together];
      for (std::size_t k = 0; k < together; ++k) {
        x[k] = a.column(j + k);
        by[k] = v[j + k];
      }
      Lanes<eT> sum[together] = {}, s, p, q;
      load(s, y + c);
      for (std::size_t k = 0; k < together; ++k) {
        load(q, x[k] + c);
        s += by[k] * q;
      }
      store(y + c, s);
      for (std::size_t i = c + step; i < to; i += step) {
        load(s, y + i);
        load(p, v + i);
        for (std::size_t k = 0; k < together; ++k) {
          load(q, x[k] + i);
          s += by[k] * q;
          sum[k] += p * q;
        }
        store(y + i, s);
      }
      for (std::size_t k = 0; k < together; ++k) y[j + k] += sum_of<eT>(sum[k]);
    }
}

template <class eT>
void tridiagonal_panel(Tridiagonal<eT>& p) {
  const std::size_t n = p.a.cols, to = in_lanes<eT>(n);
  eT g[2 * panel], h[2 * panel];
  for (std::size_t c = 0; c < p.count; ++c) {
    const std::size_t i = p.first + c, done = 2 * c, from = whole<eT>(i);
    eT *column = p.a.column(i), *v = p.w.column(done), *y = p.w.column(done + 1);
    const Columns<eT> w{from, to, done, p.w.data, p.w.ld};
    for (std::size_t k = 0; k < done; ++k) g[k] = p.w.column(k ^ 1)[i];
    subtract<1, eT>(w, {g}, {column});
    p.d[i] = column[i];
    if (i + 1 == n) return;
    std::fill(v + from, v + i + 1, eT(0));
    std::copy(column + i + 1, column + to, v + i + 1);
    const Reflection<eT> r = reflection(v, i + 1, to);
    std::copy(v + i + 1, v + to, column + i + 1);
    p.e[i] = r.beta;
    p.tau[i] = r.tau;
    multiply_symmetric(p.a, i + 1, to, v, y);
    const Columns<eT> rest{whole<eT>(i + 1), to, done, p.w.data, p.w.ld};
    dots(rest, v, h);
    for (std::size_t k = 0; k < done; ++k) g[k] = h[k ^ 1];
    subtract<1, eT>(rest, {g}, {y});
    eT product;
    dots(Columns<eT>{rest.from, to, 1, y, 0}, v, &product);
    const eT half = r.tau * r.tau * product / 2;
    for (std::size_t k = rest.from; k < to; ++k) y[k] = r.tau * y[k] - half * v[k];
  }
}

template <class eT>
struct Bidiagonal {
  Padded<eT> a, right;
  std::size_t first, count;
  eT *d, *e, *tau_left, *tau_right;
  Padded<eT> w, z;  // v, x, v, x, ... and y, u, y, u, ...
  eT* row;          // n, padded
};

// y = tau (A' v - y), r = r - y and s = the columns of A but the first times r, for the columns from `first` on.
template <class eT>
void multiply_both(const Padded<eT>& a, std::size_t first, std::size_t from, std::size_t to, const eT* v, eT tau, eT* y,
                   eT* r, eT* s) {
  constexpr std::size_t step = lanes<eT>;
  for (std::size_t i = from; i < to; i += step) store(s + i, Lanes<eT>{});
  for (std::size_t j = first; j < a.cols; j += together) {
    const eT* x[together];
    for (std::size_t k = 0; k < together; ++k) x[k] = a.column(j + k);
    Lanes<eT> sum[together] = {}, p, q;
    for (std::size_t i = from; i < to; i += step) {
      load(p, v + i);
      for (std::size_t k = 0; k < together; ++k) {
        load(q, x[k] + i);
        sum[k] += p * q;
      }
    }
    eT by[together];
    for (std::size_t k = 0; k < together; ++k) {
      y[j + k] = tau * (sum_of<eT>(sum[k]) + y[j + k]);
      by[k] = r[j + k] -= y[j + k];
    }
    if (j == first) by[0] = 0;
    for (std::size_t i = from; i < to; i += step) {
      load(p, s + i);
      for (std::size_t k = 0; k < together; ++k) {
        load(q, x[k] + i);
        p += by[k] * q;
      }
      store(s + i, p);
    }
  }
}

template <class eT>
void bidiagonal_panel(Bidiagonal<eT>& b) {
  const std::size_t m = b.a.rows, n = b.a.cols, down = in_lanes<eT>(m), across = in_lanes<eT>(n + together);
  eT g[2 * panel], h[2 * panel];
  for (std::size_t c = 0; c < b.count; ++c) {
    const std::size_t i = b.first + c, done = 2 * c, from = whole<eT>(i), next = whole<eT>(i + 1);
    eT *column = b.a.column(i), *v = b.w.column(done), *x = b.w.column(done + 1), *y = b.z.column(done),
       *u = b.z.column(done + 1);
    const Columns<eT> w{from, down, done, b.w.data, b.w.ld}, z{next, across, done, b.z.data, b.z.ld};
    for (std::size_t k = 0; k < done; ++k) g[k] = b.z.column(k)[i];
    subtract<1, eT>(w, {g}, {column});
    std::fill(v + from, v + i, eT(0));
    std::copy(column + i, column + down, v + i);
    const Reflection<eT> left = reflection(v, i, down);
    std::copy(v + i, v + down, column + i);
    b.d[i] = left.beta;
    b.tau_left[i] = left.tau;
    if (i + 1 == n) return;
    // The row i of A - W Z' in r, and -Z W' v in y.
    dots(w, v, g);
    for (std::size_t k = 0; k < done; ++k) h[k] = b.w.column(k)[i];
    std::fill(y + next, y + across, eT(0));
    std::fill(b.row + next, b.row + i + 1, eT(0));
    std::fill(b.row + n, b.row + across, eT(0));
    for (std::size_t j = i + 1; j < n; ++j) b.row[j] = b.a.column(j)[i];
    subtract<2, eT>(z, {g, h}, {y, b.row});
    multiply_both(b.a, i + 1, from, down, v, left.tau, y, b.row, x);
    std::fill(y + next, y + i + 1, eT(0));
    std::fill(b.row + next, b.row + i + 1, eT(0));
    std::copy(b.row + next, b.row + across, u + next);
    const Reflection<eT> right = reflection(u, i + 1, across);
    std::copy(u + i + 1, u + n, b.right.column(i) + i + 1);
    b.e[i] = right.beta;
    b.tau_right[i] = right.tau;
    // x = tau (A u - W Z' u), where u is r times a number but in its first place.
    const Columns<eT> zy{next, across, done + 1, b.z.data, b.z.ld}, wv{from, down, done + 1, b.w.data, b.w.ld};
    dots(zy, u, g);
    const eT* after = b.a.column(i + 1);
    for (std::size_t k = from; k < down; ++k) x[k] = after[k] + right.by * x[k];
    subtract<1, eT>(wv, {g}, {x});
    for (std::size_t k = from; k < down; ++k) x[k] *= right.tau;
  }
}

template <class eT>
Padded<eT> padded(Scratch& scratch, std::size_t rows, std::size_t cols) {
  const std::size_t size = Padded<eT>::size(rows, cols);
  const Padded<eT> p{rows, cols, Padded<eT>::leading(rows), scratch.take<eT>(size)};
  std::fill_n(p.data, size, eT(0));
  return p;
}

}  // namespace

// An odd number of cache lines, so that columns do not compete for the same places, and room for the columns of a pass.
template <class eT>
std::size_t Padded<eT>::leading(std::size_t n) {
  const std::size_t lines = in_lanes<eT>(n + together) / lanes<eT>;
  return (lines | 1) * lanes<eT>;
}

template <class eT>
void tridiagonalise(const Padded<eT>& a, eT* d, eT* e, eT* tau) {
  Scratch scratch;
  const std::size_t n = a.cols;
  Tridiagonal<eT> p{a, 0, 0, d, e, tau, padded<eT>(scratch, n, 2 * panel)};
  const Padded<eT> z = padded<eT>(scratch, n, 2 * panel);
  constexpr std::size_t block = 64;
  for (; p.first < n; p.first += p.count) {
    p.count = std::min(panel, n - p.first);
    run_version<&tridiagonal_panel<eT>, Tridiagonal<eT>&>(p);
    const std::size_t begin = p.first + p.count;
    if (begin == n) return;
    for (std::size_t k = 0; k < 2 * p.count; ++k)
      std::copy(p.w.column(k ^ 1) + begin, p.w.column(k ^ 1) + n, z.column(k) + begin);
    for (std::size_t j = begin; j < n; j += block) {
      const std::size_t cols = std::min(block, n - j);
      product<eT>(false, true, eT(-1), view<const eT>(p.w.data + j, n - j, 2 * p.count, p.w.ld),
                  view<const eT>(z.data + j, cols, 2 * p.count, z.ld), eT(1), view(a.column(j) + j, n - j, cols, a.ld));
    }
  }
}

template <class eT>
void bidiagonalise(const Padded<eT>& a, eT* d, eT* e, eT* tau_left, const Padded<eT>& right, eT* tau_right) {
  Scratch scratch;
  const std::size_t m = a.rows, n = a.cols;
  Bidiagonal<eT> b{a,
                   right,
                   0,
                   0,
                   d,
                   e,
                   tau_left,
                   tau_right,
                   padded<eT>(scratch, m, 2 * panel),
                   padded<eT>(scratch, n, 2 * panel),
                   scratch.take<eT>(Padded<eT>::leading(n))};
  for (; b.first < n; b.first += b.count) {
    b.count = std::min(panel, n - b.first);
    run_version<&bidiagonal_panel<eT>, Bidiagonal<eT>&>(b);
    const std::size_t begin = b.first + b.count;
    if (begin == n) return;
    product<eT>(false, true, eT(-1), view<const eT>(b.w.data + begin, m - begin, 2 * b.count, b.w.ld),
                view<const eT>(b.z.data + begin, n - begin, 2 * b.count, b.z.ld), eT(1),
                view(a.column(begin) + begin, m - begin, n - begin, a.ld));
  }
}

// The product of reflections is I - V T V', where T^-1 has the 1 / tau on its diagonal and V' V above it (Joffrain,
// Low, Quintana-Orti and van de Geijn, "Accumulating Householder transformations, revisited", 2006).
template <class eT>
void reflect(const Padded<eT>& v, std::size_t count, std::size_t below, const eT* tau, std::size_t m, eT* c,
             std::size_t ldc) {
  Scratch scratch;
  const std::size_t n = v.rows;
  eT *block = scratch.take<eT>(n * reflected), *t = scratch.take<eT>(reflected * reflected),
     *x = scratch.take<eT>(reflected * m);
  for (std::size_t end = count; end > 0;) {
    const std::size_t begin = (end - 1) / reflected * reflected, cols = end - begin, top = begin + below,
                      rows = n - top;
    for (std::size_t j = 0; j < cols; ++j) {
      const eT* from = v.column(begin + j) + top;
      std::fill_n(block + j * rows, std::min(j, rows), eT(0));
      if (j < rows) std::copy(from + j, from + rows, block + j * rows + j);
    }
    const View<const eT> vs = view<const eT>(block, rows, cols, rows);
    product<eT>(true, false, eT(1), vs, vs, eT(0), view(t, cols, cols, cols));
    for (std::size_t j = 0; j < cols; ++j) t[j * (cols + 1)] = tau[begin + j] == eT(0) ? eT(1) : 1 / tau[begin + j];
    product<eT>(true, false, eT(1), vs, view<const eT>(c + top, rows, m, ldc), eT(0), view(x, cols, m, cols));
    substitute(true, false, false, cols, m, t, cols, x, cols);
    product<eT>(false, false, eT(-1), vs, view<const eT>(x, cols, m, cols), eT(1), view(c + top, rows, m, ldc));
    end = begin;
  }
}

namespace {

// The power of 2 that brings a norm to about 1, so that squares are in range.
template <class eT>
bool scale_of(eT norm, int& exponent) {
  if (!(norm > 0) || !std::isfinite(norm)) return false;
  exponent = std::clamp(-std::ilogb(norm), 4 - std::numeric_limits<eT>::max_exponent,
                        std::numeric_limits<eT>::max_exponent - 4);
  return true;
}

template <class eT>
double* widened(Scratch& scratch, const eT* x, std::size_t n) {
  double* to = scratch.take<double>(n);
  std::copy_n(x, n, to);
  return to;
}

}  // namespace

template <class eT>
bool eigen_decomposition(std::size_t n, eT norm, eT* a, eT* w) {
  int exponent;
  if (!scale_of(norm, exponent)) return false;
  Scratch scratch;
  const Padded<eT> x = padded<eT>(scratch, n, n);
  const eT scale = std::ldexp(eT(1), exponent), back = std::ldexp(eT(1), -exponent);
  for (std::size_t j = 0; j < n; ++j)
    for (std::size_t i = 0; i < n; ++i) x.column(j)[i] = scale * a[i + j * n];
  eT *d = scratch.take<eT>(n), *e = scratch.take<eT>(n), *tau = scratch.take<eT>(n), *v = scratch.take<eT>(n * n);
  tridiagonalise(x, d, e, tau);
  auto* order = scratch.take<std::size_t>(n);
  double* values = widened(scratch, d, n);
  if (!tridiagonal_eigen(n, values, widened(scratch, e, n - 1), v, order)) return false;
  for (std::size_t j = 0; j < n; ++j) {
    w[j] = back * static_cast<eT>(values[order[j]]);
    std::copy_n(v + order[j] * n, n, a + j * n);
  }
  reflect(x, n - 1, 1, tau, n, a, n);
  return true;
}

namespace {

// Of an x whose norm is about 1, and which is scratch; below U's first x.rows rows nothing is written.
template <class eT>
bool decompose(const Padded<eT>& x, eT* u, std::size_t ldu, eT* s, eT* v) {
  const std::size_t m = x.rows, n = x.cols;
  Scratch scratch;
  const Padded<eT> right{n, n, n, scratch.take<eT>(n * n)};  // is not read in whole registers
  eT *d = scratch.take<eT>(n), *e = scratch.take<eT>(n), *tau_left = scratch.take<eT>(n),
     *tau_right = scratch.take<eT>(n), *p = scratch.take<eT>(n * n), *q = scratch.take<eT>(n * n);
  bidiagonalise(x, d, e, tau_left, right, tau_right);
  auto* order = scratch.take<std::size_t>(n);
  double* values = widened(scratch, d, n);
  if (!bidiagonal_svd(n, values, widened(scratch, e, n - 1), p, q, order)) return false;
  for (std::size_t j = 0; j < n; ++j) {
    const std::size_t from = order[n - 1 - j];
    s[j] = static_cast<eT>(values[from]);
    std::copy_n(p + from * n, n, u + j * ldu);
    std::fill_n(u + j * ldu + n, m - n, eT(0));
    std::copy_n(q + from * n, n, v + j * n);
  }
  reflect(x, n, 0, tau_left, n, u, ldu);
  reflect(right, n - 1, 1, tau_right, n, v, n);
  return true;
}

}  // namespace

template <class eT>
bool singular_value_decomposition(std::size_t m, std::size_t n, eT norm, const eT* a, std::size_t lda, eT* u, eT* s,
                                  eT* v) {
  int exponent;
  if (!scale_of(norm, exponent)) return false;
  Scratch scratch;
  const Padded<eT> x = padded<eT>(scratch, m, n);
  const eT scale = std::ldexp(eT(1), exponent), back = std::ldexp(eT(1), -exponent);
  for (std::size_t j = 0; j < n; ++j)
    for (std::size_t i = 0; i < m; ++i) x.column(j)[i] = scale * a[i + j * lda];
  if (m < 6 * n) {
    if (!decompose(x, u, m, s, v)) return false;
  } else {  // A = Q R, mostly products, leaves a square R
    auto rows = static_cast<blas_int>(m), cols = static_cast<blas_int>(n), ld = static_cast<blas_int>(x.ld),
         query = blas_int{-1}, info = blas_int{0};
    eT *tau = scratch.take<eT>(n), size = 0;
    arma::lapack::geqrf(&rows, &cols, x.data, &ld, tau, &size, &query, &info);
    query = static_cast<blas_int>(size);
    arma::lapack::geqrf(&rows, &cols, x.data, &ld, tau, scratch.take<eT>(static_cast<std::size_t>(query)), &query,
                        &info);
    const Padded<eT> r = padded<eT>(scratch, n, n);
    for (std::size_t j = 0; j < n; ++j) {
      std::copy_n(x.column(j), j + 1, r.column(j));
      x.column(j)[j] = 1;
    }
    if (!decompose(r, u, m, s, v)) return false;
    for (std::size_t j = 0; j < n; ++j) std::fill_n(u + j * m + n, m - n, eT(0));
    reflect(x, n, 0, tau, n, u, m);
  }
  for (std::size_t j = 0; j < n; ++j) s[j] *= back;
  return true;
}

#define ARMAGRAD_INSTANTIATE(eT)                                                                                \
  template struct Padded<eT>;                                                                                   \
  template void tridiagonalise(const Padded<eT>&, eT*, eT*, eT*);                                               \
  template void bidiagonalise(const Padded<eT>&, eT*, eT*, eT*, const Padded<eT>&, eT*);                        \
  template void reflect(const Padded<eT>&, std::size_t, std::size_t, const eT*, std::size_t, eT*, std::size_t); \
  template bool eigen_decomposition(std::size_t, eT, eT*, eT*);                                                 \
  template bool singular_value_decomposition(std::size_t, std::size_t, eT, const eT*, std::size_t, eT*, eT*, eT*);
ARMAGRAD_INSTANTIATE(float)
ARMAGRAD_INSTANTIATE(double)
#undef ARMAGRAD_INSTANTIATE

}  // namespace armagrad::detail
