// The CUDA device's kernels against the CPU's, and what is said where the device is not.
#define BOOST_TEST_MODULE cuda
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <numeric>
#include <random>
#include <type_traits>
#include <vector>

#include <armagrad/autodiff/autodiff.hpp>
#include <armagrad/autodiff/device/cuda/plugin.hpp>
#include <armagrad/autodiff/device/kernels.hpp>
#include <armagrad/autodiff/rows.hpp>

#include "cuda_device.hpp"

using namespace armagrad;

namespace {

std::mt19937 generator(1);

template <class eT>
std::vector<eT> uniform(std::size_t n, double low, double high) {
  std::uniform_real_distribution<double> distribution(low, high);
  std::vector<eT> x(n);
  for (eT& v : x) v = static_cast<eT>(distribution(generator));
  return x;
}

/// The same matrix on the host and on the device, the columns `gap` elements apart. It holds not an element more than
/// the view needs.
template <class eT>
class Twin {
 public:
  Twin(std::uint32_t rows, std::uint32_t cols, std::uint32_t gap = 0, double low = -2, double high = 2)
      : rows_(rows),
        cols_(cols),
        ld_(rows + gap),
        start_(uniform<eT>(cols == 0 ? 0 : std::size_t{cols - 1} * ld_ + rows, low, high)),
        host_(start_),
        device_(static_cast<eT*>(device().allocate(start_.size() * sizeof(eT)))) {
    reset();
  }
  Twin(const Twin&) = delete;
  Twin& operator=(const Twin&) = delete;
  ~Twin() { device().release(device_); }

  void set(std::size_t i, eT value) {
    start_[i] = value;
    reset();
  }
  void reset() {
    host_ = start_;
    device().upload(device_, start_.data(), start_.size() * sizeof(eT));
  }
  /// The matrix's own elements become NaN: a kernel with beta 0 must not read them.
  void poison() {
    for (std::uint32_t j = 0; j < cols_; ++j)
      std::fill_n(host_.begin() + j * std::ptrdiff_t{ld_}, rows_, std::numeric_limits<eT>::quiet_NaN());
    device().upload(device_, host_.data(), host_.size() * sizeof(eT));
  }
  View<eT> on_host() { return {host_.data(), rows_, cols_, ld_}; }
  View<eT> on_device() { return {device_, rows_, cols_, ld_}; }
  const std::vector<eT>& host() const { return host_; }
  std::vector<eT> download() const {
    std::vector<eT> x(host_.size());
    device().download(x.data(), device_, x.size() * sizeof(eT));
    return x;
  }

