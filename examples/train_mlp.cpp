// Trains a small network on the 8x8 handwritten digits that come with the library.
#include <cstdio>

#include <armagrad/armagrad.hpp>
#include <armagrad/datasets/digits.hpp>
#include <armagrad/datasets/loader.hpp>
#include <armagrad/datasets/scale.hpp>
#include <armagrad/datasets/split.hpp>

namespace ag = armagrad;

// [model]
struct Mlp : ag::nn::Module<double> {
  ag::nn::Linear<double> l1{64, 32}, l2{32, 16}, l3{16, 10};
  ARMAGRAD_MODULE(l1, l2, l3)
  ag::Var<double> forward(ag::Var<double> x) { return l3(relu(l2(relu(l1(x))))); }
};
// [/model]

// [evaluate]
double accuracy(Mlp& model, const ag::data::Dataset<double>& set) {
  ag::Tape<double> tape;
  const auto guard = tape.no_grad();
  model.eval();
  return ag::nn::accuracy(model(tape.borrow(set.x)).value(), set.y);
}
// [/evaluate]

int main() {
  // [data]
  const auto digits = ag::data::load_digits<double>();  // x: 64x1797, y: 1x1797
  const auto split = ag::data::stratified_split(digits.y, {.test_size = 0.2, .random_state = 42});
  auto train = ag::data::take(digits, split.train), test = ag::data::take(digits, split.test);
  ag::data::MinMaxScaler<double> scaler;
  scaler.fit(train.x);
  train.x = scaler.transform(train.x);
  test.x = scaler.transform(test.x);
  // [/data]

  // [train]
  ag::nn::seed(1);  // before the model: it draws its weights when it is made
  Mlp model;
  ag::optim::Sgd<double> sgd(model.parameters(), {.lr = 0.05, .momentum = 0.9});
  ag::data::Loader loader(train, {.batch = 32, .shuffle = true, .seed = 1});
  ag::Tape<double> tape;
  std::size_t step = 0;
  for (int epoch = 1; epoch <= 10; ++epoch) {
    model.train();
    double total = 0;
    for (const auto& batch : loader) {
      tape.rewind();
      const auto loss = ag::nn::cross_entropy(model(tape.constant(batch.x)), batch.y);
      sgd.zero_grad();
      loss.backward();
      total += ag::nn::require_finite(loss.item(), model, step++);
      sgd.step();
    }
    std::printf("epoch %2d: loss %.3f, test accuracy %.3f\n", epoch, total / double(loader.batches()),
                accuracy(model, test));
  }
  // [/train]
}
