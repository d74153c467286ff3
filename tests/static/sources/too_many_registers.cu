// Compiles, but no block of it can start: its registers exceed a multiprocessor's.
// EXPECT 80 86 89 90a 100a 120a: TOO BIG
// CAUSE launch-limits - line 18 on 80 86 89 90a 100a 120a everywhere says "1024 threads"
__global__ void hungry(float* out, const float* in, int n) {
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
void run(float* out, const float* in) {
  constexpr int kWarps = 32;
  // 1024 threads
  hungry<<<1, kWarps * 32>>>(out, in, 4);
}
