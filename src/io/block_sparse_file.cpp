// The public functions of triage/io.h.
#include "triage/io.h"

#include <cstdlib>
#include <cstring>
#include <map>
#include <new>

#include "io/block_sparse_layout.h"
#include "io/safetensors.h"
#include "io/safetensors_writer.h"
#include "io/text.h"
#include "triage/error.h"

namespace triage {
namespace {

[[noreturn]] void fail(const std::string& sentence) { throw Error(ErrorCode::invalid_argument, sentence); }

struct DtypePair {
  io::TensorDtype file;
  DLDataType memory;
};
constexpr DtypePair kDtypes[] = {{io::TensorDtype::f64, {kDLFloat, 64, 1}},
                                 {io::TensorDtype::f32, {kDLFloat, 32, 1}},
                                 {io::TensorDtype::f16, {kDLFloat, 16, 1}},
                                 {io::TensorDtype::bf16, {kDLBfloat, 16, 1}}};

DLDataType memory_dtype(io::TensorDtype dtype) {
  for (const auto& pair : kDtypes) {
    if (pair.file == dtype) return pair.memory;
  }
  fail(std::string("values of dtype ") + io::dtype_name(dtype) + " (accepted: F64, F32, F16, BF16)");
}

io::TensorDtype file_dtype(DLDataType dtype, const std::string& what) {
  for (const auto& pair : kDtypes) {
    if (pair.memory.code == dtype.code && pair.memory.bits == dtype.bits && dtype.lanes == 1) return pair.file;
  }
  fail(what + ": its values have a dtype that cannot be stored (accepted: float64, float32, float16, bfloat16)");
}

// Memory for the values and the shape that their DLTensor points to.
struct Storage {
  explicit Storage(std::size_t bytes) {
    constexpr std::size_t kAlignment = 256;
    data = std::aligned_alloc(kAlignment, (bytes + kAlignment) / kAlignment * kAlignment);
    if (data == nullptr) {
      throw Error(ErrorCode::out_of_memory, "no host memory for " + io::bytes_text(bytes) + " of values");
    }
  }
  ~Storage() { std::free(data); }
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;
  void* data = nullptr;
  std::int64_t shape[3] = {};
};

void check_values(const BlockSparseMatrix& matrix, const std::string& what) {
  const DLTensor& values = matrix.values;
  const std::int64_t block = matrix.pattern.block_size();
  const std::int64_t expected[3] = {matrix.pattern.nnz_blocks(), block, block};
  if (values.device.device_type != kDLCPU) fail(what + ": its values are not in host memory");
  if (values.ndim != 3 || values.shape == nullptr || !std::equal(expected, expected + 3, values.shape)) {
    fail(what + ": its values do not have the shape [nnz_blocks, block, block] = " + io::shape_text(expected));
  }
  if (values.strides != nullptr && values.shape[0] > 0 &&
      (values.strides[2] != 1 || values.strides[1] != block || values.strides[0] != block * block)) {
    fail(what + ": its values are not contiguous");
  }
  if (values.data == nullptr && values.shape[0] > 0) fail(what + ": its values are a null pointer");
}

const unsigned char* bytes_of(const DLTensor& tensor) {
  return static_cast<const unsigned char*>(tensor.data) + tensor.byte_offset;
}

}  // namespace

std::vector<std::string> block_sparse_names(const std::string& path) {
  const io::SafetensorsFile file(path);
  std::vector<std::string> names;
  for (const auto& entry : io::parse_block_sparse(file.header(), io::printable(path))) names.push_back(entry.name);
  return names;
}

BlockSparseMatrix load_block_sparse(const std::string& path, const std::string& name) {
  const io::SafetensorsFile file(path);
  const auto entries = io::parse_block_sparse(file.header(), io::printable(path));
  for (const auto& entry : entries) {
    if (entry.name != name) continue;
    BlockSparseMatrix matrix;
    matrix.name = name;
    matrix.pattern = io::read_pattern(file, entry);
    auto storage = std::make_shared<Storage>(entry.values->bytes());
    file.read(*entry.values, 0, storage->data, entry.values->bytes());
    std::copy(entry.values->shape.begin(), entry.values->shape.end(), storage->shape);
    matrix.values.data = storage->data;
    matrix.values.device = {kDLCPU, 0};
    matrix.values.ndim = 3;
    matrix.values.dtype = memory_dtype(entry.values->dtype);
    matrix.values.shape = storage->shape;
    matrix.storage = std::move(storage);
    return matrix;
  }
  std::string held;
  for (std::size_t i = 0; i < entries.size() && i < 3; ++i) held += (i ? ", " : "") + io::quote(entries[i].name);
  if (entries.size() > 3) held += " and " + std::to_string(entries.size() - 3) + " more";
  fail(io::printable(path) + " holds no block-sparse matrix " + io::quote(name) +
       (entries.empty() ? "; it holds none at all" : "; it holds " + held));
}

void save_block_sparse(const std::string& path, const std::vector<BlockSparseMatrix>& matrices) {
  std::vector<io::TensorInfo> tensors;
  std::map<std::string, io::BlockSparseShape> shapes;
  // Where each tensor's bytes are. Patterns on the host outlive the loop, for the arrays are theirs.
  std::map<std::string, const unsigned char*> data;
  std::vector<BlockPattern> patterns;
  for (const auto& matrix : matrices) {
    const std::string what = "matrix " + io::quote(matrix.name);
    if (matrix.pattern.rows() == 0 || matrix.pattern.cols() == 0) fail(what + " is empty");
    check_values(matrix, what);
    patterns.push_back(matrix.pattern.to({kDLCPU, 0}));
    const BlockPattern& pattern = patterns.back();
    const io::BlockSparseShape shape{pattern.rows(), pattern.cols(), pattern.block_size()};
    shapes[matrix.name] = shape;
    const auto parts =
        io::block_sparse_tensors(matrix.name, shape, file_dtype(matrix.values.dtype, what), pattern.nnz_blocks());
    tensors.insert(tensors.end(), parts.begin(), parts.end());
    data[matrix.name + io::kValuesSuffix] = bytes_of(matrix.values);
    data[matrix.name + io::kCrowSuffix] = bytes_of(pattern.crow_indices());
    data[matrix.name + io::kColSuffix] = bytes_of(pattern.col_indices());
  }
  io::SafetensorsWriter writer(path, std::move(tensors), io::block_sparse_metadata(shapes));
  for (const auto& tensor : writer.tensors()) writer.append(data.at(tensor.name), tensor.bytes());
  writer.commit();
}

}  // namespace triage
