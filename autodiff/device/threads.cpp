#include <algorithm>
#include <atomic>

#include <dlfcn.h>

#include <armagrad/autodiff/device/products.hpp>
#include <armagrad/autodiff/device/threads.hpp>

namespace armagrad::detail {
namespace {

// GNU's OpenMP, if it is there: loaded as oneDNN is, so that programs need not link it.
struct OpenMp {
  void (*parallel)(void (*work)(void*), void* data, unsigned threads, unsigned flags) = nullptr;
  int (*inside)() = nullptr;

  OpenMp() {
    void* library = dlopen("libgomp.so.1", RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) return;
    parallel = reinterpret_cast<decltype(parallel)>(dlsym(library, "GOMP_parallel"));
    inside = reinterpret_cast<decltype(inside)>(dlsym(library, "omp_in_parallel"));
  }
};
const OpenMp& openmp() {
  static const OpenMp instance;
  return instance;
}

struct Team {
  std::size_t count;
  void (*work)(const void*, std::size_t);
  const void* data;
  std::atomic<std::size_t> next = 0;

  // There may be fewer threads than were asked for.
  static void run(void* self) {
    auto& team = *static_cast<Team*>(self);
    for (std::size_t i = team.next++; i < team.count; i = team.next++) team.work(team.data, i);
  }
};

template <class eT>
struct Pieces {
  const Command<eT>* whole;
  int instructions;
  std::size_t length;

  template <class T>
  static void cut(View<T>& v, std::size_t size, std::size_t first, std::size_t n) {
    if (v.data == nullptr || v.size() != size) return;  // not there, or 1x1
    const auto rows = static_cast<std::uint32_t>(n);
    v = {v.data + first, rows, 1, rows};
  }
  static void run(const void* self, std::size_t piece) {
    const auto& all = *static_cast<const Pieces*>(self);
    Command<eT> c = *all.whole;
    const std::size_t size = c.out.size(), first = piece * all.length, n = std::min(all.length, size - first);
    cut(c.out, size, first, n);
    for (auto& out : c.more_out) cut(out, size, first, n);
    for (auto& in : c.in) cut(in, size, first, n);
    c.kernel->host.code[all.instructions](c);
  }
};

}  // namespace

void in_parallel(std::size_t count, unsigned threads, void (*work)(const void*, std::size_t), const void* data) {
  Team team{count, work, data};
  if (threads < 2 || openmp().parallel == nullptr || openmp().inside() != 0) return Team::run(&team);
  openmp().parallel(&Team::run, &team, threads, 0);
}

template <class eT>
void run_in_pieces(const Command<eT>& c, int instructions) {
  const std::size_t size = c.out.size(), threads = product_threads();
  // What is repeated along rows or columns stays whole.
  const bool divisible = c.out.contiguous() && std::all_of(std::begin(c.in), std::end(c.in), [size](const auto& in) {
                           return in.data == nullptr || in.size() == 1 || (in.size() == size && in.contiguous());
                         });
  if (threads < 2 || !divisible) return c.kernel->host.code[instructions](c);
  const std::size_t line = 64 / sizeof(eT), lines = (size + line - 1) / line;
  constexpr std::size_t longest = std::size_t{1} << 30;  // what a View can count
  const Pieces<eT> pieces{&c, instructions, std::min(longest, (lines + threads - 1) / threads * line)};
  in_parallel((size + pieces.length - 1) / pieces.length, static_cast<unsigned>(threads), &Pieces<eT>::run, &pieces);
}

template void run_in_pieces(const Command<float>&, int);
template void run_in_pieces(const Command<double>&, int);

}  // namespace armagrad::detail
