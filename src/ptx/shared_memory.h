// Plain accesses to shared memory by 32-bit address: generic addresses cost registers, and on sm_90 and later a slow
// read of the CTA's window each.
#pragma once

#include <cstdint>

namespace triage::ptx {

__device__ __forceinline__ std::uint32_t load_shared_u8(std::uint32_t address) {
  std::uint32_t value;
  asm volatile("ld.shared.u8 %0, [%1];" : "=r"(value) : "r"(address) : "memory");
  return value;
}

__device__ __forceinline__ std::uint32_t load_shared_u16(std::uint32_t address) {
  std::uint16_t value;
  asm volatile("ld.shared.u16 %0, [%1];" : "=h"(value) : "r"(address) : "memory");
  return value;
}

__device__ __forceinline__ std::uint32_t load_shared_u32(std::uint32_t address) {
  std::uint32_t value;
  asm volatile("ld.shared.u32 %0, [%1];" : "=r"(value) : "r"(address) : "memory");
  return value;
}

__device__ __forceinline__ void store_shared_u32(std::uint32_t address, std::uint32_t value) {
  asm volatile("st.shared.u32 [%0], %1;" ::"r"(address), "r"(value) : "memory");
}

/// The address of a barrier, for an arrival that must not overtake this thread's store of `value` to `address`: the
/// value is read back, and the result depends on what was read. (An arrival at an mbarrier was seen before an ordinary
/// store that stood ahead of it; docs/sparse_gemm.md.)
__device__ __forceinline__ std::uint32_t after_store(std::uint32_t barrier, std::uint32_t address,
                                                     std::uint32_t value) {
  return barrier + (load_shared_u32(address) ^ value);
}

}  // namespace triage::ptx
