// Attention backward by mma.sync, from 8.0 on: dQ, dK and dV of O = softmax(scale * Q K^T + mask) V.
//
// A CTA owns a block of kBlockN keys of one head of K and V, and walks over the blocks of kBlockM queries that attend
// it, those of all query heads that share that head. Products are transposed (S^T = K Q^T, dP^T = V dO^T): P^T and dS^T
// then lie in registers as the left operands of dV += P^T dO and dK += dS^T Q want them, and only dS goes through
// shared memory, for dQ = dS K. A warp owns kKeyTiles x 16 keys and 1 / kDimWarps of the columns of dK and dV (above
// head_dim 128 registers would not hold all of them; S and dP are then computed by each of kDimWarps warps).
//
// dQ is summed in fp32 over the blocks of keys, in the workspace, as the fragments lie in registers; finish_kernel
// scales and stores it. With `ordered`, CTAs take turns in the order of their keys (a counter for each head and block
// of queries), so that results repeat bitwise. A turn is looked for at the beginning of a step and passed on in the
// middle of the next one, when the additions have long arrived: nobody waits for a load or a fence. (With both at the
// end of the step: 15 to 40% more time.) A CTA waits only for CTAs of smaller blockIdx, which have started.
//
// | barrier of a step | after it                                                                        |
// |-------------------|---------------------------------------------------------------------------------|
// | first             | Q, dO of this step are there; nobody reads those of the step before, or its dS   |
// | second            | dS is there; the turn of this step has come; additions of the step before are out |
//
// With a block-sparse mask, a CTA owns one block of 64 keys and walks over the blocks of queries that attend it. Its
// turn at a block of dQ is the number of blocks of keys before its own that those queries attend.
//
// The method is FlashAttention-2's (Dao, arXiv 2307.08691): one pass over (keys, queries) with S and P computed anew.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "attention/sm80_backward_tile.h"
#include "attention/sm80_block_walk.h"
#include "attention/sm80_copy.h"
#include "device/epilogue.h"
#include "device/softmax.h"
#include "ptx/cp_async.h"
#include "ptx/ldmatrix.h"
#include "ptx/mbarrier.h"
#include "ptx/mma.h"
#include "ptx/shared_memory.h"
#include "ptx/turn.h"

namespace triage::attention::sm80 {

template <typename C>
class Backward {
  using Element = typename C::Element;

 public:
  __device__ __forceinline__ Backward(const BackwardParams& params, std::uint8_t* shared, int batch, int kv_head,
                                      int block)
      : p_(params),
        place_(ptx::shared_address(shared)),
        lane_(threadIdx.x % 32),
        warp_(threadIdx.x / 32),
        batch_(batch),
        kv_head_(kv_head),
        block_(block),
        seqlen_q_(query_count(params.sequences, batch)),
        q_start_(query_start(params.sequences, batch)),
        mask_(seqlen_q_, key_count(params.sequences, batch), params.sequences.window_left,
              params.sequences.window_right),
        first_row_block_(static_cast<int>(
            padded_start(params.sequences.cu_seqlens_q, params.sequences.seqlen_q, batch, C::kBlockM) / C::kBlockM)),
        queries_(queries_of_keys<C::kSparse ? AttentionMask::kBlock : C::kBlockM, C::kBlockN>(mask_, block,
                                                                                             seqlen_q_)) {
#pragma unroll
    for (int r = 0; r < C::kKeyTiles; r++) {
#pragma unroll
      for (int i = 0; i < C::kOwnDim / 2; i++) d_k_[r][i] = d_v_[r][i] = 0.0f;
    }
  }

