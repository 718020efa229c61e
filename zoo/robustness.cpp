#include "zoo/robustness.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <iostream>
#include <system_error>
#include <thread>

#include <fmt/format.h>

#include <armagrad/autodiff/machine.hpp>
#include <armagrad/nn/state.hpp>

#include "zoo/format.hpp"
#include "zoo/machine.hpp"
#include "zoo/progress.hpp"
#include "zoo/robustness_curve.hpp"
#include "zoo/robustness_model.hpp"

namespace armagrad::zoo {
namespace fs = std::filesystem;
namespace {

using robust::Judge;
using Labels = arma::Row<std::size_t>;

// As published, on the 60,000 training images.
const std::vector<double> budgets{0, 0.02, 0.04, 0.06, 0.08, 0.10, 0.12, 0.14, 0.16, 0.18, 0.20};
const std::vector<double> published_fgsm{0.99977, 0.91840, 0.62133, 0.27005, 0.13845, 0.09458,
                                         0.06645, 0.04682, 0.03323, 0.02418, 0.01747};
const std::vector<double> published_pgd{0.99977, 0.91175, 0.56610, 0.19648, 0.05563, 0.01490,
                                        0.00392, 0.00083, 0.00012, 0.0,     0.0};

// The first images, whose attacks are shown one by one.
constexpr arma::uword shown = 18;
constexpr double shown_epsilon = 0.05;
constexpr double step = 1000;  // to the border, whatever the gradient's size

// Where certified and attacked shares are compared.
const std::vector<double> bracket{0.0005, 0.001, 0.0015, 0.002, 0.003, 0.004, 0.006, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1};

unsigned threads(const RobustnessOptions& o) {
  if (o.device == "cuda") return 1;
  return o.threads > 0 ? static_cast<unsigned>(o.threads) : std::max(1u, std::thread::hardware_concurrency());
}

/// Images attacked together: a GPU wants many.
arma::uword width(const RobustnessOptions& o) { return o.device == "cuda" ? 8192 : 144; }

/// One thread for each product while it lives: tapes side by side use the processors better than products do.
class SerialProducts {
 public:
  SerialProducts() : before_(machine().threads) { set_threads(1); }
  SerialProducts(const SerialProducts&) = delete;
  SerialProducts& operator=(const SerialProducts&) = delete;
  ~SerialProducts() { set_threads(std::max(1u, before_)); }

