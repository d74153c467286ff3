// Attention forward on Hopper: O = softmax(scale * Q K^T + mask) V.
//
// A tile is 64 queries of one head per consumer warpgroup; it walks over blocks of kBlockN keys from the last to the
// first. Logits S = Q K^T come from shared memory into registers (wgmma), become P = exp2(S - maximum) there, and are
// the A operand of O += P V. The product of the next block's logits and that of this block's P V are issued together,
// so that the tensor cores work while the exponentials are taken; across tiles, the first logits of the next tile go
// with the last P V of this one, and the epilogue runs under them. CTAs are persistent.
//
// Masks (causal, windows, ragged lengths) are an interval of keys per query (geometry.h): blocks outside of it are
// skipped by each warpgroup, blocks across its ends are masked, the rest know nothing of it.
//
// | warps               | role     | work                                                                           |
// |---------------------|----------|--------------------------------------------------------------------------------|
// | 0                   | producer | takes tiles; TMA of Q, K, V                                                    |
// | 1-3                 | idle     | (setmaxnreg needs whole warpgroups)                                            |
// | 4 and on, by fours  | consumer | 64 queries each: wgmma, softmax, epilogue                                      |
//
// | barrier          | arrivals                                        | completes when                            |
// |------------------|-------------------------------------------------|-------------------------------------------|
// | q.full[i]        | 1 (producer) + bytes                            | a tile's description and queries are there |
// | q.empty[i]       | staged O: 1 per warpgroup, else 1 per warp      | O has been read off it, or Q is done with |
// | k, v.full[i]     | 1 (producer) + bytes                            | a block's keys (values) have arrived      |
// | k, v.empty[i]    | 1 per consumer warp                             | nobody reads the slot any more            |
// | named 1 + group  | two warpgroups (kTurns)                         | it is this warpgroup's turn to issue      |
// | named 8 + group  | 128                                             | the warpgroup has staged its O            |
//
// The method is FlashAttention-3's (Shah et al., arXiv 2407.08608) with a stale maximum as in FlashAttention-4.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "attention/result_params.h"
#include "attention/sm90_copy.h"
#include "attention/sm90_tiles.h"
#include "device/epilogue.h"
#include "device/pipeline.h"
#include "device/softmax.h"
#include "ptx/cluster.h"
#include "ptx/elect.h"
#include "ptx/setmaxnreg.h"
#include "ptx/stmatrix.h"
#include "ptx/tma.h"
#include "ptx/wgmma.h"

namespace triage::attention::sm90 {

/// @tparam kHeadDim, kHeadDimV of Q and K, of V and O; smaller ones are padded with zeros by TMA.
/// @tparam kQSlots 2: the next tile's queries arrive during this one, and O is staged in the slot of its own queries.
///   1: the slot is free after the last logits, and O goes straight from registers to memory.
/// @tparam kTurns warpgroups take turns at issuing, so that one multiplies while another takes exponentials.
template <typename ElementT, int kHeadDimT, int kHeadDimVT, int kGroupsT, int kBlockNT, int kStagesT, int kQSlotsT,
          bool kTurnsT>
struct ForwardConfig {
  using Element = ElementT;
  static constexpr int kHeadDim = kHeadDimT, kHeadDimV = kHeadDimVT, kGroups = kGroupsT, kBlockN = kBlockNT,
                       kStages = kStagesT, kQSlots = kQSlotsT;
  static constexpr bool kTurns = kTurnsT, kStagedOutput = kQSlots == 2;
  static constexpr int kBlockM = 64 * kGroups;
  static constexpr int kThreads = 128 * (kGroups + 1);
  static constexpr int kPanels = (kHeadDim + 63) / 64,
                       kPanelsV = (kHeadDimV + 63) / 64;  ///< of 64 columns in shared memory
  static constexpr int kQPanelBytes = 64 * 128, kPanelBytes = kBlockN * 128;
  static constexpr int kQGroupBytes = kPanels * kQPanelBytes;
  static constexpr int kKBytes = kPanels * kPanelBytes, kVBytes = kPanelsV * kPanelBytes;
  static constexpr int kProducerRegisters = kGroups == 3 ? 32 : 24;
  static constexpr int kConsumerRegisters = kGroups == 2 ? 240 : kGroups == 3 ? 160 : 112;
  static constexpr int kSharedLimit = 227 * 1024;

