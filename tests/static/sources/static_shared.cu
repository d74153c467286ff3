// 100 KB of static shared memory: past what portable targets allow; targets with suffix a allow what the hardware has.
// EXPECT 80 86 89: TOO BIG (shared memory 100 of 48 KB)
// EXPECT 90: NEEDS `a` TARGET (shared memory 100 of 48 KB)
// EXPECT 90a 100a: COMPILES
// EXPECT 120a: TOO BIG (shared memory 100 of 99 KB)
// KERNEL small 80 86 89 90 90a 100a 120a: COMPILES
// CAUSE shared-memory - line 8 on 80 86 89 says "102400 bytes"
__global__ void large(float* out) {
  __shared__ float tile[25600];
  for (int i = threadIdx.x; i < 25600; i += blockDim.x) tile[i] = out[i];
  __syncthreads();
  out[threadIdx.x] = tile[25599 - threadIdx.x];
}
__global__ void small(float* out) {
  __shared__ float tile[256];
  tile[threadIdx.x] = out[threadIdx.x];
  __syncthreads();
  out[threadIdx.x] = tile[255 - threadIdx.x];
}
