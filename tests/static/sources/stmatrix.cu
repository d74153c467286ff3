// stmatrix: from 9.0 on.
// EXPECT 80 86 89: WON'T COMPILE (stmatrix)
// EXPECT 90a 100a 120a: COMPILES
// CAUSE instruction stmatrix line 9 on 80 86 89
#include <cstdint>
__global__ void store(uint32_t value, float* out) {
  __shared__ alignas(16) float tile[64];
  const uint32_t where = static_cast<uint32_t>(__cvta_generic_to_shared(tile + (threadIdx.x % 8) * 4));
  asm volatile("stmatrix.sync.aligned.m8n8.x1.shared.b16 [%0], {%1};" ::"r"(where), "r"(value) : "memory");
  __syncwarp();
  out[threadIdx.x] = tile[threadIdx.x];
}
