#include "verdict/correctness_cases.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "registry/registry.h"

namespace triage::verdict {
namespace {

std::int64_t blocks_in(std::int64_t length, int block) { return (length + block - 1) / block; }

/// Collects problems of one operation, dtype and block; every problem gets a seed of its own.
class Grid {
 public:
  Grid(Operation operation, DType dtype, int block, std::uint64_t seed) : random_(seed) {
    base_.operation = operation;
    base_.dtype = dtype;
    base_.block = block;
  }

  ProblemSpec base() {
    ProblemSpec spec = base_;
    spec.seed = random_.bits() >> 1;
    spec.sddmm_layout = random_.chance(0.5) ? SddmmLayout::x_yt : SddmmLayout::xt_y;
    // Rows of 16 bytes are what some kernels ask for; they are more than half, so that those see every kind of problem.
    spec.stride_multiple = random_.chance(0.7) ? 8 : 1;
    return spec;
  }

  void add(ProblemSpec spec, std::int64_t rows, std::int64_t cols, std::int64_t dense, const std::string& kind,
           double density) {
    spec.rows = rows;
    spec.cols = cols;
    spec.dense = dense;
    spec.pattern_name = kind;
    spec.pattern =
        make_case_pattern(kind, blocks_in(rows, spec.block), blocks_in(cols, spec.block), density, spec.seed);
    specs_.push_back(std::move(spec));
  }

  Random& random() { return random_; }
  std::vector<ProblemSpec> take() { return std::move(specs_); }

