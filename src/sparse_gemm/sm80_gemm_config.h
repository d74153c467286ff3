// Shapes, parameters and shared memory of the kernel in sm80_gemm.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include "device/epilogue.h"
#include "device/schedule.h"
#include "sparse_gemm/sm80_copy.h"

namespace triage::sm80 {

/// Shape of a kernel. Block rows per warp, warp columns and the warp grid are the tuning parameters
/// (sm80_gemm_launch.h).
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
  static constexpr int kProducers = 4;  ///< one per sub-core; that is also how many leave 168 registers a thread
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

  // The dense fragments of a step are loaded in chunks, one ahead of the chunk that is being multiplied; the sparse
  // ones one step ahead if there are two buffers.
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
  const SplitGroup* splits;  ///< for combine_kernel
  const std::int32_t* split_count;
  const std::int32_t* col;       ///< the pattern's block columns, for the ragged last one
  std::int32_t last_block_col;   ///< the block column that is ragged, or -1
  std::int32_t last_block_cols;  ///< how many columns it has
  MatrixSource dense;            ///< B [K, N] or X [T, K]
  MatrixSource values;           ///< one block: rows = cols = stride = block
  std::int32_t n_tiles, panel_tiles;
  std::uint32_t* tile_counter;  ///< zero before the launch; nullptr where every tile has a CTA of its own
  std::int32_t order_stride;    ///< entries of a producer's list of block positions
  std::int32_t ring_offset, slots, slot_bytes;
  std::int32_t blocks_offset, tail_offset;  ///< within a slot
  float* partials;                          ///< workspace of split items
  device::Epilogue epilogue;
};

/// What consumers do behind a slot.
enum class After : std::uint32_t {
  multiply = 0,  ///< go on with the tile
  store = 1,     ///< the tile is complete
  stop = 2,      ///< there are no more tiles
};

/// What consumers need to know of a slot's contents; they read nothing else of the schedule.
struct SlotNews {
  std::uint32_t stage[16];  ///< the first half of the stage's StageRecord: all but the columns
  After after;
  std::int32_t group, split_slot, n_tile;
};

/// The end of a slot, behind its panels and blocks.
struct SlotTail {
  std::uint64_t full, empty;
  SlotNews news;
};

/// The beginning of shared memory. Behind it lie the producers' lists of block positions, then the ring.
struct GemmSharedHeader {
  std::uint32_t ticket[2];  ///< from producer 0 to all: numbers of the next tiles, in turns
};

/// Offsets in a slot's tail of what consumers read.
inline constexpr std::uint32_t kFull = offsetof(SlotTail, full), kEmpty = offsetof(SlotTail, empty),
                               kNews = offsetof(SlotTail, news);

}  // namespace triage::sm80
