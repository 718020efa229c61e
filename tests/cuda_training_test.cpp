// Tapes, modules, optimizers and replays on the CUDA device, beside the same on the CPU.
#define BOOST_TEST_MODULE cuda_training
#include <cmath>
#include <functional>
#include <limits>
#include <optional>
#include <random>
#include <vector>

#include <armagrad/armagrad.hpp>

#include "cuda_device.hpp"

using namespace armagrad;

namespace {

std::mt19937 generator(1);

template <class eT>
arma::Mat<eT> random_matrix(arma::uword rows, arma::uword cols) {
  std::uniform_real_distribution<double> distribution(-1.5, 1.5);
  arma::Mat<eT> x(rows, cols);
  for (eT& v : x) v = static_cast<eT>(distribution(generator));
  return x;
}
arma::Row<std::size_t> random_labels(arma::uword n, std::size_t classes) {
  arma::Row<std::size_t> y(n);
  for (auto& v : y) v = generator() % classes;
  return y;
}

}  // namespace

// ---- the engine on the device

namespace {

template <class eT>
struct Figures {
  std::vector<arma::Mat<eT>> matrices;  // value, gradients, second derivatives
};

/// Everything the three operations can be asked: the value, backward's gradients, and the gradients of a function of
/// the gradients.
template <class eT>
Figures<eT> figures(Device on, const std::function<Var<eT>(const std::vector<Var<eT>>&)>& f,
                    const std::vector<arma::Mat<eT>>& inputs) {
  Figures<eT> result;
  Tape<eT> tape(on);
  std::vector<Var<eT>> x;
  for (const auto& m : inputs) x.push_back(tape.variable(m));
  const Var<eT> y = f(x);
  result.matrices.push_back(y.value());
  y.backward();
  for (const auto& v : x) result.matrices.push_back(v.grad());

  tape.rewind();
  x.clear();
  for (const auto& m : inputs) x.push_back(tape.variable(m));
  const std::vector<Var<eT>> first = grad(f(x), x);
  Var<eT> z = accu(first[0] % first[0]);
  for (std::size_t k = 1; k < first.size(); ++k) z = z + accu(first[k] % first[k]);
  for (const auto& g : first) result.matrices.push_back(g.value());
  for (const auto& g : grad(z, x)) result.matrices.push_back(g.value());
  return result;
}

template <class eT>
void compare_figures(const std::function<Var<eT>(const std::vector<Var<eT>>&)>& f,
                     const std::vector<arma::Mat<eT>>& inputs) {
  const auto expected = figures<eT>(Device::cpu(), f, inputs);
  for (const bool descending : {false, true}) {
    run_threads_descending(descending);
    const auto found = figures<eT>(Device(device()), f, inputs);
    for (std::size_t k = 0; k < expected.matrices.size(); ++k) {
      BOOST_REQUIRE(arma::size(found.matrices[k]) == arma::size(expected.matrices[k]));
      const double error = arma::abs(found.matrices[k] - expected.matrices[k]).max();
      const double largest = arma::abs(expected.matrices[k]).max();
      BOOST_TEST(error <= 200 * std::numeric_limits<eT>::epsilon() * std::max(1.0, largest));
    }
  }
  run_threads_descending(false);
}

}  // namespace

