#pragma once

#include <memory>

#include <armagrad/autodiff/var.hpp>

namespace armagrad {

template <class eT>
struct Labels;
namespace detail {
template <class eT>
struct CommandList;
}

/// A recorded step that runs again on the same buffers: no recording, no dispatch, no allocation; on the CUDA device a
/// single launch of a graph. The results are those of the eager step bit for bit (dropout draws another mask in each
/// run: reproducible, but not the masks of an eager loop). Valid until the tape it was captured on is rewound, moved or
/// destroyed.
template <class eT>
class Replay {
 public:
  Replay(Replay&&) noexcept;
  Replay& operator=(Replay&&) noexcept;
  ~Replay();

  /// New content for a leaf made with `constant` or `variable`. ShapeError unless it has the captured shape. What was
  /// borrowed shows its matrix, whatever that holds when the step runs; here only that matrix itself may be given,
  /// which does nothing on the CPU and copies it to another device.
  void set(Var<eT> leaf, const arma::Mat<eT>& value);
  /// New class indices; as many as captured, none above the captured logits' rows.
  void set(const Labels<eT>& labels, const arma::Row<std::size_t>& y);
  /// Runs the step `times` times. On the CUDA device this only gives the work; `value` and `item` wait for it. Many
  /// runs of a short step in one call share launches there.
  void run(std::size_t times = 1);
  /// How many device commands one run gives.
  std::size_t size() const;

 private:
  template <class>
  friend class Tape;
  Replay(detail::TapeState<eT>* state, std::unique_ptr<detail::CommandList<eT>> list);
  void check() const;

  detail::TapeState<eT>* state_;
  std::uint32_t recording_;
  std::unique_ptr<detail::CommandList<eT>> list_;
};

}  // namespace armagrad
