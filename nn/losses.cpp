#include <fmt/format.h>

#include <armagrad/autodiff/error.hpp>
#include <armagrad/nn/losses.hpp>

namespace armagrad::nn {
namespace {

template <class eT>
void require_same_shape(const char* loss, Var<eT> prediction, Var<eT> target) {
  if (!(prediction.shape() == target.shape()))
    throw ShapeError(
        fmt::format("{}: the prediction is {}, the target {}: both must have the same shape; columns are "
                    "samples",
                    loss, to_string(prediction.shape()), to_string(target.shape())));
}

}  // namespace

template <class eT>
Var<eT> detail::reduce(const char* loss, Var<eT> total, Shape batch, Reduction reduction) {
  if (reduction == Reduction::sum) return total;
  if (batch.size() == 0)
    throw ShapeError(fmt::format("{}: the batch is {}: there is nothing to average; leave empty batches out", loss,
                                 to_string(batch)));
  return scale(total, 1 / static_cast<double>(reduction == Reduction::mean ? batch.size() : batch.cols));
}

template <class eT>
Var<eT> mse(Var<eT> prediction, Var<eT> target, Reduction reduction) {
  require_same_shape("mse", prediction, target);
  return detail::reduce("mse", squared_error(prediction, target), prediction.shape(), reduction);
}

template <class eT>
Var<eT> l1(Var<eT> prediction, Var<eT> target, Reduction reduction) {
  require_same_shape("l1", prediction, target);
  return detail::reduce("l1", accu(abs(prediction - target)), prediction.shape(), reduction);
}

template <class eT>
Var<eT> huber(Var<eT> prediction, Var<eT> target, double delta, Reduction reduction) {
  if (!(delta > 0)) throw OptionError(fmt::format("huber: delta is {}; it must be positive", delta));
  require_same_shape("huber", prediction, target);
  const Var<eT> size = abs(prediction - target), inner = clamp(size, 0, delta);
  // For d <= delta this is d (d - d / 2), beyond it delta (d - delta / 2).
  return detail::reduce("huber", accu(inner % (size - 0.5 * inner)), prediction.shape(), reduction);
}

template <class eT>
double accuracy(const arma::Mat<eT>& logits, const arma::Row<std::size_t>& labels) {
  if (logits.n_cols != labels.n_elem || logits.is_empty())
    throw ShapeError(
        fmt::format("accuracy: the logits are {}x{}, the labels {}: there must be one label per column, and "
                    "at least one row and column",
                    logits.n_rows, logits.n_cols, labels.n_elem));
  std::size_t right = 0;
  for (arma::uword j = 0; j < logits.n_cols; ++j) {
    if (labels[j] >= logits.n_rows)
      throw ValueError(fmt::format("accuracy: label {} of column {} is not below the {} rows (classes) of the logits",
                                   labels[j], j, logits.n_rows));
    right += logits.col(j).index_max() == labels[j];
  }
  return static_cast<double>(right) / static_cast<double>(labels.n_elem);
}

#define ARMAGRAD_INSTANTIATE(eT)                                           \
  template Var<eT> detail::reduce(const char*, Var<eT>, Shape, Reduction); \
  template Var<eT> mse(Var<eT>, Var<eT>, Reduction);                       \
  template Var<eT> l1(Var<eT>, Var<eT>, Reduction);                        \
  template Var<eT> huber(Var<eT>, Var<eT>, double, Reduction);             \
  template double accuracy(const arma::Mat<eT>&, const arma::Row<std::size_t>&);
ARMAGRAD_INSTANTIATE(float)
ARMAGRAD_INSTANTIATE(double)
#undef ARMAGRAD_INSTANTIATE

}  // namespace armagrad::nn
