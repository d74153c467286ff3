// Attention backward on Hopper in one pass: what comes to the tiles of keys (sm90_backward_keys.h) for d_q.
//
// The consumers' dS of a block of queries lies in shared memory; the reducer, a warpgroup of its own, multiplies
// d_q = dS K and stages that in shared memory again, from where the adder lets the copy engine add it to sums in global
// memory (sm90_backward_sums.h): no warpgroup that multiplies waits for memory. The tiles of a head add in the order in
// which they come, so d_q is not bitwise repeatable. With kCounted, which tile is a block's first, and stores, the
// claimer finds out ahead; when the last one has added, its reducer turns the sum into d_q. Else sums are zeroed
// before, and sm90_backward_finish.h turns them into d_q.
//
// Additions are what binds: 32 KB a block of 64 queries and 128 keys at head_dim 128. Tiles of 256 keys halve them.
// With head_dim 64 the registers of two consumers hold the gradients of so many; with 128 two CTAs, a cluster, have 128
// keys each and walk over the same blocks of queries: each sends its dS to the other one and makes one panel (64
// columns) of d_q, for all 256 keys.
//
// | warps  | role     | work                                                                    |
// |--------|----------|-------------------------------------------------------------------------|
// | 1      | sender   | kCluster > 1: copies dS into the other CTA's shared memory              |
// | 2      | adder    | stores or adds what the reducer has staged                              |
// | 3      | claimer  | whether a block's sum is to be stored or added to, and may be by now    |
// | 4-7    | reducer  | d_q of every block; out of the sums, where this CTA was the last to add |
//
// | barrier        | arrivals                        | completes when                                |
// |----------------|---------------------------------|-----------------------------------------------|
// | ds.full[i]     | consumer warps                  | dS of a block lies in shared memory           |
// | ds.empty[i]    | reducer warps of the cluster    | every CTA has multiplied with it, and knows   |
// |                | + 1 (claimer)                   | whose it is                                   |
// | other_full[i]  | 1 (sender) + bytes              | the other CTA's dS has arrived                |
// | claims.full[i] | 1 (claimer)                     | a block may be stored or added                |
// | claims.empty   | 1 (adder)                       | it has been read                              |
// | sum_full[i]    | reducer warps                   | a panel of d_q is staged                      |
// | sum_empty[i]   | 1 (adder)                       | the copy engine has read it; the first one's: |
// |                |                                 | `finished` tells of an earlier block          |
// | next_full      | 1 (producer, rank 1) + bytes    | the number of the next tile has arrived       |
// | next_empty     | 1 (producer, rank 1)            | it has been read                              |
//
// All tiles of a head come by its blocks in the same order, and a tile waits only for a block that another one has
// claimed: somebody always gets on. What orders a tile's part and the reading of the sum, or of what is added to: the
// copy engine's additions are complete, a fence, then the block's word changes; the word is read, then a fence.
//
// The method is FlashAttention's (Dao, arXiv 2307.08691; Shah et al., arXiv 2407.08608); a pair of CTAs that exchanges
// dS is also what FlashAttention-4 does on Blackwell (arXiv 2603.05451).
#pragma once

#include <cstdint>

#include "attention/sm90_backward_sums.h"
#include "attention/sm90_backward_tiles.h"
#include "attention/sm90_backward_values.h"
#include "attention/sm90_copy.h"
#include "device/pipeline.h"
#include "ptx/atomics.h"
#include "ptx/bulk_copy.h"
#include "ptx/cluster.h"
#include "ptx/forget.h"
#include "ptx/shared_memory.h"
#include "ptx/tma.h"
#include "ptx/wgmma.h"

namespace triage::attention::sm90 {

/// Descriptions of tiles as consumers read them. Little of a description is kept in registers, which are
/// scarce: so each stays in its slot until the warp has done with the tile.
template <typename Storage>
class TileReader {
 public:
  __device__ __forceinline__ explicit TileReader(Storage& storage) : storage_(storage) {}
  __device__ __forceinline__ void wait() {
    ptx::mbarrier_wait(ptx::shared_address(&storage_.tile_barriers.full[state_.slot]), state_.parity);
  }
  __device__ __forceinline__ void release() {
    __syncwarp();
    if (threadIdx.x % 32 == 0) ptx::mbarrier_arrive(ptx::shared_address(&storage_.tile_barriers.empty[state_.slot]));
    state_.advance();
  }
  /// The same for all lanes: the shuffle tells the compiler so, which loops around wgmma need.
  __device__ __forceinline__ int get(int KeyTile::*field) const {
    return __shfl_sync(0xffffffffu, get_alone(field), 0);
  }

