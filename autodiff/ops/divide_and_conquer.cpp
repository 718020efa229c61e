// Divide and conquer for tridiagonal and bidiagonal matrices (Cuppen 1981; Gu and Eisenstat 1995): two halves are
// decomposed, and a secular equation says what becomes of their values when the element between them is put back.
//
// Both kinds end at the same equation, 1 + sum over j of z(j)^2 / (p(j) - x) = 0: the poles p are the halves' values d,
// or the squares of singular values. Its roots are found eight at a time, one in each lane of a register, by the
// interpolation of Borges and Gragg (1993), within a bracket. A root is kept as its distance from the nearest pole, so
// that all distances are exact to the last digits; then the z for which the roots are exact are computed from the
// roots, and vectors made from these are orthogonal however close the poles are (Gu and Eisenstat). This is done in
// double precision also for float, whose squares would leave its range.
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

using Wide = Lanes<double>;
constexpr std::size_t wide = lanes<double>;
constexpr double epsilon = std::numeric_limits<double>::epsilon();

struct Secular {
  std::size_t k;
  double* d;             // k, ascending
  double* z;             // k; at the end those for which the roots are exact
  double *origin, *eta;  // k: root i is the pole of the value origin(i), plus eta(i)
                         // of all four a register more: no z, far away
  bool solved;
};

// The distance of poles, p(a) - p(b).
template <bool squared, class A, class B, class Difference>
void distance(const A& a, const B& b, Difference& to) {
  if constexpr (squared)
    to = (a - b) * (a + b);
  else
    to = a - b;
}

inline void square_root(Wide& x) {
  for (std::size_t l = 0; l < wide; ++l) x[l] = std::sqrt(std::abs(x[l]));
}
template <class Mask>
bool any(const Mask& mask) {
  std::int64_t all = 0;
  for (std::size_t l = 0; l < wide; ++l) all |= mask[l];
  return all != 0;
}

// Four reciprocals by one division, which takes longer than all the rest. Distances do not leave the range: what two
// poles are apart is at least the tolerance of the merge, or its square.
constexpr std::size_t four = 4;
inline void reciprocals(Wide (&x)[four]) {
  const Wide p = x[0] * x[1], q = x[2] * x[3], all = 1 / (p * q), of_p = all * q, of_q = all * p, first = x[0],
             third = x[2];
  x[0] = of_p * x[1];
  x[1] = of_p * first;
  x[2] = of_q * x[3];
  x[3] = of_q * third;
}
// Of poles j, ..., j + 3 to the roots at origin + x.
template <bool squared>
void reciprocal_distances(const Secular& p, std::size_t j, const Wide& origin, const Wide& x, Wide (&to)[four]) {
  for (std::size_t k = 0; k < four; ++k) {
    distance<squared>(p.d[j + k], origin, to[k]);
    to[k] -= x;
  }
  reciprocals(to);
}

// Of the function at origin + x: its value less 1, its first and half its second derivative, and the sum of sizes.
template <bool squared>
void evaluate(const Secular& p, const Wide& origin, const Wide& x, Wide& f, Wide& slope, Wide& curve, Wide& size) {
  f = slope = curve = size = Wide{};
  for (std::size_t j = 0; j < p.k; j += four) {
    Wide reciprocal[four];
    reciprocal_distances<squared>(p, j, origin, x, reciprocal);
    for (std::size_t k = 0; k < four; ++k) {
      Wide t = p.z[j + k] * p.z[j + k] * reciprocal[k];
      f += t;
      size += t < 0 ? -t : t;
      t *= reciprocal[k];
      slope += t;
      curve += t * reciprocal[k];
    }
  }
}

// The root in (smallest, largest) of c + s / (a - x) + t / (b - x), whose poles a and b are the ends, written as
// c x^2 - sum x + product.
inline void root_between(const Wide& c, const Wide& sum, const Wide& product, Wide& x) {
  Wide root = sum * sum - 4 * product * c;
  square_root(root);
  const Wide plus = 2 * product / (sum + root), minus = (sum - root) / (2 * c);
  x = sum > 0 ? plus : minus;
}

