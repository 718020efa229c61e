// Linked to every test program: where BLAS has chosen kernels of the past, the program starts itself again with better
// ones before main, as the zoo does.
#include <cstdlib>

#include <armagrad/autodiff/machine.hpp>

namespace {
[[maybe_unused]] const bool restarted = [] {
  if (std::getenv("ARMAGRAD_KEEP_BLAS") == nullptr) armagrad::restart_with_fast_blas();
  return true;
}();
}  // namespace
