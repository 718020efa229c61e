// The benchmark: armagrad beside its peers and hand-written code, in one run.
#include <csignal>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <iostream>

#include <CLI/CLI.hpp>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <armagrad/autodiff/machine.hpp>

#include "bench/child.hpp"
#include "bench/cost.hpp"
#include "bench/race.hpp"
#include "bench/report.hpp"
#include "bench/targets.hpp"

namespace bench = armagrad::bench;
using bench::Json;

namespace {

constexpr int bad_usage = 2;

struct Options {
  std::vector<std::string> rows{}, contestants{}, costs{};
  std::vector<int> threads{1, 2};
  bench::RaceOptions race{};
  std::string python{}, peers = ARMAGRAD_SOURCE_DIR "/bench/peers.py", zoo = ARMAGRAD_ZOO_PROGRAM;
  std::filesystem::path out = "out/bench";
};

// A line that the next one replaces; nothing where nobody watches.
void progress(const std::string& text) {
  if (isatty(STDERR_FILENO)) std::cerr << "\r\033[K" << text << std::flush;
}

template <class All>
std::vector<typename All::value_type> selected(const All& all, const std::vector<std::string>& names) {
  std::vector<typename All::value_type> out;
  for (const auto& item : all)
    if (names.empty() || std::find(names.begin(), names.end(), item.name) != names.end()) out.push_back(item);
  return out;
}

// In the order of the page. The floor comes first: all others are compared with it.
std::vector<bench::Entrant> entrants(const Options& options) {
  const auto beside = [](const char* name) { return std::string(ARMAGRAD_BENCH_DIR "/") + name; };
  std::vector<bench::Entrant> all{
      {bench::floor_name, {beside("bench_hand_written")}, false},
      {"armagrad", {beside("bench_armagrad"), "eager"}, false},
      {"armagrad-replay", {beside("bench_armagrad"), "replay"}, false},
      {"armagrad-openblas", {"/usr/bin/env", "ARMAGRAD_ONEDNN=off", beside("bench_armagrad"), "eager"}, false},
      {"libtorch", {beside("bench_libtorch")}},
  };
  for (const char* name : {"pytorch", "torch-compile", "jax"})
    all.push_back({name, {options.python, options.peers, name}});
  return all;
}

int run(int argc, char** argv) {
  Options options;
  CLI::App app("Times armagrad beside hand-written code and its peers, and writes bench.json and index.html.",
               "bench/run");
  std::vector<std::string> row_names, contestant_names;
  for (const auto& row : bench::rows()) row_names.push_back(row.name);
  for (const auto& entrant : entrants(options)) contestant_names.push_back(entrant.name);
  auto known_rows = row_names;
  for (const auto& row : bench::sweep_rows()) known_rows.push_back(row.name);
  known_rows.insert(known_rows.end(), {"none", "sweep"});
  app.add_option("--rows", options.rows,
                 fmt::format("which rows: {}; 'sweep' (all widths and batches) or one as width-64, batch-256; 'none'; "
                             "by default all but the sweep",
                             fmt::join(row_names, ", ")))
      ->check(CLI::IsMember(known_rows));
  app.add_option("--contestants", options.contestants,
                 fmt::format("which contestants beside the floor: {}", fmt::join(contestant_names, ", ")))
      ->check(CLI::IsMember(contestant_names));
  app.add_option("--threads", options.threads, "numbers of threads (and processors)")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  app.add_option("--cost", options.costs, fmt::format("what else to measure: {}", fmt::join(bench::cost_names(), ", ")))
      ->check(CLI::IsMember(bench::cost_names()));
  app.add_option("--rounds", options.race.rounds, "rounds of turns")->capture_default_str()->check(CLI::PositiveNumber);
  app.add_option("--turn", options.race.turn, "seconds a contestant runs in each round, at least")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  app.add_option("--seed", options.race.seed, "seed of weights and data")->capture_default_str();
  app.add_option("--python", options.python, "a Python that has the peers (torch, jax)")->type_name("PATH");
  app.add_option("--zoo", options.zoo, "the zoo's program, whose start-up is timed")->type_name("PATH");
  app.add_option("--out", options.out,
                 "folder of the report; what a run before left there and this one does not measure stays")
      ->capture_default_str()
      ->type_name("DIR");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : bad_usage;
  }

  Json report = bench::read_report(options.out);
  options.race.folder = options.out / "log";
  std::filesystem::create_directories(options.race.folder);
  report["written"] = fmt::format("{:%Y-%m-%d %H:%M}", fmt::localtime(std::time(nullptr)));
  report["cpu"] = armagrad::machine().cpu;
  report["cpus"] = bench::allowed_cpus().size();
  const auto write = [&] {
    report["targets"] = bench::targets(report);
    bench::write_report(options.out, report);
  };

  auto racing = selected(bench::rows(), options.rows);
  const bool sweep = std::find(options.rows.begin(), options.rows.end(), "sweep") != options.rows.end();
  for (const auto& row : sweep ? bench::sweep_rows() : selected(bench::sweep_rows(), options.rows))
    if (!options.rows.empty()) racing.push_back(row);
  auto contestants = selected(entrants(options), options.contestants);
  if (contestants.front().name != bench::floor_name) contestants.insert(contestants.begin(), entrants(options).front());
  for (const auto& row : racing) {
    for (const int threads : options.threads) {
      if (bench::allowed_cpus().size() < static_cast<std::size_t>(threads)) {
        progress("");
        fmt::print("{} with {} threads is left out: this program may use {} processors\n", row.name, threads,
                   bench::allowed_cpus().size());
        continue;
      }
      const Json race = bench::race(row, threads, contestants, options.race, progress);
      progress("");
      fmt::print("{}", bench::race_text(race));
      std::fflush(stdout);
      bench::add_race(report, race);
      write();
    }
  }
  for (const auto& name : options.costs) {
    progress("measuring " + name);
    report["costs"][name] = bench::cost(name, {.zoo = options.zoo, .folder = options.race.folder});
    progress("");
    fmt::print("{}", bench::cost_text(name, report["costs"][name]));
    write();
  }
  write();
  progress("");
  fmt::print("\n{}Report: {}\n", bench::targets_text(report["targets"]),
             std::filesystem::absolute(options.out / "index.html").lexically_normal().string());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  armagrad::restart_with_fast_blas();  // the contestants inherit OPENBLAS_CORETYPE,
  unsetenv("GOMP_SPINCOUNT");          // but how the threads of others wait is their own choice
  std::signal(SIGPIPE, SIG_IGN);       // a contestant that ends shows as one that does not answer
  try {
    return run(argc, argv);
  } catch (const std::exception& e) {
    progress("");
    std::cerr << "bench: " << e.what() << '\n';
    return 1;
  }
}
