// The CUDA backend: memory, transfers and commands on one stream of the first visible GPU (CUDA_VISIBLE_DEVICES picks
// another). Safe to use from several threads; their commands are run one after the other.
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <mutex>

#include <armagrad/autodiff/device/cuda/plugin.hpp>

#include "kernels.cuh"

namespace armagrad::cuda {

namespace {

std::string megabytes(std::size_t bytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f MB", static_cast<double>(bytes) / 1e6);
  return text;
}

void* allocated(std::size_t bytes) {
  void* memory = nullptr;
  const cudaError_t status = cudaMalloc(&memory, std::max<std::size_t>(bytes, 1));
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // forgets it: the device is still usable
    std::size_t free = 0, total = 0;
    cudaMemGetInfo(&free, &total);
    throw DeviceError("cuda: out of memory: " + megabytes(bytes) + " asked for, " + megabytes(free) + " of " +
                      megabytes(total) + " free; use a smaller batch or rewind the tape");
  }
  check(status, "allocation");
  return memory;
}

/// Looked up at the first meeting, then kept in the kernel; several threads may find the same at once.
template <class eT>
Function<eT> function_of(const Kernel<eT>& kernel) {
  const std::atomic_ref<Function<eT>> kept(kernel.plugin);
  Function<eT> function = kept.load(std::memory_order_relaxed);
  if (function == nullptr) {
    function = find_entry<eT>(kernel.name).function;
    kept.store(function, std::memory_order_relaxed);
  }
  return function;
}

/// A list of commands as one CUDA graph, and, of a short list, as another that runs it several times.
template <class eT>
class Graph final : public Recording {
 public:
  Graph(Context& context, std::mutex& mutex, const Command<eT>* commands, std::size_t count, const std::uint64_t* runs)
      : context_(context), mutex_(mutex), commands_(commands), count_(count), numbers_(count, runs) {
    const std::lock_guard lock(mutex_);
    once_ = captured(1);
  }
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;
  ~Graph() override {
    const std::lock_guard lock(mutex_);
    cudaStreamSynchronize(context_.stream);  // it may still be running
    cudaGraphExecDestroy(once_);
    if (often_ != nullptr) cudaGraphExecDestroy(often_);
  }

  void run(std::uint64_t times) override {
    const std::lock_guard lock(mutex_);
    if (often_ == nullptr && times >= repeats && count_ * repeats <= most_commands) often_ = captured(repeats);
    numbers_.refresh(context_.stream, times);
    for (; often_ != nullptr && times >= repeats; times -= repeats) launch(often_);
    for (; times > 0; --times) launch(once_);
  }

 private:
  static constexpr unsigned repeats = 16;
  static constexpr std::size_t most_commands = 2048;

  cudaGraphExec_t captured(unsigned times) {
    check(cudaStreamBeginCapture(context_.stream, cudaStreamCaptureModeThreadLocal), "capture");
    context_.live_numbers = &numbers_;
    cudaGraph_t graph = nullptr;
    try {
      for (unsigned t = 0; t < times; ++t) {
        for (std::size_t k = 0; k < count_; ++k) function_of (*commands_[k].kernel)(&context_, commands_[k]);
        numbers_.advance(context_.stream);
      }
    } catch (...) {
      context_.live_numbers = nullptr;
      cudaStreamEndCapture(context_.stream, &graph);
      if (graph != nullptr) cudaGraphDestroy(graph);
      cudaGetLastError();
      throw;
    }
    context_.live_numbers = nullptr;
    check(cudaStreamEndCapture(context_.stream, &graph), "capture");
    cudaGraphExec_t exec = nullptr;
    const cudaError_t status = cudaGraphInstantiate(&exec, graph, 0);
    cudaGraphDestroy(graph);
    check(status, "capture");
    workspace_ = context_.workspace_owner();
    return exec;
  }
  void launch(cudaGraphExec_t exec) { check(cudaGraphLaunch(exec, context_.stream), "replay"); }

