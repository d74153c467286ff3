// Attention backward on Hopper, d_q: one of two passes (d_k and d_v: sm90_backward_keys.h).
//
// A tile is 64 queries of one head per consumer warpgroup; it walks over the blocks of kBlockN keys that they attend.
// S = Q K^T and dP = dO V^T come from shared memory into registers (wgmma), become dS = P (dP - delta) there, and are
// the A operand of d_q += dS K, whose accumulators stay in registers for the whole tile. Tiles and their order are the
// forward's (sm90_tiles.h).
//
// | warps            | role     | work                                                              |
// |------------------|----------|-------------------------------------------------------------------|
// | 0                | producer | takes tiles; TMA of Q, dO, K, V                                   |
// | 1-3              | idle     | (setmaxnreg needs whole warpgroups)                               |
// | 4 and on         | consumer | 64 queries a warpgroup                                            |
//
// | barrier     | arrivals             | completes when                                        |
// |-------------|----------------------|-------------------------------------------------------|
// | q.full      | 1 (producer) + bytes | a tile's description, queries and dO are there        |
// | q.empty     | consumer warps       | all have done with them                               |
// | k, v.full[i]| 1 (producer) + bytes | a block's keys (values) have arrived                  |
// | k, v.empty  | consumer warps       | nobody multiplies with them any more                  |
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "attention/block_mask.h"
#include "attention/sm90_backward_tiles.h"
#include "attention/sm90_backward_values.h"
#include "attention/sm90_copy.h"
#include "attention/sm90_tiles.h"
#include "device/pipeline.h"
#include "device/softmax.h"
#include "ptx/cluster.h"
#include "ptx/elect.h"
#include "ptx/forget.h"
#include "ptx/setmaxnreg.h"
#include "ptx/tma.h"
#include "ptx/wgmma.h"

namespace triage::attention::sm90 {

/// @tparam kHeadDim of all tensors; smaller ones are padded with zeros by TMA. @tparam kCapped with softcap.
/// @tparam kSparse with a block-sparse mask: a whole warp walks over its blocks and describes each to the consumers in
///   an entry (block_mask.h); a tile without blocks has one entry, which nobody attends, without data.
template <typename ElementT, int kHeadDimT, int kBlockNT, int kStagesT, bool kCappedT, bool kSparseT>
struct QueryGradientConfig {
  using Element = ElementT;
  static constexpr bool kCapped = kCappedT, kSparse = kSparseT;
  static constexpr int kHeadDim = kHeadDimT, kBlockN = kBlockNT, kStages = kStagesT;
  static constexpr int kGroups = 3, kBlockM = 64 * kGroups;
  static constexpr int kThreads = 128 * (kGroups + 1);
  static constexpr int kPanels = kHeadDim / 64;  ///< of 64 columns in shared memory
  static constexpr int kQueryPanelBytes = 64 * 128, kKeyPanelBytes = kBlockN * 128;
  static constexpr int kQueryBytes = kPanels * kQueryPanelBytes;  ///< of one warpgroup
  static constexpr int kKeyBytes = kPanels * kKeyPanelBytes;
  static constexpr int kConsumerWarps = 4 * kGroups;
  static constexpr int kProducerRegisters = kSparse ? 56 : 32, kConsumerRegisters = kSparse ? 152 : 160;
  static constexpr int kSharedLimit = 227 * 1024;

