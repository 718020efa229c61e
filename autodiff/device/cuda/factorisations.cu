// Factorisations by cuSOLVER, substitutions by cuBLAS, and what is computed with them (device/linear_algebra.hpp).
#include <cmath>
#include <limits>

#include <cusolverDn.h>
#include <dlfcn.h>

#include "linear_algebra.cuh"
#include "reduce.cuh"

namespace armagrad::cuda {

// ---- cuSOLVER, loaded by the first command that needs it

// clang-format off
#define ARMAGRAD_SOLVER_FUNCTIONS(F)                                                          \
  F(getrf_bufferSize) F(getrf) F(getrs) F(potrf_bufferSize) F(potrf) F(geqrf_bufferSize) F(geqrf) \
  F(orgqr_bufferSize) F(orgqr) F(syevd_bufferSize) F(syevd) F(gesvd_bufferSize) F(gesvd)
// clang-format on

template <class eT>
struct SolverFunctions;
template <>
struct SolverFunctions<float> {
#define ARMAGRAD_MEMBER(name) decltype(&cusolverDnS##name) name;
  ARMAGRAD_SOLVER_FUNCTIONS(ARMAGRAD_MEMBER)
#undef ARMAGRAD_MEMBER
};
template <>
struct SolverFunctions<double> {
#define ARMAGRAD_MEMBER(name) decltype(&cusolverDnD##name) name;
  ARMAGRAD_SOLVER_FUNCTIONS(ARMAGRAD_MEMBER)
#undef ARMAGRAD_MEMBER
};

struct Solver {
  cusolverDnHandle_t handle = nullptr;
  SolverFunctions<float> in_float{};
  SolverFunctions<double> in_double{};
};

static void check(cusolverStatus_t status, const char* what) {
  if (status == CUSOLVER_STATUS_SUCCESS) return;
  const std::string told =
      status == CUSOLVER_STATUS_ALLOC_FAILED ? "out of memory" : "status " + std::to_string(status);
  const cudaError_t error = cudaGetLastError();
  throw DeviceError(std::string("cuda: ") + what + ": cuSOLVER: " + told +
                    (error == cudaSuccess ? "" : std::string(": ") + cudaGetErrorString(error)));
}

namespace {

std::shared_ptr<Solver> open_solver(const char* by, cudaStream_t stream) {
  const std::string file = "libcusolver.so." + std::to_string(CUSOLVER_VER_MAJOR);
  std::string why;
  void* const library = open_library(file.c_str(), why);
  const auto symbol = [&](auto& to, const char* name) {
    if (!why.empty()) return;
    to = reinterpret_cast<std::decay_t<decltype(to)>>(dlsym(library, name));
    if (to == nullptr) why = file + " has no " + name;
  };
  auto solver = std::make_shared<Solver>();
  decltype(&cusolverDnCreate) create = nullptr;
  decltype(&cusolverDnSetStream) set_stream = nullptr;
  symbol(create, "cusolverDnCreate");
  symbol(set_stream, "cusolverDnSetStream");
#define ARMAGRAD_LOAD(name)                           \
  symbol(solver->in_float.name, "cusolverDnS" #name); \
  symbol(solver->in_double.name, "cusolverDnD" #name);
  ARMAGRAD_SOLVER_FUNCTIONS(ARMAGRAD_LOAD)
#undef ARMAGRAD_LOAD
  if (!why.empty())
    throw DeviceError("operation " + std::string(by) +
                      " has no implementation on the CUDA device of this machine: it needs cuSOLVER, and " + why +
                      "; install the cuSOLVER of this CUDA version where the loader finds it (LD_LIBRARY_PATH), or use "
                      "a tape of Device::cpu()");
  check(create(&solver->handle), by);
  check(set_stream(solver->handle, stream), by);
  return solver;
}

// ---- device code

template <class eT>
__global__ void identity_kernel(View<eT> out) {
  for_each_element(out.rows, out.cols,
                   [&](std::size_t i, std::size_t j) { out.data[i + j * out.ld] = i == j ? eT(1) : eT(0); });
}

// What an estimate of |A^-1| in the 1-norm does between solves (Hager 1984, Higham 1988), each by one block. `best` is
// the largest |A^-1 x| / |x| seen.
template <class eT>
__global__ void begin_kernel(View<eT> x, eT* best) {
  for (std::size_t i = threadIdx.x; i < x.rows; i += blockDim.x) x.data[i] = eT(1) / static_cast<eT>(x.rows);
  if (threadIdx.x == 0) *best = 0;
}
template <class eT>
__global__ void take_norm_kernel(View<eT> x, eT* best, eT factor, bool to_signs) {
  eT norm = 0;
  for (std::size_t i = threadIdx.x; i < x.rows; i += blockDim.x) {
    norm += std::abs(x.data[i]);
    if (to_signs) x.data[i] = x.data[i] < eT(0) ? eT(-1) : eT(1);
  }
  norm = reduce_line(norm, Plus());
  if (threadIdx.x == 0) *best = Larger()(*best, factor * norm);
}
struct LargerInSize {
  template <class eT>
  __device__ Best<eT> operator()(Best<eT> a, Best<eT> b) const {
    const eT u = std::abs(a.value), v = std::abs(b.value);
    return u > v || (u == v && a.at <= b.at) ? a : b;
  }
};
template <class eT>
__global__ void unit_at_largest_kernel(View<eT> x) {
  Best<eT> best{eT(0), 0};
  for (std::size_t i = threadIdx.x; i < x.rows; i += blockDim.x)
    best = LargerInSize()(best, {x.data[i], static_cast<std::uint32_t>(i)});
  best = reduce_line(best, LargerInSize());
  for (std::size_t i = threadIdx.x; i < x.rows; i += blockDim.x) x.data[i] = i == best.at ? eT(1) : eT(0);
}
template <class eT>
__global__ void alternate_kernel(View<eT> x) {
  for (std::size_t i = threadIdx.x; i < x.rows; i += blockDim.x) {
    const eT size = 1 + static_cast<eT>(i) / static_cast<eT>(x.rows > 1 ? x.rows - 1 : 1);
    x.data[i] = i % 2 == 0 ? size : -size;
  }
}
template <class eT>
__global__ void condition_kernel(eT* rcond, const eT* norm, const eT* inverse_norm) {
  const eT r = eT(1) / *inverse_norm / *norm;
  *rcond = r > eT(0) ? r : eT(0);  // also of NaN
}

/// Beside the numbers of look_at: what a factorisation said.
template <class eT>
__global__ void info_kernel(eT* to, const int* info) {
  *to = static_cast<eT>(*info);
}

/// The upper triangle of A, half of it, and half of that on the diagonal.
template <class eT>
__global__ void half_upper_kernel(View<eT> out, View<const eT> a) {
  for_each_element(out.rows, out.cols, [&](std::size_t i, std::size_t j) {
    out.data[i + j * out.ld] = i > j ? eT(0) : a.data[i + j * a.ld] * (i == j ? eT(0.25) : eT(0.5));
  });
}
template <class eT>
__global__ void plus_transposed_kernel(View<eT> out, View<const eT> a) {
  for_each_element(out.rows, out.cols, [&](std::size_t i, std::size_t j) {
    out.data[i + j * out.ld] = a.data[i + j * a.ld] + a.data[j + i * a.ld];
  });
}

struct Times {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a * b;
  }
};
/// det = the product of U's diagonal, and of -1 for every exchange; 0 if `info` tells of a zero pivot. One block.
template <class eT>
__global__ void determinant_kernel(View<eT> det, View<const eT> u, View<const int> pivots, const eT* info) {
  eT product = 1;
  for (std::size_t i = threadIdx.x; i < pivots.rows; i += blockDim.x) {
    product *= u.data[i * (u.ld + std::size_t{1})];
    if (pivots.data[i] != static_cast<int>(i + 1)) product = -product;
  }
  product = reduce_line(product, Times());
  if (threadIdx.x == 0) *det.data = *info > eT(0) ? eT(0) : product;
}
template <class eT>
__global__ void log_determinant_kernel(View<eT> out, View<eT> sign_out, View<const eT> u, View<const int> pivots,
                                       const eT* info, eT infinity) {
  eT sum = 0, sign = 1;
  for (std::size_t i = threadIdx.x; i < pivots.rows; i += blockDim.x) {
    const eT d = u.data[i * (u.ld + std::size_t{1})];
    sum += std::log(std::abs(d));
    if ((d < eT(0)) != (pivots.data[i] != static_cast<int>(i + 1))) sign = -sign;
  }
  sum = reduce_line(sum, Plus());
  sign = reduce_line(sign, Times());
  if (threadIdx.x != 0) return;
  *out.data = *info > eT(0) ? -infinity : sum;
  *sign_out.data = *info > eT(0) ? eT(0) : sign;
}
/// sign *= the sign of det U, `sign` 1 before the `first`.
template <class eT>
__global__ void sign_kernel(eT* sign, View<const eT> u, View<const int> pivots, bool first) {
  eT product = 1;
  for (std::size_t i = threadIdx.x; i < pivots.rows; i += blockDim.x)
    if ((u.data[i * (u.ld + std::size_t{1})] < eT(0)) != (pivots.data[i] != static_cast<int>(i + 1)))
      product = -product;
  product = reduce_line(product, Times());
  if (threadIdx.x == 0) *sign = first ? product : *sign * product;
}
template <class eT>
__global__ void half_log_determinant_kernel(View<eT> out, View<const eT> r) {
  eT sum = 0;
  for (std::size_t i = threadIdx.x; i < r.rows; i += blockDim.x) sum += std::log(r.data[i * (r.ld + std::size_t{1})]);
  sum = reduce_line(sum, Plus());
  if (threadIdx.x == 0) *out.data = 2 * sum;
}
template <class eT>
__global__ void scale_kernel(View<eT> out, const eT* factor) {
  const eT f = *factor;
  for_each_element(out.rows, out.cols, [&](std::size_t i, std::size_t j) { out.data[i + j * out.ld] *= f; });
}
/// Column i of U times `sign` and the product of all singular values but the i-th.
template <class eT>
__global__ void scale_by_others_kernel(View<eT> u, View<const eT> s, const eT* sign) {
  for_each_element(u.rows, u.cols, [&](std::size_t r, std::size_t i) {
    eT product = *sign;
    for (std::size_t k = 0; k < s.rows; ++k)
      if (k != i) product *= s.data[k];
    u.data[r + i * u.ld] *= product;
  });
}
/// With q(i, j) the product of `sign` and the singular values but i and j: H(i, j) = -q(i, j) M(j, i), H(i, i) the sum
/// over j of q(i, j) M(j, j).
template <class eT>
__global__ void cofactors_derivative_kernel(View<eT> h, View<const eT> m, View<const eT> s, const eT* sign) {
  for_each_element(h.rows, h.cols, [&](std::size_t i, std::size_t j) {
    const auto others = [&](std::size_t a, std::size_t b) {
      eT q = *sign;
      for (std::size_t k = 0; k < s.rows; ++k)
        if (k != a && k != b) q *= s.data[k];
      return q;
    };
    eT value = 0;
    if (i != j)
      value = -others(i, j) * m.data[j + i * m.ld];
    else
      for (std::size_t k = 0; k < h.rows; ++k)
        if (k != i) value += others(i, k) * m.data[k + k * m.ld];
    h.data[i + j * h.ld] = value;
  });
}

/// 0 if there is a 0 on the diagonal, which is given as a row.
template <class eT>
__global__ void regular_diagonal_kernel(eT* to, View<const eT> diagonal) {
  eT regular = 1;
  for (std::size_t j = threadIdx.x; j < diagonal.cols; j += blockDim.x)
    if (diagonal.data[j * diagonal.ld] == eT(0)) regular = 0;
  regular = reduce_line(regular, Times());
  if (threadIdx.x == 0) *to = regular;
}

/// L, with ones on its diagonal.
template <class eT>
__global__ void unit_lower_kernel(View<eT> l, View<const eT> lu) {
  for_each_element(l.rows, l.cols, [&](std::size_t i, std::size_t j) {
    l.data[i + j * l.ld] = i > j ? lu.data[i + j * lu.ld] : i == j ? eT(1) : eT(0);
  });
}
/// The order of rows that the exchanges lead to; one after the other, by one thread.
__global__ void row_order_kernel(View<std::uint32_t> order, View<const int> pivots) {
  for (std::uint32_t i = 0; i < order.rows; ++i) order.data[i] = i;
  for (std::uint32_t i = 0; i < pivots.rows; ++i) {
    const auto other = static_cast<std::uint32_t>(pivots.data[i] - 1);
    const std::uint32_t kept = order.data[i];
    order.data[i] = order.data[other];
    order.data[other] = kept;
  }
}
template <class eT>
__global__ void permutation_kernel(View<eT> p, View<const std::uint32_t> order) {
  for_each_element(p.rows, p.cols,
                   [&](std::size_t i, std::size_t j) { p.data[i + j * p.ld] = order.data[i] == j ? eT(1) : eT(0); });
}

// ---- from a command to launches

template <class... P, class... Arguments>
void launch_block(Context& context, std::size_t per_warp, void (*kernel)(P...), Arguments... arguments) {
  launch(kernel, 1, threads_per_block, threads_per_block / 32 * per_warp, context.stream, arguments...);
}
template <class eT>
void transpose(Context& context, View<const eT> from, View<eT> to) {
  Command<eT> c;
  c.out = to;
  c.in[0] = from;
  c.flags = transpose_a;
  copy(context, c);
}
template <class eT>
void set_identity(Context& context, View<eT> out) {
  launch_elements(context, out.rows, out.cols, &identity_kernel<eT>, out);
}

/// cuSOLVER for one element type.
template <class eT>
class Lapack {
 public:
  Lapack(Context& context, const char* by) : context_(context), by_(by) {
    if (context.solver == nullptr) context.solver = open_solver(by, context.stream);
    handle_ = context.solver->handle;
    if constexpr (std::is_same_v<eT, float>)
      f_ = &context.solver->in_float;
    else
      f_ = &context.solver->in_double;
  }

  // How many eT of scratch memory what follows needs.
  std::size_t lu_scratch(View<eT> a) const {
    return size_of([&](int* size) { return f_->getrf_bufferSize(handle_, m(a), n(a), a.data, ld(a), size); });
  }
  std::size_t cholesky_scratch(View<eT> a) const {
    return size_of(
        [&](int* size) { return f_->potrf_bufferSize(handle_, CUBLAS_FILL_MODE_UPPER, n(a), a.data, ld(a), size); });
  }
  std::size_t qr_scratch(View<eT> a, View<eT> q) const {
    const std::size_t factor = size_of(
                          [&](int*size) { return f_->geqrf_bufferSize(handle_, m(a), n(a), a.data, ld(a), size); }),
                      expand = size_of([&](int*size) {
                        return f_->orgqr_bufferSize(handle_, m(q), n(q), std::min(n(q), n(a)), q.data, ld(q), q.data,
                                                    size);
                      });
    return std::max(factor, expand);
  }
  std::size_t eigen_scratch(bool vectors, View<eT> a, View<eT> w) const {
    return size_of([&](int* size) {
      return f_->syevd_bufferSize(handle_, mode(vectors), CUBLAS_FILL_MODE_UPPER, n(a), a.data, ld(a), w.data, size);
    });
  }
  std::size_t svd_scratch(View<const eT> a) const {
    return size_of([&](int* size) { return f_->gesvd_bufferSize(handle_, m(a), n(a), size); });
  }

  void lu(View<eT> a, int* pivots, eT* scratch, int* info) const {
    check(f_->getrf(handle_, m(a), n(a), a.data, ld(a), scratch, pivots, info), by_);
  }
  /// X with op(A) X = B, in place of B.
  void lu_solve(bool transposed, View<const eT> lu, const int* pivots, View<eT> b, int* info) const {
    if (b.size() == 0) return;
    check(f_->getrs(handle_, transposed ? CUBLAS_OP_T : CUBLAS_OP_N, n(lu), n(b), lu.data, ld(lu), pivots, b.data,
                    ld(b), info),
          by_);
  }
  void cholesky(View<eT> a, eT* scratch, std::size_t size, int* info) const {
    check(f_->potrf(handle_, CUBLAS_FILL_MODE_UPPER, n(a), a.data, ld(a), scratch, static_cast<int>(size), info), by_);
  }
  void qr(View<eT> a, eT* tau, eT* scratch, std::size_t size, int* info) const {
    check(f_->geqrf(handle_, m(a), n(a), a.data, ld(a), tau, scratch, static_cast<int>(size), info), by_);
  }
  void expand(View<eT> q, std::size_t reflectors, const eT* tau, eT* scratch, std::size_t size, int* info) const {
    check(f_->orgqr(handle_, m(q), n(q), static_cast<int>(reflectors), q.data, ld(q), tau, scratch,
                    static_cast<int>(size), info),
          by_);
  }
  void eigen(bool vectors, View<eT> a, View<eT> w, eT* scratch, std::size_t size, int* info) const {
    check(f_->syevd(handle_, mode(vectors), CUBLAS_FILL_MODE_UPPER, n(a), a.data, ld(a), w.data, scratch,
                    static_cast<int>(size), info),
          by_);
  }
  /// Of an A with at least as many rows as columns, which is destroyed.
  void svd(char job, View<eT> a, View<eT> s, View<eT> u, View<eT> vt, eT* scratch, std::size_t size, int* info) const {
    const auto which = static_cast<signed char>(job);
    check(f_->gesvd(handle_, which, which, m(a), n(a), a.data, ld(a), s.data, u.data, m(a), vt.data, n(a), scratch,
                    static_cast<int>(size), nullptr, info),
          by_);
  }

 private:
  template <class T>
  static int m(const View<T>& a) {
    return static_cast<int>(a.rows);
  }
  template <class T>
  static int n(const View<T>& a) {
    return static_cast<int>(a.cols);
  }
  template <class T>
  static int ld(const View<T>& a) {
    return static_cast<int>(std::max({a.ld, a.rows, 1u}));
  }
  static cusolverEigMode_t mode(bool vectors) {
    return vectors ? CUSOLVER_EIG_MODE_VECTOR : CUSOLVER_EIG_MODE_NOVECTOR;
  }
  template <class Query>
  std::size_t size_of(Query query) const {
    int size = 0;
    check(query(&size), by_);
    return static_cast<std::size_t>(std::max(size, 1));
  }

  Context& context_;
  const char* by_;
  cusolverDnHandle_t handle_;
  const SolverFunctions<eT>* f_;
};

cublasStatus_t blas_trsm(cublasHandle_t blas, cublasFillMode_t uplo, cublasOperation_t op, int m, int n,
                         const float* alpha, const float* a, int lda, float* b, int ldb) {
  return cublasStrsm(blas, CUBLAS_SIDE_LEFT, uplo, op, CUBLAS_DIAG_NON_UNIT, m, n, alpha, a, lda, b, ldb);
}
cublasStatus_t blas_trsm(cublasHandle_t blas, cublasFillMode_t uplo, cublasOperation_t op, int m, int n,
                         const double* alpha, const double* a, int lda, double* b, int ldb) {
  return cublasDtrsm(blas, CUBLAS_SIDE_LEFT, uplo, op, CUBLAS_DIAG_NON_UNIT, m, n, alpha, a, lda, b, ldb);
}
/// X with op(T) X = B in place of B, for a triangular T.
template <class eT>
void substitute(Context& context, bool upper, bool transposed, View<const eT> t, View<eT> b) {
  if (b.size() == 0) return;
  const eT one = 1;
  check(blas_trsm(context.blas, upper ? CUBLAS_FILL_MODE_UPPER : CUBLAS_FILL_MODE_LOWER,
                  transposed ? CUBLAS_OP_T : CUBLAS_OP_N, static_cast<int>(b.rows), static_cast<int>(b.cols), &one,
                  t.data, static_cast<int>(t.ld), b.data, static_cast<int>(b.ld)),
        "trsm");
}

/// rcond = 1 / (|A| |A^-1|), |A^-1| estimated as LAPACK's gecon does but in a fixed number of rounds, so that the host
/// need not look on. `solve(x, transposed)` puts op(A)^-1 x in place of the column x. In device memory: n numbers at
/// `x`, one at `best`.
template <class eT, class Solve>
void estimate_condition(Context& context, View<eT> x, eT* best, const eT* norm, eT* rcond, Solve solve) {
  launch_block(context, sizeof(eT), &begin_kernel<eT>, x, best);
  solve(x, false);
  for (int round = 0; round < 3; ++round) {
    launch_block(context, sizeof(eT), &take_norm_kernel<eT>, x, best, eT(1), true);
    solve(x, true);
    launch_block(context, sizeof(Best<eT>), &unit_at_largest_kernel<eT>, x);
    solve(x, false);
  }
  launch_block(context, sizeof(eT), &take_norm_kernel<eT>, x, best, eT(1), false);
  launch_block(context, sizeof(eT), &alternate_kernel<eT>, x);
  solve(x, false);
  launch_block(context, sizeof(eT), &take_norm_kernel<eT>, x, best, eT(2) / (3 * static_cast<eT>(x.rows)), false);
  launch(&condition_kernel<eT>, 1, 1, 0, context.stream, rcond, norm, static_cast<const eT*>(best));
}

template <class eT>
void require_regular(const char* by, std::uint32_t n, eT rcond, bool checked) {
  if (!(rcond > (checked ? std::numeric_limits<eT>::epsilon() : eT(0))))
    detail::fail_singular(by, n, static_cast<double>(rcond));
}

/// Numbers of a matrix, and what was found out beside them.
template <class eT>
struct NumbersAnd {
  Numbers<eT> of;
  eT more;
};

/// The factors in a result of lu_factors: L and U in one n x n matrix, rcond, the number of a zero pivot or 0, the
/// pivots.
template <class eT>
struct Lu {
  Lu(const eT* memory, std::uint32_t n)
      : matrix(view(const_cast<eT*>(memory), n, n)),
        rcond(matrix.data + matrix.size()),
        info(rcond + 1),
        pivots(view(reinterpret_cast<int*>(rcond + 3), n)) {}
  View<eT> matrix;
  eT *rcond, *info;
  View<int> pivots;
};

template <class eT>
void lu_factors(Context& context, const Command<eT>& c) {
  const char* by = attributes_of<detail::AskedBy>(c).by;
  const View<const eT> a = c.in[0];
  const Lu<eT> lu(c.out.data, a.rows);
  if (a.rows == 0) return fill_matrix(context, view(lu.rcond, 2), eT(0));
  const Lapack<eT> lapack(context, by);
  const auto [scratch, columns, numbers, x, best, info] =
      carve(context, Piece<eT>{lapack.lu_scratch(lu.matrix)}, Piece<eT>{numbers_of_column * a.cols},
            Piece<eT>{numbers_of_column + 1}, Piece<eT>{a.rows}, Piece<eT>{1}, Piece<int>{1});
  look_at(context, a, detail::Triangle::none, columns, numbers);
  copy_matrix(context, a, lu.matrix);
  lapack.lu(lu.matrix, lu.pivots.data, scratch, info);
  launch(&info_kernel<eT>, 1, 1, 0, context.stream, lu.info, static_cast<const int*>(info));
  launch(&info_kernel<eT>, 1, 1, 0, context.stream, numbers + numbers_of_column, static_cast<const int*>(info));
  const auto found = context.read(reinterpret_cast<const NumbersAnd<eT>*>(numbers));
  if (found.of.not_finite != eT(0)) detail::fail_not_finite(by, a.rows, a.cols);
  if (found.more > eT(0)) return fill_matrix(context, view(lu.rcond, 1), eT(0));
  int* const unread = info;
  estimate_condition(context, view(x, a.rows), best, numbers, lu.rcond, [&](View<eT> column, bool transposed) {
    lapack.lu_solve(transposed, lu.matrix, lu.pivots.data, column, unread);
  });
}

template <class eT>
void lu_solve(Context& context, const Command<eT>& c) {
  const auto& o = attributes_of<detail::SolveOptions>(c);
  const View<const eT> b = c.in[0];
  if (b.rows == 0) return;
  const Lu<eT> lu(c.in[1].data, b.rows);
  require_regular(o.by, b.rows, context.read(lu.rcond), o.checked);
  const auto [info] = carve(context, Piece<int>{1});
  copy_matrix(context, b, c.out);
  Lapack<eT>(context, o.by).lu_solve(o.transposed, lu.matrix, lu.pivots.data, c.out, info);
}

template <class eT>
void lu_inverse(Context& context, const Command<eT>& c) {
  const auto& o = attributes_of<detail::InverseOptions>(c);
  if (c.out.rows == 0) return;
  const Lu<eT> lu(c.in[0].data, c.out.rows);
  require_regular(o.by, c.out.rows, context.read(lu.rcond), true);
  const auto [info] = carve(context, Piece<int>{1});
  set_identity(context, c.out);
  Lapack<eT>(context, o.by).lu_solve(o.transposed, lu.matrix, lu.pivots.data, c.out, info);
}

template <class eT>
void launch_determinant(Context& context, const Lu<eT>& lu, View<eT> det) {
  launch_block(context, sizeof(eT), &determinant_kernel<eT>, det, lu.matrix, lu.pivots,
               static_cast<const eT*>(lu.info));
}
template <class eT>
void determinant(Context& context, const Command<eT>& c) {
  launch_determinant(context, Lu<eT>(c.in[0].data, attributes_of<detail::Order>(c).n), c.out);
}
template <class eT>
void log_determinant(Context& context, const Command<eT>& c) {
  const Lu<eT> lu(c.in[0].data, attributes_of<detail::Order>(c).n);
  launch_block(context, sizeof(eT), &log_determinant_kernel<eT>, c.out, c.more_out[0], lu.matrix, lu.pivots,
               static_cast<const eT*>(lu.info), std::numeric_limits<eT>::infinity());
}

/// A = U diag(s) V' with a square A; `sign` is det U det V, 1 or -1. `x` is an n x n matrix for scratch.
template <class eT>
void signed_svd(Context& context, const Lapack<eT>& lapack, View<const eT> a, View<eT> x, View<eT> u, View<eT> s,
                View<eT> vt, eT* sign, int* pivots, eT* scratch, std::size_t size, int* info) {
  copy_matrix(context, a, x);
  lapack.svd('A', x, s, u, vt, scratch, size, info);
  if (context.read(static_cast<const int*>(info)) != 0) detail::fail_to_converge("det", a.rows, a.cols);
  bool first = true;
  for (const View<eT>& q : {u, vt}) {
    copy_matrix<eT>(context, q, x);
    lapack.lu(x, pivots, scratch, info);
    launch_block(context, sizeof(eT), &sign_kernel<eT>, sign, x, view(pivots, a.rows), first);
    first = false;
  }
}

template <class eT>
void cofactors(Context& context, const Command<eT>& c) {
  const std::uint32_t n = c.out.rows;
  if (n == 0) return;
  const Lu<eT> lu(c.in[1].data, n);
  const Lapack<eT> lapack(context, "det");
  const std::size_t square = c.out.size();
  if (context.read(lu.rcond) > std::sqrt(std::numeric_limits<eT>::epsilon())) {
    const auto [det, info] = carve(context, Piece<eT>{1}, Piece<int>{1});
    launch_determinant(context, lu, view(det, 1));
    set_identity(context, c.out);
    lapack.lu_solve(true, lu.matrix, lu.pivots.data, c.out, info);
    launch_elements(context, n, n, &scale_kernel<eT>, c.out, static_cast<const eT*>(det));
    return;
  }
  const std::size_t size = std::max(lapack.svd_scratch(c.in[0]), lapack.lu_scratch(c.out));
  const auto [x, u, vt, s, sign, scratch, pivots, info] =
      carve(context, Piece<eT>{square}, Piece<eT>{square}, Piece<eT>{square}, Piece<eT>{n}, Piece<eT>{1},
            Piece<eT>{size}, Piece<int>{n}, Piece<int>{1});
  const View<eT> left = view(u, n, n), right = view(vt, n, n), values = view(s, n);
  signed_svd(context, lapack, c.in[0], view(x, n, n), left, values, right, sign, pivots, scratch, size, info);
  launch_elements(context, n, n, &scale_by_others_kernel<eT>, left, values, static_cast<const eT*>(sign));
  multiply<eT>(context, 0, left, right, c.out);
}

template <class eT>
void cofactors_derivative(Context& context, const Command<eT>& c) {
  const std::uint32_t n = c.out.rows;
  if (n == 0) return;
  const Lapack<eT> lapack(context, "det");
  const std::size_t square = c.out.size();
  const std::size_t size = std::max(lapack.svd_scratch(c.in[0]), lapack.lu_scratch(c.out));
  const auto [x, u, vt, m, s, sign, scratch, pivots, info] =
      carve(context, Piece<eT>{square}, Piece<eT>{square}, Piece<eT>{square}, Piece<eT>{square}, Piece<eT>{n},
            Piece<eT>{1}, Piece<eT>{size}, Piece<int>{n}, Piece<int>{1});
  const View<eT> t = view(x, n, n), left = view(u, n, n), right = view(vt, n, n), inner = view(m, n, n),
                 values = view(s, n);
  signed_svd(context, lapack, c.in[0], t, left, values, right, sign, pivots, scratch, size, info);
  multiply<eT>(context, transpose_a, left, c.in[1], t);
  multiply<eT>(context, transpose_b, t, right, inner);  // M = U' W V
  launch_elements(context, n, n, &cofactors_derivative_kernel<eT>, t, inner, values, static_cast<const eT*>(sign));
  multiply<eT>(context, 0, left, t, inner);
  multiply<eT>(context, 0, inner, right, c.out);
}

/// Of a triangle, with its rcond, read back.
template <class eT>
NumbersAnd<eT> look_at_triangle(Context& context, bool upper, View<const eT> t, eT* columns, eT* numbers, eT* x) {
  look_at(context, t, upper ? detail::Triangle::upper : detail::Triangle::lower, columns, numbers);
  estimate_condition(context, view(x, t.rows), columns, numbers, numbers + numbers_of_column,
                     [&](View<eT> column, bool transposed) { substitute(context, upper, transposed, t, column); });
  return context.read(reinterpret_cast<const NumbersAnd<eT>*>(numbers));
}

template <class eT>
void triangular_solve(Context& context, const Command<eT>& c) {
  const auto& o = attributes_of<detail::TriangularOptions>(c);
  const View<const eT> a = c.in[0], b = c.in[1];
  if (a.rows == 0) return;
  const bool upper = o.triangle == detail::Triangle::upper;
  const auto [columns, numbers, x] =
      carve(context, Piece<eT>{numbers_of_column * a.cols}, Piece<eT>{numbers_of_column + 1}, Piece<eT>{a.rows});
  if (o.checked) {
    const NumbersAnd<eT> found = look_at_triangle(context, upper, a, columns, numbers, x);
    if (found.of.not_finite != eT(0)) detail::fail_not_finite(o.by, a.rows, a.cols);
    if (o.rows > 0 && !(found.more > std::numeric_limits<eT>::epsilon()))
      detail::fail_dependent(o.by, o.rows, o.cols, static_cast<double>(found.more));
    require_regular(o.by, a.rows, found.more, true);
  } else if (b.size() > 0) {  // refused is a 0 on the diagonal alone
    const View<const eT> diagonal{a.data, 1, a.cols, a.ld + 1};
    launch_block(context, sizeof(eT), &regular_diagonal_kernel<eT>, numbers, diagonal);
    if (context.read(static_cast<const eT*>(numbers)) == eT(0)) detail::fail_singular(o.by, a.rows, 0);
  }
  copy_matrix(context, b, c.out);
  substitute(context, upper, o.transposed, a, c.out);
}

template <class eT>
void require_symmetric(Context& context, const char* by, View<const eT> a, const Symmetry<eT>& found) {
  if (found.not_finite != eT(0)) detail::fail_not_finite(by, a.rows, a.cols);
  if (!(found.apart > std::sqrt(std::numeric_limits<eT>::epsilon()) * found.largest)) return;
  std::vector<eT> here(a.size());
  context.read_bytes(here.data(), a.data, a.size() * sizeof(eT));
  detail::fail_not_symmetric<eT>(by, view<const eT>(here.data(), a.rows, a.cols), found.apart);
}

template <class eT>
void cholesky(Context& context, const Command<eT>& c) {
  const char* by = attributes_of<detail::AskedBy>(c).by;
  const View<const eT> a = c.in[0];
  if (a.rows == 0) return;
  const Lapack<eT> lapack(context, by);
  const std::size_t size = lapack.cholesky_scratch(c.out);
  const auto [scratch, columns, numbers, info] = carve(context, Piece<eT>{size}, Piece<eT>{numbers_of_column * a.cols},
                                                       Piece<eT>{numbers_of_column + 1}, Piece<int>{1});
  look_at_symmetry(context, a, c.out, columns, numbers);
  lapack.cholesky(c.out, scratch, size, info);
  launch(&info_kernel<eT>, 1, 1, 0, context.stream, numbers + numbers_of_column, static_cast<const int*>(info));
  struct Found {
    Symmetry<eT> of;
    eT info;
  };
  const auto found = context.read(reinterpret_cast<const Found*>(numbers));
  require_symmetric(context, by, a, found.of);
  if (found.info > eT(0)) detail::fail_not_definite(by, a.rows, static_cast<int>(found.info));
  copy_triangle<eT>(context, true, 0, c.out, c.out);
}

template <class eT>
void cholesky_solve(Context& context, const Command<eT>& c) {
  if (c.out.size() == 0) return;
  copy_matrix(context, c.in[0], c.out);
  for (const bool transposed : {true, false}) substitute(context, true, transposed, c.in[1], c.out);
}
template <class eT>
void cholesky_inverse(Context& context, const Command<eT>& c) {
  set_identity(context, c.out);
  for (const bool transposed : {true, false}) substitute(context, true, transposed, c.in[0], c.out);
  mirror_triangle<eT>(context, true, c.out, c.out);  // symmetric to the last bit
}
template <class eT>
void cholesky_log_determinant(Context& context, const Command<eT>& c) {
  launch_block(context, sizeof(eT), &half_log_determinant_kernel<eT>, c.out, c.in[0]);
}

/// W + W' with W = R^-1 T R^-T, T' the upper triangle of G R', half of it and half of that on the diagonal.   in: R, G
template <class eT>
void cholesky_gradient(Context& context, const Command<eT>& c) {
  const View<const eT> r = c.in[0], g = c.in[1];
  if (r.rows == 0) return;
  const auto [x_memory, y_memory] = carve(context, Piece<eT>{r.size()}, Piece<eT>{r.size()});
  const View<eT> x = view(x_memory, r.rows, r.rows), y = view(y_memory, r.rows, r.rows);
  multiply(context, transpose_b, g, r, y);
  launch_elements(context, r.rows, r.rows, &half_upper_kernel<eT>, x, y);
  substitute(context, true, false, r, x);
  transpose<eT>(context, x, y);
  substitute(context, true, false, r, y);
  launch_elements(context, r.rows, r.rows, &plus_transposed_kernel<eT>, c.out, y);
}

template <class eT>
void least_squares(Context& context, const Command<eT>& c) {
  const auto& o = attributes_of<detail::SolveOptions>(c);
  const View<const eT> b = c.in[0], q = c.in[1], r = c.in[2];
  if (c.out.size() == 0) return;
  if (r.rows == 0) return fill_matrix(context, c.out, eT(0));
  const auto [columns, numbers, x, y] = carve(context, Piece<eT>{numbers_of_column * r.cols},
                                              Piece<eT>{numbers_of_column + 1}, Piece<eT>{r.rows}, Piece<eT>{b.size()});
  if (o.checked) {
    if (!(look_at_triangle(context, true, r, columns, numbers, x).more > std::numeric_limits<eT>::epsilon()))
      detail::fail_rank(o.by, o.transposed ? q.cols : q.rows, o.transposed ? q.rows : q.cols);
  }
  if (!o.transposed) {  // R^-1 Q' B
    multiply(context, transpose_a, q, b, c.out);
    substitute(context, true, false, r, c.out);
  } else {  // Q R^-T B
    const View<eT> t = view(y, b.rows, b.cols);
    copy_matrix(context, b, t);
    substitute(context, true, true, r, t);
    multiply<eT>(context, 0, q, t, c.out);
  }
}

template <class eT>
void lu(Context& context, const Command<eT>& c) {
  const View<const eT> a = c.in[0];
  const View<eT> l = c.out, u = c.more_out[0], p = c.more_out[1];
  const std::uint32_t k = l.cols;
  if (a.size() == 0) {
    set_identity(context, l);
    set_identity(context, p);
    return fill_matrix(context, u, eT(0));
  }
  const Lapack<eT> lapack(context, "lu");
  const View<eT> shape{c.out.data, a.rows, a.cols, a.rows};
  const auto [x, scratch, columns, numbers, pivots, order, info] =
      carve(context, Piece<eT>{a.size()}, Piece<eT>{lapack.lu_scratch(shape)}, Piece<eT>{numbers_of_column * a.cols},
            Piece<eT>{numbers_of_column}, Piece<int>{k}, Piece<std::uint32_t>{a.rows}, Piece<int>{1});
  const View<eT> factors = view(x, a.rows, a.cols);
  look_at(context, a, detail::Triangle::none, columns, numbers);
  copy_matrix(context, a, factors);
  lapack.lu(factors, pivots, scratch, info);
  if (context.read(reinterpret_cast<const Numbers<eT>*>(numbers)).not_finite != eT(0))
    detail::fail_not_finite("lu", a.rows, a.cols);
  launch_elements(context, l.rows, l.cols, &unit_lower_kernel<eT>, l, factors);
  copy_triangle<eT>(context, true, 0, factors, u);
  launch(&row_order_kernel, 1, 1, 0, context.stream, view(order, a.rows), view(pivots, k));
  launch_elements(context, p.rows, p.cols, &permutation_kernel<eT>, p, view(order, a.rows));
}

template <class eT>
void qr(Context& context, const Command<eT>& c) {
  const char* by = attributes_of<detail::AskedBy>(c).by;
  const View<const eT> a = c.in[0];
  const View<eT> q = c.out, r = c.more_out[0];
  const std::uint32_t k = std::min(a.rows, a.cols);
  if (k == 0) {
    set_identity(context, q);
    return fill_matrix(context, r, eT(0));
  }
  const Lapack<eT> lapack(context, by);
  const bool elsewhere = q.cols < a.cols;  // there is no room for A in Q
  const std::size_t size = lapack.qr_scratch({q.data, a.rows, a.cols, a.rows}, q);
  const auto [room, tau, scratch, columns, numbers, info] =
      carve(context, Piece<eT>{elsewhere ? a.size() : 0}, Piece<eT>{k}, Piece<eT>{size},
            Piece<eT>{numbers_of_column * a.cols}, Piece<eT>{numbers_of_column}, Piece<int>{1});
  const View<eT> x = view(elsewhere ? room : q.data, a.rows, a.cols);
  look_at(context, a, detail::Triangle::none, columns, numbers);
  copy_matrix(context, a, x);
  lapack.qr(x, tau, scratch, size, info);
  if (context.read(reinterpret_cast<const Numbers<eT>*>(numbers)).not_finite != eT(0))
    detail::fail_not_finite(by, a.rows, a.cols);
  copy_triangle<eT>(context, true, 0, x, r);
  if (elsewhere) copy_matrix<eT>(context, view(x.data, q.rows, q.cols), q);
  lapack.expand(q, k, tau, scratch, size, info);
  if (q.cols > k) reflect_rest(context, q, View<const eT>{}, k);
}

template <class eT>
void eigen(Context& context, const Command<eT>& c) {
  const char* by = attributes_of<detail::AskedBy>(c).by;
  const View<const eT> a = c.in[0];
  if (a.rows == 0) return;
  const Lapack<eT> lapack(context, by);
  const bool vectors = c.more_out[0].data != nullptr;
  const std::size_t size =
      lapack.eigen_scratch(vectors, vectors ? c.more_out[0] : view(c.out.data, a.rows, a.cols), c.out);
  const auto [room, scratch, columns, numbers, info] =
      carve(context, Piece<eT>{vectors ? 0 : a.size()}, Piece<eT>{size}, Piece<eT>{numbers_of_column * a.cols},
            Piece<eT>{numbers_of_column}, Piece<int>{1});
  const View<eT> v = vectors ? c.more_out[0] : view(room, a.rows, a.cols);
  look_at_symmetry(context, a, v, columns, numbers);
  // Before: iterations on NaN might not end.
  require_symmetric(context, by, a, context.read(reinterpret_cast<const Symmetry<eT>*>(numbers)));
  lapack.eigen(vectors, v, c.out, scratch, size, info);
  if (context.read(static_cast<const int*>(info)) != 0) detail::fail_to_converge(by, a.rows, a.cols);
  if (vectors) reflect_equal<eT>(context, v, c.out, false);
}

/// Without u.data the values alone. cuSOLVER wants no fewer rows than columns; of a wide A it gets A' = V diag(s) U'.
template <class eT>
void decompose(Context& context, const char* by, View<const eT> a, View<eT> s, View<eT> u, View<eT> v) {
  const Lapack<eT> lapack(context, by);
  const bool wide = a.rows < a.cols, vectors = u.data != nullptr;
  const std::uint32_t rows = wide ? a.cols : a.rows, cols = wide ? a.rows : a.cols;
  const View<eT> left = wide ? v : u, right = wide ? u : v;  // rows x cols or rows x rows, and cols x cols
  const std::size_t size = lapack.svd_scratch({a.data, rows, cols, rows});
  const auto [room, transposed, scratch, columns, numbers, info] =
      carve(context, Piece<eT>{a.size()}, Piece<eT>{vectors ? right.size() : 1}, Piece<eT>{size},
            Piece<eT>{numbers_of_column * a.cols}, Piece<eT>{numbers_of_column}, Piece<int>{1});
  const View<eT> x = view(room, rows, cols), vt = view(transposed, vectors ? cols : 1, vectors ? cols : 1);
  look_at(context, a, detail::Triangle::none, columns, numbers);
  if (context.read(reinterpret_cast<const Numbers<eT>*>(numbers)).not_finite != eT(0))
    detail::fail_not_finite(by, a.rows, a.cols);
  wide ? transpose(context, a, x) : copy_matrix(context, a, x);
  const char job = !vectors ? 'N' : left.cols == cols ? 'S' : 'A';
  lapack.svd(job, x, s, vectors ? left : vt, vt, scratch, size, info);
  if (context.read(static_cast<const int*>(info)) != 0) detail::fail_to_converge(by, a.rows, a.cols);
  if (vectors) transpose<eT>(context, vt, right);
}
template <class eT>
void singular_values(Context& context, const Command<eT>& c) {
  if (c.out.size() == 0) return;
  decompose(context, attributes_of<detail::AskedBy>(c).by, c.in[0], c.out, View<eT>{}, View<eT>{});
}
template <class eT>
void svd(Context& context, const Command<eT>& c) {
  const View<eT> u = c.out, v = c.more_out[1];
  if (c.in[0].size() == 0) {
    set_identity(context, u);
    return set_identity(context, v);
  }
  const View<eT> s = c.more_out[0];
  decompose(context, attributes_of<detail::AskedBy>(c).by, c.in[0], s, u, v);
  for (const View<eT> q : {u, v}) reflect_equal<eT>(context, q, s, true);
}

}  // namespace

template <class eT>
void add_factorisations(Table<eT>& table) {
  const auto add = [&table](const char* name, Function<eT> function) { table[name] = {function, false}; };
  const auto add_reading = [&table](const char* name, Function<eT> function) { table[name] = {function, true}; };
  add("determinant", &with_context<eT, &determinant<eT>>);
  add("log_determinant", &with_context<eT, &log_determinant<eT>>);
  add("cholesky_solve", &with_context<eT, &cholesky_solve<eT>>);
  add("cholesky_gradient", &with_context<eT, &cholesky_gradient<eT>>);
  add("cholesky_inverse", &with_context<eT, &cholesky_inverse<eT>>);
  add("cholesky_log_determinant", &with_context<eT, &cholesky_log_determinant<eT>>);
  add_reading("lu_factors", &with_context<eT, &lu_factors<eT>>);
  add_reading("lu_solve", &with_context<eT, &lu_solve<eT>>);
  add_reading("lu_inverse", &with_context<eT, &lu_inverse<eT>>);
  add_reading("cofactors", &with_context<eT, &cofactors<eT>>);
  add_reading("cofactors_derivative", &with_context<eT, &cofactors_derivative<eT>>);
  add_reading("triangular_solve", &with_context<eT, &triangular_solve<eT>>);
  add_reading("cholesky", &with_context<eT, &cholesky<eT>>);
  add_reading("least_squares", &with_context<eT, &least_squares<eT>>);
  add_reading("lu", &with_context<eT, &lu<eT>>);
  add_reading("qr", &with_context<eT, &qr<eT>>);
  add_reading("eigen", &with_context<eT, &eigen<eT>>);
  add_reading("singular_values", &with_context<eT, &singular_values<eT>>);
  add_reading("svd", &with_context<eT, &svd<eT>>);
}
template void add_factorisations(Table<float>&);
template void add_factorisations(Table<double>&);

}  // namespace armagrad::cuda
