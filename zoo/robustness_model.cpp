#include "zoo/robustness_model.hpp"

#include <cstring>

#include <fmt/format.h>

#include <armagrad/autodiff/device/kernels.hpp>

#include "zoo/format.hpp"
#include "zoo/progress.hpp"

namespace armagrad::zoo {

ImageModel train(const data::Dataset<float>& set, const std::string& title, const ModelTraining& training,
                 const std::function<bool()>& stopped) {
  nn::seed(training.seed);
  ImageModel model;
  optim::Sgd<float> sgd(model.parameters(), {.lr = training.peak, .momentum = training.momentum});
  data::Loader loader(set, {.batch = std::min(training.batch, set.x.n_cols),
                            .shuffle = true,
                            .seed = static_cast<std::uint32_t>(training.seed),
                            .drop_last = true});
  const optim::OneCycle cycle{.peak = training.peak, .total = training.epochs * loader.batches()};
  Progress progress(title, static_cast<long>(training.epochs), {.every = 1});
  Tape<float> tape;
  std::size_t step = 0;
  double total = 0;
  for (std::size_t epoch = 0; epoch < training.epochs; ++epoch) {
    total = 0;
    for (const auto& batch : loader) {
      if (stopped && stopped()) throw Interrupted();
      sgd.set_lr(optim::one_cycle_rate(cycle, step));
      tape.rewind();
      const Var<float> loss = nn::cross_entropy(model(tape.borrow(batch.x)), batch.y);
      sgd.zero_grad();
      loss.backward();
      total += nn::require_finite(loss.item(), model, step);
      sgd.step();
      ++step;
    }
    progress.update(static_cast<long>(epoch), total / static_cast<double>(loader.batches()));
  }
  progress.finish(fmt::format("{} epochs, loss {:.5f}, {}", training.epochs,
                              total / static_cast<double>(loader.batches()), duration(progress.elapsed())));
  model.eval();
  return model;
}

double accuracy(ImageModel& model, const data::Dataset<float>& set) {
  const arma::Row<std::size_t> predicted = robust::predict(model, set.x);
  return static_cast<double>(arma::accu(predicted == set.y)) / static_cast<double>(set.y.n_elem);
}

std::uint64_t fingerprint(ImageModel& model) {
  std::uint64_t h = 0;
  for (const auto& p : model.named_parameters()) {
    const arma::fmat w = p.parameter->value();
    for (const float v : w) {
      std::uint32_t bits;
      std::memcpy(&bits, &v, sizeof bits);
      h = detail::mix(h ^ bits);
    }
  }
  return h;
}

}  // namespace armagrad::zoo
