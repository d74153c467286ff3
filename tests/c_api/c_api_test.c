/* The C ABI from C99: patterns, a product and attention whose results are known, and what happens to those who pass
 * nonsense. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "triage/c_api.h"

static int failures = 0;

static void expect(int holds, const char* what) {
  if (holds) return;
  failures++;
  fprintf(stderr, "FAILED: %s (last error: %s)\n", what, triage_last_error());
}

#define EXPECT(condition) expect((condition), #condition)

static DLTensor tensor(void* data, DLDataTypeCode code, int bits, int ndim, int64_t* shape) {
  DLTensor t;
  memset(&t, 0, sizeof(t));
  t.data = data;
  t.device.device_type = kDLCPU;
  t.ndim = ndim;
  t.dtype.code = (uint8_t)code;
  t.dtype.bits = (uint8_t)bits;
  t.dtype.lanes = 1;
  t.shape = shape;
  return t;
}

/* [2, 3] blocks of 16: (0, 0), (0, 2), (1, 1). The matrix is 32 x 40: the last block column is ragged. */
enum { kBlock = 16, kNnz = 3, kRows = 32, kCols = 40, kTokens = 5 };
static int32_t crow[3] = {0, 2, 3};
static int64_t col[kNnz] = {0, 2, 1};
static float values[kNnz * kBlock * kBlock];
static float x[kTokens * kCols], bias[kRows], y[kTokens * kRows];
static int64_t crow_shape[1] = {3}, col_shape[1] = {kNnz}, values_shape[3] = {kNnz, kBlock, kBlock},
               x_shape[2] = {kTokens, kCols}, bias_shape[1] = {kRows}, y_shape[2] = {kTokens, kRows};

static void test_linear(const triage_pattern* w) {
  DLTensor v = tensor(values, kDLFloat, 32, 3, values_shape), xs = tensor(x, kDLFloat, 32, 2, x_shape),
           b = tensor(bias, kDLFloat, 32, 1, bias_shape), ys = tensor(y, kDLFloat, 32, 2, y_shape);
  triage_linear_options options = triage_linear_defaults();
  triage_workspace workspace = {NULL, 0};
  char* memory;
  int t, o, i, wrong = 0;
  for (i = 0; i < kNnz * kBlock * kBlock; i++) values[i] = (float)(i % 5 - 2);
  for (i = 0; i < kTokens * kCols; i++) x[i] = (float)(i % 7 - 3);
  for (i = 0; i < kRows; i++) bias[i] = (float)(i - 10);
  options.activation = TRIAGE_ACTIVATION_RELU;
  EXPECT(triage_linear_workspace_bytes(w, &v, &xs, &b, &ys, &options, &workspace.bytes) == TRIAGE_OK);
  memory = malloc(workspace.bytes + 256);
  workspace.data = memory + (256 - (uintptr_t)memory % 256);
  EXPECT(triage_linear(w, &v, &xs, &b, &ys, &options, &workspace, NULL) == TRIAGE_OK);
  EXPECT(strcmp(triage_last_kernel(), "cpu_linear") == 0);
  for (t = 0; t < kTokens; t++) {
    for (o = 0; o < kRows; o++) {
      const int row = o / kBlock;
      float sum = bias[o];
      int block;
      for (block = crow[row]; block < crow[row + 1]; block++) {
        for (i = 0; i < kBlock; i++) {
          const int64_t c = col[block] * kBlock + i;
          if (c < kCols) sum += x[t * kCols + c] * values[(block * kBlock + o % kBlock) * kBlock + i];
        }
      }
      wrong += y[t * kRows + o] != (sum > 0 ? sum : 0);
    }
  }
  EXPECT(wrong == 0);

  /* Nonsense. */
  EXPECT(triage_linear(NULL, &v, &xs, &b, &ys, NULL, &workspace, NULL) == TRIAGE_INVALID_ARGUMENT);
  EXPECT(strstr(triage_last_error(), "w is NULL") != NULL);
  EXPECT(triage_linear(w, NULL, &xs, &b, &ys, NULL, &workspace, NULL) == TRIAGE_INVALID_ARGUMENT);
  EXPECT(strstr(triage_last_error(), "w_values is NULL") != NULL);
  EXPECT(triage_linear(w, &v, &xs, &b, NULL, NULL, &workspace, NULL) == TRIAGE_INVALID_ARGUMENT);
  EXPECT(triage_linear(w, &v, &xs, &b, &ys, NULL, NULL, NULL) == TRIAGE_OUT_OF_MEMORY);
  EXPECT(strstr(triage_last_error(), "workspace") != NULL);
  options.activation = 1000;
  EXPECT(triage_linear(w, &v, &xs, &b, &ys, &options, &workspace, NULL) == TRIAGE_INVALID_ARGUMENT);
  EXPECT(strstr(triage_last_error(), "activation") != NULL);
  EXPECT(triage_linear(w, &v, &xs, NULL, &ys, NULL, &workspace, NULL) == TRIAGE_OK);
  EXPECT(triage_linear_workspace_bytes(w, &v, &xs, &b, &ys, NULL, NULL) == TRIAGE_INVALID_ARGUMENT);
  free(memory);
}

