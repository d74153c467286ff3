// Which keys a query attends, and which blocks of keys that makes: causal masks, windows and ragged lengths are one
// thing, an interval of keys per query that moves by one key a query.
#pragma once

#include <cstdint>

namespace triage::attention {

/// Lengths the kernels take: sums of a length and a window then stay below 2^31.
constexpr std::int64_t kMaxLength = std::int64_t{1} << 29;
constexpr int kNoWindow = 1 << 30;

/// A window as the kernels hold it; -1 means no limit.
inline int device_window(std::int64_t window) {
  return window < 0 || window > kMaxLength ? kNoWindow : static_cast<int>(window);
}

struct BlockRange {
  int begin, end;
};

/// The mask of one sequence: query `row` attends keys first_key(row) .. last_key(row), none if that is empty.
struct Mask {
  int seqlen_k;
  int shift_left, shift_right;  ///< row - shift_left .. row + shift_right, before cutting to 0 .. seqlen_k - 1

  Mask() = default;
  constexpr Mask(int seqlen_q, int seqlen_k, int window_left, int window_right)
      : seqlen_k(seqlen_k),
        shift_left(window_left - (seqlen_k - seqlen_q)),
        shift_right(window_right + (seqlen_k - seqlen_q)) {}

  constexpr int first_key(int row) const {
    const int key = row - shift_left;
    return key > 0 ? key : 0;
  }
  constexpr int last_key(int row) const {
    const int key = row + shift_right;
    return key < seqlen_k ? key : seqlen_k - 1;
  }
  /// Blocks of kBlock keys that some row of first_row .. last_row attends; at least one block, which is then fully
  /// masked.
  template <int kBlock>
  constexpr BlockRange blocks(int first_row, int last_row) const {
    const int last = last_key(last_row);
    const int end = last < 0 ? 1 : last / kBlock + 1;
    const int begin = first_key(first_row) / kBlock;
    return {begin < end ? begin : end - 1, end};
  }
  /// Blocks that all of first_row .. last_row attend whole: outside of these, a mask is needed.
  template <int kBlock>
  constexpr BlockRange whole_blocks(int first_row, int last_row) const {
    const int keys = last_key(first_row) + 1;
    return {(first_key(last_row) + kBlock - 1) / kBlock, keys > 0 ? keys / kBlock : 0};
  }
};

#ifdef __CUDACC__
/// Sets logits of keys that a row does not attend to -inf. The accumulators lie as in device/softmax.h; `rows` are this
/// lane's queries, `key` is that of its first column.
template <int kCount>
__device__ __forceinline__ void mask_logits(float (&s)[kCount], const Mask& mask, const int (&rows)[2], int key) {
#pragma unroll
  for (int i = 0; i < 2; i++) {
    const int low = mask.first_key(rows[i]) - key, high = mask.last_key(rows[i]) - key;
#pragma unroll
    for (int j = 0; j < kCount / 4; j++) {
#pragma unroll
      for (int c = 0; c < 2; c++) {
        const int column = 8 * j + c;
        if (column < low || column > high) s[4 * j + 2 * i + c] = -INFINITY;
      }
    }
  }
}
#endif

}  // namespace triage::attention
