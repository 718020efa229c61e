#include "bench/cost.hpp"

#include <chrono>
#include <fstream>
#include <stdexcept>

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <spawn.h>
#include <sys/wait.h>

#include <armagrad/armagrad.hpp>

#include "bench/contestant.hpp"
#include "bench/statistics.hpp"

extern char** environ;  // NOLINT(readability-redundant-declaration): POSIX leaves the declaration to the program

namespace armagrad::bench {
namespace {

using Clock = std::chrono::steady_clock;

double since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

// A chain y = f(f(...f(x))) of n nodes on 1x1 matrices, forward and backward.
template <class F>
Json chain(int n, F f) {
  const double before = memory_of_this_process("VmRSS");
  Tape<float> tape;
  std::vector<double> record, backward;
  double first = 0, bytes = 0;
  const int repetitions = std::max(5, 1'000'000 / n);
  for (int i = 0; i < repetitions; ++i) {
    const auto begin = Clock::now();
    tape.rewind();
    const Var<float> x = tape.variable(arma::fmat{0.5F});
    Var<float> y = x;
    for (int k = 0; k < n; ++k) y = f(y, x);
    const double recorded = since(begin);
    if (i == 0) bytes = memory_of_this_process("VmRSS") - before;
    const auto turn = Clock::now();
    y.backward();
    const double back = since(turn);
    if (i == 0) {
      first = recorded + back;
    } else {
      record.push_back(recorded / n);
      backward.push_back(back / n);
    }
  }
  return {{"nodes", n},
          {"record", quantile(record, 0.5)},
          {"backward", quantile(backward, 0.5)},
          {"first", first},
          {"bytes", bytes / n}};
}

Json nodes() {
  Json operations = Json::array();
  const auto measure = [&operations](const char* name, auto f) {
    Json chains = Json::array();
    for (int n = 10; n <= 1'000'000; n *= 10) chains.push_back(chain(n, f));
    operations.push_back({{"name", name}, {"chains", chains}});
  };
  measure("y + x", [](Var<float> y, Var<float> x) { return y + x; });
  measure("-y", [](Var<float> y, Var<float>) { return -y; });
  measure("tanh(y)", [](Var<float> y, Var<float>) { return tanh(y); });
  return {{"operations", operations}};
}

// Bytes the tape holds after steps of training, beside what the step's results take: each layer's output once.
Json memory() {
  Json steps = Json::array();
  for (const Row& row : rows()) {
    const Problem& p = row.problem;
    if (p.step != Problem::Step::train || p.momentum != 0) continue;
    std::vector<nn::Linear<float>> layers;
    std::vector<Parameter<float>*> parameters;
    for (std::size_t l = 0; l < p.depth(); ++l) layers.emplace_back(p.layers[l], p.layers[l + 1]);
    for (auto& layer : layers) parameters.insert(parameters.end(), {&layer.weight, &layer.bias});
    const arma::fmat x(p.layers.front(), p.batch, arma::fill::ones);
    const arma::Row<std::size_t> labels(p.batch, arma::fill::zeros);
    Tape<float> tape;
    for (int i = 0; i < 3; ++i) {
      tape.rewind();
      Var<float> h = tape.borrow(x);
      for (std::size_t l = 0; l + 1 < layers.size(); ++l) h = affine_relu(layers[l].weight, h, layers[l].bias);
      for (auto* parameter : parameters) parameter->zero_grad();
      nn::cross_entropy(layers.back()(h), labels).backward();
    }
    std::size_t activations = 0;
    for (std::size_t l = 0; l < p.depth(); ++l) activations += p.layers[l + 1] * p.batch * sizeof(float);
    steps.push_back({{"row", row.name},
                     {"activations", activations},
                     {"tape", tape.capacity()},
                     {"ratio", static_cast<double>(tape.capacity()) / static_cast<double>(activations)}});
  }
  return {{"steps", steps}};
}

// Seconds from the start of a command to its end. Its output goes nowhere.
double run(std::vector<std::string> command) {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
  std::vector<char*> words;
  for (auto& word : command) words.push_back(word.data());
  words.push_back(nullptr);
  pid_t process = 0;
  int status = 0;
  const auto begin = Clock::now();
  const int failed = posix_spawnp(&process, words[0], &actions, nullptr, words.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (failed == 0)
    while (waitpid(process, &status, 0) < 0) {
    }
  const double seconds = since(begin);
  if (failed != 0 || status != 0) throw std::runtime_error(fmt::format("'{}' does not run", fmt::join(command, " ")));
  return seconds;
}

Json to_json(const Spread& s) { return {{"median", s.median}, {"low", s.low}, {"high", s.high}}; }

Json startup(const CostOptions& options) {
  std::vector<double> zoo, nothing;
  for (int i = 0; i < 40; ++i) {
    zoo.push_back(run({options.zoo, "--help"}));
    nothing.push_back(run({"/bin/true"}));
  }
  return {{"zoo", to_json(spread(zoo))}, {"nothing", to_json(spread(nothing))}};
}

Json compile(const CostOptions& options) {
  struct File {
    const char *name, *text;
    std::vector<double> seconds{};
  };
  std::vector<File> files{
      {"<armadillo>", "#include <armadillo>\n"},
      {"<armagrad/fwd.hpp>", "#include <armagrad/autodiff/fwd.hpp>\n"},
      {"<armagrad/autodiff/autodiff.hpp>", "#include <armagrad/autodiff/autodiff.hpp>\n"},
      {"<armagrad/armagrad.hpp>", "#include <armagrad/armagrad.hpp>\n"},
  };
  const auto source = (options.folder / "include_only.cpp").string(),
             object = (options.folder / "include_only.o").string();
  for (int round = 0; round < 5; ++round) {
    for (File& file : files) {
      std::ofstream(source) << file.text << "int main() {}\n";
      file.seconds.push_back(
          run({ARMAGRAD_COMPILER, "-std=c++20", "-O2", "-I", ARMAGRAD_INCLUDE, "-c", source, "-o", object}));
    }
  }
  Json out = Json::array();
  for (const File& file : files)
    out.push_back({{"name", file.name},
                   {"seconds", to_json(spread(file.seconds))},
                   {"ratio", to_json(ratio(file.seconds, files.front().seconds))}});
  std::filesystem::remove(source);
  std::filesystem::remove(object);
  return {{"compiler", ARMAGRAD_COMPILER_NAME}, {"files", out}};
}

}  // namespace

std::vector<std::string> cost_names() { return {"nodes", "memory", "startup", "compile"}; }

Json cost(const std::string& name, const CostOptions& options) {
  if (name == "nodes") return nodes();
  if (name == "memory") return memory();
  if (name == "startup") return startup(options);
  return compile(options);
}

}  // namespace armagrad::bench
