// A template that nothing instantiates is never compiled: that must not read as "runs".
// EXPECT 80 86 89 90a 100a 120a: COMPILES
// KERNEL never 80 86 89 90a 100a 120a: NOT CHECKED
template <int N> __global__ void never(float* out) { out[threadIdx.x] = no_such_name(N, out); }
__global__ void used(float* out) { out[threadIdx.x] = 1.0f; }
