// The host stand-in for CUDA: the same .cu files, compiled by the host's compiler against the toolkit's headers (whose
// __global__ and the like mean nothing then), with the runtime, cuBLAS and cuSOLVER replaced by the files beside this
// one.
//
//   fibers.cpp   runs the threads of a grid. Each thread of a block is a fiber with a stack of its own, so that
//                __syncthreads, shuffles and shared memory are what they are on a GPU; threads run one at a time, in
//                ascending or descending order, so a result that depends on the order shows when the two are compared.
//   runtime.cpp  the functions of the CUDA runtime that the plug-in calls. Streams are lazy: work given to one is done
//                when somebody waits for it and not before, so a missing wait shows as well. While a stream captures,
//                its work goes into a graph, and what CUDA forbids then (allocating, waiting) ends the capture. Device
//                memory starts as NaNs (the first 16 MB of a block), has guard bytes at both ends that are checked
//                after every piece of work, and is unreadable but for the moments in which the device works: host code
//                that follows a device pointer crashes there and then.
//   blas.cpp     cuBLAS over the host's BLAS, with its column-major contracts checked.
//   solver.cpp   cuSOLVER over the host's LAPACK, likewise; loaded by name from the stand-in itself.
//   faults.cu    deliberately wrong kernels, for the test of all this.
//
// A fault found is what the next cudaGetLastError returns (or the call itself), and cudaGetErrorString then tells the
// story. What no stand-in sees: real races, occupancy, the bits of cuBLAS.
#pragma once

#include <functional>
#include <string>
#include <type_traits>

#include <cuda_runtime.h>

#include <armagrad/autodiff/device/device.hpp>

#include "launch.cuh"

// What nvcc knows without a header. One thread runs at a time, so these are plain variables.
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
void __syncthreads();

namespace cuda_stand_in {

/// What is wrong with a launch, or an empty text.
std::string why_no_grid(dim3 grid, dim3 block, std::size_t shared_bytes);
/// Runs `thread` for every thread of the grid. Returns what went wrong, or an empty text.
std::string run_grid(dim3 grid, dim3 block, std::size_t shared_bytes, const std::function<void()>& thread);
/// The running block's shared memory.
void* shared_memory();
/// Gives the running thread's bytes to its warp, waits for the others', and takes those of the lane `lanes` away.
void exchange(void* value, std::size_t bytes, int lanes);
extern bool descending;

/// While one lives the device works: its memory can be read and written.
class DeviceSection {
 public:
  DeviceSection();
  DeviceSection(const DeviceSection&) = delete;
  DeviceSection& operator=(const DeviceSection&) = delete;
  ~DeviceSection();
};
/// Remembers a fault for cudaGetLastError and cudaGetErrorString.
cudaError_t fault(cudaError_t status, const std::string& story);
/// Whether all the bytes lie in one allocation; a fault, if not.
bool is_device_memory(const void* memory, std::size_t bytes, const std::string& what);
/// Gives work to a stream, or to the graph that it captures. `kind` is how it is counted.
void enqueue(cudaStream_t stream, const char* kind, std::function<void()> work);
bool is_capturing(cudaStream_t stream);
/// The stand-in itself, or null with the reason where it pretends that a library of CUDA is not there.
void* open_library(const char* file, std::string& why);

// The arguments a kernel may have: numbers, pointers into device memory (null where the kernel allows it), and Views.
template <class T>
bool check_argument(int position, const T& argument) {
  static_assert(std::is_arithmetic_v<T> || std::is_pointer_v<T>,
                "a kernel's arguments are numbers, pointers, Views, Live numbers or Words, so that the stand-in can "
                "check them");
  if constexpr (std::is_pointer_v<T>)
    return argument == nullptr ||
           is_device_memory(argument, sizeof *argument, "argument " + std::to_string(position) + " of a kernel");
  return true;
}
template <class T>
bool check_argument(int position, const armagrad::View<T>& v) {
  if (v.data == nullptr || v.size() == 0) return true;
  return is_device_memory(v.data, ((v.cols - std::size_t{1}) * v.ld + v.rows) * sizeof(T),
                          "argument " + std::to_string(position) + " of a kernel");
}
template <class T>
bool check_argument(int position, const armagrad::cuda::Live<T>& number) {
  return check_argument(position, number.where);
}
inline bool check_argument(int, const armagrad::cuda::Words&) { return true; }

template <class... P>
bool check_arguments(const P&... arguments) {
  int position = 0;
  return (check_argument(++position, arguments) && ...);
}

}  // namespace cuda_stand_in

template <class T>
T __shfl_xor_sync(unsigned, T value, int lanes) {
  cuda_stand_in::exchange(&value, sizeof value, lanes);
  return value;
}

namespace armagrad::cuda {

// Arguments are looked at when they are given, and again when the work is done: of a graph that may be much later.
template <class... P>
void launch(void (*kernel)(P...), dim3 grid, dim3 block, std::size_t shared_bytes, cudaStream_t stream,
            std::type_identity_t<P>... arguments) {
  using namespace cuda_stand_in;
  if (const std::string wrong = why_no_grid(grid, block, shared_bytes); !wrong.empty()) {
    fault(cudaErrorInvalidConfiguration, wrong);
    return;
  }
  if (!check_arguments(arguments...)) return;
  enqueue(stream, "kernels", [=] {
    if (!check_arguments(arguments...)) return;
    const std::string wrong = run_grid(grid, block, shared_bytes, [&] { kernel(arguments...); });
    if (!wrong.empty()) fault(cudaErrorLaunchFailure, wrong);
  });
}

inline void* open_library(const char* file, std::string& why) { return cuda_stand_in::open_library(file, why); }

template <class T>
T* shared() {
  return static_cast<T*>(cuda_stand_in::shared_memory());
}

}  // namespace armagrad::cuda
