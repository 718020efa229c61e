// armagrad as a user writes it. `bench_armagrad eager FILE` records every step anew, `bench_armagrad replay FILE`
// records one and runs it again.
#include <optional>
#include <string_view>

#include <armagrad/armagrad.hpp>

#include "bench/contestant.hpp"

namespace ag = armagrad;

namespace {

using ag::bench::Problem;

struct Mlp : ag::nn::Module<float> {
  std::vector<ag::nn::Linear<float>> layers;
  ARMAGRAD_MODULE(layers)

  explicit Mlp(const std::vector<std::size_t>& features) {
    for (std::size_t l = 0; l + 1 < features.size(); ++l) layers.emplace_back(features[l], features[l + 1]);
  }
  ag::Var<float> forward(ag::Var<float> x) {
    for (std::size_t l = 0; l + 1 < layers.size(); ++l) x = affine_relu(layers[l].weight, x, layers[l].bias);
    return layers.back()(x);
  }
};

arma::fmat matrix(const std::vector<float>& values, std::size_t rows, std::size_t cols) {
  return arma::fmat(values.data(), rows, cols);
}

class Armagrad final : public ag::bench::Contestant {
 public:
  Armagrad(const Problem& p, bool replay)
      : p_(p),
        replays_(replay),
        x_(matrix(p.x, p.layers.front(), p.batch)),
        labels_(
            arma::conv_to<arma::Row<std::size_t>>::from(std::vector<std::size_t>(p.labels.begin(), p.labels.end()))),
        model_(p.layers),
        sgd_(model_.parameters(), {.lr = p.lr, .momentum = p.momentum}) {
    Armagrad::reset();
    if (p.step == Problem::Step::attack) {
      for (const auto& named : model_.named_parameters()) named.parameter->set_trainable(false);
    }
  }

  void reset() override {
    for (std::size_t l = 0; l < p_.depth(); ++l) {
      model_.layers[l].weight.set_value(matrix(p_.weights[l], p_.layers[l + 1], p_.layers[l]));
      model_.layers[l].bias.set_value(matrix(p_.biases[l], p_.layers[l + 1], 1));
    }
    attacked_ = x_;
  }

  void step() override {
    if (replay_) {
      if (input_) replay_->set(*input_, attacked_);  // which it is: nothing to copy
      replay_->run();
    } else if (replays_) {  // capturing runs the step, too
      const auto x = tape_.borrow(x_);
      const auto labels = tape_.labels(labels_);
      if (p_.step == Problem::Step::attack) input_ = tape_.borrow_variable(attacked_);
      replay_.emplace(tape_.capture([&] { record(x, labels); }));
    } else {
      tape_.rewind();
      if (p_.step == Problem::Step::attack) input_ = tape_.borrow_variable(attacked_);
      record(tape_.borrow(x_), labels_);
    }
    if (p_.step == Problem::Step::attack) {
      const arma::fmat gradient = input_->grad_view();
      const float alpha = p_.alpha, epsilon = p_.epsilon;
      const float *x = x_.memptr(), *g = gradient.memptr();
      float* attacked = attacked_.memptr();
      for (arma::uword i = 0; i < gradient.n_elem; ++i) {
        const float sign = static_cast<float>(g[i] > 0) - static_cast<float>(g[i] < 0);
        attacked[i] = std::min(std::max(attacked[i] + alpha * sign, x[i] - epsilon), x[i] + epsilon);
      }
    }
  }

  double loss() override { return static_cast<double>(loss_->item()); }

  std::optional<Share> profiled_step() override {
    if (replays_) return {};
    const ag::Profile profile = tape_.profile([this] { step(); });
    return Share{profile.seconds, profile.share_in_products() * profile.seconds};
  }

 private:
  template <class Target>
  void record(ag::Var<float> x, const Target& labels) {
    if (p_.step == Problem::Step::train) {
      loss_ = ag::nn::cross_entropy(model_(x), labels);
      sgd_.minimize(*loss_);
    } else {
      loss_ = ag::nn::cross_entropy(model_(*input_), labels, ag::nn::Reduction::sum);
      loss_->backward();
    }
  }

  Problem p_;
  bool replays_;
  arma::fmat x_, attacked_;  // features x batch
  arma::Row<std::size_t> labels_;
  Mlp model_;
  ag::optim::Sgd<float> sgd_;
  ag::Tape<float> tape_;
  std::optional<ag::Var<float>> input_, loss_;
  std::optional<ag::Replay<float>> replay_;
};

}  // namespace

int main(int argc, char** argv) {
  ag::restart_with_fast_blas();
  const bool replay = argc > 2 && std::string_view(argv[1]) == "replay";
  const ag::Machine m = ag::machine();
  return ag::bench::serve(argc, argv,
                          {{"version", ARMAGRAD_VERSION ", " + m.instructions + " loops"},
                           {"blas", m.blas + (m.onednn.empty() ? "" : ", large products by oneDNN " + m.onednn)},
                           {"threads", m.threads}},
                          [replay](const Problem& p) { return std::make_unique<Armagrad>(p, replay); });
}
