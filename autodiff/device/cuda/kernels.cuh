// The table of kernels, and what they need beside a command.
#pragma once

#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include <cublasLt.h>
#include <cublas_v2.h>
#include <cuda_runtime.h>

#include <armagrad/autodiff/device/device.hpp>
#include <armagrad/autodiff/device/kernels.hpp>
#include <armagrad/autodiff/error.hpp>

#include "launch.cuh"

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

/// Device memory that ends with its last owner. Throws DeviceError, saying what was asked for and what is free.
std::shared_ptr<void> device_memory(std::size_t bytes);

/// Numbers in host memory that a captured graph reads afresh at every launch, by way of a copy in device memory.
class LiveNumbers {
 public:
  /// Room for as many as `commands` commands can ask for, one each. The number at `runs` counts their runs.
  LiveNumbers(std::size_t commands, const std::uint64_t* runs);
  /// Where in device memory the number at `host` is; it must stay at `host` as long as the graph is used.
  template <class T>
  const T* copy_of(const T* host) {
    static_assert(sizeof(T) <= sizeof(Words));
    return reinterpret_cast<const T*>(place(host, [host](Words& to) { std::memcpy(&to, host, sizeof(T)); }));
  }
  /// The same for numbers that `read` makes of some in host memory.
  template <class T, class Read>
  const T* made_by(Read read) {
    static_assert(sizeof(T) <= sizeof(Words));
    return reinterpret_cast<const T*>(place(nullptr, [read](Words& to) {
      const T now = read();
      std::memcpy(&to, &now, sizeof now);
    }));
  }
  /// Gives what brings the copies up to date, before `times` runs are given.
  void refresh(cudaStream_t stream, std::uint64_t times);
  /// Gives what advances the count, at the end of a run.
  void advance(cudaStream_t stream);

 private:
  struct Entry {
    const void* host;  // or null: not to be shared
    std::function<void(Words&)> read;
    bool is_there;
    Words there;  // what is in device memory when all that was given has been done
  };
  std::uint64_t* place(const void* host, std::function<void(Words&)> read);
  std::uint64_t* memory_of(std::size_t entry) const;

  std::shared_ptr<void> memory_;
  std::size_t room_;
  const std::uint64_t* runs_;
  std::vector<Entry> entries_;
};

/// Products of floats with a bias, and max(0, .) if asked for, in one kernel of cublasLt. How is looked up once for
/// each shape and alignment, and follows from these alone, never from a timing.
class FusedProducts {
 public:
  FusedProducts(std::shared_ptr<void> workspace, std::size_t bytes);
  FusedProducts(const FusedProducts&) = delete;
  FusedProducts& operator=(const FusedProducts&) = delete;
  ~FusedProducts();
  /// Gives the whole command; false where cublasLt has no kernel for it.
  bool run(cudaStream_t stream, const Command<float>& c, bool tf32);

 private:
  struct Plan;
  using Matrix = std::tuple<std::uint32_t, std::uint32_t, std::uint32_t, std::uint32_t>;  // rows, cols, ld, alignment
  using Key = std::tuple<Matrix, Matrix, Matrix, std::uint32_t, std::uint32_t, bool>;
  const Plan& plan(const Command<float>& c, bool tf32);

  cublasLtHandle_t handle_ = nullptr;
  std::shared_ptr<void> workspace_;
  std::size_t workspace_bytes_;
  std::map<Key, std::unique_ptr<Plan>> plans_;
};

struct Solver;  // cuSOLVER, in factorisations.cu

/// What every kernel is run with. One command at a time: results of a first pass may lie in the workspace.
struct Context {
  cudaStream_t stream = nullptr;
  cublasHandle_t blas = nullptr;
  std::unique_ptr<FusedProducts> fused_products;
  bool tf32 = false;
  std::shared_ptr<Solver> solver;       // once a command has needed it
  LiveNumbers* live_numbers = nullptr;  // of the graph being captured
  std::uint64_t uploaded = 0;           // bytes
  std::uint64_t downloaded = 0;

  /// Waits for what was given before, and counts the bytes.
  void read_bytes(void* host, const void* device, std::size_t bytes);
  template <class T>
  T read(const T* device) {
    T value;
    read_bytes(&value, device, sizeof value);
    return value;
  }

  /// Device memory for intermediate results of one command; grows, and is then kept.
  template <class T>
  T* workspace(std::size_t count) {
    return static_cast<T*>(grown_workspace(count * sizeof(T)));
  }
  /// To be kept as long as a graph that uses it.
  const std::shared_ptr<void>& workspace_owner() const { return workspace_; }

  /// `*host`, which may change between the launches of a graph.
  template <class T>
  Live<T> live(const T* host) const {
    if (live_numbers == nullptr) return {nullptr, *host};
    return {live_numbers->copy_of(host), *host};
  }

  /// A command's alpha and beta; of an optimizer's step they come from its numbers, as they are at every launch.
  template <class eT>
  Live<Factors<eT>> factors(const Command<eT>& c) const {
    if ((c.flags & (step_parameter | step_velocity)) == 0) return {nullptr, {c.alpha, c.beta}};
    const auto read = [s = static_cast<const detail::SgdScalars*>(c.object), flags = c.flags, alpha = c.alpha,
                       beta = c.beta] {
      Factors<eT> f{s->maximize ? -alpha : alpha, beta};
      if ((flags & step_parameter) != 0)
        f.alpha *= static_cast<eT>(-s->lr);
      else if (beta != eT(0))
        f.beta = static_cast<eT>(s->momentum);
      return f;
    };
    return {live_numbers == nullptr ? nullptr : live_numbers->made_by<Factors<eT>>(read), read()};
  }

  Context() = default;
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

 private:
  void* grown_workspace(std::size_t bytes);
  std::shared_ptr<void> workspace_;
  std::size_t workspace_bytes_ = 0;
};

/// Runs a command's kernel; `context` is a Context. What Kernel::plugin keeps.
template <class eT>
using Function = void (*)(void* context, const Command<eT>&);
template <class eT>
struct Entry {
  Function<eT> function = nullptr;
  bool reads_back = false;  // waits for a number: cannot be part of a graph
};
template <class eT>
using Table = std::map<std::string_view, Entry<eT>>;

/// The same function, told what its context is.
template <class eT, void (*function)(Context&, const Command<eT>&)>
void with_context(void* context, const Command<eT>& c) {
  function(*static_cast<Context*>(context), c);
}

// What each file has, by the names of device/kernels.hpp and elementwise.def.
template <class eT>
void add_elementwise(Table<eT>& table);
template <class eT>
void add_products(Table<eT>& table);
template <class eT>
void add_reductions(Table<eT>& table);
template <class eT>
void add_structure(Table<eT>& table);
template <class eT>
void add_factorisations(Table<eT>& table);
template <class eT>
void add_attacks(Table<eT>& table);

/// What there is for a kernel of this name, perhaps nothing.
template <class eT>
Entry<eT> find_entry(const char* kernel);

/// Whether this build holds code for the current device.
cudaError_t probe_architecture();

}  // namespace armagrad::cuda
