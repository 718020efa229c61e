// What armagrad says when something does not fit. docs/getting-started.md explains these messages.
#include <functional>
#include <iostream>

#include <armagrad/armagrad.hpp>

namespace ag = armagrad;

struct Mlp : ag::nn::Module<double> {
  ag::nn::Linear<double> l1{64, 32}, l2{30, 10};  // 32 outputs into 30 inputs
  ARMAGRAD_MODULE(l1, l2)
  ag::Var<double> forward(ag::Var<double> x) { return l2(relu(l1(x))); }
};

void provoke(const std::function<void()>& mistake) {
  try {
    mistake();
    std::cout << "no error\n";
  } catch (const ag::Error& error) {
    std::cout << error.what() << "\n";
  }
}

int main() {
  ag::Tape<double> tape, other;
  const auto x = tape.variable(arma::mat(3, 4, arma::fill::ones));
  const auto square_sum = accu(square(x));
  const arma::mat ones(3, 3, arma::fill::ones);
  const arma::Row<std::size_t> labels = {0, 1, 2, 3};

  provoke([&] { x* x; });
  provoke([&] { x + arma::mat(3, 3); });
  provoke([&] { Mlp()(tape.constant(arma::mat(64, 8))); });
  provoke([&] { square(x).backward(); });
  provoke([&] { accu(tape.constant(ones)).backward(); });
  provoke([&] { square_sum.grad(); });
  provoke([&] { x + other.variable(x.value()); });
  provoke([&] { solve(tape.variable(ones), x); });
  provoke([&] { ag::nn::cross_entropy(x, labels); });
  provoke([&] {
    ag::Parameter<double> w(ones);
    const auto loss = accu(square(tape.parameter(w)));
    w.set_value(2 * ones);
    loss.backward();
  });
  provoke([&] {
    auto replay = tape.capture([&] { exp(x); });
    replay.set(x, arma::mat(3, 5));
  });
  tape.rewind();
  provoke([&] { square_sum.item(); });
}
