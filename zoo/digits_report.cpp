#include "zoo/digits_report.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace armagrad::zoo {
namespace {

struct Published {
  double train, test, seconds;
  std::vector<double> epochs, losses;
};

const Published& published(int model) {
  static const Published all[] = {
      {0.9478079332, 0.9361111111, 14.34, {0, 5000, 10000, 15000}, {1054.06, 0.39908, 0.34126, 0.32515}},
      {0.9464161447, 0.9388888889, 30.47, {0}, {4.8159}},
      {0.9262352122, 0.9083333333, 4.75, {0, 5000}, {0.22565, 0.03928}},
      {0.9415448852, 0.9416666667, 14.87, {0}, {0.16092}},
      {0.9798190675,
       0.9611111111,
       46.67,
       {0, 5000, 10000, 20000, 30000, 40000, 55000},
       {2.38831, 0.40489, 0.27198, 0.18934, 0.15480, 0.13437, 0.11470}},
      {0.9979123173,
       0.9694444444,
       376.76,
       {0, 5000, 10000, 15000, 20000},
       {2.26137, 0.08763, 0.06120, 0.04839, 0.04053}},
      {0.9986082115,
       0.9638888889,
       42.95,
       {0, 5000, 10000, 15000, 20000, 25000},
       {2.31602, 0.20132, 0.09385, 0.05499, 0.03459, 0.02318}},
      {0.9860821155, 0.9555555556, 15.64, {0}, {2.28083}},
  };
  return all[model - 1];
}

// Statistics over a model's runs.

template <class Get>
Range range_of(const ModelRuns& m, Get get) {
  Range r{get(m.runs[0]), get(m.runs[0])};
  for (const FinishedRun& run : m.runs) r = {std::min(r.low, get(run)), std::max(r.high, get(run))};
  return r;
}
template <class Get>
double mean_of(const ModelRuns& m, Get get) {
  return std::accumulate(m.runs.begin(), m.runs.end(), 0.0,
                         [&](double sum, const FinishedRun& r) { return sum + get(r); }) /
         static_cast<double>(m.runs.size());
}

double train_of(const FinishedRun& r) { return r.train; }
double test_of(const FinishedRun& r) { return r.test; }
double epochs_of(const FinishedRun& r) { return static_cast<double>(r.run.epochs); }
double seconds_of(const FinishedRun& r) { return r.run.seconds; }
double per_epoch(const FinishedRun& r) { return r.run.seconds / epochs_of(r); }

/// The loss logged at that epoch; NaN where the run had stopped.
double loss_at(const FinishedRun& r, double epoch) {
  const auto& epochs = r.run.logged_epochs;
  const auto at = std::lower_bound(epochs.begin(), epochs.end(), epoch);
  return at == epochs.end() || *at != epoch ? std::numeric_limits<double>::quiet_NaN()
                                            : r.run.logged_losses[static_cast<std::size_t>(at - epochs.begin())];
}

// Words.

std::string short_time(double seconds) {
  if (seconds < 1e-3) return fmt::format("{:.3g} µs", 1e6 * seconds);
  return seconds < 1 ? fmt::format("{:.3g} ms", 1e3 * seconds) : duration(seconds);
}
std::string grouped(double count) {
  const auto digits = fmt::format("{:.0f}", count);
  std::string out;
  for (std::size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) out += ',';
    out += digits[i];
  }
  return out;
}
std::string points(double share) { return fmt::format("{:.2f} points", 100 * std::abs(share)); }

class Writer {
 public:
  Writer(const DigitsOptions& options, const Digits& digits, const std::vector<ModelRuns>& done, const Effort& effort)
      : options_(options),
        digits_(digits),
        done_(done),
        effort_(effort),
        as_published_(options.lr == 1e-2 && options.epochs == 100000 && !options.batch),
        report_("digits", "Handwritten digits",
                fmt::format("the 8x8 digits of scikit-learn (UCI, CC BY 4.0): {} training and {} test images, each "
                            "pixel scaled to [0, 1] by the training set",
                            digits.train.x.n_cols, digits.test.x.n_cols),
                options.seed) {}

  Report write() {
    opening();
    gallery();
    if (done_.empty()) return report_;
    for (const ModelRuns& m : done_) figures(m);
    comparison();
    accuracy_plot();
    analysis();
    for (const ModelRuns& m : done_) section(m);
    return report_;
  }

