// A stable sort of pairs on the GPU, compiled once: the one place where CUB's radix sort is instantiated.
#pragma once

#include <cstddef>
#include <cstdint>

namespace triage {

/// Enqueues sorting `count` pairs by the lower `key_bits` bits of their nonnegative keys; equal keys keep their order.
/// The inputs stay as they are. `scratch` holds stable_sort_cuda_scratch_bytes(count), aligned to 256 bytes.
void stable_sort_cuda(const std::int32_t* keys, std::int32_t* sorted_keys, const std::int32_t* values,
                      std::int32_t* sorted_values, std::int32_t count, int key_bits, void* scratch,
                      std::size_t scratch_bytes, void* stream);
std::size_t stable_sort_cuda_scratch_bytes(std::int32_t count);

}  // namespace triage
