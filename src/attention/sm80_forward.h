// Attention forward by mma.sync, from 8.0 on: O = softmax(scale * Q K^T + mask) V.
//
// A CTA computes kBlockM rows of one head against a range of blocks of kBlockN keys, from the last to the first. A row
// is a query; where that pays, the query heads that share a head of K and V are packed: row r is query r / pack of head
// r % pack. Keys and values arrive by cp.async, kStages blocks in flight or at work. A warp holds kRowTiles x 16 rows
// of S and O in registers; with two tiles, each fragment of K and V is read from shared memory once for 32 rows, which
// takes the mainloop below shared memory's bandwidth (16 rows: 256 clk of reads for 223 clk of mma.sync at head_dim
// 128).
//
// With kWarpsN > 1, warps share the rows and divide the keys of a block among themselves, and add up at the end: for
// decoding, where there are up to 16 rows. Keys may also be divided among CTAs (splits): each writes its O and lse as
// fp32 into the workspace, and combine_kernel adds them in order (Flash-Decoding), so that results repeat bitwise.
//
// K and V may lie in pages: only the address of a row changes. Rows outside of the sequence are filled with zeros.
//
// With a block-sparse mask, a CTA walks over the blocks of keys that some of its rows attend, and each warp multiplies
// those of its own block of 64 rows.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "attention/sm80_block_walk.h"
#include "attention/sm80_copy.h"
#include "attention/sm80_forward_tile.h"
#include "device/epilogue.h"
#include "device/softmax.h"
#include "ptx/cp_async.h"
#include "ptx/dependent_launch.h"
#include "ptx/ldmatrix.h"
#include "ptx/mbarrier.h"
#include "ptx/mma.h"

namespace triage::attention::sm80 {

/// Between the forward kernel and the sum of splits: from 9.0 on the latter is launched while the former runs.
__device__ __forceinline__ void let_combine_start() {
#if __CUDA_ARCH__ >= 900
  ptx::let_next_kernel_start();
#endif
}
__device__ __forceinline__ void wait_for_forward() {
#if __CUDA_ARCH__ >= 900
  ptx::wait_for_earlier_kernels();
#endif
}

template <typename C>
class Forward {
  using Element = typename C::Element;

 public:
  /// @param tile in shared memory: registers are scarce, and most of it is needed only at the ends.
  __device__ __forceinline__ Forward(const ForwardParams& params, const Tile& tile, std::uint8_t* shared)
      : p_(params),
        t_(tile),
        shared_(shared),
        place_(ptx::shared_address(shared)),
        lane_(threadIdx.x % 32),
        warp_m_(C::kWarpsN > 1 ? 0 : threadIdx.x / 32),
        warp_n_(C::kWarpsN > 1 ? threadIdx.x / 32 : 0) {
    const int batch = p_.sequences.cu_seqlens_k || p_.block_table ? 0 : t_.batch;
    k_ = static_cast<const Element*>(p_.k.data) + batch * p_.k.batch_stride + t_.k_start * p_.k.row_stride +
         t_.kv_head * p_.k.head_stride;
    v_ = static_cast<const Element*>(p_.v.data) + batch * p_.v.batch_stride + t_.k_start * p_.v.row_stride +
         t_.kv_head * p_.v.head_stride;
    // What this warp's rows attend. A warp without rows has nothing to multiply.
    const int first_row = warp_m_ * C::kRowTiles * 16, rows = min(t_.rows - first_row, C::kRowTiles * 16);
    own_ = whole_ = {0, 0};
    if (rows > 0) {
      const Mask mask = this->mask();
      const int first = query_of(t_.row + first_row), last = query_of(t_.row + first_row + rows - 1);
      if (mask.last_key(last) >= 0) own_ = mask.template blocks<C::kBlockN>(first, last);
      whole_ = mask.template whole_blocks<C::kBlockN>(first, last);
    }
#pragma unroll
    for (int r = 0; r < C::kRowTiles; r++) {
      softmax_[r].reset();
#pragma unroll
      for (int i = 0; i < C::kHeadDim / 2; i++) o_[r][i] = 0.0f;
    }
  }

