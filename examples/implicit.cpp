// Differentiating a solver's answer without its steps: the implicit function theorem at a fixed point.
#include <cstdio>

#include <armagrad/armagrad.hpp>

namespace ag = armagrad;
using Var = ag::Var<double>;

// [fixed_point]
// z = f(z, theta), found by iterating f, with derivatives by theta: dz/dtheta = (I - df/dz)^-1 df/dtheta. None of the
// iterations is kept. A step of Newton's method from the answer changes no value, but it is recorded, and its
// derivative is that formula. Another step gives the second derivatives, and so on.
template <class F>
Var fixed_point(F f, Var theta, int orders = 1) {
  arma::mat z(theta.n_rows(), 1);
  for (double change = 1; change > 1e-14;) {
    ag::Tape<double> tape;
    const arma::mat next = f(tape.constant(z), tape.constant(theta.value())).value();
    change = arma::abs(next - z).max();
    z = next;
  }
  ag::Tape<double> tape;
  const Var at = tape.variable(z);
  const arma::mat slope = arma::eye(z.n_rows, z.n_rows) - ag::jacobian(f(at, tape.constant(theta.value())), at);
  Var answer = detach(0 * theta) + z;
  for (int k = 0; k < orders; ++k) answer += solve(slope, f(answer, theta) - answer);
  return answer;
}
// [/fixed_point]

int main() {
  // [use]
  const arma::mat w = {{0.3, -0.4, 0.1}, {0.2, 0.1, -0.5}, {-0.3, 0.2, 0.2}};
  const auto layer = [&](Var z, Var theta) { return tanh(w * z + theta); };  // a network of endless depth
  const auto implicit = [&](Var theta) { return accu(square(fixed_point(layer, theta, 2))); };
  // [/use]
  const auto unrolled = [&](Var theta) {
    Var z = 0 * theta;
    for (int k = 0; k < 200; ++k) z = layer(z, theta);
    return accu(square(z));
  };
  const arma::vec theta{0.5, -1, 0.3};
  const auto a = ag::value_grad_hessian(implicit, theta), b = ag::value_grad_hessian(unrolled, theta);
  std::printf("value %.6f, gradient %.6f %.6f %.6f\n", a.value, a.gradient(0), a.gradient(1), a.gradient(2));
  const auto same = [](const arma::mat& x, const arma::mat& y) { return arma::approx_equal(x, y, "absdiff", 1e-12); };
  std::printf("as through 200 recorded steps: gradient %s, Hessian %s\n", same(a.gradient, b.gradient) ? "yes" : "no",
              same(a.hessian, b.hessian) ? "yes" : "no");
  ag::Tape<double> one, all;
  implicit(one.variable(theta));
  unrolled(all.variable(theta));
  std::printf("nodes recorded: %d instead of %d\n", int(one.size()), int(all.size()));
}
