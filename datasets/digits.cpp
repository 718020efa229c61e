#include <armagrad/datasets/digits.hpp>

namespace armagrad::data {
namespace {

constexpr arma::uword n_samples = 1797;
constexpr arma::uword n_features = 64;

// One line per image: 64 pixels, 'A' for 0 to 'Q' for 16, and the label's digit.
constexpr char images[n_samples][n_features + 2] = {
#include "digits.inc"
};

}  // namespace

template <class eT>
Dataset<eT> load_digits() {
  Dataset<eT> out{arma::Mat<eT>(n_features, n_samples), arma::Row<std::size_t>(n_samples), 10};
  for (arma::uword j = 0; j < n_samples; ++j) {
    for (arma::uword i = 0; i < n_features; ++i) out.x(i, j) = static_cast<eT>(images[j][i] - 'A');
    out.y[j] = static_cast<std::size_t>(images[j][n_features] - '0');
  }
  return out;
}

template Dataset<float> load_digits();
template Dataset<double> load_digits();

}  // namespace armagrad::data