  Context& context_;
  std::mutex& mutex_;
  const Command<eT>* commands_;
  std::size_t count_;
  LiveNumbers numbers_;
  cudaGraphExec_t once_ = nullptr, often_ = nullptr;
  std::shared_ptr<void> workspace_;
};

class CudaBackend final : public Backend {
 public:
  CudaBackend() {
    check(cudaStreamCreateWithFlags(&context_.stream, cudaStreamNonBlocking), "stream");
    check(cublasCreate(&context_.blas), "cuBLAS");
    check(cublasSetStream(context_.blas, context_.stream), "cuBLAS");
    // Memory of its own, set after the stream: cuBLAS then allocates nothing, also while a graph is captured. 32 MB is
    // what its documentation asks for on Hopper.
    constexpr std::size_t bytes = std::size_t{32} << 20;
    const std::shared_ptr<void> workspace = device_memory(bytes);
    check(cublasSetWorkspace(context_.blas, workspace.get(), bytes), "cuBLAS");
    context_.fused_products = std::make_unique<FusedProducts>(workspace, bytes);
    cudaDeviceProp properties;
    check(cudaGetDeviceProperties(&properties, 0), "properties of the GPU");
    gpu_ = properties.name;
    allow_tf32(false);
  }

  const char* name() const override { return "cuda"; }
  const char* description() const override { return description_.c_str(); }
  bool allow_tf32(bool allowed) override {
    const std::lock_guard lock(mutex_);
    check(cublasSetMathMode(context_.blas, allowed ? CUBLAS_TF32_TENSOR_OP_MATH : CUBLAS_DEFAULT_MATH), "cuBLAS");
    context_.tf32 = allowed;
    description_ = "cuda: " + gpu_ + ", products in " + (allowed ? "TF32" : "float32");
    return true;
  }

  void* allocate(std::size_t bytes) override { return allocated(bytes); }
  void release(void* memory) noexcept override { cudaFree(memory); }

  // The runtime copies what it is to upload from the heap aside before it returns.
  void upload(void* device, const void* host, std::size_t bytes) override {
    if (bytes == 0) return;
    const std::lock_guard lock(mutex_);
    check(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, context_.stream), "upload");
    context_.uploaded += bytes;
  }
  void download(void* host, const void* device, std::size_t bytes) override {
    if (bytes == 0) return;
    const std::lock_guard lock(mutex_);
    context_.read_bytes(host, device, bytes);
  }

  void run(const Command<float>& c) override { run_any(c); }
  void run(const Command<double>& c) override { run_any(c); }
  void require(const Kernel<float>& k, const char* operation) override { require_any(k, operation); }
  void require(const Kernel<double>& k, const char* operation) override { require_any(k, operation); }
  std::unique_ptr<Recording> record(const Command<float>* c, std::size_t count, const std::uint64_t* runs) override {
    return record_any(c, count, runs);
  }
  std::unique_ptr<Recording> record(const Command<double>* c, std::size_t count, const std::uint64_t* runs) override {
    return record_any(c, count, runs);
  }
  void synchronize() override {
    const std::lock_guard lock(mutex_);
    check(cudaStreamSynchronize(context_.stream), "synchronize");
  }

  std::uint64_t bytes_uploaded() const override {
    const std::lock_guard lock(mutex_);
    return context_.uploaded;
  }
  std::uint64_t bytes_downloaded() const override {
    const std::lock_guard lock(mutex_);
    return context_.downloaded;
  }

 private:
  template <class eT>
  static void require_any(const Kernel<eT>& kernel, const char* operation) {
    if (function_of(kernel) == nullptr)
      throw DeviceError(std::string("operation ") + operation +
                        " has no implementation on the CUDA device; use it on a tape of Device::cpu()");
  }
  template <class eT>
  void run_any(const Command<eT>& c) {
    const Function<eT> function = function_of(*c.kernel);
    if (function == nullptr) require_any(*c.kernel, c.kernel->name);
    const std::lock_guard lock(mutex_);
    function(&context_, c);
    check(cudaGetLastError(), c.kernel->name);
  }
  template <class eT>
  std::unique_ptr<Recording> record_any(const Command<eT>* commands, std::size_t count, const std::uint64_t* runs) {
    if (count == 0) return nullptr;
    for (std::size_t k = 0; k < count; ++k)
      if (find_entry<eT>(commands[k].kernel->name).reads_back) return nullptr;
    return std::make_unique<Graph<eT>>(context_, mutex_, commands, count, runs);
  }

