// Trains a small network on the 8x8 handwritten digits that come with the library.
#include <cstdio>

#include <armagrad/armagrad.hpp>

namespace ag = armagrad;

// [model]
struct Mlp : ag::nn::Module<double> {
  ag::nn::Linear<double> l1{64, 32}, l2{32, 16}, l3{16, 10};
  ARMAGRAD_MODULE(l1, l2, l3)
  ag::Var<double> forward(ag::Var<double> x) { return l3(relu(l2(relu(l1(x))))); }
};
// [/model]

// [accuracy]
double accuracy(Mlp& model, const ag::data::Dataset<double>& set) {
  ag::Tape<double> tape;
  const auto guard = tape.no_grad();
  model.eval();
  return ag::nn::accuracy(model(tape.borrow(set.x)).value(), set.y);
}
// [/accuracy]

int main() {
  // [data]
  const auto digits = ag::data::load_digits<double>();  // x: 64x1797, y: 1x1797
  const auto split = ag::data::stratified_split(digits.y, {.test_size = 0.2, .random_state = 42});
  auto train = ag::data::take(digits, split.train), test = ag::data::take(digits, split.test);
  const auto scaler = ag::data::MinMaxScaler<double>().fit(train.x);  // the test set must not be looked at
  for (auto* set : {&train, &test}) set->x = scaler.transform(set->x);
  // [/data]
  // [train]
  ag::nn::seed(1);  // before the model, which draws its weights when it is made
  Mlp model;
  ag::optim::Sgd<double> sgd(model.parameters(), {.momentum = 0.9});
  ag::data::Loader loader(train, {.batch = 32, .shuffle = true, .seed = 1});
  ag::Tape<double> tape;
  for (std::size_t epoch = 0, step = 0; epoch < 12; ++epoch) {
    model.train();
    sgd.set_lr(ag::optim::cosine_rate(0.1, epoch, 12));
    double sum = 0;
    for (const auto& batch : loader) {
      tape.rewind();
      const auto loss = ag::nn::cross_entropy(model(tape.constant(batch.x)), batch.y);
      sgd.zero_grad();
      loss.backward();
      sum += ag::nn::require_finite(loss.item(), model, step++);
      sgd.step();
    }
    std::printf("epoch %2d: loss %.3f, accuracy on the test set %.3f\n", int(epoch) + 1, sum / double(loader.batches()),
                accuracy(model, test));
  }
  // [/train]
}
