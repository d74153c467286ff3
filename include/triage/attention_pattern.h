// AttentionPattern: which blocks of the scores Q K^T are attended.
#pragma once

#include <memory>

#include "triage/block_pattern.h"
#include "triage/types.h"

namespace triage {

namespace detail {
struct AttentionPatternData;
}

/// Lists of key blocks, one list a query block, as top-k selections, FlexAttention's `BlockMask` (kv_num_blocks,
/// kv_indices, full_kv_num_blocks, full_kv_indices) and FlashAttention-4's block tensors hold them. Leading dimensions
/// as in AttentionPattern. The order within a list is free, a block named twice counts once.
struct AttentionBlockLists {
  /// int32 or int64 [batch or 1, heads or kv_heads or 1, q_blocks, n]: numbers of key blocks; negative ones are none.
  const DLTensor* indices = nullptr;
  /// nullptr (all n count) or int32 or int64 [batch or 1, ..., q_blocks]: how many of each list count.
  const DLTensor* counts = nullptr;
  /// Blocks attended in full; both or neither, shapes likewise, with an n of their own. They win over `indices`.
  const DLTensor* full_indices = nullptr;
  const DLTensor* full_counts = nullptr;
};

/// The block-sparse mask of attention: one mask for all, one a head (of Q, or of K and V), or one a sequence and head.
///
/// Query i attends key j if the block (i / block_q, j / block_k) is listed, and
///   - the block is *full*: whatever the call says (only the ends of the sequences cut it); or
///   - the call's causal mask and windows let it, and, where the block has a bit mask of elements, its bit is set.
/// Blocks are counted from the start of each sequence; with cu_seqlens, blocks past the end of a short sequence are
/// ignored. A query that attends nothing gives O = 0 and lse = -inf, and gradients of 0.
///
/// The pattern owns bits of both directions (so that the backward needs nothing more) and is built where its arrays
/// live. Making one allocates; `update` neither allocates nor waits, and can be captured in a CUDA graph: make the
/// pattern once, update it each step. Copies share the data. Unlike BlockPattern, which it takes too, it stands for a
/// stack of masks, and its number of blocks may change with each update: nothing is sized by it.
class AttentionPattern {
 public:
  AttentionPattern();  ///< Empty: not accepted by attention.
  ~AttentionPattern();
  AttentionPattern(const AttentionPattern&);
  AttentionPattern(AttentionPattern&&) noexcept;
  AttentionPattern& operator=(const AttentionPattern&);
  AttentionPattern& operator=(AttentionPattern&&) noexcept;

  /// From a mask of blocks.
  /// @param mask bool or uint8 [batch or 1, heads or kv_heads or 1, ceil(seqlen_q / block_q), ceil(seqlen_k /
  ///   block_k)], contiguous, host or CUDA memory: 0 not attended, 1 (true) listed, 2 listed and full.
  /// @param seqlen_q, seqlen_k lengths of the sequences (with cu_seqlens: max_seqlen_q, max_seqlen_k).
  /// @param block_q, block_k 64 or 128 each.
  static AttentionPattern from_mask(const DLTensor& mask, std::int64_t seqlen_q, std::int64_t seqlen_k, int block_q,
                                    int block_k, Stream stream = nullptr);

  /// From lists of key blocks. Numbers of blocks that do not exist are refused in host memory; on a GPU they count as
  /// none.
  static AttentionPattern from_lists(const AttentionBlockLists& lists, std::int64_t seqlen_q, std::int64_t seqlen_k,
                                     int block_q, int block_k, Stream stream = nullptr);

  /// From CSR arrays, a row for each query block of each mask.
  /// @param crow_indices int32 or int64 [batch or 1, heads or kv_heads or 1, q_blocks + 1]: where a row's entries begin
  ///   and end in col_indices.
  /// @param col_indices int32 or int64 [entries]. On a GPU entries out of bounds count as none.
  static AttentionPattern from_csr(const DLTensor& crow_indices, const DLTensor& col_indices, std::int64_t seqlen_q,
                                   std::int64_t seqlen_k, int block_q, int block_k, Stream stream = nullptr);

  /// One mask for all heads from a pattern of rows = seqlen_q, cols = seqlen_k and blocks of 64 or 128; its indices are
  /// read once.
  static AttentionPattern from_pattern(const BlockPattern& pattern, Stream stream = nullptr);

  /// Other blocks in the place of the ones before, from a source of the same dimensions (lists and CSR arrays may have
  /// another n or number of entries). Bit masks of elements stay: call set_elements where they change.
  void update_mask(const DLTensor& mask, Stream stream = nullptr);
  void update_lists(const AttentionBlockLists& lists, Stream stream = nullptr);
  void update_csr(const DLTensor& crow_indices, const DLTensor& col_indices, Stream stream = nullptr);

  /// Bit masks of the elements of blocks that are listed and not full.
  /// @param index int32 [batch or 1, heads or kv_heads or 1, q_blocks, k_blocks], as the pattern's masks: which of
  ///   `elements` belongs to the block, -1: none.
  /// @param elements bool or uint8 [n, block_q, block_k], nonzero where a query attends a key; n at least 1.
  /// Allocates when first called and when n has grown, else neither allocates nor waits.
  void set_elements(const DLTensor& index, const DLTensor& elements, Stream stream = nullptr);

  std::int64_t batch() const;  ///< 1: the same for all sequences
  std::int64_t heads() const;  ///< 1: the same for all heads; kv_heads: for all query heads of a head of K and V
  std::int64_t seqlen_q() const;
  std::int64_t seqlen_k() const;
  int block_q() const;
  int block_k() const;
  bool has_elements() const;
  DLDevice device() const;

  /// Writes the masks as from_mask takes them (uint8, contiguous, on the pattern's device).
  void to_mask(const DLTensor& mask, Stream stream = nullptr) const;

  /// For the library's own use.
  const std::shared_ptr<detail::AttentionPatternData>& data() const { return data_; }

 private:
  explicit AttentionPattern(std::shared_ptr<detail::AttentionPatternData> data);
  std::shared_ptr<detail::AttentionPatternData> data_;
};

}  // namespace triage