  __device__ __forceinline__ void run() {
    const int blocks = queries_.end - queries_.begin, steps = blocks * p_.sequences.kv_group;
    At at{kv_head_ * p_.sequences.kv_group, p_.last_queries_first ? queries_.end - 1 : queries_.begin};
    if constexpr (C::kSparse) at = first_listed();
    if (C::kSparse ? at.block >= 0 : steps > 0) {
      load_rows(key_tensor(p_.k), p_.k.sequence_stride, p_.head_dim, block_ * C::kBlockN, mask_.seqlen_k, C::kBlockN,
                k_place());
      load_rows(key_tensor(p_.v), p_.v.sequence_stride, p_.head_dim_v, block_ * C::kBlockN, mask_.seqlen_k,
                C::kBlockN, v_place());
      At next = at;
      load_queries(next, 0);
      ptx::cp_async_commit();
      int* passed = nullptr;  // the turn that is to be passed on
      int stage = 0;
#pragma unroll 1
      for (int i = 0; C::kSparse ? at.block >= 0 : i < steps; i++) {
        ptx::cp_async_wait_pending<0>();
        __syncthreads();
        advance(next);
        const bool more = C::kSparse ? next.block >= 0 : i + 1 < steps;
        if (C::kStages == 2 && more) load_queries(next, stage ^ 1);
        ptx::cp_async_commit();
        step(at, stage, passed);
        if (C::kStages == 1) {
          __syncthreads();
          if (more) load_queries(next, 0);
          ptx::cp_async_commit();
        } else {
          stage ^= 1;
        }
        at = next;
      }
      if (p_.ordered && p_.d_q.data) {
        __syncthreads();
        pass_turn(passed);
      }
    }
    if (p_.d_k.data) store(d_k_, p_.d_k, p_.head_dim, p_.softmax_scale);
    if (p_.d_v.data) store(d_v_, p_.d_v, p_.head_dim_v, 1.0f);
  }

 private:
  /// A step: a query head, and a block of its queries. With a block-sparse mask, block -1: there are no more; `full`:
  /// the call's window does not count; and the entry of bits of elements, -1: none.
  struct At {
    int head, block;
    bool full = false;
    int elements = -1;
  };
  __device__ __forceinline__ void advance(At& at) {
    if constexpr (C::kSparse) {
      advance_listed(at);
    } else if (p_.last_queries_first) {
      if (--at.block < queries_.begin) at = {at.head + 1, queries_.end - 1};
    } else {
      if (++at.block == queries_.end) at = {at.head + 1, queries_.begin};
    }
  }

  __device__ __forceinline__ At first_listed() {
    parts_ = 0;
    walk_.start(p_.mask.by_key.row_words);
    At at{kv_head_ * p_.sequences.kv_group, -1};
    advance_listed(at);
    return at;
  }
  /// From the last block of queries to the first, whose blocks of 64 may be several steps, for each query head.
  __device__ __forceinline__ void advance_listed(At& at) {
    constexpr int kBlock = AttentionMask::kBlock, kParts = kBlock / C::kBlockM;
    if (parts_ > 0) {
      parts_--, at.block--;
      return;
    }
    const AttentionMask& blocks = p_.mask;
    while (true) {
      const std::int64_t number = mask_number(blocks, batch_, at.head);
      const BitRow row(blocks.by_key, number, block_, queries_, {0, (seqlen_q_ + kBlock - 1) / kBlock});
      const WalkBlock found = walk_.next([&](int word, std::uint32_t& listed, std::uint32_t& full) {
        return listed = row.word(word, full);
      });
      if (found.block >= 0) {
        parts_ = min(kParts, (seqlen_q_ - found.block * kBlock + C::kBlockM - 1) / C::kBlockM) - 1;
        at.block = found.block * kParts + parts_;
        at.full = found.full;
        at.elements = -1;
        if (blocks.element_index && !found.full) {
          at.elements = __ldg(blocks.element_index +
                              (number * blocks.by_query.rows + found.block) * blocks.by_key.rows + block_);
        }
        return;
      }
      if (++at.head == (kv_head_ + 1) * p_.sequences.kv_group) {
        at.block = -1;
        return;
      }
      walk_.start(blocks.by_key.row_words);
    }
  }