 private:
  std::uint32_t rows_, cols_, ld_;
  std::vector<eT> start_, host_;
  eT* device_;
};

/// Runs the command on the CPU, and on the device with its threads in both orders: the second gives the same bits, the
/// CPU the same numbers, and what lies between columns stays as it was.
template <class eT>
void compare(Command<eT> c, std::vector<Twin<eT>*> in, Twin<eT>& out, Twin<eT>* more_out = nullptr,
             const std::vector<std::uint32_t>& indices = {}, std::size_t index_count = 0) {
  const bool updates = c.kernel == &detail::kernels<eT>::sgd;  // its beta is of the velocity alone
  const auto prepare = [&](Twin<eT>& twin) {
    twin.reset();
    if (c.beta == eT(0) && !(updates && &twin == &out)) twin.poison();
  };
  auto* device_indices = static_cast<std::uint32_t*>(device().allocate(indices.size() * sizeof(std::uint32_t)));
  device().upload(device_indices, indices.data(), indices.size() * sizeof(std::uint32_t));
  const auto run = [&](bool on_host) {
    const auto view = [on_host](Twin<eT>& t) { return on_host ? t.on_host() : t.on_device(); };
    prepare(out);
    if (more_out != nullptr) prepare(*more_out);
    for (std::size_t k = 0; k < in.size(); ++k) {
      in[k]->reset();  // it may have been a result before
      c.in[k] = view(*in[k]);
    }
    c.out = view(out);
    if (more_out != nullptr) c.more_out[0] = view(*more_out);
    c.indices = on_host ? indices.data() : device_indices;
    c.index_count = static_cast<std::uint32_t>(index_count != 0 ? index_count : indices.size());
    if (on_host)
      c.kernel->host.code[0](c);
    else
      device().run(c);
  };
  // What a sum over n numbers cancels to has the rounding of numbers of the size of sqrt(n).
  const double terms = in.empty() || in[0] == nullptr ? 1 : static_cast<double>(in[0]->on_host().size());
  const auto check = [terms](const std::vector<eT>& expected, const std::vector<eT>& found) {
    double largest = std::max(1.0, std::sqrt(terms)), worst = 0;
    for (std::size_t i = 0; i < expected.size(); ++i) {
      if (std::isnan(expected[i]) && std::isnan(found[i])) continue;
      largest = std::max(largest, std::abs(double{expected[i]}));
      worst = std::max(worst, std::isnan(found[i]) ? 1e300 : std::abs(double{expected[i]} - double{found[i]}));
    }
    BOOST_TEST(worst <= 200 * double{std::numeric_limits<eT>::epsilon()} * largest);
  };
  BOOST_TEST_CONTEXT(c.kernel->name << ", result " << out.on_host().rows << "x" << out.on_host().cols << ", alpha "
                                    << c.alpha << ", beta " << c.beta << ", flags " << c.flags) {
    run(true);
    std::vector<eT> expected = out.host();
    if (more_out != nullptr) expected.insert(expected.end(), more_out->host().begin(), more_out->host().end());
    std::vector<std::vector<eT>> results;
    for (const bool descending : {false, true}) {
      run_threads_descending(descending);
      run(false);
      results.push_back(out.download());
      if (more_out != nullptr) {
        const auto more = more_out->download();
        results.back().insert(results.back().end(), more.begin(), more.end());
      }
    }
    const std::size_t bytes = results[0].size() * sizeof(eT);
    BOOST_TEST((bytes == 0 || std::memcmp(results[0].data(), results[1].data(), bytes) == 0));
    check(expected, results[0]);
  }
  run_threads_descending(false);
  device().release(device_indices);
}

template <class eT>
Command<eT> command(const Kernel<eT>& kernel, double alpha = 1, double beta = 0, std::uint32_t flags = 0) {
  Command<eT> c;
  c.kernel = &kernel;
  c.alpha = static_cast<eT>(alpha);
  c.beta = static_cast<eT>(beta);
  c.flags = flags;
  return c;
}

const std::pair<double, double> scalars[] = {{1, 0}, {-0.5, 0}, {1, 1}, {2, 0.25}};

}  // namespace

// ---- what is said where there is no device. In a child process: a device once opened stays.

BOOST_AUTO_TEST_CASE(a_missing_plugin_is_named_with_the_way_to_get_it) {
  BOOST_TEST(why_not("nowhere/plugin.so") ==
             "Device::cuda(): ARMAGRAD_CUDA_PLUGIN names nowhere/plugin.so, which does not exist");
  check_contains(why_not("/proc/self/exe"), "Device::cuda(): the plug-in could not be loaded: ");
  const std::string text = why_not(nullptr);
  if (text == "no DeviceError") {
    std::cout << "there is a GPU here: name its plug-in in ARMAGRAD_CUDA_PLUGIN to run these tests on it\n";
    return;
  }
#ifdef ARMAGRAD_HAS_CUDA_PLUGIN
  check_contains(text, "Device::cuda(): cuda: there is ");  // no driver, or no device
  check_contains(text, "use Device::cpu()");
#else
  check_contains(text,
                 "Device::cuda(): this build of armagrad has no CUDA device: libarmagrad_cuda.so is neither beside");
  check_contains(text,
                 "build armagrad with CUDA 12 or newer installed (cmake -DARMAGRAD_CUDA=ON says what is missing)");
#endif
}

