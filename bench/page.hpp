// The benchmark's page: bars per row, figures, and how they were measured.
#pragma once

#include <string>
#include <vector>

#include "bench/race.hpp"

namespace armagrad::bench {

/// One self-contained page, light or dark, for desktop and phone.
std::string make_page(const Json& report);

/// The first row is the heading.
struct CostTable {
  std::string caption{};
  std::vector<std::vector<std::string>> rows{};
};
/// What was measured under this name (cost_names()), in numbers and units.
std::vector<CostTable> cost_tables(const std::string& name, const Json& cost);

/// "12.3 us", "4.56 ms", "1.20 s".
std::string time_text(double seconds);

}  // namespace armagrad::bench