 private:
  ProblemSpec base_;
  Random random_;
  std::vector<ProblemSpec> specs_;
};

constexpr std::int64_t kDenseSizes[] = {1,  2,  3,  7,  8,   9,   15,  16,  17,  24,  31,  32,  33,  48,
                                        63, 64, 65, 96, 127, 128, 129, 191, 192, 193, 255, 256, 257, 400};
constexpr const char* kPatterns[] = {"uniform",    "equal_rows",   "banded",    "power_law", "skewed",
                                     "holes",      "experts",      "full",      "empty",     "one_block",
                                     "last_block", "one_long_row", "empty_ends"};
constexpr ValueKind kValueKinds[] = {ValueKind::centred, ValueKind::positive, ValueKind::wide, ValueKind::integers};

void add_sizes(Grid& grid, int block) {
  const std::int64_t b = block;
  for (const std::int64_t dense : kDenseSizes) {
    grid.add(grid.base(), 3 * b - 5, 5 * b - 3, dense, "uniform", 0.5);
    if (dense > 64) grid.add(grid.base(), 3 * b - 8, 5 * b - 3, dense, "uniform", 0.5);
  }
  // Around one block, around groups of block rows (up to 24 go to one thread block), more than one group.
  for (const std::int64_t rows : {std::int64_t{1}, b - 1, b, b + 1, 2 * b, 3 * b + 1, 4 * b, 8 * b - 1, 12 * b,
                                  16 * b + 1, 24 * b, 25 * b - 7, 49 * b}) {
    grid.add(grid.base(), rows, 3 * b + 2, 40, "uniform", 0.4);
    grid.add(grid.base(), (rows + 7) / 8 * 8, 3 * b + 2, 136, "uniform", 0.4);
  }
  for (const std::int64_t cols :
       {std::int64_t{1}, b - 1, b, b + 1, 2 * b, 4 * b, 8 * b + 3, 16 * b, 17 * b - 1, 33 * b}) {
    grid.add(grid.base(), 3 * b + 2, cols, 40, "uniform", 0.4);
    grid.add(grid.base(), 3 * b + 8, cols, 88, "uniform", 0.4);
  }
}

void add_patterns(Grid& grid, int block) {
  const std::int64_t length = block == 16 ? 33 : block == 32 ? 26 : block == 64 ? 14 : 10;
  for (const char* kind : kPatterns) {
    grid.add(grid.base(), length * block, length * block, 72, kind, 0.15);
    grid.add(grid.base(), (length + 8) * block - 9, (length - 4) * block - 4, 17, kind, 0.3);
  }
}

void add_memory_layouts(Grid& grid, int block) {
  for (const std::int64_t extra : {0, 1, 3, 8, 40})
    for (const std::int64_t offset : {0, 1, 4, 8}) {
      ProblemSpec spec = grid.base();
      spec.stride_multiple = 1;
      spec.extra_stride = extra;
      spec.offset = offset;
      spec.beta = extra == 3 ? 1.0f : 0.0f;
      grid.add(spec, 5 * block - (offset == 0 ? 8 : 2), 6 * block + 8, 72, "uniform", 0.4);
    }
}

void add_epilogues(Grid& grid, Operation operation, int block) {
  if (operation == Operation::linear) {
    for (const Activation activation : {Activation::none, Activation::relu, Activation::gelu, Activation::silu})
      for (const bool bias : {false, true}) {
        ProblemSpec spec = grid.base();
        spec.activation = activation;
        spec.bias = bias;
        grid.add(spec, 5 * block - 1, 4 * block, 37, "holes", 0.3);
        grid.add(spec, 5 * block - 8, 4 * block, 104, "holes", 0.3);
      }
    return;
  }
  for (const float alpha : {1.0f, -2.0f, 0.375f, 0.0f})
    for (const float beta : {0.0f, 1.0f, -0.5f}) {
      ProblemSpec spec = grid.base();
      spec.alpha = alpha;
      spec.beta = beta;
      grid.add(spec, 5 * block - 1, 4 * block, 37, "holes", 0.3);
      grid.add(spec, 5 * block - 8, 4 * block, 104, "holes", 0.3);
    }
}

void add_value_kinds(Grid& grid, Operation operation, int block) {
  for (const ValueKind kind : kValueKinds)
    for (const std::int64_t dense : {5, 130, 136}) {
      ProblemSpec spec = grid.base();
      spec.values = kind;
      if (operation == Operation::linear) {
        spec.bias = true;
        spec.activation = kind == ValueKind::integers ? Activation::relu : Activation::none;
      } else {
        spec.alpha = -2;
        spec.beta = 3;
      }
      grid.add(spec, 6 * block, 10 * block - 1, dense, "uniform", 0.3);
    }
  for (const SddmmLayout layout : {SddmmLayout::x_yt, SddmmLayout::xt_y}) {
    if (operation != Operation::sddmm) break;
    for (const std::int64_t dense : {1, 64, 300}) {
      ProblemSpec spec = grid.base();
      spec.sddmm_layout = layout;
      spec.values = ValueKind::integers;
      grid.add(spec, 6 * block - 3, 7 * block - 2, dense, "uniform", 0.3);
    }
  }
}

}  // namespace

DType dtype_from_name(const std::string& name) {
  for (const DType dtype : {DType::float16, DType::bfloat16, DType::float32, DType::float64})
    if (name == dtype_name(dtype)) return dtype;
  throw std::invalid_argument("no dtype is named '" + name + "'");
}

Operation operation_from_name(const std::string& name) {
  for (const Operation operation : {Operation::spmm, Operation::linear, Operation::sddmm})
    if (name == operation_name(operation)) return operation;
  throw std::invalid_argument("no operation is named '" + name + "'");
}

bench::HostPattern make_case_pattern(const std::string& kind, std::int64_t block_rows, std::int64_t block_cols,
                                     double density, std::uint64_t seed) {
  const auto& kinds = bench::pattern_kinds();
  if (std::find(kinds.begin(), kinds.end(), kind) != kinds.end())
    return bench::make_pattern(kind, block_rows, block_cols, density, seed);
  Random random(seed);
  const auto exists = [&](std::int64_t i, std::int64_t j) {
    if (kind == "full") return true;
    if (kind == "empty") return false;
    if (kind == "one_block") return i == block_rows / 2 && j == block_cols / 3;
    if (kind == "last_block") return i == block_rows - 1 && j == block_cols - 1;
    if (kind == "one_long_row") return i == block_rows / 3 || j == (i * 7) % block_cols;
    if (kind == "empty_ends")
      return i > 0 && i < block_rows - 1 && j > 0 && j < block_cols - 1 && random.chance(density);
    throw std::invalid_argument("no pattern is named '" + kind + "'");
  };
  bench::HostPattern pattern;
  pattern.block_rows = block_rows;
  pattern.block_cols = block_cols;
  for (std::int64_t i = 0; i < block_rows; ++i) {
    for (std::int64_t j = 0; j < block_cols; ++j)
      if (exists(i, j)) pattern.col.push_back(static_cast<std::int32_t>(j));
    pattern.crow.push_back(static_cast<std::int32_t>(pattern.col.size()));
  }
  return pattern;
}

std::vector<ProblemSpec> edge_cases(Operation operation, DType dtype, int block, std::uint64_t seed) {
  Grid grid(operation, dtype, block, seed);
  add_sizes(grid, block);
  add_patterns(grid, block);
  add_memory_layouts(grid, block);
  add_epilogues(grid, operation, block);
  add_value_kinds(grid, operation, block);
  return grid.take();
}

std::vector<ProblemSpec> random_cases(Operation operation, DType dtype, int block, int count, std::uint64_t seed,
                                      std::int64_t max_dimension) {
  Grid grid(operation, dtype, block, seed);
  Random& random = grid.random();
  // Small sizes are as likely as large ones.
  const auto size = [&] {
    return static_cast<std::int64_t>(std::exp(random.uniform() * std::log(static_cast<double>(max_dimension)))) + 1;
  };
  for (int i = 0; i < count; ++i) {
    ProblemSpec spec = grid.base();
    spec.values = kValueKinds[random.integer(0, 3)];
    spec.extra_stride = random.chance(0.3) ? random.integer(1, 70) : 0;
    spec.offset = random.chance(0.2) ? random.integer(1, 16) : 0;
    if (operation == Operation::linear) {
      spec.bias = random.chance(0.5);
      spec.activation = static_cast<Activation>(random.integer(0, 3));
    } else {
      spec.alpha = random.chance(0.5) ? 1.0f : static_cast<float>(random.integer(-4, 4));
      spec.beta = random.chance(0.5) ? 0.0f : static_cast<float>(random.integer(-2, 2));
    }
    const char* kind = kPatterns[random.integer(0, std::size(kPatterns) - 1)];
    const std::int64_t multiple = random.chance(0.5) ? 8 : 1;
    const auto rounded = [&](std::int64_t length) { return (length + multiple - 1) / multiple * multiple; };
    const std::int64_t rows = rounded(size()), cols = size(), dense = rounded(size());
    grid.add(spec, rows, cols, dense, kind, random.uniform());
  }
  return grid.take();
}

std::vector<ProblemSpec> cases_of_kernel(const KernelReport& kernel, int random_count, std::uint64_t seed) {
  const Operation operation = operation_from_name(kernel.operation);
  std::vector<int> blocks = {16, 32, 64, 128};
  if (kernel.block_size != 0) blocks = {kernel.block_size};
  std::vector<ProblemSpec> all;
  for (const int block : blocks)
    for (const std::string& name : kernel.dtypes) {
      const DType dtype = dtype_from_name(name);
      const std::uint64_t own = random_bits(seed, static_cast<std::uint64_t>(block) * 8 + static_cast<int>(dtype));
      for (auto& spec : edge_cases(operation, dtype, block, own)) all.push_back(std::move(spec));
      for (auto& spec : random_cases(operation, dtype, block, random_count, own + 1)) all.push_back(std::move(spec));
    }
  return all;
}

CheckOptions check_options(const ProblemSpec& spec) {
  CheckOptions options;
  const bool linear = spec.operation == Operation::linear;
  const bool plain_sums = linear ? spec.activation == Activation::none || spec.activation == Activation::relu
                                 : spec.alpha == std::round(spec.alpha) && spec.beta == std::round(spec.beta);
  options.exact = spec.values == ValueKind::integers && plain_sums;
  return options;
}

}  // namespace triage::verdict