BOOST_AUTO_TEST_CASE(what_keeps_the_device_from_working_is_told_apart) {
  if (skipped(true)) return;
  for (const auto& [machine, part] : {std::pair{"no driver",
                                                "Device::cuda(): cuda: there is no NVIDIA driver here "
                                                "(cudaErrorInsufficientDriver); install the driver of your GPU"},
                                      {"old driver",
                                       "cuda: the NVIDIA driver is too old (cudaErrorInsufficientDriver): "
                                       "it knows CUDA 11.4, this build of armagrad needs CUDA 1"},
                                      {"no device", "cuda: there is a driver, but no NVIDIA GPU that it can use"},
                                      {"old device",
                                       "cuda: this build of armagrad has no code for a GPU of compute "
                                       "capability 5.2; build it with CMAKE_CUDA_ARCHITECTURES=52"}}) {
    exported<void(const char*)>("cuda_stand_in_pretend")(machine);
    check_contains(why_not(stand_in_file.c_str()), part);
  }
  exported<void(const char*)>("cuda_stand_in_pretend")("");
}

BOOST_AUTO_TEST_CASE(a_plugin_of_another_version_is_refused) {
  if (skipped(true)) return;
  char error[256] = "";
  BOOST_TEST(exported<cuda::OpenPlugin>(cuda::open_plugin_name)(7, error, sizeof error) == nullptr);
  check_contains(std::string(error), "the program asks for 7; build both from the same sources");
}

// ---- kernel by kernel

