// cuBLAS and cublasLt over the host's BLAS, with its contracts checked: column-major, leading dimensions that reach, a
// result that is no operand, and while a graph is captured a workspace of one's own.
#include <cstdint>
#include <cstring>
#include <vector>

#include <cublasLt.h>
#include <cublas_v2.h>
#include <stand_in.hpp>

struct cublasContext {
  cudaStream_t stream = nullptr;
  bool has_workspace = false;
  bool scalars_on_device = false;
  cublasMath_t math = CUBLAS_DEFAULT_MATH;
};

extern "C" {
void sgemm_(const char*, const char*, const int*, const int*, const int*, const float*, const float*, const int*,
            const float*, const int*, const float*, float*, const int*);
void dgemm_(const char*, const char*, const int*, const int*, const int*, const double*, const double*, const int*,
            const double*, const int*, const double*, double*, const int*);
void strsm_(const char*, const char*, const char*, const char*, const int*, const int*, const float*, const float*,
            const int*, float*, const int*);
void dtrsm_(const char*, const char*, const char*, const char*, const int*, const int*, const double*, const double*,
            const int*, double*, const int*);
}

namespace {

using namespace cuda_stand_in;

/// A matrix as cuBLAS is told of it.
template <class eT>
struct Matrix {
  const char* name;
  const eT* data;
  int rows, cols, ld;

  std::size_t extent() const {  // in elements
    if (rows == 0 || cols == 0) return 0;
    return static_cast<std::size_t>(ld) * static_cast<std::size_t>(cols - 1) + static_cast<std::size_t>(rows);
  }
  bool is_right() const {
    if (rows < 0 || cols < 0 || ld < rows || ld < 1) {
      fault(cudaErrorInvalidValue, std::string("gemm: ") + name + " is " + std::to_string(rows) + "x" +
                                       std::to_string(cols) + " with leading dimension " + std::to_string(ld));
      return false;
    }
    return extent() == 0 || is_device_memory(data, extent() * sizeof(eT), std::string("gemm: ") + name);
  }
  bool overlaps(const Matrix& other) const {
    return data < other.data + other.extent() && other.data < data + extent();
  }
};

float to_tf32(float x) {
  std::uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  bits = (bits + 0x1000u) & ~0x1FFFu;  // 10 bits of mantissa
  std::memcpy(&x, &bits, sizeof bits);
  return x;
}

void multiply(bool tf32, const char* ta, const char* tb, int m, int n, int k, float alpha, Matrix<float> a,
              Matrix<float> b, float beta, float* c, int ldc) {
  std::vector<float> rounded[2];
  if (tf32)
    for (auto [x, to] : {std::pair{&a, &rounded[0]}, {&b, &rounded[1]}}) {
      for (std::size_t i = 0; i < x->extent(); ++i) to->push_back(to_tf32(x->data[i]));
      x->data = to->data();
    }
  sgemm_(ta, tb, &m, &n, &k, &alpha, a.data, &a.ld, b.data, &b.ld, &beta, c, &ldc);
}
void multiply(bool, const char* ta, const char* tb, int m, int n, int k, double alpha, Matrix<double> a,
              Matrix<double> b, double beta, double* c, int ldc) {
  dgemm_(ta, tb, &m, &n, &k, &alpha, a.data, &a.ld, b.data, &b.ld, &beta, c, &ldc);
}

/// A product as cuBLAS and cublasLt are told of it; with a bias, one number is added to each row of C.
template <class eT>
struct Product {
  bool ta, tb, tf32;
  int k;
  eT alpha, beta;  // unless they are in device memory
  const eT* alpha_at;
  const eT* beta_at;
  Matrix<eT> a, b;
  Matrix<eT> out;
  const eT* bias = nullptr;
  bool relu = false;

