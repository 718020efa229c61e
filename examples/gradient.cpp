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

  // [likelihood]
  // A line through points of which two are far off: Cauchy's likelihood bears with them, least squares does not.
  const arma::rowvec t = arma::linspace<arma::rowvec>(0, 4, 20);
  arma::rowvec y = 1 + 2 * t + 0.5 * sin(40 * t);
  y(3) += 30, y(7) += 20;
  const arma::mat design = join_cols(arma::ones<arma::rowvec>(20), t);  // 2x20
  const auto misfit = [&](auto w, auto log_scale) {                     // 1x2 and 1x1
    const auto residual = (y - w * design) % exp(-log_scale);           // 1x20
    return accu(log1p(square(residual))) + 20 * log_scale;              // minus the log likelihood
  };
  // [/likelihood]

  // [gradcheck]
  // Is it differentiated right? The gradient against finite differences, entry by entry.
  arma::mat w = solve(design.t(), y.t()).t(), log_scale = {1.0};
  const auto check = ag::gradcheck([&](const auto& in) { return misfit(in[0], in[1]); }, {w, log_scale});
  std::printf("gradcheck: %s\n%s", check ? "right" : "wrong", check.log.c_str());
  // [/gradcheck]

  // [descend]
  std::printf("least squares: intercept %.3f, slope %.3f\n", w(0), w(1));
  for (int step = 0; step < 3000; ++step) {
    const auto [loss, dw, dscale] = ag::value_and_grad(misfit, w, log_scale);
    w -= 0.0005 * dw;
    log_scale -= 0.0005 * dscale;
  }
  std::printf("likelihood:    intercept %.3f, slope %.3f\n", w(0), w(1));
  // [/descend]
}
