// spmm and linear on the sm80 family: C = A_bsr * B and Y = act(X * W_bsr^T + bias) through cp.async, ldmatrix, mma.sync.
//
// Tile map. A CTA owns a tile of kRowsPerGroup block rows of the sparse matrix by kTileN columns of B (tokens of X). The
// union of its rows' block columns is walked stage by stage as schedule.h lays it out: each panel of the dense operand is
// read from global memory once for all rows of the group that have a block in its column. Tiles are taken in panels of
// `panel_tiles` neighbouring N tiles, which keeps that much of B in L2, and inside a panel longest first.
//
// Pipeline. A ring of `slots` in shared memory; a slot holds `columns_per_stage` panels, `blocks_per_stage` blocks and the
// stage's record, all cut to kSlab of the block's inner dimension. Sizes are run-time values: one instantiation serves
// devices of 99 KB and of 227 KB.
//
// Warps
//   consumers 0 .. kConsumers-1   warp (wr, wc) owns kRowsPerWarp block rows (half a row at block 128) by kWarpN columns
//   producers, kProducers of them walk the schedule ahead and copy
// Barriers (per slot)
//   full    arrivals 32 * kProducers + 1: each producer lane, when its copies have landed, and the record; consumers wait
//   empty   arrivals kConsumers: each consumer warp, when it has read the slot; producers wait
//
// Roles of mma.sync (D[16,8] += A[16,16] * B[16,8]): spmm puts the sparse block on the A side, linear the tokens, so that D
// lies like the output in both, and neither transposes anything.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "device/epilogue.h"
#include "device/schedule.h"
#include "ptx/cp_async.h"
#include "ptx/ldmatrix.h"
#include "ptx/mbarrier.h"
#include "ptx/mma.h"
#include "ptx/named_barrier.h"
#include "ptx/shared_memory.h"
#include "sparse_gemm/sm80_copy.h"

namespace triage::sm80 {

inline constexpr int kMaxSlots = 16;

/// Shape of a kernel. Block rows per warp, warp columns and the warp grid are the tuning parameters (sm80_gemm_launch.h).
template <typename Element_, bool kLinear_, int kBlock_, int kSlab_, int kRowsPerWarp_, int kWarpN_, int kWarpRows_,
          int kWarpCols_, int kTilesPerChunk_, int kSparseBuffers_, int kMaxBlocks_>
struct GemmConfig {
  using Element = Element_;
  static constexpr bool kLinear = kLinear_;
  static constexpr int kBlock = kBlock_;
  static constexpr int kSlab = kSlab_;  ///< inner dimension of a block that one slot holds
  static constexpr int kWarpN = kWarpN_;
  static constexpr int kWarpRows = kWarpRows_, kWarpCols = kWarpCols_;
  static constexpr int kConsumers = kWarpRows * kWarpCols;
  static constexpr int kProducers = 4;           ///< one per sub-core; that is also how many leave 168 registers a thread
  static constexpr int kMaxBlocks = kMaxBlocks_;  ///< of a stage
  static constexpr int kThreads = 32 * (kConsumers + kProducers);

  static constexpr int kWarpsPerBlock = kBlock > 64 ? kBlock / 64 : 1;  ///< warps that share a block row
  static constexpr int kRowsPerWarp = kRowsPerWarp_;                    ///< block rows that a warp owns (or shares)
  static constexpr int kRowsPerGroup = kWarpRows * kRowsPerWarp / kWarpsPerBlock;
  static constexpr int kRowWarps = kRowsPerGroup / kRowsPerWarp;  ///< warp rows that own different block rows
  static constexpr int kParts = kRowWarps <= kMaxParts ? kRowWarps : kRowWarps / 2;
  static constexpr int kRowsPerPart = kRowsPerGroup / kParts;
  static constexpr int kTilesM = (kBlock < 64 ? kBlock : 64) / 16;  ///< 16-row tiles of a block that a warp multiplies
  static constexpr int kWarpM = kRowsPerWarp * kTilesM * 16;
  static constexpr int kTileM = kRowsPerGroup * kBlock, kTileN = kWarpCols * kWarpN;
  static constexpr int kSteps = kSlab / 16;
  static constexpr int kSlabsPerBlock = kBlock / kSlab;

