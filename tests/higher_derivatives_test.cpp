// Products with Jacobians and Hessians, the matrices themselves, scopes and checkpoints; values from JAX.
#define BOOST_TEST_MODULE higher_derivatives
#include "peers/higher_derivatives.inc"

#include <boost/test/unit_test.hpp>

#include <armagrad/armagrad.hpp>

#include "refused.hpp"

namespace ag = armagrad;
using Var = ag::Var<double>;
using Tape = ag::Tape<double>;

namespace {

// The numbers of peers/higher_derivatives.py.
arma::mat fixed(arma::uword rows, arma::uword cols, double phase) {
  arma::mat x(rows, cols);
  for (arma::uword i = 0; i < x.n_elem; ++i) x[i] = std::sin(phase + 1.7 * static_cast<double>(i));
  return x;
}

template <std::size_t n>
arma::mat stored(const double (&values)[n], arma::uword rows) {
  return arma::mat(values, rows, n / rows);
}

double difference(const arma::mat& a, const arma::mat& b) {
  BOOST_REQUIRE(arma::size(a) == arma::size(b));
  return a.is_empty() ? 0 : arma::abs(a - b).max() / std::max(1.0, arma::abs(b).max());
}

const arma::mat w = fixed(4, 3, 0.3), x = fixed(3, 2, 1.1), v_w = fixed(4, 3, 0.9), v_x = fixed(3, 2, 0.4),
                u = fixed(4, 2, 0.6);

const auto network = [](auto weights, auto in) {  // 4 x 3, 3 x 2
  const auto h = tanh(weights * in);              // 4 x 2
  return exp(0.5 * h) % weights.col(0) + log1p(square(in.row(0)));
};
const auto loss = [](auto weights, auto in) {
  return accu(log_sum_exp(network(weights, in), 0)) + 0.1 * accu(square(weights) % exp(weights));
};
const auto misfit = [](auto theta) {
  const arma::vec t = 0.7 * arma::regspace(0, 5);
  const arma::mat squares = arma::square(arma::repmat(t, 1, 6) - arma::repmat(t.t(), 6, 1));
  const arma::vec observed = fixed(6, 1, 0.2);
  const auto k =
      exp(2 * theta(0, 0) - squares * exp(-2 * theta(1, 0))) + exp(2 * theta(2, 0)) * arma::eye<arma::mat>(6, 6);
  return dot(observed, solve(k, observed));
};

// x'Ax/2 + sum of fourth powers and neighbours' products: a Hessian that is known.
const auto chain = [](auto z) {
  const arma::uword n = z.n_rows();
  return accu(square(square(z))) + accu(exp(z.rows(0, n - 2) % z.rows(1, n - 1)));
};
arma::mat chain_hessian(const arma::vec& z) {
  arma::mat h(z.n_elem, z.n_elem);
  for (arma::uword i = 0; i < z.n_elem; ++i) h(i, i) = 12 * z[i] * z[i];
  for (arma::uword i = 0; i + 1 < z.n_elem; ++i) {
    const double e = std::exp(z[i] * z[i + 1]);
    h(i, i) += e * z[i + 1] * z[i + 1];
    h(i + 1, i + 1) += e * z[i] * z[i];
    h(i, i + 1) = h(i + 1, i) = e * (1 + z[i] * z[i + 1]);
  }
  return h;
}

}  // namespace

