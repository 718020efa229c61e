// Armadillo, and the check that program and library see the same one. A program compiled with another
// ARMA_MAT_PREALLOC, word size or Mat layout would pass matrices that the library misreads; here it fails to link,
// and the undefined symbol's name says why.
#pragma once

#include <armadillo>

namespace armagrad::detail {

template <unsigned bytes_per_index, unsigned elements_inside_mat, unsigned bytes_of_mat>
struct library_was_built_with_another_armadillo_configuration {
  static const char symbol;
};

[[gnu::used]] inline const char* const armadillo_check =
    &library_was_built_with_another_armadillo_configuration<sizeof(arma::uword), arma::arma_config::mat_prealloc,
                                                            sizeof(arma::Mat<double>)>::symbol;

}  // namespace armagrad::detail
