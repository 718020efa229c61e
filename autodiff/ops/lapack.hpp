// What the files of linear algebra share: LAPACK's scratch memory, kernels that call it, symmetric input, and the
// factorisations that a recording keeps, so that a matrix is factorised once for all that is asked of it.
//
// LAPACK is called through Armadillo's translations (arma::lapack): they know how it was linked, and unlike Armadillo's
// functions they neither allocate nor warn.
#pragma once

#include <algorithm>
#include <string>

#include <fmt/format.h>

#include <armagrad/autodiff/armadillo.hpp>
#include <armagrad/autodiff/device/linear_algebra.hpp>
#include <armagrad/autodiff/error.hpp>
#include <armagrad/autodiff/graph.hpp>
#include <armagrad/autodiff/operations.hpp>
#include <armagrad/autodiff/ops/dense.hpp>
#include <armagrad/autodiff/ops/known.hpp>
#include <armagrad/autodiff/samples.hpp>

namespace armagrad::detail {

using arma::blas_int;

/// Memory for one evaluation, given back by the destructor and kept for the thread's next one, so that a loop
/// allocates in its first step only. Inner ones are destroyed before outer ones.
class Scratch {
 public:
  Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch();
  template <class T>
  T* take(std::size_t count) {
    return static_cast<T*>(bytes(count * sizeof(T)));
  }

