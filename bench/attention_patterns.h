// Random masks of blocks for attention: those that are timed, and those on which correctness is tried.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace triage::bench {

enum class PatternKind {
  scattered,             ///< each block by chance: rows differ, some are empty
  uniform,               ///< the same number of random blocks in each row, as top-k selections have
  window_and_full_rows,  ///< a band around the diagonal, and a few rows that attend all
  power_law,             ///< lengths of rows fall as a power of their rank; blocks and order are random
};

const char* pattern_kind_name(PatternKind kind);  ///< "scattered", ...
std::optional<PatternKind> pattern_kind_from_name(std::string_view name);

/// Masks [masks, rows, cols] of blocks, 1 where attended. The share of them is `density`, as near as whole blocks allow
/// (scattered: on the average). The same on every machine for the same seed.
std::vector<std::uint8_t> random_blocks(PatternKind kind, double density, std::int64_t masks, std::int64_t rows,
                                        std::int64_t cols, std::uint64_t seed);

}  // namespace triage::bench
