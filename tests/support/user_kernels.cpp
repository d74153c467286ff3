// What people put under `triage verdict --library`: a kernel that is right, and some that are not. fp32 spmm on the CPU.
#include <unistd.h>

#include <csignal>
#include <cstdint>

#include "triage/user_kernel.h"

namespace {

int multiply(const triage_sparse_gemm_problem& problem, float scale) {
  const DLTensor &values = problem.values, &b = problem.in0, &c = problem.out;
  if (values.dtype.code != kDLFloat || values.dtype.bits != 32) return TRIAGE_UNSUPPORTED;
  const auto* crow = static_cast<const std::int32_t*>(problem.crow_indices.data);
  const auto* col = static_cast<const std::int32_t*>(problem.col_indices.data);
  const std::int64_t block = problem.block_size;
  for (std::int64_t i = 0; i < problem.rows; ++i) {
    for (std::int64_t n = 0; n < c.shape[1]; ++n) {
      double sum = 0;
      for (std::int32_t p = crow[i / block]; p < crow[i / block + 1]; ++p) {
        for (std::int64_t k = 0; k < block && col[p] * block + k < problem.cols; ++k) {
          sum += static_cast<double>(static_cast<const float*>(values.data)[(p * block + i % block) * block + k]) *
                 static_cast<const float*>(b.data)[(col[p] * block + k) * b.strides[0] + n];
        }
      }
      float& out = static_cast<float*>(c.data)[i * c.strides[0] + n];
      const double kept = problem.beta == 0 ? 0 : static_cast<double>(problem.beta) * out;
      out = static_cast<float>(scale * problem.alpha * sum + kept);
    }
  }
  return TRIAGE_OK;
}

}  // namespace

extern "C" {
int right_spmm(const triage_sparse_gemm_problem* problem) { return multiply(*problem, 1); }
int wrong_spmm(const triage_sparse_gemm_problem* problem) { return multiply(*problem, 1.001f); }
int refusing_spmm(const triage_sparse_gemm_problem*) { return TRIAGE_UNSUPPORTED; }
int failing_spmm(const triage_sparse_gemm_problem*) { return 77; }
int crashing_spmm(const triage_sparse_gemm_problem*) { return std::raise(SIGSEGV); }
int hanging_spmm(const triage_sparse_gemm_problem*) {
  for (;;) ::pause();
}
}