BOOST_AUTO_TEST_CASE_TEMPLATE(products_agree, eT, ElementTypes) {
  if (skipped()) return;
  const std::uint32_t shapes[][3] = {{5, 7, 3}, {1, 1, 1}, {4, 3, 0}, {1, 6, 2}, {6, 1, 2}, {3, 0, 2}, {33, 65, 17}};
  for (const auto& [m, n, k] : shapes)
    for (const std::uint32_t flags : {0u, 1u, 2u, 3u})
      for (const std::uint32_t gap : {0u, 3u})
        for (const auto& [alpha, beta] : scalars) {
          const bool ta = (flags & transpose_a) != 0, tb = (flags & transpose_b) != 0;
          Twin<eT> a(ta ? k : m, ta ? m : k, gap), b(tb ? n : k, tb ? k : n, 2 * gap), bias(m, 1), out(m, n, gap);
          compare(command(detail::kernels<eT>::gemm, alpha, beta, flags), {&a, &b}, out);
          compare(command(detail::kernels<eT>::gemm, alpha, beta, flags), {&a, &b, &bias}, out);
          compare(command(detail::kernels<eT>::gemm, alpha, beta, flags | then_relu), {&a, &b, &bias}, out);
        }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(copies_fills_and_sums_agree, eT, ElementTypes) {
  if (skipped()) return;
  const std::uint32_t shapes[][2] = {{5, 7}, {1, 1}, {1, 9}, {9, 1}, {0, 4}, {4, 0}, {37, 65}, {300, 70}, {3, 900}};
  for (const auto& [m, n] : shapes)
    for (const std::uint32_t gap : {0u, 3u})
      for (const auto& [alpha, beta] : scalars) {
        using K = detail::kernels<eT>;
        Twin<eT> out(m, n, gap), whole(m, n, 2 * gap, 0, 2), turned(n, m, gap), column(m, 1), row(1, n, gap), one(1, 1);
        compare(command(K::fill, alpha, beta), {}, out);
        compare(command(K::copy, alpha, beta), {&whole}, out);
        compare(command(K::copy, alpha, beta, transpose_a), {&turned}, out);
        compare(command(K::copy, alpha, beta), {&column}, out);
        compare(command(K::copy, alpha, beta), {&row}, out);
        compare(command(K::copy, alpha, beta), {&one}, out);
        compare(command(K::sum, alpha, beta), {&whole}, out);
        compare(command(K::sum, alpha, beta), {&whole}, column);
        compare(command(K::sum, alpha, beta), {&whole}, row);
        compare(command(K::sum, alpha, beta), {&whole}, one);
      }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(cross_entropy_and_softmax_agree, eT, ElementTypes) {
  if (skipped()) return;
  const std::uint32_t shapes[][2] = {{1, 1}, {3, 5}, {10, 64}, {33, 0}, {1000, 3}, {4, 700}};
  for (const auto& [classes, batch] : shapes)
    for (const std::uint32_t gap : {0u, 3u}) {
      Twin<eT> z(classes, batch, gap, -5, 5), loss(1, 1), residual(classes, batch), p(classes, batch);
      std::vector<std::uint32_t> labels;
      for (std::uint32_t j = 0; j < batch; ++j) labels.push_back(static_cast<std::uint32_t>(generator() % classes));
      for (const double alpha : {1.0, 1.0 / 64}) {
        compare<eT>(command(detail::kernels<eT>::cross_entropy, alpha), {&z}, loss, nullptr, labels);
        compare(command(detail::kernels<eT>::cross_entropy, alpha), {&z}, loss, &residual, labels);
      }
      Twin<eT> x(classes, batch);
      compare(command(detail::kernels<eT>::softmax), {&x}, p);
      compare(command(detail::kernels<eT>::softmax, 1, 0, transpose_a), {&x}, p);
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(reductions_to_one_number_agree, eT, ElementTypes) {
  if (skipped()) return;
  using K = detail::kernels<eT>;
  const std::uint32_t shapes[][2] = {{1, 1}, {0, 3}, {5, 7}, {300, 70}, {250, 130}};  // the last in two passes
  for (const auto& [m, n] : shapes)
    for (const auto& [alpha, beta] : scalars) {
      Twin<eT> a(m, n), b(m, n), turned(n, m), one(1, 1);
      compare(command(K::dot, alpha, beta), {&a, &b}, one);
      compare(command(K::dot, alpha, beta), {&a, &turned}, one);
      compare(command(K::squared_distance, alpha, beta), {&a, &b}, one);
      compare(command(K::sum, alpha, beta), {&a}, one);
    }
  Twin<eT> wide(40, 1500), column(40, 1);  // sums of rows in two passes
  compare(command(K::sum, 2, 1), {&wide}, column);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(reductions_of_lines_agree, eT, ElementTypes) {
  if (skipped()) return;
  using K = detail::kernels<eT>;
  constexpr eT nan = std::numeric_limits<eT>::quiet_NaN(), infinity = std::numeric_limits<eT>::infinity();
  const std::uint32_t shapes[][2] = {{1, 1}, {5, 7}, {33, 65}, {3, 1000}, {1000, 3}, {5, 0}, {0, 5}};
  for (const auto& [m, n] : shapes)
    for (const std::uint32_t of_rows : {0u, std::uint32_t{transpose_a}}) {
      if ((of_rows != 0 ? n : m) == 0) continue;
      Twin<eT> a(m, n), lines(of_rows != 0 ? m : 1, of_rows != 0 ? 1 : n), mask(m, n), out(m, n);
      const auto all = [&] {
        compare(command(K::log_sum_exp, 1, 0, of_rows), {&a}, lines);
        compare(command(K::softmax, 1, 0, of_rows), {&a}, out);
        for (const std::uint32_t smallest : {0u, std::uint32_t{take_smallest}}) {
          compare(command(K::maximum, 1, 0, of_rows | smallest), {&a}, lines);
          compare(command(K::maximum, 1, 0, of_rows | smallest), {&a}, lines, &mask);
        }
      };
      all();
      if (m * n < 35) continue;
      for (const std::size_t i : {0u, 8u, 14u, 33u}) a.set(i, eT(-3));  // equal ones: the first counts
      for (const std::size_t i : {2u, 11u, 32u}) a.set(i, eT(3));
      all();
      for (const std::size_t i : {3u, 13u}) a.set(i, infinity);
      for (const std::size_t i : {4u, 20u}) a.set(i, -infinity);
      all();
      for (const std::size_t i : {6u, 7u, 30u}) a.set(i, nan);
      all();
    }
  Twin<eT> nothing(2, 1), one(1, 1);
  nothing.set(0, -infinity);
  nothing.set(1, -infinity);
  compare(command(K::log_sum_exp), {&nothing}, one);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(gathering_and_scattering_agree, eT, ElementTypes) {
  if (skipped()) return;
  using K = detail::kernels<eT>;
  Twin<eT> a(6, 7), picked(5, 1), nothing(0, 1);
  for (const auto& [alpha, beta] : scalars) {
    compare<eT>(command(K::gather, alpha, beta), {&a}, picked, nullptr, {41, 0, 7, 7, 12});
    compare(command(K::gather, alpha, beta), {&a}, nothing);
  }
  for (const double alpha : {1.0, -0.5}) {
    compare<eT>(command(K::scatter, alpha, 1), {&picked}, a, nullptr, {41, 0, 7, 8, 12});
    compare(command(K::scatter, alpha, 1), {&nothing}, a);
  }
  // The same place many times over: added up in the order of the indices, as the CPU does.
  std::vector<std::uint32_t> indices(300);
  for (auto& i : indices) i = static_cast<std::uint32_t>(generator() % 5);
  std::vector<std::uint32_t> order(indices.size());
  std::iota(order.begin(), order.end(), 0u);
  std::stable_sort(order.begin(), order.end(), [&](auto i, auto j) { return indices[i] < indices[j]; });
  Twin<eT> many(300, 1);
  Command<eT> c = command(K::scatter, 2, 1, repeated_indices);
  indices.insert(indices.end(), order.begin(), order.end());
  compare<eT>(c, {&many}, a, nullptr, indices, 300);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(dropout_draws_the_masks_of_the_cpu, eT, ElementTypes) {
  if (skipped()) return;
  std::uint64_t replays = 0;
  detail::DropoutAttributes a{0.3, 5, 9, &replays};
  for (const double p : {0.0, 0.3, 0.999})
    for (replays = 0; replays < 3; ++replays) {
      a.p = p;
      Twin<eT> x(70, 50), out(70, 50);
      Command<eT> c = command(detail::kernels<eT>::dropout, 2, 0);
      c.attributes = &a;
      compare(c, {&x}, out);
      const auto on_device = out.download();
      const auto kept = std::count_if(on_device.begin(), on_device.end(), [](eT v) { return v != 0; });
      BOOST_TEST(std::abs(double(kept) / 3500 - (1 - p)) < 0.05);
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(updates_and_clipping_agree, eT, ElementTypes) {
  if (skipped()) return;
  using K = detail::kernels<eT>;
  for (const detail::SgdScalars& s : {detail::SgdScalars{0.1, 0, 0, 0, false, false},
                                      {0.1, 0, 0, 0.01, false, true},
                                      {0.1, 0.9, 0.2, 0.01, false, false},
                                      {0.1, 0.9, 0, 0.01, true, true}})
    for (const bool first : {true, false}) {
      Twin<eT> w(33, 9), g(33, 9), v(33, 9);
      Command<eT> c = command(K::sgd, 1, 1);
      c.object = &s;
      if (s.momentum > 0) {
        c.beta = first ? eT(0) : eT(1);  // 0: the velocity is poisoned, and written without being read
        compare(c, {&g}, w, &v);
      } else {
        compare<eT>(c, {&g}, w);
      }
    }
  for (const double limit : {0.5, 5.0}) {
    Twin<eT> squares(1, 1, 0, 1, 1), out(33, 9);  // norm 1
    Command<eT> c = command(K::clip, 1, 1);
    c.object = &limit;
    compare(c, {&squares}, out);
  }
  Twin<eT> nan(1, 1), out(3, 3);
  nan.set(0, std::numeric_limits<eT>::quiet_NaN());
  const double limit = 1;
  Command<eT> c = command(K::clip, 1, 1);
  c.object = &limit;
  compare(c, {&nan}, out);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_confident_column_keeps_its_gradient, eT, ElementTypes) {
  if (skipped()) return;
  Twin<eT> z(2, 1), loss(1, 1), residual(2, 1);
  z.set(0, 40);
  z.set(1, 0);  // 1 - p is exp(-40), which p - 1 rounds to 0
  compare(command(detail::kernels<eT>::cross_entropy), {&z}, loss, &residual, {0});
  BOOST_TEST(residual.download()[0] / -std::exp(eT(-40)) == eT(1), boost::test_tools::tolerance(eT(1e-5)));
  BOOST_TEST(loss.download()[0] / std::exp(eT(-40)) == eT(1), boost::test_tools::tolerance(eT(1e-5)));
}

namespace {

template <class Row, class eT>
void compare_row(double low, double high, double p, double q) {
  using Kernels = detail::RowKernels<Row, eT>;
  const double attributes[] = {p, q};
  const auto row_command = [&attributes](const Kernel<eT>& kernel, double alpha, double beta) {
    Command<eT> c = command(kernel, alpha, beta);
    c.attributes = attributes;
    return c;
  };
  for (const auto& [alpha, beta] : scalars) {
    if constexpr (Row::arity == 1) {
      const std::uint32_t shapes[][2] = {{37, 11}, {1, 1}, {3, 0}};
      for (const auto& [m, n] : shapes) {
        Twin<eT> g(m, n), x(m, n, 0, low, high), y(m, n, 0, 0.1, 2), out(m, n);
        compare(row_command(Kernels::value, alpha, beta), {&x}, out);
        compare(row_command(Kernels::template derivative<0>, alpha, beta), {&g, &x, &y}, out);
      }
    } else {
      const std::uint32_t shapes[][4] = {{37, 11, 37, 11}, {5, 7, 5, 1}, {5, 7, 1, 7}, {1, 7, 5, 1},
                                         {5, 7, 1, 1},     {1, 1, 5, 7}, {1, 1, 1, 1}, {3, 0, 3, 0}};
      for (const auto& s : shapes) {
        const std::uint32_t m = std::max(s[0], s[2]), n = s[1] == 1 ? s[3] : s[1];
        Twin<eT> g(m, n), a(s[0], s[1], 0, low, high), b(s[2], s[3], 0, low, high), y(m, n), out(m, n);
        compare(row_command(Kernels::value, alpha, beta), {&a, &b}, out);
        if constexpr (Row::derivatives > 0)
          compare(row_command(Kernels::template derivative<0>, alpha, beta), {&g, &a, &b, &y}, out);
        if constexpr (Row::derivatives > 1)
          compare(row_command(Kernels::template derivative<1>, alpha, beta), {&g, &a, &b, &y}, out);
      }
    }
  }
}

}  // namespace

BOOST_AUTO_TEST_CASE_TEMPLATE(every_element_wise_row_agrees, eT, ElementTypes) {
  if (skipped()) return;
  int rows = 0;
#define ARMAGRAD_ROW(name, low, high, p, q) (++rows, compare_row<math::name##_row, eT>(low, high, p, q));
#define ARMAGRAD_UNARY(name, value, derivative, low, high, ...) ARMAGRAD_ROW(name, low, high, 0, 0)
#define ARMAGRAD_UNARY_P(name, value, derivative, low, high, p, q, ...) ARMAGRAD_ROW(name, low, high, p, q)
#define ARMAGRAD_BINARY(name, value, by_a, by_b, low, high, ...) ARMAGRAD_ROW(name, low, high, 0, 0)
#define ARMAGRAD_MASK(name, ...) ARMAGRAD_ROW(name, -3, 3, 0, 0)
#define ARMAGRAD_MASKED(name, ...) ARMAGRAD_ROW(name, -3, 3, 0, 0)
#include <armagrad/autodiff/elementwise.def>
#undef ARMAGRAD_UNARY
#undef ARMAGRAD_UNARY_P
#undef ARMAGRAD_BINARY
#undef ARMAGRAD_MASK
#undef ARMAGRAD_MASKED
#undef ARMAGRAD_ROW
  BOOST_TEST(rows >= 30);
}

// ---- the backend

BOOST_AUTO_TEST_CASE(transfers_are_counted) {
  if (skipped()) return;
  Backend& d = device();
  const auto up = d.bytes_uploaded(), down = d.bytes_downloaded();
  std::vector<double> x(100, 3.0), y(100);
  void* memory = d.allocate(800);
  d.upload(memory, x.data(), 800);
  d.download(y.data(), memory, 400);
  d.release(memory);
  BOOST_TEST(d.bytes_uploaded() - up == 800u);
  BOOST_TEST(d.bytes_downloaded() - down == 400u);
  BOOST_TEST(y[49] == 3.0);
}

BOOST_AUTO_TEST_CASE(out_of_memory_tells_what_was_asked_for_and_the_device_goes_on) {
  if (skipped()) return;
  const std::string text = message_of([] { device().allocate(std::size_t{1} << 50); });
  check_contains(text, "cuda: out of memory: 1125899906.8 MB asked for, ");
  check_contains(text, " free; use a smaller batch or rewind the tape");
  Twin<float> out(3, 3);
  compare(command(detail::kernels<float>::fill, 2), {}, out);
}

namespace {
struct HostOnly {  // y = x, by a function on the host
  static constexpr auto name = "host_only";
  static Shape shape(Operands& in) { return in[0]; }
  template <class eT>
  static void eval(Eval<eT>& e) {
    e.host([](const arma::Mat<eT>& x, arma::Mat<eT>& y) { y = x; });
  }
};
}  // namespace

BOOST_AUTO_TEST_CASE(an_operation_without_a_kernel_is_refused_by_name_when_recorded) {
  if (skipped()) return;
  Tape<double> tape{Device(device())};
  const Var<double> a = tape.variable(arma::mat(3, 3, arma::fill::eye));
  const std::size_t recorded = tape.size();
  BOOST_TEST(message_of([&] { apply<HostOnly>(a); }) ==
             "operation host_only has no implementation on the CUDA device; use it on a tape of Device::cpu()");
  BOOST_TEST(tape.size() == recorded);
  BOOST_TEST(accu(a).item() == 3.0);
}

BOOST_AUTO_TEST_CASE(tf32_is_off_unless_asked_for_and_said) {
  if (skipped()) return;
  const Device cuda(device());
  check_contains(cuda.description(), "cuda: ");
  check_contains(cuda.description(), ", products in float32");
  Twin<float> a(40, 50), b(50, 30), out(40, 30);
  Command<float> c = command(detail::kernels<float>::gemm);
  c.in[0] = a.on_device();
  c.in[1] = b.on_device();
  c.out = out.on_device();
  const auto product = [&] {
    device().run(c);
    return out.download();
  };
  const auto exact = product();
  cuda.allow_tf32(true);
  check_contains(cuda.description(), ", products in TF32");
  const auto rounded = product();
  cuda.allow_tf32(false);
  check_contains(cuda.description(), ", products in float32");
  BOOST_TEST((product() == exact));
  double difference = 0;
  for (std::size_t i = 0; i < exact.size(); ++i)
    difference = std::max(difference, std::abs(double{exact[i]} - double{rounded[i]}));
  if (!plugin_was_named) BOOST_TEST(difference > 1e-5);  // a GPU may choose to multiply in float32 all the same
  BOOST_TEST(difference < 0.1);
  BOOST_TEST(message_of([] { Device::cpu().allow_tf32(true); }) ==
             "allow_tf32: cpu has no TF32; it is an option of Device::cuda()");
  Device::cpu().allow_tf32(false);
}
