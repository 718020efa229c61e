// The kernels of an attack whose examples stay on a device; robust/attacks.cpp decides, they compute.
//
//   attack_input   out = A + B where A is the examples' data and B the perturbations, each column's by its
//   AttackColumn,
//                  within the range; perturbations that begin anew are set to 0 first
//   attack_step    out = B + the column's step along the sign of A, the gradient, within epsilon and with C, the
//                  examples' data, within the range; digests tell of each column
//
// `object` is an AttackScalars, in host memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include <armagrad/autodiff/device/device.hpp>
#include <armagrad/autodiff/device/kernels.hpp>

namespace armagrad::detail {

template <class eT>
struct AttackColumn {
  std::uint32_t example;  // which column of the data
  std::uint32_t anew;     // not 0: the perturbation begins at 0
  eT epsilon, step;
};

/// Of a step: what the host would look at the whole column for.
struct AttackDigest {
  std::uint64_t low, high;         // a hash of the new perturbation's bits
  std::uint32_t zero, not_finite;  // of the gradient: all of it 0; NaN or infinity in it
};

template <class eT>
struct AttackScalars {
  const AttackColumn<eT>* columns;  // in device memory, as many as columns of `out`
  AttackDigest* digests;            // likewise; of attack_step
  bool clipped;
  eT low, high;
};

/// What entry `i` adds to a column's hash. Both halves pass each entry's bits through bijections that depend on its
/// place, so columns that differ in one entry never collide; sums of them, so that threads may add in any order.
template <class eT>
ARMAGRAD_HD void add_to_hash(AttackDigest& d, std::size_t i, eT value) {
  std::uint64_t bits = 0;
  if constexpr (sizeof(eT) == 4) {
    std::uint32_t word;
    std::memcpy(&word, &value, sizeof word);
    bits = word;
  } else {
    std::memcpy(&bits, &value, sizeof bits);
  }
  d.low += mix(bits ^ mix(i));
  d.high += mix(bits ^ mix(~std::uint64_t{i}));
}

/// An entry's step: delta + step along the sign, onto the ball, and with a range into that of the data.
template <class eT>
ARMAGRAD_HD eT attack_step_of(eT delta, eT gradient, eT x, const AttackColumn<eT>& c, const AttackScalars<eT>& s) {
  delta += gradient > 0 ? c.step : gradient < 0 ? -c.step : eT(0);
  delta = delta < -c.epsilon ? -c.epsilon : delta;
  delta = delta > c.epsilon ? c.epsilon : delta;
  if (!s.clipped) return delta;
  const eT sum = x + delta;
  if (sum < s.low) return s.low - x < c.epsilon ? s.low - x : c.epsilon;
  if (sum > s.high) return s.high - x > -c.epsilon ? s.high - x : -c.epsilon;
  return delta;
}
template <class eT>
ARMAGRAD_HD eT attack_input_of(eT x, eT delta, const AttackScalars<eT>& s) {
  const eT sum = x + delta;
  if (!s.clipped) return sum;
  return sum < s.low ? s.low : sum > s.high ? s.high : sum;
}

}  // namespace armagrad::detail
