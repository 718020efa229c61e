// NumPy's legacy random stream, so that data drawn by scikit-learn with a random_state comes out here to the last bit.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <random>

#include <armagrad/autodiff/armadillo.hpp>

namespace armagrad::data {

/// The stream of `numpy.random.RandomState` (NumPy's legacy generator): the same seed gives the same numbers, bit for
/// bit, as NumPy 2.4 on a machine with the same `log` and `sqrt`. Not for cryptography. One thread per object.
///
/// Source: Matsumoto and Nishimura, Mersenne Twister (1998), and NumPy's legacy distributions.
class NumpyRandom {
 public:
  /// As `RandomState(seed)`.
  explicit NumpyRandom(std::uint32_t seed) : engine_(seed) {}

  /// As `RandomState([key...])`. A one-word key gives another stream than that word as the seed.
  /// @throws OptionError when the key is empty.
  static NumpyRandom from_key(std::initializer_list<std::uint32_t> key);

  /// Uniform in [0, 1), 53 bits, as `random_sample()`.
  double random_sample();

  /// Uniform in [low, high), as `uniform(low, high)`.
  double uniform(double low, double high) { return low + (high - low) * random_sample(); }

  /// Normal with mean 0 and variance 1, as `standard_normal()`: Marsaglia's polar method, which makes two values at a
  /// time and keeps the second for the next call.
  double standard_normal();

  /// As `normal(loc, scale)`.
  double normal(double loc, double scale) { return loc + scale * standard_normal(); }

  /// Uniform in 0 ... max, both included, as `randint(0, max + 1)`.
  std::uint64_t interval(std::uint64_t max);

  /// Fisher-Yates in place, as `shuffle(values)`.
  void shuffle(arma::uvec& values);

  /// 0 ... n-1 in random order (n x 1), as `permutation(n)`.
  arma::uvec permutation(arma::uword n);

 private:
  explicit NumpyRandom(const std::mt19937& engine) : engine_(engine) {}

  std::mt19937 engine_;
  std::optional<double> kept_normal_;
};

}  // namespace armagrad::data
