#include "api/tensor_check.h"

#include <limits>

#include "registry/registry.h"

namespace triage {

namespace {

std::string argument(const char* name, const std::string& rest) { return std::string(name) + " " + rest; }

// Past this many elements a byte offset could leave 63 bits.
constexpr std::int64_t kMaxElements = std::numeric_limits<std::int64_t>::max() / 16;

std::int64_t count_elements(const DLTensor& tensor) {
  std::int64_t count = 1;
  for (int i = 0; i < tensor.ndim; i++) count *= tensor.shape[i];
  return count;
}

}  // namespace

void fail_argument(const std::string& sentence) { throw Error(ErrorCode::invalid_argument, sentence); }

std::string dtype_text(DLDataType dtype) {
  const std::string bits = std::to_string(dtype.bits);
  std::string text;
  switch (static_cast<int>(dtype.code)) {
    case kDLInt:
      text = "int" + bits;
      break;
    case kDLUInt:
      text = "uint" + bits;
      break;
    case kDLFloat:
      text = "float" + bits;
      break;
    case kDLBfloat:
      text = "bfloat" + bits;
      break;
    case kDLComplex:
      text = "complex" + bits;
      break;
    case kDLBoolCode:
      text = dtype.bits == 8 ? "bool" : "bool" + bits;
      break;
    default:
      text = "of DLPack type code " + std::to_string(dtype.code) + " with " + bits + " bits";
  }
  return dtype.lanes == 1 ? text : text + " with " + std::to_string(dtype.lanes) + " lanes";
}

std::string device_text(DLDevice device) {
  const int type = device_type(device);
  if (type == kDLCPU || type == kDLCUDAHost) return "the host";
  if (type == kDLCUDA) return "CUDA device " + std::to_string(device.device_id);
  return "DLPack device type " + std::to_string(type);
}

std::string shape_text(const DLTensor& tensor) {
  std::string text = "[";
  for (int i = 0; i < tensor.ndim; i++) text += (i == 0 ? "" : ", ") + std::to_string(tensor.shape[i]);
  return text + "]";
}

DLDevice check_device(const char* name, const DLTensor& tensor) {
  const int type = device_type(tensor.device);
  if (type == kDLCPU || type == kDLCUDAHost) return {kDLCPU, 0};
  if (type == kDLCUDA) return {kDLCUDA, tensor.device.device_id};
  fail_argument(
      argument(name, "is on " + device_text(tensor.device) + ", accepted: kDLCPU (1), kDLCUDAHost (3), kDLCUDA (2)"));
}

void check_same_device(const char* name, const DLTensor& tensor, DLDevice device, const char* other) {
  const DLDevice found = check_device(name, tensor);
  if (found.device_type != device.device_type || found.device_id != device.device_id) {
    fail_argument(argument(name, "is on " + device_text(found) + ", but " + other + " is on " + device_text(device) +
                                     "; all tensors of a call share one device"));
  }
}

void check_shape_fields(const char* name, const DLTensor& tensor, int ndim) {
  if (tensor.ndim != ndim) {
    fail_argument(
        argument(name, "has " + std::to_string(tensor.ndim) + " dimensions, accepted: " + std::to_string(ndim)));
  }
  if (tensor.shape == nullptr) fail_argument(argument(name, "has a null shape pointer"));
  if (tensor.dtype.lanes != 1) {
    fail_argument(argument(name, "has " + std::to_string(tensor.dtype.lanes) + " lanes per element, accepted: 1"));
  }
  std::int64_t elements = 1;
  for (int i = 0; i < ndim; i++) {
    const std::int64_t length = tensor.shape[i];
    if (length < 0) fail_argument(argument(name, "has the shape " + shape_text(tensor) + " with a negative length"));
    if (length > kMaxElements || (length > 0 && elements > kMaxElements / length)) {
      fail_argument(argument(name, "has the shape " + shape_text(tensor) + ", whose offsets do not fit 64 bits"));
    }
    elements *= length == 0 ? 1 : length;
  }
}

DType check_float_dtype(const char* name, const DLTensor& tensor) {
  const DLDataType& dtype = tensor.dtype;
  if (dtype.lanes == 1) {
    if (dtype.code == kDLFloat && dtype.bits == 16) return DType::float16;
    if (dtype.code == kDLBfloat && dtype.bits == 16) return DType::bfloat16;
    if (dtype.code == kDLFloat && dtype.bits == 32) return DType::float32;
    if (dtype.code == kDLFloat && dtype.bits == 64) return DType::float64;
  }
  fail_argument(argument(name, "is " + dtype_text(dtype) + ", accepted: float16, bfloat16, float32, float64"));
}

void check_dtype(const char* name, const DLTensor& tensor, DType expected) {
  const DType found = check_float_dtype(name, tensor);
  if (found != expected) {
    fail_argument(argument(name, std::string("is ") + dtype_name(found) + ", but the other tensors are " +
                                     dtype_name(expected) + "; all tensors of a call share one dtype"));
  }
}

void* check_data(const char* name, const DLTensor& tensor) {
  if (tensor.data == nullptr) {
    if (count_elements(tensor) == 0) return nullptr;
    fail_argument(argument(name, "has a null data pointer for the shape " + shape_text(tensor)));
  }
  const auto address = reinterpret_cast<std::uintptr_t>(tensor.data) + tensor.byte_offset;
  const unsigned size = (tensor.dtype.bits + 7u) / 8u;
  if (size > 1 && address % size != 0) {
    fail_argument(argument(
        name, "starts at an address that is no multiple of its element size, " + std::to_string(size) + " bytes"));
  }
  return reinterpret_cast<void*>(address);
}

void check_lengths(const char* name, const DLTensor& tensor, std::initializer_list<std::int64_t> expected,
                   const char* meaning) {
  int i = 0;
  bool equal = true;
  for (const std::int64_t length : expected) equal &= tensor.shape[i++] == length;
  if (equal) return;
  std::string wanted;
  for (const std::int64_t length : expected) wanted += (wanted.empty() ? "" : ", ") + std::to_string(length);
  fail_argument(argument(name, "has the shape " + shape_text(tensor) + ", accepted: [" + wanted + "], " + meaning));
}

void check_contiguous(const char* name, const DLTensor& tensor) {
  if (tensor.strides == nullptr || count_elements(tensor) == 0) return;
  std::int64_t compact = 1;
  for (int i = tensor.ndim - 1; i >= 0; i--) {
    if (tensor.shape[i] != 1 && tensor.strides[i] != compact) {
      fail_argument(argument(name, "has the stride " + std::to_string(tensor.strides[i]) + " in dimension " +
                                       std::to_string(i) + ", accepted: " + std::to_string(compact) + " (contiguous)"));
    }
    compact *= tensor.shape[i];
  }
}

std::int64_t check_row_stride(const char* name, const DLTensor& tensor) {
  const std::int64_t rows = tensor.shape[0], cols = tensor.shape[1];
  if (rows == 0 || cols == 0) return cols;
  // A single row has no outer stride: pretend one that keeps the row eligible for 16-byte copies.
  const std::int64_t lone_row_stride = (cols + 7) / 8 * 8;
  if (tensor.strides == nullptr) return rows == 1 ? lone_row_stride : cols;
  if (cols != 1 && tensor.strides[1] != 1) {
    fail_argument(argument(name, "has the inner stride " + std::to_string(tensor.strides[1]) + ", accepted: 1"));
  }
  if (rows == 1) return lone_row_stride;
  const std::int64_t stride = tensor.strides[0];
  if (stride < cols) {
    fail_argument(argument(name, "has the outer stride " + std::to_string(stride) +
                                     ", accepted: " + std::to_string(cols) + " (the length of a row) or more"));
  }
  if (stride > kMaxElements / rows) {
    fail_argument(argument(name, "has the outer stride " + std::to_string(stride) + " for " + std::to_string(rows) +
                                     " rows; its offsets do not fit 64 bits"));
  }
  return stride;
}

Matrix check_matrix(const char* name, const DLTensor& tensor, DType dtype, DLDevice device, std::int64_t rows,
                    std::int64_t cols, const char* meaning) {
  check_shape_fields(name, tensor, 2);
  check_same_device(name, tensor, device);
  check_dtype(name, tensor, dtype);
  check_lengths(name, tensor, {rows, cols}, meaning);
  const std::int64_t stride = check_row_stride(name, tensor);
  return {check_data(name, tensor), rows, cols, stride};
}

void* check_values(const char* name, const DLTensor& tensor, DType dtype, const PatternView& pattern, DLDevice device) {
  check_shape_fields(name, tensor, 3);
  check_same_device(name, tensor, device);
  check_dtype(name, tensor, dtype);
  check_lengths(name, tensor, {pattern.nnz_blocks, pattern.block, pattern.block},
                "[nnz_blocks, block_size, block_size] of the pattern");
  check_contiguous(name, tensor);
  return check_data(name, tensor);
}

Extent extent(const char* name, const Matrix& matrix, int element_bytes) {
  if (matrix.rows == 0 || matrix.cols == 0) return {name};
  const auto begin = reinterpret_cast<std::uintptr_t>(matrix.data);
  const std::int64_t elements = (matrix.rows - 1) * matrix.stride + matrix.cols;
  return {name, begin, begin + static_cast<std::uintptr_t>(elements * element_bytes), matrix.cols * element_bytes,
          matrix.stride * element_bytes};
}

Extent extent(const char* name, const void* data, std::size_t bytes) {
  const auto begin = reinterpret_cast<std::uintptr_t>(data);
  return {name, begin, begin + bytes, 0, 0};
}

bool overlaps(const Extent& output, const Extent& other) {
  if (output.begin == output.end || other.begin == other.end) return false;
  if (output.begin >= other.end || other.begin >= output.end) return false;
  // Two views of one buffer with the same stride, in different columns of it.
  if (output.stride_bytes != 0 && output.stride_bytes == other.stride_bytes) {
    const std::int64_t stride = output.stride_bytes;
    const auto distance = static_cast<std::int64_t>(other.begin - output.begin);  // may be negative
    const std::int64_t column = ((distance % stride) + stride) % stride;
    if (column >= output.row_bytes && column + other.row_bytes <= stride) return false;
  }
  return true;
}

void check_no_overlap(const Extent& output, const Extent& other) {
  if (!overlaps(output, other)) return;
  fail_argument(std::string(output.name) + " overlaps " + other.name + "; the output must have memory of its own");
}

int element_bytes(DType dtype) {
  switch (dtype) {
    case DType::float16:
    case DType::bfloat16:
      return 2;
    case DType::float32:
      return 4;
    case DType::float64:
      return 8;
  }
  return 0;
}

}  // namespace triage
