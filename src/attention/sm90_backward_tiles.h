// The backward's tiles, kBlockN keys of one KV head each, and the order of work on them.
//
// Where the first keys have the most queries (causal masks), tiles come in ascending order of their keys: what is heavy
// comes first.
#pragma once

#include <cstdint>

#include "attention/backward_rows.h"
#include "attention/sm90_backward_tuning.h"
#include "attention/sm90_tiles.h"

namespace triage::attention::sm90 {

/// What all roles need to know of a tile.
struct KeyTile {
  static constexpr int kWords = 10;
  int key;  ///< first key, -1: there are no more tiles
  int kv_head, batch;
  int k_start, seqlen_k;
  int q_start, seqlen_q;
  int q_block;                 ///< block of padded rows (backward_rows.h) where the sequence starts
  int block_begin, block_end;  ///< blocks of queries, of the sequence; begin >= end: none
};
static_assert(sizeof(KeyTile) == 4 * KeyTile::kWords, "read word by word");

struct KeyTileOrder : Sequences {
  int kv_heads;
  int n_tiles;          ///< tiles of a head (of the longest sequence, if they vary)
  int tiles;            ///< in all (unused if lengths of keys vary)
  int heads_at_once;    ///< KV heads whose tiles take turns, see place_tile (sequences.h)
  bool heaviest_first;  ///< the first keys have the most queries
  VarlenPlan plan;      ///< with cu_seqlens_k
  std::int32_t* counter;
};

/// Blocks of kBlockM queries of which some query attends some key of `first_key` .. `last_key`.
template <int kBlockM>
__device__ __forceinline__ BlockRange query_blocks(const Mask& mask, int seqlen_q, int first_key, int last_key) {
  const int first_row = max(first_key - mask.shift_right, 0);
  const int last_row = min(last_key + mask.shift_left, seqlen_q - 1);
  if (first_row >= seqlen_q || last_row < 0 || first_key > last_key) return {0, 0};
  return {first_row / kBlockM, last_row / kBlockM + 1};
}

/// Where sequence `batch` starts in the padded rows (backward_rows.h) of a head. Their block is a constant here: a
/// division by a variable is a call, after which ptxas takes a warp for divergent.
__device__ __forceinline__ std::int64_t padded_query_start(const Sequences& s, int batch) {
  return padded_start(s.cu_seqlens_q, s.seqlen_q, batch, kBackwardRowBlock);
}

/// What tile `n` of a head of a sequence holds.
template <int kBlockM, int kBlockN>
__device__ __forceinline__ void describe_key_tile(const KeyTileOrder& o, int batch, int kv_head, int n, KeyTile& tile) {
  tile.batch = batch;
  tile.kv_head = kv_head;
  tile.key = n * kBlockN;
  tile.k_start = key_start(o, tile.batch);
  tile.seqlen_k = key_count(o, tile.batch);
  tile.q_start = query_start(o, tile.batch);
  tile.seqlen_q = query_count(o, tile.batch);
  tile.q_block = static_cast<int>(padded_query_start(o, tile.batch) / kBlockM);
  const Mask mask(tile.seqlen_q, tile.seqlen_k, o.window_left, o.window_right);
  const BlockRange range =
      query_blocks<kBlockM>(mask, tile.seqlen_q, tile.key, min(tile.key + kBlockN, tile.seqlen_k) - 1);
  tile.block_begin = range.begin;
  tile.block_end = range.end;
}

/// The tile at place `index` of `tile_order` (device/tile_order.h), of sequences padded to the longest: it may have no
/// keys; false if there are no more.
template <int kBlockM, int kBlockN>
__device__ __forceinline__ bool find_sparse_key_tile(const KeyTileOrder& o, const std::int32_t* tile_order, int index,
                                                     KeyTile& tile) {
  if (index >= o.tiles) return false;
  const int number = tile_order[index], head = number / o.n_tiles, batch = head / o.kv_heads;
  describe_key_tile<kBlockM, kBlockN>(o, batch, head - batch * o.kv_heads, number - head * o.n_tiles, tile);
  return true;
}

/// Tile number `index`, counted over everything; false if there are no more.
template <int kBlockM, int kBlockN>
__device__ __forceinline__ bool find_key_tile(const KeyTileOrder& o, int index, KeyTile& tile) {
  int heads = o.batch * o.kv_heads, tiles = o.n_tiles, sequence = -1;
  if (o.plan.order == nullptr) {
    if (index >= o.tiles) return false;
  } else {
    const std::int32_t* first = o.plan.first_tile;
    heads = o.kv_heads;
    if (index >= first[o.batch] * heads) return false;
    int low = 0, high = o.batch;  // first[low] * heads <= index < first[high] * heads
    while (high - low > 1) {
      const int middle = (low + high) / 2;
      (first[middle] * heads <= index ? low : high) = middle;
    }
    sequence = o.plan.order[low];
    tiles = first[low + 1] - first[low];
    index -= first[low] * heads;
  }
  int head, n;
  place_tile(index, heads, tiles, o.heads_at_once, o.heaviest_first, head, n);
  if (o.heaviest_first) n = tiles - 1 - n;  // there it is the last queries that have the most keys
  describe_key_tile<kBlockM, kBlockN>(o, sequence >= 0 ? sequence : head / o.kv_heads,
                                      sequence >= 0 ? head : head % o.kv_heads, n, tile);
  return true;
}

}  // namespace triage::attention::sm90
