// The sm80 kernels' walk over the blocks of a block-sparse mask.
#pragma once

#include <cstdint>

#include "attention/block_mask.h"

namespace triage::attention::sm80 {

/// A block of the walk, the same to a whole warp.
struct WalkBlock {
  int block;          ///< in blocks of 64; -1: there are no more
  bool listed, full;  ///< in the row that this warp works for
};

/// Walks over the blocks that at least one of a CTA's rows of bits lists, from the last to the first. Warps walk each
/// on their own, and all see the same blocks. A lane holds a word, so that 1024 blocks cost one load; words come from
/// L2, and empty ones cost nothing.
class BlockWalk {
 public:
  /// @param words of a row of bits; 0: nothing to walk over.
  __device__ __forceinline__ void start(int words) {
    words_ = words;
    group_ = (words + 31) / 32;
    waiting_ = rest_ = 0;
  }

  /// Call with all lanes.
  /// @param read (int word, std::uint32_t& own, std::uint32_t& full) -> std::uint32_t: a word's bits of all rows, and
  ///   those of this warp's row.
  template <typename Read>
  __device__ __forceinline__ WalkBlock next(const Read& read) {
    while (rest_ == 0) {
      while (waiting_ == 0) {
        if (group_ == 0) return {-1, false, false};
        group_--;
        const int word = group_ * 32 + lane();
        lane_any_ = lane_own_ = lane_full_ = 0;
        if (word < words_) lane_any_ = read(word, lane_own_, lane_full_);
        waiting_ = __ballot_sync(~0u, lane_any_ != 0);
      }
      const int from = 31 - __clz(waiting_);
      waiting_ ^= 1u << from;
      word_ = group_ * 32 + from;
      rest_ = __shfl_sync(~0u, lane_any_, from);
      own_ = __shfl_sync(~0u, lane_own_, from);
      full_ = __shfl_sync(~0u, lane_full_, from);
    }
    const int bit = 31 - __clz(rest_);
    rest_ ^= 1u << bit;
    return {word_ * 32 + bit, (own_ >> bit & 1) != 0, (full_ >> bit & 1) != 0};
  }

 private:
  static __device__ __forceinline__ int lane() { return threadIdx.x % 32; }

  int words_, group_, word_;
  std::uint32_t waiting_;                          ///< the group's words that hold bits and are still to come
  std::uint32_t rest_, own_, full_;                ///< of the word at work; `rest_`: bits still to come
  std::uint32_t lane_any_, lane_own_, lane_full_;  ///< this lane's word of the group
};

/// How many bits a row has before a place. A lane looks at a word of 32 bits at the beginning of a step, and counts at
/// its end, when the word has long arrived.
class BitsBefore {
 public:
  __device__ __forceinline__ void look(const BitRow& row, int place) {
    if (lane() * 32 >= place) return;
    listed_ = __ldg(row.listed + lane());
    full_ = __ldg(row.full + lane());
  }
  /// With the same row and place. Call with all lanes.
  __device__ __forceinline__ int count(const BitRow& row, int place) const {
    std::uint32_t full = full_;
    int sum = __popc(row.cut(listed_, full, lane()) & range_bits(0, place, lane()));
#pragma unroll 1
    for (int word = lane() + 32; word * 32 < place; word += 32) {
      sum += __popc(row.word(word, full) & range_bits(0, place, word));
    }
    return __reduce_add_sync(~0u, sum);
  }

 private:
  static __device__ __forceinline__ int lane() { return threadIdx.x % 32; }

  std::uint32_t listed_ = 0, full_ = 0;
};

/// Sets logits of a row to -inf where the bit of the element is 0. @param bits of the row, from this lane's first
/// column on. @param i which of the lane's two rows.
template <int kCount>
__device__ __forceinline__ void mask_elements(float (&s)[kCount], int i, std::uint64_t bits) {
#pragma unroll
  for (int j = 0; j < kCount / 4; j++) {
#pragma unroll
    for (int c = 0; c < 2; c++) {
      if (!(bits >> (8 * j + c) & 1)) s[4 * j + 2 * i + c] = -INFINITY;
    }
  }
}

}  // namespace triage::attention::sm80
