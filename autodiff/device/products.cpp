#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <thread>

#include <dlfcn.h>
#include <pthread.h>

#include <armagrad/autodiff/armadillo.hpp>
#include <armagrad/autodiff/device/lanes.hpp>
#include <armagrad/autodiff/device/products.hpp>
#include <armagrad/autodiff/device/threads.hpp>

namespace armagrad::detail {
namespace {

// OpenBLAS has kernels for small products that need no packing; they end here. Just above it a product takes 1.7 times
// as long, so what is narrow is cut into pieces below.
constexpr std::size_t small_product = 1'000'000;
constexpr std::size_t narrow = 64;
// Threads wait for each other some microseconds: as long as a product of this many multiplications takes.
constexpr double worth_threads = 1 << 22;
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

// OpenBLAS's threads, where that is the BLAS; another one keeps its own counsel.
struct OpenBlas {
  void (*set)(int) = reinterpret_cast<void (*)(int)>(dlsym(RTLD_DEFAULT, "openblas_set_num_threads"));
  int (*get)() = reinterpret_cast<int (*)()>(dlsym(RTLD_DEFAULT, "openblas_get_num_threads"));
  std::atomic<unsigned> threads = get != nullptr ? static_cast<unsigned>(get()) : std::thread::hardware_concurrency();
};
OpenBlas& openblas() {
  static OpenBlas instance;
  // OpenMP's threads do not go along into a forked process, and who waits for them there waits for ever.
  [[maybe_unused]] static const int forked = pthread_atfork(nullptr, nullptr, [] { instance.threads = 1; });
  return instance;
}

// oneDNN's float product is faster than OpenBLAS's above the small ones, most of all on narrow matrices; below, its
// fixed cost of half a microsecond shows. Loaded when the first large product comes, if the build has found it and it
// is still there, so that programs need not link it. ARMAGRAD_ONEDNN=off leaves all products to BLAS.
struct OneDnn {
  struct Version {
    int major, minor, patch;
  };
  using Sgemm = int(char transpose_a, char transpose_b, std::int64_t m, std::int64_t n, std::int64_t k, float alpha,
                    const float* a, std::int64_t lda, const float* b, std::int64_t ldb, float beta, float* c,
                    std::int64_t ldc);
  Sgemm* sgemm = nullptr;
  const Version* (*version)() = nullptr;
  void (*set_threads)(int) = nullptr;  // OpenMP's, whose number each thread keeps for itself

  OneDnn() {
#ifdef ARMAGRAD_ONEDNN
    const char* word = std::getenv("ARMAGRAD_ONEDNN");
    if (word != nullptr && std::string_view(word) == "off") return;
    void* library = dlopen(ARMAGRAD_ONEDNN, RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) return;
    sgemm = reinterpret_cast<Sgemm*>(dlsym(library, "dnnl_sgemm"));
    version = reinterpret_cast<const Version* (*)()>(dlsym(library, "dnnl_version"));
    set_threads = reinterpret_cast<void (*)(int)>(dlsym(library, "omp_set_num_threads"));
#endif
  }
};
const OneDnn& onednn() {
  static const OneDnn instance;
  return instance;
}

template <class eT>
void gemm(const Product<eT>& p) {
  const BlasThreads threads(static_cast<double>(p.size()));
  const auto m = static_cast<arma::blas_int>(p.m()), n = static_cast<arma::blas_int>(p.n()),
             k = static_cast<arma::blas_int>(p.k());
  const arma::blas_int lda = p.a.ld, ldb = p.b.ld, ldc = p.c.ld;
  arma::blas::gemm<eT>(p.ta ? "T" : "N", p.tb ? "T" : "N", &m, &n, &k, &p.alpha, p.a.data, &lda, p.b.data, &ldb,
                       &p.beta, p.c.data, &ldc);
}

template <class T>
View<T> columns(View<T> v, std::size_t first, std::size_t count) {
  return {v.data + first * v.ld, v.rows, static_cast<std::uint32_t>(count), v.ld};
}

template <class T>
View<T> rows(View<T> v, std::size_t first, std::size_t count) {
  return {v.data + first, static_cast<std::uint32_t>(count), v.cols, v.ld};
}

// Some of the result's columns or rows.
template <class eT>
Product<eT> part(Product<eT> p, bool by_columns, std::size_t first, std::size_t count) {
  p.c = by_columns ? columns(p.c, first, count) : rows(p.c, first, count);
  View<const eT>& factor = by_columns ? p.b : p.a;
  const bool across = by_columns ? p.tb : !p.ta;
  factor = across ? rows(factor, first, count) : columns(factor, first, count);
  return p;
}

// A product on several threads is cut into as many products: threads that share one meet again and again within it, and
// wait for the slowest each time. The sums of each element stay whole.
struct Parts {
  const Product<float>* whole;
  bool by_columns;
  std::size_t length, step;

