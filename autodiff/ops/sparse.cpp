// Products with constant sparse matrices.
#include <armagrad/autodiff/graph.hpp>
#include <armagrad/autodiff/operations.hpp>
#include <armagrad/autodiff/samples.hpp>

namespace armagrad::detail {

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

template Var<float> sparse_product(const arma::SpMat<float>&, Var<float>);
template Var<double> sparse_product(const arma::SpMat<double>&, Var<double>);

}  // namespace armagrad::detail

ARMAGRAD_LIST_OPERATIONS(sparse, SparseProduct)
