// 96 live values and 64 registers a thread.
// EXPECT 80 86 89 90a 100a 120a: COMPILES (spills
// CAUSE spills - line 4 on 80 86 89 90a 100a 120a
__global__ void __launch_bounds__(1024) mix(float* out, const float* in, int n) {
  float v[96];
#pragma unroll
  for (int i = 0; i < 96; ++i) v[i] = in[i * n + threadIdx.x];
  for (int k = 0; k < n; ++k) {
#pragma unroll
    for (int i = 0; i < 96; ++i) v[i] = v[i] * v[(i * 7 + 3) % 96] + in[k];
  }
#pragma unroll
  for (int i = 0; i < 96; ++i) out[i * n + threadIdx.x] = v[i];
}
