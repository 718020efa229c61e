// Certificates: the published check network, bounds beside exact evaluation at points and corners, the search on the
// grid beside a search without wit, and what is refused.
#define BOOST_TEST_MODULE robust_certificates
#include <cmath>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include <boost/mpl/list.hpp>
#include <boost/test/unit_test.hpp>
#include <fmt/format.h>

#include <armagrad/armagrad.hpp>

#include "refused.hpp"

namespace ag = armagrad;
namespace robust = armagrad::robust;
using Labels = arma::Row<std::size_t>;
using robust::Margin;
using ElementTypes = boost::mpl::list<float, double>;

namespace {

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

/// 2-3-3-2 of the published check.
template <class eT>
robust::Layers<eT> check_network() {
  using M = arma::Mat<eT>;
  using C = arma::Col<eT>;
  robust::Layers<eT> out;
  out.linear("l1", M{{0.5, -1}, {2, 2}, {0, 1}}, C{1, 0, 0.5});
  out.activation(robust::Activation::relu);
  out.linear("l2", M{{-3, 2, 1}, {0, 0.5, -1}, {-2, 1, 0.5}}, C{0, 0, 1});
  out.activation(robust::Activation::relu);
  out.linear("l3", M{{1, 1, 0.5}, {2, 1, -1}}, C{0.5, 0.5});
  return out;
}

template <class eT>
struct Mlp : ag::nn::Module<eT> {
  Mlp(arma::uword inputs, arma::uword hidden, std::uint64_t seed = 5)
      : random(seed), l1(inputs, hidden, random), l2(hidden, hidden, random), l3(hidden, 4, random) {}
  ag::nn::Generator random;
  ag::nn::Linear<eT> l1, l2, l3;
  ARMAGRAD_MODULE(l1, l2, l3)
  ag::Var<eT> forward(ag::Var<eT> x) { return l3(relu(l2(relu(l1(x))))); }
  robust::Layers<eT> layers() { return robust::layers(l1, ag::nn::Relu<eT>{}, l2, ag::nn::Relu<eT>{}, l3); }
};

template <class eT>
arma::Mat<eT> uniform(arma::uword rows, arma::uword cols, std::uint64_t seed) {
  ag::nn::Generator random(seed);
  arma::Mat<eT> out(rows, cols);
  for (eT& v : out) v = static_cast<eT>(random.uniform());
  return out;
}

/// What each linear layer gives for one input, in long double, where the error is far below what float or double
/// resolve.
template <class eT>
std::vector<std::vector<long double>> exactly(const robust::Layers<eT>& layers, std::vector<long double> a) {
  std::vector<std::vector<long double>> out;
  for (const auto& layer : layers.all()) {
    if (const auto* linear = std::get_if<robust::LinearLayer<eT>>(&layer)) {
      std::vector<long double> z(linear->weight.n_rows);
      for (arma::uword i = 0; i < linear->weight.n_rows; ++i) {
        z[i] = linear->bias[i];
        for (arma::uword k = 0; k < linear->weight.n_cols; ++k)
          z[i] += static_cast<long double>(linear->weight(i, k)) * a[k];
      }
      out.push_back(z);
      a = z;
    } else {
      for (long double& v : a) {
        const auto kind = std::get<robust::Activation>(layer);
        v = kind == robust::Activation::relu   ? std::max(v, 0.0L)
            : kind == robust::Activation::tanh ? std::tanh(v)
                                               : 1 / (1 + std::exp(-v));
      }
    }
  }
  return out;
}

/// A point of the box around x; the corner that drives the last layer's row `up` high or low, or a random one.
template <class eT>
std::vector<long double> corner(const robust::Bounds<eT>& box, arma::uword j, ag::nn::Generator& random, bool inside) {
  std::vector<long double> out;
  for (arma::uword i = 0; i < box.lower.n_rows; ++i) {
    const long double l = box.lower(i, j), u = box.upper(i, j);
    const long double share = inside ? random.uniform() : static_cast<long double>(random.bits() & 1);
    out.push_back(l + share * (u - l));
  }
  return out;
}

}  // namespace

