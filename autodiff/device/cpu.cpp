// The CPU: memory from the heap, products from BLAS (products.cpp), the other kernels in loops the compiler vectorises.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include <armagrad/autodiff/armadillo.hpp>
#include <armagrad/autodiff/device/kernels.hpp>
#include <armagrad/autodiff/device/lanes.hpp>
#include <armagrad/autodiff/device/memory.hpp>
#include <armagrad/autodiff/device/products.hpp>
#include <armagrad/autodiff/device/threads.hpp>
#include <armagrad/autodiff/device/versions.hpp>
#include <armagrad/autodiff/error.hpp>
#include <armagrad/autodiff/math.hpp>

namespace armagrad {

// ARMAGRAD_INSTRUCTIONS=plain|avx2|avx512 limits what is used, to test the other versions.
InstructionSet detail::instructions_here() {
  auto most = InstructionSet::avx512;
  if (const char* named = std::getenv("ARMAGRAD_INSTRUCTIONS"); named != nullptr && *named != '\0') {
    const std::string_view name = named;
    if (name != "plain" && name != "avx2" && name != "avx512")
      throw OptionError(fmt::format("ARMAGRAD_INSTRUCTIONS is {}; it must be plain, avx2 or avx512", name));
    most = name == "plain" ? InstructionSet::plain : name == "avx2" ? InstructionSet::avx2 : InstructionSet::avx512;
  }
#if defined(__x86_64__) && defined(__GNUC__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
  return std::min(most, avx512 ? InstructionSet::avx512 : avx2 ? InstructionSet::avx2 : InstructionSet::plain);
#else
  return InstructionSet::plain;
#endif
}

namespace {

class Cpu final : public Backend {
 public:
  Cpu() { detail::say_blas_advice_once(); }
  const char* name() const override { return "cpu"; }
  void* allocate(std::size_t bytes) override {
    void* memory = detail::allocate_aligned(bytes);
    if (memory == nullptr)
      throw DeviceError(fmt::format("cpu: out of memory: {:.1f} MB asked for; use a smaller batch or rewind the tape",
                                    static_cast<double>(bytes) / 1e6));
    return memory;
  }
  void release(void* memory) noexcept override { std::free(memory); }
  void upload(void* device, const void* host, std::size_t bytes) override { copy(device, host, bytes); }
  void download(void* host, const void* device, std::size_t bytes) override { copy(host, device, bytes); }
  void run(const Command<float>& c) override { detail::run_here(c, instructions_); }
  void run(const Command<double>& c) override { detail::run_here(c, instructions_); }
  void require(const Kernel<float>&, const char*) override {}
  void require(const Kernel<double>&, const char*) override {}
  void synchronize() override {}
  int host_code() const override { return instructions_; }

 private:
  const int instructions_ = static_cast<int>(detail::instructions_here());

