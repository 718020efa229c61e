// The generated suite: every listed operation x its samples x element type. An operation that is not listed does not
// link (see autodiff/operations.cpp), so none is left out.
#define BOOST_TEST_MODULE operations
#include <iostream>
#include <map>
#include <tuple>

#include <boost/test/unit_test.hpp>

#include <armagrad/autodiff/autodiff.hpp>
#include <armagrad/autodiff/samples.hpp>

namespace ag = armagrad;

namespace {

constexpr std::uint64_t seed = 20240229;

struct Case {
  std::string operation;
  bool differentiable;
  ag::Sample sample;

  std::string name() const {
    std::string text = operation + " on";
    for (const arma::mat& x : sample.inputs) text += " " + std::to_string(x.n_rows) + "x" + std::to_string(x.n_cols);
    return text;
  }
};

const std::vector<Case>& cases() {
  static const std::vector<Case> all = [] {
    std::vector<Case> out;
    for (const ag::ListedOperation& op : ag::all_operations()) {
      ag::Samples samples(seed);
      op.samples(samples);
      for (const ag::Sample& s : samples.all()) out.push_back({op.name, op.differentiable, s});
    }
    return out;
  }();
  return all;
}

template <class eT>
std::vector<ag::Var<eT>> variables(ag::Tape<eT>& tape, const std::vector<arma::mat>& inputs) {
  std::vector<ag::Var<eT>> out;
  for (const arma::mat& x : inputs) out.push_back(tape.variable(arma::conv_to<arma::Mat<eT>>::from(x)));
  return out;
}

template <class eT>
const auto& function_of(const ag::Sample& s) {
  if constexpr (std::is_same_v<eT, float>)
    return s.in_float;
  else
    return s.in_double;
}

double deviation(const arma::mat& a, const arma::mat& b) {
  if (a.is_empty()) return 0;
  return arma::abs(a - b).max() / std::max(1.0, arma::abs(b).max());
}

// The weighted sum whose gradient is looked at; the weights differ from entry to entry.
template <class eT>
ag::Var<eT> scalar(ag::Tape<eT>& tape, ag::Var<eT> y) {
  arma::Mat<eT> w(y.n_rows(), y.n_cols());
  for (arma::uword i = 0; i < w.n_elem; ++i) w[i] = static_cast<eT>(std::cos(0.7 + 1.3 * static_cast<double>(i)));
  return dot(y, tape.constant(w));
}

using Types = std::tuple<float, double>;

}  // namespace

BOOST_AUTO_TEST_CASE(the_list_of_operations_is_complete_enough) {
  std::map<std::string, int> samples;
  for (const Case& c : cases()) ++samples[c.operation];
  std::cout << samples.size() << " operations, " << cases().size() << " samples, 2 element types, seed " << seed
            << "\n";
  BOOST_TEST(ag::all_operations().size() >= 60u);
  BOOST_TEST(cases().size() >= 400u);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_value_is_that_of_plain_armadillo, eT, Types) {
  const double tolerance = std::is_same_v<eT, float> ? 2e-5 : 1e-12;
  double worst = 0;
  for (const Case& c : cases()) {
    if (!c.sample.error.empty()) continue;
    BOOST_TEST_CONTEXT(c.name()) {
      ag::Tape<eT> tape;
      const arma::mat y =
          arma::conv_to<arma::mat>::from(function_of<eT>(c.sample)(variables(tape, c.sample.inputs)).value());
      const arma::mat expected = c.sample.reference(c.sample.inputs);
      BOOST_REQUIRE_EQUAL(y.n_rows, expected.n_rows);
      BOOST_REQUIRE_EQUAL(y.n_cols, expected.n_cols);
      const double d = deviation(y, expected);
      BOOST_CHECK_LE(d, tolerance);
      worst = std::max(worst, d);
    }
  }
  std::cout << "largest deviation of a value: " << worst << "\n";
}

BOOST_AUTO_TEST_CASE_TEMPLATE(bad_shapes_are_refused_in_words, eT, Types) {
  int count = 0;
  for (const Case& c : cases()) {
    if (c.sample.error.empty()) continue;
    ++count;
    BOOST_TEST_CONTEXT(c.name()) {
      ag::Tape<eT> tape;
      const auto inputs = variables(tape, c.sample.inputs);
      const std::size_t before = tape.size();
      try {
        function_of<eT>(c.sample)(inputs);
        BOOST_ERROR("nothing was thrown");
      } catch (const ag::Error& e) {
        BOOST_CHECK_MESSAGE(std::string(e.what()).find(c.sample.error) != std::string::npos,
                            "message: " << e.what() << "\nexpected: " << c.sample.error);
      }
      BOOST_CHECK_GE(tape.size(), before);
      BOOST_CHECK_NO_THROW(accu(inputs[0]).item());  // the tape stays usable
    }
  }
  BOOST_TEST(count >= 40);
}

