// Training on the digits beside PyTorch, from its weights. peers/digits_training.py made the figures and says what the
// files hold and why free-running float32 is compared for the linear model alone.
#define BOOST_TEST_MODULE pytorch_training
#include <algorithm>
#include <cmath>
#include <iostream>
#include <string>
#include <vector>

#include <boost/test/unit_test.hpp>
#include <fmt/format.h>

#include <armagrad/armagrad.hpp>
#include <armagrad/datasets/digits.hpp>
#include <armagrad/datasets/scale.hpp>
#include <armagrad/datasets/split.hpp>

namespace ag = armagrad;

namespace {

constexpr double learning_rate = 1e-2;

template <class eT>
struct LinearModel : ag::nn::Module<eT> {
  ag::nn::Linear<eT> l1{64, 10};
  ARMAGRAD_MODULE(l1)
  ag::Var<eT> forward(ag::Var<eT> x) { return l1(x); }
  std::vector<ag::nn::Linear<eT>*> layers() { return {&l1}; }
};

template <class eT>
struct Mlp : ag::nn::Module<eT> {
  ag::nn::Linear<eT> l1{64, 32}, l2{32, 16}, l3{16, 10};
  ARMAGRAD_MODULE(l1, l2, l3)
  ag::Var<eT> forward(ag::Var<eT> x) { return l3(relu(l2(relu(l1(x))))); }
  std::vector<ag::nn::Linear<eT>*> layers() { return {&l1, &l2, &l3}; }
};

template <class eT>
arma::Mat<eT> load(const std::string& name) {
  const std::string path = ARMAGRAD_SOURCE_DIR "/tests/peers/digits_training/" + name;
  arma::Mat<eT> figures;
  BOOST_REQUIRE_MESSAGE(figures.load(path), "cannot read " << path);
  return figures;
}

template <class eT>
ag::data::Dataset<eT> training_set() {
  const auto digits = ag::data::load_digits<eT>();
  const auto split = ag::data::stratified_split(digits.y, {.test_size = 0.2, .random_state = 42});
  auto train = ag::data::take(digits, split.train);
  train.x = ag::data::MinMaxScaler<eT>().fit(train.x).transform(train.x);
  return train;
}

template <template <class> class Model, class eT>
std::vector<ag::Parameter<eT>*> parameters(Model<eT>& model) {
  std::vector<ag::Parameter<eT>*> all;
  for (auto* layer : model.layers()) all.insert(all.end(), {&layer->weight, &layer->bias});
  return all;
}

/// The stretches of one stored column that belong to each parameter, as matrices of its shape.
template <template <class> class Model, class eT>
std::vector<arma::Mat<eT>> parts(Model<eT>& model, const arma::Col<eT>& column) {
  std::vector<arma::Mat<eT>> out;
  arma::uword at = 0;
  for (const auto* p : parameters(model)) {
    const arma::uword n = p->n_elem();
    BOOST_REQUIRE_LE(at + n, column.n_elem);
    out.push_back(arma::reshape(arma::Mat<eT>(column.rows(at, at + n - 1)), p->n_rows(), p->n_cols()));
    at += n;
  }
  BOOST_REQUIRE_EQUAL(at, column.n_elem);
  return out;
}

template <template <class> class Model, class eT>
void set_weights(Model<eT>& model, const arma::Col<eT>& column) {
  const auto values = parts(model, column);
  const auto all = parameters(model);
  for (std::size_t k = 0; k < all.size(); ++k) all[k]->set_value(values[k]);
}

template <class eT>
double relative(const arma::Mat<eT>& found, const arma::Mat<eT>& expected) {
  BOOST_REQUIRE(found.is_finite());
  const auto a = arma::conv_to<arma::mat>::from(found), b = arma::conv_to<arma::mat>::from(expected);
  return arma::abs(a - b).max() / arma::abs(b).max();
}

/// Trains as PyTorch did; the largest relative deviation of a loss.
template <template <class> class Model, class eT>
double train_beside(const std::string& model_name) {
  const auto train = training_set<eT>();
  const arma::mat losses = load<double>(model_name + "_losses.txt");
  BOOST_REQUIRE_EQUAL(losses.n_elem, 100U);
  Model<eT> model;
  set_weights(model, arma::Col<eT>(load<eT>(model_name + "_weights.bin")));
  ag::optim::Sgd<eT> sgd(model.parameters(), {.lr = static_cast<eT>(learning_rate)});
  ag::Tape<eT> tape;
  double worst = 0;
  for (arma::uword step = 0; step < losses.n_elem; ++step) {
    tape.rewind();
    const auto loss = ag::nn::cross_entropy(model(tape.constant(train.x)), train.y);
    sgd.zero_grad();
    loss.backward();
    sgd.step();
    worst = std::max(worst, std::abs(double(loss.item()) - losses[step]) / losses[step]);
  }
  return worst;
}

void say(const std::string& summary) {
  BOOST_TEST_MESSAGE(summary);
  std::cout << summary << '\n';
}

}  // namespace

