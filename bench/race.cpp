#include "bench/race.hpp"

#include <algorithm>
#include <cmath>
#include <optional>
#include <stdexcept>

#include <fmt/format.h>

#include "bench/child.hpp"
#include "bench/statistics.hpp"

namespace armagrad::bench {
namespace {

Row training(std::string name, std::string title, std::vector<std::size_t> layers, std::size_t batch,
             float momentum = 0) {
  Row row{std::move(name), std::move(title), {}};
  row.problem.layers = std::move(layers);
  row.problem.batch = batch;
  row.problem.momentum = momentum;
  return row;
}

struct Racer {
  std::string name;
  Child process;
  Json info;
  double deviation = 0;
  int steps = 1;                  // per turn
  std::vector<double> seconds{};  // per step, of each round
  std::vector<double> wall{};     // the same by the wall's clock
};

// Losses of the first steps against the floor's: the largest relative deviation.
double deviation(const Json& losses, const Json& reference) {
  double worst = 0;
  for (std::size_t i = 0; i < reference.size(); ++i) {
    const double here = losses.at(i), there = reference.at(i);
    const double apart = std::abs(here - there) / std::max(std::abs(there), 1e-6);
    worst = std::isfinite(apart) ? std::max(worst, apart) : INFINITY;
  }
  return worst;
}

struct Turn {
  double seconds, wall;  // per step
};

// On one processor a step takes what it was on the processor: the rest of the wall's time belongs to other programs.
// Several threads wait for each other, too, which only the wall's clock sees.
Turn run(Racer& racer, int steps, int threads) {
  const int warm = std::max(1, steps / 10);
  const auto answer = racer.process.ask(fmt::format("run {} {}", warm, steps));
  const double wall = answer.at("seconds"), processor = answer.at("processor");
  return {(threads == 1 ? processor : wall) / steps, wall / steps};
}

Json to_json(const Spread& s) { return {{"median", s.median}, {"low", s.low}, {"high", s.high}}; }

}  // namespace

std::vector<Row> rows() {
  const std::vector<std::size_t> small{64, 32, 16, 10}, large{784, 1024, 1024, 10};
  std::vector<Row> all{
      training("small-64", "64-32-16-10, SGD step, batch 64", small, 64),
      training("small-1437", "64-32-16-10, SGD step, batch 1437", small, 1437),
      training("large-sgd", "784-1024-1024-10, SGD step, batch 128", large, 128),
      training("large-momentum", "784-1024-1024-10, SGD step with momentum, batch 128", large, 128, 0.9F),
      training("pgd", "784-1024-1024-10, PGD step (input gradient only), 1000 images", large, 1000),
  };
  all.back().problem.step = Problem::Step::attack;
  return all;
}

std::vector<Row> sweep_rows() {
  std::vector<Row> all;
  for (std::size_t width = 4; width <= 2048; width *= 2)
    all.push_back(training(fmt::format("width-{}", width), fmt::format("{0}-{0}-{0}-10, SGD step, batch 64", width),
                           {width, width, width, 10}, 64));
  for (std::size_t batch = 1; batch <= 16384; batch *= 4)
    all.push_back(training(fmt::format("batch-{}", batch), fmt::format("64-32-16-10, SGD step, batch {}", batch),
                           {64, 32, 16, 10}, batch));
  return all;
}

Json race(const Row& row, int threads, const std::vector<Entrant>& entrants, const RaceOptions& options,
          const std::function<void(const std::string&)>& progress) {
  auto cpus = allowed_cpus();
  if (cpus.size() < static_cast<std::size_t>(threads))
    throw std::runtime_error(
        fmt::format("{} threads need as many processors; this process may use {}", threads, cpus.size()));
  cpus.erase(cpus.begin(), cpus.end() - threads);
  const auto count = std::to_string(threads);
  const std::map<std::string, std::string> environment{
      {"OPENBLAS_NUM_THREADS", count}, {"OMP_NUM_THREADS", count},   {"MKL_NUM_THREADS", count},
      {"JAX_PLATFORMS", "cpu"},        {"CUDA_VISIBLE_DEVICES", ""},
  };

  Problem problem = row.problem;
  problem.draw(options.seed);
  std::filesystem::create_directories(options.folder);
  const auto file = (options.folder / (row.name + ".problem")).string();
  problem.write(file);

  std::vector<Racer> racers;
  Json left_out = Json::array();
  std::optional<Json> reference;
  for (const auto& entrant : entrants) {
    progress(fmt::format("{}, {} thread{}: {} gets ready", row.name, threads, threads == 1 ? "" : "s", entrant.name));
    auto command = entrant.command;
    command.push_back(file);
    Json losses;
    try {
      Racer racer{entrant.name,
                  Child(command, environment, cpus,
                        (options.folder / fmt::format("{}-{}.log", entrant.name, threads)).string()),
                  {}};
      racer.info = racer.process.ask("info");
      losses = racer.process.ask(fmt::format("check {}", options.checked)).at("losses");
      racers.push_back(std::move(racer));
    } catch (const std::exception& e) {
      if (!entrant.peer) throw std::runtime_error(fmt::format("{}: {}: {}", row.name, entrant.name, e.what()));
      left_out.push_back({{"name", entrant.name}, {"why", e.what()}});
      continue;
    }
    if (!reference) reference = losses;  // the floor comes first
    Racer& racer = racers.back();
    racer.deviation = deviation(losses, *reference);
    if (!(racer.deviation <= options.tolerance))
      throw std::runtime_error(fmt::format(
          "{}: {} computes other losses than {} (apart by {:.1e} of them, {:.0e} is allowed): {} instead of {}",
          row.name, racer.name, racers.front().name, racer.deviation, options.tolerance, losses.dump(),
          reference->dump()));
  }

  for (Racer& racer : racers) {  // how many steps fill a turn
    double each = run(racer, 1, threads).seconds;
    while (each * racer.steps < options.turn / 2 && racer.steps < 1 << 20) {
      racer.steps *= 2;
      each = run(racer, racer.steps, threads).seconds;
    }
    racer.steps = std::max(1, static_cast<int>(std::ceil(options.turn / each)));
  }
  for (int round = 0; round < options.rounds; ++round) {
    progress(fmt::format("{}, {} thread{}: round {} of {}", row.name, threads, threads == 1 ? "" : "s", round + 1,
                         options.rounds));
    for (Racer& racer : racers) {
      const Turn turn = run(racer, racer.steps, threads);
      racer.seconds.push_back(turn.seconds);
      racer.wall.push_back(turn.wall);
    }
  }

  Json contestants = Json::array();
  for (Racer& racer : racers) {
    Json seconds = to_json(spread(racer.seconds));
    seconds["least"] = *std::min_element(racer.seconds.begin(), racer.seconds.end());
    std::vector<double> shares;
    try {
      for (int i = 0; i < 5; ++i) {
        const auto answer = racer.process.ask(fmt::format("products {}", std::max(racer.steps / 2, 5)));
        shares.push_back(answer.at("products").get<double>() / answer.at("seconds").get<double>());
      }
    } catch (const std::runtime_error&) {  // it has no clock for them
    }
    contestants.push_back({{"name", racer.name},
                           {"info", racer.info},
                           {"deviation", racer.deviation},
                           {"steps", racer.steps},
                           {"seconds", seconds},
                           {"ratio", to_json(ratio(racer.seconds, racers.front().seconds))},
                           {"products", shares.empty() ? Json() : Json(quantile(shares, 0.5))},
                           {"memory", Json(racer.process.ask("memory"))},
                           {"rounds", racer.seconds},
                           {"wall", racer.wall}});
  }
  std::filesystem::remove(file);
  return {{"row", row.name},
          {"title", row.title},
          {"threads", threads},
          {"layers", row.problem.layers},
          {"batch", row.problem.batch},
          {"step", row.problem.step == Problem::Step::train ? "train" : "attack"},
          {"momentum", row.problem.momentum},
          {"contestants", contestants},
          {"left_out", left_out}};
}

}  // namespace armagrad::bench
