// Module: a model or a part of one. A struct with parameters and sub-modules as members, a list of their names, and a
// `forward`:
//
//   struct Mlp : ag::nn::Module<float> {
//     ag::nn::Linear<float> l1{784, 1024}, l2{1024, 10};
//     ARMAGRAD_MODULE(l1, l2)
//     ag::Var<float> forward(ag::Var<float> x) { return l2(relu(l1(x))); }
//   };
//
// Copying a module clones its parameters, moving it transfers them; what a member points to is not cloned but shared.
// Reading a module (its forward in eval mode) from
// several threads, each with a tape of its own, is safe; changing one is not.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

#include <armagrad/autodiff/autodiff.hpp>

namespace armagrad::nn {

class ModuleBase;

/// Walks the named members of a module. Members may be Parameters, modules, std::uint64_t counters (state that is
/// saved but not trained), and vectors, arrays, optionals and pointers of these; elements are named by their index.
class Visitor {
 public:
  virtual ~Visitor() = default;
  template <class T>
  void operator()(const std::string& name, T& member);
  /// The same for a list of members with their names separated by commas, as the macro makes it.
  template <class... T>
  void all([[maybe_unused]] std::string_view names, T&... members) {
    (operator()(next_name(names), members), ...);
  }

  virtual void parameter(const std::string&, Parameter<float>&) {}
  virtual void parameter(const std::string&, Parameter<double>&) {}
  virtual void module(const std::string&, ModuleBase&) {}
  virtual void state(const std::string&, std::uint64_t&) {}

 private:
  static std::string next_name(std::string_view& names);
};

/// What does not depend on the element type.
class ModuleBase {
 public:
  ModuleBase();
  ModuleBase(const ModuleBase& other);
  ModuleBase(ModuleBase&& other) noexcept;
  ModuleBase& operator=(const ModuleBase&) = default;
  ModuleBase& operator=(ModuleBase&&) noexcept = default;
  virtual ~ModuleBase();

  /// Names the members. ARMAGRAD_MODULE writes it; writing it by hand works too.
  virtual void visit(Visitor&) {}

  /// Training or evaluation: Dropout and the like behave differently. For all sub-modules, too.
  void train(bool on = true);
  void eval() { train(false); }
  bool training() const { return training_; }

  /// The class's name, for messages and summaries.
  std::string type_name() const;

 private:
  bool training_ = true;
};

template <class eT>
struct NamedParameter {
  std::string name;  // "l1.weight"
  Parameter<eT>* parameter;
};

/// Parameters as optimizers take them: they share ownership, so moving or growing a container of models breaks nothing.
template <class eT>
using ParameterList = std::vector<std::shared_ptr<armagrad::detail::ParameterStorage<eT>>>;

template <class eT>
class Module : public ModuleBase {
 public:
  using elem_type = eT;

  /// A module's own call operator comes from ARMAGRAD_MODULE; this one says that it is missing.
  template <class... Inputs>
  void operator()(Inputs&&...) {
    static_assert(
        armagrad::detail::never<Inputs...>,
        "this module has no call operator: write ARMAGRAD_MODULE(its members) in the public part of the class");
  }

  /// All parameters with their paths, in the order of the members; one that several members share comes once.
  /// Parameters take these paths as their names in messages.
  std::vector<NamedParameter<eT>> named_parameters();
  ParameterList<eT> parameters();
  std::size_t parameter_count();  // numbers, not matrices
  void zero_grad();
  /// false: frozen, backward computes no gradients for it.
  void set_trainable(bool trainable);
  void to(Device device);
  /// Where the parameters are; the CPU for a module without any.
  Device device();
};

namespace detail {

/// Tells the tape for its error messages and profiles that `module` is being called.
template <class eT>
class Call {
 public:
  Call(ModuleBase& module, Var<eT> input);
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;
  ~Call();
  void returned(Shape result);

