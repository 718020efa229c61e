// The engine behind Tape. A recording is a row of `Node`s in chunks that never move; a node names its operation's
// table entry, its operands by index, and where its value lies in the arena. Start reading at `record`, then
// `backward`, then `run_rule`.
//
// Nodes beyond those of the user: while a derivative rule runs, the operations it calls append nodes without computing
// them ("pending"). In a first-order pass `settle` then evaluates just what contributes, straight into gradients, and
// pops them. In a differentiable pass (`gradients`) they stay, evaluated, as part of the recording.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include <armagrad/autodiff/device/arena.hpp>
#include <armagrad/autodiff/device/capture.hpp>
#include <armagrad/autodiff/device/device.hpp>
#include <armagrad/autodiff/operation.hpp>
#include <armagrad/autodiff/parameter.hpp>
#include <armagrad/autodiff/tape.hpp>
#include <armagrad/autodiff/var.hpp>

namespace armagrad::detail {

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
};
static_assert(sizeof(Node<double>) <= 80);

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
  /// A leaf with memory of its own, uninitialised.
  std::uint32_t leaf(const OperationInfo<eT>& op, Shape shape, bool needs_gradient);
  std::uint32_t aliasing_leaf(const OperationInfo<eT>& op, Shape shape, const eT* value);
  /// One on another device makes a leaf that no operation accepts.
  std::uint32_t parameter(const std::shared_ptr<ParameterStorage<eT>>& storage);
  void require_here(const char* operation, const Node<eT>& leaf) const;
  void rewind() noexcept;
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
  View<const eT> value(std::uint32_t i);  // computes a pending node
  typename Eval<eT>::Factor factor(std::uint32_t i);
  arma::Mat<eT> download(const eT* data, Shape shape) const;

  // Backward.
  /// First order: adds d(root)/d(leaf) to the leaves' gradients; with `wanted`, to those leaves' alone.
  void backward(std::uint32_t root, std::span<const std::uint32_t> wanted);
  /// Differentiable: nodes holding d(root)/d(x) for each x.
  std::vector<std::uint32_t> gradients(std::uint32_t root, std::span<const std::uint32_t> xs);
  std::uint32_t rule_gradient(std::uint32_t node, std::size_t k);
  bool rule_has_gradient(std::uint32_t node, std::size_t k) const;
  void accumulate(std::uint32_t operand, Var<eT> contribution);
  bool wants_gradient(std::uint32_t i) const;
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
  void run(const Command<eT>& c) {
    if (captured_graph != nullptr && captured_graph != this) [[unlikely]]
      fail_other_tape();
    detail::run(backend(), c);
  }
  Arena& arena() { return arena_; }
  TapeState<eT>* state() const { return state_; }
  const void* keep_attributes(const void* bytes, std::size_t count);
  void keep_alive(std::shared_ptr<const void> object) { kept_.push_back(std::move(object)); }
  const std::uint32_t* upload_indices(const std::uint32_t* indices, std::size_t count);
  std::uint32_t constant(Shape shape, eT value);
  std::uint32_t add_labels(const arma::Row<std::size_t>& y);
  LabelSlot& labels(std::uint32_t slot) { return labels_[slot]; }
  std::vector<std::uint32_t>& index_buffer() { return index_buffer_; }
  /// Counts the replays of the capture under way; outside of one it stays 0.
  const std::uint64_t* replays();
  /// Computes a node's value again where it stands, if anybody has asked for it.
  void refresh(std::uint32_t i) {
    if (node(i).value != nullptr) evaluate(i, node(i).value, eT(0));
  }
  /// From now on buffers that are given back may still be used by a replay.
  void note_capture() {
    captured_ = true;
    arena_.forget_given_back();
  }
  bool first_order() const { return mode_ == Mode::first_order; }

 private:
  enum class Mode : std::uint8_t { eager, first_order, differentiable };
  struct Contribution {
    std::uint32_t operand;
    std::uint32_t node;
  };
  static constexpr std::uint32_t chunk_size = 1024;

  [[noreturn]] static void fail_other_tape();
  Node<eT>& append();
  void pop_to(std::uint32_t size);
  void evaluate(std::uint32_t i, eT* destination, eT beta);
  void compute(std::uint32_t i);
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
  eT* gradient_destination(Node<eT>& n, eT& beta);
  void check_version(std::uint32_t i) const;
  void forget_gradients(std::uint32_t root);
  void copy_into(View<const eT> from, eT* to, eT alpha, eT beta);
  void fill(eT* to, Shape shape, eT alpha, eT beta);

  Device device_;
  TapeState<eT>* state_;
  Arena arena_;
  std::vector<std::unique_ptr<Node<eT>[]>> chunks_;
  std::uint32_t size_ = 0;
  bool gradients_enabled_ = true;
  bool captured_ = false;
  Mode mode_ = Mode::eager;

  std::vector<std::uint32_t> long_operands_;
  std::vector<std::unique_ptr<char[]>> attribute_blocks_;
  std::size_t attribute_block_ = 0, attribute_used_ = 0;
  std::vector<std::shared_ptr<const void>> kept_;
  std::vector<std::uint32_t> retained_;
  std::vector<LabelSlot> labels_;
  std::vector<std::uint32_t> parameter_leaves_;
  std::vector<std::uint32_t> index_buffer_;
  std::vector<const void*> calls_;
  ModulePath module_path_ = nullptr;
  std::vector<CallRecord>* call_log_ = nullptr;

  // Of the pass and the rule being run.
  static constexpr std::uint32_t no_node = ~std::uint32_t{0};
  bool restricted_ = false;
  std::uint32_t first_pending_ = no_node;
  std::uint32_t rule_node_ = 0;
  std::uint32_t rule_gradients_[4];
  std::vector<Contribution> contributions_;
  std::vector<std::uint32_t> gradient_of_;  // differentiable pass: node -> node of its gradient + 1
};

}  // namespace armagrad::detail