BOOST_AUTO_TEST_CASE_TEMPLATE(value_gradient_and_second_derivative_agree, eT, ElementTypes) {
  if (skipped()) return;
  using V = std::vector<Var<eT>>;
  const auto w = random_matrix<eT>(4, 6), x = random_matrix<eT>(6, 9), b = random_matrix<eT>(4, 1);
  const arma::Row<std::size_t> labels = {0, 3, 1, 2, 2, 0, 1, 3, 3};
  compare_figures<eT>([](const V& in) { return accu(tanh(in[0])); }, {w});
  compare_figures<eT>([](const V& in) { return accu(square(affine(in[0], in[1], in[2]))); }, {w, x, b});
  compare_figures<eT>([](const V& in) { return accu(square(affine_relu(in[0], in[1], in[2]))); }, {w, x, b});
  compare_figures<eT>([&](const V& in) { return cross_entropy_sum(in[0], labels); }, {random_matrix<eT>(4, 9)});
  const auto w2 = random_matrix<eT>(4, 4);
  compare_figures<eT>(
      [&](const V& in) { return cross_entropy_sum(affine(in[3], tanh(affine(in[0], in[1], in[2])), in[2]), labels); },
      {w, x, b, w2});
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_replayed_step_agrees, eT, ElementTypes) {
  if (skipped()) return;
  const auto w = random_matrix<eT>(3, 4), b = random_matrix<eT>(3, 1);
  const auto x1 = random_matrix<eT>(4, 5), x2 = random_matrix<eT>(4, 5);
  const arma::Row<std::size_t> y1 = {0, 1, 2, 0, 1}, y2 = {2, 2, 1, 1, 0};
  std::vector<arma::Mat<eT>> losses;
  for (const Device on : {Device::cpu(), Device(device())}) {
    Tape<eT> tape(on);
    const Var<eT> weight = tape.variable(w), bias = tape.variable(b), x = tape.constant(x1);
    const auto y = tape.labels(y1);
    Var<eT> loss = x;
    auto replay = tape.capture([&] {
      loss = cross_entropy_sum(tanh(affine(weight, x, bias)), y);
      loss.backward();
    });
    losses.push_back(loss.value());
    replay.set(x, x2);
    replay.set(y, y2);
    replay.run();
    losses.push_back(loss.value());
  }
  BOOST_TEST(losses[0](0) != losses[1](0));
  for (const std::size_t k : {0u, 1u})
    BOOST_TEST(losses[k](0) == losses[k + 2](0),
               boost::test_tools::tolerance(100 * std::numeric_limits<eT>::epsilon()));
}

// ---- training

namespace {

template <class eT>
struct Network : nn::Module<eT> {
  nn::Linear<eT> l1{12, 9}, l2{9, 7}, l3{7, 5};
  nn::Dropout<eT> dropout{0.25, 11};
  ARMAGRAD_MODULE(l1, l2, l3, dropout)
  Var<eT> forward(Var<eT> x) { return l3(relu(l2(dropout(relu(l1(x)))))); }
};

/// A network in training: a step on new data, and all weights in one column.
template <class eT>
class Training {
 public:
  Training(const Network<eT>& start, Device on, optim::SgdOptions options, bool minimizes = false)
      : model_(start), tape_(on), sgd_((model_.to(on), model_.parameters()), options), minimizes_(minimizes) {}

  void compute_step(Var<eT> x, const auto& labels) {
    loss_ = nn::cross_entropy(model_(x), labels);
    if (minimizes_) return sgd_.minimize(*loss_);
    sgd_.zero_grad();
    loss_->backward();
    sgd_.clip_grad_norm(1.5);
    sgd_.step();
  }
  void step(const arma::Mat<eT>& x, const arma::Row<std::size_t>& y) {
    tape_.rewind();
    compute_step(tape_.constant(x), y);
  }
  Replay<eT> capture(const arma::Mat<eT>& x, const arma::Row<std::size_t>& y) {
    tape_.rewind();
    x_ = tape_.constant(x);
    y_ = tape_.labels(y);
    return tape_.capture([this] { compute_step(*x_, y_); });
  }
  void set(Replay<eT>& replay, const arma::Mat<eT>& x, const arma::Row<std::size_t>& y) {
    replay.set(*x_, x);
    replay.set(y_, y);
  }
  eT loss() const { return loss_->item(); }
  void set_lr(double lr) { sgd_.set_lr(lr); }
  arma::Col<eT> weights() {
    arma::Col<eT> all;
    for (const auto& p : model_.named_parameters()) all = arma::join_cols(all, arma::vectorise(p.parameter->value()));
    return all;
  }

 private:
  Network<eT> model_;
  Tape<eT> tape_;
  optim::Sgd<eT> sgd_;
  bool minimizes_;  // updates within the products, instead of clipped ones
  std::optional<Var<eT>> x_, loss_;
  Labels<eT> y_{};
};

template <class eT>
void check_close(const arma::Col<eT>& found, const arma::Col<eT>& expected) {
  BOOST_REQUIRE(found.n_elem == expected.n_elem);
  BOOST_TEST(arma::abs(found - expected).max() <= 500 * std::numeric_limits<eT>::epsilon());
}

const optim::SgdOptions with_momentum{.lr = 0.1, .momentum = 0.9, .weight_decay = 1e-3, .nesterov = true};

struct Counts {
  std::size_t kernels = count_of("kernels"), products = count_of("products"), graphs = count_of("graphs"),
              allocations = count_of("allocations"), waits = count_of("waits");
  std::uint64_t uploaded = device().bytes_uploaded(), downloaded = device().bytes_downloaded();
};

}  // namespace

