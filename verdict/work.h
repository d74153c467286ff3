// Arithmetic and traffic of a problem, and the roof that they set.
#pragma once

#include <string>

#include "verdict/receipt.h"

namespace triage::verdict {

int dtype_bytes(const std::string& dtype);

/// Floating-point operations on nonzero blocks alone; attention: on the pairs that are attended (backward: 2.5 times the
/// forward, as is usual).
double flops(const std::string& op, const ReceiptShape& shape);
/// Operations of the dense product of the same size.
double dense_flops(const ReceiptShape& shape);
/// Bytes that have to move at least: each operand and the result once.
double compulsory_bytes(const std::string& op, const ReceiptShape& shape, const std::string& dtype);
/// flops / compulsory_bytes.
double intensity(const std::string& op, const ReceiptShape& shape, const std::string& dtype);

struct Roof {
  double tflops = 0;  ///< 0: the machine's limits were not measured
  std::string limit;  ///< "compute", "mma.sync" or "memory"
};

/// The most that a kernel of `family` could reach on this problem: what the machine multiplies (for sm80 kernels through
/// mma.sync) or what its memory delivers, whichever is less.
Roof roof_of(const std::string& op, const ReceiptShape& shape, const std::string& dtype, const std::string& family,
             const ReceiptDevice& device);

double tflops(double operations, double milliseconds);

}  // namespace triage::verdict
