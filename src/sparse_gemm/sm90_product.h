// What the sm90 kernels of spmm and linear share: parameters, the map of tiles, and the epilogue.
//
// A tile is one work item of the schedule (a group of block rows, or a piece of a long one) times kTokens columns of the
// dense operand ("tokens": columns of B for spmm, rows of X for linear). The CTAs of a cluster take neighbouring token
// tiles of one item.
#pragma once

#include <cuda.h>

#include <cstdint>

#include "device/activation.h"
#include "device/epilogue.h"
#include "device/schedule.h"
#include "ptx/cluster.h"
#include "ptx/cp_async.h"
#include "ptx/elect.h"
#include "ptx/ldmatrix.h"
#include "ptx/mbarrier.h"
#include "ptx/setmaxnreg.h"
#include "ptx/stmatrix.h"
#include "ptx/tma.h"

namespace triage::sm90 {

inline constexpr int kConsumerGroups = 2;              ///< consumer warpgroups per CTA
inline constexpr int kThreads = 128 * (kConsumerGroups + 1);
inline constexpr int kProducerRegisters = 40;          ///< 24 spill with multicast
inline constexpr int kConsumerRegisters = 232;

/// Parameters besides the tensor maps.
struct ProductParams {
  const StageRecord* stages = nullptr;
  const std::int32_t* block_order = nullptr;
  const WorkItem* items = nullptr;
  const std::int32_t* item_count = nullptr;
  const SplitGroup* splits = nullptr;
  const std::int32_t* split_count = nullptr;
  const void* packed = nullptr;         ///< values in schedule order, swizzled (kernels that read packed values)
  float* partial = nullptr;             ///< sums of split items
  std::int32_t* tile_counter = nullptr;
  std::int32_t token_tiles = 0;         ///< per cluster: cluster tiles along the tokens
  std::int32_t panel_tiles = 1;         ///< of these, how many form a panel that is finished before the next one
  bool sliced_dense = true;             ///< spmm: the dense map has three dimensions in use (device/tensor_map.h)
  std::int32_t out_cols = 0;            ///< columns of the output (the bias's length)
  const void* bias = nullptr;
  float alpha = 1.0f, beta = 0.0f;
  Activation activation = Activation::none;
  ptx::L2Policy dense_policy = ptx::L2Policy::normal, values_policy = ptx::L2Policy::normal,
                out_policy = ptx::L2Policy::normal;
};

/// Tile number -> (item, token tile): panels of token tiles outermost, then items (longest first), then the token tiles of
/// the panel. A panel of the dense operand then stays in L2 while all items pass over it.
struct TileCoordinates {
  int item, token_tile;

  __device__ TileCoordinates(const ProductParams& params, int item_count, int tile) {
    const int per_panel = item_count * params.panel_tiles;
    const int panel = tile / per_panel;
    const int rest = tile - panel * per_panel;
    const int width = min(params.panel_tiles, params.token_tiles - panel * params.panel_tiles);
    item = rest / width;
    token_tile = panel * params.panel_tiles + rest - item * width;
  }
};

/// Stage records on their way to the producer warp. They are small, scattered and needed at once, so the warp copies them
/// seven stages ahead; then one thread reads them. (A shuffle and an election per copy would make the producer the
/// bottleneck: issuing a bulk copy costs some ten cycles from one thread's registers, about a hundred that way.)
struct RecordRing {
  static constexpr int kEntries = 8;
  StageRecord records[kEntries];
};

class RecordStream {
 public:
  __device__ RecordStream(RecordRing& ring, int lane) : ring_(ring), lane_(lane) {}

  /// Before the first `next` of an item.
  __device__ void open(const StageRecord* first) {
    ptx::cp_async_wait_all();  // what was fetched behind the end of the item before
    __syncwarp();
    source_ = reinterpret_cast<const std::uint32_t*>(first) + lane_;
    entry_ = 0;
#pragma unroll
    for (int i = 0; i < RecordRing::kEntries - 1; i++) fetch(i);
  }

  /// The next record, until the next call. What lies behind an item's last record is readable.
  __device__ const StageRecord& next() {
    fetch((entry_ + RecordRing::kEntries - 1) % RecordRing::kEntries);
    ptx::cp_async_wait_pending<RecordRing::kEntries - 1>();
    __syncwarp();
    const StageRecord& record = ring_.records[entry_];
    entry_ = (entry_ + 1) % RecordRing::kEntries;
    return record;
  }

