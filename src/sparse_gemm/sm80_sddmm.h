// sddmm on the sm80 family: values[block] = alpha * X Y^T (or X^T Y) at the blocks of a pattern + beta * values.
//
// Tile map. A unit of work is up to kUnitBlocks neighbouring blocks of one block row: their X panel is read once, each
// has its own Y panel. The inner dimension D is walked in slabs of kSlab; where there are fewer units than
// multiprocessors can use, it is split, and a second kernel adds the partial sums in order.
//
// Pipeline. A ring of slots in shared memory, one slab of the unit's panels each (its length is a run-time value). The
// last kProducers warps copy (cp.async), the others multiply: warp (wr, wc) owns kWarpM x kWarpN of the unit's block x
// (kUnitBlocks * block).
//
// Barriers of a slot
// - full: 32 * kProducers arrivals, of each producer lane when its copies have landed; consumers wait
// - empty: kConsumers arrivals, of each consumer warp when it has read the slot; producers wait
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "device/epilogue.h"
#include "ptx/cp_async.h"
#include "ptx/lane.h"
#include "ptx/ldmatrix.h"
#include "ptx/mbarrier.h"
#include "ptx/mma.h"
#include "sparse_gemm/sm80_copy.h"
#include "sparse_gemm/sm80_tuning.h"

namespace triage::sm80 {

/// @tparam kTransposed_ X is [D, M] and Y [D, N] (X^T Y) rather than X [M, D] and Y [N, D] (X Y^T).
template <typename Element_, bool kTransposed_, int kBlock_, int kUnitBlocks_, int kWarpM_, int kWarpN_>
struct SddmmConfig {
  using Element = Element_;
  static constexpr bool kTransposed = kTransposed_;
  static constexpr int kBlock = kBlock_, kUnitBlocks = kUnitBlocks_;
  static constexpr int kSlab = kSddmmSlab;
  static constexpr int kWarpM = kWarpM_, kWarpN = kWarpN_;
  static constexpr int kWarpRows = kBlock / kWarpM, kWarpCols = kBlock * kUnitBlocks / kWarpN;
  static constexpr int kConsumers = kWarpRows * kWarpCols;
  static constexpr int kProducers = 4;
  static constexpr int kThreads = 32 * (kConsumers + kProducers);
  static constexpr int kTilesM = kWarpM / 16, kTilesN = kWarpN / 16;
  static constexpr int kBlocksPerWarp = kWarpN > kBlock ? kWarpN / kBlock : 1;
  static constexpr bool kStepAhead = kTilesM * kTilesN * 8 <= 64;  ///< accumulators leave room for two steps' fragments
  static constexpr int kBlockTilesN = kTilesN / kBlocksPerWarp;    ///< 16-column tiles of one block in a warp

  static constexpr int kPanelRows = kTransposed ? kSlab : kBlock;
  static constexpr int kPanelRowBytes = (kTransposed ? kBlock : kSlab) * 2;
  using PanelLayout = TileLayout<kPanelRows, kPanelRowBytes>;
  static constexpr int kPanelBytes = PanelLayout::kBytes;
  // A slot: the panel of X, those of Y, the two barriers.
  static constexpr int kFull = (1 + kUnitBlocks) * kPanelBytes, kEmpty = kFull + 8;
  static constexpr int kSlotBytes = kFull + 128;

