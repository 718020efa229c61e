// The scalar functions elementwise.def is written in, for the CPU and for CUDA alike. The same names exist for Vars
// (rows.hpp), so that a derivative's text serves both.
//
// On the CPU exp, log, log1p, tanh and what is made of them are written out here without branches and without calls, so
// that loops over them vectorise (libm's take 3 to 14 ns per element, these 0.5 to 1). Their results do not depend on
// an element's place in a vector. Errors, measured by math_test: at most 2.5 units in the last place.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
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
ARMAGRAD_MATH(expm1)
ARMAGRAD_MATH(sqrt)
ARMAGRAD_MATH(abs)
ARMAGRAD_MATH(sin)
ARMAGRAD_MATH(cos)
ARMAGRAD_MATH(erf)
#ifdef __CUDACC__
ARMAGRAD_MATH(exp)
ARMAGRAD_MATH(log)
ARMAGRAD_MATH(log1p)
ARMAGRAD_MATH(tanh)
#else

/// The layout of T's bits, and the constants of exp and log: ln 2 in two parts, of which the first has so few bits that
/// a small integer times it is exact.
template <class T>
struct Bits;
template <>
struct Bits<float> {
  using U = std::uint32_t;
  static constexpr int mantissa = 23;
  static constexpr U bias = 127, sqrt_half = 0x3f3504f3;
  static constexpr float round = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer in the low bits
  static constexpr float ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;
  static constexpr float exp_largest = 89, exp_smallest = -104, exponent_safe = 100, two_64 = 0x1p64f;
};
template <>
struct Bits<double> {
  using U = std::uint64_t;
  static constexpr int mantissa = 52;
  static constexpr U bias = 1023, sqrt_half = 0x3fe6a09e667f3bcd;
  static constexpr double round = 6755399441055744.0;  // 1.5 * 2^52
  static constexpr double ln2_high = 6.93147180369123816490e-01, ln2_low = 1.90821492927058770002e-10;
  static constexpr double exp_largest = 710, exp_smallest = -746, exponent_safe = 900, two_64 = 0x1p64;
};

// x = n ln 2 + r with |r| <= ln 2 / 2; e^x = 2^n e^r, e^r by its series: 1/8! r^8 is below float's last place,
// 1/14! r^14 below double's.
template <Real T>
inline T exp(T x) {
  using B = Bits<T>;
  using U = typename B::U;
  T c = x > B::exp_largest ? B::exp_largest : x;  // NaN stays
  c = c < B::exp_smallest ? B::exp_smallest : c;
  const T n = (c * T(1.44269504088896340736) + B::round) - B::round;
  const T r = (c - n * B::ln2_high) - n * B::ln2_low;
  T p;
  if constexpr (std::is_same_v<T, float>) {
    p = T(1.0 / 5040);
  } else {
    p = T(1.0 / 6227020800);
    p = p * r + T(1.0 / 479001600);
    p = p * r + T(1.0 / 39916800);
    p = p * r + T(1.0 / 3628800);
    p = p * r + T(1.0 / 362880);
    p = p * r + T(1.0 / 40320);
    p = p * r + T(1.0 / 5040);
  }
  p = p * r + T(1.0 / 720);
  p = p * r + T(1.0 / 120);
  p = p * r + T(1.0 / 24);
  p = p * r + T(1.0 / 6);
  p = p * r + T(0.5);
  p = r + r * r * p;  // e^r - 1
  // 2^n in two factors, since n may lie beyond the exponents of normal numbers.
  const T shift = n > B::exponent_safe ? T(-64) : n < -B::exponent_safe ? T(64) : T(0);
  const T rest = n > B::exponent_safe ? B::two_64 : n < -B::exponent_safe ? 1 / B::two_64 : T(1);
  const U bits = std::bit_cast<U>(n + shift + B::round);
  const T power = std::bit_cast<T>(static_cast<U>((bits + B::bias) << B::mantissa));
  return (power + power * p) * rest;
}

