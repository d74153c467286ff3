// The whole body stands behind a test: elsewhere the kernel launches and does nothing.
// EXPECT 80 86 89: COMPILES TO NOTHING (empty body)
// EXPECT 90a 100a 120a: COMPILES
// CAUSE empty-body - line 6 on 80 86 89 says "leaves this architecture out"
__global__ void wait_and_store(float* out) {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
  out[threadIdx.x] = 1.0f;
#endif
}
