// The sm90 family's rows: who can run what, on which schedule, with how much workspace.
#include <array>
#include <cstdint>
#include <string>

#include "sparse_gemm/sm90_kernels.h"
#include "sparse_gemm/sm90_rows.h"
#include "sparse_gemm/sm90_tuning.h"

#ifndef TRIAGE_HAS_SM90
#define TRIAGE_HAS_SM90 0
#endif

namespace triage {

namespace sm90 {

namespace {

// What TMA and the kernels' arithmetic ask of every operation.
Support can_run(const SparseGemmProblem& problem, const Device& device) {
  if (problem.dtype != DType::float16 && problem.dtype != DType::bfloat16)
    return {false, "it takes float16 and bfloat16"};
  if (device.shared_memory_per_block < kSharedMemory) {
    return {false, "it needs " + std::to_string(kSharedMemory / 1024) + " KB of shared memory per block, " +
                       device.name + " offers " + std::to_string(device.shared_memory_per_block / 1024)};
  }
  if (!problem.aligned16)
    return {false, "it needs tensors aligned to 16 bytes and row strides that are multiples of 8"};
  if (problem.nnz_blocks == 0 || problem.cols == 0 || problem.dense == 0) return {false, "it needs at least one block"};
  if (problem.nnz_blocks > INT32_MAX / problem.block) {
    return {false, "it counts rows of values in 32 bits, and there are " + std::to_string(problem.nnz_blocks) +
                       " blocks of " + std::to_string(problem.block)};
  }
  if (problem.dense > INT32_MAX - 4096 || problem.rows > INT32_MAX - 4096 || problem.cols > INT32_MAX - 4096) {
    return {false, "it counts elements of a dimension in 32 bits"};
  }
  return {};
}

Support can_run_product(const SparseGemmProblem& problem, const Device& device) {
  const int rows =
      product_shape(problem.block, problem.operation == Operation::linear, /*thin=*/true).rows;  // the fewest
  const std::int64_t groups = problem.rows / (std::int64_t{rows} * problem.block) + 1;
  if ((2 * groups + 4096) * (problem.dense / product_tokens(problem.block) + 1) > INT32_MAX) {
    return {false, "it counts tiles in 32 bits, and the output has more"};
  }
  if (leaves_to_sm80(problem))
    return {false, "it leaves 17 to 32 columns to the sm80 kernel, which reads the values faster then"};
  const std::int64_t row_length = problem.operation == Operation::spmm ? problem.dense : problem.rows;
  if (!takes_few_columns(problem) && row_length % 8 != 0) {
    return {false, "it writes 16 bytes at once, and a row of the output has " + std::to_string(row_length) +
                       " elements, which is no multiple of 8"};
  }
  return can_run(problem, device);
}

template <bool kLinear>
std::optional<ScheduleSpec> product_spec(const PatternShape& pattern, const Device&) {
  return product_schedule(pattern, kLinear);
}

template <int kBlock>
std::optional<ScheduleSpec> sddmm_spec(const PatternShape&, const Device&) {
  return sddmm_schedule(kBlock);
}

std::size_t product_bytes(const SparseGemmProblem& problem, const Device&, const ScheduleView& schedule) {
  if (takes_few_columns(problem)) return few_columns_workspace(problem);
  return product_workspace(problem, schedule).bytes;
}

std::size_t sddmm_bytes(const SparseGemmProblem&, const Device&, const ScheduleView&) {
  return 256;
}  // the tile counter

#if TRIAGE_HAS_SM90
#define TRIAGE_SM90_CODE(function) &function
#else
#define TRIAGE_SM90_CODE(function) nullptr
#endif

template <int kBlock, bool kLinear>
constexpr SparseGemmKernel product_row(const char* name, const char* source) {
  return {name,
          kLinear ? Operation::linear : Operation::spmm,
          Family::sm90,
          kBlock,
          "float16 bfloat16",
          source,
          can_run_product,
          product_spec<kLinear>,
          product_bytes,
          kLinear ? TRIAGE_SM90_CODE(launch_linear<kBlock>) : TRIAGE_SM90_CODE(launch_spmm<kBlock>),
          TRIAGE_SM90_CODE(prepack)};
}

template <int kBlock>
constexpr SparseGemmKernel sddmm_row(const char* name) {
  return {name,
          Operation::sddmm,
          Family::sm90,
          kBlock,
          "float16 bfloat16",
          "src/sparse_gemm/sm90_sddmm.cu",
          can_run,
          sddmm_spec<kBlock>,
          sddmm_bytes,
          TRIAGE_SM90_CODE(launch_sddmm),
          nullptr};
}

const std::array kRows = {
    product_row<16, false>("sm90_spmm_b16", "src/sparse_gemm/sm90_spmm_b16.cu"),
    product_row<32, false>("sm90_spmm_b32", "src/sparse_gemm/sm90_spmm_b32.cu"),
    product_row<64, false>("sm90_spmm_b64", "src/sparse_gemm/sm90_spmm_b64.cu"),
    product_row<128, false>("sm90_spmm_b128", "src/sparse_gemm/sm90_spmm_b128.cu"),
    product_row<16, true>("sm90_linear_b16", "src/sparse_gemm/sm90_linear_b16.cu"),
    product_row<32, true>("sm90_linear_b32", "src/sparse_gemm/sm90_linear_b32.cu"),
    product_row<64, true>("sm90_linear_b64", "src/sparse_gemm/sm90_linear_b64.cu"),
    product_row<128, true>("sm90_linear_b128", "src/sparse_gemm/sm90_linear_b128.cu"),
    sddmm_row<16>("sm90_sddmm_b16"),
    sddmm_row<32>("sm90_sddmm_b32"),
    sddmm_row<64>("sm90_sddmm_b64"),
    sddmm_row<128>("sm90_sddmm_b128"),
};

}  // namespace
}  // namespace sm90

std::span<const SparseGemmKernel> sm90_sparse_gemm_kernels() { return sm90::kRows; }

}  // namespace triage
