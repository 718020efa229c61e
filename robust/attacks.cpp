#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstring>
#include <exception>
#include <limits>
#include <mutex>
#include <numbers>
#include <thread>
#include <tuple>
#include <utility>

#include <fmt/format.h>

#include <armagrad/autodiff/device/attacks.hpp>
#include <armagrad/autodiff/device/kernels.hpp>
#include <armagrad/autodiff/error.hpp>
#include <armagrad/autodiff/graph.hpp>
#include <armagrad/nn/losses.hpp>
#include <armagrad/robust/attacks.hpp>

namespace armagrad::robust {
namespace detail {
namespace {

using Labels = arma::Row<std::size_t>;
using armagrad::detail::mix;

/// The largest number of type eT that is not above x >= 0.
template <class eT>
eT round_down(double x) {
  const auto y = static_cast<eT>(x);
  return static_cast<double>(y) > x ? std::nextafter(y, eT(0)) : y;
}

struct Hash {
  std::uint64_t low = 0, high = 0;
};

/// Of a column's bits. Both halves pass every word through bijections of their own, so that columns that differ in
/// one word never collide.
template <class eT>
Hash hash_of(const eT* column, arma::uword n) {
  const auto* bytes = reinterpret_cast<const unsigned char*>(column);
  const std::size_t size = n * sizeof(eT);
  Hash h{0x243f6a8885a308d3, 0x13198a2e03707344};
  for (std::size_t i = 0; i < size; i += 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes + i, std::min<std::size_t>(8, size - i));
    h.low = (h.low ^ word) * 0x9e3779b97f4a7c15;
    h.low ^= h.low >> 32;
    h.high = (h.high ^ word) * 0xc2b2ae3d27d4eb4f;
    h.high ^= h.high >> 29;
  }
  return {mix(h.low), mix(h.high)};
}

/// The hashes of the latest perturbations of one example.
class Ring {
 public:
  void reset(std::size_t iterations) {
    const std::size_t size = std::min<std::size_t>(iterations + 1, 4096);
    low_.resize(size);
    high_.resize(size);
    count_ = 0;
  }
  /// How many iterates ago this one was there, 0 if it was not; it is then remembered.
  std::size_t period(const Hash& h) {
    const std::size_t size = low_.size(), known = std::min(count_, size);
    std::size_t found = 0;
    const std::uint64_t* low = low_.data();
    bool any = false;
    for (std::size_t i = 0; i < known; ++i) any |= low[i] == h.low;
    for (std::size_t ago = 1; any && ago <= known && found == 0; ++ago) {
      const std::size_t i = (count_ - ago) % size;
      if (low_[i] == h.low && high_[i] == h.high) found = ago;
    }
    low_[count_ % size] = h.low;
    high_[count_ % size] = h.high;
    ++count_;
    return found;
  }

 private:
  std::vector<std::uint64_t> low_, high_;
  std::size_t count_ = 0;
};

/// The sum of the margins: the largest other logit minus the label's.
template <class eT>
Var<eT> margins(Tape<eT>& tape, Var<eT> logits, const Labels& labels) {
  arma::Mat<eT> own(logits.n_rows(), logits.n_cols(), arma::fill::zeros);
  for (arma::uword j = 0; j < labels.n_elem; ++j) own(labels[j], j) = 1;
  // The label's logit is pushed out of the race for the largest of the others.
  const arma::Mat<eT> out = own * (-std::numeric_limits<eT>::max() / 4);
  return accu(max(logits + tape.constant(out), 0)) - accu(logits % tape.constant(own));
}

/// The loss of one column of logits in double, as halving steps compare it.
template <class eT>
double loss_of(const eT* z, arma::uword classes, std::size_t label, Loss loss) {
  double other = -std::numeric_limits<double>::infinity();
  for (arma::uword i = 0; i < classes; ++i)
    if (i != label) other = std::max(other, static_cast<double>(z[i]));
  const double own = static_cast<double>(z[label]);
  if (loss == Loss::margin) return other - own;
  double others = 0;
  for (arma::uword i = 0; i < classes; ++i)
    if (i != label) others += std::exp(static_cast<double>(z[i]) - other);
  const double x =
      other - own + std::log(others);  // log of the others' share over the label's: softplus(x) is the loss
  return x > 30 ? x : std::log1p(std::exp(x));
}

template <class eT>
void check(const char* what, const arma::Mat<eT>& x, const Labels& labels) {
  if (labels.n_elem != x.n_cols)
    throw ShapeError(fmt::format("{}: x is {}x{} and there are {} labels; there must be one for each column", what,
                                 x.n_rows, x.n_cols, labels.n_elem));
}

/// Tells where numbers that are not finite come from. `what` is not finite: "the logits" or "the gradient".
template <class eT>
[[noreturn]] void fail_not_finite(const Classifier<eT>& model, const char* what, arma::uword example,
                                  std::size_t iterate, const arma::Col<eT>& x, const arma::Col<eT>& logits) {
  std::string why = "the logits are; check the loss function and the model's operations";
  if (!x.is_finite())
    why = "the input is not; check the data";
  else if (const std::string name = model.bad_parameter(); !name.empty())
    why = fmt::format("{} is not; load or train the weights again", name);
  else if (!logits.is_finite())
    why = "input and parameters are; check the scale of the weights and the model's operations";
  throw ValueError(
      fmt::format("pgd: {} of column {} of x is not finite at iterate {}: {}", what, example, iterate, why));
}

template <class eT>
void check(const PgdOptions<eT>& o, const arma::Row<double>& epsilons) {
  const auto require = [](bool holds, const std::string& text) {
    if (!holds) throw OptionError("pgd: " + text);
  };
  for (const double e : epsilons)
    require(e >= 0 && std::isfinite(e), fmt::format("epsilon is {}; it must be at least 0 and finite", e));
  if (o.step) require(*o.step > 0, fmt::format("step is {}; it must be positive", *o.step));
  require(o.iterations > 0 && o.iterations < (1u << 30),
          fmt::format("iterations is {}; it must be from 1 to 2^30 - 1", o.iterations));
  require(o.restarts > 0, "restarts is 0; the first attempt is one");
  require(o.width > 0, "width is 0; it must be positive");
  require(o.threads > 0, "threads is 0; it must be positive");
  if (o.clip)
    require(o.clip->low <= o.clip->high, fmt::format("clip is [{}, {}]; low is above high", o.clip->low, o.clip->high));
}

/// A column's input: x + delta, within the range.
template <class eT>
void perturb(const eT* x, const eT* delta, arma::uword n, const std::optional<Interval>& clip, eT* out) {
  for (arma::uword i = 0; i < n; ++i) out[i] = x[i] + delta[i];
  if (!clip) return;
  const eT low = static_cast<eT>(clip->low), high = static_cast<eT>(clip->high);
  for (arma::uword i = 0; i < n; ++i) out[i] = std::min(std::max(out[i], low), high);
}

/// One attack: the examples and epsilons to be done, shared by the threads.
template <class eT>
struct Problem {
  const Classifier<eT>& model;
  const arma::Mat<eT>& x;
  const Labels& labels;
  const PgdOptions<eT>& options;
  std::vector<arma::Row<double>> epsilons;  // per budget: one for all examples, or one for each
  arma::Mat<eT>* delta = nullptr;           // where perturbations are kept, if they are
  std::function<void(const Finished&)> report;
  /// Per example the smallest budget that has succeeded: it succeeds at the larger ones, too. Empty: each by itself.
  std::vector<std::atomic<std::size_t>> sufficed{};

