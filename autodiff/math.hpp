// The scalar functions elementwise.def is written in, for the CPU and for CUDA alike. The same names exist for Vars
// (rows.hpp), so that a derivative's text serves both.
#pragma once

#include <cmath>
#include <type_traits>

#ifdef __CUDACC__
#define ARMAGRAD_HD __host__ __device__
#else
#define ARMAGRAD_HD
#endif

namespace armagrad::math {

template <class T>
concept Real = std::is_floating_point_v<T>;

#define ARMAGRAD_MATH(name)        \
  template <Real T>                \
  ARMAGRAD_HD inline T name(T x) { \
    return std::name(x);           \
  }
ARMAGRAD_MATH(exp)
ARMAGRAD_MATH(log)
ARMAGRAD_MATH(log1p)
ARMAGRAD_MATH(expm1)
ARMAGRAD_MATH(sqrt)
ARMAGRAD_MATH(abs)
ARMAGRAD_MATH(sin)
ARMAGRAD_MATH(cos)
ARMAGRAD_MATH(tanh)
ARMAGRAD_MATH(erf)
#undef ARMAGRAD_MATH

template <Real T>
ARMAGRAD_HD inline T pow(T x, T p) {
  return std::pow(x, p);
}
template <Real T>
ARMAGRAD_HD inline T sign(T x) {
  return T(x > T(0)) - T(x < T(0));
}
template <Real T>
ARMAGRAD_HD inline T sigmoid(T x) {
  return T(1) / (T(1) + std::exp(-x));
}
template <Real T>
ARMAGRAD_HD inline T softplus(T x) {
  return (x > T(0) ? x : T(0)) + std::log1p(std::exp(-std::abs(x)));
}
template <Real T>
ARMAGRAD_HD inline T min(T a, T b) {
  return b < a ? b : a;
}
template <Real T>
ARMAGRAD_HD inline T max(T a, T b) {
  return a < b ? b : a;
}
/// a where the condition holds, else b.
template <Real T>
ARMAGRAD_HD inline T select(bool condition, T a, T b) {
  return condition ? a : b;
}

}  // namespace armagrad::math
