// The module optim: SGD, clipping and schedules beside PyTorch (figures stored by peers/nn_optim.py), and what they
// refuse.
#define BOOST_TEST_MODULE optim
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <armagrad/armagrad.hpp>

#include "refused.hpp"

namespace ag = armagrad;

namespace {

namespace peer {
#include "peers/nn_optim.inc"
}  // namespace peer

using Sgd = ag::optim::Sgd<double>;
using ag::optim::SgdOptions;

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();
constexpr double infinite = std::numeric_limits<double>::infinity();

double deviation(const arma::mat& a, const arma::mat& b) {
  BOOST_REQUIRE(arma::size(a) == arma::size(b));
  return arma::abs(a - b).max();
}

/// Two parameters that get given gradients: those of dot(first, G) + dot(second, H).
struct Pair : ag::nn::Module<double> {
  ag::Parameter<double> first{peer::sgd_first}, second{peer::sgd_second};
  ARMAGRAD_MODULE(first, second)
  ag::Var<double> forward(ag::Var<double> g, ag::Var<double> h) { return dot(g, first) + dot(h, second); }

  arma::vec column() const { return arma::join_cols(vectorise(first.value()), vectorise(second.value())); }
  arma::vec gradients() const { return arma::join_cols(vectorise(first.grad()), vectorise(second.grad())); }
};

void backward(Pair& pair, std::size_t step, bool second = true) {
  ag::Tape<double> tape;
  const auto g = tape.constant(peer::sgd_gradients_0[step]);
  if (second)
    pair(g, tape.constant(peer::sgd_gradients_1[step])).backward();
  else
    dot(g, pair.first).backward();
}

/// The weights after each step.
arma::mat train(Pair& pair, Sgd& sgd, bool late) {
  arma::mat columns;
  for (std::size_t step = 0; step < peer::sgd_gradients_0.size(); ++step) {
    sgd.zero_grad();
    backward(pair, step, !(late && step == 0));
    sgd.step();
    columns.insert_cols(columns.n_cols, pair.column());
  }
  return columns;
}

struct Forgetful : ag::nn::Module<double> {
  ag::Parameter<double> w{2, 2};
  ARMAGRAD_MODULE()
};

/// The CPU once more, as another device: it checks that memory comes back to where it came from.
class OtherDevice final : public ag::Backend {
 public:
  ~OtherDevice() override { BOOST_TEST(mine_.empty()); }
  const char* name() const override { return "other"; }
  void* allocate(std::size_t bytes) override { return *mine_.insert(cpu().allocate(bytes)).first; }
  void release(void* memory) noexcept override {
    BOOST_TEST(mine_.erase(memory) == 1U);
    cpu().release(memory);
  }
  void upload(void* device, const void* host, std::size_t bytes) override { cpu().upload(device, host, bytes); }
  void download(void* host, const void* device, std::size_t bytes) override { cpu().download(host, device, bytes); }
  void run(const ag::Command<float>& c) override { cpu().run(c); }
  void run(const ag::Command<double>& c) override {
    if (std::string(c.kernel->name) == "sgd") {
      const bool all_mine = is_mine(c.out.data) && is_mine(c.in[0].data) &&
                            (c.more_out[0].data == nullptr || is_mine(c.more_out[0].data));
      BOOST_TEST(all_mine);
    }
    cpu().run(c);
  }
  void require(const ag::Kernel<float>&, const char*) override {}
  void require(const ag::Kernel<double>&, const char*) override {}
  void synchronize() override {}

 private:
  static ag::Backend& cpu() { return ag::Device::cpu().backend(); }
  bool is_mine(const void* p) const { return mine_.count(const_cast<void*>(p)) == 1; }
  std::set<void*> mine_;
};

}  // namespace

