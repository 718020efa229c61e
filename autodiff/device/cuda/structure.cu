// Triangles, running sums, order, and what is made of eigenvalues and singular values: the kernels of
// device/linear_algebra.hpp that need no factorisation.
#include <cmath>
#include <limits>

#include "linear_algebra.cuh"
#include "reduce.cuh"

namespace armagrad::cuda {
namespace {

using detail::Triangle;

// ---- device code

template <class eT>
__global__ void triangle_kernel(View<eT> out, View<const eT> a, bool upper, int diagonal) {
  for_each_element(out.rows, out.cols, [&](std::size_t i, std::size_t j) {
    const auto above = static_cast<std::int64_t>(j) - static_cast<std::int64_t>(i);
    const bool kept = upper ? above >= diagonal : above <= diagonal;
    out.data[i + j * out.ld] = kept ? a.data[i + j * a.ld] : eT(0);
  });
}

// `out` may be A: what is written is not read, or is the same.
template <class eT>
__global__ void mirror_kernel(View<eT> out, View<const eT> a, bool upper) {
  for_each_element(out.rows, out.cols, [&](std::size_t i, std::size_t j) {
    const bool here = upper ? i <= j : i >= j;
    out.data[i + j * out.ld] = here ? a.data[i + j * a.ld] : a.data[j + i * a.ld];
  });
}
template <class eT>
__global__ void fold_kernel(View<eT> out, View<const eT> a, bool upper) {
  for_each_element(out.rows, out.cols, [&](std::size_t i, std::size_t j) {
    const eT x = a.data[i + j * a.ld], other = a.data[j + i * a.ld];
    out.data[i + j * out.ld] = i == j ? x : (upper ? i < j : i > j) ? x + other : eT(0);
  });
}

/// One thread takes a line, so that the sums are the CPU's.
template <class eT>
__global__ void cumsum_kernel(View<eT> out, View<const eT> a, bool of_rows, bool backwards) {
  for_each_element(of_rows ? out.rows : out.cols, 1, [&](std::size_t line, std::size_t) {
    const std::size_t length = of_rows ? out.cols : out.rows;
    const std::size_t first = of_rows ? line : line * out.rows, step = of_rows ? out.rows : 1;
    eT sum = 0;
    for (std::size_t k = 0; k < length; ++k) {
      const std::size_t at = first + (backwards ? length - 1 - k : k) * step;
      out.data[at] = sum += a.data[at];
    }
  });
}

// Sorting: Batcher's bitonic network over the indices of all lines at once, of a length that is a power of 2. Indices
// beyond the line's end come last; of equal elements the first one comes first, as in a stable sort.
__global__ void indices_kernel(View<std::uint32_t> order) {
  for_each_element(order.rows, order.cols, [&](std::size_t k, std::size_t line) {
    order.data[k + line * order.ld] = static_cast<std::uint32_t>(k);
  });
}
template <class eT>
__global__ void exchange_kernel(View<std::uint32_t> order, View<const eT> x, bool of_rows, bool descending,
                                std::uint32_t run, std::uint32_t apart) {
  for_each_element(order.rows / 2, order.cols, [&](std::size_t pair, std::size_t line) {
    const std::size_t low = pair % apart + 2 * (pair - pair % apart);
    std::uint32_t& a = order.data[low + line * order.ld];
    std::uint32_t& b = order.data[low + apart + line * order.ld];
    const std::size_t length = of_rows ? x.cols : x.rows;
    const auto element = [&](std::size_t k) { return x.data[of_rows ? line + k * x.ld : k + line * x.ld]; };
    bool b_first = b < a;
    if (a < length && b < length) {
      const eT u = element(a), v = element(b);
      if (u != v) b_first = descending ? v > u : v < u;
    }
    if (b_first != ((low & run) == 0)) return;
    const std::uint32_t kept = a;
    a = b;
    b = kept;
  });
}
template <class eT>
__global__ void sorted_kernel(View<eT> out, View<eT> where, View<const eT> x, View<const std::uint32_t> order,
                              bool of_rows) {
  for_each_element(out.rows, out.cols, [&](std::size_t i, std::size_t j) {
    const std::size_t from = of_rows ? order.data[j + i * order.ld] : order.data[i + j * order.ld];
    out.data[i + j * out.ld] = of_rows ? x.data[i + from * x.ld] : x.data[from + j * x.ld];
    where.data[i + j * where.ld] = static_cast<eT>(from);
  });
}
template <class eT>
__global__ void reorder_kernel(View<eT> out, View<const eT> x, View<const eT> where, bool of_rows, bool back) {
  for_each_element(out.rows, out.cols, [&](std::size_t i, std::size_t j) {
    const auto k = static_cast<std::size_t>(where.data[i + j * where.ld]);
    const std::size_t there = of_rows ? i + k * out.rows : k + j * out.rows, here = i + j * out.rows;
    if (back)
      out.data[there] = x.data[here];
    else
      out.data[here] = x.data[there];
  });
}

/// Block j looks at column j of A.
template <class eT>
__global__ void look_kernel(View<eT> numbers, View<const eT> a, bool lower, bool upper) {
  const std::size_t j = blockIdx.x;
  eT sum = 0, not_finite = 0, nan = 0, largest = 0;
  for (std::size_t i = threadIdx.x; i < a.rows; i += blockDim.x) {
    if ((i < j && !upper) || (i > j && !lower)) continue;
    const eT size = std::abs(a.data[i + j * a.ld]);
    sum += size;
    if (!std::isfinite(size)) not_finite = 1;
    if (std::isnan(size)) nan = 1;
    largest = Larger()(largest, size);
  }
  sum = reduce_line(sum, Plus());
  not_finite = reduce_line(not_finite, Larger());
  nan = reduce_line(nan, Larger());
  largest = reduce_line(largest, Larger());
  if (threadIdx.x != 0) return;
  eT* const to = numbers.data + j * numbers.ld;
  to[0] = sum, to[1] = not_finite, to[2] = nan, to[3] = largest;
}
template <class eT>
__global__ void symmetry_kernel(View<eT> numbers, View<const eT> a, View<eT> part) {
  const std::size_t j = blockIdx.x;
  eT largest = 0, not_finite = 0, apart = 0;
  for (std::size_t i = threadIdx.x; i < a.rows; i += blockDim.x) {
    const eT x = a.data[i + j * a.ld], y = a.data[j + i * a.ld], mean = (x + y) / 2;
    if (part.data != nullptr) part.data[i + j * part.ld] = mean;
    if (!std::isfinite(mean)) not_finite = 1;
    largest = Larger()(largest, std::abs(mean));
    apart = Larger()(apart, std::abs(x - y));
  }
  largest = reduce_line(largest, Larger());
  not_finite = reduce_line(not_finite, Larger());
  apart = reduce_line(apart, Larger());
  if (threadIdx.x != 0) return;
  eT* const to = numbers.data + j * numbers.ld;
  to[0] = largest, to[1] = not_finite, to[2] = apart, to[3] = 0;
}
/// Block k takes the largest of row k.
template <class eT>
__global__ void largest_kernel(View<eT> out, View<const eT> numbers) {
  const std::size_t k = blockIdx.x;
  eT top = 0;
  for (std::size_t j = threadIdx.x; j < numbers.cols; j += blockDim.x)
    top = Larger()(top, numbers.data[k + j * numbers.ld]);
  top = reduce_line(top, Larger());
  if (threadIdx.x == 0) out.data[k] = top;
}

template <class eT>
__global__ void gaps_kernel(View<eT> out, View<const eT> w, const eT* top, eT rounding) {
  for_each_element(out.rows, out.cols, [&](std::size_t i, std::size_t j) {
    const eT gap = w.data[j] - w.data[i];
    out.data[i + j * out.ld] = std::abs(gap) <= rounding * *top ? eT(0) : 1 / gap;
  });
}
/// skew(M) % E, with N skew(M + N) % E + skew(M - N) % F; dw on the diagonal, or 0.
template <class eT>
__global__ void between_vectors_kernel(View<eT> out, View<const eT> m, View<const eT> w, View<const eT> dw,
                                       View<const eT> v, const eT* top, eT rounding) {
  for_each_element(out.rows, out.cols, [&](std::size_t i, std::size_t j) {
    const std::size_t ij = i + j * out.rows, ji = j + i * out.rows;
    const eT same = rounding * *top, gap = w.data[j] - w.data[i], x = m.data[ij] - m.data[ji];
    eT value = dw.data != nullptr ? dw.data[i] : eT(0);
    if (i != j && v.data == nullptr) value = std::abs(gap) <= same ? eT(0) : x / (2 * gap);
    if (i != j && v.data != nullptr) {
      const eT sum = w.data[j] + w.data[i], y = v.data[ij] - v.data[ji];
      value = (std::abs(gap) <= same ? eT(0) : (x + y) / (2 * gap)) + (sum <= 2 * same ? eT(0) : (x - y) / (2 * sum));
    }
    out.data[ij] = value;
  });
}
template <class eT>
__global__ void convolve_kernel(View<eT> out, View<const eT> a, View<const eT> b, int s, int t, std::int64_t c) {
  const auto length = static_cast<std::int64_t>(std::size_t{a.rows} * a.cols);
  for_each_element(out.rows * out.cols, 1, [&](std::size_t i, std::size_t) {
    eT sum = 0;
    for (std::size_t k = 0; k < std::size_t{b.rows} * b.cols; ++k) {
      const std::int64_t at = s * static_cast<std::int64_t>(i) + t * static_cast<std::int64_t>(k) + c;
      if (at >= 0 && at < length) sum += a.data[at] * b.data[k];
    }
    out.data[i] = sum;
  });
}
template <class eT>
__global__ void sums_kernel(View<eT> out, View<const eT> s, eT rounding) {
  for_each_element(out.rows, out.cols, [&](std::size_t i, std::size_t j) {
    const eT sum = s.data[i] + s.data[j];
    out.data[i + j * out.ld] = sum <= 2 * rounding * s.data[0] ? eT(0) : 1 / sum;
  });
}
template <class eT>
__global__ void reciprocals_kernel(View<eT> out, View<const eT> s, eT rounding) {
  for_each_element(out.rows, out.cols, [&](std::size_t i, std::size_t) {
    out.data[i] = s.data[i] <= rounding * s.data[0] ? eT(0) : 1 / s.data[i];
  });
}
template <class eT>
__global__ void rank_kernel(View<eT> out, View<const eT> s, eT tolerance, eT relative) {
  std::size_t rank = 0;
  while (rank < s.rows && s.data[rank] > tolerance + relative * s.data[0]) ++rank;
  *out.data = static_cast<eT>(rank);
}
template <class eT>
__global__ void scale_by_inverse_kernel(View<eT> out, View<const eT> v, View<const eT> s, eT tolerance, eT relative) {
  for_each_element(out.rows, out.cols, [&](std::size_t i, std::size_t j) {
    const bool counts = s.data[j] > tolerance + relative * s.data[0];
    out.data[i + j * out.ld] = counts ? v.data[i + j * v.ld] / s.data[j] : eT(0);
  });
}
template <class eT>
__global__ void cond_kernel(View<eT> out, View<const eT> s, eT infinity) {
  const eT least = s.data[s.rows - 1];
  *out.data = least > 0 ? s.data[0] / least : infinity;
}

/// V's columns of equal values, times I - 2 u u'. A thread takes a row.
template <class eT>
__global__ void reflect_kernel(View<eT> v, View<const eT> w, bool singular, eT tolerance) {
  const std::size_t n = w.rows;
  const eT ends[] = {std::abs(w.data[0]), std::abs(w.data[n - 1])};
  const eT equal = tolerance * (ends[0] < ends[1] ? ends[1] : ends[0]);
  std::size_t end = 0;
  for (std::size_t first = 0; first < n; first = end) {
    for (end = first + 1; end < n && std::abs(w.data[end] - w.data[first]) <= equal;) ++end;
    if (end - first < 2 || (singular && w.data[first] <= equal)) continue;
    eT norm = 0;
    for (std::size_t k = first; k < end; ++k) {
      const eT u = detail::generic_element<eT>(k - first);
      norm += u * u;
    }
    for_each_element(v.rows, 1, [&](std::size_t i, std::size_t) {
      eT sum = 0;
      for (std::size_t k = first; k < end; ++k) sum += v.data[i + k * v.ld] * detail::generic_element<eT>(k - first);
      sum *= 2 / norm;
      for (std::size_t k = first; k < end; ++k) v.data[i + k * v.ld] -= sum * detail::generic_element<eT>(k - first);
    });
  }
}
/// Q's columns from `first` on and from those of singular values 0 on, reflected within what the others leave out. By
/// one block; `p` has as many elements as Q rows.
template <class eT>
__global__ void reflect_rest_kernel(View<eT> q, View<const eT> s, eT tolerance, std::size_t first, eT* p) {
  const std::size_t m = q.rows;
  while (first < s.rows && s.data[first] > tolerance * s.data[0]) ++first;
  if (q.cols <= first || m < first + 2) return;
  const auto with = [&](const eT* x) {
    eT sum = 0;
    for (std::size_t i = threadIdx.x; i < m; i += blockDim.x) sum += x[i] * p[i];
    return reduce_line(sum, Plus());
  };
  for (std::size_t i = threadIdx.x; i < m; i += blockDim.x) p[i] = detail::generic_element<eT>(i);
  for (int twice = 0; twice < 2; ++twice)
    for (std::size_t j = 0; j < first; ++j) {  // a thread reads only what it wrote of p
      const eT share = with(q.data + j * q.ld);
      for (std::size_t i = threadIdx.x; i < m; i += blockDim.x) p[i] -= share * q.data[i + j * q.ld];
    }
  const eT norm = with(p);
  for (std::size_t j = first; j < q.cols; ++j) {
    const eT share = 2 * with(q.data + j * q.ld) / norm;
    for (std::size_t i = threadIdx.x; i < m; i += blockDim.x) q.data[i + j * q.ld] -= share * p[i];
  }
}

// Checks by one block: the number of the first place where something is wrong, or `nowhere`. Their result is 0.
constexpr std::uint64_t nowhere = ~std::uint64_t{0};
struct Earlier {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return b < a ? b : a;
  }
};
template <class eT>
__device__ void tell_first(std::uint64_t first, View<eT> out, std::uint64_t* found) {
  first = reduce_line(first, Earlier());
  if (threadIdx.x != 0) return;
  *found = first;
  *out.data = 0;
}
template <class eT>
__device__ eT largest_of(const eT* x, std::size_t n) {
  eT top = 0;
  for (std::size_t i = threadIdx.x; i < n; i += blockDim.x) top = Larger()(top, std::abs(x[i]));
  return reduce_line(top, Larger());
}

template <class eT>
__global__ void unambiguous_kernel(View<eT> out, View<const eT> m, View<const eT> w, View<const eT> dw,
                                   View<const eT> v, bool values, bool singular, bool symmetric, eT rounding,
                                   eT small_beside_it, std::uint64_t* found) {
  const std::size_t n = w.rows;
  const eT top = largest_of(w.data, n), largest = values ? largest_of(dw.data, n) : eT(0);
  eT scale = largest_of(m.data, n * n);
  if (singular) scale = Larger()(scale, largest_of(v.data, n * n));
  const detail::Ambiguity<eT> ambiguous{values,
                                        singular,
                                        symmetric,
                                        n,
                                        m.data,
                                        w.data,
                                        dw.data,
                                        v.data,
                                        rounding * top,
                                        small_beside_it * scale,
                                        detail::zero_beside(largest, scale, top, small_beside_it)};
  std::uint64_t first = nowhere;
  for (std::size_t at = threadIdx.x; at < n * n && first == nowhere; at += blockDim.x) {
    const std::size_t i = at / n, j = at % n;
    if (i < j && ambiguous.same_value(i, j) && ambiguous.at(i, j)) first = at;
  }
  tell_first(first, out, found);
}
template <class eT>
__global__ void nothing_at_zero_kernel(View<eT> out, View<const eT> x, View<const eT> s, eT rounding,
                                       eT small_beside_it, std::uint64_t* found) {
  const eT scale = largest_of(x.data, std::size_t{x.rows} * x.cols);
  std::uint64_t first = nowhere;
  for (std::size_t j = threadIdx.x; j < s.rows && first == nowhere; j += blockDim.x)
    if (s.data[j] <= rounding * s.data[0])
      for (std::size_t i = 0; i < x.rows; ++i)
        if (std::abs(x.data[i + j * x.ld]) > small_beside_it * scale) first = j;
  tell_first(first, out, found);
}
template <class eT>
__global__ void moving_kernel(View<eT> out, View<const eT> m, View<const eT> w, eT rounding, eT small_beside_it,
                              std::uint64_t* found) {
  const std::size_t n = w.rows;
  const eT same = rounding * largest_of(w.data, n), zero = small_beside_it * largest_of(m.data, n * n);
  std::uint64_t first = nowhere;
  for (std::size_t at = threadIdx.x; at < n * n && first == nowhere; at += blockDim.x) {
    const std::size_t i = at / n, j = at % n;
    if (i < j && std::abs(w.data[i] - w.data[j]) <= same &&
        (std::abs(m.data[i + j * n]) > zero || std::abs(m.data[j + i * n]) > zero ||
         std::abs(m.data[i * (n + 1)] - m.data[j * (n + 1)]) > zero))
      first = at;
  }
  tell_first(first, out, found);
}
template <class eT>
__global__ void varying_kernel(View<eT> out, View<const eT> squares, std::uint64_t* found) {
  std::uint64_t first = nowhere;
  for (std::size_t j = threadIdx.x; j < std::size_t{squares.rows} * squares.cols && first == nowhere; j += blockDim.x)
    if (!(squares.data[j] > eT(0))) first = j;
  tell_first(first, out, found);
}

// ---- from a command to launches

template <class eT>
eT rounding_of(std::size_t n) {
  return detail::same_value_tolerance(n, eT(1));
}
template <class eT>
eT half_of_the_digits() {
  return std::sqrt(std::numeric_limits<eT>::epsilon());
}

template <class eT, bool upper>
void trimat(Context& context, const Command<eT>& c) {
  copy_triangle(context, upper, attributes_of<detail::TriangleOptions>(c).diagonal, c.in[0], c.out);
}
template <class eT, bool upper>
void symmat(Context& context, const Command<eT>& c) {
  mirror_triangle(context, upper, c.in[0], c.out);
}
template <class eT, bool upper>
void fold(Context& context, const Command<eT>& c) {
  launch_elements(context, c.out.rows, c.out.cols, &fold_kernel<eT>, c.out, c.in[0], upper);
}

template <class eT>
void cumsum(Context& context, const Command<eT>& c) {
  const auto& o = attributes_of<detail::CumsumOptions>(c);
  if (c.out.size() == 0) return;
  launch_elements(context, o.dim == 1 ? c.out.rows : c.out.cols, 1, &cumsum_kernel<eT>, c.out, c.in[0], o.dim == 1,
                  o.backwards);
}

template <class eT>
void sort(Context& context, const Command<eT>& c) {
  const auto& o = attributes_of<detail::SortOptions>(c);
  const View<const eT> x = c.in[0];
  const bool of_rows = o.dim == 1;
  if (x.size() == 0) return;
  const std::uint32_t lines = of_rows ? x.rows : x.cols, length = of_rows ? x.cols : x.rows;
  std::uint32_t padded = 2;
  while (padded < length) padded *= 2;
  const auto [indices, columns, numbers] = carve(context, Piece<std::uint32_t>{std::size_t{padded} * lines},
                                                 Piece<eT>{numbers_of_column * x.cols}, Piece<eT>{numbers_of_column});
  look_at(context, x, Triangle::none, columns, numbers);
  if (context.read(reinterpret_cast<const Numbers<eT>*>(numbers)).nan != eT(0)) detail::fail_nan(x.rows, x.cols);
  const View<std::uint32_t> order = view(indices, padded, lines);
  launch_elements(context, padded, lines, &indices_kernel, order);
  for (std::uint32_t run = 2; run <= padded; run *= 2)
    for (std::uint32_t apart = run / 2; apart > 0; apart /= 2)
      launch_elements(context, padded / 2, lines, &exchange_kernel<eT>, order, x, of_rows, o.descending, run, apart);
  launch_elements(context, x.rows, x.cols, &sorted_kernel<eT>, c.out, c.more_out[0], x, order, of_rows);
}
template <class eT>
void reorder(Context& context, const Command<eT>& c) {
  const auto& o = attributes_of<detail::SortOptions>(c);
  launch_elements(context, c.out.rows, c.out.cols, &reorder_kernel<eT>, c.out, c.in[0], c.in[1], o.dim == 1,
                  o.descending);
}

template <class eT>
void gaps(Context& context, const Command<eT>& c) {
  const View<const eT> w = c.in[0];
  if (w.size() == 0) return;
  const auto [columns, numbers] = carve(context, Piece<eT>{numbers_of_column}, Piece<eT>{numbers_of_column});
  look_at(context, w, Triangle::none, columns, numbers);
  launch_elements(context, c.out.rows, c.out.cols, &gaps_kernel<eT>, c.out, w, numbers + 3, rounding_of<eT>(w.rows));
}
template <class eT>
void sums(Context& context, const Command<eT>& c) {
  launch_elements(context, c.out.rows, c.out.cols, &sums_kernel<eT>, c.out, c.in[0], rounding_of<eT>(c.in[0].rows));
}
template <class eT>
void reciprocals(Context& context, const Command<eT>& c) {
  launch_elements(context, c.out.rows, c.out.cols, &reciprocals_kernel<eT>, c.out, c.in[0],
                  rounding_of<eT>(c.in[0].rows));
}

/// The tolerance of pinv and rank: an absolute one, and one relative to the largest singular value.
template <class eT>
std::pair<eT, eT> tolerances(const detail::ToleranceOptions& o) {
  const eT tolerance = detail::rank_tolerance(o, eT(1));
  return o.tolerance > 0 ? std::pair{tolerance, eT(0)} : std::pair{eT(0), tolerance};
}
template <class eT>
void rank(Context& context, const Command<eT>& c) {
  const auto [tolerance, relative] = tolerances<eT>(attributes_of<detail::ToleranceOptions>(c));
  launch(&rank_kernel<eT>, 1, 1, 0, context.stream, c.out, c.in[0], tolerance, relative);
}
template <class eT>
void pinv(Context& context, const Command<eT>& c) {
  const View<const eT> u = c.in[0], s = c.in[1], v = c.in[2];
  const auto [tolerance, relative] = tolerances<eT>(attributes_of<detail::ToleranceOptions>(c));
  if (s.size() == 0) return fill_matrix(context, c.out, eT(0));
  const auto [memory] = carve(context, Piece<eT>{v.size()});
  const View<eT> scaled = view(memory, v.rows, v.cols);
  launch_elements(context, v.rows, v.cols, &scale_by_inverse_kernel<eT>, scaled, v, s, tolerance, relative);
  multiply<eT>(context, transpose_b, scaled, u, c.out);
}
/// As the CPU's: where the rank is full, some terms are 0.   in: A, P, G, s
template <class eT>
void pinv_gradient(Context& context, const Command<eT>& c) {
  const View<const eT> a = c.in[0], p = c.in[1], g = c.in[2], s = c.in[3];
  const View<eT> da = c.out;
  if (da.size() == 0) return;
  const std::size_t m = a.rows, n = a.cols;
  const auto [tolerance, relative] = tolerances<eT>(attributes_of<detail::ToleranceOptions>(c));
  const auto [pg_memory, x_memory, q_memory, number] =
      carve(context, Piece<eT>{m * m}, Piece<eT>{m * n}, Piece<eT>{n * n}, Piece<eT>{1});
  launch(&rank_kernel<eT>, 1, 1, 0, context.stream, view(number, 1), s, tolerance, relative);
  const auto rank = static_cast<std::size_t>(context.read(static_cast<const eT*>(number)));
  const View<eT> pg = view(pg_memory, m, m), x = view(x_memory, m, n), q = view(q_memory, n, n);
  multiply(context, transpose_a, p, g, pg);
  multiply<eT>(context, transpose_b, pg, p, da, -1);
  if (rank < m) {
    multiply<eT>(context, transpose_a | transpose_b, pg, p, x);  // G' P P'
    multiply<eT>(context, 0, p, x, q);
    copy_matrix<eT>(context, x, da, 1);
    multiply<eT>(context, 0, a, q, da, -1, 1);
  }
  if (rank < n) {
    multiply(context, transpose_b, p, g, q);
    multiply<eT>(context, transpose_a, p, q, x);  // P' P G'
    multiply<eT>(context, 0, x, p, pg);
    copy_matrix<eT>(context, x, da, 1);
    multiply<eT>(context, 0, pg, a, da, -1, 1);
  }
}
template <class eT>
void convolve(Context& context, const Command<eT>& c) {
  const auto& o = attributes_of<detail::ConvOptions>(c);
  launch_elements(context, static_cast<std::uint32_t>(c.out.size()), 1, &convolve_kernel<eT>, c.out, c.in[0], c.in[1],
                  o.s, o.t, o.c);
}
template <class eT>
void cond(Context& context, const Command<eT>& c) {
  if (c.in[0].size() == 0) return fill_matrix(context, c.out, eT(0));
  launch(&cond_kernel<eT>, 1, 1, 0, context.stream, c.out, c.in[0], std::numeric_limits<eT>::infinity());
}
template <class eT>
void finite_condition(Context& context, const Command<eT>& c) {
  const eT condition = context.read(c.in[0].data);
  if (!(condition < detail::largest_condition<eT>)) detail::fail_condition(static_cast<double>(condition));
  copy_matrix(context, c.in[0], c.out);
}

template <class eT>
void invariant(Context& context, const Command<eT>& c) {
  const View<const eT> s = c.in[0];
  fill_matrix(context, c.out, eT(0));
  if (s.size() == 0) return;
  const auto [columns, numbers] = carve(context, Piece<eT>{numbers_of_column * s.cols}, Piece<eT>{numbers_of_column});
  look_at_symmetry(context, s, {}, columns, numbers);
  const auto found = context.read(reinterpret_cast<const Symmetry<eT>*>(numbers));
  if (!(found.apart <= half_of_the_digits<eT>() * found.largest))
    detail::fail_basis(attributes_of<detail::AskedBy>(c).by, s.rows);
}

/// Where the one block of a check finds something wrong.
template <class... P, class... Arguments>
std::uint64_t first_fault(Context& context, void (*kernel)(P...), Arguments... arguments) {
  const auto [found] = carve(context, Piece<std::uint64_t>{1});
  launch(kernel, 1, threads_per_block, threads_per_block / 32 * sizeof(std::uint64_t), context.stream, arguments...,
         found);
  return context.read(static_cast<const std::uint64_t*>(found));
}
template <class eT>
void unambiguous(Context& context, const Command<eT>& c) {
  const auto& o = attributes_of<detail::AmbiguityOptions>(c);
  const View<const eT> w = c.in[1];
  const std::size_t n = w.rows;
  if (n == 0) return fill_matrix(context, c.out, eT(0));
  const std::uint64_t at = first_fault(context, &unambiguous_kernel<eT>, c.out, c.in[0], w, c.in[2], c.in[3], o.values,
                                       o.singular, o.symmetric, rounding_of<eT>(n), half_of_the_digits<eT>());
  if (at != nowhere) detail::fail_ambiguous(o, static_cast<double>(context.read(w.data + at / n)), at / n, at % n);
}
template <class eT>
void moving(Context& context, const Command<eT>& c) {
  const View<const eT> w = c.in[1];
  if (w.rows == 0) return fill_matrix(context, c.out, eT(0));
  const std::uint64_t at =
      first_fault(context, &moving_kernel<eT>, c.out, c.in[0], w, rounding_of<eT>(w.rows), half_of_the_digits<eT>());
  if (at != nowhere)
    detail::fail_ambiguous(attributes_of<detail::AmbiguityOptions>(c),
                           static_cast<double>(context.read(w.data + at / w.rows)), at / w.rows, at % w.rows,
                           detail::split_by_direction);
}
template <class eT>
void turn_symmetric(Context& context, const Command<eT>& c) {
  if (c.out.size() == 0) return;
  const auto [room] = carve(context, Piece<eT>{c.out.size()});
  const View<eT> t = view(room, c.out.rows, c.out.cols);
  multiply(context, 0, c.in[0], c.in[1], t);
  multiply<eT>(context, transpose_b, t, c.in[0], c.out);
}

template <class eT>
void between_vectors(Context& context, const Command<eT>& c) {
  const auto& o = attributes_of<detail::AmbiguityOptions>(c);
  const View<const eT> w = c.in[1];
  if (w.rows == 0) return;
  unambiguous(context, c);
  const auto [columns, numbers] = carve(context, Piece<eT>{numbers_of_column}, Piece<eT>{numbers_of_column});
  look_at(context, w, Triangle::none, columns, numbers);
  launch_elements(context, c.out.rows, c.out.cols, &between_vectors_kernel<eT>, c.out, c.in[0], w,
                  o.values ? c.in[2] : View<const eT>{}, o.singular ? c.in[3] : View<const eT>{}, numbers + 3,
                  rounding_of<eT>(w.rows));
}
template <class eT>
void nothing_at_zero(Context& context, const Command<eT>& c) {
  if (c.in[1].size() == 0) return fill_matrix(context, c.out, eT(0));
  const std::uint64_t j = first_fault(context, &nothing_at_zero_kernel<eT>, c.out, c.in[0], c.in[1],
                                      rounding_of<eT>(c.in[1].rows), half_of_the_digits<eT>());
  if (j != nowhere) detail::fail_at_zero(attributes_of<detail::AskedBy>(c).by, j);
}
template <class eT>
void varying(Context& context, const Command<eT>& c) {
  const std::uint64_t j = first_fault(context, &varying_kernel<eT>, c.out, c.in[0]);
  if (j != nowhere) detail::fail_constant(j);
}

template <class eT>
void largest_of_rows(Context& context, View<const eT> columns, eT* to) {
  launch(&largest_kernel<eT>, columns.rows, threads_per_block, threads_per_block / 32 * sizeof(eT), context.stream,
         view(to, columns.rows), columns);
}

}  // namespace