static void test_patterns(void) {
  DLTensor crows = tensor(crow, kDLInt, 32, 1, crow_shape), cols = tensor(col, kDLInt, 64, 1, col_shape), view;
  triage_pattern *pattern = NULL, *twin = NULL, *copy = NULL, *untouched = NULL;
  triage_pattern_info info;
  DLDevice host = {kDLCPU, 0}, nowhere = {kDLCUDA, 4096};

  EXPECT(triage_pattern_from_bsr(&crows, &cols, kRows, kCols, kBlock, NULL, &pattern) == TRIAGE_OK);
  EXPECT(triage_pattern_get_info(pattern, &info) == TRIAGE_OK);
  EXPECT(info.rows == kRows && info.cols == kCols && info.block_size == kBlock && info.nnz_blocks == kNnz);
  EXPECT(info.block_rows == 2 && info.block_cols == 3 && info.density == 0.5 && info.device.device_type == kDLCPU);
  EXPECT(triage_pattern_col_indices(pattern, &view) == TRIAGE_OK);
  EXPECT(view.shape[0] == kNnz && ((int32_t*)view.data)[1] == 2);
  EXPECT(triage_pattern_crow_indices(pattern, &view) == TRIAGE_OK && view.shape[0] == 3);

  EXPECT(triage_pattern_transposed(pattern, &twin) == TRIAGE_OK);
  EXPECT(triage_pattern_transposed_positions(pattern, &view) == TRIAGE_OK);
  EXPECT(((int32_t*)view.data)[0] == 0 && ((int32_t*)view.data)[1] == 2 && ((int32_t*)view.data)[2] == 1);
  EXPECT(triage_pattern_to(pattern, host, NULL, &copy) == TRIAGE_OK);
  EXPECT(triage_pattern_update(pattern, &crows, &cols, NULL) == TRIAGE_OK);
  test_linear(pattern);
  triage_pattern_destroy(copy);
  triage_pattern_destroy(pattern);
  EXPECT(triage_pattern_get_info(twin, &info) == TRIAGE_OK && info.rows == kCols); /* lives on alone */
  triage_pattern_destroy(twin);
  triage_pattern_destroy(NULL);

  EXPECT(triage_pattern_from_bsr(&crows, &cols, kRows, kCols, 17, NULL, &untouched) == TRIAGE_INVALID_ARGUMENT);
  EXPECT(strstr(triage_last_error(), "block_size is 17, accepted: 16, 32, 64, 128") != NULL);
  EXPECT(triage_pattern_from_bsr(NULL, &cols, kRows, kCols, kBlock, NULL, &untouched) == TRIAGE_INVALID_ARGUMENT);
  EXPECT(triage_pattern_from_bsr(&crows, &cols, kRows, kCols, kBlock, NULL, NULL) == TRIAGE_INVALID_ARGUMENT);
  EXPECT(triage_pattern_from_mask(NULL, kRows, kCols, kBlock, NULL, &untouched) == TRIAGE_INVALID_ARGUMENT);
  EXPECT(triage_pattern_from_dense(NULL, kBlock, NULL, &untouched) == TRIAGE_INVALID_ARGUMENT);
  EXPECT(triage_pattern_transposed(NULL, &untouched) == TRIAGE_INVALID_ARGUMENT);
  EXPECT(triage_pattern_get_info(NULL, &info) == TRIAGE_INVALID_ARGUMENT);
  EXPECT(triage_pattern_to(NULL, nowhere, NULL, &untouched) == TRIAGE_INVALID_ARGUMENT);
  EXPECT(untouched == NULL);
}

