// Products of matrices on the CPU: which library computes one, and how it is cut, by its shape alone.
#pragma once

#include <armagrad/autodiff/device/device.hpp>

namespace armagrad::detail {

/// C = alpha op(A) op(B) + beta C; with beta = 0 C's old content is not read.
template <class eT>
void product(bool transpose_a, bool transpose_b, eT alpha, View<const eT> a, View<const eT> b, eT beta, View<eT> c);

}  // namespace armagrad::detail