BOOST_AUTO_TEST_CASE(sgd_takes_the_steps_that_pytorch_takes) {
  for (const peer::SgdCase& c : peer::sgd_cases) {
    Pair pair;
    Sgd sgd(pair.parameters(), {.lr = c.lr,
                                .momentum = c.momentum,
                                .dampening = c.dampening,
                                .weight_decay = c.weight_decay,
                                .nesterov = c.nesterov,
                                .maximize = c.maximize});
    BOOST_TEST_CONTEXT("lr " << c.lr << ", momentum " << c.momentum << ", dampening " << c.dampening
                             << ", weight decay " << c.weight_decay << ", nesterov " << c.nesterov << ", maximize "
                             << c.maximize << ", late " << c.late) {
      BOOST_TEST(deviation(train(pair, sgd, c.late), c.weights) <= 1e-14);
    }
  }
}

BOOST_AUTO_TEST_CASE(sgd_in_float_differs_by_rounding_alone) {
  for (const peer::SgdCase& c : peer::sgd_cases) {
    ag::Parameter<float> p(arma::conv_to<arma::fmat>::from(peer::sgd_first));
    ag::optim::Sgd<float> sgd({p.shared()}, {.lr = c.lr,
                                             .momentum = c.momentum,
                                             .dampening = c.dampening,
                                             .weight_decay = c.weight_decay,
                                             .nesterov = c.nesterov,
                                             .maximize = c.maximize});
    for (std::size_t step = 0; step < peer::sgd_gradients_0.size(); ++step) {
      ag::Tape<float> tape;
      sgd.zero_grad();
      dot(tape.constant(arma::conv_to<arma::fmat>::from(peer::sgd_gradients_0[step])), p).backward();
      sgd.step();
      const arma::mat expected = arma::reshape(arma::mat(c.weights.submat(0, step, 5, step)), 2, 3);
      BOOST_TEST(deviation(arma::conv_to<arma::mat>::from(p.value()), expected) <= 1e-6);
    }
  }
}

BOOST_AUTO_TEST_CASE(groups_have_options_of_their_own) {
  Pair pair;
  Sgd sgd({{{pair.first.shared()}, {.lr = 0.1, .momentum = 0.9, .nesterov = true}},
           {{pair.second.shared()}, {.lr = 0.01, .weight_decay = 0.5}}});
  BOOST_TEST(sgd.groups() == 2U);
  BOOST_TEST(sgd.lr() == 0.1);
  BOOST_TEST(sgd.lr(1) == 0.01);
  BOOST_TEST(deviation(train(pair, sgd, false), peer::sgd_groups) <= 1e-14);

  // A group's rate is its own.
  const arma::mat first = pair.first.value(), second = pair.second.value();
  sgd.set_lr(0, 1);
  BOOST_TEST(sgd.lr() == 0.1);
  BOOST_TEST(sgd.lr(1) == 0.0);
  sgd.zero_grad();
  backward(pair, 0);
  sgd.step();
  BOOST_TEST(deviation(pair.first.value(), first) > 1e-3);
  BOOST_TEST(deviation(pair.second.value(), second) == 0);
}

BOOST_AUTO_TEST_CASE(gradients_add_up_until_zero_grad) {
  Pair pair;
  Sgd sgd(pair.parameters(), {.lr = 1});
  backward(pair, 0);
  backward(pair, 1);
  BOOST_TEST(deviation(pair.first.grad(), peer::sgd_gradients_0[0] + peer::sgd_gradients_0[1]) <= 1e-15);
  sgd.step();
  BOOST_TEST(deviation(pair.first.value(), peer::sgd_first - peer::sgd_gradients_0[0] - peer::sgd_gradients_0[1]) <=
             1e-15);
  sgd.step();  // the gradients are still there
  BOOST_TEST(deviation(pair.first.value(),
                       peer::sgd_first - 2 * (peer::sgd_gradients_0[0] + peer::sgd_gradients_0[1])) <= 1e-15);
  sgd.zero_grad();
  BOOST_TEST(arma::abs(pair.gradients()).max() == 0);
  backward(pair, 2);
  BOOST_TEST(deviation(pair.first.grad(), peer::sgd_gradients_0[2]) == 0);
}