  __device__ __forceinline__ void run() {
    if constexpr (C::kSparse) {
      walk_listed();
    } else {
      const int blocks = t_.block_end - t_.block_begin;
      if (blocks > 0) {
        load_q();
        walk(blocks);
      }
    }
#pragma unroll
    for (int r = 0; r < C::kRowTiles; r++) softmax_[r].reduce();
    if constexpr (C::kWarpsN > 1) {
      add_up_and_store();
    } else {
      store();
    }
  }

 private:
  using Logits = float[C::kRowTiles][C::kWarpKeys / 2];
  static constexpr int kPasses = C::kBlockN / C::kRowsPerPass;  ///< of a copy of a block

  /// Whole blocks, the next ones on their way.
  __device__ __forceinline__ void walk(int blocks) {
#pragma unroll
    for (int i = 0; i < C::kStages - 1; i++) {
      if (i < blocks) load_block(t_.block_end - 1 - i, i);
      ptx::cp_async_commit();
    }
    int stage = 0;
#pragma unroll 1
    for (int i = 0; i < blocks; i++) {
      ptx::cp_async_wait_pending<C::kStages - 2>();
      __syncthreads();  // the block has arrived, and nobody reads the one before any more
      if (i + C::kStages - 1 < blocks) {
        load_block(t_.block_end - i - C::kStages, stage == 0 ? C::kStages - 1 : stage - 1);
      }
      ptx::cp_async_commit();
      if (C::kQInRegisters && i == 0) read_q();
      const int block = t_.block_end - 1 - i;
      if (block >= own_.begin && block < own_.end) {
        Logits s;
        multiply_logits(s, k_place(stage));
        weigh_values(s, block, v_place(stage));
      }
      if (++stage == C::kStages) stage = 0;
    }
  }

  /// A block of kBlockN keys of a block-sparse mask.
  struct Listed {
    int block;          ///< -1: there are no more
    bool listed, full;  ///< in this warp's row of the mask
    int elements;       ///< entry of bits of elements; -1: none
  };

  /// The same over the blocks that the mask lists, known kStages - 1 ahead.
  __device__ __forceinline__ void walk_listed() {
    constexpr int kBlock = AttentionMask::kBlock, kParts = kBlock / C::kBlockN;
    const AttentionMask& blocks = p_.mask;
    const std::int64_t number = mask_number(blocks, t_.batch, t_.head);
    const int own = warp_m_ * C::kRowTiles * 16 / kBlock, own_row = t_.row / kBlock + own;
    const bool works = warp_m_ * C::kRowTiles * 16 < t_.rows;
    const auto read = [&](int word, std::uint32_t& listed, std::uint32_t& full) {
      std::uint32_t any = 0;
#pragma unroll
      for (int r = 0; r < C::kBlockM / kBlock; r++) {
        const int first = t_.row + r * kBlock;
        if (first >= t_.seqlen_q) break;
        const BlockRange window = window_blocks(mask(), first, min(first + kBlock, t_.seqlen_q) - 1);
        std::uint32_t full_bits;
        const std::uint32_t bits = BitRow(blocks.by_query, number, first / kBlock, window,
                                          {0, (t_.seqlen_k + kBlock - 1) / kBlock})
                                       .word(word, full_bits);
        any |= bits;
        if (r == own && works) listed = bits, full = full_bits;
      }
      return any;
    };
    BlockWalk walk;
    walk.start(blocks.by_query.row_words);
    Listed last{-1, false, false, -1};
    int parts = 0;  // of the walk's block, still to come
    const auto take = [&] {
      if (parts > 0) {
        parts--, last.block--;
        return last;
      }
      const WalkBlock at = walk.next(read);
      last = {-1, at.listed, at.full, -1};
      if (at.block < 0) return last;
      if (blocks.element_index && at.listed && !at.full) {
        last.elements = __ldg(blocks.element_index +
                              (number * blocks.by_query.rows + own_row) * blocks.by_key.rows + at.block);
      }
      parts = kParts - 1;
      last.block = at.block * kParts + parts;
      return last;
    };
    Listed coming[C::kStages - 1];
    coming[0] = take();
    if (coming[0].block < 0) return;
    load_q();
#pragma unroll
    for (int i = 0; i < C::kStages - 1; i++) {
      if (i > 0) coming[i] = take();
      if (coming[i].block >= 0) load_block(coming[i].block, i);
      ptx::cp_async_commit();
    }
    int stage = 0;
    bool first = true;
#pragma unroll 1
    while (coming[0].block >= 0) {
      ptx::cp_async_wait_pending<C::kStages - 2>();
      __syncthreads();
      const Listed at = coming[0];
#pragma unroll
      for (int i = 0; i < C::kStages - 2; i++) coming[i] = coming[i + 1];
      Listed& next = coming[C::kStages - 2];
      next = take();
      if (next.block >= 0) load_block(next.block, stage == 0 ? C::kStages - 1 : stage - 1);
      ptx::cp_async_commit();
      if (C::kQInRegisters && first) read_q();
      first = false;
      if (at.listed && (at.full || (at.block >= own_.begin && at.block < own_.end))) {
        Logits s;
        multiply_logits(s, k_place(stage));
        weigh_values(s, at.block, v_place(stage), at.full, at.elements);
      }
      if (++stage == C::kStages) stage = 0;
    }
  }

