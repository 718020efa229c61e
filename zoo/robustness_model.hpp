// The network whose robustness the zoo measures, and its training.
#pragma once

#include <cstdint>
#include <string>

#include <armagrad/armagrad.hpp>

namespace armagrad::zoo {

/// 784-1024-1024-10 with ReLU, as published: parameters l1.weight, l1.bias, ... l3.bias.
struct ImageNet784 : nn::Module<float> {
  nn::Linear<float> l1{784, 1024}, l2{1024, 1024}, l3{1024, 10};
  ARMAGRAD_MODULE(l1, l2, l3)
  Var<float> forward(Var<float> x) { return l3(affine_relu(l2.weight, affine_relu(l1.weight, x, l1.bias), l2.bias)); }
  /// For certificates.
  robust::Layers<float> layers() { return robust::layers(l1, nn::Relu<float>{}, l2, nn::Relu<float>{}, l3); }
};

struct TrainingOptions {
  std::uint64_t seed = 1;
  std::size_t epochs = 12;
  arma::uword batch = 128;
  double peak = 0.1;  ///< the largest learning rate of the one-cycle schedule
  double momentum = 0.9;
};

/// Trains with SGD on a one-cycle schedule; on two cores some minutes. The same seed gives the same weights on the
/// same machine. Progress goes to standard error.
/// @throws ValueError when the loss becomes infinite or NaN
ImageNet784 train(const data::Dataset<float>& set, const std::string& title, const TrainingOptions& options);

/// The share of the images that the model classifies right.
double accuracy(ImageNet784& model, const data::Dataset<float>& set);

}  // namespace armagrad::zoo
