#include "zoo/digits.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <exception>
#include <iostream>
#include <mutex>
#include <system_error>
#include <thread>

#include <fmt/format.h>

#include "zoo/digits_report.hpp"
#include "zoo/digits_run.hpp"
#include "zoo/machine.hpp"

namespace armagrad::zoo {
namespace fs = std::filesystem;
namespace {

std::vector<int> chosen_models(const DigitsOptions& options) {
  std::vector<int> numbers = options.models;
  if (numbers.empty())
    for (const DigitsModel& model : digits_models()) numbers.push_back(model.number);
  std::sort(numbers.begin(), numbers.end());
  numbers.erase(std::unique(numbers.begin(), numbers.end()), numbers.end());
  return numbers;
}

// All runs, those of the longest models first: side by side, they then end at about the same time.
std::vector<RunOptions> plan(const DigitsOptions& options, const Digits& digits) {
  constexpr int longest_first[] = {7, 6, 5, 1, 8, 3, 4, 2};
  const auto chosen = chosen_models(options);
  const auto all = static_cast<long>(digits.train.x.n_cols);
  std::vector<RunOptions> runs;
  for (const int number : longest_first) {
    if (!std::binary_search(chosen.begin(), chosen.end(), number)) continue;
    const long published = digits_models()[static_cast<std::size_t>(number - 1)].mini_batch ? 64 : all;
    for (int s = 0; s < options.seeds; ++s)
      runs.push_back({.model = number,
                      .seed = options.seed + static_cast<std::uint64_t>(s),
                      .epochs = options.epochs,
                      .lr = options.lr,
                      .batch = std::min(options.batch.value_or(published), all),
                      .device = options.device});
  }
  return runs;
}

fs::path checkpoint(const DigitsOptions& options, const RunOptions& run) {
  return options.checkpoints / fmt::format("digits-model{}-seed{}.safetensors", run.model, run.seed);
}

// The checkpoints that are there for these runs.
std::vector<std::pair<RunOptions, fs::path>> checkpoints(const DigitsOptions& options, const Digits& digits) {
  std::vector<std::pair<RunOptions, fs::path>> found;
  if (options.checkpoints.empty()) return found;
  for (const RunOptions& run : plan(options, digits)) {
    std::error_code none;
    if (const auto file = checkpoint(options, run); fs::exists(file, none)) found.emplace_back(run, file);
  }
  return found;
}

int side_by_side(const DigitsOptions& options, std::size_t runs) {
  const int processors = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  const int wanted = options.device == "cuda" ? 1 : options.jobs > 0 ? options.jobs : processors;
  return std::min(wanted, static_cast<int>(runs));
}

FinishedRun evaluate(const RunInTraining& run, const Digits& digits) {
  Training& training = run.training();
  FinishedRun out{run.run(), 0, 0, training.scores(digits.test.x), training.weights()};
  out.train = ag::nn::accuracy(training.scores(digits.train.x), digits.train.y);
  out.test = ag::nn::accuracy(out.test_scores, digits.test.y);
  return out;
}

}  // namespace

void check(const DigitsOptions& o) {
  const auto require = [](bool holds, const std::string& text) {
    if (!holds) throw OptionError("digits: " + text);
  };
  const auto count = static_cast<int>(digits_models().size());
  for (const int m : o.models)
    require(m >= 1 && m <= count, fmt::format("there is no model {}; the models are 1 to {}", m, count));
  require(o.seeds >= 1, fmt::format("--seeds is {}; it must be at least 1", o.seeds));
  require(o.epochs >= 1, fmt::format("--epochs is {}; it must be at least 1", o.epochs));
  require(o.lr > 0 && std::isfinite(o.lr), fmt::format("--lr is {}; it must be a positive number", o.lr));
  if (o.batch) require(*o.batch >= 1, fmt::format("--batch is {}; it must be at least 1", *o.batch));
  require(o.jobs >= 0, fmt::format("--jobs is {}; it must be at least 1", o.jobs));
  device_named("digits", o.device);
  if (!o.resume) return;
  const Digits digits = load_digits();
  const auto found = checkpoints(o, digits);
  require(!found.empty(), fmt::format("--resume: there is no checkpoint of these runs in {}; leave --resume out",
                                      o.checkpoints.empty() ? "no folder" : o.checkpoints.string()));
  for (const auto& [run, file] : found) RunInTraining(run, digits).restore(file);
}

DigitsResult digits(const DigitsOptions& options) {
  check(options);
  const Digits digits = load_digits();
  if (!options.resume) {
    const auto old = checkpoints(options, digits);
    if (!old.empty())
      std::cerr << "digits: an earlier run stopped half-way; it starts anew (--resume would have gone on)\n";
    for (const auto& [run, file] : old) fs::remove(file);
  }

  const auto runs = plan(options, digits);
  std::vector<std::optional<FinishedRun>> finished(runs.size());
  std::atomic<std::size_t> next = 0;
  std::atomic<bool> failed = false;
  std::exception_ptr error;
  std::mutex writing_error;
  const auto stopped = [&] { return failed || (options.stopped && options.stopped()); };

  const auto train = [&](const RunOptions& run_options, std::optional<FinishedRun>& result) {
    const auto file = options.checkpoints.empty() ? fs::path() : checkpoint(options, run_options);
    RunInTraining run(run_options, digits);
    std::error_code none;
    if (options.resume && !file.empty() && fs::exists(file, none)) run.restore(file);
    const auto title = fmt::format("model {}", run_options.model) +
                       (options.seeds > 1 ? fmt::format(" seed {}", run_options.seed) : "");
    Progress progress(title, run_options.epochs, {.first = run.run().epochs});
    run.train(progress, stopped, options.checkpoint_seconds, [&](const RunInTraining& r) {
      if (!file.empty()) r.save(file);
    });
    if (!run.run().finished) {
      progress.finish(fmt::format("stopped after {} epochs", run.run().epochs));
      return;
    }
    result = evaluate(run, digits);
    progress.finish(fmt::format("{} epochs, {}, train {}, test {}", run.run().epochs, duration(run.run().seconds),
                                percent(result->train), percent(result->test)));
  };
  const auto work = [&] {
    for (std::size_t i = next++; i < runs.size() && !stopped(); i = next++) {
      try {
        train(runs[i], finished[i]);
      } catch (const ValueError& e) {
        const std::lock_guard lock(writing_error);
        error = std::make_exception_ptr(
            ValueError(fmt::format("digits: model {}, seed {}: {}", runs[i].model, runs[i].seed, e.what())));
        failed = true;
      } catch (...) {
        const std::lock_guard lock(writing_error);
        error = std::current_exception();
        failed = true;
      }
    }
  };
  const Clock clock;
  const int jobs = side_by_side(options, runs.size());
  {
    std::vector<std::jthread> threads;
    for (int j = 1; j < jobs; ++j) threads.emplace_back(work);
    work();
  }
  if (error) std::rethrow_exception(error);

  // By model; a model whose runs are not all done is left out.
  std::vector<ModelRuns> done;
  for (const int number : chosen_models(options)) {
    ModelRuns model{digits_models()[static_cast<std::size_t>(number - 1)], {}};
    for (std::size_t i = 0; i < runs.size(); ++i)
      if (runs[i].model == number && finished[i]) model.runs.push_back(*finished[i]);
    if (model.runs.size() == static_cast<std::size_t>(options.seeds)) done.push_back(std::move(model));
  }
  const bool all = std::all_of(finished.begin(), finished.end(), [](const auto& run) { return run.has_value(); });
  return {digits_report(options, digits, done, {.seconds = clock.seconds(), .jobs = jobs, .finished = all}),
          done.size(), all};
}

void remove_checkpoints(const DigitsOptions& options) {
  std::error_code ignored;
  for (const auto& [run, file] : checkpoints(options, load_digits())) fs::remove(file, ignored);
  fs::remove(options.checkpoints, ignored);  // where nothing else is in it
}

}  // namespace armagrad::zoo
