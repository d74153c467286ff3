// Nothing wrong with it.
// EXPECT 80 86 89 90a 100a 120a: COMPILES
__global__ void __launch_bounds__(256) saxpy(int n, float a, const float* x, float* y) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = a * x[i] + y[i];
}
