// Multiplies a 32 x 32 block-sparse matrix of two 16 x 16 blocks (block row 1 is empty) by a dense one, on the CPU.
#include <triage/triage.h>

#include <cstdint>
#include <cstdio>
#include <memory>
#include <vector>

namespace {

DLTensor view(void* data, DLDataTypeCode code, int bits, int dimensions, std::int64_t* shape) {
  DLTensor tensor{};
  tensor.data = data;
  tensor.device = {kDLCPU, 0};
  tensor.ndim = dimensions;
  tensor.dtype = {static_cast<std::uint8_t>(code), static_cast<std::uint8_t>(bits), 1};
  tensor.shape = shape;
  return tensor;
}

}  // namespace

int main() {
  constexpr int kBlock = 16, kSize = 32, kColumns = 5;
  std::vector<std::int32_t> crow = {0, 2, 2}, col = {0, 1};
  std::int64_t crow_shape[] = {3}, col_shape[] = {2};
  const auto pattern = triage::BlockPattern::from_bsr(view(crow.data(), kDLInt, 32, 1, crow_shape),
                                                      view(col.data(), kDLInt, 32, 1, col_shape), kSize, kSize, kBlock);

  // Block 0 is all ones, block 1 all twos; B[k][n] = k + n.
  std::vector<float> values(2 * kBlock * kBlock, 1.0f), b(kSize * kColumns), c(kSize * kColumns, -1.0f);
  for (int i = kBlock * kBlock; i < 2 * kBlock * kBlock; ++i) values[i] = 2.0f;
  for (int k = 0; k < kSize; ++k)
    for (int n = 0; n < kColumns; ++n) b[k * kColumns + n] = static_cast<float>(k + n);
  std::int64_t values_shape[] = {2, kBlock, kBlock}, dense_shape[] = {kSize, kColumns};
  const DLTensor a = view(values.data(), kDLFloat, 32, 3, values_shape);
  const DLTensor dense = view(b.data(), kDLFloat, 32, 2, dense_shape), out = view(c.data(), kDLFloat, 32, 2, dense_shape);

  // The workspace is the caller's: one byte array, aligned to 256 bytes, is enough for any number of calls.
  const std::size_t bytes = triage::spmm_workspace_bytes(pattern, a, dense, out);
  std::vector<unsigned char> memory(bytes + 256);
  void* aligned = memory.data();
  std::size_t space = memory.size();
  const triage::Workspace workspace{std::align(256, bytes, aligned, space), bytes};
  triage::spmm(pattern, a, dense, out, {}, workspace);

  for (int m = 0; m < kSize; ++m)
    for (int n = 0; n < kColumns; ++n) {
      // sum over k < 16 of (k + n) + 2 * sum over 16 <= k < 32 of (k + n)
      const float expected = m < kBlock ? static_cast<float>((120 + 16 * n) + 2 * (376 + 16 * n)) : 0.0f;
      if (c[m * kColumns + n] != expected) {
        std::fprintf(stderr, "C[%d][%d] is %g, not %g\n", m, n, c[m * kColumns + n], expected);
        return 1;
      }
    }
  std::printf("triage %s: %s agrees\n", triage::version(), triage::last_kernel().c_str());
  return 0;
}