 private:
  __device__ void fetch(int entry) {
    const auto* words = reinterpret_cast<const std::uint32_t*>(&ring_.records[entry]);
    ptx::cp_async_4_zero_fill(ptx::shared_address(words + lane_), source_, 4);
    ptx::cp_async_commit();
    source_ += 32;
  }

  RecordRing& ring_;
  int lane_, entry_ = 0;
  const std::uint32_t* source_ = nullptr;
};

/// The first kColumns block columns of a record, read at once.
template <int kColumns>
struct RecordColumns {
  int column[(kColumns + 3) / 4 * 4];

  __device__ explicit RecordColumns(const StageRecord& record) {
#pragma unroll
    for (int i = 0; i < (kColumns + 3) / 4; i++) {
      reinterpret_cast<int4*>(column)[i] = reinterpret_cast<const int4*>(record.column)[i];
    }
  }
};

/// What a consumer warpgroup needs of a stage: a mask of columns for each of its block rows, and where its blocks begin.
/// Every warp reads the records itself, two or more stages ahead; a register holds the first halves of two records.
template <int kRows>
class MaskStream {
 public:
  __device__ MaskStream(int group, int lane) : group_(group), lane_(lane) {}

  __device__ void open(const StageRecord* first) {
    source_ = reinterpret_cast<const std::uint32_t*>(first) + lane_ / 16 * 32 + lane_ % 16;
    pair_ = source_[0];
    next_pair_ = source_[64];
    source_ += 128;
    half_ = 0;
    decode();
  }
  /// Moves on to the next stage's record.
  __device__ void advance() {
    half_ ^= 16;
    if (half_ == 0) {
      pair_ = next_pair_;
      next_pair_ = source_[0];
      source_ += 64;
    }
    decode();
  }

  std::uint32_t masks[kRows];
  int first_block;  ///< of this group's blocks, relative to the stage's
  int block_count;  ///< of the whole stage

 private:
  __device__ void decode() {
    block_count = word(0) >> 8 & 0xff;
    first_block = word(2) >> 8 * group_ & 0xff;
#pragma unroll
    for (int r = 0; r < kRows; r++) {
      const int row = group_ * kRows + r;
      masks[r] = word(4 + row / 2) >> 16 * (row % 2) & 0xffff;
    }
  }
  __device__ std::uint32_t word(int i) const { return __shfl_sync(0xffffffffu, pair_, half_ + i); }

  int group_, lane_, half_ = 0;
  std::uint32_t pair_ = 0, next_pair_ = 0;
  const std::uint32_t* source_ = nullptr;
};

/// Shared memory and barriers through which one consumer warpgroup writes its output.
template <int kBytes, int kBuffers>
struct alignas(1024) EpilogueStorage {
  std::uint8_t staging[kBuffers][kBytes];
};

/// One warpgroup's way from accumulators to global memory, chunk by chunk: convert, store into shared memory in the
/// swizzled layout of the output's tensor map, bulk store. beta != 0 loads the old chunk through the same map first.
///
/// A chunk is 64 rows of accumulators (wgmma's M) times 8 * kTiles columns. kTransposed: M runs along the output's
/// contiguous dimension, so a chunk is 8 * kTiles rows of 128 bytes; else 64 rows of 16 * kTiles bytes.
/// @tparam kLinear bias and activation instead of alpha and beta.
template <typename Element, bool kLinear, int kTiles, bool kTransposed, int kBuffers>
class ChunkWriter {
 public:
  static constexpr int kRowBytes = kTransposed ? 128 : 16 * kTiles;
  static constexpr int kBytes = 64 * 8 * kTiles * 2;
  static_assert(kTiles == 4 || kTiles == 8, "a chunk's rows must be as long as a swizzle pattern: 64 or 128 bytes");

  /// @param barrier one mbarrier of the warpgroup (1 arrival), for loads of the old output.
  __device__ ChunkWriter(const CUtensorMap* map, const ProductParams& params, std::uint32_t staging, std::uint32_t barrier,
                         int group)
      : map_(map), params_(params), staging_(staging), barrier_(barrier), group_(group) {}

