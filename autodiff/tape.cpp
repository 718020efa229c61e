#include <limits>
#include <ostream>

#include <fmt/format.h>

#include <armagrad/autodiff/error.hpp>
#include <armagrad/autodiff/graph.hpp>
#include <armagrad/autodiff/tape.hpp>

namespace armagrad {
namespace {

Shape shape_of(arma::uword rows, arma::uword cols) {
  constexpr arma::uword most = std::numeric_limits<std::uint32_t>::max();
  if (rows > most || cols > most)
    throw ShapeError(fmt::format("tape: a {}x{} matrix has more than 4294967295 rows or columns", rows, cols));
  return {static_cast<std::uint32_t>(rows), static_cast<std::uint32_t>(cols)};
}

}  // namespace

// Var

template <class eT>
void Var<eT>::refuse() const {
  if (state_ == &unassigned_) throw StateError("Var: it was never assigned; it must come from a tape or an operation");
  if (state_->graph == nullptr)
    throw StateError("Var: its tape was destroyed; keep the tape alive as long as its Vars are used");
  throw StateError(
      "Var: its recording is gone: the tape was rewound, moved or destroyed since; take what you need with .value() "
      "before, and compute the rest again");
}

template <class eT>
Shape Var<eT>::shape() const {
  return graph().node(index_).shape;
}

namespace {
// The tape's own memory where the program can read it.
template <class eT>
arma::Mat<eT> show(const detail::Graph<eT>& g, const eT* data, Shape s) {
  if (!(g.device() == Device::cpu())) return g.download(data, s);
  return arma::Mat<eT>(const_cast<eT*>(data), s.rows, s.cols, false, true);
}
}  // namespace

template <class eT>
arma::Mat<eT> Var<eT>::value() const {
  auto& g = graph();
  const View<const eT> v = g.value(index_);
  return g.download(v.data, shape());
}
template <class eT>
const arma::Mat<eT> Var<eT>::value_view() const {
  auto& g = graph();
  const View<const eT> v = g.value(index_);
  return show(g, v.data, shape());
}

template <class eT>
eT Var<eT>::item() const {
  auto& g = graph();
  if (!shape().is_scalar())
    throw ShapeError(fmt::format("item: the Var is {}; only a 1x1 Var has one", to_string(shape())));
  eT x;
  g.backend().download(&x, g.value(index_).data, sizeof x);
  return x;
}

// Null where backward has not reached.
template <class eT>
const eT* Var<eT>::gradient() const {
  using N = detail::Node<eT>;
  const N& n = graph().node(index_);
  if (n.op == &detail::parameter_leaf<eT>) {
    const auto& storage = *static_cast<const detail::ParameterStorage<eT>*>(n.attributes);
    return storage.has_gradient ? storage.gradient : nullptr;
  }
  if (!(n.flags & N::needs_gradient))
    throw StateError(
        fmt::format("grad: this Var ({}) does not require a gradient; make it with tape.variable", n.op->name));
  if (!(n.flags & (N::is_leaf | N::keeps_gradient)))
    throw StateError(
        fmt::format("grad: this Var is the result of {}, whose gradient is not kept; call retain_grad() on "
                    "it before backward, or use ag::grad",
                    n.op->name));
  return n.gradient;
}

template <class eT>
arma::Mat<eT> Var<eT>::grad() const {
  const eT* const g = gradient();
  const Shape s = shape();
  return g != nullptr ? graph().download(g, s) : arma::Mat<eT>(s.rows, s.cols, arma::fill::zeros);
}
template <class eT>
const arma::Mat<eT> Var<eT>::grad_view() const {
  const eT* const g = gradient();
  const Shape s = shape();
  return g != nullptr ? show(graph(), g, s) : arma::Mat<eT>(s.rows, s.cols, arma::fill::zeros);
}

template <class eT>
void Var<eT>::retain_grad() const {
  graph().keep_gradient(index_);
}

template <class eT>
bool Var<eT>::requires_grad() const {
  return (graph().node(index_).flags & detail::Node<eT>::needs_gradient) != 0;
}

template <class eT>
void Var<eT>::backward() const {
  graph().backward(index_, {});
}

template <class eT>
void Var<eT>::backward(std::initializer_list<Var> leaves) const {
  auto& g = graph();
  std::vector<std::uint32_t> wanted;
  for (const Var& x : leaves) {
    if (&x.graph() != &g) throw StateError("backward: a leaf asked for belongs to another tape");
    wanted.push_back(x.index());
  }
  if (wanted.empty()) throw StateError("backward: the list of leaves is empty; call backward() for all of them");
  g.backward(index_, wanted);
}

template <class eT>
std::ostream& operator<<(std::ostream& out, Var<eT> x) {
  return out << x.value();
}

template class Var<float>;
template class Var<double>;
template std::ostream& operator<<(std::ostream&, Var<float>);
template std::ostream& operator<<(std::ostream&, Var<double>);

// Tape

template <class eT>
Tape<eT>::Tape(Device device) : graph_(std::make_unique<detail::Graph<eT>>(device)) {}
template <class eT>
Tape<eT>::Tape(Tape&& other) noexcept : graph_(std::move(other.graph_)) {
  if (graph_ != nullptr) graph_->rewind();
}
template <class eT>
Tape<eT>& Tape<eT>::operator=(Tape&& other) noexcept {
  graph_ = std::move(other.graph_);
  if (graph_ != nullptr) graph_->rewind();
  return *this;
}
template <class eT>
Tape<eT>::~Tape() = default;

template <class eT>
detail::Graph<eT>& Tape<eT>::graph() const {
  if (graph_ == nullptr) throw StateError("tape: it was moved from; use the tape it was moved to");
  return *graph_;
}

template <class eT>
Var<eT> Tape<eT>::constant(const arma::Mat<eT>& x) {
  auto& g = graph();
  const std::uint32_t i = g.leaf(detail::constant_leaf<eT>, shape_of(x.n_rows, x.n_cols), false);
  g.backend().upload(g.node(i).value, x.memptr(), x.n_elem * sizeof(eT));
  return g.var(i);
}
template <class eT>
Var<eT> Tape<eT>::constant(eT x) {
  auto& g = graph();
  const std::uint32_t i = g.leaf(detail::constant_leaf<eT>, {1, 1}, false);
  g.backend().upload(g.node(i).value, &x, sizeof x);
  return g.var(i);
}
template <class eT>
Var<eT> Tape<eT>::borrow(const arma::Mat<eT>& x) {
  auto& g = graph();
  if (!(g.device() == Device::cpu())) return constant(x);
  return g.var(g.aliasing_leaf(detail::borrowed_leaf<eT>, shape_of(x.n_rows, x.n_cols), x.memptr()));
}
template <class eT>
Var<eT> Tape<eT>::variable(const arma::Mat<eT>& x) {
  auto& g = graph();
  const std::uint32_t i = g.leaf(detail::variable_leaf<eT>, shape_of(x.n_rows, x.n_cols), true);
  g.backend().upload(g.node(i).value, x.memptr(), x.n_elem * sizeof(eT));
  return g.var(i);
}
template <class eT>
Var<eT> Tape<eT>::borrow_variable(const arma::Mat<eT>& x) {
  auto& g = graph();
  if (!(g.device() == Device::cpu())) return variable(x);
  const std::uint32_t i = g.aliasing_leaf(detail::borrowed_leaf<eT>, shape_of(x.n_rows, x.n_cols), x.memptr());
  if (g.gradients_enabled()) g.node(i).flags |= detail::Node<eT>::needs_gradient;
  return g.var(i);
}
template <class eT>
Var<eT> Tape<eT>::parameter(const Parameter<eT>& p) {
  auto& g = graph();
  const std::uint32_t i = g.parameter(p.shared());
  g.require_here("parameter", g.node(i));
  return g.var(i);
}
template <class eT>
Labels<eT> Tape<eT>::labels(const arma::Row<std::size_t>& y) {
  auto& g = graph();
  return {g.state(), g.state()->recording, g.add_labels(y)};
}
template <class eT>
void Tape<eT>::rewind() {
  graph().rewind();
}
template <class eT>
std::size_t Tape<eT>::size() const {
  return graph().size();
}
template <class eT>
Device Tape<eT>::device() const {
  return graph().device();
}
template <class eT>
std::size_t Tape<eT>::capacity() const {
  return graph().capacity();
}

template <class eT>
Tape<eT>::NoGrad::NoGrad(Tape& tape) : state_(tape.graph().state()), before_(tape.graph().gradients_enabled()) {
  tape.graph().set_gradients_enabled(false);
}
template <class eT>
Tape<eT>::NoGrad::~NoGrad() {
  if (state_->graph != nullptr) state_->graph->set_gradients_enabled(before_);
}

template <class eT>
struct Tape<eT>::Scope::Begin {
  detail::TapeState<eT>* state;
  std::uint32_t recording;
  typename detail::Graph<eT>::Mark mark;
};
template <class eT>
Tape<eT>::Scope::Scope(Tape& tape)
    : begin_(new Begin{tape.graph().state(), tape.graph().state()->recording, tape.graph().mark()}) {}
template <class eT>
Tape<eT>::Scope::~Scope() {
  // Of a tape that was rewound, moved or destroyed since, nothing of ours is left.
  if (begin_->state->graph != nullptr && begin_->state->recording == begin_->recording)
    begin_->state->graph->rewind_to(begin_->mark);
}

template <class eT>
Replay<eT> Tape<eT>::capture(const std::function<void()>& step) {
  detail::Graph<eT>* g = &graph();
  detail::TapeState<eT>* state = g->state();  // outlives the tape, which the step might destroy
  if (detail::captured_graph != nullptr) throw StateError("capture: another capture is running in this thread");
  auto list = std::make_unique<detail::CommandList<eT>>();
  list->backend = &g->backend();
  const std::uint32_t recording = state->recording, first = g->size();
  struct Capturing {
    explicit Capturing(detail::CommandList<eT>* to, const void* of) {
      detail::capturing<eT> = to;
      detail::captured_graph = of;
    }
    Capturing(const Capturing&) = delete;
    Capturing& operator=(const Capturing&) = delete;
    ~Capturing() {
      detail::capturing<eT> = nullptr;
      detail::captured_graph = nullptr;
    }
  };
  g->forget_kept();  // a replay has to factorise what was factorised before, too
  {
    const Capturing guard(list.get(), g);
    step();
  }
  if (state->recording != recording)
    throw StateError(
        "capture: the step rewound, moved or destroyed the tape; the replay needs the recording, so rewind "
        "before capture");
  // What is computed only when somebody reads it has given no command; who has read it is to see the new value.
  for (std::uint32_t i = first; i < g->size(); ++i)
    if (g->node(i).value == nullptr) list->after.push_back([g, i] { g->refresh(i); });
  g->note_capture();
  g->forget_kept();
  list->recording = g->backend().record(list->commands.data(), list->commands.size(), list->runs.get());
  return Replay<eT>(state, std::move(list));
}

template <class eT>
Profile Tape<eT>::profile(const std::function<void()>& step) {
  Profile out;
  graph().profile(out, step);
  return out;
}

template <class eT>
std::string Tape<eT>::to_text() const {
  using N = detail::Node<eT>;
  const auto& g = graph();
  std::string out;
  for (std::uint32_t i = 0; i < g.size(); ++i) {
    const N& n = g.node(i);
    std::string operands;
    if (n.result != 0) operands = fmt::format("%{}.{}", i - n.result, n.result);
    for (std::size_t k = 0; k < n.operand_count; ++k)
      operands += fmt::format("{}%{}", k == 0 ? "" : ", ", g.operand(n, k));
    const std::string name = n.op == &detail::parameter_leaf<eT>
                                 ? static_cast<const detail::ParameterStorage<eT>*>(n.attributes)->name
                                 : n.op->name;
    out += fmt::format("%{} = {}({})  {}{}\n", i, name, operands, to_string(n.shape),
                       n.flags & N::needs_gradient ? "  grad" : "");
  }
  return out;
}

template <class eT>
std::string Tape<eT>::to_dot() const {
  using N = detail::Node<eT>;
  const auto& g = graph();
  std::string out = "digraph tape {\n  rankdir=BT;\n  node [shape=box, fontname=\"sans-serif\"];\n";
  for (std::uint32_t i = 0; i < g.size(); ++i) {
    const N& n = g.node(i);
    const std::string name = n.op == &detail::parameter_leaf<eT>
                                 ? static_cast<const detail::ParameterStorage<eT>*>(n.attributes)->name
                                 : n.op->name;
    out += fmt::format("  n{} [label=\"{}\\n{}\"{}];\n", i, name, to_string(n.shape),
                       n.flags & N::is_leaf ? ", style=rounded" : "");
    if (n.result != 0) out += fmt::format("  n{} -> n{};\n", i - n.result, i);
    for (std::size_t k = 0; k < n.operand_count; ++k)
      out += fmt::format("  n{} -> n{}{};\n", g.operand(n, k), i, n.flags & N::needs_gradient ? "" : " [style=dashed]");
  }
  return out + "}\n";
}

template class Tape<float>;
template class Tape<double>;

// Replay

template <class eT>
Replay<eT>::Replay(detail::TapeState<eT>* state, std::unique_ptr<detail::CommandList<eT>> list)
    : state_(state), recording_(state->recording), list_(std::move(list)) {}
template <class eT>
Replay<eT>::Replay(Replay&&) noexcept = default;
template <class eT>
Replay<eT>& Replay<eT>::operator=(Replay&&) noexcept = default;
template <class eT>
Replay<eT>::~Replay() = default;

template <class eT>
void Replay<eT>::check() const {
  if (list_ == nullptr) throw StateError("replay: it was moved from; use the one it was moved to");
  if (state_->graph == nullptr || state_->recording != recording_)
    throw StateError("replay: the tape it was captured on was rewound, moved or destroyed; capture the step again");
}

template <class eT>
void Replay<eT>::set(Var<eT> leaf, const arma::Mat<eT>& value) {
  check();
  if (leaf.graph().state() != state_) throw StateError("replay: this leaf belongs to another tape");
  auto& n = leaf.graph().node(leaf.index());
  const bool itself = n.op == &detail::borrowed_leaf<eT> && (n.value == value.memptr() || value.is_empty());
  if (n.op != &detail::constant_leaf<eT> && n.op != &detail::variable_leaf<eT> && !itself)
    throw StateError(
        fmt::format("replay: only a leaf made with constant or variable can be set, not a {}", n.op->name));
  if (n.shape.rows != value.n_rows || n.shape.cols != value.n_cols)
    throw ShapeError(
        fmt::format("replay: the leaf was captured as {}, the new value is {}x{}; capture again for another "
                    "shape",
                    to_string(n.shape), value.n_rows, value.n_cols));
  leaf.graph().forget_kept();
  if (!itself) list_->backend->upload(n.value, value.memptr(), value.n_elem * sizeof(eT));
}

template <class eT>
void Replay<eT>::set(const Labels<eT>& labels, const arma::Row<std::size_t>& y) {
  check();
  if (labels.state != state_ || labels.recording != recording_)
    throw StateError("replay: these labels belong to another recording");
  detail::LabelSlot& slot = state_->graph->labels(labels.slot);
  if (y.n_elem != slot.count)
    throw ShapeError(fmt::format("replay: {} labels were captured, {} are given; capture again for another batch size",
                                 slot.count, y.n_elem));
  std::vector<std::uint32_t>& indices = state_->graph->index_buffer();
  indices.clear();
  std::uint32_t largest = 0;
  for (arma::uword j = 0; j < y.n_elem; ++j) {
    if (y[j] >= slot.classes)
      throw ValueError(
          fmt::format("replay: label {} of column {} is not below the {} classes captured", y[j], j, slot.classes));
    indices.push_back(static_cast<std::uint32_t>(y[j]));
    largest = std::max(largest, indices.back());
  }
  slot.largest = largest;
  list_->backend->upload(const_cast<std::uint32_t*>(slot.indices), indices.data(),
                         indices.size() * sizeof(std::uint32_t));
}

template <class eT>
void Replay<eT>::run(std::size_t times) {
  check();
  if (detail::captured_graph != nullptr) throw StateError("replay: it cannot run within a capture");
  state_->graph->forget_kept();
  if (list_->recording != nullptr) {
    *list_->runs += times;
    list_->recording->run(times);
  }
  for (std::size_t t = 0; t < times; ++t) {
    if (list_->recording == nullptr) {
      ++*list_->runs;
      for (const Command<eT>& c : list_->commands) list_->backend->run(c);
    }
    for (const auto& f : list_->after) f();
  }
}

template <class eT>
std::size_t Replay<eT>::size() const {
  return list_->commands.size();
}

template class Replay<float>;
template class Replay<double>;

}  // namespace armagrad
