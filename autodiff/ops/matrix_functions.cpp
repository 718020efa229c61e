// Functions of whole matrices: the exponential, and f(A) = V diag(f(w)) V' of symmetric ones.
#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>

#include <armagrad/autodiff/ops/lapack.hpp>

namespace armagrad {
namespace detail {
namespace {

[[noreturn]] void fail_overflow(const char* by, const std::string& size) {
  throw ValueError(fmt::format(
      "{}: the exponential of A ({}) or its derivative overflows; take a multiple of the identity out: {}(A) "
      "is exp(c) {}(A - c I)",
      by, size, by, by));
}

// exp(A) into `out`, n x n both: the diagonal Pade approximation of A / 2^s, squared s times (Higham 2005, "The scaling
// and squaring method for the matrix exponential revisited").
template <class eT>
void exponential(const char* by, View<const eT> a, eT* out) {
  const std::size_t n = a.rows, size = n * n;
  if (n == 0) return;
  Scratch scratch;
  eT* x = scratch.take<eT>(size);
  copy_contiguous(a, x);
  const double norm = static_cast<double>(norm1_of_finite<eT>(by, View<const eT>{x, a.rows, a.rows, a.rows}));
  static constexpr double b3[] = {120, 60, 12, 1};
  static constexpr double b5[] = {30240, 15120, 3360, 420, 30, 1};
  static constexpr double b7[] = {17297280, 8648640, 1995840, 277200, 25200, 1512, 56, 1};
  static constexpr double b9[] = {17643225600, 8821612800, 2075673600, 302702400, 30270240,
                                  2162160,     110880,     3960,       90,        1};
  static constexpr double b13[] = {64764752532480000,
                                   32382376266240000,
                                   7771770303897600,
                                   1187353796428800,
                                   129060195264000,
                                   10559470521600,
                                   670442572800,
                                   33522128640,
                                   1323241920,
                                   40840800,
                                   960960,
                                   16380,
                                   182,
                                   1};
  int squarings = 0;
  if (norm > 5.371920351148152) {
    std::frexp(norm / 5.371920351148152, &squarings);
    squarings = std::max(squarings, 0);
    const eT factor = static_cast<eT>(std::ldexp(1.0, -squarings));
    for (std::size_t i = 0; i < size; ++i) x[i] *= factor;
  }
  eT *u = scratch.take<eT>(size), *v = scratch.take<eT>(size), *t = scratch.take<eT>(size),
     *x2 = scratch.take<eT>(size);
  const auto product = [n](const eT* p, const eT* q, eT* r) { multiply(false, false, n, n, n, p, n, q, n, r, n); };
  const auto add_identity = [n](eT* p, double c) {
    for (std::size_t i = 0; i < n; ++i) p[i * (n + 1)] += static_cast<eT>(c);
  };
  product(x, x, x2);
  if (norm <= 2.097847961257068) {  // U = A (b1 I + b3 A^2 + ...), V = b0 I + b2 A^2 + ...
    const double* b = b3;
    int degree = 3;
    if (norm > 1.495585217958292e-2) b = b5, degree = 5;
    if (norm > 2.539398330063230e-1) b = b7, degree = 7;
    if (norm > 9.504178996162932e-1) b = b9, degree = 9;
    std::fill_n(t, size, eT(0));
    std::fill_n(v, size, eT(0));
    add_identity(t, b[1]);
    add_identity(v, b[0]);
    eT *power = scratch.take<eT>(size), *next = scratch.take<eT>(size);
    std::copy_n(x2, size, power);
    for (int k = 2; k < degree; k += 2) {
      for (std::size_t i = 0; i < size; ++i) {
        v[i] += static_cast<eT>(b[k]) * power[i];
        t[i] += static_cast<eT>(b[k + 1]) * power[i];
      }
      if (k + 2 >= degree) break;
      product(power, x2, next);
      std::swap(power, next);
    }
    product(x, t, u);
  } else {
    const double* b = b13;
    eT *x4 = scratch.take<eT>(size), *x6 = scratch.take<eT>(size);
    product(x2, x2, x4);
    product(x4, x2, x6);
    const auto combine = [&](eT* to, double c6, double c4, double c2, double c0) {
      for (std::size_t i = 0; i < size; ++i)
        to[i] = static_cast<eT>(c6) * x6[i] + static_cast<eT>(c4) * x4[i] + static_cast<eT>(c2) * x2[i];
      add_identity(to, c0);
    };
    combine(t, b[13], b[11], b[9], 0);
    combine(v, b[7], b[5], b[3], b[1]);
    multiply(false, false, n, n, n, x6, n, t, n, v, n, eT(1), eT(1));
    product(x, v, u);
    combine(t, b[12], b[10], b[8], 0);
    combine(v, b[6], b[4], b[2], b[0]);
    multiply(false, false, n, n, n, x6, n, t, n, v, n, eT(1), eT(1));
  }
  // (V - U) exp = V + U
  for (std::size_t i = 0; i < size; ++i) {
    t[i] = v[i] - u[i];
    u[i] += v[i];
  }
  auto* pivots = scratch.take<blas_int>(n);
  if (!factorise_lu(n, n, t, n, pivots))
    throw ValueError(fmt::format("{}: the Pade approximation of A ({}) is singular", by, size_text(a)));
  solve_factorised(false, n, n, t, pivots, u, v);
  for (; squarings > 0; --squarings) {
    product(v, v, t);
    std::swap(v, t);
  }
  for (std::size_t i = 0; i < size; ++i)
    if (!std::isfinite(v[i])) fail_overflow(by, size_text(a));
  std::copy_n(v, size, out);
}

template <class eT>
void exponential_host(const Command<eT>& c) {
  exponential("expmat", c.in[0], c.out.data);
}

// The derivative of exp at A in direction E: the upper right block of exp([A E; 0 A]). E is scaled to the size of A
// there, so that a large one costs no digits.   in: A, E
template <class eT>
void exponential_derivative_host(const Command<eT>& c) {
  const View<const eT> a = c.in[0], e = c.in[1];
  const std::size_t n = a.rows, m = 2 * n;
  if (n == 0) return;
  Scratch scratch;
  eT *block = scratch.take<eT>(m * m), *result = scratch.take<eT>(m * m);
  const eT size = norm1_of_finite("expmat", a), size_e = norm1_of_finite("expmat", e);
  const eT scale = size_e == eT(0) ? eT(1) : std::max(size, eT(1)) / size_e;
  std::fill_n(block, m * m, eT(0));
  for (std::size_t j = 0; j < n; ++j)
    for (std::size_t i = 0; i < n; ++i) {
      block[i + j * m] = block[n + i + (n + j) * m] = a.data[i + j * a.ld];
      block[i + (n + j) * m] = scale * e.data[i + j * e.ld];
    }
  const auto side = static_cast<std::uint32_t>(m);
  exponential<eT>("expmat", View<const eT>{block, side, side, side}, result);
  for (std::size_t j = 0; j < n; ++j)
    for (std::size_t i = 0; i < n; ++i) c.out.data[i + j * c.out.ld] = result[i + (n + j) * m] / scale;
}

// A function of eigenvalues, with its divided differences f[a, b] = (f(a) - f(b)) / (a - b) and
// f[a, b, c] = (f[a, b] - f[b, c]) / (a - c), which are f' and f'' / 2 where the arguments are equal. Near that the
// quotients lose digits, and integrals of derivatives take over (Genocchi and Hermite):
// f[a, b] = int_0^1 f'(b + t (a - b)) dt.
class SpectralFunction {
 public:
  virtual ~SpectralFunction() = default;
  virtual const char* name() const = 0;
  virtual double value(double x) const = 0;
  virtual double derivative(double x) const = 0;
  virtual double second_derivative(double x) const = 0;
  /// Arguments at most so far apart, relative to the largest, are near.
  virtual double near_first() const { return 0.1; }
  virtual double near_second() const { return 0.1; }
  /// Throws for an eigenvalue outside of the domain; rounding may have moved it by `rounding`. Returns it moved inside.
  virtual double inside(double x, double rounding, const std::string& size) const {
    (void)rounding, (void)size;
    return x;
  }

