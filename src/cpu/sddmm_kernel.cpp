// sddmm on the CPU.
//
//   values[p][r, c] = alpha * sum_k L[i * block + r, k] * R[j * block + c, k] + beta * values[p][r, c]
//
// for block p of the pattern, in block row i and block column j; L and R are in0 and in1, or their transposes. R is packed
// first, block column by block column, into panels a few vectors wide, in the precision of the sums, zeros beyond the last
// row. Then every thread takes a range of block rows, as many blocks of a row at a time as its scratch memory holds, and
// walks through k in steps: L's part of the step is packed once for all of these blocks. Block row ranges hold equally many
// blocks. A block belongs to one thread and its sums run in the order of k, so results do not depend on the number of
// threads.
#include <cstddef>
#include <cstdint>

#include "cpu/epilogue.h"
#include "cpu/kernels.h"
#include "cpu/pack.h"
#include "cpu/parallel.h"
#include "cpu/simd.h"
#include "cpu/workspace.h"

namespace triage::cpu::TRIAGE_ISA {
namespace {

constexpr int kMaxBlock = 128;
// Steps of k for which L is packed: long enough to make the sums' visit to memory cheap, short enough for the L1 cache.
constexpr int kDepth = 128;
// Sums of the blocks of a row that share a packed L: half of a small L2 cache.
constexpr int kSumsBytes = 128 << 10;
// Packed R at a time, so that the workspace stays small beside the operands.
constexpr std::int64_t kPackedBytes = 64 << 20;
constexpr double kProductsPerThread = 1 << 17;

/// Floats or doubles of one block's sums, with the padding of its last panel.
template <class T>
std::int64_t sums_of_block(int block) {
  return block * Panels<T>{block}.padded();
}

template <class T>
std::int64_t packed_of_column(int block, std::int64_t depth) {
  return depth * Panels<T>{block}.padded();
}

template <class T>
std::int64_t columns_per_chunk(const SparseGemmProblem& problem) {
  const std::int64_t bytes = packed_of_column<T>(problem.block, problem.dense) * static_cast<std::int64_t>(sizeof(T));
  const std::int64_t all = ceil_div(problem.cols, problem.block);
  const std::int64_t fit = bytes == 0 ? all : kPackedBytes / bytes;
  return fit < 1 ? 1 : fit < all ? fit : all;
}

template <class T>
int blocks_per_batch(int block) {
  const std::int64_t bytes = sums_of_block<T>(block) * static_cast<std::int64_t>(sizeof(T));
  return bytes >= kSumsBytes ? 1 : static_cast<int>(kSumsBytes / bytes);
}

template <class Storage>
WorkspacePlan plan_workspace(const SparseGemmProblem& problem) {
  using T = Compute<Storage>;
  WorkspacePlan plan;
  plan.used_columns = round_up(static_cast<std::size_t>(ceil_div(problem.cols, problem.block)));
  plan.packed = round_up(sizeof(T) * static_cast<std::size_t>(columns_per_chunk<T>(problem) *
                                                              packed_of_column<T>(problem.block, problem.dense)));
  plan.scratch = round_up(sizeof(T) * static_cast<std::size_t>(kDepth * problem.block + blocks_per_batch<T>(problem.block) *
                                                                                            sums_of_block<T>(problem.block)));
  return plan;
}

template <class Storage>
struct Product {
  using T = Compute<Storage>;

  const SparseGemmCall& call;
  std::int64_t depth;
  DenseOperand<Storage> left, right;

  explicit Product(const SparseGemmCall& c)
      : call(c),
        depth(c.problem.dense),
        left{static_cast<const Storage*>(c.in0.data), c.in0.stride, c.problem.sddmm_layout == SddmmLayout::x_yt,
             c.pattern.rows},
        right{static_cast<const Storage*>(c.in1.data), c.in1.stride, c.problem.sddmm_layout == SddmmLayout::x_yt,
              c.pattern.cols} {}

  /// Writes one block; its padding becomes 0 whatever it was.
  void write(std::int32_t block_row, std::int32_t p, T* sums) const {
    const PatternView& pattern = call.pattern;
    const int block = pattern.block;
    const std::int64_t rows_left = pattern.rows - static_cast<std::int64_t>(block_row) * block;
    const std::int64_t columns_left = pattern.cols - static_cast<std::int64_t>(pattern.col[p]) * block;
    Storage* out = static_cast<Storage*>(call.values) + static_cast<std::int64_t>(p) * block * block;
    const Panels<T> panels{block};
    for (std::int64_t panel = 0; panel < panels.count(); ++panel) {
      const int width = panels.width(panel);
      const int c_begin = static_cast<int>(panels.begin(panel));
      const int columns = width < block - c_begin ? width : block - c_begin;
      for (int r = 0; r < block; ++r, sums += width) {
        const std::int64_t left_here = r < rows_left ? columns_left - c_begin : 0;
        const int present = static_cast<int>(left_here < 0 ? 0 : left_here < columns ? left_here : columns);
        Storage* row = out + r * block + c_begin;
        scale_row(sums, present, call.alpha, call.beta, row);
        for (int c = present; c < columns; ++c) narrow(T{}, row + c);
      }
    }
  }

