// The functions of the CUDA runtime that the plug-in calls, on the host.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <utility>
#include <vector>

#include <dlfcn.h>
#include <stand_in.hpp>
#include <sys/mman.h>
#include <unistd.h>

#define STAND_IN_API extern "C" __attribute__((visibility("default")))

using Work = std::vector<std::function<void()>>;

// What the runtime's handles point to.
struct CUgraph_st {
  Work work;
};
struct CUstream_st {
  Work pending;
  std::unique_ptr<CUgraph_st> graph;  // while it captures
  bool capture_is_spoiled = false;
};
struct CUgraphExec_st {
  Work work;
};

namespace cuda_stand_in {
namespace {

constexpr unsigned char guard = 0xA5, poison = 0xFF;  // bytes of 0xFF are NaN
constexpr std::size_t guard_bytes = 256;              // at each end, at least
// The rest of what is larger starts as zeros: pages that nobody has touched cost nothing when they are opened and
// closed.
constexpr std::size_t largest_poisoned = std::size_t{16} << 20;

struct Allocation {
  std::size_t bytes;
  char* mapping;  // pages: guard bytes, the memory itself, guard bytes
  std::size_t mapped;
};
std::map<char*, Allocation> allocations;
std::size_t capacity = std::size_t{4} << 30;
std::size_t bytes_held = 0;
std::recursive_mutex device;  // one thing at a time
int open_sections = 0;
cudaError_t last_error = cudaSuccess;
std::string last_story;
std::string pretended;  // the machine that the stand-in says it is on
long allocations_until_failure = -1;
CUstream_st null_stream;
std::set<CUstream_st*> streams{&null_stream};
std::map<std::string, std::size_t> counts;

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

CUstream_st& stream_of(cudaStream_t stream) { return stream == nullptr ? null_stream : *stream; }

// Does what was given to a stream, up to the first fault.
cudaError_t finish(CUstream_st& stream) {
  if (stream.pending.empty()) return last_error;
  const DeviceSection section;
  const Work work = std::exchange(stream.pending, {});
  for (const auto& piece : work) {
    if (last_error != cudaSuccess) break;
    piece();
    for (const auto& [memory, a] : allocations) check_guards(memory, a);
  }
  return last_error;
}
cudaError_t finish_all() {
  for (CUstream_st* s : streams) finish(*s);
  return last_error;
}

// What waits or allocates must not be called while a stream captures, and spoils the capture.
bool is_forbidden_now(const char* call) {
  bool forbidden = false;
  for (CUstream_st* s : streams)
    if (s->graph != nullptr) s->capture_is_spoiled = forbidden = true;
  if (forbidden) fault(cudaErrorStreamCaptureUnsupported, std::string(call) + " while a stream captures");
  return forbidden;
}

}  // namespace

cudaError_t fault(cudaError_t status, const std::string& story) {
  if (last_error != cudaSuccess) return status;  // the first is the cause
  last_error = status;
  last_story = "stand-in: " + story;
  return status;
}

bool is_device_memory(const void* memory, std::size_t bytes, const std::string& what) {
  const std::lock_guard lock(device);
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

void enqueue(cudaStream_t stream, const char* kind, std::function<void()> work) {
  const std::lock_guard lock(device);
  CUstream_st& s = stream_of(stream);
  if (s.graph != nullptr) {
    s.graph->work.push_back(std::move(work));
    return;
  }
  ++counts[kind];
  s.pending.push_back(std::move(work));
}
bool is_capturing(cudaStream_t stream) { return stream_of(stream).graph != nullptr; }

void* open_library(const char* file, std::string& why) {
  Dl_info here{};
  if (pretended == "no cuSOLVER") why = std::string(file) + ": cannot open shared object file";
  if (!why.empty() || dladdr(reinterpret_cast<const void*>(&is_capturing), &here) == 0) return nullptr;
  return dlopen(here.dli_fname, RTLD_NOW | RTLD_NOLOAD);
}

DeviceSection::DeviceSection() {
  device.lock();
  if (open_sections++ == 0) protect(PROT_READ | PROT_WRITE);
}
DeviceSection::~DeviceSection() {
  if (open_sections == 1) protect(PROT_NONE);
  --open_sections;
  device.unlock();
}

}  // namespace cuda_stand_in

using namespace cuda_stand_in;

// ---- for tests

/// The order in which the threads of a block and the blocks of a grid run.
STAND_IN_API void cuda_stand_in_descending(bool yes) { descending = yes; }
/// How often so far: "kernels" and "products" given to streams by themselves, "graphs" launched, "allocations",
/// "waits"; and how many are there now: "memory", "executable graphs".
STAND_IN_API std::size_t cuda_stand_in_count(const char* what) {
  const std::lock_guard lock(device);
  return std::strcmp(what, "memory") == 0 ? allocations.size() : counts[what];
}
/// "no driver", "old driver", "no device", "old device" or "no cuSOLVER"; "" is a machine with a GPU.
STAND_IN_API void cuda_stand_in_pretend(const char* machine) { pretended = machine; }
/// Allocations fail that would take more memory than this in all.
STAND_IN_API void cuda_stand_in_capacity(std::size_t bytes) { capacity = bytes; }
/// One allocation fails, after so many more; -1 for none.
STAND_IN_API void cuda_stand_in_fail_allocation(long after) { allocations_until_failure = after; }

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
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  *properties = {};
  std::snprintf(properties->name, sizeof properties->name, "the host's stand-in");
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
    case cudaErrorInvalidConfiguration:
      return "cudaErrorInvalidConfiguration";
    case cudaErrorStreamCaptureUnsupported:
      return "cudaErrorStreamCaptureUnsupported";
    case cudaErrorStreamCaptureInvalidated:
      return "cudaErrorStreamCaptureInvalidated";
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
  ++counts["allocations"];
  if (is_forbidden_now("cudaMalloc")) return last_error;
  if (allocations_until_failure >= 0 && allocations_until_failure-- == 0) return cudaErrorMemoryAllocation;
  if (bytes > capacity || bytes_held > capacity - bytes) return cudaErrorMemoryAllocation;
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  const std::size_t mapped = (bytes + 2 * guard_bytes + page - 1) / page * page;
  void* mapping = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping == MAP_FAILED) return cudaErrorMemoryAllocation;
  char* start = static_cast<char*>(mapping) + guard_bytes;  // aligned to 256 bytes, as cudaMalloc's are
  std::memset(mapping, guard, guard_bytes);
  std::memset(start, poison, std::min(bytes, largest_poisoned));
  std::memset(start + bytes, guard, mapped - guard_bytes - bytes);
  allocations[start] = {bytes, static_cast<char*>(mapping), mapped};
  bytes_held += bytes;
  if (open_sections == 0) mprotect(mapping, mapped, PROT_NONE);
  *memory = start;
  return cudaSuccess;
}
cudaError_t cudaFree(void* memory) {
  if (memory == nullptr) return cudaSuccess;
  const DeviceSection section;
  if (is_forbidden_now("cudaFree")) return last_error;
  finish_all();  // as CUDA does; and checks the guard bytes a last time
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
  const std::lock_guard lock(device);
  *free = capacity - std::min(bytes_held, capacity);
  *total = capacity;
  return cudaSuccess;
}
// From the host's heap the bytes are taken at once; to the host they come when somebody has waited.
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  const std::lock_guard lock(device);
  const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  const auto fits = [to, from, to_device, from_device, bytes] {
    const auto is_right = [bytes](bool on_device, const void* p, const char* what) {
      if (on_device) return is_device_memory(p, bytes, what);
      if (find(p) == nullptr) return true;
      fault(cudaErrorInvalidValue, std::string(what) + " is in device memory, not in the host's");
      return false;
    };
    return is_right(to_device, to, "the destination of a copy") && is_right(from_device, from, "the source of a copy");
  };
  if (!fits()) return last_error;
  if (from_device || is_capturing(stream)) {
    enqueue(stream, "copies", [=] {
      if (fits()) std::memcpy(to, from, bytes);
    });
  } else {
    const auto* bytes_now = static_cast<const char*>(from);
    enqueue(stream, "copies", [=, taken = std::vector<char>(bytes_now, bytes_now + bytes)] {
      if (fits()) std::memcpy(to, taken.data(), bytes);
    });
  }
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  const std::lock_guard lock(device);
  *stream = new CUstream_st;
  streams.insert(*stream);
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  const std::lock_guard lock(device);
  ++counts["waits"];
  if (is_forbidden_now("cudaStreamSynchronize")) return last_error;
  return finish(stream_of(stream));
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  const std::lock_guard lock(device);
  CUstream_st& s = stream_of(stream);
  if (s.graph != nullptr) return fault(cudaErrorStreamCaptureUnsupported, "a capture within a capture");
  s.graph = std::make_unique<CUgraph_st>();
  s.capture_is_spoiled = false;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  const std::lock_guard lock(device);
  CUstream_st& s = stream_of(stream);
  *graph = nullptr;
  std::unique_ptr<CUgraph_st> captured = std::move(s.graph);
  if (captured == nullptr) return fault(cudaErrorInvalidValue, "the end of a capture that never began");
  if (s.capture_is_spoiled) return cudaErrorStreamCaptureInvalidated;
  *graph = captured.release();
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
  const std::lock_guard lock(device);
  *exec = new CUgraphExec_st{graph->work};
  ++counts["executable graphs"];
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  const std::lock_guard lock(device);
  --counts["executable graphs"];
  delete exec;
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
  const std::lock_guard lock(device);
  CUstream_st& s = stream_of(stream);
  ++counts["graphs"];
  s.pending.insert(s.pending.end(), exec->work.begin(), exec->work.end());
  return cudaSuccess;
}
}
