// The gradient of a gradient: Newton's method for logistic regression, and a gradient penalty.
#include <cstdio>

#include <armagrad/armagrad.hpp>

namespace ag = armagrad;

int main() {
  // Two clouds of points, features x samples, with the labels -1 and 1.
  const arma::rowvec angle = arma::linspace<arma::rowvec>(0, 6, 40);
  const arma::mat x = arma::join_cols(cos(angle) + 0.02 * square(angle), sin(3 * angle), arma::ones<arma::rowvec>(40));
  const arma::rowvec y = sign(arma::rowvec{1.0, 0.5, 0.1} * x + 0.6 * sin(7 * angle));

  // [newton]
  const auto loss = [&](ag::Var<double> w) {  // w: 3x1
    return accu(softplus(-(y % (w.t() * x)))) + 0.05 * dot(w, w);
  };
  arma::mat w(3, 1);
  for (int step = 0; step < 6; ++step) {
    const auto at = ag::value_grad_hessian(loss, w);  // 1, 3x1 and 3x3
    std::printf("step %d: loss %.5f, |gradient| %.1e\n", step, at.value, arma::norm(at.gradient));
    w -= arma::solve(at.hessian, at.gradient);
  }
  // [/newton]

  // [penalty]
  // A loss with a gradient in it: the mean squared steepness of a score, differentiated by the weights.
  const auto penalty = [](auto weights, auto input) {
    const auto score = accu(tanh(weights.t() * input));
    return mean(sum(square(grad(score, input)), 0), 1);  // grad by the input: 3x40
  };
  const auto [value, dw, dx] = ag::value_and_grad(penalty, w, x);
  std::printf("penalty %.5f, its gradient by w: %.5f %.5f %.5f\n", value, dw(0), dw(1), dw(2));
  const auto check = ag::gradcheck([&](const auto& in) { return penalty(in[0], in[1]); }, {w, x});
  std::printf("gradcheck: %s, %d entries\n%s", check ? "right" : "wrong", int(check.entries), check.log.c_str());
  // [/penalty]
}
