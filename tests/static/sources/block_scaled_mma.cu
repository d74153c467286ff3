// mma.sync with block scales: 12.0 alone (10.0 does it with tcgen05).
// EXPECT 80 86 89 90a 100a: WON'T COMPILE (block-scaled mma)
// EXPECT 120: NEEDS `a` TARGET (block-scaled mma)
// EXPECT 120a: COMPILES
// CAUSE instruction mma_block_scaled line 10 on 80 86 89 90a 100a
#include <cstdint>
__global__ void product(const uint4* a, const uint2* b, uint32_t scale, float4* c) {
  float4 d = c[threadIdx.x];
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.kind::mxf8f6f4.block_scale.scale_vec::1X.f32.e4m3.e4m3.f32.ue8m0 "
      "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3}, %10, {0,0}, %10, {0,0};"
      : "+f"(d.x), "+f"(d.y), "+f"(d.z), "+f"(d.w)
      : "r"(a->x), "r"(a->y), "r"(a->z), "r"(a->w), "r"(b->x), "r"(b->y), "r"(scale));
  c[threadIdx.x] = d;
}
