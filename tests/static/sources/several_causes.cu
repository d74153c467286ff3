// A cause that holds everywhere hides those of single architectures: all are reported.
// EXPECT 80 86 89 90a 100a 120a: WON'T COMPILE
// CAUSE zero-sized-array - line 12 on 80 86 89 90a 100a 120a everywhere says "kTile=64 / kThreads=256 = 0"
// CAUSE undefined-name - line 14 on 80 86 89 90a 100a 120a everywhere
// CAUSE instruction wgmma line 15 on 80 86 89 100a 120a unreached
// CAUSE instruction cluster line 16 on 80 86 89 unreached
constexpr int kTile = 64;
constexpr int kThreads = 256;
// Three mistakes of one night.

__global__ void night(float* out) {
  float mine[kTile / kThreads];
  mine[0] = 1.0f;
  out[threadIdx.x] = mine[0] * no_such_name;
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
  asm volatile("barrier.cluster.arrive.aligned;\n barrier.cluster.wait.aligned;" ::: "memory");
}
