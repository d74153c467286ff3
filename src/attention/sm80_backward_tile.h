// The sm80 attention backward's configurations and parameters, and which blocks of queries and keys meet.
#pragma once

#include <cstdint>

#include "attention/backward_rows.h"
#include "attention/block_mask.h"
#include "attention/geometry.h"
#include "attention/sequences.h"
#include "device/epilogue.h"
#include "device/softmax.h"

namespace triage::attention::sm80 {

/// @tparam kHeadDim of all tensors; smaller ones are padded with zeros.
/// @tparam kPass queries whose S and dP a warp holds at a time.
/// @tparam kSparse with a block-sparse mask.
template <typename ElementT, int kHeadDimT, int kKeyWarpsT, int kDimWarpsT, int kKeyTilesT, int kBlockMT, int kPassT,
          int kStagesT, int kCtasT, bool kSparseT = false>
struct BackwardConfig {
  using Element = ElementT;
  static constexpr int kHeadDim = kHeadDimT, kKeyWarps = kKeyWarpsT, kDimWarps = kDimWarpsT, kKeyTiles = kKeyTilesT,
                       kBlockM = kBlockMT, kPass = kPassT, kStages = kStagesT, kCtas = kCtasT;
  static constexpr bool kSparse = kSparseT;
  static constexpr int kWarps = kKeyWarps * kDimWarps, kThreads = 32 * kWarps;
  static constexpr int kBlockN = kKeyWarps * kKeyTiles * 16;
  static constexpr int kRowBytes = kHeadDim * 2, kChunks = kHeadDim / 8;  ///< chunks of 16 bytes
  static constexpr int kRowsPerPass = kThreads / kChunks;                 ///< of a copy
  static constexpr int kKeyBytes = kBlockN * kRowBytes, kQueryBytes = kBlockM * kRowBytes;
  static constexpr int kDsRowBytes = kBlockM * 2, kDsBytes = kBlockN * kDsRowBytes;
  static constexpr int kStatisticsBytes = 2 * kBlockM * 4;  ///< lse and delta of a block of queries
  static constexpr int kStageBytes = 2 * kQueryBytes;
  static constexpr int kSharedBytes = 2 * kKeyBytes + kStages * (kStageBytes + kStatisticsBytes) + kDsBytes;
  /// Columns of dK and dV that a warp owns.
  static constexpr int kOwnDim = kHeadDim / kDimWarps;
  /// dQ's block among the warps: kQTiles x 16 rows and kQDim columns each.
  static constexpr int kQTiles = kBlockM >= 32 ? 2 : 1;
  static constexpr int kQWarps = kBlockM / (16 * kQTiles);
  static constexpr int kQDim = kHeadDim / (kWarps / kQWarps);
  static constexpr int kQWords = kQTiles * kQDim / 8;  ///< accumulator tiles of a warp, a float4 each in a lane

  static_assert(kHeadDim % 64 == 0, "the swizzle permutes 128 bytes");
  static_assert(kBlockM % kPass == 0 && kPass % 16 == 0, "a product takes 16 queries at a time");
  static_assert(kThreads % kChunks == 0 && kBlockN % kRowsPerPass == 0 && kBlockM % kRowsPerPass == 0,
                "whole rows in each pass of a copy");
  static_assert(kWarps % kQWarps == 0, "whole blocks of rows of dQ for each warp");
  static_assert(kOwnDim % 32 == 0 && kQDim % 32 == 0, "gradients are stored 32 columns at a time");
  static_assert(kBlockM / 2 <= kThreads, "statistics are copied in one go");
  static_assert(kStages == 1 || kStages == 2, "one block of queries at work, and one on its way");
  static_assert(!kSparse || (kBlockN == AttentionMask::kBlock && AttentionMask::kBlock % kBlockM == 0),
                "a CTA owns a row of the mask's blocks, a step is a part of one");
};

struct BackwardParams {
  Sequences sequences;
  AttentionTensor q, k, v, d_o, d_q, d_k, d_v;
  BackwardRows rows;
  float softmax_scale, scale_log2;
  device::Softcap softcap;
  int head_dim, head_dim_v;
  bool aligned16;  ///< all of these allow 16-byte accesses
  bool ordered;
  bool last_keys_first;        ///< the order of CTAs
  bool last_queries_first;     ///< the order of a CTA's steps
  int key_tiles, query_tiles;  ///< of the longest sequence
  int heads_at_once;
  int* turns;          ///< [heads][rows / kBlockM], zeros: how many CTAs have added to a block of dQ
  AttentionMask mask;  ///< used if C::kSparse
  float* d_q_sums;     ///< [heads][rows / kBlockM][warps][tiles][32 lanes][4]; zeros unless ordered
};

/// Blocks of keys that some query of a block attends, or of queries that attend some key of a block: the same pairs.
template <int kBlockM, int kBlockN>
__device__ __forceinline__ BlockRange keys_of_queries(const Mask& mask, int block, int seqlen_q) {
  const int low = block * kBlockM, high = min(low + kBlockM, seqlen_q) - 1;
  const int first = mask.first_key(low), last = mask.last_key(high);
  if (first > last) return {0, 0};
  return {first / kBlockN, last / kBlockN + 1};
}
template <int kBlockM, int kBlockN>
__device__ __forceinline__ BlockRange queries_of_keys(const Mask& mask, int block, int seqlen_q) {
  const int low = block * kBlockN, high = min(low + kBlockN, mask.seqlen_k) - 1;
  const int first = max(low - mask.shift_right, 0), last = min(high + mask.shift_left, seqlen_q - 1);
  if (first > last) return {0, 0};
  return {first / kBlockM, last / kBlockM + 1};
}

/// Of a block-sparse mask, the row of a block of 64 queries. Its bits are those of by_key's, cut to the same pairs.
__device__ __forceinline__ BitRow row_of_queries(const AttentionMask& blocks, const Mask& mask, std::int64_t number,
                                                 int block, int seqlen_q) {
  constexpr int kBlock = AttentionMask::kBlock;
  return BitRow(blocks.by_query, number, block, keys_of_queries<kBlock, kBlock>(mask, block, seqlen_q),
                {0, (mask.seqlen_k + kBlock - 1) / kBlock});
}

/// Columns `first` .. `first` + kColumns of a row, of which those below `head_dim` exist. Four lanes exchange, so that
/// each writes 16 bytes. @param i which of the lane's two rows.
template <typename E, int kColumns, int kCount>
__device__ __forceinline__ void store_row(E* to, const float (&sums)[kCount], int i, float scale, int first,
                                          int head_dim, bool aligned, int quad_lane) {
#pragma unroll
  for (int j = 0; j < kColumns / 8; j += 4) {
    std::uint32_t words[4];
#pragma unroll
    for (int t = 0; t < 4; t++) {
      words[t] = device::pack2<E>(sums[4 * (j + t) + 2 * i] * scale, sums[4 * (j + t) + 2 * i + 1] * scale);
    }
    device::transpose_across_quad(words, quad_lane);
    const int column = first + 8 * (j + quad_lane);
    if (column >= head_dim) continue;
    if (aligned) {
      *reinterpret_cast<uint4*>(to + column) = make_uint4(words[0], words[1], words[2], words[3]);
    } else {
#pragma unroll
      for (int k = 0; k < 8; k++) {
        reinterpret_cast<std::uint16_t*>(to + column)[k] = static_cast<std::uint16_t>(words[k / 2] >> k % 2 * 16);
      }
    }
  }
}

}  // namespace triage::attention::sm80
