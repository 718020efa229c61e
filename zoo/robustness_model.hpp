// The network whose robustness the zoo measures: its training, and its file.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include <armagrad/armagrad.hpp>

namespace armagrad::zoo {

/// 784-1024-1024-10 with ReLU, as published: parameters l1.weight, l1.bias, ... l3.bias.
struct ImageModel : nn::Module<float> {
  nn::Linear<float> l1{784, 1024}, l2{1024, 1024}, l3{1024, 10};
  ARMAGRAD_MODULE(l1, l2, l3)
  Var<float> forward(Var<float> x) {
    const Var<float> a = affine_relu(l1.weight, x, l1.bias);  // (1024 x 784)(784 x batch)
    return l3(affine_relu(l2.weight, a, l2.bias));            // (10 x 1024)(1024 x 1024)(1024 x batch)
  }
  /// For certificates.
  robust::Layers<float> layers() { return robust::layers(l1, nn::Relu<float>{}, l2, nn::Relu<float>{}, l3); }
};

struct ModelTraining {
  std::uint64_t seed = 1;
  std::size_t epochs = 12;
  arma::uword batch = 128;
  double peak = 0.1;  ///< the largest learning rate of the one-cycle schedule
  double momentum = 0.9;
};

/// Trains by SGD on cross-entropy, on two cores for some minutes. The same seed gives the same weights on the same
/// machine. Progress goes to standard error under this title.
/// @param stopped asked after each batch; true ends the training with Interrupted
/// @throws ValueError when the loss is not finite
ImageModel train(const data::Dataset<float>& set, const std::string& title, const ModelTraining& training,
                 const std::function<bool()>& stopped = {});

/// What ends a run that the user has stopped.
struct Interrupted {};

/// The share of the images that the model classifies right.
double accuracy(ImageModel& model, const data::Dataset<float>& set);

/// A number that differs, but for chance, between models with different weights.
std::uint64_t fingerprint(ImageModel& model);

}  // namespace armagrad::zoo
