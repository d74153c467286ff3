// What src/cpu/*_kernel.cpp define: each operation, and the oracle's loops, once per instruction set.
#pragma once

#include <cstddef>
#include <vector>

#include "registry/kernel.h"

namespace triage {
struct OracleTile;
struct OracleNoise;
}  // namespace triage

namespace triage::cpu {

struct CpuKernel {
  /// Scratch memory that lets `run` use `threads` threads.
  std::size_t (*workspace_bytes)(const SparseGemmProblem&, int threads);
  /// Uses as many threads as call.workspace suffices for, at most `threads`.
  void (*run)(const SparseGemmCall& call, int threads);
};

/// Oracle::compute without its checks.
using OracleTileFunction = void (*)(const SparseGemmCall&, const OracleTile&, double* exact, double* plain, OracleNoise*);

/// The kernels of one instruction set.
struct KernelSet {
  const char* isa;
  const CpuKernel* spmm;  ///< Operation::linear too
  const CpuKernel* sddmm;
  OracleTileFunction oracle_tile;
};

/// The instruction sets that this build holds and this machine runs, the widest first: the first serves all calls.
const std::vector<KernelSet>& runnable_kernels();

#define TRIAGE_DECLARE_CPU_KERNELS(isa)                                                                            \
  namespace isa {                                                                                                  \
  extern const CpuKernel spmm, sddmm;                                                                              \
  void compute_oracle_tile(const SparseGemmCall&, const OracleTile&, double* exact, double* plain, OracleNoise*); \
  }
TRIAGE_DECLARE_CPU_KERNELS(baseline)
TRIAGE_DECLARE_CPU_KERNELS(avx2)    // avx* in builds for x86-64 alone (TRIAGE_HAS_X86_ISAS)
TRIAGE_DECLARE_CPU_KERNELS(avx512)
#undef TRIAGE_DECLARE_CPU_KERNELS

}  // namespace triage::cpu
