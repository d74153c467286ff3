// Which tiles of queries there are, and in which order: host and device agree on it here. A tile is kBlockM queries of
// one head.
#pragma once

#include <cstdint>

#include "attention/sequences.h"

namespace triage::attention::sm90 {

/// What producer and consumers need to know of a tile; handed over through shared memory with the tile's queries.
struct Tile {
  static constexpr int kWords = 8;
  int row;  ///< first query, -1: there are no more tiles
  int head, batch;
  int q_start;  ///< row of the tensor where the sequence starts
  int seqlen_q, seqlen_k;
  int block_begin, block_end;  ///< blocks of keys
};
static_assert(sizeof(Tile) == 4 * Tile::kWords, "read word by word");

/// Tiles of packed sequences: the longest keys first. Written by the plan kernel.
struct VarlenPlan {
  std::int32_t* order = nullptr;       ///< [batch] which sequence comes at this place
  std::int32_t* first_tile = nullptr;  ///< [batch + 1] tiles of one head before this place
};

struct TileOrder : Sequences {
  int m_tiles;          ///< tiles of a head (of the longest sequence, if they vary)
  int tiles;            ///< in all (unused if lengths of queries vary)
  int heads_at_once;    ///< heads (of all sequences, or of one if lengths vary) whose K and V stay in L2
  bool heaviest_first;  ///< within those, the last queries first: causal
  VarlenPlan plan;
  std::int32_t* counter;  ///< of tiles taken beyond the first of each CTA
};

/// Tile `number` of all, head after head, of sequences padded to the longest: it may have no queries. Without blocks.
template <int kBlockM>
__device__ __forceinline__ Tile padded_tile(const TileOrder& o, int number) {
  Tile tile;
  const int head = number / o.m_tiles;
  tile.batch = head / o.heads;
  tile.head = head - tile.batch * o.heads;
  tile.row = (number - head * o.m_tiles) * kBlockM;
  tile.q_start = query_start(o, tile.batch);
  tile.seqlen_q = query_count(o, tile.batch);
  tile.seqlen_k = key_count(o, tile.batch);
  tile.block_begin = tile.block_end = 0;
  return tile;
}

/// The tile at place `index` of `tile_order` (device/tile_order.h); false if there are no more.
template <int kBlockM>
__device__ __forceinline__ bool find_sparse_tile(const TileOrder& o, const std::int32_t* tile_order, int index,
                                                 Tile& tile) {
  if (index >= o.tiles) return false;
  tile = padded_tile<kBlockM>(o, tile_order[index]);
  return true;
}

/// Tile number `index`, counted over everything; false if there are no more.
template <int kBlockM, int kBlockN>
__device__ __forceinline__ bool find_tile(const TileOrder& o, int index, Tile& tile) {
  int m;
  if (o.plan.order == nullptr) {
    if (index >= o.tiles) return false;
    int head;
    place_tile(index, o.batch * o.heads, o.m_tiles, o.heads_at_once, o.heaviest_first, head, m);
    tile.batch = head / o.heads;
    tile.head = head - tile.batch * o.heads;
  } else {
    const std::int32_t* first = o.plan.first_tile;
    if (index >= first[o.batch] * o.heads) return false;
    int low = 0, high = o.batch;  // first[low] * heads <= index < first[high] * heads
    while (high - low > 1) {
      const int middle = (low + high) / 2;
      (first[middle] * o.heads <= index ? low : high) = middle;
    }
    tile.batch = o.plan.order[low];
    place_tile(index - first[low] * o.heads, o.heads, first[low + 1] - first[low], o.heads_at_once, o.heaviest_first,
               tile.head, m);
  }
  tile.row = m * kBlockM;
  tile.q_start = query_start(o, tile.batch);
  tile.seqlen_q = query_count(o, tile.batch);
  tile.seqlen_k = key_count(o, tile.batch);
  const Mask mask(tile.seqlen_q, tile.seqlen_k, o.window_left, o.window_right);
  const BlockRange range = mask.blocks<kBlockN>(tile.row, min(tile.row + kBlockM, tile.seqlen_q) - 1);
  tile.block_begin = range.begin;
  tile.block_end = range.end;
  return true;
}

}  // namespace triage::attention::sm90
