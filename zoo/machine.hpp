// What the numbers of a report were computed on.
#pragma once

#include <string>

namespace armagrad::zoo {

/// The machine as reports name it.
struct Machine {
  std::string cpu{};     ///< the processor's own name
  unsigned threads = 0;  ///< threads the BLAS may use; the processor's where the BLAS cannot be asked
  std::string blas{};    ///< e.g. "OpenBLAS 0.3.21 (SkylakeX kernels)"; another BLAS by the name of its library
};

/// The machine this program runs on. Asks whatever BLAS was loaded, by name, so it links against none.
Machine this_machine();

}  // namespace armagrad::zoo
