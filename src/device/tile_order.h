// The order in which tiles of unequal work are taken: those of several times the mean first, whatever their head, so
// that what is left at the end is short; then group of heads after group of heads, so that the keys and values at work
// stay in L2, the heavier ones of a group first.
#pragma once

#include <cstdint>

namespace triage {

/// Tiles of `rows_per_tile` rows of masks, of `units` heads: of Q (heads_per_unit 1), or of K and V, each of which
/// stands for heads_per_unit heads of Q.
struct TileOrderPlan {
  const std::int32_t* counts = nullptr;  ///< [masks][rows]: the work of a row
  int rows = 0;
  std::int64_t batch_masks = 0;  ///< query head h of sequence b has mask b * batch_masks + h / heads_per_mask
  int heads_per_mask = 1;
  int heads = 1;  ///< of Q, of one sequence
  int heads_per_unit = 1;
  int units = 0;  ///< of all sequences
  int rows_per_tile = 1, tiles_per_unit = 0;
  int units_at_once = 1;
  std::int32_t* order = nullptr;    ///< [units * tiles_per_unit]: unit * tiles_per_unit + tile, result
  std::int32_t* counter = nullptr;  ///< set to zero
};

/// Enqueues on `stream` of the current device.
void order_tiles_cuda(const TileOrderPlan& plan, void* stream);

}  // namespace triage
