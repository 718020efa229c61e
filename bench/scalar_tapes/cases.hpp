// The two functions every program here differentiates, and how it reports.
//   likelihood:  log det A + b' A^-1 b,  A n x n positive definite, gradient by A and b
//   network:     sum tanh(W tanh(W tanh(W X))),  W n x n, X n x 16, gradient by W
#pragma once

#include <chrono>
#include <cmath>
#include <cstdio>
#include <vector>

struct Inputs {
  int n;
  std::vector<double> a, b, w, x;  // column-major
};

inline Inputs inputs(int n) {
  Inputs in{n, std::vector<double>(n * n), std::vector<double>(n), std::vector<double>(n * n),
            std::vector<double>(n * 16)};
  for (int j = 0; j < n; ++j)
    for (int i = 0; i < n; ++i) {
      in.a[i + j * n] = std::exp(-0.01 * (i - j) * (i - j)) + (i == j ? 1 : 0);
      in.w[i + j * n] = std::sin(1 + 1.7 * (i + j * n)) / std::sqrt(n);
    }
  for (int i = 0; i < n; ++i) in.b[i] = std::cos(0.3 * i);
  for (int i = 0; i < n * 16; ++i) in.x[i] = std::sin(0.2 + 0.9 * i);
  return in;
}

/// The shortest of many runs, in microseconds.
template <class F>
double shortest(F f) {
  using Clock = std::chrono::steady_clock;
  double best = 1e300;
  const auto end = Clock::now() + std::chrono::milliseconds(300);
  for (int k = 0; k < 3 || Clock::now() < end; ++k) {
    const auto start = Clock::now();
    f();
    best = std::min(best, std::chrono::duration<double, std::micro>(Clock::now() - start).count());
  }
  return best;
}

inline void report(const char* library, const char* function, int n, double us, std::size_t nodes, std::size_t bytes,
                   double gradient) {
  std::printf("%-10s %-10s %4d %12.1f us %10zu nodes %12zu bytes  gradient sum %.10g\n", library, function, n, us,
              nodes, bytes, gradient);
}
