#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <system_error>
#include <vector>

#include <dlfcn.h>
#include <fmt/format.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <armagrad/autodiff/armadillo.hpp>
#include <armagrad/autodiff/device/products.hpp>
#include <armagrad/autodiff/error.hpp>
#include <armagrad/autodiff/machine.hpp>

namespace armagrad {
namespace {

template <class Function>
Function* loaded(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_DEFAULT, name));
}

std::string processor() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (!line.starts_with("model name")) continue;
    std::istringstream words(line.substr(line.find(':') + 1));
    std::string name;
    for (std::string word; words >> word;) name += (name.empty() ? "" : " ") + word;
    if (!name.empty()) return name;
  }
  utsname system{};
  return uname(&system) == 0 ? fmt::format("unnamed {} processor", system.machine) : "unnamed processor";
}

std::string kernels() {
  auto* core = loaded<const char*()>("openblas_get_corename");
  return core != nullptr ? core() : "";
}

std::string blas() {
  if (auto* config = loaded<const char*()>("openblas_get_config")) {
    std::istringstream words(config());  // OpenBLAS 0.3.21 NO_LAPACKE DYNAMIC_ARCH ...
    std::string name, version;
    words >> name >> version;
    return fmt::format("{} {}{}", name, version, kernels().empty() ? "" : fmt::format(" ({} kernels)", kernels()));
  }
  Dl_info found{};
  if (void* product = dlsym(RTLD_DEFAULT, "dgemm_"); product && dladdr(product, &found) && found.dli_fname) {
    std::error_code unresolved;
    const auto file = std::filesystem::canonical(found.dli_fname, unresolved);
    return (unresolved ? std::filesystem::path(found.dli_fname) : file).filename().string();
  }
  return "unknown";
}

/// The processor's widest instructions that products can use.
InstructionSet widest() {
#if defined(__x86_64__) && defined(__GNUC__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512vl")) return InstructionSet::avx512;  // avx512f alone is Xeon Phi
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return InstructionSet::avx2;
#endif
  return InstructionSet::plain;
}

/// The OPENBLAS_CORETYPE that suits this processor where OpenBLAS has chosen kernels for narrower registers; else "".
std::string better_kernels() {
  const std::string chosen = kernels();
  if (chosen.empty()) return "";
  const auto one_of = [&chosen](std::initializer_list<const char*> names) {
    return std::any_of(names.begin(), names.end(), [&](const char* name) { return chosen == name; });
  };
  if (one_of({"SkylakeX", "Cooperlake", "SapphireRapids"})) return "";
  if (widest() == InstructionSet::avx512) return "SkylakeX";
  if (widest() == InstructionSet::avx2 && !one_of({"Haswell", "Zen", "Excavator"})) return "Haswell";
  return "";
}

std::string advice() {
  const std::string better = better_kernels();
  if (better.empty()) return "";
  return fmt::format(
      "{} does not know this processor and multiplies matrices at a fraction of its speed; start the program with "
      "OPENBLAS_CORETYPE={}, or call armagrad::restart_with_fast_blas() first in main",
      blas(), better);
}

std::atomic<bool> silent = false;

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// Cycles per second: products that wait for one another take three cycles each. (Additions will not do: newer
/// processors do several that depend on one another in one.)
double clock_frequency() {
  constexpr std::uint64_t products = 4'000'000;
  double best = 0;
  for (int i = 0; i < 3; ++i) {
    const double start = seconds_now();
    std::uint64_t x = products;
#if defined(__x86_64__) && defined(__GNUC__)
    for (std::uint64_t k = 0; k < products / 4; ++k)
      asm volatile("imulq %0, %0\n imulq %0, %0\n imulq %0, %0\n imulq %0, %0" : "+r"(x));
#endif
    best = std::max(best, 3 * static_cast<double>(products) / (seconds_now() - start));
  }
  return best;
}

template <class eT>
double measured_rate() {
  constexpr arma::uword n = 768;
  arma::Mat<eT> a(n, n), b(n, n), c(n, n);
  a.fill(eT(0.5));
  b.fill(eT(0.25));
  const auto view = [](arma::Mat<eT>& m) { return View<eT>{m.memptr(), n, n, n}; };
  double best = 0;
  for (int i = 0; i < 5; ++i) {
    const double start = seconds_now();
    detail::product<eT>(false, false, 1, view(a), view(b), 0, view(c));
    best = std::max(best, 2.0 * n * n * n / (seconds_now() - start));
  }
  return best / 1e9;
}

}  // namespace

Machine machine() {
  return {processor(), detail::product_threads(),      blas(),
          kernels(),   detail::instruction_set_name(), detail::onednn_version(),
          advice()};
}

ProductRate product_rate() {
  const unsigned threads = detail::product_threads();
  set_threads(1);
  // Two multiply-adds per cycle on registers of 64, 32 and 16 bytes; without fused ones an addition and a product.
  const double bytes = widest() == InstructionSet::avx512 ? 64 : widest() == InstructionSet::avx2 ? 32 : 16;
  const double per_cycle = bytes / 4 * (widest() == InstructionSet::plain ? 2 : 4), clock = clock_frequency() / 1e9;
  const ProductRate rate{measured_rate<float>(), per_cycle * clock, measured_rate<double>(), per_cycle / 2 * clock};
  set_threads(threads);
  return rate;
}

void restart_with_fast_blas() {
  // OpenMP reads it when it is loaded, with oneDNN. Some 30 us: longer than the pause between two products of a step.
  if (std::getenv("OMP_WAIT_POLICY") == nullptr) setenv("GOMP_SPINCOUNT", "10000", 0);
  const std::string better = better_kernels();
  if (better.empty() || std::getenv("OPENBLAS_CORETYPE") != nullptr) return;
  std::ifstream file("/proc/self/cmdline", std::ios::binary);
  std::vector<std::string> words;
  for (std::string word; std::getline(file, word, '\0');) words.push_back(word);
  if (words.empty()) return;
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  setenv("OPENBLAS_CORETYPE", better.c_str(), 1);
  std::error_code error;  // by its own name, if it still has one, as the lists of processes show that
  execv(std::filesystem::read_symlink("/proc/self/exe", error).c_str(), arguments.data());
  execv("/proc/self/exe", arguments.data());
  unsetenv("OPENBLAS_CORETYPE");  // it could not be started again: go on as it is
}

void set_threads(unsigned count) {
  if (count == 0) throw OptionError("set_threads: 0 threads cannot multiply; give at least 1");
  detail::set_product_threads(count);
}

void silence_blas_advice() { silent = true; }

namespace detail {

void say_blas_advice_once() {
  if (std::getenv("ARMAGRAD_QUIET") != nullptr || silent.exchange(true)) return;
  if (const std::string words = advice(); !words.empty())
    std::fputs(fmt::format("armagrad: {} (ARMAGRAD_QUIET=1 silences this)\n", words).c_str(), stderr);
}

}  // namespace detail
}  // namespace armagrad
