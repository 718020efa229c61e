// Over MNIST's whole test set: what is certified, no attack breaks. Needs MNIST; trains the network for one epoch.
#define BOOST_TEST_MODULE zoo_mnist
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <optional>

#include <boost/test/unit_test.hpp>

#include <armagrad/armagrad.hpp>
#include <armagrad/datasets/mnist.hpp>

#include "zoo/robustness_model.hpp"

namespace ag = armagrad;
namespace robust = armagrad::robust;
namespace fs = std::filesystem;
namespace zoo = armagrad::zoo;

namespace {

// The folder may also be in the user's cache; nothing is downloaded.
std::optional<ag::data::Images<float>> mnist() {
  const char* named = std::getenv("ARMAGRAD_MNIST");
  const fs::path folder = named != nullptr ? fs::path(named) : fs::path(ARMAGRAD_SOURCE_DIR) / "../shared/data/mnist";
  ag::data::ImageOptions how{.download = false};
  if (fs::exists(folder)) how.folder = folder.string();
  try {
    return ag::data::load_images<float>(ag::data::mnist(), how);
  } catch (const ag::DataError& e) {
    std::cout << "Skipped: " << e.what() << "\nName MNIST's folder in ARMAGRAD_MNIST.\n";
    return std::nullopt;
  }
}

}  // namespace

BOOST_AUTO_TEST_CASE(no_example_is_certified_where_an_attack_succeeds) {
  const auto images = mnist();
  if (!images) return;
  const auto& test = images->test;
  const arma::uword n = test.x.n_cols;
  BOOST_REQUIRE(n == 10000u);
  zoo::ImageModel model = zoo::train(images->train, "zoo_mnist", {.epochs = 1, .peak = 0.05});
  BOOST_TEST(zoo::accuracy(model, test) > 0.95);
  const auto layers = model.layers();

  // At the budgets of the curves, every example that is certified is attacked.
  arma::rowvec epsilons(n);
  std::size_t certified = 0;
  for (int k = 0; k <= 10; ++k) {
    epsilons.fill(0.02 * k);
    const arma::uvec held = arma::find(robust::certified_margin(layers, test.x, test.y, epsilons) > 0);
    certified += held.n_elem;
    const auto attack = robust::pgd(model, arma::fmat(test.x.cols(held)), arma::Row<std::size_t>(test.y.cols(held)),
                                    0.02 * k, {.step = 1000, .iterations = 30, .clip = {{0, 1}}});
    BOOST_TEST(arma::accu(attack.success) == 0u);
  }
  BOOST_TEST(certified > 9000u);  // at epsilon 0 those that are classified right

  // And each example at its own largest certified epsilon, without restriction to the data's range, too.
  for (const bool in_range : {true, false}) {
    robust::CertifyOptions certify;
    robust::PgdOptions<float> attack{.step = 1000, .iterations = 30};
    if (in_range)
      attack.clip = robust::Interval{0, 1};
    else
      certify.range.reset();
    const auto found = robust::certified_epsilon(layers, test.x, test.y, certify);
    arma::uvec held(n);
    arma::uword count = 0;
    for (arma::uword i = 0; i < n; ++i) {
      epsilons[i] = found[i].value_or(0);
      if (found[i]) held[count++] = i;
    }
    held.resize(count);
    BOOST_TEST(count > 9000u);
    const arma::fmat x = test.x.cols(held);
    const arma::Row<std::size_t> y = test.y.cols(held);
    BOOST_TEST(arma::accu(robust::pgd(model, x, y, arma::rowvec(epsilons.cols(held)), attack).success) == 0u);
    // The bounds are not empty words: at 20 times these epsilons some are misclassified.
    const arma::uvec few = arma::regspace<arma::uvec>(0, 299);
    BOOST_TEST(robust::pgd(model, arma::fmat(x.cols(few)), arma::Row<std::size_t>(y.cols(few)),
                           arma::rowvec(20 * epsilons.cols(held.head(300))), attack)
                   .success_rate() > 0.02);
  }
}
