// Y = X * W^T with a weight out of a file that `triage scan --prune-to 0.25 --out pruned.safetensors` wrote:
//   example_pruned_linear pruned.safetensors encoder.layer.0.output.dense.weight
// Without arguments it writes a small file of its own first.
#include <triage/io.h>
#include <triage/triage.h>

#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include "tensor.h"

namespace {

// A 256 x 128 weight, block-sparse: blocks of 32 on the diagonal, all ones.
std::string write_sample() {
  std::vector<unsigned char> mask(8 * 4);
  for (int i = 0; i < 4; ++i) mask[i * 4 + i] = 1;
  std::vector<float> values(4 * 32 * 32, 1.0f);
  const TensorView mask_view(mask.data(), DLDataType{kDLUInt, 8, 1}, {8, 4});
  const TensorView values_view(values.data(), kFloat32, {4, 32, 32});
  triage::BlockSparseMatrix matrix;
  matrix.name = "sample.weight";
  matrix.pattern = triage::BlockPattern::from_mask(mask_view, 256, 128, 32);
  matrix.values = values_view;
  const std::string path = (std::filesystem::temp_directory_path() / "triage_example.safetensors").string();
  triage::save_block_sparse(path, {matrix});
  return path;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const std::string path = argc > 1 ? argv[1] : write_sample();
    const std::vector<std::string> names = triage::block_sparse_names(path);
    if (names.empty()) {
      std::fprintf(stderr, "%s holds no block-sparse matrix\n", path.c_str());
      return 1;
    }
    const triage::BlockSparseMatrix weight = triage::load_block_sparse(path, argc > 2 ? argv[2] : names.front());
    const triage::BlockPattern& pattern = weight.pattern;
    if (weight.values.dtype.bits != 32) {
      std::fprintf(stderr, "this example multiplies float32 weights\n");
      return 1;
    }

    constexpr std::int64_t tokens = 4;
    std::vector<float> x(tokens * pattern.cols(), 1.0f), y(tokens * pattern.rows());
    const TensorView x_view(x.data(), kFloat32, {tokens, pattern.cols()});
    const TensorView y_view(y.data(), kFloat32, {tokens, pattern.rows()});
    const HostWorkspace workspace(triage::linear_workspace_bytes(pattern, weight.values, x_view, nullptr, y_view));
    triage::linear(pattern, weight.values, x_view, nullptr, y_view, {}, workspace);

    std::printf("%s: %lld x %lld, %.0f%% of its blocks of %d\n", weight.name.c_str(),
                static_cast<long long>(pattern.rows()), static_cast<long long>(pattern.cols()), 100 * pattern.density(),
                pattern.block_size());
    std::printf("Y[0, 0] = %g, Y[0, %lld] = %g\n", y.front(), static_cast<long long>(pattern.rows() - 1),
                y[pattern.rows() - 1]);
    if (argc > 1) return 0;
    std::filesystem::remove(path);
    return y.front() == 32 && y[pattern.rows() - 1] == 0 ? 0 : 1;
  } catch (const triage::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
