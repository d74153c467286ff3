// cp.async: copies from global to shared memory that bypass registers (sm_80 and later).
#pragma once

#include <cstdint>

namespace triage::ptx {

/// 16 bytes, cached in L2 only. Both addresses are multiples of 16.
__device__ __forceinline__ void cp_async_16(std::uint32_t shared, const void* global) {
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16;" ::"r"(shared), "l"(global) : "memory");
}

/// Reads the first `bytes` (0 .. 16) and fills the rest of the 16 with zeros.
__device__ __forceinline__ void cp_async_16_zero_fill(std::uint32_t shared, const void* global, int bytes) {
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(shared), "l"(global), "r"(bytes)
               : "memory");
}

/// 4 bytes; reads the first `bytes` (0 .. 4) and fills the rest with zeros. Both addresses are multiples of 4.
__device__ __forceinline__ void cp_async_4_zero_fill(std::uint32_t shared, const void* global, int bytes) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(shared), "l"(global), "r"(bytes) : "memory");
}

/// Arrives on an mbarrier once this thread's earlier cp.async have landed. The arrival counts against the barrier's
/// expected count like any other (.noinc): give each thread that calls this one of the count.
__device__ __forceinline__ void cp_async_mbarrier_arrive(std::uint32_t barrier) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(barrier) : "memory");
}

/// Waits until this thread's cp.async have landed.
__device__ __forceinline__ void cp_async_wait_all() { asm volatile("cp.async.wait_all;" ::: "memory"); }

/// Closes a group of this thread's cp.async.
__device__ __forceinline__ void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

/// Waits until at most `kPending` of this thread's latest groups have not landed.
template <int kPending>
__device__ __forceinline__ void cp_async_wait_pending() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

/// A plain 16-byte store to shared memory, for what cannot be copied asynchronously.
__device__ __forceinline__ void store_shared_16(std::uint32_t shared, std::uint32_t x, std::uint32_t y, std::uint32_t z,
                                                std::uint32_t w) {
  asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(shared), "r"(x), "r"(y), "r"(z), "r"(w) : "memory");
}

}  // namespace triage::ptx
