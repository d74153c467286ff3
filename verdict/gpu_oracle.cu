// The oracle on the GPU: what check_result's rule needs, over the whole of a large output in a fraction of a second
// (gpu_check.cpp applies the rule).
//
// It shares nothing with the kernels that it judges. One thread block computes one tile of the oracle: a block's rows of
// the sparse matrix by 64 dense columns, in double precision and as a plain loop in fp32, and reduces what the rule needs
// (largest errors, sums of squares). Thread (column, part) sums the tile's column `column` for a quarter of its rows.
// Operands pass through shared memory in steps of 16 along k.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <vector>

#include "device/cuda_check.h"
#include "device/memory.h"
#include "verdict/gpu_kernels.h"

namespace triage::verdict {
namespace {

constexpr int kColumns = kOracleColumns;
constexpr int kParts = 4;
constexpr int kThreads = kColumns * kParts;
constexpr int kSteps = 16;

/// A dense operand: element (k, column) lies at k * k_step + column * column_step.
template <class T>
struct Operand {
  const T* data;
  std::int64_t k_step, column_step;
};

template <class T>
struct OracleParams {
  Operation operation;
  Activation activation;
  int block;
  std::int64_t rows, cols, dense;  // as SparseGemmProblem
  const std::int32_t* crow;
  const std::int32_t* col;
  const std::int32_t* row_of_block;  // sddmm
  const T* values;
  const T* left;                     // sddmm: X, with row step left_step
  std::int64_t left_step;
  Operand<T> right;
  const T* bias;
  const T* out;
  std::int64_t out_row_step, out_column_step;  // spmm, linear
  int column_tiles;
};

__device__ float widen(__half value) { return __half2float(value); }
__device__ float widen(__nv_bfloat16 value) { return __bfloat162float(value); }
__device__ float rounded(float value, __half) { return __half2float(__float2half_rn(value)); }
__device__ float rounded(float value, __nv_bfloat16) { return __bfloat162float(__float2bfloat16_rn(value)); }

template <class Real>
__device__ Real activate(Real x, Activation activation) {
  switch (activation) {
    case Activation::none: return x;
    case Activation::relu: return x < 0 ? Real(0) : x;
    case Activation::gelu: return x * (Real(0.5) * erfc(x * Real(-0.70710678118654752440)));
    case Activation::silu: return x / (Real(1) + exp(-x));
  }
  return x;
}

/// The tile's place, and how many of its rows and columns exist.
struct TilePlace {
  std::int64_t first_row, first_column;  // of the sparse matrix's rows; of the dense columns
  int block_row, rows, columns;
  std::int64_t block;  // sddmm: position in values
};

template <class T>
__device__ TilePlace place_of(const OracleParams<T>& p, std::int64_t tile) {
  TilePlace place;
  const std::int64_t major = tile / p.column_tiles;
  const std::int64_t column = tile % p.column_tiles * kColumns;
  std::int64_t columns;
  if (p.operation == Operation::sddmm) {
    place.block = major;
    place.block_row = p.row_of_block[major];
    place.first_column = static_cast<std::int64_t>(p.col[major]) * p.block + column;
    columns = min(p.cols - place.first_column, static_cast<std::int64_t>(p.block) - column);
  } else {
    place.block = -1;
    place.block_row = static_cast<int>(major);
    place.first_column = column;
    columns = p.dense - column;
  }
  place.first_row = static_cast<std::int64_t>(place.block_row) * p.block;
  place.rows = static_cast<int>(min(p.rows - place.first_row, static_cast<std::int64_t>(p.block)));
  place.columns = static_cast<int>(max(std::int64_t{0}, min(columns, static_cast<std::int64_t>(kColumns))));
  return place;
}

template <int kBlock>
struct OracleShared {
  alignas(16) double left_wide[kBlock][kSteps];
  alignas(16) float left[kBlock][kSteps];
  float right[kSteps][kColumns];
  double partial[kThreads / 32];
};

template <class Reduce>
__device__ double reduce_warp(double value, Reduce reduce) {
  for (int lane = 16; lane > 0; lane /= 2) value = reduce(value, __shfl_xor_sync(0xffffffffu, value, lane));
  return value;
}

/// One tile. kBlock is the block size, kRows = kBlock / kParts the rows of a thread.
template <class T, int kBlock>
__global__ void __launch_bounds__(kThreads) oracle_kernel(OracleParams<T> p, OracleTileStats* stats) {
  constexpr int kRows = kBlock / kParts;
  __shared__ OracleShared<kBlock> shared;
  const TilePlace place = place_of(p, blockIdx.x);
  const int column = threadIdx.x % kColumns, part = threadIdx.x / kColumns;
  double exact[kRows] = {};
  float plain[kRows] = {};
  double product_squares = 0;

  /// Adds `steps` products from k = right_k on; `left_of(row, step)` gives the left operand.
  const auto add_steps = [&](std::int64_t right_k, int steps, auto left_of) {
    __syncthreads();
    for (int i = threadIdx.x; i < kBlock * kSteps; i += kThreads) {
      const int row = i / kSteps, step = i % kSteps;
      const float value = row < place.rows && step < steps ? left_of(row, step) : 0.0f;
      shared.left[row][step] = value;
      shared.left_wide[row][step] = value;
    }
    // Neighbouring threads read neighbouring elements, whichever way the operand lies.
    const bool columns_adjacent = p.right.column_step == 1;
    for (int i = threadIdx.x; i < kSteps * kColumns; i += kThreads) {
      const int step = columns_adjacent ? i / kColumns : i % kSteps;
      const int c = columns_adjacent ? i % kColumns : i / kSteps;
      const bool inside = step < steps && c < place.columns;
      shared.right[step][c] =
          inside ? widen(p.right.data[(right_k + step) * p.right.k_step + (place.first_column + c) * p.right.column_step])
                 : 0.0f;
    }
    __syncthreads();
    // Four steps at a time: the left operand comes from shared memory in 16-byte pieces.
    float squares = 0;
    for (int step = 0; step < kSteps; step += 4) {
      float r[4];
      for (int i = 0; i < 4; ++i) r[i] = shared.right[step + i][column];
#pragma unroll
      for (int row = 0; row < kRows; ++row) {
        const float4 l = *reinterpret_cast<const float4*>(&shared.left[part * kRows + row][step]);
        const double2 low = *reinterpret_cast<const double2*>(&shared.left_wide[part * kRows + row][step]);
        const double2 high = *reinterpret_cast<const double2*>(&shared.left_wide[part * kRows + row][step + 2]);
        const float products[4] = {l.x * r[0], l.y * r[1], l.z * r[2], l.w * r[3]};
        exact[row] += low.x * r[0] + low.y * r[1] + high.x * r[2] + high.y * r[3];
        for (const float product : products) {
          plain[row] += product;
          squares += product * product;
        }
      }
    }
    product_squares += squares;
  };

  double terms = 0;
  if (p.operation == Operation::sddmm) {
    for (std::int64_t k = 0; k < p.dense; k += kSteps) {
      add_steps(k, static_cast<int>(min(p.dense - k, static_cast<std::int64_t>(kSteps))), [&](int row, int step) {
        return widen(p.left[(place.first_row + row) * p.left_step + k + step]);
      });
    }
    terms = static_cast<double>(p.dense);
  } else {
    for (std::int64_t e = p.crow[place.block_row]; e < p.crow[place.block_row + 1]; ++e) {
      const std::int64_t first_k = static_cast<std::int64_t>(p.col[e]) * kBlock;
      const int depth = static_cast<int>(min(p.cols - first_k, static_cast<std::int64_t>(kBlock)));
      for (int k = 0; k < depth; k += kSteps) {
        add_steps(first_k + k, min(depth - k, kSteps), [&](int row, int step) {
          return widen(p.values[(e * kBlock + row) * kBlock + k + step]);
        });
      }
      terms += depth;
    }
  }

  // Errors of this thread's elements.
  double maxima[4] = {}, sums[3] = {};  // error, plain error, |exact|, magnitude; squares of the first three
  int not_finite = 0;
  for (int r = 0; r < kRows; ++r) {
    const int row = part * kRows + r;
    if (row >= place.rows || column >= place.columns) continue;
    double want = exact[r];
    float rough = plain[r];
    const T* at;
    if (p.operation == Operation::sddmm) {
      at = p.out + (place.block * kBlock + row) * kBlock + (place.first_column - static_cast<std::int64_t>(p.col[place.block]) * kBlock) + column;
    } else {
      at = p.out + (place.first_row + row) * p.out_row_step + (place.first_column + column) * p.out_column_step;
    }
    if (p.operation == Operation::linear) {
      const float bias = p.bias ? widen(p.bias[place.first_row + row]) : 0.0f;
      maxima[3] = fmax(maxima[3], fmax(fabs(static_cast<double>(bias)), fabs(want + bias)));
      want = activate(want + bias, p.activation);
      rough = activate(rough + bias, p.activation);
    } else {
      maxima[3] = fmax(maxima[3], fabs(want));
    }
    const double got = widen(*at);
    if (!isfinite(got)) {
      ++not_finite;
      continue;
    }
    const double error = fabs(got - want), plain_error = fabs(static_cast<double>(rounded(rough, T{})) - want);
    maxima[0] = fmax(maxima[0], error);
    maxima[1] = fmax(maxima[1], plain_error);
    maxima[2] = fmax(maxima[2], fabs(want));
    sums[0] += error * error;
    sums[1] += plain_error * plain_error;
    sums[2] += want * want;
  }

  const auto larger = [](double a, double b) { return fmax(a, b); };
  const auto sum = [](double a, double b) { return a + b; };
  // Across the thread block, one quantity after the other.
  const auto reduce = [&](double value, auto how) {
    value = reduce_warp(value, how);
    __syncthreads();
    if (threadIdx.x % 32 == 0) shared.partial[threadIdx.x / 32] = value;
    __syncthreads();
    double all = shared.partial[0];
    for (int warp = 1; warp < kThreads / 32; ++warp) all = how(all, shared.partial[warp]);
    return all;
  };
  OracleTileStats result;
  result.error = reduce(maxima[0], larger);
  result.plain_error = reduce(maxima[1], larger);
  result.largest = reduce(maxima[2], larger);
  result.magnitude = reduce(maxima[3], larger);
  result.error_squares = reduce(sums[0], sum);
  result.plain_squares = reduce(sums[1], sum);
  result.exact_squares = reduce(sums[2], sum);
  result.product_squares = reduce(product_squares, sum);
  result.not_finite = static_cast<int>(reduce(not_finite, sum));
  result.terms = terms;
  result.elements = place.rows * place.columns;
  if (threadIdx.x == 0) stats[blockIdx.x] = result;
}

template <class T>
OracleParams<T> params_of(const SparseGemmCall& call, const std::int32_t* row_of_block) {
  OracleParams<T> p{};
  p.operation = call.problem.operation;
  p.activation = call.activation;
  p.block = call.problem.block;
  p.rows = call.problem.rows;
  p.cols = call.problem.cols;
  p.dense = call.problem.dense;
  p.crow = call.pattern.crow;
  p.col = call.pattern.col;
  p.row_of_block = row_of_block;
  p.values = static_cast<const T*>(call.values);
  p.bias = static_cast<const T*>(call.bias);
  const auto* in0 = static_cast<const T*>(call.in0.data);
  switch (p.operation) {
    case Operation::spmm:
      p.right = {in0, call.in0.stride, 1};
      p.out = static_cast<const T*>(call.out.data);
      p.out_row_step = call.out.stride;
      p.out_column_step = 1;
      break;
    case Operation::linear:
      p.right = {in0, 1, call.in0.stride};
      p.out = static_cast<const T*>(call.out.data);
      p.out_row_step = 1;
      p.out_column_step = call.out.stride;
      break;
    case Operation::sddmm:
      p.left = in0;
      p.left_step = call.in0.stride;
      p.right = {static_cast<const T*>(call.in1.data), 1, call.in1.stride};
      p.out = p.values;
      break;
  }
  p.column_tiles = static_cast<int>(((p.operation == Operation::sddmm ? p.block : p.dense) + kColumns - 1) / kColumns);
  return p;
}

template <class T>
void launch_oracle(const OracleParams<T>& params, std::int64_t tiles, OracleTileStats* stats, cudaStream_t stream) {
  const auto grid = static_cast<unsigned>(tiles);
  switch (params.block) {
    case 16: oracle_kernel<T, 16><<<grid, kThreads, 0, stream>>>(params, stats); break;
    case 32: oracle_kernel<T, 32><<<grid, kThreads, 0, stream>>>(params, stats); break;
    case 64: oracle_kernel<T, 64><<<grid, kThreads, 0, stream>>>(params, stats); break;
    case 128: oracle_kernel<T, 128><<<grid, kThreads, 0, stream>>>(params, stats); break;
    default: throw std::runtime_error("the GPU oracle takes blocks of 16, 32, 64 and 128");
  }
  cuda_check(cudaGetLastError(), "launch of the GPU oracle");
}

/// The block row of each block, for sddmm.
std::vector<std::int32_t> block_rows_of(const SparseGemmCall& call, DLDevice device, Stream stream) {
  std::vector<std::int32_t> crow(static_cast<std::size_t>(call.pattern.block_rows) + 1);
  copy_bytes(crow.data(), {kDLCPU, 0}, call.pattern.crow, device, crow.size() * 4, stream, "reading crow_indices");
  synchronize(device, stream);
  std::vector<std::int32_t> rows;
  for (std::int32_t r = 0; r < call.pattern.block_rows; ++r) rows.insert(rows.end(), crow[r + 1] - crow[r], r);
  return rows;
}

}  // namespace

std::vector<OracleTileStats> gpu_oracle_stats(const SparseGemmCall& call, Stream stream) {
  int ordinal = 0;
  cuda_check(cudaGetDevice(&ordinal), "cudaGetDevice");
  const DLDevice device{kDLCUDA, ordinal}, host{kDLCPU, 0};
  if (call.alpha != 1 || call.beta != 0) throw std::runtime_error("the GPU oracle takes alpha 1 and beta 0");
  const bool sddmm = call.problem.operation == Operation::sddmm;
  if (sddmm && call.problem.sddmm_layout != SddmmLayout::x_yt) throw std::runtime_error("the GPU oracle takes X * Y^T");

  Buffer row_of_block;
  if (sddmm) {
    const std::vector<std::int32_t> rows = block_rows_of(call, device, stream);
    row_of_block = Buffer(device, std::max<std::size_t>(rows.size(), 1) * 4, stream);
    copy_bytes(row_of_block.data(), device, rows.data(), host, rows.size() * 4, stream, "copy of block rows");
    synchronize(device, stream);
  }
  const auto run = [&](auto zero) {
    using T = decltype(zero);
    const OracleParams<T> params = params_of<T>(call, static_cast<const std::int32_t*>(row_of_block.data()));
    const std::int64_t tiles =
        (sddmm ? call.problem.nnz_blocks : static_cast<std::int64_t>(call.pattern.block_rows)) * params.column_tiles;
    std::vector<OracleTileStats> stats(static_cast<std::size_t>(tiles));
    if (tiles > 0) {
      if (tiles > std::numeric_limits<std::int32_t>::max()) throw std::runtime_error("too many tiles for the GPU oracle");
      Buffer memory(device, stats.size() * sizeof(OracleTileStats), stream);
      launch_oracle(params, tiles, static_cast<OracleTileStats*>(memory.data()), static_cast<cudaStream_t>(stream));
      copy_bytes(stats.data(), host, memory.data(), device, memory.bytes(), stream, "reading the oracle's findings");
      synchronize(device, stream);
    }
    return stats;
  };
  switch (call.problem.dtype) {
    case DType::float16: return run(__half{});
    case DType::bfloat16: return run(__nv_bfloat16{});
    default: throw std::runtime_error("the GPU oracle takes float16 and bfloat16");
  }
}

}  // namespace triage::verdict