  __device__ __forceinline__ std::uint32_t k_place() const { return place_; }
  __device__ __forceinline__ std::uint32_t v_place() const { return place_ + C::kKeyBytes; }
  __device__ __forceinline__ std::uint32_t q_place(int stage) const {
    return place_ + 2 * C::kKeyBytes + stage * C::kStageBytes;
  }
  __device__ __forceinline__ std::uint32_t d_o_place(int stage) const { return q_place(stage) + C::kQueryBytes; }
  __device__ __forceinline__ std::uint32_t d_s_place() const { return q_place(C::kStages); }
  __device__ __forceinline__ std::uint32_t statistics_place(int stage) const {
    return d_s_place() + C::kDsBytes + stage * C::kStatisticsBytes;
  }
  __device__ __forceinline__ int key_warp() const { return warp_ / C::kDimWarps; }
  __device__ __forceinline__ int own_column() const { return warp_ % C::kDimWarps * C::kOwnDim; }

  __device__ __forceinline__ const Element* key_tensor(const AttentionTensor& t) const {
    return static_cast<const Element*>(t.data) + (p_.sequences.cu_seqlens_k ? 0 : batch_) * t.batch_stride +
           key_start(p_.sequences, batch_) * t.sequence_stride + kv_head_ * t.head_stride;
  }
  __device__ __forceinline__ const Element* query_tensor(const AttentionTensor& t, int head) const {
    return static_cast<const Element*>(t.data) + (p_.sequences.cu_seqlens_q ? 0 : batch_) * t.batch_stride +
           q_start_ * t.sequence_stride + head * t.head_stride;
  }

  /// `count` rows from `first` on; zeros from row `rows` on. A copy of no bytes reads nothing.
  __device__ __forceinline__ void load_rows(const Element* head, std::int64_t stride, int head_dim, int first, int rows,
                                            int count, std::uint32_t to) const {
    const int row = threadIdx.x / C::kChunks, chunk = threadIdx.x % C::kChunks;
    const int limit = chunk * 8 < head_dim ? rows - first : 0;
    const Element* from = head + (first + row) * stride + chunk * 8;
    if (p_.aligned16) {
#pragma unroll
      for (int r = 0; r < count; r += C::kRowsPerPass) {
        copy_chunk(to + tile_offset<C::kRowBytes>(row + r, chunk), from, row + r < limit, true);
        from += C::kRowsPerPass * stride;
      }
    } else {
#pragma unroll 1
      for (int r = 0; r < count; r += C::kRowsPerPass) {
        copy_chunk(to + tile_offset<C::kRowBytes>(row + r, chunk), from, row + r < limit, false);
        from += C::kRowsPerPass * stride;
      }
    }
  }

  __device__ __forceinline__ void load_queries(const At& at, int stage) const {
    const int first = at.block * C::kBlockM;
    load_rows(query_tensor(p_.q, at.head), p_.q.sequence_stride, p_.head_dim, first, seqlen_q_, C::kBlockM,
              q_place(stage));
    load_rows(query_tensor(p_.d_o, at.head), p_.d_o.sequence_stride, p_.head_dim_v, first, seqlen_q_, C::kBlockM,
              d_o_place(stage));
    constexpr int kCopies = C::kBlockM / 4;
    if (threadIdx.x < 2 * kCopies) {
      const bool second = threadIdx.x >= kCopies;
      const int i = (threadIdx.x - (second ? kCopies : 0)) * 4;
      const float* const from = (second ? p_.rows.delta : p_.rows.lse_log2) + at.head * p_.rows.rows +
                                static_cast<std::int64_t>(first_row_block_ + at.block) * C::kBlockM + i;
      ptx::cp_async_16(statistics_place(stage) + (second ? C::kBlockM * 4 : 0) + i * 4, from);
    }
  }

  static __device__ __forceinline__ void multiply(float* d, const std::uint32_t (&a)[4], std::uint32_t b0,
                                                  std::uint32_t b1) {
    ptx::mma_m16n8k16<Element>(*reinterpret_cast<float(*)[4]>(d), a[0], a[1], a[2], a[3], b0, b1);
  }

