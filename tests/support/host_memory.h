// How much memory this machine can still give.
#pragma once

#include <cstdint>
#include <fstream>
#include <string>

namespace triage::testing {

/// Bytes; 0 if the system does not say.
inline std::uint64_t available_host_bytes() {
  std::ifstream file("/proc/meminfo");
  std::string key, unit;
  for (std::uint64_t kilobytes = 0; file >> key >> kilobytes; std::getline(file, unit))
    if (key == "MemAvailable:") return kilobytes * 1024;
  return 0;
}

}  // namespace triage::testing
