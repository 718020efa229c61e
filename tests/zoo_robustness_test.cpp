// The robustness pipeline on small made-up images: its figures, interruption and resuming, weights in files, bad input.
#define BOOST_TEST_MODULE zoo_robustness
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <string>

#include <boost/test/unit_test.hpp>
#include <nlohmann/json.hpp>

#include <armagrad/armagrad.hpp>
#include <armagrad/nn/state.hpp>

#include "refused.hpp"
#include "zoo/robustness.hpp"
#include "zoo/robustness_curve.hpp"
#include "zoo/robustness_model.hpp"

namespace ag = armagrad;
namespace fs = std::filesystem;
namespace zoo = armagrad::zoo;

namespace {

struct Folder {
  Folder() {
    std::string name = (fs::temp_directory_path() / "zoo_robustness.XXXXXX").string();
    BOOST_REQUIRE(mkdtemp(name.data()));
    path = name;
  }
  ~Folder() { fs::remove_all(path); }
  fs::path path;
};

/// Each class has a pattern, each image the pattern and noise.
ag::data::Dataset<float> made_up(arma::uword n, std::uint64_t seed) {
  ag::nn::Generator patterns(77), noise(seed);
  arma::fmat pattern(784, 10);
  for (float& v : pattern) v = patterns.uniform() < 0.2 ? 0.6f : 0.f;
  ag::data::Dataset<float> set{arma::fmat(784, n), arma::Row<std::size_t>(n), 10};
  for (arma::uword j = 0; j < n; ++j) {
    set.y[j] = j % 10;
    for (arma::uword i = 0; i < 784; ++i)
      set.x(i, j) = std::min(1.f, pattern(i, j % 10) * static_cast<float>(0.7 + 0.6 * noise.uniform()) +
                                      static_cast<float>(noise.uniform() < 0.15 ? 0.7 * noise.uniform() : 0));
  }
  return set;
}
ag::data::Images<float> images() { return {made_up(300, 1), made_up(40, 2), "made-up images"}; }

struct Other : ag::nn::Module<float> {
  ag::nn::Linear<float> l1{784, 100}, l2{100, 10};
  ARMAGRAD_MODULE(l1, l2)
};

zoo::RobustnessOptions options(const fs::path& folder) {
  zoo::RobustnessOptions o;
  o.iterations = 15;
  o.threads = 1;
  o.checkpoints = folder;
  return o;
}

}  // namespace

BOOST_AUTO_TEST_CASE(the_pipeline_reports_its_figures) {
  const Folder folder;
  for (const std::string judge : {"any", "final"}) {
    auto o = options(folder.path);
    o.judge = judge;
    const auto result = zoo::robustness(o, images(), "");
    BOOST_REQUIRE(result.finished);
    const auto json = nlohmann::json::parse(result.report.json());
    BOOST_TEST(json["data"].get<std::string>() == "made-up images");
    std::map<std::string, nlohmann::json> rows, series;
    for (const auto& r : json["rows"]) rows[r["id"]] = r;
    for (const auto& s : json["series"]) series[s["id"]] = s;
    for (const auto& [id, published] : std::map<std::string, double>{{"robustness.model.test_accuracy", 0.9814},
                                                                     {"robustness.model.train_accuracy", 0.9988},
                                                                     {"robustness.first18.fgsm", 0.7222},
                                                                     {"robustness.first18.pgd", 0.8333},
                                                                     {"robustness.certified.check_network.1", 0.0028},
                                                                     {"robustness.certified.check_network.2", 0.0067},
                                                                     {"robustness.certified.image.1", 0.0008},
                                                                     {"robustness.certified.image.2", 0.0013}}) {
      BOOST_REQUIRE_MESSAGE(rows.contains(id), id);
      BOOST_TEST(rows[id]["published"].get<double>() == published);
    }
    BOOST_TEST(rows["robustness.model.test_accuracy"]["here"].get<double>() > 0.9);
    BOOST_TEST(rows["robustness.certified.check_network.1"]["here"].get<double>() == 0.0028);
    BOOST_TEST(rows["robustness.certified.check_network.2"]["here"].get<double>() == 0.0067);
    for (const std::string& id : {std::string("robustness.fgsm.final"), "robustness.pgd." + judge}) {
      BOOST_REQUIRE_MESSAGE(series.contains(id), id);
      BOOST_TEST(series[id]["x"].size() == 11u);
      BOOST_TEST(series[id]["published_y"].size() == 11u);
      BOOST_TEST(series[id]["y"][0] == rows["robustness.model.test_accuracy"]["here"]);
      BOOST_TEST(series[id]["y"][10] < series[id]["y"][0]);
    }
    BOOST_TEST(series["robustness.certified.share"]["y"][0] > 0);
    for (std::size_t b = 0; b < series["robustness.certified.share"]["y"].size(); ++b)
      BOOST_TEST(series["robustness.certified.share"]["y"][b] <= series["robustness.certified.withstands_pgd"]["y"][b]);
    result.report.write(folder.path);
    BOOST_TEST(fs::exists(folder.path / "robustness.json"));
  }
  // The first run has trained and saved the weights, the second loaded them; finished attacks leave nothing behind.
  std::set<std::string> left;
  for (const auto& f : fs::directory_iterator(folder.path)) left.insert(f.path().filename().string());
  BOOST_TEST((left == std::set<std::string>{"784-1024-1024-10.seed1.safetensors", "index.html", "robustness.json"}));
}

