// C = A * B on the CPU, with A block-sparse: from a dense matrix that has zero blocks to the product.
#include <triage/triage.h>

#include <cmath>
#include <cstdio>
#include <vector>

#include "tensor.h"

int main() {
  constexpr std::int64_t m = 500, k = 300, n = 70;  // sizes need not be multiples of the block
  constexpr int block = 32;

  // A dense A of which every third block is nonzero, and B.
  std::vector<float> a(m * k), b(k * n), c(m * n);
  for (std::int64_t i = 0; i < m; ++i) {
    for (std::int64_t j = 0; j < k; ++j) {
      if ((i / block + j / block) % 3 == 0) a[i * k + j] = static_cast<float>((i * 7 + j * 3) % 11) - 5;
    }
  }
  for (std::int64_t i = 0; i < k * n; ++i) b[i] = static_cast<float>(i % 13) - 6;

  try {
    const TensorView dense(a.data(), kFloat32, {m, k});
    const triage::BlockPattern pattern = triage::BlockPattern::from_dense(dense, block);
    std::vector<float> values(pattern.nnz_blocks() * block * block);
    const TensorView values_view(values.data(), kFloat32, {pattern.nnz_blocks(), block, block});
    triage::gather_blocks(pattern, dense, values_view);

    const TensorView b_view(b.data(), kFloat32, {k, n}), c_view(c.data(), kFloat32, {m, n});
    const HostWorkspace workspace(triage::spmm_workspace_bytes(pattern, values_view, b_view, c_view));
    triage::spmm(pattern, values_view, b_view, c_view, {}, workspace);
    std::printf("%s: %lld of %lld blocks are nonzero\n", triage::last_kernel().c_str(),
                static_cast<long long>(pattern.nnz_blocks()),
                static_cast<long long>(pattern.block_rows() * pattern.block_cols()));
  } catch (const triage::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }

  // The numbers are small integers, so that the result is exact.
  for (std::int64_t i = 0; i < m; ++i) {
    for (std::int64_t j = 0; j < n; ++j) {
      float sum = 0;
      for (std::int64_t l = 0; l < k; ++l) sum += a[i * k + l] * b[l * n + j];
      if (c[i * n + j] != sum) {
        std::fprintf(stderr, "C[%lld, %lld] is %g instead of %g\n", static_cast<long long>(i),
                     static_cast<long long>(j), c[i * n + j], sum);
        return 1;
      }
    }
  }
  std::printf("equal to the dense product\n");
  return 0;
}