  /// @param x accumulators of the chunk, 4 per tile of 8 columns. @param row, col the chunk's place in the output.
  __device__ void write(float (&x)[4 * kTiles], int row, int col) {
    const int thread = threadIdx.x % 128, lane = threadIdx.x % 32, warp = thread / 32;
    const std::uint32_t buffer = staging_ + buffer_ * kBytes;
    if (++buffer_ == kBuffers) buffer_ = 0;
    if (thread == 0) ptx::bulk_wait_read<kBuffers - 1>();
    ptx::named_barrier(1 + group_, 128);

    if constexpr (kLinear) {
      if (params_.bias != nullptr) add_bias(x, col, lane, warp);
      device::activate(x, params_.activation);
    } else {
#pragma unroll
      for (int i = 0; i < 4 * kTiles; i++) x[i] *= params_.alpha;
      if (params_.beta != 0.0f) add_old_output(x, buffer, row, col, thread, lane, warp);
    }

#pragma unroll
    for (int j = 0; j < kTiles; j += 2) {
      const std::uint32_t words[4] = {
          device::pack2<Element>(x[4 * j], x[4 * j + 1]), device::pack2<Element>(x[4 * j + 2], x[4 * j + 3]),
          device::pack2<Element>(x[4 * j + 4], x[4 * j + 5]), device::pack2<Element>(x[4 * j + 6], x[4 * j + 7])};
      ptx::stmatrix_x4<kTransposed>(buffer + tile_offset(j, lane, warp), words);
    }
    ptx::fence_async_shared();
    ptx::named_barrier(1 + group_, 128);
    if (thread == 0) {
      ptx::tma_store(map_, buffer, col, row, params_.out_policy);
      ptx::bulk_commit();
    }
  }

  /// Before the CTA ends.
  __device__ void finish() {
    if (threadIdx.x % 128 == 0) ptx::bulk_wait_all();
  }

 private:
  // Where this lane's row of the four 8x8 matrices of tiles j and j + 1 lies: (rows 0-7, j), (8-15, j), (0-7, j + 1), ...
  __device__ static int tile_offset(int j, int lane, int warp) {
    const int upper = lane / 8 % 2, next = lane / 16;
    if constexpr (kTransposed) {
      return ptx::swizzled_offset<kRowBytes>(8 * (j + next) + lane % 8, 2 * warp + upper);
    } else {
      return ptx::swizzled_offset<kRowBytes>(16 * warp + 8 * upper + lane % 8, j + next);
    }
  }

  __device__ void add_old_output(float (&x)[4 * kTiles], std::uint32_t buffer, int row, int col, int thread, int lane,
                                 int warp) {
    if (thread == 0) {
      ptx::barrier_expect(barrier_, kBytes);
      ptx::tma_load(buffer, map_, barrier_, col, row);
    }
    ptx::mbarrier_wait(barrier_, old_parity_);
    old_parity_ ^= 1;
#pragma unroll
    for (int j = 0; j < kTiles; j += 2) {
      std::uint32_t words[4];
      ptx::ldmatrix_x4<kTransposed>(words, buffer + tile_offset(j, lane, warp));
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const Element* pair = reinterpret_cast<const Element*>(&words[i]);
        x[4 * j + 2 * i] += params_.beta * device::to_float(pair[0]);
        x[4 * j + 2 * i + 1] += params_.beta * device::to_float(pair[1]);
      }
    }
    // All lanes have read before any of them overwrites: stmatrix writes just the places that its own warp has read.
    __syncwarp();
  }

  // The bias runs along the output's contiguous dimension.
  __device__ void add_bias(float (&x)[4 * kTiles], int col, int lane, int warp) {
    const Element* bias = static_cast<const Element*>(params_.bias);
    const auto at = [&](int i) { return i < params_.out_cols ? device::to_float(bias[i]) : 0.0f; };
    if constexpr (kTransposed) {
      const float low = at(col + 16 * warp + lane / 4), high = at(col + 16 * warp + lane / 4 + 8);
#pragma unroll
      for (int i = 0; i < 4 * kTiles; i++) x[i] += i % 4 < 2 ? low : high;
    } else {
#pragma unroll
      for (int j = 0; j < kTiles; j++) {
        const float low = at(col + 8 * j + lane % 4 * 2), high = at(col + 8 * j + lane % 4 * 2 + 1);
        x[4 * j] += low;
        x[4 * j + 1] += high;
        x[4 * j + 2] += low;
        x[4 * j + 3] += high;
      }
    }
  }

  const CUtensorMap* map_;
  const ProductParams& params_;
  std::uint32_t staging_, barrier_, old_parity_ = 0;
  int group_, buffer_ = 0;
};

}  // namespace triage::sm90
