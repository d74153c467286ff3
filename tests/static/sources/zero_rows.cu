// 64 rows shared among 256 threads leave each none.
// EXPECT 80 86 89 90a 100a 120a: WON'T COMPILE (zero-sized array)
// CAUSE zero-sized-array - line 8 on 80 86 89 90a 100a 120a everywhere says "TILE_M=64 / THREADS=256 = 0"
#define THREADS 256
constexpr int TILE_M = 64;

__global__ void __launch_bounds__(THREADS) rows(const float* in, float* out) {
  float mine[TILE_M / THREADS];
  for (int i = 0; i < TILE_M / THREADS; ++i) mine[i] = in[i * THREADS + threadIdx.x];
  out[threadIdx.x] = mine[0];
}
