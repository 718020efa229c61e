// Attacks: their steps beside plain computations, that retiring examples changes no bit of any answer, and what they
// refuse.
#define BOOST_TEST_MODULE robust_attacks
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <armagrad/armagrad.hpp>

#include "refused.hpp"

namespace ag = armagrad;
namespace robust = armagrad::robust;
using Labels = arma::Row<std::size_t>;
using robust::Judge;
using robust::Loss;
using robust::Norm;
using robust::Steps;

namespace {

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

template <class eT>
arma::Mat<eT> uniform(arma::uword rows, arma::uword cols, std::uint64_t seed, double low = 0, double high = 1) {
  ag::nn::Generator random(seed);
  arma::Mat<eT> out(rows, cols);
  for (eT& v : out) v = static_cast<eT>(random.uniform(low, high));
  return out;
}

/// A network with weights large enough for attacks at 0.1 to succeed at some examples and to fail at others.
template <class eT>
struct Mlp : ag::nn::Module<eT> {
  explicit Mlp(arma::uword inputs = 20, arma::uword hidden = 32, std::uint64_t seed = 5)
      : random(seed), l1(inputs, hidden, random), l2(hidden, hidden, random), l3(hidden, 4, random) {
    for (auto& p : this->named_parameters()) p.parameter->set_value(p.parameter->value() * eT(2));
  }
  ag::nn::Generator random;
  ag::nn::Linear<eT> l1, l2, l3;
  ARMAGRAD_MODULE(l1, l2, l3)
  ag::Var<eT> forward(ag::Var<eT> x) { return l3(relu(l2(relu(l1(x))))); }
};

arma::mat column(const arma::vec& v) { return v; }

template <class eT>
bool same_bits(const arma::Mat<eT>& a, const arma::Mat<eT>& b) {
  return arma::size(a) == arma::size(b) && std::memcmp(a.memptr(), b.memptr(), a.n_elem * sizeof(eT)) == 0;
}
template <class eT>
bool same(const robust::Attack<eT>& a, const robust::Attack<eT>& b) {
  return same_bits(a.delta, b.delta) && arma::all(a.success == b.success) && a.zero_gradients == b.zero_gradients;
}

/// The examples of a test: inputs, and as labels what the model says of them, some of them changed.
template <class eT>
struct Examples {
  arma::Mat<eT> x;
  Labels y;
  template <class M>
  Examples(M& model, arma::uword inputs, arma::uword n) : x(uniform<eT>(inputs, n, 11)), y(robust::predict(model, x)) {
    for (arma::uword j = 0; j < n; j += 9) y[j] = (y[j] + 1) % 4;
  }
};

/// The CPU once more, as a device that counts the commands it is given.
class CountingDevice final : public ag::Backend {
 public:
  std::map<std::string, std::size_t> commands;
  const char* name() const override { return "counting"; }
  void* allocate(std::size_t bytes) override { return cpu_.allocate(bytes); }
  void release(void* memory) noexcept override { cpu_.release(memory); }
  void upload(void* device, const void* host, std::size_t bytes) override { cpu_.upload(device, host, bytes); }
  void download(void* host, const void* device, std::size_t bytes) override { cpu_.download(host, device, bytes); }
  void run(const ag::Command<float>& c) override { ++commands[c.kernel->name], cpu_.run(c); }
  void run(const ag::Command<double>& c) override { ++commands[c.kernel->name], cpu_.run(c); }
  void require(const ag::Kernel<float>&, const char*) override {}
  void require(const ag::Kernel<double>&, const char*) override {}
  void synchronize() override {}

 private:
  ag::Backend& cpu_ = ag::Device::cpu().backend();
};

}  // namespace

