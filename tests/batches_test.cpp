// Batches of data that lies on the device: the order, its repetition, what is refused.
#define BOOST_TEST_MODULE batches
#include <algorithm>
#include <set>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <armagrad/armagrad.hpp>

#include "refused.hpp"

namespace ag = armagrad;
using Labels = arma::Row<std::size_t>;

namespace {

/// Sample j is (j, -j), its label j, its target 10 j.
arma::fmat numbered(arma::uword n) {
  arma::fmat x(2, n);
  for (arma::uword j = 0; j < n; ++j) x(0, j) = float(j), x(1, j) = -float(j);
  return x;
}
Labels labels(arma::uword n) { return arma::regspace<Labels>(0, n - 1); }

/// Which samples the next `count` batches hold.
std::vector<arma::uword> drawn(auto& batches, std::size_t count) {
  std::vector<arma::uword> all;
  ag::Tape<float> tape;
  for (std::size_t k = 0; k < count; ++k) {
    tape.rewind();
    const arma::fmat x = batches.next(tape).x.value();
    for (arma::uword j = 0; j < x.n_cols; ++j) {
      BOOST_REQUIRE(x(1, j) == -x(0, j));
      all.push_back(static_cast<arma::uword>(x(0, j)));
    }
  }
  return all;
}

}  // namespace

BOOST_AUTO_TEST_CASE(an_epoch_takes_every_sample_once_each_in_another_order) {
  for (const arma::uword n : {1u, 2u, 3u, 16u, 17u, 100u, 1000u}) {
    const arma::fmat x = numbered(n);
    ag::Batches batches(x, labels(n), {.batch = 1, .seed = 5});
    BOOST_TEST(batches.per_epoch() == n);
    std::set<std::vector<arma::uword>> orders;
    for (int epoch = 0; epoch < 4; ++epoch) {
      const auto order = drawn(batches, n);
      BOOST_TEST(std::set<arma::uword>(order.begin(), order.end()).size() == n);
      orders.insert(order);
    }
    if (n >= 16) BOOST_TEST(orders.size() == 4u);
  }
}

// 12 samples of 100 that are drawn first in each of 3000 epochs: each place as often as any other, within 5 deviations.
BOOST_AUTO_TEST_CASE(every_sample_comes_first_equally_often) {
  const arma::uword n = 12, epochs = 6000;
  const arma::fmat x = numbered(n);
  ag::Batches batches(x, labels(n), {.batch = n, .seed = 3});
  const auto all = drawn(batches, epochs);
  std::vector<double> first(n, 0), neighbours(n, 0);
  for (std::size_t e = 0; e < epochs; ++e) {
    ++first[all[e * n]];
    ++neighbours[(all[e * n + 1] + n - all[e * n]) % n];
  }
  const double deviation = std::sqrt(epochs / double(n));
  for (arma::uword j = 0; j < n; ++j) {
    BOOST_TEST(std::abs(first[j] - epochs / double(n)) < 5 * deviation);
    if (j > 0) BOOST_TEST(std::abs(neighbours[j] - epochs / double(n - 1)) < 5 * deviation);
  }
}

BOOST_AUTO_TEST_CASE(the_seed_and_the_position_decide_the_order) {
  const arma::fmat x = numbered(50);
  ag::Batches one(x, labels(50), {.batch = 8, .seed = 1}), same(x, labels(50), {.batch = 8, .seed = 1}),
      other(x, labels(50), {.batch = 8, .seed = 2});
  const auto order = drawn(one, 14);
  BOOST_TEST(one.per_epoch() == 6u);
  BOOST_TEST(order == drawn(same, 14), boost::test_tools::per_element());
  BOOST_TEST((order != drawn(other, 14)));
  BOOST_TEST(one.position() == 14u);
  same.set_position(9);
  const auto rest = drawn(same, 5);
  BOOST_TEST(std::vector<arma::uword>(order.begin() + 9 * 8, order.end()) == rest, boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(labels_and_targets_go_with_their_samples) {
  const arma::uword n = 30;
  const arma::fmat x = numbered(n), targets = 10 * x.row(0);
  ag::Batches batches(x, targets, {.batch = 7});
  ag::Tape<float> tape;
  const auto [b, t] = batches.next(tape);
  BOOST_TEST(arma::approx_equal(t.value(), arma::fmat(10 * b.value().row(0)), "absdiff", 0));

  // Of labels a loss knows: the smallest is where each column's own logit is the large one.
  ag::Batches with_labels(x, labels(n), {.batch = 7});
  const auto batch = with_labels.next(tape);
  arma::fmat logits(n, 7);
  for (arma::uword j = 0; j < 7; ++j) logits(static_cast<arma::uword>(batch.x.value()(0, j)), j) = 50;
  BOOST_TEST(ag::nn::cross_entropy(tape.constant(logits), batch.y).item() < 1e-6);
  BOOST_CHECK_THROW(ag::nn::cross_entropy(tape.constant(logits.head_rows(29)), batch.y), ag::ValueError);
}

BOOST_AUTO_TEST_CASE(a_replay_takes_the_batches_that_eager_steps_would) {
  const arma::uword n = 23;
  const arma::fmat x = numbered(n), y = 0.5f * x.row(0) + 1;
  const auto train = [&](bool replayed) {
    ag::Parameter<float> w(1, 2);
    ag::optim::Sgd<float> sgd({w.shared()}, {.lr = 1e-3});
    ag::Batches batches(x, y, {.batch = 5, .seed = 9});
    ag::Tape<float> tape;
    const auto step = [&] {
      const auto [b, t] = batches.next(tape);
      sgd.zero_grad();
      ag::nn::mse(tape.parameter(w) * b, t).backward();
      sgd.step();
    };
    if (replayed) {
      auto replay = tape.capture(step);
      replay.run(10);
    } else {
      for (int k = 0; k < 11; ++k) tape.rewind(), step();
    }
    return w.value();
  };
  BOOST_TEST(arma::approx_equal(train(true), train(false), "absdiff", 0));
}

BOOST_AUTO_TEST_CASE(what_does_not_fit_is_refused) {
  const arma::fmat x = numbered(4);
  refused<ag::ShapeError>(
      [&] { ag::Batches(x, labels(3)); },
      "Batches: x is 2x4, y is 1x3: x's columns (4) must equal y's columns (3); columns are samples");
  refused<ag::OptionError>([&] { ag::Batches(x, labels(4), {.batch = 0}); },
                           "Batches: batch is 0; it must be from 1 to the 4 samples");
  refused<ag::OptionError>([&] { ag::Batches(x, labels(4), {.batch = 5}); },
                           "Batches: batch is 5; it must be from 1 to the 4 samples");
}
