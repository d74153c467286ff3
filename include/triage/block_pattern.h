// BlockPattern: which blocks of a block-sparse matrix exist.
#pragma once

#include <memory>

#include "triage/types.h"

namespace triage {

namespace detail {
struct PatternData;
}

/// Which blocks of a `rows` x `cols` matrix exist, in BSR form: row i holds the block columns
/// `col_indices[crow_indices[i] .. crow_indices[i+1])`, ascending and unique, int32 (torch's names; SciPy calls
/// them `indptr` and `indices`). The same type is the structure of a sparse operand and the mask of attention.
///
/// Besides the two index arrays a pattern owns its transposed twin and the tile schedules of every kernel that
/// can run on its device, all built where the arrays live (on the GPU for CUDA arrays) when the pattern is made,
/// so that a launch neither allocates nor synchronises. Making a pattern does both: make it once, outside of a
/// CUDA graph, and call `update` inside one.
///
/// Sizes that are no multiple of the block are allowed: the last block row or column is then ragged, its `values`
/// still hold whole blocks, and whatever stands in their padding is ignored.
///
/// Copies are cheap and share the same immutable data (`update` excepted: it changes all copies). Different threads may
/// use one pattern at the same time, `update` excepted. Destroying the last copy of a CUDA pattern waits for the
/// device.
class BlockPattern {
 public:
  BlockPattern();  ///< An empty 0 x 0 pattern.
  ~BlockPattern();
  BlockPattern(const BlockPattern&);
  BlockPattern(BlockPattern&&) noexcept;
  BlockPattern& operator=(const BlockPattern&);
  BlockPattern& operator=(BlockPattern&&) noexcept;

  /// From BSR index arrays as torch and SciPy hold them. The arrays are copied.
  /// @param crow_indices int32 or int64 [ceil(rows/block) + 1], host or CUDA memory; starts at 0, never falls,
  ///   ends at nnz_blocks.
  /// @param col_indices int32 or int64 [nnz_blocks], same device; ascending and unique within a row, in
  ///   [0, ceil(cols/block)).
  /// @param block_size 16, 32, 64 or 128.
  /// @throws Error(invalid_argument) naming the first offending row and entry.
  static BlockPattern from_bsr(const DLTensor& crow_indices, const DLTensor& col_indices, std::int64_t rows,
                               std::int64_t cols, int block_size, Stream stream = nullptr);

  /// From a mask of blocks: bool or uint8 [ceil(rows/block), ceil(cols/block)], nonzero where a block exists.
  static BlockPattern from_mask(const DLTensor& mask, std::int64_t rows, std::int64_t cols, int block_size,
                                Stream stream = nullptr);

  /// From a dense matrix [rows, cols] (float64, float32, float16 or bfloat16; inner stride 1): blocks that are all
  /// zero drop out. NaN counts as nonzero. Gather the values with `gather_blocks`.
  static BlockPattern from_dense(const DLTensor& matrix, int block_size, Stream stream = nullptr);

  std::int64_t rows() const;
  std::int64_t cols() const;
  int block_size() const;
  std::int64_t block_rows() const;  ///< ceil(rows / block_size)
  std::int64_t block_cols() const;  ///< ceil(cols / block_size)
  std::int64_t nnz_blocks() const;
  double density() const;  ///< nnz_blocks / (block_rows * block_cols); 0 for an empty matrix
  DLDevice device() const;

  /// Views of the arrays that the pattern owns: int32 [block_rows + 1] and int32 [nnz_blocks].
  DLTensor crow_indices() const;
  DLTensor col_indices() const;

  /// The pattern of the transposed matrix, built with this one; shares its data, and its own twin is this one.
  BlockPattern transposed() const;
  /// int32 [nnz_blocks]: entry i is the position in *this* pattern's `values` of block i of the transposed twin.
  DLTensor transposed_positions() const;

  /// The same pattern on another device (host: {kDLCPU, 0}). `stream` belongs to the pattern's CUDA device, or to the
  /// new one for a host pattern.
  BlockPattern to(DLDevice device, Stream stream = nullptr) const;

  /// Replaces the indices by others of the same shape and the same nnz_blocks, and rebuilds the twin and the
  /// schedules. On CUDA it is asynchronous on `stream`, allocates nothing and can be captured in a CUDA graph; the
  /// indices are not validated there: the caller vouches for them. On the host they are validated as by `from_bsr`.
  /// Long rows are split no further than room was made for when the pattern was created: start from a pattern that is
  /// typical. Values packed before (`prepack`) are packed for the old indices.
  void update(const DLTensor& crow_indices, const DLTensor& col_indices, Stream stream = nullptr);

  /// For the library's own use.
  const std::shared_ptr<detail::PatternData>& data() const { return data_; }

 private:
  std::shared_ptr<detail::PatternData> data_;
};

/// Copies the pattern's blocks out of a dense [rows, cols] matrix into `values` [nnz_blocks, block, block] of the same
/// dtype and device; padding of ragged blocks becomes 0.
void gather_blocks(const BlockPattern& pattern, const DLTensor& matrix, const DLTensor& values,
                   Stream stream = nullptr);

/// Writes `values` into a dense [rows, cols] matrix, zero elsewhere.
void scatter_blocks(const BlockPattern& pattern, const DLTensor& values, const DLTensor& matrix,
                    Stream stream = nullptr);

}  // namespace triage
