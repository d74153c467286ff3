// A TMA load and its mbarrier: from 9.0 on.
// EXPECT 80 86 89: WON'T COMPILE (mbarrier of 9.0, TMA)
// EXPECT 90a 100a 120a: COMPILES
// CAUSE instruction tma line 15 on 80 86 89
// CAUSE instruction mbarrier_tx line 12 on 80 86 89
#include <cstdint>
__global__ void load(const void* map, float* out) {
  __shared__ alignas(128) float tile[32 * 32];
  __shared__ uint64_t barrier;
  const uint32_t where = static_cast<uint32_t>(__cvta_generic_to_shared(tile));
  const uint32_t bar = static_cast<uint32_t>(__cvta_generic_to_shared(&barrier));
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], 4096;" ::"r"(bar) : "memory");
  if (threadIdx.x == 0) {
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];" ::"r"(
            where),
        "l"(map), "r"(0), "r"(0), "r"(bar)
        : "memory");
  }
  __syncthreads();
  out[threadIdx.x] = tile[threadIdx.x];
}
