// The functions of the CUDA runtime and of cuBLAS that the plug-in calls, on the host. All work is done at once, so
// streams have nothing to wait for.
#include <cstdio>
#include <cstring>
#include <map>
#include <mutex>
#include <utility>

#include <cublas_v2.h>
#include <stand_in.hpp>
#include <sys/mman.h>
#include <unistd.h>

#define STAND_IN_API extern "C" __attribute__((visibility("default")))

namespace cuda_stand_in {
namespace {

constexpr unsigned char guard = 0xA5, poison = 0xFF;  // bytes of 0xFF are NaN
constexpr std::size_t guard_bytes = 256;              // at each end, at least
constexpr std::size_t capacity = std::size_t{4} << 30;

struct Allocation {
  std::size_t bytes;
  char* mapping;  // pages: guard bytes, the memory itself, guard bytes
  std::size_t mapped;
};
std::map<char*, Allocation> allocations;
std::size_t bytes_held = 0;
std::recursive_mutex device;  // one thing at a time
int open_sections = 0;
cudaError_t last_error = cudaSuccess;
std::string last_story;
std::string pretended;  // the machine that the stand-in says it is on

void protect(int how) {
  for (const auto& [memory, a] : allocations) mprotect(a.mapping, a.mapped, how);
}

std::string address(const void* p) {
  char text[24];
  std::snprintf(text, sizeof text, "%p", p);
  return text;
}

void check_guards(char* memory, const Allocation& a) {
  char* const end = memory + a.bytes;
  const auto mended = [](char* from, char* to) {  // so that a fault is told once
    bool was_broken = false;
    for (; from != to; ++from)
      was_broken |= static_cast<unsigned char>(std::exchange(*from, static_cast<char>(guard))) != guard;
    return was_broken;
  };
  const std::string place = std::to_string(a.bytes) + " bytes at " + address(memory);
  if (mended(a.mapping, memory)) fault(cudaErrorIllegalAddress, "something wrote before the " + place);
  if (mended(end, a.mapping + a.mapped)) fault(cudaErrorIllegalAddress, "something wrote past the " + place);
}

const std::pair<char* const, Allocation>* find(const void* p) {
  const auto after = allocations.upper_bound(static_cast<char*>(const_cast<void*>(p)));
  if (after == allocations.begin()) return nullptr;
  const auto& candidate = *std::prev(after);
  return p < candidate.first + candidate.second.bytes ? &candidate : nullptr;
}

}  // namespace

cudaError_t fault(cudaError_t status, const std::string& story) {
  if (last_error != cudaSuccess) return status;  // the first is the cause
  last_error = status;
  last_story = "stand-in: " + story;
  return status;
}

bool is_device_memory(const void* memory, std::size_t bytes, const std::string& what) {
  const auto* found = find(memory);
  if (found == nullptr) {
    fault(cudaErrorIllegalAddress, what + " (" + address(memory) + ") is not in device memory");
    return false;
  }
  const std::size_t left =
      static_cast<std::size_t>(found->first + found->second.bytes - static_cast<const char*>(memory));
  if (bytes <= left) return true;
  fault(cudaErrorIllegalAddress, what + " takes " + std::to_string(bytes) + " bytes where " + std::to_string(left) +
                                     " are left of an allocation of " + std::to_string(found->second.bytes));
  return false;
}

DeviceSection::DeviceSection() {
  device.lock();
  if (open_sections++ == 0) protect(PROT_READ | PROT_WRITE);
}
DeviceSection::~DeviceSection() {
  if (open_sections == 1) {
    for (const auto& [memory, a] : allocations) check_guards(memory, a);
    protect(PROT_NONE);
  }
  --open_sections;
  device.unlock();
}

}  // namespace cuda_stand_in

using namespace cuda_stand_in;

// ---- for tests

/// The order in which the threads of a block and the blocks of a grid run.
STAND_IN_API void cuda_stand_in_descending(bool yes) { descending = yes; }
STAND_IN_API std::size_t cuda_stand_in_allocations() { return allocations.size(); }
/// "no driver", "old driver", "no device" or "old device"; "" is a machine with a GPU.
STAND_IN_API void cuda_stand_in_pretend(const char* machine) { pretended = machine; }

// ---- the runtime

