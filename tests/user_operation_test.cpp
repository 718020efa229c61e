// Operations of a user's own, written outside of the library as operation.hpp says, and what check_operation makes of
// them when they are right and when they are not.
#define BOOST_TEST_MODULE user_operation
#include <boost/test/unit_test.hpp>

#include <armagrad/autodiff/autodiff.hpp>
#include <armagrad/autodiff/device/kernels.hpp>
#include <armagrad/autodiff/rows.hpp>
#include <armagrad/autodiff/samples.hpp>

namespace ag = armagrad;

namespace mine {

using ag::Var;

// A function on Armadillo matrices.
struct Softsign {  // y = x / (1 + |x|)
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
  static void samples(ag::Samples& s);
};
template <class eT>
Var<eT> softsign(Var<eT> x) {
  return ag::apply<Softsign>(x);
}
void Softsign::samples(ag::Samples& s) {
  const auto f = [](const auto& in) { return softsign(in[0]); };
  const auto plain = [](const std::vector<arma::mat>& in) -> arma::mat { return in[0] / (1 + abs(in[0])); };
  s.add({s.uniform(2, 3)}, f, plain);
  s.add({s.uniform(0, 3)}, f, plain);
}

// One command to the device's own kernels, with an attribute and two operands.
struct WeightedProduct {  // Y = p A' B
  static constexpr auto name = "weighted_product";
  static constexpr const char* operands[] = {"A", "B", nullptr};
  static constexpr bool accumulates = true;
  struct Attributes {
    double p;
  };
  static ag::Shape shape(ag::Operands& in) {
    in.require(in[0].rows == in[1].rows, "both need as many rows (", in[0].rows, " and ", in[1].rows, ")");
    return {in[0].cols, in[1].cols};
  }
  template <class eT>
  static void eval(ag::Eval<eT>& e) {
    ag::Command<eT> c;
    c.kernel = &ag::detail::kernels<eT>::gemm;
    c.in[0] = e.in(0);
    c.in[1] = e.in(1);
    c.out = e.out();
    c.alpha = e.alpha * static_cast<eT>(e.template attributes<Attributes>().p);
    c.beta = e.beta;
    c.flags = ag::transpose_a;
    e.run(c);
  }
  template <class eT>
  static void vjp(ag::Rule<eT>& r) {  // dA = p B g', dB = p A g
    const double p = r.template attributes<Attributes>().p;
    if (r.needs(0)) r.accumulate(0, p * r.operand(1) * r.grad().t());
    if (r.needs(1)) r.accumulate(1, p * r.operand(0) * r.grad());
  }
  static void samples(ag::Samples& s);
};
template <class eT>
Var<eT> weighted_product(double p, Var<eT> a, Var<eT> b) {
  return ag::apply<WeightedProduct>({p}, a, b);
}
void WeightedProduct::samples(ag::Samples& s) {
  const auto f = [](const auto& in) { return weighted_product(0.7, in[0], in[1]); };
  const auto plain = [](const std::vector<arma::mat>& in) -> arma::mat { return 0.7 * in[0].t() * in[1]; };
  s.add({s.uniform(4, 3), s.uniform(4, 2)}, f, plain);
  s.add({s.uniform(1, 1), s.uniform(1, 1)}, f, plain);
  s.add({s.uniform(2, 0), s.uniform(2, 3)}, f, plain);
  s.fails({arma::mat(2, 3), arma::mat(4, 3)}, f,
          "weighted_product: A is 2x3, B is 4x3: both need as many rows (2 and 4)");
}

// y = x^3, right or wrong in one way.
enum class Mistake { none, value, derivative, second_derivative, accumulation, refusal, samples };
template <Mistake mistake>
struct Cube {
  static constexpr auto name = "cube";
  static constexpr bool accumulates = mistake == Mistake::accumulation;  // it does not
  static ag::Shape shape(ag::Operands& in) { return in[0]; }
  template <class eT>
  static void eval(ag::Eval<eT>& e) {
    e.host([](const arma::Mat<eT>& x, arma::Mat<eT>& y) {
      y = x % x % x;
      if (mistake == Mistake::value && y.n_elem > 1) y(1) += eT(0.001);
    });
  }
  template <class eT>
  static void vjp(ag::Rule<eT>& r) {
    const Var<eT> x = r.operand(0);
    Var<eT> slope = (mistake == Mistake::derivative ? 2 : 3) * square(x);
    if (mistake == Mistake::second_derivative) slope = detach(slope);
    r.accumulate(0, slope % r.grad());
    if (mistake == Mistake::accumulation) r.accumulate(0, ag::apply<Cube>(0 * x));
  }
  static void samples(ag::Samples& s) {
    const auto f = [](const auto& in) { return ag::apply<Cube>(in[0]); };
    const auto plain = [](const std::vector<arma::mat>& in) -> arma::mat { return in[0] % in[0] % in[0]; };
    if (mistake != Mistake::samples) s.add({s.uniform(1, 2, 0.5, 2)}, f, plain);
    if (mistake == Mistake::refusal) s.fails({arma::mat(2, 3)}, f, "cube: x is 2x3: it must be square");
  }
};

}  // namespace mine

