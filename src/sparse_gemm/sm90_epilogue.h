// From a warpgroup's wgmma accumulators to the output of spmm and linear.
#pragma once

#include "device/activation.h"
#include "device/epilogue.h"
#include "ptx/ldmatrix.h"
#include "ptx/setmaxnreg.h"
#include "ptx/stmatrix.h"
#include "ptx/wgmma.h"
#include "sparse_gemm/sm90_product.h"

namespace triage::sm90 {

/// Shared memory through which one consumer warpgroup writes its output.
template <int kBytes, int kBuffers>
struct alignas(1024) EpilogueStorage {
  std::uint8_t staging[kBuffers][kBytes];
};

/// One warpgroup's way from accumulators to global memory, chunk by chunk: convert, store into shared memory in the
/// swizzled layout of the output's tensor map, bulk store. beta != 0 loads the old chunk through the same map first.
///
/// A chunk is 64 rows of accumulators (wgmma's M) times 8 * kTiles columns. kTransposed: M runs along the output's
/// contiguous dimension, so a chunk is 8 * kTiles rows of 128 bytes; else 64 rows of 16 * kTiles bytes.
/// One barrier a chunk: thread 0 arrives at it after the store that last read the next chunk's buffer is done reading.
/// @tparam kLinear activation instead of alpha and beta (the bias is in the accumulators from the start).
template <typename Element, bool kLinear, int kTiles, bool kTransposed, int kBuffers>
class ChunkWriter {
 public:
  static constexpr int kRowBytes = kTransposed ? 128 : 16 * kTiles;
  static constexpr int kBytes = 64 * 8 * kTiles * 2;
  static_assert(kBuffers >= 2, "while one chunk is stored the next is written");
  static_assert(kTiles == 4 || kTiles == 8, "a chunk's rows must be as long as a swizzle pattern: 64 or 128 bytes");

  /// @param barrier one mbarrier of the warpgroup (1 arrival), for loads of the old output.
  __device__ ChunkWriter(const CUtensorMap* map, const ProductParams& params, std::uint32_t staging,
                         std::uint32_t barrier, int group)
      : map_(map), params_(params), staging_(staging), barrier_(barrier), group_(group) {}

  /// A finished chunk: two output elements a word, in the order of the accumulators.
  using Words = std::uint32_t[2 * kTiles];

  /// @param x accumulators of the chunk, 4 per tile of 8 columns. @param row, col the chunk's place in the output.
  __device__ void write(float (&x)[4 * kTiles], int row, int col) {
    Words words;
    if (!kLinear && params_.beta != 0.0f) {
#pragma unroll
      for (int i = 0; i < 4 * kTiles; i++) x[i] *= params_.alpha;
      add_old_output(x, row, col);
      convert(x, words);
    } else {
      pack(x, words);
    }
    put(words, row, col);
  }

  /// The first half of `write` if beta is 0: alpha or activation, and conversion.
  __device__ void pack(float (&x)[4 * kTiles], Words& words) const {
    if constexpr (kLinear) {
      device::activate(x, params_.activation);
    } else {
#pragma unroll
      for (int i = 0; i < 4 * kTiles; i++) x[i] *= params_.alpha;
    }
    convert(x, words);
  }

  /// The second half: into shared memory and on to the output.
  __device__ void put(const Words& words, int row, int col) {
    const int thread = threadIdx.x % 128, lane = threadIdx.x % 32, warp = thread / 32;
    const std::uint32_t buffer = staging_ + buffer_ * kBytes;
    if (++buffer_ == kBuffers) buffer_ = 0;
#pragma unroll
    for (int j = 0; j < kTiles; j += 2) {
      const std::uint32_t four[4] = {words[2 * j], words[2 * j + 1], words[2 * j + 2], words[2 * j + 3]};
      ptx::stmatrix_x4<kTransposed>(buffer + tile_offset(j, lane, warp), four);
    }
    ptx::fence_async_shared();
    if (thread == 0) ptx::bulk_wait_read<kBuffers - 2>();
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
  // Where this lane's row of the four 8x8 matrices of tiles j and j + 1 lies: (rows 0-7, j), (8-15, j), (0-7, j + 1),
  // ...
  __device__ static int tile_offset(int j, int lane, int warp) {
    const int upper = lane / 8 % 2, next = lane / 16;
    if constexpr (kTransposed) {
      return ptx::swizzled_offset<kRowBytes>(8 * (j + next) + lane % 8, 2 * warp + upper);
    } else {
      return ptx::swizzled_offset<kRowBytes>(16 * warp + 8 * upper + lane % 8, j + next);
    }
  }

  __device__ static void convert(const float (&x)[4 * kTiles], Words& words) {
#pragma unroll
    for (int i = 0; i < 2 * kTiles; i++) words[i] = device::pack2<Element>(x[2 * i], x[2 * i + 1]);
  }

  // Reads into the buffer that `put` uses next.
  __device__ void add_old_output(float (&x)[4 * kTiles], int row, int col) {
    const int thread = threadIdx.x % 128, lane = threadIdx.x % 32, warp = thread / 32;
    const std::uint32_t buffer = staging_ + buffer_ * kBytes;
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
    __syncwarp();  // a warp overwrites just what it has read, but all of its lanes must have read
  }

  const CUtensorMap* map_;
  const ProductParams& params_;
  std::uint32_t staging_, barrier_, old_parity_ = 0;
  int group_, buffer_ = 0;
};

}  // namespace triage::sm90
