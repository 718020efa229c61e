// Vars beside scalars, Armadillo expressions and Parameters in one formula, in a program that has opened all three
// namespaces. Every expression is evaluated twice by the same text: with Vars, and with plain matrices.
#define BOOST_TEST_MODULE mixed_expressions
#include <array>
#include <cmath>
#include <complex>
#include <numeric>
#include <sstream>

#include <boost/test/unit_test.hpp>

#include <armagrad/autodiff/autodiff.hpp>

using namespace arma;
using namespace armagrad;
using namespace std;

namespace {

size_t compared = 0;

template <class eT>
void same(const char* text, const Mat<eT>& actual, const Mat<eT>& expected) {
  ++compared;
  BOOST_TEST_CONTEXT(text) {
    BOOST_REQUIRE_EQUAL(actual.n_rows, expected.n_rows);
    BOOST_REQUIRE_EQUAL(actual.n_cols, expected.n_cols);
    // Solving with a random matrix may lose two digits, and our LU rounds otherwise than LAPACK's.
    BOOST_TEST(approx_equal(actual, expected, "reldiff", eT(is_same_v<eT, float> ? 1e-4 : 1e-12)));
  }
}

// In the first lambda `x` is a Var, in the second a matrix.
#define SAME_AS(expected, ...)               \
  same<eT>(                                  \
      #__VA_ARGS__,                          \
      [&] {                                  \
        const auto x = tape.constant(value); \
        return __VA_ARGS__;                  \
      }()                                    \
          .value(),                          \
      [&] {                                  \
        const Mat<eT>& x = value;            \
        return expected;                     \
      }())
#define SAME(...) SAME_AS(Mat<eT>(__VA_ARGS__), __VA_ARGS__)
#define SAME_SCALAR(...) SAME_AS(Mat<eT>{static_cast<eT>(__VA_ARGS__)}, __VA_ARGS__)

}  // namespace

using Types = tuple<float, double>;

BOOST_AUTO_TEST_CASE_TEMPLATE(operators_take_scalars_and_armadillo_expressions_on_either_side, eT, Types) {
  arma_rng::set_seed(1);
  armagrad::Tape<eT> tape;
  const Mat<eT> value(3, 3, fill::randu), A(3, 3, fill::randu), B(3, 3, fill::randu), big(6, 6, fill::randu);
  const Col<eT> c(3, fill::randu);
  const Row<eT> r(3, fill::randu);
  const auto block = big.submat(1, 2, 3, 4);
  const SpMat<eT> sparse(Mat<eT>(A % conv_to<Mat<eT>>::from(A > eT(0.5))));
  const eT s = eT(1.5);

  // clang-format off
  SAME(x + 1);      SAME(1 + x);      SAME(x + s);      SAME(s - x);      SAME(x - 2u);     SAME(2L * x);
  SAME(x * s);      SAME(x / 4);      SAME(s / (x + 1)); SAME(x * 0.5f);   SAME(short(3) * x); SAME(-x);
  SAME(+x);         SAME(1 - -x);     SAME(x / s - x);  SAME(3 - x / 2);
  SAME(x + A);      SAME(A + x);      SAME(x - A);      SAME(A - x);      SAME(x * A);      SAME(A * x);
  SAME(x % A);      SAME(A % x);      SAME(x / A);      SAME(A / (x + 1));
  SAME(x + (A * B + 1));              SAME((A * B + 1) + x);              SAME(x * (A * B));
  SAME((A - B) * x);                  SAME((A % B) % x);                  SAME(x / (A + 1));
  SAME(A.t() * x);                    SAME(x * A.t());                    SAME(x + trans(A));
  SAME(inv(A) * x);                   SAME(x - diagmat(c));               SAME(x * eye<Mat<eT>>(3, 3));
  SAME(x + block);                    SAME(block - x);                    SAME(block * x);
  SAME(x % block);                    SAME(x * A.col(0));                 SAME(A.row(1) * x);
  SAME(x * A.head_cols(2));           SAME(x + A(span(0, 2), span::all)); SAME(x * c);
  SAME(r * x);                        SAME(r * x * c);                    SAME(x * (c + 1));
  SAME(x * vectorise(A.row(0)));      SAME(x * (c % A.col(1)));           SAME((A * x + B) * x - 2 * x);
  SAME(c * r + x);                    SAME(x + ones<Mat<eT>>(3, 3));      SAME(sparse * x);
  SAME(x * reshape(vectorise(A), 3, 3));                                  SAME(x + abs(A - B));
  SAME(x + (A + B) * (A - B));
  // clang-format on
}

