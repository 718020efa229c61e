// A training step recorded once and run again on new batches: no recording, no dispatch, no allocation.
#include <cstdio>
#include <optional>

#include <armagrad/armagrad.hpp>

namespace ag = armagrad;

int main() {
  const auto digits = ag::data::load_digits<double>();
  const ag::data::LoaderOptions options{.batch = 128, .drop_last = true};  // a replay has one batch size
  const auto rate = [](std::size_t step) { return ag::optim::cosine_rate(0.1, step, 14); };
  ag::nn::seed(1);
  ag::nn::Linear<double> model(64, 10), twin = model;  // a copy trains by itself
  ag::optim::Sgd<double> sgd(model.parameters()), twin_sgd(twin.parameters());

  // [capture]
  ag::data::Loader loader(digits, options);
  auto batch = loader.begin();
  ag::Tape<double> tape;
  const ag::Var<double> x = tape.constant(batch->x / 16);
  const ag::Labels<double> labels = tape.labels(batch->y);
  std::optional<ag::Var<double>> loss;
  sgd.set_lr(rate(0));
  ag::Replay<double> replay = tape.capture([&] {  // runs the step, too: this is the first batch's
    loss = ag::nn::cross_entropy(model(x), labels);
    sgd.zero_grad();
    loss->backward();
    sgd.step();
  });
  // [/capture]
  std::printf("%d device commands; loss of the first batch %.4f\n", int(replay.size()), loss->item());

  // [replay]
  std::size_t step = 0;
  for (++batch; batch != loader.end(); ++batch) {
    replay.set(x, batch->x / 16);
    replay.set(labels, batch->y);
    sgd.set_lr(rate(++step));  // a replay reads the rate anew
    replay.run();
  }
  // [/replay]
  std::printf("loss of the last batch %.4f\n", loss->item());

  // The same steps recorded anew each time.
  step = 0;
  for (const auto& b : ag::data::Loader(digits, options)) {
    tape.rewind();  // ends the replay
    twin_sgd.zero_grad();
    ag::nn::cross_entropy(twin(tape.constant(b.x / 16)), b.y).backward();
    twin_sgd.set_lr(rate(step++));
    twin_sgd.step();
  }
  const bool same = arma::approx_equal(model.weight.value(), twin.weight.value(), "absdiff", 0);
  std::printf("with and without replay the weights are %s\n", same ? "equal to the last bit" : "different");
}
