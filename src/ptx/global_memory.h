// Additions to global memory without a result, and flags between CTAs (vectors of fp32: sm_90 and later).
#pragma once

#include <cstdint>

namespace triage::ptx {

/// address[0 .. 3] += (a, b, c, d), each element by itself; 16-byte aligned.
__device__ __forceinline__ void reduce_add_4(float* address, float a, float b, float c, float d) {
  asm volatile("red.relaxed.gpu.global.add.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(address), "f"(a), "f"(b), "f"(c),
               "f"(d)
               : "memory");
}

/// Adds to a counter. What this thread wrote or knows of (through a barrier) is seen by whoever has seen the sum.
__device__ __forceinline__ void release_add(std::int32_t* counter, std::int32_t value) {
  asm volatile("red.release.gpu.global.add.s32 [%0], %1;" ::"l"(counter), "r"(value) : "memory");
}

/// Waits until the counter has reached `value`, and acquires what was released to it. The loop stands inside the
/// assembly for the reason in mbarrier.h.
__device__ __forceinline__ void acquire_reached(const std::int32_t* counter, std::int32_t value) {
  asm volatile(
      "{\n.reg .pred p;\n.reg .s32 seen;\nREACH_%=:\nld.acquire.gpu.global.s32 seen, [%0];\n"
      "setp.ge.s32 p, seen, %1;\n@p bra REACHED_%=;\nbra REACH_%=;\nREACHED_%=:\n}" ::"l"(counter),
      "r"(value)
      : "memory");
}

}  // namespace triage::ptx
