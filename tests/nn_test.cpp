// The module nn: naming, copying and checking of modules, layers and losses beside PyTorch (figures stored by
// peers/nn_optim.py), initialisers, and training by replay.
#define BOOST_TEST_MODULE nn
#include <array>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <limits>
#include <memory>
#include <new>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <armagrad/armagrad.hpp>

#include "refused.hpp"

namespace ag = armagrad;

namespace {

thread_local bool counting = false;
thread_local std::size_t allocations = 0;

void* allocate(std::size_t bytes) {
  if (counting) ++allocations;
  if (void* memory = std::malloc(bytes == 0 ? 1 : bytes)) return memory;
  throw std::bad_alloc();
}

}  // namespace

void* operator new(std::size_t bytes) { return allocate(bytes); }
void* operator new[](std::size_t bytes) { return allocate(bytes); }
void operator delete(void* p) noexcept { std::free(p); }
void operator delete[](void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }
void operator delete[](void* p, std::size_t) noexcept { std::free(p); }

namespace {

namespace peer {
#include "peers/nn_optim.inc"
}  // namespace peer

using ag::Var;
using ag::nn::Dropout;
using ag::nn::Gelu;
using ag::nn::Linear;
using ag::nn::Module;
using ag::nn::Reduction;
using ag::nn::Relu;
using ag::nn::Sequential;
using ag::nn::Sigmoid;
using ag::nn::Tanh;
using Labels = arma::Row<std::size_t>;
using Strings = std::vector<std::string>;

double deviation(const arma::mat& a, const arma::mat& b) {
  BOOST_REQUIRE(arma::size(a) == arma::size(b));
  return arma::abs(a - b).max();
}
template <class eT>
arma::mat in_double(const arma::Mat<eT>& x) {
  return arma::conv_to<arma::mat>::from(x);
}
template <class eT>
arma::Mat<eT> as(const arma::mat& x) {
  return arma::conv_to<arma::Mat<eT>>::from(x);
}

template <class M>
Strings names(M& model) {
  Strings out;
  for (const auto& p : model.named_parameters()) out.push_back(p.name);
  return out;
}

template <class M>
auto evaluate(M& model, const arma::Mat<typename M::elem_type>& x) {
  ag::Tape<typename M::elem_type> tape;
  return model(tape.constant(x)).value();
}

template <class eT>
bool same(const arma::Mat<eT>& a, const arma::Mat<eT>& b) {
  return arma::size(a) == arma::size(b) && std::equal(a.begin(), a.end(), b.begin());
}

using FloatAndDouble = std::tuple<float, double>;
template <class eT>
constexpr double tolerance = std::is_same_v<eT, float> ? 5e-6 : 1e-14;

// Models.

struct Mlp : Module<double> {
  Linear<double> l1{3, 4}, l2{4, 2};
  ARMAGRAD_MODULE(l1, l2)
  Var<double> forward(Var<double> x) { return l2(tanh(l1(x))); }
};

template <class eT>
struct Block : Module<eT> {
  explicit Block(arma::uword width = 2) : linear(width, width), gain(width, 1) {}
  Linear<eT> linear;
  ag::Parameter<eT> gain;
  ARMAGRAD_MODULE(linear, gain)
  Var<eT> forward(Var<eT> x) { return linear(x) % gain; }
};

struct Everything : Module<double> {
  ag::Parameter<double> scale{1, 1};
  std::vector<Block<double>> blocks{Block<double>(), Block<double>()};
  std::array<ag::Parameter<double>, 2> pair{ag::Parameter<double>(1, 1), ag::Parameter<double>(1, 2)};
  std::optional<Linear<double>> present{Linear<double>(2, 1)}, absent;
  std::unique_ptr<Linear<double>> unique = std::make_unique<Linear<double>>(1, 1);
  std::shared_ptr<Linear<double>> shared = std::make_shared<Linear<double>>(1, 1);
  Linear<double>* raw = unique.get();  // not another one: it is named where it comes first
  std::vector<std::unique_ptr<Linear<double>>> list;
  std::vector<std::vector<ag::Parameter<double>>> grid{{ag::Parameter<double>(1, 1)}, {ag::Parameter<double>(1, 1)}};
  std::uint64_t count = 0;
  Everything() { list.push_back(std::make_unique<Linear<double>>(1, 1)); }
  ARMAGRAD_MODULE(scale, blocks, pair, present, absent, unique, shared, raw, list, grid, count)
};

struct ByHand : Module<double> {
  Linear<double> in{2, 3};
  ag::Parameter<double> out{1, 3};
  void visit(ag::nn::Visitor& visitor) override {
    visitor("first", in);
    visitor("second", out);
  }
  ARMAGRAD_CALL()
  Var<double> forward(Var<double> x) { return out * in(x); }
};

struct TwoInputs : Module<double> {
  Linear<double> a{2, 3}, b{1, 3};
  ARMAGRAD_MODULE(a, b)
  Var<double> forward(Var<double> x, Var<double> y, double factor) { return a(x) + factor * b(y); }
};

struct TwoResults : Module<double> {
  Linear<double> a{2, 3}, b{2, 1};
  ARMAGRAD_MODULE(a, b)
  std::pair<Var<double>, Var<double>> forward(Var<double> x) { return {a(x), b(x)}; }
};

/// Two references to one layer.
struct Tied : Module<double> {
  std::shared_ptr<Linear<double>> encode = std::make_shared<Linear<double>>(2, 2), again = encode;
  ARMAGRAD_MODULE(encode, again)
  Var<double> forward(Var<double> x) { return (*again)(tanh((*encode)(x))); }
};

struct ForgottenParameter : Module<double> {
  ag::Parameter<double> w{1, 1}, b{1, 1};
  ARMAGRAD_MODULE(w)
};
struct ForgottenModule : Module<double> {
  Linear<double> l1{1, 1};
  Block<double> l2;
  ARMAGRAD_MODULE(l1)
};
struct ForgottenInVector : Module<double> {
  std::vector<Mlp> parts = std::vector<Mlp>(2);
  ARMAGRAD_MODULE()
};
struct ForgottenOnHeap : Module<double> {
  Linear<double> l1{1, 1};
  std::unique_ptr<Linear<double>> l2 = std::make_unique<Linear<double>>(1, 1);
  ARMAGRAD_MODULE(l1)
};
struct ForgottenBelow : Module<double> {
  ForgottenParameter part;
  ARMAGRAD_MODULE(part)
};
struct Sized : Module<double> {
  Sized(arma::uword n, bool more) : l(n, n) {
    if (more) extra.emplace(n, n);
  }
  Linear<double> l;
  std::optional<Linear<double>> extra;
  ARMAGRAD_MODULE(l)
};

template <class T>
struct Outer : Module<double> {
  struct Inner : Module<double> {
    ARMAGRAD_MODULE()
  };
  ARMAGRAD_MODULE()
};

struct WithDropout : Module<double> {
  Linear<double> l{2, 3};
  std::vector<Dropout<double>> drops{Dropout<double>(0.5), Dropout<double>(0.5)};
  ARMAGRAD_MODULE(l, drops)
  Var<double> forward(Var<double> x) { return drops[1](drops[0](l(x))); }
};

struct Deep : Module<double> {
  Mlp first;
  std::vector<Mlp> more = std::vector<Mlp>(2);
  Sequential<double> last{Linear<double>(2, 3), Sequential<double>{Relu<double>{}, Linear<double>(4, 1)}};
  int where = 0;
  ARMAGRAD_MODULE(first, more, last)
  Var<double> forward(Var<double> x) {
    if (where == 0) return first.l2(x);  // a part of a part, called past it
    if (where == 1) return more[1](x);
    if (where == 2) return last(x);
    return first(x);
  }
};

struct Unnamed : Module<double> {
  Linear<double> hidden{3, 3};
  ARMAGRAD_MODULE()
  Var<double> forward(Var<double> x) { return hidden(x); }
};

}  // namespace

