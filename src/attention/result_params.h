// What the kernels of every family need to know about logits and about where results go, and how a call says it.
#pragma once

#include <cstdint>

#include "device/softmax.h"
#include "registry/attention_kernel.h"

namespace triage::attention {

struct ResultParams {
  float scale_log2;  ///< from logits (capped ones: tanh) to powers of 2
  device::Softcap softcap;
  const float* sinks;
  float* lse;
  std::int64_t lse_batch_stride, lse_head_stride;
  void* out;
  std::int64_t out_batch_stride, out_row_stride, out_head_stride;  ///< elements
  int head_dim_v;
};

inline ResultParams result_params(const AttentionCall& call) {
  constexpr float kLog2E = 1.4426950408889634f;
  const float softcap = call.problem.softcap;
  return {(softcap > 0.0f ? softcap : call.softmax_scale) * kLog2E,
          device::softcap_of(call.softmax_scale, softcap),
          call.sinks,
          call.lse,
          call.lse_batch_stride,
          call.lse_head_stride,
          call.o.data,
          call.o.batch_stride,
          call.o.sequence_stride,
          call.o.head_stride,
          call.problem.head_dim_v};
}

}  // namespace triage::attention
