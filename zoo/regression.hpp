// The regression pipeline: least squares four ways, all but the sums by hand on a tape.
#pragma once

#include <functional>
#include <vector>

#include <armagrad/autodiff/armadillo.hpp>
#include <armagrad/autodiff/device/device.hpp>

#include "zoo/report.hpp"

namespace armagrad::zoo {

using BasisFunction = std::function<double(double)>;

/// The coefficients b of sum_i b_i f_i(x) that fit y best in least squares: as many as functions.
/// @throws OptionError when there is no function, ShapeError when x and y differ in length or hold fewer points than
///   there are functions, ValueError when the functions are linearly dependent on x.
arma::vec basis_regression(const std::vector<BasisFunction>& functions, const arma::rowvec& x, const arma::rowvec& y);

/// a x^2 + b x + c by the sums of centred squares and products: {a, b, c}.
arma::vec quadratic_by_sums(const arma::rowvec& x, const arma::rowvec& y);

/// Runs sections 1a to 1d and fills the report as it goes. What has a tape computes on the device.
Report regression(Device device = Device::cpu());

}  // namespace armagrad::zoo
