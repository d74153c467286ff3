// Attention backward on Hopper by tiles of keys: d_k and d_v, and in one pass also d_q.
//
// A tile is kBlockN keys of one KV head, kGroupKeys per consumer warpgroup; it walks over the blocks of kBlockM queries
// that attend it, of every query head of its group. Everything is computed transposed, keys in the rows: S^T = K Q^T
// and dP^T = V dO^T come from shared memory into registers (wgmma), become P^T = exp2(S^T - lse) and dS^T = P^T (dP^T -
// delta) there, and are the A operands of d_v += P^T dO and d_k += dS^T Q, whose accumulators stay in registers for the
// whole tile: nothing is added up in memory, so d_k and d_v are bitwise repeatable.
//
// Of two passes, this is the first, and d_q comes from the other one (sm90_backward_queries.h). With kOnePass, dS goes
// to shared memory as well, and a third warpgroup makes d_q of it (sm90_backward_one_pass.h).
//
// | warps  | role     | work                                                              |
// |--------|----------|-------------------------------------------------------------------|
// | 0      | producer | takes tiles; TMA of K, V, Q, dO, lse, delta                       |
// | 1-3    | idle     | (setmaxnreg needs whole warpgroups); kOnePass: sender, adder, claimer |
// | 4-11   | consumer | S, dP, d_v, d_k; kOnePass: warps 8-15, and 4-7 are the reducer    |
//
// | barrier      | arrivals                 | completes when                                      |
// |--------------|--------------------------|-----------------------------------------------------|
// | tile.full    | 1 (producer)             | a tile's description is there                       |
// | tile.empty   | all warps but idle ones  | all have done with the tile                         |
// | k, v.full    | 1 (producer) + bytes     | the tile's keys (values) have arrived               |
// | k, v.empty   | consumer (k: reducer's   | nobody multiplies with them any more                |
// |              | too) warps               |                                                     |
// | q.full[i]    | 1 (producer) + bytes     | a block's queries and lse have arrived              |
// | d_o.full[i]  | 1 (producer) + bytes     | a block's dO and delta have arrived                 |
// | q, d_o.empty | consumer warps           | nobody multiplies with them any more                |
//
// The method is FlashAttention's (Dao, arXiv 2307.08691; Shah et al., arXiv 2407.08608).
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "attention/block_mask.h"
#include "attention/sm90_backward_one_pass.h"
#include "attention/sm90_backward_tiles.h"
#include "attention/sm90_backward_values.h"
#include "attention/sm90_copy.h"
#include "device/pipeline.h"
#include "device/softmax.h"
#include "ptx/cluster.h"
#include "ptx/elect.h"
#include "ptx/forget.h"
#include "ptx/setmaxnreg.h"
#include "ptx/shared_memory.h"
#include "ptx/stmatrix.h"
#include "ptx/tma.h"
#include "ptx/wgmma.h"

namespace triage::attention::sm90 {

/// @tparam kHeadDim of all tensors; smaller ones are padded with zeros by TMA.
/// @tparam kCapped with softcap.
/// @tparam kSparse with a block-sparse mask: a whole warp walks over the blocks of queries that attend some of the
///   tile's keys, and describes each to the consumers in an entry (block_mask.h); a tile without any has one entry,
///   which nobody attends, without data.
/// @tparam kOnePass d_q as well, added up in memory in any order.
/// @tparam kCluster (kOnePass) CTAs whose tiles lie side by side and share out the columns of d_q.
/// @tparam kHalves times 64 keys are a consumer warpgroup's.
template <typename ElementT, int kHeadDimT, int kBlockMT, bool kCappedT, bool kSparseT, bool kOnePassT = false,
          int kClusterT = 1, int kHalvesT = 1>
struct KeyGradientConfig {
  using Element = ElementT;
  static constexpr bool kCapped = kCappedT, kSparse = kSparseT, kOnePass = kOnePassT;
  static constexpr int kHeadDim = kHeadDimT, kBlockM = kBlockMT, kCluster = kClusterT, kHalves = kHalvesT;
  static constexpr int kStages = 2;  ///< of Q, dO and dS, which go in step
  static constexpr int kGroups = 2, kGroupKeys = 64 * kHalves, kBlockN = kGroupKeys * kGroups;
  static constexpr int kTileKeys = kBlockN * kCluster;  ///< of the cluster
  static constexpr int kThreads = 128 * (kGroups + (kOnePass ? 2 : 1));
  static constexpr int kPanels = kHeadDim / 64;  ///< of 64 columns in shared memory
  static constexpr int kKeyPanelBytes = kBlockN * 128, kQueryPanelBytes = kBlockM * 128;
  static constexpr int kKeyBytes = kPanels * kKeyPanelBytes, kQueryBytes = kPanels * kQueryPanelBytes;
  static constexpr int kDsBytes = kBlockN / 64 * kQueryPanelBytes;           ///< a panel of every 64 keys
  static constexpr int kSums = kPanels / kCluster, kSumBytes = 64 * 64 * 4;  ///< panels of d_q that a CTA makes
  static constexpr int kConsumerWarps = 4 * kGroups, kReducerWarps = kOnePass ? 4 : 0;
  /// Sums of d_q are stored first and finished last by the tiles themselves (sm90_backward_sums.h). Tiles of a dense
  /// mask follow each other down the queries, and wait once; with a block-sparse mask each would wait at many blocks,
  /// which are short besides: there, zeros before and a kernel after are faster.
  static constexpr bool kCounted = kOnePass && !kSparse;
  static constexpr int kTileThreads = kOnePass ? kCluster : 0;  ///< that read tiles by themselves: claimer, sender
  static constexpr int kProducerRegisters = kOnePass ? 32 : kSparse ? 40 : 24, kReducerRegisters = 64;
  static constexpr int kConsumerRegisters = kOnePass ? 208 : kSparse ? 232 : 240;
  static constexpr int kSharedLimit = 227 * 1024;

