// Where the rows of a sequence lie, and which keys a query attends: the call's words in one place for the CPU backend
// and the oracle. Plain arithmetic over the call's arrays, which must be in host memory.
#pragma once

#include <cstdint>

#include "registry/attention_kernel.h"

namespace triage::cpu {

/// One sequence of a call.
struct AttentionSequence {
  std::int64_t q_begin = 0, q_length = 0;  ///< rows of Q (with cu_seqlens_q), else q_begin 0 in batch b
  std::int64_t k_begin = 0, k_length = 0;
};

static inline AttentionSequence sequence_of(const AttentionCall& call, std::int64_t b) {
  AttentionSequence s;
  s.q_length = call.problem.seqlen_q;
  s.k_length = call.problem.seqlen_k;
  if (call.cu_seqlens_q != nullptr) {
    s.q_begin = call.cu_seqlens_q[b];
    s.q_length = call.cu_seqlens_q[b + 1] - s.q_begin;
  }
  if (call.cu_seqlens_k != nullptr) {
    s.k_begin = call.cu_seqlens_k[b];
    s.k_length = call.cu_seqlens_k[b + 1] - s.k_begin;
  } else if (call.seqused_k != nullptr) {
    const std::int64_t used = call.seqused_k[b];
    s.k_length = used < 0 ? 0 : used < s.k_length ? used : s.k_length;
  }
  return s;
}

/// Elements from the start of `tensor` (Q or O) to row i of the sequence, head h.
static inline std::int64_t query_offset(const AttentionTensor& tensor, const AttentionSequence& s, std::int64_t b,
                                        std::int64_t i, std::int64_t h) {
  return b * tensor.batch_stride + (s.q_begin + i) * tensor.sequence_stride + h * tensor.head_stride;
}

/// Likewise for row j of K or V, through the block table if there is one.
static inline std::int64_t key_offset(const AttentionCall& call, const AttentionTensor& tensor,
                                      const AttentionSequence& s, std::int64_t b, std::int64_t j, std::int64_t h) {
  if (call.block_table == nullptr) {
    return b * tensor.batch_stride + (s.k_begin + j) * tensor.sequence_stride + h * tensor.head_stride;
  }
  const std::int64_t size = call.problem.page_size;
  const std::int64_t page = call.block_table[b * call.block_table_stride + j / size];
  return page * tensor.batch_stride + j % size * tensor.sequence_stride + h * tensor.head_stride;
}

static inline std::int64_t lse_offset(const AttentionCall& call, const AttentionSequence& s, std::int64_t b,
                                      std::int64_t i, std::int64_t h) {
  return b * call.lse_batch_stride + h * call.lse_head_stride + s.q_begin + i;
}

/// Keys [begin, end) that query i attends; empty if end <= begin.
struct KeyRange {
  std::int64_t begin = 0, end = 0;
};

static inline KeyRange keys_of_query(const AttentionProblem& problem, const AttentionSequence& s, std::int64_t i) {
  const std::int64_t diagonal = i + s.k_length - s.q_length;
  KeyRange range{0, s.k_length};
  if (problem.window_left >= 0 && diagonal - problem.window_left > 0) range.begin = diagonal - problem.window_left;
  if (problem.window_right >= 0 && diagonal + problem.window_right + 1 < range.end) {
    range.end = diagonal + problem.window_right + 1;
  }
  return range;
}

}  // namespace triage::cpu