 private:
  std::size_t seeds() const { return done_.front().runs.size(); }
  double updates_per_epoch(const ModelRuns& m) const {
    const auto batch = static_cast<double>(m.runs[0].run.options.batch);
    return std::ceil(static_cast<double>(digits_.train.x.n_cols) / batch);
  }
  double per_update(const ModelRuns& m) const { return mean_of(m, per_epoch) / updates_per_epoch(m); }
  bool whole_set(const ModelRuns& m) const {
    return m.runs[0].run.options.batch == static_cast<long>(digits_.train.x.n_cols);
  }
  const ModelRuns* find(int number) const {
    const auto at = std::find_if(done_.begin(), done_.end(), [&](const auto& m) { return m.model.number == number; });
    return at == done_.end() ? nullptr : &*at;
  }

  void opening() {
    if (!effort_.finished)
      report_.text(
          fmt::format("This run was interrupted; the models finished so far are here{}. The same command with "
                      "--resume goes on with the others.",
                      done_.empty() ? ": none" : ""));
    report_.text(fmt::format(
        "Plain SGD, rate {:g}, batches in order, until the loss of the last batch of an epoch differs by no more than "
        "1e-6 from that of the epoch before, {} epochs at most. Weights are drawn anew for every seed; the published "
        "draws are unseeded.",
        options_.lr, grouped(static_cast<double>(options_.epochs))));
    if (!as_published_)
      report_.text(
          "Rate, batch or largest number of epochs are not the published ones (0.01, all or 64, 100,000), so the "
          "published figures are of another training.");
  }

  void gallery() {
    const auto all = ag::data::load_digits<double>();
    std::vector<Image> images;
    for (arma::uword i = 0; i < 10; ++i)
      images.push_back({arma::reshape(all.x.col(i), 8, 8).t(), fmt::format("{}", all.y[i])});
    report_.figure(image_grid(images, 10, Range{0, 16}), "The first ten digits and their labels.",
                   "Ten small grey images of handwritten digits, 0 to 9");
  }

  // For JSON and terminal; the page has the table.
  void figures(const ModelRuns& m) {
    const int n = m.model.number;
    const auto add = [&](const char* what, const char* label, const char* unit, auto get,
                         std::optional<double> of_others = {}, int decimals = -1) {
      Row row{.id = fmt::format("digits.{}.{}", n, what),
              .label = fmt::format("model {}, {}", n, label),
              .published = of_others,
              .here = mean_of(m, get),
              .unit = unit,
              .decimals = decimals,
              .on_page = false};
      if (m.runs.size() > 1) row.spread = range_of(m, get);
      if (of_others && std::string(unit) == "share") row.note = verdict(m, *of_others, get);
      report_.row(row);
    };
    const Published& p = published(n);
    add("train_accuracy", "training accuracy", "share", train_of, p.train);
    add("test_accuracy", "test accuracy", "share", test_of, p.test);
    add("seconds", "training time", "s", seconds_of, p.seconds);
    add("epochs", "epochs", "", epochs_of, {}, 0);
    add("seconds_per_epoch", "time per epoch", "s", per_epoch);
    add("seconds_per_update", "time per update", "s",
        [&](const FinishedRun& r) { return per_epoch(r) / updates_per_epoch(m); });
    const FinishedRun& first = m.runs.front();
    report_.series(
        {fmt::format("digits.{}.loss", n), first.run.logged_epochs, first.run.logged_losses, p.epochs, p.losses});
  }

  template <class Get>
  std::string verdict(const ModelRuns& m, double of_others, Get get) const {
    if (m.runs.size() < 2) return "one seed; the published draw is unseeded";
    const Range r = range_of(m, get);
    if (of_others < r.low - 0.01 || of_others > r.high + 0.01)
      return fmt::format("the published figure lies {} {} the range over {} seeds",
                         points(std::max(r.low - of_others, of_others - r.high)), of_others < r.low ? "below" : "above",
                         m.runs.size());
    return fmt::format("mean of {} seeds; the published figure lies in their range, widened by one point",
                       m.runs.size());
  }

