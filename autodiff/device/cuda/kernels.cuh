// The table of kernels, and what they need beside a command.
#pragma once

#include <string>

#include <cublas_v2.h>
#include <cuda_runtime.h>

#include <armagrad/autodiff/device/device.hpp>
#include <armagrad/autodiff/error.hpp>

namespace armagrad::cuda {

inline void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  const std::string text =
      std::string("cuda: ") + what + ": " + cudaGetErrorString(status) + " (" + cudaGetErrorName(status) + ")";
  cudaGetLastError();  // told now; a later command must not tell it again
  throw DeviceError(text);
}
inline void check(cublasStatus_t status, const char* what) {
  if (status != CUBLAS_STATUS_SUCCESS)
    throw DeviceError(std::string("cuda: ") + what + ": cuBLAS: " + cublasGetStatusString(status));
}

/// What every kernel is run with. One command at a time: results of a first pass may lie in the workspace.
struct Context {
  cudaStream_t stream = nullptr;
  cublasHandle_t blas = nullptr;

  /// Device memory for intermediate results of one command; grows, and is then kept.
  template <class T>
  T* workspace(std::size_t count) {
    return static_cast<T*>(grown_workspace(count * sizeof(T)));
  }

  Context() = default;
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;
  ~Context();

 private:
  void* grown_workspace(std::size_t bytes);
  void* workspace_ = nullptr;
  std::size_t workspace_bytes_ = 0;
};

/// Runs a command's kernel; `context` is a Context. What Kernel::plugin keeps.
template <class eT>
using Function = void (*)(void* context, const Command<eT>&);

/// The function for a kernel of this name (device/kernels.hpp, elementwise.def), or null.
template <class eT>
Function<eT> find_function(const char* kernel);

/// Whether this build holds code for the current device.
cudaError_t probe_architecture();

}  // namespace armagrad::cuda
