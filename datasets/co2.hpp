// Carbon dioxide at Mauna Loa, embedded in the library.
#pragma once

#include <armagrad/autodiff/armadillo.hpp>

namespace armagrad::data {

struct MonthlyCo2 {
  arma::vec year;  ///< 521; the beginning of the month, 1958 + 2/12 for March 1958
  arma::vec ppm;   ///< 521; parts per million of dry air
};

/// Monthly means, March 1958 to December 2001, without the five months that have no measurement.
///
/// Source: C. D. Keeling and T. P. Whorf, Atmospheric CO2 concentrations derived from flask air samples at sites in the
/// SIO network, CDIAC, Oak Ridge National Laboratory, 2004; public domain; weekly values from statsmodels' copy.
MonthlyCo2 load_co2();

}  // namespace armagrad::data