BOOST_AUTO_TEST_CASE(training_is_reproducible) {
  const auto set = made_up(200, 1);
  zoo::ImageModel a = zoo::train(set, "first", {.epochs = 2}), b = zoo::train(set, "second", {.epochs = 2});
  zoo::ImageModel c = zoo::train(set, "third", {.seed = 2, .epochs = 2});
  BOOST_TEST(zoo::fingerprint(a) == zoo::fingerprint(b));
  BOOST_TEST(zoo::fingerprint(a) != zoo::fingerprint(c));
  BOOST_CHECK_THROW(zoo::train(set, "fourth", {.epochs = 2}, [] { return true; }), zoo::Interrupted);
}

// What certificates are computed for is what attacks are made on.
BOOST_AUTO_TEST_CASE(the_listed_layers_are_the_models) {
  zoo::ImageModel model = zoo::train(made_up(200, 1), "model", {.epochs = 2});
  BOOST_TEST(ag::nn::unnamed_members<zoo::ImageModel>().empty());
  const arma::fmat x = made_up(5, 3).x;
  ag::Tape<float> tape;
  const arma::fmat z = model(tape.constant(x)).value();
  const auto bounds = ag::robust::bound_propagation(model.layers(), x, 0).back();
  BOOST_TEST((arma::all(arma::vectorise(bounds.lower <= z)) && arma::all(arma::vectorise(z <= bounds.upper))));
  BOOST_TEST((bounds.upper - bounds.lower).max() < 0.1f);
}

BOOST_AUTO_TEST_CASE(an_interrupted_attack_is_resumed) {
  const Folder folder;
  const auto set = made_up(60, 4);
  zoo::ImageModel model = zoo::train(set, "model", {.epochs = 2});
  zoo::CurveJob job{.title = "attack",
                    .images = &set,
                    .epsilons = {0, 0.05, 0.1, 0.2},
                    .attack = {.step = 1000, .iterations = 10, .judge = ag::robust::Judge::final_iterate}};
  const auto whole = zoo::attack_curve(model, job);
  job.checkpoint = folder.path / "attack.safetensors";
  int asked = 0;
  job.stopped = [&] { return ++asked == 100; };
  BOOST_CHECK_THROW(zoo::attack_curve(model, job), zoo::Interrupted);
  BOOST_REQUIRE(fs::exists(job.checkpoint));
  job.resume = true;
  asked = 1000;
  const auto resumed = zoo::attack_curve(model, job);
  BOOST_TEST(asked == 1000 + 4 * 60 - 100);  // only what was missing
  BOOST_TEST(arma::accu(resumed.success != whole.success) == 0u);
  BOOST_TEST(resumed.passes == whole.passes);
  BOOST_TEST(resumed.zero_gradients == whole.zero_gradients);

  zoo::check_checkpoint(model, job);
  job.attack.iterations = 11;
  try {
    zoo::check_checkpoint(model, job);
    BOOST_ERROR("a checkpoint of another run was taken");
  } catch (const ag::OptionError& e) {
    BOOST_TEST(std::string(e.what()).find("this checkpoint is of another run (") != std::string::npos);
    BOOST_TEST(std::string(e.what()).find("iterations 10") != std::string::npos);
  }
  std::ofstream(job.checkpoint) << "half a file";
  BOOST_CHECK_THROW(zoo::attack_curve(model, job), ag::DataError);
  zoo::remove_checkpoint(job);
  BOOST_TEST(!fs::exists(job.checkpoint));
}

BOOST_AUTO_TEST_CASE(a_stopped_pipeline_says_so) {
  const Folder folder;
  auto o = options(folder.path);
  o.stopped = [] { return true; };
  BOOST_TEST(!zoo::robustness(o, images(), "").finished);
}

BOOST_AUTO_TEST_CASE(bad_options_are_refused_before_any_work) {
  const auto bad = [](auto change, const std::string& text) {
    zoo::RobustnessOptions o;
    change(o);
    refused<ag::OptionError>([&] { zoo::check(o); }, text);
  };
  bad([](auto& o) { o.split = "half"; }, "robustness: --split is 'half'; it must be test or train");
  bad([](auto& o) { o.judge = "first"; }, "robustness: --judge is 'first'; it must be any or final");
  bad([](auto& o) { o.iterations = 0; }, "robustness: --iterations is 0; it must be at least 1");
  bad([](auto& o) { o.images = -1; }, "robustness: --images is -1; it must be positive, or 0 for all");
  bad([](auto& o) { o.threads = -1; }, "robustness: --threads is -1; it must be positive, or 0 for one per processor");
  bad([](auto& o) { o.device = "tpu"; }, "robustness: --device is 'tpu'; it must be cpu or cuda");
  bad([](auto& o) { o.data_dir = "/nowhere"; }, "robustness: --data-dir /nowhere is no folder");
  bad([](auto& o) { o.weights = "/nowhere.safetensors"; },
      "robustness: --weights /nowhere.safetensors is not there; leave the option out to train the network");
  zoo::RobustnessOptions o;
  o.dataset = "imagenet";
  BOOST_CHECK_THROW(zoo::check(o), ag::OptionError);

  const Folder folder;
  Other other;
  o.dataset.clear();
  o.weights = folder.path / "other.safetensors";
  ag::nn::save(other, o.weights.string());
  try {
    zoo::check(o);
    BOOST_ERROR("weights of another architecture were taken");
  } catch (const ag::DataError& e) {
    BOOST_TEST(std::string(e.what()).find("l1.weight") != std::string::npos);
    BOOST_TEST(std::string(e.what()).find("l3.bias") != std::string::npos);
  }
}
