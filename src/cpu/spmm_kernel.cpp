// spmm and linear on the CPU.
//
//   spmm:   out[row, n]   = alpha * sum_k S[row, k] * in0[k, n] + beta * out[row, n]
//   linear: out[n, row]   = activation(sum_k S[row, k] * in0[n, k] + bias[row])
//
// Both are S times a dense operand with elements (k, n); linear only holds it, and its result, transposed. The columns n
// are cut into panels a few vectors wide. First the panels are packed: contiguous, in the precision of the sums, zeros
// beyond the last column. (Packing costs two moves per element, a panel row of a block then serves `block` products of
// every block in its block column.) Then every thread takes a range of panels that fits its L2 cache and a range of block
// rows, and computes tiles of block x panel columns: registers hold 8 rows of it while the row's blocks pass by.
//
// Rows of unequal length: row ranges hold equally many blocks. A tile belongs to one thread and its sums run in the order
// of k, so results do not depend on the number of threads.
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "cpu/epilogue.h"
#include "cpu/kernels.h"
#include "cpu/pack.h"
#include "cpu/parallel.h"
#include "cpu/simd.h"
#include "cpu/workspace.h"

namespace triage::cpu::TRIAGE_ISA {
namespace {

constexpr int kMaxBlock = 128;
// Steps of k between two visits to the sums in memory: what a panel needs for them (24 KB) stays in the L1 cache.
constexpr int kGroupDepth = 128;
constexpr int kMaxSegments = kGroupDepth / 16;
// Packed columns at a time, so that the workspace stays small beside the operands.
constexpr std::int64_t kPackedBytes = 16 << 20;
// Panels of one task: they are read once per block row.
constexpr std::int64_t kL2Bytes = 768 << 10;
// Products for which it is not worth waking another thread.
constexpr double kProductsPerThread = 1 << 17;

template <class T>
std::int64_t columns_per_chunk(std::int64_t inner, std::int64_t columns) {
  const std::int64_t panel_bytes = inner * kPanelColumns<T> * static_cast<std::int64_t>(sizeof(T));
  const std::int64_t panels = panel_bytes == 0 ? 1 : kPackedBytes / panel_bytes;
  const std::int64_t chunk = (panels < 1 ? 1 : panels) * kPanelColumns<T>;
  const std::int64_t all = Panels<T>{columns}.padded();
  return chunk < all ? chunk : all;
}

template <class Storage>
WorkspacePlan plan_workspace(const SparseGemmProblem& problem) {
  using T = Compute<Storage>;
  WorkspacePlan plan;
  plan.used_columns = round_up(static_cast<std::size_t>(ceil_div(problem.cols, problem.block)));
  plan.packed = round_up(static_cast<std::size_t>(problem.cols * columns_per_chunk<T>(problem.cols, problem.dense)) *
                         sizeof(T));
  plan.scratch = round_up(sizeof(T) * static_cast<std::size_t>(2 * kMaxBlock * kPanelColumns<T> + kGroupDepth * kMaxBlock));
  return plan;
}

/// One call's arguments, typed.
template <class Storage>
struct Product {
  using T = Compute<Storage>;

  const SparseGemmCall& call;
  bool transposed;  // linear
  DenseOperand<Storage> dense;
  const T* packed = nullptr;

  explicit Product(const SparseGemmCall& c)
      : call(c),
        transposed(c.problem.operation == Operation::linear),
        dense{static_cast<const Storage*>(c.in0.data), c.in0.stride, transposed, c.problem.dense} {}

