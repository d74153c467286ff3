// The one table of problems on which the verdict, the profiler scripts and the peers are timed.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace triage::bench {

enum class Machine { gpu, cpu };

/// m, n, k as in receipts: the sparse matrix is m x k and the dense operand has n columns (spmm) or n tokens (linear);
/// for sddmm the pattern is m x n and k is the inner dimension.
struct Shape {
  std::string name;     ///< e.g. "cube", "llama-up-t16"
  std::string op;       ///< "sparse_gemm.spmm", ...
  std::string dtype;    ///< "float16", ...
  std::int64_t m = 0, n = 0, k = 0;
  int block = 0;
  double density = 0;
  std::string pattern;  ///< see bench/patterns.h
  std::string epilogue; ///< linear only: "", "bias", "relu", "gelu", "silu" or "bias+<activation>"
  bool quick = false;   ///< part of --quick

  /// E.g. "cube 8192x8192x8192 b64 d0.22".
  std::string label() const;
};

/// Every problem for a machine, the cube first, then the models' shapes, then patterns that are not random.
std::vector<Shape> shapes(Machine machine);

/// m = n = k of the crossover measurement, and the densities at which it may look, ascending.
std::int64_t crossover_size(Machine machine, bool quick);
const std::vector<double>& crossover_densities();

}  // namespace triage::bench
