// cp.async: from 8.0 on, so Turing lacks it.
// EXPECT 75: WON'T COMPILE (cp.async)
// EXPECT 80 86 89 90a 100a 120a: COMPILES
// CAUSE instruction cp_async line 9 on 75
#include <cstdint>
__global__ void copy(const float4* in, float* out) {
  __shared__ alignas(16) float tile[4 * 128];
  const uint32_t where = static_cast<uint32_t>(__cvta_generic_to_shared(tile + 4 * threadIdx.x));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(where), "l"(in + threadIdx.x) : "memory");
  asm volatile("cp.async.commit_group;\n\tcp.async.wait_group 0;" ::: "memory");
  __syncthreads();
  out[threadIdx.x] = tile[threadIdx.x];
}
