#include "zoo/gp.hpp"

#include <chrono>
#include <cmath>

#include <fmt/format.h>

#include "zoo/progress.hpp"

namespace armagrad::zoo {
namespace {

// scikit-learn 1.9.1 on the same data: tests/peers/gaussian_process.py
constexpr double scikit_learn_at_book = -117.022637376, scikit_learn_log_likelihood = -115.050298096;

// What the kernel needs to know of two sets of times: squared distances, and 2 sin^2(pi distance).
struct Distances {
  arma::mat squared, seasonal;
  bool same;
  Distances(const arma::vec& a, const arma::vec& b, bool same_times) : same(same_times) {
    const arma::mat d = arma::repmat(a, 1, b.n_elem) - arma::repmat(b.t(), a.n_elem, 1);
    squared = arma::square(d);
    seasonal = 2 * arma::square(arma::sin(arma::datum::pi * d));
  }
};

Var<double> kernel(Var<double> theta, Var<double> squared, Var<double> seasonal) {
  const auto log = [&](arma::uword i) { return theta(i, 0); };
  // RBF(d) = exp(-d^2 / (2 l^2))
  const auto rbf = [&](arma::uword length) { return squared * (-0.5 * exp(-2 * log(length))); };
  const auto trend = exp(2 * log(0) + rbf(1));
  const auto season = exp(2 * log(2) + rbf(3) - seasonal * exp(-2 * log(4)));
  const auto alpha = exp(log(7));
  const auto medium = exp(2 * log(5) - log1p(squared * (0.5 * exp(-2 * log(6)) / alpha)) * alpha);
  const auto noise = exp(2 * log(8) + rbf(9));
  return trend + season + medium + noise;
}

Var<double> covariance(Var<double> theta, const Distances& d) {
  const auto k = kernel(theta, detail::constant_like(theta, d.squared), detail::constant_like(theta, d.seasonal));
  return d.same ? k + exp(2 * theta(10, 0)) * arma::eye<arma::mat>(arma::size(d.squared)) : k;
}

Var<double> negative_log_likelihood(Var<double> theta, const Distances& d, const arma::vec& y) {
  const Var<double> k = covariance(theta, d);  // n x n
  const double constant = static_cast<double>(y.n_elem) * std::log(2 * arma::datum::pi);
  // one Cholesky factor serves both
  return 0.5 * (dot(y, solve(k, y, arma::solve_opts::likely_sympd)) + log_det_sympd(k) + constant);
}

// Mean and standard deviation of new measurements at times `at`.
std::pair<arma::vec, arma::vec> predict(const arma::vec& theta, const arma::vec& t, const arma::vec& y,
                                        const arma::vec& at) {
  const auto matrix = [&theta](const Distances& d) {
    Tape<double> tape;
    return covariance(tape.constant(theta), d).value();
  };
  const arma::mat k = matrix({t, t, true}), across = matrix({at, t, false});
  const arma::vec none(1, arma::fill::zeros);
  const double own = matrix({none, none, true})(0);
  const arma::mat solved = arma::solve(k, across.t(), arma::solve_opts::likely_sympd);
  const arma::vec variance = own - arma::sum(across.t() % solved, 0).t();
  return {across * arma::solve(k, y, arma::solve_opts::likely_sympd), arma::sqrt(variance)};
}

std::vector<double> numbers(const arma::vec& x) { return {x.begin(), x.end()}; }

}  // namespace

const std::vector<GpParameter>& gp_parameters() {
  static const std::vector<GpParameter> all = {
      {"trend.amplitude", "rise, amplitude, ppm", 66, 44.765},
      {"trend.length", "rise, length, years", 67, 51.587},
      {"season.amplitude", "season, amplitude, ppm", 2.4, 2.6422},
      {"season.decay", "season, decay, years", 90, 91.493},
      {"season.smoothness", "season, smoothness", 1.3, 1.4848},
      {"medium.amplitude", "irregularities, amplitude, ppm", 0.66, 0.53631},
      {"medium.length", "irregularities, length, years", 1.2, 0.96781},
      {"medium.shape", "irregularities, shape", 0.78, 2.8906},
      {"noise.amplitude", "correlated noise, amplitude, ppm", 0.18, 0.18837},
      {"noise.length", "correlated noise, length, years", 0.134, 0.12166},
      {"noise.independent", "independent noise, ppm", 0.19, 0.19147},
  };
  return all;
}

Var<double> gp_negative_log_likelihood(Var<double> theta, const arma::vec& t, const arma::vec& y) {
  return negative_log_likelihood(theta, Distances(t, t, true), y);
}

GpFit fit_gp(arma::vec theta, const arma::vec& t, const arma::vec& y, const GpOptions& options) {
  const Distances d(t, t, true);
  const auto loss = [&](Var<double> at) { return negative_log_likelihood(at, d, y); };
  const auto value = [&](const arma::vec& at) {
    Tape<double> tape;
    try {
      return loss(tape.constant(at)).item();
    } catch (const ValueError&) {  // so far off that the covariance is singular to working precision
      return arma::datum::inf;
    }
  };
  GpFit fit{theta, 0, {}, {}, {}, 0};
  Progress progress("Gaussian process", options.gradient_steps + options.newton_steps);
  // Moves along `step`, halved until the value falls or stands still to rounding. Returns how far; 0 if it never falls.
  const auto move = [&](double from, const arma::vec& step) {
    from += 1e-11 * std::abs(from);
    for (double scale = 1; scale > 1e-10; scale /= 2) {
      const arma::vec next = theta + scale * step;
      if (!(value(next) < from)) continue;
      theta = next;
      return scale * arma::norm(step);
    }
    return 0.0;
  };
  const auto note = [&](double at, const arma::mat& gradient) {
    fit.likelihoods.push_back(-at);
    fit.gradients.push_back(arma::abs(gradient).max());
    progress.update(static_cast<long>(fit.gradients.size()) - 1, at);
  };
  double reach = 1;  // how far the next gradient step tries to go
  for (int step = 0; step < options.gradient_steps; ++step) {
    const auto [at, gradient] = value_and_grad(loss, theta);
    note(at, gradient);
    const double moved = move(at, -reach / arma::norm(gradient) * gradient);
    if (moved == 0) break;
    reach = 2 * moved;
  }
  fit.first_newton = fit.gradients.size();
  for (int step = 0;; ++step) {
    const SecondOrder<double> at = value_grad_hessian(loss, theta);
    note(at.value, at.gradient);
    fit.theta = theta;
    fit.log_likelihood = -at.value;
    fit.hessian = at.hessian;
    if (fit.gradients.back() < options.tolerance) break;
    if (step == options.newton_steps)
      throw ValueError(fmt::format("gp: after {} Newton steps the largest gradient entry is {:.2g}, not below {:.2g}",
                                   step, fit.gradients.back(), options.tolerance));
    arma::vec curvature;
    arma::mat axes;
    arma::eig_sym(curvature, axes, at.hessian);
    curvature = arma::max(arma::abs(curvature), arma::vec(curvature.n_elem, arma::fill::value(1e-6)));
    arma::vec newton = -(axes * ((axes.t() * at.gradient) / curvature));
    if (const double length = arma::norm(newton); length > 2) newton *= 2 / length;
    if (!move(at.value, newton)) break;  // the value is at its last digit
  }
  progress.finish(
      fmt::format("log likelihood {:.6f}, largest gradient entry {:.1e}", fit.log_likelihood, fit.gradients.back()));
  return fit;
}

Report gaussian_process(const GpOptions& options) {
  data::MonthlyCo2 record = data::load_co2();
  arma::uvec taken = arma::regspace<arma::uvec>(0, options.every, record.year.n_elem - 1);
  const bool whole = options.every == 1;
  const arma::vec t = record.year.elem(taken), ppm = record.ppm.elem(taken);
  const double level = arma::mean(ppm);
  const arma::vec y = ppm - level;
  const auto& parameters = gp_parameters();

  arma::vec book(parameters.size());
  for (arma::uword i = 0; i < book.n_elem; ++i) book[i] = std::log(parameters[i].book);
  const double at_book =
      -std::get<0>(value_and_grad([&](auto theta) { return gp_negative_log_likelihood(theta, t, y); }, book));
  arma::vec start = book;
  for (arma::uword i = 0; i < start.n_elem; ++i) start[i] += i % 2 == 0 ? 0.5 : -0.5;
  const auto clock = std::chrono::steady_clock::now();
  const GpFit fit = fit_gp(start, t, y, options);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - clock).count();

