#include "zoo/robustness_curve.hpp"

#include <iostream>
#include <system_error>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <armagrad/autodiff/error.hpp>
#include <armagrad/nn/state.hpp>

#include "zoo/format.hpp"
#include "zoo/progress.hpp"

namespace armagrad::zoo {
namespace {

namespace fs = std::filesystem;

/// What is known of one image at one epsilon, in a word: known, success, zero gradient, passes.
using Words = std::vector<std::uint64_t>;
std::uint64_t word_of(const robust::Finished& f) {
  return 1 | std::uint64_t{f.success} << 1 | std::uint64_t{f.zero_gradient} << 2 | std::uint64_t{f.passes} << 3;
}

/// All that a result depends on.
std::string identity(ImageModel& model, const CurveJob& job) {
  const auto& a = job.attack;
  std::uint64_t data = job.images->x.n_cols;
  for (arma::uword i = 0; i < job.images->x.n_elem; i += 97)
    data = data * 0x9e3779b97f4a7c15 + static_cast<std::uint64_t>(job.images->x[i] * 255);
  return fmt::format("model {:016x}, images {:016x}, epsilons {}, step {}, iterations {}, restarts {}, {}, {}",
                     fingerprint(model), data, fmt::join(job.epsilons, " "), a.step.value_or(0), a.iterations,
                     a.restarts, a.judge == robust::Judge::any_iterate ? "any iterate" : "final iterate",
                     a.clip ? fmt::format("clipped to [{}, {}]", a.clip->low, a.clip->high) : "not clipped");
}

Words read(const fs::path& path, const std::string& expected, std::size_t count) {
  const nn::Tensors file = nn::read_safetensors(path.string());
  const auto found = file.metadata.find("attack");
  if (found == file.metadata.end())
    throw DataError(
        fmt::format("{}: this is no checkpoint of an attack; remove it or resume with another --out.", path.string()));
  if (found->second != expected)
    throw OptionError(
        fmt::format("{}: this checkpoint is of another run ({}; now {}); resume with its options, or start "
                    "anew without --resume.",
                    path.string(), found->second, expected));
  Words words = file.words("finished");
  if (words.size() != count)
    throw DataError(fmt::format("{}: it has {} results, not {}; the checkpoint is damaged, remove it.", path.string(),
                                words.size(), count));
  return words;
}

// What an earlier run of this job has found, or nothing yet.
Words known(const CurveJob& job, const std::string& attack) {
  const std::size_t count = job.epsilons.size() * job.images->x.n_cols;
  std::error_code none;
  if (job.checkpoint.empty() || !job.resume || !fs::exists(job.checkpoint, none)) return Words(count, 0);
  return read(job.checkpoint, attack, count);
}

}  // namespace

void check_checkpoint(ImageModel& model, const CurveJob& job) {
  if (!job.resume || job.checkpoint.empty()) return;
  std::error_code none;
  if (fs::exists(job.checkpoint, none))
    known(job, identity(model, job));
  else
    std::cerr << fmt::format("{}: nothing to resume, {} is not there; it starts anew\n", job.title,
                             job.checkpoint.string());
}

robust::AttackCurve attack_curve(ImageModel& model, const CurveJob& job) {
  const arma::uword images = job.images->x.n_cols;
  const std::size_t budgets = job.epsilons.size();
  const std::string attack = job.checkpoint.empty() ? "" : identity(model, job);
  Words words = known(job, attack);
  const auto save = [&] {
    if (job.checkpoint.empty()) return;
    nn::Tensors file;
    file.arrays.emplace("finished", nn::Tensor(words));
    file.metadata["attack"] = attack;
    nn::write_safetensors(job.checkpoint.string(), file);
  };
  long done = 0;
  for (const std::uint64_t w : words) done += w & 1;
  if (done > 0) std::cerr << fmt::format("{}: {} of {} results are there already\n", job.title, done, words.size());

  Progress progress(job.title, static_cast<long>(words.size()), {.every = 0});
  const Clock clock;
  double saved = 0;
  robust::PgdOptions<float> options = job.attack;
  options.known = [&](arma::uword image, std::size_t budget) -> std::optional<bool> {
    const std::uint64_t w = words[budget * images + image];
    if ((w & 1) == 0) return std::nullopt;
    return (w >> 1 & 1) != 0;
  };
  options.on_finished = [&](const robust::Finished& f) {
    words[f.budget * images + f.example] = word_of(f);
    progress.update(++done, "attacks");
    if (job.stopped && job.stopped()) throw Interrupted();
    if (clock.seconds() - saved < job.checkpoint_seconds) return;
    save();
    saved = clock.seconds();
  };
  robust::AttackCurve curve;
  try {
    curve = robust::pgd_curve(model, job.images->x, job.images->y, job.epsilons, options);
  } catch (const Interrupted&) {
    save();
    throw;
  }
  // Those of earlier runs count as well.
  curve.zero_gradients.assign(budgets, 0);
  curve.passes.assign(budgets, 0);
  for (std::size_t b = 0; b < budgets; ++b)
    for (arma::uword i = 0; i < images; ++i) {
      const std::uint64_t w = words[b * images + i];
      curve.zero_gradients[b] += w >> 2 & 1;
      curve.passes[b] += w >> 3;
    }
  progress.finish(duration(progress.elapsed()));
  return curve;
}

void remove_checkpoint(const CurveJob& job) {
  std::error_code none;
  if (!job.checkpoint.empty()) fs::remove(job.checkpoint, none);
}

}  // namespace armagrad::zoo
