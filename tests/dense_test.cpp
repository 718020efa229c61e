// Triangular solves, LU and Cholesky against LAPACK's: same pivots, same refusals, backward errors no larger, also for
// ill-conditioned matrices and where pivoting does not keep elements small.
#define BOOST_TEST_MODULE dense
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <armagrad/autodiff/ops/dense.hpp>

using arma::blas_int;
using arma::mat;
using arma::uword;

namespace {

constexpr double epsilon = std::numeric_limits<double>::epsilon();

mat random(uword rows, uword cols, unsigned seed) {
  arma::arma_rng::set_seed(seed);
  return mat(rows, cols, arma::fill::randn);
}
// Condition 10^digits.
mat ill_conditioned(uword n, double digits, unsigned seed) {
  mat q, r, p;
  arma::qr(q, r, random(n, n, seed));
  arma::qr(p, r, random(n, n, seed + 1));
  return q * arma::diagmat(arma::exp10(arma::linspace(0, -digits, n))) * p.t();
}
// Partial pivoting lets the last column grow to 2^(n-1).
mat growing(uword n) {
  mat a = arma::trimatl(-mat(n, n, arma::fill::ones));
  a.diag().ones();
  a.col(n - 1).ones();
  return a;
}

struct Factored {
  mat l, u, permuted;
  std::vector<blas_int> pivots;
  bool regular;
  double error() const {  // in units of what rounding may do
    const double scale = epsilon * static_cast<double>(u.n_rows) * arma::norm(permuted, 1);
    return scale == 0 ? 0 : arma::norm(permuted - l * u, 1) / scale;
  }
};
Factored factored(const mat& a, bool by_lapack) {
  mat x = a;
  const uword m = a.n_rows, n = a.n_cols, k = std::min(m, n);
  Factored f{{}, {}, a, std::vector<blas_int>(k), true};
  if (by_lapack) {
    auto rows = static_cast<blas_int>(m), cols = static_cast<blas_int>(n), info = blas_int{0};
    arma::lapack::getrf(&rows, &cols, x.memptr(), &rows, f.pivots.data(), &info);
    f.regular = info == 0;
  } else {
    f.regular = armagrad::detail::factorise_lu(m, n, x.memptr(), m, f.pivots.data());
  }
  for (uword i = 0; i < k; ++i) f.permuted.swap_rows(i, static_cast<uword>(f.pivots[i]) - 1);
  f.l.zeros(m, k);
  f.u.zeros(k, n);
  for (uword j = 0; j < n; ++j)
    for (uword i = 0; i < m; ++i) {
      if (i > j && j < k) f.l(i, j) = x(i, j);
      if (i <= j && i < k) f.u(i, j) = x(i, j);
    }
  for (uword i = 0; i < k; ++i) f.l(i, i) = 1;
  return f;
}
void check_lu(const char* what, const mat& a) {
  const Factored own = factored(a, false), lapack = factored(a, true);
  BOOST_TEST_CONTEXT(what << ' ' << a.n_rows << " x " << a.n_cols) {
    BOOST_TEST(own.regular == lapack.regular);
    BOOST_TEST(own.error() <= 2 * lapack.error() + 0.1);
    BOOST_TEST(arma::abs(own.l).max() <= 1 + 4 * epsilon);
  }
}

}  // namespace

BOOST_AUTO_TEST_CASE(lu_is_as_exact_as_lapacks) {
  for (const uword n : {1u, 2u, 7u, 15u, 16u, 17u, 31u, 32u, 33u, 50u, 100u, 131u}) {
    check_lu("random", random(n, n, n));
    check_lu("ill-conditioned", ill_conditioned(n, 12, n));
    if (n <= 50) check_lu("growing", growing(n));
    check_lu("tall", random(n + 9, n, n));
    check_lu("tall", random(3 * n, n, n));
    check_lu("wide", random(n, n + 21, n));
    check_lu("wide", random(n, 2 * n, n));
    BOOST_TEST(factored(random(n, n, n), false).pivots == factored(random(n, n, n), true).pivots);
  }
}

BOOST_AUTO_TEST_CASE(lu_says_where_a_pivot_is_zero) {
  for (const uword n : {1u, 5u, 20u, 70u})
    for (const uword zero : {uword{0}, n / 2, n - 1}) {
      mat a = random(n, n, n);
      a.col(zero).zeros();
      check_lu("a column of zeros in", a);
      mat diagonal = arma::eye(n, n);
      diagonal(zero, zero) = 0;
      check_lu("a zero in a diagonal", diagonal);
    }
  BOOST_TEST(!factored(mat(40, 40, arma::fill::ones), false).regular);
  BOOST_TEST(factored(mat{{0, 1}, {1, 0}}, false).regular);
  BOOST_TEST(factored(1e-310 * random(20, 20, 1), false).error() <= 1);  // LAPACK's has NaN
}

