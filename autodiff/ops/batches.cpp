// Shuffled batches of what lies on the device.
#include <algorithm>
#include <vector>

#include <fmt/format.h>

#include <armagrad/autodiff/batches.hpp>
#include <armagrad/autodiff/device/kernels.hpp>
#include <armagrad/autodiff/graph.hpp>
#include <armagrad/autodiff/operations.hpp>
#include <armagrad/autodiff/samples.hpp>

namespace armagrad {
namespace detail {

// The columns of one batch. Data: no gradient flows.
struct BatchColumns {
  static constexpr auto name = "batch";
  using Attributes = BatchAttributes;
  static constexpr bool random = true;
  static Shape shape(Operands& in) { return {in[0].rows, in.attributes<Attributes>().batch}; }
  template <class eT>
  static void eval(Eval<eT>& e) {
    e.run(e.command(kernels<eT>::batch_columns));
  }
  static void samples(Samples& s) {
    for (const std::uint32_t n : {1u, 2u, 5u, 7u})
      for (const std::uint64_t position : {0u, 3u}) {
        const BatchAttributes a = batch_attributes(n, 1 + n / 3, 11, position, nullptr);
        s.add(
             {s.uniform(3, n)}, [a](const auto& in) { return columns(a, in[0]); },
             [a](const std::vector<arma::mat>& in) -> arma::mat {
               arma::uvec which(a.batch);
               for (std::uint32_t j = 0; j < a.batch; ++j) which[j] = a.sample(a.position, j);
               return in[0].cols(which);
             })
            .check_gradient = false;  // there is none
      }
  }
  template <class eT>
  static Var<eT> columns(BatchAttributes a, Var<eT> x) {
    a.replays = x.graph().replays();
    return apply<BatchColumns>(a, x);
  }
};

}  // namespace detail

template <class eT, class Target>
Batches<eT, Target>::Batches(const arma::Mat<eT>& x, const std::type_identity_t<Target>& y,
                             const BatchesOptions& options, Device device)
    : x_(x), targets_(0, 0), options_(options) {
  if (x.n_cols != y.n_cols)
    throw ShapeError(fmt::format(
        "Batches: x is {}x{}, y is {}x{}: x's columns ({}) must equal y's columns ({}); columns are samples", x.n_rows,
        x.n_cols, y.n_rows, y.n_cols, x.n_cols, y.n_cols));
  if (options.batch == 0 || options.batch > x.n_cols)
    throw OptionError(
        fmt::format("Batches: batch is {}; it must be from 1 to the {} samples", options.batch, x.n_cols));
  x_.set_trainable(false);
  x_.to(device);
  if constexpr (with_labels) {
    std::vector<std::uint32_t> indices;
    for (const std::size_t label : y) {
      if (label >= ~std::uint32_t{0}) throw ValueError(fmt::format("Batches: {} is no class index", label));
      indices.push_back(static_cast<std::uint32_t>(label));
    }
    largest_label_ = *std::max_element(indices.begin(), indices.end());
    const std::size_t bytes = indices.size() * sizeof(std::uint32_t);
    labels_ = static_cast<std::uint32_t*>(device.backend().allocate(bytes));
    try {
      device.backend().upload(labels_, indices.data(), bytes);
    } catch (...) {
      device.backend().release(labels_);
      throw;
    }
  } else {
    targets_ = Parameter<eT>(y);
    targets_.set_trainable(false);
    targets_.to(device);
  }
}

template <class eT, class Target>
Batches<eT, Target>::~Batches() {
  if (labels_ != nullptr) x_.device().backend().release(labels_);
}

template <class eT, class Target>
typename Batches<eT, Target>::Batch Batches<eT, Target>::next(Tape<eT>& tape) {
  detail::Graph<eT>& g = tape.graph();
  const auto n = static_cast<std::uint32_t>(samples()), batch = static_cast<std::uint32_t>(options_.batch);
  const detail::BatchAttributes a = detail::batch_attributes(n, batch, options_.seed, position_, g.replays());
  const Var<eT> x = apply<detail::BatchColumns>(a, tape.parameter(x_));
  const auto with = [&](auto y) {
    ++position_;
    return Batch{x, y};
  };
  if constexpr (with_labels) {
    const std::uint32_t slot = g.add_labels(batch, largest_label_);
    Command<eT> c;
    c.kernel = &detail::kernels<eT>::batch_labels;
    c.out = {nullptr, 0, 0, 0};
    c.attributes = g.keep_attributes(&a, sizeof a);
    c.object = labels_;
    c.indices = g.labels(slot).indices;
    c.index_count = batch;
    g.run(c, "batch");
    return with(Labels<eT>{g.state(), g.state()->recording, slot});
  } else {
    return with(apply<detail::BatchColumns>(a, tape.parameter(targets_)));
  }
}

template class Batches<float, arma::Row<std::size_t>>;
template class Batches<double, arma::Row<std::size_t>>;
template class Batches<float, arma::Mat<float>>;
template class Batches<double, arma::Mat<double>>;

}  // namespace armagrad

ARMAGRAD_LIST_OPERATIONS(batches, BatchColumns)
