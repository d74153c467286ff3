// From a validated call to the launch of one configuration. Included by the files that hold the kernels' code.
#pragma once

#include <cuda_runtime.h>

#include "attention/sm80_forward.h"
#include "attention/sm80_rows.h"
#include "device/cuda_check.h"

namespace triage::attention::sm80 {

template <typename C>
void launch_config(const AttentionCall& call, const Plan& plan) {
  const ForwardParams params = forward_params(call, plan);
  const auto kernel = forward_kernel<C>;
  cuda_check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, C::kSharedBytes),
             "cudaFuncSetAttribute of sm80 attention");
  const std::int64_t tiles = call.problem.batch * (call.problem.heads / plan.pack) * params.m_tiles;
  kernel<<<static_cast<unsigned>(tiles * plan.splits), C::kThreads, C::kSharedBytes,
           static_cast<cudaStream_t>(call.stream)>>>(params);
  cuda_check(cudaGetLastError(), "launch of sm80 attention");
  if (plan.splits > 1) launch_combine(call, params);
}

template <template <typename> typename Config>
void launch_of_type(const AttentionCall& call, const Plan& plan) {
  if (call.problem.dtype == DType::float16) {
    launch_config<Config<__half>>(call, plan);
  } else {
    launch_config<Config<__nv_bfloat16>>(call, plan);
  }
}

}  // namespace triage::attention::sm80
