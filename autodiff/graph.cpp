#include <algorithm>
#include <array>
#include <cstring>
#include <deque>
#include <limits>
#include <mutex>
#include <new>
#include <tuple>
#include <utility>

#include <fmt/format.h>

#include <armagrad/autodiff/device/kernels.hpp>
#include <armagrad/autodiff/device/memory.hpp>
#include <armagrad/autodiff/error.hpp>
#include <armagrad/autodiff/graph.hpp>
#include <armagrad/autodiff/operations.hpp>
#include <armagrad/autodiff/ops/known.hpp>

namespace armagrad {
namespace detail {
namespace {

// States are handed out again but never freed: a Var of a destroyed tape may still be asked whether it is valid.
template <class eT>
struct StatePool {
  std::mutex mutex;
  std::deque<TapeState<eT>> all;
  std::vector<TapeState<eT>*> free;

  static StatePool& instance() {
    static auto* pool = new StatePool;
    return *pool;
  }
  TapeState<eT>* acquire() {
    const std::lock_guard lock(mutex);
    if (free.empty()) return &all.emplace_back();
    TapeState<eT>* state = free.back();
    free.pop_back();
    return state;
  }
  void give_back(TapeState<eT>* state) {
    const std::lock_guard lock(mutex);
    free.push_back(state);
  }
};

}  // namespace

template <class eT>
Graph<eT>::Graph(Device device)
    : device_(device),
      state_(StatePool<eT>::instance().acquire()),
      arena_(device.backend()),
      on_host_(device.backend().host_code() >= 0),
      host_code_(device.backend().host_code()) {
  state_->graph = this;
}

template <class eT>
Graph<eT>::~Graph() {
  state_->graph = nullptr;
  ++state_->serial;
  ++state_->recording;
  StatePool<eT>::instance().give_back(state_);
}

template <class eT>
void Graph<eT>::rewind() noexcept {
  size_ = 0;
  captured_ = false;
  ++state_->serial;
  ++state_->recording;
  arena_.rewind();
  attribute_block_ = attribute_used_ = 0;
  long_operands_.clear();
  kept_.clear();
  retained_.clear();
  labels_.clear();
  parameter_leaves_.clear();
  forget_kept();
}

template <class eT>
void Graph<eT>::rewind_to(const Mark& mark) {
  if (capturing<eT> != nullptr) return;
  std::vector<std::pair<std::uint32_t, arma::Mat<eT>>> gradients;  // of earlier nodes, in memory that is to go
  for (std::uint32_t i = 0; i < mark.size; ++i) {
    Node<eT>& n = node(i);
    if (n.value != nullptr && n.op->lazy && arena_.taken_after(mark.place, n.value)) n.value = nullptr;
    if (n.gradient == nullptr || !arena_.taken_after(mark.place, n.gradient)) continue;
    gradients.emplace_back(i, download(n.gradient, n.shape));
  }
  size_ = mark.size;
  ++state_->serial;
  attribute_block_ = mark.attribute_block;
  attribute_used_ = mark.attribute_used;
  long_operands_.resize(mark.long_operands);
  kept_.resize(mark.kept);
  labels_.resize(mark.labels);
  const auto forgotten = [&mark](std::uint32_t i) { return i >= mark.size; };
  std::erase_if(retained_, forgotten);
  std::erase_if(parameter_leaves_, forgotten);
  arena_.rewind_to(mark.place);
  for (const auto& [i, value] : gradients) {
    node(i).gradient = new_buffer(node(i).shape);
    backend().upload(node(i).gradient, value.memptr(), value.n_elem * sizeof(eT));
  }
}

// Long recordings take many chunks at a time, which lie in one huge page where the system has them.
template <class eT>
void Graph<eT>::add_chunk() {
  if (size_ > std::numeric_limits<std::uint32_t>::max() - chunk_size * chunks_together)
    throw StateError("tape: more than 4294934527 operations in one recording; rewind between steps");
  const std::size_t count = chunks_.size() < chunks_together ? 1 : chunks_together;
  std::unique_ptr<void, void (*)(void*)> memory(allocate_aligned(count * chunk_size * sizeof(Node<eT>)), std::free);
  if (memory == nullptr) throw std::bad_alloc();
  auto* const nodes = static_cast<Node<eT>*>(memory.get());
  chunk_memory_.push_back(std::move(memory));
  for (std::size_t k = 0; k < count; ++k) chunks_.push_back(nodes + k * chunk_size);
  capacity_ += static_cast<std::uint32_t>(count * chunk_size);
}

template <class eT>
[[gnu::always_inline]] inline Node<eT>& Graph<eT>::append() {
  if (size_ == capacity_) [[unlikely]]
    add_chunk();
  Node<eT>& n = node(size_++);
  n.value = nullptr;
  n.gradient = nullptr;
  n.attributes = nullptr;
  n.serial = state_->serial;
  n.version = 0;
  n.operand_count = 0;
  n.result = 0;
  n.flags = 0;
  n.uses = 0;
  return n;
}

template <class eT>
void Graph<eT>::run_slowly(const Command<eT>& c, const char* operation) {
  if (captured_graph != nullptr && captured_graph != this)
    throw StateError(
        "capture: the step computes on another tape, which a replay could not repeat; do that outside of it");
  backend().require(*c.kernel, operation);
  if (profiler != nullptr) {
    // A node is timed under the module that recorded it, forward and backward.
    const auto before = std::pair(profiler->phase, profiler->module);
    profiler->phase = in_backward_ ? Profile::Phase::backward : Profile::Phase::forward;
    if (in_backward_) {
      profiler->module = rule_node_ < profiled_module_.size() ? profiled_module_[rule_node_] : 0;
    } else {
      auto& modules = profiler->profile->modules;
      const auto at = std::find(modules.begin(), modules.end(), module_path());
      profiler->module = static_cast<std::uint32_t>(at - modules.begin());
      if (at == modules.end()) modules.push_back(module_path());
      profiled_module_.resize(size_, profiler->module);
    }
    detail::run(backend(), c, operation);
    std::tie(profiler->phase, profiler->module) = before;
    return;
  }
  detail::run(backend(), c, operation);
}

template <class eT>
void Profiler::run(Backend& backend, const Command<eT>& c, const char* operation) {
  double bytes = static_cast<double>(c.out.size()) * (c.beta == eT(0) ? 1 : 2);
  for (const auto& in : c.in) bytes += in.data != nullptr ? static_cast<double>(in.size()) : 0;
  for (const auto& out : c.more_out) bytes += out.data != nullptr ? static_cast<double>(out.size()) : 0;
  const bool product = c.kernel == &kernels<eT>::gemm;
  const double inner = (c.flags & transpose_a) != 0 ? c.in[0].rows : c.in[0].cols;
  backend.synchronize();
  const double start = now();
  backend.run(c);
  backend.synchronize();
  const double end = now();
  profile->entries.push_back({operation, c.kernel->name, phase, module, start - origin, end - start, bytes * sizeof(eT),
                              product ? 2 * static_cast<double>(c.out.size()) * inner : 0});
}
template void Profiler::run(Backend&, const Command<float>&, const char*);
template void Profiler::run(Backend&, const Command<double>&, const char*);

template <class eT>
void Graph<eT>::profile(Profile& into, const std::function<void()>& step) {
  if (profiler != nullptr) throw StateError("profile: another profile is being made in this thread");
  Profiler mine{&into};
  struct Watching {
    Watching(Graph& g, Profiler* p) : graph(g), host_code(g.host_code_) {
      profiler = p;
      graph.host_code_ = -1;
    }
    Watching(const Watching&) = delete;
    Watching& operator=(const Watching&) = delete;
    ~Watching() {
      profiler = nullptr;
      graph.host_code_ = host_code;
      graph.profiled_module_.clear();
    }
    Graph& graph;
    const int host_code;
  };
  {
    const Watching guard(*this, &mine);
    profiled_module_.assign(size_, 0);
    step();
  }
  into.seconds = Profiler::now() - mine.origin;
}

template <class eT>
const std::uint64_t* Graph<eT>::replays() {
  static constexpr std::uint64_t none = 0;
  if (capturing<eT> == nullptr) return &none;
  keep_alive(capturing<eT>->runs);
  return capturing<eT>->runs.get();
}

template <class eT>
const void* Graph<eT>::keep_attributes(const void* bytes, std::size_t count) {
  constexpr std::size_t block = std::size_t{1} << 16;
  const std::size_t rounded = (count + 15) / 16 * 16;
  if (attribute_blocks_.empty() || attribute_used_ + rounded > block) {
    if (!attribute_blocks_.empty()) ++attribute_block_;
    if (attribute_block_ == attribute_blocks_.size()) attribute_blocks_.push_back(std::make_unique<char[]>(block));
    attribute_used_ = 0;
  }
  char* place = attribute_blocks_[attribute_block_].get() + attribute_used_;
  attribute_used_ += rounded;
  std::memcpy(place, bytes, count);
  return place;
}

template <class eT>
const std::uint32_t* Graph<eT>::upload_indices(const std::uint32_t* indices, std::size_t count) {
  void* place = arena_.take(count * sizeof(std::uint32_t));
  backend().upload(place, indices, count * sizeof(std::uint32_t));
  return static_cast<const std::uint32_t*>(place);
}

template <class eT>
std::uint32_t Graph<eT>::add_labels(const arma::Row<std::size_t>& y) {
  // The tape keeps this vector for the next step's labels.
  index_buffer_.clear();
  std::uint32_t largest = 0;
  for (const std::size_t label : y) {
    if (label >= no_node) throw ValueError(fmt::format("labels: {} is no class index", label));
    index_buffer_.push_back(static_cast<std::uint32_t>(label));
    largest = std::max(largest, index_buffer_.back());
  }
  labels_.push_back({upload_indices(index_buffer_.data(), index_buffer_.size()), static_cast<std::uint32_t>(y.n_elem),
                     largest, no_node});
  return static_cast<std::uint32_t>(labels_.size() - 1);
}

template <class eT>
std::uint32_t Graph<eT>::add_labels(std::uint32_t count, std::uint32_t largest) {
  void* const place = arena_.take(count * sizeof(std::uint32_t));
  labels_.push_back({static_cast<const std::uint32_t*>(place), count, largest, no_node});
  return static_cast<std::uint32_t>(labels_.size() - 1);
}

template <class eT>
std::uint32_t Graph<eT>::record(const OperationInfo<eT>& op, const std::uint32_t* operands, std::size_t count,
                                const void* attributes) {
  return record_number<any_number>(op, operands, count, attributes);
}

// With the number of operands known, a small node takes a third fewer instructions.
template <class eT>
template <std::size_t number>
[[gnu::always_inline]] inline std::uint32_t Graph<eT>::record_number(const OperationInfo<eT>& op,
                                                                     const std::uint32_t* operands, std::size_t given,
                                                                     const void* attributes) {
  const std::size_t count = number == any_number ? given : number;
  std::array<Shape, number == any_number ? 4 : number> few;
  Shape* shapes = few.data();
  if (count > few.size()) [[unlikely]] {
    long_shapes_.resize(count);
    shapes = long_shapes_.data();
  }
  unsigned flags = 0;
  for (std::size_t k = 0; k < count; ++k) {
    Node<eT>& n = node(operands[k]);
    shapes[k] = n.shape;
    flags |= n.flags;
    if (mode_ != Mode::first_order && n.uses != 255) ++n.uses;
  }
  if ((flags & Node<eT>::elsewhere) != 0) [[unlikely]]
    for (std::size_t k = 0; k < count; ++k) require_here(op.name, node(operands[k]));
  Operands in(op.name, op.operand_names, shapes, count, attributes, this,
              [](const void* graph) { return static_cast<const Graph*>(graph)->module_path(); });
  const Shape shape = op.shape(in);
  if (shape.size() >> 58 != 0) in.fail("the result, " + to_string(shape) + ", has more elements than memory can hold");

  const std::uint32_t index = size_;
  Node<eT>& n = append();
  n.op = &op;
  n.shape = shape;
  n.operand_count = static_cast<std::uint8_t>(count);
  if (count <= 3) {
    for (std::size_t k = 0; k < count; ++k) n.operands[k] = operands[k];
  } else {
    n.operands[0] = static_cast<std::uint32_t>(long_operands_.size());
    long_operands_.insert(long_operands_.end(), operands, operands + count);
  }
  if ((flags & Node<eT>::needs_gradient) != 0 && gradients_enabled_ && op.vjp != nullptr)
    n.flags |= Node<eT>::needs_gradient;
  if (op.attribute_bytes > 0) n.attributes = keep_attributes(attributes, op.attribute_bytes);
  for (std::uint8_t k = 1; k < op.results; ++k) {
    Node<eT>& r = append();
    r.op = &further_result<eT>;
    r.shape = in.extra_[k - 1];
    r.result = k;
    r.flags = node(index).flags;
  }
  if (mode_ != Mode::eager || op.lazy) return index;
  if (op.alias != nullptr) {
    n.value = const_cast<eT*>(value(operands[0]).data) + op.alias(in);
    return index;
  }
  try {
    if (op.kernel != nullptr) {
      n.value = static_cast<eT*>(arena_.take(shape.size() * sizeof(eT)));
      run_kernel<number>(n, operands, n.value, eT(0));
    } else {
      compute(index);
    }
  } catch (const DeviceError& e) {
    pop_to(index);  // a failed operation leaves no half-made node behind
    tell_for(op.name, e);
  } catch (...) {
    pop_to(index);
    throw;
  }
  return index;
}

template <class eT>
void Graph<eT>::require_here(const char* operation, const Node<eT>& leaf) const {
  if ((leaf.flags & Node<eT>::elsewhere) == 0) return;
  const auto& storage = *static_cast<const ParameterStorage<eT>*>(leaf.attributes);
  const std::string path = module_path();
  throw DeviceError(fmt::format("{}: {} is on {}, the tape on {}; move it with `to(device)` before{}", operation,
                                storage.name, storage.device.name(), device_.name(),
                                path.empty() ? "" : fmt::format(" [in {}]", path)));
}

template <class eT>
std::uint32_t Graph<eT>::leaf(const OperationInfo<eT>& op, Shape shape, bool needs_gradient) {
  void* memory = nullptr;
  try {
    memory = arena_.take(shape.size() * sizeof(eT));
  } catch (const DeviceError& e) {
    tell_for(op.name, e);
  }
  const std::uint32_t index = size_;
  Node<eT>& n = append();
  n.op = &op;
  n.shape = shape;
  n.value = static_cast<eT*>(memory);
  n.flags = Node<eT>::is_leaf;
  if (needs_gradient && gradients_enabled_) n.flags |= Node<eT>::needs_gradient;
  return index;
}

template <class eT>
std::uint32_t Graph<eT>::aliasing_leaf(const OperationInfo<eT>& op, Shape shape, const eT* value) {
  const std::uint32_t index = size_;
  Node<eT>& n = append();
  static eT nothing;  // an empty matrix may have no memory, but no value means that it is yet to be computed
  n.op = &op;
  n.shape = shape;
  n.value = value != nullptr ? const_cast<eT*>(value) : &nothing;
  n.flags = Node<eT>::is_leaf;
  return index;
}

template <class eT>
std::uint32_t Graph<eT>::parameter(const std::shared_ptr<ParameterStorage<eT>>& storage) {
  const bool needs_gradient = storage->trainable && gradients_enabled_;
  // One leaf for all uses, so that a gradient by the parameter, also a differentiable one, has one place to be.
  for (const std::uint32_t i : parameter_leaves_) {
    const Node<eT>& n = node(i);
    if (n.attributes == storage.get() && n.version == storage->version && n.value == storage->value &&
        ((n.flags & Node<eT>::needs_gradient) != 0) == needs_gradient)
      return i;
  }
  keep_alive(storage);
  const std::uint32_t index = aliasing_leaf(parameter_leaf<eT>, storage->shape, storage->value);
  Node<eT>& n = node(index);
  n.attributes = storage.get();
  n.version = storage->version;
  if (needs_gradient) n.flags |= Node<eT>::needs_gradient;
  if (!(storage->device == device_)) n.flags |= Node<eT>::elsewhere;
  parameter_leaves_.push_back(index);
  return index;
}

// Computing.

// As Eval::command and Eval::run, without the way through the operation.
template <class eT>
template <std::size_t number>
[[gnu::always_inline]] inline void Graph<eT>::run_kernel(const Node<eT>& n, const std::uint32_t* operands,
                                                         eT* destination, eT beta) {
  Command<eT> c;
  c.kernel = n.op->kernel;
  const std::size_t count = number == any_number ? n.operand_count : number;
  for (std::size_t k = 0; k < count; ++k) c.in[k] = value(operands[k]);
  c.out = {destination, n.shape.rows, n.shape.cols, n.shape.rows};
  c.beta = beta;
  c.attributes = n.attributes;
  run(c, n.op->name);
}

template <class eT>
void Graph<eT>::evaluate(std::uint32_t i, eT* destination, eT beta, const ParameterUpdate<eT>* update) {
  const Node<eT>& n = node(i);
  if (n.op->kernel != nullptr) {
    std::uint32_t operands[4];
    for (std::size_t k = 0; k < n.operand_count; ++k) operands[k] = operand(n, k);
    return run_kernel<any_number>(n, operands, destination, beta);
  }
  Eval<eT> e(*this, i, View<eT>{destination, n.shape.rows, n.shape.cols, n.shape.rows});
  e.beta = beta;
  e.update = update;
  n.op->eval(e);
}

// Gives node i its value.
template <class eT>
void Graph<eT>::compute(std::uint32_t i) {
  i -= node(i).result;
  if (i >= first_pending_) return compute_pending(i);
  const std::uint32_t end = i + node(i).op->results;
  for (std::uint32_t k = i; k < end; ++k)
    if (Node<eT>& r = node(k); r.value == nullptr) r.value = static_cast<eT*>(arena_.take(r.shape.size() * sizeof(eT)));
  evaluate(i, node(i).value, eT(0));
}

// In a rule the memory is borrowed, and is operand 0's when nobody else will read that.
template <class eT>
void Graph<eT>::compute_pending(std::uint32_t i) {
  Node<eT>& n = node(i);
  if (const std::uint32_t first = operand(n, 0); n.op->in_place && first >= first_pending_) {
    value(first);
    Node<eT>& o = node(first);
    if (o.flags & Node<eT>::owns_value && o.version == 1 && o.shape == n.shape) {
      n.value = o.value;
      n.flags |= Node<eT>::owns_value;
      o.flags &= ~Node<eT>::owns_value;
    }
  }
  for (std::uint8_t k = 0; k < n.op->results; ++k) {
    Node<eT>& r = node(i + k);
    if (r.value != nullptr) continue;
    r.value = new_buffer(r.shape);
    r.flags |= Node<eT>::owns_value;
  }
  evaluate(i, n.value, eT(0));
  for (std::size_t k = 0; k < n.operand_count; ++k) consumed(operand(n, k));
}

template <class eT>
typename Eval<eT>::Factor Graph<eT>::factor(std::uint32_t i) {
  bool transposed = false;
  eT scale = 1;
  while (node(i).value == nullptr) {
    const Node<eT>& n = node(i);
    if (n.op == &operation_info<Transpose, eT>)
      transposed = !transposed;
    else if (n.op == scale_info<eT>())
      scale *= static_cast<eT>(static_cast<const ScalarAttributes*>(n.attributes)->p);
    else
      break;
    i = n.operands[0];
  }
  return {value(i), transposed, scale};
}

template <class eT>
arma::Mat<eT> Graph<eT>::download(const eT* data, Shape shape) const {
  arma::Mat<eT> out(shape.rows, shape.cols, arma::fill::none);
  backend().download(out.memptr(), data, shape.size() * sizeof(eT));
  return out;
}

template <class eT>
void Graph<eT>::copy_into(View<const eT> from, eT* to, eT alpha, eT beta) {
  Command<eT> c;
  c.kernel = &kernels<eT>::copy;
  c.in[0] = from;
  c.out = {to, from.rows, from.cols, from.rows};
  c.alpha = alpha;
  c.beta = beta;
  run(c, "copy");
}

// Backward.

template <class eT>
void Graph<eT>::check_version(std::uint32_t i) const {
  while (node(i).op->alias != nullptr || node(i).op->lazy) i = node(i).operands[0];  // these show operand 0's memory
  const Node<eT>& n = node(i);
  if (n.op != &parameter_leaf<eT>) return;
  const auto& storage = *static_cast<const ParameterStorage<eT>*>(n.attributes);
  if (storage.version != n.version)
    throw StateError(
        fmt::format("backward: {} ({}) was changed after the forward pass read it; call backward before "
                    "the optimizer's step, or record the forward pass again",
                    storage.name, to_string(storage.shape)));
}

template <class eT>
void Graph<eT>::forget_gradients(std::uint32_t root) {
  for (std::uint32_t i = 0; i <= root; ++i)
    if (!(node(i).flags & Node<eT>::is_leaf)) node(i).gradient = nullptr;
}

namespace {
template <class eT>
void check_root(const char* what, const Graph<eT>& graph, std::uint32_t root) {
  using N = Node<eT>;
  const N& n = graph.node(root);
  const Shape shape = n.shape;
  if (!shape.is_scalar())
    throw ShapeError(
        fmt::format("{}: the Var is {}; only a 1x1 Var has a gradient: reduce it first, for example with "
                    "accu or mean",
                    what, to_string(shape)));
  if ((n.flags & N::needs_gradient) != 0) return;
  for (std::size_t k = 0; k < n.operand_count; ++k)
    if (n.op->vjp == nullptr && (graph.node(graph.operand(n, k)).flags & N::needs_gradient) != 0)
      throw StateError(fmt::format("{}: {} has no gradient", what, n.op->name));
  throw StateError(
      fmt::format("{}: nothing this Var was computed from requires a gradient; make the inputs with "
                  "tape.variable, use trainable parameters, and record outside of no_grad",
                  what));
}
}  // namespace

template <class eT>
void Graph<eT>::fill(eT* to, Shape shape, eT alpha, eT beta) {
  Command<eT> c;
  c.kernel = &kernels<eT>::fill;
  c.out = {to, shape.rows, shape.cols, shape.rows};
  c.alpha = alpha;
  c.beta = beta;
  run(c, "fill");
}

template <class eT>
std::uint32_t Graph<eT>::constant(Shape shape, eT value) {
  const std::uint32_t i = leaf(constant_leaf<eT>, shape, false);
  fill(node(i).value, shape, value, eT(0));
  return i;
}

// Where a contribution to n's gradient goes; beta = 0 for the first one.
template <class eT>
eT* Graph<eT>::gradient_destination(Node<eT>& n, eT& beta) {
  if (n.op == &parameter_leaf<eT>) {
    auto& storage = *static_cast<ParameterStorage<eT>*>(const_cast<void*>(n.attributes));
    if (storage.gradient == nullptr)
      storage.gradient = static_cast<eT*>(backend().allocate(n.shape.size() * sizeof(eT)));
    auto* list = capturing<eT>;
    if (list != nullptr && list->written.insert(&storage).second && storage.has_gradient)
      throw StateError(
          fmt::format("capture: {} holds a gradient from before the step, and a replay could not know whether "
                      "to add to it; call zero_grad within the step, before backward",
                      storage.name));
    beta = storage.has_gradient ? eT(1) : eT(0);
    storage.has_gradient = true;
    // A replay writes the gradient again, whatever zero_grad was called outside of it.
    if (list != nullptr) list->after.push_back([s = &storage] { s->has_gradient = true; });
    return storage.gradient;
  }
  beta = n.gradient != nullptr ? eT(1) : eT(0);
  if (n.gradient == nullptr) n.gradient = new_buffer(n.shape);
  return n.gradient;
}

template <class eT>
static void forget_gradient(Node<eT>& n) {
  if (n.op == &parameter_leaf<eT>)
    static_cast<ParameterStorage<eT>*>(const_cast<void*>(n.attributes))->has_gradient = false;
  else
    n.gradient = nullptr;
}

// Marks what depends on one of `from`, so that a pass for these alone computes nothing else.
template <class eT>
void Graph<eT>::mark_dependents(std::uint32_t root, std::span<const std::uint32_t> from) {
  using N = Node<eT>;
  for (std::uint32_t i = 0; i <= root; ++i) node(i).flags &= ~N::wanted;
  for (const std::uint32_t w : from) node(w).flags |= N::wanted;
  for (std::uint32_t i = 0; i <= root; ++i) {
    N& n = node(i);
    if (n.flags & N::is_leaf || !(n.flags & N::needs_gradient)) continue;
    if (n.result != 0) n.flags |= node(i - n.result).flags & N::wanted;
    for (std::size_t k = 0; k < n.operand_count; ++k) n.flags |= node(operand(n, k)).flags & N::wanted;
  }
}

template <class eT>
void Graph<eT>::backward(std::uint32_t root, std::span<const std::uint32_t> wanted, std::uint32_t seed) {
  using N = Node<eT>;
  if (seed == no_node) check_root("backward", *this, root);
  begin_pass(root, wanted, "backward");
  for (const std::uint32_t r : retained_) {
    if (node(r).gradient != nullptr && !captured_) drop_buffer(node(r).gradient, node(r).shape);
    node(r).gradient = nullptr;
  }
  for (const std::uint32_t w : wanted)
    if (!(node(w).flags & N::is_leaf)) keep_gradient(w);
  std::uint32_t i = root + 1;
  in_backward_ = true;
  try {
    eT beta;
    eT* first = gradient_destination(node(root), beta);
    if (seed == no_node)
      fill(first, node(root).shape, eT(1), beta);
    else
      copy_into(value(seed), first, eT(1), beta);
    while (i-- > 0)
      if (reached(i)) run_rule(i);
  } catch (const DeviceError& e) {
    in_backward_ = false;
    forget_gradients(root);
    tell_for(fmt::format("backward of {}", node(std::min(i, root)).op->name), e);
  } catch (...) {
    in_backward_ = false;
    forget_gradients(root);
    throw;
  }
  in_backward_ = false;
}

template <class eT>
std::vector<std::uint32_t> Graph<eT>::gradients(std::uint32_t root, std::span<const std::uint32_t> xs,
                                                std::uint32_t seed) {
  using N = Node<eT>;
  if (seed == no_node) check_root("grad", *this, root);
  begin_pass(root, xs, "grad");
  if (seed == no_node) seed = constant(node(root).shape, eT(1));
  gradient_of_.assign(root + 1, 0);
  gradient_of_[root] = seed + 1;
  std::vector<std::uint32_t> out;
  try {
    for (std::uint32_t i = root + 1; i-- > 0;) {
      const N& n = node(i);
      if (n.flags & N::is_leaf || n.result != 0) continue;
      bool has = false;
      for (std::uint8_t k = 0; k < n.op->results; ++k) has |= i + k <= root && gradient_of_[i + k] != 0;
      if (has) run_rule(i);
    }
    for (const std::uint32_t x : xs) {
      const bool reached_x = x <= root && gradient_of_[x] != 0;
      out.push_back(reached_x ? gradient_of_[x] - 1 : constant(node(x).shape, eT(0)));
    }
  } catch (...) {
    gradient_of_.clear();
    throw;
  }
  gradient_of_.clear();
  return out;
}

template <class eT>
void Graph<eT>::begin_pass(std::uint32_t root, std::span<const std::uint32_t> wanted, const char* what) {
  using N = Node<eT>;
  restricted_ = !wanted.empty();
  if (!restricted_) return;
  for (const std::uint32_t w : wanted)
    if (!(node(w).flags & N::needs_gradient))
      throw StateError(fmt::format("{}: Var {} ({}) does not require a gradient; make it with tape.variable", what, w,
                                   to_string(node(w).shape)));
  mark_dependents(root, wanted);
}

template <class eT>
bool Graph<eT>::reached(std::uint32_t i) const {
  const Node<eT>& n = node(i);
  if (n.flags & Node<eT>::is_leaf || n.result != 0) return false;
  for (std::uint8_t k = 0; k < n.op->results; ++k)
    if (node(i + k).gradient != nullptr) return true;
  return false;
}

template <class eT>
void Graph<eT>::keep_gradient(std::uint32_t i) {
  if (node(i).flags & Node<eT>::keeps_gradient) return;
  node(i).flags |= Node<eT>::keeps_gradient;
  if (!(node(i).flags & Node<eT>::is_leaf)) retained_.push_back(i);
}

// Runs one rule and routes its contributions.
template <class eT>
void Graph<eT>::run_rule(std::uint32_t i) {
  Node<eT>& n = node(i);
  const bool first_order = gradient_of_.empty();
  for (std::size_t k = 0; k < n.operand_count; ++k) check_version(operand(n, k));
  rule_node_ = i;
  if (first_order && n.op->direct != nullptr && n.op->direct(*this, i)) return;
  const std::uint32_t before = size_;
  const std::size_t attributes_before = attribute_used_;
  const std::size_t attribute_block_before = attribute_block_;
  const std::size_t operands_before = long_operands_.size();
  const bool gradients_before = gradients_enabled_;
  ++state_->serial;
  std::fill(std::begin(rule_gradients_), std::end(rule_gradients_), no_node);
  contributions_.clear();
  try {
    mode_ = first_order ? Mode::first_order : Mode::differentiable;
    gradients_enabled_ = !first_order && gradients_before;
    Rule<eT> rule(*this, i);
    n.op->vjp(rule);
    mode_ = Mode::eager;
    gradients_enabled_ = gradients_before;
    if (first_order) {
      first_pending_ = before;
      settle();
      first_pending_ = no_node;
    } else {
      settle_differentiable(before);
    }
  } catch (...) {
    mode_ = Mode::eager;
    gradients_enabled_ = gradients_before;
    first_pending_ = no_node;
    if (first_order) pop_to(before);
    throw;
  }
  if (!first_order) return;
  for (std::uint8_t k = 0; k < n.op->results; ++k) {  // what no rule took over
    Node<eT>& r = node(i + k);
    if (r.gradient == nullptr || r.flags & Node<eT>::keeps_gradient) continue;
    consume_gradient(i + k);
  }
  pop_to(before);
  ++state_->serial;
  if (capturing<eT> == nullptr) {  // captured commands go on reading their attributes
    attribute_used_ = attributes_before;
    attribute_block_ = attribute_block_before;
  }
  long_operands_.resize(operands_before);
}

template <class eT>
void Graph<eT>::pop_to(std::uint32_t size) {
  size_ = size;
  if (size >= kept_end_) return;
  std::erase_if(kept_nodes_, [size](const KeptNode& k) { return k.of >= size || k.node >= size; });
  kept_end_ = size;
}

template <class eT>
std::uint32_t Graph<eT>::kept(std::uint32_t of, const void* kind, bool differentiable) const {
  const bool needs_gradient = differentiable && gradients_enabled_ && node(of).flags & Node<eT>::needs_gradient;
  auto k = std::lower_bound(kept_nodes_.begin(), kept_nodes_.end(), of,
                            [](const KeptNode& a, std::uint32_t b) { return a.of < b; });
  for (; k != kept_nodes_.end() && k->of == of; ++k)
    if (k->kind == kind &&
        (!differentiable || first_order() || ((node(k->node).flags & Node<eT>::needs_gradient) != 0) == needs_gradient))
      return k->node;
  return no_node;
}

template <class eT>
void Graph<eT>::keep(std::uint32_t of, const void* kind, std::uint32_t as) {
  const auto at = std::upper_bound(kept_nodes_.begin(), kept_nodes_.end(), of,
                                   [](std::uint32_t a, const KeptNode& b) { return a < b.of; });
  kept_nodes_.insert(at, {of, as, kind});
  kept_end_ = std::max(kept_end_, std::max(of, as) + 1);
}

template <class eT>
bool Graph<eT>::rule_has_gradient(std::uint32_t i, std::size_t k) const {
  const auto at = static_cast<std::uint32_t>(i + k);
  if (!gradient_of_.empty()) return at < gradient_of_.size() && gradient_of_[at] != 0;
  return node(at).gradient != nullptr || rule_gradients_[k] != no_node;
}

// The incoming gradient as a node. In a first-order pass it owns the buffer, which the rule's last reader may take.
template <class eT>
std::uint32_t Graph<eT>::rule_gradient(std::uint32_t i, std::size_t k) {
  const auto at = static_cast<std::uint32_t>(i + k);
  if (mode_ == Mode::differentiable) {
    if (rule_has_gradient(i, k)) return gradient_of_[at] - 1;
  } else if (rule_gradients_[k] != no_node) {
    return rule_gradients_[k];
  }
  Node<eT>& source = node(at);
  if (source.gradient == nullptr || mode_ == Mode::differentiable) {  // only result 1 has one: this one's is zero
    return rule_gradients_[k] = constant(source.shape, eT(0));
  }
  const std::uint32_t g = aliasing_leaf(gradient_leaf<eT>, source.shape, source.gradient);
  if (!(source.flags & Node<eT>::keeps_gradient)) {
    node(g).flags |= Node<eT>::owns_value;
    source.gradient = nullptr;
  }
  return rule_gradients_[k] = g;
}

template <class eT>
void Graph<eT>::accumulate(std::uint32_t operand, Var<eT> contribution) {
  if (!wants_gradient(operand)) return;
  if (&contribution.graph() != this)
    throw StateError(fmt::format("the rule of {}: a contribution belongs to another tape", node(rule_node_).op->name));
  const Shape shape = node(operand).shape, given = contribution.shape();
  if (!(given == shape)) {
    if ((shape.rows != 1 && shape.rows != given.rows) || (shape.cols != 1 && shape.cols != given.cols))
      throw ShapeError(
          fmt::format("the rule of {}: a contribution is {}, its operand {}; they must be equal, or the "
                      "operand's dimension 1",
                      node(rule_node_).op->name, to_string(given), to_string(shape)));
    contribution = sum_to(contribution, shape);
  }
  contributions_.push_back({operand, contribution.index()});
}

// Counts, for every pending node from `first` on that a contribution needs, how often it will be read.
template <class eT>
void Graph<eT>::count_uses(std::uint32_t first) {
  for (std::uint32_t i = first; i < size_; ++i) node(i).version = 0;
  for (const Contribution& c : contributions_)
    if (c.node >= first) ++node(c.node).version;
  for (std::uint32_t i = size_; i-- > first;) {
    const Node<eT>& n = node(i);
    if (n.version == 0 || n.value != nullptr) continue;
    if (n.result != 0) {
      ++node(i - n.result).version;
      continue;
    }
    for (std::size_t k = 0; k < n.operand_count; ++k)
      if (const std::uint32_t o = operand(n, k); o >= first) ++node(o).version;
  }
}

template <class eT>
bool Graph<eT>::direct_step(std::uint32_t i, const Kernel<eT>& kernel) {
  using N = Node<eT>;
  N& n = node(i);
  const std::uint32_t operand = n.operands[0];
  if (!wants_gradient(operand)) return false;
  N& x = node(operand);
  const bool keeps = !may_consume(i);
  const bool in_place = !keeps && x.gradient == nullptr && x.op != &parameter_leaf<eT>;
  Command<eT> c;
  c.kernel = &kernel;
  c.in[0] = c.out = gradient(i);
  c.in[1] = value(operand);
  c.in[2] = value(i);
  c.attributes = n.attributes;
  if (!in_place) c.out.data = gradient_destination(x, c.beta);
  run(c, n.op->name);
  if (in_place)
    x.gradient = std::exchange(n.gradient, nullptr);
  else if (!keeps)
    consume_gradient(i);
  return true;
}

template <class eT>
bool Graph<eT>::hand_on(std::uint32_t i, eT second) {
  using N = Node<eT>;
  N& n = node(i);
  const std::uint32_t to[] = {n.operands[0], n.operands[1]};
  for (const std::uint32_t k : to)
    if (!(node(k).shape == n.shape) || node(k).op == &parameter_leaf<eT>) return false;
  const bool keeps = !may_consume(i);
  for (const int k : {1, 0}) {  // the second first: what the first takes over is no longer ours
    if (!wants_gradient(to[k])) continue;
    N& x = node(to[k]);
    if (k == 0 && !keeps && x.gradient == nullptr) {
      x.gradient = std::exchange(n.gradient, nullptr);
      return true;
    }
    eT beta;
    eT* destination = gradient_destination(x, beta);
    copy_into(gradient(i), destination, k == 0 ? eT(1) : second, beta);
  }
  if (!keeps) consume_gradient(i);
  return true;
}

// The optimizer's step that a parameter's gradient may be written as. One node alone names the parameter, so that
// nobody reads it later in the pass.
template <class eT>
ParameterUpdate<eT>* Graph<eT>::awaited_step(const Node<eT>& parameter) const {
  // In a checkpoint the parameter may be used outside as well.
  if (parameter.op != &parameter_leaf<eT> || parameter.uses != 1 || is_scratch() || !on_host_) return nullptr;
  return static_cast<const ParameterStorage<eT>*>(parameter.attributes)->update;
}

// Whether the contribution is all of a parameter's gradient, in a form that can write the parameter itself.
template <class eT>
bool Graph<eT>::can_step(const Contribution& c) const {
  const Node<eT>& from = node(c.node);
  if (c.node < first_pending_ || !from.op->steps || from.version != 1 || from.value != nullptr) return false;
  if (awaited_step(node(c.operand)) == nullptr) return false;
  std::size_t contributions = 0;
  for (const Contribution& other : contributions_) contributions += other.operand == c.operand;
  return contributions == 1;
}

namespace {
template <class eT>
eT* destination(const ParameterUpdate<eT>& update, const void* storage, eT& beta) {
  beta = update.velocity == nullptr || update.started ? eT(1) : eT(0);
  return update.velocity == nullptr ? static_cast<const ParameterStorage<eT>*>(storage)->value : update.velocity;
}
template <class eT>
void stepped(ParameterUpdate<eT>& update) {
  update.done = true;
  if (auto* list = capturing<eT>) list->commands.back().beta = 1;  // a replay goes on with the velocity
}
}  // namespace

template <class eT>
void Graph<eT>::step(const Contribution& c) {
  const Node<eT>& to = node(c.operand);
  ParameterUpdate<eT>& update = *awaited_step(to);
  eT beta;
  eT* const out = destination(update, to.attributes, beta);
  evaluate(c.node, out, beta, &update);
  stepped(update);
  consumed(c.node);
}

template <class eT>
void Graph<eT>::give(std::uint32_t to, Command<eT> c, const char* operation) {
  Node<eT>& n = node(to);
  c.out = {nullptr, n.shape.rows, n.shape.cols, n.shape.rows};
  const bool steps = c.kernel == &kernels<eT>::gemm || c.kernel == &kernels<eT>::sum;
  if (ParameterUpdate<eT>* update = steps ? awaited_step(n) : nullptr) {
    c.out.data = destination(*update, n.attributes, c.beta);
    update->put_into(c);
    run(c, operation);
    return stepped(*update);
  }
  c.out.data = gradient_destination(n, c.beta);
  try {
    run(c, operation);
  } catch (...) {  // what was never written is no gradient
    if (c.beta == eT(0)) forget_gradient(n);
    throw;
  }
}

// Whether the value of node i, if it is pending, is made of a leaf's.
template <class eT>
bool Graph<eT>::reads(std::uint32_t i, std::uint32_t leaf) const {
  if (i == leaf) return true;
  const Node<eT>& n = node(i);
  if (n.result != 0) return reads(i - n.result, leaf);
  if (i < first_pending_ && !n.op->lazy && n.op->alias == nullptr) return false;
  for (std::size_t k = 0; k < n.operand_count; ++k)
    if (reads(operand(n, k), leaf)) return true;
  return false;
}

// Steps come after all other contributions, which read the parameter as it was; of two that read each other's parameter
// one is a contribution.
template <class eT>
bool Graph<eT>::may_step(const Contribution& c) const {
  if (!can_step(c)) return false;
  return awaited_step(node(c.operand))->velocity != nullptr ||
         std::none_of(contributions_.begin(), contributions_.end(), [&](const Contribution& other) {
           return other.operand != c.operand && can_step(other) && reads(other.node, c.operand);
         });
}

template <class eT>
void Graph<eT>::settle() {
  count_uses(first_pending_);
  bool steps = false;
  for (const Contribution& c : contributions_) {
    if (may_step(c))
      steps = true;
    else
      contribute(c.operand, c.node);
  }
  if (steps)
    for (const Contribution& c : contributions_)
      if (can_step(c)) step(c);
  for (std::uint32_t i = first_pending_; i < size_; ++i) {
    Node<eT>& n = node(i);
    if (n.flags & Node<eT>::owns_value) drop_buffer(n.value, n.shape);
  }
}

// One reader of a pending node is done. One that was only looked through was the reader of its own operands.
template <class eT>
void Graph<eT>::consumed(std::uint32_t i) {
  if (i < first_pending_) return;
  Node<eT>& n = node(i);
  if (--n.version != 0) return;
  if (n.value == nullptr) {
    for (std::size_t k = 0; k < n.operand_count; ++k) consumed(operand(n, k));
  } else if (n.flags & Node<eT>::owns_value) {
    drop_buffer(n.value, n.shape);
    n.flags &= ~Node<eT>::owns_value;
  }
}

template <class eT>
void Graph<eT>::contribute(std::uint32_t operand, std::uint32_t contribution) {
  using N = Node<eT>;
  N& to = node(operand);
  N& from = node(contribution);
  const bool last_use = contribution >= first_pending_ && from.version == 1;
  // The first contribution is moved, not copied.
  if (last_use && to.gradient == nullptr && to.op != &parameter_leaf<eT>) {
    value(contribution);
    if (from.flags & N::owns_value) {
      to.gradient = from.value;
      from.flags &= ~N::owns_value;
      from.version = 0;
      return;
    }
  }
  eT beta;
  eT* destination = gradient_destination(to, beta);
  try {
    if (last_use && from.value == nullptr && from.result == 0 && from.op->results == 1 &&
        (from.op->accumulates || beta == eT(0)))
      evaluate(contribution, destination, beta);
    else
      copy_into(value(contribution), destination, eT(1), beta);
  } catch (...) {  // what was never written is no gradient
    if (beta == eT(0)) forget_gradient(to);
    throw;
  }
  consumed(contribution);
}

// In a differentiable pass the pending nodes stay: compute those that contribute and add up Vars.
template <class eT>
void Graph<eT>::settle_differentiable(std::uint32_t first) {
  count_uses(first);
  for (std::uint32_t i = first; i < size_; ++i) {
    Node<eT>& n = node(i);
    const bool needed = n.version != 0;
    if (n.op != &parameter_leaf<eT>) n.version = 0;
    if (needed && n.value == nullptr && !n.op->lazy) compute(i);
  }
  for (const Contribution& c : contributions_) {
    std::uint32_t& so_far = gradient_of_[c.operand];
    so_far = so_far == 0 ? c.node + 1 : (var(so_far - 1) + var(c.node)).index() + 1;
  }
}

template <class eT>
static std::string on_devices(const Graph<eT>& a, const Graph<eT>& b) {
  if (a.device() == b.device()) return "";
  return fmt::format(", on {} and on {}", a.device().name(), b.device().name());
}

namespace {
template <class eT>
[[noreturn]] void fail_other_tape(const OperationInfo<eT>& info, const Graph<eT>& first, const Graph<eT>& other,
                                  std::size_t k) {
  if (first.is_scratch() || other.is_scratch()) fail_outside(info.name);
  throw StateError(
      fmt::format("{}: operands 1 and {} belong to different tapes{}; bring one over with "
                  "tape.constant(x.value())",
                  info.name, k + 1, on_devices(first, other)));
}
}  // namespace

template <std::size_t number, class eT>
Var<eT> record(const OperationInfo<eT>& info, const Var<eT>* operands, std::size_t given, const void* attributes) {
  const std::size_t count = number == any_number ? given : number;
  Graph<eT>& graph = operands[0].graph();
  std::array<std::uint32_t, number == any_number ? 4 : number> few;
  std::uint32_t* indices = few.data();
  if (count > few.size()) [[unlikely]] {
    graph.index_buffer().resize(count);
    indices = graph.index_buffer().data();
  }
  indices[0] = operands[0].index();
  for (std::size_t k = 1; k < count; ++k) {
    if (&operands[k].graph() != &graph) [[unlikely]]
      fail_other_tape(info, graph, operands[k].graph(), k);
    indices[k] = operands[k].index();
  }
  return graph.var(graph.template record_number<number>(info, indices, count, attributes));
}

template <class eT>
Var<eT> result_of(Var<eT> first, std::size_t k) {
  return first.graph().var(first.index() + static_cast<std::uint32_t>(k));
}

#define ARMAGRAD_INSTANTIATE(number)                                                                            \
  template Var<float> record<number>(const OperationInfo<float>&, const Var<float>*, std::size_t, const void*); \
  template Var<double> record<number>(const OperationInfo<double>&, const Var<double>*, std::size_t, const void*);
ARMAGRAD_INSTANTIATE(1)
ARMAGRAD_INSTANTIATE(2)
ARMAGRAD_INSTANTIATE(3)
ARMAGRAD_INSTANTIATE(any_number)
#undef ARMAGRAD_INSTANTIATE
template Var<float> result_of(Var<float>, std::size_t);
template Var<double> result_of(Var<double>, std::size_t);

template class Graph<float>;
template class Graph<double>;

}  // namespace detail
}  // namespace armagrad
