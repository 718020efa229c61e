// What the products run on, and the cure where that is not what it seems.
//
// Debian 12's OpenBLAS knows no processor newer than itself. On one it falls back, silently, to kernels of 2006 that
// reach a fifth of the machine's speed. It chooses when it is loaded, so the variable OPENBLAS_CORETYPE must be set
// before a program starts: restart_with_fast_blas() sets it and starts the program again.
#pragma once

#include <string>

namespace armagrad {

struct Machine {
  std::string cpu{};           ///< the processor's own name
  unsigned threads = 0;        ///< threads that large products use
  std::string blas{};          ///< e.g. "OpenBLAS 0.3.21 (SkylakeX kernels)"; another BLAS by the name of its library
  std::string kernels{};       ///< OpenBLAS's choice, "SkylakeX"; empty for another BLAS
  std::string instructions{};  ///< what armagrad's own loops use: "plain", "avx2" or "avx512"
  std::string onednn{};        ///< the version of oneDNN that large float products go to; empty: none
  std::string advice{};        ///< what slows products down here and its cure; empty when all is well
};

/// The machine this program runs on. Asks whatever BLAS was loaded, by name.
Machine machine();

/// Billions of floating-point operations per second of a 768 x 768 product on one thread, and what the processor's
/// instruction set allows at the clock frequency measured beside it (two fused multiply-adds per cycle). Takes 0.2 s.
struct ProductRate {
  double float_measured, float_possible, double_measured, double_possible;
};
ProductRate product_rate();

/// Where `machine().advice` names a better OPENBLAS_CORETYPE and the variable is not set: sets it and starts this
/// program again with the same arguments; it does not return then. Call it first in main. Where BLAS is fast already it
/// only sets GOMP_SPINCOUNT, unless that or OMP_WAIT_POLICY is set: the threads of oneDNN's products would otherwise
/// wait for work for milliseconds without letting others have the processor.
void restart_with_fast_blas();

/// How many threads large products use; small ones (below 2^22 multiplications) use one, since handing them out takes
/// longer than they do. By default as many as BLAS was started with (OPENBLAS_NUM_THREADS, else the processors).
/// @throws OptionError for 0
void set_threads(unsigned count);

/// The first tape of a program says on standard error, in one line and once, what `machine().advice` says. Call this
/// before, or set ARMAGRAD_QUIET in the environment, to keep it silent.
void silence_blas_advice();

}  // namespace armagrad