  static_assert(kHeadDim % 64 == 0, "whole panels of 64 columns");
  static_assert(!kSparse || (kBlockM == AttentionMask::kBlock && kHalves == 1 && kCluster == 1),
                "a bit of the mask is a block, and a tile has two rows of bits");
  static_assert(kOnePass || (kCluster == 1 && kHalves == 1), "larger tiles save sums of d_q, else nothing");
  static_assert(kCluster == 1 || (kCluster == 2 && kPanels == 2), "each CTA of a cluster adds up a panel of d_q");
  static_assert(!kOnePass || kBlockM == 64, "the reducer multiplies 64 queries");
  static_assert(kHalves * kHeadDim + kBlockM + (kOnePass ? 8 : 32) <= kConsumerRegisters,
                "d_k, d_v, S and dP are registers of a thread");
};

template <typename C>
struct KeyGradientStorage {
  using Config = C;
  alignas(1024) std::uint8_t k[C::kKeyBytes];
  alignas(1024) std::uint8_t v[C::kKeyBytes];
  alignas(1024) std::uint8_t q[C::kStages][C::kQueryBytes];
  alignas(1024) std::uint8_t d_o[C::kStages][C::kQueryBytes];
  OnePassBuffers<C> one_pass;
  alignas(16) float lse[C::kStages][C::kBlockM];
  alignas(16) float delta[C::kStages][C::kBlockM];
  device::PipelineBarriers<C::kStages> q_barriers, d_o_barriers;
  device::PipelineBarriers<1> k_barriers, v_barriers;
  device::PipelineBarriers<2> tile_barriers;
  KeyTile tiles[2];
  std::uint32_t entries[C::kStages];  ///< of the slots of Q (kSparse)
  std::int32_t heads[C::kStages];     ///< whose they are (kSparse)
  OnePassBarriers<C> one_pass_barriers;
};

struct KeyGradientParams {
  KeyTileOrder order;
  BackwardRows rows;
  bool q_sliced, kv_sliced;  ///< how the tensor maps are made: see sm90_copy.h
  int head_dim, head_dim_v;
  float scale_log2;  ///< from logits (capped ones: tanh) to powers of 2
  float scale;       ///< of d_k
  device::Softcap softcap;
  AttentionTensor d_k, d_v;
  OnePassParams one_pass;          ///< kOnePass
  AttentionMask mask;              ///< kSparse
  const std::int32_t* tile_order;  ///< kSparse, see sm90_backward_tiles.h
};

struct KeyGradientMaps {
  CUtensorMap q, k, v, d_o, zeros;
  CUtensorMap k_panel;  ///< of K, not sliced (kCluster > 1)
};

/// One thread; with kSparse one warp, which must stay together: lanes that fell behind could miss a phase of a barrier,
/// and lanes that ran ahead of the leader would write the uniform registers out of which it makes its copies.
template <typename C>
__device__ __forceinline__ void produce_blocks(KeyGradientStorage<C>& storage, const KeyGradientMaps& maps,
                                               const KeyGradientParams& params) {
  const KeyTileOrder& order = params.order;
  const bool leader = !C::kSparse || ptx::elect_one();
  const int rank = C::kCluster > 1 ? static_cast<int>(ptx::cluster_cta_rank()) : 0, clusters = gridDim.x / C::kCluster;
  device::PipelineState<C::kStages> q_state(1), d_o_state(1);
  device::PipelineState<1> key_state(1);
  device::PipelineState<2> tile_state(1);
  std::uint32_t next_parity = 0;
  int index = blockIdx.x / C::kCluster;
  for (;;) {
    KeyTile tile{};
    bool more;
    if constexpr (C::kSparse) {
      more = find_sparse_key_tile<C::kBlockM, C::kBlockN>(order, params.tile_order, index, tile);
    } else {
      more = find_key_tile<C::kBlockM, C::kTileKeys>(order, index, tile);
    }
    if (!more) tile.key = -1;
    const int other_key = tile.key + (1 - rank) * C::kBlockN;  // first key of the other CTA's
    if (more) tile.key += rank * C::kBlockN;
    int taken = 0;
    if (more && leader && rank == 0) taken = atomicAdd(order.counter, 1) + clusters;  // lands during the loads
    const auto next_index = [&] {
      if constexpr (C::kCluster > 1) {
        next_parity ^= 1;
        return share_index(storage.one_pass_barriers, rank, taken, next_parity ^ 1);
      }
      return C::kSparse ? __reduce_max_sync(0xffffffffu, taken) : taken;
    };
    if (C::kSparse && more && tile.key >= tile.seqlen_k) {
      index = next_index();
      continue;
    }
    ptx::mbarrier_wait(ptx::shared_address(&storage.tile_barriers.empty[tile_state.slot]), tile_state.parity);
    if (leader) {
      const std::uint32_t place = ptx::shared_address(&storage.tiles[tile_state.slot]);
      const int words[KeyTile::kWords] = {tile.key,     tile.kv_head,  tile.batch,   tile.k_start,     tile.seqlen_k,
                                          tile.q_start, tile.seqlen_q, tile.q_block, tile.block_begin, tile.block_end};
#pragma unroll
      for (int i = 0; i < KeyTile::kWords; i++) ptx::store_shared_u32(place + 4 * i, words[i]);
      ptx::mbarrier_arrive(ptx::after_store(ptx::shared_address(&storage.tile_barriers.full[tile_state.slot]),
                                            place + 4 * (KeyTile::kWords - 1), words[KeyTile::kWords - 1]));
    }
    tile_state.advance();
    if (!more) return;
    const int q_batch = order.cu_seqlens_q ? 0 : tile.batch, kv_batch = order.cu_seqlens_k ? 0 : tile.batch;
    const auto load_keys = [&](std::uint8_t* place, const CUtensorMap& map, device::PipelineBarriers<1>& barriers,
                               int columns) {
      const std::uint32_t full = ptx::shared_address(&barriers.full[0]);
      ptx::mbarrier_wait(ptx::shared_address(&barriers.empty[0]), key_state.parity);
      if (!leader) return;
      const bool panel_too = C::kCluster > 1 && &map == &maps.k;
      ptx::barrier_expect(full, C::kKeyBytes + (panel_too ? C::kKeyPanelBytes : 0));
      // A box that lies behind the sequence altogether is made of zeros.
      load_rows<C::kBlockN, C::kPanels>(ptx::shared_address(place), map, maps.zeros,
                                        params.kv_sliced && (C::kCluster == 1 || tile.key < tile.seqlen_k), full,
                                        tile.k_start, tile.key, tile.seqlen_k, columns, tile.kv_head, kv_batch);
      if constexpr (C::kCluster > 1) {
        if (panel_too) {
          load_panel<C::kBlockN>(ptx::shared_address(storage.one_pass.other.k), maps.k_panel, maps.zeros, full,
                                 tile.k_start, other_key, tile.seqlen_k, rank, columns, tile.kv_head, kv_batch);
        }
      }
    };
    const auto load_queries = [&](std::uint8_t(&ring)[C::kStages][C::kQueryBytes],
                                  float(&statistics)[C::kStages][C::kBlockM], const float* from, const CUtensorMap& map,
                                  device::PipelineBarriers<C::kStages>& barriers,
                                  device::PipelineState<C::kStages>& state, int columns, int head, int block) {
      const std::uint32_t full = ptx::shared_address(&barriers.full[state.slot]);
      if (leader) {
        ptx::barrier_expect(full, C::kQueryBytes + C::kBlockM * 4);
        load_rows<C::kBlockM, C::kPanels>(ptx::shared_address(ring[state.slot]), map, maps.zeros, params.q_sliced, full,
                                          tile.q_start, block * C::kBlockM, tile.seqlen_q, columns, head, q_batch);
        ptx::bulk_load(ptx::shared_address(statistics[state.slot]),
                       from + head * params.rows.rows + static_cast<std::int64_t>(tile.q_block + block) * C::kBlockM,
                       C::kBlockM * 4, full);
      }
      state.advance();
    };
    bool keys_loaded = false;
    const auto load = [&](int head, int block, std::uint32_t entry) {
      ptx::mbarrier_wait(ptx::shared_address(&storage.q_barriers.empty[q_state.slot]), q_state.parity);
      if (C::kSparse && leader) {
        storage.entries[q_state.slot] = entry;
        storage.heads[q_state.slot] = head;
      }
      load_queries(storage.q, storage.lse, params.rows.lse_log2, maps.q, storage.q_barriers, q_state, params.head_dim,
                   head, block);
      if (!keys_loaded) load_keys(storage.k, maps.k, storage.k_barriers, params.head_dim);
      ptx::mbarrier_wait(ptx::shared_address(&storage.d_o_barriers.empty[d_o_state.slot]), d_o_state.parity);
      load_queries(storage.d_o, storage.delta, params.rows.delta, maps.d_o, storage.d_o_barriers, d_o_state,
                   params.head_dim_v, head, block);
      if (!keys_loaded) load_keys(storage.v, maps.v, storage.v_barriers, params.head_dim_v);
      keys_loaded = true;
    };
    const int first_head = tile.kv_head * order.kv_group, end_head = first_head + order.kv_group;
    if constexpr (C::kSparse) {
      const Mask window(tile.seqlen_q, tile.seqlen_k, order.window_left, order.window_right);
      const auto walk_of = [&](int head) {
        return walk_queries<C::kGroups>(params.mask, mask_number(params.mask, tile.batch, head), window, tile.key,
                                        tile.seqlen_q);
      };
      int head = first_head;
      auto blocks = walk_of(head);
      // The next block, of this head or of the next one that has any. A loop with one exit: otherwise ptxas takes the
      // warp for divergent from here on.
      const auto next_block = [&](std::uint32_t& entry) {
        bool found = blocks.next(entry);
#pragma unroll 1
        while (!found && head + 1 < end_head) {
          blocks = walk_of(++head);
          found = blocks.next(entry);
        }
        return found;
      };
      std::uint32_t entry = 0, next = 0;
      bool follows = next_block(entry);
      if (!follows) {
        load_keys(storage.k, maps.k, storage.k_barriers, params.head_dim);
        load_keys(storage.v, maps.v, storage.v_barriers, params.head_dim_v);
        ptx::mbarrier_wait(ptx::shared_address(&storage.q_barriers.empty[q_state.slot]), q_state.parity);
        ptx::mbarrier_wait(ptx::shared_address(&storage.d_o_barriers.empty[d_o_state.slot]), d_o_state.parity);
        if (leader) {
          storage.entries[q_state.slot] = walk::kLast;
          ptx::mbarrier_arrive(ptx::shared_address(&storage.q_barriers.full[q_state.slot]));
          ptx::mbarrier_arrive(ptx::shared_address(&storage.d_o_barriers.full[d_o_state.slot]));
        }
        q_state.advance();
        d_o_state.advance();
      }
#pragma unroll 1
      while (follows) {
        const int entry_head = head;
        follows = next_block(next);
        load(entry_head, static_cast<int>(entry >> walk::kBlockShift), entry | (follows ? 0 : walk::kLast));
        entry = next;
      }
    } else {
#pragma unroll 1
      for (int head = first_head; head < end_head; head++) {
#pragma unroll 1
        for (int block = tile.block_begin; block < tile.block_end; block++) load(head, block, 0);
      }
      if (!keys_loaded) {  // no queries: consumers wait for keys all the same
        load_keys(storage.k, maps.k, storage.k_barriers, params.head_dim);
        load_keys(storage.v, maps.v, storage.v_barriers, params.head_dim_v);
      }
    }
    key_state.advance();
    index = next_index();
  }
}

/// One warpgroup's 64 keys of every tile.
template <typename C>
class KeyConsumer {
 public:
  using Element = typename C::Element;