  Report report(
      "gp", "A Gaussian process on carbon dioxide",
      fmt::format("Mauna Loa, {} monthly means from March 1958 to December 2001 (Keeling and Whorf 2004)", t.n_elem),
      0);
  report.heading("The likelihood and its derivatives");
  report.text(
      "The record is taken for a draw from a Gaussian process: a smooth rise, a season that slowly changes its shape, "
      "irregularities of a year or so, and noise (Rasmussen and Williams 2006, section 5.4.3). Eleven numbers say how "
      "large and how long each part is. Their logarithms are fitted by maximising the likelihood, whose gradient and "
      "Hessian come through the tape: through every entry of the covariance, the solver and the determinant.");
  report.formula(
      "log p(y) = -1/2 (y' K^-1 y + log det K + n log 2 pi)\n"
      "\n"
      "K(d) = a^2 exp(-d^2 / 2 l^2)                                   the rise\n"
      "     + s^2 exp(-d^2 / 2 c^2 - 2 sin^2(pi d) / w^2)             the season\n"
      "     + m^2 (1 + d^2 / (2 h r^2))^-h                            irregularities\n"
      "     + e^2 exp(-d^2 / 2 f^2) + i^2 [d = 0]                     noise");
  report.row({.id = "gp.log_likelihood.book",
              .label = "log likelihood at the book's numbers",
              .published = whole ? std::optional(scikit_learn_at_book) : std::nullopt,
              .here = at_book,
              .note = "published: scikit-learn on the same data"});
  report.row({.id = "gp.log_likelihood.start", .label = "where the fit starts", .here = fit.likelihoods.front()});
  report.row({.id = "gp.log_likelihood.gradient",
              .label = fmt::format("after {} gradient steps", fit.first_newton),
              .here = fit.likelihoods[fit.first_newton]});
  report.row({.id = "gp.log_likelihood.newton",
              .label = fmt::format("after {} Newton steps more", fit.gradients.size() - 1 - fit.first_newton),
              .published = whole ? std::optional(scikit_learn_log_likelihood) : std::nullopt,
              .here = fit.log_likelihood,
              .note = fmt::format("the largest gradient entry is then {:.0e}", fit.gradients.back())});
  report.row({.id = "gp.seconds", .label = "time for the fit", .here = seconds, .unit = "s"});
  std::vector<double> steps(fit.gradients.size());
  for (std::size_t i = 0; i < steps.size(); ++i) steps[i] = static_cast<double>(i);
  report.series({.id = "gp.gradient", .x = steps, .y = fit.gradients});
  const auto turn = static_cast<std::ptrdiff_t>(fit.first_newton);
  report.figure(draw(Plot{.x_label = "step",
                          .y_label = "largest gradient entry",
                          .curves = {{"gradient",
                                      {steps.begin(), steps.begin() + turn + 1},
                                      {fit.gradients.begin(), fit.gradients.begin() + turn + 1},
                                      Mark::line,
                                      1},
                                     {"Newton",
                                      {steps.begin() + turn, steps.end()},
                                      {fit.gradients.begin() + turn, fit.gradients.end()},
                                      Mark::line,
                                      2}},
                          .log_y = true}),
                "Gradient steps with backtracking, then Newton steps with the exact Hessian.",
                "A curve that wanders while the gradient is followed and falls steeply under Newton's method");