BOOST_AUTO_TEST_CASE(substitution_is_as_exact_as_lapacks) {
  for (const uword n : {1u, 5u, 31u, 32u, 33u, 65u, 100u})
    for (const uword m : {1u, 3u, 4u, 15u, 40u})
      for (const double digits : {0.0, 12.0})
        for (int kind = 0; kind < 8; ++kind) {
          const bool upper = (kind & 1) != 0, transposed = (kind & 2) != 0, unit = (kind & 4) != 0;
          const Factored f = factored(ill_conditioned(n, digits, n), true);
          mat t = upper ? mat(f.u) : mat(f.l.t() * 0.7).t();
          if (unit) t.diag().ones();
          const mat op = transposed ? mat(t.t()) : t, b = op * random(n, m, m);  // so that X is small
          mat own = b, lapack = b, held = t;
          if (unit) held.diag().fill(arma::datum::nan);  // not to be read
          BOOST_TEST(armagrad::detail::substitute(upper, transposed, unit, n, m, held.memptr(), n, own.memptr(), n));
          char uplo = upper ? 'U' : 'L', trans = transposed ? 'T' : 'N', diagonal = unit ? 'U' : 'N';
          auto rows = static_cast<blas_int>(n), cols = static_cast<blas_int>(m), info = blas_int{0};
          arma::lapack::trtrs(&uplo, &trans, &diagonal, &rows, &cols, t.memptr(), &rows, lapack.memptr(), &rows, &info);
          const auto error = [&](const mat& x) {
            const mat scale = arma::abs(op) * arma::abs(x);
            return arma::abs((op * x - b) / scale).max() / (epsilon * static_cast<double>(n));
          };
          BOOST_TEST_CONTEXT("n " << n << " m " << m << " digits " << digits << " kind " << kind) {
            BOOST_TEST(error(own) <= 2 * error(lapack) + 2);
          }
        }
  mat singular = arma::eye(40, 40), b(40, 5, arma::fill::ones);
  singular(35, 35) = 0;
  BOOST_TEST(!armagrad::detail::substitute(true, false, false, 40, 5, singular.memptr(), 40, b.memptr(), 40));
}

BOOST_AUTO_TEST_CASE(cholesky_is_as_exact_as_lapacks) {
  for (const uword n : {1u, 5u, 31u, 32u, 33u, 65u, 100u, 200u})
    for (const double digits : {0.0, 6.0}) {
      const mat x = ill_conditioned(n, digits, n),
                a = arma::symmatu(x * x.t() + (digits > 0 ? 1e-11 : 0) * arma::eye(n, n));
      mat own = a, lapack = a;
      char uplo = 'U';
      auto order = static_cast<blas_int>(n), info = blas_int{0};
      BOOST_TEST(armagrad::detail::factorise_cholesky(n, own.memptr(), n) == 0);
      arma::lapack::potrf(&uplo, &order, lapack.memptr(), &order, &info);
      const auto error = [&](const mat& r) {
        const mat u = arma::trimatu(r);
        return arma::norm(u.t() * u - a, 1) / (epsilon * static_cast<double>(n) * arma::norm(a, 1));
      };
      BOOST_TEST(error(own) <= 2 * error(lapack) + 0.1);
      for (const uword at : {uword{0}, n / 2, n - 1}) {
        mat indefinite = a;
        indefinite(at, at) = -1;
        BOOST_TEST(armagrad::detail::factorise_cholesky(n, mat(indefinite).memptr(), n) == at + 1);
      }
    }
}

BOOST_AUTO_TEST_CASE(a_system_is_solved_by_its_factors_in_both_directions) {
  for (const uword n : {1u, 6u, 40u, 90u})
    for (const uword m : {1u, 5u})
      for (const bool transposed : {false, true}) {
        const mat a = random(n, n, n) + 3 * arma::eye(n, n), x = random(n, m, m), op = transposed ? mat(a.t()) : a;
        const mat b = op * x;
        mat lu = a, y(n, m);
        std::vector<blas_int> pivots(n);
        BOOST_TEST(armagrad::detail::factorise_lu(n, n, lu.memptr(), n, pivots.data()));
        armagrad::detail::solve_factorised(transposed, n, m, lu.memptr(), pivots.data(), b.memptr(), y.memptr());
        BOOST_TEST(arma::abs(y - x).max() <= 1e-11);
      }
}

BOOST_AUTO_TEST_CASE(a_small_svd_is_as_exact_as_lapacks) {
  for (const uword n : {1u, 2u, 3u, 7u, 10u, 15u, 16u})
    for (const uword m : {n, std::min<uword>(n + 3, 16), uword{16}})
      for (const double digits : {0.0, 8.0}) {
        mat a = ill_conditioned(m, digits * static_cast<double>(m) / static_cast<double>(n), m + n);
        a = a.cols(0, n - 1);
        mat u(m, n), v(n, n), lapack_u, lapack_v;
        arma::vec s(n), lapack_s;
        BOOST_TEST_REQUIRE(armagrad::detail::small_svd(m, n, a.memptr(), m, u.memptr(), s.memptr(), v.memptr()));
        arma::svd_econ(lapack_u, lapack_s, lapack_v, a);
        const double unit = epsilon * static_cast<double>(m) * lapack_s(0);
        BOOST_TEST(arma::abs(s - lapack_s).max() <= 2 * unit);
        BOOST_TEST(arma::abs(u * arma::diagmat(s) * v.t() - a).max() <= 2 * unit);
        BOOST_TEST(arma::abs(u.t() * u - arma::eye(n, n)).max() <= 8 * epsilon);
        BOOST_TEST(arma::abs(v.t() * v - arma::eye(n, n)).max() <= 8 * static_cast<double>(n) * epsilon);
        BOOST_TEST(s.is_sorted("descend"));
      }
  const auto refused = [](const mat& a) {
    mat u(arma::size(a)), v(a.n_cols, a.n_cols);
    arma::vec s(a.n_cols);
    return !armagrad::detail::small_svd(a.n_rows, a.n_cols, a.memptr(), a.n_rows, u.memptr(), s.memptr(), v.memptr());
  };
  BOOST_TEST(refused(mat(3, 3)));
  BOOST_TEST(refused(mat(3, 3, arma::fill::ones)));
  BOOST_TEST(refused(random(5, 1, 1) * random(1, 3, 2)));
  BOOST_TEST(refused(1e-160 * random(3, 3, 1)));
  BOOST_TEST(refused(1e160 * random(3, 3, 1)));
}