// Each root lies between its pole and the next; the last one's next is put twice as far as that root can be.
template <bool squared>
void find_roots(Secular& p) {
  const std::size_t k = p.k;
  double total = 0;
  for (std::size_t j = 0; j < k; ++j) total += p.z[j] * p.z[j];
  for (std::size_t first = 0; first < k; first += wide) {
    Wide low{}, high{}, gap{}, below{}, above{}, end{};
    for (std::size_t l = 0; l < wide; ++l) {
      const std::size_t i = std::min(first + l, k - 1), next = std::min(i + 1, k - 1);
      double apart = 0;
      distance<squared>(p.d[next], p.d[i], apart);
      low[l] = p.d[i];
      high[l] = p.d[next];
      below[l] = p.z[i] * p.z[i];
      above[l] = next == i ? 0 : p.z[next] * p.z[next];
      gap[l] = next == i ? 2 * total : apart;
      end[l] = next == i ? gap[l] : gap[l] / 2;
    }
    const Wide zero{};
    Wide f, slope, curve, size, eta = gap / 2;
    evaluate<squared>(p, low, eta, f, slope, curve, size);
    f += 1;
    // The sign in the middle says which pole is nearer. For a first guess all others add what they do there.
    const auto upper = (f < 0) & (high != low);
    const Wide origin = upper ? high : low;
    Wide c = f + 2 * (below - above) / gap;
    c = upper ? -c : c;
    const Wide sum = c * gap + below + above, product = (upper ? above : below) * gap;
    root_between(c, sum, product, eta);
    eta = upper ? -eta : eta;
    const Wide a = upper ? -gap : zero, b = upper ? zero : gap;  // the poles as seen from the origin
    Wide least = upper ? -end : zero, most = upper ? zero : end;
    const auto inside = [&least, &most](Wide& x) {
      const Wide middle = (least + most) / 2;
      const auto is = (x > least) & (x < most);
      x = is ? x : middle;
    };
    inside(eta);
    auto active = ~(end < 0);  // all, if there is NaN as well
    for (int step = 0; any(active); ++step) {
      if (step == 80) return;
      evaluate<squared>(p, origin, eta, f, slope, curve, size);
      f += 1;
      const Wide error = epsilon * (8 * (1 + size) + (eta < 0 ? -eta : eta) * slope), height = f < 0 ? -f : f;
      active = active & ~(height <= error);
      most = f > 0 ? eta : most;
      least = f < 0 ? eta : least;
      const Wide to_a = a - eta, to_b = b - eta;  // c + s / to_a + t / to_b has the same value, slope and curvature
      const Wide at_a = to_a * to_a * (to_b * curve - slope) / gap, at_b = to_b * to_b * (slope - to_a * curve) / gap;
      c = f - at_a - at_b;
      Wide next;
      root_between(c, c * (to_a + to_b) + to_a * at_a + to_b * at_b, to_a * to_b * f, next);
      next += eta;
      inside(next);
      const Wide moved = next - eta, still = epsilon * (eta < 0 ? -eta : eta);
      eta = active ? next : eta;
      active = active & ~((moved < 0 ? -moved : moved) <= still);
    }
    store(p.origin + first, origin);
    store(p.eta + first, eta);
  }
  // z(j)^2 is the product of p(j) - root(i) over that of p(j) - p(i), i /= j; each quotient lies between 0 and 1.
  Wide lane{};
  for (std::size_t l = 0; l < wide; ++l) lane[l] = static_cast<double>(l);
  const Wide one = Wide{} + 1;
  for (std::size_t j = 0; j < k; ++j) {
    Wide square = one, above = one, below = one;
    for (std::size_t first = 0, step = 0; first < k; first += wide) {
      Wide origin, eta, here, after, delta, apart;
      load(origin, p.origin + first);
      load(eta, p.eta + first);
      load(here, p.d + first);
      load(after, p.d + first + 1);
      const Wide i = lane + static_cast<double>(first);
      distance<squared>(p.d[j], origin, delta);
      const Wide other = i < static_cast<double>(j) ? here : after;
      distance<squared>(p.d[j], other, apart);
      apart = i < static_cast<double>(k - 1) ? apart : one;
      delta = i < static_cast<double>(k) ? delta - eta : one;
      above *= delta;
      below *= apart;
      if (++step % four != 0 && first + wide < k) continue;
      square *= above / below;
      above = below = one;
    }
    double all = 1;
    for (std::size_t l = 0; l < wide; ++l) all *= square[l];
    p.z[j] = std::copysign(std::sqrt(std::abs(all)), p.z[j]);
  }
  p.solved = true;
}

