// Jacobians, Hessians, their products, and memory traded for time.
#include <cstdio>
#include <iostream>

#include <armagrad/armagrad.hpp>

namespace ag = armagrad;

struct Block : ag::nn::Module<double> {
  ag::nn::Linear<double> a{8, 64}, b{64, 8};
  ARMAGRAD_MODULE(a, b)
  ag::Var<double> forward(ag::Var<double> x) { return x + b(tanh(a(x))); }
};

int main() {
  // [functions]
  const arma::vec x{1, 2}, v{0.5, -1};
  const auto polar = [](auto p) { return join_cols(p(0, 0) * cos(p(1, 0)), p(0, 0) * sin(p(1, 0))); };
  const arma::mat J = ag::jacobian(polar, x);    // 2 x 2
  const auto [y, dy] = ag::jvp(polar, x, v);     // polar(x) and J v
  const auto [same, dx] = ag::vjp(polar, x, v);  // polar(x) and J' v

  const auto banana = [](auto p) { return 100 * square(p(1, 0) - square(p(0, 0))) + square(1 - p(0, 0)); };
  const arma::mat H = ag::hessian(banana, x);  // 2 x 2
  const arma::mat Hv = ag::hvp(banana, x, v);  // H v, without H
  // [/functions]
  J.print("J");
  const auto equal = [](const arma::mat& a, const arma::mat& b) { return arma::approx_equal(a, b, "reldiff", 1e-12); };
  std::printf("J v, J' v, H v: %d %d %d\n", equal(J * v, dy), equal(J.t() * v, dx), equal(H * v, Hv));

  // [newton]
  arma::vec at = x;
  for (int step = 0; step < 6; ++step) {
    const auto [value, gradient, hessian] = ag::value_grad_hessian(banana, at);
    at -= arma::solve(hessian, gradient);
  }
  // [/newton]
  at.t().print("minimum");

  // [several]
  const auto f = [](auto A, auto b) { return A * tanh(A.t() * b); };
  const arma::mat A = {{1, 0.5}, {0.2, -1}}, dA = {{1, 0}, {0, 0}};
  const arma::vec b{1, -1}, db{0, 0};
  const auto [z, dz] = ag::jvp(f, std::tie(A, b), std::tie(dA, db));
  const arma::mat by_both = ag::jacobian(f, A, b);  // 2 x 6: by vec(A), then by b
  // [/several]
  std::printf("dz is the first column of the Jacobian: %d\n", equal(by_both.col(0), dz));

  // [recording]
  ag::Tape<double> tape;
  const ag::Var<double> p = tape.variable(x), q = banana(p);
  const ag::Var<double> directional = ag::jvp(q, p, tape.constant(v));  // 1 x 1, a result like any other
  const ag::Var<double> slope = grad(directional, p);                   // H v
  const arma::mat again = ag::hessian(q, p);                            // leaves the tape as it was
  // [/recording]
  std::printf("recorded: %d %d\n", equal(slope.value(), Hv), equal(again, H));

  // [checkpoint]
  std::vector<Block> blocks(16);
  const auto bytes = [&](bool keep) {
    ag::Tape<double> memory;
    ag::Var<double> h = memory.constant(arma::ones(8, 1000));
    for (Block& block : blocks) h = keep ? block(h) : checkpoint(block, h);
    accu(square(h)).backward();
    return memory.capacity();
  };
  std::printf("with checkpoints the step takes less than a third of the memory: %s\n",
              3 * bytes(false) < bytes(true) ? "yes" : "no");
  // [/checkpoint]

  // [scope]
  for (int k = 0; k < 1000; ++k) {
    const auto scope = tape.scope();  // what is recorded from here on is gone at the end of the loop's body
    grad(q, p);
  }
  // [/scope]
}
