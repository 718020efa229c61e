#include "zoo/digits_training.hpp"

#include <cmath>
#include <deque>
#include <optional>

#include <fmt/format.h>

namespace armagrad::zoo {
namespace {

// [model]
struct Mlp : ag::nn::Module<float> {
  ag::nn::Linear<float> l1{64, 32}, l2{32, 16}, l3{16, 10};
  ARMAGRAD_MODULE(l1, l2, l3)
  ag::Var<float> forward(ag::Var<float> x) { return l3(relu(l2(relu(l1(x))))); }
};
// [/model]

struct LinearModel : ag::nn::Module<float> {
  ag::nn::Linear<float> l1{64, 10};
  ARMAGRAD_MODULE(l1)
  ag::Var<float> forward(ag::Var<float> x) { return l1(x); }
};

// [update]
struct Update {  // on one batch: recorded in the first epoch, replayed in all others
  explicit Update(ag::Device device) : tape(device) {}
  ag::Tape<float> tape;
  std::optional<ag::Var<float>> loss;
  std::optional<ag::Replay<float>> replay;
};
// [/update]

// [training]
template <class Model, class Target, class Loss>
class ModuleTraining : public Training {
 public:
  ModuleTraining(const arma::fmat& x, const Target& y, Loss loss, const TrainingOptions& options)
      : loss_(loss),
        loader_(x, y, {.batch = options.batch}),
        device_(options.device),
        sgd_(model_.parameters(), {.lr = options.lr}) {
    model_.to(device_);
  }

  double epoch() override {
    if (updates_.empty())
      record_first_epoch();
    else
      for (Update& update : updates_) update.replay->run();
    steps_ += updates_.size();
    return ag::nn::require_finite(updates_.back().loss->item(), model_, steps_ - 1);
  }

  arma::fmat scores(const arma::fmat& x) override {
    ag::Tape<float> tape(device_);
    const auto guard = tape.no_grad();
    return model_(tape.borrow(x)).value();
  }
  // [/training]

  ag::nn::Tensors state() override { return ag::nn::state(model_); }
  void set_state(const ag::nn::Tensors& state) override { ag::nn::set_state(model_, state); }
  arma::fmat weights() override {
    if constexpr (std::is_same_v<Model, LinearModel>) return model_.l1.weight.value();
    return {};
  }

 private:
  // [record]
  void record_first_epoch() {
    for (const auto& batch : loader_) {  // x: 64 x batch
      Update& update = updates_.emplace_back(device_);
      update.replay = update.tape.capture([&] {
        update.loss = loss_(model_(update.tape.borrow(batch.x)), batch.y);
        sgd_.zero_grad();
        update.loss->backward();
        sgd_.step();
      });
    }
  }
  // [/record]

  // [members]
  Model model_;
  Loss loss_;
  ag::data::Loader<float, Target> loader_;
  ag::Device device_;
  ag::optim::Sgd<float> sgd_;
  std::deque<Update> updates_;  // a deque: a tape with a replay must stay where it is
  std::size_t steps_ = 0;
  // [/members]
};

/// y = W x + b on the tape alone: no modules, no optimizer.
class ScratchTraining final : public Training {
 public:
  ScratchTraining(const Digits& digits, const TrainingOptions& options)
      : loader_(digits.train.x, digits.targets, {.batch = options.batch}),
        tape_(options.device),
        lr_(static_cast<float>(options.lr)) {
    auto& random = ag::nn::default_generator();
    for (float& w : w_) w = static_cast<float>(random.uniform());
    for (float& b : b_) b = static_cast<float>(random.uniform());
  }

  // [scratch]
  double epoch() override {
    float last = 0;
    for (const auto& batch : loader_) {
      tape_.rewind();
      const auto w = tape_.variable(w_), b = tape_.variable(b_);
      const auto y = w * tape_.borrow(batch.x) + b;  // (10x64)(64 x batch)
      const auto loss = accu(square(y - tape_.borrow(batch.y))) / batch.x.n_cols;
      loss.backward();
      w_ -= lr_ * w.grad();
      b_ -= lr_ * b.grad();
      last = loss.item();
      ++steps_;
    }
    if (!std::isfinite(last))
      throw ValueError(fmt::format("training: the loss is {} at step {}; lower the learning rate", last, steps_ - 1));
    return last;
  }
  // [/scratch]

