// How to write an operation. One struct holds all of it: name, shape rule, evaluation, derivative, samples to test it
// with. docs/add-an-operation.md walks through one; `struct Matmul` in ops/arithmetic.cpp is a good one to read.
//
//   struct Softsign {                                                 // y = x / (1 + |x|)
//     static constexpr auto name = "softsign";
//     static Shape shape(Operands& in) { return in[0]; }
//     template <class eT> static void eval(Eval<eT>& e) {
//       e.host([](const arma::Mat<eT>& x, arma::Mat<eT>& y) { y = x / (1 + abs(x)); });
//     }
//     template <class eT> static void vjp(Rule<eT>& r) {
//       r.accumulate(0, r.grad() / square(1 + abs(r.operand(0))));
//     }
//     static void samples(Samples& s) { s.add({s.uniform(2, 3)}, [](const auto& in) { return softsign(in[0]); },
//     reference); }
//   };
//   template <class eT> Var<eT> softsign(Var<eT> x) { return apply<Softsign>(x); }
#pragma once

#include <algorithm>
#include <array>
#include <string_view>
#include <tuple>
#include <type_traits>

#include <armagrad/autodiff/device/device.hpp>
#include <armagrad/autodiff/device/products.hpp>
#include <armagrad/autodiff/var.hpp>

namespace armagrad {

namespace detail {
template <class eT>
struct OperationInfo;
template <class eT>
struct Node;
template <class eT>
struct ParameterUpdate;
template <class eT>
class Pushforward;

void append(std::string& out, Shape shape);
void append(std::string& out, std::string_view text);
void append(std::string& out, double value);
void append(std::string& out, std::uint64_t value);
template <class T>
requires std::is_integral_v<T>
void append(std::string& out, T value) { append(out, static_cast<std::uint64_t>(value)); }
}  // namespace detail

/// What a shape rule sees: the operands' shapes and the attributes; it returns the result's shape.
class Operands {
 public:
  Operands(const char* operation, const char* const* names, const Shape* shapes, std::size_t count,
           const void* attributes, const void* graph, std::string (*module_path)(const void* graph))
      : operation_(operation),
        names_(names),
        shapes_(shapes),
        count_(count),
        attributes_(attributes),
        graph_(graph),
        module_path_(module_path) {}

  Shape operator[](std::size_t k) const { return shapes_[k]; }
  std::size_t size() const { return count_; }
  template <class T>
  const T& attributes() const {
    return *static_cast<const T*>(attributes_);
  }

  /// Throws ShapeError "operation: A is 2x3, B is 4x5: <rule> [in module.path]" unless `holds`; the rule is the
  /// arguments one after the other.
  template <class... Parts>
  void require(bool holds, const Parts&... rule) const {
    if (holds) [[likely]]
      return;
    std::string text;
    (detail::append(text, rule), ...);
    fail(text);
  }
  /// The common shape after broadcasting: equal rows (or 1), equal columns (or 1).
  Shape broadcast(std::size_t a, std::size_t b) const {
    return shapes_[a] == shapes_[b] ? shapes_[a] : broadcast_unequal(shapes_[a], shapes_[b]);
  }
  /// The shape of a further result (k >= 1) of an operation with `results` > 1.
  void result(std::size_t k, Shape shape) { extra_[k - 1] = shape; }

  [[noreturn]] void fail(const std::string& rule) const;
  Shape extra_[3];

 private:
  Shape broadcast_unequal(Shape s, Shape t) const;
  const char* operation_;
  const char* const* names_;
  const Shape* shapes_;
  std::size_t count_;
  const void* attributes_;
  const void* graph_;
  std::string (*module_path_)(const void* graph);
};

/// What an evaluation sees: views of the operands and of the destination, and the device to give commands to.
template <class eT>
class Eval {
 public:
  View<const eT> in(std::size_t k) const;
  View<eT> out(std::size_t k = 0) const;
  Shape shape(std::size_t k) const;  // of operand k, without computing it
  std::size_t size() const;          // how many operands
  template <class T>
  const T& attributes() const {
    return *static_cast<const T*>(raw_attributes());
  }
  /// Whether anything will ask for this result's gradient (what only the rule reads need not be computed otherwise).
  bool for_gradient() const;

