// Host-side checks of CUDA runtime calls: every call's result becomes a triage::Error with a sentence.
#pragma once

#include <cuda_runtime_api.h>

#include <string>

#include "triage/error.h"

namespace triage {

/// @param what names the call for the sentence, e.g. "cudaMemcpyAsync of col_indices".
inline void cuda_check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // a non-sticky error must not surface in somebody else's call
  const ErrorCode code = status == cudaErrorMemoryAllocation ? ErrorCode::out_of_memory : ErrorCode::cuda;
  throw Error(code, std::string(what) + " failed: " + cudaGetErrorString(status) + " (" + cudaGetErrorName(status) + ")");
}

}  // namespace triage
