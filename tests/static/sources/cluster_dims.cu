// The attribute alone is refused before 9.0.
// EXPECT 80 86 89: WON'T COMPILE (clusters)
// EXPECT 90a 100a 120a: COMPILES
// CAUSE feature-name cluster line 5 on 80 86 89
__global__ void __cluster_dims__(2, 1, 1) pair(float* out) { out[blockIdx.x * blockDim.x + threadIdx.x] = 1.0f; }