BOOST_AUTO_TEST_CASE(a_parameter_that_no_backward_reached_is_left_alone) {
  Pair pair;
  // Decay and velocity would change it.
  Sgd sgd(pair.parameters(), {.lr = 0.1, .momentum = 0.9, .weight_decay = 0.5});
  backward(pair, 0, false);
  sgd.step();
  BOOST_TEST(deviation(pair.second.value(), peer::sgd_second) == 0);
  BOOST_TEST(deviation(pair.first.value(), peer::sgd_first) > 1e-3);

  sgd.zero_grad();
  backward(pair, 1);
  sgd.step();
  const arma::mat after = pair.second.value();
  BOOST_TEST(deviation(after, peer::sgd_second) > 1e-3);
  sgd.zero_grad();
  sgd.step();  // nothing was reached since
  BOOST_TEST(deviation(pair.second.value(), after) == 0);
}

BOOST_AUTO_TEST_CASE(gradients_are_clipped_as_by_pytorch) {
  Pair pair;
  Sgd sgd(pair.parameters());
  BOOST_TEST(sgd.clip_grad_norm(1) == 0);  // no gradient yet
  backward(pair, 0);
  const arma::vec before = pair.gradients();
  BOOST_TEST(std::abs(sgd.clip_grad_norm(100) - peer::clip_norm) <= 1e-14);
  BOOST_TEST(deviation(pair.gradients(), before) == 0);  // the limit is not reached
  BOOST_TEST(deviation(pair.gradients(), peer::clip_norm_not_reached) == 0);

  BOOST_TEST(std::abs(sgd.clip_grad_norm(1.5) - peer::clip_norm) <= 1e-14);
  BOOST_TEST(std::abs(arma::norm(pair.gradients()) - 1.5) <= 1e-14);
  // PyTorch divides by the norm + 1e-6.
  BOOST_TEST(deviation(pair.gradients() * peer::clip_norm / (peer::clip_norm + 1e-6), peer::clip_norm_gradient) <=
             1e-15);
  BOOST_TEST(std::abs(sgd.clip_grad_norm(1.5) - 1.5) <= 1e-14);

  sgd.zero_grad();
  backward(pair, 0);
  sgd.clip_grad_value(0.7);
  BOOST_TEST(deviation(pair.gradients(), peer::clip_value_gradient) == 0);
}

BOOST_AUTO_TEST_CASE(clipping_leaves_what_no_backward_reached_alone) {
  Pair pair;
  Sgd sgd(pair.parameters(), {.lr = 1});
  backward(pair, 0);
  sgd.zero_grad();
  backward(pair, 1, false);  // second's old gradient must not count
  BOOST_TEST(std::abs(sgd.clip_grad_norm(0.5) - arma::norm(peer::sgd_gradients_0[1], "fro")) <= 1e-14);
  BOOST_TEST(std::abs(arma::norm(pair.first.grad(), "fro") - 0.5) <= 1e-14);
  sgd.step();
  BOOST_TEST(deviation(pair.second.value(), peer::sgd_second) == 0);
}

BOOST_AUTO_TEST_CASE(schedules_follow_those_of_pytorch) {
  const auto check = [](const std::vector<double>& expected, auto rate) {
    for (std::size_t step = 0; step < expected.size(); ++step)
      BOOST_TEST(std::abs(rate(step) - expected[step]) <= 1e-14 * expected[0] + 1e-14 * std::abs(expected[step]));
  };
  check(peer::step_rates, [](std::size_t step) { return ag::optim::step_rate(0.3, step, 3, 0.5); });
  check(peer::cosine_rates, [](std::size_t step) { return ag::optim::cosine_rate(0.3, step, 8, 0.01); });
  check(peer::one_cycle_rates,
        [](std::size_t step) { return ag::optim::one_cycle_rate({.peak = 0.2, .total = 11}, step); });
  const ag::optim::OneCycle other{.peak = 0.2, .total = 9, .warm_up = 0.55, .start_divisor = 10, .end_divisor = 50};
  check(peer::one_cycle_rates_other, [&](std::size_t step) { return ag::optim::one_cycle_rate(other, step); });
}

