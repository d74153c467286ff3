// Reading a block-sparse mask in a kernel: rows of bits, and walks over the blocks that some of several rows attend.
#pragma once

#include <cstdint>

#include "attention/geometry.h"
#include "registry/attention_kernel.h"

namespace triage::attention {

#ifdef __CUDACC__

/// Which of the call's masks a head of a sequence has.
__device__ __forceinline__ std::int64_t mask_number(const AttentionMask& mask, int batch, int head) {
  return batch * mask.batch_masks + head / mask.heads_per_mask;
}

/// Bits begin .. end - 1 of word `word`.
__device__ __forceinline__ std::uint32_t range_bits(int begin, int end, int word) {
  const int low = max(begin - 32 * word, 0), high = min(end - 32 * word, 32);
  if (low >= high) return 0;
  return (high == 32 ? ~0u : (1u << high) - 1) & (~0u << low);
}

/// Blocks of 64 keys that queries first .. last of a sequence attend by the call's window; none: begin >= end.
__device__ __forceinline__ BlockRange window_blocks(const Mask& mask, int first, int last) {
  const int begin = mask.first_key(first), end = mask.last_key(last);
  return begin > end ? BlockRange{0, 0} : BlockRange{begin / AttentionMask::kBlock, end / AttentionMask::kBlock + 1};
}

/// One row of bits, cut to what can be attended: listed blocks within `window`, full ones within `all`.
struct BitRow {
  const std::uint32_t *listed = nullptr, *full = nullptr;
  BlockRange window{0, 0}, all{0, 0};

  __device__ __forceinline__ BitRow() = default;
  __device__ __forceinline__ BitRow(const BlockBits& bits, std::int64_t mask, int row, BlockRange window,
                                    BlockRange all)
      : listed(bits.listed + (mask * bits.rows + row) * bits.row_words),
        full(bits.full + (mask * bits.rows + row) * bits.row_words),
        window(window),
        all(all) {}
  /// `full_bits` are the full ones among the result.
  __device__ __forceinline__ std::uint32_t word(int i, std::uint32_t& full_bits) const {
    full_bits = __ldg(full + i) & range_bits(all.begin, all.end, i);
    return (__ldg(listed + i) & range_bits(window.begin, window.end, i)) | full_bits;
  }
};

#endif

}  // namespace triage::attention
