// checkpoint(f, x): f runs on a tape beside the recording's own (its scratch tape), which is used again for every
// checkpoint, so that memory is needed for the largest one and not for all. What is recorded is one node with x and the
// parameters f has used as operands.
#include <cstring>
#include <utility>

#include <fmt/format.h>

#include <armagrad/autodiff/checkpoint.hpp>
#include <armagrad/autodiff/device/kernels.hpp>
#include <armagrad/autodiff/error.hpp>
#include <armagrad/autodiff/graph.hpp>
#include <armagrad/autodiff/operations.hpp>
#include <armagrad/autodiff/samples.hpp>

namespace armagrad {
namespace detail {
namespace {

template <class eT>
struct Recomputation {
  Recomputed<eT> f;
  std::vector<std::shared_ptr<ParameterStorage<eT>>> parameters{};
  std::vector<std::uint64_t> draws{};  // of random numbers: dropout's call counts
};

}  // namespace

// What checkpoint does to a graph.
template <class eT>
class CheckpointAccess {
 public:
  explicit CheckpointAccess(Graph<eT>& g) : g_(g) {}

  Var<eT> forward(const std::shared_ptr<Recomputation<eT>>& again, const std::vector<Var<eT>>& xs);
  /// Gradients by running f on the scratch tape; the parameters' go into the parameters.
  void first_order(Rule<eT>& r, Recomputation<eT>& again);
  /// By recording f where it would be without the checkpoint.
  void differentiable(Rule<eT>& r, Recomputation<eT>& again);

 private:
  // f with its random draws logged (replay = false) or repeated.
  Var<eT> call(Graph<eT>& on, Recomputation<eT>& again, const std::vector<Var<eT>>& xs, bool repeat) {
    struct Draws {
      Graph<eT>& graph;
      std::vector<std::uint64_t>* log;
      std::size_t next;
      ~Draws() { graph.draws_ = log, graph.next_draw_ = next; }
    } restore{on, on.draws_, on.next_draw_};
    on.draws_ = &again.draws;
    on.next_draw_ = repeat ? 0 : Graph<eT>::log_draws;
    const Var<eT> y = again.f(xs);
    if (&y.graph() != &on) fail_outside("f");
    return y;
  }
  Graph<eT>& scratch() {
    if (g_.scratch_ == nullptr) {
      g_.scratch_ = std::make_unique<Tape<eT>>(g_.device());
      g_.scratch_->graph().parent_ = &g_;
    }
    Graph<eT>& s = g_.scratch_->graph();
    s.rewind();
    s.calls_ = g_.calls_;
    s.module_path_ = g_.module_path_;
    return s;
  }
  // x on the scratch tape, in its own memory.
  Var<eT> alias(Graph<eT>& s, std::uint32_t x, bool needs_gradient) {
    const View<const eT> v = g_.value(x);
    const std::uint32_t i =
        s.aliasing_leaf(needs_gradient ? variable_leaf<eT> : borrowed_leaf<eT>, g_.node(x).shape, v.data);
    if (needs_gradient) s.node(i).flags |= Node<eT>::needs_gradient;
    return s.var(i);
  }

