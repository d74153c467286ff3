// The branch for other architectures is a trap.
// EXPECT 80 86 89 120a: COMPILES TO NOTHING (only a trap)
// EXPECT 90a 100a: COMPILES
// CAUSE empty-body - line 6 on 80 86 89 120a
__global__ void store(float* out) {
#if __CUDA_ARCH__ >= 900 && __CUDA_ARCH__ < 1200
  out[threadIdx.x] = 1.0f;
#else
  __trap();
#endif
}
