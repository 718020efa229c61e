// The zoo's pipelines with --device cuda, beside the same on the CPU.
#define BOOST_TEST_MODULE zoo_cuda
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <map>
#include <string>

#include <boost/test/unit_test.hpp>
#include <nlohmann/json.hpp>

#include <armagrad/armagrad.hpp>

#include "cuda_device.hpp"
#include "zoo/digits_run.hpp"
#include "zoo/regression.hpp"
#include "zoo/robustness.hpp"

using namespace armagrad;
namespace zoo = armagrad::zoo;
namespace fs = std::filesystem;

namespace {

std::map<std::string, double> figures(const zoo::Report& report) {
  std::map<std::string, double> all;
  const auto json = nlohmann::json::parse(report.json());
  for (const auto& row : json["rows"])
    if (row["here"].is_number()) all[row["id"]] = row["here"].get<double>();
  return all;
}

struct Answer {
  int status;
  std::string text;
};
Answer zoo_program(const std::string& arguments) {
  const std::string command = std::string("'") + ARMAGRAD_ZOO_PROGRAM + "' " + arguments + " 2>&1";
  std::string text;
  FILE* const pipe = popen(command.c_str(), "r");
  BOOST_REQUIRE(pipe != nullptr);
  char part[512];
  while (std::fgets(part, sizeof part, pipe) != nullptr) text += part;
  return {WEXITSTATUS(pclose(pipe)), text};
}

/// Each class has a pattern, each image the pattern and noise.
data::Dataset<float> made_up(arma::uword n, std::uint64_t seed) {
  nn::Generator patterns(77), noise(seed);
  arma::fmat pattern(784, 10);
  for (float& v : pattern) v = patterns.uniform() < 0.2 ? 0.6f : 0.f;
  data::Dataset<float> set{arma::fmat(784, n), arma::Row<std::size_t>(n), 10};
  for (arma::uword j = 0; j < n; ++j) {
    set.y[j] = j % 10;
    for (arma::uword i = 0; i < 784; ++i)
      set.x(i, j) = std::min(1.f, pattern(i, j % 10) * static_cast<float>(0.7 + 0.6 * noise.uniform()));
  }
  return set;
}

struct Folder {
  Folder() {
    std::string name = (fs::temp_directory_path() / "zoo_cuda.XXXXXX").string();
    BOOST_REQUIRE(mkdtemp(name.data()));
    path = name;
  }
  ~Folder() { fs::remove_all(path); }
  fs::path path;
};

}  // namespace

BOOST_AUTO_TEST_CASE(regression_gives_the_cpus_figures) {
  if (skipped()) return;
  const auto expected = figures(zoo::regression()), found = figures(zoo::regression(Device(device())));
  BOOST_TEST(expected.size() > 20u);
  BOOST_REQUIRE(found.size() == expected.size());
  for (const auto& [id, value] : expected)
    BOOST_TEST_CONTEXT(id) BOOST_TEST(std::abs(found.at(id) - value) <= 1e-8 * std::max(1.0, std::abs(value)));
}

BOOST_AUTO_TEST_CASE(digits_are_trained_to_the_cpus_losses) {
  if (skipped()) return;
  device();
  const zoo::Digits digits = zoo::load_digits();
  const auto few = [&](arma::uword n) {
    zoo::Digits some = digits;
    some.train = {digits.train.x.head_cols(n), digits.train.y.head_cols(n), digits.train.classes};
    some.targets = digits.targets.head_cols(n);
    return some;
  };
  const zoo::Digits some = few(200);  // three batches of 64 and a smaller one
  for (const int model : {1, 2, 4, 6, 8}) {
    std::map<std::string, std::vector<double>> losses;
    std::map<std::string, arma::fmat> scores;
    for (const char* where : {"cpu", "cuda"}) {
      zoo::RunInTraining run({.model = model, .seed = 3, .device = where}, some);
      for (int epoch = 0; epoch < 4; ++epoch) losses[where].push_back(run.training().epoch());
      scores[where] = run.training().scores(digits.test.x);
    }
    BOOST_TEST_CONTEXT("model " << model) {
      for (int epoch = 0; epoch < 4; ++epoch)
        BOOST_TEST(losses["cuda"][static_cast<std::size_t>(epoch)] == losses["cpu"][static_cast<std::size_t>(epoch)],
                   boost::test_tools::tolerance(1e-4));
      BOOST_TEST(arma::abs(scores["cuda"] - scores["cpu"]).max() < 1e-3);
    }
  }
}

BOOST_AUTO_TEST_CASE(robustness_gives_the_cpus_figures) {
  if (skipped()) return;
  device();
  const Folder folder;
  const data::Images<float> images{made_up(300, 1), made_up(20, 2), "made-up images"};
  std::map<std::string, double> by_device[2];
  int k = 0;
  for (const char* where : {"cpu", "cuda"}) {
    zoo::RobustnessOptions o;
    o.iterations = 5;
    o.images = 12;
    o.threads = 1;
    o.device = where;
    o.checkpoints = folder.path;
    const auto result = zoo::robustness(o, images, "");
    BOOST_REQUIRE(result.finished);
    by_device[k++] = figures(result.report);
  }
  BOOST_TEST(by_device[0].size() > 6u);
  BOOST_REQUIRE(by_device[1].size() == by_device[0].size());
  for (const auto& [id, value] : by_device[0])
    if (id.find("seconds") == std::string::npos)
      BOOST_TEST_CONTEXT(id) BOOST_TEST(std::abs(by_device[1].at(id) - value) <= 1e-6 * std::max(1.0, std::abs(value)));
}

// The program, with the plug-in where it looks for one, and without.
BOOST_AUTO_TEST_CASE(the_program_takes_the_option_and_tells_where_there_is_no_device) {
  if (skipped()) return;
  device();  // now ARMAGRAD_CUDA_PLUGIN is set, for programs as well
  const Folder folder;
  const auto out = [&](const std::string& arguments) { return arguments + " --out '" + folder.path.string() + "'"; };
  const Answer digits = zoo_program(out("digits --model 8 --epochs 1 --device cuda"));
  BOOST_TEST(digits.status == 0, digits.text);
  BOOST_TEST(fs::exists(folder.path / "digits.json"));
  setenv("ARMAGRAD_CUDA_PLUGIN", "/nowhere.so", 1);
  for (const char* pipeline : {"regression", "digits", "robustness"}) {
    const Answer refused = zoo_program(out(std::string(pipeline) + " --device cuda"));
    BOOST_TEST(refused.status == 2);
    check_contains(refused.text, "zoo: Device::cuda(): ARMAGRAD_CUDA_PLUGIN names /nowhere.so, which does not exist");
    check_contains(zoo_program(out(std::string(pipeline) + " --device tpu")).text,
                   std::string("zoo: ") + pipeline + ": --device is 'tpu'; it must be cpu or cuda");
  }
  setenv("ARMAGRAD_CUDA_PLUGIN", stand_in_file.c_str(), 1);
}
