// The kernels of device/kernels.hpp and elementwise.def for CUDA. First the device code, then the functions that turn
// a command into launches, then the table of their names.
//
// Nothing here uses atomics on floating-point numbers, so the same command gives the same bits every time. A kernel
// never reads `out` when beta is 0: its memory may be uninitialised.
#include <algorithm>
#include <map>
#include <string_view>

#include <armagrad/autodiff/row_list.hpp>

#include "kernels.cuh"
#include "launch.cuh"

namespace armagrad::cuda {
namespace {

// ---- device code

template <class eT>
__device__ void store(eT& y, eT value, eT alpha, eT beta) {
  y = beta == eT(0) ? alpha * value : alpha * value + beta * y;
}

/// Element (row, col) of a matrix whose dimensions of length 1 are repeated.
template <class eT>
__device__ eT repeated(const View<const eT>& a, std::size_t row, std::size_t col) {
  return a.data[(a.rows == 1 ? 0 : row) + (a.cols == 1 ? 0 : col * a.ld)];
}

struct Plus {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a + b;
  }
};
struct Larger {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a < b ? b : a;
  }
};

/// Combines the values of a block's threads (a power of two of them); every thread gets the result.
template <class T, class Combine>
__device__ T block_reduce(T value, T* scratch, Combine combine) {
  const unsigned t = threadIdx.x;
  __syncthreads();  // a thread may still be reading the result of the reduction before
  scratch[t] = value;
  __syncthreads();
  for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
    if (t < half) scratch[t] = combine(scratch[t], scratch[t + half]);
    __syncthreads();
  }
  return scratch[0];
}

/// f(row, col) for every element of an m x n matrix, whatever the size of the grid.
template <class F>
__device__ void for_each_element(std::size_t rows, std::size_t cols, F f) {
  const std::size_t step = std::size_t{gridDim.x} * blockDim.x;
  for (std::size_t i = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x; i < rows * cols; i += step)
    f(i % rows, i / rows);
}

template <class eT>
__global__ void fill_kernel(View<eT> out, eT alpha, eT beta) {
  for_each_element(out.rows, out.cols,
                   [&](std::size_t i, std::size_t j) { store(out.data[i + j * out.ld], eT(1), alpha, beta); });
}

template <class eT>
__global__ void copy_kernel(View<eT> out, View<const eT> a, bool transposed, eT alpha, eT beta) {
  for_each_element(out.rows, out.cols, [&](std::size_t i, std::size_t j) {
    store(out.data[i + j * out.ld], transposed ? repeated(a, j, i) : repeated(a, i, j), alpha, beta);
  });
}

template <class eT>
__global__ void epilogue_kernel(View<eT> out, const eT* bias, bool relu) {
  for_each_element(out.rows, out.cols, [&](std::size_t i, std::size_t j) {
    eT& y = out.data[i + j * out.ld];
    const eT z = y + bias[i];
    y = relu && z < eT(0) ? eT(0) : z;
  });
}

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

/// Block b sums its share of all elements into out(0, b).
template <class eT>
__global__ void sum_all_kernel(View<eT> out, View<const eT> a, eT alpha, eT beta) {
  eT total = 0;
  for_each_element(a.rows, a.cols, [&](std::size_t i, std::size_t j) { total += a.data[i + j * a.ld]; });
  total = block_reduce(total, shared<eT>(), Plus());
  if (threadIdx.x == 0) store(out.data[std::size_t{blockIdx.x} * out.ld], total, alpha, beta);
}
/// One block per column.
template <class eT>
__global__ void sum_columns_kernel(View<eT> out, View<const eT> a, eT alpha, eT beta) {
  const eT* x = a.data + std::size_t{blockIdx.x} * a.ld;
  eT total = 0;
  for (std::size_t i = threadIdx.x; i < a.rows; i += blockDim.x) total += x[i];
  total = block_reduce(total, shared<eT>(), Plus());
  if (threadIdx.x == 0) store(out.data[std::size_t{blockIdx.x} * out.ld], total, alpha, beta);
}
/// A block takes blockDim.x rows, so that neighbours read neighbours, and blockDim.y slices of the columns.
template <class eT>
__global__ void sum_rows_kernel(View<eT> out, View<const eT> a, eT alpha, eT beta) {
  eT* scratch = shared<eT>();
  const std::size_t row = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x;
  eT total = 0;
  if (row < a.rows)
    for (std::size_t j = threadIdx.y; j < a.cols; j += blockDim.y) total += a.data[row + j * a.ld];
  scratch[threadIdx.y * blockDim.x + threadIdx.x] = total;
  __syncthreads();
  if (threadIdx.y != 0 || row >= a.rows) return;
  for (unsigned slice = 1; slice < blockDim.y; ++slice) total += scratch[slice * blockDim.x + threadIdx.x];
  store(out.data[row], total, alpha, beta);
}