  bool has_sufficed(arma::uword example, std::size_t budget) const {
    return !sufficed.empty() && sufficed[example] < budget;
  }
  void suffices(arma::uword example, std::size_t budget) {
    if (sufficed.empty()) return;
    std::size_t before = sufficed[example];
    while (budget < before && !sufficed[example].compare_exchange_weak(before, budget)) {
    }
  }

  eT epsilon(arma::uword example, std::size_t budget) const {
    return round_down<eT>(epsilons[budget][epsilons[budget].n_elem == 1 ? 0 : example]);
  }
};

/// What one place takes up next.
struct Item {
  arma::uword example;
  std::size_t budget;
};

/// Hands out items to places. Where a column's place in a product changes its bits, each place has its own items.
class Queue {
 public:
  Queue(std::vector<Item> items, std::size_t places, bool fixed)
      : items_(std::move(items)), places_(places), fixed_(fixed), taken_(fixed ? places : 0) {}
  const Item* next(std::size_t place) {
    const std::size_t i = fixed_ ? place + places_ * taken_[place]++ : next_++;
    return i < items_.size() ? &items_[i] : nullptr;
  }

 private:
  std::vector<Item> items_;
  std::size_t places_;
  bool fixed_;
  std::atomic<std::size_t> next_{0};
  std::vector<std::size_t> taken_;  // by a place's own thread alone
};

template <class eT>
void check_logits(const Var<eT>& z, const Labels& labels) {
  if (z.n_cols() != labels.n_elem)
    throw ShapeError(fmt::format("attack: the model gave {} for {} columns; it must give logits, classes x columns",
                                 to_string(z.shape()), labels.n_elem));
  if (labels.max() >= z.n_rows())
    throw ValueError(fmt::format("attack: label {} is not below the model's {} classes", labels.max(), z.n_rows()));
}
template <class eT>
void require_dependence(const Var<eT>& loss) {
  if (!loss.requires_grad())
    throw StateError("attack: the loss does not depend on the input; compute it from the Var that is given");
}

/// Values and gradients of a fixed number of columns.
template <class eT>
class Evaluator {
 public:
  Evaluator(const Problem<eT>& problem, arma::uword width)
      : input(problem.x.n_rows, width, arma::fill::zeros),
        labels(width, arma::fill::zeros),
        problem_(problem),
        tape_(problem.model.device) {}

  arma::Mat<eT> input;         // features x width
  Labels labels;               // 1 x width
  arma::Mat<eT> logits{};      // classes x width
  arma::Mat<eT> own_losses{};  // 1 x width, if there is an own loss
  arma::Mat<eT> gradient{};    // features x width

  void run(bool with_gradient) {
    tape_.rewind();
    const Var<eT> x = tape_.variable(input);
    const Var<eT> z = problem_.model.forward(x);
    check_logits(z, labels);
    logits = z.value();
    if (!with_gradient && !problem_.options.own_loss) return;
    const Var<eT> loss = summed_loss(z);
    if (!with_gradient) return;
    require_dependence(loss);
    loss.backward({x});  // for the input alone: no product for a weight's gradient
    gradient = x.grad();
  }

 private:
  Var<eT> summed_loss(Var<eT> z) {
    const PgdOptions<eT>& o = problem_.options;
    if (o.own_loss) {
      const Var<eT> losses = o.own_loss(z, labels);
      if (losses.n_rows() != 1 || losses.n_cols() != labels.n_elem)
        throw ShapeError(fmt::format("attack: own_loss gave {}; it must give the loss of each column, 1x{}",
                                     to_string(losses.shape()), labels.n_elem));
      own_losses = losses.value();
      return accu(losses);
    }
    if (o.loss == Loss::margin) return margins(tape_, z, labels);
    return nn::cross_entropy(z, labels, nn::Reduction::sum);
  }

