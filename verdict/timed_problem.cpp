#include "verdict/timed_problem.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "verdict/correctness_cases.h"
#include "verdict/operands.h"
#include "verdict/random_inputs.h"

namespace triage::verdict {
namespace {

// Seeds of the operands: different streams of one seed.
enum OperandStream : std::uint64_t { kValuesStream = 1, kFirstStream, kSecondStream, kBiasStream, kPatternStream };
std::uint64_t stream_seed(std::uint64_t seed, OperandStream stream) { return seed * 16 + stream; }

}  // namespace

bool epilogue_has_bias(const std::string& epilogue) { return epilogue.rfind("bias", 0) == 0; }

Activation epilogue_activation(const std::string& epilogue) {
  for (const auto& [name, activation] : {std::pair{"relu", Activation::relu}, std::pair{"gelu", Activation::gelu},
                                         std::pair{"silu", Activation::silu}}) {
    if (epilogue.find(name) != std::string::npos) return activation;
  }
  return Activation::none;
}

TensorView::TensorView(void* data, DLDevice device, DLDataType dtype, std::vector<std::int64_t> lengths) {
  std::copy(lengths.begin(), lengths.end(), shape);
  for (int i = static_cast<int>(lengths.size()) - 2; i >= 0; --i) strides[i] = strides[i + 1] * shape[i + 1];
  tensor.data = data;
  tensor.device = device;
  tensor.ndim = static_cast<int>(lengths.size());
  tensor.dtype = dtype;
  tensor.shape = shape;
  tensor.strides = strides;
}

bench::HostPattern TimedProblem::pattern_of(const Request& request) {
  const ReceiptShape& s = request.shape;
  const std::int64_t cols = request.op == "sparse_gemm.sddmm" ? s.n : s.k;
  return bench::make_pattern(s.pattern, (s.m + s.block - 1) / s.block, (cols + s.block - 1) / s.block, s.density,
                             stream_seed(request.seed, kPatternStream));
}

TimedProblem::TimedProblem(const Request& request, bench::HostPattern pattern)
    : request_(request), dtype_(dtype_from_name(request.dtype)), host_pattern_(std::move(pattern)) {
  if (request_.copies < 1) throw std::runtime_error("a problem needs one copy of its operands at least");
  request_.shape.nnz_blocks = host_pattern_.nnz_blocks();
  activation_ = epilogue_activation(request_.shape.epilogue);
  const ReceiptShape& s = request_.shape;
  const DLDevice host{kDLCPU, 0}, device = request_.device;
  const DLDataType index{kDLInt, 32, 1};

  // The index arrays travel first: the library then builds everything where they lie.
  const std::size_t crow_bytes = host_pattern_.crow.size() * 4, col_bytes = host_pattern_.col.size() * 4;
  Buffer crow(device, crow_bytes, request_.stream), col(device, std::max<std::size_t>(col_bytes, 4), request_.stream);
  copy_bytes(crow.data(), device, host_pattern_.crow.data(), host, crow_bytes, request_.stream, "copy of crow_indices");
  copy_bytes(col.data(), device, host_pattern_.col.data(), host, col_bytes, request_.stream, "copy of col_indices");
  const TensorView crow_view(crow.data(), device, index, {static_cast<std::int64_t>(host_pattern_.crow.size())});
  const TensorView col_view(col.data(), device, index, {nnz_blocks()});
  pattern_ = BlockPattern::from_bsr(crow_view.tensor, col_view.tensor, s.m, is_sddmm() ? s.n : s.k, s.block,
                                    request_.stream);
  allocate();
}

std::size_t TimedProblem::values_elements() const {
  return static_cast<std::size_t>(nnz_blocks()) * request_.shape.block * request_.shape.block;
}

std::size_t TimedProblem::output_elements() const {
  return is_sddmm() ? values_elements() : static_cast<std::size_t>(request_.shape.m * request_.shape.n);
}

std::size_t TimedProblem::output_bytes() const {
  return output_elements() * static_cast<std::size_t>(dtype_bytes(dtype_));
}

void TimedProblem::allocate() {
  const ReceiptShape& s = request_.shape;
  const auto make = [&](std::size_t elements) {
    return Buffer(request_.device, std::max<std::size_t>(elements, 1) * static_cast<std::size_t>(dtype_bytes(dtype_)),
                  request_.stream);
  };
  const auto filled = [&](std::int64_t rows, std::int64_t cols, OperandStream stream) {
    Buffer buffer = make(static_cast<std::size_t>(rows * cols));
    fill_centred(dtype_, buffer.data(), rows, cols, stream_seed(request_.seed, stream), request_.device, request_.stream);
    return buffer;
  };
  for (int copy = 0; copy < request_.copies; ++copy) {
    values_.push_back(is_sddmm() ? make(values_elements()) : filled(nnz_blocks() * s.block, s.block, kValuesStream));
    first_.push_back(is_sddmm() ? filled(s.m, s.k, kFirstStream)
                     : is_linear() ? filled(s.n, s.k, kFirstStream)
                                   : filled(s.k, s.n, kFirstStream));
    if (is_sddmm()) {
      second_.push_back(filled(s.n, s.k, kSecondStream));
    } else {
      output_.push_back(make(output_elements()));
    }
  }
  if (epilogue_has_bias(s.epilogue)) bias_ = filled(1, s.m, kBiasStream);

  if (s.layout == "packed") {
    const DLDataType type = dlpack_dtype(dtype_);
    for (int copy = 0; copy < request_.copies; ++copy) {
      packed_.push_back(make(values_elements()));
      const TensorView canonical(values(copy), request_.device, type, {nnz_blocks(), s.block, s.block});
      const TensorView packed(packed_.back().data(), request_.device, type, {nnz_blocks(), s.block, s.block});
      prepack(pattern_, canonical.tensor, packed.tensor, is_linear() ? PackedFor::linear : PackedFor::spmm,
              request_.stream);
    }
  }
}

void TimedProblem::run(int copy) {
  const ReceiptShape& s = request_.shape;
  const DLDevice device = request_.device;
  const DLDataType type = dlpack_dtype(dtype_);
  const bool packed = !packed_.empty();
  const ValuesLayout layout = packed ? ValuesLayout::packed : ValuesLayout::canonical;
  const TensorView values_view(packed ? buffer(packed_, copy) : values(copy), device, type,
                               {nnz_blocks(), s.block, s.block});
  // The workspace is asked for at the first call; its size depends on the problem alone.
  const auto workspace = [&](auto query) {
    if (!workspace_known_) {
      if (const std::size_t bytes = query()) workspace_ = Buffer(device, bytes, request_.stream);
      workspace_known_ = true;
    }
    return Workspace{workspace_.data(), workspace_.bytes()};
  };
  if (is_sddmm()) {
    const TensorView x(first(copy), device, type, {s.m, s.k}), y(second(copy), device, type, {s.n, s.k});
    const Workspace scratch =
        workspace([&] { return sddmm_workspace_bytes(pattern_, x.tensor, y.tensor, values_view.tensor); });
    sddmm(pattern_, x.tensor, y.tensor, values_view.tensor, {}, scratch, request_.stream);
  } else if (is_linear()) {
    const TensorView x(first(copy), device, type, {s.n, s.k}), y(output(copy), device, type, {s.n, s.m});
    const TensorView bias_view(bias_.data(), device, type, {s.m});
    const DLTensor* bias = bias_.data() ? &bias_view.tensor : nullptr;
    const LinearOptions options{activation_, layout};
    const Workspace scratch = workspace(
        [&] { return linear_workspace_bytes(pattern_, values_view.tensor, x.tensor, bias, y.tensor, options); });
    linear(pattern_, values_view.tensor, x.tensor, bias, y.tensor, options, scratch, request_.stream);
  } else {
    const TensorView b(first(copy), device, type, {s.k, s.n}), c(output(copy), device, type, {s.m, s.n});
    SpmmOptions options;
    options.values_layout = layout;
    const Workspace scratch =
        workspace([&] { return spmm_workspace_bytes(pattern_, values_view.tensor, b.tensor, c.tensor, options); });
    spmm(pattern_, values_view.tensor, b.tensor, c.tensor, options, scratch, request_.stream);
  }
}

void TimedProblem::poison_outputs() {
  for (int copy = 0; copy < request_.copies; ++copy) {
    poison(output(copy), output_bytes(), request_.device, request_.stream);
  }
  if (workspace_.bytes() > 0) poison(workspace_.data(), workspace_.bytes(), request_.device, request_.stream);
}

SparseGemmCall TimedProblem::oracle_call(int copy) {
  const ReceiptShape& s = request_.shape;
  SparseGemmCall call;
  call.problem.operation = is_sddmm() ? Operation::sddmm : is_linear() ? Operation::linear : Operation::spmm;
  call.problem.dtype = dtype_;
  call.problem.block = s.block;
  call.problem.rows = s.m;
  call.problem.cols = is_sddmm() ? s.n : s.k;
  call.problem.dense = is_sddmm() ? s.k : s.n;
  call.problem.nnz_blocks = nnz_blocks();
  call.pattern.rows = call.problem.rows;
  call.pattern.cols = call.problem.cols;
  call.pattern.nnz_blocks = nnz_blocks();
  call.pattern.block = s.block;
  call.pattern.block_rows = static_cast<std::int32_t>(host_pattern_.block_rows);
  call.pattern.block_cols = static_cast<std::int32_t>(host_pattern_.block_cols);
  call.pattern.crow = static_cast<const std::int32_t*>(pattern_.crow_indices().data);
  call.pattern.col = static_cast<const std::int32_t*>(pattern_.col_indices().data);
  call.values = values(copy);
  call.bias = bias_.data();
  call.activation = activation_;
  if (is_sddmm()) {
    call.in0 = {first(copy), s.m, s.k, s.k};
    call.in1 = {second(copy), s.n, s.k, s.k};
  } else if (is_linear()) {
    call.in0 = {first(copy), s.n, s.k, s.k};
    call.out = {output(copy), s.n, s.m, s.m};
  } else {
    call.in0 = {first(copy), s.k, s.n, s.n};
    call.out = {output(copy), s.m, s.n, s.n};
  }
  return call;
}

int copies_for(double operand_bytes, std::size_t cache_bytes) {
  constexpr double kTimesCache = 4, kMostBytes = 4e9;
  constexpr int kMostCopies = 64;
  if (operand_bytes <= 0 || operand_bytes >= kTimesCache * static_cast<double>(cache_bytes)) return 1;
  const double wanted = std::ceil(kTimesCache * static_cast<double>(cache_bytes) / operand_bytes);
  const double affordable = std::floor(kMostBytes / operand_bytes);
  return static_cast<int>(std::clamp(std::min(wanted, affordable), 1.0, static_cast<double>(kMostCopies)));
}

}  // namespace triage::verdict
