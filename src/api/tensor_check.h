// What every entry point asks of a DLTensor, once: each check answers with a sentence that names the argument.
#pragma once

#include <dlpack/dlpack.h>

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>

#include "registry/kernel.h"
#include "triage/error.h"

namespace triage {

[[noreturn]] void fail_argument(const std::string& sentence);

/// kDLBool of DLPack 0.8; the enumerator is missing in the headers of older distributions.
inline constexpr int kDLBoolCode = 6;

std::string dtype_text(DLDataType dtype);        ///< "int32", "float16", "bool", ...
std::string device_text(DLDevice device);        ///< "the host", "CUDA device 0"
std::string shape_text(const DLTensor& tensor);  ///< "[3, 4]"

/// kDLCPU and kDLCUDAHost (pinned) are the host, kDLCUDA is CUDA; the rest is refused.
DLDevice check_device(const char* name, const DLTensor& tensor);
/// @param other whose device it must be, for the sentence
void check_same_device(const char* name, const DLTensor& tensor, DLDevice device, const char* other = "the pattern");

/// ndim, shape pointer, no negative or overlong dimension, one lane.
void check_shape_fields(const char* name, const DLTensor& tensor, int ndim);

DType check_float_dtype(const char* name, const DLTensor& tensor);
void check_dtype(const char* name, const DLTensor& tensor, DType expected);

/// The first element, byte_offset included. Null only if the tensor has no element; else aligned to the element's size.
void* check_data(const char* name, const DLTensor& tensor);

/// @param expected one length a dimension; `meaning` says where it comes from, e.g. "[K, N] with K = a.cols".
void check_lengths(const char* name, const DLTensor& tensor, std::initializer_list<std::int64_t> expected,
                   const char* meaning);

/// Contiguous (null strides, or those of the compact row-major layout; a dimension of size 1 may have any).
void check_contiguous(const char* name, const DLTensor& tensor);

/// The outer stride of a 2-D tensor in elements: inner stride 1, outer not less than the row's length. Offsets must fit
/// 64 bits.
std::int64_t check_row_stride(const char* name, const DLTensor& tensor);

/// All of the above for a row-major 2-D operand.
Matrix check_matrix(const char* name, const DLTensor& tensor, DType dtype, DLDevice device, std::int64_t rows,
                    std::int64_t cols, const char* meaning);

/// The values of a block-sparse matrix: [nnz_blocks, block, block], contiguous.
void* check_values(const char* name, const DLTensor& tensor, DType dtype, const PatternView& pattern, DLDevice device);

/// The bytes that a tensor touches.
struct Extent {
  const char* name = "";
  std::uintptr_t begin = 0, end = 0;             // [begin, end); equal: none
  std::int64_t row_bytes = 0, stride_bytes = 0;  // 0: contiguous
};
Extent extent(const char* name, const Matrix& matrix, int element_bytes);
Extent extent(const char* name, const void* data, std::size_t bytes);

/// Whether both may share a byte. Columns of one buffer side by side do not.
bool overlaps(const Extent& output, const Extent& other);

/// Refuses `output` if it shares a byte with `other`.
void check_no_overlap(const Extent& output, const Extent& other);

int element_bytes(DType dtype);

}  // namespace triage