/// One block per column: its loss, and its part of the residual unless `residual.data` is null.
template <class eT>
__global__ void cross_entropy_kernel(eT* losses, View<eT> residual, View<const eT> z, const std::uint32_t* labels,
                                     eT alpha) {
  eT* scratch = shared<eT>();
  const std::size_t column = blockIdx.x, label = labels[column];
  const eT* x = z.data + column * z.ld;
  eT top = x[0];
  for (std::size_t i = threadIdx.x; i < z.rows; i += blockDim.x) top = Larger()(top, x[i]);
  top = block_reduce(top, scratch, Larger());
  eT others = 0;  // the sum of exp of the other classes
  for (std::size_t i = threadIdx.x; i < z.rows; i += blockDim.x)
    if (i != label) others += std::exp(x[i] - top);
  others = block_reduce(others, scratch, Plus());
  const eT own = std::exp(x[label] - top);
  if (residual.data != nullptr) {
    eT* r = residual.data + column * residual.ld;
    const eT scale = alpha / (others + own);
    for (std::size_t i = threadIdx.x; i < z.rows; i += blockDim.x)
      r[i] = i == label ? -others * scale : std::exp(x[i] - top) * scale;  // p - 1 would round to 0 where p is near 1
  }
  // Of a confident column log(1 + others) keeps what 1 + others would round away.
  if (threadIdx.x == 0) losses[column] = own == eT(1) ? std::log1p(others) : std::log(others + own) + (top - x[label]);
}

/// One block per column, or per row.
template <class eT>
__global__ void softmax_kernel(View<eT> out, View<const eT> a, bool of_rows) {
  eT* scratch = shared<eT>();
  const std::size_t line = blockIdx.x, length = of_rows ? a.cols : a.rows;
  const eT* x = a.data + line * (of_rows ? 1 : a.ld);
  eT* y = out.data + line * (of_rows ? 1 : out.ld);
  const std::size_t x_step = of_rows ? a.ld : 1, y_step = of_rows ? out.ld : 1;
  eT top = x[0];
  for (std::size_t i = threadIdx.x; i < length; i += blockDim.x) top = Larger()(top, x[i * x_step]);
  top = block_reduce(top, scratch, Larger());
  eT total = 0;
  for (std::size_t i = threadIdx.x; i < length; i += blockDim.x) total += std::exp(x[i * x_step] - top);
  total = block_reduce(total, scratch, Plus());
  for (std::size_t i = threadIdx.x; i < length; i += blockDim.x) y[i * y_step] = std::exp(x[i * x_step] - top) / total;
}

// ---- from a command to launches

constexpr unsigned threads_per_block = 256;

unsigned blocks_for(std::size_t elements) {
  return static_cast<unsigned>(std::min<std::size_t>((elements + threads_per_block - 1) / threads_per_block, 4096));
}
/// Threads for a reduction over n elements: a power of two, so that block_reduce can halve it.
unsigned threads_for(std::size_t n) {
  unsigned threads = 32;
  while (threads < threads_per_block && threads < n) threads *= 2;
  return threads;
}

/// A kernel with one thread per element of `out`.
template <class... P, class eT, class... Arguments>
void launch_map(Context& context, void (*kernel)(View<eT>, P...), View<eT> out, Arguments... arguments) {
  if (out.size() != 0) launch(kernel, blocks_for(out.size()), threads_per_block, 0, context.stream, out, arguments...);
}

template <class eT>
void fill(Context& context, const Command<eT>& c) {
  launch_map(context, &fill_kernel<eT>, c.out, c.alpha, c.beta);
}

template <class eT>
void copy(Context& context, const Command<eT>& c) {
  launch_map(context, &copy_kernel<eT>, c.out, c.in[0], (c.flags & transpose_a) != 0, c.alpha, c.beta);
}