BOOST_AUTO_TEST_CASE_TEMPLATE(the_check_network_gives_the_published_tables, eT, ElementTypes) {
  const auto layers = check_network<eT>();
  const arma::Mat<eT> x = {{eT(0.1), eT(0.4)}, {eT(0.9), eT(0.5)}};
  const auto bounds = robust::bound_propagation(layers, x, 0.2);
  // Bounds are rounded outward: a little inward again, so that 9.475, published as 9.47, is not taken for 9.48.
  const auto text = [&](bool upper, arma::uword column) {
    std::string out;
    for (const auto& b : bounds) {
      const arma::Col<eT> values = (upper ? b.upper : b.lower).col(column);
      for (const eT v : values)
        out += fmt::format("{:.2f} ", std::round(100 * (static_cast<double>(v) + (upper ? -1e-5 : 1e-5))) / 100 + 0.0);
      out += "| ";
    }
    return out;
  };
  BOOST_TEST(text(false, 0) == "0.00 0.70 | 0.00 1.40 1.20 | 2.65 -0.80 2.10 | 4.20 1.45 | ");
  BOOST_TEST(text(true, 0) == "0.30 1.00 | 0.45 2.60 1.50 | 6.70 0.10 4.35 | 9.47 11.90 | ");
  BOOST_TEST(text(false, 1) == "0.20 0.30 | 0.40 1.00 0.80 | -0.20 -0.70 0.40 | 0.70 -2.90 | ");
  BOOST_TEST(text(true, 1) == "0.60 0.70 | 1.00 2.60 1.20 | 5.20 0.50 3.40 | 7.90 11.00 | ");
  BOOST_TEST(std::abs(bounds[3].upper(0, 0) - eT(9.475)) < 1e-4);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(the_check_network_is_certified_as_published, eT, ElementTypes) {
  const auto layers = check_network<eT>();
  const arma::Mat<eT> x = {{eT(0.1), eT(0.4)}, {eT(0.9), eT(0.5)}};
  const auto published = robust::certified_epsilon(layers, x, Labels{0, 0}, {.margin = Margin::published});
  BOOST_REQUIRE((published[0] && published[1]));
  BOOST_TEST(*published[0] == 0.0028);
  BOOST_TEST(*published[1] == 0.0067);
  const auto folded = robust::certified_epsilon(layers, x, Labels{0, 0});
  BOOST_TEST(*folded[0] >= 0.0028);
  BOOST_TEST(*folded[1] > 0.0067);
  BOOST_TEST(!robust::certified_epsilon(layers, x, Labels{1, 0})[0]);  // misclassified: nothing to certify
}

BOOST_AUTO_TEST_CASE_TEMPLATE(points_and_corners_lie_inside, eT, ElementTypes) {
  ag::nn::Generator random(3);
  Mlp<eT> mlp(30, 50);
  ag::nn::Sequential<eT> smooth{ag::nn::Linear<eT>(30, 40, random), ag::nn::Tanh<eT>{}, ag::nn::Dropout<eT>(0.5),
                                ag::nn::Sequential<eT>{ag::nn::Linear<eT>(40, 40, random), ag::nn::Sigmoid<eT>{}},
                                ag::nn::Linear<eT>(40, 4, random)};
  const arma::Mat<eT> x = uniform<eT>(30, 3, 7);
  for (const auto& layers : {robust::layers(mlp), robust::layers(smooth)})
    for (const double epsilon : {0.0, 1e-7, 1e-4, 0.01, 0.3}) {
      const auto bounds = robust::bound_propagation(layers, x, epsilon);
      BOOST_REQUIRE(bounds.size() == 4u);
      std::size_t outside = 0;
      for (arma::uword j = 0; j < 3; ++j)
        for (int k = 0; k < 40; ++k) {
          const auto z = exactly(layers, corner(bounds[0], j, random, k % 2 == 0));
          for (std::size_t l = 0; l < z.size(); ++l)
            for (arma::uword i = 0; i < z[l].size(); ++i)
              outside += z[l][i] < bounds[l + 1].lower(i, j) || z[l][i] > bounds[l + 1].upper(i, j);
        }
      BOOST_TEST(outside == 0u);
    }
}

// The first layer's bounds are attained at a corner of the box, which exact arithmetic must not exceed; and they are
// not wider than that by more than rounding explains.
BOOST_AUTO_TEST_CASE(worst_corners_are_inside_and_not_far_inside) {
  Mlp<float> mlp(784, 60);
  const auto layers = robust::layers(mlp);
  const auto& first = std::get<robust::LinearLayer<float>>(layers.all()[0]);
  const arma::fmat x = arma::clamp(uniform<float>(784, 4, 9) * 3 - 1, 0.f, 1.f);
  for (const double epsilon : {0.0, 1e-4, 0.05}) {
    const auto bounds = robust::bound_propagation(layers, x, epsilon);
    for (arma::uword j = 0; j < 4; ++j)
      for (arma::uword i = 0; i < 60; ++i) {
        long double low = first.bias[i], high = low, size = 0;
        for (arma::uword k = 0; k < 784; ++k) {
          const long double w = first.weight(i, k), v = x(k, j), e = epsilon;
          const long double a = std::max(0.0L, v - e), b = std::min(1.0L, v + e);
          low += w > 0 ? w * a : w * b;
          high += w > 0 ? w * b : w * a;
          size += std::abs(w) * b;
        }
        BOOST_REQUIRE(bounds[1].lower(i, j) <= low);
        BOOST_REQUIRE(bounds[1].upper(i, j) >= high);
        BOOST_REQUIRE(low - bounds[1].lower(i, j) < 4e-4L * size);
        BOOST_REQUIRE(bounds[1].upper(i, j) - high < 4e-4L * size);
      }
  }
}

// Where logits are closer than float resolves, certificates must not be given away: here logit 0 is below or equal.
BOOST_AUTO_TEST_CASE(a_tie_that_float_hides_is_not_certified) {
  for (const Margin margin : {Margin::published, Margin::folded}) {
    robust::Layers<float> layers;
    const arma::uword n = 400;
    arma::fmat w(2, n);
    w.row(0).fill(0.1f);
    w.row(1).fill(0.1f);
    w(1, 0) = std::nextafter(0.1f, 1.f);  // the other logit is above by 7e-9 x, far below the rounding of the sums
    layers.linear("l", w, arma::fvec{0, 0});
    const arma::fmat x(n, 1, arma::fill::ones);
    BOOST_TEST(robust::certified_margin(layers, x, Labels{0}, {0.0}, {.margin = margin})[0] <= 0);
    BOOST_TEST(robust::certified_margin(layers, x, Labels{1}, {0.0}, {.margin = margin})[0] <= 0);
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(margins_are_below_every_point_and_folded_is_tighter, eT, ElementTypes) {
  Mlp<eT> mlp(30, 50);
  const auto layers = robust::layers(mlp);
  const arma::Mat<eT> x = uniform<eT>(30, 12, 7);
  const Labels y = robust::predict(mlp, x);
  ag::nn::Generator random(2);
  for (const double epsilon : {0.0, 0.001, 0.02}) {
    const arma::rowvec epsilons(12, arma::fill::value(epsilon));
    const auto published = robust::certified_margin(layers, x, y, epsilons, {.margin = Margin::published});
    const auto folded = robust::certified_margin(layers, x, y, epsilons);
    const auto box = robust::bound_propagation(layers, x, epsilon)[0];
    for (arma::uword j = 0; j < 12; ++j) {
      BOOST_TEST(folded[j] >= published[j] - 1e-4);  // up to rounding, which folds differently
      for (int k = 0; k < 20; ++k) {
        const auto z = exactly(layers, corner(box, j, random, k % 2 == 0)).back();
        for (std::size_t i = 0; i < 4; ++i)
          if (i != y[j]) BOOST_TEST(z[y[j]] - z[i] >= folded[j]);
      }
    }
    if (epsilon > 0) BOOST_TEST(arma::accu(folded) > arma::accu(published) + 1e-3);
  }
}

BOOST_AUTO_TEST_CASE(the_search_finds_what_trying_every_epsilon_finds) {
  Mlp<double> mlp(10, 20);
  const auto layers = robust::layers(mlp);
  const arma::uword n = 1300;  // more than one block
  const arma::mat x = uniform<double>(10, n, 7);
  Labels y = robust::predict(mlp, x);
  y.head(40).transform([](std::size_t v) { return (v + 1) % 4; });  // misclassified
  robust::CertifyOptions o;
  o.grid.clear();
  for (int i = 1; i <= 60; ++i) o.grid.push_back(0.001 * i * i / 10);
  for (const Margin margin : {Margin::published, Margin::folded}) {
    o.margin = margin;
    o.threads = 1;
    const auto found = robust::certified_epsilon(layers, x, y, o);
    std::vector<std::optional<double>> expected(n);
    for (const double e : o.grid) {
      const auto m = robust::certified_margin(layers, x, y, arma::rowvec(n, arma::fill::value(e)), o);
      for (arma::uword j = 0; j < n; ++j)
        if (m[j] > 0) expected[j] = e;
    }
    BOOST_TEST((found == expected));
    o.threads = 3;
    BOOST_TEST((robust::certified_epsilon(layers, x, y, o) == expected));
    std::size_t none = 0;
    for (const auto& e : found) none += !e;
    BOOST_TEST((none >= 40u && none < n / 2));
  }
  BOOST_TEST(robust::epsilon_grid().size() == 9999u);
  BOOST_TEST(robust::epsilon_grid()[27] == 0.0028);
  BOOST_TEST(robust::certified_epsilon(layers, arma::mat(10, 0), Labels()).empty());
}

BOOST_AUTO_TEST_CASE(what_is_certified_no_attack_breaks) {
  Mlp<float> mlp(30, 50);
  const auto layers = robust::layers(mlp);
  const arma::fmat x = uniform<float>(30, 200, 8);
  const Labels y = robust::predict(mlp, x);
  arma::rowvec epsilons(200);
  std::size_t certified = 0;
  const auto found = robust::certified_epsilon(layers, x, y);
  for (arma::uword j = 0; j < 200; ++j) epsilons[j] = found[j].value_or(0), certified += found[j].has_value();
  BOOST_TEST(certified > 150u);
  for (const auto loss : {robust::Loss::cross_entropy, robust::Loss::margin}) {
    const auto attack = robust::pgd(mlp, x, y, epsilons,
                                    {.step = 1000, .iterations = 50, .restarts = 3, .clip = {{0, 1}}, .loss = loss});
    BOOST_TEST(arma::accu(attack.success) == 0u);
  }
  // Nor are they too cautious to be of use: at a hundred times the epsilon attacks do succeed.
  BOOST_TEST(robust::pgd(mlp, x, y, arma::rowvec(100 * epsilons), {.step = 1000, .clip = {{0, 1}}}).success_rate() >
             0.05);
}

BOOST_AUTO_TEST_CASE(numbers_that_overflow_certify_nothing) {
  robust::Layers<float> layers;
  layers.linear("l1", arma::fmat{{1e38f, 1e38f}, {1, 1}}, arma::fvec{3e38f, 0});
  layers.activation(robust::Activation::relu);
  layers.linear("l2", arma::fmat{{1, 0}, {0, 1}}, arma::fvec{0, 0});
  const arma::fmat x(2, 1, arma::fill::ones);
  for (const Margin margin : {Margin::published, Margin::folded})
    for (const std::size_t label : {0, 1})
      BOOST_TEST(!(robust::certified_margin(layers, x, Labels{label}, {0.1}, {.margin = margin})[0] > 0));
}

BOOST_AUTO_TEST_CASE(bounds_of_two_kinds_are_intersected) {
  robust::Bounds<double> a{{{0, 1}}, {{2, 3}}};
  a.intersect({{{-1, 2}}, {{1, 4}}});
  BOOST_TEST(arma::approx_equal(a.lower, arma::mat{{0, 2}}, "absdiff", 0));
  BOOST_TEST(arma::approx_equal(a.upper, arma::mat{{1, 3}}, "absdiff", 0));
  refused<ag::ShapeError>(
      [&] {
        a.intersect({arma::mat(2, 2), arma::mat(2, 2)});
      },
      "bounds: 1x2 and 2x2 cannot be intersected");
}

BOOST_AUTO_TEST_CASE(what_is_wrong_is_said) {
  ag::nn::Sequential<double> gelu{ag::nn::Linear<double>(4, 4),
                                  ag::nn::Sequential<double>{ag::nn::Gelu<double>{}, ag::nn::Linear<double>(4, 2)}};
  refused<ag::OptionError>([&] { robust::layers(gelu); },
                           "certificates: layer 1.0 is a Gelu; bounds go through Linear, Relu, Tanh, Sigmoid, Dropout "
                           "and Sequential. A module "
                           "of your own that consists of these lists them in a member function layers()");
  ag::nn::Linear<double> l(4, 3), other(5, 2);
  refused<ag::ShapeError>([&] { robust::layers(l, other); },
                          "certificates: layer 2 (Linear) takes 5 features, the layer before gives 3");
  ag::nn::Relu<double> relu;
  refused<ag::OptionError>([&] { robust::layers(relu, l); },
                           "certificates: the first layer is an activation; begin with a linear layer");
  const arma::mat x(4, 2, arma::fill::value(0.5));
  const auto ends = robust::layers(l, relu), layers = robust::layers(l);
  refused<ag::OptionError>(
      [&] {
        robust::certified_epsilon(ends, x, Labels{0, 0});
      },
      "certificates: the last layer is an activation; logits come from a linear layer, so leave the "
      "activation out");
  refused<ag::ShapeError>([&] { robust::bound_propagation(layers, arma::mat(3, 2), 0.1); },
                          "certificates: x is 3x2, the first layer takes 4 features; columns are samples");
  refused<ag::OptionError>([&] { robust::bound_propagation(layers, x, -1); },
                           "certificates: epsilon is -1; it must be at least 0 and finite");
  refused<ag::ValueError>(
      [&] { robust::bound_propagation(layers, arma::mat(2 * x + 0.5), 0.1); },
      "certificates: column 0 of x has the entry 1.5, outside of the range [0, 1]; scale the data or "
      "give another range");
  refused<ag::ValueError>(
      [&] {
        robust::certified_epsilon(layers, x, Labels{0, 3});
      },
      "certificates: label 3 is not below the 3 logits");
  refused<ag::ShapeError>([&] { robust::certified_margin(layers, x, Labels{0}, {0.1}); },
                          "certificates: x is 4x2 and there are 1 labels; there must be one for each column");
  refused<ag::ShapeError>(
      [&] {
        robust::certified_margin(layers, x, Labels{0, 1}, {0.1});
      },
      "certificates: there are 1 epsilons for 2 columns of x; there must be one for each");
  refused<ag::OptionError>(
      [&] {
        robust::certified_epsilon(layers, x, Labels{0, 1}, {.grid = {0.2, 0.1}});
      },
      "certificates: epsilon 0.1 follows 0.2; the grid must grow");
  refused<ag::OptionError>(
      [&] {
        robust::certified_epsilon(layers, x, Labels{0, 1}, {.grid = {}});
      },
      "certificates: the grid of epsilons is empty");
  robust::Layers<double> bad;
  refused<ag::ValueError>([&] { bad.linear("l1", arma::mat(1, 1, arma::fill::value(not_a_number)), arma::vec{0}); },
                          "certificates: l1 has an entry that is not finite");
}
