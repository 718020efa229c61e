// Scaling of features and encoding of labels.
#pragma once

#include <cstddef>

#include <armagrad/autodiff/armadillo.hpp>

namespace armagrad::data {

/// What the scalers share: each feature (row) becomes (x - offset) / scale, with the figures of the data it was fitted
/// on. A feature that was constant there maps to 0, whatever its value later, and back to that constant.
template <class eT>
class Scaler {
 public:
  /// @param x features x samples, scaled with the fitted figures.
  /// @throws StateError before `fit`, ShapeError when the number of features is not that of the fit.
  arma::Mat<eT> transform(const arma::Mat<eT>& x) const;

  /// The way back from `transform`; throws as it does.
  arma::Mat<eT> inverse_transform(const arma::Mat<eT>& x) const;

  const arma::Col<eT>& offset() const { return offset_; }  ///< features x 1
  const arma::Col<eT>& scale() const { return scale_; }    ///< features x 1; 0 for a constant feature

 protected:
  explicit Scaler(const char* name) : name_(name) {}
  void check_fit(const arma::Mat<eT>& x) const;
  void check_transform(const char* what, const arma::Mat<eT>& x) const;

  const char* name_;
  arma::Col<eT> offset_, scale_;
};

/// Scales each feature to [0, 1]: offset is the minimum, scale the range.
template <class eT>
class MinMaxScaler : public Scaler<eT> {
 public:
  MinMaxScaler() : Scaler<eT>("MinMaxScaler") {}

  /// @param x features x samples.
  /// @throws DataError when x is empty, ValueError when it holds a NaN or an infinity.
  MinMaxScaler& fit(const arma::Mat<eT>& x);
};

/// Scales each feature to mean 0 and variance 1 (the variance divides by n, as in scikit-learn; sums are in double).
template <class eT>
class StandardScaler : public Scaler<eT> {
 public:
  StandardScaler() : Scaler<eT>("StandardScaler") {}

  /// @param x features x samples.
  /// @throws DataError when x is empty, ValueError when it holds a NaN or an infinity.
  StandardScaler& fit(const arma::Mat<eT>& x);
};

/// Labels (1 x samples) as columns of the identity: classes x samples.
/// @throws ValueError when a label is not below `classes`.
template <class eT>
arma::Mat<eT> one_hot(const arma::Row<std::size_t>& labels, std::size_t classes);

}  // namespace armagrad::data
