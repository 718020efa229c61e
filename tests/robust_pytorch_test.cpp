// Attacks beside PyTorch's on the same network for the digits, in double. peers/robustness.py made the figures.
#define BOOST_TEST_MODULE robust_pytorch
#include <string>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <armagrad/armagrad.hpp>
#include <armagrad/datasets/digits.hpp>
#include <armagrad/nn/state.hpp>

namespace ag = armagrad;
namespace robust = armagrad::robust;
using Labels = arma::Row<std::size_t>;

namespace {

struct Mlp : ag::nn::Module<double> {
  ag::nn::Linear<double> l1{64, 24}, l2{24, 24}, l3{24, 10};
  ARMAGRAD_MODULE(l1, l2, l3)
  ag::Var<double> forward(ag::Var<double> x) { return l3(relu(l2(relu(l1(x))))); }
};

struct Peer {
  ag::nn::Tensors file = ag::nn::read_safetensors(ARMAGRAD_SOURCE_DIR "/tests/peers/robustness/digits.safetensors");
  Mlp model;
  arma::mat x;
  Labels y;
  std::vector<double> epsilons = arma::conv_to<std::vector<double>>::from(file.matrix<double>("epsilons"));

  Peer() {
    for (const auto& p : model.named_parameters()) p.parameter->set_value(file.matrix<double>(p.name));
    const auto digits = ag::data::load_digits<double>();
    x = digits.x.head_cols(300) / 16;
    y = digits.y.head_cols(300);
  }
  /// Which of the examples are misclassified: epsilons x examples, eight of them in a number.
  arma::umat bits(const std::string& name) const {
    const arma::fmat packed = file.matrix<float>(name);
    arma::umat out(packed.n_rows, 300);
    for (arma::uword i = 0; i < 300; ++i)
      for (arma::uword b = 0; b < packed.n_rows; ++b)
        out(b, i) = static_cast<unsigned>(packed(b, i / 8)) >> (7 - i % 8) & 1;
    return out;
  }
};

}  // namespace

BOOST_FIXTURE_TEST_CASE(gradients_by_the_input_agree, Peer) {
  const arma::mat first = x.head_cols(12);
  const Labels labels = y.head_cols(12);
  for (const auto& [name, loss] :
       {std::pair{"cross_entropy", robust::Loss::cross_entropy}, {"margin", robust::Loss::margin}}) {
    const arma::mat theirs = file.matrix<double>(std::string("gradient.") + name);
    BOOST_TEST(arma::abs(theirs).max() > 1e-3);
    BOOST_TEST(arma::abs(robust::input_gradient(model, first, labels, loss) - theirs).max() <
               1e-13 * arma::abs(theirs).max());
  }
}

BOOST_FIXTURE_TEST_CASE(fgsm_misclassifies_the_same_examples, Peer) {
  BOOST_TEST(arma::accu(robust::fgsm_curve(model, x, y, epsilons).success != bits("fgsm")) == 0u);
}

BOOST_FIXTURE_TEST_CASE(pgd_misclassifies_the_same_examples, Peer) {
  robust::PgdOptions<double> o{.step = 1000, .iterations = 60, .judge = robust::Judge::final_iterate, .width = 48};
  BOOST_TEST(arma::accu(robust::pgd_curve(model, x, y, epsilons, o).success != bits("pgd.final")) == 0u);
  o.judge = robust::Judge::any_iterate;
  const arma::umat theirs = bits("pgd.any");
  const arma::umat ours = robust::pgd_curve(model, x, y, epsilons, o).success;
  for (std::size_t b = 0; b < epsilons.size(); ++b) {
    BOOST_TEST(arma::accu(robust::pgd(model, x, y, epsilons[b], o).success != theirs.row(b)) == 0u);
    BOOST_TEST(arma::all(ours.row(b) >= theirs.row(b)));  // with those carried over from smaller epsilons
  }
}

BOOST_FIXTURE_TEST_CASE(auto_pgd_reaches_the_same_losses, Peer) {
  const arma::mat theirs = file.matrix<double>("auto_pgd");  // epsilons x 40
  const arma::mat first = x.head_cols(40);
  const Labels labels = y.head_cols(40);
  for (std::size_t b = 0; b < epsilons.size(); ++b) {
    const auto attack =
        robust::pgd(model, first, labels, epsilons[b],
                    {.iterations = 50, .steps = robust::Steps::halving, .judge = robust::Judge::final_iterate});
    for (arma::uword j = 0; j < 40; ++j) {
      ag::Tape<double> tape;
      const arma::mat given = first.col(j) + attack.delta.col(j);
      const double loss = ag::nn::cross_entropy(model(tape.constant(given)), Labels{labels[j]}).item();
      BOOST_TEST(std::abs(loss - theirs(b, j)) < 1e-9 * std::max(1.0, theirs(b, j)));
    }
  }
}
