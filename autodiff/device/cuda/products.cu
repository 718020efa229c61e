// Products: cuBLAS, and where a bias and max(0, .) follow cublasLt, which does all in one kernel if it has one.
#include <cstring>
#include <tuple>

#include "maps.cuh"

namespace armagrad::cuda {

// ---- product, bias and max(0, .) in one kernel

struct FusedProducts::Plan {
  cublasLtMatmulDesc_t operation = nullptr;
  cublasLtMatrixLayout_t a = nullptr, b = nullptr, out = nullptr;
  cublasLtMatmulAlgo_t algorithm{};
  bool exists = false;

  ~Plan() {
    if (operation != nullptr) cublasLtMatmulDescDestroy(operation);
    for (cublasLtMatrixLayout_t layout : {a, b, out})
      if (layout != nullptr) cublasLtMatrixLayoutDestroy(layout);
  }
};

FusedProducts::FusedProducts(std::shared_ptr<void> workspace, std::size_t bytes)
    : workspace_(std::move(workspace)), workspace_bytes_(bytes) {
  check(cublasLtCreate(&handle_), "cublasLt");
}
FusedProducts::~FusedProducts() { cublasLtDestroy(handle_); }

namespace {

// The largest power of two, up to 16, that divides the address: what algorithms may rely on.
std::uint32_t alignment(const void* p) {
  std::uint32_t a = 16;
  while (reinterpret_cast<std::uintptr_t>(p) % a != 0) a /= 2;
  return a;
}
// The leading dimension of a single column may be anything; cuBLAS asks for its length at least.
template <class T>
int leading_dimension(const View<T>& a) {
  return static_cast<int>(std::max({a.ld, a.rows, 1u}));
}
cublasOperation_t operation(std::uint32_t flags, std::uint32_t transposed) {
  return (flags & transposed) != 0 ? CUBLAS_OP_T : CUBLAS_OP_N;
}

}  // namespace

const FusedProducts::Plan& FusedProducts::plan(const Command<float>& c, bool tf32) {
  const auto of = [](const auto& v) { return std::tuple(v.rows, v.cols, v.ld, alignment(v.data)); };
  const Key key(of(c.in[0]), of(c.in[1]), of(c.out), alignment(c.in[2].data), c.flags, tf32);
  const auto [at, is_new] = plans_.try_emplace(key);
  if (!is_new) return *at->second;
  at->second = std::make_unique<Plan>();
  Plan& p = *at->second;
  bool right = true;
  const auto ok = [&right](cublasStatus_t status) { right = right && status == CUBLAS_STATUS_SUCCESS; };
  const auto layout = [&ok](cublasLtMatrixLayout_t& to, const auto& v) {
    ok(cublasLtMatrixLayoutCreate(&to, CUDA_R_32F, v.rows, v.cols, leading_dimension(v)));
  };
  ok(cublasLtMatmulDescCreate(&p.operation, tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F, CUDA_R_32F));
  layout(p.a, c.in[0]);
  layout(p.b, c.in[1]);
  layout(p.out, c.out);
  cublasLtMatmulPreference_t preference = nullptr;
  ok(cublasLtMatmulPreferenceCreate(&preference));
  if (!right) return p;
  const auto set = [&](cublasLtMatmulDescAttributes_t what, auto value) {
    ok(cublasLtMatmulDescSetAttribute(p.operation, what, &value, sizeof value));
  };
  set(CUBLASLT_MATMUL_DESC_TRANSA, operation(c.flags, transpose_a));
  set(CUBLASLT_MATMUL_DESC_TRANSB, operation(c.flags, transpose_b));
  set(CUBLASLT_MATMUL_DESC_EPILOGUE, (c.flags & then_relu) != 0 ? CUBLASLT_EPILOGUE_RELU_BIAS : CUBLASLT_EPILOGUE_BIAS);
  set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, c.in[2].data);
  const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t what, auto value) {
    ok(cublasLtMatmulPreferenceSetAttribute(preference, what, &value, sizeof value));
  };
  prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, std::uint64_t{workspace_bytes_});
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment(c.in[0].data));
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment(c.in[1].data));
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment(c.out.data));
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment(c.out.data));
  cublasLtMatmulHeuristicResult_t found{};
  int count = 0;
  if (right)
    ok(cublasLtMatmulAlgoGetHeuristic(handle_, p.operation, p.a, p.b, p.out, p.out, preference, 1, &found, &count));
  cublasLtMatmulPreferenceDestroy(preference);
  p.algorithm = found.algo;
  p.exists = right && count > 0 && found.state == CUBLAS_STATUS_SUCCESS;
  return p;
}

