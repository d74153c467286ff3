// CUTLASS as a peer: the C functions of libtriage_cutlass.so, which is built where CMake finds CUTLASS's headers and
// loaded at run time like any other peer. fp16 in and out, fp32 accumulation.
#pragma once

#include <cstddef>
#include <cstdint>

extern "C" {

/// D[m, n] = A[m, k] * B[k, n], all row-major; with b_transposed B is [n, k].
struct TriageCutlassGemm {
  std::int64_t m, n, k;
  int b_transposed;
  const void* a;
  const void* b;
  void* d;
  void* workspace;  ///< triage_cutlass_gemm_workspace bytes
  void* stream;
};

/// D[m, n] = A * B with A in Blocked-ELL: `a` is [m, width * block] row-major, the blocks of a row side by side;
/// `columns` is [m / block, width] with -1 for none. B is [n, k] and D [n, m], both row-major: column-major k x n and m
/// x n.
struct TriageCutlassEll {
  std::int64_t m, n, k, width;
  int block;
  const void* a;
  const int* columns;
  const void* b;
  void* d;
  void* stream;
};

using triage_cutlass_version_function = const char*();
/// nullptr, or why it did not run. `hopper`: the TMA and wgmma kernel instead of the Ampere one.
using triage_cutlass_gemm_function = const char*(const TriageCutlassGemm*, int hopper);
using triage_cutlass_workspace_function = std::size_t(const TriageCutlassGemm*, int hopper);
using triage_cutlass_ell_function = const char*(const TriageCutlassEll*);
}
