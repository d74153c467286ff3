// A device function of another file: needs relocatable device code.
// EXPECT 80 86 89 90a 100a 120a: WON'T COMPILE (undefined `elsewhere`)
// KERNEL fine 80 86 89 90a 100a 120a: COMPILES
// CAUSE undefined-function - line 6 on 80 86 89 90a 100a 120a everywhere says "-rdc=true"
__device__ float elsewhere(float);
__global__ void caller(float* out) { out[threadIdx.x] = elsewhere(out[threadIdx.x]); }
__global__ void fine(float* out) { out[threadIdx.x] = 1.0f; }
