// Batches of a data set, in order or shuffled, without copying the set.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <optional>
#include <type_traits>

#include <armagrad/autodiff/armadillo.hpp>
#include <armagrad/datasets/dataset.hpp>

namespace armagrad::data {

struct LoaderOptions {
  arma::uword batch = 128;  ///< samples per batch; the last one of a pass is smaller when it does not come out even
  bool shuffle = false;
  std::uint32_t seed = 1;  ///< of the shuffle; the same seed gives the same order on every machine
  bool drop_last = false;  ///< leave a smaller last batch out
};

/// Some samples and their targets. Inside a loop over a Loader both matrices alias memory that is not theirs and are
/// valid until the next batch; a copy of a Batch owns its values.
template <class eT, class Target>
struct Batch {
  arma::Mat<eT> x;  ///< features x batch
  Target y;         ///< labels: 1 x batch; target matrix: outputs x batch
};

/// Cuts a set into batches: each range-for over it is one epoch.
///
///     Loader loader(train, {.batch = 64, .shuffle = true});
///     for (int epoch = 0; epoch < 10; ++epoch)
///       for (const auto& batch : loader) step(batch.x, batch.y);
///
/// Without shuffle a batch aliases the set's columns; with it, the columns are gathered into one buffer that all
/// batches share, in the order `NumpyRandom::from_key({seed, epoch}).permutation(samples)`. After the first batch
/// nothing is allocated. The set must outlive the loader and is only read, so several loaders may share it; a loader
/// serves one thread and one pass at a time. Keep the loader across epochs: a new one starts at epoch 0 again.
///
/// @tparam eT float or double
/// @tparam Target arma::Row<std::size_t> for class labels or arma::Mat<eT> for a target matrix; deduced.
template <class eT, class Target>
class Loader {
 public:
  class iterator {
   public:
    using iterator_category = std::input_iterator_tag;
    using value_type = Batch<eT, Target>;
    using difference_type = std::ptrdiff_t;
    using pointer = const value_type*;
    using reference = const value_type&;

    reference operator*() const { return *loader_->current_; }
    pointer operator->() const { return &*loader_->current_; }
    /// @throws StateError when another `begin()` has ended this pass.
    iterator& operator++();
    void operator++(int) { ++*this; }
    friend bool operator==(const iterator& a, const iterator& b) { return a.index_ == b.index_; }
    friend bool operator!=(const iterator& a, const iterator& b) { return a.index_ != b.index_; }

   private:
    friend class Loader;
    iterator(Loader* loader, arma::uword index) : loader_(loader), index_(index), pass_(loader->pass_) {}

    Loader* loader_;
    arma::uword index_;
    std::uint64_t pass_;
  };

  /// @throws OptionError for a batch of 0, or a drop_last that leaves no batch; DataError for an empty set; ShapeError
  /// when x and y hold different numbers of samples.
  Loader(const arma::Mat<eT>& x, const std::type_identity_t<Target>& y, const LoaderOptions& options = {});
  /// A template, so that it is not compiled for target matrices.
  template <std::same_as<eT> T>
  explicit Loader(const Dataset<T>& set, const LoaderOptions& options = {}) : Loader(set.x, set.y, options) {}

  // A temporary would be gone before the first batch: give it a name that outlives the loader.
  Loader(const Dataset<eT>&&, const LoaderOptions& = {}) = delete;
  Loader(const arma::Mat<eT>&&, const std::type_identity_t<Target>&, const LoaderOptions& = {}) = delete;
  Loader(const arma::Mat<eT>&, const std::type_identity_t<Target>&&, const LoaderOptions& = {}) = delete;
  Loader(const arma::Mat<eT>&&, const std::type_identity_t<Target>&&, const LoaderOptions& = {}) = delete;

  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  /// Starts the next epoch and makes its first batch. Throws as the constructor does when the set has changed to one
  /// that does not fit.
  iterator begin();
  iterator end() { return iterator(this, batches()); }

  /// Batches in one epoch.
  arma::uword batches() const;
  /// Samples in the set.
  arma::uword samples() const { return x_->n_cols; }

  /// The number of the epoch that the next `begin()` starts, from 0. It and the seed are all that decides its order: a
  /// training that is resumed sets the number it had saved between two epochs and goes on with the same batches.
  std::uint32_t epoch() const { return epoch_; }
  void set_epoch(std::uint32_t epoch) { epoch_ = epoch; }

 private:
  // Built in place: Armadillo may turn an alias into a copy when it is moved.
  struct Alias : Batch<eT, Target> {
    Alias(const arma::Mat<eT>& from_x, const Target& from_y, arma::uword first, arma::uword n);
  };

  void check() const;
  void load(arma::uword index);

  const arma::Mat<eT>* x_;
  const Target* y_;
  LoaderOptions options_;
  std::uint32_t epoch_ = 0;
  std::uint64_t pass_ = 0;
  arma::uvec order_;          // samples x 1, the shuffled order of this epoch
  arma::Mat<eT> x_gathered_;  // features x batch
  Target y_gathered_;
  std::optional<Alias> current_;
};

template <class eT>
Loader(const Dataset<eT>&, const LoaderOptions& = {}) -> Loader<eT, arma::Row<std::size_t>>;
template <class eT>
Loader(const arma::Mat<eT>&, const arma::Row<std::size_t>&, const LoaderOptions& = {})
    -> Loader<eT, arma::Row<std::size_t>>;
template <class eT>
Loader(const arma::Mat<eT>&, const arma::Mat<eT>&, const LoaderOptions& = {}) -> Loader<eT, arma::Mat<eT>>;

}  // namespace armagrad::data