  /// The row's blocks as segments of at most kGroupDepth steps, added to `tile` [block][width].
  void multiply(std::int32_t block_row, const T* panel, int width, int rows, T* tile, T* values_scratch) const {
    const PatternView& pattern = call.pattern;
    const int block = pattern.block;
    const int per_group = kGroupDepth / block;
    const std::int64_t block_size = static_cast<std::int64_t>(block) * block;
    const std::int32_t end = pattern.crow[block_row + 1];
    bool accumulate = false;
    for (std::int32_t p = pattern.crow[block_row]; p < end; p += per_group) {
      Segment<T> segments[kMaxSegments];
      const int count = end - p < per_group ? end - p : per_group;
      const Storage* values = static_cast<const Storage*>(call.values) + p * block_size;
      const T* left;
      if constexpr (std::is_same_v<Storage, T>) {
        left = values;
      } else {
        widen_row(values, count * block_size, values_scratch);
        left = values_scratch;
      }
      for (int s = 0; s < count; ++s) {
        const std::int64_t k = static_cast<std::int64_t>(pattern.col[p + s]) * block;
        const std::int64_t present = pattern.cols - k;  // beyond it lies padding, whatever its value
        segments[s] = {left + s * block_size, k, static_cast<int>(present < block ? present : block)};
      }
      multiply_tile<T, LeftOrder::k_contiguous>(segments, count, rows, block, panel, width, tile, accumulate);
      accumulate = true;
    }
    if (!accumulate)
      for (int i = 0; i < rows * width; ++i) tile[i] = T{};
  }

  void write_rows(std::int64_t row, int rows, std::int64_t n, int columns, int width, T* tile) const {
    for (int r = 0; r < rows; ++r)
      scale_row(tile + r * width, columns, call.alpha, call.beta,
                static_cast<Storage*>(call.out.data) + (row + r) * call.out.stride + n);
  }

  void write_transposed(std::int64_t row, int rows, std::int64_t n, int columns, int width, const T* tile,
                        T* turned) const {
    T bias[kMaxBlock] = {};
    if (call.bias != nullptr) widen_row(static_cast<const Storage*>(call.bias) + row, rows, bias);
    for (int r = 0; r < rows; ++r)
      for (int i = 0; i < columns; ++i) turned[i * kMaxBlock + r] = tile[r * width + i];
    for (int i = 0; i < columns; ++i) {
      T* sums = turned + i * kMaxBlock;
      for (int r = 0; r < rows; ++r) sums[r] += bias[r];
      activate_row(call.activation, rows, sums);
      narrow_row<Storage>(sums, rows, static_cast<Storage*>(call.out.data) + (n + i) * call.out.stride + row);
    }
  }

