// `triage scan --prune-to ... --out FILE`: the model with its pruned weights in the block-sparse layout of
// docs/scan.md.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "io/safetensors_model.h"
#include "verdict/scan_blocks.h"
#include "verdict/scan_weights.h"

namespace triage::verdict {

/// A weight and which of its blocks stay.
struct PrunedWeight {
  const WeightMatrix* weight = nullptr;
  BlockList kept;
};

/// Bytes that a pruned weight takes in the file: values in the weight's dtype, and the two index arrays.
std::uint64_t pruned_bytes(const PrunedWeight& pruned);

/// Refuses a path that cannot be written or that is one of the model's own files. Called before the work begins.
void check_output(const std::string& path, const io::SafetensorsModel& model);

/// Writes the pruned weights, and every other tensor of the model as it is; all or nothing. Returns the file's size.
std::uint64_t save_pruned(const std::string& path, const io::SafetensorsModel& model,
                          const std::vector<PrunedWeight>& pruned);

}  // namespace triage::verdict
