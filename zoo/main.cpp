// The zoo's program: `zoo` runs every pipeline, `zoo regression`, `zoo digits` and `zoo robustness` one of them.
#include <atomic>
#include <csignal>
#include <filesystem>
#include <iostream>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <armagrad/autodiff/error.hpp>
#include <armagrad/autodiff/machine.hpp>

#include "zoo/digits.hpp"
#include "zoo/gp.hpp"
#include "zoo/machine.hpp"
#include "zoo/output.hpp"
#include "zoo/regression.hpp"
#include "zoo/robustness.hpp"

namespace zoo = armagrad::zoo;

namespace {

// Bad options, as against 1: something went wrong in the work.
constexpr int bad_usage = 2;
// As shells say it of a program that Ctrl-C ended.
constexpr int interrupted = 130;

std::atomic<bool> stop = false;
static_assert(std::atomic<bool>::is_always_lock_free, "a signal handler may touch lock-free atomics only");

// The first Ctrl-C ends the work in good order, the second at once.
extern "C" void stop_soon(int signal) {
  stop = true;
  std::signal(signal, SIG_DFL);
}

void print_machine() {
  const armagrad::Machine m = armagrad::machine();
  const armagrad::ProductRate r = armagrad::product_rate();
  std::cout << fmt::format("processor     {}\n", m.cpu) << fmt::format("BLAS          {}\n", m.blas)
            << fmt::format("oneDNN        {}\n", m.onednn.empty() ? "none; large float products go to BLAS" : m.onednn)
            << fmt::format("threads       {} for large products, 1 for small ones\n", m.threads)
            << fmt::format("own loops     {}\n", m.instructions);
  const auto rate = [](const char* what, double measured, double possible) {
    return fmt::format("{:<13} {:.0f} GF/s on one thread, {:.0f} % of the {:.0f} its instructions allow\n", what,
                       measured, 100 * measured / possible, possible);
  };
  std::cout << rate("float", r.float_measured, r.float_possible)
            << rate("double", r.double_measured, r.double_possible);
  if (!m.advice.empty()) std::cout << fmt::format("advice        {}\n", m.advice);
}

int run(int argc, char** argv) {
  CLI::App app("Reproduces published results with armagrad and writes a report. Without a pipeline: all of them.",
               "run");
  std::filesystem::path out = "out";
  zoo::DigitsOptions options;
  const auto add_out = [&out](CLI::App& to) {
    to.add_option("--out", out, "folder of the report")->capture_default_str()->type_name("DIR");
  };
  add_out(app);
  CLI::App* regression = app.add_subcommand("regression", "least squares: parabola, line, power law, basis functions");
  add_out(*regression);
  std::string regression_device = "cpu";
  regression->add_option("--device", regression_device, "where to compute: cpu or cuda")->capture_default_str();
  CLI::App* digits = app.add_subcommand("digits", "linear models and a small network on the 8x8 digits");
  add_out(*digits);
  digits->add_option("--model", options.models, "which of the models 1 to 8; several may be named")->type_name("N");
  digits->add_option("--seed", options.seed, "seed of the first run's weights")->capture_default_str();
  digits->add_option("--seeds", options.seeds, "runs per model; the report gives mean and range")
      ->capture_default_str();
  digits->add_option("--epochs", options.epochs, "at most so many epochs")->capture_default_str();
  digits->add_option("--lr", options.lr, "learning rate")->capture_default_str();
  digits->add_option("--batch", options.batch, "images per update, for all models [all or 64, by model]");
  digits->add_option("--device", options.device, "where to compute: cpu or cuda")->capture_default_str();
  digits->add_option("--jobs", options.jobs, "runs side by side [one per processor]")
      ->check(CLI::PositiveNumber.description(""));
  digits->add_flag("--resume", options.resume, "go on where the same command was interrupted (Ctrl-C)");
  CLI::App* gp = app.add_subcommand("gp", "a Gaussian process on the CO2 of Mauna Loa, fitted by Newton's method");
  add_out(*gp);
  zoo::RobustnessOptions attacks;
  CLI::App* robustness =
      app.add_subcommand("robustness", "attacks on a network for images of MNIST's format, and certificates");
  add_out(*robustness);
  robustness->add_option("--dataset", attacks.dataset, "mnist or fashion-mnist [the first that can be had]")
      ->type_name("NAME");
  robustness->add_option("--data-dir", attacks.data_dir, "where its files are")->type_name("DIR");
  robustness->add_option("--weights", attacks.weights, "a safetensors file [trained once, then kept in the cache]")
      ->type_name("FILE");
  robustness->add_option("--seed", attacks.seed, "seed of the training")->capture_default_str();
  robustness->add_option("--split", attacks.split, "attack these images: test or train")->capture_default_str();
  robustness->add_option("--judge", attacks.judge, "PGD succeeds if any iterate, or if the final one is misclassified")
      ->capture_default_str();
  robustness->add_option("--iterations", attacks.iterations, "of PGD")->capture_default_str();
  robustness->add_option("--images", attacks.images, "attack so many, from the first on [all]");
  robustness->add_option("--device", attacks.device, "where to compute: cpu or cuda")->capture_default_str();
  robustness->add_option("--threads", attacks.threads, "attacks side by side [one per processor]");
  robustness->add_flag("--resume", attacks.resume, "go on where the same command was interrupted (Ctrl-C)");
  CLI::App* info = app.add_subcommand("info", "what products run on here, and how fast they are");
  app.require_subcommand(0, 1);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : bad_usage;
  }

