// cuSOLVER over the host's LAPACK, with its contracts checked: leading dimensions, scratch memory as large as was asked
// for, `info` and pivots in device memory, no fewer rows than columns for an SVD, nothing while a graph is captured.
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include <cusolverDn.h>
#include <stand_in.hpp>

#define STAND_IN_API extern "C" __attribute__((visibility("default")))

struct cusolverDnContext {
  cudaStream_t stream = nullptr;
};

#define LAPACK_OF(t, eT)                                                                                               \
  void t##getrf_(const int*, const int*, eT*, const int*, int*, int*);                                                 \
  void t##getrs_(const char*, const int*, const int*, const eT*, const int*, const int*, eT*, const int*, int*);       \
  void t##potrf_(const char*, const int*, eT*, const int*, int*);                                                      \
  void t##geqrf_(const int*, const int*, eT*, const int*, eT*, eT*, const int*, int*);                                 \
  void t##orgqr_(const int*, const int*, const int*, eT*, const int*, const eT*, eT*, const int*, int*);               \
  void t##syevd_(const char*, const char*, const int*, eT*, const int*, eT*, eT*, const int*, int*, const int*, int*); \
  void t##gesvd_(const char*, const char*, const int*, const int*, eT*, const int*, eT*, eT*, const int*, eT*,         \
                 const int*, eT*, const int*, int*);
extern "C" {
LAPACK_OF(s, float)
LAPACK_OF(d, double)
}

namespace {

using namespace cuda_stand_in;

/// What a function of cuSOLVER has wrong, or nothing; each check is a fault when it fails.
class Contract {
 public:
  explicit Contract(const char* function) : function_(function) {}
  template <class eT>
  Contract& matrix(const char* name, const eT* a, int rows, int cols, int ld) {
    if (rows < 0 || cols < 0 || ld < std::max(rows, 1)) {
      fault(cudaErrorInvalidValue, function_ + ": " + name + " is " + std::to_string(rows) + "x" +
                                       std::to_string(cols) + " with leading dimension " + std::to_string(ld));
      holds_ = false;
    } else if (rows > 0 && cols > 0) {
      memory(name, a,
             static_cast<std::size_t>(ld) * static_cast<std::size_t>(cols - 1) + static_cast<std::size_t>(rows));
    }
    return *this;
  }
  template <class T>
  Contract& memory(const char* name, const T* x, std::size_t count) {
    holds_ = holds_ && is_device_memory(x, count * sizeof(T), function_ + ": " + name);
    return *this;
  }
  /// `given` < 0 where the function is not told how much there is.
  template <class T>
  Contract& scratch(const T* x, int given, std::size_t wanted) {
    if (given >= 0 && static_cast<std::size_t>(given) < wanted)
      return rule(false,
                  "the scratch memory has " + std::to_string(given) + " elements, not " + std::to_string(wanted));
    return memory("the scratch memory", x, wanted);
  }
  Contract& rule(bool holds, const std::string& text) {
    if (holds_ && !holds) fault(cudaErrorInvalidValue, function_ + ": " + text);
    holds_ = holds_ && holds;
    return *this;
  }
  bool holds() const { return holds_; }

 private:
  std::string function_;
  bool holds_ = true;
};

/// Gives `work` to the stream if the contract holds now; it is looked at again when the work is done. The scratch
/// memory is written over from end to end, as somebody who relies on what lies there would notice.
template <class Check, class Work>
cusolverStatus_t give(cusolverDnHandle_t handle, Check check, Work work) {
  if (!check().holds()) return CUSOLVER_STATUS_INVALID_VALUE;
  if (is_capturing(handle->stream)) {
    fault(cudaErrorStreamCaptureUnsupported, "cuSOLVER while a stream captures");
    return CUSOLVER_STATUS_EXECUTION_FAILED;
  }
  enqueue(handle->stream, "factorisations", [check, work] {
    if (check().holds()) work();
  });
  return CUSOLVER_STATUS_SUCCESS;
}
template <class eT>
void spoil(eT* scratch, std::size_t count) {
  std::fill_n(scratch, count, std::numeric_limits<eT>::quiet_NaN());
}

std::size_t lu_size(int m, int n) { return static_cast<std::size_t>(std::max({2 * m, n, 1})); }
std::size_t cholesky_size(int n) { return static_cast<std::size_t>(3 * n + 1); }
std::size_t qr_size(int m, int n) { return static_cast<std::size_t>(n * 32 + m); }
std::size_t eigen_size(int n) { return static_cast<std::size_t>(2 * n * n + 6 * n + 1); }
std::size_t svd_size(int m, int n) { return static_cast<std::size_t>(5 * n + m + 1); }
cusolverStatus_t tell(int* size, std::size_t count) {
  *size = static_cast<int>(count);
  return CUSOLVER_STATUS_SUCCESS;
}
const char* letter(cublasOperation_t op) { return op == CUBLAS_OP_N ? "N" : "T"; }
const char* letter(cublasFillMode_t uplo) { return uplo == CUBLAS_FILL_MODE_UPPER ? "U" : "L"; }

}  // namespace

