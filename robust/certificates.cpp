#include <algorithm>
#include <cmath>
#include <exception>
#include <limits>
#include <thread>

#include <fmt/format.h>

#include <armagrad/autodiff/error.hpp>
#include <armagrad/robust/certificates.hpp>

// Rounding. u is half the distance from 1 to the next number, and g(n) = n u / (1 - n u) (Higham 2002, chapter 3): a
// sum of n products, in whatever order, fused or not, is off by at most g(n) times the sum of their absolute values.
//
// With a in [c - r, c + r], a layer's W a + b differs from the computed W c + b by at most
//   |W| r                         the interval itself
// + g |W| |c|                     the computed product
// + g |W| (|c| + r) + g |b|       another program's evaluation of W a + b, at an a rounded once before
// and the computed |W| r' is at least (1 - g) times the true one. So r' = r + 2 g (|c| + r), the result is inflated by
// 1 + 2 g, and n counts a layer's inputs and some operations more. `tiny` stands for products that underflow.

namespace armagrad::robust {
namespace {

template <class eT>
struct Rounding {
  static constexpr eT u = std::numeric_limits<eT>::epsilon() / 2;
  static constexpr eT tiny = std::numeric_limits<eT>::min();
  /// Bounds g(n) with eight operations to spare.
  static eT g(arma::uword n) {
    const double nu = static_cast<double>(n + 8) * static_cast<double>(u);
    if (nu > 0.25)
      throw OptionError(fmt::format("certificates: a layer has {} inputs, too many for bounds in {}; use double", n,
                                    sizeof(eT) == 4 ? "float" : "this type"));
    return static_cast<eT>(nu / (1 - nu) * (1 + 1e-6));
  }
};

void check_epsilon(double e) {
  if (!(e >= 0) || !std::isfinite(e))
    throw OptionError(fmt::format("certificates: epsilon is {}; it must be at least 0 and finite", e));
}

template <class eT>
void check_input(const Layers<eT>& layers, const arma::Mat<eT>& x, const std::optional<Interval>& range) {
  if (layers.all().empty()) throw OptionError("certificates: there is no layer");
  if (x.n_rows != layers.inputs())
    throw ShapeError(fmt::format("certificates: x is {}x{}, the first layer takes {} features; columns are samples",
                                 x.n_rows, x.n_cols, layers.inputs()));
  if (range && !(range->low <= range->high))
    throw OptionError(fmt::format("certificates: the range is [{}, {}]; low is above high", range->low, range->high));
  const double low = range ? range->low : -std::numeric_limits<double>::max();
  const double high = range ? range->high : std::numeric_limits<double>::max();
  for (arma::uword i = 0; i < x.n_elem; ++i)
    if (const auto v = static_cast<double>(x[i]); !(v >= low && v <= high) || !std::isfinite(x[i]))
      throw ValueError(
          range ? fmt::format("certificates: column {} of x has the entry {}, outside of the range [{}, {}]; scale the "
                              "data or give another range",
                              i / x.n_rows, v, low, high)
                : fmt::format("certificates: column {} of x has the entry {}; it must be finite", i / x.n_rows, v));
}

template <class eT>
void check_labels(const Layers<eT>& layers, const arma::Mat<eT>& x, const arma::Row<std::size_t>& labels) {
  if (labels.n_elem != x.n_cols)
    throw ShapeError(fmt::format("certificates: x is {}x{} and there are {} labels; there must be one for each column",
                                 x.n_rows, x.n_cols, labels.n_elem));
  for (const std::size_t y : labels)
    if (y >= layers.outputs())
      throw ValueError(fmt::format("certificates: label {} is not below the {} logits", y, layers.outputs()));
  if (!layers.all().empty() && !std::holds_alternative<LinearLayer<eT>>(layers.all().back()))
    throw OptionError(
        "certificates: the last layer is an activation; logits come from a linear layer, so leave the activation out");
}

/// x rounded to eT, and then farther down than any rounding on the way here can have gone up.
template <class eT>
eT down(double x) {
  const auto y = static_cast<eT>(x);
  return y - (4 * Rounding<eT>::u * std::abs(y) + Rounding<eT>::tiny);
}
template <class eT>
eT up(double x) {
  return -down<eT>(-x);
}

template <class eT>
Bounds<eT> input_bounds(const arma::Mat<eT>& x, const arma::Row<double>& epsilons,
                        const std::optional<Interval>& range) {
  Bounds<eT> b{arma::Mat<eT>(x.n_rows, x.n_cols), arma::Mat<eT>(x.n_rows, x.n_cols)};
  const double low = range ? range->low : -std::numeric_limits<double>::max();
  const double high = range ? range->high : std::numeric_limits<double>::max();
  for (arma::uword j = 0; j < x.n_cols; ++j) {
    const eT* v = x.colptr(j);
    eT *lower = b.lower.colptr(j), *upper = b.upper.colptr(j);
    const double e = epsilons[j];
    for (arma::uword i = 0; i < x.n_rows; ++i) {
      lower[i] = down<eT>(std::max(low, static_cast<double>(v[i]) - e));
      upper[i] = up<eT>(std::min(high, static_cast<double>(v[i]) + e));
    }
  }
  return b;
}

/// Centre and radius: [c - r, c + r] contains [lower, upper]. `wide` is r + 2 g (|c| + r), `reach` |c| + r.
template <class eT>
struct Centred {
  arma::Mat<eT> c, wide, reach;  // rows x batch

