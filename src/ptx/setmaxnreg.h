// setmaxnreg: moves registers between warpgroups that play different roles (target sm_90a). All warps of the warpgroup
// execute it; the kernel needs __launch_bounds__(threads, 1).
#pragma once

#include "ptx/named_barrier.h"

namespace triage::ptx {

template <int kRegisters>
__device__ __forceinline__ void give_registers() {
  static_assert(kRegisters % 8 == 0 && kRegisters >= 24 && kRegisters <= 256, "setmaxnreg: 24 to 256, a multiple of 8");
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

template <int kRegisters>
__device__ __forceinline__ void take_registers() {
  static_assert(kRegisters % 8 == 0 && kRegisters >= 24 && kRegisters <= 256, "setmaxnreg: 24 to 256, a multiple of 8");
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

}  // namespace triage::ptx