extern "C" {

cudaError_t cudaDriverGetVersion(int* version) {
  *version = pretended == "no driver" ? 0 : pretended == "old driver" ? 11040 : CUDART_VERSION;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceCount(int* count) {
  *count = 0;
  if (pretended == "no driver" || pretended == "old driver") return cudaErrorInsufficientDriver;
  if (pretended == "no device") return cudaErrorNoDevice;
  *count = 1;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  *value = attribute == cudaDevAttrComputeCapabilityMajor ? 5 : 2;
  return cudaSuccess;
}
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes*, const void*) {
  return pretended == "old device" ? cudaErrorNoKernelImageForDevice : cudaSuccess;
}

const char* cudaGetErrorString(cudaError_t status) {
  static thread_local std::string text;
  if (!last_story.empty()) {
    text = std::move(last_story);
    last_story.clear();
  } else {
    text = "error " + std::to_string(status) + " of the stand-in";
  }
  return text.c_str();
}
const char* cudaGetErrorName(cudaError_t status) {
  switch (status) {
    case cudaErrorIllegalAddress:
      return "cudaErrorIllegalAddress";
    case cudaErrorLaunchFailure:
      return "cudaErrorLaunchFailure";
    case cudaErrorInvalidValue:
      return "cudaErrorInvalidValue";
    default:
      return "another error";
  }
}
cudaError_t cudaGetLastError() {
  const std::lock_guard lock(device);
  return std::exchange(last_error, cudaSuccess);
}

cudaError_t cudaMalloc(void** memory, std::size_t bytes) {
  const std::lock_guard lock(device);
  if (bytes > capacity - bytes_held) return cudaErrorMemoryAllocation;
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  const std::size_t mapped = (bytes + 2 * guard_bytes + page - 1) / page * page;
  void* mapping = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping == MAP_FAILED) return cudaErrorMemoryAllocation;
  std::memset(mapping, guard, mapped);
  char* start = static_cast<char*>(mapping) + guard_bytes;  // aligned to 256 bytes, as cudaMalloc's are
  std::memset(start, poison, bytes);
  allocations[start] = {bytes, static_cast<char*>(mapping), mapped};
  bytes_held += bytes;
  if (open_sections == 0) mprotect(mapping, mapped, PROT_NONE);
  *memory = start;
  return cudaSuccess;
}
cudaError_t cudaFree(void* memory) {
  if (memory == nullptr) return cudaSuccess;
  const DeviceSection section;  // checks the guard bytes a last time
  const auto found = allocations.find(static_cast<char*>(memory));
  if (found == allocations.end())
    return fault(cudaErrorInvalidValue, "cudaFree of " + address(memory) + ", which is no allocation");
  check_guards(found->first, found->second);
  munmap(found->second.mapping, found->second.mapped);
  bytes_held -= found->second.bytes;
  allocations.erase(found);
  return last_error;
}
cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
  *free = capacity - bytes_held;
  *total = capacity;
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind, cudaStream_t) {
  const DeviceSection section;
  const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  const auto fits = [bytes](bool on_device, const void* p, const char* what) {
    if (on_device) return is_device_memory(p, bytes, what);
    if (find(p) == nullptr) return true;
    fault(cudaErrorInvalidValue, std::string(what) + " is in device memory, not in the host's");
    return false;
  };
  if (!fits(to_device, to, "the destination of a copy") || !fits(from_device, from, "the source of a copy"))
    return last_error;
  std::memcpy(to, from, bytes);
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = nullptr;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }

// ---- cuBLAS, over the BLAS of the host

cublasStatus_t cublasCreate_v2(cublasHandle_t* handle) {
  *handle = nullptr;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetStream_v2(cublasHandle_t, cudaStream_t) { return CUBLAS_STATUS_SUCCESS; }
const char* cublasGetStatusString(cublasStatus_t) { return cudaGetErrorString(cudaGetLastError()); }

void sgemm_(const char*, const char*, const int*, const int*, const int*, const float*, const float*, const int*,
            const float*, const int*, const float*, float*, const int*);
void dgemm_(const char*, const char*, const int*, const int*, const int*, const double*, const double*, const int*,
            const double*, const int*, const double*, double*, const int*);
}

namespace {

template <class eT, class Gemm>
cublasStatus_t gemm(Gemm blas, cublasOperation_t ta, cublasOperation_t tb, int m, int n, int k, const eT* alpha,
                    const eT* a, int lda, const eT* b, int ldb, const eT* beta, eT* c, int ldc) {
  const DeviceSection section;
  const auto matrix = [](const char* name, const eT* x, int rows, int cols, int ld) {
    if (rows == 0 || cols == 0) return true;
    if (rows < 0 || cols < 0 || ld < rows) {
      fault(cudaErrorInvalidValue, std::string("gemm: ") + name + " is " + std::to_string(rows) + "x" +
                                       std::to_string(cols) + " with leading dimension " + std::to_string(ld));
      return false;
    }
    const std::size_t elements =
        static_cast<std::size_t>(ld) * static_cast<std::size_t>(cols - 1) + static_cast<std::size_t>(rows);
    return is_device_memory(x, elements * sizeof(eT), std::string("gemm: ") + name);
  };
  if (!matrix("A", a, ta == CUBLAS_OP_N ? m : k, ta == CUBLAS_OP_N ? k : m, lda) ||
      !matrix("B", b, tb == CUBLAS_OP_N ? k : n, tb == CUBLAS_OP_N ? n : k, ldb) || !matrix("C", c, m, n, ldc))
    return CUBLAS_STATUS_INVALID_VALUE;
  blas(ta == CUBLAS_OP_N ? "N" : "T", tb == CUBLAS_OP_N ? "N" : "T", &m, &n, &k, alpha, a, &lda, b, &ldb, beta, c,
       &ldc);
  return CUBLAS_STATUS_SUCCESS;
}

}  // namespace

extern "C" cublasStatus_t cublasSgemm_v2(cublasHandle_t, cublasOperation_t ta, cublasOperation_t tb, int m, int n,
                                         int k, const float* alpha, const float* a, int lda, const float* b, int ldb,
                                         const float* beta, float* c, int ldc) {
  return gemm(sgemm_, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
extern "C" cublasStatus_t cublasDgemm_v2(cublasHandle_t, cublasOperation_t ta, cublasOperation_t tb, int m, int n,
                                         int k, const double* alpha, const double* a, int lda, const double* b, int ldb,
                                         const double* beta, double* c, int ldc) {
  return gemm(dgemm_, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
