// TriageAttention: scaled dot-product attention, forward.
//
// The method is FlashAttention's: one pass over the keys with a running maximum and sum (Milakov and Gimelshein,
// arXiv 1805.02867; Dao et al., arXiv 2205.14135; split over the keys as in Flash-Decoding).
#pragma once

#include <cstdint>

#include "triage/types.h"

namespace triage {

/// What `attention_forward` may be asked besides Q, K and V. Pointers are to views that live as long as the call.
struct AttentionOptions {
  /// Factor on Q K^T before the mask; 0 means 1/sqrt(head_dim of Q).
  float softmax_scale = 0.0f;
  /// Query i attends key j only if j <= i + seqlen_k - seqlen_q (aligned at the bottom right).
  bool causal = false;
  /// Query i attends key j only if i + seqlen_k - seqlen_q - window_left <= j <= i + seqlen_k - seqlen_q + window_right;
  /// -1 means no limit on that side.
  std::int64_t window_left = -1;
  std::int64_t window_right = -1;
  /// If positive, logits become softcap * tanh(logit / softcap) before the mask.
  float softcap = 0.0f;
  /// Sequences of different lengths, packed: int32 [batch + 1], starting at 0, never falling. Q is then
  /// [total_q, heads, head_dim], K and V [total_k, kv_heads, *]. Both or neither (with a block table: only cu_seqlens_q).
  const DLTensor* cu_seqlens_q = nullptr;
  const DLTensor* cu_seqlens_k = nullptr;
  /// Upper bounds of the sequence lengths, required with cu_seqlens (they size the grid; the device array is not read on
  /// the host).
  std::int64_t max_seqlen_q = 0;
  std::int64_t max_seqlen_k = 0;
  /// Keys in use per sequence, int32 [batch]: K and V are caches longer than what counts. nullptr: all of them.
  const DLTensor* seqused_k = nullptr;
  /// Paged cache: int32 [batch, max_pages], K and V are then [pages, page_size, kv_heads, *], page_size 16 to 256 and a
  /// power of two; needs seqused_k.
  const DLTensor* block_table = nullptr;
  /// One learnable logit a head that takes part in the sum but has no value: float32 [heads].
  const DLTensor* sinks = nullptr;
  /// Number of parts into which the keys are split: 0 lets the library choose, 1 forbids splitting. The result is the same
  /// within rounding and bitwise repeatable for a given number.
  int num_splits = 0;
};

/// O = softmax(softmax_scale * Q K^T + mask) V.
///
/// @param q [batch, seqlen_q, heads, head_dim], any strides with inner stride 1 (BHSD memory is a matter of strides).
/// @param k [batch, seqlen_k, kv_heads, head_dim]; heads is a multiple of kv_heads (GQA, MQA).
/// @param v [batch, seqlen_k, kv_heads, head_dim_v].
/// @param o [batch, seqlen_q, heads, head_dim_v], dtype of q.
/// @param lse nullptr or float32 [batch, heads, seqlen_q] ([heads, total_q] with cu_seqlens_q): natural log of the sum of
///   exponentials, the sink included. A query that attends nothing gives O = 0 and lse = -inf (with a sink: lse = sink).
///
/// head_dim: multiples of 8 up to 256, head_dim_v likewise. float16 and bfloat16 with fp32 accumulation; on the CPU
/// float32 and float64 as well. Errors and launches as in sparse_gemm.h.
void attention_forward(const DLTensor& q, const DLTensor& k, const DLTensor& v, const DLTensor& o, const DLTensor* lse,
                       const AttentionOptions& options = {}, const Workspace& workspace = {}, Stream stream = nullptr);
std::size_t attention_forward_workspace_bytes(const DLTensor& q, const DLTensor& k, const DLTensor& v, const DLTensor& o,
                                              const DLTensor* lse, const AttentionOptions& options = {});

}  // namespace triage