  // The dense fragments of a step are loaded in chunks, one ahead of the chunk that is being multiplied; the sparse ones one
  // step ahead if there are two buffers.
  static constexpr int kTilesPerChunk = kTilesPerChunk_;  ///< tiles of 16 columns
  static constexpr int kChunks = kWarpN / 16 / kTilesPerChunk;
  static constexpr int kSparseBuffers = kSparseBuffers_;

  // Of a block and a dense panel in a slot.
  static constexpr int kBlockRowBytes = kSlab * 2;
  static constexpr int kPanelRows = kLinear ? kTileN : kSlab, kPanelRowBytes = (kLinear ? kSlab : kTileN) * 2;
  using BlockLayout = TileLayout<kBlock, kBlockRowBytes>;
  using PanelLayout = TileLayout<kPanelRows, kPanelRowBytes>;

  // Accumulators: strips of 16 output rows, each of neighbouring tiles of 8 output columns.
  static constexpr int kStrips = kLinear ? kWarpN / 16 : kRowsPerWarp * kTilesM;
  static constexpr int kStripTiles = kLinear ? kRowsPerWarp * kTilesM * 2 : kWarpN / 8;
  static constexpr int kAccumulators = kStrips * kStripTiles * 4;

  static_assert(kMaxBlocks % 32 == 0 && kMaxBlocks <= 256, "a stage's block positions are read 32 at a time");
  static_assert(kBlock % kSlab == 0 && kSlab % 16 == 0, "a slab is a multiple of mma's k and divides the block");
  static_assert(kRowsPerGroup * kWarpsPerBlock == kWarpRows * kRowsPerWarp, "warp rows divide into block rows");
  static_assert(kWarpsPerBlock == 1 || kRowsPerWarp == 1, "warps that share a block own nothing else");
  static_assert(kRowsPerGroup >= 1 && kRowsPerGroup <= kMaxRowsPerGroup, "the record has 24 row masks");
  static_assert(kRowsPerWarp <= 4, "the row masks of a warp are kept in 64 bits");
  static_assert(kRowsPerGroup % kParts == 0 && kRowsPerPart % kRowsPerWarp == 0, "parts divide the group evenly");
  static_assert(kWarpN % (16 * kTilesPerChunk) == 0, "a warp's columns come in whole chunks");
  static_assert(kChunks % 2 == 0, "chunk 0 of the next step must find its buffer free");
  static_assert(kSteps == 1 || kSteps % 2 == 0, "a block is multiplied one or two steps at a time");
  static_assert(kAccumulators >= 4 && kAccumulators <= 192, "accumulators must exist and leave registers for the rest");
};

/// Kernel parameters: the same for all threads.
struct GemmParams {
  const StageRecord* stages;
  const std::int32_t* block_order;
  const WorkItem* items;
  const std::int32_t* item_count;
  const SplitGroup* splits;     ///< for combine_kernel
  const std::int32_t* split_count;
  const std::int32_t* col;      ///< the pattern's block columns, for the ragged last one
  std::int32_t last_block_col;  ///< the block column that is ragged, or -1
  std::int32_t last_block_cols;  ///< how many columns it has
  MatrixSource dense;           ///< B [K, N] or X [T, K]
  MatrixSource values;          ///< one block: rows = cols = stride = block
  std::int32_t n_tiles, panel_tiles;
  std::int32_t order_offset, order_stride;   ///< of the batches' block positions: bytes, and entries per stage
  std::int32_t ring_offset, slots, slot_bytes;
  std::int32_t blocks_offset, record_offset;  ///< within a slot
  float* partials;              ///< workspace of split items
  device::Epilogue epilogue;
};

/// The beginning of shared memory. Behind it lie the block positions of the batches, then the ring.
struct GemmSharedHeader {
  static constexpr int kBatch = 4;
  std::uint64_t full[kMaxSlots], empty[kMaxSlots];
  std::uint32_t word[2][kBatch][32];  ///< records of the stages of a batch; while one is copied, the next is written
  std::int32_t n_tile[2][kBatch];     ///< N tile of each, -1: past the end
};

/// Walks the CTA's tiles: panels of N tiles, in each panel the items in order, in each item the panel's N tiles.
struct TileWalk {
  std::uint32_t items, n_tiles, panel_tiles, tile, tiles;
  __device__ TileWalk(const GemmParams& p, std::uint32_t first)
      : items(*p.item_count), n_tiles(p.n_tiles), panel_tiles(p.panel_tiles), tile(first), tiles(items * n_tiles) {}
  __device__ bool valid() const { return tile < tiles; }
  __device__ void next() { tile += gridDim.x; }
  __device__ void locate(std::uint32_t& item, std::uint32_t& n_tile) const {
    const std::uint32_t per_panel = items * panel_tiles, panel = tile / per_panel, first = panel * panel_tiles;
    const std::uint32_t width = min(panel_tiles, n_tiles - first), rest = tile - panel * per_panel;
    item = rest / width;
    n_tile = first + rest - item * width;
  }
};

__device__ __forceinline__ WorkItem load_item(const WorkItem* items, std::uint32_t index) {
  const int4 v = __ldg(reinterpret_cast<const int4*>(items) + index);
  return {v.x, v.y, v.z, v.w};
}

// ---------------------------------------------------------------------------------------------------------- producers

/// The stages that this CTA will need, in order; kept a tile ahead, so that no load waits for another.
struct StageWalk {
  const GemmParams& p;
  TileWalk tiles;
  WorkItem next_item{};
  std::uint32_t next_n_tile = 0;
  std::int32_t left = 0;
  const StageRecord* stage = nullptr;
  std::uint32_t n_tile = 0;

