/* The C ABI: everything that triage.h offers, for C99 and for foreign-function interfaces.
 *
 * Every function that can fail returns a triage_status; what went wrong is a sentence in triage_last_error(). Results
 * come back through the last pointer argument and are left alone on failure. Meanings, shapes and dtypes are those of
 * block_pattern.h, sparse_gemm.h, attention_pattern.h and attention.h. Tensors are DLTensor views, read during the call
 * and not kept. `stream` is a cudaStream_t, NULL the legacy default stream; ignored for host memory. Functions may be
 * called from any thread. */
#ifndef TRIAGE_C_API_H
#define TRIAGE_C_API_H

#include <dlpack/dlpack.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum triage_status {
  TRIAGE_OK = 0,
  TRIAGE_INVALID_ARGUMENT = 1, /* an argument is malformed */
  TRIAGE_UNSUPPORTED = 2,      /* well-formed, but no kernel takes it here */
  TRIAGE_OUT_OF_MEMORY = 3,    /* memory could not be had, or a workspace is too small */
  TRIAGE_CUDA_ERROR = 4,       /* the CUDA runtime or driver reported an error */
  TRIAGE_INTERNAL_ERROR = 5    /* a defect of the library */
} triage_status;

typedef enum triage_activation {
  TRIAGE_ACTIVATION_NONE = 0,
  TRIAGE_ACTIVATION_RELU = 1,
  TRIAGE_ACTIVATION_GELU = 2,
  TRIAGE_ACTIVATION_SILU = 3
} triage_activation;

typedef enum triage_values_layout { TRIAGE_VALUES_CANONICAL = 0, TRIAGE_VALUES_PACKED = 1 } triage_values_layout;

typedef enum triage_sddmm_layout { TRIAGE_SDDMM_X_YT = 0, TRIAGE_SDDMM_XT_Y = 1 } triage_sddmm_layout;

typedef enum triage_packed_for { TRIAGE_PACKED_FOR_SPMM = 0, TRIAGE_PACKED_FOR_LINEAR = 1 } triage_packed_for;

/* The library's version, "major.minor.patch". */
const char* triage_version(void);

/* The sentence of the calling thread's last failed call; "" before the first. Valid until its next failed call. */
const char* triage_last_error(void);

/* The kernel that served the calling thread's last successful operation, "" if none did. Valid until its next call. */
const char* triage_last_kernel(void);

/* Number of CUDA devices that can be used; 0 without a driver. */
int triage_cuda_device_count(void);

/* Every kernel as seen from `device`, as a JSON array of {"name", "operation", "family", "dtypes", "block_size",
 * "head_dims", "compiled", "can_run", "reason", "source", "source_sha256"}. The text is valid until this thread's next
 * call. */
triage_status triage_kernels_json(DLDevice device, const char** json);

/* ---- Patterns ---- */

typedef struct triage_pattern triage_pattern;

typedef struct triage_pattern_info {
  int64_t rows, cols;
  int64_t block_rows, block_cols;
  int64_t nnz_blocks;
  double density;
  int32_t block_size;
  DLDevice device;
} triage_pattern_info;

/* Each creates a pattern that triage_pattern_destroy frees. */
triage_status triage_pattern_from_bsr(const DLTensor* crow_indices, const DLTensor* col_indices, int64_t rows,
                                      int64_t cols, int block_size, void* stream, triage_pattern** pattern);
triage_status triage_pattern_from_mask(const DLTensor* mask, int64_t rows, int64_t cols, int block_size, void* stream,
                                       triage_pattern** pattern);
triage_status triage_pattern_from_dense(const DLTensor* matrix, int block_size, void* stream, triage_pattern** pattern);
/* The transposed twin; shares the pattern's data and lives on without it. */
triage_status triage_pattern_transposed(const triage_pattern* pattern, triage_pattern** transposed);
triage_status triage_pattern_to(const triage_pattern* pattern, DLDevice device, void* stream, triage_pattern** copy);
/* NULL is ignored. */
void triage_pattern_destroy(triage_pattern* pattern);

triage_status triage_pattern_update(triage_pattern* pattern, const DLTensor* crow_indices, const DLTensor* col_indices,
                                    void* stream);
triage_status triage_pattern_get_info(const triage_pattern* pattern, triage_pattern_info* info);

/* Views of int32 arrays that the pattern owns. */
triage_status triage_pattern_crow_indices(const triage_pattern* pattern, DLTensor* view);
triage_status triage_pattern_col_indices(const triage_pattern* pattern, DLTensor* view);
triage_status triage_pattern_transposed_positions(const triage_pattern* pattern, DLTensor* view);

triage_status triage_gather_blocks(const triage_pattern* pattern, const DLTensor* matrix, const DLTensor* values,
                                   void* stream);
triage_status triage_scatter_blocks(const triage_pattern* pattern, const DLTensor* values, const DLTensor* matrix,
                                    void* stream);

/* ---- Block-sparse GEMM. Options may be NULL (the defaults), and so may the workspace (none). ---- */