  // One column per model; in each cell here, its range over the seeds, published.
  void comparison() {
    report_.heading("The models side by side");
    const bool several = seeds() > 1;
    std::vector<Column> columns{{"model", ""}};
    for (const ModelRuns& m : done_) columns.push_back({fmt::format("{}", m.model.number), ""});
    std::vector<std::vector<std::string>> rows;
    const auto row = [&](const std::string& name, auto cell) {
      rows.push_back({name});
      for (const ModelRuns& m : done_) rows.back().push_back(cell(m));
    };
    const auto lines = [&](const std::string& name, bool ranged, bool with_published) {
      return name + (ranged && several ? "\nrange" : "") + (with_published ? "\npublished" : "");
    };
    row("kind", [](const ModelRuns& m) {
      const std::string kind = m.model.kind;
      const auto at = kind.find(' ');
      return kind.substr(0, at) + "\n" + kind.substr(at + 1);
    });
    row("loss", [](const ModelRuns& m) {
      const std::string loss = m.model.loss;
      const auto at = loss.find(", ");
      return at == std::string::npos ? loss : loss.substr(0, at) + "\n" + loss.substr(at + 2);
    });
    row("batch", [&](const ModelRuns& m) {
      return whole_set(m) ? std::string("all") : fmt::format("{}", m.runs[0].run.options.batch);
    });
    row(lines("epochs run", true, false), [&](const ModelRuns& m) {
      const Range r = range_of(m, epochs_of);
      return grouped(mean_of(m, epochs_of)) +
             (several ? fmt::format("\n{} – {}", grouped(r.low), grouped(r.high)) : "");
    });
    row("time\npublished", [](const ModelRuns& m) {
      return fmt::format("{}\n{}", duration(mean_of(m, seconds_of)), duration(published(m.model.number).seconds));
    });
    row("time per epoch", [](const ModelRuns& m) { return short_time(mean_of(m, per_epoch)); });
    row("time per update", [&](const ModelRuns& m) { return short_time(per_update(m)); });
    const auto accuracy = [&](const char* name, auto get, double Published::*field) {
      row(lines(name, true, true), [&](const ModelRuns& m) {
        const Range r = range_of(m, get);
        return percent(mean_of(m, get)) + (several ? fmt::format("\n{:.2f} – {:.2f}", 100 * r.low, 100 * r.high) : "") +
               "\n" + percent(published(m.model.number).*field);
      });
    };
    accuracy("training accuracy", train_of, &Published::train);
    accuracy("test accuracy", test_of, &Published::test);
    std::vector<double> epochs;
    for (const ModelRuns& m : done_)
      for (const double epoch : published(m.model.number).epochs) epochs.push_back(epoch);
    std::sort(epochs.begin(), epochs.end());
    epochs.erase(std::unique(epochs.begin(), epochs.end()), epochs.end());
    for (const double epoch : epochs) {
      row(fmt::format("loss at epoch {}\npublished", grouped(epoch)), [&](const ModelRuns& m) {
        const Published& p = published(m.model.number);
        const auto at = std::find(p.epochs.begin(), p.epochs.end(), epoch);
        const double here = loss_at(m.runs.front(), epoch);
        const bool compared = at != p.epochs.end();
        return (std::isnan(here) ? std::string(compared ? "stopped" : "–") : fmt::format("{:.5g}", here)) + "\n" +
               (compared ? fmt::format("{:g}", p.losses[static_cast<std::size_t>(at - p.epochs.begin())]) : "");
      });
    }
    report_.table({several
                       ? fmt::format("Means over {} seeds with their range; losses of seed {}", seeds(), options_.seed)
                       : fmt::format("One run each, seed {}", options_.seed),
                   columns, rows});
    times();
    deviations();
  }

  void times() {
    double here = 0, there = 0;
    for (const ModelRuns& m : done_) {
      here += mean_of(m, seconds_of);
      there += published(m.model.number).seconds;
    }
    report_.row({.id = "digits.seconds",
                 .label = fmt::format("training time of {} models", done_.size()),
                 .published = there,
                 .here = here,
                 .unit = "s",
                 .on_page = false});
    report_.row({.id = "digits.wall_seconds", .here = effort_.seconds, .unit = "s"});
    std::string text = fmt::format("Training {} took {} per seed, published {} on another machine.",
                                   done_.size() == 1 ? "this model" : fmt::format("these {} models", done_.size()),
                                   duration(here), duration(there));
    if (effort_.jobs > 1)
      text += fmt::format(
          " {} runs were trained side by side, so this run lasted {}; their times are those of runs "
          "with company.",
          effort_.jobs, duration(effort_.seconds));
    report_.text(text);
  }

