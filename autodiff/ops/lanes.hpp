// Registers for loops that dense linear algebra writes out itself: of the widest kind, of which narrower processors
// take several for one. They are passed by reference, because by value each instruction set passes them differently.
#pragma once

#include <cstddef>
#include <cstring>
#include <utility>

namespace armagrad::detail {

template <class eT>
using Lanes [[gnu::vector_size(64), gnu::may_alias]] = eT;
template <class eT>
constexpr std::size_t lanes = 64 / sizeof(eT);
/// The least multiple of a register's length that is not below n.
template <class eT>
constexpr std::size_t in_lanes(std::size_t n) {
  return (n + lanes<eT> - 1) / lanes<eT> * lanes<eT>;
}

// For memory that may lie anywhere.
template <class Register, class eT>
void load(Register& to, const eT* from) {
  std::memcpy(&to, from, sizeof to);
}
template <class Register, class eT>
void store(eT* to, const Register& from) {
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

}  // namespace armagrad::detail
