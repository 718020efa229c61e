// Training on a GPU: `gpu cuda`, or on the CPU without the word. docs/gpu.md quotes this file.
#include <iostream>
#include <string>

#include <armagrad/armagrad.hpp>

namespace ag = armagrad;

struct Mlp : ag::nn::Module<float> {
  ag::nn::Linear<float> l1{64, 32}, l2{32, 10};
  ARMAGRAD_MODULE(l1, l2)
  ag::Var<float> forward(ag::Var<float> x) { return l2(relu(l1(x))); }
};

int main(int count, char** arguments) try {
  // [device]
  const bool on_gpu = count > 1 && std::string(arguments[1]) == "cuda";
  const ag::Device device = on_gpu ? ag::Device::cuda() : ag::Device::cpu();
  // [/device]
  const auto digits = ag::data::load_digits<float>();  // x: 64 x 1797
  const arma::fmat images = digits.x / 16;
  ag::nn::seed(1);

  // [training]
  Mlp model;
  model.to(device);
  ag::optim::Sgd<float> sgd(model.parameters(), {.lr = 0.1, .momentum = 0.9});
  ag::Batches batches(images, digits.y, {.batch = 128, .seed = 1}, device);  // copied to the device, once
  ag::Tape<float> tape(device);
  auto step = tape.capture([&] {
    const auto [x, y] = batches.next(tape);  // in every replay the next one
    sgd.zero_grad();
    ag::nn::cross_entropy(model(x), y).backward();
    sgd.step();
  });
  step.run(30 * batches.per_epoch());  // nothing crosses to or from the device
  // [/training]

  // [reading]
  ag::Tape<float> reading(device);
  const arma::fmat logits = model(reading.constant(images)).value();  // 10 x 1797, an Armadillo matrix
  // [/reading]
  const double accuracy = ag::nn::accuracy(logits, digits.y);
  std::cout << "accuracy " << (accuracy > 0.97 ? "above" : "not above") << " 97 %\n";
} catch (const ag::Error& e) {
  std::cerr << e.what() << "\n";
  return 1;
}