  Centred(const Bounds<eT>& b, eT g) : c(arma::size(b.lower)), wide(arma::size(c)), reach(arma::size(c)) {
    constexpr eT u = Rounding<eT>::u, tiny = Rounding<eT>::tiny;
    const eT *l = b.lower.memptr(), *h = b.upper.memptr();
    eT *pc = c.memptr(), *pw = wide.memptr(), *pr = reach.memptr();
    for (arma::uword i = 0; i < c.n_elem; ++i) {
      const eT middle = l[i] / 2 + h[i] / 2;
      const eT r = std::max(h[i] - middle, middle - l[i]) * (1 + 4 * u) + tiny;
      pc[i] = middle;
      pr[i] = (std::abs(middle) + r) * (1 + 4 * u);
      pw[i] = (r + 2 * g * pr[i]) * (1 + 4 * u);
    }
  }
};

/// [lower, upper] around centre -+ radius, both computed with few operations on numbers of this size.
template <class eT>
eT slack(eT centre, eT bias, eT radius) {
  return 8 * Rounding<eT>::u * (std::abs(centre) + std::abs(bias) + radius) + Rounding<eT>::tiny;
}

template <class eT>
Bounds<eT> through(const LinearLayer<eT>& layer, const Bounds<eT>& in) {
  const eT g = Rounding<eT>::g(layer.weight.n_cols);
  const Centred<eT> a(in, g);
  Bounds<eT> out{layer.weight * a.c, layer.abs_weight * a.wide};  // out x in, in x batch: centre and radius so far
  const auto tiny = static_cast<eT>(layer.weight.n_cols) * Rounding<eT>::tiny;
  constexpr eT infinite = std::numeric_limits<eT>::infinity();
  for (arma::uword j = 0; j < out.lower.n_cols; ++j) {
    eT *lower = out.lower.colptr(j), *upper = out.upper.colptr(j);
    const eT* bias = layer.bias.memptr();
    for (arma::uword i = 0; i < out.lower.n_rows; ++i) {
      const eT centre = lower[i], radius = upper[i] * (1 + 2 * g) + 2 * g * std::abs(bias[i]) + tiny;
      const eT s = slack(centre, bias[i], radius);
      const eT low = (centre + bias[i]) - radius - s, high = (centre + bias[i]) + radius + s;
      lower[i] = low >= -infinite ? low : -infinite;  // where numbers overflow to NaN nothing is known
      upper[i] = high <= infinite ? high : infinite;
    }
  }
  return out;
}

/// Both bounds through a monotone function. tanh and sigmoid are computed in double and widened, so that they hold for
/// implementations that are off by some units in the last place.
template <class eT>
void through(Activation activation, Bounds<eT>& b) {
  if (activation == Activation::relu) {
    b.lower.transform([](eT v) { return std::max(v, eT(0)); });
    b.upper.transform([](eT v) { return std::max(v, eT(0)); });
    return;
  }
  const auto f = [activation](eT x) {
    const auto v = static_cast<double>(x);
    return activation == Activation::tanh ? std::tanh(v) : 1 / (1 + std::exp(-v));
  };
  const double low = activation == Activation::tanh ? -1 : 0;
  const auto width = [](double y) {
    return 16 * static_cast<double>(Rounding<eT>::u) * std::abs(y) + static_cast<double>(Rounding<eT>::tiny);
  };
  b.lower.transform([&](eT v) { return down<eT>(std::max(low, f(v) - width(f(v)))); });
  b.upper.transform([&](eT v) { return up<eT>(std::min(1.0, f(v) + width(f(v)))); });
}

/// The bounds before the last layer, which is linear.
template <class eT>
Bounds<eT> before_last(const Layers<eT>& layers, Bounds<eT> b) {
  for (std::size_t k = 0; k + 1 < layers.all().size(); ++k) {
    if (const auto* linear = std::get_if<LinearLayer<eT>>(&layers.all()[k]))
      b = through(*linear, b);
    else
      through(std::get<Activation>(layers.all()[k]), b);
  }
  return b;
}

template <class eT>
arma::Row<eT> published_margin(const Bounds<eT>& logits, const arma::Row<std::size_t>& labels) {
  arma::Row<eT> out(labels.n_elem);
  for (arma::uword j = 0; j < labels.n_elem; ++j) {
    eT other = -std::numeric_limits<eT>::infinity();
    for (arma::uword i = 0; i < logits.upper.n_rows; ++i)
      if (i != labels[j]) other = std::max(other, logits.upper(i, j));
    out[j] = logits.lower(labels[j], j) - other;  // positive exactly when the one is above the other
  }
  return out;
}

/// z_y - z_j >= (W_y - W_j) c + b_y - b_j - |W_y - W_j| r, less what rounding takes. Columns grouped by label share the
/// difference matrices.
template <class eT>
arma::Row<eT> folded_margin(const LinearLayer<eT>& layer, const Bounds<eT>& in, const arma::Row<std::size_t>& labels) {
  const arma::uword classes = layer.weight.n_rows, n = layer.weight.n_cols;
  const eT g = Rounding<eT>::g(n);
  const Centred<eT> a(in, g);
  // What an evaluation of each logit may be off, classes x batch; both logits of a difference are evaluated apart.
  const arma::Mat<eT> evaluation = g * (1 + 2 * g) * (layer.abs_weight * a.reach);
  const auto tiny = static_cast<eT>(n) * Rounding<eT>::tiny;
  arma::Row<eT> out(labels.n_elem);
  out.fill(std::numeric_limits<eT>::infinity());
  for (std::size_t y = 0; y < classes; ++y) {
    const arma::uvec columns = arma::find(labels == y);
    if (columns.is_empty()) continue;
    arma::Mat<eT> d = -layer.weight;  // classes x n: W_y - W_j, rounded once
    d.each_row() += layer.weight.row(y);
    const arma::Mat<eT> centre = d * arma::Mat<eT>(a.c.cols(columns));                // classes x columns
    const arma::Mat<eT> radius = arma::abs(d) * arma::Mat<eT>(a.wide.cols(columns));  // classes x columns
    for (arma::uword k = 0; k < columns.n_elem; ++k)
      for (std::size_t i = 0; i < classes; ++i) {
        if (i == y) continue;
        const arma::uword j = columns[k];
        const eT b = layer.bias[y] - layer.bias[i];
        const eT sizes = std::abs(layer.bias[y]) + std::abs(layer.bias[i]);
        const eT r = (radius(i, k) * (1 + 2 * g) + 2 * g * sizes + evaluation(y, j) + evaluation(i, j) + tiny) *
                     (1 + 8 * Rounding<eT>::u);
        const eT difference = (centre(i, k) + b) - r - slack(centre(i, k), sizes, r);
        out[j] = std::isnan(difference) ? -std::numeric_limits<eT>::infinity() : std::min(out[j], difference);
      }
  }
  return out;
}

/// What the search for one column's epsilon has seen last.
class Probes {
 public:
  void add(double epsilon, double margin) {
    before_ = last_;
    last_ = {epsilon, margin};
    ++count_;
  }
  /// Where a straight line through the last two margins is zero. Nothing when there is none, and after some trials:
  /// bisection always ends.
  std::optional<double> zero() const {
    if (count_ < 2 || count_ > 8) return std::nullopt;
    const double slope = (last_.margin - before_.margin) / (last_.epsilon - before_.epsilon);
    if (!(slope < 0) || !std::isfinite(slope)) return std::nullopt;
    return last_.epsilon - last_.margin / slope;
  }

