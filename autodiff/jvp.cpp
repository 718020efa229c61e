#include <algorithm>

#include <fmt/format.h>

#include <armagrad/autodiff/error.hpp>
#include <armagrad/autodiff/jvp.hpp>
#include <armagrad/autodiff/operations.hpp>
#include <armagrad/autodiff/ops/known.hpp>

namespace armagrad {
namespace detail {

template <class eT>
Pushforward<eT>::Pushforward(Graph<eT>& graph, std::span<const std::uint32_t> ys, std::span<const std::uint32_t> xs,
                             std::uint32_t directions)
    : graph_(graph), ys_(ys.begin(), ys.end()), xs_(xs.begin(), xs.end()), directions_(directions) {
  std::uint32_t last = *std::max_element(xs.begin(), xs.end());
  for (const std::uint32_t y : ys) {  // to the last result of its operation: a rule may give tangents to all
    const std::uint32_t first = y - graph.node(y).result;
    last = std::max(last, first + graph.node(first).op->results - 1);
  }
  tangents_.assign(last + 1, 0);
  needed_.assign(last + 1, false);
  visited_.assign(last + 1, false);
  for (const std::uint32_t y : ys) needed_[y] = true;
  for (std::uint32_t i = last + 1; i-- > 0;) {
    const Node<eT>& n = graph_.node(i);
    if (needed_[i]) visited_[i - n.result] = true;
    if (!visited_[i]) continue;
    for (std::size_t k = 0; k < n.operand_count; ++k)
      if (k >= 8 || (n.op->helpers >> k & 1) == 0) needed_[graph_.operand(n, k)] = true;
  }
}

template <class eT>
void Pushforward<eT>::run() {
  using N = Node<eT>;
  const std::uint32_t first = *std::min_element(xs_.begin(), xs_.end());
  const auto size = static_cast<std::uint32_t>(tangents_.size());
  for (std::uint32_t i = first; i < size; ++i) {
    const N& n = graph_.node(i);
    if (!visited_[i] || n.flags & N::is_leaf || n.result != 0 || !(n.flags & N::needs_gradient) || tangents_[i] != 0)
      continue;
    bool moves = false;
    for (std::size_t k = 0; k < n.operand_count; ++k) moves |= tangents_[graph_.operand(n, k)] != 0;
    if (moves) push(i);
  }
}

template <class eT>
std::uint32_t Pushforward<eT>::tangent(std::uint32_t y) {
  if (tangents_[y] != 0) return tangents_[y] - 1;
  const Shape s = graph_.node(y).shape;
  return graph_.constant({s.rows, s.cols * directions_}, eT(0));
}

template <class eT>
void Pushforward<eT>::push(std::uint32_t i) {
  const Node<eT>& n = graph_.node(i);
  for (std::size_t k = 0; k < n.operand_count; ++k) graph_.check_version(graph_.operand(n, k));
  if (directions_ == 1 || (n.op->jvp != nullptr && n.op->many_directions))
    push_one(i, ForwardRule<eT>::every_direction);
  else
    push_each_direction(i);
}

// One direction after the other; the results' tangents are put side by side.
template <class eT>
void Pushforward<eT>::push_each_direction(std::uint32_t i) {
  const std::uint8_t results = graph_.node(i).op->results;
  std::uint32_t stacks[4] = {};
  for (std::uint32_t d = 0; d < directions_; ++d) {
    for (std::uint32_t k = 0; k < results; ++k) tangents_[i + k] = 0;
    push_one(i, d);
    if (d == 0)
      for (std::uint32_t k = 0; k < results; ++k)
        if (tangents_[i + k] != 0) stacks[k] = stack(graph_.node(i + k).shape) + 1;
    for (std::uint32_t k = 0; k < results; ++k)
      if (tangents_[i + k] != 0) put(tangents_[i + k] - 1, stacks[k] - 1, d);
  }
  for (std::uint32_t k = 0; k < results; ++k) tangents_[i + k] = stacks[k];
}

template <class eT>
void Pushforward<eT>::push_one(std::uint32_t i, std::uint32_t direction) {
  const OperationInfo<eT>& op = *graph_.node(i).op;
  if (op.jvp != nullptr) {
    ForwardRule<eT> rule(*this, i, direction);
    op.jvp(rule);
  } else if (op.linear) {
    push_linear(i, direction);
  } else {
    push_by_double_reverse(i, direction);
  }
}

template <class eT>
void Pushforward<eT>::push_linear(std::uint32_t i, std::uint32_t direction) {
  const ForwardRule<eT> rule(*this, i, direction);
  std::vector<std::uint32_t> moving;
  for (std::size_t k = 0; k < rule.size(); ++k) moving.push_back(rule.tangent_or_zero(k).index());
  const Node<eT>& n = graph_.node(i);
  tangents_[i] = graph_.record(*n.op, moving.data(), moving.size(), n.attributes) + 1;
}

template <class eT>
void Pushforward<eT>::push_by_double_reverse(std::uint32_t i, std::uint32_t direction) {
  using N = Node<eT>;
  const ForwardRule<eT> rule(*this, i, direction);
  const std::uint8_t results = graph_.node(i).op->results;
  const bool enabled = graph_.gradients_enabled();
  const struct Restore {
    Graph<eT>& graph;
    bool enabled;
    ~Restore() {
      graph.gradient_of_.clear();
      graph.set_gradients_enabled(enabled);
    }
  } restore{graph_, enabled};
  graph_.set_gradients_enabled(true);
  // J'u, as Vars, for the operands that move.
  std::vector<std::uint32_t> u;
  std::vector<std::uint32_t> gradient_of(i + results, 0);
  for (std::uint32_t k = 0; k < results; ++k) {
    if (!needed_[i + k]) continue;
    const Shape s = graph_.node(i + k).shape;
    u.push_back(graph_.leaf(variable_leaf<eT>, s, true));
    graph_.fill(graph_.node(u.back()).value, s, eT(0), eT(0));
    gradient_of[i + k] = u.back() + 1;
  }
  for (std::size_t k = 0; k < rule.size(); ++k) {
    N& operand = graph_.node(graph_.operand(graph_.node(i), k));
    operand.flags =
        static_cast<std::uint8_t>(rule.has_tangent(k) ? operand.flags | N::wanted : operand.flags & ~N::wanted);
  }
  graph_.gradient_of_ = std::move(gradient_of);
  graph_.restricted_ = true;
  graph_.run_rule(i);
  // <J'u, v>, and its gradient by u. An operand that comes twice has one gradient.
  std::vector<std::uint32_t> counted;
  Var<eT> product = graph_.var(graph_.constant({1, 1}, eT(0)));
  for (std::size_t k = 0; k < rule.size(); ++k) {
    const std::uint32_t o = graph_.operand(graph_.node(i), k);
    if (!rule.has_tangent(k) || graph_.gradient_of_[o] == 0 ||
        std::find(counted.begin(), counted.end(), o) != counted.end())
      continue;
    counted.push_back(o);
    product = product + dot(graph_.var(graph_.gradient_of_[o] - 1), rule.tangent(k));
  }
  graph_.gradient_of_.clear();
  if (!product.requires_grad()) return;
  const std::vector<std::uint32_t> tangents = graph_.gradients(product.index(), u);
  for (std::uint32_t k = 0, found = 0; k < results; ++k)
    if (needed_[i + k]) tangents_[i + k] = tangents[found++] + 1;
}

template <class eT>
std::uint32_t Pushforward<eT>::stack(Shape part) {
  return graph_.leaf(constant_leaf<eT>, {part.rows, part.cols * directions_}, false);
}
template <class eT>
void Pushforward<eT>::put(std::uint32_t part, std::uint32_t stack, std::uint32_t direction) {
  const View<const eT> from = graph_.value(part);
  graph_.copy_into(from, graph_.node(stack).value + from.size() * direction, eT(1), eT(0));
}
template <class eT>
std::uint32_t Pushforward<eT>::part(std::uint32_t stacked, Shape shape, std::uint32_t direction) {
  return graph_.aliasing_leaf(constant_leaf<eT>, shape, graph_.value(stacked).data + shape.size() * direction);
}

template class Pushforward<float>;
template class Pushforward<double>;

}  // namespace detail

template <class eT>
ForwardRule<eT>::ForwardRule(detail::Pushforward<eT>& push, std::uint32_t node, std::uint32_t direction)
    : push_(push),
      node_(node),
      direction_(direction),
      directions_(direction == every_direction ? push.directions_ : 1) {}
template <class eT>
Var<eT> ForwardRule<eT>::operand(std::size_t k) const {
  return push_.graph_.var(push_.graph_.operand(push_.graph_.node(node_), k));
}
template <class eT>
std::size_t ForwardRule<eT>::size() const {
  return push_.graph_.node(node_).operand_count;
}
template <class eT>
Var<eT> ForwardRule<eT>::result(std::size_t k) const {
  return push_.graph_.var(node_ + static_cast<std::uint32_t>(k));
}
template <class eT>
bool ForwardRule<eT>::has_tangent(std::size_t k) const {
  return push_.tangents_[operand(k).index()] != 0;
}
template <class eT>
Var<eT> ForwardRule<eT>::tangent(std::size_t k) const {
  if (direction_ != every_direction) return direction(k, direction_);
  return push_.graph_.var(push_.tangents_[operand(k).index()] - 1);
}
template <class eT>
Var<eT> ForwardRule<eT>::tangent_or_zero(std::size_t k) const {
  if (has_tangent(k)) return tangent(k);
  const Shape s = operand(k).shape();
  return push_.graph_.var(push_.graph_.constant({s.rows, s.cols * directions_}, eT(0)));
}
template <class eT>
bool ForwardRule<eT>::needs(std::size_t k) const {
  return push_.needed_[node_ + k];
}
template <class eT>
const void* ForwardRule<eT>::raw_attributes() const {
  return push_.graph_.node(node_).attributes;
}
template <class eT>
Var<eT> ForwardRule<eT>::direction(std::size_t k, std::uint32_t d) const {
  return push_.graph_.var(push_.part(push_.tangents_[operand(k).index()] - 1, operand(k).shape(), d));
}
template <class eT>
Var<eT> ForwardRule<eT>::put(Var<eT> part, Var<eT> all, std::uint32_t d) const {
  if (d == 0) all = push_.graph_.var(push_.stack(part.shape()));
  push_.put(part.index(), all.index(), d);
  return all;
}
template <class eT>
Var<eT> ForwardRule<eT>::spread(Var<eT> x) const {
  return directions_ == 1 ? x : repmat(x, 1, directions_);
}
template <class eT>
Var<eT> ForwardRule<eT>::broadcast_tangent(std::size_t k) const {
  const Shape from = operand(k).shape(), to = result().shape();
  if (from == to) return tangent(k);
  return by_direction(k, [to](Var<eT> v) { return detail::repeat_to(v, to); });
}

template <class eT>
void ForwardRule<eT>::add(Var<eT> contribution, std::size_t k) {
  const auto at = node_ + static_cast<std::uint32_t>(k);
  if (!push_.needed_[at] || std::find(push_.xs_.begin(), push_.xs_.end(), at) != push_.xs_.end()) return;
  const Shape s = result(k).shape(), wanted{s.rows, s.cols * directions_}, given = contribution.shape();
  if (!(given == wanted))
    throw ShapeError(fmt::format("the forward rule of {}: a tangent is {}, it must be {}",
                                 push_.graph_.node(node_).op->name, to_string(given), to_string(wanted)));
  std::uint32_t& tangent = push_.tangents_[at];
  tangent = 1 + (tangent == 0 ? contribution : push_.graph_.var(tangent - 1) + contribution).index();
}

template class ForwardRule<float>;
template class ForwardRule<double>;

}  // namespace armagrad
