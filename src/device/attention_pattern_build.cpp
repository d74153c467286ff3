// The bits of an AttentionPattern in host memory.
#include "device/attention_pattern_build.h"

#include <cstring>

namespace triage {

namespace {

std::int64_t load_index(const AttentionIndices& indices, std::int64_t i) {
  return indices.bits == 32 ? static_cast<const std::int32_t*>(indices.data)[i]
                            : static_cast<const std::int64_t*>(indices.data)[i];
}

void add_column(const AttentionByteMask& mask, std::int64_t row, std::int64_t column, std::uint8_t value) {
  if (column >= 0 && column < mask.cols) mask.data[row * mask.cols + column] = value;
}

}  // namespace

void clear_mask_cpu(const AttentionByteMask& mask) {
  if (mask.count() > 0) std::memset(mask.data, 0, static_cast<std::size_t>(mask.count()));
}

void add_lists_cpu(const AttentionIndices& columns, std::int64_t width, const AttentionIndices& counts,
                   std::uint8_t value, const AttentionByteMask& mask) {
  for (std::int64_t row = 0; row < mask.masks * mask.rows; row++) {
    std::int64_t count = counts.data == nullptr ? width : load_index(counts, row);
    if (count > width) count = width;
    for (std::int64_t i = 0; i < count; i++) add_column(mask, row, load_index(columns, row * width + i), value);
  }
}

void add_rows_cpu(const AttentionIndices& pointers, const AttentionIndices& columns, std::int64_t entries,
                  std::uint8_t value, const AttentionByteMask& mask) {
  for (std::int64_t row = 0; row < mask.masks * mask.rows; row++) {
    const std::int64_t pointer = row / mask.rows * (mask.rows + 1) + row % mask.rows;
    const std::int64_t begin = load_index(pointers, pointer), end = load_index(pointers, pointer + 1);
    for (std::int64_t i = begin < 0 ? 0 : begin; i < end && i < entries; i++) {
      add_column(mask, row, load_index(columns, i), value);
    }
  }
}

void build_bits_cpu(const BitsPlan& plan) {
  const AttentionByteMask& mask = plan.mask;
  const auto fill = [&](const BlockBitsArrays& bits, bool by_query) {
    const int columns = by_query ? plan.by_key.rows : plan.by_query.rows;
    for (std::int64_t row = 0; row < mask.masks * bits.rows; row++) {
      const std::int64_t m = row / bits.rows, r = row % bits.rows;
      std::uint32_t* const listed = bits.listed + row * bits.row_words;
      std::uint32_t* const full = bits.full + row * bits.row_words;
      for (int w = 0; w < bits.row_words; w++) listed[w] = full[w] = 0;
      std::int32_t count = 0;
      for (int c = 0; c < columns; c++) {
        const std::int64_t q = (by_query ? r : c) / plan.factor_q, k = (by_query ? c : r) / plan.factor_k;
        const std::uint8_t value = mask.data[(m * mask.rows + q) * mask.cols + k];
        if (value == 0) continue;
        listed[c / 32] |= 1u << (c % 32);
        if (value == 2) full[c / 32] |= 1u << (c % 32);
        count++;
      }
      bits.counts[row] = count;
    }
  };
  fill(plan.by_query, true);
  fill(plan.by_key, false);
}

void build_elements_cpu(const ElementsPlan& plan) {
  const int parts = plan.factor_q * plan.factor_k;
  for (std::int64_t m = 0; m < plan.masks; m++) {
    for (int q = 0; q < plan.rows64; q++) {
      for (int k = 0; k < plan.cols64; k++) {
        const std::int32_t entry = plan.index[(m * plan.rows + q / plan.factor_q) * plan.cols + k / plan.factor_k];
        plan.index64[(m * plan.rows64 + q) * plan.cols64 + k] =
            entry < 0 || entry >= plan.entries ? -1
                                               : entry * parts + q % plan.factor_q * plan.factor_k + k % plan.factor_k;
      }
    }
  }
  const std::int64_t width = plan.factor_k * 64;
  for (std::int64_t entry = 0; entry < plan.entries * parts; entry++) {
    const std::int64_t part = entry % parts, q = part / plan.factor_k * 64, k = part % plan.factor_k * 64;
    const std::uint8_t* const from = plan.elements + entry / parts * plan.factor_q * 64 * width + q * width + k;
    std::uint64_t* const by_query = plan.by_query + entry * 64;
    std::uint64_t* const by_key = plan.by_key + entry * 64;
    for (int i = 0; i < 64; i++) by_query[i] = by_key[i] = 0;
    for (int i = 0; i < 64; i++) {
      for (int j = 0; j < 64; j++) {
        if (from[i * width + j] == 0) continue;
        by_query[i] |= std::uint64_t{1} << j;
        by_key[j] |= std::uint64_t{1} << i;
      }
    }
  }
}

}  // namespace triage
