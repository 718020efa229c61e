// Random expressions of 5-40 operations: values and gradients beside those of PyTorch's float64 autograd.
// peers/expression_graphs.py made the figures and says what a line of the file means.
#define BOOST_TEST_MODULE expression_graphs
#include <algorithm>
#include <fstream>
#include <functional>
#include <iostream>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include <boost/test/unit_test.hpp>
#include <fmt/format.h>

#include <armagrad/armagrad.hpp>

namespace ag = armagrad;

namespace {

using Var = ag::Var<double>;

constexpr double tolerance = 1e-10;  // of the largest entry

/// One line of the file: `name operands | numbers`.
struct Line {
  std::string name;
  std::vector<std::size_t> operands;
  std::vector<double> numbers;
};

struct Graph {
  std::vector<Line> nodes;
  double value = 0;
  std::map<std::size_t, std::vector<double>> gradients;  // by variable, column-major
};

Line parse(const std::string& text) {
  Line line;
  const auto bar = text.find('|');
  if (bar == std::string::npos) throw std::runtime_error("no | in the line: " + text);
  std::istringstream head(text.substr(0, bar)), tail(text.substr(bar + 1));
  head >> line.name;
  for (std::size_t k; head >> k;) line.operands.push_back(k);
  for (double number; tail >> number;) line.numbers.push_back(number);
  if (!head.eof() || !tail.eof()) throw std::runtime_error("not `name operands | numbers`: " + text);
  return line;
}

std::vector<Graph> read_graphs() {
  const std::string path = ARMAGRAD_SOURCE_DIR "/tests/peers/expression_graphs.txt";
  std::ifstream file(path);
  if (!file) throw std::runtime_error("cannot read " + path);
  std::vector<Graph> graphs;
  for (std::string text; std::getline(file, text);) {
    Line line = parse(text);
    if (line.name == "graph")
      graphs.emplace_back();
    else if (line.name == "value")
      graphs.back().value = line.numbers.at(0);
    else if (line.name == "gradient")
      graphs.back().gradients[line.operands.at(0)] = std::move(line.numbers);
    else
      graphs.back().nodes.push_back(std::move(line));
  }
  return graphs;
}

bool is_leaf(const Line& line) { return line.name == "variable" || line.name == "constant"; }

arma::mat leaf_value(const Line& line) {
  const auto rows = static_cast<arma::uword>(line.numbers.at(0)), cols = static_cast<arma::uword>(line.numbers.at(1));
  BOOST_REQUIRE_EQUAL(line.numbers.size(), 2 + rows * cols);
  return arma::mat(line.numbers.data() + 2, rows, cols);
}

/// The operands and parameters of one operation.
struct Arguments {
  std::vector<Var> x;
  std::vector<double> numbers;

