// The benchmark measures right results only: contestants agree, one that does not is refused, one that is absent is
// left out by name. Nothing here asserts a time.
#define BOOST_TEST_MODULE bench
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>

#include <boost/test/unit_test.hpp>
#include <unistd.h>

#include <armagrad/autodiff/error.hpp>

#include "bench/cost.hpp"
#include "bench/page.hpp"
#include "bench/race.hpp"
#include "bench/report.hpp"
#include "bench/statistics.hpp"
#include "bench/targets.hpp"

namespace bench = armagrad::bench;
using bench::Json;
using bench::Problem;

namespace {

const std::vector<bench::Entrant> ours{
    {bench::floor_name, {ARMAGRAD_BENCH_DIR "/bench_hand_written"}, false},
    {"armagrad", {ARMAGRAD_BENCH_DIR "/bench_armagrad", "eager"}, false},
    {"armagrad-replay", {ARMAGRAD_BENCH_DIR "/bench_armagrad", "replay"}, false},
};

struct Folder {
  std::filesystem::path path;
  Folder() {
    static int count = 0;
    path = std::filesystem::temp_directory_path() /
           ("armagrad_bench_test_" + std::to_string(getpid()) + "_" + std::to_string(++count));
    std::filesystem::create_directories(path);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() { std::filesystem::remove_all(path); }
};

bench::Row row(Problem::Step step, float momentum = 0) {
  bench::Row r{"tiny", "tiny network", {}};
  r.problem.step = step;
  r.problem.layers = {9, 7, 6, 4};
  r.problem.batch = 11;
  r.problem.momentum = momentum;
  return r;
}

Json race(const bench::Row& r, const std::vector<bench::Entrant>& entrants) {
  const Folder folder;
  bench::RaceOptions options;
  options.rounds = 3;
  options.turn = 1e-4;
  options.folder = folder.path;
  return bench::race(r, 1, entrants, options, [](const std::string&) {});
}

// A contestant in one line of shell that answers every request in the same way.
bench::Entrant answering(const std::string& answer, bool peer = true) {
  return {"other", {"/bin/sh", "-c", "while read -r request; do echo '" + answer + "'; done"}, peer};
}

auto says(const std::string& words) {
  return [words](const std::exception& e) {
    BOOST_TEST_INFO(e.what());
    return std::string(e.what()).find(words) != std::string::npos;
  };
}

}  // namespace

BOOST_AUTO_TEST_CASE(armagrad_and_hand_written_code_compute_the_same_losses) {
  for (const auto& r : {row(Problem::Step::train), row(Problem::Step::train, 0.9F), row(Problem::Step::attack)}) {
    const Json result = race(r, ours);
    BOOST_TEST(result["contestants"].size() == 3u);
    BOOST_TEST(result["left_out"].empty());
    for (const auto& c : result["contestants"]) {
      BOOST_TEST(c["deviation"].get<double>() < 1e-5);
      BOOST_TEST(c["rounds"].size() == 3u);
      BOOST_TEST(c["seconds"]["least"].get<double>() > 0);
      BOOST_TEST(c["products"].get<double>() > 0);
      BOOST_TEST(c["products"].get<double>() < 1);
      BOOST_TEST(c["memory"]["peak"].get<double>() >= c["memory"]["start"].get<double>());
    }
    BOOST_TEST(result["contestants"][0]["ratio"]["median"] == 1.0);
  }
}

BOOST_AUTO_TEST_CASE(training_lowers_the_loss_and_an_attack_raises_it) {
  // Otherwise contestants could agree on doing nothing.
  const auto losses = [](const bench::Row& r) {
    const Folder folder;
    Problem p = r.problem;
    p.draw(1);
    const auto file = (folder.path / "problem").string();
    p.write(file);
    const auto out = (folder.path / "answer").string();
    const auto command = "echo check 200 | " ARMAGRAD_BENCH_DIR "/bench_hand_written '" + file + "' > '" + out + "'";
    BOOST_REQUIRE(std::system(command.c_str()) == 0);
    std::ifstream answer(out);
    return Json::parse(answer).at("losses").get<std::vector<double>>();
  };
  const auto trained = losses(row(Problem::Step::train)), attacked = losses(row(Problem::Step::attack));
  BOOST_TEST(trained.back() < 0.99 * trained.front());
  BOOST_TEST(attacked.back() > 1.01 * attacked.front());
}

BOOST_AUTO_TEST_CASE(a_contestant_with_other_losses_is_refused) {
  const std::string wrong = R"({"losses": [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]})";
  BOOST_CHECK_EXCEPTION(race(row(Problem::Step::train), {ours[0], answering(wrong)}), std::runtime_error,
                        says("tiny: other computes other losses than hand-written (apart by "));
  const std::string nan = R"({"losses": [1e999, 1, 1, 1, 1, 1, 1, 1, 1, 1]})";
  BOOST_CHECK_THROW(race(row(Problem::Step::train), {ours[0], answering(nan, false)}), std::runtime_error);
}

BOOST_AUTO_TEST_CASE(an_absent_peer_is_left_out_by_name_and_one_of_ours_is_not) {
  const bench::Entrant absent{"absent", {"/no/such/program"}};
  const Json result =
      race(row(Problem::Step::train), {ours[0], absent, answering(R"({"error": "no module named other"})")});
  BOOST_TEST(result["contestants"].size() == 1u);
  BOOST_TEST(result["left_out"][0]["name"] == "absent");
  BOOST_TEST(result["left_out"][1]["why"] == "no module named other");
  BOOST_CHECK_EXCEPTION(race(row(Problem::Step::train), {ours[0], {"ours", {"/no/such/program"}, false}}),
                        std::runtime_error, says("tiny: ours: /no/such/program"));
}

BOOST_AUTO_TEST_CASE(quantiles_are_those_of_numpy) {
  BOOST_TEST(bench::quantile({4, 1, 3, 2}, 0.5) == 2.5);
  BOOST_TEST(bench::quantile({4, 1, 3, 2}, 0.25) == 1.75);
  BOOST_TEST(bench::quantile({7}, 0.75) == 7);
  BOOST_CHECK_THROW(bench::quantile({}, 0.5), std::invalid_argument);
  const auto r = bench::ratio({2, 6, 12}, {1, 2, 3});
  BOOST_TEST(r.median == 3);
  BOOST_TEST(r.low == 2.5);
  BOOST_CHECK_THROW(bench::ratio({1}, {1, 2}), std::invalid_argument);
}

BOOST_AUTO_TEST_CASE(targets_compare_contestants_round_by_round) {
  const auto contestant = [](const char* name, const std::vector<double>& rounds, const Json& products = Json()) {
    return Json{{"name", name}, {"rounds", rounds}, {"products", products}};
  };
  Json report{{"races",
               {{{"row", "small-64"},
                 {"threads", 1},
                 {"contestants", {contestant("hand-written", {1, 2, 4}), contestant("armagrad", {0.5, 1.6, 2.8})}}},
                {{"row", "pgd"},
                 {"threads", 1},
                 {"contestants", {contestant("armagrad", {3}, 0.95), contestant("jax", {2})}}}}},
              {"costs", Json::object()}};
  const Json targets = bench::targets(report);
  BOOST_TEST(targets.size() == 3u);
  BOOST_TEST(targets[0]["what"] == "small-64: armagrad / hand-written");
  BOOST_TEST(targets[0]["seen"].get<double>() == 0.7, boost::test_tools::tolerance(1e-12));
  BOOST_TEST(targets[0]["reached"] == true);
  BOOST_TEST(targets[1]["what"] == "pgd: armagrad, share of time in products");
  BOOST_TEST(targets[1]["reached"] == false);
  BOOST_TEST(targets[2]["seen"] == 1.5);
  BOOST_TEST(targets[2]["reached"] == false);
}

BOOST_AUTO_TEST_CASE(runs_add_to_the_report_in_their_folder) {
  const Folder folder;
  Json report = bench::read_report(folder.path);
  const Json first = race(row(Problem::Step::train), {ours[0], ours[1], {"<absent>", {"/no/such/program"}}});
  bench::add_race(report, first);
  bench::add_race(report, first);
  BOOST_TEST(report["races"].size() == 1u);
  report["costs"]["memory"] = bench::cost("memory", {});
  report["targets"] = bench::targets(report);
  bench::write_report(folder.path, report);
  BOOST_TEST(bench::read_report(folder.path) == report);
  std::ifstream file(folder.path / "index.html");
  const std::string page{std::istreambuf_iterator<char>(file), {}};
  for (const char* words : {"tiny network", "&lt;absent&gt; is left out: ", "Memory of a step"})
    BOOST_TEST(page.find(words) != std::string::npos, words);
  BOOST_TEST(page.find("<absent>") == std::string::npos);

  std::filesystem::remove(folder.path / "bench.json");
  BOOST_CHECK_EXCEPTION(bench::read_report(folder.path), armagrad::OptionError, says("it holds another page"));
}
