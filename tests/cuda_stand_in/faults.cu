// Deliberately wrong kernels: the test of the stand-in asks that each be noticed.
#include <cstring>

#include "launch.cuh"

namespace {

__global__ void write_one_too_many(float* x, unsigned n) {
  const unsigned i = threadIdx.x;
  if (i <= n) x[i] = 1;
}

/// x[0] = 0 + 1 + ... + 63, if the threads met between writing and reading.
__global__ void sum_of_block(float* x, bool meet) {
  float* scratch = armagrad::cuda::shared<float>();
  scratch[threadIdx.x] = static_cast<float>(threadIdx.x);
  if (meet) __syncthreads();
  if (threadIdx.x != 0) return;
  x[0] = 0;
  for (unsigned i = 0; i < blockDim.x; ++i) x[0] += scratch[i];
}

__global__ void meet_by_halves() {
  if (threadIdx.x < blockDim.x / 2) __syncthreads();
}

__global__ void write_past_shared_memory() { armagrad::cuda::shared<float>()[threadIdx.x] = 1; }

__global__ void blocks_in_order(float* x) { x[0] = static_cast<float>(blockIdx.x); }

}  // namespace

/// Launches the kernel with the fault named, on `x` (n floats of device memory unless the fault is where they are).
/// Returns what the stand-in says of it, "" if nothing.
extern "C" __attribute__((visibility("default"))) const char* cuda_stand_in_seed(const char* fault, float* x,
                                                                                 unsigned n) {
  using armagrad::cuda::launch;
  const auto is = [fault](const char* name) { return std::strcmp(fault, name) == 0; };
  if (is("overrun")) launch(&write_one_too_many, 1, n + 1, 0, nullptr, x, n);
  if (is("missing sync")) launch(&sum_of_block, 1, 64, 64 * sizeof(float), nullptr, x, false);
  if (is("no fault")) launch(&sum_of_block, 1, 64, 64 * sizeof(float), nullptr, x, true);
  if (is("sync not reached by all")) launch(&meet_by_halves, 1, 64, 0, nullptr);
  if (is("shared overrun")) launch(&write_past_shared_memory, 1, 65, 64 * sizeof(float), nullptr);
  if (is("order of blocks")) launch(&blocks_in_order, 3, 1, 0, nullptr, x);
  if (is("no threads")) launch(&blocks_in_order, 0, 1, 0, nullptr, x);
  const cudaError_t status = cudaGetLastError();
  return status == cudaSuccess ? "" : cudaGetErrorString(status);
}
