// wgmma exists on 9.0a alone: not before it, and not after it.
// EXPECT 80 86 89 100a 120a: WON'T COMPILE (wgmma)
// EXPECT 90: NEEDS `a` TARGET (wgmma)
// EXPECT 90a: COMPILES
// CAUSE instruction wgmma line 10 on 80 86 89 100a 120a
// CAUSE instruction wgmma line 10 on 90
#include <cstdint>
__device__ void tile_product(float (&d)[4], uint64_t a, uint64_t b) {
  // The words "tcgen05.mma" in a comment or a string are no instruction.
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
  asm volatile("wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {%0,%1,%2,%3}, %4, %5, 1, 1, 1, 0, 0;"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "l"(a), "l"(b));
  asm volatile("wgmma.commit_group.sync.aligned;\n wgmma.wait_group.sync.aligned 0;" ::: "memory");
}

__global__ void product(uint64_t a, uint64_t b, float4* c) {
  float d[4] = {};
  tile_product(d, a, b);
  c[threadIdx.x] = make_float4(d[0], d[1], d[2], d[3]);
}