  static_assert(kHeadDim % 16 == 0 && kHeadDimV % 16 == 0, "wgmma multiplies 16 values of k");
  static_assert(kBlockN % 16 == 0 && kBlockN * 128 % 1024 == 0, "panels start where the swizzle does");
  static_assert(kGroups >= 2 && kGroups <= 4, "registers are shared out for two to four warpgroups");
  static_assert(kQSlots == 1 || kQSlots == 2, "one or two tiles of queries");
  static_assert(!kStagedOutput || kPanelsV <= kPanels, "O is staged in the slot of its queries");
  // A warpgroup passes over up to kBlockM - 64 keys before it multiplies, and holds one block of values meanwhile.
  static_assert((kBlockM - 64 + kBlockN - 1) / kBlockN + 1 <= kStages, "skipped blocks must fit the rings");
  static_assert(kBlockN / 2 + kBlockN / 4 + kHeadDimV / 2 + 32 <= kConsumerRegisters,
                "S, P and O are registers of a thread");
};

template <typename C>
struct ForwardStorage {
  alignas(1024) std::uint8_t q[C::kQSlots][C::kGroups][C::kQGroupBytes];
  alignas(1024) std::uint8_t k[C::kStages][C::kKBytes];
  alignas(1024) std::uint8_t v[C::kStages][C::kVBytes];
  device::PipelineBarriers<C::kQSlots> q_barriers;
  device::PipelineBarriers<C::kStages> k_barriers, v_barriers;
  Tile tile[C::kQSlots];
  // Of the block-sparse walk alone (sm90_sparse_forward.h):
  std::uint64_t tile_full[C::kQSlots];  ///< a barrier that completes when `tile` is there
  std::uint32_t entries[C::kStages];    ///< of the ring of keys, see block_mask.h
};

struct ForwardParams : ResultParams {
  TileOrder order;
  bool q_sliced, kv_sliced;  ///< how the tensor maps of Q and O, of K and V are made: see sm90_launch.h
  int head_dim;
};

/// Tensor maps of the four tensors, see sm90_launch.h. `zeros` is for boxes that lie outside altogether: TMA fills them
/// with zeros, but touches the map's base address, and those of the others may lie before their tensor's memory.
struct ForwardMaps {
  CUtensorMap q, k, v, out, zeros;
};

/// One thread.
template <typename C>
__device__ __forceinline__ void produce(ForwardStorage<C>& storage, const ForwardMaps& maps,
                                        const ForwardParams& params) {
  const TileOrder& order = params.order;
  device::PipelineState<C::kQSlots> q_state(1);
  device::PipelineState<C::kStages> k_state(1), v_state(1);
  int index = blockIdx.x;
  Tile tile{};
  int start = 0, kv_head = 0, kv_batch = 0;
  const auto load_k = [&](int block) {
    const std::uint32_t full = ptx::shared_address(&storage.k_barriers.full[k_state.slot]);
    ptx::mbarrier_wait(ptx::shared_address(&storage.k_barriers.empty[k_state.slot]), k_state.parity);
    ptx::barrier_expect(full, C::kKBytes);
    load_rows<C::kBlockN, C::kPanels>(ptx::shared_address(storage.k[k_state.slot]), maps.k, maps.zeros,
                                      params.kv_sliced, full, start, block * C::kBlockN, tile.seqlen_k, params.head_dim,
                                      kv_head, kv_batch);
    k_state.advance();
  };
  const auto load_v = [&](int block) {
    const std::uint32_t full = ptx::shared_address(&storage.v_barriers.full[v_state.slot]);
    ptx::mbarrier_wait(ptx::shared_address(&storage.v_barriers.empty[v_state.slot]), v_state.parity);
    ptx::barrier_expect(full, C::kVBytes);
    load_rows<C::kBlockN, C::kPanelsV>(ptx::shared_address(storage.v[v_state.slot]), maps.v, maps.zeros,
                                       params.kv_sliced, full, start, block * C::kBlockN, tile.seqlen_k,
                                       params.head_dim_v, kv_head, kv_batch);
    v_state.advance();
  };
  for (;;) {
    const bool more = find_tile<C::kBlockM, C::kBlockN>(order, index, tile);
    if (more) {
      start = key_start(order, tile.batch);
      kv_head = tile.head / order.kv_group;
      kv_batch = order.cu_seqlens_k ? 0 : tile.batch;
      load_k(tile.block_end - 1);
    } else {
      tile.row = -1;
    }
    const std::uint32_t full = ptx::shared_address(&storage.q_barriers.full[q_state.slot]);
    ptx::mbarrier_wait(ptx::shared_address(&storage.q_barriers.empty[q_state.slot]), q_state.parity);
    storage.tile[q_state.slot] = tile;
    if (!more) {
      ptx::mbarrier_arrive(full);
      return;
    }
    ptx::barrier_expect(full, C::kGroups * C::kQGroupBytes);
#pragma unroll
    for (int g = 0; g < C::kGroups; g++) {
      load_rows<64, C::kPanels>(ptx::shared_address(storage.q[q_state.slot][g]), maps.q, maps.zeros, params.q_sliced,
                                full, tile.q_start, tile.row + 64 * g, tile.seqlen_q, params.head_dim, tile.head,
                                order.cu_seqlens_q ? 0 : tile.batch);
    }
    q_state.advance();
    index = atomicAdd(order.counter, 1) + gridDim.x;  // lands during the loads
    for (int block = tile.block_end - 2; block >= tile.block_begin; block--) {
      load_k(block);
      load_v(block + 1);
    }
    load_v(tile.block_begin);
  }
}

/// One warpgroup's 64 queries of every tile.
template <typename C>
class Consumer {
 public:
  __device__ __forceinline__ Consumer(ForwardStorage<C>& storage, const CUtensorMap* out_map,
                                      const ForwardParams& params)
      : storage_(storage),
        out_map_(out_map),
        params_(params),
        group_(__shfl_sync(0xffffffffu, threadIdx.x / 128, 0) - 1),
        lane_(threadIdx.x % 32),
        warp_row_(threadIdx.x / 32 % 4 * 16),
        q_(ptx::descriptor_lower(ptx::shared_address(storage.q[0][group_]))),
        k_(ptx::descriptor_lower(ptx::shared_address(storage.k))),
        v_(ptx::descriptor_lower(ptx::shared_address(storage.v), C::kPanelBytes)) {}

