// A process that answers requests, a line each.
#pragma once

#include <map>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>
#include <sys/types.h>

namespace armagrad::bench {

/// A running program with pipes to its standard input and output. It stands still except while it is asked, so that
/// thread pools that spin after their work do not spin in somebody else's turn.
class Child {
 public:
  /// @param cpus what it may run on; where the numbers are not this machine's, everything
  /// @param log receives its standard error
  /// @throws std::runtime_error when it cannot be started
  Child(const std::vector<std::string>& command, const std::map<std::string, std::string>& environment,
        const std::vector<int>& cpus, std::string log);
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  Child(Child&& other) noexcept;
  Child& operator=(Child&&) = delete;
  /// Ends the process.
  ~Child();

  /// @throws std::runtime_error when it answers with an error, ends, or is silent for `seconds`
  nlohmann::json ask(const std::string& request, double seconds = 600);

 private:
  [[noreturn]] void fail(const std::string& what) const;
  std::string name_, log_, unread_{};
  pid_t process_ = -1;
  int to_ = -1, from_ = -1;
};

/// The processors this process may run on.
std::vector<int> allowed_cpus();

}  // namespace armagrad::bench