namespace {

template <class eT>
void check_training(optim::SgdOptions options, bool minimizes) {
  nn::seed(3);
  const Network<eT> start;
  Training<eT> cpu(start, Device::cpu(), options, minimizes), cuda(start, Device(device()), options, minimizes);
  const auto both = [&](auto what) {
    what(cpu);
    what(cuda);
    BOOST_TEST(cuda.loss() == cpu.loss(), boost::test_tools::tolerance(500 * std::numeric_limits<eT>::epsilon()));
    check_close<eT>(cuda.weights(), cpu.weights());
  };
  for (int k = 0; k < 3; ++k) {
    const auto x = random_matrix<eT>(12, 8);
    const auto y = random_labels(8, 5);
    both([&](Training<eT>& t) { t.step(x, y); });
  }
  const auto x = random_matrix<eT>(12, 8);
  const auto y = random_labels(8, 5);
  Replay<eT> on_cpu = cpu.capture(x, y), on_cuda = cuda.capture(x, y);
  check_close<eT>(cuda.weights(), cpu.weights());
  const auto replay_of = [&](Training<eT>& t) -> Replay<eT>& { return &t == &cpu ? on_cpu : on_cuda; };
  for (int k = 0; k < 4; ++k) {
    const auto new_x = random_matrix<eT>(12, 8);
    const auto new_y = random_labels(8, 5);
    both([&](Training<eT>& t) {
      t.set(replay_of(t), new_x, new_y);
      t.set_lr(0.1 / (k + 1));  // a graph that had the rate baked in would go its own way
      replay_of(t).run();
    });
  }
  both([&](Training<eT>& t) { replay_of(t).run(3); });
  both([&](Training<eT>& t) { replay_of(t).run(37); });  // two launches of sixteen, five of one
  both([&](Training<eT>& t) {
    t.set_lr(0.01);
    replay_of(t).run();
  });
  both([&](Training<eT>& t) { t.step(x, y); });  // eager again
}

}  // namespace

BOOST_AUTO_TEST_CASE_TEMPLATE(training_agrees_with_the_cpu_step_by_step_and_replayed, eT, ElementTypes) {
  if (skipped()) return;
  check_training<eT>(with_momentum, false);
}
BOOST_AUTO_TEST_CASE_TEMPLATE(updates_within_the_products_agree_with_the_cpu, eT, ElementTypes) {
  if (skipped()) return;
  check_training<eT>({.lr = 0.1}, true);
  check_training<eT>({.lr = 0.1, .momentum = 0.8}, true);
  check_training<eT>({.lr = 0.1, .maximize = true}, true);
}

BOOST_AUTO_TEST_CASE(a_replayed_step_is_one_graph_launch_that_copies_and_allocates_nothing) {
  if (skipped(true)) return;
  Training<float> t(Network<float>(), Device(device()), with_momentum);
  Replay<float> replay = t.capture(random_matrix<float>(12, 8), random_labels(8, 5));
  replay.run();
  t.loss();
  const auto cost = [&](auto what) {
    const Counts before;
    what();
    Counts c;
    c.kernels -= before.kernels, c.products -= before.products, c.graphs -= before.graphs;
    c.allocations -= before.allocations, c.waits -= before.waits;
    c.uploaded -= before.uploaded, c.downloaded -= before.downloaded;
    return c;
  };
  const Counts step = cost([&] { replay.run(); });
  BOOST_TEST(step.graphs == 1u);
  BOOST_TEST(step.kernels == 0u);
  BOOST_TEST(step.products == 0u);
  BOOST_TEST(step.allocations == 0u);
  BOOST_TEST(step.waits == 0u);
  BOOST_TEST(step.uploaded == 0u);
  BOOST_TEST(step.downloaded == 0u);

  const Counts with_loss = cost([&] { replay.run(), t.loss(); });
  BOOST_TEST(with_loss.graphs == 1u);
  BOOST_TEST(with_loss.waits == 1u);
  BOOST_TEST(with_loss.downloaded == sizeof(float));

  const Counts with_rate = cost([&] { t.set_lr(0.05), replay.run(); });
  BOOST_TEST(with_rate.graphs == 1u);
  BOOST_TEST(with_rate.kernels == 1u);  // the new rate, as an argument
  BOOST_TEST(with_rate.uploaded == 0u);

  replay.run(16);  // captures sixteen steps
  const Counts many = cost([&] { replay.run(40); });
  BOOST_TEST(many.graphs == 2u + 8u);
  BOOST_TEST(many.kernels == 0u);
  BOOST_TEST(many.allocations == 0u);

  const Counts with_data = cost([&] { t.set(replay, random_matrix<float>(12, 8), random_labels(8, 5)); });
  BOOST_TEST(with_data.uploaded == 12 * 8 * sizeof(float) + 8 * sizeof(std::uint32_t));
}

