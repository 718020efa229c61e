// The engine's behaviour apart from single operations (those are tested in operations_test.cpp): what is refused and in
// which words, whose gradients go where, replay, empty matrices, and the recording as text.
#define BOOST_TEST_MODULE engine
#include <cmath>
#include <optional>
#include <sstream>
#include <thread>

#include <boost/test/unit_test.hpp>

#include <armagrad/autodiff/autodiff.hpp>

#include "refused.hpp"

namespace ag = armagrad;
using arma::mat;
using Tape = ag::Tape<double>;
using Var = ag::Var<double>;
using Parameter = ag::Parameter<double>;

namespace {

double difference(const mat& a, const mat& b) {
  BOOST_REQUIRE_EQUAL(a.n_rows, b.n_rows);
  BOOST_REQUIRE_EQUAL(a.n_cols, b.n_cols);
  return a.is_empty() ? 0 : arma::abs(a - b).max();
}

const std::string gone =
    "Var: its recording is gone: the tape was rewound, moved or destroyed since; take what you need with .value() "
    "before, and compute the rest again";
const std::string destroyed = "Var: its tape was destroyed; keep the tape alive as long as its Vars are used";
const std::string changed =
    "backward: parameter (2x2) was changed after the forward pass read it; call backward before the optimizer's step, "
    "or record the forward pass again";

const mat A = {{1, 2}, {3, 4}};
const mat column = arma::vec{5, 6};
using Classes = arma::Row<std::size_t>;

}  // namespace

BOOST_AUTO_TEST_SUITE(refusals)

BOOST_AUTO_TEST_CASE(vars_of_two_tapes_do_not_mix) {
  Tape a, b;
  const Var x = a.variable(A), y = b.variable(A);
  const std::string message =
      "add: operands 1 and 2 belong to different tapes; bring one over with tape.constant(x.value())";
  refused<ag::StateError>([&] { x + y; }, message);
  refused<ag::StateError>([&] { ag::grad(accu(x), y); }, "grad: y and x belong to different tapes");
  refused<ag::StateError>([&] { accu(x).backward({y}); }, "backward: a leaf asked for belongs to another tape");
  BOOST_TEST(accu(x + a.constant(y.value())).item() == 20);
}

BOOST_AUTO_TEST_CASE(a_var_of_a_rewound_recording_is_gone) {
  Tape tape;
  const Var x = tape.variable(A), y = accu(square(x));
  tape.rewind();
  refused<ag::StateError>([&] { x.value(); }, gone);
  tape.variable(A), tape.variable(A);  // others stand in the same places now
  refused<ag::StateError>([&] { x.value(); }, gone);
  refused<ag::StateError>([&] { x + 1; }, gone);
  refused<ag::StateError>([&] { tape.variable(A) + x; }, gone);
  refused<ag::StateError>([&] { y.backward(); }, gone);
  refused<ag::StateError>([&] { x.grad(); }, gone);
  refused<ag::StateError>([&] { x.shape(); }, gone);
}

BOOST_AUTO_TEST_CASE(moving_a_tape_ends_its_recording) {
  Tape from;
  const Var x = from.variable(A);
  Tape to(std::move(from));
  refused<ag::StateError>([&] { x.value(); }, gone);
  to.variable(A);
  refused<ag::StateError>([&] { x.value(); }, gone);
  const std::string message = "tape: it was moved from; use the tape it was moved to";
  refused<ag::StateError>([&] { from.constant(A); }, message);
  refused<ag::StateError>([&] { from.rewind(); }, message);
  refused<ag::StateError>([&] { from.to_text(); }, message);

  const Var y = to.variable(A);
  Tape other;
  const Var z = other.variable(A);
  other = std::move(to);  // `other`'s own recording is destroyed
  refused<ag::StateError>([&] { y.value(); }, gone);
  refused<ag::StateError>([&] { z.value(); }, destroyed);
  BOOST_TEST(accu(other.constant(A)).item() == 10);
}

BOOST_AUTO_TEST_CASE(a_var_of_a_destroyed_tape_is_refused) {
  auto tape = std::make_optional<Tape>();
  const Var x = tape->variable(A);
  tape.reset();
  refused<ag::StateError>([&] { x.value(); }, destroyed);
  Tape next;  // takes over what the destroyed one left behind
  next.variable(column);
  refused<ag::StateError>([&] { x.value(); }, gone);
}

