// The engine behind Tape. A recording is a row of `Node`s in chunks that never move; a node names its operation's
// table entry, its operands by index, and where its value lies in the arena. Start reading at `record`, then
// `backward`, then `run_rule`.
//
// Nodes beyond those of the user: while a derivative rule runs, the operations it calls append nodes without computing
// them ("pending"). In a first-order pass `settle` then evaluates just what contributes, straight into gradients, and
// pops them. In a differentiable pass (`gradients`) they stay, evaluated, as part of the recording.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <armagrad/autodiff/device/arena.hpp>
#include <armagrad/autodiff/device/capture.hpp>
#include <armagrad/autodiff/device/device.hpp>
#include <armagrad/autodiff/device/threads.hpp>
#include <armagrad/autodiff/operation.hpp>
#include <armagrad/autodiff/parameter.hpp>
#include <armagrad/autodiff/tape.hpp>
#include <armagrad/autodiff/var.hpp>

namespace armagrad::detail {

template <class eT>
class Pushforward;
template <class eT>
class GradientsAside;
template <class eT>
class CheckpointAccess;
[[noreturn]] void fail_outside(const char* operation);

template <class eT>
struct Node {
  enum Flag : std::uint8_t {
    needs_gradient = 1,
    is_leaf = 2,
    keeps_gradient = 4,
    owns_value = 8,
    wanted = 16,
    elsewhere = 32
  };

  const OperationInfo<eT>* op;
  eT* value;               // null: pending (not computed yet)
  eT* gradient;            // null: nothing has flowed in
  const void* attributes;  // in host memory; of a parameter leaf its ParameterStorage
  Shape shape;
  std::uint32_t operands[3];  // node indices; beyond three, operands[0] is where they start in Graph::long_operands_
  std::uint32_t serial;
  std::uint32_t version;  // a parameter leaf: the parameter's version when recorded; a pending node: its unread uses
  std::uint8_t operand_count;
  std::uint8_t result;  // k: this is result k of the operation k nodes before
  std::uint8_t flags;
  std::uint8_t uses;  // a leaf: how often recorded operations name it, up to 255
};
static_assert(sizeof(Node<double>) <= 64);

/// Leaves are told apart by the address of their table entry.
template <class eT>
constexpr OperationInfo<eT> leaf_info(const char* name) {
  OperationInfo<eT> info{};
  info.name = name;
  info.results = 1;
  return info;
}
template <class eT>
inline constexpr OperationInfo<eT> constant_leaf = leaf_info<eT>("constant");
template <class eT>
inline constexpr OperationInfo<eT> borrowed_leaf = leaf_info<eT>("borrowed");
template <class eT>
inline constexpr OperationInfo<eT> variable_leaf = leaf_info<eT>("variable");
template <class eT>
inline constexpr OperationInfo<eT> parameter_leaf = leaf_info<eT>("parameter");
template <class eT>
inline constexpr OperationInfo<eT> gradient_leaf = leaf_info<eT>("gradient");
template <class eT>
inline constexpr OperationInfo<eT> further_result = leaf_info<eT>("result");

/// Class indices in device memory.
struct LabelSlot {
  const std::uint32_t* indices;
  std::uint32_t count;
  std::uint32_t largest;
  std::uint32_t classes;  // the rows of the logits they were used with; a replay accepts none from there on
};

template <class eT>
class Graph {
 public:
  explicit Graph(Device device);
  ~Graph();
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  // Recording.
  std::uint32_t record(const OperationInfo<eT>& op, const std::uint32_t* operands, std::size_t count,
                       const void* attributes);
  template <std::size_t number>
  std::uint32_t record_number(const OperationInfo<eT>& op, const std::uint32_t* operands, std::size_t given,
                              const void* attributes);
  /// A leaf with memory of its own, uninitialised.
  std::uint32_t leaf(const OperationInfo<eT>& op, Shape shape, bool needs_gradient);
  std::uint32_t aliasing_leaf(const OperationInfo<eT>& op, Shape shape, const eT* value);
  /// One on another device makes a leaf that no operation accepts.
  std::uint32_t parameter(const std::shared_ptr<ParameterStorage<eT>>& storage);
  void require_here(const char* operation, const Node<eT>& leaf) const;
  void rewind() noexcept;
  /// A point of the recording, for `rewind_to`: what was recorded since is forgotten and its memory given back. What
  /// backward has left on earlier nodes stays. During a capture nothing is forgotten, as the replay goes on using it.
  struct Mark {
    std::uint32_t size;
    Arena::Place place;
    std::size_t attribute_block, attribute_used, long_operands, kept, labels;
  };
  Mark mark() const {
    return {size_,        arena_.place(), attribute_block_, attribute_used_, long_operands_.size(),
            kept_.size(), labels_.size()};
  }
  void rewind_to(const Mark& mark);
  void set_gradients_enabled(bool enabled) { gradients_enabled_ = enabled; }
  bool gradients_enabled() const { return gradients_enabled_; }

