// A branch for every architecture, each test exact: wgmma's fence on 9.0a, mma.sync elsewhere.
// EXPECT 80 86 89 90a 100a 120a: COMPILES
#include <cuda_fp16.h>
#include <cstdint>

__device__ void multiply(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#endif
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__global__ void product(const uint4* a, const uint2* b, float4* c) {
  const uint4 x = a[threadIdx.x];
  const uint2 y = b[threadIdx.x];
  float d[4] = {};
  multiply(d, {x.x, x.y, x.z, x.w}, {y.x, y.y});
  c[threadIdx.x] = make_float4(d[0], d[1], d[2], d[3]);
}
