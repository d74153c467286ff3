// What src/cpu/attention_*kernel.cpp define, once per instruction set.
#pragma once

#include <cstddef>

#include "registry/attention_kernel.h"

namespace triage {
struct AttentionRow;
struct AttentionRowResult;
struct AttentionDelta;
struct AttentionGradientRow;
}  // namespace triage

namespace triage::cpu {

struct CpuAttentionKernel {
  /// Scratch memory that lets `run` use `threads` threads.
  std::size_t (*workspace_bytes)(const AttentionProblem&, int threads);
  /// Uses as many threads as call.workspace suffices for, at most `threads`.
  void (*run)(const AttentionCall& call, int threads);
};

/// The same of the backward.
struct CpuAttentionBackwardKernel {
  std::size_t (*workspace_bytes)(const AttentionProblem&, int threads);
  void (*run)(const AttentionBackwardCall& call, int threads);
};

/// AttentionOracle::compute.
using AttentionOracleFunction = void (*)(const AttentionCall&, const AttentionRow&, AttentionRowResult*);

/// Those of AttentionBackwardOracle. Deltas are those of the row's sequence, by query and head.
using DeltaOracleFunction = void (*)(const AttentionBackwardCall&, const AttentionRow&, AttentionDelta*);
using QueryOracleFunction = void (*)(const AttentionBackwardCall&, const AttentionDelta*, const AttentionRow&,
                                     AttentionGradientRow* d_q);
using KeyOracleFunction = void (*)(const AttentionBackwardCall&, const AttentionDelta*, const AttentionRow&,
                                   AttentionGradientRow* d_k, AttentionGradientRow* d_v);

/// What this machine runs: the widest instruction set that the build holds (see runnable_kernels in kernels.h).
struct AttentionKernelSet {
  const CpuAttentionKernel* forward;
  const CpuAttentionBackwardKernel* backward;
  AttentionOracleFunction oracle_row;
  DeltaOracleFunction oracle_delta;
  QueryOracleFunction oracle_query;
  KeyOracleFunction oracle_key;
};
const AttentionKernelSet& runnable_attention();

#define TRIAGE_DECLARE_CPU_ATTENTION(isa)                                                                      \
  namespace isa {                                                                                              \
  extern const CpuAttentionKernel attention_forward;                                                           \
  extern const CpuAttentionBackwardKernel attention_backward;                                                  \
  void compute_attention_row(const AttentionCall&, const AttentionRow&, AttentionRowResult* result);           \
  void compute_attention_delta(const AttentionBackwardCall&, const AttentionRow&, AttentionDelta*);            \
  void compute_attention_query(const AttentionBackwardCall&, const AttentionDelta*, const AttentionRow&,       \
                               AttentionGradientRow*);                                                         \
  void compute_attention_key(const AttentionBackwardCall&, const AttentionDelta*, const AttentionRow&,         \
                             AttentionGradientRow*, AttentionGradientRow*);                                    \
  }
TRIAGE_DECLARE_CPU_ATTENTION(baseline)
TRIAGE_DECLARE_CPU_ATTENTION(avx2)  // avx* in builds for x86-64 alone (TRIAGE_HAS_X86_ISAS)
TRIAGE_DECLARE_CPU_ATTENTION(avx512)
#undef TRIAGE_DECLARE_CPU_ATTENTION

}  // namespace triage::cpu
