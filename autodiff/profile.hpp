// Where a step's time goes: every command that a tape and the optimizers give to the device, timed.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace armagrad {

/// What `Tape::profile` has seen. Times are wall-clock seconds; bytes are what the commands read and wrote, counted
/// once per operand whatever the caches did.
class Profile {
 public:
  enum class Phase : std::uint8_t { forward, backward, update };
  struct Entry {
    const char* operation;  ///< the operation whose evaluation or derivative gave the command
    const char* kernel;     ///< what the device ran
    Phase phase;
    std::uint32_t module;  ///< index into `modules`
    double start, seconds;
    double bytes;
    double flops;  ///< of products; 0 for others
  };

  std::vector<Entry> entries{};
  std::vector<std::string> modules{""};  ///< paths as in error messages; "" is outside of all modules
  double seconds = 0;                    ///< of the whole step, recording and bookkeeping included

  /// The share of `seconds` spent in matrix products (the bias that a product adds included).
  double share_in_products() const;
  /// Time by operation and phase, then by module path, then the sums, as a table for a terminal.
  std::string table() const;
  /// The entries in the trace-event format that chrome://tracing and Perfetto show.
  /// @throws DataError when the file cannot be written
  void write_trace(const std::string& path) const;
};

}  // namespace armagrad
