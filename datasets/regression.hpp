// Generated regression data: scikit-learn's make_regression, and noisy curves of one variable.
#pragma once

#include <cstdint>
#include <functional>

#include <armagrad/autodiff/armadillo.hpp>

namespace armagrad::data {

/// The parameters of scikit-learn's make_regression, with its names and defaults (one target).
struct RegressionOptions {
  arma::uword n_samples = 100;
  arma::uword n_features = 100;
  arma::uword n_informative = 10;  ///< features with a non-zero coefficient; more than n_features means all of them
  double bias = 0.0;
  double noise = 0.0;  ///< standard deviation of the Gaussian noise added to y
  bool shuffle = true;
  std::uint32_t random_state = 0;
};

struct Regression {
  arma::mat x;     ///< features x samples
  arma::rowvec y;  ///< 1 x samples: coef' x + bias + noise
  arma::vec coef;  ///< features x 1, of the model that made y
};

/// A random linear regression problem, as scikit-learn 1.9 makes it for the same random_state: x and coef are equal to
/// the last bit, and so is y for one feature (for more, the order in which BLAS sums is the difference).
/// @throws OptionError for no samples, no features, or a noise that is negative or not finite.
Regression make_regression(const RegressionOptions& options = {});

struct CurveOptions {
  double from = 0.0;
  double to = 1.0;
  arma::uword n_samples = 100;
  double noise = 0.0;  ///< what the uniform noise u in [0, 1) is multiplied with
  std::uint32_t random_state = 0;
};

struct Curve {
  arma::rowvec x;  ///< 1 x samples, evenly spaced, both ends included
  arma::rowvec y;  ///< 1 x samples
};

/// y = f(x) + noise u, u uniform in [0, 1) from NumpyRandom: the noise is not centred, its mean is noise / 2.
/// @throws OptionError for fewer than two samples, or an end or a noise that is not finite.
Curve noisy_curve(const std::function<double(double)>& f, const CurveOptions& options);

/// 101 points on [1, 10], y = 2 x^0.3 + 0.3 u.
Curve power_law(std::uint32_t random_state);

/// 1000 points on [0, 2 pi], y = 3 sin x - 2 cos x + u: for the basis {sin, cos}.
Curve sine_cosine(std::uint32_t random_state);

/// 1000 points on [0, 1], y = 2 exp(x / 2) + 0.25 u: for the basis {exp}, which cannot fit it exactly.
Curve exponential(std::uint32_t random_state);

}  // namespace armagrad::data
