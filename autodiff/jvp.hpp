// Forward mode: tangents pushed through a recording, node by node, from the inputs on. Each operation has its own rule
// (`jvp`), or is `linear`, or its rule is made from `vjp`: with u a free variable, <J'u, v> is linear in u and its
// gradient by u is J v.
#pragma once

#include <span>
#include <vector>

#include <armagrad/autodiff/graph.hpp>

namespace armagrad::detail {

template <class eT>
class Pushforward {
 public:
  /// From xs to ys. With more than one direction, gradients must be disabled on the graph.
  Pushforward(Graph<eT>& graph, std::span<const std::uint32_t> ys, std::span<const std::uint32_t> xs,
              std::uint32_t directions = 1);

  /// Says in which directions x moves: v holds them side by side. Others stand still.
  void move(std::uint32_t x, std::uint32_t v) { tangents_[x] = v + 1; }
  void run();
  /// The node of y's tangent; zeros where no x reaches y.
  std::uint32_t tangent(std::uint32_t y);

 private:
  friend class ForwardRule<eT>;
  void push(std::uint32_t i);
  void push_each_direction(std::uint32_t i);
  void push_linear(std::uint32_t i, std::uint32_t direction);
  void push_by_double_reverse(std::uint32_t i, std::uint32_t direction);
  void push_one(std::uint32_t i, std::uint32_t direction);
  std::uint32_t stack(Shape part);
  void put(std::uint32_t part, std::uint32_t stack, std::uint32_t direction);
  std::uint32_t part(std::uint32_t stacked, Shape shape, std::uint32_t direction);

  Graph<eT>& graph_;
  std::vector<std::uint32_t> ys_, xs_;
  std::uint32_t directions_;
  std::vector<std::uint32_t> tangents_;  // node -> node of its tangent + 1
  std::vector<bool> needed_;             // what a y is computed from
  std::vector<bool> visited_;            // by operation, at its first result: whether one of its results is needed
};

}  // namespace armagrad::detail
