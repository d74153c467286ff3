#include "registry/device.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "device/memory.h"
#include "triage/error.h"
#include "triage/kernels.h"

#if TRIAGE_HAS_CUDA
#include "device/cuda_check.h"
#include "device/pattern_build.h"
#endif

namespace triage {

namespace {

std::string cpu_name() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    const std::size_t colon = line.find(": ");
    if (line.rfind("model name", 0) == 0 && colon != std::string::npos) return line.substr(colon + 2);
  }
  return "CPU";
}

Device probe_cpu() {
  Device device;
  device.name = cpu_name();
  device.multiprocessors = static_cast<int>(std::thread::hardware_concurrency());
  return device;
}

#if TRIAGE_HAS_CUDA
// What TRIAGE_SHARED_MEMORY_KB allows of `bytes`.
std::size_t limit_shared_memory(std::size_t bytes) {
  const char* text = std::getenv("TRIAGE_SHARED_MEMORY_KB");
  if (text == nullptr || *text == '\0') return bytes;
  char* end = nullptr;
  errno = 0;
  const long kilobytes = std::strtol(text, &end, 10);
  if (*end != '\0' || errno != 0 || kilobytes < 1 || kilobytes > 1024) {
    throw Error(ErrorCode::invalid_argument,
                std::string("TRIAGE_SHARED_MEMORY_KB is '") + text + "', accepted: a whole number of KB, 1 to 1024");
  }
  return std::min(bytes, static_cast<std::size_t>(kilobytes) * 1024);
}

int attribute(cudaDeviceAttr which, int ordinal) {
  int value = 0;
  cuda_check(cudaDeviceGetAttribute(&value, which, ordinal), "cudaDeviceGetAttribute");
  return value;
}

Device probe_cuda(int ordinal) {
  Device device;
  device.dl = {kDLCUDA, ordinal};
  const DeviceGuard guard(device.dl);
  cudaDeviceProp properties;
  cuda_check(cudaGetDeviceProperties(&properties, ordinal), "cudaGetDeviceProperties");
  device.name = properties.name;
  device.compute_capability = 10 * properties.major + properties.minor;
  device.multiprocessors = properties.multiProcessorCount;
  device.shared_memory_per_block =
      limit_shared_memory(static_cast<std::size_t>(attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, ordinal)));
  device.l2_bytes = static_cast<std::size_t>(properties.l2CacheSize);
  device.has_code = cuda_code_loads();
  return device;
}
#endif

const Device& probe_cuda_once([[maybe_unused]] int ordinal) {
#if TRIAGE_HAS_CUDA
  const int count = cuda_device_count();
  if (ordinal < 0 || ordinal >= count) {
    throw Error(ErrorCode::invalid_argument, "CUDA device " + std::to_string(ordinal) +
                                                 " does not exist; this process sees " + std::to_string(count));
  }
  static std::mutex mutex;
  static std::vector<std::unique_ptr<const Device>> probed;
  const std::lock_guard lock(mutex);
  if (probed.size() <= static_cast<std::size_t>(ordinal)) probed.resize(static_cast<std::size_t>(ordinal) + 1);
  if (!probed[ordinal]) probed[ordinal] = std::make_unique<const Device>(probe_cuda(ordinal));
  return *probed[ordinal];
#else
  throw Error(ErrorCode::unsupported,
              "CUDA device " + std::to_string(ordinal) + " cannot be used: this build of Triage holds no CUDA code");
#endif
}

}  // namespace

const Device& probe_device(DLDevice device) {
  if (device_type(device) == kDLCUDA) return probe_cuda_once(device.device_id);
  if (device_type(device) != kDLCPU) {
    throw Error(ErrorCode::invalid_argument,
                "device type is " + std::to_string(device_type(device)) + ", accepted: kDLCPU (1), kDLCUDA (2)");
  }
  static const Device cpu = probe_cpu();
  return cpu;
}

int cuda_device_count() noexcept {
#if TRIAGE_HAS_CUDA
  int count = 0;
  if (cudaGetDeviceCount(&count) == cudaSuccess) return count;
  cudaGetLastError();  // no driver, or no device: not an error here
#endif
  return 0;
}

}  // namespace triage
