// Which devices an option like --device means on this machine.
#pragma once

#include <dlpack/dlpack.h>

#include <string>
#include <vector>

namespace triage::verdict {

struct DeviceChoice {
  std::vector<DLDevice> devices;  ///< a GPU first
  std::string problem;            ///< a sentence if the choice cannot be had
  int exit_code = 0;              ///< to end with then
};

/// @param text "all" (the first GPU if there is one, and the CPU), "cpu", "cuda" (the first GPU) or "cuda:N".
DeviceChoice choose_devices(const std::string& text);

}  // namespace triage::verdict
