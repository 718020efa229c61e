#include <iostream>

#include <armagrad/armagrad.hpp>

namespace ag = armagrad;

int main() {
  const arma::vec t = arma::linspace(0, 5, 50), y = 3 * exp(-0.7 * t) + 1;
  // How well c1 exp(-k t) + c2 can fit y for a given rate k: the best c comes from a least-squares solver.
  const auto misfit = [&](auto k) {
    const auto basis = join_rows(exp(-(t * k)), arma::ones<arma::mat>(50, 1));  // 50x2
    return accu(square(basis * solve(basis, y) - y));
  };
  arma::mat k = {1.5};
  for (int step = 0; step <= 30; ++step) {
    const auto [loss, slope] = ag::value_and_grad(misfit, k);  // differentiated through the solver
    if (step % 10 == 0) std::cout << "misfit " << loss << " at rate " << k(0) << '\n';
    k -= 0.02 * slope;
  }
}
