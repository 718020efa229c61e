// What an operation brings along to be tested with, and the test itself: `check_operation` walks the samples through
// values, gradients, gradients of gradients, shapes, error texts, element types and replay. A user's own operation is
// tested by
//
//   BOOST_TEST(ag::check_operation<Softsign>());
//
// and tests/operations_test.cpp does the same for all of the library's.
#pragma once

#include <functional>
#include <ostream>
#include <random>
#include <string>
#include <vector>

#include <armagrad/autodiff/armadillo.hpp>
#include <armagrad/autodiff/device/device.hpp>
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
  bool random;  // a replay draws anew (`static constexpr bool random = true`)
};

/// All operations of the library, in the order of their files.
std::vector<ListedOperation> all_operations();

/// What a check of one operation found, and how much it looked at.
struct OperationCheck {
  bool ok = true;
  std::string log;  // a line for everything wrong: operation, element type, input shapes, what, entry, numbers

  std::size_t samples = 0;
  std::size_t refusals = 0;            // samples that must throw
  std::size_t gradient_entries = 0;    // compared with finite differences
  std::size_t second_derivatives = 0;  // entries of gradients of gradients compared
  std::size_t directional = 0;         // entries of J v compared, by forward mode
  std::size_t nonlinear_samples = 0;   // samples whose second derivatives are not all exactly 0
  std::size_t without_kernel = 0;      // checks that ended because the device does not have the operation
  double worst_value[2] = {0, 0};      // float, double: |value - reference| / max(1, largest reference entry)
  double worst_between_devices = 0;    // |device's - CPU's| / max(1, largest of the CPU's), in epsilons of the type
  double worst_gradient = 0;           // see GradcheckResult, also for the next two
  double worst_second_derivative = 0;
  double worst_directional = 0;  // |J v - difference| / max(1, largest entry)
  double worst_transpose = 0;    // |<u, J v> - <J'u, v>| / (|u| |J v|), double
  double uncertainty = 0;

  explicit operator bool() const { return ok; }
  friend std::ostream& operator<<(std::ostream& out, const OperationCheck& c) { return out << c.log; }
};

/// Draws the operation's samples with `seed` and compares values with the reference (2e-5 in float, 1e-12 in double),
/// gradients, gradients of gradients and J v with finite differences, <u, J v> with <J'u, v>, several directions at
/// once with each alone, first-order gradients with differentiable ones, errors with their texts, and a replay with the
/// eager run, bit for bit. On another device than the CPU, values, gradients and gradients of gradients are compared
/// with the CPU's instead of with finite differences. An operation that has no samples is not ok.
OperationCheck check_operation(const ListedOperation& operation, std::uint64_t seed = 20240229,
                               Device device = Device::cpu());

namespace detail {
template <class Op>
ListedOperation listed() {
  bool random = false;
  if constexpr (requires { Op::random; }) random = Op::random;
  return {Op::name, &Op::samples, random};
}

using OperationList = std::vector<ListedOperation>;
template <class Op>
void list(OperationList& to) {
  to.push_back(listed<Op>());
}
}  // namespace detail

/// The same for a struct of one's own.
template <class Op>
OperationCheck check_operation(std::uint64_t seed = 20240229, Device device = Device::cpu()) {
  return check_operation(detail::listed<Op>(), seed, device);
}

}  // namespace armagrad

/// Ends each file of operations and names them all. autodiff/operations.cpp calls every list by name, so that a file
/// without its list does not link; an operation left out of its file's list is found by operations_test.
#define ARMAGRAD_LIST_OPERATIONS(file, ...)                          \
  namespace armagrad::detail {                                       \
  template <class... Ops>                                            \
  static void list_all(OperationList& to) {                          \
    (list<Ops>(to), ...);                                            \
  }                                                                  \
  void list_##file(OperationList& to) { list_all<__VA_ARGS__>(to); } \
  }