  __device__ __forceinline__ void run() {
    if (C::kTurns && group_ == C::kGroups - 1) ptx::named_barrier_arrive(1, 256);
    fetch();
    if (tile_.row < 0) return;
    begin();
    wait_k();
    take_turn();
    multiply_logits();
    pass_turn();
    ptx::wgmma_wait<0>();
    ptx::wgmma_settle(s_);
    release_k();
    int staged = -1;  // the Q slot off which O is being stored
    for (;;) {
      first_block();
      if (staged >= 0) release_staged(staged);
#pragma unroll 1
      for (int i = 0; i < skip_back_; i++) skip_v();
      other_blocks();
#pragma unroll 1
      for (int i = 0; i < skip_front_; i++) skip_k();
#pragma unroll 1
      for (int i = 0; i < idle_; i++) {
        skip_k();
        skip_v();
      }
      const int skip_front = skip_front_;
      wait_v();
      softmax_.reduce();
      const Tile done = tile_;
      const int slot = slot_;
      fetch();
      if (tile_.row < 0) {
        multiply_values();
        ptx::wgmma_wait<0>();
        ptx::wgmma_settle(o_);
        release_v();
        store(done, slot);
        break;
      }
      begin();
      wait_k();
      take_turn();
      multiply_values();
      multiply_logits();
      pass_turn();
      ptx::wgmma_wait<1>();
      ptx::wgmma_settle(o_);
      release_v();
#pragma unroll 1
      for (int i = 0; i < skip_front; i++) skip_v();
      store(done, slot);
      staged = slot;
      ptx::wgmma_wait<0>();
      ptx::wgmma_settle(s_);
      release_k();
    }
    if (C::kStagedOutput && threadIdx.x % 128 == 0) ptx::bulk_wait_all();
  }

