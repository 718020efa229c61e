// How much time a program spends in matrix products, seen from outside: this program's own sgemm_ (and cblas_sgemm,
// dnnl_sgemm) stands before the library's, notes the time and passes the call on.
#pragma once

namespace armagrad::bench {

/// Switches the clock on from zero (true) or off; returns the seconds that were on it. While it is off a product costs
/// one branch more.
double clock_products(bool on);

/// The BLAS that answers here, by its own words: "OpenBLAS 0.3.21 (SkylakeX kernels)".
const char* blas_name();
int blas_threads();

}  // namespace armagrad::bench
