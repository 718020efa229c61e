#include <algorithm>
#include <cmath>
#include <limits>

#include <fmt/format.h>

#include <armagrad/autodiff/derivatives.hpp>
#include <armagrad/autodiff/differences.hpp>
#include <armagrad/autodiff/error.hpp>
#include <armagrad/autodiff/jvp.hpp>
#include <armagrad/autodiff/samples.hpp>

namespace armagrad {
namespace {

// One sample of one operation, and where its failures are written.
struct Case {
  const ListedOperation& operation;
  const Sample& sample;
  OperationCheck& found;
  Device device;

  std::string name(const char* type) const {
    std::string text = fmt::format("{}<{}> on", operation.name, type);
    for (const arma::mat& x : sample.inputs) text += fmt::format(" {}x{}", x.n_rows, x.n_cols);
    return text;
  }
  void fail(const char* type, const std::string& what) const {
    found.ok = false;
    found.log += fmt::format("{}: {}\n", name(type), what);
  }
};

template <class eT>
constexpr bool is_float = std::is_same_v<eT, float>;
template <class eT>
constexpr const char* type_name = is_float<eT> ? "float" : "double";

template <class eT>
Var<eT> call(const Sample& s, const std::vector<Var<eT>>& in) {
  if constexpr (is_float<eT>)
    return s.in_float(in);
  else
    return s.in_double(in);
}

template <class eT>
arma::Mat<eT> converted(const arma::mat& x) {
  return arma::conv_to<arma::Mat<eT>>::from(x);
}
template <class eT>
arma::mat value_of(Var<eT> x) {
  return arma::conv_to<arma::mat>::from(x.value());
}
template <class eT>
arma::mat grad_of(Var<eT> x) {
  return arma::conv_to<arma::mat>::from(x.grad());
}

template <class eT>
std::vector<Var<eT>> variables(Tape<eT>& tape, const std::vector<arma::mat>& inputs) {
  std::vector<Var<eT>> out;
  for (const arma::mat& x : inputs) out.push_back(tape.variable(converted<eT>(x)));
  return out;
}

// The weighted sum whose gradient is looked at; the weights differ from entry to entry.
template <class eT>
Var<eT> scalar(Tape<eT>& tape, Var<eT> y) {
  arma::Mat<eT> w(y.n_rows(), y.n_cols());
  for (arma::uword i = 0; i < w.n_elem; ++i) w[i] = static_cast<eT>(std::cos(0.7 + 1.3 * static_cast<double>(i)));
  return dot(y, tape.constant(w));
}

// Compares entry by entry, relative to the largest expected one, and names the worst. Returns its error.
template <class eT>
double compare(const Case& c, const std::string& what, const arma::mat& actual, const arma::mat& expected,
               double tolerance) {
  if (arma::size(actual) != arma::size(expected)) {
    c.fail(type_name<eT>, fmt::format("{} is {}x{}, expected {}x{}", what, actual.n_rows, actual.n_cols,
                                      expected.n_rows, expected.n_cols));
    return 0;
  }
  if (expected.is_empty()) return 0;
  const double scale = std::max(1.0, arma::abs(expected).max());
  double worst = 0;
  arma::uword at = 0;
  for (arma::uword i = 0; i < actual.n_elem; ++i) {
    const double error = std::abs(actual[i] - expected[i]) / scale;
    if (error <= worst) continue;
    worst = error, at = i;
    if (std::isnan(error)) break;
  }
  if (!(worst <= tolerance))
    c.fail(type_name<eT>, fmt::format("{}, entry ({}, {}): {:.12g}, expected {:.12g}, error {:.2g}", what,
                                      at % actual.n_rows, at / actual.n_rows, actual[at], expected[at], worst));
  return worst;
}

template <class eT>
void check_refusal(const Case& c) {
  Tape<eT> tape(c.device);
  const auto inputs = variables(tape, c.sample.inputs);
  try {
    call(c.sample, inputs);
    c.fail(type_name<eT>, fmt::format("nothing was thrown, expected \"{}\"", c.sample.error));
  } catch (const DeviceError&) {
    throw;  // the device does not have the operation
  } catch (const Error& e) {
    if (std::string(e.what()).find(c.sample.error) == std::string::npos)
      c.fail(type_name<eT>, fmt::format("the message is \"{}\", expected \"{}\"", e.what(), c.sample.error));
  }
  accu(inputs[0]).item();  // the tape stays usable
}

template <class eT>
void check_value(const Case& c) {
  Tape<eT> tape(c.device);
  const arma::mat actual = value_of(call(c.sample, variables(tape, c.sample.inputs)));
  double& worst = c.found.worst_value[is_float<eT> ? 0 : 1];
  worst = std::max(worst,
                   compare<eT>(c, "value", actual, c.sample.reference(c.sample.inputs), is_float<eT> ? 2e-5 : 1e-12));
}

// backward against ag::grad; a second backward adds, and one for a single leaf computes that leaf alone.
template <class eT>
void check_first_order(const Case& c) {
  const double tolerance = is_float<eT> ? 2e-5 : 1e-13;
  Tape<eT> tape(c.device);
  const auto inputs = variables(tape, c.sample.inputs);
  const Var<eT> y = scalar(tape, call(c.sample, inputs));
  if (!y.requires_grad()) return;
  std::vector<arma::mat> expected;
  for (const Var<eT>& g : grad(y, inputs)) expected.push_back(value_of(g));
  const auto gradients_are = [&](const char* what, std::vector<int> times) {
    for (std::size_t k = 0; k < inputs.size(); ++k)
      compare<eT>(c, fmt::format("{}, input {}", what, k), grad_of(inputs[k]), times[k] * expected[k],
                  times[k] * tolerance);
  };
  std::vector<int> times(inputs.size(), 1);
  y.backward();
  gradients_are("first-order gradient against the differentiable one", times);
  y.backward();
  times.assign(inputs.size(), 2);
  gradients_are("gradient after a second backward", times);
  y.backward({inputs.back()});
  times.back() = 3;
  gradients_are("gradient after a backward for the last input alone", times);
}

template <class eT>
void check_replay(const Case& c) {
  Tape<eT> tape(c.device);
  const auto inputs = variables(tape, c.sample.inputs);
  std::vector<Var<eT>> y;
  auto replay = tape.capture([&] { y.push_back(call(c.sample, inputs)); });
  const arma::Mat<eT> eager = y[0].value();
  for (std::size_t k = 0; k < inputs.size(); ++k)  // something else in between
    replay.set(inputs[k], arma::Mat<eT>(arma::size(inputs[k].value()), arma::fill::ones));
  for (std::size_t k = 0; k < inputs.size(); ++k) replay.set(inputs[k], converted<eT>(c.sample.inputs[k]));
  replay.run();
  const arma::Mat<eT> again = y[0].value();
  if (!std::equal(eager.begin(), eager.end(), again.begin(), again.end()))
    c.fail(type_name<eT>, "a replay's value differs from the eager one");
}

// The k-th fixed direction: no two entries alike.
arma::mat direction(const arma::mat& like, int k) {
  arma::mat v(arma::size(like));
  for (arma::uword i = 0; i < v.n_elem; ++i) v[i] = std::sin(0.4 + 2.3 * k + 1.9 * static_cast<double>(i));
  return v;
}
template <class eT>
std::vector<Var<eT>> directions(Tape<eT>& tape, const std::vector<arma::mat>& inputs, int k) {
  std::vector<Var<eT>> out;
  for (const arma::mat& x : inputs) out.push_back(tape.constant(converted<eT>(direction(x, k++))));
  return out;
}

// J v: recorded against unrecorded, several at once against each alone, and <u, J v> = <J'u, v>.
template <class eT>
void check_forward(const Case& c) {
  const double tolerance = is_float<eT> ? 1e-4 : 1e-12;
  Tape<eT> tape(c.device);
  const auto inputs = variables(tape, c.sample.inputs);
  const Var<eT> y = call(c.sample, inputs);
  if (!y.requires_grad()) return;
  constexpr int at_once = 3;
  std::vector<arma::mat> alone;
  for (int k = 0; k < at_once; ++k) alone.push_back(value_of(jvp(y, inputs, directions(tape, c.sample.inputs, k))));
  {
    const auto guard = tape.no_grad();
    const arma::mat unrecorded = value_of(jvp(y, inputs, directions(tape, c.sample.inputs, 0)));
    compare<eT>(c, "J v without recording", unrecorded, alone[0], tolerance);
    std::vector<std::uint32_t> xs;
    for (const Var<eT>& x : inputs) xs.push_back(x.index());
    const std::uint32_t root = y.index();
    detail::Pushforward<eT> push(tape.graph(), {&root, 1}, xs, at_once);
    for (std::size_t k = 0; k < xs.size(); ++k) {
      arma::mat stacked = direction(c.sample.inputs[k], static_cast<int>(k));
      for (int d = 1; d < at_once; ++d)
        stacked = arma::join_rows(stacked, direction(c.sample.inputs[k], d + static_cast<int>(k)));
      push.move(xs[k], tape.constant(converted<eT>(stacked)).index());
    }
    push.run();
    arma::mat expected = alone[0];
    for (int d = 1; d < at_once; ++d) expected = arma::join_rows(expected, alone[static_cast<std::size_t>(d)]);
    compare<eT>(c, "J v of three directions at once", value_of(tape.graph().var(push.tangent(root))), expected,
                tolerance);
  }
  const arma::mat u = direction(alone[0], 7);
  const auto pulled = vjp(y, inputs, tape.constant(converted<eT>(u)));
  double there = arma::accu(u % alone[0]), back = 0;
  for (std::size_t k = 0; k < inputs.size(); ++k)
    back += arma::accu(value_of(pulled[k]) % direction(c.sample.inputs[k], static_cast<int>(k)));
  const double error =
      std::abs(there - back) / std::max(1.0, arma::norm(vectorise(u)) * arma::norm(vectorise(alone[0])));
  if (!is_float<eT>) c.found.worst_transpose = std::max(c.found.worst_transpose, error);
  if (!(error <= tolerance))
    c.fail(type_name<eT>, fmt::format("<u, J v> is {:.12g}, <J'u, v> is {:.12g}", there, back));
}

// J v against the difference of f along v, and its own gradient against differences.
void check_directional(const Case& c) {
  Tape<double> tape;
  const auto inputs = variables(tape, c.sample.inputs);
  const Var<double> y = call(c.sample, inputs);
  if (!y.requires_grad()) return;
  const arma::mat analytic = jvp(y, inputs, directions(tape, c.sample.inputs, 0)).value();
  const double scale = analytic.is_empty() ? 1 : std::max(1.0, arma::abs(analytic).max());
  for (arma::uword i = 0; i < analytic.n_elem; ++i) {
    const auto entry = [&](double h) {
      Tape<double> at;
      std::vector<Var<double>> moved;
      for (std::size_t k = 0; k < inputs.size(); ++k)
        moved.push_back(at.variable(c.sample.inputs[k] + h * direction(c.sample.inputs[k], static_cast<int>(k))));
      return call(c.sample, moved).value()[i];
    };
    const double numeric = ridders(entry, 0.02).value;
    const double error = std::abs(analytic[i] - numeric) / scale;
    ++c.found.directional;
    c.found.worst_directional = std::max(c.found.worst_directional, error);
    if (!(error <= 1e-7))
      c.fail("double",
             fmt::format("J v entry {}: {:.12g}, along v the difference is {:.12g}", i, analytic[i], numeric));
  }
  const auto moving = [&c](const std::vector<Var<double>>& in) {
    std::vector<Var<double>> v;
    int k = 0;
    for (const Var<double>& x : in) v.push_back(detail::constant_like(x, direction(x.value(), k++)));
    return jvp(call(c.sample, in), in, v);
  };
  if (const GradcheckResult r = gradcheck(moving, c.sample.inputs); !r.ok)
    c.fail("double", fmt::format("gradient of J v against finite differences:\n{}", r.log));
}

void check_differences(const Case& c) {
  const auto take = [&c](const char* what, const GradcheckResult& r, double& worst, std::size_t& entries) {
    if (!r.ok) c.fail("double", fmt::format("{} against finite differences:\n{}", what, r.log));
    worst = std::max(worst, r.worst);
    entries += r.entries;
  };
  OperationCheck& found = c.found;
  const GradcheckResult first = gradcheck(c.sample.in_double, c.sample.inputs);
  take("gradient", first, found.worst_gradient, found.gradient_entries);
  found.uncertainty = std::max(found.uncertainty, first.uncertainty);
  const GradcheckResult second = gradgradcheck(c.sample.in_double, c.sample.inputs);
  take("gradient of the gradient", second, found.worst_second_derivative, found.second_derivatives);
  found.nonlinear_samples += second.worst > 0;
}

// The value, the gradients of its weighted sum, and the gradients of the weighted sum of these.
template <class eT>
std::vector<arma::mat> figures(const Case& c, Device device) {
  Tape<eT> tape(device);
  const auto inputs = variables(tape, c.sample.inputs);
  const Var<eT> y = call(c.sample, inputs);
  std::vector<arma::mat> out{value_of(y)};
  if (!y.requires_grad()) return out;
  Var<eT> total = tape.constant(eT(0));
  for (const Var<eT>& g : grad(scalar(tape, y), inputs)) {
    out.push_back(value_of(g));
    total += scalar(tape, g);
  }
  if (!total.requires_grad()) return out;
  for (const Var<eT>& g : grad(total, inputs)) out.push_back(value_of(g));
  return out;
}

template <class eT>
void check_devices_agree(const Case& c) {
  constexpr double epsilon = std::numeric_limits<eT>::epsilon();
  const auto expected = figures<eT>(c, Device::cpu()), actual = figures<eT>(c, c.device);
  double& worst = c.found.worst_between_devices;
  for (std::size_t k = 0; k < expected.size(); ++k)
    worst = std::max(worst, compare<eT>(c, fmt::format("figure {} on {} against the CPU's", k, c.device.name()),
                                        actual[k], expected[k], 200 * epsilon) /
                                epsilon);
}

template <class eT>
void check_sample(const Case& c) {
  try {
    if (!c.sample.error.empty()) return check_refusal<eT>(c);
    check_value<eT>(c);
    check_first_order<eT>(c);
    check_forward<eT>(c);
    if (!c.operation.random) check_replay<eT>(c);
    if (!(c.device == Device::cpu())) {
      check_devices_agree<eT>(c);
    } else if (!is_float<eT> && c.sample.check_gradient) {
      check_differences(c);
      check_directional(c);
    }
  } catch (const DeviceError& e) {
    ++c.found.without_kernel;
    if (c.device == Device::cpu() || std::string(e.what()).find("has no implementation on") == std::string::npos)
      c.fail(type_name<eT>, fmt::format("an exception: {}", e.what()));
  } catch (const std::exception& e) {
    c.fail(type_name<eT>, fmt::format("an exception: {}", e.what()));
  }
}

}  // namespace

OperationCheck check_operation(const ListedOperation& operation, std::uint64_t seed, Device device) {
  OperationCheck found;
  Samples samples(seed);
  operation.samples(samples);
  for (const Sample& s : samples.all()) {
    ++found.samples;
    found.refusals += !s.error.empty();
    check_sample<float>({operation, s, found, device});
    check_sample<double>({operation, s, found, device});
  }
  if (found.samples == found.refusals) {
    found.ok = false;
    found.log += fmt::format("{}: no sample has a value; add one in samples()\n", operation.name);
  }
  return found;
}

}  // namespace armagrad