  // Reading.
  Var<eT> var(std::uint32_t index) { return Var<eT>(state_, index, node(index).serial); }
  Node<eT>& node(std::uint32_t i) { return chunks_[i / chunk_size][i % chunk_size]; }
  const Node<eT>& node(std::uint32_t i) const { return chunks_[i / chunk_size][i % chunk_size]; }
  std::uint32_t size() const { return size_; }
  std::uint32_t operand(const Node<eT>& n, std::size_t k) const {
    return n.operand_count <= 3 ? n.operands[k] : long_operands_[n.operands[0] + k];
  }
  [[gnu::always_inline]] View<const eT> value(std::uint32_t i) {  // computes a pending node
    Node<eT>& n = node(i);
    if (n.value == nullptr) [[unlikely]]
      compute(i);
    return {n.value, n.shape.rows, n.shape.cols, n.shape.rows};
  }
  typename Eval<eT>::Factor factor(std::uint32_t i);
  arma::Mat<eT> download(const eT* data, Shape shape) const;

  // Backward.
  static constexpr std::uint32_t no_node = ~std::uint32_t{0};
  /// First order: adds d(root)/d(leaf) to the leaves' gradients; with `wanted`, to those leaves' alone. `seed` is the
  /// node of d/d(root), without it root must be 1x1 and it is 1.
  void backward(std::uint32_t root, std::span<const std::uint32_t> wanted, std::uint32_t seed = no_node);
  /// Differentiable: nodes holding d(root)/d(x) for each x.
  std::vector<std::uint32_t> gradients(std::uint32_t root, std::span<const std::uint32_t> xs,
                                       std::uint32_t seed = no_node);
  std::uint32_t rule_gradient(std::uint32_t node, std::size_t k);
  bool rule_has_gradient(std::uint32_t node, std::size_t k) const;
  void accumulate(std::uint32_t operand, Var<eT> contribution);
  bool wants_gradient(std::uint32_t i) const {
    return (node(i).flags & (restricted_ ? Node<eT>::wanted : Node<eT>::needs_gradient)) != 0;
  }
  void keep_gradient(std::uint32_t i);

  // Module calls, for error messages and summaries. `path` names a module from the chain of calls down to it.
  using ModulePath = std::string (*)(const void* const* modules, std::size_t count);
  void enter_call(const void* module, ModulePath path) {
    calls_.push_back(module);
    module_path_ = path;
  }
  void leave_call() { calls_.pop_back(); }
  void log_result(Shape result) {
    if (call_log_ != nullptr) call_log_->push_back({calls_.back(), result});
  }
  void log_calls(std::vector<CallRecord>* log) { call_log_ = log; }
  std::string module_path() const { return calls_.empty() ? "" : module_path_(calls_.data(), calls_.size()); }

