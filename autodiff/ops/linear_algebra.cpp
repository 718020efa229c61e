// Systems of equations and inverses, over LAPACK by way of Armadillo.
#include <fmt/format.h>

#include <armagrad/autodiff/error.hpp>
#include <armagrad/autodiff/graph.hpp>
#include <armagrad/autodiff/operations.hpp>
#include <armagrad/autodiff/ops/known.hpp>
#include <armagrad/autodiff/samples.hpp>

namespace armagrad {
namespace detail {
namespace {

std::string size_text(const auto& a) { return fmt::format("{}x{}", a.n_rows, a.n_cols); }

template <class eT>
void require_finite(const char* operation, const arma::Mat<eT>& a) {
  if (!a.is_finite()) throw ValueError(fmt::format("{}: A ({}) holds NaN or infinity", operation, size_text(a)));
}

[[noreturn]] void fail_singular(const char* operation, const std::string& size, double rcond) {
  throw ValueError(
      fmt::format("{}: A is {} and singular to working precision (reciprocal condition number {:.2g}); use "
                  "pinv, or add a small multiple of the identity",
                  operation, size, rcond));
}

// Entries of random matrices plus a strong diagonal.
arma::mat well_conditioned(Samples& s, arma::uword rows, arma::uword cols) {
  arma::mat a = s.uniform(rows, cols, -1, 1);
  a.diag() += 3;
  return a;
}

}  // namespace

// X with A X = B; least squares of smallest norm when A is not square. Derivatives for full rank
// (Golub and Pereyra 1973): with z = (A')^+ g, dB = z and dA = -z x' + (b - A x) w', A w = z, for a tall A;
// dA = -z x' + y (g - A' z)', A' y = x, for a wide one. Where A is square the last terms are 0.
struct Solve {
  static constexpr auto name = "solve";
  static constexpr const char* operands[] = {"A", "B", nullptr};
  static Shape shape(Operands& in) {
    in.require(in[0].rows == in[1].rows, "both must have as many rows (", in[0].rows, " and ", in[1].rows, ")");
    return {in[0].cols, in[1].cols};
  }
  template <class eT>
  static void eval(Eval<eT>& e) {
    e.host([](const arma::Mat<eT>& a, const arma::Mat<eT>& b, arma::Mat<eT>& x) {
      require_finite(name, a);
      if (x.is_empty()) return;
      if (a.is_empty()) {
        x.zeros();
        return;
      }
      arma::Mat<eT> y;  // `solve` works in its result's memory, which must not be the tape's when it fails
      if (!arma::solve(y, a, b, arma::solve_opts::no_approx)) {
        if (a.is_square()) fail_singular(name, size_text(a), static_cast<double>(arma::rcond(a)));
        throw ValueError(
            fmt::format("solve: A is {} and does not have full rank; use pinv(A) * B for the solution of "
                        "smallest norm",
                        size_text(a)));
      }
      x = y;
    });
  }
  template <class eT>
  static void vjp(Rule<eT>& r) {
    const Var<eT> a = r.operand(0), b = r.operand(1), x = r.result(), g = r.grad();
    const Var<eT> z = solve(a.t(), g);  // (m x p)
    r.accumulate(1, z);
    if (!r.needs(0)) return;
    r.accumulate(0, -matmul(z, x.t()));  // (m x p)(p x n)
    const Shape s = a.shape();
    if (s.rows > s.cols)
      r.accumulate(0, matmul(b - matmul(a, x), solve(a, z).t()));
    else if (s.rows < s.cols)
      r.accumulate(0, matmul(solve(a.t(), x), (g - matmul(a.t(), z)).t()));
  }
  static void samples(Samples& s) {
    const auto f = [](const auto& in) { return solve(in[0], in[1]); };
    const auto plain = [](const std::vector<arma::mat>& in) -> arma::mat { return arma::solve(in[0], in[1]); };
    s.add({well_conditioned(s, 3, 3), s.uniform(3, 2)}, f, plain);
    s.add({well_conditioned(s, 1, 1), s.uniform(1, 1)}, f, plain);
    s.add({well_conditioned(s, 2, 2), s.uniform(2, 0)}, f,
          [](const std::vector<arma::mat>&) { return arma::mat(2, 0); });
    s.add({arma::mat(0, 0), arma::mat(0, 2)}, f, [](const std::vector<arma::mat>&) { return arma::mat(0, 2); });
    s.add({well_conditioned(s, 5, 2), s.uniform(5, 2)}, f, plain);
    s.add({well_conditioned(s, 2, 4), s.uniform(2, 3)}, f, plain);
    s.fails({arma::mat(3, 3, arma::fill::eye), arma::mat(2, 1)}, f,
            "solve: A is 3x3, B is 2x1: both must have as many rows (3 and 2)");
    s.fails(
        {arma::mat(2, 2, arma::fill::ones), arma::mat(2, 1)}, f,
        "solve: A is 2x2 and singular to working precision (reciprocal condition number 0); use pinv, or add a small "
        "multiple of the identity");
    s.fails({arma::mat(3, 2, arma::fill::ones), arma::mat(3, 1)}, f, "solve: A is 3x2 and does not have full rank");
    s.fails({arma::mat(2, 2, arma::fill::value(arma::datum::nan)), arma::mat(2, 1)}, f,
            "solve: A (2x2) holds NaN or infinity");
  }
};

struct Inv {
  static constexpr auto name = "inv";
  static constexpr const char* operands[] = {"A", nullptr};
  static Shape shape(Operands& in) {
    in.require(in[0].rows == in[0].cols, "it must be square");
    return in[0];
  }
  template <class eT>
  static void eval(Eval<eT>& e) {
    e.host([](const arma::Mat<eT>& a, arma::Mat<eT>& y) {
      require_finite(name, a);
      arma::Mat<eT> inverse;
      const eT rcond = a.is_empty() ? eT(1) : arma::rcond(a);
      if (!(rcond > std::numeric_limits<eT>::epsilon()) || !arma::inv(inverse, a))
        fail_singular(name, size_text(a), static_cast<double>(rcond));
      y = inverse;
    });
  }
  template <class eT>
  static void vjp(Rule<eT>& r) {  // dA = -Y' dY Y'
    const Var<eT> yt = r.result().t();
    r.accumulate(0, -matmul(matmul(yt, r.grad()), yt));
  }
  static void samples(Samples& s) {
    const auto f = [](const auto& in) { return inv(in[0]); };
    const auto plain = [](const std::vector<arma::mat>& in) -> arma::mat { return arma::inv(in[0]); };
    s.add({well_conditioned(s, 3, 3)}, f, plain);
    s.add({well_conditioned(s, 1, 1)}, f, plain);
    s.add({arma::mat(0, 0)}, f, [](const std::vector<arma::mat>& in) { return in[0]; });
    s.fails({arma::mat(2, 3)}, f, "inv: A is 2x3: it must be square");
    s.fails({arma::mat(2, 2, arma::fill::ones)}, f,
            "inv: A is 2x2 and singular to working precision (reciprocal condition number 0); use pinv");
  }
};

// The Moore-Penrose inverse P. With M = I - A P and N = I - P A, at constant rank
// dA = -P' G P' + M G' P P' + P' P G' N.
struct Pinv {
  static constexpr auto name = "pinv";
  static constexpr const char* operands[] = {"A", nullptr};
  static Shape shape(Operands& in) { return {in[0].cols, in[0].rows}; }
  template <class eT>
  static void eval(Eval<eT>& e) {
    e.host([](const arma::Mat<eT>& a, arma::Mat<eT>& p) {
      require_finite(name, a);
      if (a.is_empty()) return;
      arma::Mat<eT> inverse;
      if (!arma::pinv(inverse, a))
        throw ValueError(fmt::format("pinv: the SVD of A ({}) did not converge", size_text(a)));
      p = inverse;
    });
  }
  template <class eT>
  static void vjp(Rule<eT>& r) {
    const Var<eT> a = r.operand(0), p = r.result(), g = r.grad();
    const Var<eT> pt = p.t(), gt = g.t();
    r.accumulate(0, -matmul(matmul(pt, g), pt));
    const Var<eT> gpp = matmul(matmul(gt, p), pt);  // (m x n)(n x m)(m x n)
    r.accumulate(0, gpp);
    r.accumulate(0, -matmul(a, matmul(p, gpp)));
    const Var<eT> ppg = matmul(pt, matmul(p, gt));  // (m x n)(n x m)(m x n)
    r.accumulate(0, ppg);
    r.accumulate(0, -matmul(matmul(ppg, p), a));
  }
  static void samples(Samples& s) {
    const auto f = [](const auto& in) { return pinv(in[0]); };
    const auto plain = [](const std::vector<arma::mat>& in) -> arma::mat { return arma::pinv(in[0]); };
    s.add({well_conditioned(s, 3, 3)}, f, plain);
    s.add({well_conditioned(s, 4, 2)}, f, plain);
    s.add({well_conditioned(s, 2, 4)}, f, plain);
    s.add({well_conditioned(s, 1, 1)}, f, plain);
    s.add({arma::mat(0, 2)}, f, [](const std::vector<arma::mat>&) { return arma::mat(2, 0); });
  }
};

// A constant sparse matrix times a Var.
struct SparseProduct {
  static constexpr auto name = "sparse matmul";
  static constexpr const char* operands[] = {"B", nullptr};
  struct Attributes {
    const void* matrix;  // an arma::SpMat the tape keeps alive
    Shape shape;
    bool transposed;
  };
  static Shape shape(Operands& in) {
    const auto& a = in.attributes<Attributes>();
    in.require(a.shape.cols == in[0].rows, "the columns of the sparse A (", a.shape, ") must equal B's rows (",
               in[0].rows, ")");
    return {a.shape.rows, in[0].cols};
  }
  template <class eT>
  static void eval(Eval<eT>& e) {
    e.host([](const Attributes& a, const arma::Mat<eT>& b, arma::Mat<eT>& y) {
      const auto& m = *static_cast<const arma::SpMat<eT>*>(a.matrix);
      if (a.transposed)
        y = m.t() * b;
      else
        y = m * b;
    });
  }
  template <class eT>
  static void vjp(Rule<eT>& r) {
    const auto& a = r.template attributes<Attributes>();
    r.accumulate(0, apply<SparseProduct>({a.matrix, {a.shape.cols, a.shape.rows}, !a.transposed}, r.grad()));
  }
  static void samples(Samples& s) {
    arma::sp_mat a(3, 4);
    a(0, 1) = 2;
    a(2, 3) = -1.5;
    a(2, 0) = 0.25;
    s.add(
        {s.uniform(4, 2)},
        [a](const auto& in) {
          using eT = typename std::decay_t<decltype(in[0])>::elem_type;
          return arma::conv_to<arma::SpMat<eT>>::from(a) * in[0];
        },
        [a](const std::vector<arma::mat>& in) -> arma::mat { return arma::mat(a) * in[0]; });
    s.fails(
        {arma::mat(3, 2)},
        [a](const auto& in) {
          using eT = typename std::decay_t<decltype(in[0])>::elem_type;
          return arma::conv_to<arma::SpMat<eT>>::from(a) * in[0];
        },
        "sparse matmul: B is 3x2: the columns of the sparse A (3x4) must equal B's rows (3)");
  }
};

template <class eT>
Var<eT> sparse_product(const arma::SpMat<eT>& a, Var<eT> b) {
  a.sync();  // the kernel reads the compressed form, also from another thread
  auto kept = std::make_shared<const arma::SpMat<eT>>(a);
  const Shape s{static_cast<std::uint32_t>(a.n_rows), static_cast<std::uint32_t>(a.n_cols)};
  b.graph().keep_alive(kept);
  return apply<SparseProduct>({kept.get(), s, false}, b);
}

}  // namespace detail

template <class eT>
Var<eT> solve(Var<eT> a, Var<eT> b) {
  return apply<detail::Solve>(a, b);
}
template <class eT>
Var<eT> inv(Var<eT> a) {
  return apply<detail::Inv>(a);
}
template <class eT>
Var<eT> pinv(Var<eT> a) {
  return apply<detail::Pinv>(a);
}

#define ARMAGRAD_INSTANTIATE(eT)            \
  template Var<eT> solve(Var<eT>, Var<eT>); \
  template Var<eT> inv(Var<eT>);            \
  template Var<eT> pinv(Var<eT>);           \
  template Var<eT> detail::sparse_product(const arma::SpMat<eT>&, Var<eT>);
ARMAGRAD_INSTANTIATE(float)
ARMAGRAD_INSTANTIATE(double)
#undef ARMAGRAD_INSTANTIATE

}  // namespace armagrad

ARMAGRAD_LIST_OPERATIONS(linear_algebra, Solve, Inv, Pinv, SparseProduct)
