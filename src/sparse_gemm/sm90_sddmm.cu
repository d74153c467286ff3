// sddmm for all block sizes on 9.0a.
#include "sparse_gemm/sm90_sddmm.h"

#include "sparse_gemm/sm90_launch.h"
#include "sparse_gemm/sm90_rows.h"

namespace triage::sm90 {

namespace {

template <typename Element, SddmmLayout kLayout, int kBlock>
void launch(const SparseGemmCall& call) {
  using Config = SddmmConfig<Element, kLayout, kBlock, sddmm_tile_rows(kBlock), sddmm_cluster(kBlock)>;
  static_assert(sizeof(SddmmStorage<Config>) <= kSharedMemory, "the configuration must fit the shared memory of a CTA");
  const bool bfloat16 = call.problem.dtype == DType::bfloat16;
  const auto stream = static_cast<cudaStream_t>(call.stream);
  SddmmParams p;
  p.stages = call.schedule.stages;
  p.block_order = call.schedule.block_order;
  p.items = call.schedule.items;
  p.item_count = call.schedule.item_count;
  p.tile_counter = static_cast<std::int32_t*>(call.workspace.data);
  p.values = call.values;
  p.rows = call.problem.rows;
  p.cols = call.problem.cols;
  p.inner_steps = static_cast<std::int32_t>((call.problem.dense + Config::kInner - 1) / Config::kInner);
  p.panel_items = kSddmmPanel;
  p.alpha = call.alpha;
  p.beta = call.beta;
  clear_counter(p.tile_counter, stream);

  const CUtensorMap x = Config::kTransposed ? matrix_map(call.in0, bfloat16, Config::kInner, 64)
                                            : matrix_map(call.in0, bfloat16, 64, Config::kInner);
  const CUtensorMap y = Config::kTransposed ? matrix_map(call.in1, bfloat16, Config::kInner, Config::kBoxWidth)
                                            : matrix_map(call.in1, bfloat16, kBlock, Config::kInner);
  const auto kernel = sddmm_kernel<Config>;
  constexpr auto kBytes = static_cast<int>(sizeof(SddmmStorage<Config>));
  cuda_check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes),
             "cudaFuncSetAttribute of sm90 sddmm");
  const std::int64_t clusters =
      std::min<std::int64_t>(call.problem.nnz_blocks, call.device->multiprocessors / Config::kCluster);
  device::launch_dependent(kernel, static_cast<unsigned>(clusters * Config::kCluster), 384, kBytes, stream,
                           "launch of sm90 sddmm", x, y, p);
}

template <typename Element, SddmmLayout kLayout>
void launch_of_layout(const SparseGemmCall& call) {
  switch (call.problem.block) {
    case 16:
      return launch<Element, kLayout, 16>(call);
    case 32:
      return launch<Element, kLayout, 32>(call);
    case 64:
      return launch<Element, kLayout, 64>(call);
    default:
      return launch<Element, kLayout, 128>(call);
  }
}

template <typename Element>
void launch_of_type(const SparseGemmCall& call) {
  call.problem.sddmm_layout == SddmmLayout::x_yt ? launch_of_layout<Element, SddmmLayout::x_yt>(call)
                                                 : launch_of_layout<Element, SddmmLayout::xt_y>(call);
}

}  // namespace

void launch_sddmm(const SparseGemmCall& call) {
  call.problem.dtype == DType::float16 ? launch_of_type<__half>(call) : launch_of_type<__nv_bfloat16>(call);
}

}  // namespace triage::sm90