  /// As release() and get(), for a thread by itself.
  __device__ __forceinline__ void release_alone() {
    ptx::mbarrier_arrive(ptx::shared_address(&storage_.tile_barriers.empty[state_.slot]));
    state_.advance();
  }
  __device__ __forceinline__ int get_alone(int KeyTile::*field) const { return storage_.tiles[state_.slot].*field; }

 private:
  Storage& storage_;
  device::PipelineState<2> state_{0};
};

template <typename C, bool kOnePass = C::kOnePass>
struct OnePassBuffers {};
template <typename C, bool kOnePass = C::kOnePass>
struct OnePassBarriers {};

/// Of the other CTA of a cluster, if there is one.
template <typename C, bool kPair = (C::kCluster > 1)>
struct OtherBuffers {};
template <typename C>
struct OtherBuffers<C, true> {
  alignas(1024) std::uint8_t k[C::kKeyPanelBytes];  ///< this CTA's panel
  alignas(1024) std::uint8_t ds[C::kStages][C::kDsBytes];
};

template <typename C>
struct OnePassBuffers<C, true> {
  alignas(1024) std::uint8_t ds[C::kStages][C::kDsBytes];
  alignas(1024) std::uint8_t sums[C::kSums][C::kSumBytes];
  OtherBuffers<C> other;
};
template <typename C>
struct OnePassBarriers<C, true> {
  device::PipelineBarriers<C::kStages> ds, claims;
  std::uint64_t sum_full[C::kSums], sum_empty[C::kSums];
  std::uint64_t other_full[C::kStages], next_full, next_empty;
  /// Whose dS it is: from bit 3 on, the block of all heads' padded rows; bits 1 and 2, whether each consumer's keys are
  /// attended (those of the other one hold nothing); bit 0, whether it is the tile's last one.
  std::uint32_t blocks[C::kStages];
  std::int32_t claimed[C::kStages];  ///< twice the block, and 1 if this tile is its first; -1: there are no more
  std::int32_t finished;             ///< a block that is to become d_q, -1: none
  std::int32_t next;                 ///< number of the next tile, from rank 0
};

template <typename C>
__device__ __forceinline__ void init_one_pass(OnePassBarriers<C, true>& barriers) {
  for (int i = 0; i < C::kStages; i++) {
    ptx::mbarrier_init(ptx::shared_address(&barriers.ds.full[i]), C::kConsumerWarps);
    ptx::mbarrier_init(ptx::shared_address(&barriers.ds.empty[i]), C::kReducerWarps * C::kCluster + 1);
    ptx::mbarrier_init(ptx::shared_address(&barriers.claims.full[i]), 1);
    ptx::mbarrier_init(ptx::shared_address(&barriers.claims.empty[i]), 1);
  }
  barriers.finished = -1;
  for (int i = 0; i < C::kSums; i++) {
    ptx::mbarrier_init(ptx::shared_address(&barriers.sum_full[i]), C::kReducerWarps);
    ptx::mbarrier_init(ptx::shared_address(&barriers.sum_empty[i]), 1);
  }
  if constexpr (C::kCluster > 1) {
    for (int i = 0; i < C::kStages; i++) ptx::mbarrier_init(ptx::shared_address(&barriers.other_full[i]), 1);
    ptx::mbarrier_init(ptx::shared_address(&barriers.next_full), 1);
    ptx::mbarrier_init(ptx::shared_address(&barriers.next_empty), 1);
  }
}

/// One thread of each producer: what rank 0 has taken, for both. @param parity of the phase, 0 for the first.
template <typename C>
__device__ __forceinline__ int share_index(OnePassBarriers<C, true>& barriers, int rank, int taken,
                                           std::uint32_t parity) {
  const std::uint32_t full = ptx::shared_address(&barriers.next_full),
                      empty = ptx::shared_address(&barriers.next_empty);
  if (rank == 0) {
    ptx::mbarrier_wait(empty, parity ^ 1);
    ptx::cluster_store_word(ptx::cluster_address(ptx::shared_address(&barriers.next), 1), taken,
                            ptx::cluster_address(full, 1));
    return taken;
  }
  ptx::barrier_expect(full, 4);
  ptx::mbarrier_wait(full, parity);
  const int index = static_cast<int>(ptx::load_shared_u32(ptx::shared_address(&barriers.next)));
  ptx::cluster_arrive(ptx::cluster_address(empty, 0));
  return index;
}

/// The panel of columns 64 * `panel` and on of kBlockN keys, of which those from `length` on become zero. The map is
/// not sliced, see sm90_copy.h.
template <int kRows>
__device__ __forceinline__ void load_panel(std::uint32_t place, const CUtensorMap& map, const CUtensorMap& zeros,
                                           std::uint32_t barrier, int start, int row, int length, int panel,
                                           int columns, int head, int batch) {
  const int valid = min(length - row, kRows);
  if (valid > 0 && 64 * panel < columns) {
    ptx::tma_load_5d(place, &map, barrier, 64 * panel, kRows - valid, head, start + row + valid, batch);
    return;
  }
#pragma unroll 1
  for (int r = 0; r < kRows; r += kZeroRows) {
    ptx::tma_load_5d(place + r * 128, &zeros, barrier, 0, kZeroRows, 0, 0, 0);
  }
}

/// One thread: dS of every block to the other CTA.
template <typename Storage>
__device__ __forceinline__ void send_blocks(Storage& storage) {
  using C = typename Storage::Config;
  auto& buffers = storage.one_pass;
  auto& barriers = storage.one_pass_barriers;
  const std::uint32_t other = ptx::cluster_cta_rank() ^ 1;
  TileReader<Storage> tile(storage);
  device::PipelineState<C::kStages> state(0);
  for (;; tile.release_alone()) {
    tile.wait();
    if (tile.get_alone(&KeyTile::key) < 0) return;
    if (tile.get_alone(&KeyTile::block_begin) >= tile.get_alone(&KeyTile::block_end)) continue;
    bool last;
#pragma unroll 1
    do {
      const std::uint32_t full = ptx::shared_address(&barriers.other_full[state.slot]);
      ptx::mbarrier_wait(ptx::shared_address(&barriers.ds.full[state.slot]), state.parity);
      last = ptx::load_shared_u32(ptx::shared_address(&barriers.blocks[state.slot])) & 1;
      // Before these consumers staged, this CTA's reducer had done with what the slot held: its phase is over.
      ptx::barrier_expect(full, C::kDsBytes);
      // And the other CTA's reducer had done with what its copy of the slot held.
      ptx::bulk_send(ptx::cluster_address(ptx::shared_address(buffers.other.ds[state.slot]), other),
                     ptx::shared_address(buffers.ds[state.slot]), C::kDsBytes, ptx::cluster_address(full, other));
      state.advance();
    } while (!last);
  }
}

/// One thread: claims every block, and waits until it may be added to.
template <typename Storage>
__device__ __forceinline__ void claim_blocks(Storage& storage, std::uint32_t* states) {
  using C = typename Storage::Config;
  auto& barriers = storage.one_pass_barriers;
  const int rank = C::kCluster > 1 ? static_cast<int>(ptx::cluster_cta_rank()) : 0;
  TileReader<Storage> tile(storage);
  device::PipelineState<C::kStages> state(0), claim(1);
  const auto tell = [&](int claimed) {
    ptx::mbarrier_wait(ptx::shared_address(&barriers.claims.empty[claim.slot]), claim.parity);
    const std::uint32_t place = ptx::shared_address(&barriers.claimed[claim.slot]);
    ptx::store_shared_u32(place, claimed);
    ptx::mbarrier_arrive(ptx::after_store(ptx::shared_address(&barriers.claims.full[claim.slot]), place, claimed));
    claim.advance();
  };
  for (;; tile.release_alone()) {
    tile.wait();
    if (tile.get_alone(&KeyTile::key) < 0) break;
    bool last = !C::kSparse && tile.get_alone(&KeyTile::block_begin) >= tile.get_alone(&KeyTile::block_end);
#pragma unroll 1
    while (!last) {
      ptx::mbarrier_wait(ptx::shared_address(&barriers.ds.full[state.slot]), state.parity);
      const std::uint32_t word = ptx::load_shared_u32(ptx::shared_address(&barriers.blocks[state.slot]));
      last = word & 1;
      ptx::mbarrier_arrive(ptx::shared_address(&barriers.ds.empty[state.slot]));
      state.advance();
      if ((word & 6) == 0) continue;  // a tile without any block
      const int block = static_cast<int>(word >> 3);
      bool first = false;
      if constexpr (C::kCounted) {
        std::uint32_t* const place = states + std::int64_t{block} * C::kCluster + rank;
        const std::uint32_t before = ptx::add_acquire(place, sum_state::kCame);
        first = (before & sum_state::kMostTiles) == 0;
        if (!first && !(before & sum_state::kStored)) {
          while (!(ptx::load_acquire(place) & sum_state::kStored)) __nanosleep(20);
        }
      }
      tell(2 * block + first);
    }
  }
  tell(-1);
}

/// What the reducer and the adder need of a call.
struct OnePassParams {
  QuerySums sums;
  AttentionTensor d_q;
  float scale;  ///< of d_q
  int head_dim;
};

/// Where a panel of a block's d_q is summed up.
template <typename C>
__device__ __forceinline__ float* sum_of(const QuerySums& sums, std::int64_t block, int panel) {
  return sums.sums + (block * C::kPanels + panel) * (kSumRows * 64);
}

/// The warpgroup that multiplies d_q = dS K.
template <typename Storage>
__device__ __forceinline__ void reduce_blocks(Storage& storage, const OnePassParams& params) {
  using C = typename Storage::Config;
  using Element = typename C::Element;
  constexpr std::uint32_t kUpper = ptx::descriptor_upper(1024, ptx::Swizzle::bytes128);
  auto& buffers = storage.one_pass;
  auto& barriers = storage.one_pass_barriers;
  const int lane = threadIdx.x % 32;
  const int rank = C::kCluster > 1 ? __shfl_sync(0xffffffffu, static_cast<int>(ptx::cluster_cta_rank()), 0) : 0;
  // d += dS * (64 columns of keys) for kKeys keys: both lie in panels, of 64 keys and of 64 columns.
  const auto multiply = [&]<int kKeys>(float(&d)[32], const void* ds_place, const void* keys_place, bool accumulate) {
    const std::uint32_t ds = ptx::descriptor_lower(ptx::shared_address(ds_place)),
                        keys = ptx::descriptor_lower(ptx::shared_address(keys_place));
    ptx::wgmma_fence();
#pragma unroll
    for (int i = 0; i < kKeys / 16; i++) {
      ptx::wgmma<Element, 64, ptx::Major::k, ptx::Major::mn>(
          d, ptx::descriptor(kUpper, ds + i / 4 * (C::kQueryPanelBytes / 16) + i % 4 * 2),
          ptx::descriptor(kUpper, keys + i * (16 * 128 / 16)), accumulate || i > 0);
    }
  };
  TileReader<Storage> tile(storage);
  device::PipelineState<C::kStages> state(0);
  std::uint32_t key_parity = 0, sum_parity = 1;
  const auto stage = [&](const float(&d_q)[32], int sum) {
    auto* const to = reinterpret_cast<float4*>(buffers.sums[sum]) + threadIdx.x % 128;
#pragma unroll
    for (int j = 0; j < 8; j++) to[j * 128] = make_float4(d_q[4 * j], d_q[4 * j + 1], d_q[4 * j + 2], d_q[4 * j + 3]);
    ptx::fence_async_shared();
    __syncwarp();
  };
  const auto hand_over = [&](int sum) {
    if (lane == 0) ptx::mbarrier_arrive(ptx::shared_address(&barriers.sum_full[sum]));
  };
  // Waits for the adder to have read the sum before; with the first panel's it tells which block is finished.
  const auto wait_empty = [&](int sum, int& finished) {
    ptx::mbarrier_wait(ptx::shared_address(&barriers.sum_empty[sum]), sum_parity);
    if (sum > 0 || !C::kCounted) return;
    finished = __shfl_sync(0xffffffffu, ptx::load_shared_u32(ptx::shared_address(&barriers.finished)), 0);
  };
  // Sums in L2: of a block that all tiles have added to.
  const auto finish = [&](int block) {
    if (block < 0) return;
    const SumRows rows = params.sums.rows[block];
#pragma unroll 1
    for (int sum = 0; sum < C::kSums; sum++) {
      const auto* const from =
          reinterpret_cast<const float4*>(sum_of<C>(params.sums, block, rank + sum)) + threadIdx.x % 128;
      float x[32];
#pragma unroll
      for (int j = 0; j < 8; j++) {
        const float4 v = __ldcg(from + j * 128);
        x[4 * j] = v.x, x[4 * j + 1] = v.y, x[4 * j + 2] = v.z, x[4 * j + 3] = v.w;
      }
      store_rows(x, params.scale, static_cast<Element*>(params.d_q.data) + rows.start, params.d_q.sequence_stride,
                 threadIdx.x % 128 / 32 * 16 + lane / 4, rows.count, 64 * (rank + sum), params.head_dim);
    }
    __syncwarp();
  };
  int finished = -1;
  for (;; tile.release()) {
    tile.wait();
    if (tile.get(&KeyTile::key) < 0) break;
    ptx::mbarrier_wait(ptx::shared_address(&storage.k_barriers.full[0]), key_parity);
    key_parity ^= 1;
    bool last = !C::kSparse && tile.get(&KeyTile::block_begin) >= tile.get(&KeyTile::block_end);
#pragma unroll 1
    while (!last) {
      ptx::mbarrier_wait(ptx::shared_address(&barriers.ds.full[state.slot]), state.parity);
      const std::uint32_t block =
          __shfl_sync(0xffffffffu, ptx::load_shared_u32(ptx::shared_address(&barriers.blocks[state.slot])), 0);
      last = block & 1;
      const std::uint32_t attending = C::kSparse ? block >> 1 & 3 : 3;
      if constexpr (C::kCluster > 1) {
        ptx::mbarrier_wait(ptx::shared_address(&barriers.other_full[state.slot]), state.parity);
      }
      if (attending == 0) {  // a tile without any block
        if (lane == 0) ptx::mbarrier_arrive(ptx::shared_address(&barriers.ds.empty[state.slot]));
        state.advance();
        continue;
      }
#pragma unroll
      for (int sum = 0; sum < C::kSums; sum++) {
        float d_q[32];
        ptx::forget(d_q);
        const std::uint8_t *const ds = buffers.ds[state.slot], *const k = storage.k + (rank + sum) * C::kKeyPanelBytes;
        if constexpr (C::kSparse) {  // the attended consumers' keys
          const int first = attending == 2 ? 1 : 0;
          multiply.template operator()<C::kGroupKeys>(d_q, ds + first * C::kHalves * C::kQueryPanelBytes,
                                                      k + first * (C::kGroupKeys * 128), false);
          if (attending == 3) {
            multiply.template operator()<C::kGroupKeys>(d_q, ds + C::kHalves * C::kQueryPanelBytes,
                                                        k + C::kGroupKeys * 128, true);
          }
        } else {
          multiply.template operator()<C::kBlockN>(d_q, ds, k, false);
        }
        if constexpr (C::kCluster > 1) {
          multiply.template operator()<C::kBlockN>(d_q, buffers.other.ds[state.slot], buffers.other.k, true);
        }
        ptx::wgmma_commit();
        wait_empty(sum, finished);
        ptx::wgmma_wait<0>();
        ptx::wgmma_settle(d_q);
        if (sum == C::kSums - 1 && lane == 0) {
          const std::uint32_t empty = ptx::shared_address(&barriers.ds.empty[state.slot]);
          ptx::mbarrier_arrive(empty);
          if constexpr (C::kCluster > 1) ptx::cluster_arrive(ptx::cluster_address(empty, rank ^ 1));
        }
        stage(d_q, sum);
        hand_over(sum);
      }
      if constexpr (C::kCounted) finish(finished);
      sum_parity ^= 1;
      state.advance();
    }
    if (lane == 0) ptx::mbarrier_arrive(ptx::shared_address(&storage.k_barriers.empty[0]));
  }
  if constexpr (C::kCounted) {
    // The last four blocks: the adder tells of one at a time.
#pragma unroll 1
    for (int i = 0; i < 4; i++, sum_parity ^= 1) {
      wait_empty(0, finished);
      if (i < 3) hand_over(0);
      finish(finished);
    }
  }
}

/// One thread: stores or adds what the reducer has staged.
template <typename C>
__device__ __forceinline__ void add_blocks(OnePassBuffers<C, true>& buffers, OnePassBarriers<C, true>& barriers,
                                           const QuerySums& sums) {
  const int rank = C::kCluster > 1 ? static_cast<int>(ptx::cluster_cta_rank()) : 0;
  std::uint32_t parity = 0;
  device::PipelineState<C::kStages> claim(0);
  int added[2] = {-1, -1};          // the last two blocks, whose additions may be under way
  int counted = -1;                 // the one before those
  std::uint32_t counted_state = 0;  // its word before it was counted
  const auto state_of = [&](int block) { return sums.states + std::int64_t{block} * C::kCluster + rank; };
  // Waits for the first panel and tells the reducer which block is finished, if any: the one that has been counted, if
  // it was complete by that. Returns the barrier to arrive at when the panel has been read.
  const auto wait_and_tell = [&] {
    const int finished = counted_state >> 16 == 1 ? counted : -1;
    ptx::mbarrier_wait(ptx::shared_address(&barriers.sum_full[0]), parity);
    if constexpr (!C::kCounted) return ptx::shared_address(&barriers.sum_empty[0]);
    if (finished >= 0) ptx::fence_gpu();  // the others' parts are seen after their counts
    const std::uint32_t place = ptx::shared_address(&barriers.finished);
    ptx::store_shared_u32(place, finished);
    return ptx::after_store(ptx::shared_address(&barriers.sum_empty[0]), place, finished);
  };
  // Counts the block that was added two blocks before `block` (-1: none), the latest. Its addition has had time enough,
  // and so has the count until its answer is looked at: nothing is waited for.
  const auto count = [&](int block) {
    block < 0 ? ptx::bulk_wait<0>() : ptx::bulk_wait<2 * C::kSums>();
    ptx::fence_async_global();
    ptx::fence_gpu();
    counted = added[1];
    counted_state = counted < 0 ? 0 : atomicSub(state_of(counted), sum_state::kMissing);
    added[1] = added[0];
    added[0] = block;
  };
#pragma unroll 1
  for (;; parity ^= 1) {
    ptx::mbarrier_wait(ptx::shared_address(&barriers.claims.full[claim.slot]), claim.parity);
    const int claimed = static_cast<int>(ptx::load_shared_u32(ptx::shared_address(&barriers.claimed[claim.slot])));
    ptx::mbarrier_arrive(ptx::shared_address(&barriers.claims.empty[claim.slot]));
    claim.advance();
    if (claimed < 0) break;
    const int block = claimed >> 1;
    const bool first = claimed & 1;
    ptx::fence_async_global();  // the first one's values, which the claimer saw stored, come before these
    std::uint32_t empty = wait_and_tell();
#pragma unroll
    for (int sum = 0; sum < C::kSums; sum++) {
      if (sum > 0) ptx::mbarrier_wait(ptx::shared_address(&barriers.sum_full[sum]), parity);
      float* const to = sum_of<C>(sums, block, rank + sum);
      const std::uint32_t from = ptx::shared_address(buffers.sums[sum]);
      first ? ptx::bulk_store(to, from, C::kSumBytes) : ptx::bulk_add(to, from, C::kSumBytes);
      ptx::bulk_commit();
      if (sum > 0) {
        ptx::bulk_wait_read<1>();
        ptx::mbarrier_arrive(empty);
        empty = ptx::shared_address(&barriers.sum_empty[sum]);
      }
    }
    if constexpr (C::kCounted) count(block);  // while that is being read
    ptx::bulk_wait_read<0>();
    ptx::mbarrier_arrive(empty);
    if (first) {  // others wait for it
      ptx::bulk_wait<0>();
      ptx::fence_async_global();
      ptx::fence_gpu();
      atomicOr(state_of(block), sum_state::kStored);
    }
  }
  if constexpr (C::kCounted) {
#pragma unroll 1
    for (int i = 0; i < 3; i++, parity ^= 1) {
      ptx::mbarrier_arrive(wait_and_tell());
      count(-1);
    }
  } else {
    ptx::bulk_wait<0>();
  }
}

}  // namespace triage::attention::sm90
