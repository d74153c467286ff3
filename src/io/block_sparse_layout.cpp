#include "io/block_sparse_layout.h"

#include <limits>

#include "io/json.h"
#include "io/text.h"
#include "triage/error.h"

namespace triage::io {
namespace {

using nlohmann::json;

constexpr const char* kFormat = "triage.block_sparse";
constexpr const char* kVersion = "1";
// More elements than this are refused: no weight comes near, and a lying file could ask for any amount of memory.
constexpr std::int64_t kMaxElements = std::int64_t{1} << 40;

[[noreturn]] void fail(const std::string& sentence) { throw Error(ErrorCode::invalid_argument, sentence); }

std::int64_t size_value(const json& value, const std::string& what) {
  constexpr std::uint64_t kMaxSize = std::numeric_limits<std::int32_t>::max();
  if (!value.is_number_unsigned() || value.get<std::uint64_t>() < 1 || value.get<std::uint64_t>() > kMaxSize) {
    fail(what + " is not a whole number from 1 to " + std::to_string(kMaxSize));
  }
  return value.get<std::int64_t>();
}

BlockSparseShape parse_shape(const json& entry, const std::string& what) {
  if (!entry.is_object() || !entry.contains("shape") || !entry.contains("block")) {
    fail(what + ": the metadata does not give its shape and block");
  }
  const json& sizes = entry["shape"];
  if (!sizes.is_array() || sizes.size() != 2) fail(what + ": its shape in the metadata is not an array of two sizes");
  BlockSparseShape shape;
  shape.rows = size_value(sizes[0], what + ": its number of rows in the metadata");
  shape.cols = size_value(sizes[1], what + ": its number of columns in the metadata");
  const std::int64_t block = size_value(entry["block"], what + ": its block size in the metadata");
  if (block != 16 && block != 32 && block != 64 && block != 128) {
    fail(what + ": its block size is " + std::to_string(block) + " (accepted: 16, 32, 64, 128)");
  }
  shape.block = static_cast<int>(block);
  if (shape.rows > kMaxElements / shape.cols) {
    fail(what + " has " + std::to_string(shape.rows) + " x " + std::to_string(shape.cols) +
         " elements (accepted: at most 2^40)");
  }
  return shape;
}

const TensorInfo* require_tensor(const SafetensorsHeader& header, const std::string& name, const std::string& what) {
  const TensorInfo* tensor = header.find(name);
  if (tensor == nullptr) fail(what + ": the metadata names it, but the file holds no tensor " + quote(name));
  return tensor;
}

void require_shape(const TensorInfo& tensor, const std::vector<std::int64_t>& shape, const std::string& what) {
  if (tensor.shape != shape) {
    fail(what + ": tensor " + quote(tensor.name) + " has the shape " + shape_text(tensor.shape) + " instead of " +
         shape_text(shape));
  }
}

}  // namespace

std::vector<BlockSparseEntry> parse_block_sparse(const SafetensorsHeader& header, const std::string& path) {
  const auto format = header.metadata.find("format");
  if (format == header.metadata.end() || format->second != kFormat) return {};
  const auto version = header.metadata.find("version");
  if (version == header.metadata.end() || version->second != kVersion) {
    fail(path + " is written in version " + quote(version == header.metadata.end() ? "" : version->second, 20) +
         " of its format (accepted: '" + kVersion + "')");
  }
  const auto listed = header.metadata.find("block_sparse");
  if (listed == header.metadata.end()) fail(path + ": its metadata has no entry 'block_sparse'");

  std::vector<BlockSparseEntry> entries;
  const json matrices = parse_json_object(listed->second, path + ": the metadata entry 'block_sparse'");
  for (const auto& [name, description] : matrices.items()) {
    const std::string what = path + ": matrix " + quote(name);
    BlockSparseEntry entry;
    entry.name = name;
    entry.shape = parse_shape(description, what);
    entry.values = require_tensor(header, name + kValuesSuffix, what);
    entry.crow = require_tensor(header, name + kCrowSuffix, what);
    entry.col = require_tensor(header, name + kColSuffix, what);
    if (!is_weight_dtype(entry.values->dtype)) {
      fail(what + ": its values are " + dtype_name(entry.values->dtype) + " (accepted: F64, F32, F16, BF16)");
    }
    for (const TensorInfo* indices : {entry.crow, entry.col}) {
      if (indices->dtype != TensorDtype::i32) {
        fail(what + ": tensor " + quote(indices->name) + " is " + dtype_name(indices->dtype) + " (accepted: I32)");
      }
    }
    const std::int64_t block = entry.shape.block;
    if (entry.col->shape.size() != 1) fail(what + ": tensor " + quote(entry.col->name) + " is not one-dimensional");
    require_shape(*entry.crow, {(entry.shape.rows + block - 1) / block + 1}, what);
    require_shape(*entry.values, {entry.nnz_blocks(), block, block}, what);
    entries.push_back(entry);
  }
  return entries;
}

std::map<std::string, std::string> block_sparse_metadata(const std::map<std::string, BlockSparseShape>& matrices) {
  json listed = json::object();
  for (const auto& [name, shape] : matrices) {
    listed[name] = {{"shape", {shape.rows, shape.cols}}, {"block", shape.block}};
  }
  std::string text;
  try {
    text = listed.dump();
  } catch (const json::exception&) {
    fail("the name of a matrix is not valid UTF-8");
  }
  return {{"format", kFormat}, {"version", kVersion}, {"block_sparse", text}};
}

std::vector<TensorInfo> block_sparse_tensors(const std::string& name, const BlockSparseShape& shape, TensorDtype dtype,
                                             std::int64_t nnz_blocks) {
  const std::int64_t block = shape.block;
  return {{name + kValuesSuffix, dtype, {nnz_blocks, block, block}},
          {name + kCrowSuffix, TensorDtype::i32, {(shape.rows + block - 1) / block + 1}},
          {name + kColSuffix, TensorDtype::i32, {nnz_blocks}}};
}

BlockPattern read_pattern(const SafetensorsFile& file, const BlockSparseEntry& entry) {
  std::vector<unsigned char> crow = file.read_all(*entry.crow), col = file.read_all(*entry.col);
  const auto view = [](std::vector<unsigned char>& bytes, const TensorInfo& info) {
    DLTensor tensor{};
    tensor.data = bytes.data();
    tensor.device = {kDLCPU, 0};
    tensor.ndim = 1;
    tensor.dtype = {kDLInt, 32, 1};
    tensor.shape = const_cast<std::int64_t*>(info.shape.data());
    return tensor;
  };
  try {
    return BlockPattern::from_bsr(view(crow, *entry.crow), view(col, *entry.col), entry.shape.rows, entry.shape.cols,
                                  entry.shape.block);
  } catch (const Error& error) {
    throw Error(error.code(), printable(file.path()) + ": matrix " + quote(entry.name) + ": " + error.what());
  }
}

}  // namespace triage::io
