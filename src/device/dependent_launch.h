// Launches a kernel that may start before the one ahead of it in the stream has ended: see ptx/dependent_launch.h.
#pragma once

#include <cuda_runtime.h>

#include <type_traits>

#include "device/cuda_check.h"

namespace triage::device {

/// The kernel must not touch what the kernel ahead writes before it has called ptx::wait_for_earlier_kernels, and must
/// have called it in some thread before it ends. `ahead` is a kernel launched in the usual way, so that all that came
/// before it has ended.
template <typename... Parameters>
void launch_dependent(void (*kernel)(Parameters...), unsigned ctas, int threads, std::size_t shared_bytes,
                      cudaStream_t stream, const char* what, const std::type_identity_t<Parameters>&... arguments) {
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(ctas);
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = 1;
  cuda_check(cudaLaunchKernelEx(&config, kernel, arguments...), what);
}

}  // namespace triage::device
