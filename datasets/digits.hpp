// The 8x8 handwritten digits, embedded in the library: no file to find, no download.
#pragma once

#include <armagrad/datasets/dataset.hpp>

namespace armagrad::data {

/// The digits of scikit-learn's load_digits: 64 x 1797, values 0 ... 16, 10 classes, in its order. Feature 8 r + c is
/// the pixel in row r, column c; `arma::reshape(x.col(i), 8, 8).t()` is the image.
///
/// Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits (test set), UCI Machine Learning
/// Repository, 1998, https://doi.org/10.24432/C50P49, CC BY 4.0; values from scikit-learn's copy.
template <class eT>
Dataset<eT> load_digits();

}  // namespace armagrad::data
