#include <algorithm>
#include <numeric>

#include <fmt/format.h>

#include <armagrad/autodiff/error.hpp>
#include <armagrad/datasets/loader.hpp>
#include <armagrad/datasets/numpy_random.hpp>

namespace armagrad::data {
namespace {

// Armadillo's matrices over foreign memory take a pointer to non-const; a Batch is only handed out as const.
template <class T>
arma::Mat<T> alias(const arma::Mat<T>& m, arma::uword first, arma::uword n) {
  return {const_cast<T*>(m.colptr(first)), m.n_rows, n, false, true};
}

template <class T>
arma::Row<T> alias(const arma::Row<T>& m, arma::uword first, arma::uword n) {
  return {const_cast<T*>(m.colptr(first)), n, false, true};
}

template <class T>
void gather(arma::Mat<T>& to, const arma::Mat<T>& from, const arma::uword* order, arma::uword n) {
  for (arma::uword j = 0; j < n; ++j) std::copy_n(from.colptr(order[j]), from.n_rows, to.colptr(j));
}

}  // namespace

template <class eT, class Target>
Loader<eT, Target>::Loader(const arma::Mat<eT>& x, const std::type_identity_t<Target>& y, const LoaderOptions& options)
    : x_(&x), y_(&y), options_(options) {
  check();
}

template <class eT, class Target>
void Loader<eT, Target>::check() const {
  if (options_.batch == 0) throw OptionError("Loader: batch is 0; a batch needs at least 1 sample");
  if (x_->is_empty()) throw DataError(fmt::format("Loader: the set is empty; x is {}x{}", x_->n_rows, x_->n_cols));
  if (x_->n_cols != y_->n_cols) {
    throw ShapeError(
        fmt::format("Loader: x is {}x{}, y is {}x{}: x's columns ({}) must equal y's columns ({}); "
                    "columns are samples",
                    x_->n_rows, x_->n_cols, y_->n_rows, y_->n_cols, x_->n_cols, y_->n_cols));
  }
  if (batches() == 0) {
    throw OptionError(
        fmt::format("Loader: drop_last with batch {} leaves no batch of the {} samples; choose a smaller "
                    "batch",
                    options_.batch, samples()));
  }
}

template <class eT, class Target>
arma::uword Loader<eT, Target>::batches() const {
  const arma::uword whole = samples() / options_.batch;
  return whole + (!options_.drop_last && samples() % options_.batch != 0 ? 1 : 0);
}

template <class eT, class Target>
typename Loader<eT, Target>::iterator Loader<eT, Target>::begin() {
  check();
  if (options_.shuffle) {
    order_.set_size(samples());
    std::iota(order_.begin(), order_.end(), arma::uword{0});
    NumpyRandom::from_key({options_.seed, epoch_}).shuffle(order_);
    const arma::uword n = std::min(options_.batch, samples());
    x_gathered_.set_size(x_->n_rows, n);
    y_gathered_.set_size(y_->n_rows, n);
  }
  ++epoch_;
  ++pass_;
  load(0);
  return iterator(this, 0);
}

template <class eT, class Target>
Loader<eT, Target>::Alias::Alias(const arma::Mat<eT>& from_x, const Target& from_y, arma::uword first, arma::uword n)
    : Batch<eT, Target>{alias(from_x, first, n), alias(from_y, first, n)} {}

template <class eT, class Target>
void Loader<eT, Target>::load(arma::uword index) {
  const arma::uword first = index * options_.batch;
  const arma::uword n = std::min(options_.batch, samples() - first);
  if (options_.shuffle) {
    gather<eT>(x_gathered_, *x_, order_.memptr() + first, n);
    gather<typename Target::elem_type>(y_gathered_, *y_, order_.memptr() + first, n);
    current_.emplace(x_gathered_, y_gathered_, 0, n);
  } else {
    current_.emplace(*x_, *y_, first, n);
  }
}

template <class eT, class Target>
typename Loader<eT, Target>::iterator& Loader<eT, Target>::iterator::operator++() {
  if (pass_ != loader_->pass_) {
    throw StateError("Loader: a newer loop over this loader has ended this one; give each loop its own Loader");
  }
  if (++index_ < loader_->batches()) loader_->load(index_);
  return *this;
}

template class Loader<float, arma::Row<std::size_t>>;
template class Loader<double, arma::Row<std::size_t>>;
template class Loader<float, arma::Mat<float>>;
template class Loader<double, arma::Mat<double>>;

}  // namespace armagrad::data
