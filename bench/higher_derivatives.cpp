// Time of Hessians and Hessian products, by tangents and by gradients, in microseconds: the shortest of many runs.
//   logistic: mean softplus(-y % X w), X 1000 x 400, by w (400)
//   network:  sum square(tanh(W X)), W 20 x 20, X 20 x 200, by W (400)
//   chain:    sum x^4 + sum exp(x_i x_i+1), x 400 x 1
// bench/higher_derivatives.py does the same with JAX and PyTorch.
//
// `bench_higher_derivatives checkpoints`: memory and time of a step through 64 blocks of two layers (8, 64, 8 features,
// 1000 columns), plain and with checkpoints.
#include <chrono>
#include <cmath>
#include <cstdio>
#include <string_view>
#include <vector>

#include <armagrad/armagrad.hpp>

namespace ag = armagrad;
using Var = ag::Var<double>;

template <class F>
double shortest(F f) {
  using Clock = std::chrono::steady_clock;
  double best = 1e300;
  const auto end = Clock::now() + std::chrono::milliseconds(500);
  for (int k = 0; k < 3 || Clock::now() < end; ++k) {
    const auto start = Clock::now();
    f();
    best = std::min(best, std::chrono::duration<double, std::micro>(Clock::now() - start).count());
  }
  return best;
}

arma::mat fixed(arma::uword rows, arma::uword cols, double phase) {
  arma::mat x(rows, cols);
  for (arma::uword i = 0; i < x.n_elem; ++i) x[i] = std::sin(phase + 1.7 * static_cast<double>(i));
  return x;
}

template <class F>
void measure(const char* name, F f, const arma::mat& x) {
  const arma::mat v = fixed(x.n_rows, x.n_cols, 0.4);
  const double gradient = shortest([&] { ag::value_and_grad(f, x); });
  const double forward_over_reverse = shortest([&] { ag::hvp(f, x, v); });
  const double reverse_over_reverse = shortest([&] {
    ag::Tape<double> tape;
    const Var at = tape.variable(x);
    dot(grad(f(at), at), tape.constant(v)).backward({at});
    at.grad();
  });
  const auto by = [&](ag::Direction direction) {
    return shortest([&] {
      ag::Tape<double> tape;
      const Var at = tape.variable(x);
      ag::hessian(f(at), at, direction);
    });
  };
  const double columns = by(ag::Direction::forward), rows = by(ag::Direction::reverse);
  std::printf(
      "%-9s gradient %8.1f  H v: forward over reverse %8.1f, reverse over reverse %8.1f  H: forward %9.0f, "
      "reverse %9.0f\n",
      name, gradient, forward_over_reverse, reverse_over_reverse, columns, rows);
}

struct Block : ag::nn::Module<double> {
  ag::nn::Linear<double> a{8, 64}, b{64, 8};
  ARMAGRAD_MODULE(a, b)
  Var forward(Var x) { return x + b(tanh(a(x))); }
};

/// A step through all blocks; `step` says how the blocks of one stretch are recorded.
template <class F>
void measure_memory(const char* name, std::vector<Block>& blocks, F step) {
  ag::Tape<double> tape;
  const arma::mat x = fixed(8, 1000, 0.5);
  const double time = shortest([&] {
    tape.rewind();
    accu(square(step(tape.variable(x)))).backward();
  });
  std::printf("%-24s %2zu blocks: tape %6.1f MiB, step %6.1f ms\n", name, blocks.size(),
              static_cast<double>(tape.capacity()) / 1048576, 1e-3 * time);
}

void measure_checkpoints() {
  std::vector<Block> blocks(64);
  const auto through = [&](Var x, auto block, std::size_t first, std::size_t count) {
    for (std::size_t i = first; i < first + count; ++i) x = block(i, x);
    return x;
  };
  const auto plain = [&](std::size_t i, Var x) { return blocks[i](x); };
  const auto kept = [&](std::size_t i, Var x) { return ag::checkpoint(blocks[i], x); };
  measure_memory("plain", blocks, [&](Var x) { return through(x, plain, 0, 64); });
  measure_memory("each a checkpoint", blocks, [&](Var x) { return through(x, kept, 0, 64); });
  measure_memory("nested, 8 of 8", blocks, [&](Var x) {
    for (std::size_t i = 0; i < 64; i += 8) x = ag::checkpoint([&, i](Var y) { return through(y, kept, i, 8); }, x);
    return x;
  });
}

int main(int argc, char** argv) {
  if (argc > 1 && std::string_view(argv[1]) == "checkpoints") return measure_checkpoints(), 0;
  const arma::mat data = fixed(1000, 400, 0.1), labels = sign(fixed(1000, 1, 0.7)), in = fixed(20, 200, 0.3);
  measure(
      "logistic", [&](Var w) { return mean(softplus(-(labels % (data * w))), 0); }, 0.01 * fixed(400, 1, 0.2));
  measure(
      "network", [&](Var w) { return accu(square(tanh(w * in))); }, 0.2 * fixed(20, 20, 0.2));
  measure(
      "chain", [](Var z) { return accu(square(square(z))) + accu(exp(z.rows(0, 398) % z.rows(1, 399))); },
      0.5 * fixed(400, 1, 0.2));
}