// x = 2^k m with m in [sqrt 1/2, sqrt 2); log m = log((1 + s) / (1 - s)), s = (m - 1) / (m + 1), as in Sun's fdlibm,
// whose coefficients these are.
template <Real T>
inline T log(T x) {
  using B = Bits<T>;
  using U = typename B::U;
  const bool tiny = x < std::numeric_limits<T>::min();
  const T scaled = tiny ? x * B::two_64 : x;
  const U ix = std::bit_cast<U>(scaled);
  const U exponent = (ix - B::sqrt_half + (B::bias << B::mantissa)) >> B::mantissa;  // k + bias
  const T m = std::bit_cast<T>(static_cast<U>(ix - ((exponent - B::bias) << B::mantissa)));
  // An integer below 2^mantissa, put into the low bits of 2^mantissa, is itself plus 2^mantissa.
  constexpr T big = static_cast<T>(U{1} << B::mantissa);
  const T k =
      (std::bit_cast<T>(static_cast<U>(exponent | std::bit_cast<U>(big))) - big) - T(B::bias) - (tiny ? T(64) : T(0));
  const T f = m - 1, s = f / (2 + f), z = s * s, w = z * z, half = T(0.5) * f * f;
  T even, odd;
  if constexpr (std::is_same_v<T, float>) {
    even = w * (T(0.40000972152) + w * T(0.24279078841));
    odd = z * (T(0.66666662693) + w * T(0.28498786688));
  } else {
    even = w * (T(3.999999999940941908e-01) + w * (T(2.222219843214978396e-01) + w * T(1.531383769920937332e-01)));
    odd = z * (T(6.666666666666735130e-01) +
               w * (T(2.857142874366239149e-01) + w * (T(1.818357216161805012e-01) + w * T(1.479819860511658591e-01))));
  }
  const T y = k * B::ln2_high - ((half - (s * (half + even + odd) + k * B::ln2_low)) - f);
  constexpr T infinity = std::numeric_limits<T>::infinity();
  const T positive = x < infinity ? y : x;  // also NaN
  return x > 0 ? positive : (x == 0 ? -infinity : std::numeric_limits<T>::quiet_NaN());
}

// What rounding 1 + x lost is made up for by x / ((1 + x) - 1) (Kahan).
template <Real T>
inline T log1p(T x) {
  const T u = 1 + x, d = u - 1;
  const T y = log(u) * (x / (d == 0 ? T(1) : d));
  return d == 0 ? x : (x < std::numeric_limits<T>::infinity() ? y : x);
}

// For small |x| a rational approximation (Moshier's Cephes), else by way of exp.
template <Real T>
inline T tanh(T x) {
  const T a = x < 0 ? -x : x, z = x * x;
  T small;
  if constexpr (std::is_same_v<T, float>) {
    T p = T(-5.70498872745e-3);
    p = p * z + T(2.06390887954e-2);
    p = p * z + T(-5.37397155531e-2);
    p = p * z + T(1.33314422036e-1);
    p = p * z + T(-3.33332819422e-1);
    small = x + x * (z * p);
  } else {
    const T p = (T(-9.64399179425052238628e-1) * z + T(-9.92877231001918586564e1)) * z + T(-1.61468768441708447952e3);
    const T q = ((z + T(1.12811678491632931402e2)) * z + T(2.23548839060100448583e3)) * z + T(4.84406305325125486048e3);
    small = x + x * (z * (p / q));
  }
  const T large = 1 - 2 / (exp(2 * a) + 1);
  return a < T(0.625) ? small : (x < 0 ? -large : large);
}
#endif

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
  return T(1) / (T(1) + exp(-x));
}
template <Real T>
ARMAGRAD_HD inline T softplus(T x) {
  return (x > T(0) ? x : T(0)) + log1p(exp(-abs(x)));
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
