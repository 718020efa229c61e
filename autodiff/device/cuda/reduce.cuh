// What a line of threads makes of the values that its threads hold.
#pragma once

#include <cmath>

#include "launch.cuh"

namespace armagrad::cuda {

struct Plus {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a + b;
  }
};
struct Larger {  // a NaN is larger than anything
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a < b || std::isnan(b) ? b : a;
  }
};

/// An element and where it stands.
template <class eT>
struct Best {
  eT value;
  std::uint32_t at;
};

template <class T>
__device__ T exchanged(T value, int lanes) {
  return __shfl_xor_sync(0xffffffffu, value, lanes);
}
template <class eT>
__device__ Best<eT> exchanged(Best<eT> b, int lanes) {
  return {__shfl_xor_sync(0xffffffffu, b.value, lanes), __shfl_xor_sync(0xffffffffu, b.at, lanes)};
}

/// Combines the values of the blockDim.x threads (a multiple of 32) of one line; every one gets the same result. Lines
/// of more than 32 threads have their block for themselves, and a T of shared memory for each 32.
template <class T, class Combine>
__device__ T reduce_line(T value, Combine combine) {
  for (int lanes = 16; lanes > 0; lanes /= 2) value = combine(value, exchanged(value, lanes));
  if (blockDim.x == 32) return value;
  T* scratch = shared<T>();
  __syncthreads();  // a thread may still be reading the result of the reduction before
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = value;
  __syncthreads();
  value = scratch[0];
  for (unsigned warp = 1; warp < blockDim.x / 32; ++warp) value = combine(value, scratch[warp]);
  return value;
}

}  // namespace armagrad::cuda
