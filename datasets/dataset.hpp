// A labelled data set: what the sources give, the splits cut and the Loader cuts into batches.
#pragma once

#include <cstddef>

#include <armagrad/autodiff/armadillo.hpp>

namespace armagrad::data {

/// Samples with class labels.
template <class eT>
struct Dataset {
  arma::Mat<eT> x;           ///< features x samples
  arma::Row<std::size_t> y;  ///< 1 x samples, each in 0 ... classes-1
  std::size_t classes = 0;
};

/// The samples with these indices, in this order (an index may repeat).
/// @throws ShapeError when x and y hold different numbers of samples, ValueError when an index is out of range.
template <class eT>
Dataset<eT> take(const Dataset<eT>& set, const arma::uvec& indices);

}  // namespace armagrad::data