template <class eT>
void look_at(Context& context, View<const eT> a, Triangle part, eT* columns, eT* to) {
  const View<eT> numbers = view(columns, numbers_of_column, a.cols);
  if (a.cols > 0)
    launch(&look_kernel<eT>, a.cols, threads_per_block, threads_per_block / 32 * sizeof(eT), context.stream, numbers, a,
           part != Triangle::upper, part != Triangle::lower);
  largest_of_rows<eT>(context, numbers, to);
}
template <class eT>
void look_at_symmetry(Context& context, View<const eT> a, View<eT> part, eT* columns, eT* to) {
  const View<eT> numbers = view(columns, numbers_of_column, a.cols);
  if (a.cols > 0)
    launch(&symmetry_kernel<eT>, a.cols, threads_per_block, threads_per_block / 32 * sizeof(eT), context.stream,
           numbers, a, part);
  largest_of_rows<eT>(context, numbers, to);
}
template <class eT>
void reflect_rest(Context& context, View<eT> q, View<const eT> s, std::size_t first) {
  const auto [p] = carve(context, Piece<eT>{q.rows});
  launch(&reflect_rest_kernel<eT>, 1, threads_per_block, threads_per_block / 32 * sizeof(eT), context.stream, q, s,
         detail::equal_value_tolerance<eT>(1), first, p);
}
template <class eT>
void reflect_equal(Context& context, View<eT> v, View<const eT> w, bool singular) {
  if (w.rows == 0) return;
  launch_elements(context, v.rows, 1, &reflect_kernel<eT>, v, w, singular, detail::equal_value_tolerance<eT>(1));
  if (singular) reflect_rest(context, v, w, 0);
}
template <class eT>
void copy_triangle(Context& context, bool upper, int diagonal, View<const eT> a, View<eT> out) {
  launch_elements(context, out.rows, out.cols, &triangle_kernel<eT>, out, a, upper, diagonal);
}
template <class eT>
void mirror_triangle(Context& context, bool upper, View<const eT> a, View<eT> out) {
  launch_elements(context, out.rows, out.cols, &mirror_kernel<eT>, out, a, upper);
}

