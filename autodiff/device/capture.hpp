// The list of commands a replay runs. Optimizers and tapes both make commands, so the list being captured belongs to
// the thread, not to a tape.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <unordered_set>
#include <vector>

#include <armagrad/autodiff/device/device.hpp>

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

/// Every command of the engine and the optimizers goes through here.
template <class eT>
inline void run(Backend& backend, const Command<eT>& command) {
  backend.run(command);
  if (capturing<eT> != nullptr) [[unlikely]]
    capturing<eT>->commands.push_back(command);
}

}  // namespace armagrad::detail
