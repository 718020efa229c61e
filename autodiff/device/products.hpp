// Products of matrices on the CPU: which library computes one, on how many threads, and how it is cut, by its shape
// alone: the same program gives the same bits on the same machine.
#pragma once

#include <string>

#include <armagrad/autodiff/device/device.hpp>

namespace armagrad::detail {

/// C = alpha op(A) op(B) + beta C; with beta = 0 C's old content is not read.
template <class eT>
void product(bool transpose_a, bool transpose_b, eT alpha, View<const eT> a, View<const eT> b, eT beta, View<eT> c);

/// The threads that large products use (armagrad::set_threads).
unsigned product_threads();
void set_product_threads(unsigned count);

/// While it lives BLAS and LAPACK use one thread unless `multiplications` make it worth while to wake others. Costs two
/// function calls. (OpenBLAS's number of threads belongs to the process: tapes of several threads may see each other's
/// choice, which changes speed and no result.)
class BlasThreads {
 public:
  explicit BlasThreads(double multiplications);
  BlasThreads(const BlasThreads&) = delete;
  BlasThreads& operator=(const BlasThreads&) = delete;
  ~BlasThreads();

 private:
  bool lowered_;
};

/// The version of oneDNN in use, or "".
std::string onednn_version();
/// What the CPU's own loops use.
const char* instruction_set_name();
/// One line on standard error, once in a program, if BLAS runs slow kernels (machine.hpp).
void say_blas_advice_once();

}  // namespace armagrad::detail
