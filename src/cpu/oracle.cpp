#include "cpu/oracle.h"

#include <algorithm>

#include "cpu/kernels.h"

namespace triage {

std::int64_t OracleTile::output_offset(const SparseGemmCall& call, int r, int c) const {
  const std::int64_t block_size = call.pattern.block;
  const std::int64_t row = block_row * block_size + r;
  switch (call.problem.operation) {
    case Operation::spmm: return row * call.out.stride + column + c;
    case Operation::linear: return (column + c) * call.out.stride + row;
    case Operation::sddmm: return (block * block_size + r) * block_size + column + c;
  }
  return 0;
}

Oracle::Oracle(const SparseGemmCall& call) : call_(call) {
  const bool sddmm = call.problem.operation == Operation::sddmm;
  const std::int64_t columns = sddmm ? call.pattern.block : call.problem.dense;
  row_tiles_ = sddmm ? call.pattern.nnz_blocks : call.pattern.block_rows;
  column_tiles_ = (columns + kOracleColumns - 1) / kOracleColumns;
}

OracleTile Oracle::tile(std::int64_t index) const {
  const PatternView& pattern = call_.pattern;
  OracleTile tile;
  tile.column = index % column_tiles_ * kOracleColumns;
  std::int64_t columns = call_.problem.dense - tile.column;
  if (call_.problem.operation == Operation::sddmm) {
    tile.block = index / column_tiles_;
    tile.block_row = static_cast<std::int32_t>(
        std::upper_bound(pattern.crow, pattern.crow + pattern.block_rows + 1, tile.block) - pattern.crow - 1);
    const std::int64_t column = static_cast<std::int64_t>(pattern.col[tile.block]) * pattern.block + tile.column;
    columns = std::min<std::int64_t>(pattern.cols - column, pattern.block - tile.column);
  } else {
    tile.block_row = static_cast<std::int32_t>(index / column_tiles_);
  }
  const std::int64_t rows = pattern.rows - static_cast<std::int64_t>(tile.block_row) * pattern.block;
  tile.rows = static_cast<int>(std::min<std::int64_t>(rows, pattern.block));
  tile.columns = static_cast<int>(std::clamp<std::int64_t>(columns, 0, kOracleColumns));
  return tile;
}

void Oracle::compute(const OracleTile& tile, double* exact, double* plain, OracleNoise* noise) const {
  *noise = {};
  if (tile.rows <= 0 || tile.columns <= 0) return;
  cpu::runnable_kernels().front().oracle_tile(call_, tile, exact, plain, noise);
}

}  // namespace triage