  const Problem<eT>& problem_;
  Tape<eT> tape_;
};

/// The columns of an attack on a device that is not the host: data, perturbations and gradients stay there. For each
/// pass the host gets logits and digests, and gives what has changed of the columns.
template <class eT>
class ColumnsOnDevice {
 public:
  using Column = armagrad::detail::AttackColumn<eT>;
  using Digest = armagrad::detail::AttackDigest;
  using Scalars = armagrad::detail::AttackScalars<eT>;

  /// Whether it can do this attack: fixed steps along signs from x itself.
  static bool can(const Problem<eT>& p) {
    const PgdOptions<eT>& o = p.options;
    return p.model.device.backend().host_code() < 0 && o.steps == Steps::fixed && o.norm == Norm::l_inf &&
           !o.random_start && o.restarts == 1 && !o.own_loss && o.loss == Loss::cross_entropy;
  }

  ColumnsOnDevice(const Problem<eT>& problem, arma::uword width)
      : problem_(problem),
        backend_(problem.model.device.backend()),
        data_(buffer<eT>(problem.x.n_elem)),
        here_(buffer<eT>(problem.x.n_rows * width)),
        next_(buffer<eT>(problem.x.n_rows * width)),
        columns_on_device_(buffer<Column>(width)),
        digests_on_device_(buffer<Digest>(width)),
        columns_(width, Column{0, 1, 0, 0}),
        digests_(width),
        tape_(problem.model.device) {
    backend_.upload(data_.get(), problem.x.memptr(), problem.x.n_elem * sizeof(eT));
    const auto& clip = problem.options.clip;
    scalars_ = {columns_on_device_.get(), digests_on_device_.get(), clip.has_value(),
                clip ? static_cast<eT>(clip->low) : eT(0), clip ? static_cast<eT>(clip->high) : eT(0)};
    for (arma::uword i = 0; i < problem.x.n_rows; ++i) armagrad::detail::add_to_hash(zeros_, i, eT(0));
  }

  /// Column j attacks this example, from a perturbation of zeros.
  void begin(arma::uword j, arma::uword example, eT epsilon, double step) {
    columns_[j] = {static_cast<std::uint32_t>(example), 1, epsilon,
                   static_cast<eT>(problem_.options.targeted ? -step : step)};
    changed_ = true;
  }

  /// Logits of all columns; with the gradient, the next perturbations are computed as well, and digests of both.
  void run(bool with_gradient, const Labels& labels, arma::Mat<eT>& logits) {
    if (changed_) backend_.upload(columns_on_device_.get(), columns_.data(), columns_.size() * sizeof(Column));
    tape_.rewind();
    auto& g = tape_.graph();
    const std::uint32_t input = g.leaf(armagrad::detail::variable_leaf<eT>, shape(), with_gradient);
    Command<eT> c;
    c.kernel = &input_kernel();
    c.out = view(g.node(input).value);
    c.in[0] = data();
    c.in[1] = view(here_.get());
    c.object = &scalars_;
    g.run(c, "attack");
    const Var<eT> x = g.var(input), z = problem_.model.forward(x);
    check_logits(z, labels);
    has_next_ = with_gradient;
    if (with_gradient) {
      const Var<eT> loss = nn::cross_entropy(z, labels, nn::Reduction::sum);
      require_dependence(loss);
      loss.backward({x});
      c.kernel = &step_kernel();
      c.out = view(next_.get());
      c.in[0] = view(static_cast<const eT*>(g.node(input).gradient));
      c.in[1] = view(static_cast<const eT*>(here_.get()));
      c.in[2] = data();
      g.run(c, "attack");
      backend_.download(digests_.data(), digests_on_device_.get(), digests_.size() * sizeof(Digest));
    }
    logits = z.value();
    changed_ = false;
    for (Column& column : columns_) changed_ |= std::exchange(column.anew, 0) != 0;
  }
  /// After all columns have been judged: what was the next perturbation is the one here.
  void advance() {
    if (has_next_) std::swap(here_, next_);
  }

  const Digest& digest(arma::uword j) const { return digests_[j]; }
  Hash hash(arma::uword j) const { return {digests_[j].low, digests_[j].high}; }
  Hash hash_of_zeros() const { return {zeros_.low, zeros_.high}; }
  /// The perturbation that was judged last.
  arma::Col<eT> delta(arma::uword j) const {
    arma::Col<eT> out(problem_.x.n_rows);
    backend_.download(out.memptr(), here_.get() + j * problem_.x.n_rows, out.n_elem * sizeof(eT));
    return out;
  }