  __device__ __forceinline__ KeyConsumer(KeyGradientStorage<C>& storage, const KeyGradientParams& params)
      : storage_(storage),
        params_(params),
        group_(__shfl_sync(0xffffffffu, threadIdx.x / 128, 0) - (C::kOnePass ? 2 : 1)),
        lane_(threadIdx.x % 32),
        tile_(storage),
        k_(ptx::descriptor_lower(ptx::shared_address(storage.k) + group_ * (C::kGroupKeys * 128))),
        v_(ptx::descriptor_lower(ptx::shared_address(storage.v) + group_ * (C::kGroupKeys * 128))) {}

  __device__ __forceinline__ void run() {
    for (;; tile_.release()) {
      tile_.wait();
      if (tile_.get(&KeyTile::key) < 0) return;
#pragma unroll
      for (int half = 0; half < C::kHalves; half++) {
        whole_[half] = whole_blocks(half);
#pragma unroll
        for (int i = 0; i < C::kHeadDim / 2; i++) d_k_[half][i] = d_v_[half][i] = 0.0f;
      }
      ptx::mbarrier_wait(ptx::shared_address(&storage_.k_barriers.full[0]), key_parity_);
      ptx::mbarrier_wait(ptx::shared_address(&storage_.v_barriers.full[0]), key_parity_);
      key_parity_ ^= 1;
      if constexpr (C::kSparse) {
        walk_sparse();
      } else {
        const int begin = tile_.get(&KeyTile::block_begin), end = tile_.get(&KeyTile::block_end);
#pragma unroll 1
        for (int i = 0; i < params_.order.kv_group; i++) {
#pragma unroll 1
          for (block_ = begin; block_ < end; block_++) {
            if constexpr (C::kOnePass) {
              const bool last = i + 1 == params_.order.kv_group && block_ + 1 == end;
              one_pass_step(block_word(tile_.get(&KeyTile::kv_head) * params_.order.kv_group + i, 3, last));
            } else {
              step();
            }
          }
        }
      }
      if (lane_ == 0) {
        ptx::mbarrier_arrive(ptx::shared_address(&storage_.k_barriers.empty[0]));
        ptx::mbarrier_arrive(ptx::shared_address(&storage_.v_barriers.empty[0]));
      }
#pragma unroll
      for (int half = 0; half < C::kHalves; half++) {
        store(params_.d_v, d_v_[half], 1.0f, params_.head_dim_v, half);
        store(params_.d_k, d_k_[half], params_.scale, params_.head_dim, half);
      }
      __syncwarp();  // or ptxas takes what follows for divergent, and makes descriptors lane by lane
    }
  }

