// Vectors and what is built from them: Kronecker products, Toeplitz matrices, convolution, running sums, order, and
// statistics of columns.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include <armagrad/autodiff/ops/lapack.hpp>

namespace armagrad {
namespace detail {
namespace {

// Which elements make up a result, by index; kept on the tape.
template <class eT, class Index>
Var<eT> elements(Var<eT> x, arma::uword rows, arma::uword cols, Index index) {
  arma::uvec where(rows * cols);
  for (arma::uword j = 0; j < cols; ++j)
    for (arma::uword i = 0; i < rows; ++i) where[i + j * rows] = index(i, j);
  return reshape(x.elem(where), rows, cols);
}
template <class eT>
Var<eT> as_column(Var<eT> x) {
  return x.n_cols() == 1 ? x : vectorise(x);
}
bool is_vector(Shape s) { return s.rows == 1 || s.cols == 1 || s.size() == 0; }

void require_direction(const char* operation, int dim) {
  if (dim != 0 && dim != 1)
    throw OptionError(
        fmt::format("{}: there is no dimension {}; 0 goes along each column, 1 along each row", operation, dim));
}
void require_norm_type(const char* operation, int norm_type) {
  if (norm_type != 0 && norm_type != 1)
    throw OptionError(fmt::format("{}: there is no norm_type {}; 0 divides by n - 1, 1 by n", operation, norm_type));
}

template <class eT>
void cumsum_host(const Command<eT>& c) {
  const auto& o = attributes_of<CumsumOptions>(c);
  const std::size_t rows = c.out.rows, cols = c.out.cols;
  const eT* x = c.in[0].data;
  eT* y = c.out.data;
  if (o.dim == 0) {
    for (std::size_t j = 0; j < cols; ++j, x += rows, y += rows) {
      eT sum = 0;
      for (std::size_t i = 0; i < rows; ++i) {
        const std::size_t at = o.backwards ? rows - 1 - i : i;
        y[at] = sum += x[at];
      }
    }
    return;
  }
  for (std::size_t j = 0; j < cols; ++j) {
    const std::size_t at = (o.backwards ? cols - 1 - j : j) * rows, before = o.backwards ? at + rows : at - rows;
    for (std::size_t i = 0; i < rows; ++i) y[at + i] = j == 0 ? x[at + i] : y[before + i] + x[at + i];
  }
}

// y(i) = sum over k of a(s i + t k + c) b(k), a continued by 0.   in: a, b
template <class eT>
void convolve(const Command<eT>& c) {
  const auto& o = attributes_of<ConvOptions>(c);
  const auto length = static_cast<std::int64_t>(c.in[0].size()), rows = static_cast<std::int64_t>(o.rows);
  const eT* a = c.in[0].data;
  eT* y = c.out.data;
  std::fill_n(y, rows, eT(0));
  for (std::int64_t k = 0; k < static_cast<std::int64_t>(c.in[1].size()); ++k) {
    const std::int64_t d = o.t * k + o.c;
    const eT b = c.in[1].data[k];
    if (o.s > 0)
      for (std::int64_t i = std::max<std::int64_t>(0, -d); i < std::min(rows, length - d); ++i) y[i] += a[i + d] * b;
    else
      for (std::int64_t i = std::max<std::int64_t>(0, d - length + 1); i < std::min(rows, d + 1); ++i)
        y[i] += a[d - i] * b;
  }
}

// out: the sorted elements; where each comes from within its column or row
template <class eT>
void sort_host(const Command<eT>& c) {
  const auto& o = attributes_of<SortOptions>(c);
  const std::size_t rows = c.out.rows, cols = c.out.cols;
  const std::size_t count = o.dim == 0 ? cols : rows, length = o.dim == 0 ? rows : cols;
  const std::size_t step = o.dim == 0 ? 1 : rows, next = o.dim == 0 ? rows : 1;
  const eT* all = c.in[0].data;
  if (std::any_of(all, all + c.out.size(), [](eT v) { return std::isnan(v); })) fail_nan(c.in[0].rows, c.in[0].cols);
  Scratch scratch;
  auto* order = scratch.take<std::uint32_t>(length);
  for (std::size_t l = 0; l < count; ++l) {
    const eT* x = all + l * next;
    std::iota(order, order + length, 0u);
    std::sort(order, order + length, [&](std::uint32_t a, std::uint32_t b) {
      const eT u = x[a * step], v = x[b * step];
      return u == v ? a < b : (o.descending ? u > v : u < v);
    });
    for (std::size_t i = 0; i < length; ++i) {
      c.out.data[l * next + i * step] = x[order[i] * step];
      // Exact: the indices of a dimension that does not fit into the element type are refused in `shape`.
      c.more_out[0].data[l * next + i * step] = static_cast<eT>(order[i]);
    }
  }
}
// in: x, where; out(i) = x(where(i)) or, the other way, out(where(i)) = x(i)
template <class eT>
void reorder_host(const Command<eT>& c) {
  const auto& o = attributes_of<SortOptions>(c);
  const std::size_t rows = c.out.rows;
  for (std::size_t j = 0; j < c.out.cols; ++j)
    for (std::size_t i = 0; i < rows; ++i) {
      const auto where = static_cast<std::size_t>(c.in[1].data[i + j * rows]);
      const std::size_t from = o.dim == 0 ? where + j * rows : i + where * rows, at = i + j * rows;
      if (o.descending)
        c.out.data[from] = c.in[0].data[at];
      else
        c.out.data[at] = c.in[0].data[from];
    }
}

// Throws where a standard deviation is 0: the column is constant.
template <class eT>
void require_varying(const Command<eT>& c) {
  for (std::size_t j = 0; j < c.in[0].size(); ++j)
    if (!(c.in[0].data[j] > eT(0))) fail_constant(j);
  *c.out.data = 0;
}

template <class F>
void conv_samples(Samples& s, F f) {
  for (const char* shape : {"full", "same"}) {
    const auto call = [f, shape](const auto& in) { return f(in[0], in[1], shape); };
    for (const auto& [m, n] : {std::pair{5, 3}, {3, 5}, {4, 2}, {1, 1}, {1, 4}})
      s.add({s.uniform(m, 1), s.uniform(n, 1)}, call, [shape](const std::vector<arma::mat>& in) -> arma::mat {
        return arma::conv(arma::vec(in[0]), arma::vec(in[1]), shape);
      });
    s.add({s.uniform(1, 4), s.uniform(3, 1)}, call, [shape](const std::vector<arma::mat>& in) -> arma::mat {
      return arma::conv(arma::rowvec(in[0]), arma::vec(in[1]), shape);
    });
  }
}

}  // namespace

struct Cumsum {
  static constexpr auto name = "cumsum";
  static constexpr bool linear = true;
  using Attributes = CumsumOptions;
  static Shape shape(Operands& in) { return in[0]; }
  template <class eT>
  static void eval(Eval<eT>& e) {
    run_kernel<"cumsum", cumsum_host<eT>>(e, 0, 1);
  }
  template <class eT>
  static void vjp(Rule<eT>& r) {  // x(i) is in the sums i, i + 1, ...: the same, the other way
    const auto& o = r.template attributes<Attributes>();
    r.accumulate(0, apply<Cumsum>({o.dim, !o.backwards}, r.grad()));
  }
  static void samples(Samples& s) {
    for (const int dim : {0, 1})
      for (const auto& [rows, cols] : {std::pair{4, 3}, {1, 1}, {0, 2}, {2, 0}})
        s.add(
            {s.uniform(rows, cols)}, [dim](const auto& in) { return cumsum(in[0], dim); },
            [dim](const std::vector<arma::mat>& in) -> arma::mat { return arma::cumsum(in[0], dim); });
    s.fails(
        {arma::mat(2, 2)}, [](const auto& in) { return cumsum(in[0], 2); },
        "cumsum: there is no dimension 2; 0 goes along each column, 1 along each row");
  }
};

struct Reorder {
  static constexpr auto name = "reorder";
  static constexpr const char* operands[] = {"x", "where", nullptr};
  using Attributes = SortOptions;  // `descending`: back
  static Shape shape(Operands& in) { return in[0]; }
  template <class eT>
  static void eval(Eval<eT>& e) {
    run_kernel<"reorder", reorder_host<eT>>(e, 0, 2);
  }
  template <class eT>
  static void vjp(Rule<eT>& r) {
    const auto& o = r.template attributes<Attributes>();
    r.accumulate(0, apply<Reorder>({!o.descending, o.dim}, r.grad(), r.operand(1)));
  }
  template <class eT>
  static void jvp(ForwardRule<eT>& r) {
    r.add(apply<Reorder>(r.template attributes<Attributes>(), r.tangent(0), r.operand(1)));
  }
};
struct Sort {
  static constexpr auto name = "sort";
  static constexpr std::uint8_t results = 2;
  using Attributes = SortOptions;
  static Shape shape(Operands& in) {
    in.require(std::max(in[0].rows, in[0].cols) < (1u << 24), "its longer side must be below 16777216");
    in.result(1, in[0]);
    return in[0];
  }
  template <class eT>
  static void eval(Eval<eT>& e) {
    run_kernel<"sort", sort_host<eT>>(e, 0, 1, 2);
  }
  template <class eT>
  static void vjp(Rule<eT>& r) {
    if (r.has_grad(0))
      r.accumulate(0, apply<Reorder>({true, r.template attributes<Attributes>().dim}, r.grad(), r.result(1)));
  }
  template <class eT>
  static void jvp(ForwardRule<eT>& r) {
    r.add(apply<Reorder>({false, r.template attributes<Attributes>().dim}, r.tangent(0), r.result(1)));
  }
  static void samples(Samples& s) {
    for (const int dim : {0, 1})
      for (const char* direction : {"ascend", "descend"})
        for (const auto& [rows, cols] : {std::pair{4, 3}, {1, 1}, {0, 2}})
          s.add(
              {s.uniform(rows, cols)},
              [=](const auto& in) { return sort(in[0], direction, dim) % sort(in[0], direction, dim); },
              [=](const std::vector<arma::mat>& in) -> arma::mat {
                return arma::square(arma::sort(in[0], direction, dim));
              });
    s.fails(
        {arma::mat(2, 2)}, [](const auto& in) { return sort(in[0], "up", 0); },
        "sort: there is no direction \"up\"; use \"ascend\" or \"descend\"");
    s.fails(
        {arma::mat{1, arma::datum::nan}}, [](const auto& in) { return sort(in[0], "ascend", 1); },
        "sort: x (1x2) holds NaN");
  }
};

struct RequireVarying {
  static constexpr auto name = "cor";
  static Shape shape(Operands&) { return {1, 1}; }
  template <class eT>
  static void eval(Eval<eT>& e) {
    run_kernel<"varying", require_varying<eT>>(e, 0, 1);
  }
};

// Compositions, listed for their samples.
struct Kron {
  static constexpr auto name = "kron";
  static void samples(Samples& s) {
    const auto f = [](const auto& in) { return kron(in[0], in[1]); };
    const auto plain = [](const std::vector<arma::mat>& in) -> arma::mat { return arma::kron(in[0], in[1]); };
    s.add({s.uniform(2, 3), s.uniform(3, 2)}, f, plain);
    s.add({s.uniform(1, 1), s.uniform(2, 2)}, f, plain);
    s.add({s.uniform(2, 1), s.uniform(1, 3)}, f, plain);
    s.add({s.uniform(0, 2), s.uniform(2, 2)}, f, [](const std::vector<arma::mat>&) { return arma::mat(0, 4); });
  }
};
struct Toeplitz {
  static constexpr auto name = "toeplitz";
  static void samples(Samples& s) {
    const auto one = [](const auto& in) { return toeplitz(in[0]); };
    const auto two = [](const auto& in) { return toeplitz(in[0], in[1]); };
    const auto plain_one = [](const std::vector<arma::mat>& in) -> arma::mat { return arma::toeplitz(in[0]); };
    const auto plain_two = [](const std::vector<arma::mat>& in) -> arma::mat { return arma::toeplitz(in[0], in[1]); };
    s.add({s.uniform(4, 1)}, one, plain_one);
    s.add({s.uniform(1, 3)}, one, plain_one);
    s.add({s.uniform(1, 1)}, one, plain_one);
    s.add({arma::mat(0, 1)}, one, [](const std::vector<arma::mat>&) { return arma::mat(0, 0); });
    s.add({s.uniform(4, 1), s.uniform(3, 1)}, two, plain_two);
    s.add({s.uniform(2, 1), s.uniform(1, 4)}, two, plain_two);
    s.fails({arma::mat(2, 2)}, one, "toeplitz: A is 2x2: it must be a row or a column");
    s.fails({arma::mat(2, 1), arma::mat(2, 2)}, two, "toeplitz: A is 2x1, B is 2x2: both must be a row or a column");
  }
};
// The derivative by b is the sum over i with the same indices, that by a a sum over g: with p = s i + t k + c,
// k = t (p - s i - c).
struct Conv {
  static constexpr auto name = "conv";
  static constexpr const char* operands[] = {"A", "B", nullptr};
  using Attributes = ConvOptions;
  static Shape shape(Operands& in) { return {in.attributes<Attributes>().rows, 1}; }
  template <class eT>
  static void eval(Eval<eT>& e) {
    run_kernel<"convolve", convolve<eT>>(e, 0, 2);
  }
  template <class eT>
  static void vjp(Rule<eT>& r) {
    const auto [s, t, c, rows] = r.template attributes<Attributes>();
    const Var<eT> a = r.operand(0), b = r.operand(1), g = r.grad();
    if (r.needs(0)) r.accumulate(0, apply<Conv>({t, -s * t, -t * c, a.shape().rows}, b, g));
    if (r.needs(1)) r.accumulate(1, apply<Conv>({t, s, c, b.shape().rows}, a, g));
  }
  template <class eT>
  static void jvp(ForwardRule<eT>& r) {
    const auto& o = r.template attributes<Attributes>();
    if (r.has_tangent(0)) r.add(apply<Conv>(o, r.tangent(0), r.operand(1)));
    if (r.has_tangent(1)) r.add(apply<Conv>(o, r.operand(0), r.tangent(1)));
  }
  static void samples(Samples& s) {
    conv_samples(s, [](auto a, auto b, const char* shape) { return conv(a, b, shape); });
    s.fails(
        {arma::mat(2, 2), arma::mat(2, 1)}, [](const auto& in) { return conv(in[0], in[1]); },
        "conv: A is 2x2, B is 2x1: both must be a row or a column");
    s.fails(
        {arma::mat(2, 1), arma::mat(0, 1)}, [](const auto& in) { return conv(in[0], in[1]); },
        "conv: A is 2x1, B is 0x1: neither may be empty");
    s.fails(
        {arma::mat(2, 1), arma::mat(2, 1)}, [](const auto& in) { return conv(in[0], in[1], "valid"); },
        "conv: there is no shape \"valid\"; use \"full\" or \"same\"");
  }
};
struct Cross {
  static constexpr auto name = "cross";
  static void samples(Samples& s) {
    const auto f = [](const auto& in) { return cross(in[0], in[1]); };
    const auto plain = [](const std::vector<arma::mat>& in) -> arma::mat { return arma::cross(in[0], in[1]); };
    s.add({s.uniform(3, 1), s.uniform(3, 1)}, f, plain);
    s.add({s.uniform(1, 3), s.uniform(1, 3)}, f, plain);
    s.fails({arma::mat(2, 1), arma::mat(3, 1)}, f, "cross: A is 2x1, B is 3x1: both must have 3 elements");
  }
};
template <bool correlation>
struct Covariance {
  static constexpr auto name = correlation ? "cor" : "cov";
  static void samples(Samples& s) {
    for (const int norm_type : {0, 1}) {
      const auto one = [norm_type](const auto& in) {
        return correlation ? cor(in[0], norm_type) : cov(in[0], norm_type);
      };
      const auto two = [norm_type](const auto& in) {
        return correlation ? cor(in[0], in[1], norm_type) : cov(in[0], in[1], norm_type);
      };
      s.add({s.uniform(5, 3)}, one, [norm_type](const std::vector<arma::mat>& in) -> arma::mat {
        return correlation ? arma::mat(arma::cor(in[0], norm_type)) : arma::mat(arma::cov(in[0], norm_type));
      });
      s.add({s.uniform(1, 4)}, one, [norm_type](const std::vector<arma::mat>& in) -> arma::mat {
        return correlation ? arma::mat(arma::cor(in[0], norm_type)) : arma::mat(arma::cov(in[0], norm_type));
      });
      s.add({s.uniform(5, 3), s.uniform(5, 2)}, two, [norm_type](const std::vector<arma::mat>& in) -> arma::mat {
        // Armadillo's cor(X, Y, 1) divides products by n and squares by n - 1, so that a column's with itself is not 1.
        return correlation ? arma::mat(arma::cor(in[0], in[1])) : arma::mat(arma::cov(in[0], in[1], norm_type));
      });
    }
    const auto f = [](const auto& in) { return correlation ? cor(in[0]) : cov(in[0]); };
    const auto g = [](const auto& in) { return correlation ? cor(in[0], in[1]) : cov(in[0], in[1]); };
    s.fails({arma::mat(0, 2)}, f, std::string(name) + ": A is 0x2: there are no observations");
    s.fails({arma::mat(3, 2), arma::mat(2, 2)}, g,
            std::string(name) + ": A is 3x2, B is 2x2: both must have as many rows (3 and 2)");
    s.fails(
        {arma::mat(3, 2)}, [](const auto& in) { return correlation ? cor(in[0], 2) : cov(in[0], 2); },
        std::string(name) + ": there is no norm_type 2; 0 divides by n - 1, 1 by n");
    if (correlation)
      s.fails({arma::mat(3, 2, arma::fill::ones)}, f, "cor: column 0 (counted from 0) is constant or not finite");
  }
};
using Cov = Covariance<false>;
using Cor = Covariance<true>;

namespace {

template <class eT>
Var<eT> centred(const char* by, Var<eT> x) {
  const Var<eT> a = x.n_rows() == 1 ? as_column(x) : x;  // a row alone is a variable's observations
  check_shapes(by, {a}, [](Operands& in) { in.require(in[0].rows > 0, "there are no observations"); });
  return subtract(a, mean(a, 0));
}
template <class eT>
Var<eT> products(const char* by, Var<eT> x, Var<eT> y, int norm_type) {
  require_norm_type(by, norm_type);
  check_shapes(by, {x, y}, [](Operands& in) {
    in.require(in[0].rows == in[1].rows, "both must have as many rows (", in[0].rows, " and ", in[1].rows, ")");
  });
  const auto n = static_cast<double>(x.n_rows());
  const Var<eT> xt = x.t();
  return scale(x.n_cols() == 1 && y.n_cols() == 1 ? dot(x, y) : matmul(xt, y),
               1 / (norm_type == 1 || n == 1 ? n : n - 1));
}
// The roots of the sums of squares of the columns.
template <class eT>
Var<eT> lengths(Var<eT> x) {
  const Var<eT> squares = sum(square(x), 0);
  return sqrt(squares + apply<RequireVarying>(squares));
}
template <class eT>
Var<eT> correlations(Var<eT> x, Var<eT> y) {
  check_shapes("cor", {x, y}, [](Operands& in) {
    in.require(in[0].rows == in[1].rows, "both must have as many rows (", in[0].rows, " and ", in[1].rows, ")");
  });
  const Var<eT> u = divide(x, lengths(x)), v = x.index() == y.index() ? u : divide(y, lengths(y));
  return u.n_cols() == 1 && v.n_cols() == 1 ? dot(u, v) : matmul(u.t(), v);
}

}  // namespace
}  // namespace detail

template <class eT>
Var<eT> kron(Var<eT> a, Var<eT> b) {
  const arma::uword m = a.n_rows(), n = a.n_cols(), p = b.n_rows(), q = b.n_cols();
  if (m * n * p * q == 0) {  // no elements, but what is made of them has a gradient, of zeros
    const auto nothing = [&](Var<eT> x) { return repmat(0 * accu(x), m * p, n * q); };
    return nothing(a) + nothing(b);
  }
  const Var<eT> spread =
      detail::elements(a, m * p, n * q, [=](arma::uword i, arma::uword j) { return i / p + j / q * m; });
  return spread % repmat(b, m, n);
}
template <class eT>
Var<eT> toeplitz(Var<eT> a) {
  detail::check_shapes("toeplitz", {a},
                       [](Operands& in) { in.require(detail::is_vector(in[0]), "it must be a row or a column"); });
  return detail::elements(a, a.n_elem(), a.n_elem(),
                          [](arma::uword i, arma::uword j) { return i > j ? i - j : j - i; });
}
template <class eT>
Var<eT> toeplitz(Var<eT> a, Var<eT> b) {
  detail::check_shapes("toeplitz", {a, b}, [](Operands& in) {
    in.require(detail::is_vector(in[0]) && detail::is_vector(in[1]), "both must be a row or a column");
  });
  const arma::uword m = a.n_elem();
  return detail::elements(join_cols(detail::as_column(a), detail::as_column(b)), m, b.n_elem(),
                          [m](arma::uword i, arma::uword j) { return i >= j ? i - j : m + j - i; });
}
template <class eT>
Var<eT> conv(Var<eT> a, Var<eT> b, const char* shape) {
  const bool same = std::strcmp(shape, "same") == 0;
  if (!same && std::strcmp(shape, "full") != 0)
    throw OptionError(fmt::format("conv: there is no shape \"{}\"; use \"full\" or \"same\"", shape));
  detail::check_shapes("conv", {a, b}, [](Operands& in) {
    in.require(detail::is_vector(in[0]) && detail::is_vector(in[1]), "both must be a row or a column");
    in.require(in[0].size() > 0 && in[1].size() > 0, "neither may be empty");
  });
  const arma::uword m = a.n_elem(), n = b.n_elem(), first = same ? n / 2 : 0, rows = same ? m : m + n - 1;
  const Var<eT> y = apply<detail::Conv>({1, -1, static_cast<std::int64_t>(first), static_cast<std::uint32_t>(rows)},
                                        detail::as_column(a), detail::as_column(b));
  return a.n_cols() == 1 ? y : reshape(y, 1, rows);
}
template <class eT>
Var<eT> cross(Var<eT> a, Var<eT> b) {
  detail::check_shapes("cross", {a, b}, [](Operands& in) {
    in.require(in[0].size() == 3 && in[1].size() == 3, "both must have 3 elements");
  });
  const arma::uvec next{1, 2, 0}, after{2, 0, 1};
  const Var<eT> y = a.elem(next) % b.elem(after) - a.elem(after) % b.elem(next);
  return a.n_cols() == 1 ? y : reshape(y, a.n_rows(), a.n_cols());
}
template <class eT>
Var<eT> cov(Var<eT> x, int norm_type) {
  const Var<eT> c = detail::centred("cov", x);
  return detail::products("cov", c, c, norm_type);
}
template <class eT>
Var<eT> cov(Var<eT> x, Var<eT> y, int norm_type) {
  return detail::products("cov", detail::centred("cov", x), detail::centred("cov", y), norm_type);
}
template <class eT>
Var<eT> cor(Var<eT> x, int norm_type) {
  detail::require_norm_type("cor", norm_type);
  const Var<eT> c = detail::centred("cor", x);
  if (c.n_elem() == 1) return add_scalar(scale(c, 0), 1);  // of one observation, as in Armadillo
  return detail::correlations(c, c);
}
template <class eT>
Var<eT> cor(Var<eT> x, Var<eT> y, int norm_type) {
  detail::require_norm_type("cor", norm_type);
  return detail::correlations(detail::centred("cor", x), detail::centred("cor", y));
}
template <class eT>
Var<eT> cumsum(Var<eT> x, int dim) {
  detail::require_direction("cumsum", dim);
  return apply<detail::Cumsum>({dim, false}, x);
}
template <class eT>
Var<eT> sort(Var<eT> x, const char* direction, int dim) {
  detail::require_direction("sort", dim);
  const bool descending = std::strcmp(direction, "descend") == 0;
  if (!descending && std::strcmp(direction, "ascend") != 0)
    throw OptionError(fmt::format("sort: there is no direction \"{}\"; use \"ascend\" or \"descend\"", direction));
  return apply<detail::Sort>({descending, dim}, x);
}

#define ARMAGRAD_INSTANTIATE(eT)                        \
  template Var<eT> kron(Var<eT>, Var<eT>);              \
  template Var<eT> toeplitz(Var<eT>);                   \
  template Var<eT> toeplitz(Var<eT>, Var<eT>);          \
  template Var<eT> conv(Var<eT>, Var<eT>, const char*); \
  template Var<eT> cross(Var<eT>, Var<eT>);             \
  template Var<eT> cov(Var<eT>, int);                   \
  template Var<eT> cov(Var<eT>, Var<eT>, int);          \
  template Var<eT> cor(Var<eT>, int);                   \
  template Var<eT> cor(Var<eT>, Var<eT>, int);          \
  template Var<eT> cumsum(Var<eT>, int);                \
  template Var<eT> sort(Var<eT>, const char*, int);
ARMAGRAD_INSTANTIATE(float)
ARMAGRAD_INSTANTIATE(double)
#undef ARMAGRAD_INSTANTIATE

}  // namespace armagrad

ARMAGRAD_LIST_OPERATIONS(vectors, Cumsum, Sort, Kron, Toeplitz, Conv, Cross, Cov, Cor)