  static_assert(kWarpM <= kBlock && kBlock % kWarpM == 0, "warps divide a block's rows");
  static_assert(kWarpN % 16 == 0 && (kWarpN % kBlock == 0 || kBlock % kWarpN == 0),
                "a warp owns whole blocks or divides one");
  static_assert(kConsumers >= 1 && kConsumers <= 16, "a CTA has 1 to 16 consumer warps");
  static_assert(kTilesM * kTilesN * 8 <= 128, "accumulators must leave registers for the rest");
};

/// Kernel parameters: the same for all threads.
struct SddmmParams {
  const std::int32_t* crow;
  const std::int32_t* col;
  const std::int32_t* row;  ///< block row of each block
  std::int32_t block_rows;
  std::int64_t rows, cols;  ///< of the sparse matrix
  MatrixSource x, y;
  std::int64_t inner;   ///< D
  std::uint32_t units;  ///< an upper bound, see SddmmWalk; below 2^31 with the splits counted
  bool columns_first;   ///< the order of the units
  std::int32_t splits;
  std::int32_t slabs_per_split;
  std::int32_t slots;
  std::int64_t nnz;
  float* partials;            ///< [splits, nnz, block, block] where splits > 1
  device::Epilogue epilogue;  ///< out: values
};

/// A unit's place in the pattern.
struct SddmmUnit {
  std::int32_t block_row, first_block, blocks;
};

/// Row by row. Row r's units are numbered from first(r) = crow[r] / n + r on, n blocks each: that needs no sum over the
/// rows before, and leaves room for ceil(length / n) units, since floor((c + l) / n) - floor(c / n) + 1 >= ceil(l / n).
__device__ __forceinline__ SddmmUnit find_unit_by_row(const SddmmParams& p, std::int32_t unit, int unit_blocks) {
  std::int32_t low = 0, high = p.block_rows;  // first(low) <= unit < first(high)
  while (high - low > 1) {
    const std::int32_t middle = (low + high) / 2;
    if (p.crow[middle] / unit_blocks + middle <= unit) {
      low = middle;
    } else {
      high = middle;
    }
  }
  const std::int32_t begin = p.crow[low], end = p.crow[low + 1];
  const std::int32_t first = begin + (unit - begin / unit_blocks - low) * unit_blocks;
  return {low, first, max(0, min(unit_blocks, end - first))};
}

/// The first unit of every row, then the second of every row, and so on: units that are computed at the same time lie
/// in neighbouring columns, whose panels of Y then stay in L2. Most numbers beyond the rows' mean length name no unit.
__device__ __forceinline__ SddmmUnit find_unit_by_column(const SddmmParams& p, std::uint32_t unit, int unit_blocks) {
  const auto turn = static_cast<std::int32_t>(unit / p.block_rows),
             block_row = static_cast<std::int32_t>(unit % p.block_rows);
  const std::int64_t first = p.crow[block_row] + std::int64_t{turn} * unit_blocks, left = p.crow[block_row + 1] - first;
  return {block_row, static_cast<std::int32_t>(first),
          static_cast<std::int32_t>(max(std::int64_t{0}, min(left, std::int64_t{unit_blocks})))};
}

/// What the CTA does: pairs of unit and split, in a static order. The warp's lanes look together for the CTA's next
/// unit that exists.
template <typename Config>
struct SddmmWalk {
  const SddmmParams& p;
  std::uint32_t index;
  bool valid = false;
  SddmmUnit unit{};
  std::int32_t slabs = 0;
  __device__ explicit SddmmWalk(const SddmmParams& params) : p(params), index(blockIdx.x) { locate(); }
  __device__ std::int64_t split() const { return index / p.units; }
  __device__ std::int64_t first_slab() const { return split() * p.slabs_per_split; }
  __device__ void next() {
    index += gridDim.x;
    locate();
  }
  __device__ void locate() {
    const std::uint32_t end = p.units * p.splits;
    const int lane = ptx::lane_id();
    for (; index < end; index += 32 * gridDim.x) {
      const std::uint32_t mine = index + lane * gridDim.x;
      SddmmUnit found{};
      if (mine < end) {
        found = p.columns_first ? find_unit_by_column(p, mine % p.units, Config::kUnitBlocks)
                                : find_unit_by_row(p, static_cast<std::int32_t>(mine % p.units), Config::kUnitBlocks);
      }
      const unsigned exist = __ballot_sync(0xffffffffu, found.blocks > 0);
      if (exist == 0) continue;
      const int first = __ffs(exist) - 1;
      index += first * gridDim.x;
      unit = {__shfl_sync(0xffffffffu, found.block_row, first), __shfl_sync(0xffffffffu, found.first_block, first),
              __shfl_sync(0xffffffffu, found.blocks, first)};
      const std::int64_t total = (p.inner + Config::kSlab - 1) / Config::kSlab;
      slabs = static_cast<std::int32_t>(min(std::int64_t{p.slabs_per_split}, total - first_slab()));
      valid = true;
      return;
    }
    valid = false;
  }
};

template <typename Config>
__device__ __forceinline__ void sddmm_produce(const SddmmParams& p, std::uint32_t ring, int producer, int lane) {
  using Tile = TileCopy<Config::kPanelRows, Config::kPanelRowBytes>;
  constexpr bool kT = Config::kTransposed;
  const bool asynchronous = p.x.access != Access::elements && p.y.access != Access::elements;
  // Piece `i` of the panel whose rows (columns, if transposed) begin at `outer`; D begins at `inner`.
  const auto copy = [&](const MatrixSource& source, std::uint32_t target, std::int64_t outer, std::int64_t inner,
                        int i) {
    const std::int64_t row0 = kT ? inner : outer, col0 = kT ? outer : inner;
    const bool inside = row0 + Config::kPanelRows <= source.rows && col0 + Config::kPanelRowBytes / 2 <= source.cols;
    if (inside && source.access == Access::chunks) {
      const auto* corner = static_cast<const std::uint16_t*>(source.data) + row0 * source.stride + col0;
      Tile::copy(target, corner, source.stride, i, lane);
    } else {
      Tile::copy_checked(target, source, row0, col0, i, lane);
    }
  };

  std::uint32_t slot = ring, parity = 1;  // the slots begin empty
  for (SddmmWalk<Config> walk(p); walk.valid; walk.next()) {
    const std::int32_t column = lane < walk.unit.blocks ? p.col[walk.unit.first_block + lane] : 0;
    const std::int64_t row = std::int64_t{walk.unit.block_row} * Config::kBlock;
    const std::int64_t first_slab = walk.first_slab();
    const unsigned pieces = (1 + walk.unit.blocks) * Tile::kPieces;
#pragma unroll 1
    for (int s = 0; s < walk.slabs; s++) {
      const std::int64_t inner = (first_slab + s) * Config::kSlab;
      ptx::mbarrier_wait(slot + Config::kEmpty, parity);
#pragma unroll 1
      for (unsigned i = producer; i < pieces; i += Config::kProducers) {
        const unsigned panel = i / Tile::kPieces;  // 0: X, then the blocks' panels of Y
        const std::int64_t outer = std::int64_t{__shfl_sync(0xffffffffu, column, (panel - 1) & 31)} * Config::kBlock;
        if (panel == 0) {
          copy(p.x, slot, row, inner, i);
        } else {
          copy(p.y, slot + panel * Config::kPanelBytes, outer, inner, i % Tile::kPieces);
        }
      }
      if (asynchronous) {
        ptx::cp_async_mbarrier_arrive(slot + Config::kFull);
      } else {
        ptx::cp_async_wait_all();
        ptx::mbarrier_arrive(slot + Config::kFull);
      }
      slot += Config::kSlotBytes;
      if (slot == ring + p.slots * Config::kSlotBytes) {
        slot = ring;
        parity ^= 1;
      }
    }
  }
}

/// Writes a warp's accumulators into its blocks: finished, or as they are into the split's partial sums.
template <typename Config>
__device__ __forceinline__ void sddmm_store(const SddmmParams& p, const SddmmWalk<Config>& walk,
                                            const float (&acc)[Config::kTilesM][Config::kTilesN * 2][4], int warp_row,
                                            int warp_col, int lane) {
  using Element = typename Config::Element;
  constexpr int kBlock = Config::kBlock;
#pragma unroll
  for (int b = 0; b < Config::kBlocksPerWarp; b++) {
    const int position = warp_col * Config::kWarpN / kBlock + b;
    if (position >= walk.unit.blocks) continue;
    const std::int64_t block = walk.unit.first_block + position;
    const int row0 = warp_row * Config::kWarpM, col0 = warp_col * Config::kWarpN % kBlock;
    device::Epilogue e = p.epilogue;
    e.out = static_cast<Element*>(e.out) + block * (kBlock * kBlock);
    e.rows = min(p.rows - std::int64_t{p.row[block]} * kBlock, std::int64_t{kBlock});
    e.cols = min(p.cols - std::int64_t{p.col[block]} * kBlock, std::int64_t{kBlock});
    float* const partial = p.partials + ((walk.split() * p.nnz + block) * kBlock + row0) * kBlock + col0;
#pragma unroll
    for (int m = 0; m < Config::kTilesM; m++) {
      constexpr int kTiles = Config::kBlockTilesN * 2;
      const float(&strip)[kTiles][4] = reinterpret_cast<const float(&)[kTiles][4]>(acc[m][b * kTiles]);
      if (p.splits == 1) {
        device::store_strip<Element, device::Finish::scale>(e, row0 + m * 16, col0, strip, lane);
      } else {
        device::store_partial_strip(partial + m * 16 * kBlock, kBlock, strip, lane);
      }
    }
    constexpr int kCols = Config::kWarpN < kBlock ? Config::kWarpN : kBlock;
    if (p.splits == 1 && (e.rows < kBlock || e.cols < kBlock)) {  // padding becomes 0
      for (int i = lane; i < Config::kWarpM * kCols; i += 32) {
        const int row = row0 + i / kCols, col = col0 + i % kCols;
        if (row >= e.rows || col >= e.cols) static_cast<std::uint16_t*>(e.out)[row * kBlock + col] = 0;
      }
    }
  }
}

template <typename Config>
__device__ __forceinline__ void sddmm_consume(const SddmmParams& p, std::uint32_t ring, int warp) {
  using Element = typename Config::Element;
  constexpr bool kT = Config::kTransposed;
  constexpr int kTilesM = Config::kTilesM, kTilesN = Config::kTilesN;
  const int warp_row = warp / Config::kWarpCols, warp_col = warp % Config::kWarpCols;
  const int m0 = warp_row * Config::kWarpM, n0 = warp_col * Config::kWarpN % Config::kBlock;
  using Layout = typename Config::PanelLayout;
  // Address of 16-element tile `tile` at k step `step` of a panel.
  const auto tile_address = [](std::uint32_t panel, int tile, int step) {
    return kT ? Layout::advance(panel, tile, step * 16) : Layout::advance(panel, step, tile * 16);
  };

  std::uint32_t slot = ring, parity = 0;
  for (SddmmWalk<Config> walk(p); walk.valid; walk.next()) {
    const bool active = warp_col * Config::kWarpN / Config::kBlock < walk.unit.blocks;
    float acc[kTilesM][kTilesN * 2][4] = {};
#pragma unroll 1
    for (; walk.slabs > 0; walk.slabs--) {
      ptx::mbarrier_wait(slot + Config::kFull, parity);
      // ldmatrix of X yields (rows 0-7, k 0-7), (rows 8-15, k 0-7), (rows 0-7, k 8-15), (rows 8-15, k 8-15), as mma's A
      // wants it. That of Y yields the four 8x8 tiles so that each operand B lies in two neighbouring registers, as
      // mma's B must.
      const int lane = ptx::lane_id();  // anew, so that the offsets take no registers during the multiplications
      const std::uint32_t x_offset = kT ? Layout::offset(lane % 8 + lane / 16 * 8, m0 / 8 + lane / 8 % 2)
                                        : Layout::offset(m0 + lane % 16, lane / 16);
      const std::uint32_t y_offset = (kT ? Layout::offset(lane % 16, n0 / 8 + lane / 16)
                                         : Layout::offset(n0 + lane % 8 + lane / 16 * 8, lane / 8 % 2)) +
                                     (1 + warp_col * Config::kWarpN / Config::kBlock) * Config::kPanelBytes;
      if (active) {
        // Fragments of a step are loaded while the step before is multiplied; where accumulators leave no registers for
        // that, those of Y tile by tile.
        constexpr int kSteps = Config::kSlab / 16, kBuffers = Config::kStepAhead ? 2 : 1;
        constexpr int kTilesY = Config::kStepAhead ? kTilesN : 2;
        std::uint32_t x[kBuffers][kTilesM][4], y[kBuffers][kTilesY][4];
        const auto load_x = [&](int step) {
#pragma unroll
          for (int m = 0; m < kTilesM; m++)
            ptx::ldmatrix_x4<kT>(x[step % kBuffers][m], tile_address(slot + x_offset, m, step));
        };
        const auto load_y = [&](int step, int n) {
          // A warp that owns several blocks finds each in a panel of its own.
          const int panel = n / Config::kBlockTilesN * Config::kPanelBytes, tile = n % Config::kBlockTilesN;
          ptx::ldmatrix_x4<kT>(y[step % kBuffers][n % kTilesY], tile_address(slot + y_offset + panel, tile, step));
        };
        const auto load_step = [&](int step) {
          load_x(step);
#pragma unroll
          for (int n = 0; n < (Config::kStepAhead ? kTilesN : 1); n++) load_y(step, n);
        };
        if constexpr (Config::kStepAhead) load_step(0);
#pragma unroll
        for (int step = 0; step < kSteps; step++) {
          if constexpr (!Config::kStepAhead) {
            load_step(step);
          } else if (step + 1 < kSteps) {
            load_step(step + 1);
          }
#pragma unroll
          for (int n = 0; n < kTilesN; n++) {
            if (!Config::kStepAhead && n + 1 < kTilesN) load_y(step, n + 1);
            __syncwarp();  // keeps the loads ahead of the multiplications
            const std::uint32_t(&b)[4] = y[step % kBuffers][n % kTilesY];
#pragma unroll
            for (int m = 0; m < kTilesM; m++) {
              const std::uint32_t(&a)[4] = x[step % kBuffers][m];
              ptx::mma_m16n8k16<Element>(acc[m][n * 2], a[0], a[1], a[2], a[3], b[0], b[1]);
              ptx::mma_m16n8k16<Element>(acc[m][n * 2 + 1], a[0], a[1], a[2], a[3], b[2], b[3]);
            }
          }
        }
      }
      __syncwarp();
      if (ptx::lane_id() == 0) ptx::mbarrier_arrive(slot + Config::kEmpty);
      slot += Config::kSlotBytes;
      if (slot == ring + p.slots * Config::kSlotBytes) {
        slot = ring;
        parity ^= 1;
      }
    }
    sddmm_store<Config>(p, walk, acc, warp_row, warp_col, ptx::lane_id());
  }
}

template <typename Config>
__global__ void __launch_bounds__(Config::kThreads, 1) sddmm_kernel(const __grid_constant__ SddmmParams p) {
  extern __shared__ __align__(256) unsigned char shared[];
  const std::uint32_t ring = ptx::shared_address(shared);
  const int warp = __shfl_sync(0xffffffffu, threadIdx.x / 32, 0), lane = threadIdx.x % 32;
  for (int slot = threadIdx.x; slot < p.slots; slot += Config::kThreads) {
    ptx::mbarrier_init(ring + slot * Config::kSlotBytes + Config::kFull, 32 * Config::kProducers);
    ptx::mbarrier_init(ring + slot * Config::kSlotBytes + Config::kEmpty, Config::kConsumers);
  }
  __syncthreads();
  if (warp < Config::kConsumers) {
    sddmm_consume<Config>(p, ring, warp);
  } else {
    sddmm_produce<Config>(p, ring, warp - Config::kConsumers, lane);
  }
}

/// Adds the splits' partial sums in order, finishes them and zeroes the padding.
template <typename Element>
__global__ void sddmm_combine_kernel(const __grid_constant__ SddmmParams p, int block) {
  const std::int64_t count = p.nnz * block * block;
  for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count;
       i += std::int64_t{gridDim.x} * blockDim.x) {
    const std::int64_t index = i / (block * block);
    const int row = static_cast<int>(i / block % block), col = static_cast<int>(i % block);
    if (std::int64_t{p.row[index]} * block + row >= p.rows || std::int64_t{p.col[index]} * block + col >= p.cols) {
      static_cast<std::uint16_t*>(p.epilogue.out)[i] = 0;
      continue;
    }
    float sum = 0.0f;
    for (int s = 0; s < p.splits; s++) sum += p.partials[s * count + i];
    device::store_element<Element, device::Finish::scale>(p.epilogue, index * block + row, col, sum);
  }
}

}  // namespace triage::sm80
