#include <algorithm>
#include <memory>

#include <armagrad/autodiff/armadillo.hpp>
#include <armagrad/autodiff/device/products.hpp>

namespace armagrad::detail {
namespace {

// OpenBLAS has kernels for small products that need no packing; they end here. Just above it a product takes 1.7 times
// as long, so what is narrow is cut into pieces below.
constexpr std::size_t small_product = 1'000'000;
constexpr std::size_t narrow = 64;
// A small matrix is copied the other way round where the kernel would read it transposed at half speed.
constexpr std::size_t most_copied = 1 << 14;

template <class eT>
struct Product {
  bool ta, tb;
  eT alpha;
  View<const eT> a, b;
  eT beta;
  View<eT> c;

  std::size_t m() const { return c.rows; }
  std::size_t n() const { return c.cols; }
  std::size_t k() const { return ta ? a.rows : a.cols; }
  std::size_t size() const { return m() * n() * k(); }
};

template <class eT>
void gemm(const Product<eT>& p) {
  const auto m = static_cast<arma::blas_int>(p.m()), n = static_cast<arma::blas_int>(p.n()),
             k = static_cast<arma::blas_int>(p.k());
  const arma::blas_int lda = p.a.ld, ldb = p.b.ld, ldc = p.c.ld;
  arma::blas::gemm<eT>(p.ta ? "T" : "N", p.tb ? "T" : "N", &m, &n, &k, &p.alpha, p.a.data, &lda, p.b.data, &ldb,
                       &p.beta, p.c.data, &ldc);
}

template <class eT>
View<const eT> copied_transposed(View<const eT> a) {
  thread_local const std::unique_ptr<eT[]> copy(new eT[most_copied]);
  eT* to = copy.get();
  for (std::size_t j = 0; j < a.cols; ++j)
    for (std::size_t i = 0; i < a.rows; ++i) to[i * a.cols + j] = a.data[j * a.ld + i];
  return {to, a.cols, a.rows, a.cols};
}

template <class T>
View<T> columns(View<T> v, std::size_t first, std::size_t count) {
  return {v.data + first * v.ld, v.rows, static_cast<std::uint32_t>(count), v.ld};
}

template <class eT>
void choose(Product<eT> p) {
  if (p.ta && !p.tb && p.a.size() <= most_copied && p.n() >= 8 && std::min(p.m(), p.k()) <= narrow) {
    p.a = copied_transposed(p.a);
    p.ta = false;
  }
  if (p.size() <= small_product || p.ta || std::min(p.m(), p.n()) > narrow) return gemm(p);
  // Equal pieces: of the columns of B and C, or of the columns of A and B when B is read transposed.
  const std::size_t length = p.tb ? p.k() : p.n();
  const std::size_t pieces = (p.size() + small_product - 1) / small_product;
  const std::size_t step = (length + pieces - 1) / pieces;
  if (step < 16) return gemm(p);
  for (std::size_t first = 0; first < length; first += step) {
    const std::size_t count = std::min(step, length - first);
    Product<eT> piece = p;
    piece.b = columns(p.b, first, count);
    if (p.tb) {
      piece.a = columns(p.a, first, count);
      if (first > 0) piece.beta = 1;
    } else {
      piece.c = columns(p.c, first, count);
    }
    gemm(piece);
  }
}

}  // namespace

template <class eT>
void product(bool transpose_a, bool transpose_b, eT alpha, View<const eT> a, View<const eT> b, eT beta, View<eT> c) {
  const Product<eT> p{transpose_a, transpose_b, alpha, a, b, beta, c};
  if (c.size() == 0) return;
  if (p.k() != 0) return choose(p);
  for (std::size_t j = 0; j < c.cols; ++j)
    for (std::size_t i = 0; i < c.rows; ++i) {
      eT& y = c.data[i + j * c.ld];
      y = beta == eT(0) ? eT(0) : beta * y;
    }
}

template void product(bool, bool, float, View<const float>, View<const float>, float, View<float>);
template void product(bool, bool, double, View<const double>, View<const double>, double, View<double>);

}  // namespace armagrad::detail