// The vectors of the roots, z(j) / (p(j) - root(i)) and, for U, -1 in j = 0 and d(j) times that in the others, to unit
// length: row `row(j)` of S', where i is the faster index.
template <class eT>
struct Vectors {
  const Secular* secular;
  const std::size_t* row;
  std::size_t ld;
  eT *v, *u;
};
template <bool squared, class eT>
void write_vectors(Vectors<eT>& p) {
  const Secular& s = *p.secular;
  using Narrow [[gnu::vector_size(wide * sizeof(eT))]] = eT;
  const auto put = [](eT* to, const Wide& x) { store(to, __builtin_convertvector(x, Narrow)); };
  const auto scale = [](eT* x, const Wide& by) {
    Narrow y;
    load(y, x);
    store(x, y *= __builtin_convertvector(by, Narrow));
  };
  for (std::size_t first = 0; first < s.k; first += wide) {
    Wide origin, eta, squares_v{}, squares_u = squares_v + 1;
    load(origin, s.origin + first);
    load(eta, s.eta + first);
    for (std::size_t begin = 0; begin < s.k; begin += four) {
      Wide reciprocal[four];
      reciprocal_distances<squared>(s, begin, origin, eta, reciprocal);
      for (std::size_t j = begin; j < std::min(begin + four, s.k); ++j) {
        const Wide x = s.z[j] * reciprocal[j - begin];
        squares_v += x * x;
        put(p.v + p.row[j] * p.ld + first, x);
        if constexpr (squared) {
          const Wide y = s.d[j] * x;
          squares_u += y * y;
          put(p.u + p.row[j] * p.ld + first, j == 0 ? Wide{} - 1 : y);
        }
      }
    }
    square_root(squares_v);
    square_root(squares_u);
    const Wide by_v = 1 / squares_v, by_u = 1 / squares_u;
    for (std::size_t j = 0; j < s.k; ++j) {
      scale(p.v + p.row[j] * p.ld + first, by_v);
      if constexpr (squared) scale(p.u + p.row[j] * p.ld + first, by_u);
    }
  }
}

// C = A S for few elements, with S' given: BLAS would take longer to begin.
template <class eT>
struct SmallProduct {
  std::size_t rows, cols, inner;
  const eT *a, *s;
  std::size_t ld;
  eT* c;
  std::size_t ldc;
};
template <class eT>
void multiply_small(const SmallProduct<eT>& p) {
  for (std::size_t j = 0; j < p.cols; j += wide)
    for (std::size_t i = 0; i < p.rows; ++i) {
      eT sum[wide] = {};
      for (std::size_t k = 0; k < p.inner; ++k)
        for (std::size_t l = 0; l < wide; ++l) sum[l] += p.a[i + k * p.rows] * p.s[k * p.ld + j + l];
      for (std::size_t l = 0; l < std::min(wide, p.cols - j); ++l) p.c[i + (j + l) * p.ldc] = sum[l];
    }
}

enum class Half : std::uint8_t { top, both, bottom };  // where a vector is not 0

struct Pole {
  double d, z;
  std::size_t column;
  Half half;
};

// One matrix of vectors while two halves are put together.
template <class eT>
struct Basis {
  eT* at;  // the part's first element
  std::size_t ld, rows, top;
};

template <class eT>
class Conquer {
  static constexpr double unit = static_cast<double>(std::numeric_limits<eT>::epsilon());

 public:
  Conquer(std::size_t n, double* d, double* e, eT* u, eT* v, std::size_t* order)
      : n_(n), d_(d), e_(e), u_(u), v_(v), order_(order) {
    for (eT* x : {u, v})
      if (x != nullptr) std::fill_n(x, n * n, eT(0));
    const std::size_t padded = in_lanes<double>(n + 1) + wide;
    for (double** x : {&secular_.d, &secular_.z, &secular_.origin, &secular_.eta}) *x = scratch_.take<double>(padded);
    poles_ = scratch_.take<Pole>(n);
    gone_ = scratch_.take<Pole>(n);
    row_ = scratch_.take<std::size_t>(n);
    sorted_ = scratch_.take<std::size_t>(n);
    packed_ = scratch_.take<eT>(n * n);
    for (eT*& s : s_) s = scratch_.take<eT>(n * in_lanes<double>(n));
  }