typedef struct triage_workspace {
  void* data; /* aligned to 256 bytes, on the tensors' device */
  size_t bytes;
} triage_workspace;

typedef struct triage_spmm_options {
  float alpha;           /* default 1 */
  float beta;            /* default 0 */
  int32_t values_layout; /* a triage_values_layout */
} triage_spmm_options;

typedef struct triage_linear_options {
  int32_t activation;    /* a triage_activation */
  int32_t values_layout; /* a triage_values_layout */
} triage_linear_options;

typedef struct triage_sddmm_options {
  int32_t layout; /* a triage_sddmm_layout */
  float alpha;    /* default 1 */
  float beta;     /* default 0 */
} triage_sddmm_options;

triage_spmm_options triage_spmm_defaults(void);
triage_linear_options triage_linear_defaults(void);
triage_sddmm_options triage_sddmm_defaults(void);

/* c[M,N] = alpha * a[M,K] * b[K,N] + beta * c */
triage_status triage_spmm(const triage_pattern* a, const DLTensor* a_values, const DLTensor* b, const DLTensor* c,
                          const triage_spmm_options* options, const triage_workspace* workspace, void* stream);
triage_status triage_spmm_workspace_bytes(const triage_pattern* a, const DLTensor* a_values, const DLTensor* b,
                                          const DLTensor* c, const triage_spmm_options* options, size_t* bytes);

/* y[T,out] = activation(x[T,in] * w[out,in]^T + bias[out]); bias may be NULL */
triage_status triage_linear(const triage_pattern* w, const DLTensor* w_values, const DLTensor* x, const DLTensor* bias,
                            const DLTensor* y, const triage_linear_options* options, const triage_workspace* workspace,
                            void* stream);
triage_status triage_linear_workspace_bytes(const triage_pattern* w, const DLTensor* w_values, const DLTensor* x,
                                            const DLTensor* bias, const DLTensor* y,
                                            const triage_linear_options* options, size_t* bytes);

/* values = alpha * (x * y^T, or x^T * y, at the pattern's blocks) + beta * values */
triage_status triage_sddmm(const triage_pattern* pattern, const DLTensor* x, const DLTensor* y, const DLTensor* values,
                           const triage_sddmm_options* options, const triage_workspace* workspace, void* stream);
triage_status triage_sddmm_workspace_bytes(const triage_pattern* pattern, const DLTensor* x, const DLTensor* y,
                                           const DLTensor* values, const triage_sddmm_options* options, size_t* bytes);

/* dx[T,in] = dy[T,out] * w[out,in]: the gradient of triage_linear by x, before its activation */
triage_status triage_linear_backward_input(const triage_pattern* w, const DLTensor* w_values, const DLTensor* dy,
                                           const DLTensor* dx, const triage_workspace* workspace, void* stream);
triage_status triage_linear_backward_input_workspace_bytes(const triage_pattern* w, const DLTensor* w_values,
                                                           const DLTensor* dy, const DLTensor* dx, size_t* bytes);

/* dw_values = dy^T * x at the pattern's blocks + beta * dw_values */
triage_status triage_linear_backward_weight(const triage_pattern* w, const DLTensor* dy, const DLTensor* x,
                                            const DLTensor* dw_values, float beta, const triage_workspace* workspace,
                                            void* stream);
triage_status triage_linear_backward_weight_workspace_bytes(const triage_pattern* w, const DLTensor* dy,
                                                            const DLTensor* x, const DLTensor* dw_values, float beta,
                                                            size_t* bytes);

/* dbias[out] = sum of dy[T,out] over T */
triage_status triage_linear_backward_bias(const DLTensor* dy, const DLTensor* dbias, const triage_workspace* workspace,
                                          void* stream);
triage_status triage_linear_backward_bias_workspace_bytes(const DLTensor* dy, const DLTensor* dbias, size_t* bytes);

/* db[K,N] = alpha * a[M,K]^T * dc[M,N] + beta * db */
triage_status triage_spmm_backward_b(const triage_pattern* a, const DLTensor* a_values, const DLTensor* dc,
                                     const DLTensor* db, const triage_spmm_options* options,
                                     const triage_workspace* workspace, void* stream);
triage_status triage_spmm_backward_b_workspace_bytes(const triage_pattern* a, const DLTensor* a_values,
                                                     const DLTensor* dc, const DLTensor* db,
                                                     const triage_spmm_options* options, size_t* bytes);

/* Rewrites canonical values for TRIAGE_VALUES_PACKED; packed_for is a triage_packed_for. */
triage_status triage_prepack(const triage_pattern* pattern, const DLTensor* values, const DLTensor* packed,
                             int32_t packed_for, void* stream);

/* ---- Block-sparse masks of attention (attention_pattern.h) ---- */

typedef struct triage_attention_pattern triage_attention_pattern;

/* AttentionBlockLists: all but indices may be NULL, full_indices and full_counts only with one another. */
typedef struct triage_attention_block_lists {
  const DLTensor *indices, *counts, *full_indices, *full_counts;
} triage_attention_block_lists;

