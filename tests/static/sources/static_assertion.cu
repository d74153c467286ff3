// A failed static assertion, with the numbers that failed it.
// EXPECT 80 86 89 90a 100a 120a: WON'T COMPILE (static assertion)
// CAUSE static-assertion - line 7 on 80 86 89 90a 100a 120a everywhere says "M=64 / T=256 >= 1 is false"
// CAUSE static-assertion - line 11 on 80 86 89 90a 100a 120a everywhere says "kBlock=48 % 32 == 0 is false"
template <int M, int T>
__global__ void rows(float* out) {
  static_assert(M / T >= 1, "every thread needs a row");
  out[threadIdx.x] = M;
}
constexpr int kBlock = 48;
static_assert(kBlock % 32 == 0);
template __global__ void rows<64, 256>(float*);
