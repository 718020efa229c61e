// The models of the digits pipeline and their training, written as a user of the library writes them:
// docs/train-your-first-model.md quotes this code.
#pragma once

#include <memory>
#include <string>

#include <armagrad/armagrad.hpp>

namespace armagrad::zoo {

namespace ag = armagrad;

/// The 8x8 digits as all models see them.
struct Digits {
  ag::data::Dataset<float> train;  // x: 64 x 1437, in [0, 1]; y: 1 x 1437
  ag::data::Dataset<float> test;   // x: 64 x 360, scaled as the training set; y: 1 x 360
  arma::fmat targets;              // 10 x 1437: the training labels, one-hot
};

/// Split 4 : 1, stratified, with scikit-learn's indices for random_state 42.
Digits load_digits();

struct TrainingOptions {
  double lr = 1e-2;
  arma::uword batch = 64;  ///< samples per update, in order; the last batch of an epoch may be smaller
  ag::Device device = ag::Device::cpu();
};

/// A model and what trains it.
class Training {
 public:
  Training() = default;
  Training(const Training&) = delete;
  Training& operator=(const Training&) = delete;
  virtual ~Training() = default;

  /// One pass over the training set; the loss of its last batch, before that batch's update.
  /// @throws ValueError when that is not finite
  virtual double epoch() = 0;
  /// x: 64 x n; 10 x n.
  virtual arma::fmat scores(const arma::fmat& x) = 0;
  /// Everything that training changes, in arrays for a checkpoint: the parameters and what the optimizer keeps. Plain
  /// SGD keeps nothing.
  virtual ag::nn::Tensors state() = 0;
  /// @throws DataError when the arrays are not those of such a model
  virtual void set_state(const ag::nn::Tensors& state) = 0;
  /// A linear model's weights, 10 x 64; empty for a network.
  virtual arma::fmat weights() = 0;
};

struct Model {
  int number;
  const char* kind;    ///< "linear module"
  const char* loss;    ///< "squared error, mean"
  bool mini_batch;     ///< 64 images per update; else all of them
  bool cross_entropy;  ///< its scores are logits, so softmax makes probabilities of them
  /// Draws the weights from nn::default_generator. The digits must outlive the training.
  std::unique_ptr<Training> (*make)(const Digits& digits, const TrainingOptions& options);
};

/// The eight models, in order of their numbers.
const std::vector<Model>& models();

}  // namespace armagrad::zoo