  virtual double first(double a, double b) const {
    const double gap = std::abs(a - b);
    if (a == b) return derivative(a);
    if (gap > near_first() * std::max(std::abs(a), std::abs(b))) return (value(a) - value(b)) / (a - b);
    double sum = 0;
    for (int i = 0; i < 8; ++i) sum += weights[i] * derivative(b + nodes[i] * (a - b));
    return sum;
  }
  virtual double second(double a, double b, double c) const {
    if (a > b) std::swap(a, b);
    if (b > c) std::swap(b, c);
    if (a > b) std::swap(a, b);
    if (a == c) return second_derivative(a) / 2;
    if (c - a > near_second() * std::max(std::abs(a), std::abs(c))) return (first(b, c) - first(a, b)) / (c - a);
    double sum = 0;  // over the triangle s, t >= 0, s + t <= 1 of f''(a + s (b - a) + t (c - a)); t = (1 - s) r
    for (int i = 0; i < 8; ++i)
      for (int j = 0; j < 8; ++j) {
        const double s = nodes[i], t = (1 - s) * nodes[j];
        sum += weights[i] * weights[j] * (1 - s) * second_derivative(a + s * (b - a) + t * (c - a));
      }
    return sum;
  }

 private:
  // Gauss and Legendre's, on [0, 1].
  static constexpr double nodes[8] = {0.019855071751231884, 0.10166676129318664, 0.2372337950418355,
                                      0.4082826787521751,   0.5917173212478249,  0.7627662049581645,
                                      0.8983332387068134,   0.9801449282487681};
  static constexpr double weights[8] = {0.05061426814518813, 0.11119051722668724, 0.15685332293894365,
                                        0.18134189168918100, 0.18134189168918100, 0.15685332293894365,
                                        0.11119051722668724, 0.05061426814518813};
};

struct Exponential final : SpectralFunction {
  const char* name() const override { return "expmat_sym"; }
  double value(double x) const override { return std::exp(x); }
  double derivative(double x) const override { return std::exp(x); }
  double second_derivative(double x) const override { return std::exp(x); }
  double first(double a, double b) const override {
    const double h = (a - b) / 2;
    if (std::abs(h) > 300) return (std::exp(a) - std::exp(b)) / (a - b);  // sinh would overflow
    return std::exp((a + b) / 2) * (h == 0 ? 1 : std::sinh(h) / h);
  }
  // The scale of exp is 1, whatever the arguments' size.
  double second(double a, double b, double c) const override {
    const double shift = (a + b + c) / 3, spread = std::max({std::abs(a - b), std::abs(b - c), std::abs(a - c)});
    if (spread > 0.5) return SpectralFunction::second(a, b, c);
    const double x = a - shift, y = b - shift, z = c - shift;
    // Complete symmetric polynomials h(k) of (x, y, z): exp[x, y, z] = sum of h(k) / (k + 2)!.
    double e1 = x + y + z, e2 = x * y + y * z + x * z, e3 = x * y * z, h0 = 1, h1 = 0, h2 = 0, factorial = 2, sum = 0.5;
    for (int k = 1; k <= 16; ++k) {
      const double next = e1 * h0 - e2 * h1 + e3 * h2;
      h2 = h1, h1 = h0, h0 = next;
      factorial *= k + 2;
      sum += next / factorial;
    }
    return std::exp(shift) * sum;
  }
};

struct SquareRoot final : SpectralFunction {
  const char* name() const override { return "sqrtmat_sympd"; }
  double value(double x) const override { return std::sqrt(x); }
  double derivative(double x) const override { return first(x, x); }
  double second_derivative(double x) const override { return 2 * second(x, x, x); }
  double first(double a, double b) const override { return 1 / positive(std::sqrt(a) + std::sqrt(b)); }
  double second(double a, double b, double c) const override {
    const double x = std::sqrt(a), y = std::sqrt(b), z = std::sqrt(c);
    return -1 / (positive(x + y) * positive(y + z) * positive(x + z));
  }
  double inside(double x, double rounding, const std::string& size) const override {
    if (x < -rounding)
      throw ValueError(fmt::format("sqrtmat_sympd: A is {} and has the negative eigenvalue {:.6g}", size, x));
    return x <= rounding ? 0 : x;
  }

