// The element-wise kernels: the rows of elementwise.def and their derivatives.
#include <armagrad/autodiff/row_list.hpp>

#include "maps.cuh"

namespace armagrad::cuda {
namespace {

template <class Row, class eT>
__global__ void unary_kernel(View<eT> out, View<const eT> x, eT p, eT q, eT alpha, eT beta) {
  for_each_element(out.rows, out.cols, [&](std::size_t i, std::size_t j) {
    store(out.data[i + j * out.ld], Row::template value<eT>(repeated(x, i, j), p, q), alpha, beta);
  });
}
template <class Row, class eT>
__global__ void unary_derivative_kernel(View<eT> out, View<const eT> g, View<const eT> x, View<const eT> y, eT p, eT q,
                                        eT alpha, eT beta) {
  for_each_element(out.rows, out.cols, [&](std::size_t i, std::size_t j) {
    store(out.data[i + j * out.ld],
          Row::template derivative<0, eT, eT>(repeated(g, i, j), repeated(x, i, j), repeated(y, i, j), p, q), alpha,
          beta);
  });
}
template <class Row, class eT>
__global__ void binary_kernel(View<eT> out, View<const eT> a, View<const eT> b, eT alpha, eT beta) {
  for_each_element(out.rows, out.cols, [&](std::size_t i, std::size_t j) {
    store(out.data[i + j * out.ld], Row::template value<eT>(repeated(a, i, j), repeated(b, i, j)), alpha, beta);
  });
}
template <class Row, int k, class eT>
__global__ void binary_derivative_kernel(View<eT> out, View<const eT> g, View<const eT> a, View<const eT> b,
                                         View<const eT> y, eT alpha, eT beta) {
  for_each_element(out.rows, out.cols, [&](std::size_t i, std::size_t j) {
    store(
        out.data[i + j * out.ld],
        Row::template derivative<k, eT, eT>(repeated(g, i, j), repeated(a, i, j), repeated(b, i, j), repeated(y, i, j)),
        alpha, beta);
  });
}

template <class Row, class eT>
void row_value(Context& context, const Command<eT>& c) {
  if constexpr (Row::arity == 1) {
    const double* s = Row::parameters > 0 ? static_cast<const double*>(c.attributes) : nullptr;
    launch_map(context, &unary_kernel<Row, eT>, c.out, c.in[0], s ? eT(s[0]) : eT(0), s ? eT(s[1]) : eT(0), c.alpha,
               c.beta);
  } else {
    launch_map(context, &binary_kernel<Row, eT>, c.out, c.in[0], c.in[1], c.alpha, c.beta);
  }
}
template <class Row, int k, class eT>
void row_derivative(Context& context, const Command<eT>& c) {
  if constexpr (Row::arity == 1) {
    const double* s = Row::parameters > 0 ? static_cast<const double*>(c.attributes) : nullptr;
    launch_map(context, &unary_derivative_kernel<Row, eT>, c.out, c.in[0], c.in[1], c.in[2], s ? eT(s[0]) : eT(0),
               s ? eT(s[1]) : eT(0), c.alpha, c.beta);
  } else {
    launch_map(context, &binary_derivative_kernel<Row, k, eT>, c.out, c.in[0], c.in[1], c.in[2], c.in[3], c.alpha,
               c.beta);
  }
}

template <class Row, class eT>
void add_row(Table<eT>& table) {
  table[Row::name] = {&with_context<eT, &row_value<Row, eT>>};
  if constexpr (Row::derivatives > 0)
    table[Row::derivative_names[0]] = {&with_context<eT, &row_derivative<Row, 0, eT>>};
  if constexpr (Row::derivatives > 1)
    table[Row::derivative_names[1]] = {&with_context<eT, &row_derivative<Row, 1, eT>>};
}

}  // namespace

template <class eT>
void add_elementwise(Table<eT>& table) {
#define ARMAGRAD_UNARY(name, ...) add_row<math::name##_row>(table);
#define ARMAGRAD_UNARY_P ARMAGRAD_UNARY
#define ARMAGRAD_BINARY ARMAGRAD_UNARY
#define ARMAGRAD_MASK ARMAGRAD_UNARY
#define ARMAGRAD_MASKED ARMAGRAD_UNARY
#include <armagrad/autodiff/elementwise.def>
#undef ARMAGRAD_UNARY
#undef ARMAGRAD_UNARY_P
#undef ARMAGRAD_BINARY
#undef ARMAGRAD_MASK
#undef ARMAGRAD_MASKED
  add_row<math::add_row>(table);
  add_row<math::subtract_row>(table);
}
template void add_elementwise(Table<float>&);
template void add_elementwise(Table<double>&);

}  // namespace armagrad::cuda