typedef struct triage_attention_pattern_info {
  int64_t batch, heads; /* 1: the same for all */
  int64_t seqlen_q, seqlen_k;
  int32_t block_q, block_k;
  int32_t has_elements; /* 0 or 1 */
  DLDevice device;
} triage_attention_pattern_info;

/* Each creates a pattern that triage_attention_pattern_destroy frees. */
triage_status triage_attention_pattern_from_mask(const DLTensor* mask, int64_t seqlen_q, int64_t seqlen_k, int block_q,
                                                 int block_k, void* stream, triage_attention_pattern** pattern);
triage_status triage_attention_pattern_from_lists(const triage_attention_block_lists* lists, int64_t seqlen_q,
                                                  int64_t seqlen_k, int block_q, int block_k, void* stream,
                                                  triage_attention_pattern** pattern);
triage_status triage_attention_pattern_from_csr(const DLTensor* crow_indices, const DLTensor* col_indices,
                                                int64_t seqlen_q, int64_t seqlen_k, int block_q, int block_k,
                                                void* stream, triage_attention_pattern** pattern);
triage_status triage_attention_pattern_from_pattern(const triage_pattern* blocks, void* stream,
                                                    triage_attention_pattern** pattern);
/* NULL is ignored. */
void triage_attention_pattern_destroy(triage_attention_pattern* pattern);

/* Other blocks from a source of the same dimensions: neither allocates nor waits. */
triage_status triage_attention_pattern_update_mask(triage_attention_pattern* pattern, const DLTensor* mask,
                                                   void* stream);
triage_status triage_attention_pattern_update_lists(triage_attention_pattern* pattern,
                                                    const triage_attention_block_lists* lists, void* stream);
triage_status triage_attention_pattern_update_csr(triage_attention_pattern* pattern, const DLTensor* crow_indices,
                                                  const DLTensor* col_indices, void* stream);
triage_status triage_attention_pattern_set_elements(triage_attention_pattern* pattern, const DLTensor* index,
                                                    const DLTensor* elements, void* stream);

triage_status triage_attention_pattern_to_mask(const triage_attention_pattern* pattern, const DLTensor* mask,
                                               void* stream);
triage_status triage_attention_pattern_get_info(const triage_attention_pattern* pattern,
                                                triage_attention_pattern_info* info);

/* ---- Attention ---- */

typedef struct triage_attention_options {
  float softmax_scale;          /* default 0: 1/sqrt(head_dim) */
  int32_t causal;               /* default 0; else 1 */
  int64_t window_left;          /* default -1: no limit */
  int64_t window_right;         /* default -1: no limit */
  float softcap;                /* default 0: none */
  const DLTensor* cu_seqlens_q; /* default NULL, as all tensors here */
  const DLTensor* cu_seqlens_k;
  int64_t max_seqlen_q; /* default 0 */
  int64_t max_seqlen_k;
  const DLTensor* seqused_k;
  const DLTensor* block_table;
  const DLTensor* sinks;
  int32_t num_splits;                      /* default 0: the library chooses */
  const triage_attention_pattern* pattern; /* default NULL: every block is attended */
} triage_attention_options;

triage_attention_options triage_attention_defaults(void);

/* o = softmax(softmax_scale * q k^T + mask) v; lse may be NULL */
triage_status triage_attention_forward(const DLTensor* q, const DLTensor* k, const DLTensor* v, const DLTensor* o,
                                       const DLTensor* lse, const triage_attention_options* options,
                                       const triage_workspace* workspace, void* stream);
triage_status triage_attention_forward_workspace_bytes(const DLTensor* q, const DLTensor* k, const DLTensor* v,
                                                       const DLTensor* o, const DLTensor* lse,
                                                       const triage_attention_options* options, size_t* bytes);

/* What triage_attention_backward reads (d_lse may be NULL) and writes (each may be NULL: not wanted). */
typedef struct triage_attention_backward_inputs {
  const DLTensor *q, *k, *v, *o, *lse, *d_o, *d_lse;
} triage_attention_backward_inputs;

typedef struct triage_attention_backward_outputs {
  const DLTensor *d_q, *d_k, *d_v, *d_sinks;
} triage_attention_backward_outputs;

typedef enum triage_gradient_order {
  TRIAGE_GRADIENT_DETERMINISTIC = 0,
  TRIAGE_GRADIENT_NONDETERMINISTIC = 1
} triage_gradient_order;

triage_status triage_attention_backward(const triage_attention_backward_inputs* inputs,
                                        const triage_attention_backward_outputs* outputs,
                                        const triage_attention_options* options, int32_t gradient_order,
                                        const triage_workspace* workspace, void* stream);
triage_status triage_attention_backward_workspace_bytes(const triage_attention_backward_inputs* inputs,
                                                        const triage_attention_backward_outputs* outputs,
                                                        const triage_attention_options* options, int32_t gradient_order,
                                                        size_t* bytes);

#ifdef __cplusplus
}
#endif

#endif
