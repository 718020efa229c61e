// The data sets against NumPy and scikit-learn: tests/peers/datasets.inc holds what they give, tests/peers/datasets.py
// is the script that asked them.
#define BOOST_TEST_MODULE datasets
#include <cmath>
#include <limits>
#include <string>
#include <tuple>
#include <type_traits>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <armagrad/autodiff/error.hpp>
#include <armagrad/datasets/digits.hpp>
#include <armagrad/datasets/loader.hpp>
#include <armagrad/datasets/numpy_random.hpp>
#include <armagrad/datasets/regression.hpp>
#include <armagrad/datasets/scale.hpp>
#include <armagrad/datasets/split.hpp>

namespace peer {
#include "peers/datasets.inc"
}

using namespace armagrad;
using namespace armagrad::data;

namespace {

using Labels = arma::Row<std::size_t>;

template <class Values, class Expected>
void check_equal(const Values& values, const Expected& expected) {
  BOOST_CHECK_EQUAL_COLLECTIONS(values.begin(), values.end(), expected.begin(), expected.end());
}

template <class Draw>
std::vector<double> draw(std::size_t n, Draw one) {
  std::vector<double> out;
  while (out.size() < n) out.push_back(one());
  return out;
}

template <class E, class F>
void check_throws(F f, const std::string& message) {
  BOOST_CHECK_EXCEPTION(f(), E, [&](const E& error) {
    BOOST_CHECK_EQUAL(error.what(), message);
    return true;
  });
}

/// Column j is {j, j + 0.5}, label j % 3.
template <class eT>
Dataset<eT> counting_set(arma::uword n) {
  Dataset<eT> set{arma::Mat<eT>(2, n), Labels(n), 3};
  for (arma::uword j = 0; j < n; ++j) {
    set.x(0, j) = static_cast<eT>(j);
    set.x(1, j) = static_cast<eT>(j) + eT(0.5);
    set.y[j] = j % 3;
  }
  return set;
}

/// The samples' numbers in the order in which one epoch brings them.
template <class L>
std::vector<arma::uword> epoch_order(L& loader) {
  std::vector<arma::uword> out;
  for (const auto& batch : loader) {
    for (const auto value : batch.x.row(0)) out.push_back(static_cast<arma::uword>(value));
  }
  return out;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(numpy_random)

BOOST_AUTO_TEST_CASE(the_stream_is_numpys_to_the_last_bit) {
  NumpyRandom random(42);
  check_equal(draw(5, [&] { return random.random_sample(); }), peer::random_samples);
  check_equal(draw(5, [&] { return random.standard_normal(); }), peer::normals);
  check_equal(draw(3, [&] { return random.uniform(-3, 7); }), peer::uniforms);
  check_equal(draw(4, [&] { return random.normal(2, 0.5); }), peer::scaled_normals);
  for (std::size_t i = 0; i < peer::intervals.size(); ++i) {
    BOOST_CHECK_EQUAL(random.interval(peer::interval_max[i]), peer::intervals[i]);
  }
  check_equal(random.permutation(20), peer::permutation);
  arma::uvec values = arma::regspace<arma::uvec>(100, 116);
  random.shuffle(values);
  check_equal(values, peer::shuffled);
  BOOST_CHECK_EQUAL(random.standard_normal(), peer::after_all[0]);
  BOOST_CHECK_EQUAL(random.random_sample(), peer::after_all[1]);
}

BOOST_AUTO_TEST_CASE(seeds_and_keys_are_numpys) {
  NumpyRandom zero(0);
  draw(10000, [&] { return zero.random_sample(); });
  BOOST_CHECK_EQUAL(zero.random_sample(), peer::seed_0_after_10000[0]);
  NumpyRandom largest(0xffffffffU);
  check_equal(draw(2, [&] { return largest.random_sample(); }), peer::largest_seed);
  NumpyRandom one_word = NumpyRandom::from_key({42});
  check_equal(draw(2, [&] { return one_word.random_sample(); }), peer::one_word_key);
  NumpyRandom two_words = NumpyRandom::from_key({1, 7});
  check_equal(draw(3, [&] { return two_words.random_sample(); }), peer::two_word_key);
  NumpyRandom five_words = NumpyRandom::from_key({0, 1, 2, 3, 4});
  check_equal(draw(3, [&] { return five_words.random_sample(); }), peer::long_key);
  check_throws<OptionError>([] { NumpyRandom::from_key({}); }, "NumpyRandom: the key is empty; give at least one word");
}

BOOST_AUTO_TEST_CASE(a_permutation_of_nothing_is_empty) { BOOST_CHECK(NumpyRandom(1).permutation(0).is_empty()); }

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(regression)

BOOST_AUTO_TEST_CASE(make_regression_is_scikit_learns_to_the_last_bit) {
  const Regression data = make_regression(
      {.n_samples = 500, .n_features = 1, .n_informative = 1, .bias = 10, .noise = 25, .random_state = 42});
  BOOST_CHECK_EQUAL(data.x.n_rows, 1);
  BOOST_CHECK_EQUAL(data.x.n_cols, 500);
  check_equal(arma::rowvec(data.x.cols(0, 19)), peer::linear_x);
  check_equal(arma::rowvec(data.y.cols(0, 19)), peer::linear_y);
  check_equal(data.coef, peer::linear_coef);
  double sum_x = 0, sum_y = 0;
  for (const double value : data.x) sum_x += value;
  for (const double value : data.y) sum_y += value;
  BOOST_CHECK_EQUAL(sum_x, peer::linear_sums[0]);
  BOOST_CHECK_EQUAL(sum_y, peer::linear_sums[1]);
}

BOOST_AUTO_TEST_CASE(the_published_line_is_the_least_squares_fit) {
  const Regression data = make_regression(
      {.n_samples = 500, .n_features = 1, .n_informative = 1, .bias = 10, .noise = 25, .random_state = 42});
  const arma::mat design = arma::join_rows(arma::ones(500), data.x.t());
  const arma::vec fit = arma::solve(design, data.y.t());
  BOOST_CHECK_SMALL(fit[0] - 9.02058667, 5e-9);
  BOOST_CHECK_SMALL(fit[1] - 63.18605572, 5e-9);
  BOOST_CHECK_SMALL(data.coef[0] - 64.59172413, 5e-9);
}

BOOST_AUTO_TEST_CASE(several_features_are_shuffled_with_their_coefficients) {
  const Regression data =
      make_regression({.n_samples = 7, .n_features = 4, .n_informative = 2, .bias = -1, .random_state = 3});
  BOOST_CHECK_EQUAL(data.x.n_rows, 4);
  check_equal(data.x, peer::wide_x);
  check_equal(data.coef, peer::wide_coef);
  for (arma::uword j = 0; j < 7; ++j) BOOST_CHECK_CLOSE_FRACTION(data.y[j], peer::wide_y[j], 1e-14);
}

BOOST_AUTO_TEST_CASE(without_noise_and_shuffle_the_model_is_exact) {
  const Regression data = make_regression({.n_samples = 5, .n_features = 3, .n_informative = 9, .shuffle = false});
  BOOST_CHECK(arma::approx_equal(data.y, data.coef.t() * data.x, "absdiff", 1e-12));
  BOOST_CHECK(arma::all(data.coef > 0));
}

BOOST_AUTO_TEST_CASE(curves_are_their_formula_plus_numpys_noise) {
  const Curve power = power_law(5);
  BOOST_REQUIRE_EQUAL(power.x.n_elem, 101);
  for (arma::uword i = 0; i < 101; ++i) {
    BOOST_CHECK_CLOSE_FRACTION(power.x[i], peer::power_x[i], 1e-15);
    BOOST_CHECK_CLOSE_FRACTION(power.y[i], peer::power_y[i], 1e-15);
  }

  NumpyRandom random(9);
  const Curve waves = sine_cosine(9), growth = exponential(9);
  BOOST_CHECK_EQUAL(waves.x.n_elem, 1000);
  BOOST_CHECK_CLOSE_FRACTION(waves.x.back(), 2 * std::acos(-1.0), 1e-15);
  BOOST_CHECK_EQUAL(growth.x.n_elem, 1000);
  BOOST_CHECK_EQUAL(growth.x.back(), 1);
  for (arma::uword i = 0; i < 1000; ++i) {
    const double u = random.random_sample();
    BOOST_CHECK_SMALL(waves.y[i] - (3 * std::sin(waves.x[i]) - 2 * std::cos(waves.x[i]) + u), 1e-14);
    BOOST_CHECK_SMALL(growth.y[i] - (2 * std::exp(growth.x[i] / 2) + 0.25 * u), 1e-14);
  }
}

BOOST_AUTO_TEST_CASE(impossible_regressions_are_refused) {
  check_throws<OptionError>([] { make_regression({.n_samples = 0}); },
                            "make_regression: n_samples is 0 and n_features is 100; both must be at least 1");
  check_throws<OptionError>(
      [] { make_regression({.noise = -1}); },
      "make_regression: noise is -1; it is a standard deviation and must be finite and not negative");
  const auto line = [](double x) { return x; };
  check_throws<OptionError>([&] { noisy_curve(line, {.n_samples = 1}); },
                            "noisy_curve: n_samples is 1; a curve has two ends and needs at least 2 samples");
  check_throws<OptionError>([&] { noisy_curve(line, {.to = std::numeric_limits<double>::infinity()}); },
                            "noisy_curve: from is 0, to is inf, noise is 0; all must be finite");
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(digits)

BOOST_AUTO_TEST_CASE(the_digits_are_scikit_learns) {
  const auto set = load_digits<double>();
  BOOST_CHECK_EQUAL(set.x.n_rows, 64);
  BOOST_CHECK_EQUAL(set.x.n_cols, 1797);
  BOOST_CHECK_EQUAL(set.classes, 10);
  check_equal(arma::vec(arma::sum(set.x, 1)), peer::digits_pixel_sums);
  for (std::size_t label = 0; label < 10; ++label) {
    BOOST_CHECK_EQUAL(arma::accu(set.y == label), peer::digits_label_counts[label]);
  }
  const arma::rowvec second_row_of_first_image{0, 0, 13, 15, 10, 15, 5, 0};
  const arma::mat image = arma::reshape(set.x.col(0), 8, 8).t();
  check_equal(arma::rowvec(image.row(1)), second_row_of_first_image);
  BOOST_CHECK(arma::approx_equal(arma::conv_to<arma::mat>::from(load_digits<float>().x), set.x, "absdiff", 0));
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(split)

BOOST_AUTO_TEST_CASE(the_digits_split_is_scikit_learns) {
  const auto set = load_digits<float>();
  const Split split = stratified_split(set.y, {.test_size = 0.2, .random_state = 42});
  BOOST_CHECK_EQUAL(split.train.n_elem, 1437);
  BOOST_CHECK_EQUAL(split.test.n_elem, 360);
  check_equal(split.train, peer::digits_split_train);
  check_equal(split.test, peer::digits_split_test);
}

BOOST_AUTO_TEST_CASE(splits_with_ties_gaps_and_many_classes_are_scikit_learns) {
  for (const auto& c : peer::split_cases) {
    BOOST_TEST_CONTEXT(c.name) {
      const Split split = stratified_split(c.labels, {.test_size = c.test_size, .random_state = c.random_state});
      check_equal(split.train, c.train);
      check_equal(split.test, c.test);
    }
  }
}

BOOST_AUTO_TEST_CASE(a_split_keeps_class_shares) {
  const Labels y = arma::join_rows(Labels(70, arma::fill::zeros), Labels(30, arma::fill::ones));
  const Split split = stratified_split(y, {.test_size = 0.3, .random_state = 8});
  BOOST_CHECK_EQUAL(arma::accu(y.cols(split.test)), 9);
  BOOST_CHECK_EQUAL(arma::accu(y.cols(split.train)), 21);
  check_equal(arma::uvec(arma::sort(arma::join_cols(split.train, split.test))),
              arma::uvec(arma::regspace<arma::uvec>(0, 99)));
}

BOOST_AUTO_TEST_CASE(impossible_splits_are_refused) {
  check_throws<DataError>([] { stratified_split(Labels()); }, "stratified_split: there are no labels");
  for (const double size : {0.0, 1.0, -0.5, std::nan("")}) {
    BOOST_CHECK_THROW(stratified_split(Labels{0, 0, 1, 1}, {.test_size = size}), OptionError);
  }
  check_throws<OptionError>(
      [] {
        stratified_split(Labels{0, 0, 1, 1}, {.test_size = 2});
      },
      "stratified_split: test_size is 2; it is a share of the samples and must lie between 0 "
      "and 1, both excluded");
  check_throws<DataError>(
      [] {
        stratified_split(Labels{0, 0, 5, 1, 1, 9});
      },
      "stratified_split: each class needs at least 2 samples, one for either side; with only one: "
      "class 5, 9");
  check_throws<OptionError>(
      [] {
        stratified_split(Labels{0, 0, 0, 1, 1, 1, 2, 2, 2, 2}, {.test_size = 0.2});
      },
      "stratified_split: test_size 0.2 splits the 10 samples into 8 for training and 2 for "
      "testing; either side needs at least one for each of the 3 classes");
}

BOOST_AUTO_TEST_CASE(take_picks_samples_with_their_labels) {
  const auto set = counting_set<float>(6);
  const auto some = take(set, {5, 0, 5});
  check_equal(some.x, arma::fvec{5, 5.5, 0, 0.5, 5, 5.5});
  check_equal(some.y, Labels{2, 0, 2});
  BOOST_CHECK_EQUAL(some.classes, 3);
  BOOST_CHECK_EQUAL(take(set, {}).x.n_cols, 0);
  check_throws<ValueError>([&] { take(set, {1, 6}); }, "take: index 6 is out of range; the set has 6 samples");
  const Dataset<float> torn{set.x, Labels{0, 1}, 3};
  check_throws<ShapeError>([&] { take(torn, {0}); },
                           "take: x is 2x6 but y has 2 labels; columns are samples, so there must be one label per "
                           "column of x");
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(scale)

using ElementTypes = std::tuple<float, double>;
using FloatScalers = std::tuple<MinMaxScaler<float>, StandardScaler<float>>;
using DoubleScalers = std::tuple<MinMaxScaler<double>, StandardScaler<double>>;

BOOST_AUTO_TEST_CASE_TEMPLATE(scaled_digits_are_scikit_learns, eT, ElementTypes) {
  const double tolerance = 4 * std::numeric_limits<eT>::epsilon();
  const auto set = load_digits<eT>();
  const Split split = stratified_split(set.y, {.test_size = 0.2, .random_state = 42});
  const arma::Mat<eT> train = set.x.cols(split.train), image = set.x.col(split.test[0]);
  const arma::Mat<eT> min_max = MinMaxScaler<eT>().fit(train).transform(image);
  const arma::Mat<eT> standard = StandardScaler<eT>().fit(train).transform(image);
  for (arma::uword i = 0; i < 64; ++i) {
    BOOST_CHECK_SMALL(min_max[i] - peer::min_max_test_image[i], tolerance);
    BOOST_CHECK_SMALL(standard[i] - peer::standard_test_image[i], 4 * tolerance);
  }
}

BOOST_AUTO_TEST_CASE(scaled_training_features_have_the_promised_range_and_moments) {
  const arma::mat x = 5 + 3 * arma::mat(make_regression({.n_samples = 50, .n_features = 4}).x);
  const arma::mat unit = MinMaxScaler<double>().fit(x).transform(x);
  const arma::mat standard = StandardScaler<double>().fit(x).transform(x);
  for (arma::uword i = 0; i < 4; ++i) {
    BOOST_CHECK_EQUAL(unit.row(i).min(), 0);
    BOOST_CHECK_EQUAL(unit.row(i).max(), 1);
    BOOST_CHECK_SMALL(arma::mean(standard.row(i)), 1e-14);
    BOOST_CHECK_SMALL(arma::var(standard.row(i), 1) - 1, 1e-14);
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(inverse_transform_undoes_transform, Scaler, DoubleScalers) {
  // 0.1 is not exact in binary, so the mean of the constant feature rounds.
  const arma::mat x{{1, 5, 2, 8, 3, 1}, {0.1, 0.1, 0.1, 0.1, 0.1, 0.1}};
  const Scaler scaler = Scaler().fit(x);
  BOOST_CHECK(arma::approx_equal(scaler.inverse_transform(scaler.transform(x)), x, "absdiff", 1e-14));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_constant_feature_maps_to_zero, Scaler, FloatScalers) {
  const arma::fmat x{{0.1f, 0.1f, 0.1f}, {1, 2, 3}};
  const Scaler scaler = Scaler().fit(x);
  BOOST_CHECK_EQUAL(scaler.scale()[0], 0);
  BOOST_CHECK_EQUAL(arma::abs(scaler.transform(x).row(0)).max(), 0);
  BOOST_CHECK_EQUAL(scaler.transform(arma::fvec{7, 2})[0], 0);
}

BOOST_AUTO_TEST_CASE(scalers_refuse_what_does_not_fit) {
  MinMaxScaler<double> scaler;
  check_throws<StateError>([&] { scaler.transform(arma::mat(2, 2)); },
                           "MinMaxScaler: transform before fit; fit it on the training samples first");
  check_throws<DataError>([&] { scaler.fit(arma::mat(3, 0)); }, "MinMaxScaler: cannot fit an empty matrix; x is 3x0");
  check_throws<ValueError>(
      [] {
        StandardScaler<float>().fit(arma::fmat{{1, 2}, {3, arma::fdatum::nan}});
      },
      "StandardScaler: cannot fit x, which holds nan in feature 1 of sample 1");
  scaler.fit(arma::mat{{1, 2}, {3, 4}});
  check_throws<ShapeError>([&] { scaler.inverse_transform(arma::mat(3, 5)); },
                           "MinMaxScaler: inverse_transform got x of 3x5, but it was fitted on 2 features; columns are "
                           "samples, so x must have 2 rows");
}

BOOST_AUTO_TEST_CASE(one_hot_columns_are_columns_of_the_identity) {
  const arma::fmat expected{{0, 1, 0}, {0, 0, 0}, {1, 0, 1}};
  BOOST_CHECK(arma::approx_equal(one_hot<float>({2, 0, 2}, 3), expected, "absdiff", 0));
  BOOST_CHECK_EQUAL(one_hot<double>(Labels(), 4).n_rows, 4);
  check_throws<ValueError>(
      [] {
        one_hot<float>({0, 3}, 3);
      },
      "one_hot: label 3 of sample 1 is out of range; with 3 classes a label must be less than 3");
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(loader)

BOOST_AUTO_TEST_CASE(batches_in_order_alias_the_set) {
  const auto set = counting_set<float>(10);
  Loader batches(set, {.batch = 4});
  BOOST_CHECK_EQUAL(batches.batches(), 3);
  arma::uword first = 0;
  for (const auto& batch : batches) {
    BOOST_CHECK_EQUAL(batch.x.memptr(), set.x.colptr(first));
    BOOST_CHECK_EQUAL(batch.y.memptr(), set.y.memptr() + first);
    BOOST_CHECK_EQUAL(batch.x.n_cols, first == 8 ? 2 : 4);
    BOOST_CHECK_EQUAL(batch.y.n_elem, batch.x.n_cols);
    first += batch.x.n_cols;
  }
  BOOST_CHECK_EQUAL(first, 10);
}

BOOST_AUTO_TEST_CASE(a_batch_that_is_copied_owns_its_values) {
  const auto set = counting_set<double>(4);
  for (auto batch : Loader(set, {.batch = 2})) {
    batch.x.zeros();
    batch.y.zeros();
  }
  BOOST_CHECK_EQUAL(set.x(0, 3), 3);
  BOOST_CHECK_EQUAL(set.y[1], 1);
}

BOOST_AUTO_TEST_CASE(drop_last_leaves_the_smaller_batch_out) {
  const auto set = counting_set<float>(10);
  Loader batches(set, {.batch = 4, .drop_last = true});
  BOOST_CHECK_EQUAL(batches.batches(), 2);
  BOOST_CHECK_EQUAL(epoch_order(batches).size(), 8);
}

BOOST_AUTO_TEST_CASE(a_batch_larger_than_the_set_is_the_set) {
  const auto set = counting_set<float>(3);
  for (const bool shuffle : {false, true}) {
    Loader batches(set, {.shuffle = shuffle});
    BOOST_CHECK_EQUAL(batches.batches(), 1);
    BOOST_CHECK_EQUAL(epoch_order(batches).size(), 3);
  }
}

BOOST_AUTO_TEST_CASE(a_shuffled_epoch_brings_every_sample_once_with_its_label) {
  const auto set = counting_set<double>(11);
  Loader batches(set, {.batch = 4, .shuffle = true});
  std::vector<arma::uword> seen;
  for (const auto& batch : batches) {
    for (arma::uword j = 0; j < batch.x.n_cols; ++j) {
      seen.push_back(static_cast<arma::uword>(batch.x(0, j)));
      BOOST_CHECK_EQUAL(batch.x(1, j), batch.x(0, j) + 0.5);
      BOOST_CHECK_EQUAL(batch.y[j], seen.back() % 3);
    }
  }
  check_equal(arma::uvec(arma::sort(arma::uvec(seen))), arma::uvec(arma::regspace<arma::uvec>(0, 10)));
}

BOOST_AUTO_TEST_CASE(seed_and_epoch_decide_the_order) {
  const auto set = counting_set<float>(10);
  Loader a(set, {.batch = 3, .shuffle = true, .seed = 1}), b(set, {.batch = 4, .shuffle = true, .seed = 1}),
      other(set, {.batch = 3, .shuffle = true, .seed = 2});
  const auto first = epoch_order(a), second = epoch_order(a), third = epoch_order(a);
  BOOST_CHECK(first != second);
  BOOST_CHECK(first != epoch_order(other));
  check_equal(epoch_order(b), first);
  check_equal(third, peer::loader_order);  // as numpy.random.RandomState([1, 2]).permutation(10)

  BOOST_CHECK_EQUAL(a.epoch(), 3);
  Loader resumed(set, {.batch = 3, .shuffle = true, .seed = 1});
  resumed.set_epoch(a.epoch());
  check_equal(epoch_order(resumed), epoch_order(a));
}

BOOST_AUTO_TEST_CASE(shuffled_batches_share_one_buffer) {
  const auto set = counting_set<float>(10);
  Loader batches(set, {.batch = 4, .shuffle = true});
  const float* buffer = nullptr;
  for (int epoch = 0; epoch < 3; ++epoch) {
    for (const auto& batch : batches) {
      if (!buffer) buffer = batch.x.memptr();
      BOOST_CHECK_EQUAL(batch.x.memptr(), buffer);
    }
  }
}

BOOST_AUTO_TEST_CASE(targets_may_be_a_matrix) {
  const Regression data = make_regression({.n_samples = 10, .n_features = 3, .random_state = 1});
  Loader in_order(data.x, data.y, {.batch = 4});
  static_assert(std::is_same_v<decltype(in_order), Loader<double, arma::mat>>);
  const auto& [x, y] = *in_order.begin();
  BOOST_CHECK_EQUAL(x.memptr(), data.x.memptr());
  BOOST_CHECK_EQUAL(y.memptr(), data.y.memptr());
  BOOST_CHECK_EQUAL(y.n_rows, 1);

  const arma::mat targets = arma::join_cols(data.y, -data.y);
  for (const auto& batch : Loader(data.x, targets, {.batch = 4, .shuffle = true})) {
    BOOST_CHECK_EQUAL(batch.y.n_rows, 2);
    BOOST_CHECK(arma::approx_equal(data.coef.t() * batch.x, batch.y.row(0), "absdiff", 1e-12));
    BOOST_CHECK(arma::approx_equal(batch.y.row(0), -batch.y.row(1), "absdiff", 0));
  }
}

BOOST_AUTO_TEST_CASE(temporaries_do_not_compile) {
  using ByLabel = Loader<float, Labels>;
  static_assert(std::is_constructible_v<ByLabel, const Dataset<float>&>);
  static_assert(!std::is_constructible_v<ByLabel, Dataset<float>>);
  static_assert(!std::is_constructible_v<ByLabel, const Dataset<float>>);
  static_assert(std::is_constructible_v<ByLabel, arma::fmat&, Labels&>);
  static_assert(!std::is_constructible_v<ByLabel, arma::fmat, Labels&>);
  static_assert(!std::is_constructible_v<ByLabel, arma::fmat&, Labels>);
  static_assert(!std::is_constructible_v<ByLabel, arma::fmat, Labels>);
  static_assert(!std::is_copy_constructible_v<ByLabel>);
}

BOOST_AUTO_TEST_CASE(impossible_loaders_are_refused) {
  const auto set = counting_set<float>(10);
  check_throws<OptionError>([&] { Loader(set, {.batch = 0}); }, "Loader: batch is 0; a batch needs at least 1 sample");
  const Dataset<float> empty{arma::fmat(2, 0), Labels(), 3};
  check_throws<DataError>([&] { Loader{empty}; }, "Loader: the set is empty; x is 2x0");
  const Labels few{1, 2};
  check_throws<ShapeError>([&] { Loader(set.x, few); },
                           "Loader: x is 2x10, y is 1x2: x's columns (10) must equal y's columns (2); columns are "
                           "samples");
  check_throws<OptionError>(
      [&] { Loader(set, {.batch = 11, .drop_last = true}); },
      "Loader: drop_last with batch 11 leaves no batch of the 10 samples; choose a smaller batch");
}

BOOST_AUTO_TEST_CASE(a_set_that_changes_between_epochs_is_met_as_it_is) {
  auto set = counting_set<float>(10);
  Loader batches(set, {.batch = 4, .shuffle = true});
  epoch_order(batches);
  set = counting_set<float>(13);
  BOOST_CHECK_EQUAL(epoch_order(batches).size(), 13);
  set.y.set_size(2);
  BOOST_CHECK_THROW(batches.begin(), ShapeError);
}

BOOST_AUTO_TEST_CASE(a_second_loop_over_the_same_loader_ends_the_first) {
  const auto set = counting_set<float>(10);
  Loader batches(set, {.batch = 4});
  auto outer = batches.begin();
  batches.begin();
  check_throws<StateError>([&] { ++outer; },
                           "Loader: a newer loop over this loader has ended this one; give each loop its own Loader");
}

BOOST_AUTO_TEST_SUITE_END()
