// Operations of neural networks that are worth fusing.
#include <fmt/format.h>

#include <armagrad/autodiff/device/kernels.hpp>
#include <armagrad/autodiff/error.hpp>
#include <armagrad/autodiff/operations.hpp>
#include <armagrad/autodiff/rows.hpp>
#include <armagrad/autodiff/samples.hpp>
#include <armagrad/autodiff/tape.hpp>

namespace armagrad {
namespace detail {

// W x + b, with relu max(0, W x + b): one product with its epilogue.
template <bool relu>
struct AffineOperation {
  static constexpr auto name = relu ? "affine_relu" : "affine";
  static constexpr const char* operands[] = {"W", "x", "b", nullptr};
  static Shape shape(Operands& in) {
    const Shape w = in[0], x = in[1], b = in[2];
    in.require(w.cols == x.rows, "W's columns (", w.cols, ") must equal x's rows (", x.rows, "); columns are samples");
    in.require(b.rows == w.rows && b.cols == 1, "b must be a column of W's rows (", w.rows, "x1)");
    return {w.rows, x.cols};
  }
  template <class eT>
  static void eval(Eval<eT>& e) {
    Command<eT> c = e.command(kernels<eT>::gemm);
    c.flags = relu ? then_relu : 0u;
    e.run(c);
  }
  template <class eT>
  static void vjp(Rule<eT>& r) {
    const Var<eT> w = r.operand(0), x = r.operand(1), y = r.result();
    // relu's slope can be told from its result, so the product before it need not be kept.
    const Var<eT> dz = relu ? derivative<math::relu_row, 0>(r.grad(), y, y) : r.grad();  // out x batch
    if (r.needs(1)) r.accumulate(1, matmul(w.t(), dz));                                  // (in x out)(out x batch)
    if (r.needs(0)) r.accumulate(0, matmul(dz, x.t()));                                  // (out x batch)(batch x in)
    if (r.needs(2)) r.accumulate(2, sum_to(dz, r.operand(2).shape()));
  }
  // The same in commands: this is most of a small network's backward pass.
  template <class eT>
  static bool direct(Graph<eT>& g, std::uint32_t i) {
    const Node<eT>& n = g.node(i);
    const std::uint32_t w = n.operands[0], x = n.operands[1], b = n.operands[2];
    if (!g.may_consume(i) || g.awaits_step(x)) return false;  // W's gradient reads x
    const View<eT> dz = g.gradient(i);
    if constexpr (relu) {
      Command<eT> c;
      c.kernel = &RowKernels<math::relu_row, eT>::template derivative<0>;
      c.in[0] = c.out = dz;
      c.in[1] = c.in[2] = g.value(i);
      g.run(c, name);
    }
    if (g.wants_gradient(x))
      g.give(x, product_command<eT>(g.value(w), dz, transpose_a), name);  // (in x out)(out x batch)
    if (g.wants_gradient(w))
      g.give(w, product_command<eT>(dz, g.value(x), transpose_b), name);  // (out x batch)(batch x in)
    if (g.wants_gradient(b)) {
      Command<eT> c;
      c.kernel = &kernels<eT>::sum;
      c.in[0] = dz;
      g.give(b, c, name);
    }
    g.consume_gradient(i);
    return true;
  }
  template <class eT>
  static void jvp(ForwardRule<eT>& r) {  // dz = dW x + W dx + db
    const Var<eT> w = r.operand(0), x = r.operand(1), y = r.result();
    const bool linear_part = r.has_tangent(0) || r.has_tangent(1);
    Var<eT> dz = r.has_tangent(0) ? matmul(r.tangent(0), x) : r.has_tangent(1) ? matmul(w, r.tangent(1)) : r.tangent(2);
    if (r.has_tangent(0) && r.has_tangent(1)) dz += matmul(w, r.tangent(1));
    if (r.has_tangent(2) && linear_part) dz += r.tangent(2);
    if (!linear_part) dz = repeat_to(dz, y.shape());
    r.add(relu ? derivative<math::relu_row, 0>(dz, y, y) : dz);
  }
  static void samples(Samples& s) {
    const auto f = [](const auto& in) {
      if constexpr (relu)
        return affine_relu(in[0], in[1], in[2]);
      else
        return affine(in[0], in[1], in[2]);
    };
    const auto plain = [](const std::vector<arma::mat>& in) -> arma::mat {
      const arma::mat z = in[0] * in[1] + in[2] * arma::ones(1, in[1].n_cols);
      return relu ? arma::mat(arma::clamp(z, 0.0, arma::datum::inf)) : z;
    };
    for (const auto& [out, in, batch] : {std::array{3, 4, 5}, {1, 1, 1}, {3, 2, 0}, {0, 2, 3}}) {
      arma::mat w, x, b, z;
      do {  // nothing near relu's kink
        w = s.uniform(out, in), x = s.uniform(in, batch), b = s.uniform(out, 1), z = w * x + b * arma::ones(1, batch);
      } while (arma::any(arma::abs(arma::vectorise(z)) < 0.25));
      s.add({w, x, b}, f, plain);
    }
    s.fails({arma::mat(10, 64), arma::mat(32, 128), arma::mat(10, 1)}, f,
            std::string(name) +
                ": W is 10x64, x is 32x128, b is 10x1: W's columns (64) must equal x's rows (32); columns are samples");
    s.fails({arma::mat(3, 2), arma::mat(2, 5), arma::mat(1, 3)}, f,
            std::string(name) + ": W is 3x2, x is 2x5, b is 1x3: b must be a column of W's rows (3x1)");
  }
};
using Affine = AffineOperation<false>;
using AffineRelu = AffineOperation<true>;

// exp(x) / sum(exp(x)) of each column (dim 0) or row (dim 1).
struct Softmax {
  static constexpr auto name = "softmax";
  struct Attributes {
    int dim;
  };
  static Shape shape(Operands& in) {
    const int dim = in.attributes<Attributes>().dim;
    in.require(dim == 0 || dim == 1, "the dimension must be 0 (each column) or 1 (each row)");
    in.require((dim == 0 ? in[0].rows : in[0].cols) > 0, "there is nothing to sum along dimension ", dim);
    return in[0];
  }
  template <class eT>
  static void eval(Eval<eT>& e) {
    Command<eT> c = e.command(kernels<eT>::softmax);
    c.flags = e.template attributes<Attributes>().dim == 1 ? transpose_a : 0u;
    e.run(c);
  }
  template <class eT>
  static void vjp(Rule<eT>& r) {  // dx = y % (g - sum(g % y))
    const Var<eT> y = r.result(), gy = r.grad() % y;
    r.accumulate(0, gy - y % sum(gy, r.template attributes<Attributes>().dim));
  }
  template <class eT>
  static void jvp(ForwardRule<eT>& r) {  // dy = y % (dx - sum(y % dx))
    const Var<eT> y = r.result(), yv = y % r.tangent(0);
    r.add(yv - y % sum(yv, r.template attributes<Attributes>().dim));
  }
  static void samples(Samples& s) {
    for (const int dim : {0, 1}) {
      const auto f = [dim](const auto& in) { return softmax(in[0], dim); };
      const auto plain = [dim](const std::vector<arma::mat>& in) -> arma::mat {
        arma::mat e = arma::exp(in[0]);
        if (dim == 0)
          e.each_row() /= arma::rowvec(arma::sum(e, 0));
        else
          e.each_col() /= arma::vec(arma::sum(e, 1));
        return e;
      };
      s.add({s.uniform(3, 4)}, f, plain);
      s.add({s.uniform(1, 1)}, f, plain);
      s.add({s.uniform(2, 3) + 700}, f, [plain](std::vector<arma::mat> in) {
         return in[0] -= 700, plain(in);
       }).check_gradient = false;
      s.add({arma::mat(dim == 0 ? 3 : 0, dim == 0 ? 0 : 3)}, f, [](const std::vector<arma::mat>& in) { return in[0]; });
      s.fails({arma::mat(dim == 0 ? 0 : 3, dim == 0 ? 3 : 0)}, f, "softmax: x is ");
    }
    s.fails(
        {arma::mat(2, 2)}, [](const auto& in) { return softmax(in[0], 2); },
        "softmax: x is 2x2: the dimension must be 0 (each column) or 1 (each row)");
  }
};

// Each element 0 with probability p, else divided by 1 - p. The mask is a function of (seed, call, replay, place), so
// the backward pass draws it again instead of keeping it, and every replay draws another.
struct DropoutOperation {
  static constexpr auto name = "dropout";
  static constexpr bool accumulates = true;
  static constexpr bool linear = true;
  static constexpr bool random = true;
  using Attributes = DropoutAttributes;
  static Shape shape(Operands& in) { return in[0]; }
  template <class eT>
  static void eval(Eval<eT>& e) {
    e.run(e.command(kernels<eT>::dropout));
  }
  template <class eT>
  static void vjp(Rule<eT>& r) {
    r.accumulate(0, apply<DropoutOperation>(r.template attributes<Attributes>(), r.grad()));
  }
  static void samples(Samples& s) {
    const auto f = [](const auto& in) { return dropout(in[0], 0.4, 7, 3); };
    const auto plain = [](const std::vector<arma::mat>& in) -> arma::mat {
      Tape<double> tape;
      const arma::mat mask = dropout(tape.constant(arma::ones(arma::size(in[0]))), 0.4, 7, 3).value();
      return in[0] % mask;
    };
    for (const auto& [rows, cols] : {std::pair{5, 7}, {1, 1}, {2, 0}}) s.add({s.uniform(rows, cols)}, f, plain);
    s.fails(
        {arma::mat(2, 2)}, [](const auto& in) { return dropout(in[0], 1, 7, 3); },
        "dropout: p is 1; it must be at least 0 and below 1");
  }
};

// log softmax, by way of log_sum_exp.
struct LogSoftmax {
  static constexpr auto name = "log_softmax";
  static void samples(Samples& s) {
    for (const int dim : {0, 1})
      s.add(
          {s.uniform(3, 4)}, [dim](const auto& in) { return log_softmax(in[0], dim); },
          [dim](const std::vector<arma::mat>& in) -> arma::mat {
            arma::mat y = in[0];
            if (dim == 0)
              y.each_row() -= arma::rowvec(arma::log(arma::sum(arma::exp(in[0]), 0)));
            else
              y.each_col() -= arma::vec(arma::log(arma::sum(arma::exp(in[0]), 1)));
            return y;
          });
  }
};

// The sum of the squared differences.
struct SquaredError {
  static constexpr auto name = "squared_error";
  static constexpr const char* operands[] = {"A", "B", nullptr};
  static constexpr bool accumulates = true;
  static Shape shape(Operands& in) {
    in.require(in[0] == in[1], "both must have the same shape");
    return {1, 1};
  }
  template <class eT>
  static void eval(Eval<eT>& e) {
    e.run(e.command(kernels<eT>::squared_distance));
  }
  template <class eT>
  static void vjp(Rule<eT>& r) {
    const Var<eT> a = r.operand(0), b = r.operand(1), twice = scale(r.grad(), 2.0);
    if (r.needs(0)) r.accumulate(0, multiply(subtract(a, b), twice));
    if (r.needs(1)) r.accumulate(1, multiply(subtract(b, a), twice));
  }
  template <class eT>
  static void jvp(ForwardRule<eT>& r) {
    const Var<eT> twice = scale(subtract(r.operand(0), r.operand(1)), 2.0);
    if (r.has_tangent(0)) r.add(dot(twice, r.tangent(0)));
    if (r.has_tangent(1)) r.add(-dot(twice, r.tangent(1)));
  }
  static void samples(Samples& s) {
    const auto f = [](const auto& in) { return squared_error(in[0], in[1]); };
    const auto plain = [](const std::vector<arma::mat>& in) {
      return arma::mat{arma::accu(arma::square(in[0] - in[1]))};
    };
    s.add({s.uniform(3, 7), s.uniform(3, 7)}, f, plain);
    s.add({s.uniform(1, 1), s.uniform(1, 1)}, f, plain);
    s.add({s.uniform(3, 0), s.uniform(3, 0)}, f, plain);
    s.fails({arma::mat(3, 2), arma::mat(2, 3)}, f, "squared_error: A is 3x2, B is 2x3: both must have the same shape");
  }
};

// The sum over columns of -log softmax(logits)[label]. The second result is its derivative by the logits,
// R = softmax(logits) - one hot, with the label's entry as minus the sum of the others: exact where p - 1 would not be.
struct CrossEntropySum {
  static constexpr auto name = "cross_entropy";
  static constexpr const char* operands[] = {"logits", nullptr};
  static constexpr std::uint8_t results = 2;
  struct Attributes {
    const std::uint32_t* labels;
    std::uint32_t count;
  };
  static Shape shape(Operands& in) {
    const auto count = in.attributes<Attributes>().count;
    in.require(in[0].rows > 0, "there must be at least one class (row)");
    in.require(in[0].cols == count, "its columns (", in[0].cols, ") must be as many as the labels (", count,
               "); columns are samples");
    in.result(1, in[0]);
    return {1, 1};
  }
  template <class eT>
  static void eval(Eval<eT>& e) {
    const auto& a = e.template attributes<Attributes>();
    Command<eT> c = e.command(kernels<eT>::cross_entropy);
    if (e.for_gradient()) c.more_out[0] = e.out(1);
    c.indices = a.labels;
    c.index_count = a.count;
    e.run(c);
  }
  template <class eT>
  static void vjp(Rule<eT>& r) {
    if (r.has_grad(0)) r.accumulate(0, multiply(r.result(1), r.grad(0)));
    if (r.has_grad(1)) {  // dR = p % v - p (p'v), column by column
      const Var<eT> v = r.grad(1), p = softmax(r.operand(0));
      const Var<eT> pv = p % v;
      r.accumulate(0, pv - p % sum(pv, 0));
    }
  }
  template <class eT>
  static bool direct(Graph<eT>& g, std::uint32_t i) {
    const bool by_value_alone = g.gradient(i).data != nullptr && g.gradient(i + 1).data == nullptr;
    if (!by_value_alone || !g.may_consume(i)) return false;
    if (const std::uint32_t x = g.node(i).operands[0]; g.wants_gradient(x)) {
      Command<eT> c;
      c.kernel = &RowKernels<math::multiply_row, eT>::value;
      c.in[0] = g.value(i + 1);
      c.in[1] = g.gradient(i);
      g.give(x, c, name);
    }
    g.consume_gradient(i);
    return true;
  }
  template <class eT>
  static void jvp(ForwardRule<eT>& r) {
    const Var<eT> v = r.tangent(0);
    if (r.needs(0)) r.add(dot(r.result(1), v));
    if (r.needs(1)) {  // the derivative of softmax
      const Var<eT> p = softmax(r.operand(0)), pv = p % v;
      r.add(pv - p % sum(pv, 0), 1);
    }
  }
  static void samples(Samples& s) {
    const auto with = [](const arma::Row<std::size_t>& y) {
      return [y](const auto& in) { return cross_entropy_sum(in[0], y); };
    };
    const auto plain = [](const arma::Row<std::size_t>& y) {
      return [y](const std::vector<arma::mat>& in) {
        double loss = 0;
        for (arma::uword j = 0; j < y.n_elem; ++j)
          loss += std::log(arma::accu(arma::exp(in[0].col(j)))) - in[0](y[j], j);
        return arma::mat{loss};
      };
    };
    s.add({s.uniform(4, 5)}, with({1, 0, 3, 2, 1}), plain({1, 0, 3, 2, 1}));
    s.add({s.uniform(1, 2)}, with({0, 0}), plain({0, 0}));
    s.add({s.uniform(2, 1)}, with({1}), plain({1}));
    s.add({s.uniform(3, 0)}, with(arma::Row<std::size_t>()), plain(arma::Row<std::size_t>()));
    s.fails({arma::mat(3, 2)}, with({0, 1, 2}),
            "cross_entropy: logits is 3x2: its columns (2) must be as many as the labels (3); columns are samples");
    s.fails({arma::mat(3, 2)}, with({0, 3}), "cross_entropy: label 3 is not below the 3 rows (classes) of the logits");
  }
};

template <class eT>
Var<eT> cross_entropy_of(Var<eT> logits, LabelSlot& slot) {
  const Shape s = logits.shape();
  if (slot.count > 0 && slot.largest >= s.rows)
    throw ValueError(
        fmt::format("cross_entropy: label {} is not below the {} rows (classes) of the logits", slot.largest, s.rows));
  slot.classes = std::min(slot.classes, s.rows);
  return apply<CrossEntropySum>({slot.indices, slot.count}, logits);
}

}  // namespace detail

template <class eT>
Var<eT> affine_vars(Var<eT> w, Var<eT> x, Var<eT> b) {
  return apply<detail::Affine>(w, x, b);
}
template <class eT>
Var<eT> softmax(Var<eT> x, int dim) {
  return apply<detail::Softmax>({dim}, x);
}
template <class eT>
Var<eT> dropout(Var<eT> x, double p, std::uint64_t seed, std::uint64_t call) {
  if (!(p >= 0 && p < 1)) throw OptionError(fmt::format("dropout: p is {}; it must be at least 0 and below 1", p));
  return apply<detail::DropoutOperation>({p, seed, call, x.graph().replays()}, x);
}
template <class eT>
Var<eT> log_softmax(Var<eT> x, int dim) {
  return x - log_sum_exp(x, dim);
}
template <class eT>
Var<eT> squared_error(Var<eT> a, Var<eT> b) {
  return apply<detail::SquaredError>(a, b);
}
template <class eT>
Var<eT> affine_relu_vars(Var<eT> w, Var<eT> x, Var<eT> b) {
  return apply<detail::AffineRelu>(w, x, b);
}
template <class eT>
Var<eT> cross_entropy_sum(Var<eT> logits, const arma::Row<std::size_t>& labels) {
  auto& g = logits.graph();
  return detail::cross_entropy_of(logits, g.labels(g.add_labels(labels)));
}
template <class eT>
Var<eT> cross_entropy_sum(Var<eT> logits, const Labels<eT>& labels) {
  auto& g = logits.graph();
  if (labels.state != g.state() || labels.recording != g.state()->recording)
    throw StateError("cross_entropy: the labels belong to another tape or to a rewound recording");
  return detail::cross_entropy_of(logits, g.labels(labels.slot));
}

#define ARMAGRAD_INSTANTIATE(eT)                                              \
  template Var<eT> softmax(Var<eT>, int);                                     \
  template Var<eT> dropout(Var<eT>, double, std::uint64_t, std::uint64_t);    \
  template Var<eT> log_softmax(Var<eT>, int);                                 \
  template Var<eT> squared_error(Var<eT>, Var<eT>);                           \
  template Var<eT> affine_vars(Var<eT>, Var<eT>, Var<eT>);                    \
  template Var<eT> affine_relu_vars(Var<eT>, Var<eT>, Var<eT>);               \
  template Var<eT> cross_entropy_sum(Var<eT>, const arma::Row<std::size_t>&); \
  template Var<eT> cross_entropy_sum(Var<eT>, const Labels<eT>&);
ARMAGRAD_INSTANTIATE(float)
ARMAGRAD_INSTANTIATE(double)
#undef ARMAGRAD_INSTANTIATE

}  // namespace armagrad

ARMAGRAD_LIST_OPERATIONS(network, Affine, AffineRelu, Softmax, LogSoftmax, DropoutOperation, SquaredError,
                         CrossEntropySum)