BOOST_AUTO_TEST_CASE(a_parameter_changed_between_forward_and_backward_is_refused) {
  for (const bool trainable : {true, false}) {
    Parameter w(A);
    w.set_trainable(trainable);
    Tape tape;
    const Var x = tape.variable(A);
    const Var direct = accu(w * x), transposed = accu(tape.parameter(w).t() * x),
              part = accu(tape.parameter(w).cols(0, 1) * x), detached = accu(detach(tape.parameter(w)) * x);
    w.set_value(2 * A);
    for (const Var y : {direct, transposed, part, detached}) {
      refused<ag::StateError>([&] { y.backward(); }, changed);
      refused<ag::StateError>([&] { ag::grad(y, x); }, changed);
    }
    BOOST_TEST(difference(x.grad(), arma::zeros(2, 2)) == 0);
    // The tape goes on.
    const Var again = accu(w * x);
    BOOST_TEST(difference(ag::grad(again, x).value(), 2 * A.t() * arma::ones(2, 2)) == 0);
    again.backward();
    BOOST_TEST(difference(x.grad(), 2 * A.t() * arma::ones(2, 2)) == 0);
  }
}

BOOST_AUTO_TEST_CASE(backward_needs_a_scalar_that_depends_on_something) {
  Tape tape;
  const Var x = tape.variable(A);
  refused<ag::ShapeError>([&] { x.backward(); },
                          "backward: the Var is 2x2; only a 1x1 Var has a gradient: reduce it first, for example with "
                          "accu or mean");
  refused<ag::ShapeError>([&] { ag::grad(x, x); },
                          "grad: the Var is 2x2; only a 1x1 Var has a gradient: reduce it first, for example with accu "
                          "or mean");
  const std::string nothing =
      "nothing this Var was computed from requires a gradient; make the inputs with tape.variable, use trainable "
      "parameters, and record outside of no_grad";
  const Var c = tape.constant(A), y = accu(c);
  refused<ag::StateError>([&] { y.backward(); }, "backward: " + nothing);
  refused<ag::StateError>([&] { ag::grad(y, x); }, "grad: " + nothing);
  refused<ag::StateError>([&] { accu(x).backward({}); },
                          "backward: the list of leaves is empty; call backward() for all of them");
  refused<ag::StateError>([&] { accu(x).backward({y}); },
                          "backward: Var 2 (1x1) does not require a gradient; make it with tape.variable");
  refused<ag::StateError>([&] { ag::grad(accu(x), c); },
                          "grad: Var 1 (2x2) does not require a gradient; make it with tape.variable");
}

BOOST_AUTO_TEST_CASE(a_gradient_that_was_not_kept_is_refused) {
  Tape tape;
  const Var x = tape.variable(A), h = square(x), c = tape.constant(A);
  accu(h).backward();
  refused<ag::StateError>([&] { h.grad(); },
                          "grad: this Var is the result of square, whose gradient is not kept; call retain_grad() on "
                          "it before backward, or use ag::grad");
  refused<ag::StateError>([&] { c.grad(); },
                          "grad: this Var (constant) does not require a gradient; make it with tape.variable");
  refused<ag::StateError>([&] { detach(h).grad(); },
                          "grad: this Var (detach) does not require a gradient; make it with tape.variable");
}

BOOST_AUTO_TEST_CASE(values_without_an_answer_are_refused) {
  Tape tape;
  const Var x = tape.variable(A);
  refused<ag::ShapeError>([&] { x.item(); }, "item: the Var is 2x2; only a 1x1 Var has one");
  refused<ag::ValueError>(
      [&] {
        cross_entropy_sum(x, Classes{1, 2});
      },
      "cross_entropy: label 2 is not below the 2 rows (classes) of the logits");
  refused<ag::ValueError>(
      [&] {
        cross_entropy_sum(x, tape.labels({7, 0}));
      },
      "cross_entropy: label 7 is not below the 2 rows (classes) of the logits");
  refused<ag::ValueError>([&] { tape.labels({std::size_t{1} << 40}); }, "labels: 1099511627776 is no class index");
  refused<ag::ValueError>(
      [&] {
        solve(tape.constant(mat{{1, 2}, {2, 4}}), x);
      },
      "solve: A is 2x2 and singular to working precision (reciprocal condition number 0); use "
      "pinv, or add a small multiple of the identity");
  refused<ag::ValueError>([&] { inv(tape.constant(arma::zeros(2, 2))); },
                          "inv: A is 2x2 and singular to working precision (reciprocal condition number 0); use pinv, "
                          "or add a small multiple of the identity");
  const std::size_t size = tape.size();
  refused<ag::ShapeError>([&] { x* mat(3, 1); },
                          "matmul: A is 2x2, B is 3x1: A's columns (2) must equal B's rows (3); columns are samples");
  BOOST_TEST(tape.size() == size + 1);  // the 3x1 constant alone
  BOOST_TEST(accu(x).item() == 10);
}

