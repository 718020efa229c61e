// The kernels every device has, by name. Their contracts, with A = in[0], B = in[1] and so on:
//
//   gemm           out = alpha op(A) op(B) + beta out (+ in[2], a column, to each column; then max(0, .) if then_relu)
//   copy           out = alpha op(A) + beta out; a dimension of length 1 of A is repeated along out's
//   fill           out = alpha + beta out
//   sum            out = alpha sum(A) + beta out, over every dimension of A along which out has length 1
//   cross_entropy  out (1x1) = alpha sum over columns of -log softmax(A)[label]; with more_out[0].data also
//                  more_out[0] = alpha (softmax(A) - one hot), exact for confident columns; labels are `indices`
//   dot            out (1x1) = alpha sum(A % B) + beta out
//   squared_distance  out (1x1) = alpha sum((A - B)^2) + beta out
//   log_sum_exp    out = log(sum(exp(A))) of each column, or of each row with transpose_a
//   softmax        out = exp(A) / sum(exp(A)) of each column, or of each row with transpose_a
//   maximum        out = the largest element of each column, or of each row with transpose_a (the smallest with
//                  take_smallest); with more_out[0].data also a mask of A's shape, 1 at the first such element
//   gather         out[i] = alpha A[indices[i]] + beta out[i], column-major
//   scatter        out[indices[i]] += alpha A[i]; with repeated_indices the indices are followed by as many places in
//                  them, sorted by index, so that a device can add what belongs together in one order
//   dropout        out = alpha A % mask + beta out; the mask's entries are 0 or 1/(1-p), see DropoutAttributes
//   batch_columns  out = those columns of A that make up a batch, see BatchAttributes
//   batch_labels   the same of the std::uint32_t at `object`, written to `indices` (index_count of them, the batch);
//                  both in device memory
//   sgd            out -= ..., the update of optim::Sgd; A is the gradient, more_out[0].data the velocity or null,
//                  `object` an SgdScalars; with beta = 0 the velocity starts: it is written without being read
//                  (gemm and sum can be part of that update: CommandFlag)
//   clip           out *= min(1, limit / sqrt(A)), with A 1x1 and the limit in `object`, a double
//
// The element-wise kernels come from elementwise.def by way of rows.hpp.
#pragma once

#include <armagrad/autodiff/device/device.hpp>
#include <armagrad/autodiff/math.hpp>

// Before a loop whose destination may be one of its sources but never a shifted part of it: no check for overlap.
#ifdef __clang__
#define ARMAGRAD_NO_OVERLAP _Pragma("clang loop vectorize(assume_safety)")
#else
#define ARMAGRAD_NO_OVERLAP _Pragma("GCC ivdep")
#endif

namespace armagrad::detail {

/// What a dropout mask is a function of, besides the place in the matrix.
struct DropoutAttributes {
  double p;
  std::uint64_t seed, call;
  const std::uint64_t* replays;  // host memory: how often the recording was replayed
};

/// A 64-bit mix (the finaliser of SplitMix64, Steele et al. 2014) for counter-based random numbers.
ARMAGRAD_HD inline std::uint64_t mix(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

/// Which samples a batch is made of: in each epoch another permutation, of which batches are cut one after the other.
/// It is a Feistel network over the smallest even number of bits that can count the samples, applied again where it
/// leads beyond them; so any place's sample is known without the others'.
struct BatchAttributes {
  std::uint32_t samples, batch;
  std::uint32_t half_bits;
  std::uint64_t seed;
  std::uint64_t position;        // of the batch, counted through all epochs, before any replay
  const std::uint64_t* replays;  // host memory: how often the recording was replayed

  /// The sample in column `column` of batch number `number`.
  ARMAGRAD_HD std::uint32_t sample(std::uint64_t number, std::uint32_t column) const {
    const std::uint64_t per_epoch = samples / batch, epoch = number / per_epoch;
    const std::uint64_t key = mix(mix(seed) ^ epoch);
    const std::uint32_t mask = (std::uint32_t{1} << half_bits) - 1;
    auto at = static_cast<std::uint32_t>(number % per_epoch * batch + column);
    do {
      std::uint32_t left = at >> half_bits, right = at & mask;
      for (std::uint64_t round = 0; round < 6; ++round) {
        const std::uint32_t next = left ^ (static_cast<std::uint32_t>(mix(key ^ (round << 32 | right))) & mask);
        left = right;
        right = next;
      }
      at = left << half_bits | right;
    } while (at >= samples);
    return at;
  }
};
inline BatchAttributes batch_attributes(std::uint32_t samples, std::uint32_t batch, std::uint64_t seed,
                                        std::uint64_t position, const std::uint64_t* replays) {
  std::uint32_t half_bits = 1;
  while (half_bits < 16 && samples > std::uint32_t{1} << 2 * half_bits) ++half_bits;
  return {samples, batch, half_bits, seed, position, replays};
}

/// An SGD update's numbers. Kernels read them through a pointer, so that a replayed step sees a new learning rate.
struct SgdScalars {
  double lr, momentum, dampening, weight_decay;
  bool nesterov, maximize;
};

template <class eT>
struct kernels {
  static const Kernel<eT> gemm, copy, fill, sum, cross_entropy, dot, squared_distance, log_sum_exp, softmax, maximum,
      gather, scatter, dropout, batch_columns, batch_labels, sgd, clip;
};

extern template struct kernels<float>;
extern template struct kernels<double>;

/// alpha op(A) op(B), for an `out` to be set; flags say which is read transposed.
template <class eT>
Command<eT> product_command(View<const eT> a, View<const eT> b, std::uint32_t flags, eT alpha = 1) {
  Command<eT> c;
  c.kernel = &kernels<eT>::gemm;
  c.in[0] = a;
  c.in[1] = b;
  c.flags = flags;
  c.alpha = alpha;
  return c;
}

}  // namespace armagrad::detail