  /// Row of the tile that holds the i-th half of this lane's accumulators of row tile r.
  __device__ __forceinline__ int row_of(int r, int i) const {
    return (warp_m_ * C::kRowTiles + r) * 16 + lane_ / 4 + 8 * i;
  }
  __device__ __forceinline__ int query_of(int row) const { return p_.pack == 1 ? row : row / p_.pack; }
  __device__ __forceinline__ Mask mask() const {
    return Mask(t_.seqlen_q, t_.seqlen_k, p_.sequences.window_left, p_.sequences.window_right);
  }
  __device__ __forceinline__ std::uint32_t k_place(int stage) const {
    return place_ + C::kQBytes + stage * 2 * C::kBlockBytes;
  }
  __device__ __forceinline__ std::uint32_t v_place(int stage) const { return k_place(stage) + C::kBlockBytes; }

  __device__ __forceinline__ void load_q() {
    const int batch = p_.sequences.cu_seqlens_q ? 0 : t_.batch;
    const int first = threadIdx.x / C::kChunks, chunk = threadIdx.x % C::kChunks;
    const Element* const q = static_cast<const Element*>(p_.q.data) + batch * p_.q.batch_stride +
                             t_.q_start * p_.q.row_stride + t_.head * p_.q.head_stride + chunk * 8;
    const int rows = chunk * 8 < p_.head_dim ? t_.rows : 0;  // that this thread copies
    const Element* from = q + (t_.row + first) * p_.q.row_stride;
#pragma unroll 4
    for (int row = first; row < C::kBlockM; row += C::kRowsPerPass) {
      if (p_.pack > 1) {
        const int query = query_of(t_.row + row), head = t_.row + row - query * p_.pack;
        from = q + query * p_.q.row_stride + head * p_.q.head_stride;
      }
      copy_chunk(place_ + tile_offset<C::kRowBytes>(row, chunk), from, row < rows, p_.aligned16);
      from += C::kRowsPerPass * p_.q.row_stride;
    }
  }

  /// Asks for a block.
  __device__ __forceinline__ void load_block(int block, int stage) {
    if (!C::kSparse && p_.block_table) {
      load_pages(block, stage);
    } else {
      load_rows(p_.k, k_, p_.head_dim, block, k_place(stage));
      load_rows(p_.v, v_, p_.head_dim_v, block, v_place(stage));
    }
  }

  /// A block of keys or of values. A copy of no bytes reads nothing, so that its address may lie anywhere.
  __device__ __forceinline__ void load_rows(const Source& source, const Element* head, int head_dim, int block,
                                            std::uint32_t to) {
    const int row = threadIdx.x / C::kChunks, chunk = threadIdx.x % C::kChunks, key = block * C::kBlockN + row;
    const int keys = chunk * 8 < head_dim ? t_.seqlen_k : 0;  // that this thread copies
    const Element* from = head + key * source.row_stride + chunk * 8;
    const auto copy = [&](int pass, bool aligned) {
      copy_chunk(to + tile_offset<C::kRowBytes>(row + pass * C::kRowsPerPass, chunk), from,
                 key + pass * C::kRowsPerPass < keys, aligned);
      from += C::kRowsPerPass * source.row_stride;
    };
    if (p_.aligned16) {
#pragma unroll
      for (int pass = 0; pass < kPasses; pass++) copy(pass, true);
    } else {
#pragma unroll 1
      for (int pass = 0; pass < kPasses; pass++) copy(pass, false);
    }
  }