BOOST_AUTO_TEST_CASE(products_agree_with_jax) {
  const auto [y, dy] = ag::jvp(network, std::tie(w, x), std::tie(v_w, v_x));
  BOOST_TEST(difference(y, stored(network_value, 4)) < 1e-14);
  BOOST_TEST(difference(dy, stored(network_jvp, 4)) < 1e-14);
  const auto [again, by_w, by_x] = ag::vjp(network, std::tie(w, x), u);
  BOOST_TEST(difference(again, y) == 0);
  BOOST_TEST(difference(by_w, stored(network_vjp_w, 4)) < 1e-14);
  BOOST_TEST(difference(by_x, stored(network_vjp_x, 3)) < 1e-14);
  const auto [h_w, h_x] = ag::hvp(loss, std::tie(w, x), std::tie(v_w, v_x));
  BOOST_TEST(difference(join_cols(vectorise(h_w), vectorise(h_x)), stored(loss_hvp, 18)) < 1e-13);
  const arma::mat one = ag::hvp([](auto in) { return loss(w, in); }, x, v_x);
  BOOST_TEST(difference(vectorise(one), stored(loss_hessian, 18).submat(12, 12, 17, 17) * vectorise(v_x)) < 1e-13);
}

BOOST_AUTO_TEST_CASE(jacobians_and_hessians_agree_with_jax) {
  const arma::mat j = ag::jacobian(network, w, x);  // 8 x (12 + 6)
  BOOST_TEST(j.n_rows == 8u);
  BOOST_TEST(j.n_cols == 18u);
  BOOST_TEST(difference(j * join_cols(vectorise(v_w), vectorise(v_x)), vectorise(stored(network_jvp, 4))) < 1e-14);
  BOOST_TEST(difference(vectorise(u).t() * j, join_rows(vectorise(stored(network_vjp_w, 4)).t(),
                                                        vectorise(stored(network_vjp_x, 3)).t())) < 1e-14);
  const arma::mat h = ag::hessian(loss, w, x);
  BOOST_TEST(difference(h, stored(loss_hessian, 18)) < 1e-13);
  BOOST_TEST(difference(h, h.t()) == 0);
  const auto s = ag::value_grad_hessian(loss, w, x);
  BOOST_TEST(difference(s.gradient, stored(loss_gradient, 18)) < 1e-14);
  BOOST_TEST(difference(s.hessian, h) == 0);
  BOOST_TEST(s.value == std::get<0>(ag::value_and_grad(loss, w, x)));
  const arma::vec theta{0.2, -0.3, -0.9};
  BOOST_TEST(difference(ag::value_grad_hessian(misfit, theta).gradient, stored(misfit_gradient, 3)) < 1e-13);
  BOOST_TEST(difference(ag::hessian(misfit, theta), stored(misfit_hessian, 3)) < 1e-13);
}

BOOST_AUTO_TEST_CASE(both_directions_give_one_matrix) {
  Tape tape;
  const Var a = tape.variable(w), b = tape.variable(x);
  using ag::Direction;
  const Var y = network(a, b), l = loss(a, b);
  BOOST_TEST(difference(ag::jacobian(y, {a, b}, Direction::forward), ag::jacobian(y, {a, b}, Direction::reverse)) <
             1e-15);
  BOOST_TEST(difference(ag::hessian(l, {a, b}, Direction::forward), ag::hessian(l, {a, b}, Direction::reverse)) <
             1e-14);
  const auto in_float = [](auto z) { return accu(tanh(z.t() * z)); };
  const arma::fmat f = arma::conv_to<arma::fmat>::from(x);
  BOOST_TEST(difference(arma::conv_to<arma::mat>::from(ag::hessian(in_float, f)), ag::hessian(in_float, x)) < 1e-5);
}

BOOST_AUTO_TEST_CASE(third_derivatives_come_from_the_same_rules) {
  Tape tape;
  const Var a = tape.variable(w), b = tape.variable(x), va = tape.constant(v_w), vb = tape.constant(v_x);
  const auto h = ag::hvp(loss(a, b), std::vector{a, b}, std::vector{va, vb});
  // d/dx <v, H v>: the third derivative twice in direction v, by reverse over forward over reverse
  const auto third = ag::grad(dot(va, h[0]) + dot(vb, h[1]), std::vector{a, b});
  BOOST_TEST(difference(join_cols(vectorise(third[0].value()), vectorise(third[1].value())), stored(loss_third, 18)) <
             1e-12);
  // and by forward over forward over reverse
  const Var forward = ag::jvp(h[0], {a, b}, {va, vb});
  BOOST_TEST(difference(vectorise(forward.value()), stored(loss_third, 18).rows(0, 11)) < 1e-12);
}