 protected:
  // The next tile. All values are the same for the warpgroup; the shuffles tell the compiler so, which loops around
  // wgmma need.
  __device__ __forceinline__ void fetch() {
    slot_ = q_state_.slot;
    ptx::mbarrier_wait(ptx::shared_address(&storage_.q_barriers.full[slot_]), q_state_.parity);
    q_state_.advance();
    const auto* words = reinterpret_cast<const volatile std::int32_t*>(&storage_.tile[slot_]);
    const std::int32_t word = words[lane_ % Tile::kWords];
    const auto pick = [&](int i) { return __shfl_sync(0xffffffffu, word, i); };
    tile_ = Tile{pick(0), pick(1), pick(2), pick(3), pick(4), pick(5), pick(6), pick(7)};
  }

  // Which blocks of the tile are this warpgroup's, and which of them need a mask. Steps over the ones behind.
  __device__ __forceinline__ void begin() {
    const int row = tile_.row + 64 * group_, last_row = min(row + 63, tile_.seqlen_q - 1);
    const Mask mask = this->mask();
    if (row > last_row) {
      // No queries: it multiplies the tile's first block and then lets the others pass, keys and values in step. (What
      // is skipped before and behind is less than the slots of a ring, see ForwardConfig; this is not.)
      block_ = begin_ = tile_.block_end - 1;
      whole_ = {begin_, begin_ + 1};
      skip_back_ = skip_front_ = 0;
      idle_ = begin_ - tile_.block_begin;
      return;
    }
    const BlockRange own = mask.template blocks<C::kBlockN>(row, last_row);
    whole_ = mask.template whole_blocks<C::kBlockN>(row, last_row);
    const int end = min(tile_.block_end, max(own.end, tile_.block_begin + 1));
    begin_ = max(tile_.block_begin, min(own.begin, end - 1));
    block_ = end - 1;
    skip_back_ = tile_.block_end - end;
    skip_front_ = begin_ - tile_.block_begin;
    idle_ = 0;
#pragma unroll 1
    for (int i = 0; i < skip_back_; i++) skip_k();
  }

  __device__ __forceinline__ Mask mask() const {
    return Mask(tile_.seqlen_q, tile_.seqlen_k, params_.order.window_left, params_.order.window_right);
  }

  // S = Q K^T.
  __device__ __forceinline__ void multiply_logits() {
    const std::uint32_t q = q_ + slot_ * (C::kGroups * C::kQGroupBytes / 16),
                        k = k_ + k_state_.slot * (C::kKBytes / 16);
    constexpr std::uint32_t kUpper = ptx::descriptor_upper(1024, ptx::Swizzle::bytes128);
    ptx::wgmma_fence();
#pragma unroll
    for (int i = 0; i < C::kHeadDim / 16; i++) {
      ptx::wgmma<typename C::Element, C::kBlockN, ptx::Major::k, ptx::Major::k>(
          s_, ptx::descriptor(kUpper, q + i / 4 * (C::kQPanelBytes / 16) + i % 4 * 2),
          ptx::descriptor(kUpper, k + i / 4 * (C::kPanelBytes / 16) + i % 4 * 2), i > 0);
    }
    ptx::wgmma_commit();
  }