BOOST_AUTO_TEST_CASE(fgsm_of_a_linear_model_is_the_sign_of_its_weights) {
  const arma::mat w = {{1, -2, 0}, {-1, 0.5, 0}};  // the third input does nothing
  const auto model = [&w](ag::Var<double> x) { return w * x; };
  const arma::mat x = column({0.3, 0.2, 0.9});
  const auto attack = robust::fgsm(model, x, Labels{0}, 0.25);
  BOOST_TEST(same_bits(attack.delta, column({-0.25, 0.25, 0})));
  BOOST_TEST(attack.success[0] == 1);  // 0.05 - 0.9 below -0.05 + 0.225
  BOOST_TEST(same_bits(robust::fgsm(model, x, Labels{1}, 0.25).delta, column({0.25, -0.25, 0})));
  // Towards the label instead; and within the data's range.
  BOOST_TEST(same_bits(robust::fgsm(model, x, Labels{0}, 0.25, {.targeted = true}).delta, column({0.25, -0.25, 0})));
  const auto clipped = robust::fgsm(model, x, Labels{1}, 0.25, {.clip = {{0, 1}}});
  BOOST_TEST(same_bits(clipped.delta, column({0.25, -0.2, 0})));
  BOOST_TEST(robust::perturbed(x, clipped.delta, {{0, 1}}).min() == 0);
  // Along the gradient for l_2: 0.25 (-2, 2.5, 0) / |.|.
  const arma::vec direction = arma::normalise(arma::vec{-2, 2.5, 0});
  BOOST_TEST(arma::norm(robust::fgsm(model, x, Labels{0}, 0.25, {.norm = Norm::l_2}).delta - 0.25 * direction) < 1e-15);
}

BOOST_AUTO_TEST_CASE(the_gradient_is_that_of_the_sum_of_losses) {
  Mlp<double> model;
  const Examples<double> e(model, 20, 7);
  const arma::mat all = robust::input_gradient(model, e.x, e.y);
  for (arma::uword j = 0; j < 7; ++j) {
    const arma::mat x = e.x.col(j);
    const auto loss = [&](ag::Var<double> v) { return ag::nn::cross_entropy(model(v), Labels{e.y[j]}); };
    BOOST_TEST(arma::abs(ag::grad(loss, x) - all.col(j)).max() < 1e-15);
  }
  const arma::mat margin = robust::input_gradient(model, e.x, e.y, Loss::margin);
  const auto own = [](ag::Var<double> z, const Labels& y) {  // the same, written by a user
    arma::mat mask(4, y.n_elem, arma::fill::zeros);
    for (arma::uword j = 0; j < y.n_elem; ++j) mask(y[j], j) = 1;
    return max(z - 1e9 * mask, 0) - sum(z % mask, 0);
  };
  BOOST_TEST(arma::abs(margin - robust::input_gradient(model, e.x, e.y, {}, own)).max() < 1e-15);
  BOOST_TEST(arma::abs(margin).max() > 0.1);
}

BOOST_AUTO_TEST_CASE(a_step_takes_six_products_and_no_gradient_of_a_parameter) {
  static CountingDevice counting;
  Mlp<float> model;
  const Examples<float> e(model, 20, 8);
  model.to(ag::Device(counting));
  const auto products = [&](std::size_t iterations) {
    counting.commands.clear();
    robust::pgd(model, e.x, e.y, 0.01, {.iterations = iterations, .judge = Judge::final_iterate, .retire = false});
    return counting.commands["gemm"];
  };
  const std::size_t few = products(3);
  BOOST_TEST(few == 3 * 6 + 3);  // three layers forward and back for each step, and forward for the last iterate
  BOOST_TEST(products(4) == few + 6);
  for (const auto& p : model.named_parameters()) BOOST_TEST(p.parameter->shared()->has_gradient == false);
}

BOOST_AUTO_TEST_CASE(perturbations_stay_in_their_ball) {
  Mlp<float> model;
  const Examples<float> e(model, 20, 60);
  for (const auto steps : {Steps::fixed, Steps::halving})
    for (const bool start : {false, true}) {
      const auto cube = robust::pgd(model, e.x, e.y, 0.1, {.iterations = 15, .steps = steps, .random_start = start});
      BOOST_TEST(static_cast<double>(arma::abs(cube.delta).max()) <= 0.1);  // in exact arithmetic, too
      const auto ball = robust::pgd(model, e.x, e.y, 0.5,
                                    {.norm = Norm::l_2, .iterations = 15, .steps = steps, .random_start = start});
      for (arma::uword j = 0; j < 60; ++j) BOOST_TEST(arma::norm(ball.delta.col(j)) <= 0.5f * (1 + 1e-6f));
      const auto inside = robust::pgd(model, e.x, e.y, 0.3,
                                      {.iterations = 15, .steps = steps, .random_start = start, .clip = {{0, 1}}});
      const arma::fmat given = robust::perturbed(e.x, inside.delta, {{0, 1}});
      BOOST_TEST((given.min() >= 0 && given.max() <= 1));
      BOOST_TEST(static_cast<double>(arma::abs(inside.delta).max()) <= 0.3);
    }
}

