// spmm and linear on few columns on 9.0a, all block sizes.
#include "sparse_gemm/sm90_few_columns_launch.h"

namespace triage::sm90 {

template void launch_few_columns<__half, false>(const SparseGemmCall&);
template void launch_few_columns<__half, true>(const SparseGemmCall&);
template void launch_few_columns<__nv_bfloat16, false>(const SparseGemmCall&);
template void launch_few_columns<__nv_bfloat16, true>(const SparseGemmCall&);

}  // namespace triage::sm90
