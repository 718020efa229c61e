// Long, deep and repeated: a million operations, shared levels, 100,000 training steps without an allocation.
#define BOOST_TEST_MODULE scale
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <string>
#include <tuple>

#include <boost/test/unit_test.hpp>

#include <armagrad/autodiff/autodiff.hpp>

#if defined(__SANITIZE_ADDRESS__)
#define ARMAGRAD_COUNT_ALLOCATIONS 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ARMAGRAD_COUNT_ALLOCATIONS 0
#endif
#endif
#ifndef ARMAGRAD_COUNT_ALLOCATIONS
#define ARMAGRAD_COUNT_ALLOCATIONS 1
#endif

namespace {
std::atomic<std::size_t> allocations = 0;
}

#if ARMAGRAD_COUNT_ALLOCATIONS
// Everything in this program that allocates comes through here: operator new, the CPU device, OpenBLAS.
extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);
void* malloc(std::size_t n) noexcept { return ++allocations, __libc_malloc(n); }
void* calloc(std::size_t n, std::size_t size) noexcept { return ++allocations, __libc_calloc(n, size); }
void* realloc(void* p, std::size_t n) noexcept { return ++allocations, __libc_realloc(p, n); }
void* aligned_alloc(std::size_t align, std::size_t n) noexcept { return ++allocations, __libc_memalign(align, n); }
int posix_memalign(void** p, std::size_t align, std::size_t n) noexcept {
  ++allocations;
  return (*p = __libc_memalign(align, n)) == nullptr;
}
}
#endif

namespace ag = armagrad;
using arma::mat;

namespace {

// Resident memory of this process.
double megabytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.rfind("VmRSS:", 0) == 0) return std::stod(line.substr(6)) / 1024;
  return 0;
}

using Types = std::tuple<float, double>;
constexpr double twice_24 = 1 << 24;

}  // namespace

BOOST_AUTO_TEST_CASE(a_chain_of_a_million_operations_goes_forward_and_back) {
  constexpr int n = 1'000'000;
  double value = 1, slope = 1;
  for (int i = 0; i < n; ++i) slope *= std::cos(value), value = std::sin(value);

  ag::Tape<double> tape;
  std::size_t first_capacity = 0;
  for (int round = 0; round < 2; ++round) {
    tape.rewind();
    const auto x = tape.variable(mat{1.0});
    auto y = x;
    for (int i = 0; i < n; ++i) y = sin(y);
    BOOST_TEST(tape.size() == n + 1u);
    BOOST_TEST(y.item() == value, boost::test_tools::tolerance(1e-12));
    y.backward();
    BOOST_TEST(x.grad()(0) == slope, boost::test_tools::tolerance(1e-9));
    BOOST_TEST(ag::grad(y, x).item() == slope, boost::test_tools::tolerance(1e-9));
    if (round == 0) first_capacity = tape.capacity();
  }
  BOOST_TEST(tape.capacity() == first_capacity);  // the second recording fits in the first one's memory
}

BOOST_AUTO_TEST_CASE(a_long_chain_has_second_derivatives) {
  constexpr int n = 100'000;
  double value = 1, slope = 1, second = 0;  // of sin(sin(...sin(x))) by the chain rule, forward
  for (int i = 0; i < n; ++i) {
    second = second * std::cos(value) - slope * slope * std::sin(value);
    slope *= std::cos(value);
    value = std::sin(value);
  }
  ag::Tape<double> tape;
  const auto x = tape.variable(mat{1.0});
  auto y = x;
  for (int i = 0; i < n; ++i) y = sin(y);
  BOOST_TEST(ag::grad(ag::grad(y, x), x).item() == second, boost::test_tools::tolerance(1e-9));
}