bool FusedProducts::run(cudaStream_t stream, const Command<float>& c, bool tf32) {
  const Plan& p = plan(c, tf32);
  if (!p.exists) return false;
  check(cublasLtMatmulDescSetAttribute(p.operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &c.in[2].data,
                                       sizeof c.in[2].data),
        "gemm");
  check(cublasLtMatmul(handle_, p.operation, &c.alpha, c.in[0].data, p.a, c.in[1].data, p.b, &c.beta, c.out.data, p.out,
                       c.out.data, p.out, &p.algorithm, workspace_.get(), workspace_bytes_, stream),
        "gemm");
  return true;
}

// ---- from a command to launches

namespace {

template <class eT>
__global__ void bias_kernel(View<eT> out, View<const eT> bias, bool relu) {
  for_each_element(out.rows, out.cols, [&](std::size_t i, std::size_t j) {
    eT& y = out.data[i + j * out.ld];
    const eT z = y + repeated(bias, i, j);
    y = relu && z < eT(0) ? eT(0) : z;
  });
}

cublasStatus_t blas_gemm(cublasHandle_t blas, cublasOperation_t ta, cublasOperation_t tb, int m, int n, int k,
                         const float* alpha, const float* a, int lda, const float* b, int ldb, const float* beta,
                         float* c, int ldc) {
  return cublasSgemm(blas, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
cublasStatus_t blas_gemm(cublasHandle_t blas, cublasOperation_t ta, cublasOperation_t tb, int m, int n, int k,
                         const double* alpha, const double* a, int lda, const double* b, int ldb, const double* beta,
                         double* c, int ldc) {
  return cublasDgemm(blas, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

}  // namespace

template <class eT>
void gemm(Context& context, const Command<eT>& c) {
  if (c.out.size() == 0) return;
  const bool has_bias = c.in[2].data != nullptr;
  const std::uint32_t k = (c.flags & transpose_a) != 0 ? c.in[0].rows : c.in[0].cols;
  if (k == 0) {
    Command<eT> scaled = c;
    scaled.alpha = eT(0);
    scaled.beta = context.factors(c).value.beta;
    fill(context, scaled);
  } else {
    if constexpr (std::is_same_v<eT, float>)
      if (has_bias && context.fused_products->run(context.stream, c, context.tf32)) return;
    const Live<Factors<eT>> f = context.factors(c);
    const bool on_device = f.where != nullptr;
    const Factors<eT>* const factors = on_device ? f.where : &f.value;
    if (on_device) check(cublasSetPointerMode(context.blas, CUBLAS_POINTER_MODE_DEVICE), "gemm");
    const cublasStatus_t status = blas_gemm(
        context.blas, operation(c.flags, transpose_a), operation(c.flags, transpose_b), static_cast<int>(c.out.rows),
        static_cast<int>(c.out.cols), static_cast<int>(k), &factors->alpha, c.in[0].data, leading_dimension(c.in[0]),
        c.in[1].data, leading_dimension(c.in[1]), &factors->beta, c.out.data, leading_dimension(c.out));
    if (on_device) check(cublasSetPointerMode(context.blas, CUBLAS_POINTER_MODE_HOST), "gemm");
    check(status, "gemm");
  }
  if (has_bias) launch_map(context, &bias_kernel<eT>, c.out, c.in[2], (c.flags & then_relu) != 0);
}
template void gemm(Context&, const Command<float>&);
template void gemm(Context&, const Command<double>&);

template <class eT>
void add_products(Table<eT>& table) {
  table["gemm"] = {&with_context<eT, &gemm<eT>>};
}
template void add_products(Table<float>&);
template void add_products(Table<double>&);

}  // namespace armagrad::cuda
