// Launches of spmm and linear for blocks of 16 and 32 (sm90_small_blocks.h). Included by one file a row.
#pragma once

#include "sparse_gemm/sm90_launch.h"
#include "sparse_gemm/sm90_rows.h"
#include "sparse_gemm/sm90_small_blocks.h"

namespace triage::sm90 {

template <typename Element, bool kLinear, int kBlock, int kCluster, bool kThin>
void launch_small_blocks(const SparseGemmCall& call) {
  constexpr ProductShape kShape = product_shape(kBlock, kLinear, kThin);
  using Config = SmallBlockConfig<Element, kLinear, kBlock, kShape.rows, kShape.columns, kShape.blocks, kShape.stages,
                                  kCluster, kShape.run, kShape.buffers, kShape.ahead>;
  static_assert(Config::kTokens == product_tokens(kBlock));
  const CUtensorMap dense = dense_map<Config>(call, Config::kRun * kBlock);
  const CUtensorMap out = output_map<Config>(call, 32, 64);
  run_product<Config, SmallBlockStorage<Config>>(call, begin_product<Config>(call), small_block_kernel<Config>,
                                                 small_block_combine_kernel<Config>, out, dense);
}

/// From a call to the instantiation.
template <bool kLinear, int kBlock>
void launch_small_blocks_of_type(const SparseGemmCall& call) {
  dispatch_product<kLinear, kBlock>(call, [&]<typename Element, int kCluster, bool kThin>() {
    launch_small_blocks<Element, kLinear, kBlock, kCluster, kThin>(call);
  });
}

}  // namespace triage::sm90