BOOST_AUTO_TEST_CASE(what_an_attack_claims_is_so) {
  Mlp<float> model;
  const Examples<float> e(model, 20, 100);
  for (const auto judge : {Judge::any_iterate, Judge::final_iterate})
    for (const auto steps : {Steps::fixed, Steps::halving}) {
      const auto attack = robust::pgd(model, e.x, e.y, 0.1, {.iterations = 20, .steps = steps, .judge = judge});
      const Labels said = robust::predict(model, arma::fmat(e.x + attack.delta));
      for (arma::uword j = 0; j < 100; ++j) BOOST_TEST((said[j] != e.y[j]) == (attack.success[j] == 1));
      BOOST_TEST((attack.success_rate() > 0.2 && attack.success_rate() < 0.9));
    }
}

// Without retiring every example takes all its steps; with it, most leave early and others take their places.
BOOST_AUTO_TEST_CASE(retiring_changes_no_bit) {
  Mlp<float> model;
  const Examples<float> e(model, 20, 150);
  std::uint64_t passes = 0, unretired = 0;
  for (const auto judge : {Judge::any_iterate, Judge::final_iterate})
    for (const auto norm : {Norm::l_inf, Norm::l_2})
      for (const auto step : {0.02, 1000.0})
        for (const bool clip : {false, true})
          for (const std::size_t restarts : {1, 3})
            for (const auto loss : {Loss::cross_entropy, Loss::margin}) {
              robust::PgdOptions<float> o{.norm = norm,
                                          .step = step,
                                          .iterations = 60,
                                          .restarts = restarts,
                                          .loss = loss,
                                          .judge = judge,
                                          .width = 16};
              if (clip) o.clip = {{0, 1}};
              const double epsilon = norm == Norm::l_inf ? 0.1 : 0.3;
              const auto early = robust::pgd(model, e.x, e.y, epsilon, o);
              o.retire = false;
              const auto late = robust::pgd(model, e.x, e.y, epsilon, o);
              BOOST_TEST(same(early, late));
              BOOST_TEST(late.passes == late.passes_unretired);
              passes += early.passes, unretired += early.passes_unretired;
            }
  BOOST_TEST(passes < unretired / 2);
}

BOOST_AUTO_TEST_CASE(a_cycle_gives_the_iterate_that_running_on_would_have_given) {
  Mlp<float> model;
  const Examples<float> e(model, 20, 150);
  for (const std::size_t iterations : {97, 98, 99, 100}) {  // periods of 2 and more end at different phases
    robust::PgdOptions<float> o{.step = 1000, .iterations = iterations, .judge = Judge::final_iterate, .width = 16};
    const auto early = robust::pgd(model, e.x, e.y, 0.1, o);
    BOOST_TEST(early.passes < early.passes_unretired / 3);
    o.retire = false;
    BOOST_TEST(same(early, robust::pgd(model, e.x, e.y, 0.1, o)));
  }
}

BOOST_AUTO_TEST_CASE(a_column_is_the_same_bits_wherever_it_stands) {
  for (const arma::uword width : {13, 16, 48, 240}) {
    Mlp<float> model(784, 256);
    const Examples<float> e(model, 784, 300);
    const arma::uvec order = arma::shuffle(arma::regspace<arma::uvec>(0, 299));
    const robust::PgdOptions<float> o{.step = 1000, .iterations = 4, .judge = Judge::final_iterate, .width = width};
    const auto straight = robust::pgd(model, e.x, e.y, 0.02, o);
    const auto shuffled = robust::pgd(model, arma::fmat(e.x.cols(order)), Labels(e.y.cols(order)), 0.02, o);
    BOOST_TEST(same_bits(arma::fmat(straight.delta.cols(order)), shuffled.delta));
    BOOST_TEST(arma::all(arma::Row<arma::uword>(straight.success.cols(order)) == shuffled.success));
  }
}

