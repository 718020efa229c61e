// Certificates: epsilons up to which no perturbation changes a prediction, proved with bounds on every layer.
//
//   const auto layers = ag::robust::layers(model);
//   const auto bounds = ag::robust::bound_propagation(layers, x, 0.01);
//   const auto eps = ag::robust::certified_epsilon(layers, x, labels);
//
// All rounding is outward: the bounds hold for the layers in exact arithmetic, and for their evaluation in eT in any
// order of summation, at x + delta rounded to eT.
#pragma once

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include <armagrad/nn/layers.hpp>
#include <armagrad/robust/classifier.hpp>

namespace armagrad::robust {

enum class Activation { relu, tanh, sigmoid };  // all monotone

/// W x + b, with what bounds need precomputed.
template <class eT>
struct LinearLayer {
  std::string name;
  arma::Mat<eT> weight;      // out x in
  arma::Col<eT> bias;        // out
  arma::Mat<eT> abs_weight;  // |W|, out x in
};

/// A network of linear layers and monotone activations, one after the other: what certificates can be computed for.
/// Holds copies of the weights.
template <class eT>
class Layers {
 public:
  /// ShapeError unless weight (out x in) takes what the layer before gives and bias is out x 1; ValueError for entries
  /// that are not finite. Both name the layer.
  void linear(std::string name, arma::Mat<eT> weight, arma::Col<eT> bias);
  void activation(Activation a);
  /// Appends those of a module: a Linear, a monotone activation, a Dropout (in evaluation nothing), or a Sequential of
  /// these. OptionError, naming it and its place, for any other.
  void module(nn::Module<eT>& m, const std::string& path = "");
  void append(const Layers& other);

  using Layer = std::variant<LinearLayer<eT>, Activation>;
  const std::vector<Layer>& all() const { return layers_; }
  arma::uword inputs() const;
  arma::uword outputs() const { return outputs_; }

 private:
  std::vector<Layer> layers_;
  arma::uword outputs_ = 0;
};

/// The layers of a model. A module of your own lists them in the order of its forward, in a member function:
///   ag::robust::Layers<float> layers() { return ag::robust::layers(l1, ag::nn::Relu<float>{}, l2); }
/// OptionError for a part that is none of Linear, Relu, Tanh, Sigmoid, Dropout, Sequential or such a module.
template <class M, class... More>
auto layers(M&& first, More&&... more) {
  using eT = typename std::decay_t<M>::elem_type;
  Layers<eT> out;
  const auto add = [&out](auto& part) {
    if constexpr (requires { out.append(part.layers()); })
      out.append(part.layers());
    else
      out.module(part);
  };
  add(first);
  (add(more), ...);
  return out;
}

/// Bounds on the columns of a batch, rows x batch. Further kinds of bounds on the same layer (linear in the input, as
/// CROWN's) can be kept beside these and intersected with them.
template <class eT>
struct Bounds {
  arma::Mat<eT> lower, upper;
  /// The tighter of both at each entry; ShapeError unless the shapes agree.
  void intersect(const Bounds& other);
};

/// How a margin's lower bound is computed.
enum class Margin {
  published,  // the label's lower bound minus the largest other upper bound
  folded,     // of the differences of logits directly: (W_label - W_other) a; tighter
};

/// 0.0001, 0.0002, ... 0.9999.
std::vector<double> epsilon_grid();

struct CertifyOptions {
  Margin margin = Margin::folded;
  std::optional<Interval> range = Interval{0, 1};  // of the data: inputs beyond it are not considered
  std::vector<double> grid = epsilon_grid();       // growing
  unsigned threads = 1;
};

/// Interval bound propagation (Gowal et al. 2018) over all inputs within epsilon of a column of x and within the
/// range: the bounds of the input first, then of what each linear layer gives, before its activation.
/// @param x features x batch
/// @throws ShapeError when x's rows are not the layers' inputs; ValueError when x is outside of the range or not
///   finite; OptionError when epsilon is negative or not finite
template <class eT>
std::vector<Bounds<eT>> bound_propagation(const Layers<eT>& layers, const arma::Mat<eT>& x, double epsilon,
                                          std::optional<Interval> range = Interval{0, 1});

/// A lower bound of logit_label - logit_other, for the worst other, of each column: positive means certified. 1 x
/// batch.
/// @param epsilons 1 x batch
/// @throws as bound_propagation; ShapeError unless there is a label and an epsilon for each column, ValueError for a
///   label that is not below the logits' rows, OptionError when the last layer is not linear
template <class eT>
arma::Row<eT> certified_margin(const Layers<eT>& layers, const arma::Mat<eT>& x, const arma::Row<std::size_t>& labels,
                               const arma::Row<double>& epsilons, const CertifyOptions& options = {});

/// The largest epsilon of the grid that is certified, for each column; nothing where the smallest is not. The columns
/// are done together, each by doubling steps and bisection of its own. Throws as certified_margin, and OptionError for
/// a grid that is empty or does not grow.
template <class eT>
std::vector<std::optional<double>> certified_epsilon(const Layers<eT>& layers, const arma::Mat<eT>& x,
                                                     const arma::Row<std::size_t>& labels,
                                                     const CertifyOptions& options = {});

}  // namespace armagrad::robust
