// The program's own GPU code: random operands, the oracle, limits of the machine. Present in builds with CUDA only
// (TRIAGE_HAS_CUDA); nothing here is one of the kernels that are judged.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "registry/kernel.h"
#include "triage/types.h"
#include "verdict/correctness.h"

namespace triage::verdict {

/// As fill_random with ValueKind::centred and no gaps between the rows, in device memory.
void gpu_fill_centred(DType dtype, void* data, std::int64_t count, std::uint64_t seed, Stream stream);

/// What the rule of correctness.h needs of one tile (a block's rows by 64 dense columns, in the order of Oracle::tile).
struct OracleTileStats {
  double error, plain_error, largest;                   ///< largest of the tile
  double error_squares, plain_squares, exact_squares;   ///< sums over its elements
  double terms, product_squares, magnitude;             ///< OracleNoise; product_squares is the sum over the whole tile
  int elements;                                         ///< without the padding of ragged edges
  int not_finite;                                       ///< results that are NaN or infinite
};
std::vector<OracleTileStats> gpu_oracle_stats(const SparseGemmCall& call, Stream stream);

/// check_result on the GPU, over the whole output: `call` has pointers in device memory, float16 or bfloat16, alpha 1 and
/// beta 0, and finite operands whose results are far from the dtype's largest number. The rule is check_result's.
CheckResult gpu_check_result(const SparseGemmCall& call, Stream stream);

/// Whether two buffers in device memory hold the same bytes.
bool gpu_same_bytes(const void* a, const void* b, std::size_t bytes, Stream stream);

/// A [rows, cols] matrix of any layout: element (r, c) lies at r * row_step + c * col_step.
struct GpuMatrixLayout {
  const void* data = nullptr;
  std::int64_t row_step = 0, col_step = 0;
};
/// ||a - b|| / ||b|| (Frobenius); infinite if either holds a NaN.
double gpu_relative_difference(DType dtype, GpuMatrixLayout a, GpuMatrixLayout b, std::int64_t rows, std::int64_t cols,
                               Stream stream);

/// TFLOP/s that mma.sync reaches when fed from registers alone (fp16, fp32 accumulation), on all multiprocessors.
double gpu_mma_sync_tflops(Stream stream);

/// GB/s of a device-to-device copy, bytes read plus bytes written.
double gpu_copy_gbytes_per_s(Stream stream);

}  // namespace triage::verdict