  double p(std::size_t k) const { return numbers.at(k); }
  arma::uword n(std::size_t k) const { return static_cast<arma::uword>(numbers.at(k)); }
  int dim() const { return static_cast<int>(numbers.at(0)); }
  arma::uvec indices() const { return arma::conv_to<arma::uvec>::from(numbers); }
  arma::Row<std::size_t> labels() const { return arma::conv_to<arma::Row<std::size_t>>::from(numbers); }
};

const std::map<std::string, std::function<Var(const Arguments&)>>& operations() {
  using A = const Arguments&;
  static const std::map<std::string, std::function<Var(A)>> table = {
      {"matmul", [](A a) { return a.x[0] * a.x[1]; }},
      {"add", [](A a) { return a.x[0] + a.x[1]; }},
      {"sub", [](A a) { return a.x[0] - a.x[1]; }},
      {"mul", [](A a) { return a.x[0] % a.x[1]; }},
      {"div", [](A a) { return a.x[0] / a.x[1]; }},
      {"neg", [](A a) { return -a.x[0]; }},
      {"scale", [](A a) { return a.p(0) * a.x[0]; }},
      {"add_scalar", [](A a) { return a.x[0] + a.p(0); }},
      {"pow", [](A a) { return pow(a.x[0], a.p(0)); }},
      {"t", [](A a) { return a.x[0].t(); }},
      {"cols", [](A a) { return a.x[0].cols(a.n(0), a.n(1)); }},
      {"rows", [](A a) { return a.x[0].rows(a.n(0), a.n(1)); }},
      {"submat", [](A a) { return a.x[0].submat(a.n(0), a.n(1), a.n(2), a.n(3)); }},
      {"elem", [](A a) { return a.x[0].elem(a.indices()); }},
      {"join_rows", [](A a) { return join_rows(a.x[0], a.x[1]); }},
      {"join_cols", [](A a) { return join_cols(a.x[0], a.x[1]); }},
      {"reshape", [](A a) { return reshape(a.x[0], a.n(0), a.n(1)); }},
      {"repmat", [](A a) { return repmat(a.x[0], a.n(0), a.n(1)); }},
      {"diagmat", [](A a) { return diagmat(a.x[0]); }},
      {"diagvec", [](A a) { return diagvec(a.x[0]); }},
      {"exp", [](A a) { return exp(a.x[0]); }},
      {"log", [](A a) { return log(a.x[0]); }},
      {"log1p", [](A a) { return log1p(a.x[0]); }},
      {"expm1", [](A a) { return expm1(a.x[0]); }},
      {"sqrt", [](A a) { return sqrt(a.x[0]); }},
      {"square", [](A a) { return square(a.x[0]); }},
      {"abs", [](A a) { return abs(a.x[0]); }},
      {"sign", [](A a) { return sign(a.x[0]); }},
      {"sin", [](A a) { return sin(a.x[0]); }},
      {"cos", [](A a) { return cos(a.x[0]); }},
      {"tanh", [](A a) { return tanh(a.x[0]); }},
      {"sigmoid", [](A a) { return sigmoid(a.x[0]); }},
      {"softplus", [](A a) { return softplus(a.x[0]); }},
      {"relu", [](A a) { return relu(a.x[0]); }},
      {"leaky_relu", [](A a) { return leaky_relu(a.x[0], a.p(0)); }},
      {"gelu", [](A a) { return gelu(a.x[0]); }},
      {"clamp", [](A a) { return clamp(a.x[0], a.p(0), a.p(1)); }},
      {"min", [](A a) { return min(a.x[0], a.x[1]); }},
      {"max", [](A a) { return max(a.x[0], a.x[1]); }},
      {"where", [](A a) { return where(a.x[0] > a.x[1], a.x[2], a.x[3]); }},
      {"accu", [](A a) { return accu(a.x[0]); }},
      {"sum", [](A a) { return sum(a.x[0], a.dim()); }},
      {"mean", [](A a) { return mean(a.x[0], a.dim()); }},
      {"var", [](A a) { return var(a.x[0], 0, a.dim()); }},
      {"max_along", [](A a) { return max(a.x[0], a.dim()); }},
      {"min_along", [](A a) { return min(a.x[0], a.dim()); }},
      {"log_sum_exp", [](A a) { return log_sum_exp(a.x[0], a.dim()); }},
      {"norm", [](A a) { return norm(a.x[0], "fro"); }},
      {"dot", [](A a) { return dot(a.x[0], a.x[1]); }},
      {"trace", [](A a) { return trace(a.x[0]); }},
      {"affine", [](A a) { return affine(a.x[0], a.x[1], a.x[2]); }},
      {"affine_relu", [](A a) { return affine_relu(a.x[0], a.x[1], a.x[2]); }},
      {"softmax", [](A a) { return softmax(a.x[0]); }},
      {"log_softmax", [](A a) { return log_softmax(a.x[0]); }},
      {"cross_entropy", [](A a) { return ag::nn::cross_entropy(a.x[0], a.labels()); }},
      {"mse", [](A a) { return ag::nn::mse(a.x[0], a.x[1]); }},
      {"solve", [](A a) { return solve(a.x[0], a.x[1]); }},
      {"inv", [](A a) { return inv(a.x[0]); }},
      {"pinv", [](A a) { return pinv(a.x[0]); }},
  };
  return table;
}

std::vector<Var> evaluate(ag::Tape<double>& tape, const Graph& graph) {
  std::vector<Var> vars;
  for (const Line& line : graph.nodes) {
    if (is_leaf(line)) {
      vars.push_back(line.name == "variable" ? tape.variable(leaf_value(line)) : tape.constant(leaf_value(line)));
    } else {
      Arguments arguments{{}, line.numbers};
      for (const std::size_t k : line.operands) arguments.x.push_back(vars.at(k));
      vars.push_back(operations().at(line.name)(arguments));
    }
  }
  return vars;
}

/// The largest difference as a share of the largest expected entry; where all expected entries are 0, as it is.
double deviation(const arma::vec& found, const arma::vec& expected) {
  BOOST_REQUIRE_EQUAL(found.n_elem, expected.n_elem);
  BOOST_REQUIRE(found.is_finite());
  const double largest = arma::abs(expected).max();
  return arma::abs(found - expected).max() / (largest > 0 ? largest : 1);
}

}  // namespace

BOOST_AUTO_TEST_CASE(the_graphs_are_many_and_use_every_operation) {
  const std::vector<Graph> graphs = read_graphs();
  BOOST_TEST(graphs.size() == 200U);
  std::map<std::string, int> uses;
  for (const Graph& graph : graphs) {
    int count = 0;
    for (const Line& line : graph.nodes) {
      if (is_leaf(line)) continue;
      ++count;
      ++uses[line.name];
    }
    BOOST_TEST((count >= 5 && count <= 40));
  }
  for (const auto& [name, run] : operations())
    BOOST_TEST(uses[name] >= 20, name << " is used " << uses[name] << " times");
}

BOOST_AUTO_TEST_CASE(values_and_gradients_agree_with_pytorch) {
  const std::vector<Graph> graphs = read_graphs();
  ag::Tape<double> tape;
  double worst_value = 0, worst_gradient = 0, largest_entry = 0;
  for (std::size_t i = 0; i < graphs.size(); ++i) {
    const Graph& graph = graphs[i];
    BOOST_TEST_CONTEXT("graph " << i) {
      tape.rewind();
      const std::vector<Var> vars = evaluate(tape, graph);
      for (const Var& x : vars) largest_entry = std::max(largest_entry, arma::abs(x.value()).max());
      const double off = deviation(arma::vec{vars.back().item()}, arma::vec{graph.value});
      BOOST_TEST(off <= tolerance, "its value is " << vars.back().item() << ", PyTorch's " << graph.value);
      worst_value = std::max(worst_value, off);

      vars.back().backward();
      for (const auto& [k, expected] : graph.gradients) {
        const double share = deviation(arma::vectorise(vars.at(k).grad()), arma::vec(expected));
        BOOST_TEST(share <= tolerance,
                   "the gradient of node " << k << " is off by " << share << " of its largest entry");
        worst_gradient = std::max(worst_gradient, share);
      }
    }
  }
  BOOST_TEST(largest_entry <= 1e3 * (1 + tolerance));
  const std::string summary = fmt::format(
      "{} expression graphs against PyTorch: largest deviation {:.1e} in a value, {:.1e} in a gradient; |values| up to "
      "{:.0f}",
      graphs.size(), worst_value, worst_gradient, largest_entry);
  BOOST_TEST_MESSAGE(summary);
  std::cout << summary << '\n';
}
