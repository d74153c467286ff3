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

/// Query heads of one KV head that stand side by side in a tile of rows: those that have the same mask.
static inline std::int64_t heads_side_by_side(const AttentionCall& call) {
  const std::int64_t group = call.problem.group();
  return call.mask.given() && call.mask.heads_per_mask < group ? 1 : group;
}

/// What the block-sparse mask says of the queries of one block of 64, of one sequence and head.
struct MaskRow {
  const std::uint32_t *listed, *full;  ///< bits of the key blocks
  const std::int32_t* element_index;   ///< of the key blocks, or nullptr
};

static inline std::int64_t mask_of(const AttentionMask& mask, std::int64_t b, std::int64_t head) {
  return b * mask.batch_masks + head / mask.heads_per_mask;
}

static inline MaskRow mask_row(const AttentionMask& mask, std::int64_t b, std::int64_t head, std::int64_t query_block) {
  const std::int64_t row = mask_of(mask, b, head) * mask.by_query.rows + query_block;
  const std::int64_t words = row * mask.by_query.row_words;
  return {mask.by_query.listed + words, mask.by_query.full + words,
          mask.element_index == nullptr ? nullptr : mask.element_index + row * mask.by_key.rows};
}

static inline bool bit_of(const std::uint32_t* bits, std::int64_t block) {
  return (bits[block / 32] >> (block % 32) & 1) != 0;
}

/// Whether some query of [first, last], all of them in the row's block, may attend a key of a block: false where the
/// mask or the window says that none does.
static inline bool may_attend(const AttentionProblem& problem, const AttentionSequence& s, const MaskRow& row,
                              std::int64_t first, std::int64_t last, std::int64_t key_block) {
  if (!bit_of(row.listed, key_block)) return false;
  if (bit_of(row.full, key_block)) return true;
  // Ranges of later queries begin and end later.
  const std::int64_t begin = keys_of_query(problem, s, first).begin, end = keys_of_query(problem, s, last).end;
  return begin < (key_block + 1) * AttentionMask::kBlock && end > key_block * AttentionMask::kBlock;
}

/// Keys of a block that a query attends, key j of the block as bit j. Keys past the end of the sequence are arbitrary.
static inline std::uint64_t attended_bits(const AttentionMask& mask, const MaskRow& row, const KeyRange& window,
                                          std::int64_t query, std::int64_t key_block) {
  constexpr std::int64_t kBlock = AttentionMask::kBlock;
  constexpr std::uint64_t kAll = ~std::uint64_t{0};
  if (!bit_of(row.listed, key_block)) return 0;
  if (bit_of(row.full, key_block)) return kAll;
  const std::int64_t begin = window.begin - key_block * kBlock, end = window.end - key_block * kBlock;
  if (begin >= kBlock || end <= 0 || begin >= end) return 0;
  std::uint64_t bits = kAll;
  if (begin > 0) bits &= kAll << begin;
  if (end < kBlock) bits &= ~(kAll << end);
  const std::int32_t entry = row.element_index == nullptr ? -1 : row.element_index[key_block];
  return entry < 0 ? bits : bits & mask.elements[entry * kBlock + query % kBlock];
}

}  // namespace triage::cpu