  // Where the published figures lie outside of what was seen here, and what the figures themselves say about why.
  void deviations() {
    if (!as_published_ || seeds() < 2) return;
    std::vector<std::string> remarks;
    for (const ModelRuns& m : done_) {
      const Published& p = published(m.model.number);
      const Range epochs = range_of(m, epochs_of);
      const auto outside = [](double value, Range r) { return value < r.low - 0.01 || value > r.high + 0.01; };
      const auto remark = [&](const char* name, double value, Range r) {
        if (!outside(value, r)) return;
        std::string why;
        if (!p.epochs.empty() && p.epochs.back() >= epochs.high)
          why = fmt::format(
              "The published trail reaches epoch {}, while the last run here stopped after {}: it was "
              "trained for longer.",
              grouped(p.epochs.back()), grouped(epochs.high));
        else if (outside(p.train, range_of(m, train_of)) && outside(p.test, range_of(m, test_of)))
          why =
              "Training and test accuracy both lie outside, so the published run ended in another place: by its draw, "
              "or because it stopped at another epoch, which was not published.";
        else
          why = "The other of the two accuracies lies inside, so both trainings fit the data about as well.";
        remarks.push_back(
            fmt::format("Model {}: the published {} accuracy, {}, lies {} the range over {} seeds ({} to {}) by {}. {}",
                        m.model.number, name, percent(value), value < r.low ? "below" : "above", m.runs.size(),
                        percent(r.low), percent(r.high), points(std::max(r.low - value, value - r.high)), why));
      };
      remark("training", p.train, range_of(m, train_of));
      remark("test", p.test, range_of(m, test_of));
    }
    const auto count = remarks.size();
    for (const ModelRuns& m : done_) trail_remark(m, remarks);
    report_.text(count == 0 ? fmt::format("Every published accuracy lies in the range over {} seeds, widened by one "
                                          "percentage point.{}",
                                          seeds(), remarks.empty() ? "" : " Beyond that:")
                            : "Where the published figures differ from what was seen here:");
    report_.list(remarks);
  }

  // The published losses against those of all seeds, and where the runs stopped.
  void trail_remark(const ModelRuns& m, std::vector<std::string>& remarks) const {
    const Published& p = published(m.model.number);
    std::vector<std::string> outside;
    for (std::size_t i = 0; i < p.epochs.size(); ++i) {
      arma::vec here(m.runs.size());
      for (std::size_t k = 0; k < m.runs.size(); ++k) here[k] = loss_at(m.runs[k], p.epochs[i]);
      if (!here.is_finite() || (p.losses[i] >= here.min() && p.losses[i] <= here.max())) continue;
      outside.push_back(fmt::format("at epoch {} {:.3g} % {} their mean, {:.1f} standard deviations",
                                    grouped(p.epochs[i]), 100 * std::abs(p.losses[i] / arma::mean(here) - 1),
                                    p.losses[i] < here.min() ? "below" : "above",
                                    std::abs(p.losses[i] - arma::mean(here)) / arma::stddev(here)));
    }
    if (!outside.empty())
      remarks.push_back(fmt::format("Model {}: the published loss lies outside of what {} seeds give: {}.",
                                    m.model.number, m.runs.size(), fmt::join(outside, "; ")));
    const Range epochs = range_of(m, epochs_of);
    const auto stopped = fmt::format("here the {} runs stopped after {} to {} epochs.", m.runs.size(),
                                     grouped(epochs.low), grouped(epochs.high));
    if (p.epochs.back() >= epochs.high)
      remarks.push_back(fmt::format("Model {}: the published run was still going at epoch {}; {}", m.model.number,
                                    grouped(p.epochs.back()), stopped));
    if (p.epochs.back() + 5000 < epochs.low)  // every 5000th epoch was printed
      remarks.push_back(fmt::format("Model {}: the published run stopped before epoch {}; {}", m.model.number,
                                    grouped(p.epochs.back() + 5000), stopped));
  }

