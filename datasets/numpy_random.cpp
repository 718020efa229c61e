#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>

#include <armagrad/autodiff/error.hpp>
#include <armagrad/datasets/numpy_random.hpp>

namespace armagrad::data {
namespace {

/// The Mersenne Twister's `init_by_array`. The standard fills an engine's state with the words of a seed sequence as
/// they come, so a sequence that generates this state is all it takes.
class InitByArray {
 public:
  using result_type = std::uint32_t;

  explicit InitByArray(std::initializer_list<std::uint32_t> key) : key_(key) {}

  template <class Iterator>
  void generate(Iterator first, Iterator last) const {
    const auto n = static_cast<std::size_t>(last - first);
    auto mt = [first](std::size_t i) -> std::uint32_t { return static_cast<std::uint32_t>(first[i]); };
    auto mixed = [&mt](std::size_t i) { return mt(i - 1) ^ (mt(i - 1) >> 30); };

    first[0] = 19650218U;
    for (std::size_t i = 1; i < n; ++i) first[i] = 1812433253U * mixed(i) + static_cast<std::uint32_t>(i);

    std::size_t i = 1;
    auto advance = [&] {
      if (++i < n) return;
      first[0] = mt(n - 1);
      i = 1;
    };
    std::size_t j = 0;
    for (std::size_t k = std::max(n, key_.size()); k > 0; --k) {
      first[i] = (mt(i) ^ (mixed(i) * 1664525U)) + key_.begin()[j] + static_cast<std::uint32_t>(j);
      advance();
      if (++j == key_.size()) j = 0;
    }
    for (std::size_t k = n - 1; k > 0; --k) {
      first[i] = (mt(i) ^ (mixed(i) * 1566083941U)) - static_cast<std::uint32_t>(i);
      advance();
    }
    first[0] = 0x80000000U;
  }

 private:
  std::initializer_list<std::uint32_t> key_;
};

}  // namespace

NumpyRandom NumpyRandom::from_key(std::initializer_list<std::uint32_t> key) {
  if (key.size() == 0) throw OptionError("NumpyRandom: the key is empty; give at least one word");
  InitByArray sequence(key);
  return NumpyRandom(std::mt19937(sequence));
}

double NumpyRandom::random_sample() {
  const std::uint32_t high = engine_() >> 5;  // 27 bits
  const std::uint32_t low = engine_() >> 6;   // 26 bits
  return (high * 67108864.0 + low) / 9007199254740992.0;
}

double NumpyRandom::standard_normal() {
  if (kept_normal_) return *std::exchange(kept_normal_, std::nullopt);
  double x = 0, y = 0, r2 = 0;
  do {
    x = 2.0 * random_sample() - 1.0;
    y = 2.0 * random_sample() - 1.0;
    r2 = x * x + y * y;
  } while (r2 >= 1.0 || r2 == 0.0);
  const double f = std::sqrt(-2.0 * std::log(r2) / r2);
  kept_normal_ = f * x;
  return f * y;
}

std::uint64_t NumpyRandom::interval(std::uint64_t max) {
  if (max == 0) return 0;
  std::uint64_t mask = max;
  for (int shift = 1; shift < 64; shift *= 2) mask |= mask >> shift;
  std::uint64_t value = 0;
  do {
    value = engine_();
    if (max > 0xffffffffU) value = value << 32 | engine_();
    value &= mask;
  } while (value > max);
  return value;
}

void NumpyRandom::shuffle(arma::uvec& values) {
  for (arma::uword i = values.n_elem; i > 1; --i) std::swap(values[i - 1], values[interval(i - 1)]);
}

arma::uvec NumpyRandom::permutation(arma::uword n) {
  arma::uvec order(n);
  for (arma::uword i = 0; i < n; ++i) order[i] = i;
  shuffle(order);
  return order;
}

}  // namespace armagrad::data
