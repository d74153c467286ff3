// The product alone stands behind a test without #else: elsewhere the kernel stores what it loaded.
// EXPECT 80 86 89 100a 120a: COMPILES TO NOTHING (matrix multiply guarded out)
// EXPECT 90a: COMPILES
// CAUSE empty-body - line 8 on 80 86 89 100a 120a says "leaves this architecture out"
#include <cstdint>

__device__ void multiply(float4& d, uint64_t a, uint64_t b) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile("wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {%0,%1,%2,%3}, %4, %5, 1, 1, 1, 0, 0;"
               : "+f"(d.x), "+f"(d.y), "+f"(d.z), "+f"(d.w)
               : "l"(a), "l"(b));
#endif
}

__global__ void product(uint64_t a, uint64_t b, float4* c) {
  float4 d = c[threadIdx.x];
  multiply(d, a, b);
  c[threadIdx.x] = make_float4(d.x + 1.0f, d.y, d.z, d.w);
}