  arma::fmat scores(const arma::fmat& x) override {
    arma::fmat y = w_ * x;
    y.each_col() += b_.as_col();
    return y;
  }
  ag::nn::Tensors state() override {
    ag::nn::Tensors out;
    out.arrays.emplace("weight", ag::nn::Tensor(w_));
    out.arrays.emplace("bias", ag::nn::Tensor(b_));
    return out;
  }
  void set_state(const ag::nn::Tensors& state) override {
    const auto weight = state.matrix<float>("weight"), bias = state.matrix<float>("bias");
    if (arma::size(weight) != arma::size(w_) || arma::size(bias) != arma::size(b_))
      throw DataError(fmt::format("{}: the weight is {}x{}, the bias {}x{}; a linear model's are 10x64 and 10x1",
                                  state.source, weight.n_rows, weight.n_cols, bias.n_rows, bias.n_cols));
    w_ = weight;
    b_ = bias;
  }
  arma::fmat weights() override { return w_; }

 private:
  ag::data::Loader<float, arma::fmat> loader_;
  ag::Tape<float> tape_;
  float lr_;
  arma::fmat w_ = arma::fmat(10, 64), b_ = arma::fmat(10, 1);
  std::size_t steps_ = 0;
};

std::unique_ptr<Training> scratch(const Digits& d, const TrainingOptions& o) {
  return std::make_unique<ScratchTraining>(d, o);
}

template <class Model>
std::unique_ptr<Training> with_squared_error(const Digits& d, const TrainingOptions& o) {
  const auto loss = [](ag::Var<float> y, const arma::fmat& target) { return ag::nn::mse(y, target); };
  return std::make_unique<ModuleTraining<Model, arma::fmat, decltype(loss)>>(d.train.x, d.targets, loss, o);
}

template <class Model>
std::unique_ptr<Training> with_cross_entropy(const Digits& d, const TrainingOptions& o) {
  using Labels = arma::Row<std::size_t>;
  // [cross_entropy]
  const auto loss = [](ag::Var<float> y, const Labels& labels) { return ag::nn::cross_entropy(y, labels); };
  return std::make_unique<ModuleTraining<Model, Labels, decltype(loss)>>(d.train.x, d.train.y, loss, o);
  // [/cross_entropy]
}

}  // namespace

// [data]
Digits load_digits() {
  const auto all = ag::data::load_digits<float>();  // x: 64 x 1797, y: 1 x 1797
  const auto split = ag::data::stratified_split(all.y, {.test_size = 0.2, .random_state = 42});
  Digits digits{ag::data::take(all, split.train), ag::data::take(all, split.test), {}};
  const auto scaler = ag::data::MinMaxScaler<float>().fit(digits.train.x);  // the test set must not be looked at
  for (auto* set : {&digits.train, &digits.test}) set->x = scaler.transform(set->x);
  digits.targets = ag::data::one_hot<float>(digits.train.y, digits.train.classes);
  return digits;
}
// [/data]

const std::vector<Model>& models() {
  constexpr auto sum = "squared error, sum / m", mean = "squared error, mean", entropy = "cross-entropy";
  constexpr auto from_scratch = "linear, from scratch", module = "linear module", network = "network 64-32-16-10";
  static const std::vector<Model> all{
      {1, from_scratch, sum, false, false, scratch},
      {2, from_scratch, sum, true, false, scratch},
      {3, module, mean, false, false, with_squared_error<LinearModel>},
      {4, module, mean, true, false, with_squared_error<LinearModel>},
      {5, module, entropy, false, true, with_cross_entropy<LinearModel>},
      {6, module, entropy, true, true, with_cross_entropy<LinearModel>},
      {7, network, entropy, false, true, with_cross_entropy<Mlp>},
      {8, network, entropy, true, true, with_cross_entropy<Mlp>},
  };
  return all;
}

}  // namespace armagrad::zoo
