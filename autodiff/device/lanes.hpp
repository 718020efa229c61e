// Registers for loops that are written out because the compiler does not find them, and the transposition of small
// matrices. For code that `versions` compiles (versions.hpp). Registers are passed by reference, because by value each
// instruction set passes them differently.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <utility>

namespace armagrad::detail {

/// One register of the widest kind; narrower processors take several for it.
template <class eT>
using Lanes [[gnu::vector_size(64), gnu::may_alias]] = eT;
template <class eT>
constexpr std::size_t lanes = 64 / sizeof(eT);
/// The least multiple of a register's length that is not below n.
template <class eT>
constexpr std::size_t in_lanes(std::size_t n) {
  return (n + lanes<eT> - 1) / lanes<eT> * lanes<eT>;
}

/// Where a matrix's own memory is read and written, which may lie anywhere.
template <class Register, class eT>
inline void load(Register& to, const eT* from) {
  std::memcpy(&to, from, sizeof to);
}
template <class Register, class eT>
inline void store(eT* to, const Register& from) {
  std::memcpy(to, &from, sizeof from);
}

template <std::size_t distance, class eT, std::size_t... lane>
void exchange_lanes(Lanes<eT>& a, Lanes<eT>& b, std::index_sequence<lane...>) {
  constexpr std::size_t n = sizeof...(lane);
  const Lanes<eT> x = a, y = b;
  a = __builtin_shufflevector(x, y, ((lane & distance) != 0 ? n + lane - distance : lane)...);
  b = __builtin_shufflevector(x, y, ((lane & distance) != 0 ? n + lane : lane + distance)...);
}
/// A square of as many registers as each has lanes, transposed.
template <class eT, std::size_t distance = lanes<eT> / 2>
void transpose(Lanes<eT> (&x)[lanes<eT>]) {
  for (std::size_t i = 0; i < lanes<eT>; ++i)
    if ((i & distance) == 0) exchange_lanes<distance, eT>(x[i], x[i + distance], std::make_index_sequence<lanes<eT>>{});
  if constexpr (distance > 1) transpose<eT, distance / 2>(x);
}

template <class eT>
eT sum_of(const Lanes<eT>& x) {
  eT part[lanes<eT>];
  store(part, x);
  for (std::size_t step = lanes<eT> / 2; step > 0; step /= 2)
    for (std::size_t i = 0; i < step; ++i) part[i] += part[i + step];
  return part[0];
}

// The largest tile that the registers of every x86-64 turn round.
template <class eT>
constexpr std::size_t tile = 16 / sizeof(eT);
inline void transpose_tile(const float* a, std::size_t ld, float* to, std::size_t ld_to) {
  using Quad [[gnu::vector_size(16)]] = float;
  Quad a0, a1, a2, a3;
  load(a0, a);
  load(a1, a + ld);
  load(a2, a + 2 * ld);
  load(a3, a + 3 * ld);
  const Quad low01 = __builtin_shufflevector(a0, a1, 0, 4, 1, 5), high01 = __builtin_shufflevector(a0, a1, 2, 6, 3, 7);
  const Quad low23 = __builtin_shufflevector(a2, a3, 0, 4, 1, 5), high23 = __builtin_shufflevector(a2, a3, 2, 6, 3, 7);
  store(to, Quad(__builtin_shufflevector(low01, low23, 0, 1, 4, 5)));
  store(to + ld_to, Quad(__builtin_shufflevector(low01, low23, 2, 3, 6, 7)));
  store(to + 2 * ld_to, Quad(__builtin_shufflevector(high01, high23, 0, 1, 4, 5)));
  store(to + 3 * ld_to, Quad(__builtin_shufflevector(high01, high23, 2, 3, 6, 7)));
}
inline void transpose_tile(const double* a, std::size_t ld, double* to, std::size_t ld_to) {
  using Pair [[gnu::vector_size(16)]] = double;
  Pair a0, a1;
  load(a0, a);
  load(a1, a + ld);
  store(to, Pair(__builtin_shufflevector(a0, a1, 0, 2)));
  store(to + ld_to, Pair(__builtin_shufflevector(a0, a1, 1, 3)));
}

/// to(j, i) = a(i, j): a's `rows` x `cols` stand in columns `ld` apart, to's in columns `ld_to` apart.
template <class eT>
inline void transpose(const eT* a, std::size_t rows, std::size_t cols, std::size_t ld, eT* to, std::size_t ld_to) {
  constexpr std::size_t t = tile<eT>;
  if (rows < t || cols < t) {
    for (std::size_t j = 0; j < cols; ++j)
      for (std::size_t i = 0; i < rows; ++i) to[j + i * ld_to] = a[i + j * ld];
    return;
  }
  // The last tile of a row or column overlaps the one before.
  for (std::size_t j = 0; j < cols; j += t) {
    const std::size_t first = std::min(j, cols - t);
    for (std::size_t i = 0; i < rows; i += t) {
      const std::size_t top = std::min(i, rows - t);
      transpose_tile(a + top + first * ld, ld, to + first + top * ld_to, ld_to);
    }
  }
}

}  // namespace armagrad::detail