BOOST_AUTO_TEST_CASE(a_hessian_of_400_inputs_is_right_and_leaves_no_trace) {
  const arma::vec z = 0.5 * fixed(400, 1, 0.2);
  const arma::mat expected = chain_hessian(z);
  BOOST_TEST(difference(ag::hessian(chain, z), expected) < 1e-15);
  Tape tape;
  const Var at = tape.variable(z), y = chain(at);
  y.backward();
  const arma::mat gradient = at.grad();
  const std::size_t size = tape.size();
  for (const auto direction : {ag::Direction::forward, ag::Direction::reverse}) {
    BOOST_TEST(difference(ag::hessian(y, at, direction), expected) < 1e-15);
    const std::size_t capacity = tape.capacity();
    for (int k = 0; k < 3; ++k) ag::hessian(y, at, direction);
    BOOST_TEST(tape.capacity() == capacity);
    BOOST_TEST(tape.size() == size);
  }
  BOOST_TEST(difference(at.grad(), gradient) == 0);
  y.backward();
  BOOST_TEST(difference(at.grad(), 2 * gradient) < 1e-15);
  // Row by row it needs what one row needs.
  Tape small;
  const Var s = small.variable(z), t = chain(s);
  ag::jacobian(ag::grad(t, s)(0, 0), s, ag::Direction::reverse);
  const std::size_t one_row = small.capacity();
  ag::hessian(t, s, ag::Direction::reverse);
  BOOST_TEST(small.capacity() <= one_row + (1u << 16));
}

BOOST_AUTO_TEST_CASE(gradients_kept_by_the_user_are_not_touched) {
  Tape tape;
  ag::Parameter<double> p(w);
  const Var a = tape.parameter(p), b = tape.variable(x), h = a * b, y = accu(exp(h));
  h.retain_grad();
  y.backward();
  const arma::mat dp = p.grad(), db = b.grad(), dh = h.grad();
  const arma::mat by_parameter = ag::hessian(y, a, ag::Direction::reverse);
  BOOST_TEST(difference(ag::hessian(y, a, ag::Direction::forward), by_parameter) < 1e-14);
  // y = sum exp(a b): d2/da_ij da_il = sum_k exp(h_ik) b_jk b_lk
  BOOST_TEST(difference(by_parameter.submat(0, 4, 0, 4), (exp(h.value().row(0)) % x.row(0)) * x.row(1).t()) < 1e-14);
  ag::jacobian(y, h, ag::Direction::reverse);
  ag::jacobian(h, b, ag::Direction::reverse);
  BOOST_TEST(difference(p.grad(), dp) == 0);
  BOOST_TEST(difference(b.grad(), db) == 0);
  BOOST_TEST(difference(h.grad(), dh) == 0);
  y.backward();
  BOOST_TEST(difference(p.grad(), 2 * dp) == 0);
  BOOST_TEST(difference(h.grad(), dh) == 0);
}

BOOST_AUTO_TEST_CASE(what_does_not_depend_on_x_has_derivative_zero) {
  const arma::mat linear = ag::hessian([](auto z) { return accu(2 * z); }, x);
  BOOST_TEST(difference(linear, arma::mat(6, 6)) == 0);
  BOOST_TEST(difference(ag::hvp([](auto z) { return accu(2 * z); }, x, v_x), arma::mat(3, 2)) == 0);
  BOOST_TEST(difference(ag::jacobian([](auto z) { return detach(z); }, x), arma::mat(6, 6)) == 0);
  BOOST_TEST(difference(ag::jacobian([](auto z) { return z; }, x), arma::mat(6, 6, arma::fill::eye)) == 0);
  BOOST_TEST(arma::size(ag::jacobian([](auto z) { return z; }, arma::mat(3, 0))) == arma::size(0, 0));
  BOOST_TEST(difference(ag::jacobian([](auto z) { return z.t(); }, x),  // a permutation
                        ag::jacobian([](auto z) { return trans(1 * z); }, x)) == 0);
  const auto [y, dx] = ag::vjp([](auto z) { return detach(z); }, x, v_x);
  BOOST_TEST(difference(dx, arma::mat(3, 2)) == 0);
  Tape tape;
  const Var a = tape.variable(x), b = tape.variable(x);
  BOOST_TEST(difference(ag::jvp(square(a), b, tape.constant(v_x)).value(), arma::mat(3, 2)) == 0);
}