BOOST_AUTO_TEST_CASE(schedules_keep_their_last_rate) {
  BOOST_TEST(ag::optim::cosine_rate(0.3, 8, 8, 0.01) == 0.01);
  BOOST_TEST(ag::optim::cosine_rate(0.3, 1000, 8, 0.01) == 0.01);
  const ag::optim::OneCycle cycle{.peak = 0.2, .total = 11};
  BOOST_TEST(ag::optim::one_cycle_rate(cycle, 11) == ag::optim::one_cycle_rate(cycle, 10));
  BOOST_TEST(ag::optim::one_cycle_rate(cycle, 1000) == ag::optim::one_cycle_rate(cycle, 10));
}

BOOST_AUTO_TEST_CASE(a_cycle_without_room_to_rise_starts_at_its_peak) {
  // warm_up * total = 1: step 0 is the last one that rises.
  BOOST_TEST(ag::optim::one_cycle_rate({.peak = 0.2, .total = 10, .warm_up = 0.1}, 0) == 0.2);
  for (std::size_t total = 2; total < 40; ++total)
    for (const double warm_up : {0.01, 0.1, 0.25, 0.5, 0.99})
      for (std::size_t step = 0; step < total; ++step) {
        const double rate = ag::optim::one_cycle_rate({.peak = 0.2, .total = total, .warm_up = warm_up}, step);
        BOOST_TEST((rate >= 0 && rate <= 0.2));
      }
}

BOOST_AUTO_TEST_CASE(the_optimizer_shares_ownership_of_its_parameters) {
  std::optional<Pair> pair(std::in_place);
  const auto first = pair->first.shared();
  Sgd sgd(pair->parameters(), {.lr = 0.1, .momentum = 0.9});
  backward(*pair, 0);
  Pair moved = std::move(*pair);
  pair.reset();
  sgd.step();
  BOOST_TEST(deviation(moved.first.value(), peer::sgd_first - 0.1 * peer::sgd_gradients_0[0]) <= 1e-15);

  Sgd other = std::move(sgd);
  other.step();
  BOOST_TEST(deviation(moved.first.value(), peer::sgd_first - 0.29 * peer::sgd_gradients_0[0]) <= 1e-15);
  std::optional<Pair>(std::move(moved)).reset();
  other.step();  // nobody else holds them now
  BOOST_TEST(first->version == 3U);
}

BOOST_AUTO_TEST_CASE(a_replay_keeps_what_it_needs_of_a_destroyed_optimizer) {
  Pair eager, captured;
  Sgd sgd(eager.parameters(), {.lr = 0.1, .momentum = 0.9, .dampening = 0.3});
  for (int k = 0; k < 3; ++k) {
    sgd.zero_grad();
    backward(eager, 0);
    sgd.clip_grad_norm(1.5);
    sgd.step();
  }
  ag::Tape<double> tape;
  auto other = std::make_unique<Sgd>(captured.parameters(), SgdOptions{.lr = 0.1, .momentum = 0.9, .dampening = 0.3});
  auto replay = tape.capture([&] {
    other->zero_grad();
    captured(tape.constant(peer::sgd_gradients_0[0]), tape.constant(peer::sgd_gradients_1[0])).backward();
    other->clip_grad_norm(1.5);
    other->step();
  });
  other.reset();
  replay.run();
  replay.run();
  BOOST_TEST(deviation(captured.column(), eager.column()) == 0);
}