STAND_IN_API cusolverStatus_t cusolverDnCreate(cusolverDnHandle_t* handle) {
  *handle = new cusolverDnContext;
  return CUSOLVER_STATUS_SUCCESS;
}
STAND_IN_API cusolverStatus_t cusolverDnSetStream(cusolverDnHandle_t handle, cudaStream_t stream) {
  handle->stream = stream;
  return CUSOLVER_STATUS_SUCCESS;
}

#define SOLVER_OF(T, t, eT)                                                                                            \
  STAND_IN_API cusolverStatus_t cusolverDn##T##getrf_bufferSize(cusolverDnHandle_t, int m, int n, eT*, int,            \
                                                                int* size) {                                           \
    return tell(size, lu_size(m, n));                                                                                  \
  }                                                                                                                    \
  STAND_IN_API cusolverStatus_t cusolverDn##T##getrf(cusolverDnHandle_t handle, int m, int n, eT* a, int lda,          \
                                                     eT* scratch, int* pivots, int* info) {                            \
    const std::size_t size = lu_size(m, n);                                                                            \
    const auto check = [=] {                                                                                           \
      return Contract("getrf")                                                                                         \
          .matrix("A", a, m, n, lda)                                                                                   \
          .scratch(scratch, -1, size)                                                                                  \
          .memory("the pivots", pivots, static_cast<std::size_t>(std::min(m, n)))                                      \
          .memory("info", info, 1);                                                                                    \
    };                                                                                                                 \
    return give(handle, check, [=] {                                                                                   \
      t##getrf_(&m, &n, a, &lda, pivots, info);                                                                        \
      spoil(scratch, size);                                                                                            \
    });                                                                                                                \
  }                                                                                                                    \
  STAND_IN_API cusolverStatus_t cusolverDn##T##getrs(cusolverDnHandle_t handle, cublasOperation_t op, int n, int m,    \
                                                     const eT* a, int lda, const int* pivots, eT* b, int ldb,          \
                                                     int* info) {                                                      \
    const auto check = [=] {                                                                                           \
      return Contract("getrs")                                                                                         \
          .matrix("A", a, n, n, lda)                                                                                   \
          .matrix("B", b, n, m, ldb)                                                                                   \
          .memory("the pivots", pivots, static_cast<std::size_t>(n))                                                   \
          .memory("info", info, 1);                                                                                    \
    };                                                                                                                 \
    return give(handle, check, [=] { t##getrs_(letter(op), &n, &m, a, &lda, pivots, b, &ldb, info); });                \
  }                                                                                                                    \
  STAND_IN_API cusolverStatus_t cusolverDn##T##potrf_bufferSize(cusolverDnHandle_t, cublasFillMode_t, int n, eT*, int, \
                                                                int* size) {                                           \
    return tell(size, cholesky_size(n));                                                                               \
  }                                                                                                                    \
  STAND_IN_API cusolverStatus_t cusolverDn##T##potrf(cusolverDnHandle_t handle, cublasFillMode_t uplo, int n, eT* a,   \
                                                     int lda, eT* scratch, int size, int* info) {                      \
    const auto check = [=] {                                                                                           \
      return Contract("potrf")                                                                                         \
          .matrix("A", a, n, n, lda)                                                                                   \
          .scratch(scratch, size, cholesky_size(n))                                                                    \
          .memory("info", info, 1);                                                                                    \
    };                                                                                                                 \
    return give(handle, check, [=] {                                                                                   \
      t##potrf_(letter(uplo), &n, a, &lda, info);                                                                      \
      spoil(scratch, cholesky_size(n));                                                                                \
    });                                                                                                                \
  }                                                                                                                    \
  STAND_IN_API cusolverStatus_t cusolverDn##T##geqrf_bufferSize(cusolverDnHandle_t, int m, int n, eT*, int,            \
                                                                int* size) {                                           \
    return tell(size, qr_size(m, n));                                                                                  \
  }                                                                                                                    \
  STAND_IN_API cusolverStatus_t cusolverDn##T##geqrf(cusolverDnHandle_t handle, int m, int n, eT* a, int lda, eT* tau, \
                                                     eT* scratch, int size, int* info) {                               \
    const auto check = [=] {                                                                                           \
      return Contract("geqrf")                                                                                         \
          .matrix("A", a, m, n, lda)                                                                                   \
          .memory("tau", tau, static_cast<std::size_t>(std::min(m, n)))                                                \
          .scratch(scratch, size, qr_size(m, n))                                                                       \
          .memory("info", info, 1);                                                                                    \
    };                                                                                                                 \
    return give(handle, check, [=] {                                                                                   \
      t##geqrf_(&m, &n, a, &lda, tau, scratch, &size, info);                                                           \
      spoil(scratch, qr_size(m, n));                                                                                   \
    });                                                                                                                \
  }                                                                                                                    \
  STAND_IN_API cusolverStatus_t cusolverDn##T##orgqr_bufferSize(cusolverDnHandle_t, int m, int n, int, const eT*, int, \
                                                                const eT*, int* size) {                                \
    return tell(size, qr_size(m, n));                                                                                  \
  }                                                                                                                    \
  STAND_IN_API cusolverStatus_t cusolverDn##T##orgqr(cusolverDnHandle_t handle, int m, int n, int k, eT* a, int lda,   \
                                                     const eT* tau, eT* scratch, int size, int* info) {                \
    const auto check = [=] {                                                                                           \
      return Contract("orgqr")                                                                                         \
          .rule(m >= n && n >= k, "it needs rows >= columns >= reflectors")                                            \
          .matrix("Q", a, m, n, lda)                                                                                   \
          .memory("tau", tau, static_cast<std::size_t>(k))                                                             \
          .scratch(scratch, size, qr_size(m, n))                                                                       \
          .memory("info", info, 1);                                                                                    \
    };                                                                                                                 \
    return give(handle, check, [=] {                                                                                   \
      t##orgqr_(&m, &n, &k, a, &lda, tau, scratch, &size, info);                                                       \
      spoil(scratch, qr_size(m, n));                                                                                   \
    });                                                                                                                \
  }                                                                                                                    \
  STAND_IN_API cusolverStatus_t cusolverDn##T##syevd_bufferSize(                                                       \
      cusolverDnHandle_t, cusolverEigMode_t, cublasFillMode_t, int n, const eT*, int, const eT*, int* size) {          \
    return tell(size, eigen_size(n));                                                                                  \
  }                                                                                                                    \
  STAND_IN_API cusolverStatus_t cusolverDn##T##syevd(cusolverDnHandle_t handle, cusolverEigMode_t job,                 \
                                                     cublasFillMode_t uplo, int n, eT* a, int lda, eT* w, eT* scratch, \
                                                     int size, int* info) {                                            \
    const auto check = [=] {                                                                                           \
      return Contract("syevd")                                                                                         \
          .matrix("A", a, n, n, lda)                                                                                   \
          .memory("W", w, static_cast<std::size_t>(n))                                                                 \
          .scratch(scratch, size, eigen_size(n))                                                                       \
          .memory("info", info, 1);                                                                                    \
    };                                                                                                                 \
    return give(handle, check, [=] {                                                                                   \
      std::vector<int> integers(static_cast<std::size_t>(3 + 5 * n));                                                  \
      const int count = static_cast<int>(integers.size());                                                             \
      t##syevd_(job == CUSOLVER_EIG_MODE_VECTOR ? "V" : "N", letter(uplo), &n, a, &lda, w, scratch, &size,             \
                integers.data(), &count, info);                                                                        \
      if (job != CUSOLVER_EIG_MODE_VECTOR) spoil(a, static_cast<std::size_t>(n));                                      \
      spoil(scratch, eigen_size(n));                                                                                   \
    });                                                                                                                \
  }                                                                                                                    \
  STAND_IN_API cusolverStatus_t cusolverDn##T##gesvd_bufferSize(cusolverDnHandle_t, int m, int n, int* size) {         \
    return tell(size, svd_size(m, n));                                                                                 \
  }                                                                                                                    \
  STAND_IN_API cusolverStatus_t cusolverDn##T##gesvd(cusolverDnHandle_t handle, signed char job_u, signed char job_v,  \
                                                     int m, int n, eT* a, int lda, eT* s, eT* u, int ldu, eT* vt,      \
                                                     int ldv, eT* scratch, int size, eT*, int* info) {                 \
    const auto check = [=] {                                                                                           \
      return Contract("gesvd")                                                                                         \
          .rule(m >= n, "A has fewer rows than columns")                                                               \
          .rule(ldu >= m && ldv >= n, "a leading dimension is too small")                                              \
          .matrix("A", a, m, n, lda)                                                                                   \
          .memory("S", s, static_cast<std::size_t>(n))                                                                 \
          .matrix("U", u, job_u == 'N' ? 0 : m, job_u == 'A' ? m : n, ldu)                                             \
          .matrix("VT", vt, job_v == 'N' ? 0 : n, n, ldv)                                                              \
          .scratch(scratch, size, svd_size(m, n))                                                                      \
          .memory("info", info, 1);                                                                                    \
    };                                                                                                                 \
    return give(handle, check, [=] {                                                                                   \
      const char ju = static_cast<char>(job_u), jv = static_cast<char>(job_v);                                         \
      t##gesvd_(&ju, &jv, &m, &n, a, &lda, s, u, &ldu, vt, &ldv, scratch, &size, info);                                \
      spoil(a, static_cast<std::size_t>(std::min(m, n)));                                                              \
      spoil(scratch, svd_size(m, n));                                                                                  \
    });                                                                                                                \
  }
SOLVER_OF(S, s, float)
SOLVER_OF(D, d, double)
