// The sm80 family's rows: who can run what, on which schedule, with how much workspace.
#include <algorithm>
#include <array>
#include <limits>
#include <string>

#include "sparse_gemm/sm80_kernels.h"
#include "sparse_gemm/sm80_tuning.h"

#ifndef TRIAGE_HAS_SM80
#define TRIAGE_HAS_SM80 0
#endif

namespace triage {

namespace sm80 {

SddmmSplit sddmm_split(const SparseGemmProblem& problem, const Device& device) {
  const SddmmShape& shape = sddmm_shape(problem.block);
  const std::int64_t block_rows = (problem.rows + problem.block - 1) / problem.block;
  const std::int64_t slabs = std::max<std::int64_t>(1, (problem.dense + kSddmmSlab - 1) / kSddmmSlab);
  SddmmSplit best{};
  best.units = static_cast<std::int32_t>(problem.nnz_blocks / shape.unit_blocks + block_rows);
  // Costs in the time of one slab of one unit, about half a microsecond. A unit's start and end cost some slabs;
  // partial sums are written and read once more, 1.2 MB in that time. On average half of the rows end in an extra,
  // shorter unit.
  const double units = static_cast<double>(problem.nnz_blocks) / shape.unit_blocks + 0.5 * block_rows;
  const double partial_bytes = 8.0 * problem.nnz_blocks * problem.block * problem.block;
  double best_cost = std::numeric_limits<double>::max();
  for (std::int64_t splits = 1; splits <= std::min<std::int64_t>(16, (slabs + 15) / 16); splits++) {
    const std::int64_t slabs_per_split = (slabs + splits - 1) / splits;
    const double waves = std::max(1.0, (units * splits + device.multiprocessors - 1) / device.multiprocessors);
    const double cost =
        static_cast<int>(waves) * (slabs_per_split + 6.0) + (splits > 1 ? 10 + splits * partial_bytes / 1.2e6 : 0);
    if (cost < best_cost) {
      best_cost = cost;
      best.splits = static_cast<std::int32_t>((slabs + slabs_per_split - 1) / slabs_per_split);
      best.slabs_per_split = static_cast<std::int32_t>(slabs_per_split);
    }
  }
  return best;
}

namespace {

Support can_run(const SparseGemmProblem& problem, const Device& device) {
  if (device.is_cpu()) return {false, "it needs a CUDA device"};
  if (device.compute_capability < 80) {
    return {false, "it needs compute capability 8.0 or higher, " + device.name + " has " +
                       std::to_string(device.compute_capability / 10) + "." +
                       std::to_string(device.compute_capability % 10)};
  }
  if (problem.dtype != DType::float16 && problem.dtype != DType::bfloat16) {
    return {false, "it takes float16 and bfloat16"};
  }
  if (problem.values_layout != ValuesLayout::canonical) return {false, "it reads canonical values only"};
  if (device.shared_memory_per_block < 99 * 1024) {
    return {false, "it needs 99 KB of shared memory per block, " + device.name + " offers " +
                       std::to_string(device.shared_memory_per_block / 1024)};
  }
  return {};
}

template <int kBlock>
std::optional<ScheduleSpec> gemm_schedule(const PatternShape&, const Device& device) {
  constexpr GemmShape shape = gemm_shape(kBlock);
  const GemmStage& stage = gemm_stage(kBlock, device.shared_memory_per_block);
  return ScheduleSpec{shape.rows_per_group(), shape.parts(), stage.columns, stage.blocks};
}

template <int kBlock>
std::size_t gemm_workspace_bytes(const SparseGemmProblem& problem, const Device& device, const ScheduleView& schedule) {
  if (is_narrow(problem, device)) return 0;
  constexpr GemmShape shape = gemm_shape(kBlock);
  const std::int64_t n_tiles = (problem.dense + shape.tile_n() - 1) / shape.tile_n();
  return gemm_workspace(schedule.item_capacity * n_tiles,
                        std::int64_t{schedule.split_slots} * shape.tile_m() * n_tiles * shape.tile_n(), device)
      .bytes;
}

std::optional<ScheduleSpec> no_schedule(const PatternShape&, const Device&) { return std::nullopt; }

std::size_t sddmm_workspace(const SparseGemmProblem& problem, const Device& device, const ScheduleView&) {
  const SddmmSplit split = sddmm_split(problem, device);
  if (split.splits < 2) return 0;
  return static_cast<std::size_t>(split.splits) * problem.nnz_blocks * problem.block * problem.block * sizeof(float);
}

#if TRIAGE_HAS_SM80
#define TRIAGE_SM80_LAUNCH(function) &function
#else
#define TRIAGE_SM80_LAUNCH(function) nullptr
#endif

template <int kBlock>
constexpr SparseGemmKernel gemm_row(Operation operation, const char* name, const char* source) {
  return {name,
          operation,
          Family::sm80,
          kBlock,
          "float16 bfloat16",
          source,
          can_run,
          gemm_schedule<kBlock>,
          gemm_workspace_bytes<kBlock>,
          operation == Operation::spmm ? TRIAGE_SM80_LAUNCH(launch_spmm<kBlock>)
                                       : TRIAGE_SM80_LAUNCH(launch_linear<kBlock>),
          nullptr};
}

template <int kBlock>
constexpr SparseGemmKernel sddmm_row(const char* name, const char* source) {
  return {name,   Operation::sddmm, Family::sm80, kBlock,          "float16 bfloat16",
          source, can_run,          no_schedule,  sddmm_workspace, TRIAGE_SM80_LAUNCH(launch_sddmm<kBlock>),
          nullptr};
}

const std::array kRows = {
    gemm_row<16>(Operation::spmm, "sm80_spmm_b16", "src/sparse_gemm/sm80_spmm_b16.cu"),
    gemm_row<32>(Operation::spmm, "sm80_spmm_b32", "src/sparse_gemm/sm80_spmm_b32.cu"),
    gemm_row<64>(Operation::spmm, "sm80_spmm_b64", "src/sparse_gemm/sm80_spmm_b64.cu"),
    gemm_row<128>(Operation::spmm, "sm80_spmm_b128", "src/sparse_gemm/sm80_spmm_b128.cu"),
    gemm_row<16>(Operation::linear, "sm80_linear_b16", "src/sparse_gemm/sm80_linear_b16.cu"),
    gemm_row<32>(Operation::linear, "sm80_linear_b32", "src/sparse_gemm/sm80_linear_b32.cu"),
    gemm_row<64>(Operation::linear, "sm80_linear_b64", "src/sparse_gemm/sm80_linear_b64.cu"),
    gemm_row<128>(Operation::linear, "sm80_linear_b128", "src/sparse_gemm/sm80_linear_b128.cu"),
    sddmm_row<16>("sm80_sddmm_b16", "src/sparse_gemm/sm80_sddmm_b16.cu"),
    sddmm_row<32>("sm80_sddmm_b32", "src/sparse_gemm/sm80_sddmm_b32.cu"),
    sddmm_row<64>("sm80_sddmm_b64", "src/sparse_gemm/sm80_sddmm_b64.cu"),
    sddmm_row<128>("sm80_sddmm_b128", "src/sparse_gemm/sm80_sddmm_b128.cu"),
};

}  // namespace
}  // namespace sm80

std::span<const SparseGemmKernel> sm80_sparse_gemm_kernels() { return sm80::kRows; }

}  // namespace triage
