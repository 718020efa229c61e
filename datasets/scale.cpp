#include <cmath>

#include <fmt/format.h>

#include <armagrad/autodiff/error.hpp>
#include <armagrad/datasets/scale.hpp>

namespace armagrad::data {

template <class eT>
void Scaler<eT>::check_fit(const arma::Mat<eT>& x) const {
  if (x.is_empty()) {
    throw DataError(fmt::format("{}: cannot fit an empty matrix; x is {}x{}", name_, x.n_rows, x.n_cols));
  }
  for (arma::uword i = 0; i < x.n_elem; ++i) {
    if (!std::isfinite(x[i])) {
      throw ValueError(fmt::format("{}: cannot fit x, which holds {} in feature {} of sample {}", name_, x[i],
                                   i % x.n_rows, i / x.n_rows));
    }
  }
}

template <class eT>
void Scaler<eT>::check_transform(const char* what, const arma::Mat<eT>& x) const {
  if (offset_.is_empty()) {
    throw StateError(fmt::format("{}: {} before fit; fit it on the training samples first", name_, what));
  }
  if (x.n_rows != offset_.n_elem) {
    throw ShapeError(
        fmt::format("{}: {} got x of {}x{}, but it was fitted on {} features; columns are samples, so x must have {} "
                    "rows",
                    name_, what, x.n_rows, x.n_cols, offset_.n_elem, offset_.n_elem));
  }
}

template <class eT>
arma::Mat<eT> Scaler<eT>::transform(const arma::Mat<eT>& x) const {
  check_transform("transform", x);
  arma::Mat<eT> out(arma::size(x));
  for (arma::uword j = 0; j < x.n_cols; ++j) {
    for (arma::uword i = 0; i < x.n_rows; ++i) {
      out(i, j) = scale_[i] == eT(0) ? eT(0) : (x(i, j) - offset_[i]) / scale_[i];
    }
  }
  return out;
}

template <class eT>
arma::Mat<eT> Scaler<eT>::inverse_transform(const arma::Mat<eT>& x) const {
  check_transform("inverse_transform", x);
  arma::Mat<eT> out(arma::size(x));
  for (arma::uword j = 0; j < x.n_cols; ++j) {
    for (arma::uword i = 0; i < x.n_rows; ++i) out(i, j) = x(i, j) * scale_[i] + offset_[i];
  }
  return out;
}

template <class eT>
MinMaxScaler<eT>& MinMaxScaler<eT>::fit(const arma::Mat<eT>& x) {
  this->check_fit(x);
  this->offset_ = arma::min(x, 1);
  this->scale_ = arma::max(x, 1) - this->offset_;
  return *this;
}

template <class eT>
StandardScaler<eT>& StandardScaler<eT>::fit(const arma::Mat<eT>& x) {
  this->check_fit(x);
  arma::vec mean(x.n_rows, arma::fill::zeros), square(x.n_rows, arma::fill::zeros);
  const auto n = static_cast<double>(x.n_cols);
  for (arma::uword j = 0; j < x.n_cols; ++j) {
    for (arma::uword i = 0; i < x.n_rows; ++i) mean[i] += x(i, j);
  }
  mean /= n;
  for (arma::uword j = 0; j < x.n_cols; ++j) {
    for (arma::uword i = 0; i < x.n_rows; ++i) square[i] += std::pow(x(i, j) - mean[i], 2);
  }
  this->offset_ = arma::conv_to<arma::Col<eT>>::from(mean);
  this->scale_ = arma::conv_to<arma::Col<eT>>::from(arma::sqrt(square / n));
  // Of a constant feature the rounded mean may be off by a bit, and the variance then is noise instead of 0.
  const arma::Col<eT> low = arma::min(x, 1), high = arma::max(x, 1);
  for (arma::uword i = 0; i < x.n_rows; ++i) {
    if (low[i] != high[i]) continue;
    this->offset_[i] = low[i];
    this->scale_[i] = eT(0);
  }
  return *this;
}

template <class eT>
arma::Mat<eT> one_hot(const arma::Row<std::size_t>& labels, std::size_t classes) {
  arma::Mat<eT> out(classes, labels.n_elem, arma::fill::zeros);
  for (arma::uword j = 0; j < labels.n_elem; ++j) {
    if (labels[j] >= classes) {
      throw ValueError(
          fmt::format("one_hot: label {} of sample {} is out of range; with {} classes a label must be "
                      "less than {}",
                      labels[j], j, classes, classes));
    }
    out(labels[j], j) = eT(1);
  }
  return out;
}

template class Scaler<float>;
template class Scaler<double>;
template class MinMaxScaler<float>;
template class MinMaxScaler<double>;
template class StandardScaler<float>;
template class StandardScaler<double>;
template arma::Mat<float> one_hot(const arma::Row<std::size_t>&, std::size_t);
template arma::Mat<double> one_hot(const arma::Row<std::size_t>&, std::size_t);

}  // namespace armagrad::data
