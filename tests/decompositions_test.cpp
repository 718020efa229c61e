// Eigenvectors and singular vectors against LAPACK's, and against values that are known in closed form: residuals and
// orthogonality in units of rounding, for matrices that deflate, cluster, are graded, deficient or near the range's
// ends, in both precisions.
#define BOOST_TEST_MODULE decompositions
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <armagrad/armagrad.hpp>
#include <armagrad/autodiff/ops/decompositions.hpp>

using arma::Col;
using arma::Mat;
using arma::mat;
using arma::uword;
using arma::vec;
namespace detail = armagrad::detail;

namespace {

template <class eT>
constexpr double epsilon = std::numeric_limits<eT>::epsilon();
constexpr double pi = 3.14159265358979323846;

mat random(uword rows, uword cols, unsigned seed) {
  arma::arma_rng::set_seed(seed);
  return mat(rows, cols, arma::fill::randn);
}
mat orthogonal(uword n, unsigned seed) {
  mat q, r;
  arma::qr(q, r, random(n, n, seed));
  return q;
}
mat with_values(const vec& s, unsigned seed) {
  return orthogonal(s.n_elem, seed) * arma::diagmat(s) * orthogonal(s.n_elem, seed + 1).t();
}

struct Errors {
  double residual, left, right;
};
double from_orthogonal(const mat& q) {
  return q.empty() ? 0 : arma::abs(q.t() * q - arma::eye(q.n_cols, q.n_cols)).max();
}
template <class eT>
Errors errors(const Mat<eT>& a, const Mat<eT>& u, const Col<eT>& s, const Mat<eT>& v) {
  const auto wide = [](const auto& x) { return arma::conv_to<mat>::from(x); };
  const double top = arma::abs(wide(a)).max();
  const mat original = wide(a) / top, values = wide(s) / top;
  const double unit = epsilon<eT> * arma::norm(original, "fro");
  return {arma::norm(original - wide(u) * arma::diagmat(vec(values)) * wide(v).t(), "fro") / unit,
          from_orthogonal(wide(u)) / epsilon<eT>, from_orthogonal(wide(v)) / epsilon<eT>};
}
// No worse than twice LAPACK's; where rounding has a direction (in matrices of equal elements), than n steps of it.
void compare(const Errors& own, const Errors& lapack, double n) {
  BOOST_TEST(own.residual <= 2 * lapack.residual + 8 + n);
  BOOST_TEST(own.left <= 2 * lapack.left + 8 + n);
  BOOST_TEST(own.right <= 2 * lapack.right + 8 + n);
}

template <class eT>
void check_svd(const Mat<eT>& a, bool directed) {
  const uword m = a.n_rows, n = a.n_cols;
  Mat<eT> held(m + 3, n, arma::fill::value(arma::Datum<eT>::nan)), u(m, n), v(n, n), lapack_u, lapack_v;
  held.head_rows(m) = a;
  Col<eT> s(n), lapack_s;
  BOOST_TEST_REQUIRE(detail::singular_value_decomposition<eT>(m, n, arma::norm(a, 1), held.memptr(), m + 3, u.memptr(),
                                                              s.memptr(), v.memptr()));
  arma::svd_econ(lapack_u, lapack_s, lapack_v, a);
  const auto size = static_cast<double>(n);
  compare(errors(a, u, s, v), errors(a, lapack_u, lapack_s, lapack_v), directed ? size : 0);
  BOOST_TEST(s.is_sorted("descend"));
  BOOST_TEST(s.min() >= 0);
  BOOST_TEST(arma::abs(s / lapack_s(0) - lapack_s / lapack_s(0)).max() <= (16 + size / 8) * epsilon<eT>);
}
template <class eT>
void check_eigen(const Mat<eT>& a, bool directed) {
  const uword n = a.n_rows;
  Mat<eT> v = a, lapack_v;
  Col<eT> w(n), lapack_w;
  BOOST_TEST_REQUIRE(detail::eigen_decomposition<eT>(n, arma::norm(a, 1), v.memptr(), w.memptr()));
  arma::eig_sym(lapack_w, lapack_v, a);
  const eT top = arma::abs(lapack_w).max();
  const auto size = static_cast<double>(n);
  compare(errors(a, v, w, v), errors(a, lapack_v, lapack_w, lapack_v), directed ? size : 0);
  BOOST_TEST(w.is_sorted("ascend"));
  BOOST_TEST(arma::abs(w / top - lapack_w / top).max() <= (16 + size / 8) * epsilon<eT>);
}
void check_both(const std::string& what, const mat& a, bool directed = false) {
  BOOST_TEST_CONTEXT(what << ' ' << a.n_rows << " x " << a.n_cols) {
    check_svd(a, directed);
    if (a.is_square() && arma::abs(a + a.t()).max() > 0) check_eigen(mat(a + a.t()), directed);
  }
  const arma::fmat narrow = arma::conv_to<arma::fmat>::from(a);
  BOOST_TEST_CONTEXT(what << ", float, " << a.n_rows << " x " << a.n_cols) {
    if (!narrow.is_finite() || arma::abs(narrow).max() < std::numeric_limits<float>::min()) return;
    check_svd(narrow, directed);
    if (a.is_square() && arma::abs(narrow + narrow.t()).max() > 0)
      check_eigen(arma::fmat(narrow + narrow.t()), directed);
  }
}

}  // namespace