  static void copy(void* to, const void* from, std::size_t bytes) {
    if (bytes != 0) std::memcpy(to, from, bytes);
  }
};

// alpha and beta of a command that may be an optimizer's step (CommandFlag).
template <class eT>
struct Factors {
  eT alpha, beta;
  explicit Factors(const Command<eT>& c) : alpha(c.alpha), beta(c.beta) {
    if ((c.flags & (step_parameter | step_velocity)) == 0) [[likely]]
      return;
    const auto& s = *static_cast<const detail::SgdScalars*>(c.object);
    if (s.maximize) alpha = -alpha;
    if (c.flags & step_parameter)
      alpha *= static_cast<eT>(-s.lr);
    else if (beta != eT(0))
      beta = static_cast<eT>(s.momentum);
  }
};

// Columns no longer than this are too short to be vectors, but lie one after the other: several together are.
constexpr std::size_t narrow = 64;

// y = f(y + bias), column by column.
template <class eT, class F>
void add_bias(View<eT> y, const eT* bias, F f) {
  const auto loop = [f](eT* to, const eT* b, std::size_t n) {
    ARMAGRAD_NO_OVERLAP
    for (std::size_t i = 0; i < n; ++i) to[i] = f(to[i] + b[i]);
  };
  if (y.rows > narrow || !y.contiguous()) {
    for (std::size_t j = 0; j < y.cols; ++j) loop(y.data + j * y.ld, bias, y.rows);
    return;
  }
  if (y.size() == 0) return;
  alignas(64) eT repeated[4 * narrow];
  std::size_t length = y.rows;
  std::copy_n(bias, length, repeated);
  for (; length < 2 * narrow; length *= 2) std::copy_n(repeated, length, repeated + length);
  for (std::size_t first = 0; first < y.size(); first += length)
    loop(y.data + first, repeated, std::min(length, y.size() - first));
}

template <class eT>
void gemm(const Command<eT>& c) {
  const bool ta = (c.flags & transpose_a) != 0, tb = (c.flags & transpose_b) != 0;
  const Factors<eT> f(c);
  detail::product(ta, tb, f.alpha, c.in[0], c.in[1], f.beta, c.out);
  const eT* bias = c.in[2].data;
  if (bias == nullptr) return;
  if ((c.flags & then_relu) != 0)
    add_bias(c.out, bias, [](eT y) { return math::max(y, eT(0)); });
  else
    add_bias(c.out, bias, [](eT y) { return y; });
}

template <class eT>
void copy(const Command<eT>& c) {
  const View<const eT>& a = c.in[0];
  const bool transposed = (c.flags & transpose_a) != 0;
  const std::size_t rows = transposed ? a.cols : a.rows, cols = transposed ? a.rows : a.cols;
  const std::size_t down = rows == 1 ? 0 : (transposed ? a.ld : 1), across = cols == 1 ? 0 : (transposed ? 1 : a.ld);
  for (std::size_t j = 0; j < c.out.cols; ++j) {
    eT* y = c.out.data + j * c.out.ld;
    const eT* x = a.data + j * across;
    if (down == 1) {
      if (c.beta != eT(0))
        for (std::size_t i = 0; i < c.out.rows; ++i) y[i] = c.alpha * x[i] + c.beta * y[i];
      else if (c.alpha != eT(1))
        for (std::size_t i = 0; i < c.out.rows; ++i) y[i] = c.alpha * x[i];
      else
        std::copy_n(x, c.out.rows, y);
    } else if (c.beta == eT(0)) {
      for (std::size_t i = 0; i < c.out.rows; ++i) y[i] = c.alpha * x[i * down];
    } else {
      for (std::size_t i = 0; i < c.out.rows; ++i) y[i] = c.alpha * x[i * down] + c.beta * y[i];
    }
  }
}

template <class eT>
void fill(const Command<eT>& c) {
  for (std::size_t j = 0; j < c.out.cols; ++j) {
    eT* y = c.out.data + j * c.out.ld;
    if (c.beta == eT(0))
      std::fill_n(y, c.out.rows, c.alpha);
    else
      for (std::size_t i = 0; i < c.out.rows; ++i) y[i] = c.alpha + c.beta * y[i];
  }
}

// Many partial sums: they vectorise without reassociation being allowed everywhere, and lose less to rounding than one.
template <class eT, class Term>
eT partial_sums(std::size_t n, Term term) {
  constexpr std::size_t lanes = 128 / sizeof(eT);
  eT partial[lanes] = {};
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes)
    for (std::size_t k = 0; k < lanes; ++k) partial[k] += term(i + k);
  eT rest = 0;
  for (; i < n; ++i) rest += term(i);
  if (n < lanes) return rest;
  for (std::size_t half = lanes / 2; half > 0; half /= 2)
    for (std::size_t k = 0; k < half; ++k) partial[k] += partial[k + half];
  return partial[0] + rest;
}
template <class eT>
eT sum_of(const eT* x, std::size_t n) {
  return partial_sums<eT>(n, [x](std::size_t i) { return x[i]; });
}

template <class eT, class C>
void store(eT& y, eT value, const C& c) {  // c has alpha and beta
  y = c.beta == eT(0) ? c.alpha * value : c.alpha * value + c.beta * y;
}

constexpr std::size_t block = 16;  // narrow columns summed side by side
template <class eT>
void sum_narrow(const Command<eT>& c, const Factors<eT>& factors) {
  const View<const eT>& a = c.in[0];
  const std::size_t n = a.rows * block;
  alignas(64) eT sums[narrow * block];
  std::size_t j = block;
  for (std::size_t i = 0; i < n; ++i) sums[i] = a.data[i];
  for (; j + block <= a.cols; j += block) {
    const eT* x = a.data + j * a.rows;
    for (std::size_t i = 0; i < n; ++i) sums[i] += x[i];
  }
  for (; j < a.cols; ++j)
    for (std::size_t i = 0; i < a.rows; ++i) sums[i] += a.data[j * a.rows + i];
  for (std::size_t half = block / 2; half > 0; half /= 2)
    for (std::size_t i = 0; i < half * a.rows; ++i) sums[i] += sums[i + half * a.rows];
  for (std::size_t i = 0; i < a.rows; ++i) store(c.out.data[i], sums[i], factors);
}

template <class eT>
void sum(const Command<eT>& c) {
  const View<const eT>& a = c.in[0];
  const Factors<eT> f(c);
  if (c.out.rows == 1 && c.out.cols == 1) {
    eT total = 0;
    if (a.contiguous())
      total = sum_of(a.data, a.size());
    else
      for (std::size_t j = 0; j < a.cols; ++j) total += sum_of(a.data + j * a.ld, a.rows);
    store(*c.out.data, total, f);
  } else if (c.out.rows == 1 && a.rows != 1) {
    for (std::size_t j = 0; j < a.cols; ++j) store(c.out.data[j * c.out.ld], sum_of(a.data + j * a.ld, a.rows), f);
  } else if (c.out.cols == 1 && a.cols != 1) {
    if (a.rows <= narrow && a.contiguous() && a.cols >= 2 * block) return sum_narrow(c, f);
    // Four columns at a time: one read and write of the sums for four of the matrix.
    eT* y = c.out.data;
    for (std::size_t i = 0; i < a.rows; ++i) y[i] = f.beta == eT(0) ? eT(0) : f.beta * y[i];
    std::size_t j = 0;
    for (; j + 4 <= a.cols; j += 4) {
      const eT *x0 = a.data + j * a.ld, *x1 = x0 + a.ld, *x2 = x1 + a.ld, *x3 = x2 + a.ld;
      for (std::size_t i = 0; i < a.rows; ++i) y[i] += f.alpha * ((x0[i] + x1[i]) + (x2[i] + x3[i]));
    }
    for (; j < a.cols; ++j) {
      const eT* x = a.data + j * a.ld;
      for (std::size_t i = 0; i < a.rows; ++i) y[i] += f.alpha * x[i];
    }
  } else {
    Command<eT> scaled = c;
    scaled.alpha = f.alpha;
    scaled.beta = f.beta;
    copy(scaled);
  }
}

// Of a confident column log(1 + others) keeps what 1 + others would round away (as math::log1p does).
template <class eT>
eT column_loss(eT own, eT others, eT below_top) {
  const eT u = others + own, d = u - 1, l = math::log(u);
  const eT confident = d == eT(0) ? others : l * (others / d);
  return own == eT(1) ? confident : l + below_top;
}

// Few classes, as most problems have: a block of columns side by side, so that the vectors run across columns.
template <class eT>
void cross_entropy_narrow(const Command<eT>& c) {
  using Row = detail::Lanes<eT>;
  constexpr std::size_t width = detail::lanes<eT>;
  const View<const eT>& z = c.in[0];
  eT* residual = c.more_out[0].data;
  double loss[width] = {};  // in float the rounding of a sum over 1437 columns is as large as what late epochs gain
  alignas(64) eT e[narrow * width], own[width], below_top[width], others[width], scale[width];
  const auto row = [&e](std::size_t i) -> Row& { return *reinterpret_cast<Row*>(e + i * width); };
  for (std::size_t first = 0; first < z.cols; first += width) {
    const std::size_t count = std::min(width, z.cols - first), size = z.rows * width;
    const std::uint32_t* labels = c.indices + first;
    if (count < width) std::fill_n(e, size, eT(0));  // the lanes left over are computed and not used
    detail::transpose(z.data + first * z.ld, z.rows, count, z.ld, e, width);
    Row top = row(0);
    for (std::size_t i = 1; i < z.rows; ++i) top = top < row(i) ? row(i) : top;
    for (std::size_t i = 0; i < z.rows; ++i) row(i) -= top;
    std::fill_n(own, width, eT(1));
    std::fill_n(below_top, width, eT(1));
    for (std::size_t j = 0; j < count; ++j) below_top[j] = -e[labels[j] * width + j];
    for (std::size_t i = 0; i < size; ++i) e[i] = math::exp(e[i]);
    for (std::size_t j = 0; j < count; ++j) own[j] = std::exchange(e[labels[j] * width + j], eT(0));
    Row sum = row(0);
    for (std::size_t i = 1; i < z.rows; ++i) sum += row(i);
    detail::store(others, sum);
    for (std::size_t j = 0; j < width; ++j) {
      const eT lost = column_loss(own[j], others[j], below_top[j]);
      loss[j] += static_cast<double>(j < count ? lost : eT(0));
      scale[j] = c.alpha / (others[j] + own[j]);
    }
    if (residual == nullptr) continue;
    Row factor;
    detail::load(factor, scale);
    for (std::size_t i = 0; i < z.rows; ++i) row(i) *= factor;
    for (std::size_t j = 0; j < count; ++j)
      e[labels[j] * width + j] = -others[j] * scale[j];  // p - 1 rounds to 0 near 1
    detail::transpose(e, count, z.rows, width, residual + first * z.rows, z.rows);
  }
  double total = 0;
  for (const double l : loss) total += l;
  *c.out.data = static_cast<eT>(static_cast<double>(c.alpha) * total);
}

template <class eT>
void cross_entropy(const Command<eT>& c) {
  const View<const eT>& z = c.in[0];
  if (z.rows <= narrow) return cross_entropy_narrow(c);
  eT* residual = c.more_out[0].data;
  double loss = 0;
  for (std::size_t j = 0; j < z.cols; ++j) {
    const eT* x = z.data + j * z.ld;
    const std::size_t label = c.indices[j];
    eT top = x[0];
    for (std::size_t i = 1; i < z.rows; ++i) top = math::max(top, x[i]);
    const auto power = [x, top](std::size_t i) { return math::exp(x[i] - top); };
    // Sums of exp: of the label's class and of the others, those before it and those behind.
    const eT own = power(label);
    const eT others = partial_sums<eT>(label, power) +
                      partial_sums<eT>(z.rows - label - 1, [&](std::size_t i) { return power(label + 1 + i); });
    loss += column_loss(own, others, top - x[label]);
    if (residual == nullptr) continue;
    eT* r = residual + j * z.rows;
    const eT scale = c.alpha / (others + own);
    for (std::size_t i = 0; i < z.rows; ++i) r[i] = scale * power(i);
    r[label] = -others * scale;
  }
  *c.out.data = static_cast<eT>(static_cast<double>(c.alpha) * loss);
}

template <class eT>
void dot(const Command<eT>& c) {
  const eT *a = c.in[0].data, *b = c.in[1].data;
  store(*c.out.data, partial_sums<eT>(c.in[0].size(), [a, b](std::size_t i) { return a[i] * b[i]; }), c);
}

template <class eT>
void squared_distance(const Command<eT>& c) {
  const eT *a = c.in[0].data, *b = c.in[1].data;
  const auto square = [a, b](std::size_t i) { return (a[i] - b[i]) * (a[i] - b[i]); };
  store(*c.out.data, partial_sums<eT>(c.in[0].size(), square), c);
}

// How to walk A along the dimension that `across` keeps: `count` vectors of `length` elements, `step` apart.
struct Lines {
  std::size_t count, length, step, next;
};
template <class eT>
Lines lines(const View<const eT>& a, bool along_rows) {
  if (along_rows) return {a.rows, a.cols, a.ld, 1};
  return {a.cols, a.rows, 1, a.ld};
}

template <class eT>
eT largest(const eT* x, const Lines& l) {
  eT top = -std::numeric_limits<eT>::infinity();
  for (std::size_t i = 0; i < l.length; ++i)
    top = x[i * l.step] > top || std::isnan(x[i * l.step]) ? x[i * l.step] : top;
  return top;
}

template <class eT>
void log_sum_exp(const Command<eT>& c) {
  const Lines l = lines(c.in[0], (c.flags & transpose_a) != 0);
  for (std::size_t j = 0; j < l.count; ++j) {
    const eT* x = c.in[0].data + j * l.next;
    const eT top = largest(x, l);
    eT total = 0;
    if (std::isfinite(top))
      for (std::size_t i = 0; i < l.length; ++i) total += math::exp(x[i * l.step] - top);
    c.out.data[j] = std::isfinite(top) ? top + std::log(total) : top;
  }
}

template <class eT>
void softmax(const Command<eT>& c) {
  const Lines l = lines(c.in[0], (c.flags & transpose_a) != 0);
  for (std::size_t j = 0; j < l.count; ++j) {
    const eT* x = c.in[0].data + j * l.next;
    eT* y = c.out.data + j * l.next;
    const eT top = largest(x, l);
    eT total = 0;
    for (std::size_t i = 0; i < l.length; ++i) total += y[i * l.step] = math::exp(x[i * l.step] - top);
    for (std::size_t i = 0; i < l.length; ++i) y[i * l.step] /= total;
  }
}

template <class eT>
void maximum(const Command<eT>& c) {
  const Lines l = lines(c.in[0], (c.flags & transpose_a) != 0);
  const bool smallest = (c.flags & take_smallest) != 0;
  eT* mask = c.more_out[0].data;
  if (mask != nullptr) std::fill_n(mask, c.in[0].size(), eT(0));
  for (std::size_t j = 0; j < l.count; ++j) {
    const eT* x = c.in[0].data + j * l.next;
    std::size_t best = 0;
    for (std::size_t i = 1; i < l.length; ++i) {
      const eT a = x[i * l.step], b = x[best * l.step];
      if ((smallest ? a < b : a > b) || (std::isnan(a) && !std::isnan(b))) best = i;  // the first NaN wins, as in a sum
    }
    c.out.data[j] = x[best * l.step];
    if (mask != nullptr) mask[j * l.next + best * l.step] = 1;
  }
}

template <class eT>
void gather(const Command<eT>& c) {
  for (std::size_t i = 0; i < c.index_count; ++i) store(c.out.data[i], c.in[0].data[c.indices[i]], c);
}

template <class eT>
void scatter(const Command<eT>& c) {
  for (std::size_t i = 0; i < c.index_count; ++i) c.out.data[c.indices[i]] += c.alpha * c.in[0].data[i];
}

template <class eT>
void dropout(const Command<eT>& c) {
  const auto& a = *static_cast<const detail::DropoutAttributes*>(c.attributes);
  const std::uint64_t key = detail::mix(detail::mix(a.seed) ^ a.call) ^ detail::mix(*a.replays);
  const eT kept = static_cast<eT>(1 / (1 - a.p));
  for (std::size_t i = 0; i < c.out.size(); ++i) {
    const bool keep = static_cast<double>(detail::mix(key ^ i) >> 11) * 0x1.0p-53 >= a.p;
    store(c.out.data[i], keep ? kept * c.in[0].data[i] : eT(0), c);
  }
}

template <class eT>
void batch_columns(const Command<eT>& c) {
  const auto& a = *static_cast<const detail::BatchAttributes*>(c.attributes);
  for (std::uint32_t j = 0; j < c.out.cols; ++j)
    std::copy_n(c.in[0].data + std::size_t{a.sample(a.position + *a.replays, j)} * c.in[0].ld, c.out.rows,
                c.out.data + std::size_t{j} * c.out.ld);
}
template <class eT>
void batch_labels(const Command<eT>& c) {
  const auto& a = *static_cast<const detail::BatchAttributes*>(c.attributes);
  auto* const to = const_cast<std::uint32_t*>(c.indices);
  for (std::uint32_t j = 0; j < c.index_count; ++j)
    to[j] = static_cast<const std::uint32_t*>(c.object)[a.sample(a.position + *a.replays, j)];
}

template <class eT>
void sgd(const Command<eT>& c) {
  const auto& s = *static_cast<const detail::SgdScalars*>(c.object);
  const std::size_t n = c.out.size();
  const eT lr = static_cast<eT>(s.lr), decay = static_cast<eT>(s.weight_decay), sign = s.maximize ? eT(-1) : eT(1);
  const eT momentum = static_cast<eT>(s.momentum), fresh = static_cast<eT>(1 - s.dampening);
  const eT* g = c.in[0].data;
  eT *w = c.out.data, *v = c.more_out[0].data;
  const bool first = c.beta == eT(0);
  ARMAGRAD_NO_OVERLAP
  for (std::size_t i = 0; v == nullptr && i < n; ++i) w[i] -= lr * (sign * g[i] + decay * w[i]);
  if (v == nullptr) return;
  if (c.flags & velocity_stepped) {
    ARMAGRAD_NO_OVERLAP
    for (std::size_t i = 0; i < n; ++i) w[i] -= lr * v[i];
    return;
  }
  ARMAGRAD_NO_OVERLAP
  for (std::size_t i = 0; i < n; ++i) {
    const eT d = sign * g[i] + decay * w[i];
    v[i] = first ? d : momentum * v[i] + fresh * d;
    w[i] -= lr * (s.nesterov ? d + momentum * v[i] : v[i]);
  }
}

template <class eT>
void clip(const Command<eT>& c) {
  const eT norm = std::sqrt(*c.in[0].data), limit = static_cast<eT>(*static_cast<const double*>(c.object));
  if (!(norm > limit)) return;  // also when the norm is NaN, which the loss shows
  const eT factor = limit / norm;
  for (std::size_t i = 0; i < c.out.size(); ++i) c.out.data[i] *= factor;
}

}  // namespace