  void accuracy_plot() {
    BarChart chart{.x_label = "model", .y_label = "accuracy, %"};
    Bars train{.title = "training"}, test{.title = "test"};
    double lowest = 100;
    for (const ModelRuns& m : done_) {
      chart.groups.push_back(fmt::format("{}", m.model.number));
      const Published& p = published(m.model.number);
      const auto add = [&](Bars& bars, auto get, double of_others) {
        const auto in_percent = [&](const FinishedRun& r) { return 100 * get(r); };
        bars.values.push_back(mean_of(m, in_percent));
        bars.published.push_back(100 * of_others);
        if (m.runs.size() > 1) bars.spread.push_back(range_of(m, in_percent));
        lowest = std::min({lowest, range_of(m, in_percent).low, 100 * of_others});
      };
      add(train, train_of, p.train);
      add(test, test_of, p.test);
    }
    chart.bars = {train, test};
    chart.y_range = Range{std::max(0.0, 5 * std::floor(lowest / 5 - 0.5)), 100.5};
    report_.figure(draw(chart),
                   seeds() > 1 ? "Training and test accuracy: mean over the seeds, whiskers from the smallest to the "
                                 "largest; lines across the bars are the published figures."
                               : "Training and test accuracy; lines across the bars are the published figures.",
                   "Pairs of bars, one pair for each model");
  }

  // Test accuracies of two models in words, with a judgement only as strong as the seeds allow.
  std::string test_against(const ModelRuns& a, const ModelRuns& b) const {
    const double difference = mean_of(a, test_of) - mean_of(b, test_of);
    std::string text =
        fmt::format("{} against {} on the test set", percent(mean_of(a, test_of)), percent(mean_of(b, test_of)));
    const auto images = std::abs(difference) * static_cast<double>(digits_.test.x.n_cols);
    if (images < 0.05) return text + ", no difference";
    text += fmt::format(", {} {} ({:.2g} of {} images)", points(difference), difference > 0 ? "more" : "less", images,
                        digits_.test.x.n_cols);
    if (seeds() < 2) return text;
    const Range ra = range_of(a, test_of), rb = range_of(b, test_of);
    return text + (ra.low > rb.high || rb.low > ra.high ? "; the ranges over the seeds do not overlap"
                                                        : "; the ranges over the seeds overlap");
  }

  void analysis() {
    if (done_.size() < 2) return;
    report_.heading("What the numbers say");
    report_.text(
        "Each sentence is computed from the figures above. With one seed it describes two runs, not two methods.");
    batches();
    losses();
    networks();
    costs();
  }

  // Pairs of models that differ in nothing but the batch.
  std::vector<std::pair<const ModelRuns*, const ModelRuns*>> full_and_mini() const {
    std::vector<std::pair<const ModelRuns*, const ModelRuns*>> pairs;
    for (const int number : {1, 3, 5, 7}) {
      const ModelRuns *full = find(number), *mini = find(number + 1);
      if (full && mini && whole_set(*full) && !whole_set(*mini)) pairs.emplace_back(full, mini);
    }
    return pairs;
  }

  void batches() {
    std::vector<std::string> items;
    int better = 0, pairs = 0, faster = 0;
    double last_batch = 0;
    for (const auto& [full, mini] : full_and_mini()) {
      ++pairs;
      const int number = full->model.number;
      last_batch = static_cast<double>(digits_.train.x.n_cols) -
                   (updates_per_epoch(*mini) - 1) * static_cast<double>(mini->runs[0].run.options.batch);
      better += mean_of(*mini, test_of) > mean_of(*full, test_of);
      faster += mean_of(*mini, seconds_of) < mean_of(*full, seconds_of);
      const double full_updates = mean_of(*full, epochs_of) * updates_per_epoch(*full),
                   mini_updates = mean_of(*mini, epochs_of) * updates_per_epoch(*mini);
      items.push_back(fmt::format(
          "Model {} ({}, {}) stops after {} epochs of {} updates, {} in all, model {} after {} updates; its training "
          "took {} against {}. It reaches {}.",
          number + 1, mini->model.kind, mini->model.loss, grouped(mean_of(*mini, epochs_of)),
          grouped(updates_per_epoch(*mini)), grouped(mini_updates), number, grouped(full_updates),
          duration(mean_of(*mini, seconds_of)), duration(mean_of(*full, seconds_of)), test_against(*mini, *full)));
    }
    if (pairs == 0) return;
    report_.text(fmt::format(
        "Mini-batches against the whole set. In {} of {} pairs the model with mini-batches classifies more of the test "
        "set correctly, in {} its training is over sooner. Stopping looks at the last batch alone, which is {:.0f} of "
        "{} "
        "images for them.",
        better, pairs, faster, last_batch, digits_.train.x.n_cols));
    report_.list(items);
  }

