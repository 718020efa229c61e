// The narrow interface between the engine and a device. No Armadillo and no CUDA types: the CPU, the CUDA plug-in
// and its host stand-in include this same file.
//
// Everything an operation computes is a `Command`: a kernel, the views it reads and writes, and scalars. Eager
// execution runs each command as it is made; a capture also appends it to a list; a replay is a loop over that list.
// So a command must hold all it needs, and may hold only pointers that outlive the recording.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace armagrad {

/// A column-major matrix somewhere in a device's memory; element (r, c) is data[r + c * ld].
template <class T>
struct View {
  T* data = nullptr;
  std::uint32_t rows, cols, ld;  // of no meaning where there is no data: a Command has seven views to clear

  std::size_t size() const { return std::size_t{rows} * cols; }
  bool contiguous() const { return ld == rows || cols <= 1; }
  operator View<const T>() const { return {data, rows, cols, ld}; }
};

template <class eT>
struct Command;

/// The instruction sets that CPU kernels are compiled for (device/versions.hpp), in rising order.
enum class InstructionSet { plain, avx2, avx512 };

/// One computation a device can do, known by name. `host` is the CPU's code for each instruction set; the CUDA plug-in
/// finds its own by the same name when it meets the kernel first and keeps it in `plugin`.
template <class eT>
struct Kernel {
  using Code = void (*)(const Command<eT>&);
  struct Host {
    Code code[3];
    constexpr Host(Code plain, Code avx2, Code avx512) : code{plain, avx2, avx512} {}
    constexpr Host(Code any) : Host(any, any, any) {}
  };

  const char* name;
  Host host;
  bool elementwise = false;  // each element of `out` and `more_out` is made of the same one of the inputs, or of a 1x1
  mutable void (*plugin)(void* context, const Command<eT>&) = nullptr;
};

enum CommandFlag : std::uint32_t {
  transpose_a = 1,    // read in[0] transposed
  transpose_b = 2,    // read in[1] transposed
  then_relu = 4,      // gemm's epilogue: max(0, .) after the bias in[2]
  take_smallest = 8,  // maximum: the minimum instead
  // An optimizer's step within the product or sum that is a parameter's gradient; the numbers are `object`, SgdScalars:
  step_parameter = 16,     // gemm, sum: out is the parameter, alpha counts times -lr
  step_velocity = 32,      // gemm, sum: out is the velocity, beta 1 means the momentum
  velocity_stepped = 64,   // sgd: the velocity has the gradient already
  repeated_indices = 128,  // scatter: an index may occur several times
};

/// out = alpha * kernel(in...) + beta * out, where the kernel honours alpha and beta (gemm, copy, reductions, maps);
/// with beta = 0 the old content of `out` is never read, so it may be uninitialised or NaN.
template <class eT>
struct Command {
  const Kernel<eT>* kernel = nullptr;
  View<eT> out;
  View<eT> more_out[2];  // further results
  View<const eT> in[4];
  eT alpha = 1;
  eT beta = 0;
  std::uint32_t flags = 0;
  const void* attributes = nullptr;        // the operation's attributes, in host memory, alive as long as the recording
  const std::uint32_t* indices = nullptr;  // in device memory
  std::uint32_t index_count = 0;
  const void* object = nullptr;  // a host object the kernel knows (a sparse matrix, an optimizer's scalars)
};

/// Commands made ready to be run all at once, again and again.
class Recording {
 public:
  virtual ~Recording() = default;
  virtual void run(std::uint64_t times) = 0;
};

/// What the engine asks of a device beside running commands.
class Backend {
 public:
  virtual ~Backend() = default;
  virtual const char* name() const = 0;
  /// The name and what the device is, for reports.
  virtual const char* description() const { return name(); }
  /// See Device::allow_tf32; false where the device has no such thing.
  virtual bool allow_tf32(bool) { return false; }
  /// Uninitialised memory, 64-byte aligned. Throws DeviceError, naming bytes asked for and free.
  virtual void* allocate(std::size_t bytes) = 0;
  virtual void release(void* memory) noexcept = 0;
  virtual void upload(void* device, const void* host, std::size_t bytes) = 0;
  virtual void download(void* host, const void* device, std::size_t bytes) = 0;
  virtual void run(const Command<float>& command) = 0;
  virtual void run(const Command<double>& command) = 0;
  /// Throws DeviceError naming the operation where the device has no code for the kernel.
  virtual void require(const Kernel<float>& kernel, const char* operation) = 0;
  virtual void require(const Kernel<double>& kernel, const char* operation) = 0;
  virtual void synchronize() = 0;
  /// A list of so many commands made ready; each has run before, and the list stays where it is. Numbers that commands
  /// read through a pointer (`object`, DropoutAttributes::replays) are read afresh at every run; the third argument's
  /// counts the runs, those about to be given included. Null where giving commands one by one is as good.
  virtual std::unique_ptr<Recording> record(const Command<float>*, std::size_t, const std::uint64_t*) { return {}; }
  virtual std::unique_ptr<Recording> record(const Command<double>*, std::size_t, const std::uint64_t*) { return {}; }
  /// Which of Kernel::host this device runs, where running a command is no more than calling that; else -1.
  virtual int host_code() const { return -1; }
  /// Bytes that crossed between host and device since the start; 0 on the CPU, where nothing crosses.
  virtual std::uint64_t bytes_uploaded() const { return 0; }
  virtual std::uint64_t bytes_downloaded() const { return 0; }
};

/// Where a tape computes and a parameter lives. A cheap handle; devices live as long as the program.
class Device {
 public:
  static Device cpu();
  /// The CUDA device. Throws DeviceError, saying what is missing and how to get it, where there is none.
  static Device cuda();

  const char* name() const { return backend_->name(); }
  /// The name and what the device is: "cuda: NVIDIA H100 PCIe, products in float32".
  const char* description() const { return backend_->description(); }
  /// Lets products of floats round their factors to TF32 (10 bits of mantissa, not 23) where the GPU is faster so. Off
  /// unless asked for; captured steps keep what held when they were captured. DeviceError on the CPU.
  void allow_tf32(bool allowed) const;
  Backend& backend() const { return *backend_; }
  friend bool operator==(Device a, Device b) { return a.backend_ == b.backend_; }

  explicit Device(Backend& backend) : backend_(&backend) {}

 private:
  Backend* backend_;
};

}  // namespace armagrad
