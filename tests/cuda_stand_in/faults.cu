// Deliberately wrong kernels and calls: the test of the stand-in asks that each be noticed.
#include <cstring>
#include <string>

#include <cublas_v2.h>
#include <cusolverDn.h>

#include "launch.cuh"

namespace {

using armagrad::cuda::launch;

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

/// x[0] = 0 + 1 + ... + 31 if all threads exchange; lane 0 may leave before, or one be asked for that is not there.
__global__ void sum_of_warp(float* x, bool all, int beyond) {
  if (!all && threadIdx.x == 0) return;
  float total = static_cast<float>(threadIdx.x);
  for (int lanes = 16; lanes > 0; lanes /= 2) total += __shfl_xor_sync(0xffffffffu, total, lanes + beyond);
  if (threadIdx.x == 0) x[0] = total;
}

__global__ void meet_by_halves() {
  if (threadIdx.x < blockDim.x / 2) __syncthreads();
}

__global__ void write_past_shared_memory() { armagrad::cuda::shared<float>()[threadIdx.x] = 1; }

__global__ void blocks_in_order(float* x) { x[0] = static_cast<float>(blockIdx.x); }

__global__ void set(float* x, float value) { x[0] = value; }

/// Captures `work` and launches it `times` times.
template <class Work>
void launch_captured(Work work, int times = 1, void* free_before = nullptr) {
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  cudaStreamBeginCapture(nullptr, cudaStreamCaptureModeThreadLocal);
  work();
  if (cudaStreamEndCapture(nullptr, &graph) != cudaSuccess) return;
  cudaGraphInstantiate(&exec, graph, 0);
  cudaFree(free_before);
  for (int t = 0; t < times; ++t) cudaGraphLaunch(exec, nullptr);
  cudaStreamSynchronize(nullptr);
  cudaGraphExecDestroy(exec);
  cudaGraphDestroy(graph);
}

cublasHandle_t blas_handle() {
  static cublasHandle_t blas = [] {
    cublasHandle_t handle;
    cublasCreate(&handle);
    return handle;
  }();
  return blas;
}
cusolverDnHandle_t solver_handle() {
  static cusolverDnHandle_t solver = [] {
    cusolverDnHandle_t handle;
    cusolverDnCreate(&handle);
    return handle;
  }();
  return solver;
}

/// C (2x2, at x) = A (2 x k) B (k x 2), all in the nine floats at x but C, and A and B with these leading dimensions.
void product(float* x, int m, int k, int lda, int ldb) {
  const float one = 1, zero = 0;
  float* a = nullptr;
  cudaMalloc(reinterpret_cast<void**>(&a), 64 * sizeof(float));
  if (a == nullptr) a = x + 4;  // while a stream captures
  cublasSgemm(blas_handle(), CUBLAS_OP_N, CUBLAS_OP_N, m, 2, k, &one, a, lda, a, ldb, &zero, x, m);
  cudaFree(a == x + 4 ? nullptr : a);
}

/// A call of cuSOLVER with what is named wrong about it.
void factorise(const std::string& what) {
  const cusolverDnHandle_t solver = solver_handle();
  float* a = nullptr;
  int *pivots = nullptr, host[8] = {};
  cudaMalloc(reinterpret_cast<void**>(&a), 256 * sizeof(float));
  cudaMalloc(reinterpret_cast<void**>(&pivots), 8 * sizeof(int));
  float *scratch = a + 64, *more = a + 32;
  int size = 0;
  if (what == "leading dimension of LU") cusolverDnSgetrf(solver, 4, 4, a, 3, scratch, pivots, pivots + 4);
  if (what == "pivots on the host") cusolverDnSgetrf(solver, 4, 4, a, 4, scratch, host, pivots + 4);
  if (what == "no scratch memory") cusolverDnSgetrf(solver, 4, 4, a, 4, a + 255, pivots, pivots + 4);
  if (what == "little scratch memory") {
    cusolverDnSpotrf_bufferSize(solver, CUBLAS_FILL_MODE_UPPER, 4, a, 4, &size);
    cusolverDnSpotrf(solver, CUBLAS_FILL_MODE_UPPER, 4, a, 4, scratch, size - 1, pivots);
  }
  if (what == "SVD of a wide matrix")
    cusolverDnSgesvd(solver, 'S', 'S', 2, 3, a, 2, more, more + 8, 2, more + 16, 3, scratch, 64, nullptr, pivots);
  if (what == "more columns of Q than rows") cusolverDnSorgqr(solver, 2, 3, 2, a, 2, more, scratch, 128, pivots);
  cudaStreamSynchronize(nullptr);
  cudaFree(a);
  cudaFree(pivots);
}

}  // namespace

