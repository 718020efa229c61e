#include <algorithm>
#include <numeric>

#include <fmt/format.h>

#include <armagrad/autodiff/derivatives.hpp>
#include <armagrad/autodiff/error.hpp>
#include <armagrad/autodiff/jvp.hpp>

namespace armagrad {
namespace detail {

// While it lives the gradients of a recording are out of the way of passes of our own: those of `xs` start at nothing,
// and no other node keeps one. Then all is as it was.
template <class eT>
class GradientsAside {
  using N = Node<eT>;

 public:
  GradientsAside(Graph<eT>& graph, const std::vector<std::uint32_t>& xs) : graph_(graph), xs_(xs) {
    std::swap(retained_, graph.retained_);
    for (const std::uint32_t i : retained_) put_aside(i);
    for (const std::uint32_t x : xs) {
      if (ParameterStorage<eT>* p = parameter(x)) {
        parameters_.push_back({p, std::exchange(p->gradient, nullptr), std::exchange(p->has_gradient, false)});
      } else if (std::find(retained_.begin(), retained_.end(), x) == retained_.end()) {
        put_aside(x);
      }
    }
  }
  GradientsAside(const GradientsAside&) = delete;
  GradientsAside& operator=(const GradientsAside&) = delete;
  ~GradientsAside() {
    for (const std::uint32_t x : xs_) clear(x);
    for (const std::uint32_t i : graph_.retained_)
      graph_.node(i).flags &= static_cast<std::uint8_t>(~N::keeps_gradient);
    std::swap(retained_, graph_.retained_);
    for (const Aside& n : nodes_) {
      graph_.node(n.index).gradient = n.gradient;
      graph_.node(n.index).flags = n.flags;
    }
    for (const Owned& p : parameters_) {
      if (p.storage->gradient != nullptr) graph_.backend().release(p.storage->gradient);
      p.storage->gradient = p.gradient;
      p.storage->has_gradient = p.has_gradient;
    }
  }

  /// x's gradient as it is now; null where nothing has flowed in.
  const eT* gradient(std::uint32_t x) const {
    if (ParameterStorage<eT>* p = parameter(x)) return p->has_gradient ? p->gradient : nullptr;
    return graph_.node(x).gradient;
  }
  /// Back to nothing.
  void clear(std::uint32_t x) {
    if (ParameterStorage<eT>* p = parameter(x)) {
      p->has_gradient = false;
    } else if (N& n = graph_.node(x); n.gradient != nullptr) {
      graph_.drop_buffer(n.gradient, n.shape);
      n.gradient = nullptr;
    }
  }

 private:
  struct Aside {
    std::uint32_t index;
    eT* gradient;
    std::uint8_t flags;
  };
  struct Owned {
    ParameterStorage<eT>* storage;
    eT* gradient;
    bool has_gradient;
  };
  ParameterStorage<eT>* parameter(std::uint32_t x) const {
    const N& n = graph_.node(x);
    if (n.op != &parameter_leaf<eT>) return nullptr;
    return static_cast<ParameterStorage<eT>*>(const_cast<void*>(n.attributes));
  }
  void put_aside(std::uint32_t i) {
    N& n = graph_.node(i);
    nodes_.push_back({i, n.gradient, n.flags});
    n.gradient = nullptr;
    n.flags &= static_cast<std::uint8_t>(~N::keeps_gradient);
  }

