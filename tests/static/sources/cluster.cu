// Clusters through the CUDA headers: the names are missing before 9.0.
// EXPECT 80 86 89: WON'T COMPILE (clusters)
// EXPECT 90a 100a 120a: COMPILES
// CAUSE feature-name cluster line 9 on 80 86 89
#include <cooperative_groups.h>
namespace cg = cooperative_groups;

__global__ void exchange(float* out) {
  cg::cluster_group cluster = cg::this_cluster();
  __shared__ float mine;
  if (threadIdx.x == 0) mine = static_cast<float>(blockIdx.x);
  cluster.sync();
  out[threadIdx.x] = *cluster.map_shared_rank(&mine, cluster.block_rank() ^ 1);
  cluster.sync();
}
