// Block-sparse attention forward on Hopper: the products, softmax and epilogue of sm90_forward.h under another walk.
//
// Each warpgroup has 64 queries and thereby one row of the mask's bits. The producer walks over the blocks of keys that
// some warpgroup of the tile attends, and says in the entry of each slot which do: the others let the slot pass. So
// each block comes from L2 once a tile, and warpgroups multiply nothing that is not listed.
//
// As in the dense kernel, a block's logits are multiplied together with the values of the block before. A warpgroup
// that passes over blocks meanwhile keeps the slot of its values, and the others can run ahead by the slots of a ring
// only: so after kStages - 1 passed blocks the pending values are multiplied alone.
//
// | warps               | role     | work                                                                           |
// |---------------------|----------|--------------------------------------------------------------------------------|
// | 0                   | producer | takes tiles, walks over their blocks; TMA of Q and K, entries                  |
// | 1                   | producer | walks along; TMA of V                                                          |
// | 2, 3                | idle     |                                                                                |
// | 4 and on, by fours  | consumer | 64 queries each: wgmma, softmax, epilogue                                      |
//
// Barriers are those of sm90_forward.h; q.empty has one arrival more, of the warp that brings values.
//
// Tiles without blocks have one entry, which nobody attends, without data.
#pragma once

#include "attention/block_mask.h"
#include "attention/sm90_forward.h"