  /// A block of keys and values whose rows lie in pages: the table is read once for both.
  __device__ __forceinline__ void load_pages(int block, int stage) {
    const int row = threadIdx.x / C::kChunks, chunk = threadIdx.x % C::kChunks, key = block * C::kBlockN + row;
    const std::uint32_t to = k_place(stage);
    const std::int32_t* const table = p_.block_table + t_.batch * p_.block_table_stride;
    const auto copy = [&](int pass, bool aligned) {
      const int k = key + pass * C::kRowsPerPass;
      const bool inside = k < t_.seqlen_k;
      const std::int64_t page = inside ? __ldg(table + (k >> p_.page_shift)) : 0;
      const std::int64_t in = k & ((1 << p_.page_shift) - 1);
      const std::uint32_t place = to + tile_offset<C::kRowBytes>(row + pass * C::kRowsPerPass, chunk);
      copy_chunk(place, k_ + page * p_.k.batch_stride + in * p_.k.row_stride + chunk * 8,
                 inside && chunk * 8 < p_.head_dim, aligned);
      copy_chunk(place + C::kBlockBytes, v_ + page * p_.v.batch_stride + in * p_.v.row_stride + chunk * 8,
                 inside && chunk * 8 < p_.head_dim_v, aligned);
    };
    if (p_.aligned16) {
#pragma unroll
      for (int pass = 0; pass < kPasses; pass++) copy(pass, true);
    } else {
#pragma unroll 1
      for (int pass = 0; pass < kPasses; pass++) copy(pass, false);
    }
  }

  __device__ __forceinline__ void read_q_step(std::uint32_t (&a)[C::kRowTiles][4], int step) {
#pragma unroll
    for (int r = 0; r < C::kRowTiles; r++) {
      ptx::ldmatrix_x4<false>(a[r], place_ + tile_offset<C::kRowBytes>((warp_m_ * C::kRowTiles + r) * 16 + lane_ % 16,
                                                                       2 * step + lane_ / 16));
    }
  }
  __device__ __forceinline__ void read_q() {
    if constexpr (C::kQInRegisters) {
#pragma unroll
      for (int step = 0; step < C::kHeadDim / 16; step++) read_q_step(q_fragments_[step], step);
    }
  }

  /// Softmax of a block's logits, and O += P V.
  /// @param full the call's window does not count. @param elements entry of bits of elements; -1: none.
  __device__ __forceinline__ void weigh_values(Logits& s, int block, std::uint32_t v, bool full = false,
                                               int elements = -1) {
    constexpr int kTiles = C::kWarpKeys / 8;
    bool masked = block >= whole_.end || block < whole_.begin;
    if (C::kSparse && full) masked = (block + 1) * C::kBlockN > t_.seqlen_k;
    const int key = block * C::kBlockN + warp_n_ * C::kWarpKeys + lane_ % 4 * 2;
    std::uint32_t p[C::kRowTiles][kTiles * 2];
#pragma unroll
    for (int r = 0; r < C::kRowTiles; r++) {
      if (p_.softcap.exponent != 0.0f) device::cap_logits(s[r], p_.softcap);
      if (masked) {
        const Mask limits = C::kSparse && full ? Mask(t_.seqlen_q, t_.seqlen_k, kNoWindow, kNoWindow) : mask();
        mask_logits(s[r], limits, {query_of(t_.row + row_of(r, 0)), query_of(t_.row + row_of(r, 1))}, key);
      }
      if (C::kSparse && elements >= 0) {
#pragma unroll
        for (int i = 0; i < 2; i++) {
          const std::int64_t row = elements * std::int64_t{64} + (t_.row + row_of(r, i)) % 64;
          mask_elements(s[r], i, __ldg(p_.mask.elements + row) >> key % 64);
        }
      }
      float factor[2];
      if (softmax_[r].advance(s[r], p_.scale_log2, factor)) {
#pragma unroll
        for (int i = 0; i < C::kHeadDim / 2; i++) o_[r][i] *= factor[i / 2 % 2];
      }
      softmax_[r].exponentiate(s[r], p_.scale_log2);
#pragma unroll
      for (int i = 0; i < kTiles * 2; i++) p[r][i] = device::pack2<Element>(s[r][2 * i], s[r][2 * i + 1]);
    }
    multiply_values(p, v + warp_n_ * C::kWarpKeys * C::kRowBytes);
  }

