// What tiles of attention's forward and backward have in common. Included only by src/cpu/*_kernel.cpp (see simd.h).
#pragma once

#include <cmath>
#include <cstdint>

#include "cpu/attention_sequence.h"
#include "cpu/epilogue.h"
#include "cpu/pack.h"
#include "cpu/simd.h"

namespace triage::cpu::TRIAGE_ISA {

inline constexpr int kAttentionRows = 128;  // a multiple of every strip's rows
inline constexpr int kAttentionKeys = 96;   // whole panels for every vector width, and a multiple of strips' rows as well

static_assert(kAttentionKeys % kPanelColumns<float> == 0 && kAttentionKeys % kPanelColumns<double> == 0,
              "keys are packed in whole panels");

/// Rows of queries (query * heads side by side + head) and keys that a task is at. Both are listed by number, for a
/// block-sparse mask leaves some out.
struct AttentionTile {
  AttentionSequence sequence;
  std::int64_t b, first_head, side;  ///< the sequence; heads [first_head, first_head + side) stand side by side
  int rows = 0, keys = 0;
  std::int64_t row[kAttentionRows], key[kAttentionKeys];
};

static inline AttentionTile tile_of(const AttentionCall& call, std::int64_t b, std::int64_t first_head) {
  AttentionTile tile;
  tile.sequence = sequence_of(call, b);
  tile.b = b;
  tile.first_head = first_head;
  tile.side = heads_side_by_side(call);
  return tile;
}

static inline std::int64_t query_of(const AttentionTile& tile, int r) { return tile.row[r] / tile.side; }
static inline std::int64_t head_of(const AttentionTile& tile, int r) {
  return tile.first_head + tile.row[r] % tile.side;
}
static inline std::int64_t kv_head_of(const AttentionCall& call, const AttentionTile& tile) {
  return tile.first_head / call.problem.group();
}

/// Rows of queries that a task takes. With a block-sparse mask they are of no more blocks of queries than need be, for
/// each block has keys of its own.
static inline std::int64_t rows_of_task(const AttentionCall& call) {
  const std::int64_t block = call.problem.pattern_block_q * heads_side_by_side(call);
  return call.mask.given() && block < kAttentionRows ? block : kAttentionRows;
}

/// Takes the next numbers of [*next, end), at most `most`, without the blocks of `block` numbers for whose index
/// `wanted` is false. Returns how many there are; 0 at the end.
template <class Wanted>
static int take_numbers(std::int64_t* next, std::int64_t end, std::int64_t block, const Wanted& wanted, int most,
                        std::int64_t* numbers) {
  int count = 0;
  while (*next < end && count < most) {
    const std::int64_t index = *next / block, block_end = (index + 1) * block < end ? (index + 1) * block : end;
    if (!wanted(index)) {
      *next = block_end;
      continue;
    }
    for (; *next < block_end && count < most; ++*next) numbers[count++] = *next;
  }
  return count;
}

/// Keys that rows of a tile attend: all that do are among them.
static inline KeyRange keys_of_tile(const AttentionCall& call, const AttentionTile& tile) {
  if (call.mask.given()) return {0, tile.sequence.k_length};  // full blocks know no window
  // Ranges of later queries begin and end later.
  return {keys_of_query(call.problem, tile.sequence, query_of(tile, 0)).begin,
          keys_of_query(call.problem, tile.sequence, query_of(tile, tile.rows - 1)).end};
}

/// The next keys of [*next, end) that some row of the tile may attend. False if there are none.
static inline bool take_keys(const AttentionCall& call, std::int64_t* next, std::int64_t end, AttentionTile* tile) {
  constexpr std::int64_t kBlock = AttentionMask::kBlock;
  const auto wanted = [&](std::int64_t key_block) {
    if (!call.mask.given()) return true;
    const std::int64_t last = query_of(*tile, tile->rows - 1);
    for (std::int64_t query = query_of(*tile, 0); query <= last; query = (query / kBlock + 1) * kBlock) {
      const MaskRow row = mask_row(call.mask, tile->b, tile->first_head, query / kBlock);
      const std::int64_t last_of_block = query / kBlock * kBlock + kBlock - 1;
      const std::int64_t to = last < last_of_block ? last : last_of_block;
      if (may_attend(call.problem, tile->sequence, row, query, to, key_block)) return true;
    }
    return false;
  };
  tile->keys = take_numbers(next, end, kBlock, wanted, kAttentionKeys, tile->key);
  return tile->keys > 0;
}

/// Which of a tile's keys a row attends; those beyond tile.keys are not.
struct AttendedKeys {
  bool all;  ///< kAttentionKeys of them
  std::int32_t of[kAttentionKeys];  ///< only if not all; as wide as a float, for vector code
};

static inline void find_attended(const AttentionCall& call, const AttentionTile& tile, int r, AttendedKeys* attended) {
  const std::int64_t query = query_of(tile, r);
  const KeyRange window = keys_of_query(call.problem, tile.sequence, query);
  if (!call.mask.given()) {  // the tile's keys follow each other
    const std::int64_t begin = window.begin - tile.key[0], end = window.end - tile.key[0];
    attended->all = begin <= 0 && end >= kAttentionKeys;
    if (attended->all) return;
    for (int n = 0; n < kAttentionKeys; ++n) attended->of[n] = n >= begin && n < end;
    return;
  }
  constexpr std::int64_t kBlock = AttentionMask::kBlock;
  const MaskRow row = mask_row(call.mask, tile.b, tile.first_head, query / kBlock);
  attended->all = tile.keys == kAttentionKeys;
  for (int first = 0; first < tile.keys;) {
    const std::int64_t block = tile.key[first] / kBlock;
    const int shift = static_cast<int>(tile.key[first] % kBlock);
    int count = static_cast<int>(kBlock) - shift;
    if (count > tile.keys - first) count = tile.keys - first;
    const std::uint64_t bits = attended_bits(call.mask, row, window, query, block) >> shift;
    for (int n = 0; n < count; ++n) attended->of[first + n] = static_cast<std::int32_t>(bits >> n & 1);
    if (~bits << (kBlock - count) != 0) attended->all = false;
    first += count;
  }
  for (int n = tile.keys; n < kAttentionKeys; ++n) attended->of[n] = 0;
}

/// tanh within a few ulp, without branches, so that loops over it become vector code: Cephes' polynomial near 0, where
/// 1 - 2 / (exp(2x) + 1) would lose digits, and that elsewhere.
static inline float tanh_of(float x) {
  const float size = x < 0 ? -x : x;
  const float square = x * x;
  float p = -5.70498872745e-3f;
  p = p * square + 2.06390887954e-2f;
  p = p * square - 5.37397155531e-2f;
  p = p * square + 1.33314422036e-1f;
  p = p * square - 3.33332819422e-1f;
  const float near = x + x * square * p;
  const float far = 1.0f - 2.0f / (exp_of(2.0f * size) + 1.0f);
  return size < 0.625f ? near : x < 0 ? -far : far;
}
static inline double tanh_of(double x) { return std::tanh(x); }

/// panel[d * kPanelColumns + n] = row(n)[d] for n < rows and d < dim, 0 for the rest of the panel's columns; through a
/// small square, as pack_panel does.
template <class Storage, class RowAt>
static void pack_transposed(const RowAt& row, int rows, int dim, Compute<Storage>* panel) {
  using T = Compute<Storage>;
  constexpr int kSide = 16, kColumns = kPanelColumns<T>;
  T square[kSide][kSide];
  for (int n = 0; n < kColumns; n += kSide) {
    const int count = kColumns - n < kSide ? kColumns - n : kSide;
    const Storage* from[kSide];
    for (int i = 0; i < count && n + i < rows; ++i) from[i] = row(n + i);
    for (int d = 0; d < dim; d += kSide) {
      const int depth = dim - d < kSide ? dim - d : kSide;
      for (int i = 0; i < count; ++i) {
        if (n + i < rows) {
          widen_row(from[i] + d, depth, square[i]);
        } else {
          for (int j = 0; j < depth; ++j) square[i][j] = 0;
        }
      }
      for (int j = 0; j < depth; ++j)
        for (int i = 0; i < count; ++i) panel[(d + j) * kColumns + n + i] = square[i][j];
    }
  }
}

}  // namespace triage::cpu::TRIAGE_ISA