  Graph<eT>& graph_;
  std::vector<std::uint32_t> xs_, retained_;
  std::vector<Aside> nodes_;
  std::vector<Owned> parameters_;
};

namespace {

template <class eT>
std::vector<std::uint32_t> indices(const char* what, Graph<eT>& g, const std::vector<Var<eT>>& vars,
                                   bool need_gradient) {
  std::vector<std::uint32_t> out;
  for (const Var<eT>& x : vars) {
    if (&x.graph() != &g) throw StateError(fmt::format("{}: its Vars belong to different tapes", what));
    if (need_gradient && !x.requires_grad())
      throw StateError(fmt::format("{}: Var {} ({}) does not require a gradient; make it with tape.variable", what,
                                   x.index(), to_string(x.shape())));
    out.push_back(x.index());
  }
  if (out.empty()) throw OptionError(fmt::format("{}: there is no x to differentiate by", what));
  return out;
}

template <class eT>
std::vector<Var<eT>> vars(Graph<eT>& g, const std::vector<std::uint32_t>& nodes) {
  std::vector<Var<eT>> out;
  for (const std::uint32_t i : nodes) out.push_back(g.var(i));
  return out;
}

template <class eT>
arma::uword elements(const Graph<eT>& g, const std::vector<std::uint32_t>& nodes) {
  arma::uword n = 0;
  for (const std::uint32_t i : nodes) n += g.node(i).shape.size();
  return n;
}

template <class eT>
void require_scalar(const char* what, Var<eT> y) {
  if (!y.shape().is_scalar())
    throw ShapeError(
        fmt::format("{}: the function's result is {}; it must be 1x1: reduce it, for example with accu, or use "
                    "jacobian",
                    what, to_string(y.shape())));
}

// The rows of dys/dxs by a first-order pass each.
template <class eT>
void by_rows(Graph<eT>& g, const std::vector<std::uint32_t>& ys, const std::vector<std::uint32_t>& xs,
             arma::Mat<eT>& jacobian) {
  GradientsAside<eT> aside(g, xs);
  arma::Col<eT> row(jacobian.n_cols);
  arma::uword i = 0;
  const eT zero = 0, one = 1;
  for (const std::uint32_t y : ys) {
    const std::size_t size = g.node(y).shape.size();
    if (!(g.node(y).flags & Node<eT>::needs_gradient)) {
      i += size;
      continue;
    }
    const std::uint32_t seed = g.constant(g.node(y).shape, zero);
    for (std::size_t e = 0; e < size; ++e, ++i) {
      g.backend().upload(g.node(seed).value + e, &one, sizeof one);
      g.backward(y, xs, seed);
      g.backend().upload(g.node(seed).value + e, &zero, sizeof zero);
      arma::uword at = 0;
      for (const std::uint32_t x : xs) {
        const std::size_t n = g.node(x).shape.size();
        if (const eT* gradient = aside.gradient(x)) {
          g.backend().download(row.memptr() + at, gradient, n * sizeof(eT));
          jacobian.submat(i, at, i, at + n - 1) = row.subvec(at, at + n - 1).t();
        }
        aside.clear(x);
        at += n;
      }
    }
  }
}

// How many directions are pushed at once: as many as keep the tangents of the whole recording below 32 MiB.
template <class eT>
std::uint32_t directions_at_once(const Graph<eT>& g) {
  std::size_t elements = 1;
  for (std::uint32_t i = 0; i < g.size(); ++i)
    if (!(g.node(i).flags & Node<eT>::is_leaf)) elements += g.node(i).shape.size();
  return static_cast<std::uint32_t>(std::clamp<std::size_t>((std::size_t{32} << 20) / (elements * sizeof(eT)), 1, 128));
}

// The columns of dys/dxs by tangents, many at a time.
template <class eT>
void by_columns(Graph<eT>& g, const std::vector<std::uint32_t>& ys, const std::vector<std::uint32_t>& xs,
                arma::Mat<eT>& jacobian) {
  const std::uint32_t most = directions_at_once(g);
  arma::uword column = 0;
  arma::Mat<eT> block;
  for (const std::uint32_t x : xs) {
    const Shape s = g.node(x).shape;
    const std::size_t n = s.size();
    for (std::size_t first = 0; first < n; first += most) {
      const auto count = static_cast<std::uint32_t>(std::min<std::size_t>(most, n - first));
      const auto mark = g.mark();
      arma::Mat<eT> units(n, count, arma::fill::zeros);  // direction d moves element first + d
      for (std::uint32_t d = 0; d < count; ++d) units(first + d, d) = 1;
      const std::uint32_t v = g.leaf(constant_leaf<eT>, {s.rows, s.cols * count}, false);
      g.backend().upload(g.node(v).value, units.memptr(), units.n_elem * sizeof(eT));
      Pushforward<eT> push(g, ys, xs, count);
      push.move(x, v);
      push.run();
      arma::uword row = 0;
      for (const std::uint32_t y : ys) {
        const std::size_t m = g.node(y).shape.size();
        if (m > 0) {
          block.set_size(m, count);
          g.backend().download(block.memptr(), g.value(push.tangent(y)).data, block.n_elem * sizeof(eT));
          jacobian.submat(row, column, row + m - 1, column + count - 1) = block;
        }
        row += m;
      }
      column += count;
      g.rewind_to(mark);
    }
  }
}

// Restores the recording to what it was.
template <class eT>
struct Traceless {
  explicit Traceless(Graph<eT>& of) : graph(of), mark(of.mark()), enabled(of.gradients_enabled()) {}
  Traceless(const Traceless&) = delete;
  Traceless& operator=(const Traceless&) = delete;
  ~Traceless() {
    graph.rewind_to(mark);
    graph.set_gradients_enabled(enabled);
  }
  Graph<eT>& graph;
  typename Graph<eT>::Mark mark;
  bool enabled;
};

template <class eT>
arma::Mat<eT> dense_jacobian(Graph<eT>& g, const std::vector<std::uint32_t>& ys, const std::vector<std::uint32_t>& xs,
                             Direction direction) {
  arma::Mat<eT> out(elements(g, ys), elements(g, xs), arma::fill::zeros);
  if (out.is_empty()) return out;
  if (direction == Direction::automatic) {
    const std::uint32_t at_once = directions_at_once(g);
    direction = (out.n_cols + at_once - 1) / at_once <= out.n_rows ? Direction::forward : Direction::reverse;
  }
  g.set_gradients_enabled(false);
  if (direction == Direction::forward)
    by_columns(g, ys, xs, out);
  else
    by_rows(g, ys, xs, out);
  return out;
}

template <class eT>
SecondOrder<eT> second_order(const char* what, Var<eT> y, const std::vector<Var<eT>>& xs, Direction direction,
                             bool with_gradient) {
  require_scalar(what, y);
  Graph<eT>& g = y.graph();
  const auto x = indices(what, g, xs, true);
  const Traceless<eT> guard(g);
  SecondOrder<eT> out{with_gradient ? y.item() : eT(0), {}, {}};
  const arma::uword n = elements(g, x);
  if (!y.requires_grad()) {
    out.gradient.zeros(n);
    out.hessian.zeros(n, n);
    return out;
  }
  g.set_gradients_enabled(true);
  const std::vector<std::uint32_t> gradients = g.gradients(y.index(), x);
  if (with_gradient) {
    out.gradient.set_size(n);
    arma::uword at = 0;
    for (const std::uint32_t i : gradients) {
      const auto v = g.value(i);
      g.backend().download(out.gradient.memptr() + at, v.data, v.size() * sizeof(eT));
      at += v.size();
    }
  }
  out.hessian = dense_jacobian(g, gradients, x, direction);
  out.hessian = (out.hessian + out.hessian.t()) / 2;  // the two halves are computed apart and differ by rounding
  return out;
}

}  // namespace
}  // namespace detail

template <class eT>
static std::uint32_t seed_of(Var<eT> y, Var<eT> u) {
  if (!(u.shape() == y.shape()))
    throw ShapeError(fmt::format("vjp: u is {}, y is {}; both must have the same shape", to_string(u.shape()),
                                 to_string(y.shape())));
  return detail::indices("vjp", y.graph(), {u}, false).front();
}
template <class eT>
static std::vector<Var<eT>> zeros_like(const std::vector<Var<eT>>& xs) {
  std::vector<Var<eT>> zeros;
  for (const Var<eT>& x : xs) zeros.push_back(x.graph().var(x.graph().constant(x.shape(), eT(0))));
  return zeros;
}

template <class eT>
std::vector<Var<eT>> vjp(Var<eT> y, const std::vector<Var<eT>>& xs, Var<eT> u) {
  auto& g = y.graph();
  const auto x = detail::indices("vjp", g, xs, true);
  const std::uint32_t seed = seed_of(y, u);
  return y.requires_grad() ? detail::vars(g, g.gradients(y.index(), x, seed)) : zeros_like(xs);
}

template <class eT>
std::vector<arma::Mat<eT>> detail::pull(Var<eT> y, const std::vector<Var<eT>>& xs, Var<eT> u) {
  const auto x = indices("vjp", y.graph(), xs, true);
  const std::uint32_t seed = seed_of(y, u);
  if (y.requires_grad()) y.graph().backward(y.index(), x, seed);
  std::vector<arma::Mat<eT>> out;
  for (const Var<eT>& v : xs) out.push_back(v.grad());
  return out;
}

template <class eT>
static std::vector<Var<eT>> push(const char* what, const std::vector<Var<eT>>& ys, const std::vector<Var<eT>>& xs,
                                 const std::vector<Var<eT>>& vs) {
  auto& g = ys.front().graph();
  const auto y = detail::indices(what, g, ys, false), x = detail::indices(what, g, xs, true),
             v = detail::indices(what, g, vs, false);
  if (x.size() != v.size())
    throw OptionError(
        fmt::format("{}: {} inputs and {} directions; there must be one for each", what, x.size(), v.size()));
  detail::Pushforward<eT> push(g, y, x);
  for (std::size_t k = 0; k < x.size(); ++k) {
    if (!(xs[k].shape() == vs[k].shape()))
      throw ShapeError(fmt::format("{}: x is {}, its direction v is {}; both must have the same shape", what,
                                   to_string(xs[k].shape()), to_string(vs[k].shape())));
    push.move(x[k], v[k]);
  }
  push.run();
  std::vector<Var<eT>> out;
  for (const std::uint32_t i : y) out.push_back(g.var(push.tangent(i)));
  return out;
}

template <class eT>
Var<eT> jvp(Var<eT> y, const std::vector<Var<eT>>& xs, const std::vector<Var<eT>>& vs) {
  return push<eT>("jvp", {y}, xs, vs).front();
}

template <class eT>
static std::vector<Var<eT>> gradients_for_hvp(Var<eT> y, const std::vector<Var<eT>>& xs) {
  detail::require_scalar("hvp", y);
  auto& g = y.graph();
  const auto x = detail::indices("hvp", g, xs, true);
  return y.requires_grad() ? detail::vars(g, g.gradients(y.index(), x)) : zeros_like(xs);
}

template <class eT>
std::vector<Var<eT>> hvp(Var<eT> y, const std::vector<Var<eT>>& xs, const std::vector<Var<eT>>& vs) {
  return push<eT>("hvp", gradients_for_hvp(y, xs), xs, vs);
}

template <class eT>
std::vector<arma::Mat<eT>> detail::hessian_product(Var<eT> y, const std::vector<Var<eT>>& xs,
                                                   const std::vector<Var<eT>>& vs) {
  const auto gradients = gradients_for_hvp(y, xs);
  const Traceless<eT> guard(y.graph());
  y.graph().set_gradients_enabled(false);
  std::vector<arma::Mat<eT>> out;
  for (const Var<eT>& h : push<eT>("hvp", gradients, xs, vs)) out.push_back(h.value());
  return out;
}

template <class eT>
arma::Mat<eT> jacobian(Var<eT> y, const std::vector<Var<eT>>& xs, Direction direction) {
  auto& g = y.graph();
  const auto x = detail::indices("jacobian", g, xs, true);
  const detail::Traceless<eT> guard(g);
  return detail::dense_jacobian(g, {y.index()}, x, direction);
}

template <class eT>
arma::Mat<eT> hessian(Var<eT> y, const std::vector<Var<eT>>& xs, Direction direction) {
  return detail::second_order("hessian", y, xs, direction, false).hessian;
}

template <class eT>
SecondOrder<eT> value_grad_hessian(Var<eT> y, const std::vector<Var<eT>>& xs) {
  return detail::second_order("value_grad_hessian", y, xs, Direction::automatic, true);
}

#define ARMAGRAD_INSTANTIATE(eT)                                                                        \
  template std::vector<Var<eT>> vjp(Var<eT>, const std::vector<Var<eT>>&, Var<eT>);                     \
  template std::vector<arma::Mat<eT>> detail::pull(Var<eT>, const std::vector<Var<eT>>&, Var<eT>);      \
  template std::vector<arma::Mat<eT>> detail::hessian_product(Var<eT>, const std::vector<Var<eT>>&,     \
                                                              const std::vector<Var<eT>>&);             \
  template Var<eT> jvp(Var<eT>, const std::vector<Var<eT>>&, const std::vector<Var<eT>>&);              \
  template std::vector<Var<eT>> hvp(Var<eT>, const std::vector<Var<eT>>&, const std::vector<Var<eT>>&); \
  template arma::Mat<eT> jacobian(Var<eT>, const std::vector<Var<eT>>&, Direction);                     \
  template arma::Mat<eT> hessian(Var<eT>, const std::vector<Var<eT>>&, Direction);                      \
  template SecondOrder<eT> value_grad_hessian(Var<eT>, const std::vector<Var<eT>>&);
ARMAGRAD_INSTANTIATE(float)
ARMAGRAD_INSTANTIATE(double)
#undef ARMAGRAD_INSTANTIATE

}  // namespace armagrad
