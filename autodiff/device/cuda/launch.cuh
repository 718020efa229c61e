// The one place where kernels are launched and shared memory is obtained. Compiled without nvcc, the same sources run
// on the host: tests/cuda_stand_in then provides both, and threadIdx, shuffles and their like.
#pragma once

#include <cstdint>

#include <cuda_runtime.h>

namespace armagrad::cuda {

/// Numbers of any kind on their way to the device, as an argument.
struct Words {
  std::uint64_t word[8];
};

/// A number that a captured graph reads from device memory, where it can change between launches, and a direct launch
/// gets by value. Made by Context::live.
template <class T>
struct Live {
  const T* where;  // in device memory, or null
  T value;
  __host__ __device__ T operator()() const { return where != nullptr ? *where : value; }
};

/// Of a command: out = alpha f + beta out.
template <class eT>
struct Factors {
  eT alpha, beta;
};

}  // namespace armagrad::cuda

#ifdef __CUDACC__

#include <cstddef>
#include <string>
#include <type_traits>

#include <dlfcn.h>

namespace armagrad::cuda {

/// A library of CUDA by its file's name, or null with the reason.
inline void* open_library(const char* file, std::string& why) {
  void* const library = dlopen(file, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) why = dlerror();
  return library;
}

/// Arguments are numbers, pointers to device memory, Views of it, Live numbers and Words: what the stand-in can check.
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
