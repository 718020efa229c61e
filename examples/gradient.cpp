// Gradients of functions of plain Armadillo matrices: no network, no tape to look after.
#include <cstdio>

#include <armagrad/armagrad.hpp>

namespace ag = armagrad;

int main() {
  // [value_and_grad]
  const arma::mat A = {{4, 1, 0}, {1, 3, 1}, {0, 1, 2}};
  const arma::vec b = {1, 2, 3};
  const auto length = [](auto a, auto rhs) { return norm(solve(a, rhs), "fro"); };
  const auto [value, dA, db] = ag::value_and_grad(length, A, b);
  // [/value_and_grad]
  std::printf("|x| with A x = b is %.4f; its gradient by b: %.4f %.4f %.4f; by A: %dx%d\n", value, db(0), db(1), db(2),
              int(dA.n_rows), int(dA.n_cols));

  // [misfit]
  // The decay rate k of y = c1 exp(-k t) + c2. For a given rate the best c solves a linear least-squares problem, so
  // the misfit depends on the rate alone (variable projection, Golub and Pereyra 1973).
  const arma::vec t = arma::linspace(0, 5, 50);
  const arma::vec y = 3 * exp(-0.7 * t) + 1;
  const auto misfit = [&](auto rate) {                                             // 1x1
    const auto basis = join_rows(exp(-(t * rate)), arma::ones<arma::mat>(50, 1));  // 50x2
    return accu(square(basis * solve(basis, y) - y));
  };
  // [/misfit]

  // [gradcheck]
  // Is it differentiated right? The gradient against finite differences, entry by entry.
  const auto check = ag::gradcheck([&](const auto& in) { return misfit(in[0]); }, {arma::mat{1.5}});
  std::printf("gradcheck: %s\n%s", check ? "right" : "wrong", check.log.c_str());
  // [/gradcheck]

  // [descend]
  arma::mat rate = {1.5};
  for (int step = 0; step <= 60; ++step) {
    const auto [loss, slope] = ag::value_and_grad(misfit, rate);
    if (step % 20 == 0) std::printf("step %2d: misfit %.5f at rate %.4f\n", step, loss, rate(0));
    rate -= 0.1 * slope;
  }
  // [/descend]
}