 private:
  static void* bytes(std::size_t count);
  std::size_t block_, used_;
};

struct KernelName {
  char text[32] = {};
  template <std::size_t n>
  constexpr KernelName(const char (&name)[n]) {
    std::copy_n(name, n, text);
  }
};
/// Gives the device a kernel of device/linear_algebra.hpp as the command of the operation: operands `from`, ...,
/// `to` - 1 in order, and all results. `f` is its code for the CPU; CUDA finds its own by the name.
template <KernelName name, auto f, class eT>
struct NamedKernel {
  static void run(const Command<eT>& c) {
    const BlasThreads threads(largest_work(c));
    f(c);
  }
  static inline const Kernel<eT> kernel{name.text, &run};
};
template <KernelName name, auto f, class eT>
void run_kernel(const Eval<eT>& e, std::size_t from, std::size_t to, std::size_t results = 1) {
  Command<eT> c;
  c.kernel = &NamedKernel<name, f, eT>::kernel;
  for (std::size_t k = from; k < to; ++k) c.in[k - from] = e.in(k);
  c.out = e.out();
  for (std::size_t k = 1; k < results; ++k) c.more_out[k - 1] = e.out(k);
  e.run(c);
}
template <class T, class eT>
const T& attributes_of(const Command<eT>& c) {
  return *static_cast<const T*>(c.attributes);
}

/// For shapes that the public function checks, because the operations behind it go by other names.
template <class eT, class F>
void check_shapes(const char* operation, std::initializer_list<Var<eT>> operands, F rule) {
  static constexpr const char* names[] = {"A", "B", nullptr};
  Shape shapes[4];
  std::size_t n = 0;
  for (const Var<eT>& v : operands) shapes[n++] = v.shape();
  Operands in(operation, names, shapes, n, nullptr, &operands.begin()->graph(),
              [](const void* graph) { return static_cast<const Graph<eT>*>(graph)->module_path(); });
  rule(in);
}
template <class eT>
void require_square(const char* operation, Var<eT> a) {
  check_shapes(operation, {a}, [](Operands& in) { in.require(in[0].rows == in[0].cols, "it must be square"); });
}

std::string size_text(std::uint64_t rows, std::uint64_t cols);
template <class T>
std::string size_text(const View<T>& v) {
  return size_text(v.rows, v.cols);
}

/// The largest sum of a column's absolute values; NaN or infinity if there is one.
template <class eT>
eT norm1(View<const eT> a);
/// The same; throws, naming `operation`, where A holds NaN or infinity.
template <class eT>
eT norm1_of_finite(const char* operation, View<const eT> a);
/// x as a matrix.
template <class T>
View<T> view(T* x, std::size_t rows, std::size_t cols, std::size_t ld) {
  return {x, static_cast<std::uint32_t>(rows), static_cast<std::uint32_t>(cols), static_cast<std::uint32_t>(ld)};
}
/// Calls f(i, j) for the elements at and below the diagonal, i >= j, in tiles: what f reads at (i, j) and at (j, i)
/// then stays in the cache.
template <class F>
void for_pairs(std::size_t n, F f) {
  constexpr std::size_t tile = 16;
  for (std::size_t c = 0; c < n; c += tile)
    for (std::size_t r = c; r < n; r += tile)
      for (std::size_t j = c; j < std::min(c + tile, n); ++j)
        for (std::size_t i = std::max(r, j); i < std::min(r + tile, n); ++i) f(i, j);
}
/// (A + A') / 2 into the n x n `to`. Throws, naming `operation`, unless A is finite and symmetric up to rounding.
template <class eT>
void load_symmetric(const char* operation, View<const eT> a, eT* to);
/// The same without the checks.
template <class eT>
void load_symmetric_part(View<const eT> a, eT* to);
template <class eT>
void copy_contiguous(View<const eT> a, eT* to);
/// c = alpha op(A) op(B) + beta c, all contiguous: m x k, k x n.
template <class eT>
void multiply(bool ta, bool tb, std::size_t m, std::size_t n, std::size_t k, const eT* a, std::size_t lda, const eT* b,
              std::size_t ldb, eT* c, std::size_t ldc, eT alpha = 1, eT beta = 0);

/// a, or what it is the transpose of.
template <class eT>
struct SeenThrough {
  std::uint32_t node;
  bool transposed;
  Var<eT> var(Graph<eT>& g) const { return g.var(node); }
};
template <class eT>
SeenThrough<eT> see_through_transposes(Var<eT> a) {
  Graph<eT>& g = a.graph();
  SeenThrough<eT> s{a.index(), false};
  while (g.node(s.node).op == &operation_info<Transpose, eT>) {
    s.node = g.node(s.node).operands[0];
    s.transposed = !s.transposed;
  }
  return s;
}

/// Throws DeviceError, naming the public function, where the device does not have the kernel.
template <class eT>
void require_kernel(Var<eT> a, const char* kernel, const char* by) {
  a.graph().backend().require(Kernel<eT>{kernel, nullptr}, by);
}

/// The recording's Op on `a`, new or kept from before. Its public results are differentiable if it has a rule.
template <class Op, class eT>
Var<eT> kept_or_recorded(Var<eT> a, const char* by, const void* kind = &operation_info<Op, eT>) {
  Graph<eT>& g = a.graph();
  const std::uint32_t of = a.index();
  if (const std::uint32_t i = g.kept(of, kind, operation_info<Op, eT>.vjp != nullptr); i != Graph<eT>::no_node)
    return g.var(i);
  const Var<eT> f = apply<Op>({by}, a);
  g.keep(of, kind, f.index());
  return f;
}

// Across the files.

/// Whether `a` is known to be triangular by how it was made: by trimatu, trimatl, chol, lu or qr_econ.
template <class eT>
Triangle triangle_of(Var<eT> a);
/// X with A X = B, or A' X = B, for a triangular A of which only the named triangle is read; `checked`: refuse one
/// that is singular to working precision.
template <class eT>
Var<eT> triangular_solve(Var<eT> a, Var<eT> b, Triangle triangle, bool transposed, bool checked, const char* by);
/// The same for an upper triangular T that is a factor of an A of this shape; refused, as A's, unless it is regular.
template <class eT>
Var<eT> solve_with_factor(Var<eT> t, Var<eT> b, bool transposed, const char* by, Shape a);
/// R with R' R = A, upper triangular.
template <class eT>
Var<eT> cholesky(Var<eT> a, const char* by);
template <class eT>
QrResult<eT> economical_qr(Var<eT> a, const char* by);
template <class eT>
EigResult<eT> symmetric_eigen(Var<eT> a, const char* by);
/// pinv, of which messages say `by`.
template <class eT>
Var<eT> pseudo_inverse(Var<eT> a, double tolerance, const char* by);
/// The columns of an orthonormal Q from `first` on, which are some of a basis of what the others leave out: reflected
/// within that space at the plane across its share of `generic_element`.
template <class eT>
void reflect_rest(View<eT> q, std::size_t first);
/// The largest singular value.
template <class eT>
Var<eT> spectral_norm(Var<eT> a);
/// 0 for a symmetric S = Q2' dQ2: then a gradient dQ2 does not depend on which basis Q2 of its space was chosen.
/// Otherwise an error of `by`.
template <class eT>
Var<eT> require_any_basis(Var<eT> s, const char* by);
/// A's inverse, or its inverse's transpose.
template <class eT>
Var<eT> inverse(Var<eT> a, bool transposed, const char* by);

/// Entries of random matrices plus a strong diagonal.
inline arma::mat well_conditioned(Samples& s, arma::uword rows, arma::uword cols) {
  arma::mat a = s.uniform(rows, cols, -1, 1);
  a.diag() += 3;
  return a;
}
/// The symmetric part: what samples of operations on symmetric matrices put between the input and the operation.
template <class eT>
Var<eT> symmetric_part(Var<eT> x) {
  return 0.5 * (x + x.t());
}
inline arma::mat symmetric_part(const arma::mat& x) { return 0.5 * (x + x.t()); }
/// A symmetric positive definite matrix of condition below 20.
inline arma::mat positive_definite(Samples& s, arma::uword n) {
  const arma::mat x = s.uniform(n, n, -1, 1);
  return x * x.t() + arma::eye(n, n);
}

}  // namespace armagrad::detail
