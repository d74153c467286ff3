// The bits of an AttentionPattern in GPU memory. A mask of 32 heads x 256 x 256 blocks is 2 MB of bytes and 1 MB of
// bits.
#include <cuda_runtime.h>

#include "device/attention_pattern_build.h"
#include "device/cuda_check.h"

namespace triage {

namespace {

constexpr int kWarp = 32, kThreads = 256;
constexpr unsigned kAllLanes = 0xffffffffu;

unsigned blocks_for(std::int64_t count, int per_block) {
  const std::int64_t blocks = (count + per_block - 1) / per_block;
  return static_cast<unsigned>(blocks < 65536 ? blocks : 65536);  // kernels stride over the rest
}

__device__ std::int64_t load_index(const AttentionIndices& indices, std::int64_t i) {
  return indices.bits == 32 ? static_cast<const std::int32_t*>(indices.data)[i]
                            : static_cast<const std::int64_t*>(indices.data)[i];
}

// Calls visit(i) for i in [0, count) with a whole warp each.
template <typename Visit>
__device__ void for_each_by_warp(std::int64_t count, const Visit& visit) {
  const std::int64_t step = std::int64_t{gridDim.x} * (blockDim.x / kWarp);
  const std::int64_t first = std::int64_t{blockIdx.x} * (blockDim.x / kWarp) + threadIdx.x / kWarp;
  for (std::int64_t i = first; i < count; i += step) visit(i);
}

__device__ void add_column(const AttentionByteMask& mask, std::int64_t row, std::int64_t column, std::uint8_t value) {
  if (column >= 0 && column < mask.cols) mask.data[row * mask.cols + column] = value;
}

__global__ void __launch_bounds__(kThreads)
    lists_kernel(AttentionIndices columns, std::int64_t width, AttentionIndices counts, std::uint8_t value,
                 AttentionByteMask mask) {
  for_each_by_warp(mask.masks * mask.rows, [&](std::int64_t row) {
    std::int64_t count = counts.data == nullptr ? width : load_index(counts, row);
    if (count > width) count = width;
    for (std::int64_t i = threadIdx.x % kWarp; i < count; i += kWarp) {
      add_column(mask, row, load_index(columns, row * width + i), value);
    }
  });
}

__global__ void __launch_bounds__(kThreads)
    rows_kernel(AttentionIndices pointers, AttentionIndices columns, std::int64_t entries, std::uint8_t value,
                AttentionByteMask mask) {
  for_each_by_warp(mask.masks * mask.rows, [&](std::int64_t row) {
    const std::int64_t pointer = row / mask.rows * (mask.rows + 1) + row % mask.rows;
    const std::int64_t begin = load_index(pointers, pointer), end = load_index(pointers, pointer + 1);
    for (std::int64_t i = (begin < 0 ? 0 : begin) + threadIdx.x % kWarp; i < end && i < entries; i += kWarp) {
      add_column(mask, row, load_index(columns, i), value);
    }
  });
}

// A warp a row of either direction: a lane looks at one block, a ballot makes a word.
__global__ void __launch_bounds__(kThreads) bits_kernel(const BitsPlan plan) {
  const AttentionByteMask& mask = plan.mask;
  const std::int64_t query_rows = mask.masks * plan.by_query.rows, key_rows = mask.masks * plan.by_key.rows;
  const int lane = threadIdx.x % kWarp;
  for_each_by_warp(query_rows + key_rows, [&](std::int64_t i) {
    const bool by_query = i < query_rows;
    const BlockBitsArrays& bits = by_query ? plan.by_query : plan.by_key;
    const std::int64_t row = by_query ? i : i - query_rows, m = row / bits.rows;
    const int r = static_cast<int>(row - m * bits.rows);
    const int columns = by_query ? plan.by_key.rows : plan.by_query.rows;
    std::int32_t count = 0;
    for (int w = 0; w < bits.row_words; w++) {
      const int c = w * 32 + lane;
      std::uint8_t value = 0;
      if (c < columns) {
        const int q = (by_query ? r : c) / plan.factor_q, k = (by_query ? c : r) / plan.factor_k;
        value = mask.data[(m * mask.rows + q) * mask.cols + k];
      }
      const std::uint32_t listed = __ballot_sync(kAllLanes, value != 0), full = __ballot_sync(kAllLanes, value == 2);
      if (lane == 0) {
        bits.listed[row * bits.row_words + w] = listed;
        bits.full[row * bits.row_words + w] = full;
      }
      count += __popc(listed);
    }
    if (lane == 0) bits.counts[row] = count;
  });
}

__global__ void __launch_bounds__(kThreads) element_index_kernel(const ElementsPlan plan) {
  const std::int64_t count = plan.masks * plan.rows64 * plan.cols64;
  const int parts = plan.factor_q * plan.factor_k;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; i < count;
       i += std::int64_t{gridDim.x} * kThreads) {
    const int k = static_cast<int>(i % plan.cols64);
    const std::int64_t row = i / plan.cols64, m = row / plan.rows64;
    const int q = static_cast<int>(row - m * plan.rows64);
    const std::int32_t entry = plan.index[(m * plan.rows + q / plan.factor_q) * plan.cols + k / plan.factor_k];
    plan.index64[i] =
        entry < 0 || entry >= plan.entries ? -1 : entry * parts + q % plan.factor_q * plan.factor_k + k % plan.factor_k;
  }
}

// A warp a row of 64 elements, in both directions.
__global__ void __launch_bounds__(kThreads) element_bits_kernel(const ElementsPlan plan) {
  const int parts = plan.factor_q * plan.factor_k, lane = threadIdx.x % kWarp;
  const std::int64_t width = plan.factor_k * 64;
  for_each_by_warp(plan.entries * parts * 128, [&](std::int64_t i) {
    const std::int64_t entry = i / 128, part = entry % parts;
    const int r = static_cast<int>(i % 64);
    const bool by_query = i % 128 < 64;
    const std::uint8_t* const from = plan.elements + entry / parts * plan.factor_q * 64 * width +
                                     part / plan.factor_k * 64 * width + part % plan.factor_k * 64;
    const std::int64_t step = by_query ? 1 : width, start = by_query ? r * width : r;
    const std::uint32_t low = __ballot_sync(kAllLanes, from[start + lane * step] != 0);
    const std::uint32_t high = __ballot_sync(kAllLanes, from[start + (lane + 32) * step] != 0);
    if (lane == 0) (by_query ? plan.by_query : plan.by_key)[entry * 64 + r] = std::uint64_t{high} << 32 | low;
  });
}

cudaStream_t cuda_stream(void* stream) { return static_cast<cudaStream_t>(stream); }

}  // namespace