  __device__ explicit StageWalk(const GemmParams& params) : p(params), tiles(params, blockIdx.x) { prefetch(); }
  __device__ void prefetch() {
    if (!tiles.valid()) return;
    std::uint32_t item;
    tiles.locate(item, next_n_tile);
    next_item = load_item(p.items, item);
  }
  /// Moves to the next stage; `stage` is nullptr after the last.
  __device__ void next() {
    if (left > 0) {
      left--;
      stage++;
      return;
    }
    stage = nullptr;
    while (tiles.valid() && stage == nullptr) {
      if (next_item.stage_count > 0) {
        stage = p.stages + next_item.stage_begin;
        left = next_item.stage_count - 1;
        n_tile = next_n_tile;
      }
      tiles.next();
      prefetch();
    }
  }
};

/// Fills one slot: the panels and blocks of a stage, cut to one slab. `word` is this lane's word of the stage's record.
/// The producers take pieces of panels, then pieces of blocks, in turn.
template <typename Config>
__device__ __forceinline__ void fill_slot(const GemmParams& p, std::uint32_t slot, std::uint32_t word,
                                          const std::int32_t* order, std::uint32_t n_tile, int slab, int producer,
                                          int lane) {
  using Panel = TileCopy<Config::kPanelRows, Config::kPanelRowBytes>;
  using Block = TileCopy<Config::kBlock, Config::kBlockRowBytes>;
  constexpr int kProducers = Config::kProducers;
  const std::uint32_t counts = __shfl_sync(0xffffffffu, word, 0);
  const int columns = counts & 0xff, blocks = counts >> 8 & 0xff;
  const std::int64_t n0 = static_cast<std::int64_t>(n_tile) * Config::kTileN;
  const bool n_inside = n0 + Config::kTileN <= (Config::kLinear ? p.dense.rows : p.dense.cols);
  const bool ragged = static_cast<std::int32_t>(__shfl_sync(0xffffffffu, word, 31)) == p.last_block_col;

  const unsigned panel_pieces = columns * Panel::kPieces;
  if (n_inside && !ragged && p.dense.access == Access::chunks) {
    const auto* dense = static_cast<const std::uint16_t*>(p.dense.data);
    dense += Config::kLinear ? n0 * p.dense.stride + slab * Config::kSlab : slab * Config::kSlab * p.dense.stride + n0;
    const std::int64_t column_stride = Config::kLinear ? Config::kBlock : Config::kBlock * p.dense.stride;
#pragma unroll 2
    for (unsigned i = producer; i < panel_pieces; i += kProducers) {
      const std::int64_t column = __shfl_sync(0xffffffffu, word, 16 + i / Panel::kPieces);
      Panel::copy(slot + i / Panel::kPieces * Config::PanelLayout::kBytes, dense + column * column_stride, p.dense.stride,
                  i % Panel::kPieces, lane);
    }
  } else {
#pragma unroll 1
    for (unsigned i = producer; i < panel_pieces; i += kProducers) {
      const std::int64_t column = __shfl_sync(0xffffffffu, word, 16 + i / Panel::kPieces);
      const std::int64_t k0 = column * Config::kBlock + slab * Config::kSlab;
      Panel::copy_checked(slot + i / Panel::kPieces * Config::PanelLayout::kBytes, p.dense, Config::kLinear ? n0 : k0,
                          Config::kLinear ? k0 : n0, i % Panel::kPieces, lane);
    }
  }

  const std::uint32_t target = slot + p.blocks_offset;
  const auto* values = static_cast<const std::uint16_t*>(p.values.data);
  const unsigned block_pieces = blocks * Block::kPieces;
  const unsigned first = (producer + kProducers * 256 - panel_pieces) % kProducers;  // whose turn it is
  if (!ragged && p.values.access == Access::chunks) {
#pragma unroll(8 / Block::kPiecePasses)
    for (unsigned i = first; i < block_pieces; i += kProducers) {
      const std::int64_t block = order[i / Block::kPieces];
      const auto* corner = values + block * (Config::kBlock * Config::kBlock) + slab * Config::kSlab;
      Block::copy(target + i / Block::kPieces * Config::BlockLayout::kBytes, corner, Config::kBlock, i % Block::kPieces, lane);
    }
  } else {
#pragma unroll 1
    for (unsigned i = first; i < block_pieces; i += kProducers) {
      const std::int64_t block = order[i / Block::kPieces];
      MatrixSource source = p.values;
      source.data = values + block * (Config::kBlock * Config::kBlock);
      if (p.col[block] == p.last_block_col) source.cols = p.last_block_cols;
      Block::copy_checked(target + i / Block::kPieces * Config::BlockLayout::kBytes, source, 0, slab * Config::kSlab,
                          i % Block::kPieces, lane);
    }
  }
}

/// A producer warp. Metadata goes by batches of kBatch stages, of which each producer reads one: while a batch is copied, the
/// block positions of the next and the records of the one after are under way, so that no load's latency shows.
template <typename Config>
__device__ __forceinline__ void produce(const GemmParams& p, GemmSharedHeader& header, unsigned char* shared,
                                        std::uint32_t ring, int producer, int lane) {
  constexpr int kBatch = GemmSharedHeader::kBatch, kOrderWords = Config::kMaxBlocks / 32;
  static_assert(Config::kProducers == kBatch, "each producer reads one stage's metadata of a batch");
  const std::uint32_t full = ptx::shared_address(header.full), empty = ptx::shared_address(header.empty);
  const bool asynchronous = p.dense.access != Access::elements && p.values.access != Access::elements;
  const auto order_of = [&](int buffer, int k) {
    return reinterpret_cast<std::int32_t*>(shared + p.order_offset) + (buffer * kBatch + k) * p.order_stride;
  };

  StageWalk walk(p);
  struct Mine {
    std::uint32_t word;   // this lane's word of the record of this producer's stage in a batch
    std::int32_t n_tile;  // -1: past the end
  };
  const auto take = [&] {
    Mine mine{0, -1};
#pragma unroll 1
    for (int k = 0; k < kBatch; k++) {
      walk.next();
      if (k != producer || walk.stage == nullptr) continue;
      mine.word = __ldg(reinterpret_cast<const std::uint32_t*>(walk.stage) + lane);
      mine.n_tile = static_cast<std::int32_t>(walk.n_tile);
    }
    return mine;
  };
  const auto load_order = [&](std::int32_t (&order)[kOrderWords], std::uint32_t word) {
    const std::int32_t first = __shfl_sync(0xffffffffu, word, 1);
    const int blocks = __shfl_sync(0xffffffffu, word, 0) >> 8 & 0xff;
#pragma unroll
    for (int w = 0; w < kOrderWords; w++) order[w] = w * 32 < blocks ? __ldg(p.block_order + first + w * 32 + lane) : 0;
  };
  const auto publish = [&](int buffer, const Mine& mine, const std::int32_t (&order)[kOrderWords]) {
    header.word[buffer][producer][lane] = mine.word;
    if (lane == 0) header.n_tile[buffer][producer] = mine.n_tile;
#pragma unroll
    for (int w = 0; w < kOrderWords; w++) {
      if (w * 32 < p.order_stride) order_of(buffer, producer)[w * 32 + lane] = order[w];
    }
    ptx::named_barrier(1, 32 * Config::kProducers);
  };

  Mine mine = take(), next = take();
  std::int32_t order[kOrderWords];
  load_order(order, mine.word);
  publish(0, mine, order);
  int slot = 0;
  std::uint32_t parity = 1;  // the slots begin empty
  for (int buffer = 0;; buffer ^= 1) {
    load_order(order, next.word);
    const Mine after = take();
#pragma unroll 1
    for (int k = 0; k < kBatch; k++) {
      const std::int32_t n_tile = header.n_tile[buffer][k];
      if (n_tile < 0) return;
      const std::uint32_t word = header.word[buffer][k][lane];
#pragma unroll 1
      for (int slab = 0; slab < Config::kSlabsPerBlock; slab++) {
        const std::uint32_t target = ring + slot * p.slot_bytes;
        ptx::mbarrier_wait(empty + slot * 8, parity);
        fill_slot<Config>(p, target, word, order_of(buffer, k), n_tile, slab, producer, lane);
        if (asynchronous) {
          ptx::cp_async_mbarrier_arrive(full + slot * 8);
        } else {
          ptx::cp_async_wait_all();
          ptx::mbarrier_arrive(full + slot * 8);
        }
        if (producer == 0) {
          reinterpret_cast<std::uint32_t*>(shared + p.ring_offset + slot * p.slot_bytes + p.record_offset)[lane] = word;
          __syncwarp();
          if (lane == 0) ptx::mbarrier_arrive(full + slot * 8);
        }
        if (++slot == p.slots) {
          slot = 0;
          parity ^= 1;
        }
      }
    }
    publish(buffer ^ 1, next, order);
    next = after;
  }
}

// ---------------------------------------------------------------------------------------------------------- consumers

/// What a warp multiplies with.
template <typename Config>
struct Fragments {
  std::uint32_t sparse[Config::kSparseBuffers][Config::kTilesM][4];
  std::uint32_t dense[2][Config::kTilesPerChunk][4];
};

/// A lane's constant offsets into a block and a panel.
template <typename Config>
struct LaneOffsets {
  std::uint32_t block, panel;
  __device__ LaneOffsets(int warp_row, int warp_col, int lane) {
    const int row = lane % 16, chunk = lane / 16;
    const int first_row = warp_row % Config::kWarpsPerBlock * 64;
    block = Config::BlockLayout::offset(first_row + row, chunk);
    panel = Config::kLinear ? Config::PanelLayout::offset(warp_col * Config::kWarpN + row, chunk)
                            : Config::PanelLayout::offset(row, warp_col * (Config::kWarpN / 8) + chunk);
  }
};

template <typename Config>
__device__ __forceinline__ void load_sparse(std::uint32_t (&sparse)[4], std::uint32_t block, int step, int tile) {
  ptx::ldmatrix_x4<false>(sparse, Config::BlockLayout::advance(block, step, tile * 16));
}

template <typename Config>
__device__ __forceinline__ void load_dense(std::uint32_t (&dense)[Config::kTilesPerChunk][4], std::uint32_t panel, int step,
                                           int chunk) {
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
      ptx::mma_m16n8k16<Element>(acc[tile][sparse_tile * 2], d[0], d[1], d[2], d[3], s[0], s[2]);
      ptx::mma_m16n8k16<Element>(acc[tile][sparse_tile * 2 + 1], d[0], d[1], d[2], d[3], s[1], s[3]);
    } else {
      ptx::mma_m16n8k16<Element>(acc[sparse_tile][tile * 2], s[0], s[1], s[2], s[3], d[0], d[1]);
      ptx::mma_m16n8k16<Element>(acc[sparse_tile][tile * 2 + 1], s[0], s[1], s[2], s[3], d[2], d[3]);
    }
  }
}