BOOST_AUTO_TEST_CASE(levels_that_share_their_operand_are_walked_once) {
  ag::Tape<double> tape;
  const auto x = tape.variable(mat{1.0});
  auto sum = x, power = x;  // 2^24 x and x^(2^24)
  for (int i = 0; i < 24; ++i) sum = sum + sum, power = power % power;
  BOOST_TEST(sum.item() == twice_24);
  sum.backward();
  BOOST_TEST(x.grad()(0) == twice_24);
  power.backward();
  BOOST_TEST(x.grad()(0) == 2 * twice_24);
  BOOST_TEST(tape.size() == 49u);
  BOOST_TEST(ag::grad(sum, x).item() == twice_24);
  const auto slope = ag::grad(power, x);
  BOOST_TEST(slope.item() == twice_24);
  BOOST_TEST(ag::grad(slope, x).item() == twice_24 * (twice_24 - 1));
  BOOST_TEST(tape.size() < 1000u);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(training_allocates_nothing_after_its_first_step, eT, Types) {
  constexpr int steps = 100'000;
  using Mat = arma::Mat<eT>;
  // Matrices of up to 16 elements need no memory of Armadillo's either.
  ag::Parameter<eT> w1(Mat("1 -1; 0.5 2; -1 0.3; 0.1 -0.7")), b1(4, 1), w2(Mat("1 0 -1 2; 0 1 1 -1; 2 1 0 0.5")),
      b2(3, 1);
  ag::Parameter<eT>* const parameters[] = {&w1, &b1, &w2, &b2};
  const Mat x = {{0, 1, 2, 0, -1, 2, 1, -2}, {1, 0, 1, -1, 2, 2, -1, -2}};
  const arma::Row<std::size_t> labels = {0, 1, 2, 0, 1, 2, 1, 0};
  ag::Tape<eT> tape;
  const auto step = [&] {
    tape.rewind();
    const auto h = affine_relu(w1, tape.constant(x), b1);
    const auto loss = cross_entropy_sum(w2 * h + b2, labels) + eT(1e-3) * accu(square(tape.parameter(w2)));
    for (auto* p : parameters) p->zero_grad();
    loss.backward();
    for (auto* p : parameters) p->set_value(p->value() - eT(0.01) * p->grad());
    return loss.item();
  };
  const eT first = step();
  const double resident = megabytes();
  const std::size_t before = allocations, capacity = tape.capacity();
  eT last = first;
  for (int i = 1; i < steps; ++i) last = step();
  const std::size_t made = allocations - before;
  const double grown = megabytes() - resident;
  BOOST_TEST(last < first);
  BOOST_TEST(tape.capacity() == capacity);
#if ARMAGRAD_COUNT_ALLOCATIONS
  BOOST_TEST(before > 0u);  // the counter does count
  BOOST_TEST(made == 0u);
  BOOST_TEST(grown < 1.0);
  std::cout << steps << " steps: loss " << first << " -> " << last << ", " << made << " allocations after the first, "
            << grown << " MB more resident memory\n";
#else
  std::cout << "Skipped: allocations are not counted under AddressSanitizer (" << made << ", " << grown << ").\n";
#endif
}

BOOST_AUTO_TEST_CASE(a_replay_allocates_nothing) {
  ag::Tape<double> tape;
  ag::Parameter<double> w(mat(8, 8, arma::fill::eye));
  const mat data(8, 4, arma::fill::ones);
  const auto x = tape.constant(data);
  auto step = tape.capture([&] {
    w.zero_grad();
    accu(square(tanh(w * x))).backward();
  });
  step.run();
  const std::size_t before = allocations;
  for (int i = 0; i < 1000; ++i) {
    step.set(x, data);
    step.run();
  }
  BOOST_TEST(allocations == before);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(linear_algebra_allocates_nothing_after_its_first_step, eT, Types) {
  using Mat = arma::Mat<eT>;
  arma::arma_rng::set_seed(1);
  Mat a(70, 70, arma::fill::randn), s = a * a.t() / eT(70), tall(12, 5, arma::fill::randn);
  a.diag() += eT(20);
  s.diag() += eT(1);
  const Mat b(70, 9, arma::fill::randn), c(12, 2, arma::fill::randn);
  ag::Tape<eT> tape;
  const auto step = [&] {
    tape.rewind();
    const auto A = tape.variable(a), S = tape.variable(s), T = tape.variable(tall), B = tape.borrow(b),
               C = tape.borrow(c);
    const auto [w, v] = eig_sym(S, ag::with_vectors);
    const auto [U, sigma, V] = svd_econ(T);
    const auto loss = accu(solve(A, B)) + accu(inv(A)) + det(A * eT(0.05)) + log_det(A).value + log_det_sympd(S) +
                      accu(solve(S, B, arma::solve_opts::likely_sympd)) + accu(chol(S)) + accu(square(v) * w) +
                      accu(square(U)) + accu(sigma) + accu(square(V)) + accu(pinv(T)) + accu(solve(T, C)) + norm(T, 2) +
                      cond(T) + accu(sqrtmat_sympd(S)) + accu(expmat(A * eT(0.02))) + accu(sort(T, "ascend", 0)) +
                      accu(cumsum(T, 1)) + accu(square(lu(A).L)) + accu(eig_sym(S));
    loss.backward();
    return loss.item();
  };
  const eT first = step();
  step();
  const std::size_t before = allocations;
  BOOST_TEST(step() == first);
  BOOST_TEST(std::isfinite(first));
#if ARMAGRAD_COUNT_ALLOCATIONS
  BOOST_TEST(allocations - before == 0u);
#else
  std::cout << "Skipped: allocations are not counted under AddressSanitizer (" << allocations - before << ").\n";
#endif
}
