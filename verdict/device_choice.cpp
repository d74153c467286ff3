#include "verdict/device_choice.h"

#include <fmt/format.h>

#include "triage/kernels.h"
#include "verdict/commands.h"

namespace triage::verdict {

DeviceChoice choose_devices(const std::string& text) {
  const DLDevice cpu{kDLCPU, 0};
  const int count = cuda_device_count();
  if (text == "cpu") return {{cpu}, "", 0};
  if (text == "all") {
    if (count == 0) return {{cpu}, "", 0};
    return {{DLDevice{kDLCUDA, 0}, cpu}, "", 0};
  }
  int ordinal = 0;
  if (text.rfind("cuda:", 0) == 0) {
    const std::string number = text.substr(5);
    if (number.empty() || number.size() > 3 || number.find_first_not_of("0123456789") != std::string::npos) {
      return {{}, fmt::format("--device is '{}'; after 'cuda:' stands the number of a device", text), kUsage};
    }
    ordinal = std::stoi(number);
  } else if (text != "cuda") {
    return {{}, fmt::format("--device is '{}'; accepted: all, cpu, cuda, cuda:N", text), kUsage};
  }
  if (ordinal >= count) {
    const std::string have = count == 0 ? "no CUDA device can be used here" : fmt::format("there are {} CUDA devices", count);
    return {{}, fmt::format("--device is '{}', but {}", text, have), kNoDevice};
  }
  return {{DLDevice{kDLCUDA, ordinal}}, "", 0};
}

}  // namespace triage::verdict