  static_assert(kHeadDim % 64 == 0, "whole panels of 64 columns");
  static_assert(!kSparse || kBlockN == AttentionMask::kBlock, "a bit of the mask is a block");
  static_assert(kHeadDim / 2 + kBlockN / 2 + kBlockN / 4 <= 144, "d_q, dP and P are registers of a thread");
};

template <typename C>
struct QueryGradientStorage {
  alignas(1024) std::uint8_t q[C::kGroups][C::kQueryBytes];
  alignas(1024) std::uint8_t d_o[C::kGroups][C::kQueryBytes];
  alignas(1024) std::uint8_t k[C::kStages][C::kKeyBytes];
  alignas(1024) std::uint8_t v[C::kStages][C::kKeyBytes];
  device::PipelineBarriers<1> q_barriers;
  device::PipelineBarriers<C::kStages> k_barriers, v_barriers;
  Tile tile;
  std::uint32_t entries[C::kStages];  ///< of the rings' slots (kSparse)
};

struct QueryGradientParams {
  TileOrder order;
  BackwardRows rows;
  bool q_sliced, kv_sliced;  ///< how the tensor maps are made: see sm90_copy.h
  int head_dim, head_dim_v;
  float scale_log2;  ///< from logits (capped ones: tanh) to powers of 2
  float scale;       ///< of d_q
  device::Softcap softcap;
  AttentionTensor d_q;
  AttentionMask mask;              ///< kSparse
  const std::int32_t* tile_order;  ///< kSparse, see sm90_tiles.h
};

/// Tensor maps; Q and dO in boxes of 64 rows.
struct QueryGradientMaps {
  CUtensorMap q, k, v, d_o, zeros;
};

/// One thread; with kSparse one warp, which must stay together (produce_blocks in sm90_backward_keys.h says why).
template <typename C>
__device__ __forceinline__ void produce_keys(QueryGradientStorage<C>& storage, const QueryGradientMaps& maps,
                                             const QueryGradientParams& params) {
  const bool leader = !C::kSparse || ptx::elect_one();
  const TileOrder& order = params.order;
  device::PipelineState<1> q_state(1);
  device::PipelineState<C::kStages> state(1);  // of k and v
  int index = blockIdx.x;
  for (;;) {
    Tile tile{};
    bool more;
    if constexpr (C::kSparse) {
      more = find_sparse_tile<C::kBlockM>(order, params.tile_order, index, tile);
    } else {
      more = find_tile<C::kBlockM, C::kBlockN>(order, index, tile);
    }
    if (!more) tile.row = -1;
    int taken = 0;
    if (more && leader) taken = atomicAdd(order.counter, 1) + gridDim.x;  // lands during the loads
    const auto next_index = [&] { return C::kSparse ? __reduce_max_sync(0xffffffffu, taken) : taken; };
    if (C::kSparse && more && tile.row >= tile.seqlen_q) {
      index = next_index();
      continue;
    }
    const std::uint32_t q_full = ptx::shared_address(&storage.q_barriers.full[0]);
    ptx::mbarrier_wait(ptx::shared_address(&storage.q_barriers.empty[0]), q_state.parity);
    q_state.advance();
    const int q_batch = order.cu_seqlens_q ? 0 : tile.batch, kv_batch = order.cu_seqlens_k ? 0 : tile.batch;
    const int start = key_start(order, more ? tile.batch : 0), kv_head = tile.head / order.kv_group;
    if (leader) {
      storage.tile = tile;
      if (more) {
        ptx::barrier_expect(q_full, 2 * C::kGroups * C::kQueryBytes);
#pragma unroll 1
        for (int g = 0; g < C::kGroups; g++) {
          load_rows<64, C::kPanels>(ptx::shared_address(storage.q[g]), maps.q, maps.zeros, params.q_sliced, q_full,
                                    tile.q_start, tile.row + 64 * g, tile.seqlen_q, params.head_dim, tile.head,
                                    q_batch);
          load_rows<64, C::kPanels>(ptx::shared_address(storage.d_o[g]), maps.d_o, maps.zeros, params.q_sliced, q_full,
                                    tile.q_start, tile.row + 64 * g, tile.seqlen_q, params.head_dim_v, tile.head,
                                    q_batch);
        }
      } else {
        ptx::mbarrier_arrive(q_full);
      }
    }
    if constexpr (C::kSparse) __syncwarp();  // or the compiler joins the leader's branch with the return below
    if (!more) return;
    // Half of a slot: keys or values, or without `data` nothing.
    const auto load_half = [&](std::uint8_t* place, const CUtensorMap& map,
                               device::PipelineBarriers<C::kStages>& barriers, int columns, int block, bool data) {
      const std::uint32_t full = ptx::shared_address(&barriers.full[state.slot]);
      if (!data) {
        ptx::mbarrier_arrive(full);
        return;
      }
      ptx::barrier_expect(full, C::kKeyBytes);
      load_rows<C::kBlockN, C::kPanels>(ptx::shared_address(place), map, maps.zeros, params.kv_sliced, full, start,
                                        block * C::kBlockN, tile.seqlen_k, columns, kv_head, kv_batch);
    };
    const auto load = [&](int block, bool data, std::uint32_t entry) {
      ptx::mbarrier_wait(ptx::shared_address(&storage.k_barriers.empty[state.slot]), state.parity);
      if (leader) {
        if constexpr (C::kSparse) storage.entries[state.slot] = entry;
        load_half(storage.k[state.slot], maps.k, storage.k_barriers, params.head_dim, block, data);
      }
      ptx::mbarrier_wait(ptx::shared_address(&storage.v_barriers.empty[state.slot]), state.parity);
      if (leader) load_half(storage.v[state.slot], maps.v, storage.v_barriers, params.head_dim_v, block, data);
      state.advance();
    };
    if constexpr (C::kSparse) {
      const Mask window(tile.seqlen_q, tile.seqlen_k, order.window_left, order.window_right);
      auto blocks = walk_keys<C::kGroups, C::kBlockN>(params.mask, mask_number(params.mask, tile.batch, tile.head),
                                                      window, tile.row, tile.seqlen_q);
      std::uint32_t entry = 0, next = 0;
      const bool data = blocks.next(entry);
#pragma unroll 1
      for (bool follows = data; follows; entry = next) {
        follows = blocks.next(next);
        load(static_cast<int>(entry >> walk::kBlockShift), true, entry | (follows ? 0 : walk::kLast));
      }
      if (!data) load(0, false, walk::kLast);
    } else {
#pragma unroll 1
      for (int block = tile.block_begin; block < tile.block_end; block++) load(block, true, 0);
    }
    index = next_index();
  }
}

/// One warpgroup's 64 queries of every tile.
template <typename C>
class QueryConsumer {
 public:
  using Element = typename C::Element;

