// Tape: owns a recording. Operations on its Vars are computed at once and remembered for the way back.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include <armagrad/autodiff/device/device.hpp>
#include <armagrad/autodiff/parameter.hpp>
#include <armagrad/autodiff/profile.hpp>
#include <armagrad/autodiff/replay.hpp>
#include <armagrad/autodiff/var.hpp>

namespace armagrad {

namespace detail {
/// One call of a module, in the order in which the calls ended.
struct CallRecord {
  const void* module;
  Shape output;
};
}  // namespace detail

/// Class indices of a batch, one per column, put on the tape's device; `Replay::set` gives them new values.
template <class eT>
struct Labels {
  detail::TapeState<eT>* state;
  std::uint32_t recording;
  std::uint32_t slot;
};

/// Records operations on matrices. Belongs to one thread; each thread may have its own. Moving a tape ends its
/// recording: Vars recorded before are refused afterwards.
template <class eT>
class Tape {
 public:
  Tape() : Tape(Device::cpu()) {}
  explicit Tape(Device device);
  Tape(Tape&& other) noexcept;
  Tape& operator=(Tape&& other) noexcept;
  ~Tape();

  /// A leaf without gradient; copies `x`.
  Var<eT> constant(const arma::Mat<eT>& x);
  Var<eT> constant(eT x);
  /// A leaf without gradient that aliases `x` on the CPU (elsewhere it is copied to the device). `x` must stay alive
  /// and unchanged until the tape is rewound, so a temporary is refused.
  Var<eT> borrow(const arma::Mat<eT>& x);
  Var<eT> borrow(const arma::Mat<eT>&& x) = delete;
  /// A leaf whose gradient is wanted; copies `x`. Read it with `.grad()` after backward.
  Var<eT> variable(const arma::Mat<eT>& x);
  /// The same as an alias of `x`, as `borrow` makes one.
  Var<eT> borrow_variable(const arma::Mat<eT>& x);
  Var<eT> borrow_variable(const arma::Mat<eT>&& x) = delete;
  /// A leaf that aliases the parameter; backward adds to the parameter's own gradient.
  Var<eT> parameter(const Parameter<eT>& p);
  /// Class indices for cross_entropy, one per column of the logits.
  Labels<eT> labels(const arma::Row<std::size_t>& y);

  /// Forgets the recording and keeps its memory for the next one.
  void rewind();
  std::size_t size() const;
  Device device() const;
  /// Bytes of device memory the tape holds.
  std::size_t capacity() const;

  /// While the guard lives nothing recorded requires a gradient.
  class NoGrad {
   public:
    explicit NoGrad(Tape& tape);
    NoGrad(const NoGrad&) = delete;
    NoGrad& operator=(const NoGrad&) = delete;
    ~NoGrad();

   private:
    detail::TapeState<eT>* state_;
    bool before_;
  };
  [[nodiscard]] NoGrad no_grad() { return NoGrad(*this); }

  /// What is recorded while the guard lives is forgotten when it ends, and its memory given back: the tape is then as
  /// it was, except for gradients that backward has left on Vars from before. Scopes may nest. Does nothing in a
  /// capture.
  class Scope {
   public:
    explicit Scope(Tape& tape);
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;
    ~Scope();

   private:
    struct Begin;
    std::unique_ptr<Begin> begin_;
  };
  [[nodiscard]] Scope scope() { return Scope(*this); }

  /// Runs `step` once and remembers every command it gave to the device: forward, backward and update. Running the
  /// replay repeats them on the same buffers, without recording anything: copy new data in with `Replay::set`.
  /// The step must be whole: zero_grad before backward, no other tape. Vars made before it must stay as they are.
  /// The recording must stay (no rewind) as long as the replay is used. A branch on a value is not seen: the replay
  /// always takes the way `step` took now.
  Replay<eT> capture(const std::function<void()>& step);

  /// Runs `step` (forward, backward, update) and times every command it gives to the device. Costs nothing when it is
  /// not used. StateError within another profile of this thread.
  Profile profile(const std::function<void()>& step);

  /// The recording, one line per operation: index, name, operands, shape, whether a gradient flows through it.
  std::string to_text() const;
  /// The recording as a graph in DOT.
  std::string to_dot() const;

  /// For those who extend the engine.
  detail::Graph<eT>& graph() const;

 private:
  std::unique_ptr<detail::Graph<eT>> graph_;
};

}  // namespace armagrad