  Device device() const { return device_; }
  Backend& backend() const { return device_.backend(); }
  /// Gives a command to the device on behalf of the named operation.
  void run(const Command<eT>& c, const char* operation) {
    if (captured_graph != nullptr || host_code_ < 0) [[unlikely]]
      run_slowly(c, operation);
    else
      run_here(c, host_code_);
  }
  // Short cuts of first-order steps (OperationInfo::direct), which give commands and record nothing. A step whose
  // gradient is to be kept takes the long way.
  /// Whether the node's gradient may be overwritten and given back.
  bool may_consume(std::uint32_t i) const { return (node(i).flags & Node<eT>::keeps_gradient) == 0; }
  View<eT> gradient(std::uint32_t i) {
    const Node<eT>& n = node(i);
    return {n.gradient, n.shape.rows, n.shape.cols, n.shape.rows};
  }
  /// Runs a command that is a contribution to node `to`'s gradient: with its `out` and `beta`, or, if it is a product
  /// or a sum, as the optimizer's step where `to` is a parameter that one waits for. What reads a parameter comes
  /// before.
  void give(std::uint32_t to, Command<eT> c, const char* operation);
  bool awaits_step(std::uint32_t i) const { return awaited_step(node(i)) != nullptr; }
  void consume_gradient(std::uint32_t i) {
    Node<eT>& n = node(i);
    drop_buffer(n.gradient, n.shape);
    n.gradient = nullptr;
  }
  /// The first-order step of a node with one operand and a fused derivative, kernel(gradient, x, y): in the gradient's
  /// own memory where nobody else has contributed.
  bool direct_step(std::uint32_t i, const Kernel<eT>& kernel);
  /// The first-order step of a + second * b, where both have the result's shape: its gradient goes to both.
  bool hand_on(std::uint32_t i, eT second);
  Arena& arena() { return arena_; }
  TapeState<eT>* state() const { return state_; }
  const void* keep_attributes(const void* bytes, std::size_t count);
  void keep_alive(std::shared_ptr<const void> object) { kept_.push_back(std::move(object)); }
  const std::uint32_t* upload_indices(const std::uint32_t* indices, std::size_t count);
  std::uint32_t constant(Shape shape, eT value);
  std::uint32_t add_labels(const arma::Row<std::size_t>& y);
  /// Room for labels that a command will write, none above `largest`.
  std::uint32_t add_labels(std::uint32_t count, std::uint32_t largest);
  LabelSlot& labels(std::uint32_t slot) { return labels_[slot]; }
  std::vector<std::uint32_t>& index_buffer() { return index_buffer_; }
  /// Counts the replays of the capture under way; outside of one it stays 0.
  const std::uint64_t* replays();
  /// Computes a node's value again where it stands, if anybody has asked for it.
  void refresh(std::uint32_t i) {
    if (node(i).value != nullptr) evaluate(i, node(i).value, eT(0));
  }
  /// Runs `step` with every command timed.
  void profile(Profile& into, const std::function<void()>& step);
  /// From now on buffers that are given back may still be used by a replay.
  void note_capture() {
    captured_ = true;
    arena_.forget_given_back();
  }
  /// A random operation's call count: the counter's next value, or what it was when a checkpoint's function ran first.
  std::uint64_t draw(std::uint64_t& counter) {
    if (draws_ == nullptr) return parent_ != nullptr ? parent_->draw(counter) : counter++;
    if (next_draw_ != log_draws) return next_draw_ < draws_->size() ? (*draws_)[next_draw_++] : counter;
    draws_->push_back(parent_ != nullptr ? parent_->draw(counter) : counter++);
    return draws_->back();
  }
  /// Whether functions given to checkpoint run here.
  bool is_scratch() const { return parent_ != nullptr; }
  /// Bytes of device memory held, by the tape for checkpoints as well.
  std::size_t capacity() const { return arena_.capacity() + (scratch_ == nullptr ? 0 : scratch_->graph().capacity()); }
  bool first_order() const { return mode_ == Mode::first_order; }
  /// Whether a rule may use operations without a derivative of their own.
  bool may_fuse() const { return first_order() || !gradients_enabled_; }

  // Factorisations. A recording remembers which node factorises another one, so that a matrix is factorised once for
  // all that is asked of it. Forgotten where the matrix may change: at both ends of a capture, by Replay::set and
  // Replay::run.
  /// The node kept for node `of` as this kind (any address), or no_node; one that may serve as the result of a
  /// differentiable operation is asked for with `differentiable`.
  std::uint32_t kept(std::uint32_t of, const void* kind, bool differentiable) const;
  void keep(std::uint32_t of, const void* kind, std::uint32_t as);
  void forget_kept() {
    kept_nodes_.clear();
    kept_end_ = 0;
  }

 private:
  friend class Pushforward<eT>;       // jvp.hpp
  friend class GradientsAside<eT>;    // derivatives.cpp
  friend class CheckpointAccess<eT>;  // checkpoint.cpp
  enum class Mode : std::uint8_t { eager, first_order, differentiable };
  struct Contribution {
    std::uint32_t operand;
    std::uint32_t node;
  };
  struct KeptNode {
    std::uint32_t of, node;
    const void* kind;
  };
  static constexpr std::uint32_t chunk_size = 1024;   // nodes
  static constexpr std::size_t chunks_together = 32;  // 2 MB