  Graph<eT>& g_;
};

struct Checkpoint {
  static constexpr auto name = "checkpoint";
  static constexpr bool random = true;  // captures are refused, so there is no replay to compare with
  struct Attributes {
    void* again;  // a Recomputation the tape keeps alive
    const void* result;
    Shape shape;
  };
  static Shape shape(Operands& in) { return in.attributes<Attributes>().shape; }
  template <class eT>
  static void eval(Eval<eT>& e) {
    const auto& a = e.template attributes<Attributes>();
    Command<eT> c;
    c.kernel = &kernels<eT>::copy;
    c.in[0] = {static_cast<const eT*>(a.result), a.shape.rows, a.shape.cols, a.shape.rows};
    c.out = e.out();
    e.run(c);
  }
  template <class eT>
  static void vjp(Rule<eT>& r) {
    Graph<eT>& g = r.result().graph();
    auto& again = *static_cast<Recomputation<eT>*>(r.template attributes<Attributes>().again);
    if (g.first_order())
      CheckpointAccess<eT>(g).first_order(r, again);
    else
      CheckpointAccess<eT>(g).differentiable(r, again);
  }
  static void samples(Samples& s) {
    const auto f = [](const auto& in) {
      return checkpoint([](auto a, auto b) { return tanh(a * b) % b + a; }, in[0], in[1]);
    };
    const auto plain = [](const std::vector<arma::mat>& in) -> arma::mat {
      return arma::tanh(in[0] * in[1]) % in[1] + in[0];
    };
    s.add({s.uniform(3, 3), s.uniform(3, 3)}, f, plain);
    s.add({s.uniform(1, 1), s.uniform(1, 1)}, f, plain);
    s.add(
        {s.uniform(2, 3)},
        [](const auto& in) {
          return checkpoint(
              [](auto x) {
                const auto y = checkpoint([](auto v) { return exp(v); }, x);
                return trans(y * 0.5) % trans(x);
              },
              in[0]);
        },
        [](const std::vector<arma::mat>& in) -> arma::mat { return (0.5 * arma::exp(in[0]) % in[0]).t(); });
    s.add(
        {s.uniform(2, 3)}, [](const auto& in) { return checkpoint([](auto x) { return x; }, in[0]); },
        [](const std::vector<arma::mat>& in) { return in[0]; });
    s.fails(
        {arma::mat(2, 3), arma::mat(2, 3)},
        [](const auto& in) { return checkpoint([&](auto x) { return x + in[1]; }, in[0]); },
        "add: checkpoint(f, x): f has used a Var from outside; pass it as an argument: checkpoint(f, x, that)");
    s.fails(
        {arma::mat(2, 3), arma::mat(2, 3)},
        [](const auto& in) { return checkpoint([&](auto) { return in[1]; }, in[0]); },
        "f: checkpoint(f, x): f has used a Var from outside; pass it as an argument: checkpoint(f, x, that)");
  }
};

void fail_outside(const char* operation) {
  throw StateError(
      fmt::format("{}: checkpoint(f, x): f has used a Var from outside; pass it as an argument: checkpoint(f, x, that)",
                  operation));
}

template <class eT>
Var<eT> CheckpointAccess<eT>::forward(const std::shared_ptr<Recomputation<eT>>& again, const std::vector<Var<eT>>& xs) {
  if (capturing<eT> != nullptr)
    throw StateError("checkpoint: a replay cannot repeat it; capture the step without checkpoints");
  Graph<eT>& s = scratch();
  s.set_gradients_enabled(false);
  std::vector<Var<eT>> inputs;
  std::vector<std::uint32_t> operands;
  for (const Var<eT>& x : xs) {
    if (&x.graph() != &g_) throw StateError("checkpoint: its arguments belong to different tapes");
    inputs.push_back(alias(s, x.index(), false));
    operands.push_back(x.index());
  }
  const Var<eT> y = call(s, *again, inputs, false);
  for (const std::uint32_t leaf : s.parameter_leaves_)
    for (const std::shared_ptr<const void>& kept : s.kept_)
      if (kept.get() == s.node(leaf).attributes) {
        again->parameters.push_back(
            std::static_pointer_cast<ParameterStorage<eT>>(std::const_pointer_cast<void>(kept)));
        operands.push_back(g_.parameter(again->parameters.back()));
        break;
      }
  if (constexpr std::size_t most = 255; operands.size() > most)
    throw StateError(fmt::format("checkpoint: f has {} inputs and parameters together, and at most {} fit; divide it",
                                 operands.size(), most));
  g_.keep_alive(again);
  const Checkpoint::Attributes attributes{again.get(), s.value(y.index()).data, y.shape()};
  const Var<eT> out = g_.var(g_.record(operation_info<Checkpoint, eT>, operands.data(), operands.size(), &attributes));
  s.rewind();
  return out;
}

template <class eT>
void CheckpointAccess<eT>::first_order(Rule<eT>& r, Recomputation<eT>& again) {
  using N = Node<eT>;
  Graph<eT>& s = scratch();
  s.set_gradients_enabled(true);
  const std::size_t inputs = r.size() - again.parameters.size();
  std::vector<Var<eT>> xs;
  std::vector<std::uint32_t> wanted;
  for (std::size_t k = 0; k < inputs; ++k) {
    xs.push_back(alias(s, r.operand(k).index(), r.needs(k)));
    if (r.needs(k)) wanted.push_back(xs.back().index());
  }
  for (std::size_t k = inputs; k < r.size(); ++k)
    if (r.needs(k)) wanted.push_back(s.parameter(again.parameters[k - inputs]));
  if (wanted.empty()) return;
  const Var<eT> y = call(s, again, xs, true);
  const arma::Mat<eT> before = r.result().value(), now = y.value();
  if (arma::size(before) != arma::size(now) || std::memcmp(before.memptr(), now.memptr(), now.n_elem * sizeof(eT)) != 0)
    throw StateError(
        "checkpoint: f gave another result when backward computed it again; it must not depend on what changes in "
        "between, such as a counter or a random draw of its own");
  if (!(s.node(y.index()).flags & N::needs_gradient)) return;
  s.backward(y.index(), wanted, alias(s, r.grad().index(), false).index());
  for (std::size_t k = 0; k < inputs; ++k)
    if (const N& x = s.node(xs[k].index()); r.needs(k) && x.gradient != nullptr)
      r.accumulate(k, g_.var(g_.aliasing_leaf(gradient_leaf<eT>, x.shape, x.gradient)));
}

template <class eT>
void CheckpointAccess<eT>::differentiable(Rule<eT>& r, Recomputation<eT>& again) {
  using N = Node<eT>;
  const std::uint32_t seed = r.grad().index();
  std::vector<Var<eT>> xs;
  for (std::size_t k = 0; k < r.size() - again.parameters.size(); ++k) xs.push_back(r.operand(k));
  std::vector<std::uint32_t> gradients;
  {
    // A pass of its own within the pass under way.
    struct Pass {
      Graph<eT>& g;
      typename Graph<eT>::Mode mode = g.mode_;
      bool enabled = g.gradients_enabled_, restricted = g.restricted_;
      std::uint32_t rule_node = g.rule_node_;
      std::vector<typename Graph<eT>::Contribution> contributions = std::move(g.contributions_);
      std::vector<std::uint32_t> gradient_of = std::move(g.gradient_of_);
      ~Pass() {
        g.mode_ = mode;
        g.gradients_enabled_ = enabled;
        g.restricted_ = restricted;
        g.rule_node_ = rule_node;
        g.contributions_ = std::move(contributions);
        g.gradient_of_ = std::move(gradient_of);
      }
    } pass{g_};
    g_.mode_ = Graph<eT>::Mode::eager;
    g_.gradients_enabled_ = true;
    g_.restricted_ = false;
    const std::uint32_t first = g_.size();
    const Var<eT> y = call(g_, again, xs, true);
    g_.gradient_of_.assign(std::max(first, y.index() + 1), 0);
    g_.gradient_of_[y.index()] = seed + 1;
    for (std::uint32_t i = y.index() + 1; i-- > first;) {
      const N& n = g_.node(i);
      if (n.flags & N::is_leaf || n.result != 0 || !(n.flags & N::needs_gradient)) continue;
      bool has = false;
      for (std::uint8_t k = 0; k < n.op->results; ++k) has |= g_.rule_has_gradient(i, k);
      if (has) g_.run_rule(i);
    }
    for (std::size_t k = 0; k < r.size(); ++k) gradients.push_back(g_.gradient_of_[r.operand(k).index()]);
  }
  for (std::size_t k = 0; k < r.size(); ++k)
    if (gradients[k] != 0) r.accumulate(k, g_.var(gradients[k] - 1));
}

NoNewParameters::NoNewParameters()
    : made_(std::make_unique<std::unordered_set<const void*>>()),
      outer_(std::exchange(parameter_census, made_.get())) {}
NoNewParameters::~NoNewParameters() { parameter_census = outer_; }
void NoNewParameters::check() const {
  if (!made_->empty())
    throw StateError(
        "checkpoint: f holds parameters itself, and a copy of it would have others; give std::ref(f) and keep f alive");
}

template <class eT>
Var<eT> checkpoint(Recomputed<eT> f, const std::vector<Var<eT>>& xs) {
  auto again = std::make_shared<Recomputation<eT>>();
  again->f = std::move(f);
  return CheckpointAccess<eT>(xs.front().graph()).forward(again, xs);
}
template Var<float> checkpoint(Recomputed<float>, const std::vector<Var<float>>&);
template Var<double> checkpoint(Recomputed<double>, const std::vector<Var<double>>&);

}  // namespace detail
}  // namespace armagrad

ARMAGRAD_LIST_OPERATIONS(checkpoint, Checkpoint)
