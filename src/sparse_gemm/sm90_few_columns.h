// spmm and linear on few columns (tokens) on Hopper: the time is that of reading the values once from memory, so what
// counts is that every multiprocessor has many loads in flight.
//
// Values go from memory into registers, 16 bytes a lane, and are mma.sync's A side as they are: lane 4g + t loads
// values 8t .. 8t + 7 of rows g and g + 8 out of a chunk of 16 rows x 32 k. That is not the order in which mma.sync
// counts k, but a sum over k has no order: the dense operand's fragments are loaded in the same one, eight neighbouring
// k of a token by one lane. No shared memory, no barrier, until the warps add their sums.
//
// More than 16 columns of the dense operand are as much to read as the values. They are packed first, in the order of
// the fragments: 8 k x 8 columns are 128 neighbouring bytes. (In place, one load touches as many lines as it has rows,
// and a stride that is a power of two sends them all to the same places of the caches.)
//
// Tile map. A CTA owns a strip of 16 rows of one block row, and all columns. The blocks of the row, one behind the
// other, are its k; they are cut into batches of kBatch chunks of 32 k. The warps take the batches in turn: 4, 8 or 16
// warps, so that few strips still fill the device, and if there are fewer strips than multiprocessors also the CTAs of
// a cluster. Sums are added in a fixed order: the warps of a CTA, then the CTAs of the cluster.
#pragma once

#include <cstdint>

#include "device/epilogue.h"
#include "ptx/cluster.h"
#include "ptx/dependent_launch.h"
#include "ptx/mbarrier.h"
#include "ptx/mma.h"
#include "ptx/movmatrix.h"
#include "ptx/stream_load.h"

