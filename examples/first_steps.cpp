// Tapes and Vars: recording, gradients, broadcasting, and what is not to be differentiated.
#include <iostream>

#include <armagrad/armagrad.hpp>

namespace ag = armagrad;

int main() {
  // [backward]
  ag::Tape<double> tape;
  const ag::Var<double> x = tape.variable({{1, 2}, {3, 4}});  // its gradient is wanted
  const ag::Var<double> y = accu(square(x) % x);              // computed at once, and remembered
  y.backward();                                               // fills x.grad()
  std::cout << "sum of cubes " << y.item() << ", gradient\n" << x.grad();
  // [/backward]

  // [twice]
  y.backward();  // adds
  std::cout << "after a second backward\n" << x.grad();
  // [/twice]

  // [grad]
  const ag::Var<double> dx = grad(y, x);          // a Var: leaves x.grad() alone, can be computed with
  const ag::Var<double> d2x = grad(accu(dx), x);  // 6 x
  std::cout << "second derivative\n" << d2x.value();
  // [/grad]

  // [broadcast]
  const arma::vec column = {10, 20};
  const arma::rowvec row = {100, 200};
  std::cout << "x + column + row\n" << x + column + row;  // 2x2 + 2x1 + 1x2
  const auto centred = x - mean(x, 1);                    // 2x2 - 2x1: each row's mean is 0
  std::cout << "row sums " << sum(centred, 1).t();
  // [/broadcast]

  // [constants]
  const arma::mat data = {{1, 0}, {0, 2}};
  const auto copied = tape.constant(data);  // a copy, without gradient
  const auto seen = tape.borrow(data);      // no copy: `data` must live and stay as it is until the rewind
  const auto product = data * x;            // beside a Var a plain matrix is a constant by itself
  const auto stopped = detach(product);     // the value alone: no gradient flows back
  // [/constants]
  std::cout << copied.requires_grad() << seen.requires_grad() << product.requires_grad() << stopped.requires_grad()
            << "\n";

  // [no_grad]
  const double loss = no_grad(tape, [&] { return norm(data * x, "fro").item(); });  // by value: nothing is remembered
  // [/no_grad]
  std::cout << "norm " << loss << "\n";

  // [rewind]
  for (int step = 0; step < 3; ++step) {
    tape.rewind();  // forgets the recording, keeps its memory; Vars made before are refused from here on
    const auto v = tape.variable(data);
    accu(exp(v)).backward();
  }
  std::cout << tape.to_text();  // what is on the tape
  // [/rewind]
}
