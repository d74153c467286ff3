// gather_blocks and scatter_blocks: between a dense matrix and a pattern's values.
#include "api/pattern_data.h"
#include "api/tensor_check.h"

namespace triage {

namespace {

struct BlockCopy {
  const PatternView& pattern;
  DLDevice device;
  DenseMatrix matrix;
  void* values;
};

BlockCopy check_block_copy(const BlockPattern& pattern, const DLTensor& matrix, const DLTensor& values,
                           bool matrix_is_output) {
  const detail::PatternData& data = *pattern.data();
  const DLDevice device = data.device->dl;
  check_shape_fields("matrix", matrix, 2);
  const DType dtype = check_float_dtype("matrix", matrix);
  const Matrix view =
      check_matrix("matrix", matrix, dtype, device, pattern.rows(), pattern.cols(), "[rows, cols] of the pattern");
  void* blocks = check_values("values", values, dtype, data.view, device);
  const int size = element_bytes(dtype);
  const Extent matrix_extent = extent("matrix", view, size);
  const Extent values_extent =
      extent("values", blocks, static_cast<std::size_t>(data.nnz) * data.view.block * data.view.block * size);
  if (matrix_is_output) {
    check_no_overlap(matrix_extent, values_extent);
  } else {
    check_no_overlap(values_extent, matrix_extent);
  }
  return {data.view, device, {view.data, size, view.rows, view.cols, view.stride}, blocks};
}

}  // namespace

void gather_blocks(const BlockPattern& pattern, const DLTensor& matrix, const DLTensor& values,
                   [[maybe_unused]] Stream stream) {
  const BlockCopy copy = check_block_copy(pattern, matrix, values, false);
  if (copy.pattern.nnz_blocks == 0) return;
  const DeviceGuard guard(copy.device);
  if (!on_cuda(copy.device)) {
    gather_blocks_cpu(copy.pattern, copy.matrix, copy.values);
  } else if constexpr (TRIAGE_HAS_CUDA) {
    gather_blocks_cuda(copy.pattern, copy.matrix, copy.values, stream);
  }
}

void scatter_blocks(const BlockPattern& pattern, const DLTensor& values, const DLTensor& matrix,
                    [[maybe_unused]] Stream stream) {
  const BlockCopy copy = check_block_copy(pattern, matrix, values, true);
  if (copy.matrix.rows == 0 || copy.matrix.cols == 0) return;
  const DeviceGuard guard(copy.device);
  if (!on_cuda(copy.device)) {
    clear_matrix_cpu(copy.matrix);
    scatter_blocks_cpu(copy.pattern, copy.values, copy.matrix);
  } else if constexpr (TRIAGE_HAS_CUDA) {
    clear_matrix_cuda(copy.matrix, stream);
    scatter_blocks_cuda(copy.pattern, copy.values, copy.matrix, stream);
  }
}

}  // namespace triage