  void run_slowly(const Command<eT>& c, const char* operation);
  void add_chunk();
  Node<eT>& append();
  void pop_to(std::uint32_t size);
  void evaluate(std::uint32_t i, eT* destination, eT beta, const ParameterUpdate<eT>* update = nullptr);
  template <std::size_t number>
  void run_kernel(const Node<eT>& n, const std::uint32_t* operands, eT* destination, eT beta);
  void compute(std::uint32_t i);
  void compute_pending(std::uint32_t i);
  eT* new_buffer(Shape s) { return static_cast<eT*>(arena_.borrow(s.size() * sizeof(eT))); }
  void drop_buffer(eT* p, Shape s) { arena_.give_back(p, s.size() * sizeof(eT)); }
  void begin_pass(std::uint32_t root, std::span<const std::uint32_t> wanted, const char* what);
  void mark_dependents(std::uint32_t root, std::span<const std::uint32_t> from);
  bool reached(std::uint32_t i) const;
  void run_rule(std::uint32_t i);
  void count_uses(std::uint32_t first);
  void settle();
  void settle_differentiable(std::uint32_t first);
  void consumed(std::uint32_t pending);
  void contribute(std::uint32_t operand, std::uint32_t contribution);
  ParameterUpdate<eT>* awaited_step(const Node<eT>& parameter) const;
  bool can_step(const Contribution& c) const;
  bool reads(std::uint32_t i, std::uint32_t leaf) const;
  bool may_step(const Contribution& c) const;
  void step(const Contribution& c);
  eT* gradient_destination(Node<eT>& n, eT& beta);
  void check_version(std::uint32_t i) const;
  void forget_gradients(std::uint32_t root);
  void copy_into(View<const eT> from, eT* to, eT alpha, eT beta);
  void fill(eT* to, Shape shape, eT alpha, eT beta);

  Device device_;
  TapeState<eT>* state_;
  Arena arena_;
  std::vector<Node<eT>*> chunks_;
  std::vector<std::unique_ptr<void, void (*)(void*)>> chunk_memory_;
  std::uint32_t size_ = 0, capacity_ = 0;  // of nodes; the chunks have room for so many
  const bool on_host_;
  int host_code_;  // Backend::host_code; -1 also while somebody watches the commands
  bool in_backward_ = false;
  bool gradients_enabled_ = true;
  bool captured_ = false;
  Mode mode_ = Mode::eager;

  std::vector<std::uint32_t> long_operands_;
  std::vector<Shape> long_shapes_;  // of the operation being recorded
  std::vector<std::unique_ptr<char[]>> attribute_blocks_;
  std::size_t attribute_block_ = 0, attribute_used_ = 0;
  std::vector<std::shared_ptr<const void>> kept_;
  std::vector<std::uint32_t> retained_;
  std::vector<LabelSlot> labels_;
  std::vector<std::uint32_t> parameter_leaves_;
  std::vector<KeptNode> kept_nodes_;  // by `of`
  std::uint32_t kept_end_ = 0;        // no kept node is here or beyond
  std::vector<std::uint32_t> index_buffer_;
  std::vector<const void*> calls_;
  ModulePath module_path_ = nullptr;
  std::vector<CallRecord>* call_log_ = nullptr;
  std::vector<std::uint32_t> profiled_module_;  // node -> index in Profile::modules, while a profile is made

  // Of checkpoints.
  static constexpr std::size_t log_draws = ~std::size_t{0};
  std::unique_ptr<Tape<eT>> scratch_;
  Graph* parent_ = nullptr;
  std::vector<std::uint64_t>* draws_ = nullptr;
  std::size_t next_draw_ = log_draws;

  // Of the pass and the rule being run.
  bool restricted_ = false;
  std::uint32_t first_pending_ = no_node;
  std::uint32_t rule_node_ = 0;
  std::uint32_t rule_gradients_[4];
  std::vector<Contribution> contributions_;
  std::vector<std::uint32_t> gradient_of_;  // differentiable pass: node -> node of its gradient + 1
};

}  // namespace armagrad::detail

template <class eT>
inline armagrad::detail::Graph<eT>& armagrad::Var<eT>::graph() const {
  detail::Graph<eT>* graph = state_->graph;
  if (graph == nullptr || index_ >= graph->size() || graph->node(index_).serial != serial_) [[unlikely]]
    refuse();
  return *graph;
}
