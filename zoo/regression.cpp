#include "zoo/regression.hpp"

#include <cmath>

#include <fmt/format.h>

#include <armagrad/armagrad.hpp>
#include <armagrad/datasets/regression.hpp>

namespace armagrad::zoo {
namespace {

constexpr std::uint32_t seed = 42;

arma::mat with_ones(const arma::rowvec& x) { return arma::join_cols(arma::ones<arma::rowvec>(x.n_elem), x); }

std::vector<double> numbers(const arma::rowvec& x) { return {x.begin(), x.end()}; }

Curve points(const arma::rowvec& x, const arma::rowvec& y) { return {"data", numbers(x), numbers(y), Mark::dots, 8}; }

Curve line(const std::string& title, const arma::rowvec& x, const std::function<double(double)>& f, int color,
           Mark mark = Mark::line) {
  arma::rowvec y = x;
  y.transform(f);
  return {title, numbers(x), numbers(y), mark, color};
}

/// Gradient descent with momentum on a loss of parameters; as many steps as it takes until the gradient is below
/// `tolerance` everywhere. Returns the number of steps.
template <class Loss>
std::size_t descend(const std::vector<Parameter<double>*>& parameters, double lr, double momentum, double tolerance,
                    Device device, Loss loss) {
  nn::ParameterList<double> shared;
  for (auto* p : parameters) {
    p->to(device);
    shared.push_back(p->shared());
  }
  optim::Sgd<double> sgd(shared, {.lr = lr, .momentum = momentum});
  Tape<double> tape(device);
  constexpr std::size_t most = 200000;
  for (std::size_t step = 0; step < most; ++step) {
    tape.rewind();
    const Var<double> l = loss(tape);
    if (!std::isfinite(l.item()))
      throw ValueError(
          fmt::format("regression: the descent's loss is {} at step {}; its rate {} is too high", l.item(), step, lr));
    sgd.zero_grad();
    l.backward();
    double largest = 0;
    for (auto* p : parameters) largest = std::max(largest, arma::abs(p->grad()).max());
    if (largest < tolerance) return step;
    sgd.step();
  }
  throw ValueError(fmt::format("regression: the descent did not settle within {} steps", most));
}

void quadratic(Report& report) {
  const auto [x, y] = data::noisy_curve([](double t) { return 0.5 * t * t - 1.5 * t + 2; },
                                        {.from = -3, .to = 5, .n_samples = 60, .noise = 3, .random_state = seed});
  const arma::vec sums = quadratic_by_sums(x, y);
  arma::mat design(3, x.n_elem);  // columns are samples: [x^2; x; 1]
  design.row(0) = arma::square(x);
  design.row(1) = x;
  design.row(2).ones();
  const arma::vec matrix = arma::inv(arma::mat(design * design.t())) * (design * y.t());  // (3x3)(3xn)(nx1)

  report.heading("A parabola by hand");
  report.text(
      "The least-squares parabola through n points has a gradient of zero by a, b and c. Eliminating c leaves two "
      "equations in sums of centred squares and products, which Cramer's rule solves:");
  report.formula(
      "L(a, b, c) = sum (a x^2 + b x + c - y)^2\n"
      "dL/dc = 0:   c = mean(y) - b mean(x) - a mean(x^2)\n"
      "dL/da = 0:   a S_x2x2 + b S_xx2 = S_x2y\n"
      "dL/db = 0:   a S_xx2  + b S_xx  = S_xy\n"
      "\n"
      "a = (S_x2y S_xx   - S_xy  S_xx2) / (S_xx S_x2x2 - S_xx2^2)\n"
      "b = (S_xy  S_x2x2 - S_x2y S_xx2) / (S_xx S_x2x2 - S_xx2^2)\n"
      "\n"
      "S_uv = sum (u - mean(u)) (v - mean(v))");
  report.text("The matrix formula B = (X'X)^-1 X'y with X = [x^2 x 1] must give the same, here on 60 points:");
  for (const auto& [route, label, b] : {std::tuple{"closed_form", "by sums", sums}, {"matrix", "by matrices", matrix}})
    for (int i = 0; i < 3; ++i) {
      const std::string name(1, static_cast<char>('a' + i));
      report.row({.id = fmt::format("regression.quadratic.{}.{}", route, name),
                  .label = fmt::format("{}, {}", name, label),
                  .here = b[static_cast<arma::uword>(i)]});
    }
  report.row({.id = "regression.quadratic.difference",
              .label = "largest difference",
              .here = arma::abs(sums - matrix).max(),
              .note = "must stay below 1e-10"});
  const arma::rowvec grid = arma::linspace<arma::rowvec>(x.min(), x.max(), 200);
  report.figure(
      draw(Plot{.x_label = "x",
                .y_label = "y",
                .curves = {points(x, y), line(
                                             "least-squares parabola", grid,
                                             [&](double t) { return (sums[0] * t + sums[1]) * t + sums[2]; }, 1)}}),
      fmt::format("60 points and the parabola {:.4f} x² {:+.4f} x {:+.4f}.", sums[0], sums[1], sums[2]),
      "Scattered points with a parabola through them");
}

void linear(Report& report, Device device) {
  const data::Regression set = data::make_regression(
      {.n_samples = 500, .n_features = 1, .n_informative = 1, .bias = 10, .noise = 25, .random_state = seed});
  const arma::mat x = with_ones(set.x);  // 2 x 500
  Tape<double> tape(device);
  const auto xs = tape.constant(x), ys = tape.constant(set.y.t());
  const arma::vec normal = (inv(xs * xs.t()) * (xs * ys)).value();
  const arma::vec pseudo = (pinv(xs.t()) * ys).value();
  const arma::vec lstsq = solve(xs.t(), ys).value();

  Parameter<double> weights(1, 2);  // [intercept slope]
  const std::size_t steps = descend({&weights}, 0.1, 0.5, 1e-9, device, [&](Tape<double>& t) {
    return nn::mse(weights * t.borrow(x), set.y);  // (1x2)(2x500)
  });
  const arma::vec descent = weights.value().t();

  report.heading("A straight line, four ways");
  report.text(
      "500 points with one feature, made as scikit-learn's make_regression makes them for random_state 42: NumPy's "
      "legacy random stream, to the last digit. The true line is 10 + 64.59172413 x, the noise has a standard "
      "deviation of 25.");
  const double published[] = {9.02058667, 63.18605572};
  const char* part[] = {"intercept", "slope"};
  for (const auto& [route, label, b] : {std::tuple{"normal", "normal equation, explicit inverse", normal},
                                        {"pinv", "pseudo-inverse", pseudo},
                                        {"lstsq", "least-squares solver", lstsq},
                                        {"descent", "gradient descent through the tape", descent}})
    for (arma::uword i = 0; i < 2; ++i)
      report.row({.id = fmt::format("regression.linear.{}.{}", route, part[i]),
                  .label = fmt::format("{}, {}", part[i], label),
                  .published = published[i],
                  .here = b[i],
                  .note = std::string(route) == "descent"
                              ? fmt::format("{} steps; published for the other routes", steps)
                              : ""});
  const arma::rowvec ends{set.x.min(), set.x.max()};
  report.figure(
      draw(Plot{.x_label = "feature",
                .y_label = "target",
                .curves = {points(set.x.row(0), set.y),
                           line(
                               "least-squares line", ends, [&](double t) { return lstsq[0] + lstsq[1] * t; }, 1)}}),
      fmt::format("The 500 points and the line {:.8f} + {:.8f} x.", lstsq[0], lstsq[1]),
      "A cloud of points with a rising straight line through it");
}

// log y = log alpha + beta log x by least squares: {alpha, beta}.
arma::vec power_law_by_logs(const data::Curve& c) {
  const arma::vec b = arma::solve(with_ones(arma::log(c.x)).t(), arma::vec(arma::log(c.y).t()));
  return {std::exp(b[0]), b[1]};
}

void power_law(Report& report, Device device) {
  const data::Curve c = data::power_law(seed);
  const arma::vec logs = power_law_by_logs(c);
  Range alphas{1e9, -1e9}, betas{1e9, -1e9};
  constexpr std::uint32_t draws = 1000;
  for (std::uint32_t s = 0; s < draws; ++s) {
    const arma::vec b = power_law_by_logs(data::power_law(s));
    alphas = {std::min(alphas.low, b[0]), std::max(alphas.high, b[0])};
    betas = {std::min(betas.low, b[1]), std::max(betas.high, b[1])};
  }

  Parameter<double> alpha(arma::mat(1, 1, arma::fill::ones)), beta(1, 1);
  const arma::rowvec log_x = arma::log(c.x);
  const auto curve = [&](Tape<double>& tape) {
    return tape.parameter(alpha) * exp(tape.parameter(beta) * tape.borrow(log_x));  // alpha x^beta
  };
  const std::size_t steps =
      descend({&alpha, &beta}, 0.01, 0.9, 1e-10, device, [&](Tape<double>& tape) { return nn::mse(curve(tape), c.y); });
  const arma::vec direct{alpha.value()[0], beta.value()[0]};
  const auto error = [&](const arma::vec& b) { return arma::accu(arma::square(b[0] * arma::pow(c.x, b[1]) - c.y)); };

  report.heading("A power law");
  report.text(
      "y = 2 x^0.3 + 0.3 u at 101 points from 1 to 10, u uniform in [0, 1). Taking logarithms makes it a straight "
      "line: "
      "log y = log alpha + beta log x. The published figures come from an unseeded draw, so the range over 1000 seeds "
      "is "
      "what they are to be compared with.");
  report.row({.id = "regression.power_law.log_fit.alpha",
              .label = "alpha, fit of the logarithms",
              .published = 2.1383591787,
              .here = logs[0],
              .spread = alphas,
              .note = "range over 1000 draws"});
  report.row({.id = "regression.power_law.log_fit.beta",
              .label = "beta, fit of the logarithms",
              .published = 0.2864299527,
              .here = logs[1],
              .spread = betas,
              .note = "range over 1000 draws"});
  report.row({.id = "regression.power_law.descent.alpha",
              .label = "alpha, descent on the curve itself",
              .here = direct[0],
              .note = fmt::format("{} steps", steps)});
  report.row(
      {.id = "regression.power_law.descent.beta", .label = "beta, descent on the curve itself", .here = direct[1]});
  report.row({.id = "regression.power_law.log_fit.squared_error",
              .label = "squared error, fit of the logarithms",
              .here = error(logs)});
  report.row(
      {.id = "regression.power_law.descent.squared_error", .label = "squared error, descent", .here = error(direct)});
  report.text(
      fmt::format("The two differ because they minimise different things: the logarithm weighs a deviation by 1/y, so "
                  "the small y at "
                  "the left count more. Fitted directly, alpha moves by {:+.5f} and beta by {:+.5f}, and the squared "
                  "error falls by "
                  "{:.3f} %.",
                  direct[0] - logs[0], direct[1] - logs[1], 100 * (1 - error(direct) / error(logs))));
  const auto law = [](const arma::vec& b) { return [b](double t) { return b[0] * std::pow(t, b[1]); }; };
  report.figure(draw(Plot{.x_label = "x",
                          .y_label = "y",
                          .curves = {points(c.x, c.y), line("fit of the logarithms", c.x, law(logs), 1),
                                     line("descent on the curve", c.x, law(direct), 2, Mark::dashed)}}),
                fmt::format("The data and both fits: {:.5f} x^{:.5f} (logarithms), {:.5f} x^{:.5f} (descent).", logs[0],
                            logs[1], direct[0], direct[1]),
                "A rising, flattening curve of points with two fitted curves almost on top of one another");
}

void basis(Report& report) {
  report.heading("Any basis functions");
  report.text(
      "basis_regression(functions, x, y) fits sum b_i f_i(x) by least squares. The noise is uniform in [0, 1), not "
      "centred, and neither basis has a constant: the coefficients take up of its mean what they can.");
  struct Scenario {
    std::string id, title;
    data::Curve data;
    std::vector<std::pair<std::string, BasisFunction>> basis;
  };
  const auto f = [](double (*g)(double)) { return BasisFunction(g); };
  const Scenario scenarios[] = {
      {"sine_cosine", "3 sin x - 2 cos x + u", data::sine_cosine(seed), {{"sin", f(std::sin)}, {"cos", f(std::cos)}}},
      {"exponential", "2 exp(0.5 x) + 0.25 u", data::exponential(seed), {{"exp", f(std::exp)}}},
  };
  for (const Scenario& s : scenarios) {
    std::vector<BasisFunction> functions;
    for (const auto& [name, g] : s.basis) functions.push_back(g);
    const arma::vec b = basis_regression(functions, s.data.x, s.data.y);
    std::string fitted;
    for (std::size_t i = 0; i < s.basis.size(); ++i) {
      report.row({.id = fmt::format("regression.basis.{}.{}", s.id, s.basis[i].first),
                  .label = fmt::format("{} in {}", s.basis[i].first, s.title),
                  .here = b[i]});
      fitted += fmt::format("{}{:.4f} {}(x)", i == 0 ? "" : (b[i] < 0 ? " - " : " + "), i == 0 ? b[i] : std::abs(b[i]),
                            s.basis[i].first);
    }
    const auto sum = [&](double t) {
      double y = 0;
      for (std::size_t i = 0; i < functions.size(); ++i) y += b[i] * functions[i](t);
      return y;
    };
    report.figure(
        draw(Plot{
            .x_label = "x", .y_label = "y", .curves = {points(s.data.x, s.data.y), line("fit", s.data.x, sum, 1)}}),
        fmt::format("y = {}, fitted by {}.", s.title, fitted), "Points with a fitted curve through them");
  }
  report.text(
      "exp alone cannot follow exp(0.5 x): the fit is right in the mean and bends too much, as least squares with too "
      "few "
      "functions does.");
}

}  // namespace

arma::vec quadratic_by_sums(const arma::rowvec& x, const arma::rowvec& y) {
  const arma::rowvec x2 = arma::square(x);
  const auto s = [](const arma::rowvec& u, const arma::rowvec& v) {
    return arma::dot(u - arma::mean(u), v - arma::mean(v));
  };
  const double xx = s(x, x), xx2 = s(x, x2), x2x2 = s(x2, x2), xy = s(x, y), x2y = s(x2, y);
  const double determinant = xx * x2x2 - xx2 * xx2;
  const double a = (x2y * xx - xy * xx2) / determinant, b = (xy * x2x2 - x2y * xx2) / determinant;
  return {a, b, arma::mean(y) - b * arma::mean(x) - a * arma::mean(x2)};
}

arma::vec basis_regression(const std::vector<BasisFunction>& functions, const arma::rowvec& x, const arma::rowvec& y) {
  if (functions.empty()) throw OptionError("basis_regression: there is no function");
  if (x.n_elem != y.n_elem || x.n_elem < functions.size())
    throw ShapeError(
        fmt::format("basis_regression: {} functions, x has {} points, y {}: x and y must have as many points, "
                    "and no fewer than there are functions",
                    functions.size(), x.n_elem, y.n_elem));
  arma::mat design(x.n_elem, functions.size());
  for (std::size_t i = 0; i < functions.size(); ++i)
    for (arma::uword j = 0; j < x.n_elem; ++j) design(j, i) = functions[i](x[j]);
  arma::vec b;
  if (!arma::solve(b, design, y.t(), arma::solve_opts::no_approx))
    throw ValueError("basis_regression: the functions are linearly dependent on these x; leave one out");
  return b;
}

Report regression(Device device) {
  Report report("regression", "Least-squares regression", "generated from NumPy's legacy random stream, seed 42", seed);
  quadratic(report);
  linear(report, device);
  power_law(report, device);
  basis(report);
  return report;
}

}  // namespace armagrad::zoo
