// One piece of work that every contestant does: a network, its data and what a step is. Written to a file once, so
// that all start from the same bits. Standard library only: contestants share nothing else.
#pragma once

#include <cmath>
#include <cstdint>
#include <fstream>
#include <random>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace armagrad::bench {

struct Problem {
  enum class Step {
    train,  ///< gradient of the mean cross-entropy by the parameters, then SGD
    attack  ///< gradient of the summed cross-entropy by the input alone, then a projected sign step (PGD)
  };
  Step step = Step::train;
  std::vector<std::size_t> layers{};  ///< features of the input, the hidden layers and the output; ReLU between
  std::size_t batch = 0;
  float lr = 0.01F;
  float momentum = 0;
  float alpha = 0.01F;   ///< attack: size of a step
  float epsilon = 0.1F;  ///< attack: largest change of an input

  std::vector<std::vector<float>> weights{};  ///< per layer: out x in, column-major
  std::vector<std::vector<float>> biases{};   ///< per layer: out
  std::vector<float> x{};                     ///< features x batch, column-major
  std::vector<std::int32_t> labels{};         ///< batch

  std::size_t depth() const { return layers.size() - 1; }
  std::size_t parameters() const {
    std::size_t n = 0;
    for (std::size_t l = 0; l < depth(); ++l) n += layers[l + 1] * (layers[l] + 1);
    return n;
  }

  /// Draws parameters as a PyTorch Linear does (uniform in +-1/sqrt(in)), inputs in [0, 1) and labels.
  void draw(std::uint32_t seed) {
    std::mt19937 random(seed);  // its sequence is the same everywhere, unlike the distributions of <random>
    const auto uniform = [&random] { return static_cast<float>(random() >> 8) * 0x1.0p-24F; };
    weights.resize(depth());
    biases.resize(depth());
    for (std::size_t l = 0; l < depth(); ++l) {
      const float bound = 1 / std::sqrt(static_cast<float>(layers[l]));
      weights[l].resize(layers[l + 1] * layers[l]);
      biases[l].resize(layers[l + 1]);
      for (auto* values : {&weights[l], &biases[l]})
        for (float& v : *values) v = bound * (2 * uniform() - 1);
    }
    x.resize(layers.front() * batch);
    for (float& v : x) v = uniform();
    labels.resize(batch);
    for (auto& y : labels) y = static_cast<std::int32_t>(random() % layers.back());
  }

  /// A line of text that describes the problem, then the numbers as they are in memory.
  void write(const std::string& path) const {
    std::ofstream file(path, std::ios::binary);
    file.precision(9);
    file << (step == Step::train ? "train" : "attack") << ' ' << batch << ' ' << lr << ' ' << momentum << ' ' << alpha
         << ' ' << epsilon;
    for (const auto features : layers) file << ' ' << features;
    file << '\n';
    const auto put = [&file](const auto& values) {
      file.write(reinterpret_cast<const char*>(values.data()),
                 static_cast<std::streamsize>(values.size() * sizeof values[0]));
    };
    for (std::size_t l = 0; l < depth(); ++l) put(weights[l]), put(biases[l]);
    put(x);
    put(labels);
    file.close();
    if (!file) throw std::runtime_error("cannot write " + path);
  }

  static Problem read(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::string head;
    std::getline(file, head);
    std::istringstream words(head);
    Problem p;
    std::string kind;
    words >> kind >> p.batch >> p.lr >> p.momentum >> p.alpha >> p.epsilon;
    p.step = kind == "train" ? Step::train : Step::attack;
    for (std::size_t features = 0; words >> features;) p.layers.push_back(features);
    if (!file || p.layers.size() < 2) throw std::runtime_error("cannot read " + path);
    const auto get = [&file](auto& values, std::size_t n) {
      values.resize(n);
      file.read(reinterpret_cast<char*>(values.data()), static_cast<std::streamsize>(n * sizeof values[0]));
    };
    p.weights.resize(p.depth());
    p.biases.resize(p.depth());
    for (std::size_t l = 0; l < p.depth(); ++l) {
      get(p.weights[l], p.layers[l + 1] * p.layers[l]);
      get(p.biases[l], p.layers[l + 1]);
    }
    get(p.x, p.layers.front() * p.batch);
    get(p.labels, p.batch);
    if (!file) throw std::runtime_error(path + " is cut short");
    return p;
  }
};

}  // namespace armagrad::bench