  // O += P V.
  __device__ __forceinline__ void multiply_values() {
    const std::uint32_t v = v_ + v_state_.slot * (C::kVBytes / 16);
    constexpr std::uint32_t kUpper = ptx::descriptor_upper(1024, ptx::Swizzle::bytes128);
    ptx::wgmma_fence();
#pragma unroll
    for (int i = 0; i < C::kBlockN / 16; i++) {
      ptx::wgmma_registers<typename C::Element, C::kHeadDimV, ptx::Major::mn>(
          o_, p_[4 * i], p_[4 * i + 1], p_[4 * i + 2], p_[4 * i + 3], ptx::descriptor(kUpper, v + i * (16 * 128 / 16)));
    }
    ptx::wgmma_commit();
  }

  template <bool kMasked>
  __device__ __forceinline__ void shape_logits() {
    if (params_.softcap.exponent != 0.0f) device::cap_logits(s_, params_.softcap);
    if constexpr (kMasked) mask_block(mask());
  }
  __device__ __forceinline__ void mask_block(const Mask& mask) {
    const int row = tile_.row + 64 * group_ + warp_row_ + lane_ / 4;
    mask_logits(s_, mask, {row, row + 8}, block_ * C::kBlockN + lane_ % 4 * 2);
  }

  __device__ __forceinline__ void pack() {
#pragma unroll
    for (int i = 0; i < C::kBlockN / 4; i++) p_[i] = device::pack2<typename C::Element>(s_[2 * i], s_[2 * i + 1]);
  }

  __device__ __forceinline__ void first_block() {
    if (block_ >= whole_.end || block_ < whole_.begin) {
      shape_logits<true>();
    } else {
      shape_logits<false>();
    }
    if (!C::kStagedOutput && block_ == begin_) release_q();
    softmax_.reset();
    float factor[2];
    softmax_.advance(s_, params_.scale_log2, factor);
    softmax_.exponentiate(s_, params_.scale_log2);
    pack();
#pragma unroll
    for (int i = 0; i < C::kHeadDimV / 2; i++) o_[i] = 0.0f;
    block_--;
  }

  // Logits of this block and P V of the one before, together; then softmax.
  template <bool kMasked>
  __device__ __forceinline__ void step() {
    wait_k();
    wait_v();
    take_turn();
    multiply_logits();
    multiply_values();
    pass_turn();
    ptx::wgmma_wait<1>();
    ptx::wgmma_settle(s_);
    release_k();
    if (!C::kStagedOutput && block_ == begin_) release_q();
    shape_logits<kMasked>();
    float factor[2];
    const bool moved = softmax_.advance(s_, params_.scale_log2, factor);
    softmax_.exponentiate(s_, params_.scale_log2);
    ptx::wgmma_wait<0>();
    ptx::wgmma_settle(o_);
    release_v();
    pack();
    if (moved) {
#pragma unroll
      for (int i = 0; i < C::kHeadDimV / 2; i++) o_[i] *= factor[i / 2 % 2];
    }
  }

  __device__ __forceinline__ void other_blocks() {
    int masked_until = max(begin_, whole_.end);  // twice: the blocks at the end of the interval, and those at its start
    for (;;) {
#pragma unroll 1
      for (; block_ >= masked_until; block_--) step<true>();
      if (block_ < begin_) break;
      const int whole_until = max(begin_, whole_.begin);
#pragma unroll 1
      for (; block_ >= whole_until; block_--) step<false>();
      masked_until = begin_;
    }
  }

