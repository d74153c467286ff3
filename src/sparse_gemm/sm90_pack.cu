// Packing of values for the sm90 family, see sm90_pack.h.
#include "sparse_gemm/sm90_pack.h"

#include "sparse_gemm/sm90_launch.h"
#include "sparse_gemm/sm90_rows.h"

namespace triage::sm90 {

namespace {

__global__ void clear_counter_kernel(std::int32_t* tile_counter) {
  ptx::let_next_kernel_start();
  *tile_counter = 0;
}

}  // namespace

void pack_values(const SparseGemmCall& call, void* packed, std::int32_t* tile_counter) {
  const SparseGemmProblem& problem = call.problem;
  PackParams p;
  p.values = static_cast<const uint4*>(call.values);
  p.packed = static_cast<uint4*>(packed);
  p.block_order = swizzles_values(problem.block) ? call.schedule.block_order : nullptr;
  p.col = problem.cols % problem.block != 0 ? call.pattern.col : nullptr;
  p.nnz = problem.nnz_blocks;
  p.cols = problem.cols;
  p.tile_counter = tile_counter;
  const std::int64_t chunks = problem.nnz_blocks * problem.block * problem.block / 8;
  const auto ctas = static_cast<unsigned>(
      std::clamp<std::int64_t>((chunks + 255) / 256, 1, std::int64_t{8} * call.device->multiprocessors));
  const auto stream = static_cast<cudaStream_t>(call.stream);
  switch (problem.block) {
    case 16:
      pack_kernel<16><<<ctas, 256, 0, stream>>>(p);
      break;
    case 32:
      pack_kernel<32><<<ctas, 256, 0, stream>>>(p);
      break;
    case 64:
      pack_kernel<64><<<ctas, 256, 0, stream>>>(p);
      break;
    default:
      pack_kernel<128><<<ctas, 256, 0, stream>>>(p);
      break;
  }
  cuda_check(cudaGetLastError(), "launch of the sm90 pack kernel");
}

void clear_counter(std::int32_t* tile_counter, cudaStream_t stream) {
  clear_counter_kernel<<<1, 1, 0, stream>>>(tile_counter);
  cuda_check(cudaGetLastError(), "launch of the sm90 kernel that clears the tile counter");
}

void prepack(const SparseGemmCall& call, void* packed) { pack_values(call, packed, nullptr); }

}  // namespace triage::sm90
