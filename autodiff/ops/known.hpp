// What the engine itself must know of the operations: the two that products look through.
#pragma once

#include <armagrad/autodiff/operation.hpp>

namespace armagrad::detail {

/// Parameters of an element-wise operation that has some.
struct ScalarAttributes {
  double p = 0, q = 0;
};

/// The table entry of `scale`, unary minus included.
template <class eT>
const OperationInfo<eT>* scale_info();

struct Transpose {
  static constexpr auto name = "t";
  static constexpr bool accumulates = true;
  static constexpr bool looks_through = true;
  static constexpr bool linear = true;
  static constexpr bool lazy = true;  // products read the operand the other way round; a copy is made for others only
  static Shape shape(Operands& in) { return {in[0].cols, in[0].rows}; }
  template <class eT>
  static void eval(Eval<eT>& e);
  template <class eT>
  static void vjp(Rule<eT>& r);
  static void samples(Samples& s);
};

/// x summed over the dimensions along which `shape` has length 1: what undoes a broadcast.
template <class eT>
Var<eT> sum_to(Var<eT> x, Shape shape);
/// x repeated along its dimensions of length 1.
template <class eT>
Var<eT> repeat_to(Var<eT> x, Shape shape);

}  // namespace armagrad::detail