 private:
  struct Probe {
    double epsilon = 0, margin = 0;
  };
  Probe before_{}, last_{};
  int count_ = 0;
};

template <class eT>
arma::Row<eT> margin_of(const Layers<eT>& layers, const arma::Mat<eT>& x, const arma::Row<std::size_t>& labels,
                        const arma::Row<double>& epsilons, const CertifyOptions& options) {
  const Bounds<eT> last = before_last(layers, input_bounds(x, epsilons, options.range));
  const auto& layer = std::get<LinearLayer<eT>>(layers.all().back());
  if (options.margin == Margin::folded) return folded_margin(layer, last, labels);
  return published_margin(through(layer, last), labels);
}

}  // namespace

template <class eT>
void Layers<eT>::linear(std::string name, arma::Mat<eT> weight, arma::Col<eT> bias) {
  if (!layers_.empty() && weight.n_cols != outputs_)
    throw ShapeError(
        fmt::format("certificates: {} takes {} features, the layer before gives {}", name, weight.n_cols, outputs_));
  if (bias.n_elem != weight.n_rows)
    throw ShapeError(fmt::format("certificates: {} has the weight {}x{} and {} biases; there must be one for each row",
                                 name, weight.n_rows, weight.n_cols, bias.n_elem));
  if (!weight.is_finite() || !bias.is_finite())
    throw ValueError(fmt::format("certificates: {} has an entry that is not finite", name));
  outputs_ = weight.n_rows;
  arma::Mat<eT> absolute = arma::abs(weight);
  layers_.push_back(LinearLayer<eT>{std::move(name), std::move(weight), std::move(bias), std::move(absolute)});
}

template <class eT>
void Layers<eT>::activation(Activation a) {
  if (layers_.empty()) throw OptionError("certificates: the first layer is an activation; begin with a linear layer");
  layers_.push_back(a);
}

template <class eT>
void Layers<eT>::module(nn::Module<eT>& m, const std::string& path) {
  const std::string name = path.empty() ? fmt::format("layer {}", layers_.size() + 1) : "layer " + path;
  if (auto* linear_module = dynamic_cast<nn::Linear<eT>*>(&m)) {
    linear(name + " (Linear)", linear_module->weight.value(), arma::Col<eT>(linear_module->bias.value().as_col()));
  } else if (dynamic_cast<nn::Relu<eT>*>(&m) != nullptr) {
    activation(Activation::relu);
  } else if (dynamic_cast<nn::Tanh<eT>*>(&m) != nullptr) {
    activation(Activation::tanh);
  } else if (dynamic_cast<nn::Sigmoid<eT>*>(&m) != nullptr) {
    activation(Activation::sigmoid);
  } else if (auto* sequential = dynamic_cast<nn::Sequential<eT>*>(&m)) {
    for (std::size_t i = 0; i < sequential->size(); ++i)
      module((*sequential)[i], (path.empty() ? "" : path + ".") + std::to_string(i));
  } else if (dynamic_cast<nn::Dropout<eT>*>(&m) == nullptr) {
    throw OptionError(fmt::format(
        "certificates: {} is a {}; bounds go through Linear, Relu, Tanh, Sigmoid, Dropout and Sequential. A "
        "module of your own that consists of these lists them in a member function layers()",
        name, m.type_name()));
  }
}

template <class eT>
void Layers<eT>::append(const Layers& other) {
  for (const Layer& layer : other.layers_) {
    if (const auto* l = std::get_if<LinearLayer<eT>>(&layer))
      linear(l->name, l->weight, l->bias);
    else
      activation(std::get<Activation>(layer));
  }
}

template <class eT>
arma::uword Layers<eT>::inputs() const {
  return layers_.empty() ? 0 : std::get<LinearLayer<eT>>(layers_.front()).weight.n_cols;
}

template <class eT>
void Bounds<eT>::intersect(const Bounds& other) {
  if (arma::size(lower) != arma::size(other.lower) || arma::size(upper) != arma::size(other.upper))
    throw ShapeError(fmt::format("bounds: {}x{} and {}x{} cannot be intersected", lower.n_rows, lower.n_cols,
                                 other.lower.n_rows, other.lower.n_cols));
  lower = arma::max(lower, other.lower);
  upper = arma::min(upper, other.upper);
}

std::vector<double> epsilon_grid() {
  std::vector<double> grid;
  for (int i = 1; i < 10000; ++i) grid.push_back(i / 10000.0);
  return grid;
}

template <class eT>
std::vector<Bounds<eT>> bound_propagation(const Layers<eT>& layers, const arma::Mat<eT>& x, double epsilon,
                                          std::optional<Interval> range) {
  check_epsilon(epsilon);
  check_input(layers, x, range);
  arma::Row<double> epsilons(x.n_cols);
  epsilons.fill(epsilon);
  std::vector<Bounds<eT>> out{input_bounds(x, epsilons, range)};
  Bounds<eT> b = out[0];
  for (const auto& layer : layers.all()) {
    if (const auto* linear = std::get_if<LinearLayer<eT>>(&layer))
      out.push_back(b = through(*linear, b));
    else
      through(std::get<Activation>(layer), b);
  }
  return out;
}

template <class eT>
arma::Row<eT> certified_margin(const Layers<eT>& layers, const arma::Mat<eT>& x, const arma::Row<std::size_t>& labels,
                               const arma::Row<double>& epsilons, const CertifyOptions& options) {
  for (const double e : epsilons) check_epsilon(e);
  check_input(layers, x, options.range);
  check_labels(layers, x, labels);
  if (epsilons.n_elem != x.n_cols)
    throw ShapeError(fmt::format("certificates: there are {} epsilons for {} columns of x; there must be one for each",
                                 epsilons.n_elem, x.n_cols));
  return margin_of(layers, x, labels, epsilons, options);
}

template <class eT>
std::vector<std::optional<double>> certified_epsilon(const Layers<eT>& layers, const arma::Mat<eT>& x,
                                                     const arma::Row<std::size_t>& labels,
                                                     const CertifyOptions& options) {
  check_input(layers, x, options.range);
  check_labels(layers, x, labels);
  const std::vector<double>& grid = options.grid;
  if (grid.empty()) throw OptionError("certificates: the grid of epsilons is empty");
  for (std::size_t i = 0; i < grid.size(); ++i) {
    check_epsilon(grid[i]);
    if (i > 0 && !(grid[i] > grid[i - 1]))
      throw OptionError(fmt::format("certificates: epsilon {} follows {}; the grid must grow", grid[i], grid[i - 1]));
  }
  if (options.threads == 0) throw OptionError("certificates: threads is 0; it must be positive");

  // grid[low - 1] is certified, grid[high] is not; low = 0 and high = size stand for the ends.
  std::vector<std::size_t> low(x.n_cols, 0), high(x.n_cols, grid.size());
  std::vector<Probes> probes(x.n_cols);
  // Columns first ... last, until all are known. `sample` are results of other columns, sorted.
  const auto settle = [&](arma::uword first, arma::uword last, const std::vector<std::size_t>& sample) {
    arma::uvec open = arma::regspace<arma::uvec>(first, last);
    for (std::size_t step = 1; !open.is_empty(); step *= 2) {
      arma::uvec probe(open.n_elem);
      arma::Row<double> epsilons(open.n_elem);
      arma::Row<std::size_t> y(open.n_elem);
      for (arma::uword k = 0; k < open.n_elem; ++k) {
        const arma::uword j = open[k];
        const auto from = std::upper_bound(sample.begin(), sample.end(), low[j]);
        const auto to = std::upper_bound(from, sample.end(), high[j]);
        if (const auto zero = probes[j].zero()) {  // where the margin is to be expected 0, if that can be
          const auto at = std::upper_bound(grid.begin(), grid.end(), *zero) - grid.begin();
          probe[k] = std::min(std::max(static_cast<std::size_t>(std::max<std::ptrdiff_t>(at, 1)) - 1, low[j]),
                              std::min(high[j], grid.size()) - 1);
        } else if (from != to) {  // halves those of the sample that are possible here
          probe[k] = *(from + (to - from) / 2) - 1;
        } else if (high[j] < grid.size()) {
          probe[k] = (low[j] + high[j]) / 2;
        } else {
          probe[k] = std::min(low[j] + step - 1, grid.size() - 1);
        }
        epsilons[k] = grid[probe[k]];
        y[k] = labels[j];
      }
      const arma::Row<eT> margin = margin_of(layers, arma::Mat<eT>(x.cols(open)), y, epsilons, options);
      arma::uvec still(open.n_elem);
      arma::uword count = 0;
      for (arma::uword k = 0; k < open.n_elem; ++k) {
        const arma::uword j = open[k];
        probes[j].add(epsilons[k], static_cast<double>(margin[k]));
        if (margin[k] > 0)
          low[j] = probe[k] + 1;
        else
          high[j] = probe[k];
        if (low[j] < high[j]) still[count++] = j;
      }
      open = still.head(count);
    }
  };
  if (x.n_cols == 0) return {};
  constexpr arma::uword block = 480;
  const arma::uword first_block = std::min(block, x.n_cols);
  settle(0, first_block - 1, {});
  std::vector<std::size_t> sample(low.begin(), low.begin() + static_cast<std::ptrdiff_t>(first_block));
  std::sort(sample.begin(), sample.end());
  const auto work = [&](unsigned thread) {
    for (arma::uword first = block * (thread + 1); first < x.n_cols; first += block * options.threads)
      settle(first, std::min(first + block, x.n_cols) - 1, sample);
  };
  std::vector<std::exception_ptr> errors(options.threads);
  std::vector<std::thread> others;
  const auto guarded = [&](unsigned thread) {
    try {
      work(thread);
    } catch (...) {
      errors[thread] = std::current_exception();
    }
  };
  for (unsigned t = 1; t < options.threads; ++t) others.emplace_back(guarded, t);
  guarded(0);
  for (std::thread& t : others) t.join();
  for (const auto& e : errors)
    if (e) std::rethrow_exception(e);

  std::vector<std::optional<double>> out(x.n_cols);
  for (arma::uword j = 0; j < x.n_cols; ++j)
    if (low[j] > 0) out[j] = grid[low[j] - 1];
  return out;
}

#define ARMAGRAD_INSTANTIATE(eT)                                                                                  \
  template class Layers<eT>;                                                                                      \
  template struct Bounds<eT>;                                                                                     \
  template std::vector<Bounds<eT>> bound_propagation(const Layers<eT>&, const arma::Mat<eT>&, double,             \
                                                     std::optional<Interval>);                                    \
  template arma::Row<eT> certified_margin(const Layers<eT>&, const arma::Mat<eT>&, const arma::Row<std::size_t>&, \
                                          const arma::Row<double>&, const CertifyOptions&);                       \
  template std::vector<std::optional<double>> certified_epsilon(const Layers<eT>&, const arma::Mat<eT>&,          \
                                                                const arma::Row<std::size_t>&, const CertifyOptions&);
ARMAGRAD_INSTANTIATE(float)
ARMAGRAD_INSTANTIATE(double)
#undef ARMAGRAD_INSTANTIATE

}  // namespace armagrad::robust