 private:
  template <class T>
  std::shared_ptr<T> buffer(std::size_t count) const {
    try {
      return {static_cast<T*>(backend_.allocate(count * sizeof(T))),
              [&backend = backend_](T* p) { backend.release(p); }};
    } catch (const DeviceError& e) {
      armagrad::detail::tell_for("attack", e);
    }
  }
  Shape shape() const {
    return {static_cast<std::uint32_t>(problem_.x.n_rows), static_cast<std::uint32_t>(columns_.size())};
  }
  template <class T>
  View<T> view(T* p) const {
    return {p, shape().rows, shape().cols, shape().rows};
  }
  View<const eT> data() const {
    return {data_.get(), shape().rows, static_cast<std::uint32_t>(problem_.x.n_cols), shape().rows};
  }
  static void input_on_host(const Command<eT>& c) {
    const auto& s = *static_cast<const Scalars*>(c.object);
    for (std::size_t j = 0; j < c.out.cols; ++j) {
      const Column& column = s.columns[j];
      const eT* x = c.in[0].data + column.example * std::size_t{c.in[0].ld};
      eT* delta = const_cast<eT*>(c.in[1].data) + j * c.in[1].ld;
      if (column.anew != 0) std::fill_n(delta, c.out.rows, eT(0));
      for (std::size_t i = 0; i < c.out.rows; ++i)
        c.out.data[i + j * c.out.ld] = armagrad::detail::attack_input_of(x[i], delta[i], s);
    }
  }
  static void step_on_host(const Command<eT>& c) {
    const auto& s = *static_cast<const Scalars*>(c.object);
    for (std::size_t j = 0; j < c.out.cols; ++j) {
      const Column& column = s.columns[j];
      const eT* x = c.in[2].data + column.example * std::size_t{c.in[2].ld};
      Digest digest{0, 0, 1, 0};
      for (std::size_t i = 0; i < c.out.rows; ++i) {
        const eT g = c.in[0].data[i + j * c.in[0].ld];
        const eT next = armagrad::detail::attack_step_of(c.in[1].data[i + j * c.in[1].ld], g, x[i], column, s);
        c.out.data[i + j * c.out.ld] = next;
        armagrad::detail::add_to_hash(digest, i, next);
        if (g != eT(0)) digest.zero = 0;
        if (!std::isfinite(g)) digest.not_finite = 1;
      }
      s.digests[j] = digest;
    }
  }
  static const Kernel<eT>& input_kernel() {
    static const Kernel<eT> kernel{"attack_input", &input_on_host};
    return kernel;
  }
  static const Kernel<eT>& step_kernel() {
    static const Kernel<eT> kernel{"attack_step", &step_on_host};
    return kernel;
  }

  const Problem<eT>& problem_;
  Backend& backend_;
  std::shared_ptr<eT> data_, here_, next_;  // features x examples; features x width
  std::shared_ptr<Column> columns_on_device_;
  std::shared_ptr<Digest> digests_on_device_;
  std::vector<Column> columns_;
  std::vector<Digest> digests_;
  Digest zeros_{};
  Scalars scalars_{};
  bool changed_ = true, has_next_ = false;
  Tape<eT> tape_;
};

/// Whether a column's logits and gradient are the same bits wherever it stands: each example of a batch is computed at
/// two neighbouring places.
template <class eT>
bool position_independent(const Problem<eT>& problem, arma::uword width) {
  Evaluator<eT> e(problem, width);
  for (arma::uword j = 0; j < width; ++j) {
    e.input.col(j) = problem.x.col(j % problem.x.n_cols);
    e.labels[j] = problem.labels[j % problem.x.n_cols];
  }
  e.run(true);
  const arma::Mat<eT> logits = e.logits, gradient = e.gradient;
  e.input = arma::shift(e.input, 1, 1);
  e.labels = arma::shift(e.labels, 1, 1);
  e.run(true);
  const auto equal = [](const arma::Mat<eT>& a, const arma::Mat<eT>& b) {
    return std::memcmp(a.memptr(), b.memptr(), a.n_elem * sizeof(eT)) == 0;
  };
  return equal(arma::shift(logits, 1, 1), e.logits) && equal(arma::shift(gradient, 1, 1), e.gradient);
}

/// What auto-PGD remembers of an example.
template <class eT>
struct Halving {
  arma::Col<eT> previous, best, best_gradient;
  double best_loss = 0, last_loss = 0, step = 0;
  double best_loss_at_check = 0;
  bool halved_at_check = false;
  std::size_t rises = 0, next_check = 0, interval = 0;
  bool best_hit = false;
};

/// A place: one example on its way.
template <class eT>
struct Place {
  const Item* item = nullptr;
  std::size_t restart = 0, iterate = 0;
  std::size_t last = 0;  // the iterate that is the final one, or equal to it
  eT epsilon = 0;
  double step = 0;
  bool cycles = false, success = false, kept = false, zero_gradient = false;
  std::uint32_t passes = 0;
  Ring ring{};
  Halving<eT> halving{};
};

/// One thread's share of an attack.
template <class eT>
class Worker {
 public:
  Worker(Problem<eT>& problem, Queue& queue, arma::uword width, std::size_t first_place)
      : problem_(problem),
        o_(problem.options),
        queue_(queue),
        first_place_(first_place),
        evaluator_(problem, width),
        places_(width) {
    if (ColumnsOnDevice<eT>::can(problem))
      device_.emplace(problem, width);
    else
      delta_.zeros(problem.x.n_rows, width);
  }

  void run(const std::atomic<bool>& stop) {
    for (arma::uword j = 0; j < places_.size(); ++j) take(j);
    while (!stop) {
      bool any = false, gradient = false;
      for (arma::uword j = 0; j < places_.size(); ++j) {
        const Place<eT>& p = places_[j];
        if (p.item == nullptr) continue;
        any = true;
        gradient |= p.iterate < p.last;
        if (!device_)
          perturb(problem_.x.colptr(p.item->example), delta_.colptr(j), n(), o_.clip, evaluator_.input.colptr(j));
      }
      if (!any) return;
      device_ ? device_->run(gradient, evaluator_.labels, evaluator_.logits) : evaluator_.run(gradient);
      for (arma::uword j = 0; j < places_.size(); ++j)
        if (places_[j].item != nullptr) advance(j);
      if (device_) device_->advance();
    }
  }