BOOST_AUTO_TEST_CASE(labels_belong_to_their_recording) {
  Tape tape, other;
  const auto labels = tape.labels({0, 1});
  refused<ag::StateError>([&] { cross_entropy_sum(other.variable(A), labels); },
                          "cross_entropy: the labels belong to another tape or to a rewound recording");
  tape.rewind();
  tape.labels({1, 1});
  refused<ag::StateError>([&] { cross_entropy_sum(tape.variable(A), labels); },
                          "cross_entropy: the labels belong to another tape or to a rewound recording");
}

BOOST_AUTO_TEST_CASE(a_parameter_that_was_moved_from_is_refused) {
  Parameter w(A), v(std::move(w));
  Tape tape;
  const std::string message = "parameter: it was moved from; use the one it was moved to";
  refused<ag::StateError>([&] { tape.parameter(w); }, message);
  refused<ag::StateError>([&] { tape.constant(A) * w; }, message);
  refused<ag::StateError>([&] { w.value(); }, message);
  refused<ag::StateError>([&] { w.n_rows(); }, message);
  refused<ag::StateError>([&] { w.zero_grad(); }, message);
  refused<ag::ShapeError>([&] { v.set_value(column); },
                          "set_value: parameter is 2x2, the new value is 2x1; both must be equal");
}