/// Multiplies the warp's blocks of one slot. `bits` has 16 bits for each of the warp's block rows: bit c set, a block in
/// column c of the stage. The blocks lie one after the other from `block` on, in the order of the bits.
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
  std::uint32_t first_block = block, first_panel = panel_of_next(), panel = first_panel;
  int unit = 0;
#pragma unroll
  for (int m = 0; m < Config::kTilesM; m++) load_sparse<Config>(f.sparse[0][m], block, 0, m);
  load_dense<Config>(f.dense[0], panel, 0, 0);
#pragma unroll
  for (int row = 0; row < Config::kRowsPerWarp; row++) {
#pragma unroll 1
    while ((bits & Bits{0xffff} << 16 * row) != 0) {
#pragma unroll
      for (int step = 0; step < kUnitSteps; step++) {
        const int buffer = step % kBuffers, next_buffer = (step + 1) % kBuffers, next_step = (step + 1) % kUnitSteps;
#pragma unroll
        for (int chunk = 0; chunk < kChunks; chunk++) {
          const bool last = chunk == kChunks - 1;
          if (last && next_step == 0) {  // on to the next unit; after the last one, it is read again in vain
            if (kUnits == 1 || ++unit == kUnits) {
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
          if (kBuffers == 2 && last) {
#pragma unroll
            for (int m = 0; m < Config::kTilesM; m++) load_sparse<Config>(f.sparse[next_buffer][m], block, next_step, m);
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

/// Writes a warp's accumulators: finished into the output, or as they are into the item's slot of the workspace, which
/// holds the group's strip of the output as fp32, row-major: [kTileM, padded N] for spmm, [padded N, kTileM] for linear.
template <typename Config>
__device__ __forceinline__ void store_accumulators(const GemmParams& p, const WorkItem& item, std::uint32_t n_tile,
                                                   const float (&acc)[Config::kStrips][Config::kStripTiles][4],
                                                   int warp_row, int warp_col, int lane) {
  const std::int64_t n0 = static_cast<std::int64_t>(n_tile) * Config::kTileN + warp_col * Config::kWarpN;
  const std::int64_t m0 = warp_row * Config::kWarpM;
  if (item.split_slot < 0) {
    constexpr auto kFinish = Config::kLinear ? device::Finish::bias_activation : device::Finish::scale;
    const std::int64_t out_m0 = m0 + static_cast<std::int64_t>(item.group) * Config::kTileM;
    const std::int64_t row0 = Config::kLinear ? n0 : out_m0, col0 = Config::kLinear ? out_m0 : n0;
#pragma unroll
    for (int strip = 0; strip < Config::kStrips; strip++) {
      device::store_strip<typename Config::Element, kFinish>(p.epilogue, row0 + strip * 16, col0, acc[strip], lane);
    }
  } else {
    const std::int64_t padded_n = static_cast<std::int64_t>(p.n_tiles) * Config::kTileN;
    const std::int64_t stride = Config::kLinear ? Config::kTileM : padded_n;
    float* corner = p.partials + item.split_slot * (Config::kTileM * padded_n);
    corner += Config::kLinear ? n0 * stride + m0 : m0 * stride + n0;
#pragma unroll
    for (int strip = 0; strip < Config::kStrips; strip++) {
      device::store_partial_strip(corner + strip * 16 * stride, stride, acc[strip], lane);
    }
  }
}

template <typename Config>
__device__ __forceinline__ void consume(const GemmParams& p, GemmSharedHeader& header, std::uint32_t ring, int warp,
                                        int lane) {
  using Bits = std::conditional_t<(Config::kRowsPerWarp > 2), std::uint64_t, std::uint32_t>;
  const int warp_row = warp / Config::kWarpCols, warp_col = warp % Config::kWarpCols;
  const int first_row = warp_row / Config::kWarpsPerBlock * Config::kRowsPerWarp, part = first_row / Config::kRowsPerPart;
  const LaneOffsets<Config> offsets(warp_row, warp_col, lane);
  const std::uint32_t full = ptx::shared_address(header.full), empty = ptx::shared_address(header.empty);

  int slot = 0;
  std::uint32_t parity = 0;
  for (std::uint32_t tile = blockIdx.x;; tile += gridDim.x) {
    // Nothing but the stage count stays in registers during the multiplications: every one is needed there.
    int slots_left;
    {
      const TileWalk walk(p, tile);
      if (!walk.valid()) return;
      std::uint32_t item, n_tile;
      walk.locate(item, n_tile);
      slots_left = load_item(p.items, item).stage_count * Config::kSlabsPerBlock;
    }
    float acc[Config::kStrips][Config::kStripTiles][4] = {};
#pragma unroll 1
    for (; slots_left > 0; slots_left--) {
      const std::uint32_t base = ring + slot * p.slot_bytes, record = base + p.record_offset;
      ptx::mbarrier_wait(full + slot * 8, parity);
      const auto row_mask = [&](int row) { return ptx::load_shared_u16(record + offsetof(StageRecord, row_mask) + row * 2); };
      int block = ptx::load_shared_u8(record + offsetof(StageRecord, part_offset) + part);
      Bits bits = 0;
#pragma unroll
      for (int r = 0; r < Config::kRowsPerWarp; r++) bits |= Bits{row_mask(first_row + r)} << 16 * r;
#pragma unroll
      for (int r = Config::kRowsPerWarp; r < Config::kRowsPerPart; r++) {  // the part's rows before this warp's
        if (first_row - r >= part * Config::kRowsPerPart) block += __popc(row_mask(first_row - r));
      }
      multiply_slot<Config>(acc, bits, base + p.blocks_offset + block * Config::BlockLayout::kBytes + offsets.block,
                            base + offsets.panel);
      __syncwarp();
      if (lane == 0) ptx::mbarrier_arrive(empty + slot * 8);
      if (++slot == p.slots) {
        slot = 0;
        parity ^= 1;
      }
    }
    std::uint32_t item, n_tile;
    TileWalk(p, tile).locate(item, n_tile);
    store_accumulators<Config>(p, load_item(p.items, item), n_tile, acc, warp_row, warp_col, lane);
  }
}

// ------------------------------------------------------------------------------------------------------------ kernels

template <typename Config>
__global__ void __launch_bounds__(Config::kThreads, 1) gemm_kernel(const __grid_constant__ GemmParams p) {
  extern __shared__ __align__(256) unsigned char shared[];
  auto& header = *reinterpret_cast<GemmSharedHeader*>(shared);
  const std::uint32_t ring = ptx::shared_address(shared) + p.ring_offset;
  const int warp = __shfl_sync(0xffffffffu, threadIdx.x / 32, 0), lane = threadIdx.x % 32;
  if (threadIdx.x < static_cast<unsigned>(p.slots)) {
    ptx::mbarrier_init(ptx::shared_address(&header.full[threadIdx.x]), 32 * Config::kProducers + 1);
    ptx::mbarrier_init(ptx::shared_address(&header.empty[threadIdx.x]), Config::kConsumers);
  }
  __syncthreads();
  if (warp < Config::kConsumers) {
    consume<Config>(p, header, ring, warp, lane);
  } else {
    produce<Config>(p, header, shared, ring, warp - Config::kConsumers, lane);
  }
}

/// Adds the partial sums of split groups in slot order and finishes them. @param tile_m rows of the sparse matrix in a group.
template <typename Element, bool kLinear>
__global__ void combine_kernel(const __grid_constant__ GemmParams p, int tile_m, std::int64_t padded_n) {
  const std::int64_t slot_size = tile_m * padded_n;
  const std::int64_t cols = kLinear ? tile_m : padded_n;
  for (int s = blockIdx.y; s < *p.split_count; s += gridDim.y) {
    const SplitGroup split = p.splits[s];
    const std::int64_t m0 = static_cast<std::int64_t>(split.group) * tile_m;
    const std::int64_t row0 = kLinear ? 0 : m0, col0 = kLinear ? m0 : 0;
    const std::int64_t thread = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
    for (std::int64_t i = thread; i < slot_size; i += std::int64_t{gridDim.x} * blockDim.x) {
      const std::int64_t row = row0 + i / cols, col = col0 + i % cols;
      if (row >= p.epilogue.rows || col >= p.epilogue.cols) continue;
      const float* partial = p.partials + split.slot_begin * slot_size + i;
      float sum = 0.0f;
      for (int k = 0; k < split.slot_count; k++) sum += partial[k * slot_size];
      constexpr auto kFinish = kLinear ? device::Finish::bias_activation : device::Finish::scale;
      device::store_element<Element, kFinish>(p.epilogue, row, col, sum);
    }
  }
}

}  // namespace triage::sm80