cublasStatus_t blas_gemm(cublasHandle_t blas, cublasOperation_t ta, cublasOperation_t tb, int m, int n, int k,
                         const float* alpha, const float* a, int lda, const float* b, int ldb, const float* beta,
                         float* c, int ldc) {
  return cublasSgemm(blas, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
cublasStatus_t blas_gemm(cublasHandle_t blas, cublasOperation_t ta, cublasOperation_t tb, int m, int n, int k,
                         const double* alpha, const double* a, int lda, const double* b, int ldb, const double* beta,
                         double* c, int ldc) {
  return cublasDgemm(blas, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

template <class eT>
void gemm(Context& context, const Command<eT>& c) {
  if (c.out.size() == 0) return;
  const bool ta = (c.flags & transpose_a) != 0, tb = (c.flags & transpose_b) != 0;
  const std::uint32_t k = ta ? c.in[0].rows : c.in[0].cols;
  if (k == 0) {
    launch_map(context, &fill_kernel<eT>, c.out, eT(0), c.beta);
  } else {
    // The leading dimension of a single column may be anything; cuBLAS asks for its length at least.
    const auto ld = [](const auto& a) { return static_cast<int>(std::max(a.ld, a.rows)); };
    check(blas_gemm(context.blas, ta ? CUBLAS_OP_T : CUBLAS_OP_N, tb ? CUBLAS_OP_T : CUBLAS_OP_N,
                    static_cast<int>(c.out.rows), static_cast<int>(c.out.cols), static_cast<int>(k), &c.alpha,
                    c.in[0].data, ld(c.in[0]), c.in[1].data, ld(c.in[1]), &c.beta, c.out.data, ld(c.out)),
          "gemm");
  }
  if (c.in[2].data != nullptr)
    launch_map(context, &epilogue_kernel<eT>, c.out, c.in[2].data, (c.flags & then_relu) != 0);
}

template <class eT>
void sum_columns(Context& context, View<eT> out, View<const eT> a, eT alpha, eT beta) {
  if (a.cols == 0) return;
  const unsigned threads = threads_for(a.rows);
  launch(&sum_columns_kernel<eT>, a.cols, threads, threads * sizeof(eT), context.stream, out, a, alpha, beta);
}

template <class eT>
void sum(Context& context, const Command<eT>& c) {
  const View<const eT>& a = c.in[0];
  if (c.out.rows == 1 && c.out.cols == 1) {
    // In two passes when one block would be slow: partial sums, then their sum.
    const unsigned blocks = std::clamp(blocks_for(a.size()) / 8, 1u, 256u);
    constexpr std::size_t bytes = threads_per_block * sizeof(eT);
    if (blocks == 1) {
      launch(&sum_all_kernel<eT>, 1, threads_per_block, bytes, context.stream, c.out, a, c.alpha, c.beta);
    } else {
      const View<eT> partial{context.workspace<eT>(blocks), blocks, 1, blocks};
      launch(&sum_all_kernel<eT>, blocks, threads_per_block, bytes, context.stream,
             View<eT>{partial.data, 1, blocks, 1}, a, eT(1), eT(0));
      sum_columns<eT>(context, c.out, partial, c.alpha, c.beta);
    }
  } else if (c.out.rows == 1 && a.rows != 1) {
    sum_columns(context, c.out, a, c.alpha, c.beta);
  } else if (c.out.cols == 1 && a.cols != 1) {
    const dim3 block(32, 8);
    if (a.rows != 0)
      launch(&sum_rows_kernel<eT>, (a.rows + block.x - 1) / block.x, block, block.x * block.y * sizeof(eT),
             context.stream, c.out, a, c.alpha, c.beta);
  } else {
    copy(context, c);
  }
}

template <class eT>
void cross_entropy(Context& context, const Command<eT>& c) {
  const View<const eT>& z = c.in[0];
  eT* losses = context.workspace<eT>(z.cols);
  if (z.cols != 0) {
    const unsigned threads = threads_for(z.rows);
    launch(&cross_entropy_kernel<eT>, z.cols, threads, threads * sizeof(eT), context.stream, losses, c.more_out[0], z,
           c.indices, c.alpha);
  }
  sum_columns<eT>(context, c.out, {losses, z.cols, 1, z.cols}, c.alpha, eT(0));
}

template <class eT>
void softmax(Context& context, const Command<eT>& c) {
  const bool of_rows = (c.flags & transpose_a) != 0;
  const View<const eT>& a = c.in[0];
  const unsigned threads = threads_for(of_rows ? a.cols : a.rows);
  if (a.size() != 0)
    launch(&softmax_kernel<eT>, of_rows ? a.rows : a.cols, threads, threads * sizeof(eT), context.stream, c.out, a,
           of_rows);
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

// ---- the table

template <class eT>
using Table = std::map<std::string_view, Function<eT>>;

/// The same function, told what its context is.
template <class eT, void (*function)(Context&, const Command<eT>&)>
void with_context(void* context, const Command<eT>& c) {
  function(*static_cast<Context*>(context), c);
}

template <class Row, class eT>
void add_row(Table<eT>& table) {
  table[Row::name] = &with_context<eT, &row_value<Row, eT>>;
  if constexpr (Row::derivatives > 0) table[Row::derivative_names[0]] = &with_context<eT, &row_derivative<Row, 0, eT>>;
  if constexpr (Row::derivatives > 1) table[Row::derivative_names[1]] = &with_context<eT, &row_derivative<Row, 1, eT>>;
}

template <class eT>
Table<eT> make_table() {
  Table<eT> table{{"gemm", &with_context<eT, &gemm<eT>>},
                  {"copy", &with_context<eT, &copy<eT>>},
                  {"fill", &with_context<eT, &fill<eT>>},
                  {"sum", &with_context<eT, &sum<eT>>},
                  {"cross_entropy", &with_context<eT, &cross_entropy<eT>>},
                  {"softmax", &with_context<eT, &softmax<eT>>}};
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
  return table;
}

}  // namespace

template <class eT>
Function<eT> find_function(const char* kernel) {
  static const Table<eT> table = make_table<eT>();
  const auto found = table.find(kernel);
  return found == table.end() ? nullptr : found->second;
}
template Function<float> find_function(const char*);
template Function<double> find_function(const char*);

cudaError_t probe_architecture() {
  cudaFuncAttributes attributes;
  return cudaFuncGetAttributes(&attributes, reinterpret_cast<const void*>(&fill_kernel<float>));
}

}  // namespace armagrad::cuda