 private:
  arma::uword n() const { return problem_.x.n_rows; }
  bool any_iterate() const { return o_.judge == Judge::any_iterate; }

  void take(arma::uword j) {
    Place<eT>& p = places_[j];
    for (p.item = queue_.next(first_place_ + j); p.item != nullptr; p.item = queue_.next(first_place_ + j)) {
      if (!problem_.has_sufficed(p.item->example, p.item->budget)) break;
      problem_.report({p.item->example, p.item->budget, true, false, 0});
    }
    if (p.item == nullptr) return;
    evaluator_.labels[j] = problem_.labels[p.item->example];
    p.epsilon = problem_.epsilon(p.item->example, p.item->budget);
    const double e = static_cast<double>(p.epsilon);
    p.step = o_.step.value_or(o_.steps == Steps::halving ? 2 * e : 2.5 * e / static_cast<double>(o_.iterations));
    p.step = std::min(p.step, 1e6 * e);  // as good as any longer one, and not infinite
    p.success = p.kept = p.zero_gradient = false;
    p.passes = 0;
    begin_restart(j, 0);
  }

  void begin_restart(arma::uword j, std::size_t restart) {
    Place<eT>& p = places_[j];
    p.restart = restart;
    p.iterate = 0;
    p.last = o_.iterations;
    p.cycles = false;
    if (device_)
      device_->begin(j, p.item->example, p.epsilon, p.step);
    else if (restart > 0 || o_.random_start)
      start_at_random(j);
    else
      delta_.col(j).zeros();
    if (o_.steps == Steps::halving) {
      Halving<eT>& h = p.halving;
      h = {};
      h.step = p.step;
      h.interval = h.next_check = share_of_iterations(0.22);
      h.best_loss = -std::numeric_limits<double>::infinity();
      h.previous = delta_.col(j);
    } else if (o_.retire) {
      p.ring.reset(o_.iterations);
      p.ring.period(device_ ? device_->hash_of_zeros() : hash_of(delta_.colptr(j), n()));
    }
  }

  std::size_t share_of_iterations(double share) const {
    return std::max<std::size_t>(1, static_cast<std::size_t>(share * static_cast<double>(o_.iterations)));
  }

  void start_at_random(arma::uword j) {
    const Place<eT>& p = places_[j];
    eT* delta = delta_.colptr(j);
    const std::uint64_t key = mix(mix(mix(o_.seed) ^ p.item->example) ^ p.restart);
    const auto uniform = [key](std::uint64_t i) { return static_cast<double>(mix(key ^ mix(i)) >> 11) * 0x1.0p-53; };
    const double e = static_cast<double>(p.epsilon);
    if (o_.norm == Norm::l_inf) {
      for (arma::uword i = 0; i < n(); ++i) delta[i] = static_cast<eT>(e * (2 * uniform(i) - 1));
    } else {  // a normal direction, and a radius whose n-th power is uniform
      for (arma::uword i = 0; i < n(); ++i)
        delta[i] = static_cast<eT>(std::sqrt(-2 * std::log(1 - uniform(2 * i))) *
                                   std::cos(2 * std::numbers::pi * uniform(2 * i + 1)));
      const double radius = e * std::pow(uniform(2 * n()), 1 / static_cast<double>(n()));
      const double length = norm_of(delta);
      if (length > 0)
        for (arma::uword i = 0; i < n(); ++i) delta[i] *= static_cast<eT>(radius / length);
    }
    project(j, delta);
  }

  double norm_of(const eT* v) const {
    double total = 0;
    for (arma::uword i = 0; i < n(); ++i) total += static_cast<double>(v[i]) * static_cast<double>(v[i]);
    return std::sqrt(total);
  }

  /// Onto the ball, and with `clip` onto the data's range.
  void project(arma::uword j, eT* delta) const {
    const eT epsilon = places_[j].epsilon;
    if (o_.norm == Norm::l_inf) {
      for (arma::uword i = 0; i < n(); ++i) delta[i] = std::min(std::max(delta[i], -epsilon), epsilon);
    } else if (const double length = norm_of(delta); length > static_cast<double>(epsilon)) {
      const eT factor = static_cast<eT>(static_cast<double>(epsilon) / length);
      for (arma::uword i = 0; i < n(); ++i) delta[i] *= factor;
    }
    if (!o_.clip) return;
    const eT low = static_cast<eT>(o_.clip->low), high = static_cast<eT>(o_.clip->high);
    const eT* x = problem_.x.colptr(places_[j].item->example);
    for (arma::uword i = 0; i < n(); ++i) {
      const eT sum = x[i] + delta[i];
      delta[i] = sum < low ? std::min(low - x[i], epsilon) : sum > high ? std::max(high - x[i], -epsilon) : delta[i];
    }
  }

  /// delta += step along the gradient.
  void ascend(eT* delta, const eT* gradient, double step) const {
    if (o_.targeted) step = -step;
    if (o_.norm == Norm::l_inf) {
      const eT s = static_cast<eT>(step);
      for (arma::uword i = 0; i < n(); ++i) delta[i] += gradient[i] > 0 ? s : gradient[i] < 0 ? -s : eT(0);
    } else if (const double length = norm_of(gradient); length > 0) {
      const eT s = static_cast<eT>(step / length);
      for (arma::uword i = 0; i < n(); ++i) delta[i] += s * gradient[i];
    }
  }

