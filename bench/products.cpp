#include "bench/products.hpp"

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <sstream>
#include <string>

#include <dlfcn.h>

namespace armagrad::bench {
namespace {

bool running = false;
double seconds = 0;

// Calls `function` on the clock.
template <class F>
auto timed(F function) {
  using Clock = std::chrono::steady_clock;
  struct Lap {
    Clock::time_point begin = Clock::now();
    Lap() = default;
    Lap(const Lap&) = delete;
    Lap& operator=(const Lap&) = delete;
    ~Lap() { seconds += std::chrono::duration<double>(Clock::now() - begin).count(); }
  };
  if (!running) return function();
  const Lap lap;
  return function();
}

template <class Function>
Function* next(const char* name) {
  auto* found = reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
  if (found == nullptr) {
    std::fprintf(stderr, "no library behind this program has %s\n", name);
    std::abort();
  }
  return found;
}

}  // namespace

double clock_products(bool on) {
  running = on;
  const double before = seconds;
  if (on) seconds = 0;
  return before;
}

const char* blas_name() {
  static const std::string name = [] {
    auto* config = reinterpret_cast<const char* (*)()>(dlsym(RTLD_DEFAULT, "openblas_get_config"));
    auto* core = reinterpret_cast<const char* (*)()>(dlsym(RTLD_DEFAULT, "openblas_get_corename"));
    if (config == nullptr || core == nullptr) return std::string("a BLAS that does not name itself");
    std::istringstream words(config());  // OpenBLAS 0.3.21 NO_LAPACKE DYNAMIC_ARCH ...
    std::string library, version;
    words >> library >> version;
    return library + " " + version + " (" + core() + " kernels)";
  }();
  return name.c_str();
}

int blas_threads() {
  auto* threads = reinterpret_cast<int (*)()>(dlsym(RTLD_DEFAULT, "openblas_get_num_threads"));
  return threads == nullptr ? 0 : threads();
}

}  // namespace armagrad::bench

// Armadillo passes the lengths of the character arguments as Fortran compilers do; a BLAS in C ignores them.
extern "C" {

void sgemm_(const char* ta, const char* tb, const int* m, const int* n, const int* k, const float* alpha,
            const float* a, const int* lda, const float* b, const int* ldb, const float* beta, float* c, const int* ldc,
            std::size_t ta_length, std::size_t tb_length);
void sgemm_(const char* ta, const char* tb, const int* m, const int* n, const int* k, const float* alpha,
            const float* a, const int* lda, const float* b, const int* ldb, const float* beta, float* c, const int* ldc,
            std::size_t ta_length, std::size_t tb_length) {
  static auto* const library = armagrad::bench::next<decltype(sgemm_)>("sgemm_");
  armagrad::bench::timed([&] { library(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc, ta_length, tb_length); });
}

void cblas_sgemm(int order, int ta, int tb, int m, int n, int k, float alpha, const float* a, int lda, const float* b,
                 int ldb, float beta, float* c, int ldc);
void cblas_sgemm(int order, int ta, int tb, int m, int n, int k, float alpha, const float* a, int lda, const float* b,
                 int ldb, float beta, float* c, int ldc) {
  static auto* const library = armagrad::bench::next<decltype(cblas_sgemm)>("cblas_sgemm");
  armagrad::bench::timed([&] { library(order, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc); });
}

int dnnl_sgemm(char ta, char tb, std::int64_t m, std::int64_t n, std::int64_t k, float alpha, const float* a,
               std::int64_t lda, const float* b, std::int64_t ldb, float beta, float* c, std::int64_t ldc);
int dnnl_sgemm(char ta, char tb, std::int64_t m, std::int64_t n, std::int64_t k, float alpha, const float* a,
               std::int64_t lda, const float* b, std::int64_t ldb, float beta, float* c, std::int64_t ldc) {
  static auto* const library = armagrad::bench::next<decltype(dnnl_sgemm)>("dnnl_sgemm");
  return armagrad::bench::timed([&] { return library(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc); });
}
}
