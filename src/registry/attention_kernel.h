// The shape of an attention row of the registry, and the validated call that its kernel gets. Plain structs: the
// kernels of src/attention and src/cpu include this header, and device/ and ptx/, and nothing else of the host side.
#pragma once

#include <cstddef>
#include <cstdint>

#include "registry/device.h"
#include "registry/kernel.h"
#include "triage/attention.h"

namespace triage {

inline constexpr int kMaxHeadDim = 256;
inline constexpr int kMaxSplits = 64;
/// No sequence, no packed tensor and no cache of a sequence is longer: positions and differences of positions fit
/// int32. Element offsets do not: they take 64 bits.
inline constexpr std::int64_t kMaxSequence = std::int64_t{1} << 30;

/// Everything that selection may look at. Known on the host: no field comes from device memory.
struct AttentionProblem {
  DType dtype = DType::float16;
  std::int64_t batch = 0, heads = 0, kv_heads = 0;
  /// The longest sequences. Without cu_seqlens_q every sequence has seqlen_q queries. seqlen_k may be 0.
  std::int64_t seqlen_q = 0, seqlen_k = 0;
  /// Rows of Q (of K and V): batch * seqlen, or the length of the packed tensor, or pages * page_size.
  std::int64_t total_q = 0, total_k = 0;
  int head_dim = 0, head_dim_v = 0;  ///< multiples of 8, 8 to 256
  /// -1: no limit. `causal` is folded in (right = 0), and a limit that no query can meet is -1 already, so others are
  /// smaller than seqlen_k (left) and seqlen_q (right).
  std::int64_t window_left = -1, window_right = -1;
  float softcap = 0.0f;                     ///< 0: none
  bool varlen_q = false, varlen_k = false;  ///< cu_seqlens given
  bool has_seqused_k = false;               ///< never with varlen_k
  int page_size = 0;  ///< 0: K and V are not paged; else a power of two, 16 to 256, with seqused_k
  bool has_sinks = false, has_lse = false;
  int num_splits = 0;  ///< 0: the kernel chooses; else 1 to kMaxSplits, of which it may leave some empty
  /// Pointers of Q, K, V and O 16-byte aligned, all their strides but the inner one multiples of 16 bytes.
  /// In a backward problem those of the gradients as well.
  bool aligned16 = true;
  bool deterministic = true;  ///< of a backward problem: sums must be bitwise repeatable
  bool block_sparse = false;  ///< an AttentionMask says which blocks are attended
  bool has_elements = false;  ///< some of its blocks have a bit mask of elements
  int pattern_block_q = 0, pattern_block_k = 0;  ///< blocks as the caller made them, 64 or 128

