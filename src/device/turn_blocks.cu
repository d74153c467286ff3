// Transposing the blocks of a block-sparse matrix on the GPU (turn_blocks.h).
#include <cuda_runtime.h>

#include "device/cuda_check.h"
#include "device/turn_blocks.h"

namespace triage {

namespace {

constexpr int kThreads = 256;
constexpr int kChunk = 8;  // elements of 16 bytes

/// One CTA moves squares of kSide x kSide through shared memory, `kAtOnce` of them at a time: 8 KB.
template <int kSide, bool kAligned>
__global__ void __launch_bounds__(kThreads) turn_kernel(const TurnedBlocks blocks, std::uint16_t* to) {
  constexpr int kAtOnce = 64 / kSide * (64 / kSide), kRowChunks = kSide / kChunk, kChunks = kSide * kRowChunks;
  // A row has an odd number of 4-byte words: rows of a column then lie in banks of their own.
  __shared__ std::uint16_t squares[kAtOnce][kSide][kSide + 2];
  const int block = blocks.block, sides = block / kSide;
  const std::int64_t size = std::int64_t{block} * block, count = blocks.nnz * sides * sides;
  const auto* values = static_cast<const std::uint16_t*>(blocks.values);
  for (std::int64_t first = std::int64_t{blockIdx.x} * kAtOnce; first < count;
       first += std::int64_t{gridDim.x} * kAtOnce) {
#pragma unroll
    for (int j = threadIdx.x; j < kAtOnce * kChunks; j += kThreads) {
      const int s = j / kChunks, r = j % kChunks / kRowChunks, c = j % kRowChunks * kChunk;
      const std::int64_t square = first + s;
      if (square >= count) break;
      const int place = static_cast<int>(square % (sides * sides));
      const std::uint16_t* from = values + blocks.positions[square / (sides * sides)] * size +
                                  (place / sides * kSide + r) * block + place % sides * kSide + c;
      alignas(16) std::uint16_t elements[kChunk];
      if constexpr (kAligned) {
        *reinterpret_cast<uint4*>(elements) = *reinterpret_cast<const uint4*>(from);
      } else {
        for (int e = 0; e < kChunk; e++) elements[e] = from[e];
      }
#pragma unroll
      for (int e = 0; e < kChunk; e++) squares[s][r][c + e] = elements[e];
    }
    __syncthreads();
#pragma unroll
    for (int j = threadIdx.x; j < kAtOnce * kChunks; j += kThreads) {
      const int s = j / kChunks, r = j % kChunks / kRowChunks, c = j % kRowChunks * kChunk;
      const std::int64_t square = first + s;
      if (square >= count) break;
      const int place = static_cast<int>(square % (sides * sides));
      alignas(16) std::uint16_t elements[kChunk];
#pragma unroll
      for (int e = 0; e < kChunk; e++) elements[e] = squares[s][c + e][r];
      *reinterpret_cast<uint4*>(to + square / (sides * sides) * size + (place % sides * kSide + r) * block +
                                place / sides * kSide + c) = *reinterpret_cast<const uint4*>(elements);
    }
    __syncthreads();
  }
}

template <int kSide>
void launch(const TurnedBlocks& blocks, void* to, cudaStream_t stream) {
  const std::int64_t ctas = (blocks.nnz * blocks.block * blocks.block + 4095) / 4096;
  const auto grid = static_cast<unsigned>(ctas < 65536 ? ctas : 65536);
  auto* words = static_cast<std::uint16_t*>(to);
  if (reinterpret_cast<std::uintptr_t>(blocks.values) % 16 == 0) {
    turn_kernel<kSide, true><<<grid, kThreads, 0, stream>>>(blocks, words);
  } else {
    turn_kernel<kSide, false><<<grid, kThreads, 0, stream>>>(blocks, words);
  }
  cuda_check(cudaGetLastError(), "launch of the kernel that transposes blocks");
}

}  // namespace

void turn_blocks_cuda(const TurnedBlocks& blocks, void* to, void* stream) {
  if (blocks.nnz == 0) return;
  const auto on = static_cast<cudaStream_t>(stream);
  switch (blocks.block) {
    case 16:
      return launch<16>(blocks, to, on);
    case 32:
      return launch<32>(blocks, to, on);
    default:
      return launch<64>(blocks, to, on);
  }
}

}  // namespace triage
