// Attacks: inputs close to given ones that a model gets wrong, found with the gradient by the input. They work on any
// module, and on any function of Vars, that takes features x batch to logits, classes x batch, each column for itself:
//
//   const auto attack = ag::robust::pgd(model, images, labels, 0.1, {.step = 0.01, .iterations = 40, .clip = {{0,
//   1}}}); attack.success.n_elem, accu(attack.success), images + attack.delta, ...
//
// Losses are summed over the batch: a mean would make the gradients of a large batch too small for float. No gradient
// of a parameter is computed. A module is put in evaluation mode meanwhile, so do not train it at the same time.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include <armagrad/robust/classifier.hpp>

namespace armagrad::robust {

enum class Norm { l_inf, l_2 };

enum class Loss {
  cross_entropy,
  margin,  // the largest other logit minus the label's; its gradient does not fade for confident predictions
};

/// Which iterates count: an attack succeeds when the last one is misclassified, or when any one is (the first included,
/// which without random start is x itself).
enum class Judge { final_iterate, any_iterate };

enum class Steps {
  fixed,
  /// Of auto-PGD (Croce and Hein 2020, algorithm 1): with momentum, halved and taken up again from the best iterate
  /// where it makes no progress. The final iterate is the one with the largest loss.
  halving,
};

/// Losses of your own: from logits, classes x batch, and labels the loss of each column, 1 x batch, to be increased
/// (for targeted attacks, decreased).
template <class eT>
using LossFunction = std::function<Var<eT>(Var<eT> logits, const arma::Row<std::size_t>& labels)>;

/// Of one example at one epsilon.
struct Finished {
  arma::uword example;   // column of x
  std::size_t budget;    // index of its epsilon
  bool success;          // in a curve judged by any iterate also where a smaller epsilon has sufficed
  bool zero_gradient;    // at some iterate it was zero in every entry: the attack could not go on from there
  std::uint32_t passes;  // forward and backward passes spent on it
};

template <class eT>
struct PgdOptions {
  Norm norm = Norm::l_inf;
  /// Length of a step: of each entry for l_inf, of the whole for l_2. By default 2.5 epsilon / iterations (Madry et al.
  /// 2018), with halving 2 epsilon to begin with. Larger than 2 epsilon means: to the border each time.
  std::optional<double> step{};
  std::size_t iterations = 40;
  Steps steps = Steps::fixed;
  /// Begin at a uniform point of the ball rather than at x; restarts after the first always do.
  bool random_start = false;
  std::size_t restarts = 1;
  std::uint64_t seed = 0;  // the start is a function of (seed, example, restart, entry)
  /// The labels given are to be reached rather than to be left.
  bool targeted = false;
  /// Keeps x + delta in the data's range.
  std::optional<Interval> clip{};
  Loss loss = Loss::cross_entropy;
  LossFunction<eT> own_loss{};  // instead of `loss`
  Judge judge = Judge::any_iterate;

  /// Leave off with an example as soon as its result is certain: with Judge::any_iterate at its first misclassified
  /// iterate, and, with fixed steps, when a perturbation returns, for the iterates then repeat for ever. Perturbations
  /// are compared by a 128-bit hash. Results are the same bit for bit without, only later.
  bool retire = true;
  /// Examples that are computed together. The width never changes, because a product of another width rounds otherwise:
  /// an example that is done makes room for the next one.
  arma::uword width = 144;
  /// Each with a tape and `width` places of its own; meant for BLAS on one thread.
  unsigned threads = 1;

  // For long runs.
  std::function<void(const Finished&)> on_finished{};  // calls never overlap
  /// Whether the attack succeeds, where that is known already and need not be tried; nothing elsewhere.
  std::function<std::optional<bool>(arma::uword example, std::size_t budget)> known{};
};

template <class eT>
struct Attack {
  arma::Mat<eT> delta;                 // features x examples; x + delta is what the model was given last
  arma::Row<arma::uword> success;      // 1 x examples: 1 where the attack succeeded
  std::size_t zero_gradients = 0;      // examples that met a gradient that was zero in every entry
  std::uint64_t passes = 0;            // forward and backward passes of single examples
  std::uint64_t passes_unretired = 0;  // how many it would have been without retiring

  double success_rate() const { return success.is_empty() ? 0 : double(accu(success)) / double(success.n_elem); }
};

/// Accuracy against epsilon.
struct AttackCurve {
  std::vector<double> epsilons;             // budgets, growing
  arma::umat success;                       // budgets x examples
  std::vector<std::size_t> zero_gradients;  // per budget: as in Attack
  std::vector<std::uint64_t> passes;
  std::vector<std::uint64_t> passes_unretired;