  /// Checks the gradient and says whether all of it is zero.
  bool is_zero(arma::uword j) const {
    if (device_) {
      if (device_->digest(j).not_finite != 0) fail_not_finite(j, "the gradient");
      return device_->digest(j).zero != 0;
    }
    const eT* g = evaluator_.gradient.colptr(j);
    eT largest = 0;
    bool finite = true;
    for (arma::uword i = 0; i < n(); ++i) {
      const eT a = std::abs(g[i]);
      finite &= a <= std::numeric_limits<eT>::max();
      largest = std::max(largest, a);
    }
    if (!finite) fail_not_finite(j, "the gradient");
    return largest == 0;
  }

  [[noreturn]] void fail_not_finite(arma::uword j, const char* what) const {
    const Evaluator<eT>& e = evaluator_;
    const arma::uword example = places_[j].item->example;
    arma::Col<eT> input = problem_.x.col(example);
    if (device_)
      perturb(problem_.x.colptr(example), device_->delta(j).memptr(), n(), o_.clip, input.memptr());
    else
      input = e.input.col(j);
    detail::fail_not_finite<eT>(problem_.model, what, example, places_[j].iterate, input, e.logits.col(j));
  }

  /// Judges the iterate just evaluated, and goes on from it.
  void advance(arma::uword j) {
    Place<eT>& p = places_[j];
    ++p.passes;
    if (problem_.has_sufficed(p.item->example, p.item->budget)) p.success = true;
    if (o_.retire && any_iterate() && p.success) return end_attack(j);
    const eT *z = evaluator_.logits.colptr(j), *end = z + evaluator_.logits.n_rows;
    if (!std::all_of(z, end, [](eT v) { return std::isfinite(v); })) fail_not_finite(j, "a logit");
    const auto predicted = static_cast<std::size_t>(std::max_element(z, end) - z);
    bool hit = (predicted == evaluator_.labels[j]) == o_.targeted;
    if (any_iterate() && hit) succeed(j);
    if (any_iterate() && o_.retire && p.success) return end_attack(j);
    const bool last = p.iterate == p.last;
    if (!last) p.zero_gradient |= is_zero(j) && !(any_iterate() && p.success);
    if (o_.steps == Steps::halving) remember(j, hit, last);
    if (last) {
      if (o_.steps == Steps::halving) hit = p.halving.best_hit;
      if (!any_iterate() && hit) succeed(j);
      return end_restart(j);
    }
    if (o_.steps == Steps::halving) {
      step_with_momentum(j);
    } else if (!device_) {  // there it is done
      eT* delta = delta_.colptr(j);
      ascend(delta, evaluator_.gradient.colptr(j), p.step);
      project(j, delta);
    }
    ++p.iterate;
    if (o_.steps == Steps::fixed && o_.retire && !p.cycles) close_cycle(j);
  }

  void close_cycle(arma::uword j) {
    Place<eT>& p = places_[j];
    const std::size_t period = p.ring.period(device_ ? device_->hash(j) : hash_of(delta_.colptr(j), n()));
    if (period == 0) return;
    p.cycles = true;
    // All iterates from here on are among the last `period`. The final one is as far from the end as this many steps.
    p.last = p.iterate + (o_.iterations - p.iterate) % period;
    if (any_iterate() && problem_.delta == nullptr) end_restart(j);  // all that will come has been judged
  }

  /// The current perturbation is a successful one; the first counts.
  void succeed(arma::uword j) {
    Place<eT>& p = places_[j];
    if (!p.kept) keep(j);
    p.success = p.kept = true;
  }
  void keep(arma::uword j) const {
    if (problem_.delta == nullptr) return;
    const auto& h = places_[j].halving;
    const bool best = o_.steps == Steps::halving && !any_iterate();
    problem_.delta->col(places_[j].item->example) = device_ ? device_->delta(j)
                                                    : best  ? h.best
                                                            : arma::Col<eT>(delta_.col(j));
  }

  void end_restart(arma::uword j) {
    Place<eT>& p = places_[j];
    if (p.restart + 1 < o_.restarts && !(o_.retire && p.success)) return begin_restart(j, p.restart + 1);
    end_attack(j);
  }

  void end_attack(arma::uword j) {
    Place<eT>& p = places_[j];
    if (!p.kept) keep(j);
    if (p.success) problem_.suffices(p.item->example, p.item->budget);
    problem_.report({p.item->example, p.item->budget, p.success, p.zero_gradient, p.passes});
    take(j);
  }

  // Auto-PGD: Croce and Hein 2020, algorithm 1.

  void remember(arma::uword j, bool hit, bool last) {
    Place<eT>& p = places_[j];
    Halving<eT>& h = p.halving;
    double loss = o_.own_loss
                      ? static_cast<double>(evaluator_.own_losses[j])
                      : loss_of(evaluator_.logits.colptr(j), evaluator_.logits.n_rows, evaluator_.labels[j], o_.loss);
    if (o_.targeted) loss = -loss;
    if (p.iterate > 0 && loss > h.last_loss) ++h.rises;
    h.last_loss = loss;
    if (loss > h.best_loss || h.best.is_empty()) {
      h.best_loss = loss;
      h.best = delta_.col(j);
      if (!last) h.best_gradient = evaluator_.gradient.col(j);
      h.best_hit = hit;
    }
    if (p.iterate == 0) h.best_loss_at_check = h.best_loss;
  }

