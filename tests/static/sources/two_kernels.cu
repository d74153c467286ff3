// One kernel needs Hopper, the other runs everywhere: each is judged by itself.
// EXPECT 80 86 89: WON'T COMPILE
// EXPECT 90a 100a 120a: COMPILES
// KERNEL portable<3> 80 86 89 90a 100a 120a: COMPILES
// KERNEL hopper 80 86 89: WON'T COMPILE
// CAUSE instruction cluster line 10 on 80 86 89
// CAUSE instruction griddepcontrol line 11 on 80 86 89
template <int N> __global__ void portable(float* out) { out[threadIdx.x] = N; }
__global__ void hopper(float* out) {
  asm volatile("barrier.cluster.arrive.aligned;\n barrier.cluster.wait.aligned;" ::: "memory");
  asm volatile("griddepcontrol.wait;" ::: "memory");
  out[threadIdx.x] = 1.0f;
}
template __global__ void portable<3>(float*);
