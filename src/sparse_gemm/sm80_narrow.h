// spmm and linear on few columns (tokens): the time is that of reading the values, so what counts is that every
// multiprocessor reads, not that the dense operand is shared.
//
// Tile map. A CTA owns kRows rows of one block row by 32 columns. Its warps take the row's blocks in turn, each piece
// kRows x kSlab, through a ring of their own in shared memory (no barriers but __syncwarp), and add their sums at the
// end in a fixed order. Needs no schedule: it reads the pattern.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "sparse_gemm/sm80_gemm_consumer.h"

namespace triage::sm80 {

/// Has the members of GemmConfig that load_sparse, load_dense and multiply use.
template <typename Element_, bool kLinear_, int kBlock_>
struct NarrowConfig {
  using Element = Element_;
  static constexpr bool kLinear = kLinear_;
  static constexpr int kBlock = kBlock_;
  static constexpr int kRows = kBlock < 32 ? kBlock : 32, kSlab = kBlock < 32 ? kBlock : 32;
  static constexpr int kColumns = 32;
  static constexpr int kWarps = 8, kSlots = 3;
  static constexpr int kTilesM = kRows / 16, kSteps = kSlab / 16, kTilesPerChunk = kColumns / 16;
  static constexpr int kStrips = kLinear ? kColumns / 16 : kTilesM;
  static constexpr int kStripTiles = kLinear ? kTilesM * 2 : kColumns / 8;

