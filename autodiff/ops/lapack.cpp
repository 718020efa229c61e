#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdlib>
#include <limits>
#include <memory>
#include <new>
#include <utility>
#include <vector>

#include <armagrad/autodiff/device/memory.hpp>
#include <armagrad/autodiff/ops/lapack.hpp>

namespace armagrad::detail {

namespace {

struct Free {
  void operator()(void* memory) const { std::free(memory); }
};
struct ScratchMemory {
  struct Block {
    std::unique_ptr<std::byte, Free> memory;
    std::size_t bytes;
  };
  std::vector<Block> blocks;
  std::size_t block = 0, used = 0;
};
thread_local ScratchMemory scratch;

constexpr std::size_t alignment = 64;

}  // namespace

Scratch::Scratch() : block_(scratch.block), used_(scratch.used) {}
Scratch::~Scratch() {
  scratch.block = block_;
  scratch.used = used_;
}
void* Scratch::bytes(std::size_t count) {
  ScratchMemory& s = scratch;
  const std::size_t wanted = (count + alignment - 1) / alignment * alignment;
  for (; s.block < s.blocks.size(); ++s.block, s.used = 0) {
    if (s.used + wanted > s.blocks[s.block].bytes) continue;
    std::byte* const at = s.blocks[s.block].memory.get() + s.used;
    s.used += wanted;
    return at;
  }
  const std::size_t size = std::max(wanted, s.blocks.empty() ? std::size_t{1} << 16 : 2 * s.blocks.back().bytes);
  std::unique_ptr<std::byte, Free> memory(static_cast<std::byte*>(allocate_aligned(size)));
  if (memory == nullptr) throw std::bad_alloc();
  s.blocks.push_back({std::move(memory), size});
  s.used = wanted;
  return s.blocks.back().memory.get();
}

std::string size_text(std::uint64_t rows, std::uint64_t cols) { return fmt::format("{}x{}", rows, cols); }

template <class eT>
eT norm1(View<const eT> a) {
  eT largest = 0;
  for (std::size_t j = 0; j < a.cols; ++j) {
    const eT* x = a.data + j * a.ld;
    eT partial[8] = {};
    std::size_t i = 0;
    for (; i + 8 <= a.rows; i += 8)
      for (std::size_t k = 0; k < 8; ++k) partial[k] += std::abs(x[i + k]);
    for (; i < a.rows; ++i) partial[0] += std::abs(x[i]);
    eT sum = 0;
    for (const eT p : partial) sum += p;
    if (!(sum <= largest)) largest = sum;
    if (std::isnan(largest)) break;
  }
  return largest;
}
template <class eT>
eT norm1_of_finite(const char* operation, View<const eT> a) {
  const eT norm = norm1(a);
  if (!std::isfinite(norm))  // or a sum of finite ones is not
    for (std::size_t j = 0; j < a.cols; ++j)
      for (std::size_t i = 0; i < a.rows; ++i)
        if (!std::isfinite(a.data[i + j * a.ld])) fail_not_finite(operation, a.rows, a.cols);
  return norm;
}

template <class eT>
void load_symmetric_part(View<const eT> a, eT* to) {
  const std::size_t n = a.rows;
  for_pairs(n, [=](std::size_t i, std::size_t j) {
    to[i + j * n] = to[j + i * n] = (a.data[i + j * a.ld] + a.data[j + i * a.ld]) / 2;
  });
}

template <class eT>
void load_symmetric(const char* operation, View<const eT> a, eT* to) {
  const std::size_t n = a.rows;
  eT largest = 0, apart = 0;
  bool finite = true;
  for_pairs(n, [&, to, n](std::size_t i, std::size_t j) {
    const eT x = a.data[i + j * a.ld], y = a.data[j + i * a.ld];
    const eT mean = (x + y) / 2, difference = std::abs(x - y);
    to[i + j * n] = to[j + i * n] = mean;
    finite &= mean - mean == eT(0);
    largest = std::max(largest, std::abs(mean));
    apart = std::max(apart, difference);
  });
  if (!finite) fail_not_finite(operation, a.rows, a.cols);
  // What a product like X A X' computed in this precision may be off by, and far less than a mistake.
  if (apart > std::sqrt(std::numeric_limits<eT>::epsilon()) * largest) fail_not_symmetric(operation, a, apart);
}

template <class eT>
void copy_contiguous(View<const eT> a, eT* to) {
  if (a.contiguous())
    std::copy_n(a.data, a.size(), to);
  else
    for (std::size_t j = 0; j < a.cols; ++j) std::copy_n(a.data + j * a.ld, a.rows, to + j * a.rows);
}

template <class eT>
void multiply(bool ta, bool tb, std::size_t m, std::size_t n, std::size_t k, const eT* a, std::size_t lda, const eT* b,
              std::size_t ldb, eT* c, std::size_t ldc, eT alpha, eT beta) {
  if (m == 0 || n == 0) return;
  if (k == 0) {
    for (std::size_t j = 0; j < n; ++j)
      for (std::size_t i = 0; i < m; ++i) c[i + j * ldc] = beta == eT(0) ? eT(0) : beta * c[i + j * ldc];
    return;
  }
  const auto rows = static_cast<blas_int>(m), cols = static_cast<blas_int>(n), inner = static_cast<blas_int>(k);
  const auto la = static_cast<blas_int>(lda), lb = static_cast<blas_int>(ldb), lc = static_cast<blas_int>(ldc);
  arma::blas::gemm<eT>(ta ? "T" : "N", tb ? "T" : "N", &rows, &cols, &inner, &alpha, a, &la, b, &lb, &beta, c, &lc);
}

#define ARMAGRAD_INSTANTIATE(eT)                                                                               \
  template eT norm1(View<const eT>);                                                                           \
  template eT norm1_of_finite(const char*, View<const eT>);                                                    \
  template void load_symmetric(const char*, View<const eT>, eT*);                                              \
  template void load_symmetric_part(View<const eT>, eT*);                                                      \
  template void copy_contiguous(View<const eT>, eT*);                                                          \
  template void multiply(bool, bool, std::size_t, std::size_t, std::size_t, const eT*, std::size_t, const eT*, \
                         std::size_t, eT*, std::size_t, eT, eT);
ARMAGRAD_INSTANTIATE(float)
ARMAGRAD_INSTANTIATE(double)
#undef ARMAGRAD_INSTANTIATE

}  // namespace armagrad::detail