  __device__ __forceinline__ QueryConsumer(QueryGradientStorage<C>& storage, const QueryGradientParams& params)
      : storage_(storage),
        params_(params),
        group_(__shfl_sync(0xffffffffu, threadIdx.x / 128, 0) - 1),
        lane_(threadIdx.x % 32),
        q_(ptx::descriptor_lower(ptx::shared_address(storage.q[group_]))),
        d_o_(ptx::descriptor_lower(ptx::shared_address(storage.d_o[group_]))) {}

  __device__ __forceinline__ void run() {
    for (;;) {
      fetch();
      if (tile_.row < 0) return;
      read_rows();
#pragma unroll
      for (int i = 0; i < C::kHeadDim / 2; i++) d_q_[i] = 0.0f;
      if constexpr (C::kSparse) {
        walk_sparse();
      } else {
        walk();
      }
      const Tile done = tile_;
      if (lane_ == 0) ptx::mbarrier_arrive(ptx::shared_address(&storage_.q_barriers.empty[0]));
      Element* const out = static_cast<Element*>(params_.d_q.data) + done.batch * params_.d_q.batch_stride +
                           done.q_start * params_.d_q.sequence_stride + done.head * params_.d_q.head_stride;
      store_rows(d_q_, params_.scale, out, params_.d_q.sequence_stride, first_row(), done.seqlen_q, 0,
                 params_.head_dim);
      __syncwarp();  // or ptxas takes what follows for divergent, and makes descriptors lane by lane
    }
  }