  /// s[16 keys of each tile][kPass queries] = rows of `keys` times rows of `queries`, over the head dimension.
  __device__ __forceinline__ void multiply_rows(float (&s)[C::kKeyTiles][C::kPass / 2], std::uint32_t keys,
                                                std::uint32_t queries) const {
#pragma unroll
    for (int r = 0; r < C::kKeyTiles; r++) {
#pragma unroll
      for (int i = 0; i < C::kPass / 2; i++) s[r][i] = 0.0f;
    }
    const int row = lane_ / 16 * 8 + lane_ % 8, chunk = lane_ / 8 % 2;
    const auto read_keys = [&](std::uint32_t(&a)[C::kKeyTiles][4], int step) {
#pragma unroll
      for (int r = 0; r < C::kKeyTiles; r++) {
        ptx::ldmatrix_x4<false>(a[r], keys + tile_offset<C::kRowBytes>(
                                                 (key_warp() * C::kKeyTiles + r) * 16 + lane_ % 16,
                                                 2 * step + lane_ / 16));
      }
    };
    const auto read_queries = [&](std::uint32_t(&b)[4], int step, int n) {
      ptx::ldmatrix_x4<false>(b, queries + tile_offset<C::kRowBytes>(n * 16 + row, 2 * step + chunk));
    };
    // Fragments are read one product ahead.
    constexpr int kSteps = C::kHeadDim / 16, kPairs = C::kPass / 16;
    std::uint32_t a[2][C::kKeyTiles][4], b[2][4];
    read_keys(a[0], 0);
    read_queries(b[0], 0, 0);
#pragma unroll
    for (int i = 0; i < kSteps * kPairs; i++) {
      const int step = i / kPairs, n = i % kPairs, next = i + 1;
      if (next < kSteps * kPairs) read_queries(b[next % 2], next / kPairs, next % kPairs);
      if (n == 0 && step + 1 < kSteps) read_keys(a[(step + 1) % 2], step + 1);
#pragma unroll
      for (int r = 0; r < C::kKeyTiles; r++) {
        multiply(&s[r][8 * n], a[step % 2][r], b[i % 2][0], b[i % 2][1]);
        multiply(&s[r][8 * n + 4], a[step % 2][r], b[i % 2][2], b[i % 2][3]);
      }
    }
  }

  /// sums[16 keys of each tile][kOwnDim] += weights[keys][kPass queries] * rows of `queries`.
  __device__ __forceinline__ void add_product(float (&sums)[C::kKeyTiles][C::kOwnDim / 2],
                                              const std::uint32_t (&weights)[C::kKeyTiles][C::kPass / 4],
                                              std::uint32_t queries) const {
    const auto read_queries = [&](std::uint32_t(&b)[4], int step, int n) {
      ptx::ldmatrix_x4<true>(b, queries + tile_offset<C::kRowBytes>(step * 16 + lane_ % 16,
                                                                    own_column() / 8 + 2 * n + lane_ / 16));
    };
    constexpr int kSteps = C::kPass / 16, kPairs = C::kOwnDim / 16;
    std::uint32_t b[2][4];
    read_queries(b[0], 0, 0);
#pragma unroll
    for (int i = 0; i < kSteps * kPairs; i++) {
      const int step = i / kPairs, n = i % kPairs, next = i + 1;
      if (next < kSteps * kPairs) read_queries(b[next % 2], next / kPairs, next % kPairs);
#pragma unroll
      for (int r = 0; r < C::kKeyTiles; r++) {
        const std::uint32_t a[4] = {weights[r][4 * step], weights[r][4 * step + 1], weights[r][4 * step + 2],
                                    weights[r][4 * step + 3]};
        multiply(&sums[r][8 * n], a, b[i % 2][0], b[i % 2][1]);
        multiply(&sums[r][8 * n + 4], a, b[i % 2][2], b[i % 2][3]);
      }
    }
  }

