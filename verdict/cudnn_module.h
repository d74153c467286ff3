// cuDNN's attention as a peer: the C functions of libtriage_cudnn.so, which is built where CMake finds cuDNN and the
// headers of its frontend, and loaded at run time like any other peer.
#pragma once

#include <cstddef>
#include <cstdint>

extern "C" {

/// Contiguous [batch, seqlen, heads, head_dim] of float16 or bfloat16; lse [batch, heads, seqlen_q] in fp32, natural
/// logarithm.
struct TriageCudnnAttention {
  std::int64_t batch, heads, kv_heads, seqlen_q, seqlen_k;
  std::int64_t head_dim, head_dim_v;
  int bfloat16;
  int causal;                ///< aligned at the bottom right
  std::int64_t window_left;  ///< -1: no limit
  float scale;
};

/// A problem's addresses. The forward writes o and lse; the backward reads them and d_o, and writes d_q, d_k and d_v.
struct TriageCudnnTensors {
  const void *q, *k, *v;
  void *o, *lse;
  const void* d_o;
  void *d_q, *d_k, *d_v;
  void* workspace;
  void* stream;
};

using triage_cudnn_version_function = const char*();
/// A plan for problems of this form on the current device, and the workspace it wants; nullptr: see triage_cudnn_error.
using triage_cudnn_plan_function = void*(const TriageCudnnAttention*, int backward, std::size_t* workspace_bytes);
/// Enqueues. 0, or see triage_cudnn_error.
using triage_cudnn_run_function = int(void* plan, const TriageCudnnTensors*);
using triage_cudnn_destroy_function = void(void* plan);
/// Why the last call of this thread failed.
using triage_cudnn_error_function = const char*();
}
