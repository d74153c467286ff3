// A wrapper of <cuda/ptx>: below 9.0 it leaves an undefined function behind.
// EXPECT 89: WON'T COMPILE (async fence)
// EXPECT 90a: COMPILES
// CAUSE feature-name fence_async line 0 on 89
#include <cuda/ptx>
__global__ void fence(float* out) {
  cuda::ptx::fence_proxy_async(cuda::ptx::space_shared);
  out[threadIdx.x] = 1.0f;
}
