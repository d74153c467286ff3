// What an AttentionPattern owns.
#pragma once

#include "device/attention_pattern_build.h"
#include "device/memory.h"
#include "registry/device.h"
#include "triage/attention_pattern.h"

namespace triage::detail {

struct AttentionPatternData {
  const Device* device = nullptr;
  std::int64_t batch = 0, heads = 0, seqlen_q = 0, seqlen_k = 0;
  int block_q = 64, block_k = 64;
  AttentionByteMask mask;  ///< [batch * heads] masks of the caller's blocks
  BlockBitsArrays by_query, by_key;
  Buffer memory;

  std::int64_t entries = 0, capacity = 0;  ///< of elements, in the caller's blocks; capacity: that there is room for
  std::int32_t* element_index = nullptr;
  std::uint64_t *elements = nullptr, *elements_by_key = nullptr;
  Buffer element_memory;
};

}  // namespace triage::detail