namespace detail {

#define ARMAGRAD_KERNEL(name, ...) \
  template <class eT>              \
  const Kernel<eT> kernels<eT>::name = versions<eT, &armagrad::name<eT>>(#name __VA_OPT__(, ) __VA_ARGS__);
ARMAGRAD_KERNEL(gemm)
ARMAGRAD_KERNEL(copy)
ARMAGRAD_KERNEL(fill)
ARMAGRAD_KERNEL(sum)
ARMAGRAD_KERNEL(cross_entropy)
ARMAGRAD_KERNEL(dot)
ARMAGRAD_KERNEL(squared_distance)
ARMAGRAD_KERNEL(log_sum_exp)
ARMAGRAD_KERNEL(softmax)
ARMAGRAD_KERNEL(maximum)
ARMAGRAD_KERNEL(gather)
ARMAGRAD_KERNEL(scatter)
ARMAGRAD_KERNEL(dropout)
ARMAGRAD_KERNEL(batch_columns)
ARMAGRAD_KERNEL(batch_labels)
ARMAGRAD_KERNEL(sgd, true)
ARMAGRAD_KERNEL(clip)
#undef ARMAGRAD_KERNEL

const char* instruction_set_name() {
  static constexpr const char* names[] = {"plain", "avx2", "avx512"};
  return names[static_cast<int>(instructions_here())];
}

template struct kernels<float>;
template struct kernels<double>;

template <unsigned bytes_per_index, unsigned elements_inside_mat, unsigned bytes_of_mat>
const char
    library_was_built_with_another_armadillo_configuration<bytes_per_index, elements_inside_mat, bytes_of_mat>::symbol =
        0;
template struct library_was_built_with_another_armadillo_configuration<
    sizeof(arma::uword), arma::arma_config::mat_prealloc, sizeof(arma::Mat<double>)>;

}  // namespace detail

Device Device::cpu() {
  static Cpu cpu;
  return Device(cpu);
}

}  // namespace armagrad
