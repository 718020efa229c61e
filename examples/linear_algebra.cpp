// Linear algebra with gradients: one factorisation for several questions, values that repeat, and what is refused.
#include <cstdio>

#include <armagrad/armagrad.hpp>

namespace ag = armagrad;

int main() {
  const arma::mat A = {{4, 1, 0.5}, {1, 3, 0.2}, {0.5, 0.2, 2}};
  const arma::vec y = {1, -1, 2};

  // [likelihood]
  // Minus the log-density of a normal distribution, by its covariance. The Cholesky factor is computed once: for the
  // value, and for the gradient of both terms.
  const auto density = [&](auto S) {
    const auto x = solve(S, y, arma::solve_opts::likely_sympd);
    return 0.5 * dot(y, x) + 0.5 * log_det_sympd(S);
  };
  const auto [value, dS] = ag::value_and_grad(density, A);
  // [/likelihood]
  std::printf("value %.6f, gradient (0, 0) %.6f, (0, 1) %.6f\n", value, dS(0, 0), dS(0, 1));

  // [structured]
  ag::Tape<double> tape;
  const auto S = tape.variable(A);
  const auto [values, vectors] = eig_sym(S, ag::with_vectors);
  const auto [U, s, V] = svd_econ(S.cols(0, 1));
  const auto [Q, R] = qr_econ(S.cols(0, 1));
  const auto [L, Upper, P] = lu(S);
  const auto [log_abs_det, sign] = log_det(S);
  // [/structured]
  std::printf("eigenvalues %.4f %.4f %.4f, det %.4f\n", values(0, 0).item(), values(1, 0).item(), values(2, 0).item(),
              std::exp(log_abs_det.item()) * sign.item());
  std::printf("LU %.1e, QR %.1e, SVD %.1e off\n", norm(P.t() * L * Upper - S, "fro").item() < 1e-14 ? 0.0 : 1.0,
              norm(Q * R - S.cols(0, 1), "fro").item() < 1e-14 ? 0.0 : 1.0,
              norm(U * diagmat(s) * V.t() - S.cols(0, 1), "fro").item() < 1e-14 ? 0.0 : 1.0);

  // [repeated]
  const arma::mat one(2, 2, arma::fill::eye);  // both eigenvalues are 1
  const arma::mat weights = {{1, 2}, {2, 0}};
  const auto by_vectors = [&](auto X) {
    const auto [w, v] = eig_sym(X, ag::with_vectors);
    return dot(weights, v * diagmat(exp(w)) * v.t());
  };
  const auto by_function = [&](auto X) { return dot(weights, expmat_sym(X)); };
  try {
    ag::grad(by_vectors, one);
  } catch (const ag::ValueError& e) {
    std::puts(e.what());
  }
  const arma::mat slope = ag::grad(by_function, one);  // e times the weights
  // [/repeated]
  std::printf("%.6f %.6f %.6f\n", slope(0, 0), slope(0, 1), slope(1, 1));

  // [det]
  const arma::mat singular = arma::diagmat(arma::vec{1, 2, 0});
  const arma::mat cofactors = ag::grad([](auto X) { return det(X); }, singular);
  // [/det]
  std::printf("%g %g %g\n", cofactors(0, 0), cofactors(1, 1), cofactors(2, 2));
}
