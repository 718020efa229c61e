// The CUDA backend: memory, transfers and commands on one stream of the first visible GPU (CUDA_VISIBLE_DEVICES picks
// another). Safe to use from several threads; their commands are run one after the other.
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstring>
#include <mutex>

#include <armagrad/autodiff/device/cuda/plugin.hpp>

#include "kernels.cuh"

namespace armagrad::cuda {

Context::~Context() { cudaFree(workspace_); }

void* Context::grown_workspace(std::size_t bytes) {
  if (bytes > workspace_bytes_) {
    check(cudaFree(workspace_), "workspace");  // waits until nobody uses it
    workspace_ = nullptr;
    workspace_bytes_ = 0;
    const std::size_t size = std::max<std::size_t>(2 * bytes, 4096);
    check(cudaMalloc(&workspace_, size), "workspace");
    workspace_bytes_ = size;
  }
  return workspace_;
}

namespace {

std::string megabytes(std::size_t bytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f MB", static_cast<double>(bytes) / 1e6);
  return text;
}

class CudaBackend final : public Backend {
 public:
  CudaBackend() {
    check(cudaStreamCreateWithFlags(&context_.stream, cudaStreamNonBlocking), "stream");
    check(cublasCreate(&context_.blas), "cuBLAS");
    check(cublasSetStream(context_.blas, context_.stream), "cuBLAS");
  }

  const char* name() const override { return "cuda"; }

  void* allocate(std::size_t bytes) override {
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
  void release(void* memory) noexcept override { cudaFree(memory); }

  // The runtime copies what it is to upload from the heap aside before it returns.
  void upload(void* device, const void* host, std::size_t bytes) override {
    if (bytes == 0) return;
    check(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, context_.stream), "upload");
    uploaded_ += bytes;
  }
  void download(void* host, const void* device, std::size_t bytes) override {
    if (bytes == 0) return;
    check(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, context_.stream), "download");
    check(cudaStreamSynchronize(context_.stream), "download");
    downloaded_ += bytes;
  }

  void run(const Command<float>& c) override { run_any(c); }
  void run(const Command<double>& c) override { run_any(c); }
  void require(const Kernel<float>& k, const char* operation) override { require_any(k, operation); }
  void require(const Kernel<double>& k, const char* operation) override { require_any(k, operation); }
  void synchronize() override { check(cudaStreamSynchronize(context_.stream), "synchronize"); }

  std::uint64_t bytes_uploaded() const override { return uploaded_; }
  std::uint64_t bytes_downloaded() const override { return downloaded_; }

 private:
  /// Looked up at the first meeting, then kept in the kernel; several threads may find the same at once.
  template <class eT>
  static Function<eT> function_of(const Kernel<eT>& kernel) {
    const std::atomic_ref<Function<eT>> kept(kernel.plugin);
    Function<eT> function = kept.load(std::memory_order_relaxed);
    if (function == nullptr) {
      function = find_function<eT>(kernel.name);
      kept.store(function, std::memory_order_relaxed);
    }
    return function;
  }
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

  Context context_;
  std::mutex mutex_;
  std::atomic<std::uint64_t> uploaded_{0}, downloaded_{0};
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
