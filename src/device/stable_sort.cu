#include "device/stable_sort.h"

#include <cuda_runtime.h>

#include <cub/device/device_radix_sort.cuh>

#include "device/cuda_check.h"

namespace triage {

void stable_sort_cuda(const std::int32_t* keys, std::int32_t* sorted_keys, const std::int32_t* values,
                      std::int32_t* sorted_values, std::int32_t count, int key_bits, void* scratch,
                      std::size_t scratch_bytes, void* stream) {
  cuda_check(cub::DeviceRadixSort::SortPairs(scratch, scratch_bytes, keys, sorted_keys, values, sorted_values, count, 0,
                                             key_bits, static_cast<cudaStream_t>(stream)),
             "radix sort");
}

std::size_t stable_sort_cuda_scratch_bytes(std::int32_t count) {
  std::size_t bytes = 0;
  const std::int32_t* in = nullptr;
  std::int32_t* out = nullptr;
  cuda_check(cub::DeviceRadixSort::SortPairs(nullptr, bytes, in, out, in, out, count, 0, 31), "size of a radix sort");
  return bytes;
}

}  // namespace triage
