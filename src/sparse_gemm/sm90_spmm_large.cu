// spmm for blocks of 64 and 128 on 9.0a.
#include "sparse_gemm/sm90_few_columns_launch.h"
#include "sparse_gemm/sm90_large_blocks.h"
#include "sparse_gemm/sm90_launch.h"
#include "sparse_gemm/sm90_rows.h"

namespace triage::sm90 {

namespace {

template <typename Element, int kBlock, int kCluster>
void launch(const SparseGemmCall& call) {
  constexpr ProductShape kShape = product_shape(kBlock);
  // Blocks of 128 have one chain of products a slot; two may be in flight.
  using Config = LargeBlockConfig<Element, false, kBlock, kShape.rows, kShape.tokens, kShape.columns, kShape.stages,
                                  kShape.strip_slots, kCluster, /*kDeferred=*/kBlock == 128, /*kChunkTiles=*/4,
                                  kShape.buffers, kShape.ahead, /*kHold=*/kBlock == 128>;
  const bool bfloat16 = call.problem.dtype == DType::bfloat16;
  const ProductParams params = begin_product<Config>(call);
  const CUtensorMap dense = device::sliced_tensor_map(call.in0.data, bfloat16, call.in0.rows, call.in0.cols,
                                                      map_stride(call.in0), 64, Config::kTokens / 64);
  const CUtensorMap out = matrix_map(call.out, bfloat16, 64, 8 * Config::kChunkTiles);
  const CUtensorMap values =
      device::tensor_map(params.packed, bfloat16, call.problem.nnz_blocks * kBlock, kBlock, kBlock, 64, 64);
  run_product<Config, LargeBlockStorage<Config>>(call, params, large_block_kernel<Config>,
                                                 large_block_combine_kernel<Config>, out, dense, values);
}

template <typename Element>
void launch_of_type(const SparseGemmCall& call) {
  if (takes_few_columns(call.problem)) return launch_few_columns<Element, false>(call);
  const bool alone = product_cluster(call.problem) == 1;
  if (call.problem.block == 64) {
    alone ? launch<Element, 64, 1>(call) : launch<Element, 64, 2>(call);
  } else {
    alone ? launch<Element, 128, 1>(call) : launch<Element, 128, 2>(call);
  }
}

}  // namespace

void launch_spmm_large(const SparseGemmCall& call) {
  call.problem.dtype == DType::float16 ? launch_of_type<__half>(call) : launch_of_type<__nv_bfloat16>(call);
}

}  // namespace triage::sm90
