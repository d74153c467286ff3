// ">= 900" around wgmma lets 10.0 and 12.0 in; the call stands behind a macro of the file.
// EXPECT 80 86 89 90a: COMPILES
// EXPECT 100a 120a: WON'T COMPILE (wgmma)
// CAUSE wide-guard wgmma line 10 on 100a 120a
#if defined(__CUDA_ARCH__) && (__CUDA_ARCH__ >= 900)
#define USE_WGMMA 1
#endif
__global__ void fence(float* out) {
#if defined(__CUDA_ARCH__) && (__CUDA_ARCH__ >= 900) && defined(USE_WGMMA)
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#endif
  out[threadIdx.x] = 2.0f * out[threadIdx.x];
}
