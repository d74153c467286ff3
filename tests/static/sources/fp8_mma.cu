// fp8 tensor cores: from 8.9 on.
// EXPECT 80 86: WON'T COMPILE (fp8 mma)
// EXPECT 89 90a 100a 120a: COMPILES
// CAUSE instruction mma_fp8 line 9 on 80 86
#include <cstdint>
__global__ void product(const uint4* a, const uint2* b, float4* c) {
  float4 d = c[threadIdx.x];
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d.x), "+f"(d.y), "+f"(d.z), "+f"(d.w)
      : "r"(a->x), "r"(a->y), "r"(a->z), "r"(a->w), "r"(b->x), "r"(b->y));
  c[threadIdx.x] = d;
}
