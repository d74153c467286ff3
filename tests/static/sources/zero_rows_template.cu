// The same through template arguments, a chain of constants and a member array.
// EXPECT 80 86 89 90a 100a 120a: WON'T COMPILE (zero-sized array)
// CAUSE zero-sized-array - line 10 on 80 86 89 90a 100a 120a everywhere says "kRows = M=64 / T=256 = 0"
// CAUSE zero-sized-array - line 11 on 80 86 89 90a 100a 120a everywhere says "N=128 / 512 = 0"
template <int N>
struct Fragment { float values[N / 512]; };

template <int M, int T>
__global__ void rows(float* out) { constexpr int kRows = M / T;
  float mine[kRows];
  Fragment<128> fragment;
  mine[0] = 1.0f;
  fragment.values[0] = 2.0f;
  out[threadIdx.x] = mine[0] + fragment.values[0];
}
template __global__ void rows<64, 256>(float*);
