// What runs leave in a folder: bench.json, which a later run adds to, and the page made from it.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "bench/race.hpp"

namespace armagrad::bench {

/// The folder's bench.json, or an empty report: {"written", "cpu", "cpus", "races": [], "costs": {}, "targets": []}.
/// @throws OptionError when the folder holds a page that is none of the benchmark's
Json read_report(const std::filesystem::path& folder);

/// Puts `race` in the place of the one with the same row and threads, or at the end.
void add_race(Json& report, const Json& race);

/// Writes bench.json and index.html.
/// @throws OptionError when that is impossible
void write_report(const std::filesystem::path& folder, const Json& report);

/// For a terminal: one race, one measurement without peers, all targets.
std::string race_text(const Json& race);
std::string cost_text(const std::string& name, const Json& cost);
std::string targets_text(const Json& targets);

}  // namespace armagrad::bench
