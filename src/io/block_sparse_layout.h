// How a block-sparse matrix lies in a safetensors file (docs/scan.md): for a matrix called `name`
//   name.values        [nnz_blocks, block, block], F64, F32, F16 or BF16
//   name.crow_indices  I32 [ceil(rows / block) + 1]
//   name.col_indices   I32 [nnz_blocks]
// and in the file's metadata `format`, `version` and `block_sparse`: {"name": {"shape": [rows, cols], "block": 32}}.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "io/safetensors.h"
#include "triage/block_pattern.h"

namespace triage::io {

inline constexpr const char* kValuesSuffix = ".values";
inline constexpr const char* kCrowSuffix = ".crow_indices";
inline constexpr const char* kColSuffix = ".col_indices";

/// What the metadata says about one matrix.
struct BlockSparseShape {
  std::int64_t rows = 0, cols = 0;
  int block = 0;
};

/// One matrix of a file: its shape and where its arrays are. Checked against each other, except for the indices'
/// content, which BlockPattern checks.
struct BlockSparseEntry {
  std::string name;
  BlockSparseShape shape;
  const TensorInfo* values = nullptr;
  const TensorInfo* crow = nullptr;
  const TensorInfo* col = nullptr;
  std::int64_t nnz_blocks() const { return col->shape[0]; }
};

/// The matrices of a file, by name; empty if its metadata does not name this format. Points into `header`.
std::vector<BlockSparseEntry> parse_block_sparse(const SafetensorsHeader& header, const std::string& path);

/// Metadata for a file with these matrices.
std::map<std::string, std::string> block_sparse_metadata(const std::map<std::string, BlockSparseShape>& matrices);

/// The three tensors that hold a matrix, for SafetensorsWriter.
std::vector<TensorInfo> block_sparse_tensors(const std::string& name, const BlockSparseShape& shape, TensorDtype dtype,
                                             std::int64_t nnz_blocks);

/// Reads the index arrays of an entry and validates them.
BlockPattern read_pattern(const SafetensorsFile& file, const BlockSparseEntry& entry);

}  // namespace triage::io
