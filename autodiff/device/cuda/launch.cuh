// The one place where kernels are launched and shared memory is obtained. Compiled without nvcc, the same sources run
// on the host: tests/cuda_stand_in then provides both, and threadIdx and its like.
#pragma once

#include <cuda_runtime.h>

#ifdef __CUDACC__

#include <cstddef>
#include <type_traits>

namespace armagrad::cuda {

/// Arguments are numbers, pointers to device memory and Views of it: what the stand-in can check.
template <class... P>
void launch(void (*kernel)(P...), dim3 grid, dim3 block, std::size_t shared_bytes, cudaStream_t stream,
            std::type_identity_t<P>... arguments) {
  kernel<<<grid, block, shared_bytes, stream>>>(arguments...);
}

/// The block's shared memory, as many bytes as the launch asked for.
template <class T>
__device__ T* shared() {
  extern __shared__ __align__(16) unsigned char armagrad_shared[];
  return reinterpret_cast<T*>(armagrad_shared);
}

}  // namespace armagrad::cuda

#else
#include <stand_in.hpp>
#endif