  // S = Q K^T.
  __device__ __forceinline__ void multiply_logits(Logits& s, std::uint32_t k) {
    k += warp_n_ * C::kWarpKeys * C::kRowBytes;
#pragma unroll
    for (int r = 0; r < C::kRowTiles; r++) {
#pragma unroll
      for (int i = 0; i < C::kWarpKeys / 2; i++) s[r][i] = 0.0f;
    }
    constexpr int kSteps = C::kHeadDim / 16, kPairs = C::kWarpKeys / 16;
    const int row = lane_ / 16 * 8 + lane_ % 8, chunk = lane_ / 8 % 2;
    const auto read_k = [&](std::uint32_t(&b)[4], int step, int n) {
      ptx::ldmatrix_x4<false>(b, k + tile_offset<C::kRowBytes>(n * 16 + row, 2 * step + chunk));
    };
    constexpr int kAhead = C::kAhead, kSlots = kAhead + 1;
    std::uint32_t a[2][C::kRowTiles][4], b[kSlots][4];
    if constexpr (!C::kQInRegisters) read_q_step(a[0], 0);
#pragma unroll
    for (int i = 0; i < kAhead; i++) read_k(b[i], i / kPairs, i % kPairs);
#pragma unroll
    for (int i = 0; i < kSteps * kPairs; i++) {
      const int step = i / kPairs, n = i % kPairs;
      const int next = i + kAhead;
      if (next < kSteps * kPairs) read_k(b[next % kSlots], next / kPairs, next % kPairs);
      if constexpr (!C::kQInRegisters) {
        if (n == 0 && step + 1 < kSteps) read_q_step(a[(step + 1) % 2], step + 1);
      }
#pragma unroll
      for (int r = 0; r < C::kRowTiles; r++) {
        const std::uint32_t(&f)[4] = C::kQInRegisters ? q_fragments_[C::kQInRegisters ? step : 0][r] : a[step % 2][r];
        multiply(&s[r][8 * n], f, b[i % kSlots][0], b[i % kSlots][1]);
        multiply(&s[r][8 * n + 4], f, b[i % kSlots][2], b[i % kSlots][3]);
      }
    }
  }

  // O += P V.
  __device__ __forceinline__ void multiply_values(const std::uint32_t (&p)[C::kRowTiles][C::kWarpKeys / 4],
                                                  std::uint32_t v) {
    constexpr int kSteps = C::kWarpKeys / 16, kPairs = C::kHeadDim / 16;
    const int row = lane_ % 16, chunk = lane_ / 16;
    const auto read_v = [&](std::uint32_t(&b)[4], int step, int n) {
      ptx::ldmatrix_x4<true>(b, v + tile_offset<C::kRowBytes>(step * 16 + row, 2 * n + chunk));
    };
    constexpr int kAhead = C::kAhead, kSlots = kAhead + 1;
    std::uint32_t b[kSlots][4];
#pragma unroll
    for (int i = 0; i < kAhead; i++) read_v(b[i], i / kPairs, i % kPairs);
#pragma unroll
    for (int i = 0; i < kSteps * kPairs; i++) {
      const int step = i / kPairs, n = i % kPairs;
      const int next = i + kAhead;
      if (next < kSteps * kPairs) read_v(b[next % kSlots], next / kPairs, next % kPairs);
#pragma unroll
      for (int r = 0; r < C::kRowTiles; r++) {
        const std::uint32_t f[4] = {p[r][4 * step], p[r][4 * step + 1], p[r][4 * step + 2], p[r][4 * step + 3]};
        multiply(&o_[r][8 * n], f, b[i % kSlots][0], b[i % kSlots][1]);
        multiply(&o_[r][8 * n + 4], f, b[i % kSlots][2], b[i % kSlots][3]);
      }
    }
  }