namespace triage::sm90 {

struct FewColumnsParams {
  const std::int32_t* crow = nullptr;
  const std::int32_t* col = nullptr;
  const std::uint16_t* values = nullptr;  ///< canonical
  const std::uint16_t* dense = nullptr;   ///< B [cols, columns] or X [columns, cols]
  uint4* packed_dense = nullptr;          ///< [k / 8][tile of 8 columns][column], more than 16 columns
  std::int64_t dense_stride = 0;          ///< elements, a multiple of 8
  std::int32_t cols = 0;                  ///< of the sparse matrix: the inner dimension
  std::int32_t columns = 0;               ///< of the output of spmm, tokens of linear
  std::int32_t block_shift = 4;           ///< log2 of the block size
  std::int32_t splits = 1;                ///< CTAs of a cluster
  device::Epilogue epilogue;
};

/// @tparam kTiles tiles of 8 columns, up to which `columns` may go.
template <typename ElementT, bool kLinearV, int kTilesV>
struct FewColumnsConfig {
  using Element = ElementT;
  static constexpr bool kLinear = kLinearV;
  static constexpr int kTiles = kTilesV;
  static constexpr bool kPacked = kTiles > 2;         ///< whether the dense operand is
  static constexpr int kBatch = 2;                    ///< chunks whose values are in flight per warp
  static constexpr int kAhead = kTiles <= 4 ? 2 : 1;  ///< chunks whose dense fragments are
  static constexpr int kMaxWarps = kPacked ? 4 : 16;  ///< of a CTA
  static constexpr int kCtasPerSm = kPacked ? 5 : 2;  ///< of the largest
  static constexpr int kSumStride = 8 * kTiles + 1;
  static constexpr int shared_bytes(int warps) { return warps * 16 * kSumStride * 4; }
  static_assert(shared_bytes(kMaxWarps) <= 48 * 1024, "more must be asked for");
};

/// Eight neighbouring k of one piece of a chunk: where they are, and how many of them exist.
struct FewColumnsPiece {
  std::int32_t block;   ///< of the row
  std::int32_t offset;  ///< within the block
  bool exists;
};

__device__ __forceinline__ FewColumnsPiece few_columns_piece(const FewColumnsParams& p, int chunk, int piece,
                                                             int length) {
  const int k = chunk * 32 + piece * 8;
  return {k >> p.block_shift, k & ((1 << p.block_shift) - 1), k < length};
}

/// Keeps the first `valid` of eight elements, zeros the rest.
__device__ __forceinline__ uint4 keep_first(uint4 x, int valid) {
  std::uint32_t words[4] = {x.x, x.y, x.z, x.w};
#pragma unroll
  for (int i = 0; i < 4; i++) {
    if (valid <= 2 * i) words[i] = 0;
    if (valid == 2 * i + 1) words[i] &= 0xffff;
  }
  return make_uint4(words[0], words[1], words[2], words[3]);
}

/// X[token, k .. k + 7], of which `valid` exist.
__device__ __forceinline__ uint4 few_columns_load_k_major(const FewColumnsParams& p, int token, int k, int valid) {
  uint4 x = make_uint4(0, 0, 0, 0);
  if (token >= p.columns || valid <= 0) return x;
  const std::uint16_t* from = p.dense + token * p.dense_stride + k;
  if (valid >= 8) return __ldg(reinterpret_cast<const uint4*>(from));
  std::uint32_t words[4] = {};
#pragma unroll
  for (int i = 0; i < 7; i++) {
    if (i < valid) words[i / 2] |= static_cast<std::uint32_t>(__ldg(from + i)) << i % 2 * 16;
  }
  return make_uint4(words[0], words[1], words[2], words[3]);
}

/// B[k, column] and B[k, column + 1]; the caller knows that row k exists.
__device__ __forceinline__ std::uint32_t few_columns_load_pair(const FewColumnsParams& p, int k, int column) {
  if (column >= p.columns) return 0;
  const std::uint16_t* from = p.dense + k * p.dense_stride + column;
  return column + 1 < p.columns ? __ldg(reinterpret_cast<const std::uint32_t*>(from)) : __ldg(from);
}

/// Dense fragments of one chunk: word q of tile i holds k = 8t + 2q and the next, of column 8i + g.
template <typename C>
__device__ __forceinline__ void few_columns_load_dense(const FewColumnsParams& p, uint4 (&dense)[C::kTiles],
                                                       int block_col, const FewColumnsPiece& piece, int lane) {
  const int k = (block_col << p.block_shift) + piece.offset, valid = piece.exists ? p.cols - k : 0;
  if constexpr (C::kPacked) {
    const uint4* from = p.packed_dense + static_cast<std::int64_t>(k / 8) * (8 * C::kTiles) + lane / 4;
#pragma unroll
    for (int i = 0; i < C::kTiles; i++) dense[i] = piece.exists ? __ldg(from + 8 * i) : make_uint4(0, 0, 0, 0);
  } else if constexpr (C::kLinear) {
#pragma unroll
    for (int i = 0; i < C::kTiles; i++) dense[i] = few_columns_load_k_major(p, 8 * i + lane / 4, k, valid);
  } else {
    // Row 2t + e of the matrix that is transposed is k = 8t + 2q + e: the lane's piece is g / 2, its k therein 2q + g
    // % 2.
    const int odd = lane / 4 % 2;
#pragma unroll
    for (int i = 0; i < C::kTiles; i++) {
      std::uint32_t words[4];
#pragma unroll
      for (int q = 0; q < 4; q++) {
        words[q] = 2 * q + odd < valid ? few_columns_load_pair(p, k + 2 * q + odd, 8 * i + lane % 4 * 2) : 0;
      }
      dense[i] = make_uint4(words[0], words[1], words[2], words[3]);
    }
  }
}

/// spmm: after all loads are on their way.
template <typename C>
__device__ __forceinline__ void few_columns_transpose(uint4 (&dense)[C::kTiles]) {
  if constexpr (!C::kLinear && !C::kPacked) {
#pragma unroll
    for (int i = 0; i < C::kTiles; i++) {
      dense[i] = make_uint4(ptx::transpose_8x8(dense[i].x), ptx::transpose_8x8(dense[i].y),
                            ptx::transpose_8x8(dense[i].z), ptx::transpose_8x8(dense[i].w));
    }
  }
}

/// This warp's share of the strip's product.
template <typename C>
__device__ __forceinline__ void few_columns_multiply(const FewColumnsParams& p, float (&acc)[C::kTiles][4],
                                                     int block_row, int first_row, int first_batch, int batch_step,
                                                     int lane) {
  const std::int32_t begin = p.crow[block_row];
  const int length = (p.crow[block_row + 1] - begin) << p.block_shift;  // k of the whole row
  const int t = lane % 4, dense_piece = C::kLinear || C::kPacked ? t : lane / 8;
  const bool ragged = (p.cols & ((1 << p.block_shift) - 1)) != 0;
  const std::int32_t* cols = p.col + begin;
  const std::uint16_t* row =
      p.values + (((static_cast<std::int64_t>(begin) << p.block_shift) + first_row + lane / 4) << p.block_shift);
  const std::int64_t lower = std::int64_t{8} << p.block_shift;  // eight rows further

  for (int batch = first_batch; batch * (C::kBatch * 32) < length; batch += batch_step) {
    uint4 values[C::kBatch][2];
    std::int32_t block_col[C::kBatch];
    FewColumnsPiece pieces[C::kBatch];
#pragma unroll
    for (int i = 0; i < C::kBatch; i++) {
      const FewColumnsPiece piece = few_columns_piece(p, batch * C::kBatch + i, t, length);
      const std::uint16_t* from = row + (static_cast<std::int64_t>(piece.block) << 2 * p.block_shift) + piece.offset;
      values[i][0] = piece.exists ? ptx::stream_load_16(from) : make_uint4(0, 0, 0, 0);
      values[i][1] = piece.exists ? ptx::stream_load_16(from + lower) : make_uint4(0, 0, 0, 0);
      pieces[i] = few_columns_piece(p, batch * C::kBatch + i, dense_piece, length);
      block_col[i] = pieces[i].exists ? __ldg(cols + pieces[i].block) : 0;
    }
    if (ragged) {  // the padding of the last block column may hold anything
#pragma unroll
      for (int i = 0; i < C::kBatch; i++) {
        const FewColumnsPiece piece = few_columns_piece(p, batch * C::kBatch + i, t, length);
        const int valid = piece.exists ? p.cols - (__ldg(cols + piece.block) << p.block_shift) - piece.offset : 0;
        values[i][0] = keep_first(values[i][0], valid);
        values[i][1] = keep_first(values[i][1], valid);
      }
    }
#pragma unroll
    for (int first = 0; first < C::kBatch; first += C::kAhead) {
      uint4 dense[C::kAhead][C::kTiles];
#pragma unroll
      for (int i = 0; i < C::kAhead; i++) {
        few_columns_load_dense<C>(p, dense[i], block_col[first + i], pieces[first + i], lane);
      }
#pragma unroll
      for (int i = 0; i < C::kAhead; i++) {
        few_columns_transpose<C>(dense[i]);
        const uint4 high = values[first + i][0], low = values[first + i][1];
#pragma unroll
        for (int tile = 0; tile < C::kTiles; tile++) {
          const uint4 d = dense[i][tile];
          ptx::mma_m16n8k16<typename C::Element>(acc[tile], high.x, low.x, high.y, low.y, d.x, d.y);
          ptx::mma_m16n8k16<typename C::Element>(acc[tile], high.z, low.z, high.w, low.w, d.z, d.w);
        }
      }
    }
  }
}

/// Packs the dense operand: a thread moves eight k of one column. What lies outside becomes 0.
template <typename C>
__global__ void __launch_bounds__(256)
    few_columns_pack_kernel(const __grid_constant__ FewColumnsParams p, std::int64_t pieces) {
  constexpr int kColumns = 8 * C::kTiles;
  const std::int64_t i = std::int64_t{blockIdx.x} * 256 + threadIdx.x;
  if (i >= pieces * kColumns) return;
  // Neighbouring threads read neighbours: k of X, columns of B.
  const auto piece = static_cast<int>(C::kLinear ? i % pieces : i / kColumns),
             column = static_cast<int>(C::kLinear ? i / pieces : i % kColumns);
  uint4 x;
  if constexpr (C::kLinear) {
    x = few_columns_load_k_major(p, column, piece * 8, p.cols - piece * 8);
  } else {
    std::uint32_t words[4] = {};
#pragma unroll
    for (int j = 0; j < 8; j++) {
      const int k = piece * 8 + j;
      if (k < p.cols && column < p.columns) {
        words[j / 2] |= static_cast<std::uint32_t>(__ldg(p.dense + k * p.dense_stride + column)) << j % 2 * 16;
      }
    }
    x = make_uint4(words[0], words[1], words[2], words[3]);
  }
  p.packed_dense[static_cast<std::int64_t>(piece) * kColumns + column] = x;
}

template <typename C>
__global__ void __launch_bounds__(C::kMaxWarps * 32, C::kCtasPerSm)
    few_columns_kernel(const __grid_constant__ FewColumnsParams p) {
  // [warp][row][column]. What the largest CTA may need would take memory from L1, where the dense operand is.
  extern __shared__ float sums[];
  ptx::wait_for_earlier_kernels();
  ptx::let_next_kernel_start();  // not before it has waited: else a kernel could overtake two
  const auto place = [](int of_warp, int row, int column) { return (of_warp * 16 + row) * C::kSumStride + column; };
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, warps = blockDim.x / 32;
  const int strip = blockIdx.x / p.splits, rank = blockIdx.x % p.splits;
  const int strips_per_block = (1 << p.block_shift) / 16;
  const int block_row = strip / strips_per_block, strip_row = strip % strips_per_block * 16;

  float acc[C::kTiles][4] = {};
  few_columns_multiply<C>(p, acc, block_row, strip_row, rank * warps + warp, p.splits * warps, lane);
#pragma unroll
  for (int tile = 0; tile < C::kTiles; tile++) {
#pragma unroll
    for (int i = 0; i < 4; i++) sums[place(warp, lane / 4 + i / 2 * 8, 8 * tile + lane % 4 * 2 + i % 2)] = acc[tile][i];
  }
  __syncthreads();

  // Neighbouring threads take neighbours of the output: rows of the strip for linear, columns for spmm.
  constexpr auto kFinish = C::kLinear ? device::Finish::bias_activation : device::Finish::scale;
  const int count = 16 * p.columns;
  const auto place_of = [&](int i, int& row, int& column) {
    row = C::kLinear ? i % 16 : i / p.columns;
    column = C::kLinear ? i / 16 : i % p.columns;
  };
  const auto finish = [&](int row, int column, float sum) {
    const std::int64_t m = (static_cast<std::int64_t>(block_row) << p.block_shift) + strip_row + row;
    if (m >= (C::kLinear ? p.epilogue.cols : p.epilogue.rows)) return;
    device::store_element<typename C::Element, kFinish>(p.epilogue, C::kLinear ? column : m, C::kLinear ? m : column,
                                                        sum);
  };
  for (int i = threadIdx.x; i < count; i += blockDim.x) {
    int row, column;
    place_of(i, row, column);
    float sum = 0.0f;
    for (int w = 0; w < warps; w++) sum += sums[place(w, row, column)];
    if (p.splits == 1) {
      finish(row, column, sum);
    } else {
      sums[place(0, row, column)] = sum;
    }
  }
  if (p.splits > 1) {
    ptx::cluster_sync();
    for (int i = rank * blockDim.x + threadIdx.x; i < count; i += p.splits * blockDim.x) {
      int row, column;
      place_of(i, row, column);
      const std::uint32_t address = ptx::shared_address(&sums[place(0, row, column)]);
      float sum = 0.0f;
      for (int cta = 0; cta < p.splits; cta++) sum += ptx::cluster_load_float(ptx::cluster_address(address, cta));
      finish(row, column, sum);
    }
    ptx::cluster_sync();  // a CTA's memory must outlive its neighbours' reads
  }
}

}  // namespace triage::sm90