  double accuracy(std::size_t budget) const { return 1 - double(accu(success.row(budget))) / double(success.n_cols); }
};

namespace detail {
template <class eT>
Attack<eT> pgd(const Classifier<eT>& model, const arma::Mat<eT>& x, const arma::Row<std::size_t>& labels,
               const arma::Row<double>& epsilons, const PgdOptions<eT>& options);
template <class eT>
AttackCurve pgd_curve(const Classifier<eT>& model, const arma::Mat<eT>& x, const arma::Row<std::size_t>& labels,
                      const std::vector<double>& epsilons, const PgdOptions<eT>& options);
template <class eT>
arma::Mat<eT> input_gradient(const Classifier<eT>& model, const arma::Mat<eT>& x, const arma::Row<std::size_t>& labels,
                             Loss loss, const LossFunction<eT>& own_loss);
template <class eT>
arma::Row<std::size_t> predict(const Classifier<eT>& model, const arma::Mat<eT>& x);
template <class eT>
PgdOptions<eT> fgsm_options(PgdOptions<eT> options);
}  // namespace detail

// All of these throw ShapeError unless there is one label for each column of x, ValueError for a label that is not
// below the logits' rows and for a gradient that is not finite (naming column and cause), OptionError for an epsilon
// that is negative or not finite and for other options out of range.

/// Projected gradient ascent on the loss within the ball of radius `epsilon` around each column of x (Madry et al.
/// 2018): delta <- P(delta + step sign(g)) for l_inf, P(delta + step g / |g|) for l_2.
/// @param x features x examples @param labels 1 x examples
template <class M, class eT>
Attack<eT> pgd(M&& model, const arma::Mat<eT>& x, const arma::Row<std::size_t>& labels, double epsilon,
               const std::type_identity_t<PgdOptions<eT>>& options = {}) {
  arma::Row<double> epsilons(x.n_cols);
  epsilons.fill(epsilon);
  return detail::pgd<eT>(detail::Evaluated<eT>(model).classifier, x, labels, epsilons, options);
}
/// The same with an epsilon for each example, 1 x examples.
template <class M, class eT>
Attack<eT> pgd(M&& model, const arma::Mat<eT>& x, const arma::Row<std::size_t>& labels,
               const arma::Row<double>& epsilons, const std::type_identity_t<PgdOptions<eT>>& options = {}) {
  const detail::Evaluated<eT> evaluated(model);
  return detail::pgd<eT>(evaluated.classifier, x, labels, epsilons, options);
}

/// One step to the border: delta = epsilon sign(g) (Goodfellow et al. 2015). Of the options norm, targeted, clip, loss,
/// own_loss, width and threads count.
template <class M, class eT>
Attack<eT> fgsm(M&& model, const arma::Mat<eT>& x, const arma::Row<std::size_t>& labels, double epsilon,
                const std::type_identity_t<PgdOptions<eT>>& options = {}) {
  return pgd(model, x, labels, epsilon, detail::fgsm_options<eT>(options));
}

/// PGD at several epsilons, which must grow: `success` is what an attack at each achieved. Under Judge::any_iterate an
/// example that an attack at a smaller epsilon got misclassified counts at the larger ones without a further attack, so
/// accuracies cannot rise. Perturbations are not kept.
template <class M, class eT>
AttackCurve pgd_curve(M&& model, const arma::Mat<eT>& x, const arma::Row<std::size_t>& labels,
                      const std::vector<double>& epsilons, const std::type_identity_t<PgdOptions<eT>>& options = {}) {
  const detail::Evaluated<eT> evaluated(model);
  return detail::pgd_curve<eT>(evaluated.classifier, x, labels, epsilons, options);
}
template <class M, class eT>
AttackCurve fgsm_curve(M&& model, const arma::Mat<eT>& x, const arma::Row<std::size_t>& labels,
                       const std::vector<double>& epsilons, const std::type_identity_t<PgdOptions<eT>>& options = {}) {
  return pgd_curve(model, x, labels, epsilons, detail::fgsm_options<eT>(options));
}

/// The gradient of each example's loss by its input, features x examples.
template <class M, class eT>
arma::Mat<eT> input_gradient(M&& model, const arma::Mat<eT>& x, const arma::Row<std::size_t>& labels,
                             Loss loss = Loss::cross_entropy,
                             const std::type_identity_t<LossFunction<eT>>& own_loss = {}) {
  const detail::Evaluated<eT> evaluated(model);
  return detail::input_gradient<eT>(evaluated.classifier, x, labels, loss, own_loss);
}

/// The class with the largest logit (the first of equals) of each column, 1 x examples.
template <class M, class eT>
arma::Row<std::size_t> predict(M&& model, const arma::Mat<eT>& x) {
  const detail::Evaluated<eT> evaluated(model);
  return detail::predict<eT>(evaluated.classifier, x);
}

/// What the model is given for x and delta: x + delta, within the range if there is one.
template <class eT>
arma::Mat<eT> perturbed(const arma::Mat<eT>& x, const arma::Mat<eT>& delta, std::optional<Interval> clip = {});

}  // namespace armagrad::robust
