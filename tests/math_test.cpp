// The scalar functions of element-wise loops (math.hpp) against libm in long double, in units in the last place, and
// at the edges of their domains.
#define BOOST_TEST_MODULE math
#include <cmath>
#include <limits>
#include <random>
#include <string>

#include <boost/test/unit_test.hpp>

#include <armagrad/autodiff/math.hpp>

namespace math = armagrad::math;

namespace {

constexpr unsigned seed = 20261125;

template <class T>
double units(T got, long double wanted) {
  const T near = static_cast<T>(std::fabs(wanted));
  const auto unit = static_cast<long double>(std::nextafter(near, std::numeric_limits<T>::infinity())) - near;
  return static_cast<double>(std::fabs((static_cast<long double>(got) - wanted) / unit));
}

template <class T, class F, class G>
void check(const std::string& name, double from, double to, double most, F f, G wanted) {
  std::mt19937_64 random(seed);
  std::uniform_real_distribution<double> draw(from, to);
  double worst = 0;
  T at = 0;
  for (int i = 0; i < 50'000; ++i) {
    const T x = static_cast<T>(draw(random));
    const double error = units<T>(f(x), wanted(static_cast<long double>(x)));
    if (!(error <= worst)) worst = error, at = x;
  }
  BOOST_TEST(worst <= most, name << " on [" << from << ", " << to << "], " << 8 * sizeof(T) << " bits: " << worst
                                 << " units in the last place at " << at << " (seed " << seed << ")");
}

template <class T>
void check_all() {
  const auto exp = [](T x) { return math::exp(x); };
  const auto log = [](T x) { return math::log(x); };
  const auto log1p = [](T x) { return math::log1p(x); };
  const auto tanh = [](T x) { return math::tanh(x); };
  const auto expl = [](long double x) { return std::exp(x); };
  const auto logl = [](long double x) { return std::log(x); };
  const auto log1pl = [](long double x) { return std::log1p(x); };
  const auto tanhl = [](long double x) { return std::tanh(x); };
  const double largest = static_cast<double>(std::log(std::numeric_limits<T>::max())) * 0.9999;
  check<T>("exp", -3, 3, 1.5, exp, expl);
  check<T>("exp", -largest, largest, 1.5, exp, expl);
  check<T>("exp to denormal numbers", -1.03 * largest, -0.98 * largest, 1.5, exp, expl);
  check<T>("log", 0, 4, 1, log, logl);
  check<T>("log", 0.9, 1.1, 1, log, logl);
  check<T>("log", 0, static_cast<double>(std::numeric_limits<T>::max()), 1, log, logl);
  check<T>("log of denormal numbers", 0, static_cast<double>(std::numeric_limits<T>::min()), 1, log, logl);
  check<T>("log1p", -0.999, 4, 2.5, log1p, log1pl);
  check<T>("log1p", -1e-3, 1e-3, 2.5, log1p, log1pl);
  check<T>("tanh", -0.7, 0.7, 2, tanh, tanhl);
  check<T>("tanh", -30, 30, 2, tanh, tanhl);
  check<T>(
      "sigmoid", -20, 20, 3, [](T x) { return math::sigmoid(x); },
      [](long double x) { return 1 / (1 + std::exp(-x)); });
  check<T>(
      "softplus", -20, 20, 3.5, [](T x) { return math::softplus(x); },
      [](long double x) { return std::log1p(std::exp(x)); });
}

template <class T>
void check_edges() {
  constexpr T infinity = std::numeric_limits<T>::infinity(), nothing = std::numeric_limits<T>::quiet_NaN();
  BOOST_TEST(math::exp(T(0)) == T(1));
  BOOST_TEST(math::exp(infinity) == infinity);
  BOOST_TEST(math::exp(T(1e4)) == infinity);
  BOOST_TEST(math::exp(-infinity) == T(0));
  BOOST_TEST(math::exp(T(-1e4)) == T(0));
  BOOST_TEST(std::isnan(math::exp(nothing)));
  BOOST_TEST(math::log(T(1)) == T(0));
  BOOST_TEST(math::log(T(0)) == -infinity);
  BOOST_TEST(math::log(infinity) == infinity);
  BOOST_TEST(std::isnan(math::log(T(-1))));
  BOOST_TEST(std::isnan(math::log(-infinity)));
  BOOST_TEST(std::isnan(math::log(nothing)));
  BOOST_TEST(math::log1p(T(0)) == T(0));
  BOOST_TEST(math::log1p(T(-1)) == -infinity);
  BOOST_TEST(math::log1p(infinity) == infinity);
  BOOST_TEST(std::isnan(math::log1p(T(-2))));
  BOOST_TEST(std::isnan(math::log1p(nothing)));
  BOOST_TEST(math::tanh(infinity) == T(1));
  BOOST_TEST(math::tanh(-infinity) == T(-1));
  BOOST_TEST(std::isnan(math::tanh(nothing)));
  BOOST_TEST(math::sigmoid(-infinity) == T(0));
  BOOST_TEST(math::sigmoid(infinity) == T(1));
  BOOST_TEST(math::softplus(infinity) == infinity);
  BOOST_TEST(math::softplus(-infinity) == T(0));
}

}  // namespace

BOOST_AUTO_TEST_CASE(errors_are_a_few_units_in_the_last_place_in_float) { check_all<float>(); }
BOOST_AUTO_TEST_CASE(errors_are_a_few_units_in_the_last_place_in_double) { check_all<double>(); }
BOOST_AUTO_TEST_CASE(infinities_zeros_and_nan_are_kept_in_float) { check_edges<float>(); }
BOOST_AUTO_TEST_CASE(infinities_zeros_and_nan_are_kept_in_double) { check_edges<double>(); }