  // Rows and columns from `first` on of T.
  bool eigen(std::size_t first, std::size_t n) {
    eT* v = v_ + first * (n_ + 1);
    if (n == 1) {
      *v = 1;
      order_[first] = 0;
      return true;
    }
    // T is two halves and |beta| (1, +-1)' (1, +-1) between them.
    const std::size_t top = n / 2, at = first + top;
    const double beta = e_[at - 1], size = std::sqrt(std::abs(beta)), sign = beta < 0 ? -1 : 1;
    d_[at - 1] -= std::abs(beta);
    d_[at] -= std::abs(beta);
    if (!eigen(first, top) || !eigen(at, n - top)) return false;
    double squares = 0;
    sort(first, top, 0, n - top, [&](std::size_t c) {
      const eT z = v[(c < top ? top - 1 : top) + c * n_];
      squares += static_cast<double>(z * z);
      return size * (c < top ? 1 : sign) * static_cast<double>(z);
    });
    const double length = size * std::sqrt(squares);
    double largest = length * length;
    for (std::size_t c = 0; c < n; ++c) largest = std::max(largest, std::abs(poles_[c].d));
    const double tolerance = 4 * unit * largest;
    const Basis<eT> basis{v, n_, n, top};
    return merge<false>(first, n, tolerance, length, {basis}, 0);
  }

  // Rows from `first` on of B, and as many columns and `more`, of which the last one is the one of no value.
  bool singular(std::size_t first, std::size_t n, std::size_t more) {
    eT *v = v_ + first * (n_ + 1), *u = u_ + first * (n_ + 1);
    if (n == 0) {
      if (more != 0) *v = 1;
      return true;
    }
    if (n == 1) {
      double &d = d_[first], other = more == 0 ? 0 : e_[first], s = std::hypot(d, other);
      const double cosine = more == 0 ? 1 : d / s, sine = other / s;
      *u = more == 0 && d < 0 ? -1 : 1;
      *v = static_cast<eT>(cosine);
      if (more != 0) {
        v[1] = static_cast<eT>(sine);
        v[n_] = static_cast<eT>(-sine);
        v[n_ + 1] = static_cast<eT>(cosine);
      }
      d = s;
      order_[first] = 0;
      return true;
    }
    // A row between two halves, of which it continues the last column and the first.
    const std::size_t top = n / 2, bottom = n - top - 1, at = first + top, columns = n + more;
    const bool right = top + 1 < columns;
    const double alpha = d_[at], beta = right ? e_[at] : 0;
    if (!singular(first, top, 1) || !singular(at + 1, bottom, more)) return false;
    const auto z_of = [&](std::size_t c) {
      return c <= top ? alpha * static_cast<double>(v[top + c * n_]) : beta * static_cast<double>(v[top + 1 + c * n_]);
    };
    sort(first, top, 1, bottom, z_of);
    Pole& special = poles_[n - 1];  // put first below
    special = {0, z_of(top), top, Half::top};
    if (more != 0) {
      // The two columns of no value: one of them takes all, the other one keeps having none.
      const double other = z_of(columns - 1), length = std::hypot(special.z, other);
      const auto cosine = static_cast<eT>(length == 0 ? 1 : special.z / length),
                 sine = static_cast<eT>(length == 0 ? 0 : other / length);
      eT *x = v + top * n_, *y = v + (columns - 1) * n_;
      for (std::size_t i = 0; i < columns; ++i) {
        const eT p = x[i], q = y[i];
        x[i] = cosine * p + sine * q;
        y[i] = cosine * q - sine * p;
      }
      special.z = length;
      special.half = Half::both;
    }
    u[top * (n_ + 1)] = 1;
    double largest = std::max(std::abs(alpha), std::abs(beta));
    for (std::size_t c = 0; c + 1 < n; ++c) largest = std::max(largest, poles_[c].d);
    const double tolerance = 4 * unit * largest;
    std::rotate(poles_, poles_ + n - 1, poles_ + n);
    poles_[0].z = std::copysign(std::max(std::abs(poles_[0].z), tolerance / 32), poles_[0].z);
    const Basis<eT> right_vectors{v, n_, columns, top + 1}, left_vectors{u, n_, n, top + 1};
    return merge<true>(first, n, tolerance, 1, {right_vectors, left_vectors}, 1);
  }

