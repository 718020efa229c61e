// Reductions. Every sum is taken in an order that follows from the shapes alone, never from which thread was faster,
// so the same command gives the same bits every time.
#include <cmath>

#include "maps.cuh"
#include "reduce.cuh"

namespace armagrad::cuda {
namespace {

// ---- device code

/// The largest or smallest; of equals, and of NaNs, which beat all, the first.
template <class eT>
struct Better {
  bool smallest;
  __device__ Best<eT> operator()(Best<eT> a, Best<eT> b) const {
    const bool a_nan = std::isnan(a.value), b_nan = std::isnan(b.value);
    const bool b_wins = smallest ? b.value < a.value : b.value > a.value;
    const bool equal = a.value == b.value || (a_nan && b_nan);
    if (equal) return a.at <= b.at ? a : b;
    return b_nan || (b_wins && !a_nan) ? b : a;
  }
};

struct Element {
  template <class T>
  __device__ static T of(T a, T) {
    return a;
  }
};
struct Product {
  template <class T>
  __device__ static T of(T a, T b) {
    return a * b;
  }
};
struct SquaredDifference {
  template <class T>
  __device__ static T of(T a, T b) {
    return (a - b) * (a - b);
  }
};

/// Block k sums its share of the terms of a and b, both in one piece, into out(0, k).
template <class Term, class eT>
__global__ void total_kernel(View<eT> out, View<const eT> a, View<const eT> b, Live<Factors<eT>> factors) {
  const std::size_t n = std::size_t{a.rows} * a.cols, step = std::size_t{gridDim.x} * blockDim.x;
  eT total = 0;
  for (std::size_t i = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n; i += step)
    total += Term::of(a.data[i], b.data[i]);
  total = reduce_line(total, Plus());
  if (threadIdx.x == 0) store(out.data[std::size_t{blockIdx.x} * out.ld], total, factors());
}

/// A block takes 32 rows, so that neighbours read neighbours; its warps and the grid's y share the columns. Slice y of
/// the grid writes column y of `out`.
template <class eT>
__global__ void sum_rows_kernel(View<eT> out, View<const eT> a, Live<Factors<eT>> factors) {
  eT* scratch = shared<eT>();
  const std::size_t row = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x;
  const std::size_t step = std::size_t{gridDim.y} * blockDim.y;
  eT total = 0;
  if (row < a.rows)
    for (std::size_t j = std::size_t{blockIdx.y} * blockDim.y + threadIdx.y; j < a.cols; j += step)
      total += a.data[row + j * a.ld];
  scratch[threadIdx.y * blockDim.x + threadIdx.x] = total;
  __syncthreads();
  if (threadIdx.y != 0 || row >= a.rows) return;
  for (unsigned warp = 1; warp < blockDim.y; ++warp) total += scratch[warp * blockDim.x + threadIdx.x];
  store(out.data[row + std::size_t{blockIdx.y} * out.ld], total, factors());
}

/// One column or row of a matrix, and the line's number; threads with the same y share a line.
template <class eT>
struct Line {
  eT* data;
  std::size_t step, length;
  __device__ eT& operator[](std::size_t i) const { return data[i * step]; }
};
__device__ std::size_t line_number() { return std::size_t{blockIdx.x} * blockDim.y + threadIdx.y; }
template <class eT>
__device__ Line<eT> line_of(const View<eT>& a, bool of_rows) {
  const std::size_t k = line_number();
  if (of_rows) return {a.data + k, a.ld, a.cols};
  return {a.data + k * a.ld, 1, a.rows};
}
template <class eT>
__device__ bool is_beyond(const View<eT>& a, bool of_rows) {
  return line_number() >= (of_rows ? a.rows : a.cols);
}

template <class eT, class F>
__device__ eT sum_of_line(const Line<const eT>& x, F term) {
  eT total = 0;
  for (std::size_t i = threadIdx.x; i < x.length; i += blockDim.x) total += term(x[i], i);
  return reduce_line(total, Plus());
}
template <class eT>
__device__ eT top_of_line(const Line<const eT>& x) {
  eT top = x[0];
  for (std::size_t i = threadIdx.x; i < x.length; i += blockDim.x) top = Larger()(top, x[i]);
  return reduce_line(top, Larger());
}

template <class eT>
__global__ void sum_columns_kernel(View<eT> out, View<const eT> a, Live<Factors<eT>> factors) {
  if (is_beyond(a, false)) return;
  const eT total = sum_of_line(line_of(a, false), [](eT x, std::size_t) { return x; });
  if (threadIdx.x == 0) store(out.data[line_number() * out.ld], total, factors());
}

/// A column's loss, and its part of the residual unless `residual.data` is null.
template <class eT>
__global__ void cross_entropy_kernel(eT* losses, View<eT> residual, View<const eT> z, const std::uint32_t* labels,
                                     eT alpha) {
  if (is_beyond(z, false)) return;
  const std::size_t label = labels[line_number()];
  const Line<const eT> x = line_of(z, false);
  const eT top = top_of_line(x);
  const eT others = sum_of_line(x, [=](eT v, std::size_t i) { return i == label ? eT(0) : std::exp(v - top); });
  const eT own = std::exp(x[label] - top);
  if (residual.data != nullptr) {
    const Line<eT> r = line_of(residual, false);
    const eT scale = alpha / (others + own);
    for (std::size_t i = threadIdx.x; i < x.length; i += blockDim.x)
      r[i] = i == label ? -others * scale : std::exp(x[i] - top) * scale;  // p - 1 would round to 0 where p is near 1
  }
  // Of a confident column log(1 + others) keeps what 1 + others would round away.
  if (threadIdx.x == 0)
    losses[line_number()] = own == eT(1) ? std::log1p(others) : std::log(others + own) + (top - x[label]);
}

template <class eT>
__global__ void softmax_kernel(View<eT> out, View<const eT> a, bool of_rows) {
  if (is_beyond(a, of_rows)) return;
  const Line<const eT> x = line_of(a, of_rows);
  const Line<eT> y = line_of(out, of_rows);
  const eT top = top_of_line(x);
  const eT total = sum_of_line(x, [=](eT v, std::size_t) { return std::exp(v - top); });
  for (std::size_t i = threadIdx.x; i < x.length; i += blockDim.x) y[i] = std::exp(x[i] - top) / total;
}

template <class eT>
__global__ void log_sum_exp_kernel(eT* out, View<const eT> a, bool of_rows) {
  if (is_beyond(a, of_rows)) return;
  const Line<const eT> x = line_of(a, of_rows);
  const eT top = top_of_line(x);
  const eT total = sum_of_line(x, [=](eT v, std::size_t) { return std::exp(v - top); });
  if (threadIdx.x == 0) out[line_number()] = std::isfinite(top) ? top + std::log(total) : top;
}

template <class eT>
__global__ void maximum_kernel(eT* out, View<eT> mask, View<const eT> a, bool of_rows, bool smallest) {
  if (is_beyond(a, of_rows)) return;
  const Line<const eT> x = line_of(a, of_rows);
  const Better<eT> better{smallest};
  Best<eT> best{x[0], 0};
  for (std::size_t i = threadIdx.x; i < x.length; i += blockDim.x)
    best = better(best, {x[i], static_cast<std::uint32_t>(i)});
  best = reduce_line(best, better);
  if (threadIdx.x == 0) out[line_number()] = best.value;
  if (mask.data == nullptr) return;
  const Line<eT> m = line_of(mask, of_rows);
  for (std::size_t i = threadIdx.x; i < x.length; i += blockDim.x) m[i] = i == best.at ? eT(1) : eT(0);
}

// ---- from a command to launches

/// A kernel with some threads for every column, or row, of `a`; `per_warp` bytes of shared memory where they are many.
template <class... P, class eT, class... Arguments>
void launch_lines(Context& context, View<const eT> a, bool of_rows, std::size_t per_warp, void (*kernel)(P...),
                  Arguments... arguments) {
  const std::uint32_t count = of_rows ? a.rows : a.cols, length = of_rows ? a.cols : a.rows;
  if (count == 0) return;
  dim3 block(32);
  while (block.x < threads_per_block && 8 * block.x < length) block.x *= 2;
  if (block.x == 32) block.y = std::min(count, 4u);
  launch(kernel, (count - 1) / block.y + 1, block, block.x == 32 ? 0 : block.x / 32 * per_warp, context.stream,
         arguments...);
}

constexpr std::uint32_t most_partials = 512;
template <class eT>
constexpr Live<Factors<eT>> as_it_is{nullptr, {1, 0}};

/// out (1x1) = alpha sum of terms + beta out, by way of up to `most_partials` numbers at `partials`.
template <class Term, class eT>
void total(Context& context, View<eT> out, View<const eT> a, View<const eT> b, Live<Factors<eT>> factors,
           eT* partials) {
  constexpr std::size_t per_block = 4096, bytes = threads_per_block / 32 * sizeof(eT);
  const std::size_t shares = a.size() / per_block;
  if (shares <= 4) {
    launch(&total_kernel<Term, eT>, 1, threads_per_block, bytes, context.stream, out, a, b, factors);
    return;
  }
  const auto blocks = static_cast<std::uint32_t>(std::min<std::size_t>(shares, most_partials));
  const View<eT> partial{partials, 1, blocks, 1};
  launch(&total_kernel<Term, eT>, blocks, threads_per_block, bytes, context.stream, partial, a, b, as_it_is<eT>);
  launch(&total_kernel<Element, eT>, 1, threads_per_block, bytes, context.stream, out, View<const eT>(partial),
         View<const eT>(partial), factors);
}
template <class Term, class eT>
void total(Context& context, const Command<eT>& c) {
  total<Term>(context, c.out, c.in[0], c.in[1], context.factors(c), context.workspace<eT>(most_partials));
}

template <class eT>
void sum_columns(Context& context, View<eT> out, View<const eT> a, Live<Factors<eT>> factors) {
  launch_lines(context, a, false, sizeof(eT), &sum_columns_kernel<eT>, out, a, factors);
}

template <class eT>
void sum_rows(Context& context, View<eT> out, View<const eT> a, Live<Factors<eT>> factors) {
  if (a.rows == 0) return;
  const dim3 block(32, 8);
  const std::uint32_t row_blocks = (a.rows - 1) / block.x + 1;
  const auto sum_into = [&](View<eT> to, View<const eT> from, std::uint32_t slices, Live<Factors<eT>> f) {
    launch(&sum_rows_kernel<eT>, dim3(row_blocks, slices), block, block.x * block.y * sizeof(eT), context.stream, to,
           from, f);
  };
  // Enough blocks to fill the device, each with enough columns to be worth a second pass.
  const std::uint32_t slices = std::min(std::max(512 / row_blocks, 1u), std::max(a.cols / 64, 1u));
  if (slices == 1) return sum_into(out, a, 1, factors);
  const View<eT> partial{context.workspace<eT>(std::size_t{a.rows} * slices), a.rows, slices, a.rows};
  sum_into(partial, a, slices, as_it_is<eT>);
  sum_into(out, partial, 1, factors);
}

template <class eT>
void sum(Context& context, const Command<eT>& c) {
  const View<const eT>& a = c.in[0];
  const bool to_row = c.out.rows == 1 && a.rows != 1, to_column = c.out.cols == 1 && a.cols != 1;
  const bool to_number = c.out.rows == 1 && c.out.cols == 1;
  if (!to_number && !to_row && !to_column) return copy(context, c);
  const Live<Factors<eT>> factors = context.factors(c);
  if (to_number && a.contiguous()) {
    total<Element>(context, c.out, a, a, factors, context.workspace<eT>(most_partials));
  } else if (to_number) {
    eT* const columns = context.workspace<eT>(a.cols + std::size_t{most_partials});
    const View<eT> row{columns, 1, a.cols, 1};
    sum_columns(context, row, a, as_it_is<eT>);
    total<Element, eT>(context, c.out, row, row, factors, columns + a.cols);
  } else if (to_row) {
    sum_columns(context, c.out, a, factors);
  } else {
    sum_rows(context, c.out, a, factors);
  }
}

template <class eT>
void cross_entropy(Context& context, const Command<eT>& c) {
  const View<const eT>& z = c.in[0];
  eT* const losses = context.workspace<eT>(z.cols + std::size_t{most_partials});
  launch_lines(context, z, false, sizeof(eT), &cross_entropy_kernel<eT>, losses, c.more_out[0], z, c.indices, c.alpha);
  const View<const eT> column{losses, z.cols, 1, z.cols};
  total<Element, eT>(context, c.out, column, column, {nullptr, {c.alpha, eT(0)}}, losses + z.cols);
}

template <class eT>
void softmax(Context& context, const Command<eT>& c) {
  const bool of_rows = (c.flags & transpose_a) != 0;
  launch_lines(context, c.in[0], of_rows, sizeof(eT), &softmax_kernel<eT>, c.out, c.in[0], of_rows);
}
template <class eT>
void log_sum_exp(Context& context, const Command<eT>& c) {
  const bool of_rows = (c.flags & transpose_a) != 0;
  launch_lines(context, c.in[0], of_rows, sizeof(eT), &log_sum_exp_kernel<eT>, c.out.data, c.in[0], of_rows);
}
template <class eT>
void maximum(Context& context, const Command<eT>& c) {
  const bool of_rows = (c.flags & transpose_a) != 0, smallest = (c.flags & take_smallest) != 0;
  launch_lines(context, c.in[0], of_rows, sizeof(Best<eT>), &maximum_kernel<eT>, c.out.data, c.more_out[0], c.in[0],
               of_rows, smallest);
}

}  // namespace

template <class eT>
void add_reductions(Table<eT>& table) {
  table["sum"] = {&with_context<eT, &sum<eT>>};
  table["dot"] = {&with_context<eT, &total<Product, eT>>};
  table["squared_distance"] = {&with_context<eT, &total<SquaredDifference, eT>>};
  table["cross_entropy"] = {&with_context<eT, &cross_entropy<eT>>};
  table["softmax"] = {&with_context<eT, &softmax<eT>>};
  table["log_sum_exp"] = {&with_context<eT, &log_sum_exp<eT>>};
  table["maximum"] = {&with_context<eT, &maximum<eT>>};
}
template void add_reductions(Table<float>&);
template void add_reductions(Table<double>&);

}  // namespace armagrad::cuda
