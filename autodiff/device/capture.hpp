// Who watches the commands on their way to a device: a capture, whose list a replay runs, and a profile. Optimizers
// and tapes both make commands, so what watches belongs to the thread, not to a tape.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <unordered_set>
#include <vector>

#include <armagrad/autodiff/device/device.hpp>
#include <armagrad/autodiff/profile.hpp>

namespace armagrad::detail {

template <class eT>
struct CommandList {
  Backend* backend = nullptr;
  std::vector<Command<eT>> commands;
  std::unique_ptr<Recording> recording;      // the same commands made ready by the device; may be null
  std::vector<std::function<void()>> after;  // host-side bookkeeping of every run: parameter versions
  std::unordered_set<const void*> written;   // parameters whose gradient the step has begun
  std::shared_ptr<std::uint64_t> runs = std::make_shared<std::uint64_t>(0);
};

/// The graph whose step this thread is capturing, of either element type.
inline thread_local const void* captured_graph = nullptr;

template <class eT>
inline thread_local CommandList<eT>* capturing = nullptr;

struct Profiler {
  Profile* profile;
  Profile::Phase phase = Profile::Phase::update;  // a tape says when its own commands come
  std::uint32_t module = 0;

  static double now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
  }
  const double origin = now();

  template <class eT>
  void run(Backend& backend, const Command<eT>& c, const char* operation);
};
inline thread_local Profiler* profiler = nullptr;

/// Every command of the engine and the optimizers goes through here.
template <class eT>
inline void run(Backend& backend, const Command<eT>& command, const char* operation = "Sgd") {
  if (profiler != nullptr) [[unlikely]]
    profiler->run(backend, command, operation);
  else
    backend.run(command);
  if (capturing<eT> != nullptr) [[unlikely]]
    capturing<eT>->commands.push_back(command);
}

}  // namespace armagrad::detail