  bool causal() const { return window_right == 0 && window_left < 0; }
  bool masked() const { return window_left >= 0 || window_right >= 0; }
  std::int64_t group() const { return heads / kv_heads; }  ///< query heads of one KV head
};

/// A [batch, sequence, heads, head_dim] view; strides in elements and not negative, the inner one is 1. With cu_seqlens
/// the batch stride is 0 and sequences start at row cu_seqlens[b]; a paged cache has pages in the place of the batch.
/// The stride of a dimension of length 1 is that of a compact tensor, whatever the caller wrote. Strides of 0 (a
/// broadcast input) occur; O has none and its elements are apart.
struct AttentionTensor {
  void* data = nullptr;  ///< nullptr only if the view has no element (K and V with seqlen_k 0)
  std::int64_t batch_stride = 0, sequence_stride = 0, head_stride = 0;
};

/// Attended blocks seen from one side. Whatever the caller's blocks, bits stand for 64 x 64 scores. Bit c % 32 of word
/// (mask * rows + r) * row_words + c / 32 is block c of row r; bits past the last block are 0.
struct BlockBits {
  const std::uint32_t* listed = nullptr;
  const std::uint32_t* full = nullptr;   ///< a subset of `listed`
  const std::int32_t* counts = nullptr;  ///< [masks][rows]: bits of `listed` in a row
  int rows = 0, row_words = 0;
};

/// The block-sparse mask of a call. Query i of a sequence attends key j only if the block (i / 64, j / 64) is listed,
/// and is full or lets the pair pass: the window of the call does, and the bit of the element does, where the block has
/// one. The lengths of the sequence cut full blocks, too.
struct AttentionMask {
  static constexpr int kBlock = 64;
  BlockBits by_query, by_key;     ///< rows are blocks of queries; of keys
  std::int64_t batch_masks = 0;   ///< masks from one sequence to the next; 0: the same for all
  int heads_per_mask = 1;         ///< query heads that share one: mask b * batch_masks + h / heads_per_mask
  /// [masks][by_query.rows][by_key.rows]: which entry of `elements` belongs to a block, -1: none. nullptr: none has.
  const std::int32_t* element_index = nullptr;
  const std::uint64_t* elements = nullptr;         ///< [entries][64]: bit j of word i is query i, key j of the block
  const std::uint64_t* elements_by_key = nullptr;  ///< [entries][64]: bit i of word j, likewise
  bool given() const { return by_query.listed != nullptr; }
};

/// A validated call with at least one query row. What a kernel owes:
///   - Sequence b has its queries at rows [cu_seqlens_q[b], cu_seqlens_q[b + 1]) of Q and O (else all seqlen_q of batch
///   b)
///     and keys likewise by cu_seqlens_k; with seqused_k the first clamp(seqused_k[b], 0, seqlen_k) keys of its cache.
///     Any of these may be 0. In a paged cache key j is row j % page_size of page block_table[b * stride + j /
///     page_size]; entries for j >= seqused_k[b] must not be read: they may be any number.
///   - Query i of lq attends key j of lk if d - window_left <= j <= d + window_right with d = i + lk - lq.
///   - With `mask` (problem.block_sparse), of those only pairs that it lets pass, and all pairs of full blocks.
///   - logit = softmax_scale * q k, then softcap * tanh(logit / softcap). O = sum exp(logit - m) v / sum, lse =
///     m + log(sum); the sink of head h adds exp(sinks[h] - m) to the sum. No key and no sink: O = 0, lse = -inf.
///   - Every row of every sequence is written, nothing else: not rows of Q between sequences, not padding.
///   - Rows of K and V outside of the sequence must not matter whatever their bits: a zero weight times NaN is NaN, so
///   a
///     tile that reaches past the end of a sequence holds zeros there (values), and logits are masked, not added to.
///   - Enqueued on `stream` of `device` (current already), no allocation, no synchronisation, bitwise repeatable. The
///     workspace has the bytes that workspace_bytes answered for this problem, 256-byte aligned, content arbitrary.
struct AttentionCall {
  AttentionProblem problem;
  AttentionTensor q, k, v, o;
  float* lse = nullptr;  ///< element (b, h, i) at b * lse_batch_stride + h * lse_head_stride + i; with cu_seqlens_q the
                         ///< batch stride is 0 and i is the row of Q
  std::int64_t lse_batch_stride = 0, lse_head_stride = 0;
  float softmax_scale = 1.0f;                  ///< positive
  const std::int32_t* cu_seqlens_q = nullptr;  ///< [batch + 1]
  const std::int32_t* cu_seqlens_k = nullptr;
  const std::int32_t* seqused_k = nullptr;    ///< [batch]
  const std::int32_t* block_table = nullptr;  ///< [batch, block_table_stride]
  std::int64_t block_table_stride = 0;
  std::int64_t pages = 0;        ///< of the cache, for bounds of a tensor map
  const float* sinks = nullptr;  ///< [heads]
  AttentionMask mask;            ///< with problem.block_sparse; never with a cache
  Workspace workspace;
  void* stream = nullptr;  ///< cudaStream_t
  const Device* device = nullptr;
};

/// A validated call of the backward, with at least one query row or one key row. What a kernel owes: the gradients that
/// attention.h writes down, each row of every sequence written (zeros where nothing was attended), nothing else; the
/// same rules for rows outside of a sequence as in the forward. A gradient whose data is nullptr is not wanted.
struct AttentionBackwardCall {
  /// Problem, inputs, strides of lse, lengths, sinks, workspace and stream: as in the forward, with `o` and `lse` read.
  /// No cache: has_seqused_k is false, page_size 0; num_splits is 0.
  AttentionCall forward;
  AttentionTensor d_o;
  AttentionTensor d_q, d_k, d_v;  ///< elements of one gradient are apart
  const float* d_lse = nullptr;   ///< strides of its own
  std::int64_t d_lse_batch_stride = 0, d_lse_head_stride = 0;
  float* d_sinks = nullptr;  ///< [heads]
  bool deterministic = true;
};

/// One row. `launch` is nullptr when this build does not hold the kernel's code.
template <typename Call>
struct AttentionKernelOf {
  const char* name;  ///< "<family>_attention_forward" (or _backward) and what tells rows of one family apart
  Family family;
  const char* dtypes;     ///< space-separated, for people: "float16 bfloat16"
  const char* head_dims;  ///< for people: "8 to 256"; can_run is what counts
  const char* source;     ///< path in the repository, for the receipts' hash
  /// Judges the problem and the device's limits; build, family and dtype have been judged before.
  Support (*can_run)(const AttentionProblem&, const Device&);
  std::size_t (*workspace_bytes)(const AttentionProblem&, const Device&);  ///< nullptr: none
  /// Enqueues the work. Throws Error(cuda) if a launch is refused.
  void (*launch)(const Call&);
};

using AttentionKernel = AttentionKernelOf<AttentionCall>;
using AttentionBackwardKernel = AttentionKernelOf<AttentionBackwardCall>;

}  // namespace triage
