// Which tensors of a model `triage scan` looks at, and how it reads them.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <regex>
#include <string>
#include <vector>

#include "io/block_sparse_layout.h"
#include "io/safetensors_model.h"
#include "triage/block_pattern.h"

namespace triage::verdict {

/// What the user asked to look at.
struct WeightFilter {
  std::optional<std::regex> include;  ///< names to look at; also overrides the guess that a tensor is an embedding
  std::optional<std::regex> exclude;
  std::int64_t min_size = 64;  ///< a matrix with fewer rows or columns is skipped
};

/// One weight matrix of a model, dense or block-sparse in its file. `linear` would multiply by its transpose: it has
/// `rows` outputs and `cols` inputs.
class WeightMatrix {
 public:
  WeightMatrix(const io::SafetensorsFile& file, const io::TensorInfo& dense);
  WeightMatrix(const io::SafetensorsFile& file, const io::BlockSparseEntry& entry);

  const std::string& name() const { return name_; }
  std::int64_t rows() const { return rows_; }
  std::int64_t cols() const { return cols_; }
  io::TensorDtype dtype() const;
  const io::SafetensorsFile& file() const { return *file_; }
  int stored_block() const { return entry_ ? entry_->shape.block : 0; }  ///< 0: stored dense
  std::uint64_t stored_bytes() const;
  /// What the matrix takes when stored dense.
  std::uint64_t dense_bytes() const;

  /// Rows [begin, begin + count) as float32, row-major.
  void read_rows(std::int64_t begin, std::int64_t count, float* out) const;
  /// Rows [begin, begin + count) in the dtype of the file, row-major.
  void read_raw_rows(std::int64_t begin, std::int64_t count, unsigned char* out) const;

 private:
  std::string name_;
  std::int64_t rows_ = 0, cols_ = 0;
  const io::SafetensorsFile* file_ = nullptr;
  const io::TensorInfo* dense_ = nullptr;
  std::optional<io::BlockSparseEntry> entry_;
  BlockPattern pattern_;  // of a block-sparse entry
};

/// A tensor that is not looked at, and why.
struct SkippedTensor {
  std::string name;
  std::string dtype;
  std::vector<std::int64_t> shape;
  std::string reason;
};

struct WeightSelection {
  std::vector<WeightMatrix> matrices;  ///< in natural order of names; points into the model
  std::vector<SkippedTensor> skipped;
};

/// Decides about every tensor of the model.
WeightSelection select_weights(const io::SafetensorsModel& model, const WeightFilter& filter);

/// Whether a tensor of this name is, by the usual names, a table that is looked up rather than multiplied by.
bool is_embedding_name(const std::string& name);

}  // namespace triage::verdict