 private:
  // All blocks of the tile, in its interval.
  __device__ __forceinline__ void walk() {
    const int row = tile_.row + 64 * group_, last_row = min(row + 63, tile_.seqlen_q - 1);
    const Mask mask = this->mask();
    // Blocks of the tile that this warpgroup's queries attend, in [tile_.block_begin, tile_.block_end).
    BlockRange own{tile_.block_begin, tile_.block_begin};
    whole_ = {0, 0};
    if (row <= last_row) {
      own = mask.template blocks<C::kBlockN>(row, last_row);
      own.begin = min(max(own.begin, tile_.block_begin), tile_.block_end);
      own.end = max(min(own.end, tile_.block_end), own.begin);
      whole_ = mask.template whole_blocks<C::kBlockN>(row, last_row);
    }
#pragma unroll 1
    for (block_ = tile_.block_begin; block_ < own.begin; block_++) skip();
#pragma unroll 1
    for (; block_ < own.end; block_++) step();
#pragma unroll 1
    for (; block_ < tile_.block_end; block_++) skip();
  }

  // All blocks of the tile, as the entries tell.
  __device__ __forceinline__ void walk_sparse() {
    const int row = tile_.row + 64 * group_, last_row = min(row + 63, tile_.seqlen_q - 1);
    whole_ = {0, 0};
    if (row <= last_row) whole_ = mask().template whole_blocks<C::kBlockN>(row, last_row);
    std::uint32_t entry;
#pragma unroll 1
    do {
      ptx::mbarrier_wait(ptx::shared_address(&storage_.k_barriers.full[state_.slot]), state_.parity);
      entry =
          __shfl_sync(0xffffffffu, *reinterpret_cast<const volatile std::uint32_t*>(&storage_.entries[state_.slot]), 0);
      if (entry >> group_ & 1) {
        block_ = static_cast<int>(entry >> walk::kBlockShift);
        full_ = entry >> (walk::kFullShift + group_) & 1;
        step();
      } else {
        skip();
      }
    } while (!(entry & walk::kLast));
  }

  // Whether some query of the warpgroup may not attend some key of the block.
  __device__ __forceinline__ bool masked() {
    if constexpr (C::kSparse) {
      element_ = -1;
      if (full_) return (block_ + 1) * C::kBlockN > tile_.seqlen_k;
      if (params_.mask.elements != nullptr) {
        const AttentionMask& m = params_.mask;
        const std::int64_t row = mask_number(m, tile_.batch, tile_.head) * m.by_query.rows + tile_.row / 64 + group_;
        element_ = m.element_index[row * m.by_key.rows + block_];
        if (element_ >= 0) return true;
      }
    }
    return block_ < whole_.begin || block_ >= whole_.end;
  }

  static constexpr std::uint32_t kUpper = ptx::descriptor_upper(1024, ptx::Swizzle::bytes128);

  // The next tile, the same for all lanes: the shuffles tell the compiler so, which loops around wgmma need.
  __device__ __forceinline__ void fetch() {
    ptx::mbarrier_wait(ptx::shared_address(&storage_.q_barriers.full[0]), tile_parity_);
    tile_parity_ ^= 1;
    const auto* words = reinterpret_cast<const volatile std::int32_t*>(&storage_.tile);
    const std::int32_t word = words[lane_ % Tile::kWords];
    const auto pick = [&](int i) { return __shfl_sync(0xffffffffu, word, i); };
    tile_ = Tile{pick(0), pick(1), pick(2), pick(3), pick(4), pick(5), pick(6), pick(7)};
  }

  __device__ __forceinline__ Mask mask() const {
    return Mask(tile_.seqlen_q, tile_.seqlen_k, params_.order.window_left, params_.order.window_right);
  }
  // This lane's first query; the other one is 8 further.
  __device__ __forceinline__ int first_row() const {
    return tile_.row + 64 * group_ + threadIdx.x / 32 % 4 * 16 + lane_ / 4;
  }

  __device__ __forceinline__ void read_rows() {
    const std::int64_t start = tile_.head * params_.rows.rows + padded_query_start(params_.order, tile_.batch);
#pragma unroll
    for (int i = 0; i < 2; i++) {
      const int row = first_row() + 8 * i;
      lse_[i] = row < tile_.seqlen_q ? params_.rows.lse_log2[start + row] : INFINITY;
      delta_[i] = row < tile_.seqlen_q ? params_.rows.delta[start + row] : 0.0f;
    }
  }

