// The shape of an attention row of the registry, and the validated call that its kernel gets.
#pragma once

#include <cstddef>
#include <cstdint>

#include "registry/device.h"
#include "registry/kernel.h"
#include "triage/attention.h"

namespace triage {

/// Everything that selection may look at.
struct AttentionProblem {
  DType dtype = DType::float16;
  std::int64_t batch = 0, heads = 0, kv_heads = 0;
  std::int64_t seqlen_q = 0, seqlen_k = 0;  ///< the longest sequences when lengths vary
  int head_dim = 0, head_dim_v = 0;
  bool causal = false;
  std::int64_t window_left = -1, window_right = -1;  ///< -1: no limit; `causal` is already folded into window_right = 0
  float softcap = 0.0f;
  bool varlen_q = false, varlen_k = false;  ///< cu_seqlens given
  int page_size = 0;                        ///< 0: K and V are not paged
  bool has_sinks = false, has_lse = false;
  int num_splits = 0;
  // Pointers 16-byte aligned, all strides but the inner one multiples of 8 elements.
  bool aligned16 = true;
};

/// A [batch, sequence, heads, head_dim] view; strides in elements, the inner one is 1. With cu_seqlens the batch stride is 0
/// and sequences start at cu_seqlens[b]; a paged cache has pages in the place of the batch.
struct AttentionTensor {
  void* data = nullptr;
  std::int64_t batch_stride = 0, sequence_stride = 0, head_stride = 0;
};

struct AttentionCall {
  AttentionProblem problem;
  AttentionTensor q, k, v, o;
  float* lse = nullptr;  ///< [batch, heads, seqlen_q], or [heads, total_q] with cu_seqlens_q
  std::int64_t total_q = 0;
  float softmax_scale = 1.0f;
  const std::int32_t* cu_seqlens_q = nullptr;
  const std::int32_t* cu_seqlens_k = nullptr;
  const std::int32_t* seqused_k = nullptr;
  const std::int32_t* block_table = nullptr;
  std::int64_t block_table_stride = 0;
  const float* sinks = nullptr;
  Workspace workspace;
  void* stream = nullptr;  ///< cudaStream_t
  const Device* device = nullptr;
};

/// One row. `launch` is nullptr when this build does not hold the kernel's code.
struct AttentionKernel {
  const char* name;
  Family family;
  const char* dtypes;
  const char* source;
  Support (*can_run)(const AttentionProblem&, const Device&);
  std::size_t (*workspace_bytes)(const AttentionProblem&, const Device&);
  void (*launch)(const AttentionCall&);
};

}  // namespace triage
