// What `triage scan` found, and how it says it.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "verdict/json.h"
#include "verdict/receipt.h"
#include "verdict/scan_measure.h"
#include "verdict/scan_weights.h"

namespace triage::verdict {

/// One matrix.
struct LayerReport {
  std::string name, file, dtype;
  std::int64_t rows = 0, cols = 0;
  int stored_block = 0;  ///< 0: stored dense
  std::uint64_t stored_bytes = 0, dense_bytes = 0;
  std::array<std::int64_t, 4> blocks{};  ///< at each of kBlockSizes
  std::array<std::int64_t, 4> nonzero{};
  std::vector<Measurement> measured;                  ///< one a block size, or the pruned pattern alone
  std::string not_measured;                           ///< why `measured` is empty
  std::int64_t kept_blocks = 0, prunable_blocks = 0;  ///< with --prune-to
  std::uint64_t pruned_bytes = 0;                     ///< with --prune-to: values and indices

  double zero_share(std::size_t size) const;
  /// The measurement with the shortest sparse time; nullptr if there is none.
  const Measurement* best() const;
};

/// At which density `linear` begins to beat the dense product for one shape.
struct BreakEven {
  std::int64_t rows = 0, cols = 0;
  ReceiptCrossover crossover;
  bool disturbed = false;  ///< a measurement was
};

/// All layers that were measured, taken together.
struct ScanTotals {
  std::size_t layers = 0, measured = 0, faster = 0, slower = 0, unclear = 0, disturbed = 0, wrong = 0;
  std::array<std::int64_t, 4> blocks{}, nonzero{};
  double sparse_ms = 0, dense_ms = 0;  ///< of layers that have both
  double error_squared = 0, norm_squared = 0;
  std::uint64_t stored_bytes = 0, dense_bytes = 0, pruned_bytes = 0;
  double kept = 0, total = 0;  ///< blocks, with --prune-to

  double speedup() const { return sparse_ms > 0 ? dense_ms / sparse_ms : 0; }
};

struct ScanReport {
  std::string path, device, dense_name, dense_absence, dtypes;
  std::int64_t tokens = 0;
  double prune_to = 0;  ///< 0: nothing was pruned
  int prune_block = 0;
  std::vector<LayerReport> layers;
  std::vector<SkippedTensor> skipped;
  std::vector<BreakEven> break_even;

  ScanTotals totals() const;
};

/// For a terminal `width` columns wide (at least 80).
std::string scan_text(const ScanReport& report, std::size_t width, bool colour);
std::string scan_markdown(const ScanReport& report);
Json scan_json(const ScanReport& report);

/// A name that fits `width` columns and still tells layers apart: its leading parts shrink to their first letters
/// ("encoder.layer.0.output" -> "e.l.0.output"), and only then its middle goes.
std::string short_name(const std::string& name, std::size_t width);

/// Names that differ in numbers only become one with `*`: {"a.0.b", "a.1.b", "c"} -> {"a.*.b (2)", "c"}.
std::vector<std::string> grouped_names(const std::vector<std::string>& names);

}  // namespace triage::verdict
