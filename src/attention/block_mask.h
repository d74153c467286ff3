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

  BitRow() = default;
  __device__ __forceinline__ BitRow(const BlockBits& bits, std::int64_t mask, int row, BlockRange window,
                                    BlockRange all)
      : listed(bits.listed + (mask * bits.rows + row) * bits.row_words),
        full(bits.full + (mask * bits.rows + row) * bits.row_words),
        window(window),
        all(all) {}
  /// `full_bits` are the full ones among the result.
  __device__ __forceinline__ std::uint32_t word(int i, std::uint32_t& full_bits) const {
    full_bits = __ldg(full + i);
    return cut(__ldg(listed + i), full_bits, i);
  }
  /// The same from word i as it lies in memory.
  __device__ __forceinline__ std::uint32_t cut(std::uint32_t listed_bits, std::uint32_t& full_bits, int i) const {
    full_bits &= range_bits(all.begin, all.end, i);
    return (listed_bits & range_bits(window.begin, window.end, i)) | full_bits;
  }
};

/// One block of a walk over several rows, packed into a word: bits 0 to 3 say which rows attend it, bits 4 to 7 which
/// of those in full, bit 8 that the walk is over after it; the block's number stands above.
namespace walk {
constexpr int kFullShift = 4, kBlockShift = 9;
constexpr std::uint32_t kLast = 1u << 8;
}  // namespace walk

/// The blocks that some of up to kRows rows of bits attend, from the last to the first. A whole warp walks together:
/// each lane makes the entry of one bit of a word, so that a step is a shuffle (one thread alone would take longer for
/// an entry than tensor cores for its block).
/// @tparam kBlock 64 or 128 columns: with 128, two bits are one block.
template <int kRows, int kBlock>
class RowsWalk {
 public:
  /// Lane r < kRows brings row r: its number, negative if there is none, and the columns that `window` lets it attend
  /// where a block is not full; `all`: blocks there are.
  __device__ __forceinline__ RowsWalk(const BlockBits& bits, std::int64_t mask, int row, BlockRange window,
                                      BlockRange all)
      : window_(window), all_(all), word_((all.end + 31) / 32) {
    if (lane() < kRows && row >= 0) {
      const std::int64_t start = (mask * bits.rows + row) * bits.row_words;
      listed_ = bits.listed + start;
      full_ = bits.full + start;
    }
    load();
  }

  /// The next block without kLast; false at the end. All lanes get the same.
  __device__ __forceinline__ bool next(std::uint32_t& entry) {
    while (any_ == 0) {
      if (word_ < 0) return false;
      read_word();
    }
    const int bit = 31 - __clz(any_);
    any_ ^= 1u << bit;
    entry = __shfl_sync(0xffffffffu, entry_, bit);
    return true;
  }

 private:
  static_assert(kRows <= 4 && (kBlock == 64 || kBlock == 128), "an entry has room for four rows");
  static __device__ __forceinline__ int lane() { return threadIdx.x % 32; }

  // Asks for the row's word before this one.
  __device__ __forceinline__ void load() {
    word_--;
    if (word_ < 0 || listed_ == nullptr) return;
    next_listed_ = __ldg(listed_ + word_);
    next_full_ = __ldg(full_ + word_);
  }

  // The entries of the word that has been asked for.
  __device__ __forceinline__ void read_word() {
    const std::uint32_t full_bits = next_full_ & range_bits(all_.begin, all_.end, word_);
    const std::uint32_t bits = (next_listed_ & range_bits(window_.begin, window_.end, word_)) | full_bits;
    std::uint32_t flags = 0;
#pragma unroll
    for (int r = 0; r < kRows; r++) {
      std::uint32_t row = __shfl_sync(0xffffffffu, bits, r), full = __shfl_sync(0xffffffffu, full_bits, r);
      if constexpr (kBlock == 128) {
        row |= row >> 1;
        full |= full >> 1;
      }
      flags |= (row >> lane() & 1) << r | (full >> lane() & 1) << (walk::kFullShift + r);
    }
    entry_ = static_cast<std::uint32_t>(32 * word_ + lane()) / (kBlock / 64) << walk::kBlockShift | flags;
    any_ = __ballot_sync(0xffffffffu, flags != 0 && (kBlock == 64 || lane() % 2 == 0));
    load();
  }

  const std::uint32_t *listed_ = nullptr, *full_ = nullptr;  ///< of the lane's row
  BlockRange window_, all_;
  int word_;  ///< that has been asked for
  std::uint32_t next_listed_ = 0, next_full_ = 0, any_ = 0, entry_ = 0;
};

/// The walk over the blocks of keys of kRows rows of 64 queries from `row` on, a multiple of 64.
template <int kRows, int kBlock>
__device__ __forceinline__ RowsWalk<kRows, kBlock> walk_keys(const AttentionMask& mask, std::int64_t number,
                                                             const Mask& window, int row, int seqlen_q) {
  const int first = row + 64 * static_cast<int>(threadIdx.x % 32);  // of this lane's row
  const bool given = threadIdx.x % 32 < kRows && first < seqlen_q;
  return {mask.by_query, number, given ? first / 64 : -1,
          given ? window_blocks(window, first, min(first + 63, seqlen_q - 1)) : BlockRange{0, 0},
          BlockRange{0, (window.seqlen_k + 63) / 64}};
}

/// The walk over the blocks of queries of kRows rows of 64 keys from `key` on, a multiple of 64.
template <int kRows>
__device__ __forceinline__ RowsWalk<kRows, 64> walk_queries(const AttentionMask& mask, std::int64_t number,
                                                            const Mask& window, int key, int seqlen_q) {
  const int first = key + 64 * static_cast<int>(threadIdx.x % 32), last = min(first + 63, window.seqlen_k - 1);
  const bool given = threadIdx.x % 32 < kRows && first < window.seqlen_k;
  const int first_row = max(first - window.shift_right, 0), last_row = min(last + window.shift_left, seqlen_q - 1);
  const BlockRange range = first_row > last_row ? BlockRange{0, 0} : BlockRange{first_row / 64, last_row / 64 + 1};
  return {mask.by_key, number, given ? first / 64 : -1, given ? range : BlockRange{0, 0},
          BlockRange{0, (seqlen_q + 63) / 64}};
}

/// Sets logits to -inf where a query's word says so; columns as in mask_logits. `key` is that of this lane's first
/// column within the block of 64.
template <int kCount>
__device__ __forceinline__ void mask_elements(float (&s)[kCount], const std::uint64_t (&words)[2], int key) {
  static_assert(kCount == 32, "64 keys");
#pragma unroll
  for (int i = 0; i < 2; i++) {
    const std::uint64_t bits = words[i] >> key;
#pragma unroll
    for (int j = 0; j < kCount / 4; j++) {
#pragma unroll
      for (int c = 0; c < 2; c++) {
        if ((bits >> (8 * j + c) & 1) == 0) s[4 * j + 2 * i + c] = -INFINITY;
      }
    }
  }
}

#endif

}  // namespace triage::attention