 private:
  armagrad::detail::Graph<eT>& graph_;
};

template <class T>
inline constexpr bool is_list = false;
template <class T>
inline constexpr bool is_list<std::vector<T>> = true;
template <class T, std::size_t n>
inline constexpr bool is_list<std::array<T, n>> = true;
template <class T>
concept Nullable = requires(T& t) {
  *t;
  static_cast<bool>(t);
};

}  // namespace detail

/// Calls module.forward(first, others...), with `first` a Var, and notes the module's name for error messages.
template <class M, class eT, class... Inputs>
auto call(M& module, Var<eT> first, Inputs&&... others) {
  detail::Call<eT> scope(module, first);
  auto result = module.forward(first, std::forward<Inputs>(others)...);
  if constexpr (armagrad::detail::is_var<decltype(result)>) scope.returned(result.shape());
  return result;
}

template <class T>
void Visitor::operator()(const std::string& name, T& member) {
  if constexpr (std::is_base_of_v<ModuleBase, T>) {
    module(name, member);
  } else if constexpr (detail::is_list<T>) {
    for (std::size_t i = 0; i < member.size(); ++i) operator()(name + "." + std::to_string(i), member[i]);
  } else if constexpr (std::is_same_v<T, std::uint64_t>) {
    state(name, member);
  } else if constexpr (armagrad::detail::is_parameter<T>) {
    parameter(name, member);
  } else if constexpr (detail::Nullable<T>) {
    if (member) operator()(name, *member);
  } else {
    static_assert(
        armagrad::detail::never<T>,
        "ARMAGRAD_MODULE takes parameters, modules, std::uint64_t counters and vectors, arrays, optionals and "
        "pointers of these; leave other members out");
  }
}

/// Parameters and modules that a freshly made M(args...) holds but does not name, in words; empty when all are named.
/// For a test of your own module: BOOST_TEST(unnamed_members<Mlp>().empty()).
template <class M, class... Args>
std::vector<std::string> unnamed_members(Args&&... args);

/// A table of the modules called for an input of the given shape: name, type, output shape, parameters. The model is
/// run in evaluation mode.
template <class M>
std::string summary(M& model, Shape input);

namespace detail {

/// Watches what is constructed while it lives (in this thread).
class Census {
 public:
  Census();
  Census(const Census&) = delete;
  Census& operator=(const Census&) = delete;
  ~Census();
  std::vector<std::string> unnamed(ModuleBase& root) const;

 private:
  std::unique_ptr<struct CensusData> data_;
  std::unordered_set<const ModuleBase*>* outer_modules_;
  std::unordered_set<const void*>* outer_parameters_;
};

/// Evaluation mode while it lives.
class Evaluation {
 public:
  explicit Evaluation(ModuleBase& root);
  Evaluation(const Evaluation&) = delete;
  Evaluation& operator=(const Evaluation&) = delete;
  ~Evaluation();

 private:
  std::vector<std::pair<ModuleBase*, bool>> before_;  // whether it was training; outer modules first
};

/// Notes the module calls on a tape while it lives.
template <class eT>
class CallLog {
 public:
  explicit CallLog(Tape<eT>& tape);
  CallLog(const CallLog&) = delete;
  CallLog& operator=(const CallLog&) = delete;
  ~CallLog();
  std::string table(ModuleBase& root, Shape input) const;

 private:
  Tape<eT>& tape_;
  std::vector<armagrad::detail::CallRecord> calls_;
};

}  // namespace detail

template <class M, class... Args>
std::vector<std::string> unnamed_members(Args&&... args) {
  const detail::Census census;
  M model(std::forward<Args>(args)...);
  return census.unnamed(model);
}

template <class M>
std::string summary(M& model, Shape input) {
  using eT = typename M::elem_type;
  Tape<eT> tape(model.device());
  const auto guard = tape.no_grad();
  const detail::Evaluation evaluation(model);
  const detail::CallLog<eT> log(tape);
  model(tape.constant(arma::Mat<eT>(input.rows, input.cols)));
  return log.table(model, input);
}

}  // namespace armagrad::nn

/// Gives a module with a `forward` its call operator.
#define ARMAGRAD_CALL()                                                  \
  template <class... Inputs>                                             \
  auto operator()(Inputs&&... inputs) {                                  \
    return ::armagrad::nn::call(*this, std::forward<Inputs>(inputs)...); \
  }

/// Names a module's members and gives it its call operator. Stands in the public part of the class.
#define ARMAGRAD_MODULE(...)                                                                                         \
  void visit(::armagrad::nn::Visitor& visitor) override { visitor.all("" #__VA_ARGS__ __VA_OPT__(, ) __VA_ARGS__); } \
  ARMAGRAD_CALL()
