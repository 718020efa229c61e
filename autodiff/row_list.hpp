// elementwise.def as types: one struct per row, its texts as templates. No Armadillo: the CUDA sources include this.
#pragma once

#include <armagrad/autodiff/math.hpp>

// The rows stand in `math`, so that `tanh` in a row's text is math::tanh on scalars; on Vars argument lookup finds the
// others.
namespace armagrad::math {

#define ARMAGRAD_ROW_BASE(name_, arity_, parameters_, derivatives_)                                                    \
  static constexpr const char* name = #name_;                                                                          \
  static constexpr const char* derivative_names[] = {"derivative of " #name_, "second partial derivative of " #name_}; \
  static constexpr int arity = arity_, parameters = parameters_, derivatives = derivatives_;

#define ARMAGRAD_UNARY_ROW(name_, value_, derivative_, parameters_)                                   \
  struct name_##_row {                                                                                \
    ARMAGRAD_ROW_BASE(name_, 1, parameters_, 1)                                                       \
    template <class T>                                                                                \
    ARMAGRAD_HD static T value(T x, [[maybe_unused]] T p, [[maybe_unused]] T q) {                     \
      using S [[maybe_unused]] = T;                                                                   \
      return value_;                                                                                  \
    }                                                                                                 \
    template <int k, class T, class S>                                                                \
    ARMAGRAD_HD static T derivative([[maybe_unused]] T g, [[maybe_unused]] T x, [[maybe_unused]] T y, \
                                    [[maybe_unused]] S p, [[maybe_unused]] S q) {                     \
      return derivative_;                                                                             \
    }                                                                                                 \
  };
#define ARMAGRAD_BINARY_ROW(name_, value_, by_a, by_b, derivatives_)                                  \
  struct name_##_row {                                                                                \
    ARMAGRAD_ROW_BASE(name_, 2, 0, derivatives_)                                                      \
    template <class T>                                                                                \
    ARMAGRAD_HD static T value(T a, T b) {                                                            \
      using S [[maybe_unused]] = T;                                                                   \
      return value_;                                                                                  \
    }                                                                                                 \
    template <int k, class T, class S>                                                                \
    ARMAGRAD_HD static T derivative([[maybe_unused]] T g, [[maybe_unused]] T a, [[maybe_unused]] T b, \
                                    [[maybe_unused]] T y) {                                           \
      if constexpr (k == 0)                                                                           \
        return by_a;                                                                                  \
      else                                                                                            \
        return by_b;                                                                                  \
    }                                                                                                 \
  };

#define ARMAGRAD_UNARY(name, value, derivative, lo, hi, reference) ARMAGRAD_UNARY_ROW(name, value, derivative, 0)
#define ARMAGRAD_UNARY_P(name, value, derivative, lo, hi, p, q, reference) \
  ARMAGRAD_UNARY_ROW(name, value, derivative, 2)
#define ARMAGRAD_BINARY(name, value, by_a, by_b, lo, hi, reference) ARMAGRAD_BINARY_ROW(name, value, by_a, by_b, 2)
#define ARMAGRAD_MASK(name, value, reference) ARMAGRAD_BINARY_ROW(name, T(value), g, g, 0)
#define ARMAGRAD_MASKED(name, value, by_a, reference) ARMAGRAD_BINARY_ROW(name, value, by_a, g, 1)
#include <armagrad/autodiff/elementwise.def>
#undef ARMAGRAD_UNARY
#undef ARMAGRAD_UNARY_P
#undef ARMAGRAD_BINARY
#undef ARMAGRAD_MASK
#undef ARMAGRAD_MASKED
// Kernels alone: their operations stand in arithmetic.cpp, since the gradient is handed on as it is.
ARMAGRAD_BINARY_ROW(add, a + b, g, g, 0)
ARMAGRAD_BINARY_ROW(subtract, a - b, g, g, 0)
#undef ARMAGRAD_BINARY_ROW

}  // namespace armagrad::math
