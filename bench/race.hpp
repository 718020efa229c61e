// A race: contestants that do the same work in turns, round after round.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "bench/problem.hpp"

namespace armagrad::bench {

using Json = nlohmann::ordered_json;

/// One line of the comparison: what is to be done.
struct Row {
  std::string name{};   ///< short, as selected on the command line
  std::string title{};  ///< for people
  Problem problem{};
};
/// The comparison's rows, the table.
std::vector<Row> rows();
/// The same small networks over a range of widths (`width-N`) and batches (`batch-N`).
std::vector<Row> sweep_rows();

struct Entrant {
  std::string name{};
  std::vector<std::string> command{};  ///< the problem's file is appended
  bool peer = true;                    ///< may be absent; armagrad and the floor may not
};

struct RaceOptions {
  int rounds = 24;
  double turn = 0.04;       ///< seconds a contestant runs at least, each round
  int checked = 10;         ///< steps whose losses must agree
  double tolerance = 2e-3;  ///< largest relative deviation of a loss from the floor's
  std::uint32_t seed = 1;
  std::filesystem::path folder{};  ///< for the problem's file and the contestants' logs
};

/// The contestant that all are compared with.
constexpr auto floor_name = "hand-written";

/// Runs one row with so many threads (and processors). Checks first that all compute the same losses. With one thread
/// seconds are those on the processor, so that other programs of the machine cost nobody a place; with more the wall's.
/// Answers {"row", "title", "threads", "layers", "batch", "step", "contestants": [{"name", "info", "deviation",
/// "steps", "seconds": {"median", "low", "high", "least"}, "ratio": {"median", "low", "high"}, "products", "memory",
/// "rounds": seconds per step in each}], "left_out": [{"name", "why"}]}.
/// @throws std::runtime_error when losses disagree, or when a contestant that is no peer fails
Json race(const Row& row, int threads, const std::vector<Entrant>& entrants, const RaceOptions& options,
          const std::function<void(const std::string&)>& progress);

}  // namespace armagrad::bench