 private:
  // All blocks of the tile, as the entries tell.
  __device__ __forceinline__ void walk_sparse() {
    std::uint32_t entry;
#pragma unroll 1
    do {
      const int slot = state_.slot;
      ptx::mbarrier_wait(ptx::shared_address(&storage_.q_barriers.full[slot]), state_.parity);
      entry = __shfl_sync(0xffffffffu, *reinterpret_cast<const volatile std::uint32_t*>(&storage_.entries[slot]), 0);
      if (entry >> group_ & 1) {
        block_ = static_cast<int>(entry >> walk::kBlockShift);
        full_ = entry >> (walk::kFullShift + group_) & 1;
        if constexpr (C::kOnePass) {
          one_pass_step(sparse_word(slot, entry));
        } else {
          step();
        }
      } else {
        ptx::mbarrier_wait(ptx::shared_address(&storage_.d_o_barriers.full[slot]), state_.parity);
        if constexpr (C::kOnePass) {
          block_ = static_cast<int>(entry >> walk::kBlockShift);
          ptx::mbarrier_wait(ptx::shared_address(&storage_.one_pass_barriers.ds.empty[slot]), state_.parity ^ 1);
          announce(slot, sparse_word(slot, entry));
        }
        if (lane_ == 0) {
          ptx::mbarrier_arrive(ptx::shared_address(&storage_.q_barriers.empty[slot]));
          ptx::mbarrier_arrive(ptx::shared_address(&storage_.d_o_barriers.empty[slot]));
        }
        state_.advance();
      }
    } while (!(entry & walk::kLast));
  }

