#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include <armagrad/autodiff/error.hpp>
#include <armagrad/datasets/numpy_random.hpp>
#include <armagrad/datasets/regression.hpp>

namespace armagrad::data {

Regression make_regression(const RegressionOptions& options) {
  if (options.n_samples == 0 || options.n_features == 0) {
    throw OptionError(fmt::format("make_regression: n_samples is {} and n_features is {}; both must be at least 1",
                                  options.n_samples, options.n_features));
  }
  if (!(options.noise >= 0.0) || !std::isfinite(options.noise)) {
    throw OptionError(fmt::format(
        "make_regression: noise is {}; it is a standard deviation and must be finite and not negative", options.noise));
  }

  // The order of the draws is scikit-learn's: its row-major samples x features are our columns.
  NumpyRandom random(options.random_state);
  Regression out;
  out.x.set_size(options.n_features, options.n_samples);
  for (double& value : out.x) value = random.standard_normal();

  out.coef.zeros(options.n_features);
  const arma::uword n_informative = std::min(options.n_informative, options.n_features);
  for (arma::uword i = 0; i < n_informative; ++i) out.coef[i] = 100.0 * random.random_sample();

  out.y.set_size(options.n_samples);
  for (arma::uword j = 0; j < options.n_samples; ++j) {
    double sum = 0.0;
    for (arma::uword i = 0; i < options.n_features; ++i) sum += out.x(i, j) * out.coef[i];
    out.y[j] = sum + options.bias;
  }
  if (options.noise > 0.0) {
    for (double& value : out.y) value += random.normal(0.0, options.noise);
  }

  if (options.shuffle) {
    const arma::uvec samples = random.permutation(options.n_samples);
    const arma::uvec features = random.permutation(options.n_features);
    out.x = arma::mat(out.x.submat(features, samples));
    out.y = arma::rowvec(out.y.cols(samples));
    out.coef = arma::vec(out.coef.rows(features));
  }
  return out;
}

Curve noisy_curve(const std::function<double(double)>& f, const CurveOptions& options) {
  if (options.n_samples < 2) {
    throw OptionError(fmt::format("noisy_curve: n_samples is {}; a curve has two ends and needs at least 2 samples",
                                  options.n_samples));
  }
  if (!std::isfinite(options.from) || !std::isfinite(options.to) || !std::isfinite(options.noise)) {
    throw OptionError(fmt::format("noisy_curve: from is {}, to is {}, noise is {}; all must be finite", options.from,
                                  options.to, options.noise));
  }
  NumpyRandom random(options.random_state);
  Curve out;
  out.x = arma::linspace<arma::rowvec>(options.from, options.to, options.n_samples);
  out.y.set_size(options.n_samples);
  for (arma::uword i = 0; i < options.n_samples; ++i) out.y[i] = f(out.x[i]) + options.noise * random.random_sample();
  return out;
}

Curve power_law(std::uint32_t random_state) {
  return noisy_curve([](double x) { return 2.0 * std::pow(x, 0.3); },
                     {.from = 1.0, .to = 10.0, .n_samples = 101, .noise = 0.3, .random_state = random_state});
}

Curve sine_cosine(std::uint32_t random_state) {
  return noisy_curve(
      [](double x) { return 3.0 * std::sin(x) - 2.0 * std::cos(x); },
      {.from = 0.0, .to = 2.0 * arma::datum::pi, .n_samples = 1000, .noise = 1.0, .random_state = random_state});
}

Curve exponential(std::uint32_t random_state) {
  return noisy_curve([](double x) { return 2.0 * std::exp(0.5 * x); },
                     {.from = 0.0, .to = 1.0, .n_samples = 1000, .noise = 0.25, .random_state = random_state});
}

}  // namespace armagrad::data
