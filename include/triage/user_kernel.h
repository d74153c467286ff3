/* A kernel of your own under `triage verdict --library LIB --op OP --symbol NAME`: the function that it calls. C99.
 *
 * Write a function of type triage_sparse_gemm_function (for attention: triage_attention_function), put it into a shared
 * library with C linkage, and the verdict checks, times and shows it like a row of Triage's own. docs/verdict.md has an
 * example. */
#ifndef TRIAGE_USER_KERNEL_H
#define TRIAGE_USER_KERNEL_H

#include "triage/c_api.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One problem. All tensors lie on the device of `values`; matrices are row-major with unit inner stride and any row
 * stride (`strides` is always set). The sparse matrix S has `rows` x `cols` elements in square blocks of `block_size`;
 * values are [nnz_blocks, block_size, block_size], crow_indices [ceil(rows / block_size) + 1] and col_indices
 * [nnz_blocks] int32, columns ascending in each row. Where rows or cols is no multiple of block_size, what lies in
 * values beyond the edge is NaN and must not be used.
 *
 *   sparse_gemm.spmm    out[rows, N] = alpha * S * in0[cols, N] + beta * out; with beta 0, out may hold NaN before
 *   sparse_gemm.linear  out[T, rows] = activation(in0[T, cols] * S^T + bias[rows]); bias.data is NULL if there is none
 *   sparse_gemm.sddmm   values = alpha * (in0[rows, K] * in1[cols, K]^T, or with TRIAGE_SDDMM_XT_Y in0[K, rows]^T *
 *                       in1[K, cols]) at the blocks + beta * values; out is not used, and values is the output
 *
 * Unused tensors have data NULL and ndim 0. */
typedef struct triage_sparse_gemm_problem {
  const char* operation; /* "sparse_gemm.spmm", ... */
  int64_t rows, cols, nnz_blocks;
  int32_t block_size;
  int32_t activation;   /* a triage_activation */
  int32_t sddmm_layout; /* a triage_sddmm_layout */
  float alpha, beta;
  DLTensor crow_indices, col_indices, values, in0, in1, out, bias;
  void* stream; /* a cudaStream_t: enqueue on it and return without waiting. NULL for host memory */
} triage_sparse_gemm_problem;

/* Returns TRIAGE_OK, or TRIAGE_UNSUPPORTED for a problem that it does not take (counted as refused, not as wrong), or
 * any other triage_status for a failure. Called from one thread, many times for one problem: it may keep memory that it
 * allocated. */
typedef int (*triage_sparse_gemm_function)(const triage_sparse_gemm_problem* problem);

/* One problem of attention.forward: O = softmax(softmax_scale * Q K^T) V. All tensors lie on one device; innermost
 * strides are 1, the others are any and always set.
 *
 *   q, o  [batch, seqlen_q, heads, head_dim] and [.., head_dim_v]; with cu_seqlens_q [rows, heads, ..]: sequence b has
 *         the rows cu_seqlens_q[b] to cu_seqlens_q[b + 1], and seqlen_q is the longest
 *   k, v  [batch, seqlen_k, kv_heads, head_dim] and [.., head_dim_v]; with cu_seqlens_k packed likewise; with
 *         block_table [pages, page_size, kv_heads, ..]: key j of sequence b is row j % page_size of page
 *         block_table[b][j / page_size]. Query head h reads KV head h / (heads / kv_heads)
 *   lse   [batch, heads, seqlen_q], with cu_seqlens_q [heads, rows], float32: log of the sum of exponentials, -inf
 * where a query attends nothing (its row of O is 0 then); data NULL if it is not asked for seqused_k  [batch] int32:
 * only so many keys of each sequence count; data NULL: all sinks [heads] float32: exp(sinks[h]) joins the sum of every
 * row of head h; data NULL: none
 *
 * Query i of n attends key j of m if d - window_left <= j <= d + window_right with d = i + m - n; -1 is no limit, and
 * causal is window_right 0. softcap > 0: logits become softcap * tanh(logit / softcap). Unused tensors have data NULL
 * and ndim 0. What lies in memory between sequences and past seqused_k is NaN and must not matter. */
typedef struct triage_attention_problem {
  const char* operation; /* "attention.forward" */
  int64_t batch, heads, kv_heads, seqlen_q, seqlen_k;
  int64_t window_left, window_right;
  int32_t head_dim, head_dim_v;
  int32_t page_size; /* 0 without block_table */
  float softmax_scale, softcap;
  DLTensor q, k, v, o, lse, cu_seqlens_q, cu_seqlens_k, seqused_k, block_table, sinks;
  void* stream; /* as above */
} triage_attention_problem;

/* As triage_sparse_gemm_function. */
typedef int (*triage_attention_function)(const triage_attention_problem* problem);

#ifdef __cplusplus
}
#endif

#endif