void clear_mask_cuda(const AttentionByteMask& mask, void* stream) {
  if (mask.count() == 0) return;
  cuda_check(cudaMemsetAsync(mask.data, 0, static_cast<std::size_t>(mask.count()), cuda_stream(stream)),
             "cudaMemsetAsync of an attention pattern");
}

void add_lists_cuda(const AttentionIndices& columns, std::int64_t width, const AttentionIndices& counts,
                    std::uint8_t value, const AttentionByteMask& mask, void* stream) {
  if (mask.count() == 0 || width == 0) return;
  lists_kernel<<<blocks_for(mask.masks * mask.rows, kThreads / kWarp), kThreads, 0, cuda_stream(stream)>>>(
      columns, width, counts, value, mask);
  cuda_check(cudaGetLastError(), "launch of an attention pattern's lists");
}

void add_rows_cuda(const AttentionIndices& pointers, const AttentionIndices& columns, std::int64_t entries,
                   std::uint8_t value, const AttentionByteMask& mask, void* stream) {
  if (mask.count() == 0 || entries == 0) return;
  rows_kernel<<<blocks_for(mask.masks * mask.rows, kThreads / kWarp), kThreads, 0, cuda_stream(stream)>>>(
      pointers, columns, entries, value, mask);
  cuda_check(cudaGetLastError(), "launch of an attention pattern's rows");
}

void build_bits_cuda(const BitsPlan& plan, void* stream) {
  const std::int64_t rows = plan.mask.masks * (plan.by_query.rows + plan.by_key.rows);
  if (rows == 0) return;
  bits_kernel<<<blocks_for(rows, kThreads / kWarp), kThreads, 0, cuda_stream(stream)>>>(plan);
  cuda_check(cudaGetLastError(), "launch of an attention pattern's bits");
}

void build_elements_cuda(const ElementsPlan& plan, void* stream) {
  const std::int64_t blocks = plan.masks * plan.rows64 * plan.cols64;
  if (blocks == 0) return;
  element_index_kernel<<<blocks_for(blocks, kThreads), kThreads, 0, cuda_stream(stream)>>>(plan);
  cuda_check(cudaGetLastError(), "launch of an attention pattern's element index");
  const std::int64_t rows = plan.entries * plan.factor_q * plan.factor_k * 128;
  if (rows == 0) return;
  element_bits_kernel<<<blocks_for(rows, kThreads / kWarp), kThreads, 0, cuda_stream(stream)>>>(plan);
  cuda_check(cudaGetLastError(), "launch of an attention pattern's elements");
}

}  // namespace triage
