// What an entry of a receipt says of the job that it comes from.
#pragma once

#include "verdict/job.h"

namespace triage::verdict {

/// @tparam Entry ReceiptCase, ReceiptProfile or ReceiptSanitizer; the last has neither dtype nor shape.
template <typename Entry>
void take_identity(Entry& entry, const Job& job) {
  entry.op = job.op;
  entry.kernel = job.kernel;
  entry.family = job.family;
  entry.source_sha256 = job.source_sha256;
  entry.shared_memory_kb = job.shared_memory_kb;
  if constexpr (requires { entry.shape; }) {
    entry.dtype = job.dtype;
    entry.shape = job.shape;
  }
}

}  // namespace triage::verdict
