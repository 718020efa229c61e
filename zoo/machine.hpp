// What the numbers of a report were computed on.
#pragma once

#include <armagrad/autodiff/machine.hpp>

namespace armagrad::zoo {

using armagrad::Machine;
inline Machine this_machine() { return machine(); }

}  // namespace armagrad::zoo
