// From a matrix to fewer numbers.
#include <cstring>

#include <fmt/format.h>

#include <armagrad/autodiff/device/kernels.hpp>
#include <armagrad/autodiff/error.hpp>
#include <armagrad/autodiff/operations.hpp>
#include <armagrad/autodiff/ops/known.hpp>
#include <armagrad/autodiff/ops/lapack.hpp>
#include <armagrad/autodiff/rows.hpp>
#include <armagrad/autodiff/samples.hpp>

namespace armagrad {
namespace detail {
namespace {

void require_dimension(const char* operation, int dim) {
  if (dim != 0 && dim != 1)
    throw OptionError(fmt::format("{}: there is no dimension {}; 0 reduces each column, 1 each row", operation, dim));
}
// What is left of `s` when `dim` is reduced.
Shape reduced(Shape s, int dim) { return dim == 0 ? Shape{1, s.cols} : Shape{s.rows, 1}; }
std::size_t length(Shape s, int dim) { return dim == 0 ? s.rows : s.cols; }

struct Dimension {
  int dim;
};

// One sample set for every reduction along a dimension.
template <class F, class R>
void dimension_samples(Samples& s, F f, R reference) {
  for (const int dim : {0, 1}) {
    const auto call = [f, dim](const auto& in) { return f(in[0], dim); };
    const auto plain = [reference, dim](const std::vector<arma::mat>& in) -> arma::mat {
      return reference(in[0], dim);
    };
    s.add({s.uniform(3, 4)}, call, plain);
    s.add({s.uniform(11, 2)}, call, plain);
    s.add({s.uniform(2, 1)}, call, plain);
    s.add({s.uniform(1, 3)}, call, plain);
    s.add({s.uniform(1, 1)}, call, plain);
  }
  s.fails(
      {arma::mat(2, 2)}, [f](const auto& in) { return f(in[0], 2); },
      "there is no dimension 2; 0 reduces each column, 1 each row");
}

}  // namespace

// Compositions, listed for their samples.
struct Accu {
  static constexpr auto name = "accu";
  static void samples(Samples& s) {
    const auto f = [](const auto& in) { return accu(in[0]); };
    const auto plain = [](const std::vector<arma::mat>& in) { return arma::mat{arma::accu(in[0])}; };
    for (const auto& [rows, cols] : {std::pair{3, 4}, {1, 1}, {2, 0}, {13, 5}})
      s.add({s.uniform(rows, cols)}, f, plain);
  }
};
struct Sum {
  static constexpr auto name = "sum";
  static void samples(Samples& s) {
    dimension_samples(
        s, [](auto x, int dim) { return sum(x, dim); },
        [](const arma::mat& x, int dim) -> arma::mat { return arma::sum(x, dim); });
  }
};
struct Mean {
  static constexpr auto name = "mean";
  static void samples(Samples& s) {
    dimension_samples(
        s, [](auto x, int dim) { return mean(x, dim); },
        [](const arma::mat& x, int dim) -> arma::mat { return arma::mean(x, dim); });
    s.fails(
        {arma::mat(0, 2)}, [](const auto& in) { return mean(in[0], 0); },
        "mean: x is 0x2: there is nothing to average along dimension 0");
  }
};
struct Variance {
  static constexpr auto name = "var";
  static void samples(Samples& s) {
    for (const int norm_type : {0, 1}) {
      dimension_samples(
          s, [norm_type](auto x, int dim) { return var(x, norm_type, dim); },
          [norm_type](const arma::mat& x, int dim) -> arma::mat { return arma::var(x, norm_type, dim); });
    }
  }
};
struct Trace {
  static constexpr auto name = "trace";
  static void samples(Samples& s) {
    const auto f = [](const auto& in) { return trace(in[0]); };
    const auto plain = [](const std::vector<arma::mat>& in) { return arma::mat{arma::trace(in[0])}; };
    for (const auto& [rows, cols] : {std::pair{3, 3}, {1, 1}, {2, 4}, {4, 2}, {0, 0}})
      s.add({s.uniform(rows, cols)}, f, plain);
  }
};

struct LogSumExp {
  static constexpr auto name = "log_sum_exp";
  using Attributes = Dimension;
  static Shape shape(Operands& in) {
    const int dim = in.attributes<Dimension>().dim;
    require_dimension(name, dim);
    in.require(length(in[0], dim) > 0, "there is nothing to sum along dimension ", dim);
    return reduced(in[0], dim);
  }
  template <class eT>
  static void eval(Eval<eT>& e) {
    Command<eT> c = e.command(kernels<eT>::log_sum_exp);
    c.flags = e.template attributes<Dimension>().dim == 1 ? transpose_a : 0u;
    e.run(c);
  }
  template <class eT>
  static void vjp(Rule<eT>& r) {
    r.accumulate(0, exp(r.operand(0) - r.result()) % r.grad());
  }
  template <class eT>
  static void jvp(ForwardRule<eT>& r) {
    r.add(sum(exp(r.operand(0) - r.result()) % r.tangent(0), r.template attributes<Dimension>().dim));
  }
  static void samples(Samples& s) {
    dimension_samples(
        s, [](auto x, int dim) { return log_sum_exp(x, dim); },
        [](const arma::mat& x, int dim) -> arma::mat { return arma::log(arma::sum(arma::exp(x), dim)); });
    s.add(
         {s.uniform(3, 2) + 800}, [](const auto& in) { return log_sum_exp(in[0], 0); },
         [](const std::vector<arma::mat>& in) -> arma::mat {
           return arma::log(arma::sum(arma::exp(in[0] - 800), 0)) + 800;
         })
        .check_gradient = false;
    s.fails(
        {arma::mat(0, 2)}, [](const auto& in) { return log_sum_exp(in[0], 0); },
        "log_sum_exp: x is 0x2: there is nothing to sum along dimension 0");
  }
};

// The largest or smallest element along a dimension. The second result is the mask of where it stands.
template <bool smallest>
struct Extremum {
  static constexpr auto name = smallest ? "min" : "max";
  static constexpr std::uint8_t results = 2;
  using Attributes = Dimension;
  static Shape shape(Operands& in) {
    const int dim = in.attributes<Dimension>().dim;
    require_dimension(name, dim);
    in.require(length(in[0], dim) > 0, "there is no element along dimension ", dim);
    in.result(1, in[0]);
    return reduced(in[0], dim);
  }
  template <class eT>
  static void eval(Eval<eT>& e) {
    Command<eT> c = e.command(kernels<eT>::maximum);
    if (e.for_gradient()) c.more_out[0] = e.out(1);
    c.flags = (smallest ? take_smallest : 0u) | (e.template attributes<Dimension>().dim == 1 ? transpose_a : 0u);
    e.run(c);
  }
  template <class eT>
  static void vjp(Rule<eT>& r) {  // the mask is piecewise constant: no gradient by it
    if (r.has_grad(0)) r.accumulate(0, r.result(1) % r.grad(0));
  }
  template <class eT>
  static void jvp(ForwardRule<eT>& r) {  // the mask does not move
    if (r.needs(0)) r.add(sum(r.result(1) % r.tangent(0), r.template attributes<Dimension>().dim));
  }
  static void samples(Samples& s) {
    dimension_samples(
        s,
        [](auto x, int dim) {
          if constexpr (smallest)
            return min(x, dim);
          else
            return max(x, dim);
        },
        [](const arma::mat& x, int dim) -> arma::mat {
          return smallest ? arma::mat(arma::min(x, dim)) : arma::mat(arma::max(x, dim));
        });
    s.fails(
        {arma::mat(0, 2)}, [](const auto& in) { return smallest ? min(in[0], 0) : max(in[0], 0); },
        std::string(name) + ": x is 0x2: there is no element along dimension 0");
  }
};
using MinAlong = Extremum<true>;
using MaxAlong = Extremum<false>;

struct Dot {
  static constexpr auto name = "dot";
  static constexpr const char* operands[] = {"A", "B", nullptr};
  static constexpr bool accumulates = true;
  static Shape shape(Operands& in) {
    in.require(in[0].size() == in[1].size(), "both must have as many elements (", in[0].size(), " and ", in[1].size(),
               ")");
    return {1, 1};
  }
  template <class eT>
  static void eval(Eval<eT>& e) {
    e.run(e.command(kernels<eT>::dot));
  }
  template <class eT>
  static void vjp(Rule<eT>& r) {
    for (const std::size_t k : {0, 1}) {
      if (!r.needs(k)) continue;
      const Shape s = r.operand(k).shape();
      Var<eT> other = r.operand(1 - k);
      if (!(other.shape() == s)) other = reshape(other, s.rows, s.cols);
      r.accumulate(k, multiply(other, r.grad()));
    }
  }
  static constexpr bool many_directions = true;
  template <class eT>
  static void jvp(ForwardRule<eT>& r) {
    const arma::uword n = r.operand(0).n_elem();
    for (const std::size_t k : {0, 1}) {
      if (!r.has_tangent(k)) continue;
      const Var<eT> other = r.operand(1 - k);
      r.add(r.directions() == 1 ? dot(r.tangent(k), other)
                                : matmul(reshape(other, 1, n), reshape(r.tangent(k), n, r.directions())));  // 1 x d
    }
  }
  static void samples(Samples& s) {
    const auto f = [](const auto& in) { return dot(in[0], in[1]); };
    const auto plain = [](const std::vector<arma::mat>& in) { return arma::mat{arma::dot(in[0], in[1])}; };
    s.add({s.uniform(9, 1), s.uniform(9, 1)}, f, plain);
    s.add({s.uniform(5, 1), s.uniform(1, 5)}, f, plain);
    s.add({s.uniform(3, 4), s.uniform(3, 4)}, f, plain);
    s.add({s.uniform(1, 1), s.uniform(1, 1)}, f, plain);
    s.add({s.uniform(0, 1), s.uniform(0, 1)}, f, plain);
    s.fails({arma::mat(3, 2), arma::mat(2, 2)}, f,
            "dot: A is 3x2, B is 2x2: both must have as many elements (6 and 4)");
  }
};

// The root of the sum of squares.
struct Norm {
  static constexpr auto name = "norm";
  static Shape shape(Operands&) { return {1, 1}; }
  template <class eT>
  static void eval(Eval<eT>& e) {
    Command<eT> c = e.command(kernels<eT>::dot);
    c.in[1] = c.in[0];
    e.run(c);
    Command<eT> root;
    root.kernel = &RowKernels<math::sqrt_row, eT>::value;
    root.in[0] = root.out = e.out();
    e.run(root);
  }
  template <class eT>
  static void vjp(Rule<eT>& r) {  // x / norm, and 0 where the norm is 0
    const Var<eT> y = r.result();
    r.accumulate(0, multiply(r.operand(0), divide(r.grad(), y + (y == 0.0))));
  }
  template <class eT>
  static void jvp(ForwardRule<eT>& r) {
    const Var<eT> y = r.result();
    r.add(divide(dot(r.operand(0), r.tangent(0)), y + (y == 0.0)));
  }
  static void samples(Samples& s) {
    const auto f = [](const auto& in) { return norm(in[0], "fro"); };
    const auto plain = [](const std::vector<arma::mat>& in) { return arma::mat{arma::norm(in[0], "fro")}; };
    s.add({s.uniform(3, 4)}, f, plain);
    s.add({s.uniform(1, 1)}, f, plain);
    s.add(
        {s.uniform(5, 1)}, [](const auto& in) { return norm(in[0]); }, plain);
    s.add(
        {s.uniform(1, 5)}, [](const auto& in) { return norm(in[0], 1); },
        [](const std::vector<arma::mat>& in) { return arma::mat{arma::norm(in[0], 1)}; });
    s.add({s.uniform(2, 0)}, f, [](const std::vector<arma::mat>&) { return arma::mat(1, 1); });
    for (const char* method : {"inf", "fro"})
      s.add(
          {s.uniform(3, 4)}, [method](const auto& in) { return norm(in[0], method); },
          [method](const std::vector<arma::mat>& in) { return arma::mat{arma::norm(in[0], method)}; });
    for (const char* method : {"inf", "-inf", "fro"})
      s.add(
          {s.uniform(4, 1)}, [method](const auto& in) { return norm(in[0], method); },
          [method](const std::vector<arma::mat>& in) { return arma::mat{arma::norm(in[0].col(0), method)}; });
    for (const int p : {1, 2})
      for (const auto& [rows, cols] : {std::pair{3, 4}, {4, 3}, {1, 1}})
        s.add(
            {s.uniform(rows, cols)}, [p](const auto& in) { return norm(in[0], p); },
            [p](const std::vector<arma::mat>& in) { return arma::mat{arma::norm(in[0], p)}; });
    for (const int p : {1, 2})
      s.add(
          {arma::mat(2, 0)}, [p](const auto& in) { return norm(in[0], p); },
          [](const std::vector<arma::mat>&) { return arma::mat(1, 1); });
    s.fails(
        {arma::mat(3, 2)}, [](const auto& in) { return norm(in[0], "max"); },
        "norm: there is no method \"max\"; use \"inf\", \"-inf\" (for vectors) or \"fro\"");
    s.fails(
        {arma::mat(3, 2)}, [](const auto& in) { return norm(in[0], "-inf"); },
        "norm: x is 3x2: the method \"-inf\" is for vectors");
    s.fails(
        {arma::mat(3, 1)}, [](const auto& in) { return norm(in[0], 3); }, "norm: p is 3; use 1 or 2");
  }
};

}  // namespace detail

template <class eT>
Var<eT> sum(Var<eT> x, int dim) {
  detail::require_dimension("sum", dim);
  return detail::sum_to(x, detail::reduced(x.shape(), dim));
}
template <class eT>
Var<eT> mean(Var<eT> x, int dim) {
  detail::require_dimension("mean", dim);
  const std::size_t n = detail::length(x.shape(), dim);
  if (n == 0)
    throw ShapeError(
        fmt::format("mean: x is {}: there is nothing to average along dimension {}", to_string(x.shape()), dim));
  return scale(sum(x, dim), 1.0 / static_cast<double>(n));
}
template <class eT>
Var<eT> var(Var<eT> x, int norm_type, int dim) {
  detail::require_dimension("var", dim);
  if (norm_type != 0 && norm_type != 1)
    throw OptionError(fmt::format("var: there is no norm_type {}; 0 divides by n - 1, 1 by n", norm_type));
  const std::size_t n = detail::length(x.shape(), dim);
  // Armadillo's answer for a single element, too: 0.
  const double divisor = norm_type == 1 || n == 1 ? static_cast<double>(n) : static_cast<double>(n) - 1;
  return scale(sum(square(subtract(x, mean(x, dim))), dim), 1 / divisor);
}
template <class eT>
Var<eT> log_sum_exp(Var<eT> x, int dim) {
  return apply<detail::LogSumExp>({dim}, x);
}
template <class eT>
Var<eT> min_along(Var<eT> x, int dim) {
  return apply<detail::MinAlong>({dim}, x);
}
template <class eT>
Var<eT> max_along(Var<eT> x, int dim) {
  return apply<detail::MaxAlong>({dim}, x);
}
template <class eT>
Var<eT> dot(Var<eT> a, Var<eT> b) {
  return apply<detail::Dot>(a, b);
}
template <class eT>
Var<eT> trace(Var<eT> x) {
  return accu(diagvec(x));
}
template <class eT>
Var<eT> norm(Var<eT> x, const char* method) {
  const Shape s = x.shape();
  if (std::strcmp(method, "fro") == 0) return apply<detail::Norm>(x);
  const bool largest = std::strcmp(method, "inf") == 0;
  if (!largest && std::strcmp(method, "-inf") != 0)
    throw OptionError(
        fmt::format("norm: there is no method \"{}\"; use \"inf\", \"-inf\" (for vectors) or \"fro\"", method));
  if (s.size() == 0) return accu(x);
  if (s.rows == 1 || s.cols == 1) {
    const int along = s.cols == 1 ? 0 : 1;
    return largest ? max(abs(x), along) : min(abs(x), along);
  }
  if (!largest) throw ShapeError(fmt::format("norm: x is {}: the method \"-inf\" is for vectors", to_string(s)));
  return max(sum(abs(x), 1), 0);
}
template <class eT>
Var<eT> norm(Var<eT> x, int p) {
  const Shape s = x.shape();
  if (p != 1 && p != 2) throw OptionError(fmt::format("norm: p is {}; use 1 or 2", p));
  if (s.rows == 1 || s.cols == 1 || s.size() == 0) return p == 1 ? accu(abs(x)) : apply<detail::Norm>(x);
  return p == 1 ? max(sum(abs(x), 0), 1) : detail::spectral_norm(x);
}

#define ARMAGRAD_INSTANTIATE(eT)               \
  template Var<eT> sum(Var<eT>, int);          \
  template Var<eT> mean(Var<eT>, int);         \
  template Var<eT> var(Var<eT>, int, int);     \
  template Var<eT> log_sum_exp(Var<eT>, int);  \
  template Var<eT> min_along(Var<eT>, int);    \
  template Var<eT> max_along(Var<eT>, int);    \
  template Var<eT> dot(Var<eT>, Var<eT>);      \
  template Var<eT> trace(Var<eT>);             \
  template Var<eT> norm(Var<eT>, const char*); \
  template Var<eT> norm(Var<eT>, int);
ARMAGRAD_INSTANTIATE(float)
ARMAGRAD_INSTANTIATE(double)
#undef ARMAGRAD_INSTANTIATE

}  // namespace armagrad

ARMAGRAD_LIST_OPERATIONS(reductions, Accu, Sum, Mean, Variance, Trace, LogSumExp, MinAlong, MaxAlong, Dot, Norm)
