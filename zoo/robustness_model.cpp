#include "zoo/robustness_model.hpp"

#include <fmt/format.h>

#include "zoo/format.hpp"
#include "zoo/progress.hpp"

namespace armagrad::zoo {

ImageNet784 train(const data::Dataset<float>& set, const std::string& title, const TrainingOptions& options) {
  nn::seed(options.seed);
  ImageNet784 model;
  optim::Sgd<float> sgd(model.parameters(), {.lr = options.peak, .momentum = options.momentum});
  data::Loader loader(
      set, {.batch = options.batch, .shuffle = true, .seed = static_cast<std::uint32_t>(options.seed), .drop_last = true});
  const optim::OneCycle cycle{.peak = options.peak, .total = options.epochs * loader.batches()};
  Progress progress(title, static_cast<long>(options.epochs), {.every = 1});
  Tape<float> tape;
  std::size_t step = 0;
  double total = 0;
  for (std::size_t epoch = 0; epoch < options.epochs; ++epoch) {
    total = 0;
    for (const auto& batch : loader) {
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
  progress.finish(fmt::format("{} epochs, loss {:.5f}, {}", options.epochs,
                              total / static_cast<double>(loader.batches()), duration(progress.elapsed())));
  model.eval();
  return model;
}

double accuracy(ImageNet784& model, const data::Dataset<float>& set) {
  const arma::Row<std::size_t> predicted = robust::predict(model, set.x);
  return static_cast<double>(arma::accu(predicted == set.y)) / static_cast<double>(set.y.n_elem);
}

}  // namespace armagrad::zoo