  /// An operation with `accumulates` computes out = alpha * f(in) + beta * out; for others these are 1 and 0.
  eT alpha = 1;
  eT beta = 0;

  /// A factor of a product, seen through `.t()`, unary minus and constant scaling that nobody else has asked for.
  struct Factor {
    View<const eT> view;
    bool transposed;
    eT scale;
  };
  Factor factor(std::size_t k) const;

  /// The command that most operations give: the operands in order, `out`, alpha and beta. At most four operands.
  Command<eT> command(const Kernel<eT>& kernel) const;
  /// Gives one command to the device, with the operation's attributes.
  void run(Command<eT>& command) const;
  void run(Command<eT>&& command) const { run(command); }

  /// Evaluates with a function on Armadillo matrices, on the CPU alone (another device throws, naming the
  /// operation). `f` is a lambda without captures: f(const Mat& operand..., Mat& out) or f(const Attributes&, same).
  /// The matrices alias device memory: assign to `out`, do not resize it.
  template <class F>
  void host(F) const;

  Eval(detail::Graph<eT>& graph, std::uint32_t node, View<eT> out) : graph_(graph), node_(node), out_(out) {}
  const detail::ParameterUpdate<eT>* update = nullptr;  // the result is an optimizer's step

 private:
  const void* raw_attributes() const;
  void require_operands(std::size_t count) const;  // StateError unless the operation has as many
  detail::Graph<eT>& graph_;
  std::uint32_t node_;
  View<eT> out_;
};

/// What a derivative rule sees. It is written in the public operations, so the gradient of a gradient is the same
/// text. In a first-order pass nothing is computed before the rule has returned; then every contribution goes
/// straight into the operand's gradient.
template <class eT>
class Rule {
 public:
  Var<eT> operand(std::size_t k) const;
  std::size_t size() const;
  Var<eT> result(std::size_t k = 0) const;
  /// The incoming gradient of result k; of a further result only when `has_grad(k)`.
  Var<eT> grad(std::size_t k = 0) const;
  bool has_grad(std::size_t k) const;
  bool needs(std::size_t k) const;  // whether operand k's gradient is wanted
  template <class T>
  const T& attributes() const {
    return *static_cast<const T*>(raw_attributes());
  }
  /// A matrix of one repeated value.
  Var<eT> constant(Shape shape, double value) const;

  /// Adds `contribution` to the gradient of operand k, summed over the dimensions along which k was broadcast.
  void accumulate(std::size_t k, Var<eT> contribution);

  Rule(detail::Graph<eT>& graph, std::uint32_t node) : graph_(graph), node_(node) {}

 private:
  const void* raw_attributes() const;
  detail::Graph<eT>& graph_;
  std::uint32_t node_;
};

/// What a rule of forward mode sees: the operands' tangents, from which it makes the result's. Several directions may
/// be pushed at once; their tangents then stand side by side in one matrix, rows x (columns * directions). A rule that
/// is not made for that (`many_directions`) is called once per direction and sees one.
template <class eT>
class ForwardRule {
 public:
  Var<eT> operand(std::size_t k) const;
  std::size_t size() const;
  Var<eT> result(std::size_t k = 0) const;
  /// Whether operand k moves at all.
  bool has_tangent(std::size_t k) const;
  Var<eT> tangent(std::size_t k) const;
  /// The same, zeros where operand k does not move.
  Var<eT> tangent_or_zero(std::size_t k) const;
  bool needs(std::size_t k) const;  // whether the tangent of result k is wanted
  template <class T>
  const T& attributes() const {
    return *static_cast<const T*>(raw_attributes());
  }

  /// Adds `contribution` to the tangent of result k.
  void add(Var<eT> contribution, std::size_t k = 0);

  // For rules with `many_directions`.
  std::uint32_t directions() const { return directions_; }
  /// x once per direction, side by side.
  Var<eT> spread(Var<eT> x) const;
  /// Operand k's tangent, repeated to the result's shape where the operand was broadcast.
  Var<eT> broadcast_tangent(std::size_t k) const;
  /// f(a direction's tangent of operand k) for every direction, side by side.
  template <class F>
  Var<eT> by_direction(std::size_t k, F f) const {
    if (directions_ == 1) return f(tangent(k));
    Var<eT> all = f(direction(k, 0));
    for (std::uint32_t d = 0; d < directions_; ++d) all = put(d == 0 ? all : f(direction(k, d)), all, d);
    return all;
  }

