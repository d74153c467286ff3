// The program's own GPU code: random operands, the oracle, limits of the machine. Present in builds with CUDA only
// (TRIAGE_HAS_CUDA); nothing here is one of the kernels that are judged.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "registry/kernel.h"
#include "triage/types.h"
#include "verdict/correctness.h"

namespace triage::verdict {

/// As fill_random with ValueKind::centred and no gaps between the rows, in device memory.
void gpu_fill_centred(DType dtype, void* data, std::int64_t count, std::uint64_t seed, Stream stream);

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
