#include <fmt/format.h>

#include <armagrad/autodiff/error.hpp>
#include <armagrad/datasets/dataset.hpp>

namespace armagrad::data {

template <class eT>
Dataset<eT> take(const Dataset<eT>& set, const arma::uvec& indices) {
  if (set.x.n_cols != set.y.n_elem) {
    throw ShapeError(
        fmt::format("take: x is {}x{} but y has {} labels; columns are samples, so there must be one label "
                    "per column of x",
                    set.x.n_rows, set.x.n_cols, set.y.n_elem));
  }
  for (const arma::uword index : indices) {
    if (index >= set.x.n_cols) {
      throw ValueError(fmt::format("take: index {} is out of range; the set has {} samples", index, set.x.n_cols));
    }
  }
  return {set.x.cols(indices), set.y.cols(indices), set.classes};
}

template Dataset<float> take(const Dataset<float>&, const arma::uvec&);
template Dataset<double> take(const Dataset<double>&, const arma::uvec&);

}  // namespace armagrad::data