/* 70 queries, 130 keys: [2, 3] blocks of 64; block row 0 attends block 1, block row 1 nothing. With equal logits o is
 * the mean of the attended values. */
enum { kQueries = 70, kKeys = 130, kDim = 8, kMaskBlocks = 6 };
static uint8_t mask[kMaskBlocks] = {0, 1, 0, 0, 0, 0}, shown[kMaskBlocks], elements[64 * 64];
static int32_t element_index[kMaskBlocks] = {-1, 0, -1, -1, -1, -1};
static float q[kQueries * kDim], k[kKeys * kDim], v[kKeys * kDim], o[kQueries * kDim], lse[kQueries], d_v[kKeys * kDim];
static int64_t mask_shape[4] = {1, 1, 2, 3}, lists_shape[4] = {1, 1, 2, 1}, counts_shape[3] = {1, 1, 2},
               crows_shape[3] = {1, 1, 3}, one_shape[1] = {1}, elements_shape[3] = {1, 64, 64},
               q_shape[4] = {1, kQueries, 1, kDim}, k_shape[4] = {1, kKeys, 1, kDim}, lse_shape[3] = {1, 1, kQueries};

static double sum_of_values(int begin, int end) {
  double sum = 0;
  int j;
  for (j = begin; j < end; j++) sum += v[j * kDim];
  return sum;
}

static int near(double a, double b) { return a - b < 1e-5 && b - a < 1e-5; }

static void test_block_sparse_attention(triage_attention_pattern* pattern) {
  DLTensor qs = tensor(q, kDLFloat, 32, 4, q_shape), ks = tensor(k, kDLFloat, 32, 4, k_shape),
           vs = tensor(v, kDLFloat, 32, 4, k_shape), os = tensor(o, kDLFloat, 32, 4, q_shape),
           lses = tensor(lse, kDLFloat, 32, 3, lse_shape), d_vs = tensor(d_v, kDLFloat, 32, 4, k_shape),
           index = tensor(element_index, kDLInt, 32, 4, mask_shape),
           bits = tensor(elements, kDLUInt, 8, 3, elements_shape);
  triage_attention_options options = triage_attention_defaults();
  triage_attention_backward_inputs inputs = {&qs, &ks, &vs, &os, &lses, &os, NULL};
  triage_attention_backward_outputs outputs = {NULL, NULL, &d_vs, NULL};
  triage_workspace workspace = {NULL, 0};
  triage_attention_pattern_info info;
  size_t bytes = 0;
  char* memory;
  int i, wrong = 0;
  EXPECT(options.pattern == NULL);
  options.pattern = pattern;
  for (i = 0; i < kKeys * kDim; i++) v[i] = (float)(i / kDim);
  EXPECT(triage_attention_forward_workspace_bytes(&qs, &ks, &vs, &os, &lses, &options, &workspace.bytes) == TRIAGE_OK);
  EXPECT(triage_attention_backward_workspace_bytes(&inputs, &outputs, &options, TRIAGE_GRADIENT_DETERMINISTIC,
                                                   &bytes) == TRIAGE_OK);
  if (bytes > workspace.bytes) workspace.bytes = bytes;
  memory = malloc(workspace.bytes + 256);
  workspace.data = memory + (256 - (uintptr_t)memory % 256);
  EXPECT(triage_attention_forward(&qs, &ks, &vs, &os, &lses, &options, &workspace, NULL) == TRIAGE_OK);
  EXPECT(near(o[0], sum_of_values(64, 128) / 64) && near(o[63 * kDim], o[0]));
  EXPECT(o[64 * kDim] == 0 && lse[64] < -1e30f && lse[63] > 4);
  EXPECT(triage_attention_backward(&inputs, &outputs, &options, TRIAGE_GRADIENT_DETERMINISTIC, &workspace, NULL) ==
         TRIAGE_OK);
  EXPECT(near(d_v[64 * kDim], o[0]) && d_v[63 * kDim] == 0 && d_v[128 * kDim] == 0); /* 64 queries, 1/64 of o each */

  for (i = 0; i < 64 * 64; i++) elements[i] = i % 64 < 2; /* keys 64 and 65 */
  EXPECT(triage_attention_pattern_set_elements(pattern, &index, &bits, NULL) == TRIAGE_OK);
  EXPECT(triage_attention_pattern_get_info(pattern, &info) == TRIAGE_OK && info.has_elements == 1);
  EXPECT(triage_attention_forward(&qs, &ks, &vs, &os, &lses, &options, &workspace, NULL) == TRIAGE_OK);
  for (i = 0; i < 64; i++) wrong += !near(o[i * kDim], 64.5);
  EXPECT(wrong == 0);
  EXPECT(triage_attention_pattern_set_elements(pattern, NULL, &bits, NULL) == TRIAGE_INVALID_ARGUMENT);

  options.num_splits = 2;
  EXPECT(triage_attention_forward(&qs, &ks, &vs, &os, &lses, &options, &workspace, NULL) == TRIAGE_INVALID_ARGUMENT);
  EXPECT(strstr(triage_last_error(), "options.pattern") != NULL);
  free(memory);
}