  report.heading("The numbers");
  const arma::vec deviation = arma::sqrt(arma::diagvec(arma::pinv(fit.hessian)));
  for (arma::uword i = 0; i < parameters.size(); ++i) {
    const double here = std::exp(fit.theta[i]);
    report.row(
        {.id = fmt::format("gp.parameter.{}", parameters[i].id),
         .label = parameters[i].label,
         .published = whole ? std::optional(parameters[i].scikit_learn) : std::nullopt,
         .here = here,
         .note = fmt::format("within a factor of {:.2f}; the book: {}", std::exp(deviation[i]), parameters[i].book),
         .decimals = 4});
  }
  report.text(
      "Published is scikit-learn's optimum on the same data, by L-BFGS from the book's numbers. The factor is "
      "one standard deviation, from the inverse of the Hessian of the negative log likelihood.");

  report.heading("What it says of years to come");
  const arma::vec at = arma::regspace(1958.0, 1.0 / 12, 2020);
  const auto [mean, sd] = predict(fit.theta, t, y, at);
  report.series({.id = "gp.prediction.mean", .x = numbers(at), .y = numbers(mean + level)});
  report.series({.id = "gp.prediction.deviation", .x = numbers(at), .y = numbers(sd)});
  const arma::uvec ahead = arma::find(at >= t.back());  // before, the band is as narrow as the line
  const arma::vec years = at.elem(ahead), middle = mean.elem(ahead) + level, band = 2 * sd.elem(ahead);
  report.figure(
      draw(Plot{.x_label = "year",
                .y_label = "CO2, ppm",
                .curves = {{"two standard deviations", numbers(years), numbers(middle + band), Mark::dashed, 2},
                           {"", numbers(years), numbers(middle - band), Mark::dashed, 2},
                           {"expected", numbers(at), numbers(mean + level), Mark::line, 1},
                           {"measured", numbers(t), numbers(ppm), Mark::dots, 8}},
                .x_range = Range{1955, 2025}}),
      fmt::format("The record to 2001 and what the process expects until 2020. It says {:.1f} ± {:.1f} ppm for January "
                  "2020; as a process without a cause it knows nothing of emissions that grow.",
                  arma::as_scalar(mean.tail(1)) + level, 2 * arma::as_scalar(sd.tail(1))),
      "A rising curve with a yearly ripple, measured until 2001 and continued with a widening band until 2020");
  return report;
}

}  // namespace armagrad::zoo