 private:
  static double positive(double x) {
    if (!(x > 0))
      throw ValueError(
          "sqrtmat_sympd: A is singular, and the derivative of its square root infinite; add a small "
          "multiple of the identity");
    return x;
  }
};

struct Logarithm final : SpectralFunction {
  const char* name() const override { return "logmat_sympd"; }
  double value(double x) const override { return std::log(x); }
  double derivative(double x) const override { return 1 / x; }
  double second_derivative(double x) const override { return -1 / (x * x); }
  double first(double a, double b) const override { return a == b ? 1 / a : std::log1p((a - b) / b) / (a - b); }
  double inside(double x, double rounding, const std::string& size) const override {
    if (x <= rounding)
      throw ValueError(
          fmt::format("logmat_sympd: A is {} and not positive definite: it has the eigenvalue {:.6g}; if it "
                      "should be, add a small multiple of the identity",
                      size, x));
    return x;
  }
};

struct UserFunction final : SpectralFunction {
  UserFunction(std::function<double(double)> value, std::function<double(double)> derivative)
      : f(std::move(value)), df(std::move(derivative)) {}
  const char* name() const override { return "spectral"; }
  double value(double x) const override { return finite(f(x), "f", x); }
  double derivative(double x) const override { return finite(df(x), "df", x); }
  double second_derivative(double x) const override {  // central differences of order h^4
    const double h = 1e-3 * (x == 0 ? 1 : std::abs(x));
    return (8 * (derivative(x + h) - derivative(x - h)) - (derivative(x + 2 * h) - derivative(x - 2 * h))) / (12 * h);
  }
  // Nothing is known of the function's scale: near is what the quotients need.
  double near_first() const override { return 1e-4; }
  double near_second() const override { return 1e-3; }