BOOST_AUTO_TEST_CASE(nothing_is_allocated_after_the_first_step_and_all_is_given_back) {
  if (skipped(true)) return;
  {  // whatever the device keeps for itself it has after this
    Training<float> t(Network<float>(), Device(device()), with_momentum);
    t.step(random_matrix<float>(12, 8), random_labels(8, 5));
  }
  const std::size_t memory = allocations(), graphs = count_of("executable graphs");
  {
    Training<float> t(Network<float>(), Device(device()), with_momentum);
    t.step(random_matrix<float>(12, 8), random_labels(8, 5));
    const std::size_t before = count_of("allocations");
    for (int k = 0; k < 5; ++k) t.step(random_matrix<float>(12, 8), random_labels(8, 5));
    BOOST_TEST(count_of("allocations") == before);
    BOOST_TEST(std::isfinite(t.loss()));
    Replay<float> replay = t.capture(random_matrix<float>(12, 8), random_labels(8, 5));
    replay.run(20);
    BOOST_TEST(allocations() > memory);
    BOOST_TEST(count_of("executable graphs") == graphs + 2);
  }
  BOOST_TEST(allocations() == memory);
  BOOST_TEST(count_of("executable graphs") == graphs);
}

BOOST_AUTO_TEST_CASE(a_step_on_device_data_copies_nothing_but_what_is_asked_for) {
  if (skipped()) return;
  nn::Linear<float> layer(10, 4);
  layer.to(Device(device()));
  Parameter<float> x(random_matrix<float>(10, 20)), target(random_matrix<float>(4, 20));
  for (Parameter<float>* data : {&x, &target}) data->to(Device(device())), data->set_trainable(false);
  optim::Sgd<float> sgd(layer.parameters(), {.lr = 0.1});
  Tape<float> tape{Device(device())};
  const auto up = device().bytes_uploaded(), down = device().bytes_downloaded();
  for (int k = 0; k < 3; ++k) {
    tape.rewind();
    sgd.zero_grad();
    const auto loss = nn::mse(layer(tape.parameter(x)), tape.parameter(target));
    loss.backward();
    sgd.step();
    BOOST_TEST(device().bytes_downloaded() == down + static_cast<std::size_t>(k) * sizeof(float));
    loss.item();
  }
  BOOST_TEST(device().bytes_uploaded() == up);
  BOOST_TEST(device().bytes_downloaded() == down + 3 * sizeof(float));
}