  // Whether some query of the block may not attend some key of the half.
  __device__ __forceinline__ bool masked(int half) {
    if constexpr (C::kSparse) {
      element_ = -1;
      if (full_) return tile_.get(&KeyTile::key) + 64 * group_ + 63 >= tile_.get(&KeyTile::seqlen_k);
      if (params_.mask.elements != nullptr) {
        const AttentionMask& m = params_.mask;
        const std::int64_t row =
            mask_number(m, tile_.get(&KeyTile::batch), storage_.heads[state_.slot]) * m.by_query.rows + block_;
        element_ = m.element_index[row * m.by_key.rows + tile_.get(&KeyTile::key) / 64 + group_];
        if (element_ >= 0) return true;
      }
    }
    return block_ < whole_[half].begin || block_ >= whole_[half].end;
  }

  static constexpr std::uint32_t kUpper = ptx::descriptor_upper(1024, ptx::Swizzle::bytes128);

  // d = keys * queries^T, both from shared memory.
  __device__ __forceinline__ void multiply_scores(float (&d)[C::kBlockM / 2], std::uint32_t keys, const void* queries) {
    const std::uint32_t b = ptx::descriptor_lower(ptx::shared_address(queries));
    ptx::forget(d);
    ptx::wgmma_fence();
#pragma unroll
    for (int i = 0; i < C::kHeadDim / 16; i++) {
      ptx::wgmma<Element, C::kBlockM, ptx::Major::k, ptx::Major::k>(
          d, ptx::descriptor(kUpper, keys + i / 4 * (C::kKeyPanelBytes / 16) + i % 4 * 2),
          ptx::descriptor(kUpper, b + i / 4 * (C::kQueryPanelBytes / 16) + i % 4 * 2), i > 0);
    }
    ptx::wgmma_commit();
  }

  // d += a * rows: a in registers, rows [queries, columns] from shared memory.
  __device__ __forceinline__ void multiply_rows(float (&d)[C::kHeadDim / 2], const std::uint32_t (&a)[C::kBlockM / 4],
                                                const void* rows) {
    const std::uint32_t b = ptx::descriptor_lower(ptx::shared_address(rows), C::kQueryPanelBytes);
    ptx::wgmma_fence();
#pragma unroll
    for (int i = 0; i < C::kBlockM / 16; i++) {
      ptx::wgmma_registers<Element, C::kHeadDim, ptx::Major::mn>(d, a[4 * i], a[4 * i + 1], a[4 * i + 2], a[4 * i + 3],
                                                                 ptx::descriptor(kUpper, b + i * (16 * 128 / 16)));
    }
    ptx::wgmma_commit();
  }