  Context context_;
  mutable std::mutex mutex_;  // one command at a time, and none of another thread while one captures
  std::string gpu_, description_;
};

/// Throws DeviceError, saying what to do about it, unless this build can run on the first device.
void require_device() {
  constexpr int major = CUDART_VERSION / 1000, minor = CUDART_VERSION % 1000 / 10;
  const std::string version = std::to_string(major) + "." + std::to_string(minor);
  int driver = 0, devices = 0;
  cudaDriverGetVersion(&driver);  // 0 where there is none
  const cudaError_t status = cudaGetDeviceCount(&devices);
  if (status == cudaErrorInsufficientDriver && driver == 0)
    throw DeviceError(
        "cuda: there is no NVIDIA driver here (cudaErrorInsufficientDriver); install the driver of your "
        "GPU, made for CUDA " +
        version + " or newer, or use Device::cpu()");
  if (status == cudaErrorInsufficientDriver)
    throw DeviceError("cuda: the NVIDIA driver is too old (cudaErrorInsufficientDriver): it knows CUDA " +
                      std::to_string(driver / 1000) + "." + std::to_string(driver % 1000 / 10) +
                      ", this build of armagrad needs CUDA " + version +
                      "; install a newer driver or build with an "
                      "older CUDA");
  if (status == cudaErrorNoDevice || (status == cudaSuccess && devices == 0))
    throw DeviceError(
        "cuda: there is a driver, but no NVIDIA GPU that it can use (cudaErrorNoDevice); see what "
        "nvidia-smi lists and what CUDA_VISIBLE_DEVICES allows, or use Device::cpu()");
  check(status, "looking for GPUs");
  const cudaError_t code = probe_architecture();
  if (code == cudaErrorNoKernelImageForDevice || code == cudaErrorInvalidDeviceFunction) {
    int capability[2] = {};
    cudaDeviceGetAttribute(&capability[0], cudaDevAttrComputeCapabilityMajor, 0);
    cudaDeviceGetAttribute(&capability[1], cudaDevAttrComputeCapabilityMinor, 0);
    const std::string have = std::to_string(capability[0]) + "." + std::to_string(capability[1]);
    throw DeviceError("cuda: this build of armagrad has no code for a GPU of compute capability " + have +
                      "; build it with CMAKE_CUDA_ARCHITECTURES=" + std::to_string(capability[0]) +
                      std::to_string(capability[1]) + ", by a CUDA that still knows this GPU");
  }
  check(code, "looking for code for this GPU");
}

}  // namespace

std::shared_ptr<void> device_memory(std::size_t bytes) {
  return std::shared_ptr<void>(allocated(bytes), [](void* memory) { cudaFree(memory); });
}

void Context::read_bytes(void* host, const void* device, std::size_t bytes) {
  check(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, stream), "download");
  check(cudaStreamSynchronize(stream), "download");
  downloaded += bytes;
}

void* Context::grown_workspace(std::size_t bytes) {
  if (bytes > workspace_bytes_) {
    if (live_numbers != nullptr)
      throw DeviceError("cuda: a captured command needs more memory than when it ran before");
    const std::size_t size = std::max<std::size_t>(2 * bytes, std::size_t{1} << 16);
    workspace_ = device_memory(size);  // freeing the one before waits until nobody uses it
    workspace_bytes_ = size;
  }
  return workspace_.get();
}

}  // namespace armagrad::cuda

extern "C" __attribute__((visibility("default"))) armagrad::Backend* armagrad_cuda_open(int version, char* error,
                                                                                        std::size_t error_size) {
  using namespace armagrad::cuda;
  try {
    if (version != plugin_version)
      throw armagrad::DeviceError("cuda: the plug-in was built for interface " + std::to_string(plugin_version) +
                                  ", the program asks for " + std::to_string(version) +
                                  "; build both from the same sources");
    require_device();
    return new CudaBackend;
  } catch (const std::exception& e) {
    std::snprintf(error, error_size, "%s", e.what());
    return nullptr;
  }
}