// An epoch of shuffled batches, eager and as replays: the data stays where it is, and the batches are the CPU's.
BOOST_AUTO_TEST_CASE_TEMPLATE(an_epoch_over_device_data_copies_nothing, eT, ElementTypes) {
  if (skipped()) return;
  nn::seed(3);
  Network<eT> start;
  start.eval();
  const auto x = random_matrix<eT>(12, 50);
  const auto y = random_labels(50, 5);
  arma::Col<eT> by_device[2];
  int k = 0;
  for (const Device on : {Device::cpu(), Device(device())}) {
    Network<eT> model = start;
    model.to(on);
    optim::Sgd<eT> sgd(model.parameters(), {.lr = 0.1, .momentum = 0.5});
    Batches batches(x, y, {.batch = 8, .seed = 4}, on);
    Tape<eT> tape(on);
    const auto step = [&] {
      const auto [b, labels] = batches.next(tape);
      sgd.zero_grad();
      nn::cross_entropy(model(b), labels).backward();
      sgd.step();
    };
    const auto up = device().bytes_uploaded(), down = device().bytes_downloaded();
    for (arma::uword s = 0; s < batches.per_epoch(); ++s) tape.rewind(), step();
    tape.rewind();
    auto replay = tape.capture(step);
    replay.run(40);  // some epochs, by graphs of sixteen steps
    BOOST_TEST(device().bytes_uploaded() == up);
    BOOST_TEST(device().bytes_downloaded() == down);
    for (const auto& p : model.named_parameters())
      by_device[k] = arma::join_cols(by_device[k], arma::vectorise(p.parameter->value()));
    ++k;
  }
  check_close<eT>(by_device[1], by_device[0]);
}

BOOST_AUTO_TEST_CASE(batches_of_another_device_are_refused) {
  if (skipped()) return;
  const auto x = random_matrix<float>(2, 4);
  Batches batches(x, random_labels(4, 2), {.batch = 2}, Device(device()));
  Tape<float> tape;
  check_contains(message_of([&] { batches.next(tape); }), "parameter is on cuda, the tape on cpu");
}

