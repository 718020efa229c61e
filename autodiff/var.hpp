// Var: a handle to one matrix of a recording. 16 bytes, trivially copyable; pass it by value.
#pragma once

#include <initializer_list>
#include <iosfwd>

#include <armagrad/autodiff/armadillo.hpp>
#include <armagrad/autodiff/shape.hpp>

namespace armagrad {

namespace detail {
template <class eT>
class Graph;
/// Outlives its graph (states are pooled and never freed), so that a handle can always be checked.
template <class eT>
struct TapeState {
  Graph<eT>* graph = nullptr;
  std::uint32_t serial = 0;     // given to the nodes; grows for ever, also from one tape to the next
  std::uint32_t recording = 0;  // counts the recordings: grows at every rewind, move and destruction
};
}  // namespace detail

/// A matrix recorded on a tape. Every use checks that the recording it belongs to is still there: a Var of a rewound,
/// moved or destroyed tape throws StateError.
template <class eT>
class Var {
 public:
  using elem_type = eT;

  /// No matrix yet: any use throws StateError until another Var is assigned.
  Var() : state_(&unassigned_), index_(0), serial_(0) {}

  Shape shape() const;
  arma::uword n_rows() const { return shape().rows; }
  arma::uword n_cols() const { return shape().cols; }
  arma::uword n_elem() const { return shape().size(); }

  /// A copy of the value.
  arma::Mat<eT> value() const;
  /// The value without a copy, to be read at once: `const arma::mat y = x.value_view()` shows the tape's memory (on
  /// another device a copy), which whatever the tape does next may change or give back. Do not write to it.
  const arma::Mat<eT> value_view() const;  // NOLINT(readability-const-return-type)
  /// The value of a 1x1 Var; ShapeError otherwise.
  eT item() const;
  /// A copy of the gradient that backward left here; zeros where it has not reached. Kept for leaves
  /// (`tape.variable`, parameters) and for Vars marked with `retain_grad`.
  arma::Mat<eT> grad() const;
  /// The gradient without a copy, as `value_view`.
  const arma::Mat<eT> grad_view() const;  // NOLINT(readability-const-return-type)
  /// Keep the gradient of this intermediate result in the next backward passes.
  void retain_grad() const;
  bool requires_grad() const;

  /// Adds d(this)/d(leaf) to the gradient of every leaf this 1x1 Var depends on.
  /// Throws ShapeError unless 1x1, StateError when nothing here requires a gradient or a parameter has changed since.
  void backward() const;
  /// The same for the given leaves alone; nothing is computed for the others.
  void backward(std::initializer_list<Var> leaves) const;

  // Parts of the matrix, named and counted as in Armadillo; all differentiable.
  Var t() const;
  Var row(arma::uword i) const { return rows(i, i); }
  Var col(arma::uword i) const { return cols(i, i); }
  Var rows(arma::uword first, arma::uword last) const;
  Var cols(arma::uword first, arma::uword last) const;
  Var submat(arma::uword first_row, arma::uword first_col, arma::uword last_row, arma::uword last_col) const;
  /// The elements at column-major `indices`, as a column; an index may occur several times.
  Var elem(const arma::uvec& indices) const;
  Var operator()(arma::uword row, arma::uword col) const { return submat(row, col, row, col); }

  template <class T>
  Var& operator+=(const T& x) {
    return *this = *this + x;
  }
  template <class T>
  Var& operator-=(const T& x) {
    return *this = *this - x;
  }
  template <class T>
  Var& operator*=(const T& x) {
    return *this = *this * x;
  }
  template <class T>
  Var& operator%=(const T& x) {
    return *this = *this % x;
  }
  template <class T>
  Var& operator/=(const T& x) {
    return *this = *this / x;
  }

  // For those who write operations: the recording and the place in it.
  detail::Graph<eT>& graph() const;  // in graph.hpp
  std::uint32_t index() const { return index_; }
  Var(detail::TapeState<eT>* state, std::uint32_t index, std::uint32_t serial)
      : state_(state), index_(index), serial_(serial) {}

 private:
  [[noreturn]] void refuse() const;
  const eT* gradient() const;
  inline static detail::TapeState<eT> unassigned_{};
  detail::TapeState<eT>* state_;
  std::uint32_t index_;
  std::uint32_t serial_;
};

template <class eT>
std::ostream& operator<<(std::ostream& out, Var<eT> x);

static_assert(sizeof(Var<float>) == 16);

}  // namespace armagrad
