#include <algorithm>
#include <cstdlib>
#include <typeinfo>
#include <unordered_set>
#include <utility>

#include <cxxabi.h>
#include <fmt/format.h>

#include <armagrad/autodiff/graph.hpp>
#include <armagrad/nn/module.hpp>
#include <armagrad/nn/walk.hpp>

namespace armagrad::nn {
namespace {

using detail::Walk;

// The modules alive that were made while a census lives.
thread_local std::unordered_set<const ModuleBase*>* module_census = nullptr;

// The path of `wanted` below `root`; empty when it is not named there.
std::string name_below(const ModuleBase& root, const void* wanted) {
  struct Find : Walk {
    const void* wanted;
    std::string found;
    void at(const std::string& path, ModuleBase& m) override {
      if (&m == wanted && found.empty()) found = path;
    }
  } find;
  find.wanted = wanted;
  const_cast<ModuleBase&>(root).visit(find);
  return find.found;
}

template <class eT>
std::vector<NamedParameter<eT>> collect(ModuleBase& root) {
  struct Collect : Walk {
    std::unordered_set<const void*> seen;
    std::vector<NamedParameter<eT>> found;
    void at(const std::string& path, Parameter<eT>& p) override {
      if (seen.insert(p.shared().get()).second) found.push_back({path, &p});
    }
  } all;
  root.visit(all);
  return std::move(all.found);
}

std::string module_path(const void* const* modules, std::size_t count) {
  std::string path = "model";
  for (std::size_t i = 1; i < count; ++i) {
    const std::string name = name_below(*static_cast<const ModuleBase*>(modules[i - 1]), modules[i]);
    path += "." + (name.empty() ? static_cast<const ModuleBase*>(modules[i])->type_name() : name);
  }
  return path;
}

}  // namespace

std::string Visitor::next_name(std::string_view& names) {
  const std::size_t first = names.find_first_not_of(" \t\n");
  const std::size_t comma = std::min(names.find(',', first), names.size());
  std::string_view name = names.substr(first, comma - first);
  name = name.substr(0, name.find_last_not_of(" \t\n") + 1);
  names.remove_prefix(std::min(comma + 1, names.size()));
  return std::string(name);
}

ModuleBase::ModuleBase() {
  if (module_census != nullptr) module_census->insert(this);
}
ModuleBase::ModuleBase(const ModuleBase& other) : ModuleBase() { training_ = other.training_; }
ModuleBase::ModuleBase(ModuleBase&& other) noexcept : ModuleBase() { training_ = other.training_; }
ModuleBase::~ModuleBase() {
  if (module_census != nullptr) module_census->erase(this);
}

void ModuleBase::train(bool on) {
  struct Set : Walk {
    bool on;
    void at(const std::string&, ModuleBase& m) override { m.training_ = on; }
  } set;
  set.on = on;
  training_ = on;
  visit(set);
}

std::string ModuleBase::type_name() const {
  int status = 0;
  const std::unique_ptr<char, void (*)(void*)> name(
      abi::__cxa_demangle(typeid(*this).name(), nullptr, nullptr, &status), std::free);
  std::string text = status == 0 ? name.get() : typeid(*this).name();
  // Without namespaces and template arguments: "Linear", not "armagrad::nn::Linear<float>".
  if (text.back() == '>') {
    std::size_t i = text.size(), depth = 0;
    do {
      --i;
      if (text[i] == '>') ++depth;
      if (text[i] == '<') --depth;
    } while (depth > 0 && i > 0);
    text.resize(i);
  }
  const std::size_t colon = text.rfind("::");
  return colon == std::string::npos ? text : text.substr(colon + 2);
}

template <class eT>
std::vector<NamedParameter<eT>> Module<eT>::named_parameters() {
  auto all = collect<eT>(*this);
  for (const auto& p : all) p.parameter->shared()->name = p.name;
  return all;
}

template <class eT>
ParameterList<eT> Module<eT>::parameters() {
  ParameterList<eT> out;
  for (const auto& p : named_parameters()) out.push_back(p.parameter->shared());
  return out;
}
template <class eT>
std::size_t Module<eT>::parameter_count() {
  std::size_t n = 0;
  for (const auto& p : collect<eT>(*this)) n += p.parameter->n_elem();
  return n;
}
template <class eT>
void Module<eT>::zero_grad() {
  for (const auto& p : collect<eT>(*this)) p.parameter->zero_grad();
}
template <class eT>
void Module<eT>::set_trainable(bool trainable) {
  for (const auto& p : collect<eT>(*this)) p.parameter->set_trainable(trainable);
}
template <class eT>
void Module<eT>::to(Device device) {
  for (const auto& p : collect<eT>(*this)) p.parameter->to(device);
}
template <class eT>
Device Module<eT>::device() {
  const auto all = collect<eT>(*this);
  return all.empty() ? Device::cpu() : all.front().parameter->device();
}

template class Module<float>;
template class Module<double>;

namespace detail {

template <class eT>
Call<eT>::Call(ModuleBase& module, Var<eT> input) : graph_(input.graph()) {
  graph_.enter_call(&module, &module_path);
}
template <class eT>
Call<eT>::~Call() {
  graph_.leave_call();
}
template <class eT>
void Call<eT>::returned(Shape result) {
  graph_.log_result(result);
}
template class Call<float>;
template class Call<double>;

struct CensusData {
  std::unordered_set<const ModuleBase*> modules;
  std::unordered_set<const void*> parameters;
};

Census::Census() : data_(std::make_unique<CensusData>()) {
  outer_modules_ = std::exchange(module_census, &data_->modules);
  outer_parameters_ = std::exchange(armagrad::detail::parameter_census, &data_->parameters);
}
Census::~Census() {
  module_census = outer_modules_;
  armagrad::detail::parameter_census = outer_parameters_;
}

std::vector<std::string> Census::unnamed(ModuleBase& root) const {
  struct Strike : Walk {
    CensusData left;
    void at(const std::string&, Parameter<float>& p) override { left.parameters.erase(p.shared().get()); }
    void at(const std::string&, Parameter<double>& p) override { left.parameters.erase(p.shared().get()); }
    void at(const std::string&, ModuleBase& m) override { left.modules.erase(&m); }
  } strike;
  strike.left = *data_;
  strike.left.modules.erase(&root);
  root.visit(strike);
  // What an unnamed module holds is covered by its line.
  const auto unnamed_modules = strike.left.modules;
  for (const ModuleBase* m : unnamed_modules) const_cast<ModuleBase*>(m)->visit(strike);
  std::vector<std::string> out;
  for (const ModuleBase* m : strike.left.modules)
    out.push_back(fmt::format("{} holds a {} that is not named in ARMAGRAD_MODULE", root.type_name(), m->type_name()));
  if (!strike.left.parameters.empty())
    out.push_back(fmt::format("{} holds {} parameter(s) that are not named in ARMAGRAD_MODULE", root.type_name(),
                              strike.left.parameters.size()));
  std::sort(out.begin(), out.end());
  return out;
}

Evaluation::Evaluation(ModuleBase& root) {
  struct Remember : Walk {
    std::vector<std::pair<ModuleBase*, bool>> modes;
    void at(const std::string&, ModuleBase& m) override { modes.emplace_back(&m, m.training()); }
  } remember;
  remember.modes.emplace_back(&root, root.training());
  root.visit(remember);
  before_ = std::move(remember.modes);
  root.eval();
}
Evaluation::~Evaluation() {
  for (const auto& [module, training] : before_) module->train(training);  // parts after the whole
}

template <class eT>
CallLog<eT>::CallLog(Tape<eT>& tape) : tape_(tape) {
  tape_.graph().log_calls(&calls_);
}
template <class eT>
CallLog<eT>::~CallLog() {
  tape_.graph().log_calls(nullptr);
}

template <class eT>
std::string CallLog<eT>::table(ModuleBase& root, Shape input) const {
  struct Line {
    std::string name, type, output, parameters;
  };
  std::vector<Line> lines{{"layer", "type", "output", "parameters"}};
  lines.push_back({"(input)", "", to_string(input), ""});
  for (const auto& call : calls_) {
    auto& m = const_cast<Module<eT>&>(static_cast<const Module<eT>&>(*static_cast<const ModuleBase*>(call.module)));
    std::string name = name_below(root, &m);
    if (&m == &root) name = "(all)";
    lines.push_back(
        {name.empty() ? "?" : name, m.type_name(), to_string(call.output), std::to_string(m.parameter_count())});
  }
  std::size_t name = 0, type = 0, output = 0, parameters = 0;
  for (const Line& l : lines) {
    name = std::max(name, l.name.size());
    type = std::max(type, l.type.size());
    output = std::max(output, l.output.size());
    parameters = std::max(parameters, l.parameters.size());
  }
  std::string out;
  for (const Line& l : lines)
    out += fmt::format("{:<{}}  {:<{}}  {:>{}}  {:>{}}\n", l.name, name, l.type, type, l.output, output, l.parameters,
                       parameters);
  return out;
}
template class CallLog<float>;
template class CallLog<double>;

}  // namespace detail
}  // namespace armagrad::nn