  static __device__ __forceinline__ void multiply(float* d, const std::uint32_t (&a)[4], std::uint32_t b0,
                                                  std::uint32_t b1) {
    ptx::mma_m16n8k16<Element>(*reinterpret_cast<float(*)[4]>(d), a[0], a[1], a[2], a[3], b0, b1);
  }

  /// Where a row's results go. `index` counts rows over all heads and sequences.
  struct Place {
    int query, head;
    std::int64_t index;
  };
  __device__ __forceinline__ Place place_of(int row) const {
    Place at;
    at.query = query_of(t_.row + row);
    at.head = t_.head + (t_.row + row) - at.query * p_.pack;
    at.index = p_.sequences.cu_seqlens_q
                   ? static_cast<std::int64_t>(at.head) * p_.total_q + t_.q_start + at.query
                   : (static_cast<std::int64_t>(t_.batch) * p_.sequences.heads + at.head) * t_.seqlen_q + at.query;
    return at;
  }
  __device__ __forceinline__ Element* out_row(const Place& at) const {
    return static_cast<Element*>(p_.out) + (p_.sequences.cu_seqlens_q ? 0 : t_.batch) * p_.out_batch_stride +
           (t_.q_start + at.query) * p_.out_row_stride + at.head * p_.out_head_stride;
  }
  /// Eight columns of a row, finished.
  __device__ __forceinline__ void store_chunk(Element* to, const std::uint32_t (&words)[4]) const {
    if (p_.aligned16) {
      *reinterpret_cast<uint4*>(to) = make_uint4(words[0], words[1], words[2], words[3]);
    } else {
#pragma unroll
      for (int i = 0; i < 8; i++) {
        reinterpret_cast<std::uint16_t*>(to)[i] = static_cast<std::uint16_t>(words[i / 2] >> i % 2 * 16);
      }
    }
  }
  __device__ __forceinline__ void store_lse(const Place& at, float lse) const {
    if (p_.splits > 1) {
      p_.partial_lse[t_.split * p_.rows + at.index] = lse;
    } else if (p_.lse) {
      p_.lse[t_.batch * p_.lse_batch_stride + at.head * p_.lse_head_stride + t_.q_start + at.query] = lse;
    }
  }
  __device__ __forceinline__ float sink_of(int head) const {
    return p_.sinks && p_.splits == 1 ? p_.sinks[head] : -INFINITY;
  }

  __device__ __forceinline__ void store() {
#pragma unroll
    for (int r = 0; r < C::kRowTiles; r++) {
#pragma unroll
      for (int i = 0; i < 2; i++) {
        const int row = row_of(r, i);
        const bool inside = row < t_.rows;
        const Place at = place_of(inside ? row : 0);
        float lse;
        const float weight = softmax_[r].finish(i, p_.scale_log2, sink_of(at.head), lse);
        if (inside && lane_ % 4 == 0) store_lse(at, lse);
        if (p_.splits > 1) {
          if (!inside || lse == -INFINITY) continue;  // combine_kernel does not read it
          float* const to = p_.partial_out + (t_.split * p_.rows + at.index) * p_.head_dim_v + lane_ % 4 * 2;
#pragma unroll
          for (int j = 0; j < C::kHeadDim / 8; j++) {
            if (8 * j < p_.head_dim_v) {
              *reinterpret_cast<float2*>(to + 8 * j) =
                  make_float2(o_[r][4 * j + 2 * i] * weight, o_[r][4 * j + 2 * i + 1] * weight);
            }
          }
          continue;
        }
        Element* const to = out_row(at);
#pragma unroll
        for (int j = 0; j < C::kHeadDim / 8; j += 4) {  // four lanes exchange, so that each writes 16 bytes
          std::uint32_t words[4];
#pragma unroll
          for (int t = 0; t < 4; t++) {
            words[t] =
                device::pack2<Element>(o_[r][4 * (j + t) + 2 * i] * weight, o_[r][4 * (j + t) + 2 * i + 1] * weight);
          }
          device::transpose_across_quad(words, lane_ % 4);
          const int column = 8 * (j + lane_ % 4);
          if (inside && column < p_.head_dim_v) store_chunk(to + column, words);
        }
      }
    }
  }

