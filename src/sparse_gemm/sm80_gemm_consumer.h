// The consumer warps of sm80_gemm.h: what they multiply, and what becomes of the sums.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "device/epilogue.h"
#include "device/schedule.h"
#include "ptx/lane.h"
#include "ptx/ldmatrix.h"
#include "ptx/mbarrier.h"
#include "ptx/mma.h"
#include "ptx/shared_memory.h"
#include "sparse_gemm/sm80_gemm_config.h"

namespace triage::sm80 {

/// What a warp multiplies with.
template <typename Config>
struct Fragments {
  std::uint32_t sparse[Config::kSparseBuffers][Config::kTilesM][4];
  std::uint32_t dense[2][Config::kTilesPerChunk][4];
};

/// Which 16-byte chunk of a 16x16 tile a lane names to ldmatrix (not transposed): row and chunk. mma wants the four 8x8
/// tiles of operand A column by column, and those of two operands B row by row: each B then lies in two neighbouring
/// registers, as the instruction demands. Any other order costs a move a register.
struct LaneChunk {
  int row, chunk;
};
__device__ __forceinline__ LaneChunk lane_chunk_a(int lane) { return {lane % 16, lane / 16}; }
__device__ __forceinline__ LaneChunk lane_chunk_b(int lane) { return {lane % 8 + lane / 16 * 8, lane / 8 % 2}; }

/// A lane's offset into a block whose first 16x16 tile of interest begins at `row0`. The sparse operand is A in spmm, B
/// in linear.
template <typename Config>
__device__ __forceinline__ std::uint32_t sparse_offset(int row0, int lane) {
  const LaneChunk at = Config::kLinear ? lane_chunk_b(lane) : lane_chunk_a(lane);
  return Config::BlockLayout::offset(row0 + at.row, at.chunk);
}

/// A lane's offset into a panel from the warp's first column (token) `n0` on. spmm's B is transposed while it is
/// loaded, which swaps rows and columns of the 8x8 tiles' order too.
template <typename Config>
__device__ __forceinline__ std::uint32_t dense_offset(int n0, int lane) {
  const LaneChunk at = lane_chunk_a(lane);
  return Config::kLinear ? Config::PanelLayout::offset(n0 + at.row, at.chunk)
                         : Config::PanelLayout::offset(at.row, n0 / 8 + at.chunk);
}

template <typename Config>
__device__ __forceinline__ void load_sparse(std::uint32_t (&sparse)[4], std::uint32_t block, int step, int tile) {
  ptx::ldmatrix_x4<false>(sparse, Config::BlockLayout::advance(block, step, tile * 16));
}

template <typename Config>
__device__ __forceinline__ void load_dense(std::uint32_t (&dense)[Config::kTilesPerChunk][4], std::uint32_t panel,
                                           int step, int chunk) {
#pragma unroll
  for (int i = 0; i < Config::kTilesPerChunk; i++) {
    const int tile = chunk * Config::kTilesPerChunk + i;
    const int pairs = Config::kLinear ? step : tile, rows = (Config::kLinear ? tile : step) * 16;
    ptx::ldmatrix_x4<!Config::kLinear>(dense[i], Config::PanelLayout::advance(panel, pairs, rows));
  }
}

/// Multiplies one 16x16 tile of the sparse block (`row`, `m`: which) with a chunk of the warp's columns.
template <typename Config>
__device__ __forceinline__ void multiply(float (&acc)[Config::kStrips][Config::kStripTiles][4],
                                         const std::uint32_t (&s)[4],
                                         const std::uint32_t (&dense)[Config::kTilesPerChunk][4], int row, int m,
                                         int chunk) {
  using Element = typename Config::Element;
  const int sparse_tile = row * Config::kTilesM + m;
#pragma unroll
  for (int i = 0; i < Config::kTilesPerChunk; i++) {
    const int tile = chunk * Config::kTilesPerChunk + i;
    const std::uint32_t(&d)[4] = dense[i];
    if constexpr (Config::kLinear) {
      ptx::mma_m16n8k16<Element>(acc[tile][sparse_tile * 2], d[0], d[1], d[2], d[3], s[0], s[1]);
      ptx::mma_m16n8k16<Element>(acc[tile][sparse_tile * 2 + 1], d[0], d[1], d[2], d[3], s[2], s[3]);
    } else {
      ptx::mma_m16n8k16<Element>(acc[sparse_tile][tile * 2], s[0], s[1], s[2], s[3], d[0], d[1]);
      ptx::mma_m16n8k16<Element>(acc[sparse_tile][tile * 2 + 1], s[0], s[1], s[2], s[3], d[2], d[3]);
    }
  }
}

/// Multiplies the warp's blocks of one slot. `bits` has 16 bits for each of the warp's block rows: bit c set, a block
/// in column c of the stage. The blocks lie one after the other from `block` on, in the order of the bits.
template <typename Config, typename Bits>
__device__ __forceinline__ void multiply_slot(float (&acc)[Config::kStrips][Config::kStripTiles][4], Bits bits,
                                              std::uint32_t block, std::uint32_t panels) {
  if (bits == 0) return;
  // A block is multiplied unit by unit; within a unit all is unrolled. Step kUnitSteps is the next unit's first.
  constexpr int kUnitSteps = Config::kSteps < 2 ? 1 : 2, kUnits = Config::kSteps / kUnitSteps;
  constexpr int kChunks = Config::kChunks, kBuffers = Config::kSparseBuffers;
  const auto panel_of_next = [&] {
    const int column = (sizeof(Bits) == 8 ? __ffsll(bits) : __ffs(static_cast<std::uint32_t>(bits))) - 1 & 15;
    return panels + column * Config::PanelLayout::kBytes;
  };
  Fragments<Config> f;
  std::uint32_t first_block = block, first_panel = panel_of_next(),
                panel = first_panel;  // of the block being multiplied
  [[maybe_unused]] int unit = 0;
#pragma unroll
  for (int m = 0; m < Config::kTilesM; m++) load_sparse<Config>(f.sparse[0][m], block, 0, m);
  load_dense<Config>(f.dense[0], panel, 0, 0);
#pragma unroll
  for (int row = 0; row < Config::kRowsPerWarp; row++) {
#pragma unroll 1
    while ((bits & Bits{0xffff} << 16 * row) != 0) {
      if constexpr (kUnits == 1) bits &= bits - 1;
#pragma unroll
      for (int step = 0; step < kUnitSteps; step++) {
        const int buffer = step % kBuffers, next_buffer = (step + 1) % kBuffers, next_step = (step + 1) % kUnitSteps;
#pragma unroll
        for (int chunk = 0; chunk < kChunks; chunk++) {
          const bool last = chunk == kChunks - 1;
          if (last && next_step == 0) {   // on to the next unit; after the last one, it is read again in vain
            if constexpr (kUnits == 1) {  // without a branch, which the loads would have to wait for
              block += bits != 0 ? Config::BlockLayout::kBytes : 0;
              panel = bits != 0 ? panel_of_next() : panel;
            } else {
              if (++unit == kUnits) {
                unit = 0;
                bits &= bits - 1;
                if (bits != 0) {
                  first_block += Config::BlockLayout::kBytes;
                  first_panel = panel_of_next();
                }
              }
              block = Config::BlockLayout::advance(first_block, unit * kUnitSteps, 0);
              panel = Config::kLinear ? Config::PanelLayout::advance(first_panel, unit * kUnitSteps, 0)
                                      : first_panel + unit * (kUnitSteps * 16 * Config::kPanelRowBytes);
            }
          }
          if (kBuffers == 2 && last) {
#pragma unroll
            for (int m = 0; m < Config::kTilesM; m++)
              load_sparse<Config>(f.sparse[next_buffer][m], block, next_step, m);
          }
          load_dense<Config>(f.dense[(chunk + 1) % 2], panel, last ? next_step : step, (chunk + 1) % kChunks);
          __syncwarp();  // costs nothing, and keeps ptxas from moving the loads down to where they are used
#pragma unroll
          for (int m = 0; m < Config::kTilesM; m++) {
            multiply<Config>(acc, f.sparse[buffer][m], f.dense[chunk % 2], row, m, chunk);
            if (kBuffers == 1 && last) load_sparse<Config>(f.sparse[0][m], block, next_step, m);
          }
        }
      }
      if constexpr (kUnitSteps % 2 == 1 && kBuffers == 2) {
#pragma unroll
        for (int i = 0; i < Config::kTilesM * 4; i++) f.sparse[0][i / 4][i % 4] = f.sparse[1][i / 4][i % 4];
      }
    }
  }
}

/// Writes a warp's accumulators: finished into the output, or as they are into the split item's slot of the workspace,
/// which holds the group's strip of the output as fp32, row-major: [kTileM, padded N] for spmm, [padded N, kTileM] for
/// linear.
template <typename Config>
__device__ __forceinline__ void store_accumulators(const GemmParams& p, std::int32_t group, std::int32_t split_slot,
                                                   std::int32_t n_tile,
                                                   const float (&acc)[Config::kStrips][Config::kStripTiles][4],
                                                   int warp_row, int warp_col, int lane) {
  const std::int64_t n0 = static_cast<std::int64_t>(n_tile) * Config::kTileN + warp_col * Config::kWarpN;
  const std::int64_t m0 = warp_row * Config::kWarpM;
  if (split_slot < 0) {
    constexpr auto kFinish = Config::kLinear ? device::Finish::bias_activation : device::Finish::scale;
    const std::int64_t out_m0 = m0 + static_cast<std::int64_t>(group) * Config::kTileM;
    const std::int64_t row0 = Config::kLinear ? n0 : out_m0, col0 = Config::kLinear ? out_m0 : n0;
#pragma unroll
    for (int strip = 0; strip < Config::kStrips; strip++) {
      device::store_strip<typename Config::Element, kFinish>(p.epilogue, row0 + strip * 16, col0, acc[strip], lane);
    }
  } else {
    const std::int64_t padded_n = static_cast<std::int64_t>(p.n_tiles) * Config::kTileN;
    const std::int64_t stride = Config::kLinear ? Config::kTileM : padded_n;
    float* corner = p.partials + split_slot * (Config::kTileM * padded_n);
    corner += Config::kLinear ? n0 * stride + m0 : m0 * stride + n0;
#pragma unroll
    for (int strip = 0; strip < Config::kStrips; strip++) {
      device::store_partial_strip(corner + strip * 16 * stride, stride, acc[strip], lane);
    }
  }
}

template <typename Config>
__device__ __forceinline__ void consume(const GemmParams& p, std::uint32_t ring, int warp) {
  using Bits = std::conditional_t<(Config::kRowsPerWarp > 2), std::uint64_t, std::uint32_t>;
  const int warp_row = warp / Config::kWarpCols, warp_col = warp % Config::kWarpCols;
  const int first_row = warp_row / Config::kWarpsPerBlock * Config::kRowsPerWarp,
            part = first_row / Config::kRowsPerPart;
  std::uint32_t slot = ring, parity = 0;
  const auto release = [&] {
    __syncwarp();
    if (ptx::lane_id() == 0) ptx::mbarrier_arrive(slot + p.tail_offset + kEmpty);
    slot += p.slot_bytes;
    if (slot == ring + p.slots * p.slot_bytes) {
      slot = ring;
      parity ^= 1;
    }
  };
  for (;;) {
    float acc[Config::kStrips][Config::kStripTiles][4] = {};
    After after;
    for (;;) {
      const std::uint32_t tail = slot + p.tail_offset;
      ptx::mbarrier_wait(tail + kFull, parity);
      const auto row_mask = [&](int row) {
        return ptx::load_shared_u16(tail + kNews + offsetof(StageRecord, row_mask) + row * 2);
      };
      int block = ptx::load_shared_u8(tail + kNews + offsetof(StageRecord, part_offset) + part);
      Bits bits = 0;
#pragma unroll
      for (int r = 0; r < Config::kRowsPerWarp; r++) bits |= Bits{row_mask(first_row + r)} << 16 * r;
#pragma unroll
      for (int r = Config::kRowsPerWarp; r < Config::kRowsPerPart; r++) {  // the part's rows before this warp's
        if (first_row - r >= part * Config::kRowsPerPart) block += __popc(row_mask(first_row - r));
      }
      const int lane = ptx::lane_id();  // anew, so that the offsets take no registers during the multiplications
      const std::uint32_t block_offset = sparse_offset<Config>(warp_row % Config::kWarpsPerBlock * 64, lane);
      const std::uint32_t panel_offset = dense_offset<Config>(warp_col * Config::kWarpN, lane);
      multiply_slot<Config>(acc, bits, slot + p.blocks_offset + block * Config::BlockLayout::kBytes + block_offset,
                            slot + panel_offset);
      after = static_cast<After>(ptx::load_shared_u32(slot + p.tail_offset + kNews + offsetof(SlotNews, after)));
      if (after != After::multiply) break;
      release();
    }
    if (after == After::stop) return;
    const std::uint32_t news = slot + p.tail_offset + kNews;
    const auto group = static_cast<std::int32_t>(ptx::load_shared_u32(news + offsetof(SlotNews, group)));
    const auto split_slot = static_cast<std::int32_t>(ptx::load_shared_u32(news + offsetof(SlotNews, split_slot)));
    const auto n_tile = static_cast<std::int32_t>(ptx::load_shared_u32(news + offsetof(SlotNews, n_tile)));
    release();
    store_accumulators<Config>(p, group, split_slot, n_tile, acc, warp_row, warp_col, ptx::lane_id());
  }
}

}  // namespace triage::sm80
