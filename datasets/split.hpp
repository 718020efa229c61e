// Splitting a data set into training and test samples.
#pragma once

#include <cstddef>
#include <cstdint>

#include <armagrad/autodiff/armadillo.hpp>

namespace armagrad::data {

struct SplitOptions {
  double test_size = 0.25;  ///< share of the samples held out, rounded up to whole samples
  std::uint32_t random_state = 0;
};

/// Column indices of either side: give them to `take`, or to `x.cols(...)`.
struct Split {
  arma::uvec train;
  arma::uvec test;
};

/// Splits so that either side has each class's share of the samples, as scikit-learn 1.9 does in
/// `train_test_split(..., test_size, random_state, stratify=labels)`: the same indices in the same order. Labels may
/// be any numbers; only equality and order count.
///
/// @throws DataError when there are no labels or a class has only one sample; OptionError when test_size is not
/// between 0 and 1, or leaves either side with fewer samples than there are classes.
Split stratified_split(const arma::Row<std::size_t>& labels, const SplitOptions& options = {});

}  // namespace armagrad::data
