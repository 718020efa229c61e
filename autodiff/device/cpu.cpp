// The CPU: memory from the heap, products from BLAS, the other kernels in loops the compiler vectorises.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>

#include <fmt/format.h>

#include <armagrad/autodiff/armadillo.hpp>
#include <armagrad/autodiff/device/kernels.hpp>
#include <armagrad/autodiff/error.hpp>

namespace armagrad {
namespace {

class Cpu final : public Backend {
 public:
  const char* name() const override { return "cpu"; }
  void* allocate(std::size_t bytes) override {
    void* memory = std::aligned_alloc(64, (std::max<std::size_t>(bytes, 1) + 63) / 64 * 64);
    if (memory == nullptr)
      throw DeviceError(fmt::format("cpu: out of memory: {:.1f} MB asked for; use a smaller batch or rewind the tape",
                                    static_cast<double>(bytes) / 1e6));
    return memory;
  }
  void release(void* memory) noexcept override { std::free(memory); }
  void upload(void* device, const void* host, std::size_t bytes) override { copy(device, host, bytes); }
  void download(void* host, const void* device, std::size_t bytes) override { copy(host, device, bytes); }
  void run(const Command<float>& c) override { c.kernel->host(c); }
  void run(const Command<double>& c) override { c.kernel->host(c); }
  void require(const Kernel<float>&, const char*) override {}
  void require(const Kernel<double>&, const char*) override {}
  void synchronize() override {}

