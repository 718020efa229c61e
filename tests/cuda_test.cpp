// The CUDA device against the CPU. Where the CUDA toolkit's headers are, its own code runs on the host by way of
// cuda_stand_in/; with ARMAGRAD_CUDA_PLUGIN set, these tests run against the plug-in named, on a real GPU.
#define BOOST_TEST_MODULE cuda
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <iostream>
#include <limits>
#include <random>
#include <string>
#include <tuple>
#include <type_traits>
#include <vector>

#include <boost/test/unit_test.hpp>
#include <dlfcn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <armagrad/autodiff/autodiff.hpp>
#include <armagrad/autodiff/device/cuda/plugin.hpp>
#include <armagrad/autodiff/device/kernels.hpp>
#include <armagrad/autodiff/error.hpp>
#include <armagrad/autodiff/rows.hpp>

#ifndef ARMAGRAD_CUDA_STAND_IN
#define ARMAGRAD_CUDA_STAND_IN ""
#endif

using namespace armagrad;
using ElementTypes = std::tuple<float, double>;

namespace {

const std::string stand_in_file = ARMAGRAD_CUDA_STAND_IN;
const bool plugin_was_named =
    std::getenv("ARMAGRAD_CUDA_PLUGIN") != nullptr && std::getenv("ARMAGRAD_CUDA_PLUGIN") != stand_in_file;

/// A function that the stand-in exports beside the plug-in's own.
template <class F>
F* exported(const char* name) {
  static void* library = dlopen(stand_in_file.c_str(), RTLD_NOW | RTLD_LOCAL);
  BOOST_REQUIRE_MESSAGE(library != nullptr, dlerror());
  void* function = dlsym(library, name);
  BOOST_REQUIRE_MESSAGE(function != nullptr, name);
  return reinterpret_cast<F*>(function);
}
void run_threads_descending(bool yes) {
  if (!plugin_was_named) exported<void(bool)>("cuda_stand_in_descending")(yes);
}
std::size_t allocations() { return exported<std::size_t()>("cuda_stand_in_allocations")(); }
std::string seeded(const char* fault, float* x = nullptr, unsigned n = 0) {
  return exported<const char*(const char*, float*, unsigned)>("cuda_stand_in_seed")(fault, x, n);
}

bool skipped(bool needs_stand_in = false) {
  const char* reason = nullptr;
  if (plugin_was_named && needs_stand_in)
    reason = "it tests the stand-in, and ARMAGRAD_CUDA_PLUGIN names another plug-in";
  if (!plugin_was_named && stand_in_file.empty())
    reason = "the stand-in was not built, because the headers of CUDA 12 or newer are not here";
  if (reason != nullptr)
    std::cout << "skipped " << boost::unit_test::framework::current_test_case().p_name << ": " << reason << "\n";
  return reason != nullptr;
}

Backend& device() {
  if (!plugin_was_named) setenv("ARMAGRAD_CUDA_PLUGIN", stand_in_file.c_str(), 1);
  return Device::cuda().backend();
}

template <class F>
std::string message_of(F f) {
  try {
    f();
  } catch (const DeviceError& e) {
    return e.what();
  }
  return "no DeviceError";
}
/// What Device::cuda() throws in a process of its own, with this plug-in named (or none).
std::string why_not(const char* plugin) {
  int ends[2];
  BOOST_REQUIRE(pipe(ends) == 0);
  const pid_t child = fork();
  if (child == 0) {
    plugin == nullptr ? unsetenv("ARMAGRAD_CUDA_PLUGIN") : setenv("ARMAGRAD_CUDA_PLUGIN", plugin, 1);
    const std::string text = message_of([] { Device::cuda(); });
    _exit(write(ends[1], text.data(), text.size()) < 0);
  }
  close(ends[1]);
  std::string text(2000, ' ');
  text.resize(static_cast<std::size_t>(std::max<ssize_t>(read(ends[0], text.data(), text.size()), 0)));
  close(ends[0]);
  waitpid(child, nullptr, 0);
  return text;
}
void check_contains(const std::string& text, const std::string& part) {
  BOOST_CHECK_MESSAGE(text.find(part) != std::string::npos, "'" << text << "' lacks '" << part << "'");
}

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
             const std::vector<std::uint32_t>& indices = {}) {
  const auto prepare = [&](Twin<eT>& twin) {
    twin.reset();
    if (c.beta == eT(0)) twin.poison();
  };
  auto* device_indices = static_cast<std::uint32_t*>(device().allocate(indices.size() * sizeof(std::uint32_t)));
  device().upload(device_indices, indices.data(), indices.size() * sizeof(std::uint32_t));
  const auto run = [&](bool on_host) {
    const auto view = [on_host](Twin<eT>& t) { return on_host ? t.on_host() : t.on_device(); };
    prepare(out);
    if (more_out != nullptr) prepare(*more_out);
    for (std::size_t k = 0; k < in.size(); ++k)
      if (in[k] != nullptr) c.in[k] = view(*in[k]);
    c.out = view(out);
    if (more_out != nullptr) c.more_out[0] = view(*more_out);
    c.indices = on_host ? indices.data() : device_indices;
    c.index_count = static_cast<std::uint32_t>(indices.size());
    if (on_host)
      c.kernel->host.code[0](c);
    else
      device().run(c);
  };
  const auto check = [](const std::vector<eT>& expected, const std::vector<eT>& found) {
    double largest = 1, worst = 0;
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

BOOST_AUTO_TEST_CASE(an_operation_without_a_kernel_is_refused_by_name) {
  if (skipped()) return;
  const Kernel<double> unknown{"host", nullptr};
  BOOST_TEST(message_of([&] { device().require(unknown, "solve"); }) ==
             "operation solve has no implementation on the CUDA device; use it on a tape of Device::cpu()");
  Tape<double> tape{Device(device())};
  const Var<double> a = tape.variable(arma::mat(3, 3, arma::fill::eye));
  BOOST_TEST(message_of([&] { solve(a, a).value(); }) ==
             "operation solve has no implementation on the CUDA device; use it on a tape of Device::cpu()");
}

// ---- the engine on the device

namespace {

template <class eT>
struct Figures {
  std::vector<arma::Mat<eT>> matrices;  // value, gradients, second derivatives
};

/// Everything the three operations can be asked: the value, backward's gradients, and the gradients of a function of
/// the gradients.
template <class eT>
Figures<eT> figures(Device on, const std::function<Var<eT>(const std::vector<Var<eT>>&)>& f,
                    const std::vector<arma::Mat<eT>>& inputs) {
  Figures<eT> result;
  Tape<eT> tape(on);
  std::vector<Var<eT>> x;
  for (const auto& m : inputs) x.push_back(tape.variable(m));
  const Var<eT> y = f(x);
  result.matrices.push_back(y.value());
  y.backward();
  for (const auto& v : x) result.matrices.push_back(v.grad());

  tape.rewind();
  x.clear();
  for (const auto& m : inputs) x.push_back(tape.variable(m));
  const std::vector<Var<eT>> first = grad(f(x), x);
  Var<eT> z = accu(first[0] % first[0]);
  for (std::size_t k = 1; k < first.size(); ++k) z = z + accu(first[k] % first[k]);
  for (const auto& g : first) result.matrices.push_back(g.value());
  for (const auto& g : grad(z, x)) result.matrices.push_back(g.value());
  return result;
}

template <class eT>
void compare_figures(const std::function<Var<eT>(const std::vector<Var<eT>>&)>& f,
                     const std::vector<arma::Mat<eT>>& inputs) {
  const auto expected = figures<eT>(Device::cpu(), f, inputs);
  for (const bool descending : {false, true}) {
    run_threads_descending(descending);
    const auto found = figures<eT>(Device(device()), f, inputs);
    for (std::size_t k = 0; k < expected.matrices.size(); ++k) {
      BOOST_REQUIRE(arma::size(found.matrices[k]) == arma::size(expected.matrices[k]));
      const double error = arma::abs(found.matrices[k] - expected.matrices[k]).max();
      const double largest = arma::abs(expected.matrices[k]).max();
      BOOST_TEST(error <= 200 * std::numeric_limits<eT>::epsilon() * std::max(1.0, largest));
    }
  }
  run_threads_descending(false);
}

template <class eT>
arma::Mat<eT> random_matrix(arma::uword rows, arma::uword cols) {
  return arma::Mat<eT>(uniform<eT>(rows * cols, -1.5, 1.5).data(), rows, cols);
}

}  // namespace

BOOST_AUTO_TEST_CASE_TEMPLATE(value_gradient_and_second_derivative_agree, eT, ElementTypes) {
  if (skipped()) return;
  using V = std::vector<Var<eT>>;
  const auto w = random_matrix<eT>(4, 6), x = random_matrix<eT>(6, 9), b = random_matrix<eT>(4, 1);
  const arma::Row<std::size_t> labels = {0, 3, 1, 2, 2, 0, 1, 3, 3};
  compare_figures<eT>([](const V& in) { return accu(tanh(in[0])); }, {w});
  compare_figures<eT>([](const V& in) { return accu(square(affine(in[0], in[1], in[2]))); }, {w, x, b});
  compare_figures<eT>([](const V& in) { return accu(square(affine_relu(in[0], in[1], in[2]))); }, {w, x, b});
  compare_figures<eT>([&](const V& in) { return cross_entropy_sum(in[0], labels); }, {random_matrix<eT>(4, 9)});
  const auto w2 = random_matrix<eT>(4, 4);
  compare_figures<eT>(
      [&](const V& in) { return cross_entropy_sum(affine(in[3], tanh(affine(in[0], in[1], in[2])), in[2]), labels); },
      {w, x, b, w2});
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_replayed_step_agrees, eT, ElementTypes) {
  if (skipped()) return;
  const auto w = random_matrix<eT>(3, 4), b = random_matrix<eT>(3, 1);
  const auto x1 = random_matrix<eT>(4, 5), x2 = random_matrix<eT>(4, 5);
  const arma::Row<std::size_t> y1 = {0, 1, 2, 0, 1}, y2 = {2, 2, 1, 1, 0};
  std::vector<arma::Mat<eT>> losses;
  for (const Device on : {Device::cpu(), Device(device())}) {
    Tape<eT> tape(on);
    const Var<eT> weight = tape.variable(w), bias = tape.variable(b), x = tape.constant(x1);
    const auto y = tape.labels(y1);
    Var<eT> loss = x;
    auto replay = tape.capture([&] {
      loss = cross_entropy_sum(tanh(affine(weight, x, bias)), y);
      loss.backward();
    });
    losses.push_back(loss.value());
    replay.set(x, x2);
    replay.set(y, y2);
    replay.run();
    losses.push_back(loss.value());
  }
  BOOST_TEST(losses[0](0) != losses[1](0));
  for (const std::size_t k : {0u, 1u})
    BOOST_TEST(losses[k](0) == losses[k + 2](0),
               boost::test_tools::tolerance(100 * std::numeric_limits<eT>::epsilon()));
}

BOOST_AUTO_TEST_CASE(a_tape_copies_nothing_but_what_is_asked_for_and_gives_all_memory_back) {
  if (skipped()) return;
  const std::size_t before = plugin_was_named ? 0 : allocations();
  {
    Tape<float> tape{Device(device())};
    const auto up = device().bytes_uploaded(), down = device().bytes_downloaded();
    const Var<float> x = tape.variable(random_matrix<float>(10, 20));
    const Var<float> y = accu(tanh(tanh(x)));
    y.backward();
    BOOST_TEST(device().bytes_uploaded() - up == 800u);
    BOOST_TEST(device().bytes_downloaded() - down == 0u);
    y.item();
    BOOST_TEST(device().bytes_downloaded() - down == 4u);
    if (!plugin_was_named) BOOST_TEST(allocations() > before);
  }
  if (!plugin_was_named) BOOST_TEST(allocations() == before);
}

// ---- faults put in on purpose: does the stand-in notice?

BOOST_AUTO_TEST_CASE(a_host_pointer_given_for_a_device_one_is_noticed) {
  if (skipped(true)) return;
  using K = detail::kernels<float>;
  Twin<float> a(3, 3), out(3, 3);
  Command<float> c = command(K::copy);
  c.in[0] = a.on_host();
  c.out = out.on_device();
  const std::string text = message_of([&] { device().run(c); });
  check_contains(text, "cuda: copy: stand-in: argument 2 of a kernel (0x");
  check_contains(text, "is not in device memory");
  c.kernel = &K::gemm;
  c.in[1] = a.on_device();
  check_contains(message_of([&] { device().run(c); }), "cuda: gemm: cuBLAS: stand-in: gemm: A (0x");
  float host[9];
  check_contains(message_of([&] { device().upload(host, host, sizeof host); }),
                 "cuda: upload: stand-in: the destination of a copy (0x");
  check_contains(message_of([&] { device().download(out.on_device().data, out.on_device().data, sizeof host); }),
                 "cuda: download: stand-in: the destination of a copy is in device memory, not in the host's");
}

BOOST_AUTO_TEST_CASE(a_view_larger_than_its_memory_is_noticed) {
  if (skipped(true)) return;
  Twin<float> out(3, 3);
  Command<float> c = command(detail::kernels<float>::fill);
  c.out = out.on_device();
  c.out.cols = 4;
  check_contains(message_of([&] { device().run(c); }), "takes 48 bytes where 36 are left of an allocation of 36");
}

BOOST_AUTO_TEST_CASE(memory_given_back_is_not_used_and_not_given_back_twice) {
  if (skipped(true)) return;
  Command<float> c = command(detail::kernels<float>::fill);
  c.out = {static_cast<float*>(device().allocate(36)), 3, 3, 3};
  device().release(c.out.data);
  check_contains(message_of([&] { device().run(c); }), "is not in device memory");
  device().release(c.out.data);
  c.out.rows = 0;
  check_contains(message_of([&] { device().run(c); }), "which is no allocation");
}

BOOST_AUTO_TEST_CASE(host_code_cannot_read_device_memory) {
  if (skipped(true)) return;
  Twin<float> x(3, 3);
  const pid_t child = fork();
  if (child == 0) {
    std::signal(SIGSEGV, SIG_DFL);
    const volatile float stolen = *x.on_device().data;
    _exit(stolen == 0 ? 0 : 1);
  }
  int status = 0;
  BOOST_REQUIRE(waitpid(child, &status, 0) == child);
  BOOST_TEST(WIFSIGNALED(status));
  BOOST_TEST(WTERMSIG(status) == SIGSEGV);
}

BOOST_AUTO_TEST_CASE(fresh_memory_is_nan) {
  if (skipped(true)) return;
  void* memory = device().allocate(80);
  std::vector<double> x(10);
  device().download(x.data(), memory, 80);
  for (const double v : x) BOOST_TEST(std::isnan(v));
  device().release(memory);
}

BOOST_AUTO_TEST_CASE(wrong_kernels_are_noticed) {
  if (skipped(true)) return;
  Twin<float> x(4, 1);
  float* const p = x.on_device().data;
  check_contains(seeded("overrun", p, 4), "something wrote past the 16 bytes at 0x");
  BOOST_TEST(seeded("no fault", p) == "");
  BOOST_TEST(x.download()[0] == 64 * 63 / 2);
  BOOST_TEST(seeded("sync not reached by all") ==
             "stand-in: 32 of the 64 threads of block (0, 0, 0) wait at a __syncthreads that the others never reach");
  BOOST_TEST(seeded("shared overrun") == "stand-in: block (0, 0, 0) wrote past its 256 bytes of shared memory");
  check_contains(seeded("no threads", p), "stand-in: a launch of 0 blocks of 1 threads");
}

BOOST_AUTO_TEST_CASE(results_that_hang_on_the_order_of_threads_or_blocks_differ_between_the_orders) {
  if (skipped(true)) return;
  Twin<float> x(1, 1);
  for (const char* fault : {"missing sync", "order of blocks"}) {
    std::vector<float> results;
    for (const bool descending : {false, true}) {
      run_threads_descending(descending);
      BOOST_TEST(seeded(fault, x.on_device().data, 1) == "");
      results.push_back(x.download()[0]);
    }
    BOOST_TEST_CONTEXT(fault) BOOST_TEST(results[0] != results[1]);  // "missing sync" reads NaNs in ascending order
  }
  run_threads_descending(false);
}

BOOST_AUTO_TEST_CASE(leaks_are_counted) {
  if (skipped(true)) return;
  device();
  const std::size_t before = allocations();
  void* leaked = device().allocate(8);
  BOOST_TEST(allocations() == before + 1);
  device().release(leaked);
  BOOST_TEST(allocations() == before);
}
