#include <stan/math/rev.hpp>

#include "cases.hpp"

using stan::math::var;
using Matrix = Eigen::Matrix<var, Eigen::Dynamic, Eigen::Dynamic>;
using Vector = Eigen::Matrix<var, Eigen::Dynamic, 1>;

int main() {
  for (const int n : {5, 20, 50, 100, 200}) {
    const Inputs in = inputs(n);
    const Eigen::MatrixXd a = Eigen::Map<const Eigen::MatrixXd>(in.a.data(), n, n),
                          w = Eigen::Map<const Eigen::MatrixXd>(in.w.data(), n, n),
                          x = Eigen::Map<const Eigen::MatrixXd>(in.x.data(), n, 16);
    const Eigen::VectorXd b = Eigen::Map<const Eigen::VectorXd>(in.b.data(), n);
    double sum = 0;
    std::size_t nodes = 0, bytes = 0;
    const auto count = [&] {
      const auto& stack = *stan::math::ChainableStack::instance_;
      nodes = stack.var_stack_.size() + stack.var_nochain_stack_.size();
      bytes = stack.memalloc_.bytes_allocated();
    };
    const auto likelihood = [&] {
      {
        const Matrix va = a;
        const Vector vb = b;
        var y = stan::math::log_determinant_spd(va) + stan::math::dot_product(vb, stan::math::mdivide_left_spd(va, vb));
        y.grad();
        sum = va.adj().sum() + vb.adj().sum();
        count();
      }
      stan::math::recover_memory();
    };
    const double us = shortest(likelihood);
    report("Stan Math", "likelihood", n, us, nodes, bytes, sum);
    const auto network = [&] {
      {
        const Matrix vw = w;
        using stan::math::multiply;
        using stan::math::tanh;
        const Matrix h1 = tanh(multiply(vw, x)), h2 = tanh(multiply(vw, h1)), h3 = tanh(multiply(vw, h2));
        var y = stan::math::sum(h3);
        y.grad();
        sum = vw.adj().sum();
        count();
      }
      stan::math::recover_memory();
    };
    const double network_us = shortest(network);
    report("Stan Math", "network", n, network_us, nodes, bytes, sum);
  }
}