  __device__ __forceinline__ void step(const At& at, int stage, int*& passed) {
    const int first = at.block * C::kBlockM;
    // Whether some pair of this block of queries and these keys is masked, or beyond the keys.
    const int last = min(first + C::kBlockM, seqlen_q_) - 1, key = block_ * C::kBlockN;
    bool masked = mask_.first_key(last) > key || mask_.last_key(first) < key + C::kBlockN - 1;
    if (C::kSparse && at.full) masked = key + C::kBlockN > mask_.seqlen_k;
    const std::int64_t row_block = at.head * (p_.rows.rows / C::kBlockM) + first_row_block_ + at.block;
    const bool takes_turns = p_.ordered && p_.d_q.data;
    int* const turn = p_.turns + row_block;
    int seen = 0;
    if (takes_turns && threadIdx.x == 0) seen = ptx::peek_turn(turn);  // its answer is not waited for until needed
    BitsBefore bits_before;
    if (C::kSparse && takes_turns) bits_before.look(keys_of(at), block_);
#pragma unroll 1
    for (int pass = 0; pass < C::kBlockM; pass += C::kPass) {
      float s[C::kKeyTiles][C::kPass / 2], d_p[C::kKeyTiles][C::kPass / 2];
      multiply_rows(s, k_place(), q_place(stage) + pass * C::kRowBytes);
      multiply_rows(d_p, v_place(), d_o_place(stage) + pass * C::kRowBytes);
      std::uint32_t weights[C::kKeyTiles][C::kPass / 4];
      weigh(s, d_p, weights, first + pass, statistics_place(stage) + pass * 4, masked, at);
      add_product(d_v_, weights, d_o_place(stage) + pass * C::kRowBytes);
      pack(d_p, weights);
      if (p_.d_q.data && warp_ % C::kDimWarps == 0) put_d_s(weights, pass);
      add_product(d_k_, weights, q_place(stage) + pass * C::kRowBytes);
    }
    if (!p_.d_q.data) return;
    int before = 0;  // CTAs that add to these rows of dQ before this one
    if constexpr (C::kSparse) {
      if (takes_turns) before = bits_before.count(keys_of(at), block_);
    } else {
      const BlockRange adders = keys_of_queries<C::kBlockM, C::kBlockN>(mask_, at.block, seqlen_q_);
      before = p_.last_keys_first ? adders.end - 1 - block_ : block_ - adders.begin;
    }
    if (takes_turns && threadIdx.x == 0 && seen != before) {
      while (ptx::load_turn(turn) != before) {
      }
    }
    __syncthreads();
    if (takes_turns) {
      pass_turn(passed);
      passed = turn;
    }
    add_d_q(p_.d_q_sums + row_block * (C::kBlockM * C::kHeadDim), takes_turns && before == 0);
  }

  /// With a block-sparse mask, which blocks of keys a step's queries attend.
  __device__ __forceinline__ BitRow keys_of(const At& at) const {
    return row_of_queries(p_.mask, mask_, mask_number(p_.mask, batch_, at.head),
                          at.block * C::kBlockM / AttentionMask::kBlock, seqlen_q_);
  }

  /// By a thread of another warp than the one that waits for turns.
  __device__ __forceinline__ void pass_turn(int* turn) const {
    if (turn && threadIdx.x == C::kThreads - 1) ptx::pass_turn(turn);
  }