  if (info->parsed()) {
    print_machine();
    return 0;
  }
  const bool all = app.get_subcommands().empty();
  options.stopped = [] { return stop.load(); };
  attacks.stopped = options.stopped;
  if (all || digits->parsed()) options.checkpoints = out / "checkpoints";
  if (all || robustness->parsed()) attacks.checkpoints = out / "checkpoints";
  try {
    zoo::check(options);
    zoo::check(attacks);
    zoo::device_named("regression", regression_device);
    zoo::prepare_output(out);
    if (all || !regression->parsed()) zoo::prepare_output(out / "checkpoints");
  } catch (const armagrad::Error& e) {
    std::cerr << "zoo: " << e.what() << '\n';
    return bad_usage;
  }
  std::signal(SIGINT, stop_soon);
  std::signal(SIGTERM, stop_soon);
  const auto finish = [&out](const char* name, const zoo::Report& report) {
    report.write(out);
    std::cout << name << '\n' << report.summary();
  };
  if (all || regression->parsed())
    finish("regression", zoo::regression(zoo::device_named("regression", regression_device)));
  bool finished = true;
  if (all || digits->parsed()) {
    const auto result = zoo::digits(options);
    finished = result.finished;
    if (result.models > 0) finish("digits", result.report);  // else an earlier report stays as it is
    if (finished) zoo::remove_checkpoints(options);
  }
  if (finished && (all || gp->parsed())) finish("gp", zoo::gaussian_process());
  if (finished && (all || robustness->parsed())) {
    const auto result = zoo::robustness(attacks);
    finished = result.finished;
    if (finished) finish("robustness", result.report);  // else an earlier report stays as it is
  }
  if (!finished)
    std::cout << (all ? "Interrupted; name the pipeline, with --resume, to go on with it.\n"
                      : "Interrupted; the same command with --resume goes on.\n");
  const auto page = std::filesystem::absolute(out / "index.html").lexically_normal();
  if (std::filesystem::exists(page)) std::cout << "Report: " << page.string() << '\n';
  return finished ? 0 : interrupted;
}

}  // namespace

int main(int argc, char** argv) {
  armagrad::restart_with_fast_blas();
  try {
    return run(argc, argv);
  } catch (const armagrad::OptionError& e) {  // found when the options met the data or a checkpoint
    std::cerr << "zoo: " << e.what() << '\n';
    return bad_usage;
  } catch (const std::exception& e) {
    std::cerr << "zoo: " << e.what() << '\n';
    return 1;
  }
}