  static constexpr std::uint32_t every_direction = ~std::uint32_t{0};
  ForwardRule(detail::Pushforward<eT>& push, std::uint32_t node, std::uint32_t direction);

 private:
  const void* raw_attributes() const;
  Var<eT> direction(std::size_t k, std::uint32_t d) const;
  /// Puts direction d's part into `all`, which is made when d = 0.
  Var<eT> put(Var<eT> part, Var<eT> all, std::uint32_t d) const;
  detail::Pushforward<eT>& push_;
  std::uint32_t node_;
  std::uint32_t direction_;
  std::uint32_t directions_;
};

class Samples;  // <armagrad/autodiff/samples.hpp>

namespace detail {

/// The table entry of an operation for one element type; a node points to it.
template <class eT>
struct OperationInfo {
  const char* name;
  const char* const* operand_names;  // null-terminated; may be shorter than the operands
  Shape (*shape)(Operands&);
  void (*eval)(Eval<eT>&);                         // null: a leaf
  const Kernel<eT>* kernel;                        // not null: eval is no more than this on the operands in order
  void (*vjp)(Rule<eT>&);                          // null: no gradient flows through
  bool (*direct)(Graph<eT>&, std::uint32_t node);  // null, or a short cut of vjp in a first-order pass
  void (*jvp)(ForwardRule<eT>&);                   // null: made from vjp, unless the operation is linear
  std::size_t (*alias)(const Operands&);           // the result is operand 0's memory from this element on
  std::uint32_t attribute_bytes;
  std::uint8_t results;
  bool accumulates;      // honours alpha and beta
  bool in_place;         // `out` may be operand 0's memory
  bool looks_through;    // uses Eval::factor, so operands need not be computed before
  bool lazy;             // computed when somebody reads it
  bool steps;            // one gemm or sum, which can be an optimizer's step (ParameterUpdate)
  bool linear;           // in its operands together: the tangent is the operation of the operands' tangents
  bool many_directions;  // jvp takes several directions at once
  std::uint8_t helpers;  // a bit for each operand that the derivative does not look at: factors, computed from another
};

template <class Op>
concept has_operand_names = requires {
  Op::operands;
};
template <class Op>
concept has_attributes = requires {
  typename Op::Attributes;
};

inline constexpr const char* single_operand_name[] = {"x", nullptr};
template <class Op>
constexpr const char* const* operand_names() {
  if constexpr (has_operand_names<Op>)
    return Op::operands;
  else
    return single_operand_name;
}

template <class Op, class eT>
constexpr OperationInfo<eT> make_info() {
  OperationInfo<eT> info{};
  info.name = Op::name;
  info.operand_names = operand_names<Op>();
  info.shape = &Op::shape;
  info.eval = &Op::template eval<eT>;
  if constexpr (requires(Rule<eT> & r) { Op::template vjp<eT>(r); }) info.vjp = &Op::template vjp<eT>;
  if constexpr (requires { Op::template kernel<eT>(); }) info.kernel = Op::template kernel<eT>();
  if constexpr (requires(Graph<eT> & g) { Op::direct(g, 0u); }) info.direct = &Op::template direct<eT>;
  if constexpr (requires(const Operands& in) { Op::alias(in); }) info.alias = &Op::alias;
  if constexpr (requires(ForwardRule<eT> & r) { Op::template jvp<eT>(r); }) info.jvp = &Op::template jvp<eT>;
  if constexpr (has_attributes<Op>) {
    static_assert(std::is_trivially_copyable_v<typename Op::Attributes>, "attributes are copied as bytes");
    static_assert(sizeof(typename Op::Attributes) <= 4096,
                  "attributes are small; keep a large object elsewhere and a pointer to it here");
    info.attribute_bytes = sizeof(typename Op::Attributes);
  }
  info.results = 1;
  if constexpr (requires { Op::results; }) info.results = Op::results;
  if constexpr (requires { Op::accumulates; }) info.accumulates = Op::accumulates;
  if constexpr (requires { Op::in_place; }) info.in_place = Op::in_place;
  if constexpr (requires { Op::looks_through; }) info.looks_through = Op::looks_through;
  if constexpr (requires { Op::lazy; }) info.lazy = Op::lazy;
  if constexpr (requires { Op::steps; }) info.steps = Op::steps;
  if constexpr (requires { Op::linear; }) info.linear = Op::linear;
  if constexpr (requires { Op::many_directions; }) info.many_directions = Op::many_directions;
  if constexpr (requires { Op::helpers; }) info.helpers = Op::helpers;
  return info;
}

template <class Op, class eT>
inline constexpr OperationInfo<eT> operation_info = make_info<Op, eT>();

/// `number` is that of the operands, up to 3, or any_number.
inline constexpr std::size_t any_number = 0;
template <std::size_t number, class eT>
Var<eT> record(const OperationInfo<eT>& info, const Var<eT>* operands, std::size_t count, const void* attributes);
template <class eT, std::size_t number>
Var<eT> record(const OperationInfo<eT>& info, const std::array<Var<eT>, number>& operands, const void* attributes) {
  return record<(number <= 3 ? number : any_number)>(info, operands.data(), number, attributes);
}
template <class eT>
Var<eT> result_of(Var<eT> first, std::size_t k);

template <class eT>
arma::Mat<eT> alias(View<eT> view) {
  return arma::Mat<eT>(view.data, view.rows, view.cols, false, true);
}
template <class eT>
const arma::Mat<eT> alias(View<const eT> view) {
  return arma::Mat<eT>(const_cast<eT*>(view.data), view.rows, view.cols, false, true);
}

/// The multiplications LAPACK may need for a command: the cube of the largest dimension.
template <class eT>
double largest_work(const Command<eT>& c) {
  double n = std::max(c.out.rows, c.out.cols);
  if (c.in[0].data != nullptr) n = std::max<double>({n, double(c.in[0].rows), double(c.in[0].cols)});
  return n * n * n;
}

// The kernel behind Eval::host: its code is the lambda's type, so a command carries nothing of it.
template <class F>
struct HostSignature : HostSignature<decltype(&F::operator())> {};
template <class F, class... Args>
struct HostSignature<void (F::*)(Args...) const> {
  using Arguments = std::tuple<std::decay_t<Args>...>;
};

template <class eT, class F>
struct HostCall {
  using Arguments = typename HostSignature<F>::Arguments;
  using First = std::tuple_element_t<0, Arguments>;
  static constexpr bool with_attributes = !std::is_same_v<First, arma::Mat<eT>>;
  static constexpr std::size_t operands = std::tuple_size_v<Arguments> - 1 - with_attributes;