  /// S becomes P (in `weights`), and dP becomes dS. Keys are rows here, queries columns.
  __device__ __forceinline__ void weigh(float (&s)[C::kKeyTiles][C::kPass / 2],
                                        float (&d_p)[C::kKeyTiles][C::kPass / 2],
                                        std::uint32_t (&weights)[C::kKeyTiles][C::kPass / 4], int first,
                                        std::uint32_t statistics, bool masked, const At& at) const {
    const bool capped = p_.softcap.exponent != 0.0f;
    const bool unlimited = C::kSparse && at.full;
    const Mask mask = unlimited ? Mask(seqlen_q_, mask_.seqlen_k, kNoWindow, kNoWindow) : mask_;
#pragma unroll
    for (int r = 0; r < C::kKeyTiles; r++) {
      if (capped) device::cap_logits(s[r], p_.softcap);
      const int key = block_ * C::kBlockN + (key_warp() * C::kKeyTiles + r) * 16 + lane_ / 4;
#pragma unroll
      for (int j = 0; j < C::kPass / 8; j++) {
        const int column = 8 * j + lane_ % 4 * 2;
#pragma unroll
        for (int c = 0; c < 2; c++) {
          const float lse = __uint_as_float(ptx::load_shared_u32(statistics + (column + c) * 4));
          const float delta = __uint_as_float(ptx::load_shared_u32(statistics + (C::kBlockM + column + c) * 4));
          const int query = first + column + c;
          const int low = mask.first_key(query) - key, high = mask.last_key(query) - key;
#pragma unroll
          for (int i = 0; i < 2; i++) {
            float& logit = s[r][4 * j + 2 * i + c];
            float& gradient = d_p[r][4 * j + 2 * i + c];
            const float slope = capped ? fmaf(-logit, logit, 1.0f) : 1.0f;
            logit = ptx::exp2_approx(fmaf(logit, p_.scale_log2, -lse));
            gradient = logit * (gradient - delta);
            if (capped) gradient *= slope;
            if (masked && (8 * i < low || 8 * i > high)) logit = gradient = 0.0f;
          }
        }
      }
      if (C::kSparse && at.elements >= 0) {
#pragma unroll
        for (int i = 0; i < 2; i++) {
          const std::uint64_t bits =
              __ldg(p_.mask.elements_by_key + at.elements * std::int64_t{64} + (key + 8 * i) % 64) >>
              (first + lane_ % 4 * 2) % 64;
#pragma unroll
          for (int j = 0; j < C::kPass / 4; j++) {
            const int place = j / 2 * 4 + 2 * i + j % 2;
            if (!(bits >> (j / 2 * 8 + j % 2) & 1)) s[r][place] = d_p[r][place] = 0.0f;
          }
        }
      }
    }
    pack(s, weights);
  }

  static __device__ __forceinline__ void pack(const float (&from)[C::kKeyTiles][C::kPass / 2],
                                              std::uint32_t (&to)[C::kKeyTiles][C::kPass / 4]) {
#pragma unroll
    for (int r = 0; r < C::kKeyTiles; r++) {
#pragma unroll
      for (int i = 0; i < C::kPass / 4; i++) to[r][i] = device::pack2<Element>(from[r][2 * i], from[r][2 * i + 1]);
    }
  }

  /// dS^T into shared memory: rows are keys.
  __device__ __forceinline__ void put_d_s(const std::uint32_t (&d_s)[C::kKeyTiles][C::kPass / 4], int pass) const {
#pragma unroll
    for (int r = 0; r < C::kKeyTiles; r++) {
#pragma unroll
      for (int i = 0; i < C::kPass / 4; i++) {
        const int row = (key_warp() * C::kKeyTiles + r) * 16 + lane_ / 4 + i % 2 * 8, chunk = pass / 8 + i / 2;
        ptx::store_shared_u32(d_s_place() + tile_offset<C::kDsRowBytes>(row, chunk) + lane_ % 4 * 4, d_s[r][i]);
      }
    }
  }

