#include <Eigen/Dense>
#include <cppad/cppad.hpp>
#include <cppad/example/cppad_eigen.hpp>

#include "cases.hpp"

using Scalar = CppAD::AD<double>;
using Matrix = Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic>;
using Vector = Eigen::Matrix<Scalar, Eigen::Dynamic, 1>;

int main() {
  for (const int n : {5, 20, 50, 100, 200}) {
    const Inputs in = inputs(n);
    double sum = 0;
    CppAD::ADFun<double> f;
    std::vector<double> at;
    const auto gradient = [&] {
      f.Forward(0, at);
      sum = 0;
      for (const double g : f.Reverse(1, std::vector<double>{1})) sum += g;
    };
    const auto likelihood = [&] {
      at = in.a;
      at.insert(at.end(), in.b.begin(), in.b.end());
      std::vector<Scalar> v(at.begin(), at.end());
      CppAD::Independent(v);
      const Matrix a = Eigen::Map<Matrix>(v.data(), n, n);
      const Vector b = Eigen::Map<Vector>(v.data() + n * n, n);
      const Eigen::PartialPivLU<Matrix> lu(a);
      Scalar log_det = 0;
      for (int i = 0; i < n; ++i) log_det += log(lu.matrixLU()(i, i));
      std::vector<Scalar> y{log_det + b.dot(lu.solve(b))};
      f.Dependent(v, y);
      gradient();
    };
    const auto tell = [&](const char* function, double us) {
      report("CppAD", function, n, us, f.size_op(), f.size_op_seq(), sum);
      std::printf("%-10s %-10s %4d %12.1f us once recorded\n", "CppAD", function, n, shortest(gradient));
    };
    const double us = shortest(likelihood);
    tell("likelihood", us);
    const auto network = [&] {
      at = in.w;
      std::vector<Scalar> v(at.begin(), at.end());
      CppAD::Independent(v);
      const Matrix w = Eigen::Map<Matrix>(v.data(), n, n);
      Matrix h = Eigen::Map<const Eigen::MatrixXd>(in.x.data(), n, 16).cast<Scalar>();
      for (int k = 0; k < 3; ++k) {
        h = (w * h).eval();
        for (int i = 0; i < h.size(); ++i) h(i) = tanh(h(i));
      }
      std::vector<Scalar> y{h.sum()};
      f.Dependent(v, y);
      gradient();
    };
    const double network_us = shortest(network);
    tell("network", network_us);
  }
}