// If a product rounded a column differently at each place: an example then keeps to one place, whoever else retires.
BOOST_AUTO_TEST_CASE(retiring_changes_no_bit_even_where_places_differ) {
  Mlp<float> model;
  const Examples<float> e(model, 20, 150);
  const auto uneven = [&model](ag::Var<float> x) {
    const arma::frowvec places = arma::linspace<arma::frowvec>(0.9f, 1.1f, x.n_cols());
    return model(x) % repmat(x.row(0) * 0.0 + places, 4, 1);
  };
  robust::PgdOptions<float> o{.step = 0.05, .iterations = 50, .judge = Judge::final_iterate, .width = 16};
  const auto early = robust::pgd(uneven, e.x, e.y, 0.1, o);
  o.retire = false;
  const auto late = robust::pgd(uneven, e.x, e.y, 0.1, o);
  BOOST_TEST(same(early, late));
  BOOST_TEST(early.passes < late.passes);
}

BOOST_AUTO_TEST_CASE(threads_change_no_bit) {
  Mlp<float> model;
  const Examples<float> e(model, 20, 150);
  robust::PgdOptions<float> o{
      .step = 1000, .iterations = 50, .restarts = 2, .judge = Judge::final_iterate, .width = 16};
  const auto one = robust::pgd(model, e.x, e.y, 0.1, o);
  o.threads = 3;
  BOOST_TEST(same(one, robust::pgd(model, e.x, e.y, 0.1, o)));
}

BOOST_AUTO_TEST_CASE(curves_fall_and_agree_with_single_attacks) {
  Mlp<float> model;
  const Examples<float> e(model, 20, 120);
  const std::vector<double> epsilons{0, 0.03, 0.06, 0.1, 0.2};
  for (const auto judge : {Judge::any_iterate, Judge::final_iterate}) {
    const robust::PgdOptions<float> o{.step = 1000, .iterations = 50, .judge = judge, .width = 16};
    const auto curve = robust::pgd_curve(model, e.x, e.y, epsilons, o);
    arma::Row<arma::uword> before(120, arma::fill::zeros);
    for (std::size_t b = 0; b < epsilons.size(); ++b) {
      const auto single = robust::pgd(model, e.x, e.y, epsilons[b], o);
      arma::Row<arma::uword> expected = single.success;
      if (judge == Judge::any_iterate) expected = arma::max(expected, before);  // carried over from smaller epsilons
      BOOST_TEST(arma::all(expected == curve.success.row(b)));
      if (judge == Judge::final_iterate) BOOST_TEST(curve.passes[b] == single.passes);
      before = curve.success.row(b);
    }
    BOOST_TEST(curve.accuracy(0) == arma::mean(arma::conv_to<arma::rowvec>::from(robust::predict(model, e.x) == e.y)));
    BOOST_TEST(curve.accuracy(4) < curve.accuracy(0));
  }
  const auto fgsm = robust::fgsm_curve(model, e.x, e.y, epsilons);
  for (std::size_t b = 0; b < epsilons.size(); ++b)
    BOOST_TEST(arma::all(fgsm.success.row(b) == robust::fgsm(model, e.x, e.y, epsilons[b]).success));
}

