// Losses: 1x1 Vars. Predictions and targets are features x batch; a target may be a matrix or a Var.
#pragma once

#include <armagrad/autodiff/autodiff.hpp>

namespace armagrad::nn {

enum class Reduction {
  mean,         // over all entries; for cross_entropy over the columns
  sample_mean,  // the sum over each column's entries, averaged over the columns
  sum,
};

namespace detail {
/// `total`, or its mean over the entries or columns of `batch`; ShapeError when there are none.
template <class eT>
Var<eT> reduce(const char* loss, Var<eT> total, Shape batch, Reduction reduction);

template <class eT, class Target>
decltype(auto) as_labels(const Target& labels) {
  if constexpr (std::is_same_v<Target, arma::Row<std::size_t>> || std::is_same_v<Target, Labels<eT>>) {
    return (labels);
  } else {
    static_assert(
        arma::is_Row<Target>::value && std::is_integral_v<typename Target::elem_type>,
        "labels are a row of class indices, one per column of the logits: arma::Row<std::size_t>, or a row of "
        "another integer type");
    return arma::conv_to<arma::Row<std::size_t>>::from(labels);
  }
}
}  // namespace detail

// All throw ShapeError when prediction and target differ in shape, and for the mean of nothing.

/// Squared differences.
template <class eT>
Var<eT> mse(Var<eT> prediction, Var<eT> target, Reduction reduction = Reduction::mean);
/// Absolute differences.
template <class eT>
Var<eT> l1(Var<eT> prediction, Var<eT> target, Reduction reduction = Reduction::mean);
/// d^2 / 2 for differences up to delta, delta (|d| - delta / 2) beyond (Huber 1964). OptionError unless delta > 0.
template <class eT>
Var<eT> huber(Var<eT> prediction, Var<eT> target, double delta = 1, Reduction reduction = Reduction::mean);

template <class eT, class Target>
requires(!armagrad::detail::is_var<Target>) Var<eT> mse(Var<eT> prediction, const Target& target,
                                                        Reduction reduction = Reduction::mean) {
  return mse(prediction, armagrad::detail::as_var(prediction, target), reduction);
}
template <class eT, class Target>
requires(!armagrad::detail::is_var<Target>) Var<eT> l1(Var<eT> prediction, const Target& target,
                                                       Reduction reduction = Reduction::mean) {
  return l1(prediction, armagrad::detail::as_var(prediction, target), reduction);
}
template <class eT, class Target>
requires(!armagrad::detail::is_var<Target>) Var<eT> huber(Var<eT> prediction, const Target& target, double delta = 1,
                                                          Reduction reduction = Reduction::mean) {
  return huber(prediction, armagrad::detail::as_var(prediction, target), delta, reduction);
}

/// -log softmax(logits)[label] of each column. Labels: an arma::Row<size_t> of class indices, or a tape's Labels.
/// ShapeError unless there is one label per column, and for the mean of none; ValueError for a label that is not below
/// the logits' rows.
template <class eT, class Target>
Var<eT> cross_entropy(Var<eT> logits, const Target& labels, Reduction reduction = Reduction::mean) {
  return detail::reduce("cross_entropy", cross_entropy_sum(logits, detail::as_labels<eT>(labels)), logits.shape(),
                        reduction == Reduction::sum ? Reduction::sum : Reduction::sample_mean);
}

/// The share of columns whose largest entry is the label's (the first of equals), in [0, 1]. ShapeError unless there is
/// one label per column and at least one entry, ValueError for a label that is not below the logits' rows.
template <class eT>
double accuracy(const arma::Mat<eT>& logits, const arma::Row<std::size_t>& labels);

}  // namespace armagrad::nn
