// Memory for matrices on the host.
#pragma once

#include <cstddef>
#include <cstdlib>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace armagrad::detail {

/// From a cache line's start on; to be given to std::free. Null if there is none. Large pieces ask the system for huge
/// pages, where it gives them on request: a walk over a matrix whose columns each lie in a page of their own otherwise
/// waits for addresses to be looked up.
inline void* allocate_aligned(std::size_t bytes) {
  constexpr std::size_t line = 64, huge = std::size_t{1} << 21;
  const std::size_t unit = bytes < huge ? line : huge, size = (bytes < 1 ? 1 : bytes) + unit - 1;
  void* const memory = std::aligned_alloc(unit, size / unit * unit);
#ifdef MADV_HUGEPAGE
  if (unit == huge && memory != nullptr) madvise(memory, size / unit * unit, MADV_HUGEPAGE);  // as good if refused
#endif
  return memory;
}

}  // namespace armagrad::detail
