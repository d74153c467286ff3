// The CPU family's attention rows: what they take, and which instruction set serves them.
#include "cpu/cpu_attention.h"

#include <string_view>

#include "cpu/attention_kernels.h"
#include "cpu/kernels.h"
#include "cpu/parallel.h"

#ifndef TRIAGE_HAS_X86_ISAS
#define TRIAGE_HAS_X86_ISAS 0
#endif

namespace triage {

#define TRIAGE_ATTENTION_KERNELS(isa)                                                                \
  AttentionKernelSet {                                                                                \
    &isa::attention_forward, &isa::attention_backward, isa::compute_attention_row,                    \
        isa::compute_attention_delta, isa::compute_attention_query, isa::compute_attention_key        \
  }

const cpu::AttentionKernelSet& cpu::runnable_attention() {
  static const AttentionKernelSet set = [] {
#if TRIAGE_HAS_X86_ISAS
    const std::string_view isa = runnable_kernels().front().isa;
    if (isa == "avx512") return TRIAGE_ATTENTION_KERNELS(avx512);
    if (isa == "avx2") return TRIAGE_ATTENTION_KERNELS(avx2);
#endif
    return TRIAGE_ATTENTION_KERNELS(baseline);
  }();
  return set;
}

#undef TRIAGE_ATTENTION_KERNELS

namespace {

Support can_run(const AttentionProblem&, const Device& device) {
  if (!device.is_cpu()) return {false, "the tensors are not in host memory"};
  return {};
}

std::size_t forward_workspace_bytes(const AttentionProblem& problem, const Device&) {
  return cpu::runnable_attention().forward->workspace_bytes(problem, cpu::available_threads());
}

void launch_forward(const AttentionCall& call) {
  cpu::runnable_attention().forward->run(call, cpu::available_threads());
}

std::size_t backward_workspace_bytes(const AttentionProblem& problem, const Device&) {
  return cpu::runnable_attention().backward->workspace_bytes(problem, cpu::available_threads());
}

void launch_backward(const AttentionBackwardCall& call) {
  cpu::runnable_attention().backward->run(call, cpu::available_threads());
}

constexpr AttentionKernel kKernels[] = {
    {"cpu_attention_forward", Family::cpu, "float16 bfloat16 float32 float64", "8 to 256",
     "src/cpu/attention_kernel.cpp", can_run, forward_workspace_bytes, launch_forward},
};

constexpr AttentionBackwardKernel kBackwardKernels[] = {
    {"cpu_attention_backward", Family::cpu, "float16 bfloat16 float32 float64", "8 to 256",
     "src/cpu/attention_backward_kernel.cpp", can_run, backward_workspace_bytes, launch_backward},
};

}  // namespace

std::span<const AttentionKernel> cpu_attention_kernels() { return kKernels; }
std::span<const AttentionBackwardKernel> cpu_attention_backward_kernels() { return kBackwardKernels; }

}  // namespace triage