  // d = rows * keys^T, both from shared memory.
  __device__ __forceinline__ void multiply_scores(float (&d)[C::kBlockN / 2], std::uint32_t rows, const void* keys) {
    const std::uint32_t b = ptx::descriptor_lower(ptx::shared_address(keys));
    ptx::forget(d);
    ptx::wgmma_fence();
#pragma unroll
    for (int i = 0; i < C::kHeadDim / 16; i++) {
      ptx::wgmma<Element, C::kBlockN, ptx::Major::k, ptx::Major::k>(
          d, ptx::descriptor(kUpper, rows + i / 4 * (C::kQueryPanelBytes / 16) + i % 4 * 2),
          ptx::descriptor(kUpper, b + i / 4 * (C::kKeyPanelBytes / 16) + i % 4 * 2), i > 0);
    }
    ptx::wgmma_commit();
  }

  // One block of keys. Nothing is in flight at the end: ptxas would serialise the products.
  __device__ __forceinline__ void step() {
    const int slot = state_.slot;
    ptx::mbarrier_wait(ptx::shared_address(&storage_.k_barriers.full[slot]), state_.parity);
    ptx::mbarrier_wait(ptx::shared_address(&storage_.v_barriers.full[slot]), state_.parity);
    multiply_scores(s_, q_, storage_.k[slot]);
    ptx::wgmma_wait<0>();
    ptx::wgmma_settle(s_);
    if (masked()) {
      exponentiate<true>();
    } else {
      exponentiate<false>();
    }
    multiply_scores(dp_, d_o_, storage_.v[slot]);
    ptx::wgmma_wait<0>();
    ptx::wgmma_settle(dp_);
    if (lane_ == 0) ptx::mbarrier_arrive(ptx::shared_address(&storage_.v_barriers.empty[slot]));
#pragma unroll
    for (int i = 0; i < C::kBlockN / 4; i++) {
      const float2 p = unpack2<Element>(ds_[i]);
      ds_[i] = device::pack2<Element>(p.x * (dp_[2 * i] - delta_[i % 2]), p.y * (dp_[2 * i + 1] - delta_[i % 2]));
    }
    const std::uint32_t b = ptx::descriptor_lower(ptx::shared_address(storage_.k[slot]), C::kKeyPanelBytes);
    ptx::wgmma_fence();
#pragma unroll
    for (int i = 0; i < C::kBlockN / 16; i++) {
      ptx::wgmma_registers<Element, C::kHeadDim, ptx::Major::mn>(d_q_, ds_[4 * i], ds_[4 * i + 1], ds_[4 * i + 2],
                                                                 ds_[4 * i + 3],
                                                                 ptx::descriptor(kUpper, b + i * (16 * 128 / 16)));
    }
    ptx::wgmma_commit();
    ptx::wgmma_wait<0>();
    ptx::wgmma_settle(d_q_);
    if (lane_ == 0) ptx::mbarrier_arrive(ptx::shared_address(&storage_.k_barriers.empty[slot]));
    state_.advance();
  }

  // A block that only other warpgroups of the tile attend.
  __device__ __forceinline__ void skip() {
    const int slot = state_.slot;
    ptx::mbarrier_wait(ptx::shared_address(&storage_.k_barriers.full[slot]), state_.parity);
    ptx::mbarrier_wait(ptx::shared_address(&storage_.v_barriers.full[slot]), state_.parity);
    if (lane_ == 0) {
      ptx::mbarrier_arrive(ptx::shared_address(&storage_.k_barriers.empty[slot]));
      ptx::mbarrier_arrive(ptx::shared_address(&storage_.v_barriers.empty[slot]));
    }
    state_.advance();
  }