BOOST_AUTO_TEST_CASE(the_velocity_follows_its_parameter_to_another_device) {
  OtherDevice backend;
  const ag::Device other(backend);
  const peer::SgdCase& c = peer::sgd_cases[2];  // momentum with dampening
  Pair pair;
  Sgd sgd(pair.parameters(), {.lr = c.lr, .momentum = c.momentum, .dampening = c.dampening});
  for (std::size_t step = 0; step < peer::sgd_gradients_0.size(); ++step) {
    if (step == 1) pair.to(other);
    if (step == 3) pair.to(ag::Device::cpu());
    sgd.zero_grad();
    ag::Tape<double> tape(pair.device());
    pair(tape.constant(peer::sgd_gradients_0[step]), tape.constant(peer::sgd_gradients_1[step])).backward();
    sgd.clip_grad_norm(100);
    sgd.step();
    BOOST_TEST(deviation(pair.column(), c.weights.col(step)) <= 1e-14);
  }
  pair.second.to(other);
  refused<ag::DeviceError>([&] { sgd.clip_grad_norm(1); },
                           "clip_grad_norm: first is on cpu, second on other; move the model to one device with "
                           "to(device)");
  pair.second.to(ag::Device::cpu());
}

BOOST_AUTO_TEST_CASE(options_out_of_range_are_refused_in_words) {
  Pair pair;
  const auto with = [&pair](SgdOptions options) { return [&pair, options] { Sgd sgd(pair.parameters(), options); }; };
  using ag::OptionError;
  refused<OptionError>(with({.lr = -0.1}), "Sgd: lr is -0.1; it must be a number that is not negative");
  refused<OptionError>(with({.lr = infinite}), "Sgd: lr is inf; it must be a number that is not negative");
  refused<OptionError>(with({.lr = not_a_number}), "Sgd: lr is nan; it must be a number that is not negative");
  refused<OptionError>(with({.momentum = 1}), "Sgd: momentum is 1; it must be at least 0 and below 1");
  refused<OptionError>(with({.momentum = -0.5}), "Sgd: momentum is -0.5; it must be at least 0 and below 1");
  refused<OptionError>(with({.momentum = 0.9, .dampening = not_a_number}),
                       "Sgd: dampening is nan; it must be a number");
  refused<OptionError>(with({.weight_decay = -1}), "Sgd: weight_decay is -1; it must be a number that is not negative");
  const char* nesterov = "Sgd: nesterov needs a momentum above 0 and no dampening";
  refused<OptionError>(with({.nesterov = true}), nesterov);
  refused<OptionError>(with({.momentum = 0.9, .dampening = 0.1, .nesterov = true}), nesterov);

  Sgd sgd(pair.parameters());
  refused<OptionError>([&] { sgd.set_lr(-1); }, "Sgd: lr is -1; it must be a number that is not negative");
  refused<OptionError>([&] { sgd.set_lr(1, 1); }, "Sgd: there is no group 1; there are 1");
  refused<OptionError>([&] { sgd.lr(2); }, "Sgd: there is no group 2; there are 1");
  refused<OptionError>([&] { sgd.clip_grad_norm(0); }, "clip_grad_norm: the limit is 0; it must be positive");
  refused<OptionError>([&] { sgd.clip_grad_value(not_a_number); },
                       "clip_grad_value: the limit is nan; it must be positive");
  Sgd other = std::move(sgd);
  refused<ag::StateError>([&] { sgd.step(); }, "Sgd: it was moved from; use the one it was moved to");

  refused<OptionError>([] { ag::optim::step_rate(1, 0, 0); }, "step_rate: every is 0; it must be positive");
  refused<OptionError>([] { ag::optim::cosine_rate(1, 0, 0); }, "cosine_rate: total is 0; it must be positive");
  refused<OptionError>([] { ag::optim::one_cycle_rate({.peak = 1, .total = 1}, 0); },
                       "one_cycle_rate: total 1, warm_up 0.3, divisors 25 and 10000; total must be above 1, warm_up "
                       "between 0 and 1, the divisors positive");
}