BOOST_AUTO_TEST_CASE(random_matrices_of_every_size_and_shape) {
  for (uword n = 1; n <= 40; ++n) check_both("random", random(n, n, n));
  for (const uword n : {48u, 63u, 64u, 65u, 100u, 129u, 200u}) check_both("random", random(n, n, n));
  for (const uword n : {1u, 2u, 7u, 16u, 17u, 33u, 70u})
    for (const uword m : {n + 1, n + 20, 3 * n, 6 * n, 7 * n + 1}) check_both("tall", random(m, n, m + n));
}

BOOST_AUTO_TEST_CASE(values_that_cluster_deflate_or_vanish) {
  for (const uword n : {17u, 60u, 100u}) {
    const double half = static_cast<double>(n / 2);
    const vec up = arma::linspace(0, 1, n);
    check_both("identity", arma::eye(n, n));
    check_both("ones", mat(n, n, arma::fill::ones), true);
    check_both("orthogonal", orthogonal(n, n));
    check_both("almost one value", with_values(1 + 1e-14 * random(n, 1, n), n));
    check_both("two values", with_values(1 + arma::round(up), n));
    check_both("condition 1e16", with_values(arma::exp10(-16 * up), n));
    check_both("condition 1e300", with_values(arma::exp10(-300 * up), n));
    check_both("rank 3", random(n, 3, n) * random(3, n, n + 1));
    check_both("graded rows", arma::diagmat(arma::exp10(-30 * up)) * random(n, n, n));
    check_both("graded columns", random(n, n, n) * arma::diagmat(arma::exp10(-30 * up)));
    check_both("graded diagonal", arma::diagmat(arma::exp10(-300 * up)));
    check_both("integers", arma::round(random(n, n, n)));
    mat x = random(n, n, n);
    x.head_rows(n / 2).zeros();
    check_both("zero rows", x);
    x = arma::zeros(n, n);
    x(n / 2, n / 3) = -1;
    check_both("one element", x);
    x.zeros();
    x.diag() = arma::abs(arma::linspace(-half, half, n));
    x.diag(1).ones();
    x.diag(-1).ones();
    check_both("Wilkinson's", x);
    mat glued(2 * n, 2 * n);
    glued(arma::span(0, n - 1), arma::span(0, n - 1)) = x;
    glued(arma::span(n, 2 * n - 1), arma::span(n, 2 * n - 1)) = x;
    glued(n, n - 1) = glued(n - 1, n) = 1e-9;
    check_both("two of Wilkinson's", glued);
  }
}

BOOST_AUTO_TEST_CASE(matrices_near_the_ends_of_the_range) {
  for (const double size : {1e-300, 1e-36, 1e36, 1e300}) check_both("scaled", size * random(40, 40, 1));
  mat x = random(30, 30, 2);
  x.row(3) *= 1e-170;
  x.col(7) *= 1e-160;
  check_both("one tiny row and column", x);
  check_both("denormal values", with_values(arma::exp10(-320 * arma::linspace(0, 1, 30)), 3));
}