// Each capture clips by the limit that it was made with.
BOOST_AUTO_TEST_CASE_TEMPLATE(captures_keep_their_own_clipping_limits, eT, ElementTypes) {
  if (skipped()) return;
  for (const Device on : {Device::cpu(), Device(device())})
    for (const bool by_norm : {true, false}) {
      Parameter<eT> p(1, 2);
      p.to(on);
      optim::Sgd<eT> sgd({p.shared()}, {.lr = 1});
      Tape<eT> first(on), second(on);
      const auto step = [&](Tape<eT>& tape, double limit) {
        sgd.zero_grad();
        dot(tape.parameter(p), tape.constant(arma::Mat<eT>{3, 4})).backward();
        by_norm ? void(sgd.clip_grad_norm(limit)) : sgd.clip_grad_value(limit);
        sgd.step();
      };
      auto small = first.capture([&] { step(first, 0.5); });
      auto large = second.capture([&] { step(second, 2); });
      sgd.clip_grad_norm(100);
      sgd.clip_grad_value(100);
      const auto moved = [&](Replay<eT>& replay) {
        const arma::Mat<eT> before = p.value();
        replay.run();
        const arma::Mat<eT> by = before - p.value();
        return by_norm ? static_cast<double>(arma::norm(by)) : static_cast<double>(by.max());
      };
      BOOST_TEST(moved(small) == 0.5, boost::test_tools::tolerance(1e-5));
      BOOST_TEST(moved(large) == 2.0, boost::test_tools::tolerance(1e-5));
      BOOST_TEST(moved(small) == 0.5, boost::test_tools::tolerance(1e-5));
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_network_moves_to_the_device_and_back, eT, ElementTypes) {
  if (skipped()) return;
  Network<eT> model;
  model.eval();
  const auto x = random_matrix<eT>(12, 3);
  const auto evaluate = [&] {
    Tape<eT> tape(model.device());
    return arma::Col<eT>(arma::vectorise(model(tape.constant(x)).value()));
  };
  const auto on_cpu = evaluate();
  model.to(Device(device()));
  BOOST_TEST(model.device().name() == std::string("cuda"));
  const Network<eT> copy = model;  // stays on the device
  check_close<eT>(evaluate(), on_cpu);
  model.to(Device::cpu());
  BOOST_TEST(arma::approx_equal(evaluate(), on_cpu, "absdiff", 0));
  BOOST_TEST(Network<eT>(copy).device().name() == std::string("cuda"));
}

// An attack's loop: the gradient by the input, its sign, a step and a clamp.
BOOST_AUTO_TEST_CASE_TEMPLATE(input_gradients_agree_with_the_cpu, eT, ElementTypes) {
  if (skipped()) return;
  nn::seed(5);
  Network<eT> start;
  start.eval();
  start.set_trainable(false);
  const auto x = random_matrix<eT>(12, 6);
  const auto y = random_labels(6, 5);
  const auto attacked = [&](Device on) {
    Network<eT> model = start;
    model.to(on);
    Tape<eT> tape(on);
    arma::Mat<eT> delta(12, 6);
    for (int k = 0; k < 5; ++k) {
      tape.rewind();
      const auto d = tape.variable(delta);
      cross_entropy_sum(model(tape.constant(x) + d), y).backward();
      const auto g = tape.constant(d.grad());
      delta = clamp(d + 0.1 * sign(g), -0.25, 0.25).value();
    }
    return arma::Col<eT>(arma::vectorise(delta));
  };
  const auto on_cpu = attacked(Device::cpu());
  BOOST_TEST(arma::abs(on_cpu).max() > 0.2);
  check_close<eT>(attacked(Device(device())), on_cpu);
}

// ---- faults

BOOST_AUTO_TEST_CASE(things_on_different_devices_are_refused_with_names) {
  if (skipped()) return;
  Network<float> model;
  optim::Sgd<float> sgd(model.parameters(), {.lr = 0.1});  // now the parameters have names
  Tape<float> cuda{Device(device())}, cpu;
  const auto x = cuda.constant(random_matrix<float>(12, 3));
  BOOST_TEST(message_of([&] { model(x); }) ==
             "affine: l1.weight is on cpu, the tape on cuda; move it with `to(device)` before [in model.l1]");
  const auto other = cpu.constant(random_matrix<float>(12, 3));
  const auto mixed = [&](auto f) {
    try {
      f();
    } catch (const Error& e) {
      return std::string(e.what());
    }
    return std::string("no error");
  };
  BOOST_TEST(mixed([&] { x + other; }) ==
             "add: operands 1 and 2 belong to different tapes, on cuda and on cpu; bring one over with "
             "tape.constant(x.value())");
  model.l1.to(Device(device()));
  accu(model.l1(x)).backward();
  Tape<float> rest;
  accu(model.l2(rest.constant(random_matrix<float>(9, 3)))).backward();
  check_contains(
      message_of([&] { sgd.clip_grad_norm(1); }),
      "clip_grad_norm: l1.weight is on cuda, l2.weight on cpu; move the model to one device with to(device)");
}

BOOST_AUTO_TEST_CASE(out_of_memory_in_any_place_names_the_operation_and_leaves_tape_and_model_usable) {
  if (skipped(true)) return;
  const auto fail_allocation = exported<void(long)>("cuda_stand_in_fail_allocation");
  const auto x = random_matrix<float>(12, 8);
  const auto y = random_labels(8, 5);
  nn::seed(7);
  Network<float> start;
  start.eval();  // so that a step that failed changes nothing
  const std::size_t memory = allocations();
  arma::fvec expected;
  long step_allocations = 0;
  {
    Training<float> t(start, Device(device()), with_momentum);
    const std::size_t before = count_of("allocations");
    t.step(x, y);
    step_allocations = static_cast<long>(count_of("allocations") - before);
    expected = t.weights();
  }
  int failures = 0;
  for (long k = 0; k < step_allocations; ++k) {
    Training<float> t(start, Device(device()), with_momentum);
    fail_allocation(k);
    const std::string text = message_of([&] { t.step(x, y); });
    fail_allocation(-1);
    if (text != "no DeviceError") {  // else the tape made do with less than it wanted
      ++failures;
      check_contains(text, ": cuda: out of memory: ");
      check_contains(text, " MB free; use a smaller batch or rewind the tape");
      if (text.find("Sgd: ") != std::string::npos) continue;  // some parameters were updated
      t.step(x, y);
    }
    check_close<float>(t.weights(), expected);
  }
  BOOST_TEST(failures > 5);
  BOOST_TEST(allocations() == memory);

  const auto set_capacity = exported<void(std::size_t)>("cuda_stand_in_capacity");
  Tape<float> tape{Device(device())};
  const auto a = tape.constant(arma::fmat(2000, 1, arma::fill::ones));
  set_capacity(std::size_t{40} << 20);
  const std::string text = message_of([&] { a* a.t(); });
  set_capacity(std::size_t{4} << 30);
  check_contains(text, "matmul: cuda: out of memory: 16.0 MB asked for, ");
  check_contains(text, " of 41.9 MB free; use a smaller batch or rewind the tape");
  BOOST_TEST(accu(a).item() == 2000);
}
