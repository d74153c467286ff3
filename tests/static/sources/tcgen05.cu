// The fifth-generation tensor core: 10.0 and 11.0, not 12.0.
// EXPECT 80 86 89 90a 120a: WON'T COMPILE (tcgen05)
// EXPECT 100: NEEDS `a` TARGET (tcgen05)
// EXPECT 100a: COMPILES
// CAUSE instruction tcgen05 line 8 on 80 86 89 90a 120a
#include <cstdint>
__global__ void product(uint32_t d, uint64_t a, uint64_t b, uint32_t shape, int* done) {
  asm volatile("{ .reg .pred p;\n setp.ne.b32 p, 1, 0;\n tcgen05.mma.cta_group::1.kind::f16 [%0], %1, %2, %3, p; }" ::"r"(d),
               "l"(a), "l"(b), "r"(shape)
               : "memory");
  done[threadIdx.x] = 1;
}
