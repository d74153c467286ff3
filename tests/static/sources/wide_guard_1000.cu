// ">= 1000" means Blackwell to its author, and lets 12.0 in.
// EXPECT 80 86 89 90a 100a: COMPILES
// EXPECT 120a: WON'T COMPILE (tcgen05)
// CAUSE wide-guard tcgen05 line 8 on 120a says "#if __CUDA_ARCH__ >= 1000"
#include <cstdint>
__global__ void fence(float* out) {
#if __CUDA_ARCH__ >= 1000
  asm volatile("tcgen05.fence::before_thread_sync;" ::: "memory");
#endif
  out[threadIdx.x] = 2.0f * out[threadIdx.x];
}