template <class eT>
void add_structure(Table<eT>& table) {
  const auto add = [&table](const char* name, Function<eT> function) { table[name] = {function, false}; };
  const auto add_reading = [&table](const char* name, Function<eT> function) { table[name] = {function, true}; };
  add("trimatu", &with_context<eT, &trimat<eT, true>>);
  add("trimatl", &with_context<eT, &trimat<eT, false>>);
  add("symmatu", &with_context<eT, &symmat<eT, true>>);
  add("symmatl", &with_context<eT, &symmat<eT, false>>);
  add("fold_upper", &with_context<eT, &fold<eT, true>>);
  add("fold_lower", &with_context<eT, &fold<eT, false>>);
  add("cumsum", &with_context<eT, &cumsum<eT>>);
  add("reorder", &with_context<eT, &reorder<eT>>);
  add("gaps", &with_context<eT, &gaps<eT>>);
  add("sums", &with_context<eT, &sums<eT>>);
  add("reciprocals", &with_context<eT, &reciprocals<eT>>);
  add("pinv", &with_context<eT, &pinv<eT>>);
  add("rank", &with_context<eT, &rank<eT>>);
  add("convolve", &with_context<eT, &convolve<eT>>);
  add("turn_symmetric", &with_context<eT, &turn_symmetric<eT>>);
  add("cond", &with_context<eT, &cond<eT>>);
  add_reading("sort", &with_context<eT, &sort<eT>>);
  add_reading("finite_condition", &with_context<eT, &finite_condition<eT>>);
  add_reading("invariant", &with_context<eT, &invariant<eT>>);
  add_reading("pinv_gradient", &with_context<eT, &pinv_gradient<eT>>);
  add_reading("between_vectors", &with_context<eT, &between_vectors<eT>>);
  add_reading("moving", &with_context<eT, &moving<eT>>);
  add_reading("unambiguous", &with_context<eT, &unambiguous<eT>>);
  add_reading("nothing_at_zero", &with_context<eT, &nothing_at_zero<eT>>);
  add_reading("varying", &with_context<eT, &varying<eT>>);
}

#define ARMAGRAD_INSTANTIATE(eT)                                                \
  template void look_at(Context&, View<const eT>, Triangle, eT*, eT*);          \
  template void look_at_symmetry(Context&, View<const eT>, View<eT>, eT*, eT*); \
  template void reflect_rest(Context&, View<eT>, View<const eT>, std::size_t);  \
  template void reflect_equal(Context&, View<eT>, View<const eT>, bool);        \
  template void copy_triangle(Context&, bool, int, View<const eT>, View<eT>);   \
  template void mirror_triangle(Context&, bool, View<const eT>, View<eT>);      \
  template void add_structure(Table<eT>&);
ARMAGRAD_INSTANTIATE(float)
ARMAGRAD_INSTANTIATE(double)
#undef ARMAGRAD_INSTANTIATE

}  // namespace armagrad::cuda
