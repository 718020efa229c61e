// One run of the digits pipeline, a model trained from one seed: how far it is, and its checkpoint.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <vector>

#include "zoo/digits_training.hpp"
#include "zoo/progress.hpp"

namespace armagrad::zoo {

/// What decides a run: its result follows from it to the last bit, on the same machine.
struct RunOptions {
  int model = 0;
  std::uint64_t seed = 1;
  long epochs = 100000;  ///< at most
  double lr = 1e-2;
  long batch = 64;
  std::string device = "cpu";
};

/// How far a run is.
struct Run {
  RunOptions options{};
  long epochs = 0;                                        ///< done
  double loss = std::numeric_limits<double>::infinity();  ///< of the last epoch
  bool finished = false;
  double seconds = 0;                                    ///< in training, whatever number of interruptions
  std::vector<double> logged_epochs{}, logged_losses{};  ///< every 100th
};

/// A run and its model.
class RunInTraining {
 public:
  /// Draws the weights. The digits must outlive it.
  RunInTraining(const RunOptions& options, const Digits& digits);

  /// Trains to the stopping rule (the last batch's loss of an epoch differs from that of the epoch before by at most
  /// 1e-6), to the largest number of epochs, or until `stopped()`, asked after each epoch.
  /// @param save called when `save_every` seconds have passed since the last call, and at the end
  /// @throws ValueError when a loss is not finite
  void train(Progress& progress, const std::function<bool()>& stopped, double save_every,
             const std::function<void(const RunInTraining&)>& save);

  /// Writes the whole state: weights, random stream, epoch, losses. What stood there is replaced at once or not at all.
  /// @throws DataError when the file cannot be written
  void save(const std::filesystem::path& file) const;
  /// Goes on where the file was written. @throws DataError when it is damaged or of another run
  void restore(const std::filesystem::path& file);

  const Run& run() const { return run_; }
  Training& training() const { return *training_; }

 private:
  Run run_;
  std::unique_ptr<Training> training_;
};

}  // namespace armagrad::zoo