  // P from S, packed, in ds_; with softcap times the derivative of the cap.
  template <bool kMasked>
  __device__ __forceinline__ void exponentiate() {
    if constexpr (C::kCapped) device::cap_logits(s_, params_.softcap);
    int low[2], high[2];  // keys that this lane's queries attend, counted from its first column
    std::uint64_t bits[2] = {~std::uint64_t{0}, ~std::uint64_t{0}};  // of elements, from this lane's first column
    if constexpr (kMasked) {
      Mask mask = this->mask();
      if constexpr (C::kSparse) {
        if (full_) mask = Mask(tile_.seqlen_q, tile_.seqlen_k, kNoWindow, kNoWindow);
        if (element_ >= 0) {
#pragma unroll
          for (int i = 0; i < 2; i++) {
            bits[i] = params_.mask.elements[element_ * std::int64_t{64} + first_row() % 64 + 8 * i] >> lane_ % 4 * 2;
          }
        }
      }
      const int key = block_ * C::kBlockN + lane_ % 4 * 2;
#pragma unroll
      for (int i = 0; i < 2; i++) {
        low[i] = mask.first_key(first_row() + 8 * i) - key;
        high[i] = mask.last_key(first_row() + 8 * i) - key;
      }
    }
#pragma unroll
    for (int j = 0; j < C::kBlockN / 8; j++) {
#pragma unroll
      for (int i = 0; i < 2; i++) {
        float x[2];
#pragma unroll
        for (int c = 0; c < 2; c++) {
          const float s = s_[4 * j + 2 * i + c];
          x[c] = ptx::exp2_approx(fmaf(s, params_.scale_log2, -lse_[i]));
          if constexpr (C::kCapped) x[c] *= fmaf(-s, s, 1.0f);
          if constexpr (kMasked) {
            const int column = 8 * j + c;
            if (column < low[i] || column > high[i]) x[c] = 0.0f;
            if (C::kSparse && (bits[i] >> column & 1) == 0) x[c] = 0.0f;
          }
        }
        ds_[2 * j + i] = device::pack2<Element>(x[0], x[1]);
      }
    }
  }

  QueryGradientStorage<C>& storage_;
  const QueryGradientParams& params_;
  const int group_, lane_;
  const std::uint32_t q_, d_o_;  ///< lower words of descriptors: this warpgroup's rows
  std::uint32_t tile_parity_ = 0;
  device::PipelineState<C::kStages> state_{0};  ///< of k and v
  Tile tile_;
  int block_;
  BlockRange whole_;  ///< blocks that need no mask
  bool full_;         ///< kSparse: the block is attended in full
  int element_;       ///< kSparse: the block's mask of elements, -1: none
  float lse_[2], delta_[2];
  float d_q_[C::kHeadDim / 2], s_[C::kBlockN / 2], dp_[C::kBlockN / 2];
  std::uint32_t ds_[C::kBlockN / 4];
};

template <typename C>
__global__ void __launch_bounds__(C::kThreads, 1)
    query_gradient_kernel(const __grid_constant__ QueryGradientMaps maps,
                          const __grid_constant__ QueryGradientParams params) {
  extern __shared__ __align__(1024) std::uint8_t shared[];
  auto& storage = *reinterpret_cast<QueryGradientStorage<C>*>(shared);
  if (threadIdx.x == 0) {
    ptx::tma_prefetch(&maps.q);
    ptx::tma_prefetch(&maps.k);
    ptx::tma_prefetch(&maps.v);
    ptx::tma_prefetch(&maps.d_o);
    const auto init = [](auto& barriers, int slots) {
      for (int i = 0; i < slots; i++) {
        ptx::mbarrier_init(ptx::shared_address(&barriers.full[i]), 1);
        ptx::mbarrier_init(ptx::shared_address(&barriers.empty[i]), C::kConsumerWarps);
      }
    };
    init(storage.q_barriers, 1);
    init(storage.k_barriers, C::kStages);
    init(storage.v_barriers, C::kStages);
    ptx::fence_barrier_init();
  }
  __syncthreads();
  if (threadIdx.x < 128) {
    ptx::give_registers<C::kProducerRegisters>();
    // The shuffle tells the compiler that a whole warp goes one way.
    const int warp = __shfl_sync(0xffffffffu, threadIdx.x / 32, 0);
    if (warp == 0 && (C::kSparse || ptx::elect_one())) produce_keys<C>(storage, maps, params);
  } else {
    ptx::take_registers<C::kConsumerRegisters>();
    QueryConsumer<C>(storage, params).run();
  }
}

}  // namespace triage::attention::sm90
