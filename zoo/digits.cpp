#include "zoo/digits.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <numeric>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <armagrad/armagrad.hpp>
#include <armagrad/datasets/digits.hpp>
#include <armagrad/datasets/scale.hpp>
#include <armagrad/datasets/split.hpp>

#include "zoo/progress.hpp"

namespace armagrad::zoo {
namespace {

using eT = float;
using Mat = arma::Mat<eT>;

struct Digits {
  data::Dataset<eT> train, test;
  Mat targets;  // 10 x train, one-hot
};

Digits load() {
  const auto all = data::load_digits<eT>();
  const auto split = data::stratified_split(all.y, {.test_size = 0.2, .random_state = 42});
  Digits d{data::take(all, split.train), data::take(all, split.test), {}};
  const auto scaler = data::MinMaxScaler<eT>().fit(d.train.x);
  d.train.x = scaler.transform(d.train.x);
  d.test.x = scaler.transform(d.test.x);
  d.targets = data::one_hot<eT>(d.train.y, d.train.classes);
  return d;
}

/// A model in training: one epoch at a time.
class Model {
 public:
  virtual ~Model() = default;
  /// One pass over the training data; the loss of its last batch.
  virtual double epoch(Tape<eT>& tape, std::size_t step) = 0;
  virtual Mat logits(const Mat& x) = 0;
};

/// y = W x + b on the tape alone: no modules, no optimizer.
class ScratchLinear final : public Model {
 public:
  ScratchLinear(const Digits& d, double lr) : d_(d), lr_(static_cast<eT>(lr)) {
    auto& random = nn::default_generator();
    for (eT& w : w_) w = static_cast<eT>(random.uniform());
    for (eT& b : b_) b = static_cast<eT>(random.uniform());
  }
  double epoch(Tape<eT>& tape, std::size_t step) override {
    tape.rewind();
    const Var<eT> w = tape.variable(w_), b = tape.variable(b_);
    const Var<eT> loss = accu(square(w * tape.borrow(d_.train.x) + b - d_.targets)) / d_.train.x.n_cols;
    if (!std::isfinite(loss.item()))
      throw ValueError(fmt::format("digits: model 1's loss is {} at step {}; lower --lr", loss.item(), step));
    loss.backward();
    w_ -= lr_ * w.grad();
    b_ -= lr_ * b.grad();
    return loss.item();
  }
  Mat logits(const Mat& x) override {
    Mat y = w_ * x;
    y.each_col() += b_.as_col();
    return y;
  }

 private:
  const Digits& d_;
  eT lr_;
  Mat w_ = Mat(10, 64), b_ = Mat(10, 1);
};

struct LinearModel : nn::Module<eT> {
  nn::Linear<eT> l1{64, 10};
  ARMAGRAD_MODULE(l1)
  Var<eT> forward(Var<eT> x) { return l1(x); }
};

struct Mlp : nn::Module<eT> {
  nn::Linear<eT> l1{64, 32}, l2{32, 16}, l3{16, 10};
  ARMAGRAD_MODULE(l1, l2, l3)
  Var<eT> forward(Var<eT> x) { return l3(relu(l2(relu(l1(x))))); }
};

enum class Loss { mse, cross_entropy };

/// A module trained by SGD on the whole training set.
template <class M, Loss kind>
class Trained final : public Model {
 public:
  Trained(const Digits& d, double lr) : d_(d), sgd_(model_.parameters(), {.lr = lr}) {}
  double epoch(Tape<eT>& tape, std::size_t step) override {
    tape.rewind();
    const Var<eT> y = model_(tape.borrow(d_.train.x));
    const Var<eT> loss = kind == Loss::mse ? nn::mse(y, tape.borrow(d_.targets)) : nn::cross_entropy(y, d_.train.y);
    sgd_.zero_grad();
    loss.backward();
    const double value = nn::require_finite(loss.item(), model_, step);
    sgd_.step();
    return value;
  }
  Mat logits(const Mat& x) override {
    Tape<eT> tape;
    return no_grad(tape, [&] { return model_(tape.borrow(x)).value(); });
  }

