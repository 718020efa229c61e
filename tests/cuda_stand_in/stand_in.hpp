// The host stand-in for CUDA: the same .cu files, compiled by the host's compiler against the toolkit's headers (whose
// __global__ and the like mean nothing then), with the runtime and cuBLAS replaced by the two files beside this one.
//
//   fibers.cpp   runs the threads of a grid. Each thread of a block is a fiber with a stack of its own, so that
//                __syncthreads and shared memory are what they are on a GPU; threads run one at a time, in ascending
//                or descending order, so a result that depends on the order shows when the two are compared.
//   runtime.cpp  the functions of the CUDA runtime and of cuBLAS that the plug-in calls. Device memory starts as NaNs,
//                has guard bytes at both ends that are checked after every launch, and is unreadable but for the
//                moments in which the device works: host code that follows a device pointer crashes there and then.
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

// What nvcc knows without a header. One thread runs at a time, so these are plain variables.
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
void __syncthreads();

namespace cuda_stand_in {

/// Runs `thread` for every thread of the grid. Returns what went wrong, or an empty text.
std::string run_grid(dim3 grid, dim3 block, std::size_t shared_bytes, const std::function<void()>& thread);
/// The running block's shared memory.
void* shared_memory();
extern bool descending;

/// While one lives the device works: its memory can be read and written. Closing it checks the guard bytes.
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

// The arguments a kernel may have: numbers, pointers into device memory (null where the kernel allows it), and Views.
template <class T>
bool check_argument(int position, const T& argument) {
  static_assert(std::is_arithmetic_v<T> || std::is_pointer_v<T>,
                "a kernel's arguments are numbers, pointers or Views, so that the stand-in can check them");
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

}  // namespace cuda_stand_in

namespace armagrad::cuda {

template <class... P>
void launch(void (*kernel)(P...), dim3 grid, dim3 block, std::size_t shared_bytes, cudaStream_t,
            std::type_identity_t<P>... arguments) {
  const cuda_stand_in::DeviceSection section;
  int position = 0;
  if (!(cuda_stand_in::check_argument(++position, arguments) && ...)) return;
  const std::string wrong = cuda_stand_in::run_grid(grid, block, shared_bytes, [&] { kernel(arguments...); });
  if (!wrong.empty()) cuda_stand_in::fault(cudaErrorLaunchFailure, wrong);
}

template <class T>
T* shared() {
  return static_cast<T*>(cuda_stand_in::shared_memory());
}

}  // namespace armagrad::cuda
