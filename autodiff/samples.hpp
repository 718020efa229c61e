// What an operation brings along to be tested with. tests/operations_test.cpp walks every listed operation's samples
// through values, gradients, gradients of gradients, shapes, error texts, element types and devices.
#pragma once

#include <functional>
#include <random>
#include <string>
#include <vector>

#include <armagrad/autodiff/armadillo.hpp>
#include <armagrad/autodiff/var.hpp>

namespace armagrad {

struct Sample {
  std::vector<arma::mat> inputs;
  std::function<Var<float>(const std::vector<Var<float>>&)> in_float;
  std::function<Var<double>(const std::vector<Var<double>>&)> in_double;
  std::function<arma::mat(const std::vector<arma::mat>&)> reference;  // plain Armadillo, in double
  std::string error;           // not empty: the sample must throw, with a message that contains this
  bool check_gradient = true;  // false: inputs too large for finite differences
};

/// Collects one operation's samples.
class Samples {
 public:
  explicit Samples(std::uint64_t seed) : engine_(seed) {}

  /// `f` gets the inputs as a vector of Vars; `reference` gets them as a vector of arma::mat. A generic `f` serves both
  /// as long as its result names no temporaries (`in[0] * in[1]`, not `trans(in[0]) * in[1]`: that would dangle).
  template <class F, class R>
  Sample& add(std::vector<arma::mat> inputs, F f, R reference) {
    return samples_.emplace_back(Sample{std::move(inputs), f, f, reference, "", true});
  }
  template <class F>
  Sample& add(std::vector<arma::mat> inputs, F f) {
    return add(std::move(inputs), f, f);
  }
  /// `f` must throw on these inputs, with a message that contains `text`.
  template <class F>
  void fails(std::vector<arma::mat> inputs, F f, std::string text) {
    samples_.emplace_back(Sample{std::move(inputs), f, f, nullptr, std::move(text), false});
  }

  /// Entries between `low` and `high`, at least 0.05 away from whole numbers, where kinks are.
  arma::mat uniform(arma::uword rows, arma::uword cols, double low = -2, double high = 2) {
    arma::mat x(rows, cols);
    std::uniform_real_distribution<double> draw(low, high);
    for (double& v : x) do
        v = draw(engine_);
      while (std::abs(v - std::round(v)) < 0.05);
    return x;
  }

  const std::vector<Sample>& all() const { return samples_; }

 private:
  std::mt19937_64 engine_;
  std::vector<Sample> samples_;
};

/// An operation as the generated tests see it.
struct ListedOperation {
  const char* name;
  void (*samples)(Samples&);
  bool differentiable;
};

/// All operations of the library, in the order of their files.
std::vector<ListedOperation> all_operations();

namespace detail {
using OperationList = std::vector<ListedOperation>;
template <class Op>
void list(OperationList& to) {
  bool differentiable = true;
  if constexpr (requires { Op::differentiable; }) differentiable = Op::differentiable;
  to.push_back({Op::name, &Op::samples, differentiable});
}
}  // namespace detail

}  // namespace armagrad

/// Ends each file of operations and names them all; autodiff/operations.cpp calls every list by name, so that a list
/// or an operation that was forgotten does not link.
#define ARMAGRAD_LIST_OPERATIONS(file, ...)                          \
  namespace armagrad::detail {                                       \
  template <class... Ops>                                            \
  static void list_all(OperationList& to) {                          \
    (list<Ops>(to), ...);                                            \
  }                                                                  \
  void list_##file(OperationList& to) { list_all<__VA_ARGS__>(to); } \
  }