 private:
  const Digits& d_;
  M model_;
  optim::Sgd<eT> sgd_;
};

template <class M>
std::unique_ptr<Model> make(const Digits& d, double lr) {
  return std::make_unique<M>(d, lr);
}

struct Published {
  double train, test, seconds;
  std::vector<double> epochs, losses;
};
struct Entry {
  const char *name, *loss;
  std::unique_ptr<Model> (*make)(const Digits&, double);
  Published published;
};

const std::map<int, Entry>& table() {
  static const std::map<int, Entry> entries{
      {1,
       {"linear, from scratch",
        "squared error, sum / m",
        make<ScratchLinear>,
        {0.9478079332, 0.9361111111, 14.34, {0, 5000, 10000, 15000}, {1054.06, 0.39908, 0.34126, 0.32515}}}},
      {3,
       {"linear module",
        "squared error, mean",
        make<Trained<LinearModel, Loss::mse>>,
        {0.9262352122, 0.9083333333, 4.75, {0, 5000}, {0.22565, 0.03928}}}},
      {5,
       {"linear module",
        "cross-entropy",
        make<Trained<LinearModel, Loss::cross_entropy>>,
        {0.9798190675,
         0.9611111111,
         46.67,
         {0, 5000, 10000, 20000, 30000, 40000, 55000},
         {2.38831, 0.40489, 0.27198, 0.18934, 0.15480, 0.13437, 0.11470}}}},
      {7,
       {"network 64-32-16-10",
        "cross-entropy",
        make<Trained<Mlp, Loss::cross_entropy>>,
        {0.9986082115,
         0.9638888889,
         42.95,
         {0, 5000, 10000, 15000, 20000, 25000},
         {2.31602, 0.20132, 0.09385, 0.05499, 0.03459, 0.02318}}}},
  };
  return entries;
}

struct Run {
  double train, test, seconds;
  long epochs;
  std::vector<double> logged_epochs, logged_losses;  // every 100th epoch
};

Run train(int number, const Entry& entry, const Digits& d, const DigitsOptions& options, std::uint64_t seed) {
  nn::seed(seed);
  const std::unique_ptr<Model> model = entry.make(d, options.lr);
  Progress progress(fmt::format("digits model {} (seed {})", number, seed), options.epochs);
  Tape<eT> tape;
  Run run{};
  double previous = std::numeric_limits<double>::infinity();
  for (long epoch = 0; epoch < options.epochs; ++epoch) {
    const double loss = model->epoch(tape, static_cast<std::size_t>(epoch));
    if (epoch % 100 == 0) {
      run.logged_epochs.push_back(static_cast<double>(epoch));
      run.logged_losses.push_back(loss);
    }
    progress.update(epoch, loss);
    run.epochs = epoch + 1;
    if (std::abs(previous - loss) <= 1e-6) break;
    previous = loss;
  }
  run.seconds = progress.elapsed();
  run.train = nn::accuracy(model->logits(d.train.x), d.train.y);
  run.test = nn::accuracy(model->logits(d.test.x), d.test.y);
  progress.finish(fmt::format("{} epochs, {}, train {}, test {}", run.epochs, duration(run.seconds), percent(run.train),
                              percent(run.test)));
  return run;
}

template <class Get>
Range range_of(const std::vector<Run>& runs, Get get) {
  Range r{get(runs[0]), get(runs[0])};
  for (const Run& run : runs) r = {std::min(r.low, get(run)), std::max(r.high, get(run))};
  return r;
}
template <class Get>
double mean_of(const std::vector<Run>& runs, Get get) {
  return std::accumulate(runs.begin(), runs.end(), 0.0, [&](double sum, const Run& r) { return sum + get(r); }) /
         static_cast<double>(runs.size());
}

// Where the published figure lies against the range over the seeds, widened by one percentage point.
std::string verdict(double published, Range r, std::size_t runs) {
  if (runs < 2) return "one seed; the published draw is unseeded";
  if (published < r.low - 0.01 || published > r.high + 0.01)
    return fmt::format("the published figure lies {} outside the range over {} seeds",
                       percent(std::max(r.low - published, published - r.high)), runs);
  return fmt::format("mean of {} seeds; the published figure lies in their range, widened by one point", runs);
}

void report_model(Report& report, int number, const Entry& e, const std::vector<Run>& runs) {
  const auto id = [number](const char* what) { return fmt::format("digits.{}.{}", number, what); };
  const auto share = [&](const char* what, const char* label, double published, double Run::*field) {
    const auto get = [field](const Run& r) { return r.*field; };
    Row row{.id = id(what),
            .label = fmt::format("model {}, {}", number, label),
            .published = published,
            .here = mean_of(runs, get),
            .unit = "share",
            .note = verdict(published, range_of(runs, get), runs.size())};
    if (runs.size() > 1) row.spread = range_of(runs, get);
    report.row(row);
  };
  report.heading(fmt::format("Model {}: {}, {}", number, e.name, e.loss));
  share("train_accuracy", "training accuracy", e.published.train, &Run::train);
  share("test_accuracy", "test accuracy", e.published.test, &Run::test);
  report.row({.id = id("seconds"),
              .label = fmt::format("model {}, training time", number),
              .published = e.published.seconds,
              .here = mean_of(runs, [](const Run& r) { return r.seconds; }),
              .unit = "s",
              .note = "another machine"});
  report.row({.id = id("epochs"),
              .label = fmt::format("model {}, epochs", number),
              .here = mean_of(runs, [](const Run& r) { return static_cast<double>(r.epochs); }),
              .decimals = 0});

  const Run& first = runs.front();
  std::vector<Column> columns{{"", ""}};
  std::vector<std::string> published{"published"}, here{"here"};
  for (std::size_t i = 0; i < e.published.epochs.size(); ++i) {
    const auto at = std::find(first.logged_epochs.begin(), first.logged_epochs.end(), e.published.epochs[i]);
    columns.push_back({fmt::format("{:.0f}", e.published.epochs[i]), "epoch"});
    published.push_back(fmt::format("{:g}", e.published.losses[i]));
    here.push_back(
        at == first.logged_epochs.end()
            ? "stopped"
            : fmt::format("{:.5g}", first.logged_losses[static_cast<std::size_t>(at - first.logged_epochs.begin())]));
  }
  report.table({"The loss at the published epochs", columns, {published, here}});
  report.series({id("loss"), first.logged_epochs, first.logged_losses, e.published.epochs, e.published.losses});
  report.figure(draw(Plot{.x_label = "epoch",
                          .y_label = "loss",
                          .curves = {{"here", first.logged_epochs, first.logged_losses, Mark::line, 1},
                                     {"published", e.published.epochs, e.published.losses, Mark::rings, 2}},
                          .log_y = true}),
                fmt::format("The loss of model {} against epochs; rings are the published trail.", number),
                "A falling curve with rings on it");
}

void gallery(Report& report) {
  const auto all = data::load_digits<double>();
  std::vector<Image> images;
  for (arma::uword i = 0; i < 10; ++i)
    images.push_back({arma::reshape(all.x.col(i), 8, 8).t(), fmt::format("{}", all.y[i])});
  report.figure(image_grid(images, 10, Range{0, 16}), "The first ten digits and their labels.",
                "Ten small grey images of handwritten digits, 0 to 9");
}

}  // namespace

std::vector<int> digits_models() {
  std::vector<int> out;
  for (const auto& [number, entry] : table()) out.push_back(number);
  return out;
}

void check(const DigitsOptions& o) {
  const auto require = [](bool holds, const std::string& text) {
    if (!holds) throw OptionError("digits: " + text);
  };
  for (const int m : o.models)
    require(table().contains(m),
            fmt::format("there is no model {}; the models here are {}", m, fmt::join(digits_models(), ", ")));
  require(o.seeds >= 1, fmt::format("--seeds is {}; it must be at least 1", o.seeds));
  require(o.epochs >= 1, fmt::format("--epochs is {}; it must be at least 1", o.epochs));
  require(o.lr > 0 && std::isfinite(o.lr), fmt::format("--lr is {}; it must be a positive number", o.lr));
}

Report digits(const DigitsOptions& options) {
  check(options);
  const std::vector<int> models = options.models.empty() ? digits_models() : options.models;
  const Digits d = load();
  Report report(
      "digits", "Handwritten digits",
      fmt::format("the 8x8 digits of scikit-learn (UCI, CC BY 4.0): {} training and {} test images, each pixel "
                  "scaled to [0, 1] by the training set",
                  d.train.x.n_cols, d.test.x.n_cols),
      options.seed);
  report.text(
      fmt::format("Plain SGD on the whole training set, rate {:g}, until the loss of an epoch differs by no more than "
                  "1e-6 from the one "
                  "before, {} epochs at most. Weights are drawn anew for every seed; the published draws are unseeded.",
                  options.lr, options.epochs));
  gallery(report);
  BarChart chart{.x_label = "model", .y_label = "accuracy, %"};
  Bars train_bars{.title = "training"}, test_bars{.title = "test"};
  for (const int number : models) {
    const Entry& entry = table().at(number);
    std::vector<Run> runs;
    for (int s = 0; s < options.seeds; ++s)
      runs.push_back(train(number, entry, d, options, options.seed + static_cast<std::uint64_t>(s)));
    report_model(report, number, entry, runs);
    chart.groups.push_back(fmt::format("{}", number));
    for (const auto& [bars, published, field] : {std::tuple{&train_bars, entry.published.train, &Run::train},
                                                 {&test_bars, entry.published.test, &Run::test}}) {
      const auto get = [field = field](const Run& r) { return 100 * r.*field; };
      bars->values.push_back(mean_of(runs, get));
      bars->published.push_back(100 * published);
      if (options.seeds > 1) bars->spread.push_back(range_of(runs, get));
    }
  }
  chart.bars = {train_bars, test_bars};
  chart.y_range = Range{80, 101};
  report.heading("Accuracy");
  report.figure(draw(chart),
                "Training and test accuracy of each model; lines across the bars are the published figures.",
                "Pairs of bars, one pair for each model");
  return report;
}

}  // namespace armagrad::zoo
