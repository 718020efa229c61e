// Attacks on a small network for the digits, and certificates for it. docs/attack-and-certify.md explains it.
#include <iostream>
#include <string>

#include <armagrad/armagrad.hpp>
#include <armagrad/datasets/digits.hpp>

namespace ag = armagrad;

// [model]
struct Mlp : ag::nn::Module<double> {
  ag::nn::Linear<double> l1{64, 48}, l2{48, 48}, l3{48, 10};
  ARMAGRAD_MODULE(l1, l2, l3)
  ag::Var<double> forward(ag::Var<double> x) { return l3(relu(l2(relu(l1(x))))); }
  auto layers() { return ag::robust::layers(l1, ag::nn::Relu<double>{}, l2, ag::nn::Relu<double>{}, l3); }
};
// [/model]

int main() {
  ag::nn::seed(1);
  auto digits = ag::data::load_digits<double>();
  digits.x /= 16;
  Mlp model;
  ag::optim::Sgd<double> sgd(model.parameters(), {.lr = 0.1, .momentum = 0.9});
  ag::Tape<double> tape;
  ag::data::Loader loader(digits, {.batch = 64, .shuffle = true});
  for (int epoch = 0; epoch < 20; ++epoch)
    for (const auto& batch : loader) {
      tape.rewind();
      const auto loss = ag::nn::cross_entropy(model(tape.borrow(batch.x)), batch.y);
      sgd.zero_grad();
      loss.backward();
      sgd.step();
    }

  const arma::mat x = digits.x.head_cols(300);
  const arma::Row<std::size_t> y = digits.y.head_cols(300);
  std::cout.precision(3);

  // [attack]
  const auto once = ag::robust::fgsm(model, x, y, 0.1);
  const auto pgd = ag::robust::pgd(model, x, y, 0.1, {.step = 0.02, .iterations = 40, .clip = {{0, 1}}});
  std::cout << "misclassified: FGSM " << accu(once.success) << ", PGD " << accu(pgd.success) << " of " << x.n_cols
            << '\n';
  // [/attack]

  // [curve]
  const auto curve = ag::robust::pgd_curve(model, x, y, {0, 0.05, 0.1, 0.2}, {.step = 1000, .iterations = 100});
  for (std::size_t b = 0; b < curve.epsilons.size(); ++b)
    std::cout << "epsilon " << curve.epsilons[b] << ": accuracy " << curve.accuracy(b) << ", "
              << 100 * curve.passes[b] / curve.passes_unretired[b] << " % of the passes\n";
  // [/curve]

  // [certify]
  const auto certified = ag::robust::certified_epsilon(model.layers(), x, y);
  for (arma::uword j = 0; j < 4; ++j)
    std::cout << "example " << j << ": " << (certified[j] ? std::to_string(*certified[j]) : "not certified") << '\n';
  // [/certify]

  // [bounds]
  const auto bounds = ag::robust::bound_propagation(model.layers(), x, 0.01);
  std::cout << "layer 1, neuron 0, example 0: [" << bounds[1].lower(0, 0) << ", " << bounds[1].upper(0, 0) << "]\n";
  // [/bounds]
}
