// The kernels of device/kernels.hpp that are neither products nor reductions, and the table of all. First the device
// code, then the functions that turn a command into launches.
//
// Nothing in these files uses atomics on floating-point numbers, so the same command gives the same bits every time. A
// kernel never reads `out` when beta is 0: its memory may be uninitialised.
#include <cmath>
#include <cstring>
#include <iterator>

#include <armagrad/autodiff/device/kernels.hpp>

#include "maps.cuh"

namespace armagrad::cuda {
namespace {

// ---- device code

template <class eT>
__global__ void fill_kernel(View<eT> out, eT alpha, eT beta) {
  for_each_element(out.rows, out.cols,
                   [&](std::size_t i, std::size_t j) { store(out.data[i + j * out.ld], eT(1), alpha, beta); });
}

template <class eT>
__global__ void copy_kernel(View<eT> out, View<const eT> a, bool transposed, Live<Factors<eT>> factors) {
  const Factors<eT> f = factors();
  for_each_element(out.rows, out.cols, [&](std::size_t i, std::size_t j) {
    store(out.data[i + j * out.ld], transposed ? repeated(a, j, i) : repeated(a, i, j), f.alpha, f.beta);
  });
}

// A square of A goes through shared memory, so that reading and writing both touch neighbours.
constexpr unsigned tile = 32, tile_rows = 8;
template <class eT>
__global__ void transpose_kernel(View<eT> out, View<const eT> a, eT alpha, eT beta) {
  eT* const square = shared<eT>();  // tile x (tile + 1): columns of `tile` would all lie in one memory bank
  const std::size_t row = std::size_t{blockIdx.x} * tile, first = std::size_t{blockIdx.y} * tile;
  const std::size_t step = std::size_t{gridDim.y} * tile;
  for (std::size_t col = first; col < a.cols; col += step) {
    for (unsigned j = threadIdx.y; j < tile; j += tile_rows)
      if (row + threadIdx.x < a.rows && col + j < a.cols)
        square[threadIdx.x + j * (tile + 1)] = a.data[row + threadIdx.x + (col + j) * a.ld];
    __syncthreads();
    for (unsigned j = threadIdx.y; j < tile; j += tile_rows)
      if (col + threadIdx.x < a.cols && row + j < a.rows)
        store(out.data[col + threadIdx.x + (row + j) * out.ld], square[j + threadIdx.x * (tile + 1)], alpha, beta);
    __syncthreads();
  }
}

template <class eT>
__global__ void gather_kernel(View<eT> out, const eT* a, const std::uint32_t* indices, eT alpha, eT beta) {
  for_each_element(out.rows, 1, [&](std::size_t i, std::size_t) { store(out.data[i], a[indices[i]], alpha, beta); });
}
template <class eT>
__global__ void scatter_kernel(View<const eT> a, eT* out, const std::uint32_t* indices, eT alpha) {
  for_each_element(a.rows, 1, [&](std::size_t i, std::size_t) { out[indices[i]] += alpha * a.data[i]; });
}
/// Where indices occur several times: the thread at an index's first place in `order` adds up all, in that order.
template <class eT>
__global__ void scatter_in_order_kernel(View<const eT> a, eT* out, const std::uint32_t* indices,
                                        const std::uint32_t* order, eT alpha) {
  for_each_element(a.rows, 1, [&](std::size_t i, std::size_t) {
    const std::uint32_t to = indices[order[i]];
    if (i > 0 && indices[order[i - 1]] == to) return;
    eT total = out[to];
    for (std::size_t k = i; k < a.rows && indices[order[k]] == to; ++k) total += alpha * a.data[order[k]];
    out[to] = total;
  });
}

/// `key` less the replay's part; an element is kept if its 53 random bits are not below `threshold`.
template <class eT>
__global__ void dropout_kernel(View<eT> out, View<const eT> a, std::uint64_t key, Live<std::uint64_t> replays,
                               std::uint64_t threshold, eT kept, eT alpha, eT beta) {
  const std::uint64_t full_key = key ^ detail::mix(replays());
  for_each_element(out.rows, out.cols, [&](std::size_t i, std::size_t j) {
    const std::size_t at = i + j * out.rows;
    const bool keep = (detail::mix(full_key ^ at) >> 11) >= threshold;
    store(out.data[at], keep ? kept * a.data[at] : eT(0), alpha, beta);
  });
}

/// Takes the numbers of BatchAttributes one by one: its pointer is the host's.
template <class eT>
__global__ void batch_columns_kernel(View<eT> out, View<const eT> x, std::uint32_t batch, std::uint32_t half_bits,
                                     std::uint64_t seed, std::uint64_t position, Live<std::uint64_t> replays) {
  const detail::BatchAttributes a{x.cols, batch, half_bits, seed, position, nullptr};
  const std::uint64_t number = position + replays();
  // One thread's columns are far apart, so each looks its sample up.
  for_each_element(out.rows, out.cols, [&](std::size_t i, std::size_t j) {
    out.data[i + j * out.ld] = x.data[i + a.sample(number, static_cast<std::uint32_t>(j)) * std::size_t{x.ld}];
  });
}
__global__ void batch_labels_kernel(View<std::uint32_t> out, View<const std::uint32_t> labels, std::uint32_t half_bits,
                                    std::uint64_t seed, std::uint64_t position, Live<std::uint64_t> replays) {
  const detail::BatchAttributes a{labels.rows, out.rows, half_bits, seed, position, nullptr};
  const std::uint64_t number = position + replays();
  for_each_element(out.rows, 1, [&](std::size_t j, std::size_t) {
    out.data[j] = labels.data[a.sample(number, static_cast<std::uint32_t>(j))];
  });
}

template <class eT>
__global__ void sgd_kernel(View<eT> out, View<const eT> gradient, View<eT> velocity, Live<detail::SgdScalars> scalars,
                           bool first) {
  const detail::SgdScalars s = scalars();
  const eT lr = eT(s.lr), decay = eT(s.weight_decay), sign = s.maximize ? eT(-1) : eT(1);
  const eT momentum = eT(s.momentum), fresh = eT(1 - s.dampening);
  for_each_element(out.rows, out.cols, [&](std::size_t i, std::size_t j) {
    eT& w = out.data[i + j * out.ld];
    if (gradient.data == nullptr) {  // the velocity has it already
      w -= lr * velocity.data[i + j * velocity.ld];
      return;
    }
    const eT d = sign * gradient.data[i + j * gradient.ld] + decay * w;
    if (velocity.data == nullptr) {
      w -= lr * d;
      return;
    }
    eT& v = velocity.data[i + j * velocity.ld];
    v = first ? d : momentum * v + fresh * d;
    w -= lr * (s.nesterov ? d + momentum * v : v);
  });
}

template <class eT>
__global__ void clip_kernel(View<eT> out, View<const eT> squares, Live<double> limit) {
  const eT norm = std::sqrt(*squares.data), most = eT(limit());
  if (!(norm > most)) return;  // also when the norm is NaN, which the loss shows
  const eT factor = most / norm;
  for_each_element(out.rows, out.cols, [&](std::size_t i, std::size_t j) { out.data[i + j * out.ld] *= factor; });
}

// Numbers come by value, so the host may change them as soon as the launch is given.
__global__ void set_numbers_kernel(std::uint64_t* to, Words numbers) { to[threadIdx.x] = numbers.word[threadIdx.x]; }
__global__ void advance_kernel(std::uint64_t* count) { ++*count; }

// ---- from a command to launches

template <class eT>
void gather(Context& context, const Command<eT>& c) {
  const View<eT> out{c.out.data, c.index_count, 1, c.index_count};
  launch_map(context, &gather_kernel<eT>, out, c.in[0].data, c.indices, c.alpha, c.beta);
}

template <class eT>
void scatter(Context& context, const Command<eT>& c) {
  const View<const eT> a{c.in[0].data, c.index_count, 1, c.index_count};
  if ((c.flags & repeated_indices) == 0)
    launch_map(context, &scatter_kernel<eT>, a, c.out.data, c.indices, c.alpha);
  else
    launch_map(context, &scatter_in_order_kernel<eT>, a, c.out.data, c.indices, c.indices + c.index_count, c.alpha);
}

template <class eT>
void dropout(Context& context, const Command<eT>& c) {
  const auto& a = *static_cast<const detail::DropoutAttributes*>(c.attributes);
  const std::uint64_t key = detail::mix(detail::mix(a.seed) ^ a.call);
  const auto threshold = static_cast<std::uint64_t>(std::ceil(a.p * 0x1.0p53));
  launch_map(context, &dropout_kernel<eT>, c.out, c.in[0], key, context.live(a.replays), threshold,
             static_cast<eT>(1 / (1 - a.p)), c.alpha, c.beta);
}

template <class eT>
void batch_columns(Context& context, const Command<eT>& c) {
  const auto& a = *static_cast<const detail::BatchAttributes*>(c.attributes);
  launch_elements(context, c.out.rows, c.out.cols, &batch_columns_kernel<eT>, c.out, c.in[0], a.batch, a.half_bits,
                  a.seed, a.position, context.live(a.replays));
}
template <class eT>
void batch_labels(Context& context, const Command<eT>& c) {
  const auto& a = *static_cast<const detail::BatchAttributes*>(c.attributes);
  const View<std::uint32_t> out{const_cast<std::uint32_t*>(c.indices), c.index_count, 1, c.index_count};
  const View<const std::uint32_t> labels{static_cast<const std::uint32_t*>(c.object), a.samples, 1, a.samples};
  launch_elements(context, out.rows, 1, &batch_labels_kernel, out, labels, a.half_bits, a.seed, a.position,
                  context.live(a.replays));
}

template <class eT>
void sgd(Context& context, const Command<eT>& c) {
  const bool stepped = (c.flags & velocity_stepped) != 0;
  launch_map(context, &sgd_kernel<eT>, c.out, stepped ? View<const eT>{} : c.in[0], c.more_out[0],
             context.live(static_cast<const detail::SgdScalars*>(c.object)), c.beta == eT(0));
}

template <class eT>
void clip(Context& context, const Command<eT>& c) {
  launch_map(context, &clip_kernel<eT>, c.out, c.in[0], context.live(static_cast<const double*>(c.object)));
}

template <class eT>
Table<eT> make_table() {
  Table<eT> table;
  add_elementwise(table);
  add_products(table);
  add_reductions(table);
  add_structure(table);
  add_factorisations(table);
  add_attacks(table);
  table["copy"] = {&with_context<eT, &copy<eT>>};
  table["fill"] = {&with_context<eT, &fill<eT>>};
  table["gather"] = {&with_context<eT, &gather<eT>>};
  table["scatter"] = {&with_context<eT, &scatter<eT>>};
  table["dropout"] = {&with_context<eT, &dropout<eT>>};
  table["batch_columns"] = {&with_context<eT, &batch_columns<eT>>};
  table["batch_labels"] = {&with_context<eT, &batch_labels<eT>>};
  table["sgd"] = {&with_context<eT, &sgd<eT>>};
  table["clip"] = {&with_context<eT, &clip<eT>>};
  return table;
}

}  // namespace

template <class eT>
void fill(Context& context, const Command<eT>& c) {
  launch_map(context, &fill_kernel<eT>, c.out, c.alpha, c.beta);
}
template void fill(Context&, const Command<float>&);
template void fill(Context&, const Command<double>&);

template <class eT>
void copy(Context& context, const Command<eT>& c) {
  const View<const eT>& a = c.in[0];
  const bool transposed = (c.flags & transpose_a) != 0;
  if (transposed && a.rows > 1 && a.cols > 1) {
    const auto tiles = [](std::uint32_t n) { return (n - 1) / tile + 1; };
    launch(&transpose_kernel<eT>, dim3(tiles(a.rows), std::min(tiles(a.cols), 65535u)), dim3(tile, tile_rows),
           tile * (tile + 1) * sizeof(eT), context.stream, c.out, a, c.alpha, c.beta);
  } else {
    launch_map(context, &copy_kernel<eT>, c.out, a, transposed, context.factors(c));
  }
}
template void copy(Context&, const Command<float>&);
template void copy(Context&, const Command<double>&);

template <class eT>
Entry<eT> find_entry(const char* kernel) {
  static const Table<eT> table = make_table<eT>();
  const auto found = table.find(kernel);
  return found == table.end() ? Entry<eT>{} : found->second;
}
template Entry<float> find_entry(const char*);
template Entry<double> find_entry(const char*);

cudaError_t probe_architecture() {
  cudaFuncAttributes attributes;
  return cudaFuncGetAttributes(&attributes, reinterpret_cast<const void*>(&fill_kernel<float>));
}

// ---- numbers that change between the launches of a graph

LiveNumbers::LiveNumbers(std::size_t commands, const std::uint64_t* runs) : room_(commands), runs_(runs) {
  memory_ = device_memory(room_ * sizeof(Words));
}

std::uint64_t* LiveNumbers::memory_of(std::size_t entry) const {
  return static_cast<std::uint64_t*>(memory_.get()) + entry * std::size(Words{}.word);
}

std::uint64_t* LiveNumbers::place(const void* host, std::function<void(Words&)> read) {
  std::size_t k = 0;
  while (k < entries_.size() && (host == nullptr || entries_[k].host != host)) ++k;
  if (k == entries_.size()) {
    if (k == room_) throw DeviceError("cuda: a captured command reads more numbers than it may");
    entries_.push_back({host, std::move(read), false, {}});
  }
  return memory_of(k);
}

void LiveNumbers::refresh(cudaStream_t stream, std::uint64_t times) {
  for (std::size_t k = 0; k < entries_.size(); ++k) {
    Entry& e = entries_[k];
    Words now{};
    e.read(now);
    if (e.host == runs_) now.word[0] -= times - 1;  // the number of the first run
    if (!e.is_there || std::memcmp(&now, &e.there, sizeof now) != 0)
      launch(&set_numbers_kernel, 1, std::size(now.word), 0, stream, memory_of(k), now);
    e.is_there = true;
    e.there = now;
    if (e.host == runs_) e.there.word[0] += times;
  }
}

void LiveNumbers::advance(cudaStream_t stream) {
  for (std::size_t k = 0; k < entries_.size(); ++k)
    if (entries_[k].host == runs_) launch(&advance_kernel, 1, 1, 0, stream, memory_of(k));
}

}  // namespace armagrad::cuda
