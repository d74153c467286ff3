// TriageAttention: scaled dot-product attention, forward and backward.
//
// The method is FlashAttention's: one pass over the keys with a running maximum and sum (Milakov and Gimelshein,
// arXiv 1805.02867; Dao et al., arXiv 2205.14135; split over the keys as in Flash-Decoding).
#pragma once

#include <cstddef>
#include <cstdint>

#include "triage/attention_pattern.h"
#include "triage/types.h"

namespace triage {

/// What `attention_forward` may be asked besides Q, K and V. Pointers are to views that live as long as the call; the
/// arrays they show are on the device of Q.
struct AttentionOptions {
  /// Factor on Q K^T, finite and positive; 0 means 1/sqrt(head_dim of Q).
  float softmax_scale = 0.0f;
  /// Query i attends key j only if j <= i + seqlen_k - seqlen_q (aligned at the bottom right).
  bool causal = false;
  /// Query i attends key j only if i + seqlen_k - seqlen_q - window_left <= j <= i + seqlen_k - seqlen_q +
  /// window_right; -1 means no limit on that side. `causal` is window_right = 0.
  std::int64_t window_left = -1;
  std::int64_t window_right = -1;
  /// If positive, logits become softcap * tanh(logit / softcap) before the mask, the logit being softmax_scale * q k.
  float softcap = 0.0f;
  /// Sequences of different lengths, packed: int32 [batch + 1], starting at 0, never falling. With cu_seqlens_q, Q and
  /// O are [total_q, heads, *]; with cu_seqlens_k, K and V are [total_k, kv_heads, *]. Each may be given without the
  /// other. In host memory the content is checked; on a GPU it is believed (a launch does not wait for it).
  const DLTensor* cu_seqlens_q = nullptr;
  const DLTensor* cu_seqlens_k = nullptr;
  /// Upper bounds of the sequence lengths, required with cu_seqlens_q and cu_seqlens_k. With seqused_k, max_seqlen_k
  /// bounds the keys in use; 0 then means the cache's capacity.
  std::int64_t max_seqlen_q = 0;
  std::int64_t max_seqlen_k = 0;
  /// Keys in use per sequence, int32 [batch]: K and V are caches longer than what counts. Not with cu_seqlens_k. On a
  /// GPU values are clamped to 0 .. max_seqlen_k (or the capacity), in host memory others are refused.
  const DLTensor* seqused_k = nullptr;
  /// Paged cache: int32 [batch, max_pages]; K and V are then [pages, page_size, kv_heads, *], page_size a power of two
  /// from 16 to 256; needs seqused_k. Key j of sequence b is row j % page_size of page block_table[b][j / page_size].
  /// Entries past the keys in use are not read.
  const DLTensor* block_table = nullptr;
  /// One learnable logit a head that takes part in the sum but has no value: float32 [heads]. Neither softmax_scale nor
  /// softcap applies to it.
  const DLTensor* sinks = nullptr;
  /// Block-sparse mask (attention_pattern.h), on the device of Q, for lengths seqlen_q and seqlen_k (with cu_seqlens:
  /// max_seqlen_q, max_seqlen_k). Not with seqused_k, block_table and num_splits.
  const AttentionPattern* pattern = nullptr;
  /// Number of parts into which the keys are split, 1 to 64; 0 lets the library choose, 1 forbids splitting. The result
  /// is the same within rounding and bitwise repeatable for a given number.
  int num_splits = 0;
};

/// O = softmax(softmax_scale * Q K^T + mask) V.
///
/// @param q [batch, seqlen_q, heads, head_dim], any strides with inner stride 1 (BHSD memory is a matter of strides).
/// @param k [batch, seqlen_k, kv_heads, head_dim]; heads is a multiple of kv_heads (GQA, MQA): query head h reads the
///   key and value head h / (heads / kv_heads).
/// @param v [batch, seqlen_k, kv_heads, head_dim_v].
/// @param o [batch, seqlen_q, heads, head_dim_v], dtype of q; no byte of it belongs to another tensor of the call.
/// @param lse nullptr or float32 [batch, heads, seqlen_q] ([heads, total_q] with cu_seqlens_q), inner stride 1: natural
/// log
///   of the sum of exponentials of the logits, the sink included. A query that attends nothing gives O = 0 and
///   lse = -inf (with a sink: lse = sink).
///
/// head_dim: multiples of 8 from 8 to 256, head_dim_v likewise and independent of it. float16 and bfloat16 with fp32
/// accumulation; on the CPU float32 and float64 as well. Lengths of 0 are legal: without queries nothing is done,
/// without keys every query attends nothing. What lies outside of a sequence (padding, unused rows of a page, unused
/// pages, other sequences) has no influence, be it NaN. NaN and infinity among the keys that a query attends reach its
/// row of O and lse; among values that the mask hides from it they may.
///
/// Nothing is allocated and nothing waits; a call can be captured in a CUDA graph. Errors: as in sparse_gemm.h.
void attention_forward(const DLTensor& q, const DLTensor& k, const DLTensor& v, const DLTensor& o, const DLTensor* lse,
                       const AttentionOptions& options = {}, const Workspace& workspace = {}, Stream stream = nullptr);

/// Bytes of workspace that the same call of `attention_forward` needs (often 0). Reads no tensor's data.
std::size_t attention_forward_workspace_bytes(const DLTensor& q, const DLTensor& k, const DLTensor& v,
                                              const DLTensor& o, const DLTensor* lse,
                                              const AttentionOptions& options = {});

/// What `attention_backward` reads: what the forward call read and wrote, and the gradients that come in.
struct AttentionBackwardInputs {
  const DLTensor* q = nullptr;  ///< q, k, v, o: as in attention_forward, with the same options
  const DLTensor* k = nullptr;
  const DLTensor* v = nullptr;
  const DLTensor* o = nullptr;
  const DLTensor* lse = nullptr;    ///< what the forward wrote; required
  const DLTensor* d_o = nullptr;    ///< shape and dtype of o; required
  const DLTensor* d_lse = nullptr;  ///< nullptr (0) or the gradient that reaches lse, shape and dtype of lse
};

/// What `attention_backward` writes. Each may be nullptr where that gradient is not wanted; not all of them.
struct AttentionBackwardOutputs {
  const DLTensor* d_q = nullptr;  ///< shape and dtype of q; strides of its own, inner stride 1
  const DLTensor* d_k = nullptr;
  const DLTensor* d_v = nullptr;
  const DLTensor* d_sinks = nullptr;  ///< float32 [heads]; only with AttentionOptions::sinks
};

/// How sums over blocks of keys (or queries) are ordered where several thread blocks add to one gradient.
enum class GradientOrder : int {
  deterministic = 0,     ///< bitwise repeatable
  nondeterministic = 1,  ///< as they come: faster on some shapes
};

/// Gradients of sum(O * d_o) + sum(lse * d_lse) by q, k, v and the sinks, for everything that attention_forward takes
/// except a cache (seqused_k, block_table) and num_splits: those are refused.
///
/// With P = exp(logit - lse), dP = d_o V^T and delta = rowsum(d_o * O) - d_lse: d_v = P^T d_o; dS = P * (dP - delta),
/// times 1 - tanh^2 under softcap; d_q = softmax_scale * dS K; d_k = softmax_scale * dS^T Q; d_sinks = -sum over the
/// queries of a head of exp(sink - lse) * delta (Dao et al., arXiv 2205.14135, and arXiv 2307.08691). The gradients of
/// one KV head are summed over its query heads. A query that attends nothing has d_q = 0 and adds nothing; a key that
/// nothing attends has d_k = d_v = 0. Every row of every sequence is written, padding is not. Errors: as in
/// attention_forward.
void attention_backward(const AttentionBackwardInputs& inputs, const AttentionBackwardOutputs& outputs,
                        const AttentionOptions& options = {}, GradientOrder order = GradientOrder::deterministic,
                        const Workspace& workspace = {}, Stream stream = nullptr);

/// Bytes of workspace that the same call of `attention_backward` needs. Reads no tensor's data.
std::size_t attention_backward_workspace_bytes(const AttentionBackwardInputs& inputs,
                                               const AttentionBackwardOutputs& outputs,
                                               const AttentionOptions& options = {},
                                               GradientOrder order = GradientOrder::deterministic);

}  // namespace triage
