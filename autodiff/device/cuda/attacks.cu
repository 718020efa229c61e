// An attack's inputs and steps (device/attacks.hpp).
#include <cmath>

#include <armagrad/autodiff/device/attacks.hpp>

#include "maps.cuh"
#include "reduce.cuh"

namespace armagrad::cuda {
namespace {

using detail::AttackColumn;
using detail::AttackDigest;
using detail::AttackScalars;

// Scalars come one by one: a struct with pointers is nothing that the stand-in can check.
template <class eT>
__global__ void attack_input_kernel(View<eT> out, View<const eT> x, View<eT> delta,
                                    View<const AttackColumn<eT>> columns, bool clipped, eT low, eT high) {
  const AttackScalars<eT> s{nullptr, nullptr, clipped, low, high};
  for_each_element(out.rows, out.cols, [&](std::size_t i, std::size_t j) {
    const AttackColumn<eT> c = columns.data[j];
    eT& d = delta.data[i + j * delta.ld];
    if (c.anew != 0) d = 0;
    out.data[i + j * out.ld] = detail::attack_input_of(x.data[i + c.example * std::size_t{x.ld}], d, s);
  });
}

/// Block j takes column j.
template <class eT>
__global__ void attack_step_kernel(View<eT> out, View<const eT> gradient, View<const eT> delta, View<const eT> x,
                                   View<const AttackColumn<eT>> columns, View<AttackDigest> digests, bool clipped,
                                   eT low, eT high) {
  const AttackScalars<eT> s{nullptr, nullptr, clipped, low, high};
  const std::size_t j = blockIdx.x;
  const AttackColumn<eT> c = columns.data[j];
  AttackDigest digest{};
  unsigned some = 0, not_finite = 0;
  for (std::size_t i = threadIdx.x; i < out.rows; i += blockDim.x) {
    const eT g = gradient.data[i + j * gradient.ld];
    const eT next =
        detail::attack_step_of(delta.data[i + j * delta.ld], g, x.data[i + c.example * std::size_t{x.ld}], c, s);
    out.data[i + j * out.ld] = next;
    detail::add_to_hash(digest, i, next);
    if (g != eT(0)) some = 1;
    if (!std::isfinite(g)) not_finite = 1;
  }
  digest.low = reduce_line(digest.low, Plus());
  digest.high = reduce_line(digest.high, Plus());
  digest.zero = reduce_line(some, Plus()) == 0;
  digest.not_finite = reduce_line(not_finite, Plus()) != 0;
  if (threadIdx.x == 0) digests.data[j] = digest;
}

template <class T>
View<T> list(T* data, std::uint32_t n) {
  return {data, n, 1, n};
}

template <class eT>
void attack_input(Context& context, const Command<eT>& c) {
  const auto& s = *static_cast<const AttackScalars<eT>*>(c.object);
  const View<eT> delta{const_cast<eT*>(c.in[1].data), c.in[1].rows, c.in[1].cols, c.in[1].ld};
  launch_elements(context, c.out.rows, c.out.cols, &attack_input_kernel<eT>, c.out, c.in[0], delta,
                  list(s.columns, c.out.cols), s.clipped, s.low, s.high);
}
template <class eT>
void attack_step(Context& context, const Command<eT>& c) {
  const auto& s = *static_cast<const AttackScalars<eT>*>(c.object);
  if (c.out.size() == 0) return;
  launch(&attack_step_kernel<eT>, c.out.cols, threads_per_block, threads_per_block / 32 * sizeof(std::uint64_t),
         context.stream, c.out, c.in[0], c.in[1], c.in[2], list(s.columns, c.out.cols), list(s.digests, c.out.cols),
         s.clipped, s.low, s.high);
}

}  // namespace

template <class eT>
void add_attacks(Table<eT>& table) {
  table["attack_input"] = {&with_context<eT, &attack_input<eT>>};
  table["attack_step"] = {&with_context<eT, &attack_step<eT>>};
}
template void add_attacks(Table<float>&);
template void add_attacks(Table<double>&);

}  // namespace armagrad::cuda
