// The CPU family's registry rows: what they take, and which instruction set serves them.
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "cpu/cpu_kernels.h"
#include "cpu/kernels.h"
#include "cpu/parallel.h"

#ifndef TRIAGE_HAS_X86_ISAS
#define TRIAGE_HAS_X86_ISAS 0
#endif

namespace triage {

const std::vector<cpu::KernelSet>& cpu::runnable_kernels() {
  static const std::vector<KernelSet> sets = [] {
    std::vector<KernelSet> found;
#if TRIAGE_HAS_X86_ISAS
    // TRIAGE_CPU_ISA=baseline|avx2 leaves wider instruction sets unused, so that the narrower code can be tried anywhere.
    const char* variable = std::getenv("TRIAGE_CPU_ISA");
    const std::string_view widest = variable != nullptr ? variable : "";
    const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
    const bool has_avx512 = has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                            __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    if (has_avx512 && widest != "avx2" && widest != "baseline")
      found.push_back({"avx512", &avx512::spmm, &avx512::sddmm, avx512::compute_oracle_tile});
    if (has_avx2 && widest != "baseline")
      found.push_back({"avx2", &avx2::spmm, &avx2::sddmm, avx2::compute_oracle_tile});
#endif
    found.push_back({"baseline", &baseline::spmm, &baseline::sddmm, baseline::compute_oracle_tile});
    return found;
  }();
  return sets;
}

namespace {

const cpu::CpuKernel& kernel_for(Operation operation) {
  const cpu::KernelSet& kernels = cpu::runnable_kernels().front();
  return operation == Operation::sddmm ? *kernels.sddmm : *kernels.spmm;
}

template <Operation kOperation>
Support can_run(const SparseGemmProblem& problem, const Device& device) {
  if (!device.is_cpu()) return {false, "the tensors are not in host memory"};
  if (problem.operation != kOperation) return {false, "it serves another operation"};
  if (problem.block != 16 && problem.block != 32 && problem.block != 64 && problem.block != 128)
    return {false, "the block size is " + std::to_string(problem.block) + ", not 16, 32, 64 or 128"};
  return {};
}

std::optional<ScheduleSpec> no_schedule(const PatternShape&, const Device&) { return std::nullopt; }

std::size_t workspace_bytes(const SparseGemmProblem& problem, const Device&, const ScheduleView&) {
  return kernel_for(problem.operation).workspace_bytes(problem, cpu::available_threads());
}

void launch(const SparseGemmCall& call) { kernel_for(call.problem.operation).run(call, cpu::available_threads()); }

int element_bytes(DType dtype) {
  switch (dtype) {
    case DType::float16:
    case DType::bfloat16: return 2;
    case DType::float32: return 4;
    case DType::float64: break;
  }
  return 8;
}

// The CPU reads blocks in their canonical order; packing exists so that programs need not ask where they run.
void prepack_canonical(const SparseGemmCall& call, void* packed) {
  const SparseGemmProblem& problem = call.problem;
  std::memcpy(packed, call.values,
              static_cast<std::size_t>(problem.nnz_blocks) * problem.block * problem.block * element_bytes(problem.dtype));
}

constexpr char kDtypes[] = "float16 bfloat16 float32 float64";

constexpr SparseGemmKernel kKernels[] = {
    {"cpu_spmm", Operation::spmm, Family::cpu, 0, kDtypes, "src/cpu/spmm_kernel.cpp", can_run<Operation::spmm>,
     no_schedule, workspace_bytes, launch, prepack_canonical},
    {"cpu_linear", Operation::linear, Family::cpu, 0, kDtypes, "src/cpu/spmm_kernel.cpp", can_run<Operation::linear>,
     no_schedule, workspace_bytes, launch, prepack_canonical},
    {"cpu_sddmm", Operation::sddmm, Family::cpu, 0, kDtypes, "src/cpu/sddmm_kernel.cpp", can_run<Operation::sddmm>,
     no_schedule, workspace_bytes, launch, nullptr},
};

}  // namespace

std::span<const SparseGemmKernel> cpu_sparse_gemm_kernels() { return kKernels; }

}  // namespace triage
