// The sums of d_q of attention's backward in one pass on Hopper, by blocks of 64 queries of a head: the first tile of
// keys that comes by a block stores its part, the others add, and the last one turns the sum into d_q while it still
// lies in L2. So nothing is zeroed before, and no kernel follows. A word per block tells who is who.
#pragma once

#include <cstdint>

#include "attention/backward_rows.h"
#include "attention/sequences.h"
#include "registry/attention_kernel.h"

namespace triage::attention::sm90 {

constexpr int kSumRows = 64;  ///< queries of a block

/// A block's word: bits 0 to 14 count the tiles that have come, bit 15 says that the first one's part is stored, and
/// above stand the tiles whose parts are still missing.
namespace sum_state {
constexpr std::uint32_t kCame = 1, kStored = 1u << 15, kMissing = 1u << 16;
constexpr std::uint32_t kMostTiles = kStored - 1;
}  // namespace sum_state

/// A block's rows of d_q.
struct alignas(16) SumRows {
  std::int64_t start;  ///< of the first one, in elements
  std::int32_t count;  ///< up to kSumRows; the others are padding
};

/// Blocks are those of all heads' padded rows (backward_rows.h).
struct QuerySums {
  float* sums;            ///< [blocks, panels] of 64 x 64, in the order of a warpgroup's accumulators
  std::uint32_t* states;  ///< [blocks, CTAs of a cluster]: each CTA of a cluster adds up panels of its own
  SumRows* rows;          ///< [blocks]
};

struct SumsPlan {
  Sequences sequences;
  BackwardRows rows;
  QuerySums sums;
  AttentionTensor d_q;
  int head_dim;
  int tile_keys;
  int cluster;  ///< CTAs
};

#ifdef __CUDACC__
/// Enqueues the kernel that fills `states` and `rows`, and writes d_q = 0 where no tile comes by.
void plan_sums(const SumsPlan& plan, cudaStream_t stream);  // sm90_backward_sums.cu
#endif

}  // namespace triage::attention::sm90