  /// This warp's part of dQ = dS K, added to the sums of the block of queries (`alone`: written).
  __device__ __forceinline__ void add_d_q(float* sums, bool alone) const {
    const int row_warp = warp_ % C::kQWarps, column = warp_ / C::kQWarps * C::kQDim;
    float d_q[C::kQTiles][C::kQDim / 2];
#pragma unroll
    for (int r = 0; r < C::kQTiles; r++) {
#pragma unroll
      for (int i = 0; i < C::kQDim / 2; i++) d_q[r][i] = 0.0f;
    }
    const auto read_d_s = [&](std::uint32_t(&a)[C::kQTiles][4], int step) {
#pragma unroll
      for (int r = 0; r < C::kQTiles; r++) {
        ptx::ldmatrix_x4<true>(a[r], d_s_place() + tile_offset<C::kDsRowBytes>(
                                                       step * 16 + lane_ / 16 * 8 + lane_ % 8,
                                                       (row_warp * C::kQTiles + r) * 2 + lane_ / 8 % 2));
      }
    };
    const auto read_keys = [&](std::uint32_t(&b)[4], int step, int n) {
      ptx::ldmatrix_x4<true>(
          b, k_place() + tile_offset<C::kRowBytes>(step * 16 + lane_ % 16, column / 8 + 2 * n + lane_ / 16));
    };
    constexpr int kSteps = C::kBlockN / 16, kPairs = C::kQDim / 16;
    std::uint32_t a[2][C::kQTiles][4], b[2][4];
    read_d_s(a[0], 0);
    read_keys(b[0], 0, 0);
#pragma unroll
    for (int i = 0; i < kSteps * kPairs; i++) {
      const int step = i / kPairs, n = i % kPairs, next = i + 1;
      if (next < kSteps * kPairs) read_keys(b[next % 2], next / kPairs, next % kPairs);
      if (n == 0 && step + 1 < kSteps) read_d_s(a[(step + 1) % 2], step + 1);
#pragma unroll
      for (int r = 0; r < C::kQTiles; r++) {
        multiply(&d_q[r][8 * n], a[step % 2][r], b[i % 2][0], b[i % 2][1]);
        multiply(&d_q[r][8 * n + 4], a[step % 2][r], b[i % 2][2], b[i % 2][3]);
      }
    }
    float4* const to = reinterpret_cast<float4*>(sums) + warp_ * C::kQWords * 32 + lane_;
#pragma unroll
    for (int r = 0; r < C::kQTiles; r++) {
#pragma unroll
      for (int j = 0; j < C::kQDim / 8; j++) {
        const float4 x = make_float4(d_q[r][4 * j], d_q[r][4 * j + 1], d_q[r][4 * j + 2], d_q[r][4 * j + 3]);
        float4* const word = to + (r * (C::kQDim / 8) + j) * 32;
        if (alone) {
          __stcg(word, x);
        } else {
          add(word, x);
        }
      }
    }
  }

  static __device__ __forceinline__ void add(float4* to, const float4& x) {
#if __CUDA_ARCH__ >= 900
    atomicAdd(to, x);
#else
    float* const words = reinterpret_cast<float*>(to);
    atomicAdd(words, x.x);
    atomicAdd(words + 1, x.y);
    atomicAdd(words + 2, x.z);
    atomicAdd(words + 3, x.w);
#endif
  }

  /// dK or dV of this warp's keys and columns.
  __device__ __forceinline__ void store(const float (&sums)[C::kKeyTiles][C::kOwnDim / 2], const AttentionTensor& t,
                                        int head_dim, float scale) const {
#pragma unroll
    for (int r = 0; r < C::kKeyTiles; r++) {
#pragma unroll
      for (int i = 0; i < 2; i++) {
        const int key = block_ * C::kBlockN + (key_warp() * C::kKeyTiles + r) * 16 + lane_ / 4 + 8 * i;
        Element* const to = const_cast<Element*>(key_tensor(t)) + key * t.sequence_stride;
        store_row<Element, C::kOwnDim>(to, sums[r], i, scale, own_column(), key < mask_.seqlen_k ? head_dim : 0,
                                       p_.aligned16, lane_ % 4);
      }
    }
  }

