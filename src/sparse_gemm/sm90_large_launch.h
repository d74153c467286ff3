// Launches of spmm and linear for blocks of 64 and 128 (sm90_large_blocks.h). Included by one file a row.
#pragma once

#include "sparse_gemm/sm90_large_blocks.h"
#include "sparse_gemm/sm90_launch.h"
#include "sparse_gemm/sm90_rows.h"

namespace triage::sm90 {

template <typename Element, bool kLinear, int kBlock, int kCluster, bool kThin>
void launch_large_blocks(const SparseGemmCall& call) {
  constexpr ProductShape kShape = product_shape(kBlock, kLinear, kThin);
  constexpr int kTokens = product_tokens(kBlock);
  // Blocks of 128 have one chain of products a slot; two may be in flight.
  constexpr bool kDeferred = kBlock == 128;
  constexpr bool kHold = kShape.rows * kBlock * kTokens <= 256 * 128;  // where the accumulators leave room for it
  using Config =
      LargeBlockConfig<Element, kLinear, kBlock, kShape.rows, kTokens, kShape.columns, kShape.stages,
                       kShape.strip_slots, kCluster, kDeferred, /*kChunkTiles=*/4, kShape.buffers, kShape.ahead, kHold>;
  const ProductParams params = begin_product<Config>(call);
  const CUtensorMap dense = dense_map<Config>(call, 64);
  const CUtensorMap out = output_map<Config>(call, 64, 8 * Config::kChunkTiles);
  const CUtensorMap values = device::tensor_map(params.packed, call.problem.dtype == DType::bfloat16,
                                                call.problem.nnz_blocks * kBlock, kBlock, kBlock, 64, 64);
  run_product<Config, LargeBlockStorage<Config>>(call, params, large_block_kernel<Config>,
                                                 large_block_combine_kernel<Config>, out, dense, values);
}

/// From a call to the instantiation.
template <bool kLinear, int kBlock>
void launch_large_blocks_of_type(const SparseGemmCall& call) {
  dispatch_product<kLinear, kBlock>(call, [&]<typename Element, int kCluster, bool kThin>() {
    launch_large_blocks<Element, kLinear, kBlock, kCluster, kThin>(call);
  });
}

}  // namespace triage::sm90
