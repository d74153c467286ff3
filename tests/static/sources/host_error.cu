// Only the host side is wrong.
// EXPECT 80 86 89 90a 100a 120a: WON'T COMPILE (host code: #error)
// KERNEL store 80 86 89 90a 100a 120a: COMPILES
// CAUSE error-directive - line 7 on 80 86 89 90a 100a 120a everywhere
__global__ void store(float* out) { out[threadIdx.x] = 1.0f; }
#ifndef __CUDA_ARCH__
#error "this host is not supported"
#endif