namespace triage::attention::sm90 {

/// The dense kernel's configuration with more registers for the producer, who walks over bits.
/// @tparam kElements some blocks have a bit mask of elements.
template <typename Element, int kHeadDim, int kGroups, int kBlockN, int kStages, bool kTurns, bool kElementsT>
struct SparseForwardConfig : ForwardConfig<Element, kHeadDim, kHeadDim, kGroups, kBlockN, kStages, 2, kTurns> {
  static constexpr bool kElements = kElementsT;
  // All together no more than the CTA starts with: 168, 128 or 96 a thread.
  static constexpr int kProducerRegisters = kGroups == 2 ? 40 : kGroups == 3 ? 56 : 32;
  static constexpr int kConsumerRegisters = kGroups == 2 ? 232 : kGroups == 3 ? 152 : 112;
};

struct SparseForwardParams : ForwardParams {
  AttentionMask mask;
  const std::int32_t* tile_order;  ///< [tiles]: which tile comes at this place
};

/// The walk over a tile's blocks, by a whole warp.
template <typename C>
using TileWalk = RowsWalk<C::kGroups, C::kBlockN>;

template <typename C>
__device__ __forceinline__ TileWalk<C> walk_of(const SparseForwardParams& params, const Tile& tile) {
  const Mask window(tile.seqlen_q, tile.seqlen_k, params.order.window_left, params.order.window_right);
  return walk_keys<C::kGroups, C::kBlockN>(params.mask, mask_number(params.mask, tile.batch, tile.head), window,
                                           tile.row, tile.seqlen_q);
}

/// The warp that takes tiles and brings queries, keys and entries.
template <typename C>
__device__ __forceinline__ void produce_keys(ForwardStorage<C>& storage, const ForwardMaps& maps,
                                             const SparseForwardParams& params) {
  const TileOrder& order = params.order;
  const bool leader = ptx::elect_one();
  device::PipelineState<C::kQSlots> q_state(1);
  device::PipelineState<C::kStages> state(1);
  // Tiles are asked for ahead: number of this one, index of the next, and (in flight during the walk) those after.
  const auto number_of = [&](int index) { return index < order.tiles ? __ldg(params.tile_order + index) : -1; };
  const auto take = [&] { return leader ? atomicAdd(order.counter, 1) + static_cast<int>(gridDim.x) : 0; };
  const auto share = [](int taken) { return __reduce_max_sync(0xffffffffu, taken); };
  int number = number_of(blockIdx.x), index = share(take());
  for (;;) {
    const int next_number = number_of(index), taken = take();
    Tile tile{-1};
    if (number >= 0) {
      tile = padded_tile<C::kBlockM>(order, number);
      if (tile.row >= tile.seqlen_q) {
        number = next_number;
        index = share(taken);
        continue;
      }
    }
    TileWalk<C> blocks = walk_of<C>(params, tile);
    const std::uint32_t q_full = ptx::shared_address(&storage.q_barriers.full[q_state.slot]);
    ptx::mbarrier_wait(ptx::shared_address(&storage.q_barriers.empty[q_state.slot]), q_state.parity);
    if (leader) {
      storage.tile[q_state.slot] = tile;
      ptx::mbarrier_arrive(ptx::shared_address(&storage.tile_full[q_state.slot]));
      if (number >= 0) {
        ptx::barrier_expect(q_full, C::kGroups * C::kQGroupBytes);
#pragma unroll
        for (int g = 0; g < C::kGroups; g++) {
          load_rows<64, C::kPanels>(ptx::shared_address(storage.q[q_state.slot][g]), maps.q, maps.zeros,
                                    params.q_sliced, q_full, tile.q_start, tile.row + 64 * g, tile.seqlen_q,
                                    params.head_dim, tile.head, order.cu_seqlens_q ? 0 : tile.batch);
        }
      } else {
        ptx::mbarrier_arrive(q_full);
      }
    }
    if (number < 0) return;
    q_state.advance();

    const int start = key_start(order, tile.batch), kv_head = tile.head / order.kv_group;
    const int kv_batch = order.cu_seqlens_k ? 0 : tile.batch;
    std::uint32_t entry = 0, next = 0;
    const bool data = blocks.next(entry);
    bool follows = data && blocks.next(next);
#pragma unroll 1
    for (;;) {
      const std::uint32_t full = ptx::shared_address(&storage.k_barriers.full[state.slot]);
      ptx::mbarrier_wait(ptx::shared_address(&storage.k_barriers.empty[state.slot]), state.parity);
      if (leader) {
        storage.entries[state.slot] = entry | (follows ? 0 : walk::kLast);
        if (data) {
          ptx::barrier_expect(full, C::kKBytes);
          load_rows<C::kBlockN, C::kPanels>(ptx::shared_address(storage.k[state.slot]), maps.k, maps.zeros,
                                            params.kv_sliced, full, start,
                                            static_cast<int>(entry >> walk::kBlockShift) * C::kBlockN, tile.seqlen_k,
                                            params.head_dim, kv_head, kv_batch);
        } else {
          ptx::mbarrier_arrive(full);
        }
      }
      state.advance();
      if (!follows) break;
      entry = next;
      follows = blocks.next(next);
    }
    number = next_number;
    index = share(taken);
  }
}

/// The warp that brings values: it walks over the same blocks.
template <typename C>
__device__ __forceinline__ void produce_values(ForwardStorage<C>& storage, const ForwardMaps& maps,
                                               const SparseForwardParams& params) {
  const TileOrder& order = params.order;
  const bool leader = ptx::elect_one();
  device::PipelineState<C::kQSlots> q_state(0);
  device::PipelineState<C::kStages> state(1);
  for (;;) {
    ptx::mbarrier_wait(ptx::shared_address(&storage.tile_full[q_state.slot]), q_state.parity);
    const Tile tile = storage.tile[q_state.slot];
    __syncwarp();
    if (leader) ptx::mbarrier_arrive(ptx::shared_address(&storage.q_barriers.empty[q_state.slot]));
    q_state.advance();
    if (tile.row < 0) return;
    const int start = key_start(order, tile.batch), kv_head = tile.head / order.kv_group;
    const int kv_batch = order.cu_seqlens_k ? 0 : tile.batch;
    TileWalk<C> blocks = walk_of<C>(params, tile);
    std::uint32_t entry = 0;
    const bool data = blocks.next(entry);
#pragma unroll 1
    do {
      const std::uint32_t full = ptx::shared_address(&storage.v_barriers.full[state.slot]);
      ptx::mbarrier_wait(ptx::shared_address(&storage.v_barriers.empty[state.slot]), state.parity);
      if (leader && data) {
        ptx::barrier_expect(full, C::kVBytes);
        load_rows<C::kBlockN, C::kPanelsV>(ptx::shared_address(storage.v[state.slot]), maps.v, maps.zeros,
                                           params.kv_sliced, full, start,
                                           static_cast<int>(entry >> walk::kBlockShift) * C::kBlockN, tile.seqlen_k,
                                           params.head_dim_v, kv_head, kv_batch);
      } else if (leader) {
        ptx::mbarrier_arrive(full);
      }
      state.advance();
    } while (data && blocks.next(entry));
  }
}

/// One warpgroup's 64 queries of every tile.
template <typename C>
class SparseConsumer : Consumer<C> {
  using Base = Consumer<C>;
  using Base::block_, Base::group_, Base::lane_, Base::o_, Base::params_, Base::s_, Base::slot_, Base::softmax_,
      Base::tile_, Base::warp_row_;