 private:
  static void copy(void* to, const void* from, std::size_t bytes) {
    if (bytes != 0) std::memcpy(to, from, bytes);
  }
};

template <class eT>
void gemm(const Command<eT>& c) {
  const bool ta = (c.flags & transpose_a) != 0, tb = (c.flags & transpose_b) != 0;
  const arma::blas_int m = c.out.rows, n = c.out.cols, k = ta ? c.in[0].rows : c.in[0].cols;
  if (m == 0 || n == 0) return;
  eT beta = c.beta;
  if (k == 0) {
    for (std::uint32_t j = 0; j < c.out.cols; ++j)
      for (std::uint32_t i = 0; i < c.out.rows; ++i) {
        eT& y = c.out.data[i + std::size_t{j} * c.out.ld];
        y = beta == eT(0) ? eT(0) : beta * y;
      }
  } else {
    const char* trans_a = ta ? "T" : "N";
    const char* trans_b = tb ? "T" : "N";
    const arma::blas_int lda = c.in[0].ld, ldb = c.in[1].ld, ldc = c.out.ld;
    arma::blas::gemm<eT>(trans_a, trans_b, &m, &n, &k, &c.alpha, c.in[0].data, &lda, c.in[1].data, &ldb, &beta,
                         c.out.data, &ldc);
  }
  const eT* bias = c.in[2].data;
  if (bias == nullptr) return;
  const bool relu = (c.flags & then_relu) != 0;
  for (std::uint32_t j = 0; j < c.out.cols; ++j) {
    eT* y = c.out.data + std::size_t{j} * c.out.ld;
    if (relu)
      for (std::uint32_t i = 0; i < c.out.rows; ++i) y[i] = std::max(y[i] + bias[i], eT(0));
    else
      for (std::uint32_t i = 0; i < c.out.rows; ++i) y[i] += bias[i];
  }
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

// Eight partial sums: they vectorise without reassociation being allowed everywhere, and lose less to rounding than
// one.
template <class eT, class Term>
eT partial_sums(std::size_t n, Term term) {
  eT partial[8] = {};
  std::size_t i = 0;
  for (; i + 8 <= n; i += 8)
    for (std::size_t k = 0; k < 8; ++k) partial[k] += term(i + k);
  eT rest = 0;
  for (; i < n; ++i) rest += term(i);
  return ((partial[0] + partial[4]) + (partial[1] + partial[5])) +
         ((partial[2] + partial[6]) + (partial[3] + partial[7])) + rest;
}
template <class eT>
eT sum_of(const eT* x, std::size_t n) {
  return partial_sums<eT>(n, [x](std::size_t i) { return x[i]; });
}

template <class eT>
void store(eT& y, eT value, const Command<eT>& c) {
  y = c.beta == eT(0) ? c.alpha * value : c.alpha * value + c.beta * y;
}

template <class eT>
void sum(const Command<eT>& c) {
  const View<const eT>& a = c.in[0];
  if (c.out.rows == 1 && c.out.cols == 1) {
    eT total = 0;
    if (a.contiguous())
      total = sum_of(a.data, a.size());
    else
      for (std::size_t j = 0; j < a.cols; ++j) total += sum_of(a.data + j * a.ld, a.rows);
    store(*c.out.data, total, c);
  } else if (c.out.rows == 1 && a.rows != 1) {
    for (std::size_t j = 0; j < a.cols; ++j) store(c.out.data[j * c.out.ld], sum_of(a.data + j * a.ld, a.rows), c);
  } else if (c.out.cols == 1 && a.cols != 1) {
    // Four columns at a time: one read and write of the sums for four of the matrix.
    eT* y = c.out.data;
    for (std::size_t i = 0; i < a.rows; ++i) y[i] = c.beta == eT(0) ? eT(0) : c.beta * y[i];
    std::size_t j = 0;
    for (; j + 4 <= a.cols; j += 4) {
      const eT *x0 = a.data + j * a.ld, *x1 = x0 + a.ld, *x2 = x1 + a.ld, *x3 = x2 + a.ld;
      for (std::size_t i = 0; i < a.rows; ++i) y[i] += c.alpha * ((x0[i] + x1[i]) + (x2[i] + x3[i]));
    }
    for (; j < a.cols; ++j) {
      const eT* x = a.data + j * a.ld;
      for (std::size_t i = 0; i < a.rows; ++i) y[i] += c.alpha * x[i];
    }
  } else {
    copy(c);
  }
}

template <class eT>
void cross_entropy(const Command<eT>& c) {
  const View<const eT>& z = c.in[0];
  eT* residual = c.more_out[0].data;
  eT loss = 0;
  for (std::size_t j = 0; j < z.cols; ++j) {
    const eT* x = z.data + j * z.ld;
    const std::size_t label = c.indices[j];
    eT top = x[0];
    for (std::size_t i = 1; i < z.rows; ++i) top = std::max(top, x[i]);
    eT others = 0, own = 0;  // sums of exp: of the other classes, of the label's
    if (residual == nullptr) {
      for (std::size_t i = 0; i < z.rows; ++i) (i == label ? own : others) += std::exp(x[i] - top);
    } else {
      eT* r = residual + j * z.rows;
      for (std::size_t i = 0; i < z.rows; ++i) r[i] = std::exp(x[i] - top);
      for (std::size_t i = 0; i < z.rows; ++i) others += i == label ? eT(0) : r[i];
      own = r[label];
      const eT scale = c.alpha / (others + own);
      for (std::size_t i = 0; i < z.rows; ++i) r[i] *= scale;
      r[label] = -others * scale;  // p - 1 would round to 0 where p is near 1
    }
    // Of a confident column log(1 + others) keeps what 1 + others would round away.
    loss += own == eT(1) ? std::log1p(others) : std::log(others + own) + (top - x[label]);
  }
  *c.out.data = c.alpha * loss;
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
      for (std::size_t i = 0; i < l.length; ++i) total += std::exp(x[i * l.step] - top);
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
    for (std::size_t i = 0; i < l.length; ++i) total += y[i * l.step] = std::exp(x[i * l.step] - top);
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

#define ARMAGRAD_KERNEL(name) \
  template <class eT>         \
  const Kernel<eT> kernels<eT>::name{#name, &armagrad::name<eT>};
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
ARMAGRAD_KERNEL(sgd)
ARMAGRAD_KERNEL(clip)
#undef ARMAGRAD_KERNEL

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
