#include "zoo/digits_run.hpp"

#include <charconv>
#include <cmath>

#include <fmt/format.h>

#include "zoo/machine.hpp"

namespace armagrad::zoo {
namespace {

constexpr auto format = "armagrad digits run, version 1";

// Numbers in files: shortest text that reads back to the same bits.
template <class T>
std::string text(T value) {
  return fmt::format("{}", value);
}

template <class T>
T number(const ag::nn::Tensors& file, const std::string& name) {
  const auto at = file.metadata.find(name);
  T value{};
  if (at != file.metadata.end()) {
    const char* end = at->second.data() + at->second.size();
    const auto [stop, error] = std::from_chars(at->second.data(), end, value);
    if (error == std::errc() && stop == end) return value;
  }
  throw DataError(fmt::format("{}: its '{}' is missing or no number; this is no checkpoint of the digits pipeline.",
                              file.source, name));
}

void require_same(const std::string& source, const char* option, const std::string& there, const std::string& here) {
  if (there == here) return;
  throw DataError(
      fmt::format("{}: this checkpoint is of a run with {} {}, not {}; resume with the options of the "
                  "interrupted run, or leave --resume out to start anew.",
                  source, option, there, here));
}

std::vector<double> column(const ag::nn::Tensors& file, const std::string& name) {
  const arma::mat values = file.matrix<double>(name);
  return {values.begin(), values.end()};
}

}  // namespace

RunInTraining::RunInTraining(const RunOptions& options, const Digits& digits) {
  run_.options = options;
  ag::nn::seed(options.seed);
  const auto& model = digits_models().at(static_cast<std::size_t>(options.model - 1));
  training_ = model.make(digits, {.lr = options.lr,
                                  .batch = static_cast<arma::uword>(options.batch),
                                  .device = device_named("digits", options.device)});
}

void RunInTraining::train(Progress& progress, const std::function<bool()>& stopped, double save_every,
                          const std::function<void(const RunInTraining&)>& save) {
  const double before = run_.seconds;
  double saved = 0;
  for (bool stop = run_.finished; !stop;) {
    // [loop]
    const double loss = training_->epoch();
    if (run_.epochs % 100 == 0) {
      run_.logged_epochs.push_back(static_cast<double>(run_.epochs));
      run_.logged_losses.push_back(loss);
    }
    progress.update(run_.epochs, loss);
    ++run_.epochs;
    run_.finished = std::abs(run_.loss - loss) <= 1e-6 || run_.epochs == run_.options.epochs;
    run_.loss = loss;
    // [/loop]
    const double now = progress.elapsed();
    run_.seconds = before + now;
    stop = stopped() || run_.finished;
    if (stop || now - saved >= save_every) {
      save(*this);
      saved = progress.elapsed();
    }
  }
}

void RunInTraining::save(const std::filesystem::path& file) const {
  ag::nn::Tensors out;
  for (auto& [name, array] : training_->state().arrays) out.arrays.emplace("model." + name, array);
  out.arrays.emplace("random", ag::nn::Tensor(ag::nn::default_generator().state()));
  out.arrays.emplace("logged_epochs", ag::nn::Tensor::vector(arma::mat(arma::vec(run_.logged_epochs))));
  out.arrays.emplace("logged_losses", ag::nn::Tensor::vector(arma::mat(arma::vec(run_.logged_losses))));
  const RunOptions& o = run_.options;
  out.metadata = {{"format", format},
                  {"model", text(o.model)},
                  {"seed", text(o.seed)},
                  {"max_epochs", text(o.epochs)},
                  {"lr", text(o.lr)},
                  {"batch", text(o.batch)},
                  {"device", o.device},
                  {"epochs", text(run_.epochs)},
                  {"loss", text(run_.loss)},
                  {"finished", text(run_.finished ? 1 : 0)},
                  {"seconds", text(run_.seconds)}};
  ag::nn::write_safetensors(file.string(), out);
}

void RunInTraining::restore(const std::filesystem::path& path) {
  const auto file = ag::nn::read_safetensors(path.string());
  const auto kind = file.metadata.find("format");
  if (kind == file.metadata.end() || kind->second != format)
    throw DataError(fmt::format("{}: this is no checkpoint of the digits pipeline.", file.source));
  const RunOptions& o = run_.options;
  const auto require = [&](const char* option, auto there, auto here) {
    require_same(file.source, option, text(there), text(here));
  };
  require("--model", number<int>(file, "model"), o.model);
  require("--seed", number<std::uint64_t>(file, "seed"), o.seed);
  require("--epochs", number<long>(file, "max_epochs"), o.epochs);
  require("--lr", number<double>(file, "lr"), o.lr);
  require("--batch", number<long>(file, "batch"), o.batch);
  const auto device = file.metadata.find("device");
  require_same(file.source, "--device", device == file.metadata.end() ? "none" : device->second, o.device);

  Run run{.options = o};
  run.epochs = number<long>(file, "epochs");
  run.loss = number<double>(file, "loss");
  run.finished = number<int>(file, "finished") != 0;
  run.seconds = number<double>(file, "seconds");
  run.logged_epochs = column(file, "logged_epochs");
  run.logged_losses = column(file, "logged_losses");
  if (run.epochs < 1 || run.logged_epochs.size() != static_cast<std::size_t>((run.epochs + 99) / 100) ||
      run.logged_losses.size() != run.logged_epochs.size())
    throw DataError(fmt::format("{}: after {} epochs it has {} logged losses; the checkpoint is damaged.", file.source,
                                run.epochs, run.logged_losses.size()));
  ag::nn::Tensors model;
  model.source = file.source;
  for (const auto& [name, array] : file.arrays)
    if (name.starts_with("model.")) model.arrays.emplace(name.substr(6), array);
  ag::nn::default_generator().set_state(file.words("random"));
  training_->set_state(model);
  run_ = run;
}

}  // namespace armagrad::zoo
