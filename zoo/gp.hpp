// A Gaussian process on the carbon dioxide record of Mauna Loa, its hyper-parameters fitted through the tape.
#pragma once

#include <vector>

#include <armagrad/armagrad.hpp>

#include "zoo/report.hpp"

namespace armagrad::zoo {

/// The kernel of C. E. Rasmussen and C. K. I. Williams, Gaussian Processes for Machine Learning, 2006, section 5.4.3:
/// a smooth rise, a season that changes shape slowly, irregularities of medium length, and noise.
/// All eleven numbers are positive and fitted as logarithms.
struct GpParameter {
  const char* id;
  const char* label;
  double book;          ///< the book's value
  double scikit_learn;  ///< scikit-learn's optimum on these data (tests/peers/gaussian_process.py)
};
const std::vector<GpParameter>& gp_parameters();

/// -log p(y | t, theta) for ppm `y` at times `t` in years (mean removed); `theta` is the 11x1 logarithms.
Var<double> gp_negative_log_likelihood(Var<double> theta, const arma::vec& t, const arma::vec& y);

struct GpOptions {
  arma::uword every = 1;  ///< take each so-manieth month
  int gradient_steps = 25;
  int newton_steps = 30;    ///< at most
  double tolerance = 1e-7;  ///< of the largest gradient entry
};

struct GpFit {
  arma::vec theta;
  double log_likelihood;
  arma::mat hessian;                           ///< of the negative log likelihood at theta
  std::vector<double> likelihoods, gradients;  ///< after each step; the largest gradient entry
  std::size_t first_newton;                    ///< the step at which Newton's method takes over
};

/// Maximises the likelihood from `theta`: gradient steps with backtracking, then Newton steps whose negative curvatures
/// are turned positive. ValueError when it does not settle.
GpFit fit_gp(arma::vec theta, const arma::vec& t, const arma::vec& y, const GpOptions& options);

Report gaussian_process(const GpOptions& options = {});

}  // namespace armagrad::zoo
