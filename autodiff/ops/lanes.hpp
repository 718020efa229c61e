// Registers for loops that dense linear algebra writes out itself: of the widest kind, of which narrower processors
// take several for one. They are passed by reference, because by value each instruction set passes them differently.
#pragma once

#include <cstddef>
#include <cstring>

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

template <class eT>
eT sum_of(const Lanes<eT>& x) {
  eT part[lanes<eT>];
  store(part, x);
  for (std::size_t step = lanes<eT> / 2; step > 0; step /= 2)
    for (std::size_t i = 0; i < step; ++i) part[i] += part[i + step];
  return part[0];
}

}  // namespace armagrad::detail