 public:
  __device__ __forceinline__ SparseConsumer(ForwardStorage<C>& storage, const CUtensorMap* out_map,
                                            const SparseForwardParams& params)
      : Base(storage, out_map, params), entries_(storage.entries), mask_(params.mask) {}

  // With turns, each warpgroup takes one an entry.
  __device__ __forceinline__ void run() {
    if (C::kTurns && group_ == C::kGroups - 1) ptx::named_barrier_arrive(1, 256);
    this->fetch();
    if (tile_.row < 0) return;
    begin_tile();
    read_entry();
    bool pending = false;  // values of a block are to be multiplied yet
    int staged = -1;       // the Q slot off which O is being stored
#pragma unroll 1
    for (;;) {
      const int passed = walk(pending);
      if (staged >= 0) this->release_staged(staged);
      __syncwarp();  // here and below: or ptxas takes what follows for divergent, and makes descriptors lane by lane
      softmax_.reduce();
      const Tile done = tile_;
      const int slot = slot_;
      this->fetch();
      const bool more = tile_.row >= 0;
      if (more) read_entry();
      if (more && pending &&
          attends()) {  // the next tile's first logits and this one's last values; O under the logits
        this->wait_v();
        this->take_turn();
        this->multiply_values();
        this->multiply_logits();
        this->pass_turn();
        ptx::wgmma_wait<1>();
        ptx::wgmma_settle(o_);
        release_values(passed);
        this->store(done, slot);
        __syncwarp();
        begin_tile();
        take_block();
        ptx::wgmma_wait<0>();
        ptx::wgmma_settle(s_);
        weigh_first();
      } else {
        if (pending) finish_values(passed);
        this->store(done, slot);
        __syncwarp();
        if (!more) break;
        begin_tile();
        pending = false;
      }
      staged = slot;
    }
    if (threadIdx.x % 128 == 0) ptx::bulk_wait_all();
  }

 private:
  static_assert(C::kStagedOutput, "the walk knows no single tile of queries");
  static_assert(!C::kElements || C::kBlockN == 64, "masks of elements are 64 x 64");

  __device__ __forceinline__ void begin_tile() {
    const int row = tile_.row + 64 * group_, last_row = min(row + 63, tile_.seqlen_q - 1);
    this->whole_ = {0, 0};
    if (row <= last_row) this->whole_ = this->mask().template whole_blocks<C::kBlockN>(row, last_row);
    softmax_.reset();
#pragma unroll
    for (int i = 0; i < C::kHeadDimV / 2; i++) o_[i] = 0.0f;
  }

  // The next slot's.
  __device__ __forceinline__ void read_entry() {
    this->wait_k();
    entry_ =
        __shfl_sync(0xffffffffu, *reinterpret_cast<const volatile std::uint32_t*>(&entries_[this->k_state_.slot]), 0);
  }
  __device__ __forceinline__ bool attends() const { return entry_ >> group_ & 1; }
  __device__ __forceinline__ void take_block() {
    block_ = static_cast<int>(entry_ >> walk::kBlockShift);
    full_ = entry_ >> (walk::kFullShift + group_) & 1;
  }

  // The blocks of a tile from the entry that has been read; `pending`: it has been weighed already, and comes out as
  // whether values are left to be multiplied. Returns how many blocks have been passed since, whose values are to be
  // passed over yet.
  __device__ __forceinline__ int walk(bool& pending) {
    int passed = 0;
    bool taken = pending;
#pragma unroll 1
    for (;; read_entry(), taken = false) {
      if (taken) {
        if (entry_ & walk::kLast) break;
        continue;
      }
      if (attends()) {
        take_block();
        if (pending) {
          multiply_both(passed);
        } else {
          multiply_first();
        }
        pending = true;
        passed = 0;
      } else {
        this->take_turn();
        this->pass_turn();
        this->release_k();
        if (!pending) {
          this->skip_v();
        } else if (++passed == C::kStages - 1) {
          finish_values(passed);
          pending = false;
          passed = 0;
        }
      }
      if (entry_ & walk::kLast) break;
    }
    return passed;
  }