  // One block of queries. Nothing is in flight at the end: ptxas would serialise the products.
  __device__ __forceinline__ void step() {
    const int slot = state_.slot;
    ptx::mbarrier_wait(ptx::shared_address(&storage_.q_barriers.full[slot]), state_.parity);
    ptx::mbarrier_wait(ptx::shared_address(&storage_.d_o_barriers.full[slot]), state_.parity);
    multiply_scores(s_, k_, storage_.q[slot]);
    multiply_scores(dp_, v_, storage_.d_o[slot]);
    ptx::wgmma_wait<1>();
    ptx::wgmma_settle(s_);
    exponentiate(storage_.lse[slot], 0);
    ptx::wgmma_wait<0>();
    ptx::wgmma_settle(dp_);
    multiply_rows(d_v_[0], p_, storage_.d_o[slot]);
    differentiate(storage_.delta[slot]);
    multiply_rows(d_k_[0], ds_, storage_.q[slot]);
    ptx::wgmma_wait<1>();
    ptx::wgmma_settle(d_v_[0]);
    if (lane_ == 0) ptx::mbarrier_arrive(ptx::shared_address(&storage_.d_o_barriers.empty[slot]));
    ptx::wgmma_wait<0>();
    ptx::wgmma_settle(d_k_[0]);
    if (lane_ == 0) ptx::mbarrier_arrive(ptx::shared_address(&storage_.q_barriers.empty[slot]));
    state_.advance();
  }

  // What the reducer is told of the block at hand, see OnePassBarriers. @param attending a bit for each consumer.
  __device__ __forceinline__ std::uint32_t block_word(int head, std::uint32_t attending, bool last) const {
    const int blocks = static_cast<int>(params_.rows.rows / C::kBlockM);
    return (head * blocks + tile_.get(&KeyTile::q_block) + block_) << 3 | attending << 1 | last;
  }
  __device__ __forceinline__ std::uint32_t sparse_word(int slot, std::uint32_t entry) const {
    const int head = __shfl_sync(0xffffffffu, *const_cast<const volatile std::int32_t*>(&storage_.heads[slot]), 0);
    return block_word(head, entry & 3, (entry & walk::kLast) != 0);
  }

  // The same with fewer registers, one product after another, and dS for the reducer.
  __device__ __forceinline__ void one_pass_step(std::uint32_t word) {
    const int slot = state_.slot;
    ptx::mbarrier_wait(ptx::shared_address(&storage_.q_barriers.full[slot]), state_.parity);
    ptx::mbarrier_wait(ptx::shared_address(&storage_.d_o_barriers.full[slot]), state_.parity);
    ptx::mbarrier_wait(ptx::shared_address(&storage_.one_pass_barriers.ds.empty[slot]), state_.parity ^ 1);
#pragma unroll
    for (int half = 0; half < C::kHalves; half++) {
      multiply_scores(s_, k_ + half * (64 * 128 / 16), storage_.q[slot]);
      ptx::wgmma_wait<0>();
      ptx::wgmma_settle(s_);
      exponentiate(storage_.lse[slot], half);
      multiply_scores(dp_, v_ + half * (64 * 128 / 16), storage_.d_o[slot]);
      multiply_rows(d_v_[half], p_, storage_.d_o[slot]);
      ptx::wgmma_wait<1>();
      ptx::wgmma_settle(dp_);
      differentiate(storage_.delta[slot]);
      stage(storage_.one_pass.ds[slot], half);
      if (half == C::kHalves - 1) announce(slot, word);
      multiply_rows(d_k_[half], ds_, storage_.q[slot]);
      ptx::wgmma_wait<1>();
      ptx::wgmma_settle(d_v_[half]);
      if (half == C::kHalves - 1 && lane_ == 0) {
        ptx::mbarrier_arrive(ptx::shared_address(&storage_.d_o_barriers.empty[slot]));
      }
      ptx::wgmma_wait<0>();
      ptx::wgmma_settle(d_k_[half]);
    }
    if (lane_ == 0) ptx::mbarrier_arrive(ptx::shared_address(&storage_.q_barriers.empty[slot]));
    state_.advance();
  }

  // dS of this half's keys, queries in the rows.
  __device__ __forceinline__ void stage(const void* ds, int half) {
    const std::uint32_t place = ptx::shared_address(ds) + (group_ * C::kHalves + half) * C::kQueryPanelBytes;
    const int row = lane_ / 16 * 8 + lane_ % 8, chunk = 2 * (threadIdx.x / 32 % 4) + lane_ / 8 % 2;
#pragma unroll
    for (int i = 0; i < C::kBlockM / 16; i++) {
      const std::uint32_t words[4] = {ds_[4 * i], ds_[4 * i + 1], ds_[4 * i + 2], ds_[4 * i + 3]};
      ptx::stmatrix_x4<true>(place + i * (16 * 128) + ptx::swizzled_offset<128>(row, chunk), words);
    }
  }
  // Hands the staged dS to the reducer.
  __device__ __forceinline__ void announce(int slot, std::uint32_t word) {
    ptx::fence_async_shared();
    __syncwarp();
    if (lane_ != 0) return;
    std::uint32_t full = ptx::shared_address(&storage_.one_pass_barriers.ds.full[slot]);
    if (threadIdx.x == C::kThreads - 128 * C::kGroups) {
      const std::uint32_t place = ptx::shared_address(&storage_.one_pass_barriers.blocks[slot]);
      ptx::store_shared_u32(place, word);
      full = ptx::after_store(full, place, word);
    }
    ptx::mbarrier_arrive(full);
  }