 private:
  // The poles of both halves in ascending order; the right half's columns begin `between` after the left one's.
  template <class Z>
  void sort(std::size_t first, std::size_t left, std::size_t between, std::size_t right, Z z) {
    const std::size_t *l = order_ + first, *r = order_ + first + left + between, offset = left + between;
    Pole* to = poles_;
    for (std::size_t i = 0, j = 0; i < left || j < right;) {
      const bool from_left = j == right || (i < left && d_[first + l[i]] <= d_[first + offset + r[j]]);
      const std::size_t c = from_left ? l[i++] : offset + r[j++];
      *to++ = {d_[first + c], z(c), c, from_left ? Half::top : Half::bottom};
    }
  }

  // Values and vectors of the whole part from those of its halves. What is within the tolerance of nothing is taken
  // out first: poles with hardly any z, and all but one of those in one place. The first `fixed` ones stay.
  template <bool squared>
  bool merge(std::size_t first, std::size_t n, double tolerance, double length, std::initializer_list<Basis<eT>> bases,
             std::size_t fixed) {
    std::size_t kept = fixed, gone = 0, open = n;  // open: the last pole that may yet be one with the next
    for (std::size_t j = fixed; j < n; ++j) {
      Pole& p = poles_[j];
      if (std::abs(p.z) * length <= tolerance) {
        gone_[gone++] = p;
        continue;
      }
      if (open != n && p.d - poles_[open].d <= tolerance) {
        Pole& q = poles_[open];
        rotate(q, p, bases);
        gone_[gone++] = q;
      } else if (open != n) {
        poles_[kept++] = poles_[open];
      }
      open = j;
    }
    if (open != n) poles_[kept++] = poles_[open];
    if (squared && kept > 1 && poles_[1].d <= tolerance / 2) poles_[1].d = tolerance / 2;
    std::sort(gone_, gone_ + gone, [](const Pole& p, const Pole& q) { return p.d < q.d; });

    // Columns that are 0 below, those that are not 0 anywhere, and those that are 0 above.
    std::size_t count[3] = {}, place[3] = {};
    for (std::size_t j = 0; j < kept; ++j) ++count[static_cast<int>(poles_[j].half)];
    place[1] = count[0];
    place[2] = count[0] + count[1];
    for (std::size_t j = 0; j < kept; ++j) {
      row_[j] = place[static_cast<int>(poles_[j].half)]++;
      secular_.d[j] = poles_[j].d;
      secular_.z[j] = poles_[j].z;
    }
    std::fill_n(secular_.d + kept, wide, 16.0);
    std::fill_n(secular_.z + kept, wide, 0.0);
    const std::size_t ld = in_lanes<double>(kept);
    if (kept > 0) {
      secular_.k = kept;
      secular_.solved = false;
      run_version<&find_roots<squared>, Secular&>(secular_);
      if (!secular_.solved) return false;
      Vectors<eT> vectors{&secular_, row_, ld, s_[0], s_[1]};
      run_version<&write_vectors<squared, eT>, Vectors<eT>&>(vectors);
    }
    const eT* s = s_[0];
    for (const Basis<eT>& b : bases) {
      turn(b, kept, gone, count, s, ld);
      s = s_[1];
    }

    for (std::size_t j = 0; j < kept; ++j) {
      const double origin = secular_.origin[j], eta = secular_.eta[j];
      d_[first + j] = squared ? origin + eta / (origin + std::sqrt(origin * origin + eta)) : origin + eta;
    }
    for (std::size_t j = 0; j < gone; ++j) d_[first + kept + j] = gone_[j].d;
    for (std::size_t c = 0; c < n; ++c) sorted_[c] = c;
    std::merge(sorted_, sorted_ + kept, sorted_ + kept, sorted_ + n, order_ + first,
               [d = d_ + first](std::size_t p, std::size_t q) { return d[p] < d[q]; });
    return true;
  }

