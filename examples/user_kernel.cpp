// A kernel of one's own under the verdict: spmm in fp32 on the CPU, as plainly as it can be written.
//
//   triage verdict --library ./libexample_user_kernel.so --op spmm --symbol plain_spmm --device cpu
#include <cstdint>

#include <triage/user_kernel.h>

extern "C" int plain_spmm(const triage_sparse_gemm_problem* problem) {
  const DLTensor &values = problem->values, &b = problem->in0, &c = problem->out;
  if (values.dtype.code != kDLFloat || values.dtype.bits != 32) return TRIAGE_UNSUPPORTED;
  const auto* crow = static_cast<const std::int32_t*>(problem->crow_indices.data);
  const auto* col = static_cast<const std::int32_t*>(problem->col_indices.data);
  const auto* value = static_cast<const float*>(values.data);
  const auto* in = static_cast<const float*>(b.data);
  auto* out = static_cast<float*>(c.data);
  const std::int64_t block = problem->block_size, columns = c.shape[1];

  for (std::int64_t i = 0; i < problem->rows; ++i) {
    float* row = out + i * c.strides[0];
    for (std::int64_t n = 0; n < columns; ++n) row[n] = problem->beta == 0 ? 0 : problem->beta * row[n];
    for (std::int32_t p = crow[i / block]; p < crow[i / block + 1]; ++p) {
      const std::int64_t first = col[p] * block;
      for (std::int64_t k = 0; k < block && first + k < problem->cols; ++k) {
        const float factor = problem->alpha * value[(p * block + i % block) * block + k];
        for (std::int64_t n = 0; n < columns; ++n) row[n] += factor * in[(first + k) * b.strides[0] + n];
      }
    }
  }
  return TRIAGE_OK;
}
