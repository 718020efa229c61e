#include <armagrad/armagrad.hpp>

#include "cases.hpp"

namespace ag = armagrad;

int main() {
  for (const int n : {5, 20, 50, 100, 200}) {
    const Inputs in = inputs(n);
    const auto un = static_cast<arma::uword>(n);
    const arma::mat a(in.a.data(), un, un), b(in.b.data(), un, 1), w(in.w.data(), un, un), x(in.x.data(), un, 16);
    ag::Tape<double> tape;
    double sum = 0;
    const auto likelihood = [&] {
      tape.rewind();
      const auto va = tape.variable(a), vb = tape.variable(b);
      const auto y = log_det_sympd(va) + dot(vb, solve(va, vb, arma::solve_opts::likely_sympd));
      y.backward();
      sum = arma::accu(va.grad()) + arma::accu(vb.grad());
    };
    const double us = shortest(likelihood);
    report("armagrad", "likelihood", n, us, tape.size(), tape.capacity(), sum);
    const auto network = [&] {
      tape.rewind();
      const auto vw = tape.variable(w);
      accu(tanh(vw * tanh(vw * tanh(vw * tape.borrow(x))))).backward();
      sum = arma::accu(vw.grad());
    };
    const double network_us = shortest(network);
    report("armagrad", "network", n, network_us, tape.size(), tape.capacity(), sum);
  }
}