  void losses() {
    std::vector<std::string> items;
    int better = 0;
    for (const int number : {3, 4}) {
      const ModelRuns *squares = find(number), *entropy = find(number + 2);
      if (!squares || !entropy) continue;
      better += mean_of(*entropy, test_of) > mean_of(*squares, test_of);
      items.push_back(
          fmt::format("{}: model {}, cross-entropy, reaches {} and fits {} of the training set against {}; "
                      "it runs {} epochs against {}.",
                      whole_set(*squares) ? "Whole set" : "Mini-batches", number + 2, test_against(*entropy, *squares),
                      percent(mean_of(*entropy, train_of)), percent(mean_of(*squares, train_of)),
                      grouped(mean_of(*entropy, epochs_of)), grouped(mean_of(*squares, epochs_of))));
    }
    if (items.empty()) return;
    report_.text(
        fmt::format("Cross-entropy against squared error, for the same linear module. Cross-entropy comes out "
                    "ahead on the test set in {} of {} pairs.",
                    better, items.size()));
    report_.list(items);
  }

  void networks() {
    std::vector<std::string> items;
    int better = 0;
    for (const int number : {5, 6}) {
      const ModelRuns *linear = find(number), *network = find(number + 2);
      if (!linear || !network) continue;
      better += mean_of(*network, test_of) > mean_of(*linear, test_of);
      const auto gap = [](const ModelRuns& m) { return mean_of(m, train_of) - mean_of(m, test_of); };
      items.push_back(fmt::format("{}: model {} reaches {}. Between training and test set it loses {}, model {} {}.",
                                  whole_set(*linear) ? "Whole set" : "Mini-batches", number + 2,
                                  test_against(*network, *linear), points(gap(*network)), number,
                                  points(gap(*linear))));
    }
    if (items.empty()) return;
    report_.text(
        fmt::format("The network against the linear model, both with cross-entropy. The network, with 2,906 numbers "
                    "to train instead of 650, is ahead on the test set in {} of {} pairs.",
                    better, items.size()));
    report_.list(items);
  }

  void costs() {
    std::vector<std::string> items;
    for (const auto& [full, mini] : full_and_mini()) {
      const int number = full->model.number;
      items.push_back(fmt::format(
          "Models {} and {}: {} for an update on {} images, {} for one on {}. An epoch takes {} in one update and {} "
          "in {}, {:.2f} times as long.",
          number, number + 1, short_time(per_update(*full)), full->runs[0].run.options.batch,
          short_time(per_update(*mini)), mini->runs[0].run.options.batch, short_time(mean_of(*full, per_epoch)),
          short_time(mean_of(*mini, per_epoch)), grouped(updates_per_epoch(*mini)),
          mean_of(*mini, per_epoch) / mean_of(*full, per_epoch)));
    }
    if (items.empty()) return;
    report_.text("Time per epoch and per update.");
    report_.list(items);
  }

  void section(const ModelRuns& m) {
    const int n = m.model.number;
    report_.heading(
        fmt::format("Model {}: {}, {}, {}", n, m.model.kind, m.model.loss,
                    whole_set(m) ? "whole set" : fmt::format("batches of {}", m.runs[0].run.options.batch)));
    loss_plot(m);
    if (!m.runs.front().weights.is_empty()) {
      std::vector<Image> images;
      for (arma::uword c = 0; c < 10; ++c)
        images.push_back({arma::conv_to<arma::mat>::from(arma::reshape(m.runs.front().weights.row(c), 8, 8).st()),
                          fmt::format("{}", c)});
      const arma::fvec ink = arma::max(digits_.train.x, 1);
      const auto blank = arma::accu(ink == 0);
      report_.figure(
          signed_image_grid(images, 10),
          fmt::format("The weights of each digit's score, as images: blue pixels speak for the digit, orange "
                      "ones against it. The weights of the {} pixels that are blank in all training images "
                      "are as they were drawn.{}",
                      blank, of_seed()),
          "Ten 8x8 images of positive and negative weights, one per digit");
    }
    confusion(m);
  }

  std::string of_seed() const { return seeds() > 1 ? fmt::format(" Seed {}.", options_.seed) : ""; }

