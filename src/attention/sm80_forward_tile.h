// The sm80 attention forward's configurations and parameters, and a CTA's place in its work.
#pragma once

#include <cstdint>

#include "attention/result_params.h"
#include "attention/sequences.h"

namespace triage::attention::sm80 {

/// @tparam kHeadDim of all four tensors; smaller ones are padded with zeros.
/// @tparam kStages blocks in shared memory.
/// @tparam kCtas per multiprocessor that registers must leave room for.
/// @tparam kSparse with a block-sparse mask.
template <typename ElementT, int kHeadDimT, int kWarpsMT, int kWarpsNT, int kRowTilesT, int kBlockNT, int kStagesT,
          int kCtasT, bool kSparseT = false>
struct ForwardConfig {
  using Element = ElementT;
  static constexpr int kHeadDim = kHeadDimT, kWarpsM = kWarpsMT, kWarpsN = kWarpsNT, kRowTiles = kRowTilesT,
                       kBlockN = kBlockNT, kStages = kStagesT, kCtas = kCtasT;
  static constexpr bool kSparse = kSparseT;
  static constexpr int kThreads = 32 * kWarpsM * kWarpsN;
  static constexpr int kBlockM = 16 * kRowTiles * kWarpsM;
  static constexpr int kWarpKeys = kBlockN / kWarpsN;
  static constexpr int kRowBytes = kHeadDim * 2, kChunks = kHeadDim / 8;  ///< chunks of 16 bytes
  static constexpr int kQBytes = kBlockM * kRowBytes, kBlockBytes = kBlockN * kRowBytes;
  static constexpr int kSharedBytes = kQBytes + kStages * 2 * kBlockBytes;
  /// Where Q's fragments leave room for those of S and O.
  static constexpr bool kQInRegisters = kRowTiles * (kHeadDim / 4 + kWarpKeys / 2 + kHeadDim / 2) <= 160;
  static constexpr int kRowsPerPass = kThreads / kChunks;  ///< of a copy
  /// Products by which fragments of K and V are read ahead: more pays at 128 alone.
  static constexpr int kAhead = kHeadDim == 128 ? 2 : 1;

  static_assert(kHeadDim % 64 == 0, "the swizzle permutes 128 bytes");
  static_assert(kWarpsM == 1 || kWarpsN == 1, "warps divide rows or keys");
  static_assert(kWarpKeys % 16 == 0, "a warp multiplies 16 keys at a time");
  static_assert(kThreads % kChunks == 0 && kBlockN % kRowsPerPass == 0, "whole rows in each pass of a copy");
  static_assert(kStages >= 2, "one block at work and one on its way");
  static_assert(kSharedBytes <= 99 * 1024, "8.6, 8.9 and 12.0 have 99 KB");
  static_assert(kWarpsN == 1 || kWarpsN * kBlockM * kHeadDim * 4 <= kStages * 2 * kBlockBytes,
                "warps add up in the blocks' place");
  static_assert(!kSparse || (kWarpsN == 1 && kBlockM % AttentionMask::kBlock == 0 &&
                             AttentionMask::kBlock % kBlockN == 0 && AttentionMask::kBlock % (16 * kRowTiles) == 0),
                "a CTA has whole rows of the mask's blocks, a warp a part of one");
};

struct Source {
  const void* data;
  std::int64_t batch_stride, row_stride, head_stride;  ///< elements; pages in the place of the batch
};

struct ForwardParams : ResultParams {
  Sequences sequences;
  Source q, k, v;
  int head_dim;
  bool aligned16;  ///< all of these allow 16-byte accesses
  int pack;        ///< query heads packed into rows: 1 or kv_group
  int m_tiles, heads_at_once;
  bool heaviest_first;
  const std::int32_t* block_table;
  std::int64_t block_table_stride;
  int page_shift;                  ///< log2 of the page size
  AttentionMask mask;              ///< used if C::kSparse
  const std::int32_t* tile_order;  ///< likewise: which tile a CTA takes, the heaviest first
  int splits;
  std::int64_t rows;  ///< heads * total_q
  int total_q;
  float* partial_out;  ///< [splits][rows][head_dim_v]
  float* partial_lse;  ///< [splits][rows]
};

/// A CTA's place in the work.
struct Tile {
  int batch, head, kv_head;  ///< head: the first of those packed
  int q_start, k_start, seqlen_q, seqlen_k;
  int row, rows;  ///< the first row, and how many of the sequence are left from there
  int block_begin, block_end;
  int split;
};

template <typename C>
__device__ __forceinline__ void find_tile(const ForwardParams& p, Tile& t) {
  const Sequences& s = p.sequences;
  const int index = blockIdx.x / p.splits, heads = s.heads / p.pack;
  t.split = blockIdx.x - index * p.splits;
  int place, m;
  if constexpr (C::kSparse) {
    const int number = p.tile_order[index];
    place = number / p.m_tiles;
    m = number - place * p.m_tiles;
  } else {
    place_tile(index, s.batch * heads, p.m_tiles, p.heads_at_once, p.heaviest_first, place, m);
  }
  t.batch = place / heads;
  t.head = (place - t.batch * heads) * p.pack;
  t.kv_head = t.head / s.kv_group;
  t.q_start = query_start(s, t.batch);
  t.k_start = key_start(s, t.batch);
  t.seqlen_q = query_count(s, t.batch);
  t.seqlen_k = key_count(s, t.batch);
  t.row = m * C::kBlockM;
  t.rows = t.seqlen_q * p.pack - t.row;
  if (t.rows <= 0) return;
  const Mask mask(t.seqlen_q, t.seqlen_k, s.window_left, s.window_right);
  const int first = t.row / p.pack, last = (t.row + min(t.rows, C::kBlockM) - 1) / p.pack;
  BlockRange range{0, 0};
  if (mask.last_key(last) >= 0) range = mask.blocks<C::kBlockN>(first, last);
  const int share = (range.end - range.begin + p.splits - 1) / p.splits;
  t.block_begin = min(range.begin + t.split * share, range.end);
  t.block_end = min(t.block_begin + share, range.end);
}

}  // namespace triage::attention::sm80