  // Logits of this block.
  __device__ __forceinline__ void multiply_first() {
    this->take_turn();
    this->multiply_logits();
    this->pass_turn();
    ptx::wgmma_wait<0>();
    ptx::wgmma_settle(s_);
    weigh_first();
  }
  __device__ __forceinline__ void weigh_first() {
    this->release_k();
    float factor[2];
    const bool moved = weigh(factor);
    this->pack();
    if (moved) rescale(factor);
  }

  // Logits of this block and values of the one before.
  __device__ __forceinline__ void multiply_both(int passed) {
    this->wait_v();
    this->take_turn();
    this->multiply_logits();
    this->multiply_values();
    this->pass_turn();
    ptx::wgmma_wait<1>();
    ptx::wgmma_settle(s_);
    this->release_k();
    float factor[2];
    const bool moved = weigh(factor);
    ptx::wgmma_wait<0>();
    ptx::wgmma_settle(o_);
    release_values(passed);
    this->pack();
    if (moved) rescale(factor);
  }

  __device__ __forceinline__ void finish_values(int passed) {
    this->wait_v();
    this->multiply_values();
    ptx::wgmma_wait<0>();
    ptx::wgmma_settle(o_);
    release_values(passed);
  }
  __device__ __forceinline__ void release_values(int passed) {
    this->release_v();
#pragma unroll 1
    for (int i = 0; i < passed; i++) this->skip_v();
  }

  // Masks, and softmax: true if the maximum moved.
  __device__ __forceinline__ bool weigh(float (&factor)[2]) {
    if (params_.softcap.exponent != 0.0f) device::cap_logits(s_, params_.softcap);
    if (full_) {
      if ((block_ + 1) * C::kBlockN > tile_.seqlen_k) {
        this->mask_block(Mask(tile_.seqlen_q, tile_.seqlen_k, kNoWindow, kNoWindow));
      }
    } else {
      if (block_ >= this->whole_.end || block_ < this->whole_.begin) this->mask_block(this->mask());
      if constexpr (C::kElements) mask_elements_of_block();
    }
    const bool moved = softmax_.advance(s_, params_.scale_log2, factor);
    softmax_.exponentiate(s_, params_.scale_log2);
    return moved;
  }

  __device__ __forceinline__ void mask_elements_of_block() {
    const std::int64_t row =
        mask_number(mask_, tile_.batch, tile_.head) * mask_.by_query.rows + tile_.row / 64 + group_;
    const int entry = mask_.element_index[row * mask_.by_key.rows + block_];
    if (entry < 0) return;
    const std::uint64_t* const words = mask_.elements + std::int64_t{entry} * 64 + warp_row_ + lane_ / 4;
    mask_elements(s_, {words[0], words[8]}, lane_ % 4 * 2);
  }

  __device__ __forceinline__ void rescale(const float (&factor)[2]) {
#pragma unroll
    for (int i = 0; i < C::kHeadDimV / 2; i++) o_[i] *= factor[i / 2 % 2];
  }

  const std::uint32_t* const entries_;
  const AttentionMask& mask_;
  std::uint32_t entry_;  ///< of the slot of keys at work
  bool full_;            ///< this warpgroup attends the block in full
};

template <typename C>
__global__ void __launch_bounds__(C::kThreads, 1)
    sparse_forward_kernel(const __grid_constant__ ForwardMaps maps,
                          const __grid_constant__ SparseForwardParams params) {
  extern __shared__ __align__(1024) std::uint8_t shared[];
  auto& storage = *reinterpret_cast<ForwardStorage<C>*>(shared);
  if (threadIdx.x == 0) {
    for (int i = 0; i < C::kQSlots; i++) ptx::mbarrier_init(ptx::shared_address(&storage.tile_full[i]), 1);
    init_barriers<C>(storage, maps, C::kGroups + 1);
  }
  __syncthreads();
  if (threadIdx.x < 128) {
    ptx::give_registers<C::kProducerRegisters>();
    const int warp = __shfl_sync(0xffffffffu, threadIdx.x / 32, 0);
    if (warp == 0) produce_keys<C>(storage, maps, params);
    if (warp == 1) produce_values<C>(storage, maps, params);
  } else {
    ptx::take_registers<C::kConsumerRegisters>();
    SparseConsumer<C>(storage, &maps.out, params).run();
  }
}

}  // namespace triage::attention::sm90
