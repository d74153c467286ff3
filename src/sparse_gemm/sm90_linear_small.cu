// linear for blocks of 16 and 32 on 9.0a.
#include "sparse_gemm/sm90_few_columns_launch.h"
#include "sparse_gemm/sm90_launch.h"
#include "sparse_gemm/sm90_rows.h"
#include "sparse_gemm/sm90_small_blocks.h"

namespace triage::sm90 {

namespace {

template <typename Element, int kBlock, int kCluster>
void launch(const SparseGemmCall& call) {
  constexpr ProductShape kShape = product_shape(kBlock, /*linear=*/true);
  using Config = SmallBlockConfig<Element, true, kBlock, kShape.rows, kShape.columns, kShape.blocks, kShape.stages,
                                  kCluster, kShape.run, kShape.buffers, kShape.ahead>;
  const bool bfloat16 = call.problem.dtype == DType::bfloat16;
  const CUtensorMap dense = matrix_map(call.in0, bfloat16, Config::kTokens, Config::kRun * kBlock);
  const CUtensorMap out = matrix_map(call.out, bfloat16, 64, 32);
  run_product<Config, SmallBlockStorage<Config>>(call, begin_product<Config>(call), small_block_kernel<Config>,
                                                 small_block_combine_kernel<Config>, out, dense);
}

template <typename Element>
void launch_of_type(const SparseGemmCall& call) {
  if (takes_few_columns(call.problem)) return launch_few_columns<Element, true>(call);
  if (call.problem.block == 16) return launch<Element, 16, 1>(call);
  product_cluster(call.problem) == 1 ? launch<Element, 32, 1>(call) : launch<Element, 32, 2>(call);
}

}  // namespace

void launch_linear_small(const SparseGemmCall& call) {
  call.problem.dtype == DType::float16 ? launch_of_type<__half>(call) : launch_of_type<__nv_bfloat16>(call);
}

}  // namespace triage::sm90
