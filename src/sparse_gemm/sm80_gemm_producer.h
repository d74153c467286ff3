// The producer warps of sm80_gemm.h: which tiles a CTA takes, which stages they have, and the copies.
#pragma once

#include <cstdint>

#include "device/schedule.h"
#include "ptx/cp_async.h"
#include "ptx/mbarrier.h"
#include "ptx/named_barrier.h"
#include "ptx/shared_memory.h"
#include "sparse_gemm/sm80_copy.h"
#include "sparse_gemm/sm80_gemm_config.h"

namespace triage::sm80 {

/// A stage as a producer warp holds it, one word of each per lane.
struct Stage {
  std::uint32_t word = 0;  ///< word `lane` of the stage's record; 0 throughout for a tile without blocks
  std::uint32_t tile = 0;  ///< lanes 0 to 3: the slot record's `after`, `group`, `split_slot`, `n_tile`

  __device__ After after() const { return static_cast<After>(__shfl_sync(0xffffffffu, tile, 0)); }
  __device__ std::int32_t n_tile() const { return static_cast<std::int32_t>(__shfl_sync(0xffffffffu, tile, 3)); }
  __device__ int columns() const { return __shfl_sync(0xffffffffu, word, 0) & 0xff; }
  __device__ int blocks() const { return __shfl_sync(0xffffffffu, word, 0) >> 8 & 0xff; }
  __device__ std::int32_t first_block() const { return static_cast<std::int32_t>(__shfl_sync(0xffffffffu, word, 1)); }
};

/// The stages that a CTA works on, in order. Its first tile is its own number; the others it takes from a counter in
/// global memory, so that a long tile delays nobody: tiles come longest first, what is left at the end is short. A tile
/// is taken a few stages before it is needed, which hides the counter's and the item's latencies. All producer warps
/// walk alike; the first one asks the counter and tells the others.
///
/// Tiles are numbered by panels of N tiles, in each panel by items, in each item by the panel's N tiles.
template <typename Config>
class StageWalk {
 public:
  __device__ StageWalk(const GemmParams& p, GemmSharedHeader& header, int producer, int lane)
      : p_(p),
        header_(header),
        asks_(producer == 0 && lane == 0),
        lane_(lane),
        items_(*p.item_count),
        next_tile_(blockIdx.x) {
    load_next();
  }

  __device__ Stage next() {
    if (left_ == 0) {
      while (binding_ != Binding::bound) bind();
      if (next_tile_ >= items_ * p_.n_tiles) return {0, static_cast<std::uint32_t>(After::stop)};
      record_ = reinterpret_cast<const std::uint32_t*>(p_.stages + next_item_.stage_begin) + lane_;
      empty_ = next_item_.stage_count == 0;
      left_ = empty_ ? 1 : next_item_.stage_count;
      tile_ = lane_ == 1 ? next_item_.group : lane_ == 2 ? next_item_.split_slot : next_n_tile_;
      binding_ = Binding::none;
    }
    left_--;
    if (left_ < kBindAhead && binding_ != Binding::bound) bind();
    const auto after = left_ == 0 ? After::store : After::multiply;
    const Stage stage{empty_ ? 0 : __ldg(record_), lane_ == 0 ? static_cast<std::uint32_t>(after) : tile_};
    record_ += sizeof(StageRecord) / 4;
    return stage;
  }

 private:
  static constexpr int kBindAhead = 4;
  enum class Binding { none, asked, bound };

  __device__ void bind() {
    if (binding_ == Binding::none) {
      if (asks_ && p_.tile_counter != nullptr) answer_ = gridDim.x + atomicAdd(p_.tile_counter, 1u);
      binding_ = Binding::asked;
      return;
    }
    if (p_.tile_counter == nullptr) {
      next_tile_ += gridDim.x;
    } else {
      if (asks_) header_.ticket[turn_] = answer_;
      ptx::named_barrier(1, 32 * Config::kProducers);  // also: everybody has read the ticket before
      next_tile_ = header_.ticket[turn_];
      turn_ ^= 1;
    }
    load_next();
  }

  __device__ void load_next() {
    binding_ = Binding::bound;
    if (next_tile_ >= items_ * p_.n_tiles) return;
    const std::uint32_t n_tiles = p_.n_tiles, panel_tiles = p_.panel_tiles;
    const std::uint32_t per_panel = items_ * panel_tiles, panel = next_tile_ / per_panel, first = panel * panel_tiles;
    const std::uint32_t width = min(panel_tiles, n_tiles - first), rest = next_tile_ - panel * per_panel;
    const std::uint32_t item = rest / width;
    next_n_tile_ = first + rest - item * width;
    const int4 v = __ldg(reinterpret_cast<const int4*>(p_.items) + item);
    next_item_ = {v.x, v.y, v.z, v.w};
  }

