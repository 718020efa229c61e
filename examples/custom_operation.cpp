// Operations of one's own, in one's own file, and their tests: a row for an element-wise one, a struct for any.
#include <iostream>

#include <armagrad/armagrad.hpp>
#include <armagrad/autodiff/operation.hpp>
#include <armagrad/autodiff/rows.hpp>
#include <armagrad/autodiff/samples.hpp>

namespace ag = armagrad;

// [row]
//                   name, value, derivative, tested from, to, the value in plain Armadillo
ARMAGRAD_ELEMENTWISE(silu, (x * sigmoid(x)), (g * sigmoid(x) * (1 + x * (1 - sigmoid(x)))), -3, 3, x / (1 + exp(-x)))
// [/row]

// [softsign]
struct Softsign {  // y = x / (1 + |x|), element by element
  static constexpr auto name = "softsign";
  static ag::Shape shape(ag::Operands& in) { return in[0]; }
  template <class eT>
  static void eval(ag::Eval<eT>& e) {
    e.host([](const arma::Mat<eT>& x, arma::Mat<eT>& y) { y = x / (1 + abs(x)); });
  }
  template <class eT>
  static void vjp(ag::Rule<eT>& r) {
    r.accumulate(0, r.grad() / square(1 + abs(r.operand(0))));
  }
  static void samples(ag::Samples& s) {
    const auto f = [](const auto& in) { return ag::apply<Softsign>(in[0]); };
    const auto plain = [](const std::vector<arma::mat>& in) -> arma::mat { return in[0] / (1 + abs(in[0])); };
    s.add({s.uniform(3, 4)}, f, plain);
    s.add({s.uniform(1, 1)}, f, plain);
    s.add({s.uniform(2, 0)}, f, plain);
  }
};

template <class eT>
ag::Var<eT> softsign(ag::Var<eT> x) {
  return ag::apply<Softsign>(x);
}
// [/softsign]

int main() {
  // [use]
  const arma::mat x = {{-2, -0.5}, {0.5, 2}};
  const auto [value, dx] = ag::value_and_grad([](auto v) { return accu(square(softsign(v))); }, x);
  std::cout << "value " << value << "\ngradient\n" << dx;
  // [/use]
  // [test]
  const ag::OperationCheck row = ag::check_operation<ag::silu_operation>();
  std::cout << row.samples << " samples of silu: " << (row ? "right" : "wrong") << "\n" << row;
  const ag::OperationCheck check = ag::check_operation<Softsign>();
  std::cout << check.samples << " samples of softsign: " << (check ? "right" : "wrong") << "\n" << check;
  // [/test]
}
