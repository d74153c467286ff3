// What a kernel may ask about the device it would run on.
#pragma once

#include <dlpack/dlpack.h>

#include <cstddef>
#include <cstring>
#include <string>

namespace triage {

struct Device {
  DLDevice dl{kDLCPU, 0};
  std::string name = "CPU";
  int compute_capability = 0;  ///< 10 * major + minor: 80, 86, 89, 90, 100, 120; 0 for the CPU
  int multiprocessors = 0;
  std::size_t shared_memory_per_block = 0;  ///< opt-in limit, bytes
  std::size_t l2_bytes = 0;
  bool has_code = true;  ///< this build holds GPU code that loads on the device
  bool is_cpu() const { return dl.device_type == kDLCPU; }
};

/// The device type as a number: a caller's DLDevice may hold anything, and reading another value through the
/// enumeration would be undefined.
inline int device_type(const DLDevice& device) {
  int type = 0;
  static_assert(sizeof(type) == sizeof(device.device_type));
  std::memcpy(&type, &device.device_type, sizeof(type));
  return type;
}

/// Probed once per ordinal and kept. TRIAGE_SHARED_MEMORY_KB lowers `shared_memory_per_block`, so that the
/// configuration that an 8.6, 8.9 or 12.0 device gets (99 KB) can be run and measured on a larger one.
/// @throws Error(cuda) if the device cannot be queried, Error(invalid_argument) for an unknown device.
const Device& probe_device(DLDevice device);

}  // namespace triage
