// Parts of a matrix, and matrices from parts. All are copies between views; `reshape` and `cols` are not even that.
#include <algorithm>
#include <numeric>

#include <fmt/format.h>

#include <armagrad/autodiff/device/kernels.hpp>
#include <armagrad/autodiff/error.hpp>
#include <armagrad/autodiff/graph.hpp>
#include <armagrad/autodiff/operations.hpp>
#include <armagrad/autodiff/ops/known.hpp>
#include <armagrad/autodiff/samples.hpp>

namespace armagrad {
namespace detail {
namespace {

template <class eT>
void copy(Eval<eT>& e, View<const eT> from, View<eT> to, eT beta) {
  Command<eT> c;
  c.kernel = &kernels<eT>::copy;
  c.in[0] = from;
  c.out = to;
  c.alpha = e.alpha;
  c.beta = beta;
  e.run(c);
}
template <class eT>
void clear(Eval<eT>& e) {
  Command<eT> c;
  c.kernel = &kernels<eT>::fill;
  c.out = e.out();
  c.alpha = 0;
  e.run(c);
}
template <class T>
View<T> block(View<T> x, std::uint32_t row, std::uint32_t col, Shape s) {
  return {x.data + row + std::size_t{col} * x.ld, s.rows, s.cols, x.ld};
}
// The main diagonal as a row.
template <class T>
View<T> diagonal(View<T> x) {
  return {x.data, 1, std::min(x.rows, x.cols), x.ld + 1};
}

// The part of x that starts at (row, col).
struct Submat {
  static constexpr auto name = "submat";
  static constexpr bool accumulates = true;
  static constexpr bool linear = true;
  struct Attributes {
    std::uint32_t row, col;
    Shape shape;
  };
  static Shape shape(Operands& in) {
    const auto& a = in.attributes<Attributes>();
    in.require(std::size_t{a.row} + a.shape.rows <= in[0].rows && std::size_t{a.col} + a.shape.cols <= in[0].cols,
               "rows ", a.row, " to ", a.row + a.shape.rows - 1, " and columns ", a.col, " to ",
               a.col + a.shape.cols - 1, " must lie inside, counted from 0");
    return a.shape;
  }
  template <class eT>
  static void eval(Eval<eT>& e) {
    const auto& a = e.template attributes<Attributes>();
    copy(e, block(e.in(0), a.row, a.col, a.shape), e.out(), e.beta);
  }
  template <class eT>
  static void vjp(Rule<eT>& r) {
    const auto& a = r.template attributes<Attributes>();
    const Shape x = r.operand(0).shape();
    r.accumulate(0, embed(r.grad(), x.rows, x.cols, a.row, a.col));
  }
  static void samples(Samples& s) {
    s.add(
        {s.uniform(4, 5)}, [](const auto& in) { return in[0].submat(1, 2, 3, 3); },
        [](const std::vector<arma::mat>& in) -> arma::mat { return in[0].submat(1, 2, 3, 3); });
    s.add(
        {s.uniform(4, 5)}, [](const auto& in) { return in[0].rows(1, 2); },
        [](const std::vector<arma::mat>& in) -> arma::mat { return in[0].rows(1, 2); });
    s.add(
        {s.uniform(4, 5)}, [](const auto& in) { return in[0].row(3); },
        [](const std::vector<arma::mat>& in) -> arma::mat { return in[0].row(3); });
    s.add(
        {s.uniform(1, 1)}, [](const auto& in) { return in[0](0, 0); },
        [](const std::vector<arma::mat>& in) { return in[0]; });
    s.fails(
        {arma::mat(4, 5)}, [](const auto& in) { return in[0].rows(2, 4); },
        "submat: x is 4x5: rows 2 to 4 and columns 0 to 4 must lie inside, counted from 0");
    s.fails(
        {arma::mat(4, 5)}, [](const auto& in) { return in[0].rows(2, 1); },
        "rows: the first (2) must not be after the last (1)");
  }
};

// Whole columns: contiguous, so the result is x's own memory.
struct Cols {
  static constexpr auto name = "cols";
  static constexpr bool accumulates = true;
  static constexpr bool linear = true;
  using Attributes = Submat::Attributes;
  static Shape shape(Operands& in) {
    const auto& a = in.attributes<Attributes>();
    in.require(std::size_t{a.col} + a.shape.cols <= in[0].cols, "columns ", a.col, " to ", a.col + a.shape.cols - 1,
               " must lie inside, counted from 0");
    return a.shape;
  }
  static std::size_t alias(const Operands& in) { return std::size_t{in.attributes<Attributes>().col} * in[0].rows; }
  template <class eT>
  static void eval(Eval<eT>& e) {
    Submat::eval(e);
  }
  template <class eT>
  static void vjp(Rule<eT>& r) {
    Submat::vjp(r);
  }
  static void samples(Samples& s) {
    s.add(
        {s.uniform(4, 5)}, [](const auto& in) { return in[0].cols(1, 2); },
        [](const std::vector<arma::mat>& in) -> arma::mat { return in[0].cols(1, 2); });
    s.add(
        {s.uniform(4, 5)}, [](const auto& in) { return in[0].col(4) % in[0].col(0); },
        [](const std::vector<arma::mat>& in) -> arma::mat { return in[0].col(4) % in[0].col(0); });
    s.add(
        {s.uniform(1, 1)}, [](const auto& in) { return in[0].col(0); },
        [](const std::vector<arma::mat>& in) { return in[0]; });
    s.fails(
        {arma::mat(4, 5)}, [](const auto& in) { return in[0].cols(2, 5); },
        "cols: x is 4x5: columns 2 to 5 must lie inside, counted from 0");
  }
};

// x within zeros.
struct Embed {
  static constexpr auto name = "embed";
  static constexpr bool accumulates = true;
  static constexpr bool linear = true;
  using Attributes = Submat::Attributes;
  static Shape shape(Operands& in) {
    const auto& a = in.attributes<Attributes>();
    in.require(std::size_t{a.row} + in[0].rows <= a.shape.rows && std::size_t{a.col} + in[0].cols <= a.shape.cols,
               "from row ", a.row, " and column ", a.col, " on it must fit into ", a.shape);
    return a.shape;
  }
  template <class eT>
  static void eval(Eval<eT>& e) {
    const auto& a = e.template attributes<Attributes>();
    if (e.beta == eT(0)) clear(e);
    copy(e, e.in(0), block(e.out(), a.row, a.col, e.shape(0)), e.beta);
  }
  template <class eT>
  static void vjp(Rule<eT>& r) {
    const auto& a = r.template attributes<Attributes>();
    r.accumulate(0, apply<Submat>({a.row, a.col, r.operand(0).shape()}, r.grad()));
  }
  static void samples(Samples& s) {
    s.add(
        {s.uniform(2, 3)}, [](const auto& in) { return embed(in[0], 4, 4, 1, 1); },
        [](const std::vector<arma::mat>& in) {
          arma::mat y(4, 4);
          y.submat(1, 1, 2, 3) = in[0];
          return y;
        });
    s.add(
        {s.uniform(1, 1)}, [](const auto& in) { return embed(in[0], 1, 1, 0, 0); },
        [](const std::vector<arma::mat>& in) { return in[0]; });
    s.fails(
        {arma::mat(2, 3)}, [](const auto& in) { return embed(in[0], 4, 4, 1, 2); },
        "embed: x is 2x3: from row 1 and column 2 on it must fit into 4x4");
  }
};

// The same elements, column-major, in another shape: x's own memory.
struct Reshape {
  static constexpr auto name = "reshape";
  static constexpr bool accumulates = true;
  struct Attributes {
    Shape shape;
  };
  static Shape shape(Operands& in) {
    const Shape to = in.attributes<Attributes>().shape;
    in.require(in[0].size() == to.size(), "its elements (", in[0].size(), ") must be as many as those of ", to, " (",
               to.size(), ")");
    return to;
  }
  static std::size_t alias(const Operands&) { return 0; }
  template <class eT>
  static void eval(Eval<eT>& e) {
    const View<eT> y = e.out();
    copy(e, {e.in(0).data, y.rows, y.cols, y.rows}, y, e.beta);
  }
  template <class eT>
  static void vjp(Rule<eT>& r) {
    r.accumulate(0, apply<Reshape>({r.operand(0).shape()}, r.grad()));
  }
  static constexpr bool many_directions = true;
  template <class eT>
  static void jvp(ForwardRule<eT>& r) {
    const Shape s = r.result().shape();
    r.add(apply<Reshape>({{s.rows, s.cols * r.directions()}}, r.tangent(0)));
  }
  static void samples(Samples& s) {
    s.add(
        {s.uniform(3, 4)}, [](const auto& in) { return reshape(in[0], 2, 6); },
        [](const std::vector<arma::mat>& in) -> arma::mat { return arma::reshape(in[0], 2, 6); });
    s.add(
        {s.uniform(3, 2)}, [](const auto& in) { return vectorise(in[0]); },
        [](const std::vector<arma::mat>& in) -> arma::mat { return arma::vectorise(in[0]); });
    s.add(
        {s.uniform(0, 2)}, [](const auto& in) { return reshape(in[0], 3, 0); },
        [](const std::vector<arma::mat>&) { return arma::mat(3, 0); });
    s.fails(
        {arma::mat(3, 4)}, [](const auto& in) { return reshape(in[0], 5, 2); },
        "reshape: x is 3x4: its elements (12) must be as many as those of 5x2 (10)");
  }
};

// x's own memory without its history.
struct Detach {
  static constexpr auto name = "detach";
  static Shape shape(Operands& in) { return in[0]; }
  static std::size_t alias(const Operands&) { return 0; }
  template <class eT>
  static void eval(Eval<eT>& e) {
    copy(e, e.in(0), e.out(), e.beta);
  }
  static void samples(Samples& s) {
    s.add(
         {s.uniform(3, 4)}, [](const auto& in) { return detach(in[0]); },
         [](const std::vector<arma::mat>& in) { return in[0]; })
        .check_gradient = false;
  }
};

// Copies of x side by side and below one another; undone by the sum of the blocks.
struct BlockSum;
struct Repmat {
  static constexpr auto name = "repmat";
  static constexpr bool accumulates = true;
  static constexpr bool linear = true;
  struct Attributes {
    std::uint32_t down, across;
  };
  static Shape shape(Operands& in) {
    const auto& a = in.attributes<Attributes>();
    return {in[0].rows * a.down, in[0].cols * a.across};
  }
  template <class eT>
  static void eval(Eval<eT>& e) {
    const auto& a = e.template attributes<Attributes>();
    const Shape s = e.shape(0);
    for (std::uint32_t j = 0; j < a.across; ++j)
      for (std::uint32_t i = 0; i < a.down; ++i) copy(e, e.in(0), block(e.out(), i * s.rows, j * s.cols, s), e.beta);
  }
  template <class eT>
  static void vjp(Rule<eT>& r);
  static void samples(Samples& s) {
    s.add(
        {s.uniform(2, 3)}, [](const auto& in) { return repmat(in[0], 3, 2); },
        [](const std::vector<arma::mat>& in) -> arma::mat { return arma::repmat(in[0], 3, 2); });
    s.add(
        {s.uniform(1, 1)}, [](const auto& in) { return repmat(in[0], 1, 2); },
        [](const std::vector<arma::mat>& in) -> arma::mat { return arma::repmat(in[0], 1, 2); });
    s.add(
        {s.uniform(2, 1)}, [](const auto& in) { return repmat(in[0], 0, 2); },
        [](const std::vector<arma::mat>&) { return arma::mat(0, 2); });
  }
};
struct BlockSum {
  static constexpr auto name = "block_sum";
  static constexpr bool accumulates = true;
  static constexpr bool linear = true;
  using Attributes = Repmat::Attributes;
  static Shape shape(Operands& in) {
    const auto& a = in.attributes<Attributes>();
    in.require(a.down > 0 && a.across > 0 && in[0].rows % a.down == 0 && in[0].cols % a.across == 0,
               "it must divide into ", a.down, " x ", a.across, " blocks");
    return {in[0].rows / a.down, in[0].cols / a.across};
  }
  template <class eT>
  static void eval(Eval<eT>& e) {
    const auto& a = e.template attributes<Attributes>();
    const View<eT> y = e.out();
    for (std::uint32_t j = 0; j < a.across; ++j)
      for (std::uint32_t i = 0; i < a.down; ++i)
        copy(e, block(e.in(0), i * y.rows, j * y.cols, {y.rows, y.cols}), y, i + j == 0 ? e.beta : eT(1));
  }
  template <class eT>
  static void vjp(Rule<eT>& r) {
    r.accumulate(0, apply<Repmat>(r.template attributes<Attributes>(), r.grad()));
  }
  static void samples(Samples& s) {
    s.add(
        {s.uniform(4, 6)},
        [](const auto& in) {
          return apply<BlockSum>({2, 3}, in[0]);
        },
        [](const std::vector<arma::mat>& in) -> arma::mat {
          const arma::mat c = in[0].cols(0, 1) + in[0].cols(2, 3) + in[0].cols(4, 5);
          return c.rows(0, 1) + c.rows(2, 3);
        });
    s.fails(
        {arma::mat(3, 4)},
        [](const auto& in) {
          return apply<BlockSum>({2, 2}, in[0]);
        },
        "block_sum: x is 3x4: it must divide into 2 x 2 blocks");
  }
};
template <class eT>
void Repmat::vjp(Rule<eT>& r) {
  const auto& a = r.template attributes<Attributes>();
  if (a.down > 0 && a.across > 0) r.accumulate(0, apply<BlockSum>(a, r.grad()));
}

template <bool rows>
struct Join {
  static constexpr auto name = rows ? "join_rows" : "join_cols";
  static constexpr const char* operands[] = {"A", "B", nullptr};
  static constexpr bool accumulates = true;
  static constexpr bool linear = true;
  static Shape shape(Operands& in) {
    const Shape a = in[0], b = in[1];
    if constexpr (rows) {
      in.require(a.rows == b.rows, "both must have as many rows (", a.rows, " and ", b.rows, ")");
      return {a.rows, a.cols + b.cols};
    } else {
      in.require(a.cols == b.cols, "both must have as many columns (", a.cols, " and ", b.cols, ")");
      return {a.rows + b.rows, a.cols};
    }
  }
  template <class eT>
  static void eval(Eval<eT>& e) {
    const Shape a = e.shape(0), b = e.shape(1);
    copy(e, e.in(0), block(e.out(), 0, 0, a), e.beta);
    copy(e, e.in(1), rows ? block(e.out(), 0, a.cols, b) : block(e.out(), a.rows, 0, b), e.beta);
  }
  template <class eT>
  static void vjp(Rule<eT>& r) {
    const Shape a = r.operand(0).shape(), b = r.operand(1).shape();
    r.accumulate(0, apply<Submat>({0, 0, a}, r.grad()));
    r.accumulate(1, apply<Submat>({rows ? 0 : a.rows, rows ? a.cols : 0, b}, r.grad()));
  }
  static void samples(Samples& s) {
    const auto f = [](const auto& in) {
      if constexpr (rows)
        return join_rows(in[0], in[1]);
      else
        return join_cols(in[0], in[1]);
    };
    const auto plain = [](const std::vector<arma::mat>& in) -> arma::mat {
      return rows ? arma::mat(arma::join_rows(in[0], in[1])) : arma::mat(arma::join_cols(in[0], in[1]));
    };
    s.add({s.uniform(3, rows ? 2 : 3), s.uniform(rows ? 3 : 1, 3)}, f, plain);
    s.add({s.uniform(1, 1), s.uniform(1, 1)}, f, plain);
    s.add({s.uniform(rows ? 2 : 0, 2), s.uniform(2, rows ? 0 : 2)}, f, plain);
    s.fails({arma::mat(3, 2), arma::mat(2, 3)}, f,
            rows ? "join_rows: A is 3x2, B is 2x3: both must have as many rows (3 and 2)"
                 : "join_cols: A is 3x2, B is 2x3: both must have as many columns (2 and 3)");
  }
};
using JoinRows = Join<true>;
using JoinCols = Join<false>;

struct Diagmat;
struct Diagvec {
  static constexpr auto name = "diagvec";
  static constexpr bool accumulates = true;
  static constexpr bool linear = true;
  static Shape shape(Operands& in) { return {std::min(in[0].rows, in[0].cols), 1}; }
  template <class eT>
  static void eval(Eval<eT>& e) {
    const View<eT> y = e.out();
    copy(e, diagonal(e.in(0)), View<eT>{y.data, 1, y.rows, 1}, e.beta);
  }
  template <class eT>
  static void vjp(Rule<eT>& r) {
    r.accumulate(0, apply<Diagmat>({r.operand(0).shape()}, r.grad()));
  }
  static void samples(Samples& s) {
    for (const auto& [rows, cols] : {std::pair{3, 3}, {1, 1}, {2, 4}, {4, 2}, {0, 0}})
      s.add(
          {s.uniform(rows, cols)}, [](const auto& in) { return diagvec(in[0]); },
          [](const std::vector<arma::mat>& in) -> arma::mat { return arma::diagvec(in[0]); });
  }
};
struct Diagmat {
  static constexpr auto name = "diagmat";
  static constexpr const char* operands[] = {"v", nullptr};
  static constexpr bool accumulates = true;
  static constexpr bool linear = true;
  struct Attributes {
    Shape to;  // not square only as the derivative of diagvec
  };
  static Shape shape(Operands& in) {
    const Shape to = in.attributes<Attributes>().to;
    in.require(in[0].rows == 1 || in[0].cols == 1, "it must be a row or a column");
    in.require(in[0].size() == std::min(to.rows, to.cols), "its elements must be as many as the diagonal of ", to);
    return to;
  }
  template <class eT>
  static void eval(Eval<eT>& e) {
    if (e.beta == eT(0)) clear(e);
    const View<const eT> v = e.in(0);
    copy(e, View<const eT>{v.data, 1, static_cast<std::uint32_t>(v.size()), 1}, diagonal(e.out()), e.beta);
  }
  template <class eT>
  static void vjp(Rule<eT>& r) {
    const Shape v = r.operand(0).shape();
    r.accumulate(0, reshape(diagvec(r.grad()), v.rows, v.cols));
  }
  static void samples(Samples& s) {
    for (const auto& [rows, cols] : {std::pair{3, 1}, {1, 3}, {1, 1}, {0, 1}})
      s.add(
          {s.uniform(rows, cols)}, [](const auto& in) { return diagmat(in[0]); },
          [](const std::vector<arma::mat>& in) -> arma::mat { return arma::diagmat(arma::vectorise(in[0])); });
    s.fails(
        {arma::mat(2, 3)}, [](const auto& in) { return diagmat(in[0]); },
        "diagmat: v is 2x3: it must be a row or a column");
  }
};

// The elements at given places as a column, and back: sums where a place occurs several times.
struct Scatter;
struct Elem {
  static constexpr auto name = "elem";
  static constexpr bool accumulates = true;
  static constexpr bool linear = true;
  struct Attributes {
    const std::uint32_t* indices;  // device memory, column-major
    std::uint32_t count, largest;
    Shape shape;          // of the matrix they index
    std::uint32_t flags;  // of the command that scatters
  };
  static Shape shape(Operands& in) {
    const auto& a = in.attributes<Attributes>();
    in.require(a.count == 0 || a.largest < in[0].size(), "index ", a.largest, " must be below its ", in[0].size(),
               " elements");
    return {a.count, 1};
  }
  template <class eT>
  static void eval(Eval<eT>& e) {
    const auto& a = e.template attributes<Attributes>();
    Command<eT> c;
    c.kernel = &kernels<eT>::gather;
    c.in[0] = e.in(0);
    c.out = e.out();
    c.alpha = e.alpha;
    c.beta = e.beta;
    c.indices = a.indices;
    c.index_count = a.count;
    e.run(c);
  }
  template <class eT>
  static void vjp(Rule<eT>& r) {
    auto a = r.template attributes<Attributes>();
    a.shape = r.operand(0).shape();
    r.accumulate(0, apply<Scatter>(a, r.grad()));
  }
  static void samples(Samples& s) {
    const auto at = [](const arma::uvec& where) { return [where](const auto& in) { return in[0].elem(where); }; };
    const auto plain = [](const arma::uvec& where) {
      return [where](const std::vector<arma::mat>& in) -> arma::mat { return in[0].elem(where); };
    };
    s.add({s.uniform(3, 4)}, at({11, 0, 5, 5, 7}), plain({11, 0, 5, 5, 7}));
    s.add({s.uniform(1, 1)}, at({0}), plain({0}));
    s.add({s.uniform(2, 2)}, at(arma::uvec()), [](const std::vector<arma::mat>&) { return arma::mat(0, 1); });
    s.fails({arma::mat(3, 4)}, at({1, 12}), "elem: x is 3x4: index 12 must be below its 12 elements");
  }
};
// Attributes for indices into a matrix of this shape, put on the graph's device.
template <class eT>
Elem::Attributes index_list(Graph<eT>& graph, std::vector<std::uint32_t> indices, Shape shape) {
  const std::size_t n = indices.size();
  Elem::Attributes a{nullptr, static_cast<std::uint32_t>(n), 0, shape, 0};
  if (n > 0) a.largest = *std::max_element(indices.begin(), indices.end());
  if (!(graph.device() == Device::cpu())) {  // whose loop adds in order by itself
    std::vector<std::uint32_t> order(n);
    std::iota(order.begin(), order.end(), 0u);
    std::stable_sort(order.begin(), order.end(), [&](auto i, auto j) { return indices[i] < indices[j]; });
    const auto same = [&](auto i, auto j) { return indices[i] == indices[j]; };
    if (std::adjacent_find(order.begin(), order.end(), same) != order.end()) {
      a.flags = repeated_indices;
      indices.insert(indices.end(), order.begin(), order.end());
    }
  }
  a.indices = graph.upload_indices(indices.data(), indices.size());
  return a;
}
struct Scatter {
  static constexpr auto name = "scatter";
  static constexpr bool accumulates = true;
  static constexpr bool linear = true;
  using Attributes = Elem::Attributes;
  static Shape shape(Operands& in) {
    const auto& a = in.attributes<Attributes>();
    in.require(in[0].size() == a.count, "its elements must be as many as the indices (", a.count, ")");
    return a.shape;
  }
  template <class eT>
  static void eval(Eval<eT>& e) {
    const auto& a = e.template attributes<Attributes>();
    if (e.beta == eT(0)) clear(e);
    Command<eT> c;
    c.kernel = &kernels<eT>::scatter;
    c.in[0] = e.in(0);
    c.out = e.out();
    c.alpha = e.alpha;
    c.flags = a.flags;
    c.indices = a.indices;
    c.index_count = a.count;
    e.run(c);
  }
  template <class eT>
  static void vjp(Rule<eT>& r) {
    r.accumulate(0, apply<Elem>(r.template attributes<Attributes>(), r.grad()));
  }
  static void samples(Samples& s) {
    s.add(
        {s.uniform(3, 1)},
        [](const auto& in) {
          return apply<Scatter>(index_list(in[0].graph(), {4, 1, 4}, {2, 3}), in[0]);
        },
        [](const std::vector<arma::mat>& in) {
          arma::mat y(2, 3);
          y[4] = in[0][0] + in[0][2];
          y[1] = in[0][1];
          return y;
        });
  }
};

std::uint32_t narrow(const char* operation, arma::uword n) {
  if (n > ~std::uint32_t{0}) throw ShapeError(fmt::format("{}: {} is more than 4294967295", operation, n));
  return static_cast<std::uint32_t>(n);
}

void require_range(const char* operation, arma::uword first, arma::uword last) {
  if (first > last)
    throw ShapeError(fmt::format("{}: the first ({}) must not be after the last ({})", operation, first, last));
  narrow(operation, last);  // so that last - first + 1 cannot wrap to 0
}

template <class Op, class eT>
Var<eT> part(const char* operation, Var<eT> x, arma::uword row, arma::uword col, arma::uword last_row,
             arma::uword last_col) {
  require_range(operation, row, last_row);
  require_range(operation, col, last_col);
  return apply<Op>({narrow(operation, row),
                    narrow(operation, col),
                    {narrow(operation, last_row - row + 1), narrow(operation, last_col - col + 1)}},
                   x);
}

}  // namespace
}  // namespace detail

template <class eT>
Var<eT> Var<eT>::submat(arma::uword row, arma::uword col, arma::uword last_row, arma::uword last_col) const {
  return detail::part<detail::Submat>("submat", *this, row, col, last_row, last_col);
}
template <class eT>
Var<eT> Var<eT>::rows(arma::uword first, arma::uword last) const {
  const Shape s = shape();
  detail::require_range("rows", first, last);
  if (s.cols == 0)
    return apply<detail::Submat>({detail::narrow("rows", first), 0, {detail::narrow("rows", last - first + 1), 0}},
                                 *this);
  return detail::part<detail::Submat>("rows", *this, first, 0, last, s.cols - 1);
}
template <class eT>
Var<eT> Var<eT>::cols(arma::uword first, arma::uword last) const {
  const Shape s = shape();
  detail::require_range("cols", first, last);
  if (s.rows == 0)
    return apply<detail::Cols>({0, detail::narrow("cols", first), {0, detail::narrow("cols", last - first + 1)}},
                               *this);
  return detail::part<detail::Cols>("cols", *this, 0, first, s.rows - 1, last);
}
template <class eT>
Var<eT> Var<eT>::elem(const arma::uvec& indices) const {
  std::vector<std::uint32_t> narrow;
  narrow.reserve(indices.n_elem);
  for (const arma::uword i : indices) narrow.push_back(detail::narrow("elem", i));
  return apply<detail::Elem>(detail::index_list(graph(), std::move(narrow), shape()), *this);
}
template <class eT>
Var<eT> reshape(Var<eT> x, arma::uword rows, arma::uword cols) {
  return apply<detail::Reshape>({{detail::narrow("reshape", rows), detail::narrow("reshape", cols)}}, x);
}
template <class eT>
Var<eT> repmat(Var<eT> x, arma::uword down, arma::uword across) {
  detail::narrow("repmat", x.n_rows() * down);
  detail::narrow("repmat", x.n_cols() * across);
  return apply<detail::Repmat>({detail::narrow("repmat", down), detail::narrow("repmat", across)}, x);
}
template <class eT>
Var<eT> embed(Var<eT> x, arma::uword rows, arma::uword cols, arma::uword first_row, arma::uword first_col) {
  return apply<detail::Embed>({detail::narrow("embed", first_row),
                               detail::narrow("embed", first_col),
                               {detail::narrow("embed", rows), detail::narrow("embed", cols)}},
                              x);
}
template <class eT>
Var<eT> join_rows(Var<eT> a, Var<eT> b) {
  return apply<detail::JoinRows>(a, b);
}
template <class eT>
Var<eT> join_cols(Var<eT> a, Var<eT> b) {
  return apply<detail::JoinCols>(a, b);
}
template <class eT>
Var<eT> diagvec(Var<eT> x) {
  return apply<detail::Diagvec>(x);
}
template <class eT>
Var<eT> diagmat(Var<eT> v) {
  const std::uint32_t n = static_cast<std::uint32_t>(v.n_elem());
  return apply<detail::Diagmat>({{n, n}}, v);
}
template <class eT>
Var<eT> detach(Var<eT> x) {
  return apply<detail::Detach>(x);
}

#define ARMAGRAD_INSTANTIATE(eT)                                                              \
  template Var<eT> Var<eT>::submat(arma::uword, arma::uword, arma::uword, arma::uword) const; \
  template Var<eT> Var<eT>::rows(arma::uword, arma::uword) const;                             \
  template Var<eT> Var<eT>::cols(arma::uword, arma::uword) const;                             \
  template Var<eT> Var<eT>::elem(const arma::uvec&) const;                                    \
  template Var<eT> reshape(Var<eT>, arma::uword, arma::uword);                                \
  template Var<eT> repmat(Var<eT>, arma::uword, arma::uword);                                 \
  template Var<eT> embed(Var<eT>, arma::uword, arma::uword, arma::uword, arma::uword);        \
  template Var<eT> join_rows(Var<eT>, Var<eT>);                                               \
  template Var<eT> join_cols(Var<eT>, Var<eT>);                                               \
  template Var<eT> diagvec(Var<eT>);                                                          \
  template Var<eT> diagmat(Var<eT>);                                                          \
  template Var<eT> detach(Var<eT>);
ARMAGRAD_INSTANTIATE(float)
ARMAGRAD_INSTANTIATE(double)
#undef ARMAGRAD_INSTANTIATE

}  // namespace armagrad

ARMAGRAD_LIST_OPERATIONS(shapes, Submat, Cols, Embed, Reshape, Detach, Repmat, BlockSum, JoinRows, JoinCols, Diagvec,
                         Diagmat, Elem, Scatter)
