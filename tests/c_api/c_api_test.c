/* The C ABI from C99: a pattern, a product whose result is known, and what happens to those who pass nonsense. */
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
  test_kernels();
  if (failures == 0) puts("the C ABI holds");
  return failures != 0;
}
