// Block-sparse matrices in files: what `triage scan --prune-to ... --out FILE` writes. The layout is a safetensors file
// described in docs/scan.md, so that other programs can read it as well. These functions live in the library
// `triage::io` (CMake target `triage::io`), apart from the kernels.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "triage/block_pattern.h"
#include "triage/types.h"

namespace triage {

/// A named block-sparse matrix in host memory.
struct BlockSparseMatrix {
  std::string name;
  BlockPattern pattern;
  DLTensor values{};              ///< [nnz_blocks, block, block]; float64, float32, float16 or bfloat16
  std::shared_ptr<void> storage;  ///< owns what `values` points to, where `load_block_sparse` made it
};

/// Names of the block-sparse matrices in the file, ascending; empty for a safetensors file without any.
/// @throws Error(invalid_argument) for a file that is missing, truncated or malformed.
std::vector<std::string> block_sparse_names(const std::string& path);

/// Reads one matrix, validated, into host memory that is aligned to 256 bytes.
/// @throws Error(invalid_argument) for a bad file or a name that it does not hold.
BlockSparseMatrix load_block_sparse(const std::string& path, const std::string& name);

/// Writes matrices to a new file, or over an old one; the file appears complete or not at all.
/// @param matrices with unique names; `values` in host memory and contiguous. `storage` may be empty.
/// @throws Error(invalid_argument) for a malformed matrix or if the file cannot be written (a full disk, say).
void save_block_sparse(const std::string& path, const std::vector<BlockSparseMatrix>& matrices);

}  // namespace triage
