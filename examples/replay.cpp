// A training step recorded once and run again on new batches: no recording, no dispatch, no allocation.
#include <cstdio>
#include <optional>

#include <armagrad/armagrad.hpp>
#include <armagrad/datasets/digits.hpp>
#include <armagrad/datasets/loader.hpp>

namespace ag = armagrad;

int main() {
  const auto digits = ag::data::load_digits<double>();
  ag::nn::seed(1);
  ag::nn::Linear<double> model(64, 10);
  ag::nn::Linear<double> twin = model;  // a copy trains by itself
  ag::optim::Sgd<double> sgd(model.parameters(), {.lr = 0.01}), twin_sgd(twin.parameters(), {.lr = 0.01});
  const ag::data::LoaderOptions options{.batch = 128, .drop_last = true};  // a replay has one shape

  // [capture]
  ag::data::Loader loader(digits, options);
  ag::Tape<double> tape;
  const auto first = loader.begin();
  const ag::Var<double> x = tape.constant(first->x / 16);
  const ag::Labels<double> labels = tape.labels(first->y);
  std::optional<ag::Var<double>> loss;
  ag::Replay<double> replay = tape.capture([&] {  // runs the step, on the first batch
    loss = ag::nn::cross_entropy(model(x), labels);
    sgd.zero_grad();
    loss->backward();
    sgd.step();
  });
  // [/capture]
  std::printf("%d device commands; loss of the first batch %.4f\n", int(replay.size()), loss->item());

  // [replay]
  auto batch = first;
  for (++batch; batch != loader.end(); ++batch) {
    replay.set(x, batch->x / 16);
    replay.set(labels, batch->y);
    replay.run();
  }
  // [/replay]
  std::printf("loss of the last batch %.4f\n", loss->item());

  // The same steps, recorded anew each time.
  double eager = 0;
  ag::data::Loader again(digits, options);
  ag::Tape<double> other;
  for (const auto& b : again) {
    other.rewind();
    const auto l = ag::nn::cross_entropy(twin(other.constant(b.x / 16)), b.y);
    twin_sgd.zero_grad();
    l.backward();
    twin_sgd.step();
    eager = l.item();
  }
  const bool same = arma::approx_equal(model.weight.value(), twin.weight.value(), "absdiff", 0);
  std::printf("recorded anew %.4f; the weights are %s\n", eager, same ? "equal to the last bit" : "different");
}