BOOST_AUTO_TEST_CASE(an_interior_result_can_be_what_moves) {
  Tape tape;
  const Var a = tape.variable(x), h = exp(a), y = square(h) % a;
  // with a held still
  BOOST_TEST(difference(ag::jvp(y, h, tape.constant(v_x)).value(), 2 * exp(x) % x % v_x) < 1e-15);
  BOOST_TEST(difference(ag::jacobian(y, h, ag::Direction::reverse), ag::jacobian(y, h, ag::Direction::forward)) == 0);
}

BOOST_AUTO_TEST_CASE(misuse_is_named) {
  Tape tape, other;
  const Var a = tape.variable(x), c = tape.constant(x), y = square(a);
  refused<ag::ShapeError>([&] { ag::jvp(y, a, tape.constant(w)); },
                          "jvp: x is 3x2, its direction v is 4x3; both must have the same shape");
  refused<ag::ShapeError>([&] { ag::vjp(y, a, tape.constant(w)); },
                          "vjp: u is 4x3, y is 3x2; both must have the same shape");
  refused<ag::StateError>([&] { ag::jvp(y, c, c); },
                          "jvp: Var 1 (3x2) does not require a gradient; make it with tape.variable");
  refused<ag::StateError>([&] { ag::jvp(y, a, other.constant(x)); }, "jvp: its Vars belong to different tapes");
  refused<ag::OptionError>([&] { ag::jvp(y, {a}, std::vector<Var>{}); }, "jvp: there is no x to differentiate by");
  refused<ag::OptionError>(
      [&] {
        ag::jvp(y, {a}, {c, c});
      },
      "jvp: 1 inputs and 2 directions; there must be one for each");
  refused<ag::ShapeError>([&] { ag::hessian(y, a); },
                          "hessian: the function's result is 3x2; it must be 1x1: reduce it, for example with accu, or "
                          "use jacobian");
  refused<ag::StateError>([&] { Var().value(); },
                          "Var: it was never assigned; it must come from a tape or an operation");
}

BOOST_AUTO_TEST_CASE(a_default_var_can_be_assigned) {
  Tape tape;
  Var y;
  y = tape.variable(x);
  BOOST_TEST(y.n_rows() == 3u);
}

BOOST_AUTO_TEST_CASE(a_scope_gives_back_what_was_recorded_in_it) {
  Tape tape;
  const Var a = tape.variable(x), b = a.t();  // b is computed when somebody reads it
  const std::size_t size = tape.size();
  std::size_t capacity = 0;
  std::vector<Var> gone;
  for (int k = 0; k < 50; ++k) {
    const auto scope = tape.scope();
    Var y = a;
    for (int i = 0; i < 200; ++i) y = sin(y) + repmat(a, 1, 1);
    {
      const auto inner = tape.scope();
      BOOST_TEST(b.value()(1, 0) == x(0, 1));
      ag::grad(accu(y), a);
    }
    accu(y).backward();
    gone.push_back(y);
    if (k == 0) capacity = tape.capacity();
  }
  BOOST_TEST(tape.size() == size);
  BOOST_TEST(tape.capacity() == capacity);
  BOOST_TEST(b.value()(1, 0) == x(0, 1));
  refused<ag::StateError>([&] { gone[0].value(); },
                          "Var: its recording is gone: the tape was rewound, moved or destroyed since; take what you "
                          "need with .value() before, and compute the rest again");
  // The gradient that backward left on an earlier Var stays.
  const arma::mat fifty = a.grad();
  {
    const auto scope = tape.scope();
    Var y = a;
    for (int i = 0; i < 200; ++i) y = sin(y) + repmat(a, 1, 1);
    accu(y).backward();
  }
  BOOST_TEST(difference(a.grad() / 51, fifty / 50) < 1e-14);
  {
    auto scope = tape.scope();
    tape.rewind();
    tape.variable(w);
  }
  BOOST_TEST(tape.size() == 1u);
}

