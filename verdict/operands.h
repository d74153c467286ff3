// Operands made where they are used: the same numbers on the CPU and on the GPU.
#pragma once

#include <cstddef>
#include <cstdint>

#include "registry/kernel.h"

namespace triage::verdict {

/// fill_random with ValueKind::centred, contiguous, in the memory of `device`; enqueued on `stream`.
void fill_centred(DType dtype, void* data, std::int64_t rows, std::int64_t cols, std::uint64_t seed, DLDevice device,
                  Stream stream);

/// NaN over `bytes` bytes of `device`: all ones are a NaN in every dtype here.
void poison(void* data, std::size_t bytes, DLDevice device, Stream stream);

}  // namespace triage::verdict
