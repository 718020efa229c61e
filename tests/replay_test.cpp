// Replays in company: of other recordings, other tapes, and eager work in between.
#define BOOST_TEST_MODULE replay
#include <optional>

#include <boost/test/unit_test.hpp>

#include <armagrad/armagrad.hpp>
#include <armagrad/autodiff/operation.hpp>

namespace ag = armagrad;

namespace {

auto says(const std::string& text) {
  return [text](const ag::Error& e) {
    const bool found = std::string(e.what()).find(text) != std::string::npos;
    if (!found) BOOST_TEST_MESSAGE("message: " << e.what());
    return found;
  };
}

bool equal(const arma::mat& a, const arma::mat& b) { return arma::approx_equal(a, b, "absdiff", 0); }

// Four operands, so that a recording keeps its operand lists outside of the nodes.
struct WeightedSum {  // a % b + c % d
  static constexpr auto name = "weighted_sum";
  static constexpr const char* operands[] = {"a", "b", "c", "d", nullptr};
  static ag::Shape shape(ag::Operands& in) {
    in.require(in[0] == in[1] && in[0] == in[2] && in[0] == in[3], "all must have the same shape");
    return in[0];
  }
  template <class eT>
  static void eval(ag::Eval<eT>& e) {
    e.host([](const arma::Mat<eT>& a, const arma::Mat<eT>& b, const arma::Mat<eT>& c, const arma::Mat<eT>& d,
              arma::Mat<eT>& y) { y = a % b + c % d; });
  }
  template <class eT>
  static void vjp(ag::Rule<eT>& r) {
    for (const std::size_t k : {0, 1, 2, 3}) r.accumulate(k, r.grad() % r.operand(k ^ 1U));
  }
};

}  // namespace

BOOST_AUTO_TEST_CASE(operations_of_four_operands_go_with_rows_of_two) {
  const arma::mat x = {{1, -2}, {0.5, 3}};
  const auto f = [](const auto& in) {
    const auto v = in[0];
    auto y = v;
    for (int i = 0; i < 3; ++i) y = ag::apply<WeightedSum>(y, v, v % v, tanh(y)) / (v % v + 1.0);
    return accu(y % v);
  };
  const auto r = ag::gradcheck(f, {x});
  BOOST_CHECK_MESSAGE(r.ok, r.log);
  const auto second = ag::gradgradcheck(f, {x});
  BOOST_CHECK_MESSAGE(second.ok, second.log);
}

BOOST_AUTO_TEST_CASE(a_host_function_of_another_arity_is_refused) {
  ag::Tape<double> tape;
  const auto x = tape.variable(arma::mat(2, 2, arma::fill::ones));
  BOOST_CHECK_EXCEPTION(ag::apply<WeightedSum>(x, x, x, x, x), ag::StateError,
                        says("weighted_sum: its host function takes 4 operands, but it was applied to 5"));
}

BOOST_AUTO_TEST_CASE(a_replay_does_not_change_the_masks_of_others) {
  const arma::mat ones(4, 4, arma::fill::ones);
  ag::Tape<double> tape;
  const auto x = tape.variable(ones);
  const auto y = dropout(x, 0.5, 1, 1);  // eager
  std::optional<ag::Var<double>> z;
  auto replay = tape.capture([&] { z = dropout(x, 0.5, 1, 2); });
  const arma::mat first = z->value();
  replay.run();
  const arma::mat second = z->value();
  BOOST_CHECK(!equal(first, second));  // each run draws its own mask
  accu(y).backward({x});
  BOOST_CHECK(equal(x.grad(), y.value()));  // of ones: the gradient is the mask
}

BOOST_AUTO_TEST_CASE(backward_within_a_capture_uses_the_runs_own_mask) {
  ag::Tape<double> tape;
  ag::Parameter<double> p(arma::mat(4, 4, arma::fill::ones));
  std::optional<ag::Var<double>> y;
  auto replay = tape.capture([&] {
    p.zero_grad();
    y = dropout(tape.parameter(p), 0.5, 1, 1);
    accu(*y).backward();
  });
  for (int run = 0; run < 3; ++run) {
    BOOST_CHECK(equal(p.grad(), y->value()));
    replay.run();
  }
}