// Names.

BOOST_AUTO_TEST_CASE(parameters_are_named_by_their_path_in_the_order_of_the_members) {
  Mlp mlp;
  BOOST_TEST(names(mlp) == (Strings{"l1.weight", "l1.bias", "l2.weight", "l2.bias"}), boost::test_tools::per_element());
  BOOST_TEST(mlp.parameter_count() == 26U);
  BOOST_TEST(mlp.named_parameters()[2].parameter == &mlp.l2.weight);

  Everything all;
  BOOST_TEST(
      names(all) == (Strings{"scale", "blocks.0.linear.weight", "blocks.0.linear.bias", "blocks.0.gain",
                             "blocks.1.linear.weight", "blocks.1.linear.bias", "blocks.1.gain", "pair.0", "pair.1",
                             "present.weight", "present.bias", "unique.weight", "unique.bias", "shared.weight",
                             "shared.bias", "list.0.weight", "list.0.bias", "grid.0.0", "grid.1.0"}),
      boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(a_visitor_sees_parameters_modules_and_counters) {
  struct Record : ag::nn::Visitor {
    Strings seen;
    void parameter(const std::string& name, ag::Parameter<double>&) override { seen.push_back("p " + name); }
    void module(const std::string& name, ag::nn::ModuleBase& m) override { seen.push_back(m.type_name() + " " + name); }
    void state(const std::string& name, std::uint64_t&) override { seen.push_back("s " + name); }
  } record;
  Everything all;
  all.visit(record);
  BOOST_TEST(record.seen == (Strings{"p scale", "Block blocks.0", "Block blocks.1", "p pair.0", "p pair.1",
                                     "Linear present", "Linear unique", "Linear shared", "Linear raw", "Linear list.0",
                                     "p grid.0.0", "p grid.1.0", "s count"}),
             boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(visit_may_be_written_by_hand) {
  ByHand model;
  BOOST_TEST(names(model) == (Strings{"first.weight", "first.bias", "second"}), boost::test_tools::per_element());
  BOOST_TEST(evaluate(model, arma::mat(2, 5)).n_rows == 1U);
  BOOST_TEST(ag::nn::unnamed_members<ByHand>().empty());
}

BOOST_AUTO_TEST_CASE(a_shared_parameter_comes_once_and_trains) {
  Tied model;
  BOOST_TEST(names(model) == (Strings{"encode.weight", "encode.bias"}), boost::test_tools::per_element());
  BOOST_TEST(model.parameter_count() == 6U);
  ag::optim::Sgd<double> sgd(model.parameters(), {.lr = 0.1});
  ag::Tape<double> tape;
  ag::nn::mse(model(tape.constant(arma::mat(2, 3, arma::fill::ones))), arma::mat(2, 3)).backward();
  sgd.step();
  BOOST_TEST(model.encode->weight.shared()->version > 0U);
}

BOOST_AUTO_TEST_CASE(looking_at_a_part_does_not_rename_its_parameters) {
  Mlp model;
  model.parameters();
  ag::nn::summary(model, {3, 5});
  model.l2.zero_grad();
  BOOST_TEST(model.l2.device().name() == std::string("cpu"));
  BOOST_TEST(model.l2.parameter_count() == 10U);
  BOOST_TEST(model.l2.weight.shared()->name == "l2.weight");
}

BOOST_AUTO_TEST_CASE(a_type_is_named_without_namespace_and_template_arguments) {
  BOOST_TEST(Mlp().type_name() == "Mlp");
  BOOST_TEST(Block<float>().type_name() == "Block");
  BOOST_TEST(Outer<std::vector<Block<float>>>().type_name() == "Outer");
  BOOST_TEST(Outer<std::vector<Block<float>>>::Inner().type_name() == "Inner");
  BOOST_TEST(Outer<Outer<int>::Inner>().type_name() == "Outer");
}

// Copies and moves.

BOOST_AUTO_TEST_CASE(training_a_copy_leaves_the_original) {
  const arma::mat x(3, 5, arma::fill::ones);
  Mlp model;
  model.l2.set_trainable(false);
  Mlp copy = model, assigned;
  assigned = model;
  BOOST_TEST(!copy.l2.weight.trainable());
  BOOST_TEST(copy.l1.weight.trainable());
  const arma::mat before = evaluate(model, x);
  BOOST_TEST(same(evaluate(copy, x), before));
  BOOST_TEST(same(evaluate(assigned, x), before));

  ag::optim::Sgd<double> sgd(copy.parameters(), {.lr = 0.1});
  ag::Tape<double> tape;
  ag::nn::mse(copy(tape.constant(x)), arma::mat(2, 5)).backward();
  sgd.step();
  BOOST_TEST(same(evaluate(model, x), before));
  BOOST_TEST(same(evaluate(assigned, x), before));
  BOOST_TEST(!same(evaluate(copy, x), before));
}

BOOST_AUTO_TEST_CASE(an_optimizer_trains_the_model_that_its_model_was_moved_to) {
  const arma::mat x(3, 5, arma::fill::ones);
  Mlp model;
  ag::optim::Sgd<double> sgd(model.parameters(), {.lr = 0.1});
  Mlp moved = std::move(model);
  const arma::mat before = evaluate(moved, x);
  ag::Tape<double> tape;
  ag::nn::mse(moved(tape.constant(x)), arma::mat(2, 5)).backward();
  sgd.step();
  BOOST_TEST(!same(evaluate(moved, x), before));
}

BOOST_AUTO_TEST_CASE(a_model_that_was_moved_from_is_refused_in_words) {
  Mlp model;
  const Mlp moved = std::move(model);
  const std::string text = "parameter: it was moved from; use the one it was moved to";
  refused<ag::StateError>([&] { model.parameters(); }, text);
  refused<ag::StateError>([&] { evaluate(model, arma::mat(3, 5)); }, text);
}

BOOST_AUTO_TEST_CASE(a_growing_vector_of_models_keeps_training) {
  const arma::mat x(3, 5, arma::fill::ones);
  std::vector<Mlp> models(1);
  const arma::mat before = evaluate(models[0], x);
  ag::optim::Sgd<double> sgd(models[0].parameters(), {.lr = 0.1});
  const Mlp* const place = &models[0];
  while (&models[0] == place) models.emplace_back();
  BOOST_TEST(same(evaluate(models[0], x), before));
  ag::Tape<double> tape;
  ag::nn::mse(models[0](tape.constant(x)), arma::mat(2, 5)).backward();
  sgd.step();
  BOOST_TEST(!same(evaluate(models[0], x), before));
}

BOOST_AUTO_TEST_CASE(a_module_takes_several_inputs_and_gives_several_results) {
  TwoInputs model;
  ag::Tape<double> tape;
  const arma::mat x(2, 4, arma::fill::ones), y(1, 4, arma::fill::ones);
  const arma::mat out = model(tape.constant(x), tape.constant(y), 2.0).value();
  const arma::mat expected = model.a.weight.value() * x +
                             2 * (model.b.weight.value() * y + arma::repmat(model.b.bias.value(), 1, 4)) +
                             arma::repmat(model.a.bias.value(), 1, 4);
  BOOST_TEST(deviation(out, expected) <= 1e-15);

  TwoResults other;
  const auto [a, b] = other(tape.constant(x));
  BOOST_TEST(a.n_rows() == 3U);
  BOOST_TEST(b.n_rows() == 1U);
}

// Members nobody named.

BOOST_AUTO_TEST_CASE(a_forgotten_member_is_found) {
  using ag::nn::unnamed_members;
  const auto per_element = boost::test_tools::per_element();
  BOOST_TEST(unnamed_members<ForgottenParameter>() ==
                 Strings{"ForgottenParameter holds 1 parameter(s) that are not named in ARMAGRAD_MODULE"},
             per_element);
  BOOST_TEST(unnamed_members<ForgottenModule>() ==
                 Strings{"ForgottenModule holds a Block that is not named in ARMAGRAD_MODULE"},
             per_element);
  const std::string mlp = "ForgottenInVector holds a Mlp that is not named in ARMAGRAD_MODULE";
  BOOST_TEST(unnamed_members<ForgottenInVector>() == (Strings{mlp, mlp}), per_element);
  BOOST_TEST(unnamed_members<ForgottenOnHeap>() ==
                 Strings{"ForgottenOnHeap holds a Linear that is not named in ARMAGRAD_MODULE"},
             per_element);
  BOOST_TEST(unnamed_members<ForgottenBelow>() ==
                 Strings{"ForgottenBelow holds 1 parameter(s) that are not named in ARMAGRAD_MODULE"},
             per_element);
  BOOST_TEST(unnamed_members<Sized>(2U, true) == Strings{"Sized holds a Linear that is not named in ARMAGRAD_MODULE"},
             per_element);
}

BOOST_AUTO_TEST_CASE(nothing_is_found_where_all_is_named) {
  using ag::nn::unnamed_members;
  BOOST_TEST(unnamed_members<Mlp>().empty());
  BOOST_TEST(unnamed_members<Everything>().empty());
  BOOST_TEST(unnamed_members<Tied>().empty());
  BOOST_TEST(unnamed_members<Deep>().empty());
  BOOST_TEST(unnamed_members<WithDropout>().empty());
  BOOST_TEST((unnamed_members<Block<float>>(arma::uword{3}).empty()));
  BOOST_TEST((unnamed_members<Sized>(2U, false).empty()));
  BOOST_TEST((unnamed_members<Sequential<double>>(Linear<double>(1, 1), Relu<double>(), Mlp()).empty()));
}

// Training and evaluation, freezing, devices.

BOOST_AUTO_TEST_CASE(train_and_eval_reach_all_parts) {
  WithDropout model;
  Everything all;
  BOOST_TEST(model.training());
  model.eval();
  all.eval();
  BOOST_TEST(!model.training());
  BOOST_TEST(!model.l.training());
  BOOST_TEST(!model.drops[1].training());
  BOOST_TEST(!all.blocks[1].linear.training());
  BOOST_TEST(!all.list[0]->training());
  BOOST_TEST(!all.shared->training());
  const WithDropout copy = model;
  BOOST_TEST(!copy.drops[0].training());
  model.train();
  BOOST_TEST(model.training());
  BOOST_TEST(model.drops[0].training());

  Deep deep;
  deep.eval();
  BOOST_TEST(!deep.more[1].l2.training());
  BOOST_TEST(!deep.last[0].training());
  BOOST_TEST(!dynamic_cast<Sequential<double>&>(deep.last[1])[1].training());
}

BOOST_AUTO_TEST_CASE(backward_computes_nothing_for_frozen_parameters) {
  const arma::mat x(3, 5, arma::fill::ones);
  Mlp model;
  const auto commands = [&] {
    model.zero_grad();
    ag::Tape<double> tape;
    const auto in = tape.constant(x);
    return tape.capture([&] { ag::nn::mse(model(in), arma::mat(2, 5)).backward(); }).size();
  };
  const std::size_t all = commands();
  model.l1.set_trainable(false);
  const std::size_t last_layer = commands();
  BOOST_TEST(last_layer < all);
  BOOST_TEST(arma::abs(model.l1.weight.grad()).max() == 0);
  BOOST_TEST(arma::abs(model.l2.weight.grad()).max() > 0);
  const arma::mat frozen = model.l1.weight.value(), free = model.l2.weight.value();
  ag::optim::Sgd<double> sgd(model.parameters(), {.lr = 0.1, .weight_decay = 0.1});
  sgd.step();
  BOOST_TEST(same(model.l1.weight.value(), frozen));
  BOOST_TEST(!same(model.l2.weight.value(), free));

  model.set_trainable(false);
  refused<ag::StateError>([&] { commands(); },
                          "backward: nothing this Var was computed from requires a gradient; make the inputs with "
                          "tape.variable, use trainable parameters, and record outside of no_grad");
  model.set_trainable(true);
  BOOST_TEST(commands() == all);
}

BOOST_AUTO_TEST_CASE(moving_to_where_a_model_is_changes_nothing) {
  Mlp model;
  const auto storage = model.l1.weight.shared();
  const double* const value = storage->value;
  const auto version = storage->version;
  model.to(ag::Device::cpu());
  BOOST_TEST(model.l1.weight.shared() == storage);
  BOOST_TEST(storage->value == value);
  BOOST_TEST(storage->version == version);
  BOOST_TEST((model.device() == ag::Device::cpu()));
}

BOOST_AUTO_TEST_CASE(threads_read_one_model_with_tapes_of_their_own) {
  Deep model;
  model.where = 3;
  model.eval();
  std::array<arma::mat, 2> x{arma::mat(3, 20, arma::fill::ones), arma::mat(3, 20, arma::fill::zeros)}, expected, found;
  for (int k = 0; k < 2; ++k) expected[k] = evaluate(model, x[k]);
  const std::size_t count = model.parameter_count();
  std::array<int, 2> wrong{0, 0};
  std::vector<std::thread> threads;
  for (int k = 0; k < 2; ++k)
    threads.emplace_back([&, k] {
      ag::Tape<double> tape(model.device());
      for (int i = 0; i < 200; ++i) {
        tape.rewind();
        wrong[k] += !same(model(tape.constant(x[k])).value(), expected[k]);
        try {
          model(tape.constant(arma::mat(5, 1)));
        } catch (const ag::ShapeError& e) {
          wrong[k] += std::string(e.what()).find("[in model.first.l1]") == std::string::npos;
        }
      }
      wrong[k] += model.parameter_count() != count;
    });
  for (std::thread& t : threads) t.join();
  BOOST_TEST(wrong[0] == 0);
  BOOST_TEST(wrong[1] == 0);
}

// Layers.

BOOST_AUTO_TEST_CASE_TEMPLATE(linear_is_pytorchs, eT, FloatAndDouble) {
  Linear<eT> layer(4, 3);
  layer.weight.set_value(as<eT>(peer::linear_weight));
  layer.bias.set_value(as<eT>(peer::linear_bias));
  ag::Tape<eT> tape;
  const auto x = tape.variable(as<eT>(peer::linear_x));
  const auto y = layer(x);
  dot(y, tape.constant(as<eT>(peer::linear_g))).backward();
  BOOST_TEST(deviation(in_double(y.value()), peer::linear_y) <= tolerance<eT>);
  BOOST_TEST(deviation(in_double(x.grad()), peer::linear_dx) <= tolerance<eT>);
  BOOST_TEST(deviation(in_double(layer.weight.grad()), peer::linear_dw) <= tolerance<eT>);
  BOOST_TEST(deviation(in_double(layer.bias.grad()), peer::linear_db) <= tolerance<eT>);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(activations_are_pytorchs, eT, FloatAndDouble) {
  const auto check = [](auto layer, const peer::ActivationCase& expected) {
    BOOST_TEST(std::string(expected.name).size() > 0U);
    ag::Tape<eT> tape;
    const auto x = tape.variable(as<eT>(peer::linear_x));
    const auto y = layer(x);
    dot(y, tape.constant(as<eT>(peer::activation_g))).backward();
    BOOST_TEST(deviation(in_double(y.value()), expected.y) <= tolerance<eT>);
    BOOST_TEST(deviation(in_double(x.grad()), expected.dx) <= tolerance<eT>);
  };
  BOOST_REQUIRE(peer::activation_cases.size() == 4U);
  check(Relu<eT>(), peer::activation_cases[0]);
  check(Tanh<eT>(), peer::activation_cases[1]);
  check(Sigmoid<eT>(), peer::activation_cases[2]);
  check(Gelu<eT>(), peer::activation_cases[3]);
}

BOOST_AUTO_TEST_CASE(gradients_of_layers_and_losses_are_those_of_finite_differences) {
  Sequential<double> net{Linear<double>(4, 3), Tanh<double>(),    Linear<double>(3, 3),
                         Gelu<double>(),       Sigmoid<double>(), Dropout<double>(0.3, 5)};
  const arma::mat target = peer::target.submat(0, 0, 2, 1), x = peer::linear_x.cols(0, 1);
  const auto fixed = [&](const std::vector<Var<double>>& in) {
    dynamic_cast<Dropout<double>&>(net[5]).calls = 3;  // the same mask each time
    return net(in[0]);
  };
  for (const Reduction reduction : {Reduction::mean, Reduction::sample_mean, Reduction::sum}) {
    using In = std::vector<Var<double>>;
    const auto results = {
        ag::gradcheck([&](const In& in) { return ag::nn::mse(fixed(in), target, reduction); }, {x}),
        ag::gradcheck([&](const In& in) { return ag::nn::l1(fixed(in), target, reduction); }, {x}),
        ag::gradcheck([&](const In& in) { return ag::nn::huber(fixed(in), target, 0.8, reduction); }, {x}),
        ag::gradcheck([&](const In& in) { return ag::nn::mse(in[0], in[1], reduction); },
                      {peer::prediction, peer::target}),
        ag::gradcheck(
            [&](const In& in) {
              return ag::nn::cross_entropy(fixed(in), Labels{2, 0}, reduction);
            },
            {x})};
    for (const auto& r : results) {
      BOOST_TEST(r.ok, r.log);
      BOOST_TEST(r.entries >= 8U);
    }
  }
}

BOOST_AUTO_TEST_CASE(dropout_draws_masks_with_the_share_and_scale_asked_for) {
  for (const double p : {0.1, 0.5, 0.9}) {
    Dropout<double> layer(p, 11);
    const arma::mat y = evaluate(layer, arma::mat(200, 500, arma::fill::ones));
    const double dropped = arma::accu(y == 0) / 1e5;
    // Four standard deviations of a binomial share.
    BOOST_TEST(std::abs(dropped - p) <= 4 * std::sqrt(p * (1 - p) / 1e5));
    BOOST_TEST(std::abs(y.max() - 1 / (1 - p)) <= 1e-15 / (1 - p));
    BOOST_TEST(arma::accu(y == 0) + arma::accu(y == y.max()) == y.n_elem);
    // Rows and columns alike: no row or column is far from its share.
    const arma::rowvec by_column = arma::conv_to<arma::rowvec>::from(arma::sum(y == 0, 0));
    BOOST_TEST(arma::abs(by_column / 200 - p).max() <= 5 * std::sqrt(p * (1 - p) / 200));
  }
}

BOOST_AUTO_TEST_CASE(dropout_masks_follow_from_seed_and_calls) {
  const arma::mat ones(20, 30, arma::fill::ones);
  Dropout<double> a(0.5, 7), b(0.5, 7), other(0.5, 8);
  const arma::mat first = evaluate(a, ones), second = evaluate(a, ones);
  BOOST_TEST(!same(first, second));
  BOOST_TEST(a.calls == 2U);
  BOOST_TEST(same(first, evaluate(b, ones)));
  BOOST_TEST(same(second, evaluate(b, ones)));
  BOOST_TEST(!same(first, evaluate(other, ones)));
  a.calls = 0;
  BOOST_TEST(same(first, evaluate(a, ones)));

  // Without a seed of their own layers differ, and follow the default generator.
  ag::nn::seed(3);
  Dropout<double> c, d;
  const arma::mat from_c = evaluate(c, ones);
  BOOST_TEST(!same(from_c, evaluate(d, ones)));
  ag::nn::seed(3);
  Dropout<double> again;
  BOOST_TEST(same(from_c, evaluate(again, ones)));
}

BOOST_AUTO_TEST_CASE(dropout_passes_the_gradient_through_its_mask) {
  Dropout<double> layer(0.4, 1);
  ag::Tape<double> tape;
  const auto x = tape.variable(arma::mat(30, 40, arma::fill::ones));
  const auto y = layer(x);
  accu(y).backward();
  BOOST_TEST(same(x.grad(), y.value()));
}

BOOST_AUTO_TEST_CASE(dropout_is_the_identity_in_evaluation_and_without_probability) {
  const arma::mat x = peer::linear_x;
  Dropout<double> layer(0.4, 1), none(0);
  layer.eval();
  BOOST_TEST(same(evaluate(layer, x), x));
  BOOST_TEST(layer.calls == 0U);
  BOOST_TEST(same(evaluate(none, x), x));
}

BOOST_AUTO_TEST_CASE(a_replayed_dropout_draws_another_mask_each_time) {
  Dropout<double> layer(0.5, 2);
  ag::Tape<double> tape;
  const auto x = tape.variable(arma::mat(20, 30, arma::fill::ones));
  std::vector<Var<double>> y;
  auto replay = tape.capture([&] {
    y.push_back(layer(x));
    accu(y[0]).backward();
  });
  const arma::mat first = y[0].value();
  replay.run();
  const arma::mat second = y[0].value();
  replay.run();
  BOOST_TEST(!same(first, second));
  BOOST_TEST(!same(second, y[0].value()));
}

BOOST_AUTO_TEST_CASE(layers_refuse_bad_options_in_words) {
  using ag::OptionError;
  refused<OptionError>([] { Linear<double>(0, 3); }, "Linear: 0 inputs and 3 outputs; both must be positive");
  refused<OptionError>([] { Linear<float>(2, 0); }, "Linear: 2 inputs and 0 outputs; both must be positive");
  refused<OptionError>([] { Dropout<double>(1.0); }, "Dropout: p is 1; it must be at least 0 and below 1");
  refused<OptionError>([] { Dropout<double>(-0.1); }, "Dropout: p is -0.1; it must be at least 0 and below 1");
  refused<OptionError>([] { Dropout<float>(std::nan("")); }, "Dropout: p is nan; it must be at least 0 and below 1");
}

// Sequential.

BOOST_AUTO_TEST_CASE(sequential_calls_its_modules_in_turn) {
  Linear<double> l1(4, 3), l2(3, 2);
  Sequential<double> net{l1, Relu<double>(), Sequential<double>{l2, Tanh<double>()}};
  BOOST_TEST(net.size() == 3U);
  BOOST_TEST(names(net) == (Strings{"0.weight", "0.bias", "2.0.weight", "2.0.bias"}), boost::test_tools::per_element());
  BOOST_TEST(net[1].type_name() == "Relu");
  const auto plain = [&](const arma::mat& x) -> arma::mat {
    const arma::mat h = arma::clamp(l1.weight.value() * x + arma::repmat(l1.bias.value(), 1, 5), 0, arma::datum::inf);
    return arma::tanh(l2.weight.value() * h + arma::repmat(l2.bias.value(), 1, 5));
  };
  BOOST_TEST(deviation(evaluate(net, peer::linear_x), plain(peer::linear_x)) <= 1e-15);
  // It holds copies.
  net[0].named_parameters()[0].parameter->set_value(arma::mat(3, 4));
  BOOST_TEST(arma::abs(l1.weight.value()).max() > 0);

  net.add(Linear<double>(2, 7));
  BOOST_TEST(net.size() == 4U);
  BOOST_TEST(evaluate(net, peer::linear_x).n_rows == 7U);
  Sequential<double> empty;
  BOOST_TEST(same(evaluate(empty, peer::linear_x), peer::linear_x));
}

BOOST_AUTO_TEST_CASE(copying_a_sequential_clones_what_it_holds) {
  Sequential<double> net{Linear<double>(4, 3), Sequential<double>{Linear<double>(3, 2)}};
  Sequential<double> copy = net, assigned{Relu<double>()};
  assigned = net;
  const arma::mat before = evaluate(net, peer::linear_x);
  for (Sequential<double>* other : {&copy, &assigned}) {
    BOOST_TEST(same(evaluate(*other, peer::linear_x), before));
    for (const auto& p : other->named_parameters()) p.parameter->set_value(p.parameter->value() + 1);
    BOOST_TEST(!same(evaluate(*other, peer::linear_x), before));
    BOOST_TEST(same(evaluate(net, peer::linear_x), before));
  }
  const auto storage = net[0].named_parameters()[0].parameter->shared();
  Sequential<double> moved = std::move(net);
  BOOST_TEST(moved[0].named_parameters()[0].parameter->shared() == storage);
}

// Losses.

BOOST_AUTO_TEST_CASE_TEMPLATE(losses_are_pytorchs, eT, FloatAndDouble) {
  for (const peer::LossCase& c : peer::loss_cases) {
    const std::string name = c.name, how = c.reduction;
    const Reduction reduction = how == "sum"    ? Reduction::sum
                                : how == "mean" ? Reduction::mean
                                                : Reduction::sample_mean;
    BOOST_TEST_CONTEXT(name << " " << how << " delta " << c.delta) {
      ag::Tape<eT> tape;
      const auto x = tape.variable(as<eT>(peer::prediction));
      const auto t = tape.variable(as<eT>(peer::target));
      const auto loss = name == "mse"  ? ag::nn::mse(x, t, reduction)
                        : name == "l1" ? ag::nn::l1(x, t, reduction)
                                       : ag::nn::huber(x, t, c.delta, reduction);
      BOOST_TEST(std::abs(loss.item() - c.value) <= tolerance<eT> * 10);
      loss.backward();
      BOOST_TEST(deviation(in_double(x.grad()), c.gradient) <= tolerance<eT>);
      BOOST_TEST(deviation(in_double(t.grad()), -c.gradient) <= tolerance<eT>);
      // A plain matrix as the target is the same.
      const arma::Mat<eT> plain = as<eT>(peer::target);
      const auto with_matrix = name == "mse"  ? ag::nn::mse(x, plain, reduction)
                               : name == "l1" ? ag::nn::l1(x, plain, reduction)
                                              : ag::nn::huber(x, plain, c.delta, reduction);
      BOOST_TEST(with_matrix.item() == loss.item());
    }
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(cross_entropy_is_pytorchs, eT, FloatAndDouble) {
  for (const bool mean : {true, false}) {
    ag::Tape<eT> tape;
    const auto z = tape.variable(as<eT>(peer::logits));
    const auto loss = ag::nn::cross_entropy(z, peer::labels, mean ? Reduction::mean : Reduction::sum);
    BOOST_TEST(std::abs(loss.item() - (mean ? peer::cross_entropy_mean : peer::cross_entropy_sum)) <=
               tolerance<eT> * 10);
    loss.backward();
    BOOST_TEST(deviation(in_double(z.grad()),
                         mean ? peer::cross_entropy_mean_gradient : peer::cross_entropy_sum_gradient) <= tolerance<eT>);
    const auto by_sample = ag::nn::cross_entropy(z, peer::labels, mean ? Reduction::sample_mean : Reduction::sum);
    BOOST_TEST(by_sample.item() == loss.item());
    const auto on_tape = ag::nn::cross_entropy(z, tape.labels(peer::labels), mean ? Reduction::mean : Reduction::sum);
    BOOST_TEST(on_tape.item() == loss.item());
  }
  // The confident column's gradient keeps all its digits, relative to its own size, in float too.
  ag::Tape<eT> tape;
  const auto z = tape.variable(as<eT>(peer::logits));
  ag::nn::cross_entropy(z, peer::labels).backward();
  const arma::vec found = in_double(z.grad()).eval().col(1), expected = peer::cross_entropy_mean_gradient.col(1);
  BOOST_TEST(arma::abs(found.tail(3) / expected.tail(3) - 1).max() <= (std::is_same_v<eT, float> ? 1e-4 : 1e-12));
  BOOST_TEST(std::abs(found[0] + arma::accu(found.tail(3))) <= 1e-6 * std::abs(found[0]));
}

BOOST_AUTO_TEST_CASE(accuracy_is_the_share_of_columns_whose_largest_entry_is_the_labels) {
  const arma::mat logits{{1, 5, 2, 0}, {3, 5, 1, 0}, {2, 1, 4, 1}};
  BOOST_TEST(ag::nn::accuracy(logits, Labels{1, 0, 2, 2}) == 1.0);
  BOOST_TEST(ag::nn::accuracy(logits, Labels{1, 1, 0, 2}) == 0.5);  // of equals the first counts
}

BOOST_AUTO_TEST_CASE(losses_refuse_what_does_not_fit_in_words) {
  using ag::OptionError, ag::ShapeError, ag::ValueError;
  ag::Tape<double> tape;
  const auto x = tape.variable(arma::mat(10, 64)), other = tape.constant(arma::mat(1, 64));
  const std::string shapes =
      ": the prediction is 10x64, the target 1x64: both must have the same shape; columns are samples";
  refused<ShapeError>([&] { ag::nn::mse(x, other); }, "mse" + shapes);
  refused<ShapeError>([&] { ag::nn::mse(x, arma::mat(1, 64)); }, "mse" + shapes);
  refused<ShapeError>([&] { ag::nn::l1(x, other); }, "l1" + shapes);
  refused<ShapeError>([&] { ag::nn::huber(x, other); }, "huber" + shapes);
  refused<OptionError>([&] { ag::nn::huber(x, x, 0); }, "huber: delta is 0; it must be positive");

  const auto empty = tape.variable(arma::mat(10, 0));
  const std::string nothing = ": the batch is 10x0: there is nothing to average; leave empty batches out";
  refused<ShapeError>([&] { ag::nn::mse(empty, empty); }, "mse" + nothing);
  refused<ShapeError>([&] { ag::nn::l1(empty, empty, Reduction::sample_mean); }, "l1" + nothing);
  refused<ShapeError>([&] { ag::nn::huber(empty, empty); }, "huber" + nothing);
  refused<ShapeError>([&] { ag::nn::cross_entropy(empty, Labels()); }, "cross_entropy" + nothing);
  BOOST_TEST(ag::nn::mse(empty, empty, Reduction::sum).item() == 0);

  const auto z = tape.variable(arma::mat(3, 2));
  refused<ShapeError>([&] { ag::nn::cross_entropy(z, Labels{1}); },
                      "cross_entropy: logits is 3x2: its columns (2) must be as many as the labels (1); columns are "
                      "samples");
  refused<ValueError>(
      [&] {
        ag::nn::cross_entropy(z, Labels{0, 3});
      },
      "cross_entropy: label 3 is not below the 3 rows (classes) of the logits");

  refused<ShapeError>([] { ag::nn::accuracy(arma::mat(3, 2), Labels{1}); },
                      "accuracy: the logits are 3x2, the labels 1: there must be one label per column, and at least "
                      "one row and column");
  refused<ShapeError>([] { ag::nn::accuracy(arma::mat(0, 1), Labels{0}); },
                      "accuracy: the logits are 0x1, the labels 1: there must be one label per column, and at least "
                      "one row and column");
  refused<ValueError>(
      [] {
        ag::nn::accuracy(arma::mat(3, 2), Labels{0, 3});
      },
      "accuracy: label 3 of column 1 is not below the 3 rows (classes) of the logits");
}

BOOST_AUTO_TEST_CASE(an_error_names_the_part_of_the_model_it_happened_in) {
  Deep model;
  ag::Tape<double> tape;
  const auto text = [&](int where, arma::uword rows) -> std::string {
    model.where = where;
    try {
      model(tape.constant(arma::mat(rows, 2)));
    } catch (const ag::ShapeError& e) {
      return e.what();
    }
    return "nothing";
  };
  BOOST_TEST(text(0, 9) ==
             "affine: W is 2x4, x is 9x2, b is 2x1: W's columns (4) must equal x's rows (9); columns are samples [in "
             "model.first.l2]");
  const auto path = [&](int where, arma::uword rows) {
    const std::string t = text(where, rows);
    return t.substr(t.find('['));
  };
  BOOST_TEST(path(1, 9) == "[in model.more.1.l1]");
  BOOST_TEST(path(2, 9) == "[in model.last.0]");
  BOOST_TEST(path(2, 2) == "[in model.last.1.1]");
  Unnamed unnamed;
  refused<ag::ShapeError>([&] { unnamed(tape.constant(arma::mat(2, 1))); },
                          "affine: W is 3x3, x is 2x1, b is 3x1: W's columns (3) must equal x's rows (2); columns are "
                          "samples [in model.Linear]");
  // After an error the next call starts afresh.
  Linear<double> alone(2, 2);
  refused<ag::ShapeError>([&] { alone(tape.constant(arma::mat(3, 1))); },
                          "affine: W is 2x2, x is 3x1, b is 2x1: W's columns (2) must equal x's rows (3); columns are "
                          "samples [in model]");
}

BOOST_AUTO_TEST_CASE(a_loss_that_is_not_finite_stops_the_training_in_words) {
  Mlp model;
  BOOST_TEST(ag::nn::require_finite(1.5, model, 3) == 1.5);
  const double bad = std::numeric_limits<double>::quiet_NaN();
  const std::string advice = "; lower the learning rate, clip the gradients or check the data";
  refused<ag::ValueError>(
      [&] { ag::nn::require_finite(bad, model, 7); },
      "training: the loss is nan at step 7: every parameter is still finite, but they may be large; "
      "else look at the data and the loss function" +
          advice);
  ag::Tape<double> tape;
  arma::mat x(3, 5, arma::fill::ones);
  x(1, 2) = bad;
  const auto loss = ag::nn::mse(model(tape.constant(x)), arma::mat(2, 5));
  loss.backward();
  refused<ag::ValueError>([&] { ag::nn::require_finite(loss.item(), model, 8); },
                          "training: the loss is nan at step 8: the parameters are finite; the first gradient that is "
                          "not is that of l1.weight" +
                              advice);
  model.l2.bias.set_value(arma::mat(2, 1).fill(std::numeric_limits<double>::infinity()));
  refused<ag::ValueError>(
      [&] { ag::nn::require_finite(-std::numeric_limits<double>::infinity(), model, 9); },
      "training: the loss is -inf at step 9: the first parameter that is not finite is l2.bias" + advice);
}

// Summaries.

BOOST_AUTO_TEST_CASE(a_summary_lists_the_layers_with_shapes_and_counts) {
  Sequential<float> net{Linear<float>(64, 32), Relu<float>(),
                        Sequential<float>{Dropout<float>(), Linear<float>(32, 10)}};
  BOOST_TEST(ag::nn::summary(net, {64, 5}) ==
             "layer    type        output  parameters\n"
             "(input)                64x5            \n"
             "0        Linear        32x5        2080\n"
             "1        Relu          32x5           0\n"
             "2.0      Dropout       32x5           0\n"
             "2.1      Linear        10x5         330\n"
             "2        Sequential    10x5         330\n"
             "(all)    Sequential    10x5        2410\n");
  Mlp mlp;
  BOOST_TEST(ag::nn::summary(mlp, {3, 1}) ==
             "layer    type    output  parameters\n"
             "(input)             3x1            \n"
             "l1       Linear     4x1          16\n"
             "l2       Linear     2x1          10\n"
             "(all)    Mlp        2x1          26\n");
}

BOOST_AUTO_TEST_CASE(a_summary_leaves_the_model_as_it_is) {
  WithDropout model;
  model.drops[1].eval();
  ag::nn::summary(model, {2, 5});
  BOOST_TEST(model.drops[0].calls == 0U);
  BOOST_TEST(model.training());
  BOOST_TEST(model.drops[0].training());
  BOOST_TEST(!model.drops[1].training());
}

// Initial values.

BOOST_AUTO_TEST_CASE(initialisers_draw_within_their_bounds_and_with_their_moments) {
  using namespace ag::nn::init;
  const double n = 300 * 200;
  const auto check_uniform = [n](const arma::mat& w, double low, double high) {
    const double width = high - low;
    BOOST_TEST((w.min() >= low && w.max() <= high));
    BOOST_TEST((w.min() <= low + 1e-3 * width && w.max() >= high - 1e-3 * width));
    // Four standard deviations of the sample's moments.
    BOOST_TEST(std::abs(arma::mean(arma::vectorise(w)) - (low + high) / 2) <= 4 * width / std::sqrt(12 * n));
    BOOST_TEST(std::abs(arma::var(arma::vectorise(w)) / (width * width / 12) - 1) <= 4 * std::sqrt(0.8 / n));
  };
  const auto check_normal = [n](const arma::mat& w, double mean, double deviation) {
    const arma::vec z = (arma::vectorise(w) - mean) / deviation;
    BOOST_TEST(std::abs(arma::mean(z)) <= 4 / std::sqrt(n));
    BOOST_TEST(std::abs(arma::var(z) - 1) <= 4 * std::sqrt(2 / n));
    BOOST_TEST(std::abs(arma::accu(arma::abs(z) < 1) / n - 0.682689) <= 4 * std::sqrt(0.22 / n));
    BOOST_TEST(arma::abs(z).max() > 3.5);
  };
  ag::nn::Generator random(4);
  ag::Parameter<double> w(300, 200);  // 200 inputs, 300 outputs
  uniform(w, -1, 3, random);
  check_uniform(w.value(), -1, 3);
  linear_default(w, 200, random);
  check_uniform(w.value(), -1 / std::sqrt(200.0), 1 / std::sqrt(200.0));
  kaiming_uniform(w, random);
  check_uniform(w.value(), -std::sqrt(6.0 / 200), std::sqrt(6.0 / 200));
  xavier_uniform(w, random);
  check_uniform(w.value(), -std::sqrt(6.0 / 500), std::sqrt(6.0 / 500));
  normal(w, 2, 0.5, random);
  check_normal(w.value(), 2, 0.5);
  kaiming_normal(w, random);
  check_normal(w.value(), 0, std::sqrt(2.0 / 200));
  xavier_normal(w, random);
  check_normal(w.value(), 0, std::sqrt(2.0 / 500));
  constant(w, 0.25);
  BOOST_TEST((w.value().min() == 0.25 && w.value().max() == 0.25));
}

BOOST_AUTO_TEST_CASE(a_linear_starts_as_in_pytorch_and_reproducibly) {
  ag::nn::seed(5);
  Linear<double> a(100, 400);
  const double bound = 0.1;
  BOOST_TEST(arma::abs(a.weight.value()).max() <= bound);
  BOOST_TEST(arma::abs(a.bias.value()).max() <= bound);
  BOOST_TEST(arma::abs(a.bias.value()).max() > 0.9 * bound);
  BOOST_TEST(std::abs(arma::stddev(arma::vectorise(a.weight.value())) - bound / std::sqrt(3.0)) < 1e-3);

  Linear<double> next(100, 400);
  ag::nn::seed(5);
  Linear<double> again(100, 400);
  ag::nn::Generator own(5);
  Linear<double> by_generator(100, 400, own);
  BOOST_TEST(same(again.weight.value(), a.weight.value()));
  BOOST_TEST(same(again.bias.value(), a.bias.value()));
  BOOST_TEST(same(by_generator.weight.value(), a.weight.value()));
  BOOST_TEST(!same(next.weight.value(), a.weight.value()));
  // The draws are those of double, whatever the element type.
  ag::nn::seed(5);
  Linear<float> in_float(100, 400);
  BOOST_TEST(same(in_float.weight.value(), as<float>(a.weight.value())));
  // The stream itself: std::mt19937_64's top 53 bits, first value and 10000th of the standard.
  std::mt19937_64 engine(5489);
  ag::nn::Generator random(5489);
  BOOST_TEST(random.uniform() == static_cast<double>(engine() >> 11) / 9007199254740992.0);
  for (int k = 1; k < 9999; ++k) random.bits();
  BOOST_TEST(random.bits() == 9981545732273789042U);
}

// Training by replay.

namespace {

struct Batch {
  arma::fmat x;
  Labels y;
};

std::vector<Batch> batches() {
  ag::nn::Generator random(9);
  std::vector<Batch> out(6);
  for (Batch& b : out) {
    b.x.set_size(5, 16);
    b.x.imbue([&] { return static_cast<float>(random.normal()); });
    b.y.set_size(16);
    for (arma::uword j = 0; j < 16; ++j) b.y[j] = b.x.col(j).head(3).index_max();
  }
  return out;
}

struct Classifier : Module<float> {
  Linear<float> l1{5, 8}, l2{8, 3};
  ARMAGRAD_MODULE(l1, l2)
  Var<float> forward(Var<float> x) { return l2(relu(l1(x))); }
};

/// The CPU, counting what is allocated on it.
class Counting final : public ag::Backend {
 public:
  std::size_t count = 0;
  const char* name() const override { return "counting"; }
  void* allocate(std::size_t bytes) override { return ++count, cpu().allocate(bytes); }
  void release(void* memory) noexcept override { cpu().release(memory); }
  void upload(void* device, const void* host, std::size_t bytes) override { cpu().upload(device, host, bytes); }
  void download(void* host, const void* device, std::size_t bytes) override { cpu().download(host, device, bytes); }
  void run(const ag::Command<float>& c) override { cpu().run(c); }
  void run(const ag::Command<double>& c) override { cpu().run(c); }
  void require(const ag::Kernel<float>&, const char*) override {}
  void require(const ag::Kernel<double>&, const char*) override {}
  void synchronize() override {}

 private:
  static ag::Backend& cpu() { return ag::Device::cpu().backend(); }
};

double rate(std::size_t step) { return ag::optim::cosine_rate(0.1, step, 40); }

}  // namespace

BOOST_AUTO_TEST_CASE(a_replayed_training_equals_the_eager_one_bit_for_bit) {
  for (const ag::optim::SgdOptions& options :
       {ag::optim::SgdOptions{}, ag::optim::SgdOptions{.momentum = 0.9},
        ag::optim::SgdOptions{.momentum = 0.9, .dampening = 0.2, .weight_decay = 0.01},
        ag::optim::SgdOptions{.momentum = 0.5, .nesterov = true}}) {
    const auto data = batches();
    ag::nn::seed(1);
    Classifier eager;
    Classifier replayed = eager;
    const std::size_t steps = 40;

    std::vector<float> losses;
    ag::optim::Sgd<float> sgd(eager.parameters(), options);
    ag::Tape<float> tape;
    for (std::size_t step = 0; step < steps; ++step) {
      const Batch& b = data[step % data.size()];
      sgd.set_lr(rate(step));
      tape.rewind();
      const auto loss = ag::nn::cross_entropy(eager(tape.constant(b.x)), b.y);
      sgd.zero_grad();
      loss.backward();
      sgd.clip_grad_norm(1);
      sgd.step();
      losses.push_back(loss.item());
    }

    ag::optim::Sgd<float> other(replayed.parameters(), options);
    ag::Tape<float> fixed;
    const auto x = fixed.constant(data[0].x);
    const auto y = fixed.labels(data[0].y);
    std::optional<Var<float>> loss;
    other.set_lr(rate(0));
    auto replay = fixed.capture([&] {
      loss = ag::nn::cross_entropy(replayed(x), y);
      other.zero_grad();
      loss->backward();
      other.clip_grad_norm(1);
      other.step();
    });
    BOOST_TEST(loss->item() == losses[0]);
    for (std::size_t step = 1; step < steps; ++step) {
      const Batch& b = data[step % data.size()];
      other.set_lr(rate(step));
      replay.set(x, b.x);
      replay.set(y, b.y);
      replay.run();
      BOOST_TEST(loss->item() == losses[step]);
    }
    const auto expected = eager.named_parameters(), found = replayed.named_parameters();
    for (std::size_t k = 0; k < expected.size(); ++k)
      BOOST_TEST(same(found[k].parameter->value(), expected[k].parameter->value()), expected[k].name);
    BOOST_TEST(losses.back() < losses.front());
  }
}

BOOST_AUTO_TEST_CASE(a_replayed_update_counts_as_a_change_of_its_parameters) {
  Classifier model;
  ag::optim::Sgd<float> sgd(model.parameters(), {.lr = 0.1});
  const Batch b = batches()[0];
  ag::Tape<float> tape, other;
  const auto x = tape.constant(b.x);
  auto replay = tape.capture([&] {
    sgd.zero_grad();
    ag::nn::cross_entropy(model(x), b.y).backward();
    sgd.step();
  });
  const auto loss = ag::nn::cross_entropy(model(other.constant(b.x)), b.y);
  replay.run();
  BOOST_CHECK_THROW(loss.backward(), ag::StateError);
}

BOOST_AUTO_TEST_CASE(after_the_first_steps_training_allocates_nothing_in_the_engine) {
  const auto data = batches();
  Counting device;
  Classifier model;
  model.to(ag::Device(device));
  Dropout<float> drop(0.5, 1);
  ag::optim::Sgd<float> sgd(model.parameters(), {.lr = 0.1, .momentum = 0.9});
  ag::Tape<float> tape(model.device());
  const auto step = [&](const Batch& b) {
    tape.rewind();
    const auto loss = ag::nn::cross_entropy(model(drop(tape.constant(b.x))), b.y);
    sgd.zero_grad();
    loss.backward();
    sgd.clip_grad_norm(1);
    sgd.clip_grad_value(0.5);
    sgd.step();
    return loss.item();
  };
  step(data[0]);
  allocations = device.count = 0;
  counting = true;
  for (int k = 0; k < 100; ++k) step(data[static_cast<std::size_t>(k) % data.size()]);
  counting = false;
  BOOST_TEST(allocations == 0U);
  BOOST_TEST(device.count == 0U);

  tape.rewind();
  const auto x = tape.constant(data[0].x);
  const auto y = tape.labels(data[0].y);
  auto replay = tape.capture([&] {
    sgd.zero_grad();
    ag::nn::cross_entropy(model(x), y).backward();
    sgd.step();
  });
  replay.run();
  allocations = device.count = 0;
  counting = true;
  for (const Batch& b : data) {
    replay.set(x, b.x);
    replay.set(y, b.y);
    sgd.set_lr(0.01);
    replay.run();
  }
  counting = false;
  BOOST_TEST(allocations == 0U);
  BOOST_TEST(device.count == 0U);
}

BOOST_AUTO_TEST_CASE(labels_may_be_a_row_of_any_integer_type) {
  const arma::mat logits = {{1, 2}, {3, -1}, {0.5, 0}};
  const auto loss = [&logits](const auto& labels) {
    ag::Tape<double> tape;
    return ag::nn::cross_entropy(tape.constant(logits), labels).item();
  };
  const double expected = loss(arma::Row<std::size_t>{2, 0});
  BOOST_TEST(loss(arma::urowvec{2, 0}) == expected);
  BOOST_TEST(loss(arma::irowvec{2, 0}) == expected);
}
