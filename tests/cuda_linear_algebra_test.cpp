// Linear algebra on the CUDA device: beyond the generated suite, larger matrices, what is copied, replays, and what is
// said where something is missing.
#define BOOST_TEST_MODULE cuda_linear_algebra
#include <cmath>
#include <functional>
#include <limits>
#include <vector>

#include <armagrad/armagrad.hpp>

#include "cuda_device.hpp"

using namespace armagrad;

namespace {

template <class eT>
arma::Mat<eT> random_matrix(arma::uword rows, arma::uword cols, std::uint64_t seed) {
  nn::Generator random(seed);
  arma::Mat<eT> x(rows, cols);
  for (eT& v : x) v = static_cast<eT>(random.uniform(-1, 1));
  return x;
}
template <class eT>
arma::Mat<eT> regular(arma::uword n, std::uint64_t seed) {
  arma::Mat<eT> x = random_matrix<eT>(n, n, seed);
  x.diag() += eT(n) / 4;
  return x;
}

template <class F>
std::string value_error_of(F f) {
  try {
    f();
  } catch (const ValueError& e) {
    return e.what();
  }
  return "no ValueError";
}

}  // namespace

// cuSOLVER is loaded by the first command that needs it, so a machine may lack it. The first test: here nothing has
// loaded it yet.
BOOST_AUTO_TEST_CASE(without_cusolver_its_operations_are_refused_by_name_and_the_rest_works) {
  if (skipped(true)) return;
  device();
  const std::string text = said_by_child([] {  // here it may be loaded already
    exported<void(const char*)>("cuda_stand_in_pretend")("no cuSOLVER");
    Tape<float> tape{Device(device())};
    const auto a = tape.variable(regular<float>(3, 1));
    return message_of([&] { solve(a, a); }) + "|" + message_of([&] { eig_sym(0.5f * (a + a.t())); }) + "|" +
           (std::isfinite(accu(solve(trimatu(a), a)).item()) ? "triangles are solved" : "no");
  });
  check_contains(text,
                 "operation solve has no implementation on the CUDA device of this machine: it needs cuSOLVER, "
                 "and libcusolver.so.");
  check_contains(text,
                 ": cannot open shared object file; install the cuSOLVER of this CUDA version where the loader "
                 "finds it (LD_LIBRARY_PATH), or use a tape of Device::cpu()|operation eig_sym has no ");
  check_contains(text, "|triangles are solved");
}

// The sizes reach beyond one block of threads.
BOOST_AUTO_TEST_CASE_TEMPLATE(values_and_gradients_of_larger_matrices_are_the_cpus, eT, ElementTypes) {
  if (skipped()) return;
  using V = std::vector<Var<eT>>;
  const arma::uword n = 70;
  const auto a = regular<eT>(n, 1), b = random_matrix<eT>(n, 9, 2), tall = random_matrix<eT>(150, 20, 3);
  const arma::Mat<eT> wide = tall.t();
  const auto symmetric = [](Var<eT> x) { return 0.5 * (x + x.t()); };
  const auto weight = random_matrix<eT>(n, n, 5);
  const std::vector<std::pair<const char*, std::function<Var<eT>(const V&)>>> all{
      {"solve", [](const V& in) { return solve(in[0], in[1]); }},
      {"solve of A'", [](const V& in) { return solve(in[0].t(), in[1]); }},
      {"inv", [](const V& in) { return inv(in[0]); }},
      {"log_det", [](const V& in) { return log_det(in[0]).value; }},
      {"triangular", [](const V& in) { return solve(trimatu(in[0]), in[1]) + solve(trimatl(in[0]), in[1]); }},
      {"least squares", [](const V& in) { return solve(in[2], in[2].rows(0, 149) * in[2].t() * in[2]); }},
      {"smallest norm", [](const V& in) { return solve(in[3], in[3] * in[2]); }},
      {"chol", [=](const V& in) { return chol(symmetric(in[0] * in[0].t())); }},
      {"sympd",
       [=](const V& in) { return solve(symmetric(in[0] * in[0].t()), in[1], arma::solve_opts::likely_sympd); }},
      {"inv_sympd", [=](const V& in) { return inv_sympd(symmetric(in[0] * in[0].t())); }},
      {"log_det_sympd", [=](const V& in) { return log_det_sympd(symmetric(in[0] * in[0].t())); }},
      {"qr", [](const V& in) { return qr_econ(in[2]).R; }},
      {"lu", [](const V& in) { return lu(in[0]).U; }},
      {"eig_sym", [=](const V& in) { return square(eig_sym(symmetric(in[0]), with_vectors).vectors) * in[1]; }},
      {"svd", [](const V& in) { return svd(in[2]); }},
      {"svd of a wide matrix", [](const V& in) { return svd(in[3]); }},
      {"norm", [](const V& in) { return norm(in[0], 2); }},
      {"pinv", [](const V& in) { return pinv(in[2]); }},
      {"sort", [](const V& in) { return sort(in[0], "descend", 1) % sort(in[0], "ascend", 0); }},
      {"cumsum", [](const V& in) { return cumsum(in[0], 0) % cumsum(in[0], 1); }},
      {"cor", [](const V& in) { return cor(in[2]); }},
  };
  for (const auto& [name, f] : all) {
    std::vector<arma::Mat<eT>> by_device[2];
    int k = 0;
    for (const Device on : {Device::cpu(), Device(device())}) {
      Tape<eT> tape(on);
      const V in{tape.variable(a), tape.variable(b), tape.variable(tall), tape.variable(wide)};
      const Var<eT> y = f(in);
      by_device[k].push_back(y.value());
      const arma::Mat<eT> w = random_matrix<eT>(y.n_rows(), y.n_cols(), 7);
      accu(y % tape.constant(w)).backward();
      for (const Var<eT>& x : in) by_device[k].push_back(x.grad());
      ++k;
    }
    for (std::size_t i = 0; i < by_device[0].size(); ++i) {
      const double largest = std::max(1.0, static_cast<double>(arma::abs(by_device[0][i]).max()));
      const double apart = static_cast<double>(arma::abs(by_device[1][i] - by_device[0][i]).max());
      BOOST_TEST_CONTEXT(name << ", figure " << i)
      BOOST_TEST(apart <= 3e4 * static_cast<double>(std::numeric_limits<eT>::epsilon()) * largest);
    }
  }
}