 private:
  unsigned before_;
};

// Why figures differ from the published ones.
std::string because(const std::string& set_name, const RobustnessOptions& o) {
  if (set_name != "mnist") return "other data than the published";
  if (!o.weights.empty()) return fmt::format("the weights are from {}", o.weights.filename().string());
  return "another network: weights drawn and trained anew";
}

// The weights' file where none is named: in the user's cache beside the data, else with the checkpoints.
fs::path default_weights(const RobustnessOptions& o, const std::string& set_name) {
  const std::string name = fmt::format("784-1024-1024-10.seed{}.safetensors", o.seed);
  const std::string cache = set_name.empty() ? "" : data::image_cache(data::image_set(set_name));
  return cache.empty() ? o.checkpoints / name : fs::path(cache) / name;
}

ImageModel model_for(const RobustnessOptions& o, const data::Dataset<float>& train_set, const std::string& set_name,
                     std::string& where) {
  std::error_code none;
  const fs::path path = o.weights.empty() ? default_weights(o, set_name) : o.weights;
  if (!o.weights.empty() || fs::exists(path, none)) {
    ImageModel model;
    nn::load(model, path.string());
    model.eval();
    where = fmt::format("The weights are from {}.", path.string());
    return model;
  }
  const ModelTraining training{.seed = o.seed};
  ImageModel model = train(train_set, "robustness: training 784-1024-1024-10", training, o.stopped);
  fs::create_directories(path.parent_path(), none);
  nn::save(model, path.string(),
           {{"model", "784-1024-1024-10"},
            {"data", set_name},
            {"seed", fmt::format("{}", o.seed)},
            {"epochs", fmt::format("{}", training.epochs)}});
  std::cerr << fmt::format("robustness: weights saved as {}; later runs load them\n", path.string());
  where = fmt::format(
      "The weights were trained here, seed {}, {} epochs of SGD with momentum {:g} on a one-cycle schedule, and saved "
      "as "
      "{}; later runs load them.",
      o.seed, training.epochs, training.momentum, path.string());
  return model;
}

arma::mat picture_of(const arma::fvec& column) {
  return arma::conv_to<arma::mat>::from(arma::reshape(column, 28, 28)).t();  // stored row by row
}

std::string share_text(std::size_t count, std::size_t of) {
  return percent(static_cast<double>(count) / static_cast<double>(of));
}

struct Shown {
  arma::fmat x;
  Labels y;
};

// Image, perturbation, result.
void gallery(Report& report, ImageModel& model, const Shown& s, const robust::Attack<float>& attack,
             const std::string& name) {
  const arma::fmat given = s.x + attack.delta;
  const Labels said = robust::predict(model, given);
  std::vector<Image> perturbations, results;
  for (arma::uword j = 0; j < s.x.n_cols; ++j) {
    const bool right = said[j] == s.y[j];
    perturbations.push_back({picture_of(attack.delta.col(j)), ""});
    results.push_back({picture_of(given.col(j)), fmt::format("{}", said[j]), right ? Tone::good : Tone::bad});
  }
  report.figure(signed_image_grid(perturbations, 6),
                fmt::format("What {} adds, at most {:g} at each pixel.", name, shown_epsilon),
                "Noise-like images in two colours");
  report.figure(
      image_grid(results, 6),
      fmt::format("The images after {}, with what the network says: green where right, red where wrong.", name),
      "The same images, faintly patterned, most with a wrong answer below");
}

void first_images(Report& report, ImageModel& model, const data::Dataset<float>& test, const std::string& set_name,
                  const RobustnessOptions& o) {
  const Shown s{test.x.head_cols(shown), test.y.head_cols(shown)};
  report.heading(fmt::format("The first {} test images, epsilon {:g}", shown, shown_epsilon));
  const auto fgsm = robust::fgsm(model, s.x, s.y, shown_epsilon);
  const auto pgd =
      robust::pgd(model, s.x, s.y, shown_epsilon, {.step = step, .iterations = 1000, .judge = Judge::final_iterate});
  for (const auto& [id, label, published, attack] : {std::tuple{"fgsm", "FGSM: attack rate", 0.7222, &fgsm},
                                                     {"pgd", "PGD, final of 1000 iterates: attack rate", 0.8333, &pgd}})
    report.row({.id = fmt::format("robustness.first18.{}", id),
                .label = label,
                .published = published,
                .here = attack->success_rate(),
                .unit = "share",
                .note = fmt::format("{}; one image is 5.56 points", because(set_name, o))});
  std::vector<Image> before;
  const Labels said = robust::predict(model, s.x);
  for (arma::uword j = 0; j < shown; ++j)
    before.push_back({picture_of(s.x.col(j)), fmt::format("{}", said[j]), said[j] == s.y[j] ? Tone::good : Tone::bad});
  report.figure(image_grid(before, 6), "The images before, with what the network says.",
                "Eighteen small grey images, 6 in a row");
  gallery(report, model, s, fgsm, "FGSM");
  gallery(report, model, s, pgd, "PGD");
}

// Bounds are rounded outward: a ten-thousandth inward again, so that ties in two decimals show as published.
std::string two_decimals(double bound, bool lower) {
  return fmt::format("{:.2f}", std::round(100 * (bound + (lower ? 1e-4 : -1e-4))) / 100 + 0.0);
}

void check_network(Report& report) {
  robust::Layers<float> layers;
  layers.linear("l1", arma::fmat{{0.5f, -1}, {2, 2}, {0, 1}}, arma::fvec{1, 0, 0.5f});
  layers.activation(robust::Activation::relu);
  layers.linear("l2", arma::fmat{{-3, 2, 1}, {0, 0.5f, -1}, {-2, 1, 0.5f}}, arma::fvec{0, 0, 1});
  layers.activation(robust::Activation::relu);
  layers.linear("l3", arma::fmat{{1, 1, 0.5f}, {2, 1, -1}}, arma::fvec{0.5f, 0.5f});
  const arma::fmat x = {{0.1f, 0.4f}, {0.9f, 0.5f}};
  const auto bounds = robust::bound_propagation(layers, x, 0.2);
  constexpr std::array<std::array<const char*, 4>, 4> published{
      {{"0.00 0.70", "0.00 1.40 1.20", "2.65 -0.80 2.10", "4.20 1.45"},
       {"0.30 1.00", "0.45 2.60 1.50", "6.70 0.10 4.35", "9.47 11.90"},
       {"0.20 0.30", "0.40 1.00 0.80", "-0.20 -0.70 0.40", "0.70 -2.90"},
       {"0.60 0.70", "1.00 2.60 1.20", "5.20 0.50 3.40", "7.90 11.00"}}};
  report.heading("The published check network, 2-3-3-2");
  std::vector<std::vector<std::string>> rows;
  for (std::size_t k = 0; k < 4; ++k) {
    std::vector<std::string> here{
        fmt::format("{} bounds at [{:g} {:g}], here", k % 2 == 0 ? "lower" : "upper", x(0, k / 2), x(1, k / 2))};
    std::vector<std::string> there{"published"};
    for (std::size_t l = 0; l < bounds.size(); ++l) {
      const arma::fvec v = (k % 2 == 0 ? bounds[l].lower : bounds[l].upper).col(k / 2);
      std::string text;
      for (const float b : v) text += fmt::format("{}{}", text.empty() ? "" : " ", two_decimals(b, k % 2 == 0));
      here.push_back(text);
      there.push_back(published[k][l]);
    }
    rows.push_back(here);
    rows.push_back(there);
  }
  report.table({"Bounds at epsilon 0.2", {{"", "", true}, {"input"}, {"layer 1"}, {"layer 2"}, {"layer 3"}}, rows});
  const auto certified = robust::certified_epsilon(layers, x, Labels{0, 0}, {.margin = robust::Margin::published});
  for (std::size_t j = 0; j < 2; ++j)
    report.row({.id = fmt::format("robustness.certified.check_network.{}", j + 1),
                .label = fmt::format("check network, input {}: certified epsilon", j + 1),
                .published = j == 0 ? 0.0028 : 0.0067,
                .here = certified[j].value_or(0),
                .decimals = 4});
}

// Gradients as they come out when the softmax's p - 1 is rounded to float.
robust::LossFunction<float> rounded_cross_entropy() {
  return [](Var<float> z, const Labels& y) {
    arma::fmat one_hot(z.n_rows(), z.n_cols(), arma::fill::zeros);
    for (arma::uword j = 0; j < y.n_elem; ++j) one_hot(y[j], j) = 1;
    return log_sum_exp(z, 0) - sum(z % one_hot, 0);
  };
}

struct Curves {
  robust::AttackCurve fgsm, rounded, pgd;
  double fgsm_seconds = 0, pgd_seconds = 0;
};

std::vector<double> accuracies(const robust::AttackCurve& curve) {
  std::vector<double> out;
  for (std::size_t b = 0; b < curve.epsilons.size(); ++b) out.push_back(curve.accuracy(b));
  return out;
}
std::vector<double> in_percent(std::vector<double> shares) {
  for (double& v : shares) v *= 100;
  return shares;
}

void report_curves(Report& report, const Curves& c, const RobustnessOptions& o, arma::uword images) {
  const std::string judged = o.judge == "any" ? "any iterate" : "the final iterate";
  report.heading("Accuracy against epsilon");
  report.text(fmt::format(
      "{} {} images. FGSM, and PGD with {} steps to the border, where {} counts. x + delta is not clipped to [0, 1], "
      "as "
      "published; the published curves are of the 60,000 training images of MNIST and judged by the final iterate.",
      images, o.split == "test" ? "test" : "training", o.iterations, judged));
  const std::vector<double> fgsm = accuracies(c.fgsm), rounded = accuracies(c.rounded), pgd = accuracies(c.pgd);
  report.series({"robustness.fgsm.final", budgets, fgsm, budgets, published_fgsm});
  report.series({"robustness.fgsm.rounded", budgets, rounded, budgets, published_fgsm});
  report.series({fmt::format("robustness.pgd.{}", o.judge), budgets, pgd, budgets, published_pgd});
  report.figure(draw(Plot{.x_label = "epsilon",
                          .y_label = "accuracy, %",
                          .curves = {{"FGSM here", budgets, in_percent(fgsm), Mark::line, 1},
                                     {"FGSM published", budgets, in_percent(published_fgsm), Mark::rings, 1},
                                     {"FGSM here, p - 1 rounded", budgets, in_percent(rounded), Mark::dashed, 1},
                                     {"PGD here", budgets, in_percent(pgd), Mark::line, 2},
                                     {"PGD published", budgets, in_percent(published_pgd), Mark::rings, 2}},
                          .y_range = Range{0, 100}}),
                "Accuracy under attack. Rings are the published curves.", "Falling curves with rings beside them");
  report.text(fmt::format(
      "Where the published FGSM curve stays above: computed as p - 1, the gradient of a confident prediction rounds to "
      "zero "
      "or noise in float. With the gradient rounded so, accuracy at epsilon {:g} is {} here and {} published, and {} "
      "examples have a gradient that is zero in every entry; exact, it is {}, with {}.",
      budgets.back(), percent(rounded.back()), percent(published_fgsm.back()), c.rounded.zero_gradients.back(),
      percent(fgsm.back()), c.fgsm.zero_gradients.back()));

  std::vector<std::vector<std::string>> rows;
  std::uint64_t passes = 0, all = 0;
  const auto millions = [](std::uint64_t n) { return fmt::format("{:.3f}", static_cast<double>(n) / 1e6); };
  for (std::size_t b = 0; b < budgets.size(); ++b) {
    const std::uint64_t without = c.pgd.passes_unretired[b];
    passes += c.pgd.passes[b], all += without;
    rows.push_back({fmt::format("{:.2f}", budgets[b]), percent(pgd[b]), percent(published_pgd[b]), millions(without),
                    millions(without - c.pgd.passes[b]), share_text(without - c.pgd.passes[b], without),
                    fmt::format("{}", c.pgd.zero_gradients[b])});
  }
  rows.push_back({"all", "", "", millions(all), millions(all - passes), share_text(all - passes, all), ""});
  report.table({"PGD: forward and backward passes of single images, in millions, and how many retiring them saved",
                {{"epsilon"}, {"accuracy"}, {"published"}, {"without"}, {"saved"}, {"share"}, {"zero gradients"}},
                rows});
  report.text(fmt::format("FGSM took {}, PGD {} (of the part that this run did).", duration(c.fgsm_seconds),
                          duration(c.pgd_seconds)));
}

/// Certified share <= share that is truly robust <= share that withstands an attack.
void report_certificates(Report& report, ImageModel& model, const data::Dataset<float>& test,
                         const std::string& set_name, const RobustnessOptions& o) {
  report.heading("Certificates");
  check_network(report);

  const auto layers = model.layers();
  const arma::uword n = test.x.n_cols;
  const Clock clock;
  robust::CertifyOptions certify{.margin = robust::Margin::published, .threads = threads(o)};
  const auto as_published = robust::certified_epsilon(layers, test.x, test.y, certify);
  const double seconds = clock.seconds();
  certify.margin = robust::Margin::folded;
  const auto folded = robust::certified_epsilon(layers, test.x, test.y, certify);
  report.heading("Certified epsilons of the test images");
  for (std::size_t j = 0; j < 2; ++j)
    report.row({.id = fmt::format("robustness.certified.image.{}", j + 1),
                .label = fmt::format("test image {}: certified epsilon", j + 1),
                .published = j == 0 ? 0.0008 : 0.0013,
                .here = as_published[j].value_or(0),
                .note = because(set_name, o),
                .decimals = 4});
  std::vector<std::vector<std::string>> rows;
  for (const auto& [name, found] :
       {std::pair{"as published: l_y - u_j", &as_published}, {"last layer folded in", &folded}}) {
    std::vector<double> values;
    for (const auto& e : *found)
      if (e) values.push_back(*e);
    std::sort(values.begin(), values.end());
    const auto quantile = [&](double q) {
      return values.empty()
                 ? std::string("none")
                 : fmt::format("{:.4f}", values[static_cast<std::size_t>(q * static_cast<double>(values.size() - 1))]);
    };
    rows.push_back(
        {name, share_text(values.size(), n), quantile(0), quantile(0.25), quantile(0.5), quantile(0.75), quantile(1)});
  }
  report.table({fmt::format("Largest certified epsilon of {} test images, of 0.0001 ... 0.9999 (found in {})", n,
                            duration(seconds)),
                {{"margin"}, {"certified at all"}, {"least"}, {"quarter"}, {"median"}, {"three quarters"}, {"largest"}},
                rows});

  // The attack within [0, 1], where the certificates hold.
  CurveJob job{.title = "robustness: PGD within [0, 1] beside the certificates",
               .images = &test,
               .epsilons = bracket,
               .attack = {.step = step, .iterations = 50, .clip = robust::Interval{0, 1}, .threads = threads(o)},
               .stopped = o.stopped};
  const auto attack = attack_curve(model, job);
  std::vector<double> certified_published, certified;
  for (std::size_t b = 0; b < bracket.size(); ++b) {
    std::size_t counts[2] = {0, 0};
    for (arma::uword i = 0; i < n; ++i) {
      counts[0] += as_published[i] && *as_published[i] >= bracket[b];
      const bool holds = folded[i] && *folded[i] >= bracket[b];
      counts[1] += holds;
      if ((holds || (as_published[i] && *as_published[i] >= bracket[b])) && attack.success(b, i) != 0)
        throw StateError(fmt::format(
            "robustness: test image {} is certified at epsilon {:g}, and an attack succeeds there: one of the two is "
            "wrong; please report this",
            i, bracket[b]));
    }
    certified_published.push_back(static_cast<double>(counts[0]) / static_cast<double>(n));
    certified.push_back(static_cast<double>(counts[1]) / static_cast<double>(n));
  }
  const std::vector<double> withstands = accuracies(attack);
  report.series({"robustness.certified.share", bracket, certified, {}, {}});
  report.series({"robustness.certified.share_as_published", bracket, certified_published, {}, {}});
  report.series({"robustness.certified.withstands_pgd", bracket, withstands, {}, {}});
  report.figure(
      draw(Plot{.x_label = "epsilon",
                .y_label = "share of the test images, %",
                .curves = {{"not misclassified by PGD within [0, 1]", bracket, in_percent(withstands), Mark::line, 2},
                           {"certified, last layer folded in", bracket, in_percent(certified), Mark::line, 1},
                           {"certified, as published", bracket, in_percent(certified_published), Mark::dashed, 1}},
                .log_x = true,
                .y_range = Range{0, 100}}),
      "The share that is truly robust lies between the certified one and the one that withstands the attack.",
      "An upper curve that falls late and two lower ones that fall early");
}

void describe(Report& report, const std::string& where, const data::Images<float>& images, ImageModel& model,
              const std::string& set_name, const RobustnessOptions& o) {
  report.text(fmt::format("A network 784-1024-1024-10 with ReLU. {}", where));
  for (const auto& [id, label, set, published] : {std::tuple{"test_accuracy", "test accuracy", &images.test, 0.9814},
                                                  {"train_accuracy", "training accuracy", &images.train, 0.9988}})
    report.row({.id = fmt::format("robustness.model.{}", id),
                .label = label,
                .published = published,
                .here = accuracy(model, *set),
                .unit = "share",
                .note = because(set_name, o),
                .decimals = 3});
}

}  // namespace

void check(const RobustnessOptions& o) {
  const auto require = [](bool holds, const std::string& text) {
    if (!holds) throw OptionError("robustness: " + text);
  };
  if (!o.dataset.empty()) data::image_set(o.dataset);
  require(o.split == "test" || o.split == "train", fmt::format("--split is '{}'; it must be test or train", o.split));
  require(o.judge == "any" || o.judge == "final", fmt::format("--judge is '{}'; it must be any or final", o.judge));
  require(o.iterations >= 1, fmt::format("--iterations is {}; it must be at least 1", o.iterations));
  require(o.images >= 0, fmt::format("--images is {}; it must be positive, or 0 for all", o.images));
  require(o.threads >= 0, fmt::format("--threads is {}; it must be positive, or 0 for one per processor", o.threads));
  std::error_code none;
  if (!o.data_dir.empty())
    require(fs::is_directory(o.data_dir, none), fmt::format("--data-dir {} is no folder", o.data_dir.string()));
  if (!o.weights.empty()) {
    require(fs::exists(o.weights, none),
            fmt::format("--weights {} is not there; leave the option out to train the network", o.weights.string()));
    ImageModel model;
    nn::load(model, o.weights.string());
  }
  device_named("robustness", o.device);
}

RobustnessResult robustness(const RobustnessOptions& o, const data::Images<float>& images,
                            const std::string& set_name) {
  check(o);
  Report report("robustness", "Robustness of a network for images", images.source, o.seed);
  try {
    std::string where;
    ImageModel model = model_for(o, images.train, set_name, where);
    if (o.device == "cuda") model.to(Device::cuda());
    const SerialProducts serial;
    const unsigned t = threads(o);
    data::Dataset<float> set = o.split == "test" ? images.test : images.train;
    if (o.images > 0 && static_cast<arma::uword>(o.images) < set.x.n_cols) {
      set.x = set.x.head_cols(static_cast<arma::uword>(o.images));
      set.y = set.y.head_cols(static_cast<arma::uword>(o.images));
    }
    const CurveJob job{.title = fmt::format("robustness: PGD, {} images", set.x.n_cols),
                       .images = &set,
                       .epsilons = budgets,
                       .attack = {.step = step,
                                  .iterations = static_cast<std::size_t>(o.iterations),
                                  .judge = o.judge == "any" ? Judge::any_iterate : Judge::final_iterate,
                                  .width = width(o),
                                  .threads = t},
                       .checkpoint = o.checkpoints.empty() ? fs::path()
                                                           : o.checkpoints / fmt::format("robustness-{}-{}.safetensors",
                                                                                         o.split, o.judge),
                       .resume = o.resume,
                       .stopped = o.stopped};
    check_checkpoint(model, job);

    describe(report, where, images, model, set_name, o);
    first_images(report, model, images.test, set_name, o);
    Curves curves;
    Clock clock;
    curves.fgsm = robust::fgsm_curve(model, set.x, set.y, budgets, {.width = width(o), .threads = t});
    curves.fgsm_seconds = clock.seconds();
    ImageModel on_cpu = model;  // the operations of a user's loss need not be there on every device
    on_cpu.to(Device::cpu());
    curves.rounded =
        robust::fgsm_curve(on_cpu, set.x, set.y, budgets, {.own_loss = rounded_cross_entropy(), .threads = t});
    clock = {};
    curves.pgd = attack_curve(model, job);
    curves.pgd_seconds = clock.seconds();
    report_curves(report, curves, o, set.x.n_cols);
    report_certificates(report, model, images.test, set_name, o);
    remove_checkpoint(job);
  } catch (const Interrupted&) {
    return {std::move(report), false};
  }
  return {std::move(report), true};
}

RobustnessResult robustness(const RobustnessOptions& o) {
  check(o);
  data::ImageOptions how{.folder = o.data_dir.string()};
  const auto images = o.dataset.empty() ? data::load_first_images<float>({data::mnist(), data::fashion_mnist()}, how)
                                        : data::load_images<float>(data::image_set(o.dataset), how);
  const std::string name = !o.dataset.empty()                   ? o.dataset
                           : images.source.starts_with("MNIST") ? "mnist"
                                                                : "fashion-mnist";
  return robustness(o, images, name);
}

}  // namespace armagrad::zoo