BOOST_AUTO_TEST_CASE(values_known_in_closed_form) {
  for (const uword n : {1u, 2u, 3u, 8u, 25u, 100u, 301u}) {
    const auto size = static_cast<double>(n);
    // -1, 2, -1
    vec d(n, arma::fill::value(0.5)), e(n, arma::fill::value(-0.25));
    mat u(n, n), v(n, n);
    std::vector<std::size_t> order(n);
    BOOST_TEST_REQUIRE(detail::tridiagonal_eigen<double>(n, d.memptr(), e.memptr(), v.memptr(), order.data()));
    for (uword k = 0; k < n; ++k) {
      const double expected = 0.5 - 0.5 * std::cos(static_cast<double>(k + 1) * pi / (size + 1));
      BOOST_TEST(std::abs(d(order[k]) - expected) <= 8 * epsilon<double>);
    }
    BOOST_TEST(from_orthogonal(v) <= (8 + size / 8) * epsilon<double>);
    // ones on two diagonals
    d.fill(0.5);
    e.fill(0.5);
    BOOST_TEST_REQUIRE(detail::bidiagonal_svd<double>(n, d.memptr(), e.memptr(), u.memptr(), v.memptr(), order.data()));
    for (uword k = 0; k < n; ++k) {
      const double expected = std::cos(static_cast<double>(n - k) * pi / (2 * size + 1));
      BOOST_TEST(std::abs(d(order[k]) - expected) <= 8 * epsilon<double>);
    }
    BOOST_TEST(from_orthogonal(u) <= (8 + size / 8) * epsilon<double>);
    BOOST_TEST(from_orthogonal(v) <= (8 + size / 8) * epsilon<double>);
  }
}

BOOST_AUTO_TEST_CASE(what_cannot_be_decomposed_ends_and_says_so) {
  for (const double norm : {0.0, arma::datum::inf, arma::datum::nan}) {
    mat a(20, 20, arma::fill::eye), u(20, 20), v(20, 20);
    vec w(20);
    BOOST_TEST(!detail::eigen_decomposition(20, norm, a.memptr(), w.memptr()));
    BOOST_TEST(arma::approx_equal(a, mat(20, 20, arma::fill::eye), "absdiff", 0));
    BOOST_TEST(!detail::singular_value_decomposition(20, 20, norm, a.memptr(), 20, u.memptr(), w.memptr(), v.memptr()));
  }
  for (const double bad : {arma::datum::inf, arma::datum::nan})
    for (const uword at : {uword{0}, uword{13}}) {
      vec d(30, arma::fill::ones), e(30, arma::fill::ones);
      mat u(30, 30), v(30, 30);
      std::vector<std::size_t> order(30);
      (at == 0 ? d : e)(at) = bad;
      const vec d0 = d, e0 = e;
      BOOST_TEST(!detail::tridiagonal_eigen<double>(30, d.memptr(), e.memptr(), v.memptr(), order.data()));
      d = d0, e = e0;
      BOOST_TEST(!detail::bidiagonal_svd<double>(30, d.memptr(), e.memptr(), u.memptr(), v.memptr(), order.data()));
    }
}

BOOST_AUTO_TEST_CASE(the_public_functions_take_them_for_wide_tall_square_and_zero_matrices) {
  for (const auto& [m, n] : {std::pair<uword, uword>{20, 50}, {50, 20}, {30, 30}, {17, 3}, {3, 200}}) {
    const mat a = random(m, n, m);
    armagrad::Tape<double> tape;
    const auto x = tape.variable(a);
    const auto [u, s, v] = svd_econ(x);
    const double unit = 64 * epsilon<double> * arma::norm(a, "fro");
    BOOST_TEST(arma::abs(u.value() * arma::diagmat(vec(s.value())) * v.value().t() - a).max() <= unit);
    BOOST_TEST(arma::abs(vec(s.value()) - arma::svd(a)).max() <= unit);
    accu(s).backward();  // the nuclear norm's gradient is U V'
    BOOST_TEST(arma::abs(x.grad() - u.value() * v.value().t()).max() <= 64 * epsilon<double>);
  }
  const mat a = random(30, 30, 1), symmetric = a + a.t();
  armagrad::Tape<double> tape;
  const auto [w, v] = eig_sym(tape.variable(symmetric), armagrad::with_vectors);
  const mat rebuilt = v.value() * arma::diagmat(vec(w.value())) * v.value().t();
  BOOST_TEST(arma::abs(rebuilt - symmetric).max() <= 64 * epsilon<double> * arma::norm(symmetric));
  BOOST_TEST(arma::abs(svd_econ(tape.variable(mat(20, 18))).s.value()).max() == 0);
  BOOST_TEST(arma::abs(eig_sym(tape.variable(mat(20, 20))).value()).max() == 0);
}