  __device__ __forceinline__ Mask mask() const {
    return Mask(tile_.get(&KeyTile::seqlen_q), tile_.get(&KeyTile::seqlen_k), params_.order.window_left,
                params_.order.window_right);
  }

  // First key of the half.
  __device__ __forceinline__ int half_key(int half) const {
    return tile_.get(&KeyTile::key) + C::kGroupKeys * group_ + 64 * half;
  }

  // Blocks of which all queries attend all of this half's keys. (Rows past the end have lse = inf: never mind.)
  __device__ __forceinline__ BlockRange whole_blocks(int half) const {
    const Mask mask = this->mask();
    const int key = half_key(half);
    if (key + 63 >= mask.seqlen_k) return {0, 0};
    const int first_row = max(key + 63 - mask.shift_right, 0), end_row = key + mask.shift_left + 1;
    const bool to_the_end = end_row >= tile_.get(&KeyTile::seqlen_q);
    return {(first_row + C::kBlockM - 1) / C::kBlockM, to_the_end ? 1 << 30 : max(end_row, 0) / C::kBlockM};
  }

  // P^T from S^T, packed; with softcap, ds_ becomes P^T times the derivative of the cap.
  __device__ __forceinline__ void exponentiate(const float* lse, int half) {
    if (masked(half)) {
      exponentiate<true>(lse, half);
    } else {
      exponentiate<false>(lse, half);
    }
  }
  template <bool kMasked>
  __device__ __forceinline__ void exponentiate(const float* lse, [[maybe_unused]] int half) {
    if constexpr (C::kCapped) device::cap_logits(s_, params_.softcap);
    int low[2], high[2];  // queries that attend the keys of this lane, counted from its first column
    std::uint64_t bits[2] = {~std::uint64_t{0}, ~std::uint64_t{0}};  // of elements, from this lane's first column
    if constexpr (kMasked) {
      Mask mask = this->mask();
      if constexpr (C::kSparse) {
        if (full_) mask = Mask(tile_.get(&KeyTile::seqlen_q), tile_.get(&KeyTile::seqlen_k), kNoWindow, kNoWindow);
        if (element_ >= 0) {
          const std::uint64_t* const words =
              params_.mask.elements_by_key + element_ * std::int64_t{64} + 16 * (threadIdx.x / 32 % 4) + lane_ / 4;
#pragma unroll
          for (int i = 0; i < 2; i++) bits[i] = words[8 * i] >> lane_ % 4 * 2;
        }
      }
      const int first_key = half_key(half) + 16 * (threadIdx.x / 32 % 4) + lane_ / 4;
      const int column = block_ * C::kBlockM + lane_ % 4 * 2;
#pragma unroll
      for (int i = 0; i < 2; i++) {
        const int key = first_key + 8 * i;
        low[i] = key - mask.shift_right - column;
        high[i] = key < mask.seqlen_k ? key + mask.shift_left - column : -1;
      }
    }
#pragma unroll
    for (int j = 0; j < C::kBlockM / 8; j++) {
      const float2 shift = *reinterpret_cast<const float2*>(lse + 8 * j + lane_ % 4 * 2);
      float x[4];
#pragma unroll
      for (int i = 0; i < 4; i++) {
        x[i] = ptx::exp2_approx(fmaf(s_[4 * j + i], params_.scale_log2, i % 2 == 0 ? -shift.x : -shift.y));
      }
      if constexpr (kMasked) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
          const int column = 8 * j + i % 2;
          if (column < low[i / 2] || column > high[i / 2]) x[i] = 0.0f;
          if (C::kSparse && (bits[i / 2] >> column & 1) == 0) x[i] = 0.0f;
        }
      }
      p_[2 * j] = device::pack2<Element>(x[0], x[1]);
      p_[2 * j + 1] = device::pack2<Element>(x[2], x[3]);
      if constexpr (C::kCapped) {
#pragma unroll
        for (int i = 0; i < 4; i++) x[i] *= fmaf(-s_[4 * j + i], s_[4 * j + i], 1.0f);
        ds_[2 * j] = device::pack2<Element>(x[0], x[1]);
        ds_[2 * j + 1] = device::pack2<Element>(x[2], x[3]);
      }
    }
  }

  // dS^T from P^T (with softcap: from ds_) and dP^T.
  __device__ __forceinline__ void differentiate(const float* delta) {
#pragma unroll
    for (int j = 0; j < C::kBlockM / 8; j++) {
      const float2 shift = *reinterpret_cast<const float2*>(delta + 8 * j + lane_ % 4 * 2);
#pragma unroll
      for (int i = 0; i < 2; i++) {
        const float2 p = unpack2<Element>(C::kCapped ? ds_[2 * j + i] : p_[2 * j + i]);
        ds_[2 * j + i] =
            device::pack2<Element>(p.x * (dp_[4 * j + 2 * i] - shift.x), p.y * (dp_[4 * j + 2 * i + 1] - shift.y));
      }
    }
  }

  __device__ __forceinline__ void store(const AttentionTensor& t, const float (&x)[C::kHeadDim / 2], float scale,
                                        int columns, int half) {
    if (t.data == nullptr) return;
    Element* const base = static_cast<Element*>(t.data) + tile_.get(&KeyTile::batch) * t.batch_stride +
                          tile_.get(&KeyTile::k_start) * t.sequence_stride +
                          tile_.get(&KeyTile::kv_head) * t.head_stride;
    store_rows(x, scale, base, t.sequence_stride, half_key(half) + 16 * (threadIdx.x / 32 % 4) + lane_ / 4,
               tile_.get(&KeyTile::seqlen_k), 0, columns);
  }

  KeyGradientStorage<C>& storage_;
  const KeyGradientParams& params_;
  const int group_, lane_;
  TileReader<KeyGradientStorage<C>> tile_;
  const std::uint32_t k_, v_;  ///< lower words of descriptors: this warpgroup's rows
  std::uint32_t key_parity_ = 0;
  device::PipelineState<C::kStages> state_{0};  ///< of q and d_o
  int block_;
  BlockRange whole_[C::kHalves];
  bool full_;    ///< kSparse: the block is attended in full
  int element_;  ///< kSparse: the block's mask of elements, -1: none
  float d_k_[C::kHalves][C::kHeadDim / 2], d_v_[C::kHalves][C::kHeadDim / 2], s_[C::kBlockM / 2], dp_[C::kBlockM / 2];
  std::uint32_t p_[C::kBlockM / 4], ds_[C::kBlockM / 4];
};