// Checkpoints.

namespace {

struct Block : ag::nn::Module<double> {
  ag::nn::Linear<double> a{8, 16}, b{16, 8};
  ag::nn::Dropout<double> drop{0.3, 11};
  ARMAGRAD_MODULE(a, b, drop)
  Var forward(Var in) { return in + b(drop(tanh(a(in)))); }
};
struct Deep : ag::nn::Module<double> {
  std::vector<Block> blocks{Block(), Block(), Block(), Block(), Block(), Block(), Block(), Block()};
  ARMAGRAD_MODULE(blocks)
  int how = 0;  // 0: plain, 1: each block a checkpoint, 2: nested
  Var forward(Var in) {
    if (how == 2) {
      const auto four = [this](std::size_t from) {
        return [this, from](Var h) {
          for (std::size_t k = from; k < from + 4; ++k) h = checkpoint(blocks[k], h);
          return h;
        };
      };
      return checkpoint(four(4), checkpoint(four(0), in));
    }
    for (Block& block : blocks) in = how == 1 ? checkpoint(block, in) : block(in);
    return in;
  }
};

}  // namespace

BOOST_AUTO_TEST_CASE(checkpoints_change_no_bit_of_a_training_step) {
  Deep plain;
  Deep once = plain, nested = plain;
  once.how = 1, nested.how = 2;
  const arma::mat batch = fixed(8, 32, 0.1);
  const auto steps = [&batch](Deep& model) {
    ag::optim::Sgd<double> sgd(model.parameters(), {.lr = 0.05});
    Tape tape;
    double last = 0;
    for (int k = 0; k < 3; ++k) {
      tape.rewind();
      const Var y = ag::nn::mse(model(tape.constant(batch)), batch);
      sgd.zero_grad();
      y.backward();
      sgd.step();
      last = y.item();
    }
    return last;
  };
  const double expected = steps(plain);
  BOOST_TEST(steps(once) == expected);
  BOOST_TEST(steps(nested) == expected);
  for (std::size_t k = 0; k < plain.named_parameters().size(); ++k) {
    const arma::mat value = plain.named_parameters()[k].parameter->value();
    BOOST_TEST(difference(once.named_parameters()[k].parameter->value(), value) == 0);
    BOOST_TEST(difference(nested.named_parameters()[k].parameter->value(), value) == 0);
  }
}

BOOST_AUTO_TEST_CASE(checkpoints_save_memory) {
  Deep model;
  const arma::mat batch = fixed(8, 2000, 0.1);
  const auto capacity = [&](int how) {
    model.how = how;
    Tape tape;
    accu(square(model(tape.constant(batch)))).backward();
    return tape.capacity();
  };
  const std::size_t plain = capacity(0), once = capacity(1), nested = capacity(2);
  BOOST_TEST_MESSAGE("bytes: plain " << plain << ", a checkpoint per block " << once << ", nested " << nested);
  BOOST_TEST(once < plain / 2);
  BOOST_TEST(nested < plain / 2);
}

