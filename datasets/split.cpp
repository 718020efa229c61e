#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <numeric>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <armagrad/autodiff/error.hpp>
#include <armagrad/datasets/numpy_random.hpp>
#include <armagrad/datasets/split.hpp>

namespace armagrad::data {
namespace {

using Counts = std::vector<arma::uword>;

/// How many of each class to draw so that n_draws keep the classes' shares: rounded down, then one more for those with
/// the largest remainders, ties broken at random. The arithmetic and the draws follow scikit-learn's
/// `_approximate_mode` step by step, because equal remainders decide whether a random number is drawn.
Counts shares(const Counts& class_counts, arma::uword n_draws, NumpyRandom& random) {
  const auto total = static_cast<double>(std::accumulate(class_counts.begin(), class_counts.end(), arma::uword{0}));
  Counts drawn;
  std::map<double, std::vector<arma::uword>, std::greater<>> by_remainder;
  for (arma::uword i = 0; i < class_counts.size(); ++i) {
    const double share = static_cast<double>(class_counts[i]) / total * static_cast<double>(n_draws);
    drawn.push_back(static_cast<arma::uword>(share));
    by_remainder[share - std::floor(share)].push_back(i);
  }
  arma::uword missing = n_draws - std::accumulate(drawn.begin(), drawn.end(), arma::uword{0});
  for (const auto& [remainder, classes] : by_remainder) {
    if (missing == 0) break;
    const auto add = std::min<arma::uword>(classes.size(), missing);
    const arma::uvec order = random.permutation(classes.size());
    for (arma::uword k = 0; k < add; ++k) ++drawn[classes[order[k]]];
    missing -= add;
  }
  return drawn;
}

}  // namespace

Split stratified_split(const arma::Row<std::size_t>& labels, const SplitOptions& options) {
  if (labels.is_empty()) throw DataError("stratified_split: there are no labels");
  if (!(options.test_size > 0.0 && options.test_size < 1.0)) {
    throw OptionError(
        fmt::format("stratified_split: test_size is {}; it is a share of the samples and must lie between 0 and 1, "
                    "both excluded",
                    options.test_size));
  }

  std::map<std::size_t, std::vector<arma::uword>> members;
  for (arma::uword i = 0; i < labels.n_elem; ++i) members[labels[i]].push_back(i);
  Counts class_counts;
  std::vector<std::size_t> lonely;
  for (const auto& [label, indices] : members) {
    class_counts.push_back(indices.size());
    if (indices.size() < 2) lonely.push_back(label);
  }
  if (!lonely.empty()) {
    throw DataError(
        fmt::format("stratified_split: each class needs at least 2 samples, one for either side; with only one: class "
                    "{}",
                    fmt::join(lonely, ", ")));
  }

  const auto n_test = static_cast<arma::uword>(std::ceil(options.test_size * static_cast<double>(labels.n_elem)));
  const arma::uword n_train = labels.n_elem - n_test;
  if (std::min(n_train, n_test) < members.size()) {
    throw OptionError(
        fmt::format("stratified_split: test_size {} splits the {} samples into {} for training and {} for testing; "
                    "either side needs at least one for each of the {} classes",
                    options.test_size, labels.n_elem, n_train, n_test, members.size()));
  }

  NumpyRandom random(options.random_state);
  const Counts train_counts = shares(class_counts, n_train, random);
  Counts rest = class_counts;
  for (arma::uword i = 0; i < rest.size(); ++i) rest[i] -= train_counts[i];
  // What is left over is the test set, so this can only return `rest`; but rounding can make it draw random numbers.
  shares(rest, n_test, random);

  std::vector<arma::uword> train, test;
  auto n_taken = train_counts.begin();
  for (const auto& [label, indices] : members) {
    const arma::uvec order = random.permutation(indices.size());
    for (arma::uword k = 0; k < indices.size(); ++k) (k < *n_taken ? train : test).push_back(indices[order[k]]);
    ++n_taken;
  }
  Split out{arma::uvec(train), arma::uvec(test)};
  random.shuffle(out.train);
  random.shuffle(out.test);
  return out;
}

}  // namespace armagrad::data
