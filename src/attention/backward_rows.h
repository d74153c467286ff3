// Statistics of query rows that both families' backward kernels read: log-sum-exp and delta, by row of a padded copy
// of Q's rows, in which every sequence starts at a whole block. Blocks of queries can then be loaded without looking.
#pragma once

#include <cstdint>

#include "attention/sequences.h"
#include "registry/attention_kernel.h"

namespace triage::attention {

/// fp32 arrays of [heads, rows]; `rows` is padded_rows().
struct BackwardRows {
  int block;          ///< rows of a block: sequences start at multiples of it
  std::int64_t rows;  ///< of one head
  float* lse_log2;    ///< lse / ln 2; +inf where P must be 0: rows that attend nothing, and padding
  float* delta;       ///< rowsum(d_o * o) - d_lse; 0 there
};

/// Where sequence b starts: what comes before it ends at or before that row, whatever the lengths.
#ifdef __CUDACC__
__host__ __device__
#endif
    inline std::int64_t
    padded_start(const std::int32_t* cu_seqlens, std::int64_t seqlen, std::int64_t b, int block) {
  if (cu_seqlens == nullptr) return b * ((seqlen + block - 1) / block * block);
  return (cu_seqlens[b] + b * block) / block * block;
}

/// Known on the host: an upper bound with packed sequences.
inline std::int64_t padded_rows(const AttentionProblem& problem, int block) {
  if (!problem.varlen_q) return padded_start(nullptr, problem.seqlen_q, problem.batch, block);
  return (problem.total_q + problem.batch * block) / block * block;
}

/// What else to do while the rows are read.
struct PrepareBackward {
  BackwardRows rows;
  /// Filled with zeros: counters, or an accumulator. 16-byte aligned, a multiple of 16 bytes.
  void* zeros = nullptr;
  std::size_t zero_bytes = 0;
  /// Writes d_q = 0 in blocks of rows of which no row attends any key (no tile of a kernel comes by there).
  bool clear_unattended = false;
};

/// Enqueues the kernels that fill `rows` and d_sinks (if the call wants them). Any device from 8.0 on.
void prepare_backward(const AttentionBackwardCall& call, const PrepareBackward& prepare);

}  // namespace triage::attention
