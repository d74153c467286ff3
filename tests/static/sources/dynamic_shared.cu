// Four stages of 32 KB, asked for at launch: 128 KB fit into a block of 8.0, 9.0 and 10.0, not of 8.6, 8.9 and 12.0.
// EXPECT 80 90a 100a: COMPILES
// EXPECT 86 89 120a: TOO BIG (shared memory 128 of 99 KB)
// CAUSE shared-memory - line 19 on 86 89 120a says "kStages=4 * kStageBytes=32768 = 131072"
constexpr int kStages = 4;
constexpr int kStageBytes = 64 * 128 * sizeof(float);
constexpr int kSharedBytes = kStages * kStageBytes;

__global__ void pipeline(const float* in, float* out) {
  extern __shared__ float stages[];
  for (int i = threadIdx.x; i < kSharedBytes / 4; i += blockDim.x) stages[i] = in[i];
  __syncthreads();
  out[threadIdx.x] = stages[kSharedBytes / 4 - 1 - threadIdx.x];
}

void run(const float* in, float* out, cudaStream_t stream) {
  cudaFuncSetAttribute(pipeline, cudaFuncAttributeMaxDynamicSharedMemorySize, 1024);
  const dim3 block(32, 8);
  pipeline<<<dim3(1), block, kSharedBytes, stream>>>(in, out);
}
