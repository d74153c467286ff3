#include "verdict/static/replacements.h"

#include <fmt/format.h>

#include <cstdlib>
#include <cstring>
#include <sstream>

namespace triage::static_triage {
namespace {

// The columns: before 8.0; 8.0 to 8.9; 9.0; 10.x and 11.0; 12.x. An empty cell takes the one to its left.
struct Row {
  const char* fact;
  const char* on[5];
};

constexpr Row kRows[] = {
    {"wgmma",
     {"mma.sync.m16n8k8 on fp16 with ldmatrix",
      "mma.sync.m16n8k16 with ldmatrix: a warp computes 16 rows from registers where a warpgroup computed 64 from shared "
      "memory",
      "", "tcgen05.mma with accumulators in tensor memory, or mma.sync as the portable path",
      "mma.sync.m16n8k16 with ldmatrix (block-scaled mma for fp8 and fp4): 12.x has neither wgmma nor tcgen05"}},
    {"tcgen05",
     {"mma.sync.m16n8k8 with ldmatrix", "mma.sync.m16n8k16 with ldmatrix, accumulators in registers",
      "wgmma (target 90a) with accumulators in registers, or mma.sync.m16n8k16 with ldmatrix", "",
      "mma.sync.m16n8k16 with ldmatrix, accumulators in registers: 12.x has neither tcgen05 nor tensor memory"}},
    {"tcgen05_i8", {"mma.sync on int8", "mma.sync.m16n8k32 on int8", "wgmma on int8 (target 90a)",
                    "tcgen05.mma.kind::f8f6f4, or mma.sync on int8", "mma.sync.m16n8k32 on int8"}},
    {"tcgen05_shift", {"addressing the rows directly", "", "", "", ""}},
    {"mma_block_scaled",
     {"fp16 mma on dequantised operands",
      "fp16 mma.sync on operands that are dequantised after the load (8.9: fp8 mma, scales applied to the accumulators)",
      "wgmma or mma.sync on fp8, scales applied to the accumulators", "tcgen05.mma.kind::mxf8f6f4.block_scale", ""}},
    {"mma_fp4_fp6",
     {"fp16 mma on dequantised operands", "fp16 mma.sync on operands that are widened after the load",
      "wgmma or mma.sync on fp8 or fp16 operands", "tcgen05.mma.kind::f8f6f4", ""}},
    {"mma_fp8",
     {"fp16 mma on widened operands",
      "fp16 mma.sync.m16n8k16 on operands that are widened after the load: 8.0 to 8.7 have no fp8 arithmetic", "", "", ""}},
    {"mma_f64_large", {"fp64 fma", "mma.sync.m8n8k4 on fp64", "", "", ""}},
    {"mma_sparse", {"dense mma.sync.m16n8k8", "", "", "", ""}},
    {"mma_ampere", {"mma.sync.m16n8k8 on fp16", "", "", "", ""}},
    {"wmma_ampere", {"wmma on fp16", "", "", "", ""}},
    {"ldmatrix_b8", {"ldmatrix.m8n8.b16 and byte permutes (prmt)", "", "", "", ""}},
    {"stmatrix_b8", {"st.shared of each thread's fragment", "", "stmatrix.m8n8.b16 and byte permutes (prmt)", "", ""}},
    {"stmatrix", {"st.shared of each thread's fragment: two 32-bit stores for a 16x8 tile of 16-bit values", "", "", "",
                  ""}},
    {"tma_sm100", {"loads into registers and st.shared",
                   "cp.async into the same stages and ldmatrix from a swizzled layout",
                   "cp.async.bulk.tensor without the modes of 10.0", "", "cp.async.bulk.tensor without the modes of 10.0"}},
    {"tma",
     {"loads into registers and st.shared, two stages",
      "cp.async (16 bytes a thread) into the same stages, cp.async.wait_group and __syncthreads in place of the mbarrier, "
      "ldmatrix from a swizzled layout",
      "", "", ""}},
    {"bulk_copy",
     {"loads into registers and st.shared",
      "cp.async (16 bytes a thread), cp.async.wait_group and __syncthreads in place of the mbarrier", "", "", ""}},
    {"cp_async", {"loads into registers ahead of time and st.shared behind a barrier", "", "", "", ""}},
    {"tensormap_replace", {"tensor maps encoded on the host (cuTensorMapEncodeTiled), or cp.async", "", "", "", ""}},
    {"st_bulk", {"a loop of 16-byte stores", "", "", "", ""}},
    {"wide_load", {"two 128-bit accesses", "", "", "", ""}},
    {"st_async", {"stores to global memory and a flag", "", "", "", ""}},
    {"mbarrier_tx",
     {"named barriers (bar.sync)",
      "cp.async.wait_group and __syncthreads, or mbarrier.arrive and mbarrier.test_wait without transaction counts", "", "",
      ""}},
    {"mbarrier", {"named barriers (bar.sync)", "", "", "", ""}},
    {"fence_async", {"nothing: without TMA and wgmma there is no asynchronous proxy; __syncthreads orders the rest", "",
                     "", "", ""}},
    {"elect_sync", {"a test for lane 0", "", "", "", ""}},
    {"cluster_launch_control", {"a tile counter in global memory (atomicAdd), as persistent kernels use it", "", "", "",
                                ""}},
    {"cluster", {"single blocks: each loads its own tiles (L2 serves the repeats), partial results meet in global memory",
                 "", "", "", ""}},
    {"multimem", {"one access for each peer device", "", "", "", ""}},
    {"setmaxnreg", {"nothing: let __launch_bounds__ decide, and give all warps the same role", "", "", "", ""}},
    {"griddepcontrol", {"nothing: stream order already holds", "", "", "", ""}},
    {"redux_f32", {"a butterfly of __shfl_xor_sync", "", "", "", ""}},
    {"redux", {"a butterfly of __shfl_xor_sync", "", "", "", ""}},
    {"atomic_vector", {"one atomic for each element (atomicAdd on float or __half2)", "", "", "", ""}},
    {"atomic_bf16", {"atomicAdd of cuda_bf16.h, which falls back to compare-and-swap", "", "", "", ""}},
    {"cvt_fp4_fp6", {"the conversions of cuda_fp4.h and cuda_fp6.h, which fall back to integer code", "", "", "", ""}},
    {"cvt_fp8", {"the conversions of cuda_fp8.h, which fall back to integer code", "", "", "", ""}},
    {"f32x2", {"two fp32 instructions", "", "", "", ""}},
    {"ex2_bf16", {"ex2.approx.f32 on widened values", "", "", "", ""}},
};

int column(int sm) { return sm < 80 ? 0 : sm < 90 ? 1 : sm < 100 ? 2 : sm < 120 ? 3 : 4; }

}  // namespace

std::string replacement(const InstructionFact& fact, const Target& target) {
  const std::string unlock = unlocking_target(fact, target.sm);
  if (!unlock.empty() && !available(fact, target)) {
    return fmt::format("compile for the target {0}: -gencode arch=compute_{0},code=sm_{0}", unlock);
  }
  for (const Row& row : kRows) {
    if (std::strcmp(row.fact, fact.id) != 0) continue;
    for (int i = column(target.sm); i >= 0; --i) {
      if (*row.on[i]) return row.on[i];
    }
  }
  return "code without it";
}

std::string exact_guard(const InstructionFact& fact) {
  // Every target with a suffix from 9.0 on: CUDA 12.9 and later say so in one word.
  if (std::strcmp(fact.available, "90a 100f 110f 120f") == 0) {
    return "defined(__CUDA_ARCH_SPECIFIC__) || defined(__CUDA_ARCH_FAMILY_SPECIFIC__)";
  }
  std::istringstream tokens(fact.available);
  std::string text;
  for (std::string token; tokens >> token;) {
    const int sm = std::atoi(token.c_str());
    if (token.back() == '+') return fmt::format("__CUDA_ARCH__ >= {}0", sm);
    if (!text.empty()) text += " || ";
    text += fmt::format("defined(__CUDA_ARCH_FEAT_SM{}_ALL)", sm);
    if (token.back() == 'f' && sm == 100) text += " || defined(__CUDA_ARCH_FEAT_SM103_ALL)";
    if (token.back() == 'f' && sm == 120) text += " || defined(__CUDA_ARCH_FEAT_SM121_ALL)";
  }
  return text;
}

}  // namespace triage::static_triage
