// Register redistribution: an `a` target from 9.0 on.
// EXPECT 80 86 89: WON'T COMPILE (setmaxnreg)
// EXPECT 120: NEEDS `a` TARGET (setmaxnreg)
// EXPECT 90a 100a 120a: COMPILES
// CAUSE instruction setmaxnreg line 9 on 80 86 89
__global__ void __launch_bounds__(384) roles(float* out) {
  const int warp = threadIdx.x / 32;
  if (warp < 4) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
  } else {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
  }
  out[threadIdx.x] = warp;
}