/// Does what is named, at `x` (n floats of device memory unless the fault is where they are). Returns what the stand-in
/// says of it, "" if nothing.
extern "C" __attribute__((visibility("default"))) const char* cuda_stand_in_seed(const char* fault, float* x,
                                                                                 unsigned n) {
  static std::string answer;
  answer.clear();
  const auto is = [fault](const char* name) { return std::strcmp(fault, name) == 0; };
  if (is("overrun")) launch(&write_one_too_many, 1, n + 1, 0, nullptr, x, n);
  if (is("missing sync")) launch(&sum_of_block, 1, 64, 64 * sizeof(float), nullptr, x, false);
  if (is("no fault")) launch(&sum_of_block, 1, 64, 64 * sizeof(float), nullptr, x, true);
  if (is("shuffles")) launch(&sum_of_warp, 1, 32, 0, nullptr, x, true, 0);
  if (is("shuffle not reached by all")) launch(&sum_of_warp, 1, 32, 0, nullptr, x, false, 0);
  if (is("shuffle beyond the warp")) launch(&sum_of_warp, 1, 64, 0, nullptr, x, true, 16);
  if (is("sync not reached by all")) launch(&meet_by_halves, 1, 64, 0, nullptr);
  if (is("shared overrun")) launch(&write_past_shared_memory, 1, 65, 64 * sizeof(float), nullptr);
  if (is("order of blocks")) launch(&blocks_in_order, 3, 1, 0, nullptr, x);
  if (is("no threads")) launch(&blocks_in_order, 0, 1, 0, nullptr, x);
  if (is("leading dimension")) product(x, 4, 1, 3, 4);
  if (is("row-major")) product(x, 2, 3, 3, 2);
  for (const char* name : {"leading dimension of LU", "pivots on the host", "no scratch memory",
                           "little scratch memory", "SVD of a wide matrix", "more columns of Q than rows"})
    if (is(name)) factorise(name);
  if (is("substitution over its matrix")) {
    const float one = 1;
    cublasStrsm(blas_handle(), CUBLAS_SIDE_LEFT, CUBLAS_FILL_MODE_UPPER, CUBLAS_OP_N, CUBLAS_DIAG_NON_UNIT, 2, 2, &one,
                x, 2, x + 2, 2);
  }
  if (is("factorisation while capturing"))
    launch_captured([=] {
      cusolverDnSgetrf(solver_handle(), 1, 1, x, 1, x + 1, reinterpret_cast<int*>(x + 4),
                       reinterpret_cast<int*>(x + 5));
    });
  if (is("wait") || is("no wait")) {
    float here = -1;
    launch(&set, 1, 1, 0, nullptr, x, 7.0f);
    cudaMemcpyAsync(&here, x, sizeof here, cudaMemcpyDeviceToHost, nullptr);
    if (is("wait")) cudaStreamSynchronize(nullptr);
    if (here != 7.0f) answer = "the copy has not arrived";
    cudaStreamSynchronize(nullptr);  // `here` is about to end
  }
  if (is("captured")) launch_captured([=] { launch(&set, 1, 1, 0, nullptr, x, 7.0f); });
  if (is("baked number")) {
    float rate = 1;
    launch_captured([&] { launch(&set, 1, 1, 0, nullptr, x, rate), rate = 2; }, 2);
  }
  if (is("wait while capturing")) launch_captured([] { cudaStreamSynchronize(nullptr); });
  if (is("allocation while capturing"))
    launch_captured([] {
      void* memory = nullptr;
      cudaMalloc(&memory, 8);
    });
  if (is("free while capturing")) launch_captured([=] { cudaFree(x); });
  if (is("product without workspace while capturing"))
    launch_captured([=] {
      static cublasHandle_t blas = nullptr;
      cublasCreate(&blas);
      const float one = 1, zero = 0;
      cublasSgemm(blas, CUBLAS_OP_N, CUBLAS_OP_N, 1, 1, 1, &one, x, 1, x + 1, 1, &zero, x + 2, 1);
    });
  if (is("graph of memory that is gone")) {
    float* memory = nullptr;
    cudaMalloc(reinterpret_cast<void**>(&memory), sizeof(float));
    launch_captured([=] { launch(&set, 1, 1, 0, nullptr, memory, 7.0f); }, 1, memory);
  }
  cudaStreamSynchronize(nullptr);
  const cudaError_t status = cudaGetLastError();
  if (status != cudaSuccess) answer = cudaGetErrorString(status);
  return answer.c_str();
}
