// A slip of the finger, and a type whose header is missing.
// EXPECT 80 86 89 90a 100a 120a: WON'T COMPILE (undefined `scale_facter`, undefined `__nv_bfloat16`)
// CAUSE undefined-name - line 7 on 80 86 89 90a 100a 120a everywhere says "scale_factor"
// CAUSE undefined-name - line 8 on 80 86 89 90a 100a 120a everywhere says "<cuda_bf16.h>"
__global__ void scale(float* out) {
  const float scale_factor = 2.0f;
  out[threadIdx.x] *= scale_facter;
  __nv_bfloat16 unused;
}