  static constexpr int kPanelRows = kLinear ? kColumns : kSlab, kPanelRowBytes = (kLinear ? kSlab : kColumns) * 2;
  using BlockLayout = TileLayout<kRows, kSlab * 2>;
  using PanelLayout = TileLayout<kPanelRows, kPanelRowBytes>;
  static constexpr int kSlotBytes = BlockLayout::kBytes + PanelLayout::kBytes;
  static constexpr int kSharedBytes = kWarps * kSlots * kSlotBytes;
  static_assert(kBlock % kRows == 0 && kBlock % kSlab == 0, "pieces divide the block");
  static_assert(kRows * kColumns * kWarps * 4 <= kSharedBytes, "the warps' sums fit where their rings were");
};

struct NarrowParams {
  const std::int32_t* crow;
  const std::int32_t* col;
  std::int32_t last_block_col, last_block_cols;  ///< see GemmParams
  MatrixSource dense, values;
  device::Epilogue epilogue;
};

template <typename Config>
__global__ void __launch_bounds__(Config::kWarps * 32) narrow_kernel(const __grid_constant__ NarrowParams p) {
  extern __shared__ __align__(256) unsigned char shared[];
  using Panel = TileCopy<Config::kPanelRows, Config::kPanelRowBytes>;
  using Block = TileCopy<Config::kRows, Config::kSlab * 2>;
  constexpr int kBlock = Config::kBlock, kSlabs = kBlock / Config::kSlab, kParts = kBlock / Config::kRows;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const std::int32_t block_row = blockIdx.x / kParts, part = blockIdx.x % kParts;
  const std::int64_t n0 = std::int64_t{blockIdx.y} * Config::kColumns;
  const std::int32_t begin = p.crow[block_row];
  const std::int64_t pieces = std::int64_t{p.crow[block_row + 1] - begin} * kSlabs;
  const std::uint32_t ring = ptx::shared_address(shared) + warp * (Config::kSlots * Config::kSlotBytes);

  const bool n_inside = n0 + Config::kColumns <= (Config::kLinear ? p.dense.rows : p.dense.cols);
  const bool plain = n_inside && p.dense.access == Access::chunks && p.values.access == Access::chunks;
  const auto column_of = [&](std::int64_t piece) { return piece < pieces ? p.col[begin + piece / kSlabs] : 0; };
  std::int32_t column = column_of(warp);  // of the next piece to copy: read ahead, so that its latency does not show
  const auto fill = [&](std::int64_t piece, int slot) {
    const std::int32_t next_column = column_of(piece + Config::kWarps);
    if (piece < pieces) {
      const std::int64_t block = begin + piece / kSlabs;
      const std::uint32_t target = ring + slot * Config::kSlotBytes,
                          panel_target = target + Config::BlockLayout::kBytes;
      const int row0 = part * Config::kRows, col0 = static_cast<int>(piece % kSlabs) * Config::kSlab;
      const std::int64_t k0 = std::int64_t{column} * kBlock + col0;
      const auto* values = static_cast<const std::uint16_t*>(p.values.data) + block * (kBlock * kBlock);
      if (plain && column != p.last_block_col) {
        const auto* dense = static_cast<const std::uint16_t*>(p.dense.data);
        Block::copy(target, values + row0 * kBlock + col0, kBlock, 0, lane);
        Panel::copy(panel_target, dense + (Config::kLinear ? n0 * p.dense.stride + k0 : k0 * p.dense.stride + n0),
                    p.dense.stride, 0, lane);
      } else {
        MatrixSource source = p.values;
        source.data = values;
        if (column == p.last_block_col) source.cols = p.last_block_cols;
        Block::copy_checked(target, source, row0, col0, 0, lane);
        Panel::copy_checked(panel_target, p.dense, Config::kLinear ? n0 : k0, Config::kLinear ? k0 : n0, 0, lane);
      }
    }
    column = next_column;
    ptx::cp_async_commit();
  };

  const std::uint32_t block_offset = sparse_offset<Config>(0, lane);
  const std::uint32_t panel_offset = Config::BlockLayout::kBytes + dense_offset<Config>(0, lane);
  float acc[Config::kStrips][Config::kStripTiles][4] = {};
#pragma unroll
  for (int i = 0; i < Config::kSlots - 1; i++) fill(warp + i * Config::kWarps, i);
  int slot = 0;
  for (std::int64_t piece = warp; piece < pieces; piece += Config::kWarps) {
    ptx::cp_async_wait_pending<Config::kSlots - 2>();
    __syncwarp();
    fill(piece + (Config::kSlots - 1) * Config::kWarps, (slot + Config::kSlots - 1) % Config::kSlots);
    const std::uint32_t base = ring + slot * Config::kSlotBytes;
#pragma unroll
    for (int step = 0; step < Config::kSteps; step++) {
      std::uint32_t sparse[Config::kTilesM][4], dense[Config::kTilesPerChunk][4];
#pragma unroll
      for (int m = 0; m < Config::kTilesM; m++) load_sparse<Config>(sparse[m], base + block_offset, step, m);
      load_dense<Config>(dense, base + panel_offset, step, 0);
#pragma unroll
      for (int m = 0; m < Config::kTilesM; m++) multiply<Config>(acc, sparse[m], dense, 0, m, 0);
    }
    slot = (slot + 1) % Config::kSlots;
  }
  ptx::cp_async_wait_pending<0>();

  // The warps' sums, each a row-major [kRows, kColumns] (linear: [kColumns, kRows]) array, one after the other.
  constexpr int kCols = Config::kStripTiles * 8, kElements = Config::kRows * Config::kColumns;
  auto* const sums = reinterpret_cast<float*>(shared);
  __syncthreads();
#pragma unroll
  for (int strip = 0; strip < Config::kStrips; strip++) {
    device::store_partial_strip(sums + warp * kElements + strip * 16 * kCols, kCols, acc[strip], lane);
  }
  __syncthreads();
  const std::int64_t m0 = std::int64_t{block_row} * kBlock + part * Config::kRows;
  constexpr auto kFinish = Config::kLinear ? device::Finish::bias_activation : device::Finish::scale;
  for (int i = threadIdx.x; i < kElements; i += Config::kWarps * 32) {
    const std::int64_t row = (Config::kLinear ? n0 : m0) + i / kCols, col = (Config::kLinear ? m0 : n0) + i % kCols;
    if (row >= p.epilogue.rows || col >= p.epilogue.cols) continue;
    float sum = 0.0f;
#pragma unroll
    for (int w = 0; w < Config::kWarps; w++) sum += sums[w * kElements + i];
    device::store_element<typename Config::Element, kFinish>(p.epilogue, row, col, sum);
  }
}

}  // namespace triage::sm80