template <typename C>
__global__ void __launch_bounds__(C::kThreads, 1)
    key_gradient_kernel(const __grid_constant__ KeyGradientMaps maps,
                        const __grid_constant__ KeyGradientParams params) {
  extern __shared__ __align__(1024) std::uint8_t shared[];
  auto& storage = *reinterpret_cast<KeyGradientStorage<C>*>(shared);
  if (threadIdx.x == 0) {
    ptx::tma_prefetch(&maps.q);
    ptx::tma_prefetch(&maps.k);
    ptx::tma_prefetch(&maps.v);
    ptx::tma_prefetch(&maps.d_o);
    const auto init = [](auto& barriers, int slots, int writers, int readers) {
      for (int i = 0; i < slots; i++) {
        ptx::mbarrier_init(ptx::shared_address(&barriers.full[i]), writers);
        ptx::mbarrier_init(ptx::shared_address(&barriers.empty[i]), readers);
      }
    };
    init(storage.tile_barriers, 2, 1, C::kConsumerWarps + C::kReducerWarps + C::kTileThreads);
    init(storage.k_barriers, 1, 1, C::kConsumerWarps + C::kReducerWarps);
    init(storage.v_barriers, 1, 1, C::kConsumerWarps);
    init(storage.q_barriers, C::kStages, 1, C::kConsumerWarps);
    init(storage.d_o_barriers, C::kStages, 1, C::kConsumerWarps);
    if constexpr (C::kOnePass) init_one_pass(storage.one_pass_barriers);
    ptx::fence_barrier_init();
  }
  if constexpr (C::kCluster > 1) {
    ptx::cluster_sync_unaligned();
  } else {
    __syncthreads();
  }
  // The shuffle tells the compiler that a whole warp goes one way.
  const int role = __shfl_sync(0xffffffffu, threadIdx.x / 128, 0);
  if (role == 0) {
    ptx::give_registers<C::kProducerRegisters>();
    const int warp = __shfl_sync(0xffffffffu, threadIdx.x / 32, 0);
    if (warp == 0 && (C::kSparse || ptx::elect_one())) produce_blocks<C>(storage, maps, params);
    if constexpr (C::kCluster > 1) {
      if (warp == 1 && ptx::elect_one()) send_blocks(storage);
    }
    if constexpr (C::kOnePass) {
      if (warp == 2 && ptx::elect_one())
        add_blocks<C>(storage.one_pass, storage.one_pass_barriers, params.one_pass.sums);
      if (warp == 3 && ptx::elect_one()) claim_blocks(storage, params.one_pass.sums.states);
    }
  } else if (C::kOnePass && role == 1) {
    if constexpr (C::kOnePass) {
      ptx::give_registers<C::kReducerRegisters>();
      reduce_blocks(storage, params.one_pass);
    }
  } else {
    ptx::take_registers<C::kConsumerRegisters>();
    KeyConsumer<C>(storage, params).run();
  }
  // Nobody writes into the memory of a CTA that has gone.
  if constexpr (C::kCluster > 1) ptx::cluster_sync_unaligned();
}

}  // namespace triage::attention::sm90