BOOST_AUTO_TEST_CASE(missing_and_repeated_parameters_are_refused_in_words) {
  Forgetful forgetful;
  using ag::OptionError;
  const char* none = "Sgd: there are no parameters; does ARMAGRAD_MODULE name the model's members?";
  refused<OptionError>([&] { Sgd sgd(forgetful.parameters()); }, none);
  Pair pair;
  refused<OptionError>([&] { Sgd sgd(std::vector<Sgd::Group>{{pair.parameters(), {}}, {{}, {}}}); }, none);
  refused<OptionError>([] { Sgd sgd(std::vector<Sgd::Group>{}); }, "Sgd: there are no groups of parameters");
  refused<OptionError>(
      [&] {
        Sgd sgd(std::vector<Sgd::Group>{{pair.parameters(), {}}, {{pair.second.shared()}, {}}});
      },
      "Sgd: second is given twice; each parameter belongs to one group");
}

BOOST_AUTO_TEST_CASE(a_step_between_forward_and_backward_is_noticed) {
  Pair pair;
  Sgd sgd(pair.parameters(), {.lr = 0.1});
  backward(pair, 0);
  ag::Tape<double> tape;
  const auto loss = dot(tape.constant(peer::sgd_gradients_0[0]), pair.first);
  sgd.step();
  refused<ag::StateError>([&] { loss.backward(); },
                          "backward: first (2x3) was changed after the forward pass read it; call backward before the "
                          "optimizer's step, or record the forward pass again");
}

// Sgd::minimize

namespace {

struct Small : ag::nn::Module<double> {
  ag::nn::Linear<double> l1{4, 6}, l2{6, 6}, l3{6, 3};
  bool shared = false;
  ARMAGRAD_MODULE(l1, l2, l3)
  ag::Var<double> forward(ag::Var<double> x) {
    ag::Var<double> h = l2(tanh(l1(x)));
    if (shared) h = l2(tanh(h));
    return l3(tanh(h));
  }
  arma::vec column() const {
    arma::vec out;
    for (const auto* l : {&l1, &l2, &l3})
      out = arma::join_cols(out, vectorise(l->weight.value()), vectorise(l->bias.value()));
    return out;
  }
};

arma::vec trained(bool in_one, bool shared, SgdOptions options) {
  ag::nn::seed(11);
  Small model;
  model.shared = shared;
  Sgd sgd(model.parameters(), options);
  ag::Tape<double> tape;
  arma::arma_rng::set_seed(5);
  const arma::mat x(4, 9, arma::fill::randn);
  const arma::Row<std::size_t> y{0, 1, 2, 0, 1, 2, 0, 1, 2};
  for (int i = 0; i < 5; ++i) {
    tape.rewind();
    const auto loss = ag::nn::cross_entropy(model(tape.constant(x)), y);
    if (in_one) {
      sgd.minimize(loss);
    } else {
      sgd.zero_grad();
      loss.backward();
      sgd.step();
    }
  }
  return model.column();
}

}  // namespace

BOOST_AUTO_TEST_CASE(minimize_is_zero_grad_backward_and_step_up_to_rounding) {
  for (const bool shared : {false, true})
    for (const SgdOptions& options :
         {SgdOptions{.lr = 0.3}, SgdOptions{.lr = 0.3, .momentum = 0.9}, SgdOptions{.lr = 0.3, .maximize = true},
          SgdOptions{.lr = 0.3, .momentum = 0.9, .nesterov = true}, SgdOptions{.lr = 0.3, .weight_decay = 0.1},
          SgdOptions{.lr = 0.3, .momentum = 0.9, .dampening = 0.5},
          SgdOptions{.lr = 0.3, .momentum = 0.9, .maximize = true}})
      BOOST_TEST(deviation(trained(true, shared, options), trained(false, shared, options)) < 1e-13);
}

