#include "verdict/work.h"

#include <algorithm>
#include <stdexcept>

namespace triage::verdict {

int dtype_bytes(const std::string& dtype) {
  if (dtype == "float16" || dtype == "bfloat16") return 2;
  if (dtype == "float32") return 4;
  if (dtype == "float64") return 8;
  throw std::runtime_error("dtype '" + dtype + "' is not known");
}

double flops(const std::string& op, const ReceiptShape& shape) {
  if (shape.attention) {
    const bench::AttentionShape& a = *shape.attention;
    const double forward = 2 * a.attended_pairs() * static_cast<double>(a.heads) * (a.head_dim + a.head_dim_v);
    return op == "attention.backward" ? 2.5 * forward : forward;  // five products in the place of two
  }
  const double stored = static_cast<double>(shape.nnz_blocks) * shape.block * shape.block;
  return 2 * stored * static_cast<double>(op == "sparse_gemm.sddmm" ? shape.k : shape.n);
}

double dense_flops(const ReceiptShape& shape) {
  return 2 * static_cast<double>(shape.m) * static_cast<double>(shape.n) * static_cast<double>(shape.k);
}

double compulsory_bytes(const std::string& op, const ReceiptShape& shape, const std::string& dtype) {
  if (shape.attention) {
    const bench::AttentionShape& a = *shape.attention;
    const double rows = static_cast<double>(a.total_q() * a.heads + a.total_k() * a.kv_heads);
    const double forward = rows * (a.head_dim + a.head_dim_v) * dtype_bytes(dtype);
    return op == "attention.backward" ? 2 * forward : forward;  // the gradients are as large as what they are of
  }
  const auto m = static_cast<double>(shape.m), n = static_cast<double>(shape.n), k = static_cast<double>(shape.k);
  const double stored = static_cast<double>(shape.nnz_blocks) * shape.block * shape.block;
  const double elements = op == "sparse_gemm.sddmm" ? m * k + n * k + stored : stored + k * n + m * n;
  return elements * dtype_bytes(dtype);
}

double intensity(const std::string& op, const ReceiptShape& shape, const std::string& dtype) {
  const double bytes = compulsory_bytes(op, shape, dtype);
  return bytes > 0 ? flops(op, shape) / bytes : 0;
}

Roof roof_of(const std::string& op, const ReceiptShape& shape, const std::string& dtype, const std::string& family,
             const ReceiptDevice& device) {
  Roof roof;
  if (family == "cpu") {
    // fp16 and bf16 are converted and multiplied as fp32.
    roof = {device.fp32_peak_tflops * (dtype == "float64" ? 0.5 : 1), "compute"};
  } else {
    roof = {device.dense_fp16_tflops, "compute"};
    const bool slower = roof.tflops == 0 || device.mma_sync_tflops < roof.tflops;
    if (family == "sm80" && device.mma_sync_tflops > 0 && slower) roof = {device.mma_sync_tflops, "mma.sync"};
  }
  const double memory = intensity(op, shape, dtype) * device.memory_gbytes_per_s * 1e-3;
  if (memory > 0 && (roof.tflops == 0 || memory < roof.tflops)) roof = {memory, "memory"};
  if (roof.tflops == 0) roof.limit.clear();
  return roof;
}

double tflops(double operations, double milliseconds) {
  return milliseconds > 0 ? operations / milliseconds * 1e-9 : 0;
}

}  // namespace triage::verdict