  /// Blocks [p_begin, p_end) of a block row; `packed` holds block columns from `first_column` on.
  void batch(std::int32_t block_row, std::int32_t p_begin, std::int32_t p_end, const T* packed,
             std::int64_t first_column, T* scratch) const {
    const PatternView& pattern = call.pattern;
    const int block = pattern.block;
    const Panels<T> panels{block};
    T* packed_left = scratch;
    T* sums = packed_left + kDepth * block;
    const std::int64_t sums_size = sums_of_block<T>(block);
    if (depth == 0)
      for (std::int64_t i = 0; i < (p_end - p_begin) * sums_size; ++i) sums[i] = T{};
    for (std::int64_t k = 0; k < depth; k += kDepth) {
      const std::int64_t k_end = k + kDepth < depth ? k + kDepth : depth;
      pack_panel(left, k, k_end, static_cast<std::int64_t>(block_row) * block, block, packed_left);
      const Segment<T> segment = {packed_left, k, static_cast<int>(k_end - k)};
      for (std::int32_t p = p_begin; p < p_end; ++p) {
        const T* column = packed + (pattern.col[p] - first_column) * packed_of_column<T>(block, depth);
        T* block_sums = sums + (p - p_begin) * sums_size;
        for (std::int64_t panel = 0; panel < panels.count(); ++panel)
          multiply_tile<T, LeftOrder::rows_contiguous>(&segment, 1, block, block, column + panels.begin(panel) * depth,
                                                       panels.width(panel), block_sums + panels.begin(panel) * block,
                                                       k > 0);
      }
    }
    for (std::int32_t p = p_begin; p < p_end; ++p) write(block_row, p, sums + (p - p_begin) * sums_size);
  }
};

/// First block of a row whose column is not below `column`.
std::int32_t lower_bound(const PatternView& pattern, std::int32_t block_row, std::int64_t column) {
  std::int32_t low = pattern.crow[block_row], high = pattern.crow[block_row + 1];
  while (low < high) {
    const std::int32_t middle = low + (high - low) / 2;
    if (pattern.col[middle] < column) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

template <class Storage>
void run_typed(const SparseGemmCall& call, int threads) {
  using T = Compute<Storage>;
  const PatternView& pattern = call.pattern;
  const int block = pattern.block;
  const WorkspacePlan plan = plan_workspace<Storage>(call.problem);
  const double products = static_cast<double>(pattern.nnz_blocks) * block * block * call.problem.dense;
  if (products < kProductsPerThread * threads) threads = 1 + static_cast<int>(products / kProductsPerThread);
  threads = plan.threads_within(call.workspace.bytes, threads);

  void* workspace = call.workspace.data;
  std::uint8_t* used = plan.used_columns_in(workspace);
  T* packed = plan.packed_in<T>(workspace);
  mark_used_columns(pattern.col, pattern.nnz_blocks, pattern.block_cols, used);

  const Product<Storage> product(call);
  const Panels<T> panels{block};
  const std::int64_t column_size = packed_of_column<T>(block, product.depth);
  const std::int64_t chunk = columns_per_chunk<T>(call.problem);
  for (std::int64_t first = 0; first < pattern.block_cols; first += chunk) {
    const std::int64_t last = first + chunk < pattern.block_cols ? first + chunk : pattern.block_cols;
    parallel_for(threads, last - first, [&](std::int64_t task, int) {
      if (!used[first + task]) return;
      for (std::int64_t panel = 0; panel < panels.count(); ++panel)
        pack_panel(product.right, 0, product.depth, (first + task) * block + panels.begin(panel), panels.width(panel),
                   packed + task * column_size + panels.begin(panel) * product.depth);
    });

    const int per_batch = blocks_per_batch<T>(block);
    const std::int64_t parts = 16 * threads < pattern.block_rows ? 16 * threads : pattern.block_rows;
    parallel_for(threads, parts, [&](std::int64_t part, int thread) {
      T* scratch = plan.scratch_in<T>(workspace, thread);
      const std::int32_t row_end = first_row_of_part(pattern.crow, pattern.block_rows, part + 1, parts);
      for (std::int32_t row = first_row_of_part(pattern.crow, pattern.block_rows, part, parts); row < row_end; ++row) {
        const std::int32_t end = lower_bound(pattern, row, last);
        for (std::int32_t p = lower_bound(pattern, row, first); p < end; p += per_batch)
          product.batch(row, p, end - p < per_batch ? end : p + per_batch, packed, first, scratch);
      }
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

const CpuKernel sddmm = {workspace_bytes, run};

}  // namespace triage::cpu::TRIAGE_ISA
