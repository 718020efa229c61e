// The kernels every device has, by name. Their contracts, with A = in[0], B = in[1] and so on:
//
//   gemm           out = alpha op(A) op(B) + beta out (+ in[2], a column, to each column; then max(0, .) if then_relu)
//   copy           out = alpha op(A) + beta out; a dimension of length 1 of A is repeated along out's
//   fill           out = alpha + beta out
//   sum            out = alpha sum(A) + beta out, over every dimension of A along which out has length 1
//   cross_entropy  out (1x1) = alpha sum over columns of -log softmax(A)[label]; with more_out[0].data also
//                  more_out[0] = alpha (softmax(A) - one hot), exact for confident columns; labels are `indices`
//   dot            out (1x1) = alpha sum(A % B) + beta out
//   squared_distance  out (1x1) = alpha sum((A - B)^2) + beta out
//   log_sum_exp    out = log(sum(exp(A))) of each column, or of each row with transpose_a
//   softmax        out = exp(A) / sum(exp(A)) of each column, or of each row with transpose_a
//   maximum        out = the largest element of each column, or of each row with transpose_a (the smallest with
//                  take_smallest); with more_out[0].data also a mask of A's shape, 1 at the first such element
//   gather         out[i] = alpha A[indices[i]] + beta out[i], column-major
//   scatter        out[indices[i]] += alpha A[i]
//
// The element-wise kernels come from elementwise.def by way of rows.hpp.
#pragma once

#include <armagrad/autodiff/device/device.hpp>

namespace armagrad::detail {

template <class eT>
struct kernels {
  static const Kernel<eT> gemm, copy, fill, sum, cross_entropy, dot, squared_distance, log_sum_exp, softmax, maximum,
      gather, scatter;
};

}  // namespace armagrad::detail
