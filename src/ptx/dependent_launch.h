// Programmatic dependent launch: a kernel that starts before the one ahead of it in the stream has ended (sm_90 and
// later). Both do nothing in a kernel that was launched in the usual way.
#pragma once

namespace triage::ptx {

/// Waits until the kernels ahead have ended and what they wrote can be seen.
__device__ __forceinline__ void wait_for_earlier_kernels() { asm volatile("griddepcontrol.wait;" ::: "memory"); }

/// Once all CTAs have said so or ended, the kernel behind may start.
__device__ __forceinline__ void let_next_kernel_start() {
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
}

}  // namespace triage::ptx
