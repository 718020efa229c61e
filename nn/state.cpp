#include <functional>
#include <unordered_set>
#include <utility>
#include <variant>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <armagrad/autodiff/error.hpp>
#include <armagrad/nn/state.hpp>
#include <armagrad/nn/walk.hpp>

namespace armagrad::nn {
namespace {

/// What files hold of a module, in the order of its members; shared parameters once.
struct Slots : detail::Walk {
  using Slot = std::variant<Parameter<float>*, Parameter<double>*, std::uint64_t*>;
  std::vector<std::pair<std::string, Slot>> all;
  std::unordered_set<const void*> seen;

  explicit Slots(ModuleBase& root) { root.visit(*this); }
  void at(const std::string& path, Parameter<float>& p) override { parameter_at(path, p); }
  void at(const std::string& path, Parameter<double>& p) override { parameter_at(path, p); }
  void at(const std::string& path, std::uint64_t& counter) override { all.emplace_back(path, &counter); }
  void at(const std::string&, ModuleBase&) override {}

  template <class eT>
  void parameter_at(const std::string& path, Parameter<eT>& p) {
    if (seen.insert(p.shared().get()).second) all.emplace_back(path, &p);
  }
};

/// As messages write shapes: rows x columns where it is a matrix.
std::string shape_of(const Tensor& tensor) {
  const auto& s = tensor.shape;
  if (s.size() == 1) return fmt::format("{}x1", s[0]);
  return s.size() == 2 ? fmt::format("{}x{}", s[0], s[1]) : fmt::format("[{}]", fmt::join(s, ", "));
}

/// Checks arrays against a module and remembers what is to be assigned.
class Loading {
 public:
  Loading(const Tensors& tensors, const std::string& prefix) : tensors_(tensors), prefix_(prefix) {}

  template <class eT>
  void operator()(const std::string& path, Parameter<eT>* parameter) {
    const Tensor* tensor = take(path);
    if (tensor == nullptr) return problem("{} is missing", prefix_ + path);
    const bool single = std::holds_alternative<std::vector<float>>(tensor->values);
    if (!single && !std::holds_alternative<std::vector<double>>(tensor->values))
      return problem("{} holds integers, the module's is {}", prefix_ + path, name<eT>());
    if (!single && std::is_same_v<eT, float>)
      return problem("{} is double, the module's is float: save it in single precision", prefix_ + path);
    const auto& s = tensor->shape;
    const auto wanted = parameter->shared()->shape;
    if (s.size() > 2 || (s.empty() ? 1 : s[0]) != wanted.rows || (s.size() < 2 ? 1 : s[1]) != wanted.cols)
      return problem("{} is {}, the module's is {}", prefix_ + path, shape_of(*tensor), to_string(wanted));
    assign_.push_back([parameter, value = tensors_.matrix<eT>(prefix_ + path)] { parameter->set_value(value); });
  }

  void operator()(const std::string& path, std::uint64_t* counter) {
    const Tensor* tensor = take(path);
    if (tensor == nullptr) return;
    const auto* words = std::get_if<std::vector<std::uint64_t>>(&tensor->values);
    const auto* integers = std::get_if<std::vector<std::int64_t>>(&tensor->values);  // PyTorch's counters
    if (words != nullptr && words->size() == 1)
      assign_.push_back([counter, value = words->front()] { *counter = value; });
    else if (integers != nullptr && integers->size() == 1 && integers->front() >= 0)
      assign_.push_back([counter, value = integers->front()] { *counter = static_cast<std::uint64_t>(value); });
    else
      problem("{} is no single count", prefix_ + path);
  }

  void finish(const std::string& module) {
    for (const auto& [key, tensor] : tensors_.arrays)
      if (key.starts_with(prefix_) && !taken_.contains(&tensor)) problem("{} is not in the module", key);
    if (problems_.empty()) {
      for (const auto& assign : assign_) assign();
      return;
    }
    constexpr std::size_t shown = 8;
    std::string text = fmt::format("{} does not fit {}, and nothing was loaded:", tensors_.source, module);
    for (std::size_t i = 0; i < problems_.size() && i < shown; ++i) text += "\n  " + problems_[i];
    if (problems_.size() > shown) text += fmt::format("\n  and {} more", problems_.size() - shown);
    throw DataError(text);
  }

 private:
  template <class eT>
  static constexpr const char* name() {
    return std::is_same_v<eT, float> ? "float" : "double";
  }
  template <class... Args>
  void problem(fmt::format_string<Args...> text, Args&&... args) {
    problems_.push_back(fmt::format(text, std::forward<Args>(args)...));
  }
  const Tensor* take(const std::string& path) {
    const auto found = tensors_.arrays.find(prefix_ + path);
    if (found == tensors_.arrays.end()) return nullptr;
    taken_.insert(&found->second);
    return &found->second;
  }

  const Tensors& tensors_;
  const std::string& prefix_;
  std::unordered_set<const Tensor*> taken_;
  std::vector<std::string> problems_;
  std::vector<std::function<void()>> assign_;
};

Tensor tensor_of(const std::uint64_t* counter) { return Tensor(*counter); }
template <class eT>
Tensor tensor_of(const Parameter<eT>* p) {
  return p->is_vector() ? Tensor::vector(p->value()) : Tensor(p->value());
}

}  // namespace

Tensors state(ModuleBase& module, const std::string& prefix) {
  Tensors out;
  for (const auto& [path, slot] : Slots(module).all) {
    auto tensor = std::visit([](const auto* member) { return tensor_of(member); }, slot);
    if (!out.arrays.emplace(prefix + path, std::move(tensor)).second)
      throw StateError(fmt::format("state: two members of {} are called {}", module.type_name(), path));
  }
  return out;
}

void set_state(ModuleBase& module, const Tensors& tensors, const std::string& prefix) {
  Loading loading(tensors, prefix);
  for (const auto& [path, slot] : Slots(module).all) {
    const std::string& name = path;  // lambdas of C++20 in clang 14 capture no structured binding
    std::visit([&](auto* member) { loading(name, member); }, slot);
  }
  loading.finish(module.type_name());
}

void save(ModuleBase& module, const std::string& path, const std::map<std::string, std::string>& metadata) {
  Tensors tensors = state(module);
  tensors.metadata = metadata;
  write_safetensors(path, tensors);
}

std::map<std::string, std::string> load(ModuleBase& module, const std::string& path) {
  const Tensors tensors = read_safetensors(path);
  set_state(module, tensors);
  return tensors.metadata;
}

}  // namespace armagrad::nn