BOOST_AUTO_TEST_CASE(the_linear_models_first_losses_in_float_are_pytorchs) {
  const double worst = train_beside<LinearModel, float>("linear_float");
  say(fmt::format("model 5 in float32, 100 losses against PyTorch: largest relative deviation {:.1e}", worst));
  BOOST_TEST(worst <= 1e-5);
}

BOOST_AUTO_TEST_CASE(the_networks_first_losses_in_double_are_pytorchs) {
  const double worst = train_beside<Mlp, double>("mlp_double");
  say(fmt::format("model 7 in double, 100 losses against PyTorch: largest relative deviation {:.1e}", worst));
  BOOST_TEST(worst <= 1e-9);
}

BOOST_AUTO_TEST_CASE(each_step_of_the_network_in_float_is_pytorchs_from_the_same_weights) {
  const auto train = training_set<float>();
  const arma::mat steps = load<double>("mlp_float_steps.txt"), losses = load<double>("mlp_float_losses.txt");
  const arma::fmat weights = load<float>("mlp_float_weights.bin"), gradients = load<float>("mlp_float_gradients.bin");
  BOOST_REQUIRE_EQUAL(steps.n_elem, 25U);
  Mlp<float> model;
  ag::optim::Sgd<float> sgd(model.parameters(), {.lr = static_cast<float>(learning_rate)});
  ag::Tape<float> tape;
  double worst_loss = 0, worst_gradient = 0, worst_weight = 0;
  for (arma::uword i = 0; i < steps.n_elem; ++i) {
    set_weights(model, arma::fvec(weights.col(i)));
    tape.rewind();
    const auto loss = ag::nn::cross_entropy(model(tape.constant(train.x)), train.y);
    sgd.zero_grad();
    loss.backward();
    std::vector<arma::fmat> gradients_here;
    for (const auto* p : parameters(model)) gradients_here.push_back(p->grad());
    sgd.step();

    worst_loss = std::max(worst_loss, std::abs(double(loss.item()) - losses[i]) / losses[i]);
    const auto before = parts(model, arma::fvec(weights.col(i))), gradient = parts(model, arma::fvec(gradients.col(i)));
    const auto all = parameters(model);
    for (std::size_t k = 0; k < all.size(); ++k) {
      const arma::fmat after = before[k] - static_cast<float>(learning_rate) * gradient[k];
      worst_gradient = std::max(worst_gradient, relative(gradients_here[k], gradient[k]));
      worst_weight = std::max(worst_weight, relative(all[k]->value(), after));
    }
  }
  say(fmt::format(
      "model 7 in float32, {} steps each from PyTorch's weights: largest relative deviation {:.1e} in a loss, "
      "{:.1e} in a gradient, {:.1e} in the updated weights",
      steps.n_elem, worst_loss, worst_gradient, worst_weight));
  BOOST_TEST(worst_loss <= 1e-5);
  BOOST_TEST(worst_gradient <= 1e-5);
  BOOST_TEST(worst_weight <= 1e-5);
}