  bool fits() const {
    if (!a.is_right() || !b.is_right() || !out.is_right()) return false;
    for (const Matrix<eT>& x : {a, b})
      if (out.overlaps(x)) {
        fault(cudaErrorInvalidValue, std::string("gemm: C overlaps ") + x.name);
        return false;
      }
    for (const eT* scalar : {alpha_at, beta_at})
      if (scalar != nullptr && !is_device_memory(scalar, sizeof(eT), "gemm: alpha or beta")) return false;
    return bias == nullptr || is_device_memory(bias, static_cast<std::size_t>(out.rows) * sizeof(eT), "gemm: the bias");
  }
  void compute() const {
    if (!fits()) return;
    eT* const c = const_cast<eT*>(out.data);
    multiply(tf32, ta ? "T" : "N", tb ? "T" : "N", out.rows, out.cols, k, alpha_at != nullptr ? *alpha_at : alpha, a, b,
             beta_at != nullptr ? *beta_at : beta, c, out.ld);
    for (int j = 0; bias != nullptr && j < out.cols; ++j)
      for (int i = 0; i < out.rows; ++i) {
        eT& y = c[i + std::ptrdiff_t{j} * out.ld];
        y += bias[i];
        if (relu && y < eT(0)) y = 0;
      }
  }
};

template <class eT>
cublasStatus_t gemm(cublasHandle_t handle, cublasOperation_t ta, cublasOperation_t tb, int m, int n, int k,
                    const eT* alpha, const eT* a, int lda, const eT* b, int ldb, const eT* beta, eT* c, int ldc) {
  const bool at = ta != CUBLAS_OP_N, bt = tb != CUBLAS_OP_N, on_device = handle->scalars_on_device;
  const Product<eT> product{at,
                            bt,
                            handle->math == CUBLAS_TF32_TENSOR_OP_MATH,
                            k,
                            on_device ? eT(0) : *alpha,
                            on_device ? eT(0) : *beta,
                            on_device ? alpha : nullptr,
                            on_device ? beta : nullptr,
                            {"A", a, at ? k : m, at ? m : k, lda},
                            {"B", b, bt ? n : k, bt ? k : n, ldb},
                            {"C", c, m, n, ldc}};
  if (!product.fits()) return CUBLAS_STATUS_INVALID_VALUE;
  if (is_capturing(handle->stream) && !handle->has_workspace) {
    fault(cudaErrorStreamCaptureUnsupported, "gemm: cuBLAS would allocate a workspace while a stream captures");
    return CUBLAS_STATUS_ALLOC_FAILED;
  }
  enqueue(handle->stream, "products", [product] { product.compute(); });
  return CUBLAS_STATUS_SUCCESS;
}

void substitute(const char* side, const char* uplo, const char* op, const char* diagonal, int m, int n, float alpha,
                const float* a, int lda, float* b, int ldb) {
  strsm_(side, uplo, op, diagonal, &m, &n, &alpha, a, &lda, b, &ldb);
}
void substitute(const char* side, const char* uplo, const char* op, const char* diagonal, int m, int n, double alpha,
                const double* a, int lda, double* b, int ldb) {
  dtrsm_(side, uplo, op, diagonal, &m, &n, &alpha, a, &lda, b, &ldb);
}
template <class eT>
cublasStatus_t trsm(cublasHandle_t handle, cublasSideMode_t side, cublasFillMode_t uplo, cublasOperation_t op,
                    cublasDiagType_t diagonal, int m, int n, const eT* alpha, const eT* a, int lda, eT* b, int ldb) {
  const bool left = side == CUBLAS_SIDE_LEFT;
  const Matrix<eT> t{"A", a, left ? m : n, left ? m : n, lda}, x{"B", b, m, n, ldb};
  const auto fits = [t, x] {
    if (!t.is_right() || !x.is_right()) return false;
    if (x.overlaps(t)) fault(cudaErrorInvalidValue, "trsm: B overlaps A");
    return !x.overlaps(t);
  };
  if (!fits() || handle->scalars_on_device) return CUBLAS_STATUS_INVALID_VALUE;
  if (is_capturing(handle->stream) && !handle->has_workspace) {
    fault(cudaErrorStreamCaptureUnsupported, "trsm: cuBLAS would allocate a workspace while a stream captures");
    return CUBLAS_STATUS_ALLOC_FAILED;
  }
  enqueue(handle->stream, "products", [=, scale = *alpha] {
    if (fits())
      substitute(left ? "L" : "R", uplo == CUBLAS_FILL_MODE_UPPER ? "U" : "L", op == CUBLAS_OP_N ? "N" : "T",
                 diagonal == CUBLAS_DIAG_UNIT ? "U" : "N", m, n, scale, a, lda, b, ldb);
  });
  return CUBLAS_STATUS_SUCCESS;
}

// What the handles of cublasLt point to.
struct Operation {
  cublasOperation_t ta = CUBLAS_OP_N, tb = CUBLAS_OP_N;
  cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  const float* bias = nullptr;
  bool tf32 = false;
};
struct Layout {
  std::uint64_t rows, cols;
  std::int64_t ld;
  Matrix<float> matrix(const char* name, const void* data) const {
    return {name, static_cast<const float*>(data), static_cast<int>(rows), static_cast<int>(cols),
            static_cast<int>(ld)};
  }
};
struct Preference {
  std::uint64_t workspace = 0;
  std::uint32_t alignment[4] = {256, 256, 256, 256};  // of A, B, C, D: what cublasLt assumes unless told
};
template <class T, class Handle>
T& behind(Handle handle) {
  return *reinterpret_cast<T*>(handle);
}

}  // namespace