// A factorisation tells by a few numbers whether it failed; nothing else is copied.
BOOST_AUTO_TEST_CASE(only_what_tells_of_failure_is_copied) {
  if (skipped()) return;
  Tape<float> tape{Device(device())};
  const auto a = tape.variable(regular<float>(40, 1)), b = tape.variable(random_matrix<float>(40, 3, 2));
  const auto up = device().bytes_uploaded(), down = device().bytes_downloaded();
  const auto x = solve(a, b);
  BOOST_TEST(device().bytes_downloaded() - down == (5 + 1) * sizeof(float));  // numbers of A and info; rcond
  accu(x).backward();
  BOOST_TEST(device().bytes_downloaded() - down == (5 + 2) * sizeof(float));  // rcond, for the transposed solve
  det(a), log_det(a);
  BOOST_TEST(device().bytes_downloaded() - down == (5 + 2) * sizeof(float));  // of the factors kept
  chol(0.5f * (a + a.t()));
  BOOST_TEST(device().bytes_downloaded() - down == (5 + 2 + 5) * sizeof(float));
  BOOST_TEST(device().bytes_uploaded() == up);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_step_with_a_factorisation_is_replayed_with_its_checks, eT, ElementTypes) {
  if (skipped()) return;
  const auto a1 = regular<eT>(5, 1), a2 = regular<eT>(5, 2), b = random_matrix<eT>(5, 2, 3);
  Tape<eT> tape{Device(device())};
  const auto a = tape.variable(a1), rhs = tape.constant(b);
  Var<eT> y = a;
  auto replay = tape.capture([&] {
    y = accu(square(solve(a, rhs)));
    y.backward();
  });
  const auto expected = [&](const arma::Mat<eT>& m) {
    Tape<eT> cpu;
    const auto v = cpu.variable(m);
    const auto value = accu(square(solve(v, cpu.constant(b))));
    value.backward();
    return std::pair(value.value(), v.grad());
  };
  replay.set(a, a2);
  replay.run();
  const auto [value, gradient] = expected(a2);
  const double tolerance = 1000 * static_cast<double>(std::numeric_limits<eT>::epsilon());
  BOOST_TEST(arma::abs(y.value() - value).max() <= tolerance);
  BOOST_TEST(arma::abs(a.grad() - gradient).max() <= tolerance);
  replay.set(a, arma::Mat<eT>(5, 5, arma::fill::ones));
  check_contains(value_error_of([&] { replay.run(); }), "solve: A is 5x5 and singular to working precision");
  replay.set(a, a1);
  replay.run();  // goes on
  BOOST_TEST(arma::abs(y.value() - expected(a1).first).max() <= tolerance);
}

BOOST_AUTO_TEST_CASE(what_the_device_does_not_have_is_refused_when_it_is_recorded) {
  if (skipped()) return;
  Tape<double> tape{Device(device())};
  const auto a = tape.variable(regular<double>(3, 1));
  const auto s = 0.5 * (a + a.t());
  const std::size_t size = tape.size();
  const auto refused = [](const std::string& name) {
    return "operation " + name + " has no implementation on the CUDA device; use it on a tape of Device::cpu()";
  };
  BOOST_TEST(message_of([&] { expmat(a); }) == refused("expmat"));
  BOOST_TEST(message_of([&] { eig_gen(a); }) == refused("eig_gen"));
  BOOST_TEST(message_of([&] { expmat_sym(s); }) == refused("expmat_sym"));
  BOOST_TEST(message_of([&] { sqrtmat_sympd(s); }) == refused("sqrtmat_sympd"));
  BOOST_TEST(message_of([&] { logmat_sympd(s); }) == refused("logmat_sympd"));
  BOOST_TEST(message_of([&] {
               spectral(
                   s, [](double x) { return x; }, [](double) { return 1.0; });
             }) == refused("spectral"));
  BOOST_TEST(message_of([&] { arma::sp_mat(arma::speye(3, 3)) * a; }) == refused("sparse matmul"));
  BOOST_TEST(tape.size() == size);  // nothing half-made is left, and the tape goes on
  BOOST_TEST(std::isfinite(accu(inv(a)).item()));
}