  static void run(const void* self, std::size_t i) {
    const auto& all = *static_cast<const Parts*>(self);
    const std::size_t first = i * all.step;
    const Product<float> p = part(*all.whole, all.by_columns, first, std::min(all.step, all.length - first));
    // oneDNN counts by rows, so it is asked for C' = op(B)' op(A)'. What it refuses is BLAS's.
    const int refused =
        onednn().sgemm(p.tb ? 'T' : 'N', p.ta ? 'T' : 'N', p.c.cols, p.c.rows, static_cast<std::int64_t>(p.k()),
                       p.alpha, p.b.data, p.b.ld, p.a.data, p.a.ld, p.beta, p.c.data, p.c.ld);
    if (refused != 0) gemm(p);
  }
};

bool by_onednn(const Product<float>& p) {
  if (p.size() <= small_product || onednn().sgemm == nullptr) return false;
  thread_local unsigned current = 0;
  const unsigned threads = static_cast<double>(p.size()) < worth_threads ? 1 : product_threads();
  if (threads != current && onednn().set_threads != nullptr) onednn().set_threads(static_cast<int>(current = threads));
  Parts parts{&p, p.n() >= p.m(), std::max(p.n(), p.m()), 0};
  constexpr std::size_t unit = 16;
  const bool cut = threads > 1 && parts.length >= narrow * threads;
  parts.step = cut ? (parts.length + unit * threads - 1) / (unit * threads) * unit : parts.length;
  in_parallel((parts.length + parts.step - 1) / parts.step, cut ? threads : 1, &Parts::run, &parts);
  return true;
}
bool by_onednn(const Product<double>&) { return false; }

template <class eT>
View<const eT> copied_transposed(View<const eT> a) {
  thread_local const std::unique_ptr<eT[]> copy(new eT[most_copied]);
  eT* to = copy.get();
  transpose(a.data, a.rows, a.cols, a.ld, to, a.cols);
  return {to, a.cols, a.rows, a.cols};
}

template <class eT>
void choose(Product<eT> p) {
  if (p.ta && !p.tb && p.a.size() <= most_copied && p.n() >= 8 && std::min(p.m(), p.k()) <= narrow) {
    p.a = copied_transposed(p.a);
    p.ta = false;
  }
  if (by_onednn(p)) return;
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

unsigned product_threads() { return openblas().threads; }
void set_product_threads(unsigned count) {
  openblas().threads = count;
  if (openblas().set != nullptr) openblas().set(static_cast<int>(count));
}

BlasThreads::BlasThreads(double multiplications)
    : lowered_(multiplications < worth_threads && openblas().set != nullptr && openblas().threads > 1) {
  if (lowered_) openblas().set(1);
}
BlasThreads::~BlasThreads() {
  if (lowered_) openblas().set(static_cast<int>(openblas().threads));
}

std::string onednn_version() {
  if (onednn().sgemm == nullptr || onednn().version == nullptr) return "";
  const OneDnn::Version& v = *onednn().version();
  return std::to_string(v.major) + "." + std::to_string(v.minor) + "." + std::to_string(v.patch);
}

template void product(bool, bool, float, View<const float>, View<const float>, float, View<float>);
template void product(bool, bool, double, View<const double>, View<const double>, double, View<double>);

}  // namespace armagrad::detail