  void step_with_momentum(arma::uword j) {
    Place<eT>& p = places_[j];
    Halving<eT>& h = p.halving;
    arma::Col<eT> gradient = evaluator_.gradient.col(j);
    if (p.iterate == h.next_check) {
      const bool few_rises = static_cast<double>(h.rises) < 0.75 * static_cast<double>(h.interval);
      const bool stuck = !h.halved_at_check && h.best_loss <= h.best_loss_at_check;
      h.halved_at_check = few_rises || stuck;
      if (h.halved_at_check) {
        h.step /= 2;
        delta_.col(j) = h.best;
        gradient = h.best_gradient;
      }
      h.best_loss_at_check = h.best_loss;
      h.rises = 0;
      h.interval = std::max(h.interval - std::min(h.interval, share_of_iterations(0.03)), share_of_iterations(0.06));
      h.next_check += h.interval;
    }
    arma::Col<eT> ahead = delta_.col(j);
    ascend(ahead.memptr(), gradient.memptr(), h.step);
    project(j, ahead.memptr());
    const arma::Col<eT> here = delta_.col(j);
    if (p.iterate > 0) {
      ahead = here + eT(0.75) * (ahead - here) + eT(0.25) * (here - h.previous);
      project(j, ahead.memptr());
    }
    delta_.col(j) = ahead;
    h.previous = here;
  }

