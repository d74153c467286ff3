#include "verdict/problem.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "registry/registry.h"

namespace triage::verdict {
namespace {

const char* activation_name(Activation activation) {
  switch (activation) {
    case Activation::none:
      return "none";
    case Activation::relu:
      return "relu";
    case Activation::gelu:
      return "gelu";
    case Activation::silu:
      return "silu";
  }
  return "unknown";
}

BlockPattern make_block_pattern(const ProblemSpec& spec, DLDevice device, Stream stream) {
  bench::HostPattern host = spec.pattern;
  std::int64_t crow_shape = static_cast<std::int64_t>(host.crow.size()), col_shape = host.nnz_blocks();
  const auto view = [](std::vector<std::int32_t>& data, std::int64_t& shape) {
    DLTensor tensor{};
    tensor.data = data.data();
    tensor.device = {kDLCPU, 0};
    tensor.ndim = 1;
    tensor.dtype = {kDLInt, 32, 1};
    tensor.shape = &shape;
    return tensor;
  };
  const BlockPattern pattern =
      BlockPattern::from_bsr(view(host.crow, crow_shape), view(host.col, col_shape), spec.rows, spec.cols, spec.block);
  return on_cuda(device) ? pattern.to(device, stream) : pattern;
}

/// Elements between the rows of a matrix of `cols` columns.
std::int64_t stride_of(const ProblemSpec& spec, std::int64_t cols) {
  return (cols + spec.extra_stride + spec.stride_multiple - 1) / spec.stride_multiple * spec.stride_multiple;
}

std::uint64_t seed_of(std::uint64_t seed, int operand) {
  return random_bits(seed, static_cast<std::uint64_t>(operand));
}

}  // namespace

std::string ProblemSpec::label() const {
  std::string text = operation_name(operation);
  const auto add = [&](const std::string& name, const std::string& value) { text += " " + name + "=" + value; };
  add("dtype", dtype_name(dtype));
  add("rows", std::to_string(rows));
  add("cols", std::to_string(cols));
  add("dense", std::to_string(dense));
  add("block", std::to_string(block));
  add("pattern", pattern_name);
  add("nnz_blocks", std::to_string(pattern.nnz_blocks()));
  if (operation == Operation::linear) {
    if (bias) add("bias", "yes");
    if (activation != Activation::none) add("activation", activation_name(activation));
  } else {
    if (alpha != 1) add("alpha", std::to_string(alpha));
    if (beta != 0) add("beta", std::to_string(beta));
  }
  if (operation == Operation::sddmm) add("layout", sddmm_layout == SddmmLayout::x_yt ? "x_yt" : "xt_y");
  if (values_layout == ValuesLayout::packed) add("values", "packed");
  if (input_gradient) add("gradient", "input");
  if (extra_stride != 0) add("extra_stride", std::to_string(extra_stride));
  if (offset != 0) add("offset", std::to_string(offset));
  if (stride_multiple != 1) add("stride_multiple", std::to_string(stride_multiple));
  add("inputs", value_kind_name(values));
  add("seed", std::to_string(seed));
  return text;
}

SparseGemmProblem problem_of(const ProblemSpec& spec) {
  SparseGemmProblem problem{spec.operation,           spec.dtype, spec.block, spec.rows, spec.cols, spec.dense,
                            spec.pattern.nnz_blocks()};
  problem.values_layout = spec.values_layout;
  problem.sddmm_layout = spec.sddmm_layout;
  // The dense matrices are [rows, dense] and [cols, dense], or both the other way round. A single row has no stride.
  const bool dense_first = spec.operation == Operation::linear ||
                           (spec.operation == Operation::sddmm && spec.sddmm_layout == SddmmLayout::xt_y);
  const auto aligned = [&](std::int64_t length) {
    return (dense_first ? spec.dense : length) == 1 || stride_of(spec, dense_first ? length : spec.dense) % 8 == 0;
  };
  problem.aligned16 = spec.offset * dtype_bytes(spec.dtype) % 16 == 0 && aligned(spec.rows) && aligned(spec.cols);
  return problem;
}

Problem::Problem(const ProblemSpec& spec, DLDevice device, Stream stream) : spec_(spec), device_(device) {
  pattern_ = make_block_pattern(spec, device, stream);
  const std::int64_t block = spec.block;
  std::int64_t placed = 0;
  const auto matrix = [&](const char* name, std::int64_t rows, std::int64_t cols) {
    return GuardedTensor(name, device, spec.dtype, {rows, cols}, stride_of(spec, cols), spec.offset,
                         seed_of(spec.seed, 100 + static_cast<int>(placed++)));
  };
  const auto blocks = [&](const char* name) {
    return GuardedTensor(name, device, spec.dtype, {spec.pattern.nnz_blocks(), block, block}, 0, 0,
                         seed_of(spec.seed, 100 + static_cast<int>(placed++)));
  };
  values_ = blocks("values");
  switch (spec.operation) {
    case Operation::spmm:
      in0_ = matrix("b", spec.cols, spec.dense);
      out_ = matrix("c", spec.rows, spec.dense);
      break;
    case Operation::linear:
      in0_ = matrix("x", spec.dense, spec.cols);
      out_ = matrix("y", spec.dense, spec.rows);
      bias_ = GuardedTensor("bias", device, spec.dtype, {spec.rows}, 0, spec.offset, seed_of(spec.seed, 200));
      break;
    case Operation::sddmm: {
      const bool rows_first = spec.sddmm_layout == SddmmLayout::x_yt;
      in0_ = rows_first ? matrix("x", spec.rows, spec.dense) : matrix("x", spec.dense, spec.rows);
      in1_ = rows_first ? matrix("y", spec.cols, spec.dense) : matrix("y", spec.dense, spec.cols);
      break;
    }
  }
  if (spec.values_layout == ValuesLayout::packed) packed_ = blocks("packed values");
  if (spec.input_gradient) turned_ = blocks("values of the transposed matrix");
  fill(spec.seed);
  upload_inputs(stream);
  output().upload(stream);
  workspace_ = GuardedWorkspace(device, workspace_bytes(), stream);
}

void Problem::fill(std::uint64_t seed) {
  const auto fill_matrix = [&](GuardedTensor& tensor, int operand) {
    const DLTensor view = tensor.view();
    if (view.ndim == 0) return;
    const bool matrix = view.ndim == 2;
    fill_random(spec_.dtype, tensor.host(), matrix ? view.shape[0] : 1, view.shape[matrix ? 1 : 0], tensor.stride(),
                seed_of(seed, operand), spec_.values);
  };
  fill_matrix(in0_, 0);
  fill_matrix(in1_, 1);
  fill_matrix(bias_, 2);
  if (spec_.operation != Operation::sddmm && spec_.beta != 0) fill_matrix(out_, 3);
  if (spec_.operation == Operation::sddmm && spec_.beta == 0) return;

  // Blocks; what lies beyond a ragged edge is NaN again, since nobody may read it.
  const std::int64_t block = spec_.block, nnz = spec_.pattern.nnz_blocks();
  fill_random(spec_.dtype, values_.host(), nnz * block, block, block, seed_of(seed, 4), spec_.values);
  const int bytes = dtype_bytes(spec_.dtype);
  for (std::int64_t i = 0; i < spec_.pattern.block_rows; ++i)
    for (std::int64_t p = spec_.pattern.crow[i]; p < spec_.pattern.crow[i + 1]; ++p) {
      const std::int64_t rows = spec_.rows - i * block, cols = spec_.cols - spec_.pattern.col[p] * block;
      for (std::int64_t r = 0; r < block; ++r) {
        const std::int64_t present = r < rows ? std::min(cols, block) : 0;
        if (present == block) continue;
        fill_poison(spec_.dtype, static_cast<char*>(values_.host()) + ((p * block + r) * block + present) * bytes,
                    block - present, seed_of(seed, 5) + static_cast<std::uint64_t>(p * block + r));
      }
    }
}

void Problem::upload_inputs(Stream stream) {
  in0_.upload(stream);
  if (spec_.operation == Operation::sddmm) {
    in1_.upload(stream);
    return;
  }
  values_.upload(stream);
  if (spec_.input_gradient) {
    turn_values();
    turned_.upload(stream);
  }
  if (spec_.operation == Operation::linear) bias_.upload(stream);
  if (spec_.values_layout == ValuesLayout::packed) pack(stream);
}

void Problem::turn_values() {
  const bench::HostPattern& host = spec_.pattern;
  const std::int64_t block = spec_.block;
  const std::size_t bytes = static_cast<std::size_t>(dtype_bytes(spec_.dtype));
  // Where the blocks of each column begin among those of the transposed matrix.
  std::vector<std::int64_t> next(static_cast<std::size_t>(host.block_cols) + 1, 0);
  for (const std::int32_t col : host.col) ++next[static_cast<std::size_t>(col) + 1];
  for (std::size_t col = 1; col < next.size(); ++col) next[col] += next[col - 1];
  for (std::int64_t p = 0; p < host.nnz_blocks(); ++p) {
    const std::int64_t turned = next[static_cast<std::size_t>(host.col[static_cast<std::size_t>(p)])]++;
    const char* from = static_cast<const char*>(values_.host()) + static_cast<std::size_t>(p * block * block) * bytes;
    char* to = static_cast<char*>(turned_.host()) + static_cast<std::size_t>(turned * block * block) * bytes;
    for (std::int64_t r = 0; r < block; ++r)
      for (std::int64_t c = 0; c < block; ++c)
        std::memcpy(to + static_cast<std::size_t>(c * block + r) * bytes,
                    from + static_cast<std::size_t>(r * block + c) * bytes, bytes);
  }
}

void Problem::pack(Stream stream) {
  packed_.poison(seed_of(spec_.seed, 300), stream);
  prepack(pattern_, values_.view(), packed_.view(),
          spec_.operation == Operation::spmm ? PackedFor::spmm : PackedFor::linear, stream);
  synchronize(device_, stream);
}

void Problem::reset_output(Stream stream) {
  output().upload(stream);
  workspace_.poison(stream);
}

void Problem::refill(std::uint64_t seed, Stream stream) {
  fill(seed);
  upload_inputs(stream);
  reset_output(stream);
}

std::size_t Problem::workspace_bytes() const {
  if (spec_.input_gradient) {
    const BlockPattern transposed = pattern_.transposed();
    if (spec_.operation == Operation::linear) {
      return linear_backward_input_workspace_bytes(transposed, turned_.view(), in0_.view(), out_.view());
    }
    return spmm_backward_b_workspace_bytes(transposed, turned_.view(), in0_.view(), out_.view(),
                                           {spec_.alpha, spec_.beta});
  }
  const DLTensor values = spec_.values_layout == ValuesLayout::packed ? packed_.view() : values_.view();
  switch (spec_.operation) {
    case Operation::spmm:
      return spmm_workspace_bytes(pattern_, values, in0_.view(), out_.view(),
                                  {spec_.alpha, spec_.beta, spec_.values_layout});
    case Operation::linear: {
      const DLTensor bias = bias_.view();
      return linear_workspace_bytes(pattern_, values, in0_.view(), spec_.bias ? &bias : nullptr, out_.view(),
                                    {spec_.activation, spec_.values_layout});
    }
    case Operation::sddmm:
      return sddmm_workspace_bytes(pattern_, in0_.view(), in1_.view(), values,
                                   {spec_.sddmm_layout, spec_.alpha, spec_.beta});
  }
  return 0;
}

void Problem::run(Stream stream) {
  if (spec_.input_gradient) {
    const BlockPattern transposed = pattern_.transposed();
    if (spec_.operation == Operation::linear) {
      return linear_backward_input(transposed, turned_.view(), in0_.view(), out_.view(), workspace_.view(), stream);
    }
    return spmm_backward_b(transposed, turned_.view(), in0_.view(), out_.view(), {spec_.alpha, spec_.beta},
                           workspace_.view(), stream);
  }
  const DLTensor values = spec_.values_layout == ValuesLayout::packed ? packed_.view() : values_.view();
  switch (spec_.operation) {
    case Operation::spmm:
      return spmm(pattern_, values, in0_.view(), out_.view(), {spec_.alpha, spec_.beta, spec_.values_layout},
                  workspace_.view(), stream);
    case Operation::linear: {
      const DLTensor bias = bias_.view();
      return linear(pattern_, values, in0_.view(), spec_.bias ? &bias : nullptr, out_.view(),
                    {spec_.activation, spec_.values_layout}, workspace_.view(), stream);
    }
    case Operation::sddmm:
      return sddmm(pattern_, in0_.view(), in1_.view(), values, {spec_.sddmm_layout, spec_.alpha, spec_.beta},
                   workspace_.view(), stream);
  }
}

SparseGemmCall Problem::host_call() const {
  SparseGemmCall call;
  const bench::HostPattern& host = spec_.pattern;
  call.problem = problem_of(spec_);
  call.pattern.rows = spec_.rows;
  call.pattern.cols = spec_.cols;
  call.pattern.nnz_blocks = host.nnz_blocks();
  call.pattern.block = spec_.block;
  call.pattern.block_rows = static_cast<std::int32_t>(host.block_rows);
  call.pattern.block_cols = static_cast<std::int32_t>(host.block_cols);
  call.pattern.crow = host.crow.data();
  call.pattern.col = host.col.data();
  const auto matrix = [](const GuardedTensor& tensor) {
    const DLTensor view = tensor.view();
    if (view.ndim != 2) return Matrix{};
    return Matrix{const_cast<void*>(tensor.host()), view.shape[0], view.shape[1], tensor.stride()};
  };
  call.values = const_cast<void*>(values_.host());
  call.in0 = matrix(in0_);
  call.in1 = matrix(in1_);
  call.out = matrix(out_);
  call.bias = spec_.operation == Operation::linear && spec_.bias ? bias_.host() : nullptr;
  call.alpha = spec_.alpha;
  call.beta = spec_.beta;
  call.activation = spec_.activation;
  return call;
}

CheckResult Problem::check(const CheckOptions& options, Stream stream) {
  synchronize(device_, stream);
  output().download(stream);
  CheckResult result = check_result(host_call(), output().downloaded(), options);
  const auto add_damage = [&](const std::string& damage) {
    if (damage.empty()) return;
    result.sentence = result.ok ? damage : result.sentence + "; " + damage;
    result.ok = false;
  };
  add_damage(output().damage(false));
  add_damage(workspace_.damage(stream));
  for (GuardedTensor* input : {&in0_, &in1_, &bias_, &values_, &turned_}) {
    if (input == &output() || input->view().ndim == 0) continue;
    input->download(stream);
    add_damage(input->damage(true));
  }
  return result;
}

std::vector<unsigned char> Problem::output_bytes(Stream stream) {
  synchronize(device_, stream);
  output().download(stream);
  return output().downloaded_bytes();
}

}  // namespace triage::verdict
