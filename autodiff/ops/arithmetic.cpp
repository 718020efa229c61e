// Sums, products and transposes, with the broadcasting that their gradients undo.
#include <armagrad/autodiff/device/kernels.hpp>
#include <armagrad/autodiff/error.hpp>
#include <armagrad/autodiff/graph.hpp>
#include <armagrad/autodiff/operations.hpp>
#include <armagrad/autodiff/ops/known.hpp>
#include <armagrad/autodiff/rows.hpp>
#include <armagrad/autodiff/samples.hpp>

namespace armagrad {
namespace detail {

template <class eT>
void Transpose::eval(Eval<eT>& e) {
  const auto x = e.factor(0);
  Command<eT> c;
  c.kernel = &kernels<eT>::copy;
  c.in[0] = x.view;
  c.out = e.out();
  c.alpha = e.alpha * x.scale;
  c.beta = e.beta;
  c.flags = x.transposed ? 0u : transpose_a;
  e.run(c);
}
template <class eT>
void Transpose::vjp(Rule<eT>& r) {
  r.accumulate(0, r.grad().t());
}
void Transpose::samples(Samples& s) {
  const auto f = [](const auto& in) { return trans(in[0]); };
  s.add({s.uniform(3, 4)}, f);
  s.add({s.uniform(1, 1)}, f);
  s.add({s.uniform(0, 3)}, f);
}

// A + s B with s = 1 or -1; rows, columns and 1x1 are broadcast.
template <int s>
struct AddOrSubtract {
  static constexpr auto name = s == 1 ? "add" : "subtract";
  static constexpr const char* operands[] = {"A", "B", nullptr};
  static constexpr bool accumulates = true;
  static constexpr bool in_place = true;
  static Shape shape(Operands& in) { return in.broadcast(0, 1); }
  template <class eT>
  static constexpr const Kernel<eT>* kernel() {
    using Row = std::conditional_t<s == 1, math::add_row, math::subtract_row>;
    return &RowKernels<Row, eT>::value;
  }
  template <class eT>
  static void eval(Eval<eT>& e) {
    e.run(e.command(*kernel<eT>()));
  }
  template <class eT>
  static bool direct(Graph<eT>& g, std::uint32_t node) {
    return g.hand_on(node, eT(s));
  }
  template <class eT>
  static void vjp(Rule<eT>& r) {
    r.accumulate(0, r.grad());
    if (r.needs(1)) r.accumulate(1, s == 1 ? r.grad() : -r.grad());
  }
  static constexpr bool many_directions = true;
  template <class eT>
  static void jvp(ForwardRule<eT>& r) {
    if (r.has_tangent(0)) r.add(r.broadcast_tangent(0));
    if (r.has_tangent(1)) r.add(s == 1 ? r.broadcast_tangent(1) : -r.broadcast_tangent(1));
  }
  static void samples(Samples& t) {
    const auto f = [](const auto& in) {
      if constexpr (s == 1)
        return in[0] + in[1];
      else
        return in[0] - in[1];
    };
    t.add({t.uniform(3, 4), t.uniform(3, 4)}, f);
    t.add({t.uniform(1, 1), t.uniform(1, 1)}, f);
    t.add({t.uniform(3, 0), t.uniform(3, 0)}, f);
    const auto twice = [](const auto& in) {
      if constexpr (s == 1)
        return in[0] + in[0];
      else
        return in[0] - in[0];
    };
    t.add({t.uniform(2, 3)}, twice);
    t.add({t.uniform(3, 4), t.uniform(3, 1)}, f,
          [](const std::vector<arma::mat>& in) -> arma::mat { return in[0].each_col() + s * in[1]; });
    t.add({t.uniform(3, 4), t.uniform(1, 4)}, f,
          [](const std::vector<arma::mat>& in) -> arma::mat { return in[0].each_row() + s * in[1]; });
    t.add({t.uniform(1, 1), t.uniform(3, 4)}, f,
          [](const std::vector<arma::mat>& in) -> arma::mat { return in[0](0) + s * in[1]; });
    t.add({t.uniform(3, 1), t.uniform(1, 4)}, f, [](const std::vector<arma::mat>& in) -> arma::mat {
      return arma::repmat(in[0], 1, 4) + s * arma::repmat(in[1], 3, 1);
    });
    t.fails({arma::mat(2, 3), arma::mat(4, 3)}, f,
            std::string(name) + ": A is 2x3, B is 4x3: the rows (2 and 4) must be equal, or 1 to be repeated");
  }
};
using Add = AddOrSubtract<1>;
using Subtract = AddOrSubtract<-1>;

// x summed over the dimensions along which the result has length 1.
struct SumTo {
  static constexpr auto name = "sum";  // accu, sum and undone broadcasts; the shape tells
  static constexpr bool accumulates = true;
  static constexpr bool steps = true;
  struct Attributes {
    Shape to;
  };
  static Shape shape(Operands& in) {
    const Shape to = in.attributes<Attributes>().to, x = in[0];
    in.require((to.rows == 1 || to.rows == x.rows) && (to.cols == 1 || to.cols == x.cols),
               "a dimension of the target (", to, ") must be x's or 1");
    return to;
  }
  template <class eT>
  static void eval(Eval<eT>& e) {
    e.run(e.command(kernels<eT>::sum));
  }
  template <class eT>
  static void vjp(Rule<eT>& r) {
    r.accumulate(0, repeat_to(r.grad(), r.operand(0).shape()));
  }
  static constexpr bool many_directions = true;
  template <class eT>
  static void jvp(ForwardRule<eT>& r) {
    const Shape x = r.operand(0).shape(), to = r.result().shape();
    const std::uint32_t d = r.directions();
    if (to.is_scalar())  // each direction a column
      r.add(d == 1 ? sum_to(r.tangent(0), to) : sum_to(reshape(r.tangent(0), x.size(), d), {1, d}));
    else if (to.cols == x.cols)
      r.add(sum_to(r.tangent(0), {to.rows, to.cols * d}));
    else
      r.add(r.by_direction(0, [to](Var<eT> v) { return sum_to(v, to); }));
  }
  static void samples(Samples& s) {
    const auto to = [](Shape shape) { return [shape](const auto& in) { return sum_to(in[0], shape); }; };
    s.add({s.uniform(3, 5)}, to({3, 1}), [](const std::vector<arma::mat>& in) -> arma::mat { return sum(in[0], 1); });
    s.add({s.uniform(17, 5)}, to({1, 5}), [](const std::vector<arma::mat>& in) -> arma::mat { return sum(in[0], 0); });
    s.add({s.uniform(3, 5)}, to({1, 1}), [](const std::vector<arma::mat>& in) { return arma::mat{accu(in[0])}; });
    s.add({s.uniform(0, 5)}, to({1, 5}), [](const std::vector<arma::mat>&) { return arma::mat(1, 5); });
    s.fails({arma::mat(3, 5)}, to({2, 5}), "sum: x is 3x5: a dimension of the target (2x5) must be x's or 1");
  }
};

// x repeated along its dimensions of length 1: what undoes a sum.
struct RepeatTo {
  static constexpr auto name = "repeat_to";
  static constexpr bool accumulates = true;
  static constexpr bool linear = true;
  struct Attributes {
    Shape to;
  };
  static Shape shape(Operands& in) {
    const Shape to = in.attributes<Attributes>().to, x = in[0];
    in.require((x.rows == 1 || x.rows == to.rows) && (x.cols == 1 || x.cols == to.cols),
               "a dimension of x must be the target's (", to, ") or 1");
    return to;
  }
  template <class eT>
  static void eval(Eval<eT>& e) {
    e.run(e.command(kernels<eT>::copy));
  }
  template <class eT>
  static void vjp(Rule<eT>& r) {
    r.accumulate(0, sum_to(r.grad(), r.operand(0).shape()));
  }
  static void samples(Samples& s) {
    const auto to = [](Shape shape) { return [shape](const auto& in) { return repeat_to(in[0], shape); }; };
    s.add({s.uniform(3, 1)}, to({3, 4}),
          [](const std::vector<arma::mat>& in) -> arma::mat { return repmat(in[0], 1, 4); });
    s.add({s.uniform(1, 4)}, to({3, 4}),
          [](const std::vector<arma::mat>& in) -> arma::mat { return repmat(in[0], 3, 1); });
    s.add({s.uniform(1, 1)}, to({3, 0}), [](const std::vector<arma::mat>&) { return arma::mat(3, 0); });
    s.fails({arma::mat(3, 5)}, to({2, 5}), "repeat_to: x is 3x5: a dimension of x must be the target's (2x5) or 1");
  }
};

// The matrix product. The gradient's transposes and signs are flags of the product, never copies.
struct Matmul {
  static constexpr auto name = "matmul";
  static constexpr const char* operands[] = {"A", "B", nullptr};
  static constexpr bool accumulates = true;
  static constexpr bool looks_through = true;
  static constexpr bool steps = true;
  static Shape shape(Operands& in) {
    in.require(in[0].cols == in[1].rows, "A's columns (", in[0].cols, ") must equal B's rows (", in[1].rows,
               "); columns are samples");
    return {in[0].rows, in[1].cols};
  }
  template <class eT>
  static void eval(Eval<eT>& e) {
    const auto a = e.factor(0), b = e.factor(1);
    const std::uint32_t flags = (a.transposed ? transpose_a : 0u) | (b.transposed ? transpose_b : 0u);
    Command<eT> c = product_command(a.view, b.view, flags, e.alpha * a.scale * b.scale);
    c.out = e.out();
    c.beta = e.beta;
    e.run(c);
  }
  template <class eT>
  static void vjp(Rule<eT>& r) {
    const Var<eT> a = r.operand(0), b = r.operand(1);
    if (r.needs(0)) r.accumulate(0, apply<Matmul>(r.grad(), b.t()));  // (m x n)(n x k)
    if (r.needs(1)) r.accumulate(1, apply<Matmul>(a.t(), r.grad()));  // (k x m)(m x n)
  }
  template <class eT>
  static bool direct(Graph<eT>& g, std::uint32_t i) {
    const std::uint32_t to_a = g.node(i).operands[0], to_b = g.node(i).operands[1];
    const bool a_steps = g.awaits_step(to_a), b_steps = g.awaits_step(to_b);
    if (!g.may_consume(i) || (a_steps && b_steps)) return false;
    const View<const eT> dy = g.gradient(i);
    const auto a = g.factor(to_a), b = g.factor(to_b);
    const auto give_a = [&] {
      if (g.wants_gradient(to_a))
        g.give(to_a, product_command(dy, b.view, b.transposed ? 0u : transpose_b, b.scale), name);
    };
    if (!a_steps) give_a();
    if (g.wants_gradient(to_b))
      g.give(to_b, product_command(a.view, dy, a.transposed ? 0u : transpose_a, a.scale), name);
    if (a_steps) give_a();  // the other reads A as it was
    g.consume_gradient(i);
    return true;
  }
  static constexpr bool many_directions = true;
  template <class eT>
  static void jvp(ForwardRule<eT>& r) {  // dY = dA B + A dB
    const Var<eT> a = r.operand(0), b = r.operand(1);
    if (r.has_tangent(1)) r.add(apply<Matmul>(a, r.tangent(1)));  // (m x k)(k x n d), all directions in one product
    if (r.has_tangent(0)) r.add(left_tangent(r, a, b));
  }
  template <class eT>
  static Var<eT> left_tangent(ForwardRule<eT>& r, Var<eT> a, Var<eT> b) {
    const Shape s = a.shape();
    const std::uint32_t d = r.directions();
    if (d == 1) return apply<Matmul>(r.tangent(0), b);
    if (s.rows == 1)  // a row's stack is its directions as columns: (n x k)(k x d)
      return reshape(apply<Matmul>(b.t(), reshape(r.tangent(0), s.cols, d)), 1, b.n_cols() * d);
    return r.by_direction(0, [b](Var<eT> v) { return apply<Matmul>(v, b); });
  }
  static void samples(Samples& s) {
    const auto f = [](const auto& in) { return in[0] * in[1]; };
    s.add({s.uniform(3, 4), s.uniform(4, 2)}, f);
    s.add({s.uniform(2, 2), s.uniform(2, 1)}, f);
    s.add({s.uniform(1, 3), s.uniform(3, 1)}, f);
    s.add({s.uniform(3, 2), s.uniform(2, 0)}, f);
    s.add({s.uniform(3, 0), s.uniform(0, 2)}, f);
    s.add(
        {s.uniform(4, 3), s.uniform(4, 2)}, [](const auto& in) { return trans(in[0]) * in[1]; },
        [](const std::vector<arma::mat>& in) -> arma::mat { return in[0].t() * in[1]; });
    s.add(
        {s.uniform(4, 3), s.uniform(2, 3)}, [](const auto& in) { return in[0] * trans(in[1]); },
        [](const std::vector<arma::mat>& in) -> arma::mat { return in[0] * in[1].t(); });
    s.add({s.uniform(3, 3)}, [](const auto& in) { return in[0] * in[0]; });
    s.add({s.uniform(1, 1), s.uniform(2, 3)}, f,
          [](const std::vector<arma::mat>& in) -> arma::mat { return in[0](0) * in[1]; });
    s.fails({arma::mat(10, 64), arma::mat(32, 128)}, f,
            "matmul: A is 10x64, B is 32x128: A's columns (64) must equal B's rows (32); columns are samples");
  }
};

}  // namespace detail

template <class eT>
Var<eT> add(Var<eT> a, Var<eT> b) {
  return apply<detail::Add>(a, b);
}
template <class eT>
Var<eT> subtract(Var<eT> a, Var<eT> b) {
  return apply<detail::Subtract>(a, b);
}
template <class eT>
Var<eT> matmul(Var<eT> a, Var<eT> b) {
  if (a.shape().is_scalar() || b.shape().is_scalar()) return multiply(a, b);
  return apply<detail::Matmul>(a, b);
}
template <class eT>
Var<eT> Var<eT>::t() const {
  return apply<detail::Transpose>(*this);
}
template <class eT>
Var<eT> accu(Var<eT> x) {
  return detail::sum_to(x, {1, 1});
}
template <class eT>
Var<eT> detail::sum_to(Var<eT> x, Shape shape) {
  return apply<SumTo>({shape}, x);
}
template <class eT>
Var<eT> detail::repeat_to(Var<eT> x, Shape shape) {
  return apply<RepeatTo>({shape}, x);
}
template <class eT>
Var<eT> detail::constant_like(Var<eT> like, const arma::Mat<eT>& value) {
  Graph<eT>& g = like.graph();
  const std::uint32_t i = g.leaf(
      constant_leaf<eT>, {static_cast<std::uint32_t>(value.n_rows), static_cast<std::uint32_t>(value.n_cols)}, false);
  g.backend().upload(g.node(i).value, value.memptr(), value.n_elem * sizeof(eT));
  return g.var(i);
}
template <class eT>
Var<eT> detail::constant_like(Var<eT> like, eT value) {
  return like.graph().var(like.graph().constant({1, 1}, value));
}
template <class eT>
Var<eT> detail::parameter_like(Var<eT> like, const Parameter<eT>& p) {
  return like.graph().var(like.graph().parameter(p.shared()));
}

#define ARMAGRAD_INSTANTIATE(eT)                                         \
  template Var<eT> add(Var<eT>, Var<eT>);                                \
  template Var<eT> subtract(Var<eT>, Var<eT>);                           \
  template Var<eT> matmul(Var<eT>, Var<eT>);                             \
  template Var<eT> Var<eT>::t() const;                                   \
  template Var<eT> accu(Var<eT>);                                        \
  template Var<eT> detail::sum_to(Var<eT>, Shape);                       \
  template Var<eT> detail::repeat_to(Var<eT>, Shape);                    \
  template Var<eT> detail::constant_like(Var<eT>, const arma::Mat<eT>&); \
  template Var<eT> detail::constant_like(Var<eT>, eT);                   \
  template Var<eT> detail::parameter_like(Var<eT>, const Parameter<eT>&);
ARMAGRAD_INSTANTIATE(float)
ARMAGRAD_INSTANTIATE(double)
#undef ARMAGRAD_INSTANTIATE

}  // namespace armagrad

ARMAGRAD_LIST_OPERATIONS(arithmetic, Transpose, Add, Subtract, SumTo, RepeatTo, Matmul)
