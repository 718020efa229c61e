// The zoo's program: `zoo` runs every pipeline, `zoo regression` and `zoo digits` one of them.
#include <filesystem>
#include <iostream>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <armagrad/autodiff/error.hpp>

#include "zoo/digits.hpp"
#include "zoo/gp.hpp"
#include "zoo/output.hpp"
#include "zoo/regression.hpp"

namespace zoo = armagrad::zoo;

namespace {

// Bad input, as against 1: something went wrong in the work.
constexpr int bad_usage = 2;

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
  CLI::App* digits = app.add_subcommand("digits", "linear models and a small network on the 8x8 digits");
  add_out(*digits);
  digits->add_option("--model", options.models,
                     fmt::format("which models; of {}", fmt::join(zoo::digits_models(), ", ")));
  digits->add_option("--seed", options.seed, "seed of the first run's weights")->capture_default_str();
  digits->add_option("--seeds", options.seeds, "runs per model; the report gives mean and range")
      ->capture_default_str();
  digits->add_option("--epochs", options.epochs, "at most so many epochs")->capture_default_str();
  digits->add_option("--lr", options.lr, "learning rate")->capture_default_str();
  CLI::App* gp = app.add_subcommand("gp", "a Gaussian process on the CO2 of Mauna Loa, fitted by Newton's method");
  add_out(*gp);
  app.require_subcommand(0, 1);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : bad_usage;
  }

  const bool all = app.get_subcommands().empty();
  try {
    zoo::check(options);
    zoo::prepare_output(out);
  } catch (const armagrad::OptionError& e) {
    std::cerr << "zoo: " << e.what() << '\n';
    return bad_usage;
  }
  const auto finish = [&out](const char* name, const zoo::Report& report) {
    report.write(out);
    std::cout << name << '\n' << report.summary();
  };
  if (all || regression->parsed()) finish("regression", zoo::regression());
  if (all || digits->parsed()) finish("digits", zoo::digits(options));
  if (all || gp->parsed()) finish("gp", zoo::gaussian_process());
  std::cout << "Report: " << std::filesystem::absolute(out / "index.html").lexically_normal().string() << '\n';
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& e) {
    std::cerr << "zoo: " << e.what() << '\n';
    return 1;
  }
}
