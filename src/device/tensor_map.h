// Tensor maps (TMA descriptors), made on the host. The driver's encoder is found at run time, so that nothing links libcuda.
#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <cstdint>
#include <string>

#include "device/cuda_check.h"
#include "triage/error.h"

namespace triage::device {

using EncodeTensorMap = decltype(&cuTensorMapEncodeTiled);

/// @throws Error(cuda) if the driver lacks it (before 12.0).
inline EncodeTensorMap tensor_map_encoder() {
  static const EncodeTensorMap encode = [] {
    void* function = nullptr;
    cudaDriverEntryPointQueryResult result = cudaDriverEntryPointSymbolNotFound;
    cuda_check(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &result),
               "cudaGetDriverEntryPointByVersion of cuTensorMapEncodeTiled");
    if (result != cudaDriverEntryPointSuccess || function == nullptr) {
      throw Error(ErrorCode::cuda, "the driver has no cuTensorMapEncodeTiled; version 12.0 or newer is needed");
    }
    return reinterpret_cast<EncodeTensorMap>(function);
  }();
  return encode;
}

namespace detail {

inline CUtensorMap encode_tensor_map(const void* data, bool bfloat16, int rank, const cuuint64_t* sizes,
                                     const cuuint64_t* strides, const cuuint32_t* box) {
  const cuuint32_t steps[5] = {1, 1, 1, 1, 1};
  const CUtensorMapSwizzle swizzle = box[0] == 64   ? CU_TENSOR_MAP_SWIZZLE_128B
                                     : box[0] == 32 ? CU_TENSOR_MAP_SWIZZLE_64B
                                                    : CU_TENSOR_MAP_SWIZZLE_32B;
  CUtensorMap map;
  const CUresult status = tensor_map_encoder()(
      &map, bfloat16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_FLOAT16, rank, const_cast<void*>(data),
      sizes, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
      CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (status != CUDA_SUCCESS) {
    throw Error(ErrorCode::cuda, "cuTensorMapEncodeTiled refused a matrix of " + std::to_string(sizes[1]) + " x " +
                                     std::to_string(sizes[0]) + " with a stride of " + std::to_string(strides[0]) +
                                     " bytes (status " + std::to_string(static_cast<int>(status)) + ")");
  }
  return map;
}

}  // namespace detail

/// A map of a row-major matrix of 16-bit elements for boxes of `box_rows` x `box_cols`. Rows of a box lie one behind the
/// other in shared memory, swizzled over their length of 32, 64 or 128 bytes. What a load finds outside of the matrix is 0.
/// @param stride in elements, a multiple of 8; `data` is 16-byte aligned.
inline CUtensorMap tensor_map(const void* data, bool bfloat16, std::int64_t rows, std::int64_t cols, std::int64_t stride,
                              int box_rows, int box_cols) {
  const cuuint64_t sizes[2] = {static_cast<cuuint64_t>(cols), static_cast<cuuint64_t>(rows)};
  const cuuint64_t strides[1] = {static_cast<cuuint64_t>(stride) * 2};
  const cuuint32_t box[2] = {static_cast<cuuint32_t>(box_cols), static_cast<cuuint32_t>(box_rows)};
  return detail::encode_tensor_map(data, bfloat16, 2, sizes, strides, box);
}

/// A map of three dimensions of the same matrix for boxes of `box_rows` rows x `slices` slices of 64 columns, slice after
/// slice in shared memory. Coordinates: (0, row, column / 64). If the columns are no multiple of 64, boxes hold one slice
/// and the coordinates are (column, row, 0).
inline CUtensorMap sliced_tensor_map(const void* data, bool bfloat16, std::int64_t rows, std::int64_t cols,
                                     std::int64_t stride, int box_rows, int slices) {
  const bool sliced = cols % 64 == 0;
  const cuuint64_t sizes[3] = {static_cast<cuuint64_t>(sliced ? 64 : cols), static_cast<cuuint64_t>(rows),
                               static_cast<cuuint64_t>(sliced ? cols / 64 : 1)};
  const cuuint64_t strides[2] = {static_cast<cuuint64_t>(stride) * 2, 128};
  const cuuint32_t box[3] = {64, static_cast<cuuint32_t>(box_rows), static_cast<cuuint32_t>(sliced ? slices : 1)};
  return detail::encode_tensor_map(data, bfloat16, 3, sizes, strides, box);
}

/// A map of five dimensions, the contiguous one first. @param strides of the other four, in elements: multiples of 8.
inline CUtensorMap tensor_map_5d(const void* data, bool bfloat16, const std::int64_t (&sizes)[5],
                                 const std::int64_t (&strides)[4], const int (&box)[5]) {
  cuuint64_t size[5], stride[4];
  cuuint32_t edge[5];
  for (int i = 0; i < 5; i++) {
    size[i] = static_cast<cuuint64_t>(sizes[i]);
    edge[i] = static_cast<cuuint32_t>(box[i]);
    if (i < 4) stride[i] = static_cast<cuuint64_t>(strides[i]) * 2;
  }
  return detail::encode_tensor_map(data, bfloat16, 5, size, stride, edge);
}

}  // namespace triage::device