  // Two poles in one place: of their two columns one takes all of z.
  void rotate(Pole& without, Pole& with, std::initializer_list<Basis<eT>> bases) {
    const double z = std::hypot(without.z, with.z);
    const auto cosine = static_cast<eT>(with.z / z), sine = static_cast<eT>(without.z / z);
    for (const Basis<eT>& b : bases) {
      eT *x = b.at + without.column * b.ld, *y = b.at + with.column * b.ld;
      for (std::size_t i = 0; i < b.rows; ++i) {
        const eT p = x[i], q = y[i];
        x[i] = cosine * p - sine * q;
        y[i] = cosine * q + sine * p;
      }
    }
    if (with.half != without.half) with.half = Half::both;
    with.z = z;
    without.z = 0;
  }

  // The kept columns times S, then those that are gone.
  void turn(const Basis<eT>& b, std::size_t kept, std::size_t gone, const std::size_t* count, const eT* s,
            std::size_t ld) {
    const std::size_t bottom = b.rows - b.top, above = count[0] + count[1], below = count[1] + count[2];
    eT *upper = packed_, *lower = upper + b.top * above, *rest = lower + bottom * below;
    for (std::size_t j = 0; j < kept; ++j) {
      const eT* x = b.at + poles_[j].column * b.ld;
      if (poles_[j].half != Half::bottom) std::copy_n(x, b.top, upper + row_[j] * b.top);
      if (poles_[j].half != Half::top) std::copy_n(x + b.top, bottom, lower + (row_[j] - count[0]) * bottom);
    }
    for (std::size_t j = 0; j < gone; ++j) std::copy_n(b.at + gone_[j].column * b.ld, b.rows, rest + j * b.rows);
    multiply(b.top, kept, above, upper, s, ld, b.at, b.ld);
    multiply(bottom, kept, below, lower, s + count[0] * ld, ld, b.at + b.top, b.ld);
    for (std::size_t j = 0; j < gone; ++j) std::copy_n(rest + j * b.rows, b.rows, b.at + (kept + j) * b.ld);
  }
  static void multiply(std::size_t rows, std::size_t cols, std::size_t inner, const eT* a, const eT* s, std::size_t ld,
                       eT* c, std::size_t ldc) {
    if (rows * cols * inner <= 2048)
      return run_version<&multiply_small<eT>, const SmallProduct<eT>&>({rows, cols, inner, a, s, ld, c, ldc});
    product<eT>(false, true, eT(1), view(a, rows, inner, rows), view(s, cols, inner, ld), eT(0),
                view(c, rows, cols, ldc));
  }

  std::size_t n_;
  double *d_, *e_;
  eT *u_, *v_;
  std::size_t* order_;
  Scratch scratch_;
  Secular secular_{};
  Pole *poles_, *gone_;
  std::size_t *row_, *sorted_;
  eT *packed_, *s_[2];
};

}  // namespace

namespace {

bool finite(std::size_t n, const double* d, const double* e) {
  double sum = 0;
  for (std::size_t i = 0; i < n; ++i) sum += 0 * d[i];
  for (std::size_t i = 0; i + 1 < n; ++i) sum += 0 * e[i];
  return sum == 0;
}

}  // namespace

template <class eT>
bool tridiagonal_eigen(std::size_t n, double* d, double* e, eT* v, std::size_t* order) {
  return n == 0 || (finite(n, d, e) && Conquer<eT>(n, d, e, nullptr, v, order).eigen(0, n));
}

template <class eT>
bool bidiagonal_svd(std::size_t n, double* d, double* e, eT* u, eT* v, std::size_t* order) {
  // Else the tolerance for what is nothing could be 0.
  constexpr double least = static_cast<double>(std::numeric_limits<eT>::epsilon()) / 16;
  for (std::size_t i = 0; i < n; ++i)
    if (std::abs(d[i]) < least) d[i] = std::copysign(least, d[i]);
  return n == 0 || (finite(n, d, e) && Conquer<eT>(n, d, e, u, v, order).singular(0, n, 0));
}

#define ARMAGRAD_INSTANTIATE(eT)                                                     \
  template bool tridiagonal_eigen(std::size_t, double*, double*, eT*, std::size_t*); \
  template bool bidiagonal_svd(std::size_t, double*, double*, eT*, eT*, std::size_t*);
ARMAGRAD_INSTANTIATE(float)
ARMAGRAD_INSTANTIATE(double)
#undef ARMAGRAD_INSTANTIATE

}  // namespace armagrad::detail
