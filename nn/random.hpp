#pragma once

#include <cstdint>
#include <random>
#include <vector>

namespace armagrad::nn {

/// A seeded stream of numbers that is the same on every platform (the distributions of <random> are not).
class Generator {
 public:
  explicit Generator(std::uint64_t seed) : engine_(seed) {}
  void seed(std::uint64_t seed) { *this = Generator(seed); }
  /// Uniform in [0, 1), with 53 random bits.
  double uniform() { return static_cast<double>(engine_() >> 11) * 0x1.0p-53; }
  double uniform(double low, double high) { return low + (high - low) * uniform(); }
  /// Normal with mean 0 and standard deviation 1 (Box and Muller 1958).
  double normal();
  std::uint64_t bits() { return engine_(); }
  /// Where the stream is, for a checkpoint: `set_state` goes on from there.
  std::vector<std::uint64_t> state() const;
  /// OptionError unless the words came from `state`.
  void set_state(const std::vector<std::uint64_t>& state);

 private:
  std::mt19937_64 engine_;
};

/// The stream that new layers draw their weights from, one per thread; seeded with 0 until you seed it.
Generator& default_generator();
/// Makes the layers created from now on (in this thread) reproducible.
inline void seed(std::uint64_t seed) { default_generator().seed(seed); }

}  // namespace armagrad::nn
