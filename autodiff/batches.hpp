// Batches of a data set that lies on the device: what data::Loader is for one in host memory.
#pragma once

#include <cstdint>
#include <type_traits>

#include <armagrad/autodiff/parameter.hpp>
#include <armagrad/autodiff/tape.hpp>

namespace armagrad {

struct BatchesOptions {
  arma::uword batch = 128;  ///< samples per batch; what remains of an epoch is left out of it
  std::uint64_t seed = 1;   ///< of the order; the same seed gives the same order on every device
};

/// A data set in a device's memory and its batches, shuffled anew in every epoch. No order is stored or copied: which
/// sample stands where is computed from the seed, the epoch and the place, on the device. So a captured step that takes
/// its batch with `next` takes the next one in every replay, and an epoch is `replay.run(batches.per_epoch())`:
///
///     Batches<float> batches(train.x, train.y, {.batch = 128}, device);  // copied to the device, once
///     auto replay = tape.capture([&] {
///       const auto [x, y] = batches.next(tape);
///       sgd.zero_grad();
///       cross_entropy(model(x), y).backward();
///       sgd.step();
///     });
///
/// @tparam Target arma::Row<std::size_t> for class labels or arma::Mat<eT> for a target matrix; deduced.
template <class eT, class Target>
class Batches {
 public:
  static constexpr bool with_labels = std::is_same_v<Target, arma::Row<std::size_t>>;
  struct Batch {
    Var<eT> x;                                               ///< features x batch, without gradient
    std::conditional_t<with_labels, Labels<eT>, Var<eT>> y;  ///< of a target matrix: outputs x batch
  };

  /// @param x features x samples @param y labels, 1 x samples, or targets, outputs x samples
  /// @throws ShapeError unless x and y hold as many samples; OptionError for a batch of 0 or of more than all samples;
  /// DeviceError where there is no memory for them
  Batches(const arma::Mat<eT>& x, const std::type_identity_t<Target>& y, const BatchesOptions& options = {},
          Device device = Device::cpu());
  Batches(const Batches&) = delete;
  Batches& operator=(const Batches&) = delete;
  ~Batches();

  /// The next batch, put on the tape. A replay of a step in which it was called goes on from there by itself, and does
  /// not move on what `next` gives outside of it. @throws DeviceError for a tape on another device
  Batch next(Tape<eT>& tape);

  arma::uword samples() const { return x_.n_cols(); }
  /// Batches in one epoch.
  arma::uword per_epoch() const { return samples() / options_.batch; }
  /// How many batches `next` has given, from the first epoch on; a training that is resumed sets it.
  std::uint64_t position() const { return position_; }
  void set_position(std::uint64_t position) { position_ = position; }

 private:
  Parameter<eT> x_;
  Parameter<eT> targets_;            // without labels
  std::uint32_t* labels_ = nullptr;  // in the device's memory
  std::uint32_t largest_label_ = 0;
  BatchesOptions options_;
  std::uint64_t position_ = 0;
};

template <class eT>
Batches(const arma::Mat<eT>&, const arma::Row<std::size_t>&, const BatchesOptions& = {}, Device = Device::cpu())
    -> Batches<eT, arma::Row<std::size_t>>;
template <class eT>
Batches(const arma::Mat<eT>&, const arma::Mat<eT>&, const BatchesOptions& = {}, Device = Device::cpu())
    -> Batches<eT, arma::Mat<eT>>;

}  // namespace armagrad