BOOST_AUTO_TEST_CASE_TEMPLATE(functions_keep_their_armadillo_meaning, eT, Types) {
  arma_rng::set_seed(2);
  armagrad::Tape<eT> tape;
  const Mat<eT> value(3, 3, fill::randu), A(3, 3, fill::randu), B(3, 3, fill::randu);
  // clang-format off
  SAME(exp(x));     SAME(log(x + 1)); SAME(log1p(x));   SAME(expm1(x));   SAME(sqrt(x));    SAME(square(x));
  SAME(abs(x - A)); SAME(sign(x - A)); SAME(sin(x));     SAME(cos(x));     SAME(tanh(x));    SAME(erf(x));
  SAME(pow(x, 2.5)); SAME(pow(x, 2));  SAME(clamp(x, eT(0.2), eT(0.8)));
  SAME(exp(x) % sin(x) + A);          SAME(sqrt(x % x + 1) - log(x + 2));
  SAME(sum(x, 0));  SAME(sum(x, 1));  SAME(mean(x, 0)); SAME(mean(x, 1));
  SAME(min(x, 0));  SAME(max(x, 1));  SAME(max(x, A + B));
  SAME(trans(x));   SAME(x.t() * A);  SAME(reshape(x, 1, 9));             SAME(vectorise(x));
  SAME(repmat(x, 2, 3));              SAME(join_rows(x, A));              SAME(join_cols(A * B, x));
  SAME(diagvec(x)); SAME(diagmat(x.col(0)));            SAME(solve(A, x)); SAME(solve(x, A * B));
  SAME(inv(x));     SAME(pinv(x));    SAME(x.row(1));   SAME(x.col(2));   SAME(x.rows(0, 1)); SAME(x.cols(1, 2));
  SAME(x.submat(0, 1, 1, 2));         SAME(x.elem(uvec{0, 4, 4}));
  SAME_SCALAR(accu(x));               SAME_SCALAR(accu(A * x % B));       SAME_SCALAR(trace(A * x));
  SAME_SCALAR(norm(x, "fro"));        SAME_SCALAR(norm(x.col(0)));        SAME_SCALAR(norm(x.row(0), 1));
  SAME_SCALAR(dot(x, A));             SAME_SCALAR(dot(A + B, x));         SAME_SCALAR(x(1, 2) + 0);
  // clang-format on
  // With plain matrices of one type these are ambiguous between std and arma.
  const auto x = tape.constant(value), y = tape.constant(A);
  same<eT>("min(x, A)", min(x, A).value(), arma::min(value, A));
  same<eT>("max(A, x)", max(A, x).value(), arma::max(A, value));
  same<eT>("min(x, y)", min(x, y).value(), arma::min(value, A));
  same<eT>("max(x, y)", max(x, y).value(), arma::max(value, A));
  same<eT>("var(x, 1, 0)", var(x, 1, 0).value(), arma::var(value, 1, 0));
  same<eT>("var(x, 0, 1)", var(x, 0, 1).value(), arma::var(value, 0, 1));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(comparisons_are_masks_for_where, eT, Types) {
  arma_rng::set_seed(3);
  armagrad::Tape<eT> tape;
  const Mat<eT> value(3, 3, fill::randn), A = round(Mat<eT>(3, 3, fill::randn));
  const auto x = tape.constant(value);
  const auto mask = [](const umat& m) { return conv_to<Mat<eT>>::from(m); };
  same<eT>("x > 0", (x > 0).value(), mask(value > 0));
  same<eT>("0 > x", (0 > x).value(), mask(0 > value));
  same<eT>("x >= A", (x >= A).value(), mask(value >= A));
  same<eT>("A < x", (A < x).value(), mask(A < value));
  same<eT>("x <= A + 1", (x <= A + 1).value(), mask(value <= A + 1));
  same<eT>("A == x", (A == tape.constant(A)).value(), Mat<eT>(3, 3, fill::ones));
  same<eT>("x != 0.5", (x != 0.5).value(), mask(value != 0.5));
  const Mat<eT> m = mask(value > 0);
  same<eT>("where(x > 0, x, 0.1 * x)", where(x > 0, x, eT(0.1) * x).value(),
           Mat<eT>(m % value + eT(0.1) * (1 - m) % value));
  same<eT>("where(x > 0, 1, A + 1)", where(x > 0, 1, A + 1).value(), Mat<eT>(m + (1 - m) % (A + 1)));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(parameters_stand_on_either_side, eT, Types) {
  arma_rng::set_seed(4);
  armagrad::Tape<eT> tape;
  const Mat<eT> value(3, 3, fill::randu), W(3, 3, fill::randu);
  const Col<eT> b(3, fill::randu);
  const Parameter<eT> w(W), bias{Mat<eT>(b)};
  const auto x = tape.constant(value);
  const auto check = [](const char* text, armagrad::Var<eT> y, const Mat<eT>& expected) {
    BOOST_TEST(y.requires_grad());
    same<eT>(text, y.value(), expected);
  };
  check("w + x", w + x, W + value);
  check("x + w", x + w, value + W);
  check("w - x", w - x, W - value);
  check("x - w", x - w, value - W);
  check("w * x", w * x, W * value);
  check("x * w", x * w, value * W);
  check("w % x", w % x, W % value);
  check("x / w", x / w, value / W);
  check("w / x", w / x, W / value);
  check("max(x, w)", max(x, w), arma::max(value, W));
  check("solve(w, x)", solve(w, x), solve(W, value));
  check("dot(w, x)", dot(w, x), Mat<eT>{dot(W, value)});
  check("join_rows(w, x)", join_rows(w, x), join_rows(W, value));
  check("affine(w, x, bias)", affine(w, x, bias), W * value + repmat(b, 1, 3));
  check("affine(W, x, bias)", affine(W, x, bias), W * value + repmat(b, 1, 3));
  check("w * x + bias", w * x + bias, W * value + repmat(b, 1, 3));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(assigning_operators_record_a_new_value, eT, Types) {
  armagrad::Tape<eT> tape;
  const Mat<eT> value(2, 2, fill::randu), A(2, 2, fill::randu);
  auto x = tape.constant(value);
  const auto before = x;
  x += 1, x -= A, x *= A + A, x %= value, x /= 2;
  same<eT>("x += ...", x.value(), Mat<eT>((value + 1 - A) * (A + A) % value / 2));
  same<eT>("what it was", before.value(), value);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(rows_columns_and_scalars_are_broadcast, eT, Types) {
  armagrad::Tape<eT> tape;
  const Mat<eT> value(2, 3, fill::randu);
  const Col<eT> c(2, fill::randu);
  const Row<eT> r(3, fill::randu);
  const auto x = tape.constant(value);
  const Mat<eT> columns = repmat(c, 1, 3), rows = repmat(r, 2, 1);
  same<eT>("x + c", (x + c).value(), value + columns);
  same<eT>("r - x", (r - x).value(), rows - value);
  same<eT>("x % c / r", (x % c / r).value(), value % columns / rows);
  same<eT>("c + Var(r)", (c + tape.constant(Mat<eT>(r))).value(), columns + rows);
  same<eT>("x * Var(2)", (x * tape.constant(eT(2))).value(), 2 * value);
  same<eT>("x + Mat{2}", (x + Mat<eT>{eT(2)}).value(), value + 2);
  same<eT>("x / accu(x)", (x / accu(x)).value(), value / accu(value));
}

// The names that std and Armadillo have as well still mean theirs.
BOOST_AUTO_TEST_CASE(plain_matrices_and_numbers_are_left_alone) {
  const mat A = {{1, -2}, {3, 4}};
  BOOST_TEST(accu(abs(A)) == 10);
  BOOST_TEST(max(1, 2) == 2);
  BOOST_TEST(max(A.col(0)) == 3);
  BOOST_TEST(abs(-1.5) == 1.5);
  BOOST_TEST(exp(complex<double>(0, 0)).real() == 1);
  BOOST_TEST(norm(A, "fro") == sqrt(30.0), boost::test_tools::tolerance(1e-15));
  BOOST_TEST(as_scalar(sum(A.col(0))) == 4);
  BOOST_TEST(pow(2.0, 3) == 8);
  BOOST_TEST(clamp(5, 0, 3) == 3);
  array<double, 3> numbers{3, 1, 2};
  BOOST_TEST(*min_element(numbers.begin(), numbers.end()) == 1);
  BOOST_TEST(accumulate(numbers.begin(), numbers.end(), 0.0) == 6);
  cout << compared << " mixed expressions compared\n";
  BOOST_TEST(compared >= 200u);
}