  std::function<double(double)> f, df;

 private:
  static double finite(double y, const char* which, double x) {
    if (!std::isfinite(y)) throw ValueError(fmt::format("spectral: {} is {} at the eigenvalue {:.10g}", which, y, x));
    return y;
  }
};

struct SpectralOptions {
  const SpectralFunction* function;
};

// The eigenvalues, inside of the function's domain.
template <class eT>
double* eigenvalues(Scratch& scratch, const SpectralFunction& f, View<const eT> w) {
  const std::size_t n = w.rows;
  double *x = scratch.take<double>(n), top = 0;
  for (std::size_t i = 0; i < n; ++i) top = std::max(top, static_cast<double>(std::abs(w.data[i])));
  const double rounding = static_cast<double>(same_value_tolerance(n, static_cast<eT>(top)));
  for (std::size_t i = 0; i < n; ++i) x[i] = f.inside(static_cast<double>(w.data[i]), rounding, size_text(n, n));
  return x;
}

// V X V' into `out`, or V' sym(X) V with `inwards`.
template <class eT>
void turned(View<const eT> v, const eT* x, eT* out) {
  const std::size_t n = v.rows;
  Scratch scratch;
  eT* t = scratch.take<eT>(n * n);
  multiply(false, false, n, n, n, v.data, v.ld, x, n, t, n);
  multiply(false, true, n, n, n, t, n, v.data, v.ld, out, n);
}
template <class eT>
void turned_inwards(View<const eT> v, View<const eT> x, eT* out) {
  const std::size_t n = v.rows;
  Scratch scratch;
  eT *t = scratch.take<eT>(n * n), *s = scratch.take<eT>(n * n);
  load_symmetric_part(x, s);
  multiply(true, false, n, n, n, v.data, v.ld, s, n, t, n);
  multiply(false, false, n, n, n, t, n, v.data, v.ld, out, n);
}

// in: w, V
template <class eT>
void spectral_host(const Command<eT>& c) {
  const SpectralFunction& f = *attributes_of<SpectralOptions>(c).function;
  const View<const eT> v = c.in[1];
  const std::size_t n = v.rows;
  Scratch scratch;
  const double* w = eigenvalues(scratch, f, c.in[0]);
  eT* t = scratch.take<eT>(n * n);
  for (std::size_t j = 0; j < n; ++j) {
    const eT y = static_cast<eT>(f.value(w[j]));
    if (!std::isfinite(y))
      throw ValueError(
          fmt::format("{}: the function overflows at A's eigenvalue {:.10g}; scale or shift A first", f.name(), w[j]));
    for (std::size_t i = 0; i < n; ++i) t[i + j * n] = v.data[i + j * v.ld] * y;
  }
  multiply(false, true, n, n, n, t, n, v.data, v.ld, c.out.data, c.out.ld);
}

// V (D % (V' sym(E) V)) V', D(i, j) = f[w(i), w(j)].   in: w, V, E
template <class eT>
void spectral_derivative_host(const Command<eT>& c) {
  const SpectralFunction& f = *attributes_of<SpectralOptions>(c).function;
  const View<const eT> v = c.in[1];
  const std::size_t n = v.rows;
  Scratch scratch;
  const double* w = eigenvalues(scratch, f, c.in[0]);
  eT* e = scratch.take<eT>(n * n);
  turned_inwards(v, c.in[2], e);
  for (std::size_t j = 0; j < n; ++j)
    for (std::size_t i = 0; i <= j; ++i) {
      const eT d = static_cast<eT>(f.first(w[i], w[j]));
      e[i + j * n] *= d;
      if (i != j) e[j + i * n] *= d;
    }
  turned(v, e, c.out.data);
}

// V X V', X(i, j) = sum over k of f[w(i), w(k), w(j)] (E(i, k) G(k, j) + G(i, k) E(k, j)) with E and G turned inwards.
//   in: w, V, E, G
template <class eT>
void spectral_second_derivative_host(const Command<eT>& c) {
  const SpectralFunction& f = *attributes_of<SpectralOptions>(c).function;
  const View<const eT> v = c.in[1];
  const std::size_t n = v.rows;
  Scratch scratch;
  const double* w = eigenvalues(scratch, f, c.in[0]);
  eT *e = scratch.take<eT>(n * n), *g = scratch.take<eT>(n * n), *x = scratch.take<eT>(n * n);
  turned_inwards(v, c.in[2], e);
  turned_inwards(v, c.in[3], g);
  for (std::size_t j = 0; j < n; ++j)
    for (std::size_t i = 0; i <= j; ++i) {
      double sum = 0;
      for (std::size_t k = 0; k < n; ++k)
        sum += f.second(w[i], w[k], w[j]) * (static_cast<double>(e[i + k * n]) * static_cast<double>(g[k + j * n]) +
                                             static_cast<double>(g[i + k * n]) * static_cast<double>(e[k + j * n]));
      x[i + j * n] = x[j + i * n] = static_cast<eT>(sum);
    }
  turned(v, x, c.out.data);
}

}  // namespace

// The derivative of expmat at A in direction E. As a function of both it is a block of expmat([A E; 0 A]), so that its
// own derivatives are blocks of the derivative there, to every order.
struct ExpmatDerivative {
  static constexpr auto name = "expmat";
  static constexpr const char* operands[] = {"A", "E", nullptr};
  static Shape shape(Operands& in) { return in[0]; }
  template <class eT>
  static void eval(Eval<eT>& e) {
    run_kernel<"expmat_derivative", exponential_derivative_host<eT>>(e, 0, 2);
  }
  template <class eT>
  static void vjp(Rule<eT>& r) {
    const Var<eT> at = r.operand(0).t(), e = r.operand(1), g = r.grad();
    const arma::uword n = e.n_rows(), m = 2 * n;
    if (r.needs(1)) r.accumulate(1, apply<ExpmatDerivative>(at, g));
    if (!r.needs(0) || n == 0) return;
    const Var<eT> block = embed(at, m, m, 0, 0) + embed(at, m, m, n, n) + embed(e.t(), m, m, n, 0);
    const Var<eT> d = apply<ExpmatDerivative>(block, embed(g, m, m, 0, n));
    r.accumulate(0, d.submat(0, 0, n - 1, n - 1) + d.submat(n, n, m - 1, m - 1));
  }
  template <class eT>
  static void jvp(ForwardRule<eT>& r) {
    const Var<eT> a = r.operand(0);
    const arma::uword n = a.n_rows(), m = 2 * n;
    if (r.has_tangent(1)) r.add(apply<ExpmatDerivative>(a, r.tangent(1)));
    if (!r.has_tangent(0) || n == 0) return;
    const Var<eT> da = r.tangent(0),
                  block = embed(a, m, m, 0, 0) + embed(a, m, m, n, n) + embed(r.operand(1), m, m, 0, n);
    r.add(apply<ExpmatDerivative>(block, embed(da, m, m, 0, 0) + embed(da, m, m, n, n)).submat(0, n, n - 1, m - 1));
  }
};
struct Expmat {
  static constexpr auto name = "expmat";
  static constexpr const char* operands[] = {"A", nullptr};
  static Shape shape(Operands& in) {
    in.require(in[0].rows == in[0].cols, "it must be square");
    return in[0];
  }
  template <class eT>
  static void eval(Eval<eT>& e) {
    run_kernel<"expmat", exponential_host<eT>>(e, 0, 1);
  }
  template <class eT>
  static void vjp(Rule<eT>& r) {
    r.accumulate(0, apply<ExpmatDerivative>(r.operand(0).t(), r.grad()));
  }
  template <class eT>
  static void jvp(ForwardRule<eT>& r) {
    r.add(apply<ExpmatDerivative>(r.operand(0), r.tangent(0)));
  }
  static void samples(Samples& s) {
    const auto f = [](const auto& in) { return expmat(in[0]); };
    // Many squarings of a truncated series, in long double.
    const auto plain = [](const std::vector<arma::mat>& in) -> arma::mat {
      const arma::mat& a = in[0];
      const arma::uword n = a.n_rows;
      using Matrix = std::vector<long double>;
      const auto product = [n](const Matrix& p, const Matrix& q) {
        Matrix r(n * n, 0.0L);
        for (arma::uword j = 0; j < n; ++j)
          for (arma::uword k = 0; k < n; ++k)
            for (arma::uword i = 0; i < n; ++i) r[i + j * n] += p[i + k * n] * q[k + j * n];
        return r;
      };
      Matrix x(a.begin(), a.end()), term(n * n, 0.0L), sum(n * n, 0.0L);
      for (long double& v : x) v /= 256;
      for (arma::uword i = 0; i < n; ++i) term[i * (n + 1)] = sum[i * (n + 1)] = 1;
      for (int k = 1; k < 20; ++k) {
        term = product(term, x);
        for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += term[i] /= k;
      }
      for (int k = 0; k < 8; ++k) sum = product(sum, sum);
      arma::mat y(n, n);
      for (std::size_t i = 0; i < sum.size(); ++i) y[i] = static_cast<double>(sum[i]);
      return y;
    };
    for (const double size : {0.005, 0.1, 0.4, 1.0, 3.0}) s.add({s.uniform(3, 3, -0.9, 0.9) * size}, f, plain);
    s.add({s.uniform(1, 1)}, f, plain);
    s.add({arma::mat(2, 2)}, f, plain);
    s.add({arma::mat{{0, 1}, {0, 0}}}, f, plain);
    s.add({arma::mat(0, 0)}, f, plain);
    s.fails({arma::mat(2, 3)}, f, "expmat: A is 2x3: it must be square");
    s.fails({arma::mat{arma::datum::nan}}, f, "expmat: A (1x1) holds NaN or infinity");
  }
};

// f(A) = V diag(f(w)) V' and its derivatives (Daleckii and Krein). All are symmetric in their directions, so that each
// is the next one's rule.
struct SpectralSecondDerivative {
  static constexpr auto name = "spectral";
  static constexpr const char* operands[] = {"A", "w", "V", "E", nullptr};
  static constexpr std::uint8_t helpers = 0b110;
  using Attributes = SpectralOptions;
  static Shape shape(Operands& in) { return in[0]; }
  template <class eT>
  static void eval(Eval<eT>& e) {
    run_kernel<"spectral_second_derivative", spectral_second_derivative_host<eT>>(e, 1, 5);
  }
  template <class eT>
  static void vjp(Rule<eT>& r) {
    const auto& o = r.template attributes<Attributes>();
    const Var<eT> a = r.operand(0), w = r.operand(1), v = r.operand(2);
    if (r.needs(0)) fail_third(o);
    for (const std::size_t k : {3, 4})
      if (r.needs(k)) r.accumulate(k, apply<SpectralSecondDerivative>(o, a, w, v, r.operand(7 - k), r.grad()));
  }
  template <class eT>
  static void jvp(ForwardRule<eT>& r) {
    const auto& o = r.template attributes<Attributes>();
    if (r.has_tangent(0)) fail_third(o);
    for (const std::size_t k : {3, 4})
      if (r.has_tangent(k))
        r.add(apply<SpectralSecondDerivative>(o, r.operand(0), r.operand(1), r.operand(2), r.operand(7 - k),
                                              r.tangent(k)));
  }
  [[noreturn]] static void fail_third(const Attributes& o) {
    throw StateError(fmt::format("{}: its third derivatives are not implemented", o.function->name()));
  }
};
struct SpectralDerivative {
  static constexpr auto name = "spectral";
  static constexpr const char* operands[] = {"A", "w", "V", "E", nullptr};
  static constexpr std::uint8_t helpers = 0b110;
  using Attributes = SpectralOptions;
  static Shape shape(Operands& in) { return in[0]; }
  template <class eT>
  static void eval(Eval<eT>& e) {
    run_kernel<"spectral_derivative", spectral_derivative_host<eT>>(e, 1, 4);
  }
  template <class eT>
  static void vjp(Rule<eT>& r) {
    const auto& o = r.template attributes<Attributes>();
    const Var<eT> a = r.operand(0), w = r.operand(1), v = r.operand(2);
    if (r.needs(3)) r.accumulate(3, apply<SpectralDerivative>(o, a, w, v, r.grad()));
    if (r.needs(0)) r.accumulate(0, apply<SpectralSecondDerivative>(o, a, w, v, r.operand(3), r.grad()));
  }
  template <class eT>
  static void jvp(ForwardRule<eT>& r) {
    const auto& o = r.template attributes<Attributes>();
    const Var<eT> a = r.operand(0), w = r.operand(1), v = r.operand(2);
    if (r.has_tangent(3)) r.add(apply<SpectralDerivative>(o, a, w, v, r.tangent(3)));
    if (r.has_tangent(0)) r.add(apply<SpectralSecondDerivative>(o, a, w, v, r.operand(3), r.tangent(0)));
  }
};
struct Spectral {
  static constexpr auto name = "spectral";
  static constexpr const char* operands[] = {"A", "w", "V", nullptr};
  static constexpr std::uint8_t helpers = 0b110;
  using Attributes = SpectralOptions;
  static Shape shape(Operands& in) { return in[0]; }
  template <class eT>
  static void eval(Eval<eT>& e) {
    run_kernel<"spectral", spectral_host<eT>>(e, 1, 3);
  }
  template <class eT>
  static void vjp(Rule<eT>& r) {
    r.accumulate(0, apply<SpectralDerivative>(r.template attributes<Attributes>(), r.operand(0), r.operand(1),
                                              r.operand(2), r.grad()));
  }
  template <class eT>
  static void jvp(ForwardRule<eT>& r) {
    r.add(apply<SpectralDerivative>(r.template attributes<Attributes>(), r.operand(0), r.operand(1), r.operand(2),
                                    r.tangent(0)));
  }
  static void samples(Samples& s);
};

namespace {

template <class eT>
Var<eT> function_of(Var<eT> a, const SpectralFunction& f) {
  require_kernel(a, "spectral", f.name());
  const auto [w, v] = symmetric_eigen(a, f.name());
  return apply<Spectral>({&f}, see_through_transposes(a).var(a.graph()), w, v);
}

// Samples for all such functions: distinct, nearly equal, doubly and triply repeated eigenvalues.
template <class F, class R>
void spectral_samples(Samples& s, F f, R reference) {
  const arma::mat q = arma::orth(s.uniform(3, 3));
  const auto call = [f](const auto& in) { return f(symmetric_part(in[0])); };
  const auto plain = [reference](const std::vector<arma::mat>& in) -> arma::mat {
    arma::vec w;
    arma::mat v;
    arma::eig_sym(w, v, symmetric_part(in[0]));
    return v * arma::diagmat(reference(w)) * v.t();
  };
  for (const arma::vec& w :
       {arma::vec{0.5, 1.2, 3}, arma::vec{0.9, 0.9 + 1e-5, 2}, arma::vec{1.5, 1.5, 0.6}, arma::vec{1.2, 1.2, 1.2}})
    s.add({arma::mat(q * arma::diagmat(w) * q.t())}, call, plain);
  s.add({arma::mat(3, 3, arma::fill::eye)}, call, plain);
  s.add({arma::mat{1.7}}, call, plain);
  s.add({arma::mat(0, 0)}, call, plain);
  s.fails(
      {arma::mat(2, 3)}, [f](const auto& in) { return f(in[0]); }, "A is 2x3: it must be square");
  s.fails(
      {arma::mat{{2, 1}, {0, 2}}}, [f](const auto& in) { return f(in[0]); }, "A is 2x2 and not symmetric");
}

}  // namespace

void Spectral::samples(Samples& s) {
  spectral_samples(
      s,
      [](auto x) {
        return spectral(
            x, [](double w) { return w * std::sin(w); }, [](double w) { return std::sin(w) + w * std::cos(w); });
      },
      [](const arma::vec& w) -> arma::vec { return w % arma::sin(w); });
  s.fails(
      {arma::mat(2, 2)},
      [](const auto& in) {
        return spectral(
            in[0], [](double w) { return 1 / w; }, [](double w) { return -1 / (w * w); });
      },
      "spectral: f is inf at the eigenvalue 0");
}
struct ExpmatSym {
  static constexpr auto name = "expmat_sym";
  static void samples(Samples& s) {
    spectral_samples(
        s, [](auto x) { return expmat_sym(x); }, [](const arma::vec& w) -> arma::vec { return arma::exp(w); });
  }
};
struct SqrtmatSympd {
  static constexpr auto name = "sqrtmat_sympd";
  static void samples(Samples& s) {
    const auto f = [](auto x) { return sqrtmat_sympd(x); };
    spectral_samples(s, f, [](const arma::vec& w) -> arma::vec { return arma::sqrt(w); });
    s.fails(
        {arma::mat{{1, 2}, {2, 1}}}, [](const auto& in) { return sqrtmat_sympd(in[0]); },
        "sqrtmat_sympd: A is 2x2 and has the negative eigenvalue -1");
    s.fails(
        {arma::mat(2, 2)},
        [](const auto& in) {
          const auto y = accu(sqrtmat_sympd(in[0]));
          y.backward();
          return y;
        },
        "sqrtmat_sympd: A is singular, and the derivative of its square root infinite");
  }
};
struct LogmatSympd {
  static constexpr auto name = "logmat_sympd";
  static void samples(Samples& s) {
    spectral_samples(
        s, [](auto x) { return logmat_sympd(x); }, [](const arma::vec& w) -> arma::vec { return arma::log(w); });
    s.fails(
        {arma::mat(2, 2)}, [](const auto& in) { return logmat_sympd(in[0]); },
        "logmat_sympd: A is 2x2 and not positive definite: it has the eigenvalue 0");
  }
};

}  // namespace detail

template <class eT>
Var<eT> expmat(Var<eT> a) {
  return apply<detail::Expmat>(a);
}
template <class eT>
Var<eT> expmat_sym(Var<eT> a) {
  static const detail::Exponential f;
  return detail::function_of(a, f);
}
template <class eT>
Var<eT> sqrtmat_sympd(Var<eT> a) {
  static const detail::SquareRoot f;
  return detail::function_of(a, f);
}
template <class eT>
Var<eT> logmat_sympd(Var<eT> a) {
  static const detail::Logarithm f;
  return detail::function_of(a, f);
}
template <class eT>
Var<eT> spectral(Var<eT> a, std::function<double(double)> f, std::function<double(double)> df) {
  auto kept = std::make_shared<const detail::UserFunction>(std::move(f), std::move(df));
  a.graph().keep_alive(kept);
  return detail::function_of(a, *kept);
}

#define ARMAGRAD_INSTANTIATE(eT)           \
  template Var<eT> expmat(Var<eT>);        \
  template Var<eT> expmat_sym(Var<eT>);    \
  template Var<eT> sqrtmat_sympd(Var<eT>); \
  template Var<eT> logmat_sympd(Var<eT>);  \
  template Var<eT> spectral(Var<eT>, std::function<double(double)>, std::function<double(double)>);
ARMAGRAD_INSTANTIATE(float)
ARMAGRAD_INSTANTIATE(double)
#undef ARMAGRAD_INSTANTIATE

}  // namespace armagrad

ARMAGRAD_LIST_OPERATIONS(matrix_functions, Expmat, Spectral, ExpmatSym, SqrtmatSympd, LogmatSympd)
