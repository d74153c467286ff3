// The support matrix: every kernel by every architecture, from receipts and source hashes alone.
#pragma once

#include <string>
#include <vector>

#include "verdict/receipt.h"

namespace triage::verdict {

/// A column: an architecture, or the CPU.
struct MatrixTarget {
  const char* title;               ///< "80", ..., "cpu"
  const char* example;             ///< "A100", ...
  const char* compute_capability;  ///< as receipts name it: "8.0", ..., "cpu"
  int number;                      ///< 80, ...; 0 for the CPU
  int shared_memory_kb;            ///< what a block may use there
};
const std::vector<MatrixTarget>& matrix_targets();

/// What the registry says of a kernel; `refusals[i]` is why target i cannot run it, empty if it can.
struct MatrixKernel {
  std::string name, op, family, source_sha256;
  std::vector<std::string> refusals;
};

/// The registry's rows, judged for devices that need not be here.
std::vector<MatrixKernel> registry_matrix_kernels();

enum class CellState { validated, stale, portable, compiles, unsupported, failed };

struct MatrixCell {
  CellState state = CellState::unsupported;
  double tflops = 0;    ///< validated: of the fastest case
  std::string detail;   ///< portable: where it was correct; unsupported: the reason; failed: the sentence
  std::string text() const;  ///< "VALIDATED 537 TF/s", "PORTABLE (90)", ...
};

struct SupportMatrix {
  std::vector<MatrixKernel> kernels;
  std::vector<std::vector<MatrixCell>> cells;  ///< [kernel][target]
};

SupportMatrix make_matrix(std::vector<MatrixKernel> kernels, const std::vector<Receipt>& receipts);

/// The table, its legend, and a sentence for each failure and each kind of refusal. What README holds.
std::string matrix_markdown(const SupportMatrix& matrix);
/// The same for a terminal.
std::string matrix_text(const SupportMatrix& matrix, bool colour);
Json matrix_json(const SupportMatrix& matrix);

}  // namespace triage::verdict