BOOST_AUTO_TEST_CASE(an_interrupted_curve_goes_on) {
  Mlp<float> model;
  const Examples<float> e(model, 20, 60);
  const std::vector<double> epsilons{0, 0.05, 0.1};
  for (const auto judge : {Judge::any_iterate, Judge::final_iterate}) {
    robust::PgdOptions<float> o{.step = 1000, .iterations = 30, .judge = judge, .width = 8};
    const auto whole = robust::pgd_curve(model, e.x, e.y, epsilons, o);
    arma::umat known(3, 60, arma::fill::zeros), success = known;
    o.on_finished = [&](const robust::Finished& f) {
      known(f.budget, f.example) = 1;
      success(f.budget, f.example) = f.success;
      if (arma::accu(known) == 50) throw ag::StateError("enough for now");
    };
    BOOST_CHECK_THROW(robust::pgd_curve(model, e.x, e.y, epsilons, o), ag::StateError);
    BOOST_TEST(arma::accu(known) == 50u);
    o.known = [&](arma::uword i, std::size_t b) {
      return known(b, i) == 1 ? std::optional<bool>(success(b, i) == 1) : std::nullopt;
    };
    std::size_t again = 0;
    o.on_finished = [&](const robust::Finished& f) {
      again += known(f.budget, f.example);
      success(f.budget, f.example) = f.success;
    };
    const auto resumed = robust::pgd_curve(model, e.x, e.y, epsilons, o);
    BOOST_TEST(again == 0u);
    BOOST_TEST(arma::accu(resumed.success != whole.success) == 0u);
  }
}

BOOST_AUTO_TEST_CASE(gradients_that_are_zero_are_counted) {
  // exp(-1000) is zero: no gradient of the cross-entropy tells how to leave such a prediction; the margin's does.
  const arma::fmat w = {{1000, 0}, {-1000, 0}};
  const auto model = [&w](ag::Var<float> x) { return w * x; };
  const arma::fmat x = {{1, 0.001f}, {1, 1}};
  robust::PgdOptions<float> o{.step = 1000, .iterations = 10};
  const auto stuck = robust::pgd(model, x, Labels{0, 0}, 0.5, o);
  BOOST_TEST(stuck.zero_gradients == 1u);
  BOOST_TEST(stuck.success[0] == 0);
  BOOST_TEST(stuck.success[1] == 1);
  o.loss = Loss::margin;
  BOOST_TEST(robust::pgd(model, x, Labels{0, 0}, 1.5, o).zero_gradients == 0u);
  BOOST_TEST(robust::pgd(model, x, Labels{0, 0}, 1.5, o).success_rate() == 1);
}

BOOST_AUTO_TEST_CASE(random_starts_depend_on_seed_example_and_restart_alone) {
  const auto flat = [](ag::Var<double> x) { return join_cols(sum(x, 0) * 0.0, sum(x, 0) * 0.0 - 1.0); };
  const arma::mat x = uniform<double>(50, 40, 3);
  const Labels y(40, arma::fill::zeros);
  robust::PgdOptions<double> o{.iterations = 1, .random_start = true, .seed = 4};
  const arma::mat a = robust::pgd(flat, x, y, 0.3, o).delta;
  o.width = 7;
  BOOST_TEST(same_bits(a, robust::pgd(flat, x, y, 0.3, o).delta));
  o.seed = 5;
  BOOST_TEST(!same_bits(a, robust::pgd(flat, x, y, 0.3, o).delta));
  BOOST_TEST(std::abs(arma::mean(arma::vectorise(a))) < 0.02);  // 2000 uniform numbers: sd of the mean 0.004
  BOOST_TEST(std::abs(arma::stddev(arma::vectorise(a)) - 0.6 / std::sqrt(12)) < 0.01);
  o.norm = Norm::l_2;
  const arma::mat b = robust::pgd(flat, x, y, 0.3, o).delta;
  BOOST_TEST(arma::norm(arma::mean(b, 1)) < 0.09);  // 0.3 over the root of 40 directions: 0.047
  BOOST_TEST(arma::norm(b.col(0)) > 0.2);           // nearly all of a ball's volume is near its surface
}

