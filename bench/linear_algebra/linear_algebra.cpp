// Times linear algebra, forward and backward of a sum: bench_linear_algebra [n...]. Prints "operation n microseconds",
// the fastest of many repetitions; pytorch.py does the same with PyTorch.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include <armagrad/armagrad.hpp>

namespace ag = armagrad;
using arma::mat;
using Var = ag::Var<double>;

namespace {

double fastest(const std::function<void()>& f) {
  using Clock = std::chrono::steady_clock;
  double best = 1e300;
  const auto end = Clock::now() + std::chrono::milliseconds(300);
  int runs = 0;
  do {
    const auto start = Clock::now();
    f();
    best = std::min(best, std::chrono::duration<double, std::micro>(Clock::now() - start).count());
  } while (++runs < 3 || Clock::now() < end);
  return best;
}

// Minus the log-likelihood of a Gaussian process with a squared-exponential kernel, by its three parameters.
void gaussian_process(arma::uword n) {
  const arma::vec x = arma::linspace(0, 10, n), y = arma::sin(x) + 0.1 * arma::randn(n);
  mat squared(n, n);
  for (arma::uword j = 0; j < n; ++j) squared.col(j) = arma::square(x - x(j));
  const mat identity(n, n, arma::fill::eye);
  ag::Tape<double> tape;
  const double us = fastest([&] {
    tape.rewind();
    const Var length = tape.variable(mat{0.1}), size = tape.variable(mat{0.2}), noise = tape.variable(mat{-2.0});
    const Var d = tape.borrow(squared), one = tape.borrow(identity), target = tape.borrow(y);
    const Var k = exp(size) * exp(d * (-0.5 * exp(-2 * length))) + exp(noise) * one;
    const Var loss = 0.5 * dot(target, solve(k, target, arma::solve_opts::likely_sympd)) + 0.5 * log_det_sympd(k);
    loss.backward();
  });
  std::printf("gaussian_process %u %.2f\n", static_cast<unsigned>(n), us);
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<arma::uword> sizes;
  for (int i = 1; i < argc; ++i) sizes.push_back(static_cast<arma::uword>(std::atoi(argv[i])));
  if (sizes.empty()) sizes = {10, 100, 500};
  const auto sum = [](auto... x) { return (accu(x) + ...); };
  using Function = std::function<Var(Var, Var)>;
  const std::vector<std::pair<std::string, Function>> general = {
      {"solve", [](Var a, Var b) { return accu(solve(a, b.col(0))); }},
      {"solve_n", [](Var a, Var b) { return accu(solve(a, b)); }},
      {"inv", [](Var a, Var) { return accu(inv(a)); }},
      {"log_det", [](Var a, Var) { return log_det(a).value; }},
      {"svd_values", [](Var a, Var) { return accu(svd(a)); }},
      {"svd",
       [sum](Var a, Var) {
         const auto r = svd_econ(a);
         return sum(r.U, r.s, r.V);
       }},
      {"pinv", [](Var a, Var) { return accu(pinv(a)); }},
  };
  const std::vector<std::pair<std::string, Function>> symmetric = {
      {"chol", [](Var a, Var) { return accu(chol(a)); }},
      {"eig_sym",
       [sum](Var a, Var) {
         const auto r = eig_sym(a, ag::with_vectors);
         return sum(r.values, r.vectors);
       }},
  };
  for (const arma::uword n : sizes) {
    arma::arma_rng::set_seed(n);
    mat a(n, n, arma::fill::randn), b(n, n, arma::fill::randn);
    a.diag() += 3 * std::sqrt(static_cast<double>(n));
    mat s = a * a.t() / static_cast<double>(n);
    s.diag() += 1;
    ag::Tape<double> tape;
    for (const auto* list : {&general, &symmetric})
      for (const auto& [name, f] : *list) {
        const mat& at = list == &general ? a : s;
        const double us = fastest([&] {
          tape.rewind();
          f(tape.variable(at), tape.borrow(b)).backward();
        });
        std::printf("%s %u %.2f\n", name.c_str(), static_cast<unsigned>(n), us);
      }
    if (n >= 100) gaussian_process(n);
  }
}