  // Warps that divided the keys: each leaves its maximum, sum and O in shared memory; then all threads add and store.
  __device__ __forceinline__ void add_up_and_store() {
    if constexpr (C::kWarpsN > 1) {
      __shared__ float maxima[C::kWarpsN][C::kBlockM], sums[C::kWarpsN][C::kBlockM];
      ptx::cp_async_wait_pending<0>();
      __syncthreads();
      auto* const all = reinterpret_cast<float*>(shared_ + C::kQBytes);
#pragma unroll
      for (int r = 0; r < C::kRowTiles; r++) {
#pragma unroll
        for (int i = 0; i < 2; i++) {
          const int row = r * 16 + lane_ / 4 + 8 * i;
          if (lane_ % 4 == 0) {
            maxima[warp_n_][row] = softmax_[r].maximum[i];
            sums[warp_n_][row] = softmax_[r].sum[i];
          }
          float* const to = all + (warp_n_ * C::kBlockM + row) * C::kHeadDim + lane_ % 4 * 2;
#pragma unroll
          for (int j = 0; j < C::kHeadDim / 8; j++) {
            *reinterpret_cast<float2*>(to + 8 * j) = make_float2(o_[r][4 * j + 2 * i], o_[r][4 * j + 2 * i + 1]);
          }
        }
      }
      __syncthreads();
      for (int i = threadIdx.x; i < C::kBlockM * C::kChunks; i += C::kThreads) {
        const int row = i / C::kChunks, chunk = i % C::kChunks;
        if (row >= t_.rows || chunk * 8 >= p_.head_dim_v) continue;
        device::OnlineSoftmax total;
        total.reset();
        for (int w = 0; w < C::kWarpsN; w++) total.maximum[0] = fmaxf(total.maximum[0], maxima[w][row]);
        float x[8] = {};
        for (int w = 0; w < C::kWarpsN; w++) {
          const float factor = ptx::exp2_approx((maxima[w][row] - total.maximum[0]) * p_.scale_log2);
          total.sum[0] += sums[w][row] * factor;
          const float* from = all + (w * C::kBlockM + row) * C::kHeadDim + chunk * 8;
#pragma unroll
          for (int j = 0; j < 8; j++) x[j] += from[j] * factor;
        }
        const Place at = place_of(row);
        float lse;
        const float weight = total.finish(0, p_.scale_log2, sink_of(at.head), lse);
        if (chunk == 0) store_lse(at, lse);
        if (p_.splits > 1) {
          if (lse == -INFINITY) continue;
          float* const to = p_.partial_out + (t_.split * p_.rows + at.index) * p_.head_dim_v + chunk * 8;
#pragma unroll
          for (int j = 0; j < 8; j++) to[j] = x[j] * weight;
        } else {
          std::uint32_t words[4];
#pragma unroll
          for (int j = 0; j < 4; j++) words[j] = device::pack2<Element>(x[2 * j] * weight, x[2 * j + 1] * weight);
          store_chunk(out_row(at) + chunk * 8, words);
        }
      }
    }
  }

  const ForwardParams& p_;
  const Tile& t_;
  std::uint8_t* const shared_;
  const std::uint32_t place_;
  const int lane_, warp_m_, warp_n_;
  const Element *k_, *v_;
  BlockRange own_, whole_;  ///< blocks that this warp's rows attend, and those that need no mask
  device::OnlineSoftmax softmax_[C::kRowTiles];
  float o_[C::kRowTiles][C::kHeadDim / 2];
  std::uint32_t q_fragments_[C::kQInRegisters ? C::kHeadDim / 16 : 1][C::kRowTiles][4];
};

template <typename C>
__global__ void __launch_bounds__(C::kThreads, C::kCtas) forward_kernel(const __grid_constant__ ForwardParams params) {
  extern __shared__ __align__(128) std::uint8_t shared[];
  __shared__ Tile tile;
  if (params.splits > 1) let_combine_start();
  if (threadIdx.x == 0) find_tile<C>(params, tile);
  __syncthreads();
  if (tile.rows <= 0) return;
  Forward<C>(params, tile, shared).run();
}

}  // namespace triage::attention::sm80