  template <std::size_t... k>
  static void call(const Command<eT>& c, std::index_sequence<k...>) {
    arma::Mat<eT> out = alias(c.out);
    if constexpr (with_attributes)
      F{}(*static_cast<const First*>(c.attributes), alias(c.in[k])..., out);
    else
      F{}(alias(c.in[k])..., out);
  }
  static void run(const Command<eT>& c) {
    const BlasThreads threads(largest_work(c));
    call(c, std::make_index_sequence<operands>());
  }
  static inline const Kernel<eT> kernel{"host", &run};
};

}  // namespace detail

/// Records operation `Op` on `operands` (at least one Var; all of one tape). What a public function's body calls.
template <class Op, class eT, class... Vars>
requires(!detail::has_attributes<Op>) Var<eT> apply(Var<eT> first, Vars... others) {
  const std::array<Var<eT>, 1 + sizeof...(Vars)> operands{first, others...};
  return detail::record(detail::operation_info<Op, eT>, operands, nullptr);
}
template <class Op, class eT, class... Vars>
requires(detail::has_attributes<Op>) Var<eT> apply(const typename Op::Attributes& attributes, Var<eT> first,
                                                   Vars... others) {
  const std::array<Var<eT>, 1 + sizeof...(Vars)> operands{first, others...};
  return detail::record(detail::operation_info<Op, eT>, operands, &attributes);
}

template <class eT>
template <class F>
void Eval<eT>::host(F) const {
  using Call = detail::HostCall<eT, F>;
  static_assert(Call::operands <= 4, "a host function takes at most four operands");
  require_operands(Call::operands);
  Command<eT> c;
  c.kernel = &Call::kernel;
  c.out = out();
  for (std::size_t k = 0; k < Call::operands; ++k) c.in[k] = in(k);
  run(c);
}

}  // namespace armagrad