  void loss_plot(const ModelRuns& m) {
    const Published& p = published(m.model.number);
    Plot plot{.x_label = "epoch", .y_label = "loss", .log_y = true};
    for (std::size_t i = m.runs.size(); i-- > 0;) {  // the first seed's on top
      const Run& run = m.runs[i].run;
      // As many points as can be told apart: the first ten, then every k-th.
      const std::size_t stride = std::max<std::size_t>(1, run.logged_epochs.size() / 200);
      Curve curve{.title = i > 0 ? "" : seeds() > 1 ? fmt::format("here, {} seeds", seeds()) : "here", .color = 1};
      for (std::size_t k = 0; k < run.logged_epochs.size(); ++k) {
        if (k > 10 && k % stride != 0 && k + 1 != run.logged_epochs.size()) continue;
        curve.x.push_back(run.logged_epochs[k]);
        curve.y.push_back(run.logged_losses[k]);
      }
      plot.curves.push_back(std::move(curve));
    }
    plot.curves.push_back({"published", p.epochs, p.losses, Mark::rings, 2});
    report_.figure(draw(plot), fmt::format("Loss of the last batch against epochs; rings are the published trail."),
                   "A falling curve with rings near it");
  }

  void confusion(const ModelRuns& m) {
    const FinishedRun& run = m.runs.front();
    const arma::umat::fixed<10, 10> none(arma::fill::zeros);
    arma::umat counts = none;
    struct Mistake {
      arma::uword image, said;
      double said_score, true_score;
    };
    std::vector<Mistake> mistakes;
    for (arma::uword i = 0; i < run.test_scores.n_cols; ++i) {
      arma::vec score = arma::conv_to<arma::vec>::from(run.test_scores.col(i));
      if (m.model.cross_entropy) {
        score = arma::exp(score - score.max());
        score /= arma::accu(score);
      }
      const arma::uword is = digits_.test.y[i], said = score.index_max();
      ++counts(is, said);
      if (is != said) mistakes.push_back({i, said, score[said], score[is]});
    }
    std::vector<std::string> names;
    for (int c = 0; c < 10; ++c) names.push_back(fmt::format("{}", c));
    report_.figure(confusion_matrix(counts, names),
                   fmt::format("Which of the {} test images was taken for which.{}", run.test_scores.n_cols, of_seed()),
                   "A 10 x 10 table of counts, most of them on the diagonal");
    if (mistakes.empty()) {
      report_.text("No test image is misclassified.");
      return;
    }
    std::sort(mistakes.begin(), mistakes.end(), [](const Mistake& a, const Mistake& b) {
      return std::tuple{-(a.said_score - a.true_score), a.image} < std::tuple{-(b.said_score - b.true_score), b.image};
    });
    const auto all = mistakes.size();
    if (mistakes.size() > 24) mistakes.resize(24);
    std::vector<Image> images;
    const auto shown = [&](double said, double is) {  // narrow, to stand on one line
      return m.model.cross_entropy ? fmt::format("{:.0f}/{:.0f} %", 100 * said, 100 * is)
                                   : fmt::format("{:.2f}/{:.2f}", said, is);
    };
    for (const Mistake& e : mistakes)
      images.push_back(
          {arma::conv_to<arma::mat>::from(arma::reshape(digits_.test.x.col(e.image), 8, 8).st()),
           fmt::format("{} as {}\n{}", digits_.test.y[e.image], e.said, shown(e.said_score, e.true_score))});
    report_.figure(
        image_grid(images, 10, Range{0, 1}),
        fmt::format("{} test images that are misclassified{}, the surest first: what it is and what it was taken for; "
                    "below, the {} of what it was taken for and of what it is.{}",
                    all, all > images.size() ? fmt::format(" ({} of them)", images.size()) : "",
                    m.model.cross_entropy ? "probabilities" : "scores", of_seed()),
        "Small grey images of handwritten digits with what they were taken for");
  }

  const DigitsOptions& options_;
  const Digits& digits_;
  const std::vector<ModelRuns>& done_;
  const Effort& effort_;
  bool as_published_;
  Report report_;
};

}  // namespace

Report digits_report(const DigitsOptions& options, const Digits& digits, const std::vector<ModelRuns>& done,
                     const Effort& effort) {
  return Writer(options, digits, done, effort).write();
}

}  // namespace armagrad::zoo
