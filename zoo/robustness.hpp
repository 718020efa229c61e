// The robustness pipeline: attacks on a network for images of MNIST's format, and certificates for it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include <armagrad/datasets/mnist.hpp>

#include "zoo/report.hpp"

namespace armagrad::zoo {

struct RobustnessOptions {
  std::string dataset{};             ///< "mnist" or "fashion-mnist"; empty: the first of them that can be had
  std::filesystem::path data_dir{};  ///< where its files are; empty: wherever load_images finds them
  std::filesystem::path weights{};   ///< a safetensors file; empty: those trained before with this seed, else train
  std::uint64_t seed = 1;            ///< of the training
  std::string split = "test";        ///< "test" or "train": the images whose accuracy against epsilon is drawn
  std::string judge = "any";         ///< of PGD: "any" iterate misclassified, or the "final" one
  long iterations = 1000;            ///< of PGD
  long images = 0;                   ///< of the split, from the first on; 0: all
  std::string device = "cpu";        ///< or "cuda"
  int threads = 0;                   ///< each with a tape; 0: one per processor if BLAS has one thread; one on CUDA

  std::filesystem::path checkpoints{};  ///< folder for interrupted attacks and, without a home, for weights
  bool resume = false;
  std::function<bool()> stopped{};  ///< asked often, by every thread; true ends the run
};

/// Before any work. @throws OptionError for a value out of range, a folder or file that is not there; DataError for
/// weights that are damaged or of another architecture; DeviceError where the device is not there
void check(const RobustnessOptions& options);

struct RobustnessResult {
  Report report;
  bool finished;  ///< false: it was stopped, and there is no report; `resume` goes on
};

/// Loads the data, then the whole pipeline. @throws DataError when the data cannot be had, and for a checkpoint that
/// does not fit
RobustnessResult robustness(const RobustnessOptions& options);
/// The same for images of your own, at least 18 for testing.
RobustnessResult robustness(const RobustnessOptions& options, const data::Images<float>& images,
                            const std::string& set_name);

}  // namespace armagrad::zoo
