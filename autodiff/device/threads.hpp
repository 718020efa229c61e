// Loops over large matrices on several threads: OpenMP's, which oneDNN's products use as well, so that a step has one
// team of threads and not two.
#pragma once

#include <cstddef>

#include <armagrad/autodiff/device/device.hpp>

namespace armagrad::detail {

/// work(data, i) for every i below `count`, on at most so many threads. Without OpenMP, and in a thread of such a team,
/// one after the other.
void in_parallel(std::size_t count, unsigned threads, void (*work)(const void* data, std::size_t i), const void* data);

/// Elements from which on a loop is worth waking other threads: they take some microseconds to meet.
inline constexpr std::size_t shared_loop = std::size_t{1} << 18;

/// Runs an element-wise kernel on the CPU, in equal pieces on as many threads as products use.
template <class eT>
void run_in_pieces(const Command<eT>& c, int instructions);

/// Runs a command on the CPU. Results do not depend on the number of threads.
template <class eT>
inline void run_here(const Command<eT>& c, int instructions) {
  if (c.kernel->elementwise && c.out.size() >= shared_loop) [[unlikely]]
    return run_in_pieces(c, instructions);
  c.kernel->host.code[instructions](c);
}

}  // namespace armagrad::detail