static void test_attention_patterns(void) {
  int32_t list[2] = {1, 2}, counts[2] = {1, 0}, crows[3] = {0, 1, 1}, columns[1] = {1};
  DLTensor masks = tensor(mask, kDLUInt, 8, 4, mask_shape), shows = tensor(shown, kDLUInt, 8, 4, mask_shape),
           lists = tensor(list, kDLInt, 32, 4, lists_shape), listed = tensor(counts, kDLInt, 32, 3, counts_shape),
           crow_view = tensor(crows, kDLInt, 32, 3, crows_shape), col_view = tensor(columns, kDLInt, 32, 1, one_shape);
  DLTensor bsr_crow = tensor(crow, kDLInt, 32, 1, crow_shape), bsr_col = tensor(col, kDLInt, 64, 1, col_shape);
  triage_attention_block_lists given = {NULL, NULL, NULL, NULL};
  triage_attention_pattern *made[4] = {NULL, NULL, NULL, NULL}, *untouched = NULL;
  triage_attention_pattern_info info;
  triage_pattern* blocks = NULL;
  int i;
  given.indices = &lists;
  given.counts = &listed;
  EXPECT(triage_attention_pattern_from_mask(&masks, kQueries, kKeys, 64, 64, NULL, &made[0]) == TRIAGE_OK);
  EXPECT(triage_attention_pattern_from_lists(&given, kQueries, kKeys, 64, 64, NULL, &made[1]) == TRIAGE_OK);
  EXPECT(triage_attention_pattern_from_csr(&crow_view, &col_view, kQueries, kKeys, 64, 64, NULL, &made[2]) ==
         TRIAGE_OK);
  for (i = 0; i < 3; i++) {
    memset(shown, 7, sizeof(shown));
    EXPECT(triage_attention_pattern_to_mask(made[i], &shows, NULL) == TRIAGE_OK);
    EXPECT(memcmp(shown, mask, sizeof(mask)) == 0);
    EXPECT(triage_attention_pattern_get_info(made[i], &info) == TRIAGE_OK);
    EXPECT(info.batch == 1 && info.heads == 1 && info.seqlen_q == kQueries && info.seqlen_k == kKeys);
    EXPECT(info.block_q == 64 && info.block_k == 64 && info.has_elements == 0 && info.device.device_type == kDLCPU);
  }
  columns[0] = 2;
  EXPECT(triage_attention_pattern_update_csr(made[0], &crow_view, &col_view, NULL) == TRIAGE_OK);
  EXPECT(triage_attention_pattern_to_mask(made[0], &shows, NULL) == TRIAGE_OK && shown[1] == 0 && shown[2] == 1);
  EXPECT(triage_attention_pattern_update_lists(made[0], &given, NULL) == TRIAGE_OK);
  EXPECT(triage_attention_pattern_to_mask(made[0], &shows, NULL) == TRIAGE_OK && shown[1] == 1 && shown[2] == 0);
  mask[5] = 2;
  EXPECT(triage_attention_pattern_update_mask(made[1], &masks, NULL) == TRIAGE_OK);
  EXPECT(triage_attention_pattern_to_mask(made[1], &shows, NULL) == TRIAGE_OK && shown[5] == 2);
  mask[5] = 0;
  test_block_sparse_attention(made[0]);

  EXPECT(triage_pattern_from_bsr(&bsr_crow, &bsr_col, 2 * 64 - 1, 3 * 64 - 5, 64, NULL, &blocks) == TRIAGE_OK);
  EXPECT(triage_attention_pattern_from_pattern(blocks, NULL, &made[3]) == TRIAGE_OK);
  triage_pattern_destroy(blocks);
  EXPECT(triage_attention_pattern_get_info(made[3], &info) == TRIAGE_OK && info.seqlen_q == 127 &&
         info.seqlen_k == 187);
  for (i = 0; i < 4; i++) triage_attention_pattern_destroy(made[i]);
  triage_attention_pattern_destroy(NULL);

  EXPECT(triage_attention_pattern_from_mask(NULL, kQueries, kKeys, 64, 64, NULL, &untouched) ==
         TRIAGE_INVALID_ARGUMENT);
  EXPECT(triage_attention_pattern_from_mask(&masks, kQueries, kKeys, 32, 64, NULL, &untouched) ==
         TRIAGE_INVALID_ARGUMENT);
  EXPECT(strstr(triage_last_error(), "block_q is 32, accepted: 64, 128") != NULL);
  EXPECT(triage_attention_pattern_from_mask(&masks, kQueries, kKeys, 64, 64, NULL, NULL) == TRIAGE_INVALID_ARGUMENT);
  EXPECT(triage_attention_pattern_from_lists(NULL, kQueries, kKeys, 64, 64, NULL, &untouched) ==
         TRIAGE_INVALID_ARGUMENT);
  EXPECT(triage_attention_pattern_from_csr(&crow_view, NULL, kQueries, kKeys, 64, 64, NULL, &untouched) ==
         TRIAGE_INVALID_ARGUMENT);
  EXPECT(triage_attention_pattern_from_pattern(NULL, NULL, &untouched) == TRIAGE_INVALID_ARGUMENT);
  EXPECT(triage_attention_pattern_update_mask(NULL, &masks, NULL) == TRIAGE_INVALID_ARGUMENT);
  EXPECT(triage_attention_pattern_to_mask(NULL, &shows, NULL) == TRIAGE_INVALID_ARGUMENT);
  EXPECT(triage_attention_pattern_get_info(NULL, &info) == TRIAGE_INVALID_ARGUMENT);
  EXPECT(untouched == NULL);
}

static void test_kernels(void) {
  DLDevice host = {kDLCPU, 0}, nowhere = {kDLCUDA, 4096};
  const char* json = NULL;
  EXPECT(triage_kernels_json(host, &json) == TRIAGE_OK);
  EXPECT(json != NULL && json[0] == '[' && strstr(json, "\"name\": \"cpu_spmm\"") != NULL);
  EXPECT(triage_kernels_json(nowhere, &json) != TRIAGE_OK);
  EXPECT(triage_kernels_json(host, NULL) == TRIAGE_INVALID_ARGUMENT);
  EXPECT(strlen(triage_version()) >= 5);
  EXPECT(triage_cuda_device_count() >= 0);
}

int main(void) {
  EXPECT(strcmp(triage_last_error(), "") == 0);
  test_patterns();
  test_attention_patterns();
  test_kernels();
  if (failures == 0) puts("the C ABI holds");
  return failures != 0;
}