  const GemmParams& p_;
  GemmSharedHeader& header_;
  const bool asks_;
  const int lane_;
  const std::uint32_t items_;
  std::uint32_t next_tile_, next_n_tile_ = 0, answer_ = 0;
  WorkItem next_item_{};
  Binding binding_ = Binding::none;
  int turn_ = 0;
  std::int32_t left_ = 0;  ///< stages of the current tile behind the one that `next` answered last
  bool empty_ = false;
  const std::uint32_t* record_ = nullptr;
  std::uint32_t tile_ = 0;
};

/// Fills one slot: the panels and blocks of a stage, cut to one slab. @param order positions of the stage's blocks.
/// The producers take pieces of panels, then pieces of blocks, in turn.
template <typename Config>
__device__ __forceinline__ void fill_slot(const GemmParams& p, std::uint32_t slot, const Stage& stage,
                                          const std::int32_t* order, int slab, int producer, int lane) {
  using Panel = TileCopy<Config::kPanelRows, Config::kPanelRowBytes>;
  using Block = TileCopy<Config::kBlock, Config::kBlockRowBytes>;
  constexpr int kProducers = Config::kProducers;
  const int columns = stage.columns(), blocks = stage.blocks();
  const std::uint32_t word = stage.word;
  const std::int64_t n0 = std::int64_t{stage.n_tile()} * Config::kTileN;
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
      Panel::copy(slot + i / Panel::kPieces * Config::PanelLayout::kBytes, dense + column * column_stride,
                  p.dense.stride, i % Panel::kPieces, lane);
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
      Block::copy(target + i / Block::kPieces * Config::BlockLayout::kBytes, corner, Config::kBlock, i % Block::kPieces,
                  lane);
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

/// A producer warp. Three stages are in hand: the one that is copied, the next (its block positions are under way) and
/// the one after (its record is under way), so that no load's latency shows.
template <typename Config>
__device__ __forceinline__ void produce(const GemmParams& p, unsigned char* shared, int producer, int lane) {
  auto& header = *reinterpret_cast<GemmSharedHeader*>(shared);
  constexpr int kOrderWords = Config::kMaxBlocks / 32;
  const bool asynchronous = p.dense.access != Access::elements && p.values.access != Access::elements;
  std::int32_t* const order =
      reinterpret_cast<std::int32_t*>(shared + sizeof(GemmSharedHeader)) + producer * p.order_stride;
  const auto load_order = [&](std::int32_t(&words)[kOrderWords], const Stage& stage) {
    const std::int32_t first = stage.first_block();
    const int blocks = stage.blocks();
#pragma unroll
    for (int w = 0; w < kOrderWords; w++) words[w] = w * 32 < blocks ? __ldg(p.block_order + first + w * 32 + lane) : 0;
  };
  const auto store_order = [&](const std::int32_t(&words)[kOrderWords]) {
    __syncwarp();
#pragma unroll
    for (int w = 0; w < kOrderWords; w++) {
      if (w * 32 < p.order_stride) order[w * 32 + lane] = words[w];
    }
    __syncwarp();
  };

  StageWalk<Config> walk(p, header, producer, lane);
  Stage stage = walk.next(), next = walk.next();
  std::int32_t next_order[kOrderWords];
  load_order(next_order, stage);
  store_order(next_order);
  const std::uint32_t ring = ptx::shared_address(shared) + p.ring_offset;
  std::uint32_t slot = ring, parity = 1;  // the slots begin empty
  for (;;) {
    const Stage after_next = walk.next();
    load_order(next_order, next);
#pragma unroll 1
    for (int slab = 0; slab < Config::kSlabsPerBlock; slab++) {
      const std::uint32_t full = slot + p.tail_offset + kFull;
      ptx::mbarrier_wait(slot + p.tail_offset + kEmpty, parity);
      fill_slot<Config>(p, slot, stage, order, slab, producer, lane);
      if (asynchronous) {
        ptx::cp_async_mbarrier_arrive(full);
      } else {
        ptx::cp_async_wait_all();
        ptx::mbarrier_arrive(full);
      }
      if (producer == 0) {
        const std::uint32_t tile = __shfl_sync(0xffffffffu, stage.tile, lane % 4);
        const bool more = lane == 16 && slab + 1 < Config::kSlabsPerBlock;  // of the same stage
        const std::uint32_t word = lane < 16 ? stage.word : more ? static_cast<std::uint32_t>(After::multiply) : tile;
        if (lane * 4 < static_cast<int>(sizeof(SlotNews)))
          ptx::store_shared_u32(slot + p.tail_offset + kNews + lane * 4, word);
        __syncwarp();
        if (lane == 0) ptx::mbarrier_arrive(full);
      }
      slot += p.slot_bytes;
      if (slot == ring + p.slots * p.slot_bytes) {
        slot = ring;
        parity ^= 1;
      }
    }
    if (stage.after() == After::stop) return;
    store_order(next_order);
    stage = next;
    next = after_next;
  }
}

}  // namespace triage::sm80