// A row as those of elementwise.def.
ARMAGRAD_ELEMENTWISE(bump, exp(-(x* x)), -2 * (g * (x * y)), -2, 2, arma::exp(-(x % x)))

BOOST_AUTO_TEST_CASE(an_operation_of_ones_own_is_tested_by_one_line) {
  BOOST_TEST(ag::check_operation<mine::Softsign>());
}

BOOST_AUTO_TEST_CASE(one_with_attributes_and_device_kernels_too) {
  const ag::OperationCheck r = ag::check_operation<mine::WeightedProduct>();
  BOOST_TEST(r);
  BOOST_TEST(r.samples == 4u);
  BOOST_TEST(r.refusals == 1u);
  BOOST_TEST(r.gradient_entries == 20u + 2u + 6u);
  BOOST_TEST(r.nonlinear_samples == 2u);
}

BOOST_AUTO_TEST_CASE(an_elementwise_row_of_ones_own_is_an_operation) {
  BOOST_TEST(ag::check_operation<ag::bump_operation>());
  const auto [y, dx] = ag::value_and_grad([](auto x) { return accu(bump(x)); }, arma::mat{1.0});
  BOOST_TEST(y == std::exp(-1), boost::test_tools::tolerance(1e-15));
  BOOST_TEST(dx(0) == -2 * std::exp(-1), boost::test_tools::tolerance(1e-15));
}

BOOST_AUTO_TEST_CASE(mistakes_are_caught_and_named) {
  using mine::Mistake;
  BOOST_TEST(ag::check_operation<mine::Cube<Mistake::none>>());
  const auto caught = [](const ag::OperationCheck& r, const std::string& what) {
    BOOST_TEST(!r.ok);
    BOOST_TEST(r.log.find(what) != std::string::npos, r.log << "should have contained: " << what);
  };
  caught(ag::check_operation<mine::Cube<Mistake::value>>(), "cube<float> on 1x2: value, entry (0, 1): ");
  caught(ag::check_operation<mine::Cube<Mistake::derivative>>(),
         "cube<double> on 1x2: gradient against finite differences:\n"
         "input 0 entry (0, 0): analytic ");
  caught(ag::check_operation<mine::Cube<Mistake::second_derivative>>(),
         "cube<double> on 1x2: gradient of the gradient against finite differences:\n"
         "input 0 entry (0, 0): analytic 0, numeric ");
  caught(ag::check_operation<mine::Cube<Mistake::accumulation>>(),
         "cube<double> on 1x2: first-order gradient against the differentiable one, input 0, entry (0, ");
  caught(ag::check_operation<mine::Cube<Mistake::refusal>>(),
         "cube<float> on 2x3: nothing was thrown, expected \"cube: x is 2x3: it must be square\"");
  caught(ag::check_operation<mine::Cube<Mistake::samples>>(), "cube: no sample has a value; add one in samples()");
}