BOOST_AUTO_TEST_CASE(gradients_are_those_of_finite_differences) {
  double worst = 0, uncertainty = 0;
  std::size_t entries = 0;
  for (const Case& c : cases()) {
    if (!c.sample.error.empty() || !c.differentiable || !c.sample.check_gradient) continue;
    const ag::GradcheckResult r = ag::gradcheck(c.sample.in_double, c.sample.inputs);
    BOOST_CHECK_MESSAGE(r.ok, c.name() << "\n" << r.log);
    worst = std::max(worst, r.worst);
    uncertainty = std::max(uncertainty, r.uncertainty);
    entries += r.entries;
  }
  std::cout << "gradcheck: " << entries << " entries, largest error " << worst << ", of the differences themselves "
            << uncertainty << "\n";
  BOOST_TEST(entries > 1000u);
}

BOOST_AUTO_TEST_CASE(gradients_of_gradients_are_those_of_finite_differences) {
  double worst = 0;
  std::size_t entries = 0, not_zero = 0;
  for (const Case& c : cases()) {
    if (!c.sample.error.empty() || !c.differentiable || !c.sample.check_gradient) continue;
    const ag::GradcheckResult r = ag::gradgradcheck(c.sample.in_double, c.sample.inputs);
    BOOST_CHECK_MESSAGE(r.ok, c.name() << "\n" << r.log);
    worst = std::max(worst, r.worst);
    entries += r.entries;
    not_zero += r.worst > 0;
  }
  std::cout << "gradgradcheck: " << entries << " entries, largest error " << worst << "\n";
  BOOST_TEST(not_zero > 60u);  // the check does see second derivatives
}

BOOST_AUTO_TEST_CASE_TEMPLATE(the_first_order_gradient_equals_the_differentiable_one, eT, Types) {
  const double tolerance = std::is_same_v<eT, float> ? 2e-5 : 1e-13;
  for (const Case& c : cases()) {
    if (!c.sample.error.empty() || !c.differentiable) continue;
    BOOST_TEST_CONTEXT(c.name()) {
      ag::Tape<eT> tape;
      const auto inputs = variables(tape, c.sample.inputs);
      const ag::Var<eT> y = scalar(tape, function_of<eT>(c.sample)(inputs));
      if (!y.requires_grad()) continue;
      const auto recorded = ag::grad(y, inputs);
      y.backward();
      for (std::size_t k = 0; k < inputs.size(); ++k) {
        const arma::mat first = arma::conv_to<arma::mat>::from(inputs[k].grad());
        BOOST_CHECK_LE(deviation(first, arma::conv_to<arma::mat>::from(recorded[k].value())), tolerance);
      }
      // A second backward adds the same once more, and one for a single leaf computes that leaf alone.
      y.backward();
      const arma::mat twice = arma::conv_to<arma::mat>::from(inputs[0].grad());
      BOOST_CHECK_LE(deviation(twice, 2 * arma::conv_to<arma::mat>::from(recorded[0].value())), 2 * tolerance);
      y.backward({inputs.back()});
      if (inputs.size() > 1) {
        BOOST_CHECK_EQUAL(deviation(twice, arma::conv_to<arma::mat>::from(inputs[0].grad())), 0);
        BOOST_CHECK_LE(deviation(arma::conv_to<arma::mat>::from(inputs.back().grad()),
                                 3 * arma::conv_to<arma::mat>::from(recorded.back().value())),
                       3 * tolerance);
      }
    }
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_replay_equals_the_eager_run_bit_for_bit, eT, Types) {
  for (const Case& c : cases()) {
    if (!c.sample.error.empty() || !c.differentiable) continue;
    BOOST_TEST_CONTEXT(c.name()) {
      ag::Tape<eT> tape;
      const auto inputs = variables(tape, c.sample.inputs);
      std::vector<ag::Var<eT>> y;
      auto replay = tape.capture([&] { y.push_back(function_of<eT>(c.sample)(inputs)); });
      const arma::Mat<eT> eager = y[0].value();
      for (std::size_t k = 0; k < inputs.size(); ++k)
        replay.set(inputs[k], arma::Mat<eT>(arma::size(inputs[k].value()), arma::fill::ones));
      for (std::size_t k = 0; k < inputs.size(); ++k)
        replay.set(inputs[k], arma::conv_to<arma::Mat<eT>>::from(c.sample.inputs[k]));
      replay.run();
      const arma::Mat<eT> again = y[0].value();
      BOOST_CHECK(std::equal(eager.begin(), eager.end(), again.begin(), again.end()));
    }
  }
}