  /// One tile: all of a block row's sums for one panel, and their way into the output.
  void tile(std::int32_t block_row, std::int64_t n, int width, const T* panel, T* scratch) const {
    T* sums = scratch;
    T* turned = sums + kMaxBlock * kPanelColumns<T>;
    T* values_scratch = turned + kMaxBlock * kPanelColumns<T>;
    const std::int64_t row = static_cast<std::int64_t>(block_row) * call.pattern.block;
    const std::int64_t rows_left = call.pattern.rows - row;
    const int rows = static_cast<int>(rows_left < call.pattern.block ? rows_left : call.pattern.block);
    const std::int64_t columns_left = dense.columns - n;
    const int columns = static_cast<int>(columns_left < width ? columns_left : width);
    multiply(block_row, panel, width, rows, sums, values_scratch);
    if (transposed) {
      write_transposed(row, rows, n, columns, width, sums, turned);
    } else {
      write_rows(row, rows, n, columns, width, sums);
    }
  }
};

template <class Storage>
void run_typed(const SparseGemmCall& call, int threads) {
  using T = Compute<Storage>;
  const PatternView& pattern = call.pattern;
  const WorkspacePlan plan = plan_workspace<Storage>(call.problem);
  const double products = static_cast<double>(pattern.nnz_blocks) * pattern.block * pattern.block * call.problem.dense;
  if (products < kProductsPerThread * threads) threads = 1 + static_cast<int>(products / kProductsPerThread);
  threads = plan.threads_within(call.workspace.bytes, threads);

  void* workspace = call.workspace.data;
  std::uint8_t* used = plan.used_columns_in(workspace);
  T* packed = plan.packed_in<T>(workspace);
  mark_used_columns(pattern.col, pattern.nnz_blocks, pattern.block_cols, used);

  const Product<Storage> product(call);
  const std::int64_t inner = pattern.cols;
  const std::int64_t chunk = columns_per_chunk<T>(inner, call.problem.dense);
  for (std::int64_t n_begin = 0; n_begin < call.problem.dense; n_begin += chunk) {
    const std::int64_t left = call.problem.dense - n_begin;
    const Panels<T> panels{left < chunk ? left : chunk};

    // Tasks of packing: one block column of one panel, a few columns at a time.
    constexpr std::int32_t kColumnsPerTask = 8;
    const std::int64_t column_tasks = ceil_div(pattern.block_cols, kColumnsPerTask);
    parallel_for(threads, column_tasks, [&](std::int64_t task, int) {
      for (std::int64_t panel = 0; panel < panels.count(); ++panel) {
        const int width = panels.width(panel);
        for (std::int64_t j = task * kColumnsPerTask; j < (task + 1) * kColumnsPerTask && j < pattern.block_cols; ++j) {
          if (!used[j]) continue;
          const std::int64_t k = j * pattern.block;
          const std::int64_t k_end = k + pattern.block < inner ? k + pattern.block : inner;
          pack_panel(product.dense, k, k_end, n_begin + panels.begin(panel), width,
                     packed + panels.begin(panel) * inner + k * width);
        }
      }
    });

    const std::int64_t panel_bytes = inner * kPanelColumns<T> * static_cast<std::int64_t>(sizeof(T));
    const std::int64_t in_l2 = panel_bytes == 0 ? 1 : kL2Bytes / panel_bytes;
    const std::int64_t panels_per_task = in_l2 < 1 ? 1 : in_l2;
    const std::int64_t ranges = ceil_div(panels.count(), panels_per_task);
    const std::int64_t parts_wanted = ceil_div(16 * threads, ranges);
    const std::int64_t parts = parts_wanted < pattern.block_rows ? parts_wanted : pattern.block_rows;
    parallel_for(threads, ranges * parts, [&](std::int64_t task, int thread) {
      const std::int64_t part = task % parts;
      const std::int64_t first_panel = task / parts * panels_per_task;
      const std::int32_t row_begin = first_row_of_part(pattern.crow, pattern.block_rows, part, parts);
      const std::int32_t row_end = first_row_of_part(pattern.crow, pattern.block_rows, part + 1, parts);
      T* scratch = plan.scratch_in<T>(workspace, thread);
      for (std::int32_t row = row_begin; row < row_end; ++row)
        for (std::int64_t panel = first_panel; panel < first_panel + panels_per_task && panel < panels.count(); ++panel)
          product.tile(row, n_begin + panels.begin(panel), panels.width(panel), packed + panels.begin(panel) * inner,
                       scratch);
    });
  }
}

std::size_t workspace_bytes(const SparseGemmProblem& problem, int threads) {
  switch (problem.dtype) {
    case DType::float16: return plan_workspace<Half>(problem).bytes(threads);
    case DType::bfloat16: return plan_workspace<BFloat16>(problem).bytes(threads);
    case DType::float32: return plan_workspace<float>(problem).bytes(threads);
    case DType::float64: return plan_workspace<double>(problem).bytes(threads);
  }
  return 0;
}

void run(const SparseGemmCall& call, int threads) {
  switch (call.problem.dtype) {
    case DType::float16: return run_typed<Half>(call, threads);
    case DType::bfloat16: return run_typed<BFloat16>(call, threads);
    case DType::float32: return run_typed<float>(call, threads);
    case DType::float64: return run_typed<double>(call, threads);
  }
}

}  // namespace

const CpuKernel spmm = {workspace_bytes, run};

}  // namespace triage::cpu::TRIAGE_ISA
