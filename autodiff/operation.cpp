#include <fmt/format.h>

#include <armagrad/autodiff/error.hpp>
#include <armagrad/autodiff/graph.hpp>
#include <armagrad/autodiff/operation.hpp>
#include <armagrad/autodiff/tape.hpp>

namespace armagrad {

namespace detail {

void tell_for(const std::string& purpose, const DeviceError& e) {
  const std::string text = e.what();
  if (text.starts_with("cuda: ") || text.starts_with("cpu: ")) throw DeviceError(fmt::format("{}: {}", purpose, text));
  throw e;
}

void append(std::string& out, Shape shape) { out += to_string(shape); }
void append(std::string& out, std::string_view text) { out += text; }
void append(std::string& out, double value) { out += fmt::format("{:.6g}", value); }
void append(std::string& out, std::uint64_t value) { out += std::to_string(value); }

}  // namespace detail

// The one place where an operation's error becomes a sentence.
void Operands::fail(const std::string& rule) const {
  std::string text = fmt::format("{}: ", operation_);
  bool named = true;
  for (std::size_t k = 0; k < count_; ++k) {
    named = named && names_[k] != nullptr;
    const std::string name = named ? names_[k] : fmt::format("operand {}", k + 1);
    text += fmt::format("{}{} is {}", k == 0 ? "" : ", ", name, to_string(shapes_[k]));
  }
  text += ": " + rule;
  if (const std::string path = module_path_(graph_); !path.empty()) text += fmt::format(" [in {}]", path);
  throw ShapeError(text);
}

Shape Operands::broadcast_unequal(Shape s, Shape t) const {
  require(s.rows == t.rows || s.rows == 1 || t.rows == 1, "the rows (", s.rows, " and ", t.rows,
          ") must be equal, or 1 to be repeated");
  require(s.cols == t.cols || s.cols == 1 || t.cols == 1, "the columns (", s.cols, " and ", t.cols,
          ") must be equal, or 1 to be repeated");
  return {s.rows == 1 ? t.rows : s.rows, s.cols == 1 ? t.cols : s.cols};
}

template <class eT>
View<const eT> Eval<eT>::in(std::size_t k) const {
  return graph_.value(graph_.operand(graph_.node(node_), k));
}
template <class eT>
View<eT> Eval<eT>::out(std::size_t k) const {
  if (k == 0) return out_;
  const auto& n = graph_.node(node_ + static_cast<std::uint32_t>(k));
  return {n.value, n.shape.rows, n.shape.cols, n.shape.rows};
}
template <class eT>
Shape Eval<eT>::shape(std::size_t k) const {
  return graph_.node(graph_.operand(graph_.node(node_), k)).shape;
}
template <class eT>
std::size_t Eval<eT>::size() const {
  return graph_.node(node_).operand_count;
}
template <class eT>
const void* Eval<eT>::raw_attributes() const {
  return graph_.node(node_).attributes;
}
template <class eT>
void Eval<eT>::require_operands(std::size_t count) const {
  if (size() != count)
    throw StateError(fmt::format("{}: its host function takes {} operands, but it was applied to {}",
                                 graph_.node(node_).op->name, count, size()));
}
template <class eT>
bool Eval<eT>::for_gradient() const {
  return (graph_.node(node_).flags & detail::Node<eT>::needs_gradient) != 0;
}
template <class eT>
typename Eval<eT>::Factor Eval<eT>::factor(std::size_t k) const {
  return graph_.factor(graph_.operand(graph_.node(node_), k));
}
template <class eT>
Command<eT> Eval<eT>::command(const Kernel<eT>& kernel) const {
  Command<eT> c;
  c.kernel = &kernel;
  const auto& n = graph_.node(node_);
  for (std::size_t k = 0; k < n.operand_count; ++k) c.in[k] = graph_.value(graph_.operand(n, k));
  c.out = out_;
  c.alpha = alpha;
  c.beta = beta;
  return c;
}
template <class eT>
void Eval<eT>::run(Command<eT>& command) const {
  const auto& n = graph_.node(node_);
  command.attributes = n.attributes;
  if (update != nullptr) [[unlikely]]
    update->put_into(command);
  graph_.run(command, n.op->name);
}

template <class eT>
Var<eT> Rule<eT>::operand(std::size_t k) const {
  return graph_.var(graph_.operand(graph_.node(node_), k));
}
template <class eT>
std::size_t Rule<eT>::size() const {
  return graph_.node(node_).operand_count;
}
template <class eT>
Var<eT> Rule<eT>::result(std::size_t k) const {
  return graph_.var(node_ + static_cast<std::uint32_t>(k));
}
template <class eT>
Var<eT> Rule<eT>::grad(std::size_t k) const {
  return graph_.var(graph_.rule_gradient(node_, k));
}
template <class eT>
bool Rule<eT>::has_grad(std::size_t k) const {
  return graph_.rule_has_gradient(node_, k);
}
template <class eT>
bool Rule<eT>::needs(std::size_t k) const {
  return graph_.wants_gradient(graph_.operand(graph_.node(node_), k));
}
template <class eT>
const void* Rule<eT>::raw_attributes() const {
  return graph_.node(node_).attributes;
}
template <class eT>
Var<eT> Rule<eT>::constant(Shape shape, double value) const {
  return graph_.var(graph_.constant(shape, static_cast<eT>(value)));
}
template <class eT>
void Rule<eT>::accumulate(std::size_t k, Var<eT> contribution) {
  graph_.accumulate(graph_.operand(graph_.node(node_), k), contribution);
}

template class Eval<float>;
template class Eval<double>;
template class Rule<float>;
template class Rule<double>;

}  // namespace armagrad