  __device__ __forceinline__ void store(const Tile& tile, int slot) {
    const int row = tile.row + 64 * group_, rows = tile.seqlen_q - row;  // that are left of the sequence
    const float sink = params_.sinks ? params_.sinks[tile.head] : -INFINITY;
    float weight[2];
#pragma unroll
    for (int i = 0; i < 2; i++) {
      float lse;
      weight[i] = softmax_.finish(i, params_.scale_log2, sink, lse);
      const int r = warp_row_ + lane_ / 4 + 8 * i;
      if (params_.lse && lane_ % 4 == 0 && r < rows) {
        params_
            .lse[tile.batch * params_.lse_batch_stride + tile.head * params_.lse_head_stride + tile.q_start + row + r] =
            lse;
      }
    }
    if constexpr (C::kStagedOutput) {
      const std::uint32_t place = ptx::shared_address(storage_.q[0][group_]) + slot * (C::kGroups * C::kQGroupBytes);
      const int r = warp_row_ + lane_ % 16;
#pragma unroll
      for (int j = 0; j < C::kHeadDimV / 8; j += 2) {
        const int chunk = j + lane_ / 16;
        const float* x = &o_[4 * j];
        const std::uint32_t words[4] = {
            pack(x[0] * weight[0], x[1] * weight[0]), pack(x[2] * weight[1], x[3] * weight[1]),
            pack(x[4] * weight[0], x[5] * weight[0]), pack(x[6] * weight[1], x[7] * weight[1])};
        ptx::stmatrix_x4<false>(place + chunk / 8 * C::kQPanelBytes + ptx::swizzled_offset<128>(r, chunk % 8), words);
      }
      ptx::fence_async_shared();
      ptx::named_barrier(8 + group_, 128);
      if (threadIdx.x % 128 == 0) {
        if (params_.q_sliced) {
          ptx::tma_store_5d(out_map_, place, 0, row, 0, tile.head, tile.batch);
        } else if (rows > 0) {
          const int valid = min(rows, 64);
#pragma unroll
          for (int p = 0; p < C::kPanelsV; p++) {
            if (64 * p >= params_.head_dim_v) break;
            ptx::tma_store_5d(out_map_, place + p * C::kQPanelBytes, 64 * p, 64 - valid, tile.head,
                              tile.q_start + row + valid, params_.order.cu_seqlens_q ? 0 : tile.batch);
          }
        }
        ptx::bulk_commit();
      }
    } else {
      using Element = typename C::Element;
      Element* const out = static_cast<Element*>(params_.out) +
                           (params_.order.cu_seqlens_q ? 0 : tile.batch) * params_.out_batch_stride +
                           tile.head * params_.out_head_stride;
#pragma unroll
      for (int i = 0; i < 2; i++) {
        const int r = warp_row_ + lane_ / 4 + 8 * i;
        Element* const to = out + (tile.q_start + row + r) * params_.out_row_stride;
#pragma unroll
        for (int j = 0; j < C::kHeadDimV / 8; j += 4) {  // four lanes exchange, so that each writes 16 bytes
          std::uint32_t words[4];
#pragma unroll
          for (int t = 0; t < 4; t++) {
            words[t] = pack(o_[4 * (j + t) + 2 * i] * weight[i], o_[4 * (j + t) + 2 * i + 1] * weight[i]);
          }
          device::transpose_across_quad(words, lane_ % 4);
          const int column = 8 * (j + lane_ % 4);
          if (r < rows && column < params_.head_dim_v) {
            *reinterpret_cast<uint4*>(to + column) = make_uint4(words[0], words[1], words[2], words[3]);
          }
        }
      }
    }
  }
  static __device__ __forceinline__ std::uint32_t pack(float low, float high) {
    return device::pack2<typename C::Element>(low, high);
  }

  // The slot of staged output is free once the copy engine has read it.
  __device__ __forceinline__ void release_staged(int slot) {
    if (!C::kStagedOutput || threadIdx.x % 128 != 0) return;
    ptx::bulk_wait_read<0>();
    ptx::mbarrier_arrive(ptx::shared_address(&storage_.q_barriers.empty[slot]));
  }
  __device__ __forceinline__ void release_q() {
    if (lane_ == 0) ptx::mbarrier_arrive(ptx::shared_address(&storage_.q_barriers.empty[slot_]));
  }
  __device__ __forceinline__ void wait_k() {
    ptx::mbarrier_wait(ptx::shared_address(&storage_.k_barriers.full[k_state_.slot]), k_state_.parity);
  }
  __device__ __forceinline__ void wait_v() {
    ptx::mbarrier_wait(ptx::shared_address(&storage_.v_barriers.full[v_state_.slot]), v_state_.parity);
  }
  __device__ __forceinline__ void release_k() {
    if (lane_ == 0) ptx::mbarrier_arrive(ptx::shared_address(&storage_.k_barriers.empty[k_state_.slot]));
    k_state_.advance();
  }
  __device__ __forceinline__ void release_v() {
    if (lane_ == 0) ptx::mbarrier_arrive(ptx::shared_address(&storage_.v_barriers.empty[v_state_.slot]));
    v_state_.advance();
  }
  // Blocks that only other warpgroups of the tile attend.
  __device__ __forceinline__ void skip_k() {
    wait_k();
    take_turn();
    pass_turn();
    release_k();
  }
  __device__ __forceinline__ void skip_v() {
    wait_v();
    release_v();
  }
  __device__ __forceinline__ void take_turn() {
    if constexpr (C::kTurns) ptx::named_barrier(1 + group_, 256);
  }
  __device__ __forceinline__ void pass_turn() {
    if constexpr (C::kTurns) ptx::named_barrier_arrive(1 + (group_ + 1 == C::kGroups ? 0 : group_ + 1), 256);
  }