BOOST_AUTO_TEST_CASE(another_tape_within_a_capture_is_refused) {
  ag::Tape<double> tape;
  ag::Tape<float> single;
  const auto x = tape.variable(arma::mat(2, 2, arma::fill::ones));
  const auto text = "capture: the step computes on another tape, which a replay could not repeat";
  BOOST_CHECK_EXCEPTION(tape.capture([&] {
    ag::Tape<double> other;
    accu(exp(other.variable(arma::mat(2, 2))));
  }),
                        ag::StateError, says(text));
  BOOST_CHECK_EXCEPTION(tape.capture([&] { accu(exp(single.variable(arma::fmat(2, 2)))); }), ag::StateError,
                        says(text));
  BOOST_CHECK_NO_THROW(tape.capture([&] { accu(exp(x)); }));  // the thread captures again
}

BOOST_AUTO_TEST_CASE(a_transpose_that_was_read_shows_the_replayed_value) {
  ag::Tape<double> tape;
  const auto x = tape.constant(arma::mat{{1, 2}});
  std::optional<ag::Var<double>> y;
  auto replay = tape.capture([&] { y = x.t(); });
  BOOST_CHECK(equal(y->value(), arma::vec{1, 2}));
  replay.set(x, arma::mat{{5, 6}});
  replay.run();
  BOOST_CHECK(equal(y->value(), arma::vec{5, 6}));
}

BOOST_AUTO_TEST_CASE(a_gradient_from_before_the_captured_step_is_refused) {
  ag::Tape<double> tape;
  ag::Parameter<double> p(arma::mat(1, 2, arma::fill::ones));
  accu(tape.parameter(p)).backward();
  BOOST_CHECK_EXCEPTION(tape.capture([&] { accu(square(tape.parameter(p))).backward(); }), ag::StateError,
                        says("holds a gradient from before the step, and a replay could not know whether to add to it; "
                             "call zero_grad within the step, before backward"));
}

BOOST_AUTO_TEST_CASE(a_parameter_has_one_leaf_so_grad_reaches_it) {
  ag::Tape<double> tape;
  ag::Parameter<double> p(arma::mat(1, 1, arma::fill::value(3)));
  const auto w = tape.parameter(p);
  const auto x = tape.constant(2);
  const auto y = p * x * p;        // 2 p^2
  const auto dp = ag::grad(y, w);  // 4 p
  BOOST_CHECK_EQUAL(dp.item(), 12);
  BOOST_CHECK_EQUAL(ag::grad(dp, w).item(), 4);
  y.backward({w});
  BOOST_CHECK_EQUAL(p.grad()(0), 12);
}

BOOST_AUTO_TEST_CASE(a_failed_backward_leaves_no_gradient_behind) {
  ag::Tape<double> tape;
  ag::Parameter<double> p(arma::mat(2, 2, arma::fill::eye));
  const auto x = tape.parameter(p);
  const auto y = accu(pinv(x));
  y.backward();
  const arma::mat right = p.grad();
  p.zero_grad();
  BOOST_CHECK_EXCEPTION(x.backward(), ag::ShapeError, says("only a 1x1 Var has a gradient"));
  BOOST_CHECK(equal(p.grad(), arma::mat(2, 2)));
  y.backward();
  BOOST_CHECK(equal(p.grad(), right));
}

BOOST_AUTO_TEST_CASE(nan_is_the_largest_and_the_smallest_wherever_it_stands) {
  const double nan = arma::datum::nan;
  ag::Tape<double> tape;
  const auto x = tape.constant(arma::mat{{nan, 1}, {1, nan}});
  for (const int dim : {0, 1}) {
    BOOST_CHECK(std::isnan(max(x, dim).value()(0)) && std::isnan(max(x, dim).value()(1)));
    BOOST_CHECK(std::isnan(min(x, dim).value()(0)) && std::isnan(min(x, dim).value()(1)));
    BOOST_CHECK(std::isnan(log_sum_exp(x, dim).value()(0)) && std::isnan(log_sum_exp(x, dim).value()(1)));
  }
}

BOOST_AUTO_TEST_CASE(a_result_larger_than_any_memory_is_refused) {
  ag::Tape<double> tape;
  const auto x = tape.constant(1);
  BOOST_CHECK_EXCEPTION(repmat(x, 1U << 31, 1U << 31), ag::ShapeError, says("has more elements than memory can hold"));
}