BOOST_AUTO_TEST_CASE(a_parameter_on_another_device_is_refused) {
  // A second device: the CPU under another name.
  struct Other final : ag::Backend {
    ag::Backend& cpu = ag::Device::cpu().backend();
    const char* name() const override { return "other"; }
    void* allocate(std::size_t bytes) override { return cpu.allocate(bytes); }
    void release(void* memory) noexcept override { cpu.release(memory); }
    void upload(void* to, const void* from, std::size_t bytes) override { cpu.upload(to, from, bytes); }
    void download(void* to, const void* from, std::size_t bytes) override { cpu.download(to, from, bytes); }
    void run(const ag::Command<float>& c) override { cpu.run(c); }
    void run(const ag::Command<double>& c) override { cpu.run(c); }
    void require(const ag::Kernel<float>&, const char*) override {}
    void require(const ag::Kernel<double>& kernel, const char* operation) override {
      if (std::string(operation) == "solve") throw ag::DeviceError("other: no code for " + std::string(kernel.name));
    }
    void synchronize() override {}
  } backend;
  const ag::Device other(backend);
  Parameter w(A);
  {
    Tape tape(other);
    refused<ag::DeviceError>([&] { tape.parameter(w); },
                             "parameter: parameter is on cpu, the tape on other; move it with `to(device)` before");
    refused<ag::DeviceError>([&] { solve(tape.constant(A), tape.constant(A)); }, "other: no code for lu_solve");
    accu(tape.constant(A) * tape.variable(A)).backward();
    w.to(other);
    const Parameter copy(w);
    BOOST_TEST((copy.device() == other));
    accu(square(tape.parameter(w))).backward();
    BOOST_TEST(difference(w.grad(), 2 * A) == 0);
  }
  w.to(ag::Device::cpu());
  BOOST_TEST(difference(w.grad(), 2 * A) == 0);
  BOOST_TEST(difference(w.value(), A) == 0);
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(gradients)

BOOST_AUTO_TEST_CASE(value_and_grad_gives_the_value_and_a_gradient_for_each_input) {
  const mat b = arma::vec{1, 2};
  const auto f = [](auto a, auto y) { return norm(solve(a, y), "fro"); };
  const auto [value, dA, db] = ag::value_and_grad(f, A, b);
  const mat x = arma::solve(A, b);
  const mat z = arma::solve(A.t(), x / arma::norm(x, 2));
  BOOST_TEST(value == arma::norm(x, 2), boost::test_tools::tolerance(1e-14));
  BOOST_TEST(difference(db, z) < 1e-14);
  BOOST_TEST(difference(dA, -z * x.t()) < 1e-13);

  const auto [square_sum, slope] = ag::value_and_grad([](auto a) { return accu(a % a); }, 2 * A.t());
  BOOST_TEST(square_sum == 120);
  BOOST_TEST(difference(slope, 4 * A.t()) == 0);
  BOOST_TEST(difference(ag::grad([](auto a) { return accu(a % a); }, A), 2 * A) == 0);
  const auto [first, second] = ag::grad([](auto a, auto c) { return accu(a * c); }, A, b);
  BOOST_TEST(difference(first, arma::ones(2, 1) * b.t()) == 0);
  BOOST_TEST(difference(second, A.t() * arma::ones(2, 1)) == 0);
}

BOOST_AUTO_TEST_CASE(float_functions_have_float_gradients) {
  const arma::fmat x = {{0.5f, -1}};
  const auto [value, slope] = ag::value_and_grad([](ag::Var<float> v) { return accu(exp(v)); }, x);
  static_assert(std::is_same_v<decltype(value), const float>);
  static_assert(std::is_same_v<decltype(slope), const arma::fmat>);
  BOOST_TEST(arma::approx_equal(slope, arma::exp(x), "absdiff", 1e-6f));
}

BOOST_AUTO_TEST_CASE(gradients_of_gradients_go_on) {
  // e^x sin(x): 2 e^x cos(x), then 2 e^x (cos(x) - sin(x)), then -4 e^x sin(x).
  Tape tape;
  for (const double at : {-1.3, 0.0, 0.7}) {
    const Var x = tape.variable(mat{at});
    const Var d1 = ag::grad(exp(x) * sin(x), x), d2 = ag::grad(d1, x), d3 = ag::grad(d2, x), d4 = ag::grad(d3, x);
    BOOST_TEST(std::abs(d1.item() - std::exp(at) * (std::sin(at) + std::cos(at))) < 1e-12);
    BOOST_TEST(std::abs(d2.item() - 2 * std::exp(at) * std::cos(at)) < 1e-12);
    BOOST_TEST(std::abs(d3.item() - 2 * std::exp(at) * (std::cos(at) - std::sin(at))) < 1e-12);
    BOOST_TEST(std::abs(d4.item() + 4 * std::exp(at) * std::sin(at)) < 1e-12);
    d3.backward();
    BOOST_TEST(x.grad()(0) == d4.item(), boost::test_tools::tolerance(1e-13));
  }
}

BOOST_AUTO_TEST_CASE(a_hessian_vector_product_is_a_gradient_of_a_gradient) {
  // f = x'Ax / 2 + accu(x^3): H v = (A + A')/2 v + 6 x % v
  const mat v = arma::vec{1, -2};
  Tape tape;
  const Var x = tape.variable(column);
  const Var y = 0.5 * (x.t() * A * x) + accu(x % x % x);
  const Var h = ag::grad(dot(ag::grad(y, x), v), x);
  BOOST_TEST(difference(h.value(), 0.5 * (A + A.t()) * v + 6 * column % v) < 1e-12);
}

BOOST_AUTO_TEST_CASE(grad_of_what_y_does_not_depend_on_is_zero) {
  Tape tape;
  const Var x = tape.variable(A), y = accu(square(x)), z = tape.variable(column);
  const auto g = ag::grad(y, std::vector{z, x, x});
  BOOST_TEST(difference(g[0].value(), arma::zeros(2, 1)) == 0);
  BOOST_TEST(difference(g[1].value(), 2 * A) == 0);
  BOOST_TEST(difference(g[2].value(), 2 * A) == 0);
  BOOST_TEST(difference(x.grad(), arma::zeros(2, 2)) == 0);  // ag::grad leaves nothing behind
  BOOST_TEST(ag::grad(accu(x)(0, 0), accu(x)).item() == 0);  // equal, but computed apart
}

BOOST_AUTO_TEST_CASE(nothing_recorded_under_no_grad_requires_a_gradient) {
  Tape tape;
  const Var x = tape.variable(A);
  const Parameter w(A);
  {
    const auto guard = tape.no_grad();
    BOOST_TEST(!square(x).requires_grad());
    BOOST_TEST(!tape.variable(A).requires_grad());
    BOOST_TEST(!(w * x).requires_grad());
    { const auto inner = tape.no_grad(); }
    BOOST_TEST(!square(x).requires_grad());
  }
  BOOST_TEST(square(x).requires_grad());
  const double sum = ag::no_grad(tape, [&] { return accu(x).item(); });
  BOOST_TEST(sum == 10);
  BOOST_CHECK_THROW(ag::no_grad(tape, [&] { return x * column.t(); }), ag::ShapeError);
  BOOST_TEST((w * x).requires_grad());
}

BOOST_AUTO_TEST_CASE(no_gradient_flows_through_detach) {
  Tape tape;
  const Var x = tape.variable(A), y = accu(x % detach(x));
  y.backward();
  BOOST_TEST(difference(x.grad(), A) == 0);
  BOOST_TEST(difference(ag::grad(y, x).value(), A) == 0);
  BOOST_TEST(!ag::grad(y, x).requires_grad());
}

BOOST_AUTO_TEST_CASE(borrow_does_not_copy) {
  mat x = A;
  Tape tape;
  const Var b = tape.borrow(x), c = tape.constant(x);
  x(0, 0) = 9;
  BOOST_TEST(b.value()(0, 0) == 9);
  BOOST_TEST(c.value()(0, 0) == 1);
  BOOST_TEST(!b.requires_grad());
}

BOOST_AUTO_TEST_CASE(a_borrowed_variable_and_views_copy_nothing) {
  mat x = A;
  Tape tape;
  const Var v = tape.borrow_variable(x), y = square(v);
  BOOST_TEST(v.requires_grad());
  accu(y).backward();
  const mat gradient = v.grad_view(), value = v.value_view();
  BOOST_TEST(value.memptr() == x.memptr());
  BOOST_TEST(difference(gradient, 2 * A) == 0);
  BOOST_TEST(difference(y.value_view(), square(A)) == 0);
  const mat empty(3, 0);
  BOOST_TEST(difference(square(tape.borrow_variable(empty)).value(), empty) == 0);
  BOOST_TEST(difference((2 * tape.borrow(empty)).value(), empty) == 0);
  BOOST_CHECK_THROW(y.grad_view(), ag::StateError);
  BOOST_TEST(difference(tape.variable(A).grad_view(), arma::zeros(2, 2)) == 0);
  BOOST_TEST(ag::no_grad(tape, [&] { return tape.borrow_variable(x).requires_grad(); }) == false);
}

BOOST_AUTO_TEST_CASE(a_replay_sees_what_a_borrowed_matrix_holds) {
  mat x = A;
  Tape tape;
  const Var v = tape.borrow_variable(x);
  Var y;
  auto replay = tape.capture([&] { y = accu(square(v)); });
  x *= 2;
  replay.set(v, x);
  replay.run();
  BOOST_TEST(y.item() == 4 * accu(square(A)));
  BOOST_CHECK_EXCEPTION(replay.set(v, mat(x)), ag::StateError, [](const ag::StateError& e) {
    return std::string(e.what()) == "replay: only a leaf made with constant or variable can be set, not a borrowed";
  });
}

BOOST_AUTO_TEST_CASE(retain_grad_keeps_the_gradient_of_the_last_backward) {
  Tape tape;
  const Var x = tape.variable(A), h = square(x), y = accu(3 * h);
  h.retain_grad();
  y.retain_grad();
  BOOST_TEST(difference(h.grad(), arma::zeros(2, 2)) == 0);
  y.backward();
  const std::size_t held = tape.capacity();
  for (int i = 2; i <= 10'000; ++i) y.backward();
  BOOST_TEST(difference(h.grad(), 3 * arma::ones(2, 2)) == 0);
  BOOST_TEST(y.grad()(0) == 1);
  BOOST_TEST(difference(x.grad(), 10'000 * 6 * A) == 0);  // leaves add up, interior nodes do not
  BOOST_TEST(tape.capacity() == held);
}

BOOST_AUTO_TEST_CASE(a_sum_hands_its_gradient_on_to_whoever_wants_it) {
  Tape tape;
  const Var x = tape.variable(A), y = tape.variable(column.t());  // 2 x 2, 1 x 2
  const Var constant = tape.constant(A);
  const Var kept = x - constant, both = kept + kept;  // one operand alone wants it; both are one
  kept.retain_grad();
  both.retain_grad();
  accu((constant - x) % (both + x) + (both + y)).backward();
  // f = (c - x)(3 x - 2 c) + 2 (x - c) + y, so df/dx = 5 c - 6 x + 2 = 2 - x at x = c
  BOOST_TEST(difference(x.grad(), 2 - A) == 0);
  BOOST_TEST(difference(y.grad(), mat{{2, 2}}) == 0);
  BOOST_TEST(difference(both.grad(), mat(2, 2, arma::fill::ones)) == 0);
  BOOST_TEST(difference(kept.grad(), mat(2, 2, arma::fill::value(2))) == 0);
  accu(both).backward();
  BOOST_TEST(difference(kept.grad(), mat(2, 2, arma::fill::value(2))) == 0);
  BOOST_TEST(difference(x.grad(), 4 - A) == 0);
}

BOOST_AUTO_TEST_CASE(a_second_backward_adds_to_the_leaves_alone) {
  Tape tape;
  Parameter w(A);
  const Var x = tape.variable(column), h = tanh(w * x), y = accu(h % h), z = accu(exp(h));
  y.backward();
  const mat dx = x.grad(), dw = w.grad();
  y.backward();
  BOOST_TEST(difference(x.grad(), 2 * dx) == 0);
  BOOST_TEST(difference(w.grad(), 2 * dw) == 0);
  z.backward();
  BOOST_TEST(difference(x.grad(), 2 * dx + ag::grad(z, x).value()) < 1e-15);
  w.zero_grad();
  y.backward();
  BOOST_TEST(difference(w.grad(), dw) == 0);
  BOOST_TEST(difference(ag::grad(y, x).value(), dx) < 1e-15);
}

BOOST_AUTO_TEST_CASE(backward_for_some_leaves_computes_nothing_for_the_others) {
  Tape tape;
  Parameter w(A), v(2 * A);
  const Var x = tape.variable(column), h = tanh(w * x), y = accu(square(v * h));
  mat dx;
  auto all = tape.capture([&] { y.backward(); });
  dx = x.grad();
  w.zero_grad(), v.zero_grad();
  auto one = tape.capture([&] { y.backward({x}); });
  BOOST_TEST(difference(x.grad(), 2 * dx) == 0);
  BOOST_TEST(arma::accu(arma::abs(w.grad())) == 0);
  BOOST_TEST(arma::accu(arma::abs(v.grad())) == 0);
  BOOST_TEST(one.size() == all.size() - 2);  // a product less for each parameter
  y.backward({h});                           // an intermediate result
  BOOST_TEST(difference(h.grad(), ag::grad(y, h).value()) < 1e-13);
  BOOST_TEST(difference(x.grad(), 2 * dx) == 0);
}

BOOST_AUTO_TEST_CASE(frozen_parameters_get_no_gradient) {
  Tape tape;
  Parameter w(A), v(A);
  w.set_trainable(false);
  const Var x = tape.constant(column);
  BOOST_TEST(!(w * x).requires_grad());
  accu(v * (w * x)).backward();
  BOOST_TEST(arma::accu(arma::abs(w.grad())) == 0);
  BOOST_TEST(difference(v.grad(), arma::ones(2, 1) * (A * column).t()) == 0);
}

BOOST_AUTO_TEST_CASE(a_parameter_used_twice_gets_both_contributions) {
  const mat expected = 2 * A + arma::ones(2, 1) * column.t();
  Tape tape;
  Parameter w(A);
  const Var x = tape.constant(column), leaf = tape.parameter(w);
  (accu(leaf % leaf) + accu(leaf * x)).backward();
  BOOST_TEST(difference(w.grad(), expected) == 0);
  BOOST_TEST(difference(leaf.grad(), expected) == 0);
  w.zero_grad();
  BOOST_TEST(difference(leaf.grad(), arma::zeros(2, 2)) == 0);
  (accu(tape.parameter(w) % tape.parameter(w)) + accu(w * x)).backward();
  BOOST_TEST(difference(w.grad(), expected) == 0);
}

BOOST_AUTO_TEST_CASE(copies_of_a_parameter_are_its_own_and_moves_are_the_same_one) {
  Tape tape;
  Parameter w(A);
  const Var y = accu(square(tape.parameter(w)));
  Parameter copy(w);
  copy.set_value(3 * A);
  BOOST_TEST(difference(w.value(), A) == 0);
  Parameter moved(std::move(w));
  y.backward();  // the leaf follows the storage
  BOOST_TEST(difference(moved.grad(), 2 * A) == 0);
  BOOST_TEST(difference(copy.grad(), arma::zeros(2, 2)) == 0);
  copy = moved;
  BOOST_TEST(difference(copy.value(), A) == 0);
  BOOST_TEST(difference(copy.grad(), arma::zeros(2, 2)) == 0);
  copy.set_value(column * column.t());
  BOOST_TEST(difference(moved.value(), A) == 0);
  const Parameter& same = moved;
  moved = same;
  BOOST_TEST(difference(moved.grad(), 2 * A) == 0);
}

BOOST_AUTO_TEST_CASE(a_tape_keeps_the_parameters_it_uses_alive) {
  Tape tape;
  auto w = std::make_optional<Parameter>(A);
  const Var x = tape.variable(column), y = accu(*w * x);
  w.reset();
  y.backward();
  BOOST_TEST(difference(x.grad(), A.t() * arma::ones(2, 1)) == 0);
}

BOOST_AUTO_TEST_CASE(broadcast_gradients_are_summed_back) {
  const mat row = {{1, -1}}, scalar = arma::vec{4};
  const auto [value, dA, dcolumn, drow, dscalar] = ag::value_and_grad(
      [](auto a, auto c, auto r, auto s) { return accu(square(a + c - r) % s); }, A, column, row, scalar);
  mat z = A;
  z.each_col() += arma::vec(column);
  z.each_row() -= arma::rowvec(row);
  BOOST_TEST(value == 4 * arma::accu(z % z));
  BOOST_TEST(difference(dA, 8 * z) == 0);
  BOOST_TEST(difference(dcolumn, 8 * arma::sum(z, 1)) == 0);
  BOOST_TEST(difference(drow, -8 * arma::sum(z, 0)) == 0);
  BOOST_TEST(dscalar(0) == arma::accu(z % z));
}

BOOST_AUTO_TEST_CASE(empty_matrices_flow_through) {
  Tape tape;
  const Var a = tape.variable(mat(3, 0)), b = tape.variable(mat(0, 2)), c = tape.variable(mat());
  Parameter none(0, 4);
  const Var y = accu(a * b) + accu(square(a)) + accu(c + 1) + accu(b.t() * tape.parameter(none)) +
                accu(tape.variable(column) + tape.variable(mat(2, 0)));
  BOOST_TEST(y.item() == 0);
  y.backward();
  BOOST_TEST(arma::size(a.grad()) == arma::size(3, 0));
  BOOST_TEST(arma::size(b.grad()) == arma::size(0, 2));
  BOOST_TEST(arma::size(c.grad()) == arma::size(0, 0));
  BOOST_TEST(arma::size(none.grad()) == arma::size(0, 4));
  BOOST_TEST(arma::size(ag::grad(y, a).value()) == arma::size(3, 0));
  BOOST_TEST(cross_entropy_sum(a, Classes{}).item() == 0);
  const Var w = tape.variable(column);
  accu(w * tape.constant(mat(1, 0))).backward();
  BOOST_TEST(difference(w.grad(), arma::zeros(2, 1)) == 0);
}

BOOST_AUTO_TEST_CASE(the_cross_entropy_of_confident_examples_keeps_its_digits) {
  // p_y - 1 and 1 + e^-40 would both be rounded to nothing in float.
  const arma::fmat logits = {{40, 0, 0}, {0, 40, 88}, {0, -3, 0}};
  const Classes labels = {0, 1, 1};
  const auto [loss, slope] = ag::value_and_grad([&](ag::Var<float> z) { return cross_entropy_sum(z, labels); }, logits);
  double expected_loss = 0;
  mat expected(3, 3);
  for (arma::uword j = 0; j < 3; ++j) {
    const arma::vec e = arma::exp(arma::conv_to<arma::vec>::from(logits.col(j)) - double(logits(labels[j], j)));
    double others = 0;
    for (arma::uword i = 0; i < 3; ++i) others += i == labels[j] ? 0 : e(i);
    expected.col(j) = e / (1 + others);
    expected(labels[j], j) = -others / (1 + others);
    expected_loss += std::log1p(others);
  }
  BOOST_TEST(loss > 0);
  BOOST_TEST(loss == expected_loss, boost::test_tools::tolerance(1e-6));
  for (arma::uword i = 0; i < 9; ++i) BOOST_TEST(slope(i) == expected(i), boost::test_tools::tolerance(1e-5));

  // Against the double engine where the label is far from the top: no infinity, no cancellation.
  const arma::fmat wrong = {{-200, 30}, {300, 31}};
  const auto f = [](auto z) { return cross_entropy_sum(z, Classes{0, 0}); };
  const auto [float_loss, float_slope] = ag::value_and_grad(f, wrong);
  const auto [double_loss, double_slope] = ag::value_and_grad(f, arma::conv_to<mat>::from(wrong));
  BOOST_TEST(double_loss == 500 + std::log1p(std::exp(1)), boost::test_tools::tolerance(1e-14));
  BOOST_TEST(float_loss == double_loss, boost::test_tools::tolerance(1e-6));
  BOOST_TEST(difference(arma::conv_to<mat>::from(float_slope), double_slope) < 1e-6);
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(replays)

BOOST_AUTO_TEST_CASE(a_replay_takes_new_data_of_the_same_shape) {
  Tape tape;
  Parameter w(A);
  const Var x = tape.constant(column);
  const auto labels = tape.labels({0});
  std::optional<Var> loss;
  auto step = tape.capture([&] {
    w.zero_grad();
    loss = cross_entropy_sum(w * x, labels);
    loss->backward();
  });
  const mat other = arma::vec{-1, 2};
  step.set(x, other);
  step.set(labels, {1});
  step.run();
  const auto [value, slope] =
      ag::value_and_grad([&](auto v) { return cross_entropy_sum(v * other, Classes{1}); }, w.value());
  BOOST_TEST(loss->item() == value);
  BOOST_TEST(difference(w.grad(), slope) == 0);

  refused<ag::ShapeError>([&] { step.set(x, A); },
                          "replay: the leaf was captured as 2x1, the new value is 2x2; capture again for another "
                          "shape");
  refused<ag::ShapeError>(
      [&] {
        step.set(labels, {0, 1});
      },
      "replay: 1 labels were captured, 2 are given; capture again for another batch size");
  refused<ag::ValueError>([&] { step.set(labels, {2}); },
                          "replay: label 2 of column 0 is not below the 2 classes captured");
  refused<ag::StateError>([&] { step.set(tape.parameter(w), A); },
                          "replay: only a leaf made with constant or variable can be set, not a parameter");
  const std::string message =
      "replay: the tape it was captured on was rewound, moved or destroyed; capture the step again";
  tape.rewind();
  refused<ag::StateError>([&] { step.run(); }, message);
  refused<ag::StateError>([&] { step.set(x, other); }, message);
  refused<ag::StateError>([&] { step.set(labels, {1}); }, message);
}

BOOST_AUTO_TEST_CASE(a_replay_does_not_outlive_its_tape) {
  auto tape = std::make_optional<Tape>();
  auto step = tape->capture([&] { square(tape->constant(A)); });
  tape.reset();
  Tape next;
  refused<ag::StateError>(
      [&] { step.run(); },
      "replay: the tape it was captured on was rewound, moved or destroyed; capture the step again");
}

BOOST_AUTO_TEST_CASE(captures_do_not_nest_nor_rewind) {
  Tape tape, other;
  const Var x = tape.variable(A);
  const std::string message = "capture: another capture is running in this thread";
  refused<ag::StateError>([&] { tape.capture([&] { tape.capture([] {}); }); }, message);
  refused<ag::StateError>([&] { tape.capture([&] { other.capture([] {}); }); }, message);
  BOOST_CHECK_THROW(tape.capture([&] { x* mat(3, 3); }), ag::ShapeError);
  BOOST_TEST(tape.capture([&] { square(x); }).size() == 1u);  // the failed ones left nothing running
  refused<ag::StateError>(
      [&] { tape.capture([&] { tape.rewind(); }); },
      "capture: the step rewound, moved or destroyed the tape; the replay needs the recording, so rewind before "
      "capture");
}

BOOST_AUTO_TEST_CASE(what_is_computed_after_a_capture_stays_untouched_by_the_replay) {
  Tape tape;
  const Var x = tape.variable(A), z = tape.variable(3 * A);
  auto step = tape.capture([&] { accu(square(exp(x) % sin(x))).backward({x}); });
  const Var y = accu(square(z));
  y.backward({z});
  step.run();
  BOOST_TEST(difference(z.grad(), 6 * A) == 0);
  BOOST_TEST(y.item() == 9 * arma::accu(A % A));
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_CASE(threads_may_each_have_a_tape) {
  std::vector<double> sums(4);
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < sums.size(); ++t)
    threads.emplace_back([t, &sums] {
      for (int i = 0; i < 100; ++i) {
        Tape tape;
        const Var x = tape.variable(static_cast<double>(t + 1) * A);
        auto step = tape.capture([&] { accu(square(x)).backward(); });
        sums[t] += arma::accu(x.grad());
      }
    });
  for (std::thread& t : threads) t.join();
  for (std::size_t t = 0; t < sums.size(); ++t) BOOST_TEST(sums[t] == 2000.0 * static_cast<double>(t + 1));
}

BOOST_AUTO_TEST_CASE(a_recording_can_be_read) {
  Tape tape;
  Parameter w(arma::rowvec{1, 2});
  const Var x = tape.constant(arma::rowvec{3, 4});
  const Var y = square(w * x.t());
  cross_entropy_sum(join_cols(y, y), Classes{1}).backward();
  BOOST_TEST(tape.to_text() ==
             "%0 = constant()  1x2\n"
             "%1 = t(%0)  2x1\n"
             "%2 = parameter()  1x2  grad\n"
             "%3 = matmul(%2, %1)  1x1  grad\n"
             "%4 = square(%3)  1x1  grad\n"
             "%5 = join_cols(%4, %4)  2x1  grad\n"
             "%6 = cross_entropy(%5)  1x1  grad\n"
             "%7 = result(%6.1)  2x1  grad\n");
  tape.rewind();
  tape.variable(A) * column;
  BOOST_TEST(tape.to_dot() ==
             "digraph tape {\n"
             "  rankdir=BT;\n"
             "  node [shape=box, fontname=\"sans-serif\"];\n"
             "  n0 [label=\"variable\\n2x2\", style=rounded];\n"
             "  n1 [label=\"constant\\n2x1\", style=rounded];\n"
             "  n2 [label=\"matmul\\n2x1\"];\n"
             "  n0 -> n2;\n"
             "  n1 -> n2;\n"
             "}\n");
  std::ostringstream printed, expected;
  printed << tape.constant(A);
  expected << A;
  BOOST_TEST(printed.str() == expected.str());
}