  ForwardStorage<C>& storage_;
  const CUtensorMap* out_map_;
  const ForwardParams& params_;
  const int group_, lane_, warp_row_;
  const std::uint32_t q_, k_, v_;  ///< lower words of descriptors
  device::PipelineState<C::kQSlots> q_state_{0};
  device::PipelineState<C::kStages> k_state_{0}, v_state_{0};
  Tile tile_;
  int slot_;                           ///< where this tile's queries lie
  int block_, begin_;                  ///< the block at work, and the last to come
  BlockRange whole_;                   ///< blocks that need no mask
  int skip_back_, skip_front_, idle_;  ///< blocks of the tile behind and before this warpgroup's; see begin()
  device::OnlineSoftmax softmax_;
  float s_[C::kBlockN / 2], o_[C::kHeadDimV / 2];
  std::uint32_t p_[C::kBlockN / 4];
};

/// One thread. `q_readers`: arrivals at q.empty.
template <typename C>
__device__ __forceinline__ void init_barriers(ForwardStorage<C>& storage, const ForwardMaps& maps, int q_readers) {
  ptx::tma_prefetch(&maps.q);
  ptx::tma_prefetch(&maps.k);
  ptx::tma_prefetch(&maps.v);
  if constexpr (C::kStagedOutput) ptx::tma_prefetch(&maps.out);
  for (int i = 0; i < C::kQSlots; i++) {
    ptx::mbarrier_init(ptx::shared_address(&storage.q_barriers.full[i]), 1);
    ptx::mbarrier_init(ptx::shared_address(&storage.q_barriers.empty[i]), q_readers);
  }
  for (int i = 0; i < C::kStages; i++) {
    ptx::mbarrier_init(ptx::shared_address(&storage.k_barriers.full[i]), 1);
    ptx::mbarrier_init(ptx::shared_address(&storage.k_barriers.empty[i]), C::kGroups * 4);
    ptx::mbarrier_init(ptx::shared_address(&storage.v_barriers.full[i]), 1);
    ptx::mbarrier_init(ptx::shared_address(&storage.v_barriers.empty[i]), C::kGroups * 4);
  }
  ptx::fence_barrier_init();
}

template <typename C>
__global__ void __launch_bounds__(C::kThreads, 1)
    forward_kernel(const __grid_constant__ ForwardMaps maps, const __grid_constant__ ForwardParams params) {
  extern __shared__ __align__(1024) std::uint8_t shared[];
  auto& storage = *reinterpret_cast<ForwardStorage<C>*>(shared);
  if (threadIdx.x == 0) init_barriers(storage, maps, C::kGroups * (C::kStagedOutput ? 1 : 4));
  __syncthreads();
  if (threadIdx.x < 128) {
    ptx::give_registers<C::kProducerRegisters>();
    if (threadIdx.x < 32 && ptx::elect_one()) produce<C>(storage, maps, params);
  } else {
    ptx::take_registers<C::kConsumerRegisters>();
    Consumer<C>(storage, &maps.out, params).run();
  }
}

}  // namespace triage::attention::sm90