BOOST_AUTO_TEST_CASE(derivatives_flow_through_checkpoints_to_any_order) {
  ag::Parameter<double> p(w);
  const auto f = [&p](auto in, bool keep) {
    const auto inner = [&p](auto z) { return tanh(p * z); };
    return accu(square(keep ? inner(in) : checkpoint(inner, in)) % u);
  };
  const auto kept = [&f](auto in) { return f(in, true); };
  const auto again = [&f](auto in) { return f(in, false); };
  BOOST_TEST(difference(ag::hessian(again, x), ag::hessian(kept, x)) < 1e-15);
  BOOST_TEST(difference(ag::hvp(again, x, v_x), ag::hvp(kept, x, v_x)) < 1e-15);
  BOOST_TEST(std::get<1>(ag::jvp(again, x, v_x))(0) == std::get<1>(ag::jvp(kept, x, v_x))(0),
             boost::test_tools::tolerance(1e-14));
  // A gradient in a loss, through a checkpoint, to parameters.
  const auto penalty = [&](bool keep) {
    Tape tape;
    const Var in = tape.variable(x);
    p.zero_grad();
    accu(square(ag::grad(f(in, keep), in))).backward();
    return p.grad();
  };
  BOOST_TEST(difference(penalty(false), penalty(true)) < 1e-15);
  // What f refers to lives on; f itself need not.
  const auto far = [&p](Var in) {
    const auto local = [&p](Var z) { return tanh(p * z); };
    return accu(checkpoint(local, in));
  };
  BOOST_TEST(difference(ag::grad(far, x), ag::grad([&p](auto in) { return accu(tanh(p * in)); }, x)) == 0);
  // Of the parameter alone, of the input alone.
  Tape tape;
  const Var in = tape.variable(x);
  p.zero_grad();
  const Var y = f(in, false);
  y.backward({in});
  BOOST_TEST(difference(p.grad(), arma::mat(4, 3)) == 0);
  BOOST_TEST(difference(in.grad(), ag::grad(kept, x)) < 1e-15);
  BOOST_TEST(difference(ag::grad(y, tape.parameter(p)).value(),
                        ag::grad(f(tape.variable(x), true), tape.parameter(p)).value()) < 1e-15);
}

BOOST_AUTO_TEST_CASE(misuse_of_checkpoints_is_named) {
  Tape tape;
  const Var a = tape.variable(x);
  int calls = 0;
  const Var y = accu(checkpoint([&calls](Var in) { return in * double(++calls); }, a));
  refused<ag::StateError>([&] { y.backward(); },
                          "checkpoint: f gave another result when backward computed it again; it must not depend on "
                          "what changes in between, such as a counter or a random draw of its own");
  refused<ag::StateError>([&] { tape.capture([&] { accu(checkpoint([](Var in) { return exp(in); }, a)); }); },
                          "checkpoint: a replay cannot repeat it; capture the step without checkpoints");
  ag::Parameter<double> p(w);
  const Var z = accu(checkpoint([&p](Var in) { return p * in; }, a));
  p.set_value(2 * w);
  refused<ag::StateError>([&] { z.backward(); },
                          "backward: parameter (4x3) was changed after the forward pass read it; call backward before "
                          "the optimizer's step, or record the forward pass again");
  const auto owner = [q = ag::Parameter<double>(w)](Var in) { return q * in; };
  refused<ag::StateError>([&] { checkpoint(owner, a); },
                          "checkpoint: f holds parameters itself, and a copy of it would have others; give "
                          "std::ref(f) and keep f alive");
  BOOST_TEST(difference(checkpoint(std::ref(owner), a).value(), w * x) < 1e-15);
  Block block;
  refused<ag::ShapeError>([&] { checkpoint(block, a); },
                          "affine: W is 16x8, x is 3x2, b is 16x1: W's columns (8) must equal x's rows (3); columns "
                          "are samples [in model.a]");
}

BOOST_AUTO_TEST_CASE(gradcheck_takes_its_inputs_one_by_one_too) {
  BOOST_TEST(ag::gradcheck(loss, w, x));
  const auto detached = [](auto a, auto b) { return accu(a * detach(b)); };
  BOOST_TEST(!ag::gradcheck(detached, w, x));
}
