// A second operation of one's own: with a check of its operand, an option, and a rule that uses the operation itself.
#include <iostream>

#include <armagrad/armagrad.hpp>
#include <armagrad/autodiff/operation.hpp>
#include <armagrad/autodiff/samples.hpp>

namespace ag = armagrad;

// [running_sum]
struct RunningSum {  // y(i, j) = x(0, j) + ... + x(i, j), or from the last row up
  static constexpr auto name = "running_sum";
  struct Attributes {
    bool backwards;
  };
  static ag::Shape shape(ag::Operands& in) {
    in.require(in[0].rows > 0, "there is nothing to sum");
    return in[0];
  }
  template <class eT>
  static void eval(ag::Eval<eT>& e) {
    e.host([](const Attributes& a, const arma::Mat<eT>& x, arma::Mat<eT>& y) {
      if (a.backwards)
        y = flipud(cumsum(flipud(x)));
      else
        y = cumsum(x);
    });
  }
  template <class eT>
  static void vjp(ag::Rule<eT>& r) {  // x(i) is in the sums i, i + 1, ...: the same operation, the other way
    const bool backwards = r.template attributes<Attributes>().backwards;
    r.accumulate(0, ag::apply<RunningSum>({!backwards}, r.grad()));
  }
  static void samples(ag::Samples& s) {
    const auto f = [](const auto& in) { return ag::apply<RunningSum>({false}, in[0]); };
    const auto up = [](const auto& in) { return ag::apply<RunningSum>({true}, in[0]); };
    const arma::mat triangle = arma::trimatl(arma::ones(4, 4));
    s.add({s.uniform(4, 3)}, f, [=](const std::vector<arma::mat>& in) -> arma::mat { return triangle * in[0]; });
    s.add({s.uniform(4, 3)}, up, [=](const std::vector<arma::mat>& in) -> arma::mat { return triangle.t() * in[0]; });
    s.fails({arma::mat(0, 2)}, f, "running_sum: x is 0x2: there is nothing to sum");
  }
};

template <class eT>
ag::Var<eT> running_sum(ag::Var<eT> x, bool backwards = false) {
  return ag::apply<RunningSum>({backwards}, x);
}
// [/running_sum]

int main() {
  const arma::mat x = {{1, 2}, {3, 4}, {5, 6}};
  const auto [value, dx] = ag::value_and_grad([](auto v) { return accu(running_sum(v)); }, x);
  std::cout << "value " << value << "\ngradient\n" << dx;
  const ag::OperationCheck check = ag::check_operation<RunningSum>();
  std::cout << check.samples << " samples, " << check.refusals
            << " of them refused as they should be: " << (check ? "right" : "wrong") << "\n"
            << check;
}
