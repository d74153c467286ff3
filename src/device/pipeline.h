// A ring of shared-memory slots between a producer (bulk copies) and consumers (wgmma), each slot guarded by two mbarriers:
// `full` completes when its bytes have arrived, `empty` when all consumers have released it.
#pragma once

#include <cstdint>

#include "ptx/mbarrier.h"

namespace triage::device {

template <int kSlots>
struct PipelineBarriers {
  std::uint64_t full[kSlots];
  std::uint64_t empty[kSlots];
};

/// Which slot comes next, and the parity of its phase. A consumer starts with parity 0; a producer with 1, because a wait
/// for the phase before the first one returns at once.
template <int kSlots>
struct PipelineState {
  int slot = 0;
  std::uint32_t parity;

  __device__ explicit PipelineState(std::uint32_t first_parity) : parity(first_parity) {}
  __device__ void advance() {
    if (++slot == kSlots) {
      slot = 0;
      parity ^= 1;
    }
  }
};

}  // namespace triage::device
