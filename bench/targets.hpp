// What armagrad sets itself to reach, against what a report says.
#pragma once

#include "bench/race.hpp"

namespace armagrad::bench {

/// [{"what", "limit", "seen", "reached"}], for the targets that the report can answer. A limit is the most that may be
/// seen, or the least where "least" is true.
Json targets(const Json& report);

}  // namespace armagrad::bench
