// What is measured without peers: the price of a node, memory, start-up and compile times.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "bench/race.hpp"

namespace armagrad::bench {

struct CostOptions {
  std::string zoo{};               ///< the zoo's program
  std::filesystem::path folder{};  ///< for what is compiled, and logs
};

/// "nodes", "memory", "startup", "compile".
std::vector<std::string> cost_names();

/// nodes:   chains of 10 ... 10^6 tiny operations: {"operations": [{"name", "chains": [{"nodes", "record", "backward":
///          seconds per node, "first": seconds of the first recording and backward, "bytes" per node}]}]}
/// memory:  {"steps": [{"row", "activations", "tape", "ratio"}]}, bytes of one training step
/// startup: seconds from start to end of `zoo --help`, and of a program that does nothing: {"zoo", "nothing"} spreads
/// compile: seconds for files that only include: {"files": [{"name", "seconds": spread, "ratio": to <armadillo>}]}
/// @throws std::runtime_error when something that is needed does not run
Json cost(const std::string& name, const CostOptions& options);

}  // namespace armagrad::bench
