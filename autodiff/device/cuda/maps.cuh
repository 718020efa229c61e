// Kernels with one thread per element: how they walk a matrix, and how they are launched.
#pragma once

#include <algorithm>

#include "kernels.cuh"
#include "launch.cuh"

namespace armagrad::cuda {

template <class eT>
__device__ void store(eT& y, eT value, eT alpha, eT beta) {
  y = beta == eT(0) ? alpha * value : alpha * value + beta * y;
}

template <class eT>
__device__ void store(eT& y, eT value, Factors<eT> f) {
  store(y, value, f.alpha, f.beta);
}

/// Element (row, col) of a matrix whose dimensions of length 1 are repeated.
template <class eT>
__device__ eT repeated(const View<const eT>& a, std::size_t row, std::size_t col) {
  return a.data[(a.rows == 1 ? 0 : row) + (a.cols == 1 ? 0 : col * a.ld)];
}

/// f(row, col) for the elements that are this thread's: x counts rows, y columns, so that no thread divides.
template <class F>
__device__ void for_each_element(std::uint32_t rows, std::uint32_t cols, F f) {
  const std::size_t row = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (row >= rows) return;
  const std::size_t step = std::size_t{gridDim.y} * blockDim.y;
  for (std::size_t col = std::size_t{blockIdx.y} * blockDim.y + threadIdx.y; col < cols; col += step) f(row, col);
}

constexpr unsigned threads_per_block = 256;

// Matrices that lie there as one piece are walked as one column.
template <class T, class Argument>
bool is_one_piece(View<T>, const Argument&) {
  return true;  // a number
}
template <class T, class U>
bool is_one_piece(View<T> out, const View<U>& a) {
  return a.data == nullptr || (a.rows == 1 && a.cols == 1) ||
         (a.rows == out.rows && a.cols == out.cols && a.contiguous());
}
template <class Argument>
Argument as_column(const Argument& a) {
  return a;
}
template <class T>
View<T> as_column(const View<T>& a) {
  if (a.data == nullptr) return a;
  const auto n = static_cast<std::uint32_t>(a.size());
  return {a.data, n, 1, n};
}

/// Launches a kernel that calls for_each_element(rows, cols).
template <class... P, class... Arguments>
void launch_elements(Context& context, std::uint32_t rows, std::uint32_t cols, void (*kernel)(P...),
                     Arguments... arguments) {
  if (rows == 0 || cols == 0) return;
  dim3 block(1);
  while (block.x < threads_per_block && block.x < rows) block.x *= 2;
  block.y = threads_per_block / block.x;
  const dim3 grid((rows - 1) / block.x + 1, std::min((cols - 1) / block.y + 1, 65535u));
  launch(kernel, grid, block, 0, context.stream, arguments...);
}

/// The same for a kernel that walks `out` and does not mind where columns end.
template <class... P, class eT, class... Arguments>
void launch_map(Context& context, void (*kernel)(View<eT>, P...), View<eT> out, Arguments... arguments) {
  if (out.size() == 0) return;
  if (out.cols > 1 && out.size() <= ~std::uint32_t{0} && out.contiguous() && (is_one_piece(out, arguments) && ...))
    return launch_map(context, kernel, as_column(out), as_column(arguments)...);
  launch_elements(context, out.rows, out.cols, kernel, out, arguments...);
}

// Kernels that others fall back to, or need.
template <class eT>
void fill(Context& context, const Command<eT>& c);
template <class eT>
void copy(Context& context, const Command<eT>& c);
template <class eT>
void gemm(Context& context, const Command<eT>& c);

}  // namespace armagrad::cuda