  const BackwardParams& p_;
  const std::uint32_t place_;
  const int lane_, warp_, batch_, kv_head_, block_, seqlen_q_, q_start_;
  const Mask mask_;
  const int first_row_block_;  ///< of this sequence, among the padded rows
  const BlockRange queries_;  ///< blocks of kBlockM that attend the keys by the window; with kSparse, blocks of 64
  BlockWalk walk_;            ///< with kSparse; and how many steps of its block are still to come
  int parts_;
  float d_k_[C::kKeyTiles][C::kOwnDim / 2], d_v_[C::kKeyTiles][C::kOwnDim / 2];
};

template <typename C>
__global__ void __launch_bounds__(C::kThreads, C::kCtas)
    backward_kernel(const __grid_constant__ BackwardParams params) {
  extern __shared__ __align__(128) std::uint8_t shared[];
  // Groups of heads one after the other, so that their queries and dQ stay in L2; within a group, all heads' first
  // block of keys, then all their second ones: a CTA's turn at dQ comes after those of CTAs that have started long
  // before.
  const Sequences& s = params.sequences;
  const int kv_heads = s.heads / s.kv_group, heads = s.batch * kv_heads;
  const int group = blockIdx.x / (params.heads_at_once * params.key_tiles);
  const int rest = blockIdx.x - group * params.heads_at_once * params.key_tiles;
  const int size = min(params.heads_at_once, heads - group * params.heads_at_once);
  const int place = rest / size, head = group * params.heads_at_once + rest - place * size;
  const int block = params.last_keys_first ? params.key_tiles - 1 - place : place;
  const int batch = head / kv_heads;
  if (block * C::kBlockN >= key_count(s, batch)) return;
  Backward<C>(params, shared, batch, head - batch * kv_heads, block).run();
}

/// dQ from the sums: a CTA for each head and block of queries.
template <typename C>
__global__ void __launch_bounds__(C::kThreads) finish_kernel(const __grid_constant__ BackwardParams params) {
  using Element = typename C::Element;
  const Sequences& s = params.sequences;
  const int block = blockIdx.x % params.query_tiles, outer = blockIdx.x / params.query_tiles;
  const int batch = outer / s.heads, head = outer - batch * s.heads;
  const int rows = query_count(s, batch), lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  if (block * C::kBlockM >= rows) return;
  const Mask mask(rows, key_count(s, batch), s.window_left, s.window_right);
  bool attended;
  if constexpr (C::kSparse) {
    const BitRow row = row_of_queries(params.mask, mask, mask_number(params.mask, batch, head),
                                      block * C::kBlockM / AttentionMask::kBlock, rows);
    std::uint32_t any = 0, full;
    for (int word = lane; word < params.mask.by_query.row_words; word += 32) any |= row.word(word, full);
    attended = __any_sync(~0u, any != 0);
  } else {
    const BlockRange keys = keys_of_queries<C::kBlockM, C::kBlockN>(mask, block, rows);
    attended = keys.begin < keys.end;
  }
  const std::int64_t row_block = head * (params.rows.rows / C::kBlockM) + block +
                                 padded_start(s.cu_seqlens_q, s.seqlen_q, batch, C::kBlockM) / C::kBlockM;
  const auto* const from = reinterpret_cast<const float4*>(params.d_q_sums + row_block * (C::kBlockM * C::kHeadDim)) +
                           warp * C::kQWords * 32 + lane;
  const AttentionTensor& t = params.d_q;
  Element* const base = static_cast<Element*>(t.data) + (s.cu_seqlens_q ? 0 : batch) * t.batch_stride +
                        query_start(s, batch) * t.sequence_stride + head * t.head_stride;
#pragma unroll
  for (int r = 0; r < C::kQTiles; r++) {
    float sums[C::kQDim / 2];
#pragma unroll
    for (int j = 0; j < C::kQDim / 8; j++) {
      const float4 x = attended ? from[(r * (C::kQDim / 8) + j) * 32] : make_float4(0, 0, 0, 0);
      sums[4 * j] = x.x, sums[4 * j + 1] = x.y, sums[4 * j + 2] = x.z, sums[4 * j + 3] = x.w;
    }
#pragma unroll
    for (int i = 0; i < 2; i++) {
      const int row = block * C::kBlockM + (warp % C::kQWarps * C::kQTiles + r) * 16 + lane / 4 + 8 * i;
      store_row<Element, C::kQDim>(base + row * t.sequence_stride, sums, i, params.softmax_scale,
                                   warp / C::kQWarps * C::kQDim, row < rows ? params.head_dim : 0, params.aligned16,
                                   lane % 4);
    }
  }
}

}  // namespace triage::attention::sm80