BOOST_AUTO_TEST_CASE(minimize_reads_parameters_as_they_were_wherever_they_meet) {
  using Var = ag::Var<double>;
  using Vars = std::vector<Var>;
  struct Case {
    const char* name;
    std::vector<arma::mat> start;
    Var (*loss)(const Vars& in);
  };
  arma::arma_rng::set_seed(13);
  const auto random = [](arma::uword rows, arma::uword cols) { return arma::mat(rows, cols, arma::fill::randn); };
  static const auto sum = [](Var y) { return accu(square(y)); };
  const std::vector<Case> cases{
      {"W tanh(P)", {random(3, 4), random(4, 5)}, [](const Vars& in) { return sum(in[0] * tanh(in[1])); }},
      {"tanh(P) W", {random(3, 4), random(4, 5)}, [](const Vars& in) { return sum(tanh(in[0]) * in[1]); }},
      {"U V", {random(3, 4), random(4, 5)}, [](const Vars& in) { return sum(in[0] * in[1]); }},
      {"U' V", {random(4, 3), random(4, 5)}, [](const Vars& in) { return sum(in[0].t() * in[1]); }},
      {"U (V W)",
       {random(3, 4), random(4, 5), random(5, 2)},
       [](const Vars& in) { return sum(in[0] * (in[1] * in[2])); }},
      {"U V + U", {random(3, 3), random(3, 3)}, [](const Vars& in) { return sum(in[0] * in[1] + in[0]); }},
      {"W W", {random(3, 3)}, [](const Vars& in) { return sum(in[0] * in[0]); }},
      {"columns of U, V", {random(3, 6), random(4, 5)}, [](const Vars& in) { return sum(in[0].cols(1, 4) * in[1]); }},
      {"affine of X",
       {random(3, 4), random(4, 5), random(3, 1)},
       [](const Vars& in) { return sum(affine(in[0], in[1], in[2])); }},
      {"affine of tanh(P)",
       {random(3, 4), random(4, 5), random(3, 1)},
       [](const Vars& in) { return sum(affine(in[0], tanh(in[1]), in[2])); }},
      {"affine_relu of X",
       {random(3, 4), random(4, 5), random(3, 1)},
       [](const Vars& in) { return sum(affine_relu(in[0], in[1], in[2])); }},
      {"affine of b twice",
       {random(3, 3), random(3, 1)},
       [](const Vars& in) { return sum(affine(in[0], in[1], in[1])); }},
      {"cross_entropy of W",
       {random(4, 6)},
       [](const Vars& in) {
         return cross_entropy_sum(in[0], arma::Row<std::size_t>{0, 3, 2, 1, 1, 0});
       }},
  };
  enum class Way { three_calls, minimize, replay };
  const auto trained = [](const Case& c, Way way, double momentum) {
    std::vector<ag::Parameter<double>> parameters(c.start.begin(), c.start.end());
    ag::nn::ParameterList<double> list;
    for (const auto& p : parameters) list.push_back(p.shared());
    Sgd sgd(list, {.lr = 0.01, .momentum = momentum});
    ag::Tape<double> tape;
    const auto loss = [&] {
      Vars in;
      for (const auto& p : parameters) in.push_back(tape.parameter(p));
      return c.loss(in);
    };
    if (way == Way::replay) {
      tape.capture([&] { sgd.minimize(loss()); }).run(2);
    } else {
      for (int i = 0; i < 3; ++i) {
        tape.rewind();
        if (way == Way::minimize) {
          sgd.minimize(loss());
        } else {
          const Var y = loss();
          sgd.zero_grad();
          y.backward();
          sgd.step();
        }
      }
    }
    arma::vec out;
    for (const auto& p : parameters) out = arma::join_cols(out, vectorise(p.value()));
    return out;
  };
  for (const Case& c : cases)
    for (const double momentum : {0.0, 0.9}) {
      const arma::vec wanted = trained(c, Way::three_calls, momentum);
      BOOST_TEST_CONTEXT(c.name << ", momentum " << momentum) {
        BOOST_TEST(deviation(trained(c, Way::minimize, momentum), wanted) < 1e-13);
        BOOST_TEST(deviation(trained(c, Way::replay, momentum), wanted) < 1e-13);
      }
    }
}