extern "C" {

cublasStatus_t cublasCreate_v2(cublasHandle_t* handle) {
  *handle = new cublasContext;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetStream_v2(cublasHandle_t handle, cudaStream_t stream) {
  handle->stream = stream;
  handle->has_workspace = false;  // as cuBLAS does
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetWorkspace_v2(cublasHandle_t handle, void* workspace, std::size_t bytes) {
  if (!is_device_memory(workspace, bytes, "cuBLAS's workspace")) return CUBLAS_STATUS_INVALID_VALUE;
  handle->has_workspace = true;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetPointerMode_v2(cublasHandle_t handle, cublasPointerMode_t mode) {
  handle->scalars_on_device = mode == CUBLAS_POINTER_MODE_DEVICE;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetMathMode(cublasHandle_t handle, cublasMath_t math) {
  handle->math = math;
  return CUBLAS_STATUS_SUCCESS;
}
const char* cublasGetStatusString(cublasStatus_t) { return cudaGetErrorString(cudaGetLastError()); }

cublasStatus_t cublasSgemm_v2(cublasHandle_t h, cublasOperation_t ta, cublasOperation_t tb, int m, int n, int k,
                              const float* alpha, const float* a, int lda, const float* b, int ldb, const float* beta,
                              float* c, int ldc) {
  return gemm(h, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
cublasStatus_t cublasDgemm_v2(cublasHandle_t h, cublasOperation_t ta, cublasOperation_t tb, int m, int n, int k,
                              const double* alpha, const double* a, int lda, const double* b, int ldb,
                              const double* beta, double* c, int ldc) {
  return gemm(h, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

cublasStatus_t cublasStrsm_v2(cublasHandle_t h, cublasSideMode_t side, cublasFillMode_t uplo, cublasOperation_t op,
                              cublasDiagType_t diagonal, int m, int n, const float* alpha, const float* a, int lda,
                              float* b, int ldb) {
  return trsm(h, side, uplo, op, diagonal, m, n, alpha, a, lda, b, ldb);
}
cublasStatus_t cublasDtrsm_v2(cublasHandle_t h, cublasSideMode_t side, cublasFillMode_t uplo, cublasOperation_t op,
                              cublasDiagType_t diagonal, int m, int n, const double* alpha, const double* a, int lda,
                              double* b, int ldb) {
  return trsm(h, side, uplo, op, diagonal, m, n, alpha, a, lda, b, ldb);
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  *handle = reinterpret_cast<cublasLtHandle_t>(new char);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  delete reinterpret_cast<char*>(handle);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* operation, cublasComputeType_t compute, cudaDataType_t) {
  auto* const o = new Operation;
  o->tf32 = compute == CUBLAS_COMPUTE_32F_FAST_TF32;
  *operation = reinterpret_cast<cublasLtMatmulDesc_t>(o);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t operation) {
  delete &behind<Operation>(operation);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t operation, cublasLtMatmulDescAttributes_t what,
                                              const void* value, std::size_t bytes) {
  Operation& o = behind<Operation>(operation);
  const auto set = [&](auto& to) {
    if (bytes != sizeof to) return CUBLAS_STATUS_INVALID_VALUE;
    std::memcpy(&to, value, bytes);
    return CUBLAS_STATUS_SUCCESS;
  };
  switch (what) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
      return set(o.ta);
    case CUBLASLT_MATMUL_DESC_TRANSB:
      return set(o.tb);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
      return set(o.epilogue);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
      return set(o.bias);
    default:
      return CUBLAS_STATUS_INVALID_VALUE;
  }
}
cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType type, std::uint64_t rows,
                                          std::uint64_t cols, std::int64_t ld) {
  if (type != CUDA_R_32F) return CUBLAS_STATUS_NOT_SUPPORTED;
  *layout = reinterpret_cast<cublasLtMatrixLayout_t>(new Layout{rows, cols, ld});
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  delete &behind<Layout>(layout);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  *preference = reinterpret_cast<cublasLtMatmulPreference_t>(new Preference);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  delete &behind<Preference>(preference);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t what, const void* value,
                                                    std::size_t bytes) {
  Preference& p = behind<Preference>(preference);
  const auto set = [&](auto& to) {
    if (bytes != sizeof to) return CUBLAS_STATUS_INVALID_VALUE;
    std::memcpy(&to, value, bytes);
    return CUBLAS_STATUS_SUCCESS;
  };
  switch (what) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
      return set(p.workspace);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
      return set(p.alignment[0]);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
      return set(p.alignment[1]);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
      return set(p.alignment[2]);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
      return set(p.alignment[3]);
    default:
      return CUBLAS_STATUS_INVALID_VALUE;
  }
}
// There is an algorithm where the result begins at a multiple of 16 bytes, so that callers meet both answers; it is
// remembered which alignments it was asked for.
cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t, cublasLtMatrixLayout_t,
                                              cublasLtMatrixLayout_t, cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
                                              cublasLtMatmulPreference_t preference, int,
                                              cublasLtMatmulHeuristicResult_t results[], int* count) {
  const Preference& p = behind<Preference>(preference);
  *count = p.alignment[3] % 16 == 0 ? 1 : 0;
  if (*count == 0) return CUBLAS_STATUS_NOT_SUPPORTED;
  results[0] = {};
  std::memcpy(results[0].algo.data, p.alignment, sizeof p.alignment);
  results[0].state = CUBLAS_STATUS_SUCCESS;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t operation, const void* alpha, const void* a,
                              cublasLtMatrixLayout_t a_layout, const void* b, cublasLtMatrixLayout_t b_layout,
                              const void* beta, const void* c, cublasLtMatrixLayout_t, void* d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t* algorithm, void* workspace,
                              std::size_t workspace_bytes, cudaStream_t stream) {
  const Operation& o = behind<Operation>(operation);
  const Matrix<float> left = behind<Layout>(a_layout).matrix("A", a), right = behind<Layout>(b_layout).matrix("B", b),
                      out = behind<Layout>(d_layout).matrix("C", d);
  const bool ta = o.ta != CUBLAS_OP_N, tb = o.tb != CUBLAS_OP_N;
  const int k = ta ? left.rows : left.cols;
  if (c != d || (ta ? left.cols : left.rows) != out.rows || (tb ? right.rows : right.cols) != out.cols ||
      (tb ? right.cols : right.rows) != k) {
    fault(cudaErrorInvalidValue, "gemm: the layouts do not fit together");
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  std::uint32_t alignment[4];
  std::memcpy(alignment, algorithm->data, sizeof alignment);
  const void* const pointers[] = {a, b, c, d};
  for (int i = 0; i < 4; ++i)
    if (alignment[i] == 0 || reinterpret_cast<std::uintptr_t>(pointers[i]) % alignment[i] != 0) {
      fault(cudaErrorInvalidValue, std::string("gemm: ") + "ABCD"[i] + " is not aligned as the algorithm was promised");
      return CUBLAS_STATUS_INVALID_VALUE;
    }
  if (!is_device_memory(workspace, workspace_bytes, "gemm: the workspace")) return CUBLAS_STATUS_INVALID_VALUE;
  const Product<float> product{ta,
                               tb,
                               o.tf32,
                               k,
                               *static_cast<const float*>(alpha),
                               *static_cast<const float*>(beta),
                               nullptr,
                               nullptr,
                               left,
                               right,
                               out,
                               (o.epilogue & CUBLASLT_EPILOGUE_BIAS) != 0 ? o.bias : nullptr,
                               (o.epilogue & CUBLASLT_EPILOGUE_RELU) != 0};
  if (!product.fits()) return CUBLAS_STATUS_INVALID_VALUE;
  enqueue(stream, "products", [product] { product.compute(); });
  return CUBLAS_STATUS_SUCCESS;
}
}