  Problem<eT>& problem_;
  const PgdOptions<eT>& o_;
  Queue& queue_;
  std::size_t first_place_;
  Evaluator<eT> evaluator_;
  std::optional<ColumnsOnDevice<eT>> device_{};  // instead of the evaluator and `delta_`
  arma::Mat<eT> delta_{};                        // features x width
  std::vector<Place<eT>> places_;
};

/// Does all items with all threads; an exception in one of them ends the others.
template <class eT>
void run(Problem<eT>& problem, std::vector<Item> items) {
  const PgdOptions<eT>& o = problem.options;
  if (items.empty()) return;
  const std::size_t threads = std::min<std::size_t>(o.threads, items.size());
  const std::size_t width = std::min<std::size_t>(o.width, (items.size() + threads - 1) / threads);
  const std::size_t places = threads * width;
  const bool fixed = items.size() > places && !position_independent(problem, width);
  std::mutex mutex;
  const auto report = [&mutex, inner = problem.report](const Finished& f) {
    const std::lock_guard lock(mutex);
    inner(f);
  };
  problem.report = report;
  Queue queue(std::move(items), places, fixed);
  std::atomic<bool> stop{false};
  std::exception_ptr error;
  const auto work = [&](std::size_t thread) {
    try {
      Worker<eT>(problem, queue, width, thread * width).run(stop);
    } catch (...) {
      const std::lock_guard lock(mutex);
      if (!error) error = std::current_exception();
      stop = true;
    }
  };
  std::vector<std::thread> others;
  try {
    for (std::size_t t = 1; t < threads; ++t) others.emplace_back(work, t);
  } catch (...) {
    error = std::current_exception();
    stop = true;
  }
  work(0);
  for (std::thread& t : others) t.join();
  if (error) std::rethrow_exception(error);
}

template <class eT>
std::uint64_t unretired(const PgdOptions<eT>& o, arma::uword examples) {
  return std::uint64_t{examples} * o.restarts * (o.iterations + 1);
}

}  // namespace

template <class eT>
std::string bad_parameter(nn::Module<eT>& module) {
  for (const auto& p : module.named_parameters())
    if (!p.parameter->value().is_finite()) return p.name;
  return "";
}

template <class eT>
Attack<eT> pgd(const Classifier<eT>& model, const arma::Mat<eT>& x, const Labels& labels,
               const arma::Row<double>& epsilons, const PgdOptions<eT>& options) {
  check("pgd", x, labels);
  if (epsilons.n_elem != x.n_cols)
    throw ShapeError(fmt::format("pgd: there are {} epsilons for {} columns of x; give one for each, or one for all",
                                 epsilons.n_elem, x.n_cols));
  check(options, epsilons);
  Attack<eT> attack;
  attack.delta.zeros(x.n_rows, x.n_cols);
  attack.success.zeros(x.n_cols);
  attack.passes_unretired = unretired(options, x.n_cols);
  Problem<eT> problem{model, x, labels, options, {epsilons}, &attack.delta, [&](const Finished& f) {
                        attack.success[f.example] = f.success;
                        attack.passes += f.passes;
                        attack.zero_gradients += f.zero_gradient;
                        if (options.on_finished) options.on_finished(f);
                      }};
  std::vector<Item> items;
  for (arma::uword i = 0; i < x.n_cols; ++i) {
    const std::optional<bool> known = options.known ? options.known(i, 0) : std::nullopt;
    if (known)
      attack.success[i] = *known;
    else
      items.push_back({i, 0});
  }
  run(problem, std::move(items));
  return attack;
}

template <class eT>
AttackCurve pgd_curve(const Classifier<eT>& model, const arma::Mat<eT>& x, const Labels& labels,
                      const std::vector<double>& epsilons, const PgdOptions<eT>& options) {
  check("pgd_curve", x, labels);
  check(options, arma::Row<double>(epsilons));
  for (std::size_t b = 1; b < epsilons.size(); ++b)
    if (!(epsilons[b] > epsilons[b - 1]))
      throw OptionError(fmt::format("pgd_curve: epsilon {} follows {}; they must grow", epsilons[b], epsilons[b - 1]));
  const std::size_t budgets = epsilons.size();
  AttackCurve curve;
  curve.epsilons = epsilons;
  curve.success.zeros(budgets, x.n_cols);
  curve.zero_gradients.assign(budgets, 0);
  curve.passes.assign(budgets, 0);
  curve.passes_unretired.assign(budgets, unretired(options, x.n_cols));
  Problem<eT> problem{model, x, labels, options, {}, nullptr, [&](const Finished& f) {
                        curve.success(f.budget, f.example) = f.success;
                        curve.passes[f.budget] += f.passes;
                        curve.zero_gradients[f.budget] += f.zero_gradient;
                        if (options.on_finished) options.on_finished(f);
                      }};
  for (const double e : epsilons) problem.epsilons.push_back({e});
  const bool any = options.judge == Judge::any_iterate;
  if (any) problem.sufficed = std::vector<std::atomic<std::size_t>>(x.n_cols);
  for (auto& s : problem.sufficed) s = budgets;
  std::vector<Item> items;
  for (std::size_t k = 0; k < budgets; ++k) {
    // Small epsilons first, so that larger ones need not be tried where these suffice. Otherwise the large ones: they
    // take longest, and at the end the places should not wait for a long one.
    const std::size_t b = any ? k : budgets - 1 - k;
    for (arma::uword i = 0; i < x.n_cols; ++i) {
      const std::optional<bool> known = options.known ? options.known(i, b) : std::nullopt;
      if (!known) {
        items.push_back({i, b});
      } else if (*known) {
        curve.success(b, i) = 1;
        problem.suffices(i, b);
      }
    }
  }
  run(problem, std::move(items));
  if (any)  // a larger epsilon may have been tried before a smaller one sufficed
    for (std::size_t b = 1; b < budgets; ++b)
      curve.success.row(b) = arma::max(curve.success.row(b), curve.success.row(b - 1));
  return curve;
}

template <class eT>
arma::Mat<eT> input_gradient(const Classifier<eT>& model, const arma::Mat<eT>& x, const Labels& labels, Loss loss,
                             const LossFunction<eT>& own_loss) {
  check("input_gradient", x, labels);
  PgdOptions<eT> options;
  options.loss = loss;
  options.own_loss = own_loss;
  const Problem<eT> problem{model, x, labels, options, {}, nullptr, {}};
  arma::Mat<eT> gradient(x.n_rows, x.n_cols);
  for (arma::uword first = 0; first < x.n_cols; first += options.width) {
    const arma::uword last = std::min(first + options.width, x.n_cols) - 1;
    Evaluator<eT> e(problem, last - first + 1);
    e.input = x.cols(first, last);
    e.labels = labels.cols(first, last);
    e.run(true);
    gradient.cols(first, last) = e.gradient;
  }
  return gradient;
}

template <class eT>
Labels predict(const Classifier<eT>& model, const arma::Mat<eT>& x) {
  constexpr arma::uword width = 480;
  Labels out(x.n_cols);
  Tape<eT> tape(model.device);
  const auto guard = tape.no_grad();
  for (arma::uword first = 0; first < x.n_cols; first += width) {
    const arma::uword last = std::min(first + width, x.n_cols) - 1;
    tape.rewind();
    const arma::Mat<eT> logits = model.forward(tape.constant(x.cols(first, last))).value();
    for (arma::uword j = first; j <= last; ++j) out[j] = logits.col(j - first).index_max();
  }
  return out;
}

template <class eT>
PgdOptions<eT> fgsm_options(PgdOptions<eT> options) {
  options.steps = Steps::fixed;
  options.step = std::numeric_limits<double>::max();
  options.iterations = options.restarts = 1;
  options.random_start = false;
  options.judge = Judge::final_iterate;
  return options;
}

#define ARMAGRAD_INSTANTIATE(eT)                                                                                \
  template std::string bad_parameter(nn::Module<eT>&);                                                          \
  template Attack<eT> pgd(const Classifier<eT>&, const arma::Mat<eT>&, const Labels&, const arma::Row<double>&, \
                          const PgdOptions<eT>&);                                                               \
  template AttackCurve pgd_curve(const Classifier<eT>&, const arma::Mat<eT>&, const Labels&,                    \
                                 const std::vector<double>&, const PgdOptions<eT>&);                            \
  template arma::Mat<eT> input_gradient(const Classifier<eT>&, const arma::Mat<eT>&, const Labels&, Loss,       \
                                        const LossFunction<eT>&);                                               \
  template Labels predict(const Classifier<eT>&, const arma::Mat<eT>&);                                         \
  template PgdOptions<eT> fgsm_options(PgdOptions<eT>);
ARMAGRAD_INSTANTIATE(float)
ARMAGRAD_INSTANTIATE(double)
#undef ARMAGRAD_INSTANTIATE

}  // namespace detail

template <class eT>
arma::Mat<eT> perturbed(const arma::Mat<eT>& x, const arma::Mat<eT>& delta, std::optional<Interval> clip) {
  if (arma::size(x) != arma::size(delta))
    throw ShapeError(fmt::format("perturbed: x is {}x{}, delta {}x{}; they must be equal", x.n_rows, x.n_cols,
                                 delta.n_rows, delta.n_cols));
  arma::Mat<eT> out(x.n_rows, x.n_cols);
  detail::perturb(x.memptr(), delta.memptr(), x.n_elem, clip, out.memptr());
  return out;
}
template arma::Mat<float> perturbed(const arma::Mat<float>&, const arma::Mat<float>&, std::optional<Interval>);
template arma::Mat<double> perturbed(const arma::Mat<double>&, const arma::Mat<double>&, std::optional<Interval>);

}  // namespace armagrad::robust
