#include <cmath>

#include <fmt/format.h>

#include <armagrad/autodiff/differences.hpp>
#include <armagrad/autodiff/error.hpp>
#include <armagrad/autodiff/gradient.hpp>
#include <armagrad/autodiff/graph.hpp>

namespace armagrad {

template <class eT>
std::vector<Var<eT>> grad(Var<eT> y, const std::vector<Var<eT>>& xs) {
  auto& g = y.graph();
  std::vector<std::uint32_t> indices;
  for (const Var<eT>& x : xs) {
    if (&x.graph() != &g) throw StateError("grad: y and x belong to different tapes");
    indices.push_back(x.index());
  }
  std::vector<Var<eT>> out;
  for (const std::uint32_t i : g.gradients(y.index(), indices)) out.push_back(g.var(i));
  return out;
}
template std::vector<Var<float>> grad(Var<float>, const std::vector<Var<float>>&);
template std::vector<Var<double>> grad(Var<double>, const std::vector<Var<double>>&);

namespace {

// Fixed, and different from entry to entry, so that errors do not cancel.
arma::mat weights(Shape s) {
  arma::mat w(s.rows, s.cols);
  for (arma::uword i = 0; i < w.n_elem; ++i) w[i] = std::sin(1.0 + 1.7 * static_cast<double>(i)) + 0.3;
  return w;
}

Var<double> scalar(Tape<double>& tape, Var<double> y) {
  return y.shape().is_scalar() ? y : dot(y, tape.constant(weights(y.shape())));
}

// `value(tape, vars)` is a scalar; compares its gradient with differences of itself.
GradcheckResult check(const std::function<Var<double>(Tape<double>&, const std::vector<Var<double>>&)>& value,
                      const std::vector<arma::mat>& inputs, const GradcheckOptions& options) {
  Tape<double> tape;
  const auto variables = [&tape](const std::vector<arma::mat>& at) {
    std::vector<Var<double>> out;
    for (const arma::mat& x : at) out.push_back(tape.variable(x));
    return out;
  };
  const std::vector<Var<double>> vars = variables(inputs);
  const Var<double> y = value(tape, vars);
  if (const double at = y.item(); !std::isfinite(at)) {
    GradcheckResult result;
    result.ok = false;
    result.worst = at;
    result.log = fmt::format("the function is {} at the inputs\n", at);
    return result;
  }
  if (y.requires_grad()) y.backward();
  std::vector<arma::mat> analytic;
  double scale = 1;
  for (const Var<double>& x : vars) {
    analytic.push_back(x.grad());
    if (!analytic.back().is_empty() && analytic.back().is_finite())
      scale = std::max(scale, arma::abs(analytic.back()).max());
  }

  GradcheckResult result;
  std::vector<arma::mat> at = inputs;
  for (std::size_t k = 0; k < inputs.size(); ++k) {
    for (arma::uword i = 0; i < inputs[k].n_elem; ++i) {
      const double x = inputs[k][i];
      const auto f = [&](double h) {
        at[k][i] = x + h;
        tape.rewind();
        return value(tape, variables(at)).item();
      };
      const Difference numeric = ridders(f, options.step * std::max(1.0, std::abs(x)));
      at[k][i] = x;
      const double error = std::abs(analytic[k][i] - numeric.value) / scale;
      ++result.entries;
      result.uncertainty = std::max(result.uncertainty, numeric.error / scale);
      // Written so that a NaN counts as wrong.
      if (!(error <= result.worst)) result.worst = error;
      if (!(error <= options.tolerance)) {
        result.ok = false;
        result.log += fmt::format(
            "input {} entry ({}, {}): analytic {:.12g}, numeric {:.12g} +- {:.1g}, error {:.2g}\n", k,
            i % inputs[k].n_rows, i / inputs[k].n_rows, analytic[k][i], numeric.value, numeric.error, error);
      }
    }
  }
  return result;
}

}  // namespace

GradcheckResult detail::gradcheck(const CheckedFunction& f, const std::vector<arma::mat>& inputs,
                                  GradcheckOptions options) {
  return check([&f](Tape<double>& tape, const std::vector<Var<double>>& in) { return scalar(tape, f(in)); }, inputs,
               options);
}

GradcheckResult gradgradcheck(const CheckedFunction& f, const std::vector<arma::mat>& inputs,
                              GradcheckOptions options) {
  return check(
      [&f](Tape<double>& tape, const std::vector<Var<double>>& in) {
        const Var<double> y = scalar(tape, f(in));
        Var<double> total = tape.constant(0.0);
        if (!y.requires_grad()) return total;
        for (const Var<double>& g : grad(y, in)) total += scalar(tape, g);
        return total;
      },
      inputs, options);
}

}  // namespace armagrad