BOOST_AUTO_TEST_CASE(what_is_wrong_is_said) {
  Mlp<float> model;
  const Examples<float> e(model, 20, 4);
  using Options = robust::PgdOptions<float>;
  const auto bad = [&](double epsilon, const Options& o, const std::string& text) {
    refused<ag::OptionError>([&] { robust::pgd(model, e.x, e.y, epsilon, o); }, text);
  };
  bad(-0.1, {}, "pgd: epsilon is -0.1; it must be at least 0 and finite");
  bad(not_a_number, {}, "pgd: epsilon is nan; it must be at least 0 and finite");
  bad(0.1, {.step = 0}, "pgd: step is 0; it must be positive");
  bad(0.1, {.iterations = 0}, "pgd: iterations is 0; it must be from 1 to 2^30 - 1");
  bad(0.1, {.restarts = 0}, "pgd: restarts is 0; the first attempt is one");
  bad(0.1, {.clip = {{1, 0}}}, "pgd: clip is [1, 0]; low is above high");
  bad(0.1, {.width = 0}, "pgd: width is 0; it must be positive");
  bad(0.1, {.threads = 0}, "pgd: threads is 0; it must be positive");
  refused<ag::OptionError>(
      [&] {
        robust::pgd_curve(model, e.x, e.y, {0.1, 0.1});
      },
      "pgd_curve: epsilon 0.1 follows 0.1; they must grow");
  refused<ag::ShapeError>(
      [&] {
        robust::pgd(model, e.x, Labels{1, 2}, 0.1);
      },
      "pgd: x is 20x4 and there are 2 labels; there must be one for each column");
  refused<ag::ShapeError>([&] { robust::pgd(model, e.x, e.y, arma::rowvec{0.1}); },
                          "pgd: there are 1 epsilons for 4 columns of x; give one for each, or one for all");
  refused<ag::ValueError>(
      [&] {
        robust::fgsm(model, e.x, Labels{0, 1, 2, 4}, 0.1);
      },
      "attack: label 4 is not below the model's 4 classes");
  refused<ag::ShapeError>(
      [&] {
        robust::fgsm(model, e.x, e.y, 0.1, {.own_loss = [](ag::Var<float> z, const Labels&) { return accu(z); }});
      },
      "attack: own_loss gave 1x1; it must give the loss of each column, 1x4");
  refused<ag::ShapeError>([&] { robust::fgsm([](ag::Var<float> x) { return x.cols(0, 0); }, e.x, e.y, 0.1); },
                          "attack: the model gave 20x1 for 4 columns; it must give logits, classes x columns");
  refused<ag::StateError>([&] { robust::fgsm([&](ag::Var<float> x) { return detach(model(x)); }, e.x, e.y, 0.1); },
                          "attack: the loss does not depend on the input; compute it from the Var that is given");
}

BOOST_AUTO_TEST_CASE(a_gradient_that_is_not_finite_is_traced) {
  Mlp<float> model;
  const Examples<float> e(model, 20, 4);
  arma::fmat x = e.x;
  x(3, 2) = std::numeric_limits<float>::infinity();
  refused<ag::ValueError>([&] { robust::pgd(model, x, e.y, 0.1); },
                          "pgd: a logit of column 2 of x is not finite at iterate 0: the input is not; check the data");
  const auto own = [](ag::Var<float> z, const Labels&) { return sqrt(sum(z, 0) * 0.0); };
  refused<ag::ValueError>([&] { robust::pgd(model, e.x, Labels(robust::predict(model, e.x)), 0.1, {.own_loss = own}); },
                          "pgd: the gradient of column 0 of x is not finite at iterate 0: the logits are; check the "
                          "loss function and the model's operations");
  arma::fmat w = model.l2.weight.value();
  w(0, 0) = std::numeric_limits<float>::quiet_NaN();
  model.l2.weight.set_value(w);
  refused<ag::ValueError>([&] { robust::pgd(model, e.x, e.y, 0.1); },
                          "pgd: a logit of column 0 of x is not finite at iterate 0: l2.weight is not; load or train "
                          "the weights again");
}

BOOST_AUTO_TEST_CASE(a_module_is_evaluated_and_then_as_before) {
  ag::nn::Sequential<float> model{ag::nn::Linear<float>(20, 4), ag::nn::Dropout<float>(0.9)};
  const Examples<float> e(model, 20, 30);
  BOOST_TEST(model.training());
  const auto once = robust::fgsm(model, e.x, e.y, 0.1), twice = robust::fgsm(model, e.x, e.y, 0.1);
  BOOST_TEST(same(once, twice));
  BOOST_TEST(model.training());
  BOOST_TEST(model[1].training());
}
