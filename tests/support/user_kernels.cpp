// What people put under `triage verdict --library`: kernels that are right, and some that are not. fp32 spmm and attention
// on the CPU.
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <cstdint>
#include <vector>

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

/// Batched problems without pages; everything else is refused.
int attend(const triage_attention_problem& p, float scale) {
  if (p.q.dtype.bits != 32 || p.cu_seqlens_q.data != nullptr || p.cu_seqlens_k.data != nullptr || p.page_size > 0) {
    return TRIAGE_UNSUPPORTED;
  }
  const auto row = [](const DLTensor& t, std::int64_t b, std::int64_t i, std::int64_t h) {
    return static_cast<float*>(t.data) + b * t.strides[0] + i * t.strides[1] + h * t.strides[2];
  };
  for (std::int64_t b = 0; b < p.batch; ++b) {
    std::int64_t keys = p.seqlen_k;
    if (p.seqused_k.data != nullptr) {
      keys = std::clamp<std::int64_t>(static_cast<const std::int32_t*>(p.seqused_k.data)[b], 0, keys);
    }
    for (std::int64_t h = 0; h < p.heads; ++h) {
      const std::int64_t kv = h / (p.heads / p.kv_heads);
      for (std::int64_t i = 0; i < p.seqlen_q; ++i) {
        const std::int64_t diagonal = i + keys - p.seqlen_q;
        const std::int64_t first = p.window_left < 0 ? 0 : std::max<std::int64_t>(0, diagonal - p.window_left);
        const std::int64_t last = p.window_right < 0 ? keys : std::min(keys, diagonal + p.window_right + 1);
        const bool sink = p.sinks.data != nullptr;
        double most = sink ? static_cast<const float*>(p.sinks.data)[h] : -INFINITY;
        std::vector<double> logits;
        for (std::int64_t j = first; j < last; ++j) {
          double logit = 0;
          for (int d = 0; d < p.head_dim; ++d) logit += static_cast<double>(row(p.q, b, i, h)[d]) * row(p.k, b, j, kv)[d];
          logit *= p.softmax_scale;
          if (p.softcap > 0) logit = p.softcap * std::tanh(logit / p.softcap);
          logits.push_back(logit);
          most = std::max(most, logit);
        }
        double sum = sink ? std::exp(static_cast<const float*>(p.sinks.data)[h] - most) : 0;
        std::vector<double> out(static_cast<std::size_t>(p.head_dim_v), 0);
        for (std::size_t n = 0; n < logits.size(); ++n) {
          const double weight = std::exp(logits[n] - most);
          sum += weight;
          for (std::size_t d = 0; d < out.size(); ++d) out[d] += weight * row(p.v, b, first + static_cast<std::int64_t>(n), kv)[d];
        }
        for (std::size_t d = 0; d < out.size(); ++d) {
          row(p.o, b, i, h)[d] = static_cast<float>(sum > 0 ? scale * out[d] / sum : 0);
        }
        if (p.lse.data == nullptr) continue;
        static_cast<float*>(p.lse.data)[b * p.lse.strides[0] + h * p.lse.strides[1] + i] =
            static_cast<float>(sum > 0 ? most + std::log(sum) : -INFINITY);
      }
    }
  }
  return TRIAGE_OK;
}

}  // namespace

extern "C" {
int right_attention(const triage_attention_problem* problem) { return attend(*problem, 1); }
int wrong_attention(const triage_attention_problem* problem) { return attend(*problem, 1.01f); }
int right_spmm(const triage_sparse_gemm_problem* problem) { return multiply(*problem, 1); }
int wrong_spmm(const triage_sparse_gemm_problem* problem) { return multiply(*problem, 1.001f); }
int refusing_spmm(const triage_sparse_gemm_problem*) { return TRIAGE_UNSUPPORTED; }
int failing_spmm(const triage_sparse_gemm_problem*) { return 77; }
int crashing_spmm(const triage_sparse_gemm_problem*) { return std::raise(SIGSEGV); }
int hanging_spmm(const triage_sparse_gemm_problem*) {
  for (;;) ::pause();
}
}