BOOST_AUTO_TEST_CASE(minimize_forms_no_gradient_that_is_one_product) {
  for (const double momentum : {0.0, 0.9}) {
    Small model;
    Sgd sgd(model.parameters(), {.lr = 0.1, .momentum = momentum});
    ag::Tape<double> tape;
    const auto x = tape.constant(arma::mat(4, 9, arma::fill::randn));
    const auto labels = tape.labels({0, 1, 2, 0, 1, 2, 0, 1, 2});
    const auto in_one = tape.capture([&] { sgd.minimize(ag::nn::cross_entropy(model(x), labels)); });
    for (auto& p : model.parameters()) BOOST_TEST(!p->has_gradient);
    const auto in_three = tape.capture([&] {
      const auto loss = ag::nn::cross_entropy(model(x), labels);
      sgd.zero_grad();
      loss.backward();
      sgd.step();
    });
    // Six updates fewer; with momentum they read the velocity instead of the gradient.
    BOOST_TEST(in_three.size() - in_one.size() == (momentum == 0 ? 6u : 0u));
  }
}

BOOST_AUTO_TEST_CASE(minimize_is_replayed_with_the_rate_of_the_moment) {
  for (const double momentum : {0.0, 0.9}) {
    ag::nn::seed(3);
    Small eager, replayed = eager;
    Sgd first(eager.parameters(), {.lr = 0.1, .momentum = momentum});
    Sgd second(replayed.parameters(), {.lr = 0.1, .momentum = momentum});
    const arma::mat data(4, 9, arma::fill::randn);
    const arma::Row<std::size_t> y{0, 1, 2, 0, 1, 2, 0, 1, 2};
    ag::Tape<double> tape, other;
    const auto x = other.constant(data);
    const auto labels = other.labels(y);
    auto replay = other.capture([&] { second.minimize(ag::nn::cross_entropy(replayed(x), labels)); });
    for (int i = 0; i < 4; ++i) {
      first.set_lr(0.1 / (i + 1));
      tape.rewind();
      first.minimize(ag::nn::cross_entropy(eager(tape.constant(data)), y));
      if (i == 0) continue;  // the capture was the first step
      second.set_lr(0.1 / (i + 1));
      replay.run();
    }
    BOOST_TEST(deviation(eager.column(), replayed.column()) == 0);
  }
}

BOOST_AUTO_TEST_CASE(minimize_refuses_what_backward_refuses_and_leaves_no_wish_behind) {
  Small model;
  Sgd sgd(model.parameters(), {.lr = 0.1});
  ag::Tape<double> tape;
  const auto y = model(tape.constant(arma::mat(4, 2, arma::fill::randn)));
  const arma::vec before = model.column();
  BOOST_CHECK_THROW(sgd.minimize(y), ag::ShapeError);
  accu(y).backward();  // an ordinary pass: gradients, no step
  BOOST_TEST(deviation(model.column(), before) == 0);
  BOOST_TEST(arma::abs(model.l1.weight.grad()).max() > 0);
}

BOOST_AUTO_TEST_CASE(minimize_does_not_step_a_parameter_that_a_checkpoint_and_others_use) {
  const auto train = [](bool in_one) {
    ag::nn::seed(4);
    Small model;
    Sgd sgd(model.parameters(), {.lr = 0.2});
    ag::Tape<double> tape;
    arma::arma_rng::set_seed(6);
    const arma::mat x(4, 5, arma::fill::randn);
    for (int i = 0; i < 3; ++i) {
      tape.rewind();
      const auto h = ag::checkpoint([&](ag::Var<double> v) { return model.l2(tanh(model.l2(v))); },
                                    tanh(model.l1(tape.constant(x))));
      const auto loss = accu(square(model.l3(model.l2(h))));
      if (in_one) {
        sgd.minimize(loss);
      } else {
        sgd.zero_grad();
        loss.backward();
        sgd.step();
      }
    }
    return model.column();
  };
  BOOST_TEST(deviation(train(true), train(false)) < 1e-12);
}
