// spmm, linear, sddmm, their gradients, prepack: validate -> select -> launch.
#include "triage/sparse_gemm.h"

#include <algorithm>
#include <array>
#include <limits>
#include <string>
#include <utility>

#include "api/launch.h"
#include "api/pattern_data.h"
#include "api/tensor_check.h"
#include "cpu/gradient_parts.h"
#include "device/column_sums.h"
#include "device/turn_blocks.h"
#include "registry/registry.h"

namespace triage {

namespace {

constexpr bool kHasCuda = TRIAGE_HAS_CUDA;
constexpr std::int64_t kManyTiles = std::numeric_limits<std::int32_t>::max();

// A call whose arguments are in order, and the memory that its output must not touch.
struct Checked {
  SparseGemmCall call;
  Extent output;
  std::array<Extent, 3> inputs{};
  std::size_t input_count = 0;
  bool empty = false;  // nothing to compute
};

void add_input(Checked& checked, const Extent& input) {
  check_no_overlap(checked.output, input);
  checked.inputs[checked.input_count++] = input;
}

bool aligned(const void* data) { return reinterpret_cast<std::uintptr_t>(data) % 16 == 0; }
bool aligned(const Matrix& matrix) { return aligned(matrix.data) && matrix.stride % 8 == 0; }

std::size_t values_bytes(const SparseGemmProblem& p) {
  return static_cast<std::size_t>(p.nnz_blocks) * p.block * p.block * element_bytes(p.dtype);
}

void check_enum(const char* name, int value, int count) {
  if (value < 0 || value >= count) {
    fail_argument(std::string(name) + " is " + std::to_string(value) + ", accepted: 0 to " + std::to_string(count - 1));
  }
}

// A dimension that only the tensor itself tells, e.g. the columns of B.
std::int64_t free_length(const char* name, const DLTensor& tensor, int dimension) {
  check_shape_fields(name, tensor, 2);
  return tensor.shape[dimension];
}

// What all operations share: the pattern, its device, and the dtype that `typed` sets for the call.
Checked begin_call(const BlockPattern& pattern, Operation operation, const char* name, const DLTensor& typed,
                   int ndim) {
  const detail::PatternData& data = *pattern.data();
  Checked checked;
  SparseGemmProblem& problem = checked.call.problem;
  check_shape_fields(name, typed, ndim);
  problem.operation = operation;
  problem.dtype = check_float_dtype(name, typed);
  problem.block = data.view.block;
  problem.rows = data.view.rows;
  problem.cols = data.view.cols;
  problem.nnz_blocks = data.view.nnz_blocks;
  checked.call.pattern = data.view;
  checked.call.device = data.device;
  return checked;
}

Checked check_spmm(const BlockPattern& a, const DLTensor& a_values, const DLTensor& b, const DLTensor& c,
                   const SpmmOptions& options) {
  check_enum("options.values_layout", static_cast<int>(options.values_layout), 2);
  Checked checked = begin_call(a, Operation::spmm, "a_values", a_values, 3);
  SparseGemmCall& call = checked.call;
  SparseGemmProblem& problem = call.problem;
  const DLDevice device = call.device->dl;
  const int size = element_bytes(problem.dtype);
  problem.values_layout = options.values_layout;
  problem.dense = free_length("b", b, 1);
  call.values = check_values("a_values", a_values, problem.dtype, call.pattern, device);
  call.in0 = check_matrix("b", b, problem.dtype, device, problem.cols, problem.dense, "[a.cols, N]");
  call.out = check_matrix("c", c, problem.dtype, device, problem.rows, problem.dense, "[a.rows, N] with N of b");
  call.alpha = options.alpha;
  call.beta = options.beta;
  checked.output = extent("c", call.out, size);
  add_input(checked, extent("b", call.in0, size));
  add_input(checked, extent("a_values", call.values, values_bytes(problem)));
  checked.empty = problem.rows == 0 || problem.dense == 0;
  problem.aligned16 = aligned(call.values) && aligned(call.in0) && aligned(call.out);
  return checked;
}

Checked check_linear(const BlockPattern& w, const DLTensor& w_values, const DLTensor& x, const DLTensor* bias,
                     const DLTensor& y, const LinearOptions& options) {
  check_enum("options.values_layout", static_cast<int>(options.values_layout), 2);
  check_enum("options.activation", static_cast<int>(options.activation), 4);
  Checked checked = begin_call(w, Operation::linear, "w_values", w_values, 3);
  SparseGemmCall& call = checked.call;
  SparseGemmProblem& problem = call.problem;
  const DLDevice device = call.device->dl;
  const int size = element_bytes(problem.dtype);
  problem.values_layout = options.values_layout;
  problem.dense = free_length("x", x, 0);
  call.values = check_values("w_values", w_values, problem.dtype, call.pattern, device);
  call.in0 = check_matrix("x", x, problem.dtype, device, problem.dense, problem.cols, "[T, w.cols]");
  call.out = check_matrix("y", y, problem.dtype, device, problem.dense, problem.rows, "[T, w.rows] with T of x");
  call.activation = options.activation;
  checked.output = extent("y", call.out, size);
  add_input(checked, extent("x", call.in0, size));
  add_input(checked, extent("w_values", call.values, values_bytes(problem)));
  if (bias != nullptr) {
    check_shape_fields("bias", *bias, 1);
    check_same_device("bias", *bias, device);
    check_dtype("bias", *bias, problem.dtype);
    check_lengths("bias", *bias, {problem.rows}, "[w.rows]");
    check_contiguous("bias", *bias);
    call.bias = check_data("bias", *bias);
    add_input(checked, extent("bias", call.bias, static_cast<std::size_t>(problem.rows) * size));
  }
  checked.empty = problem.rows == 0 || problem.dense == 0;
  problem.aligned16 = aligned(call.values) && aligned(call.in0) && aligned(call.out);
  return checked;
}

// What a caller calls the operands of an sddmm.
struct SddmmNames {
  const char *x = "x", *y = "y", *values = "values";
};
constexpr SddmmNames kWeightGradientNames{"dy", "x", "dw_values"};

Checked check_sddmm(const BlockPattern& pattern, const DLTensor& x, const DLTensor& y, const DLTensor& values,
                    const SddmmOptions& options, const SddmmNames& names = {}) {
  check_enum("options.layout", static_cast<int>(options.layout), 2);
  Checked checked = begin_call(pattern, Operation::sddmm, names.values, values, 3);
  SparseGemmCall& call = checked.call;
  SparseGemmProblem& problem = call.problem;
  const DLDevice device = call.device->dl;
  const int size = element_bytes(problem.dtype);
  problem.sddmm_layout = options.layout;
  if (options.layout == SddmmLayout::x_yt) {
    problem.dense = free_length(names.x, x, 1);
    call.in0 = check_matrix(names.x, x, problem.dtype, device, problem.rows, problem.dense, "[pattern.rows, D]");
    call.in1 = check_matrix(names.y, y, problem.dtype, device, problem.cols, problem.dense,
                            "[pattern.cols, D] with D of the other operand");
  } else {
    problem.dense = free_length(names.x, x, 0);
    call.in0 = check_matrix(names.x, x, problem.dtype, device, problem.dense, problem.rows, "[D, pattern.rows]");
    call.in1 = check_matrix(names.y, y, problem.dtype, device, problem.dense, problem.cols,
                            "[D, pattern.cols] with D of the other operand");
  }
  call.values = check_values(names.values, values, problem.dtype, call.pattern, device);
  call.alpha = options.alpha;
  call.beta = options.beta;
  checked.output = extent(names.values, call.values, values_bytes(problem));
  add_input(checked, extent(names.x, call.in0, size));
  add_input(checked, extent(names.y, call.in1, size));
  checked.empty = problem.nnz_blocks == 0;
  problem.aligned16 = aligned(call.values) && aligned(call.in0) && aligned(call.in1);
  return checked;
}

// The gradient by the dense operand of spmm (`in` is dC, `out` dB) or of linear (dY and dX): a call of the twin, but
// for the values, which are still those of the pattern.
Checked check_input_gradient(const BlockPattern& pattern, Operation operation, const char* values_name,
                             const DLTensor& values, const char* in_name, const DLTensor& in, const char* out_name,
                             const DLTensor& out, float alpha, float beta) {
  Checked checked = begin_call(pattern, operation, values_name, values, 3);
  SparseGemmCall& call = checked.call;
  SparseGemmProblem& problem = call.problem;
  const DLDevice device = call.device->dl;
  const int size = element_bytes(problem.dtype);
  call.values = check_values(values_name, values, problem.dtype, call.pattern, device);
  call.pattern = pattern.data()->twin->view;
  std::swap(problem.rows, problem.cols);
  if (operation == Operation::linear) {
    problem.dense = free_length(in_name, in, 0);
    call.in0 = check_matrix(in_name, in, problem.dtype, device, problem.dense, problem.cols, "[T, w.rows]");
    call.out =
        check_matrix(out_name, out, problem.dtype, device, problem.dense, problem.rows, "[T, w.cols] with T of dy");
  } else {
    problem.dense = free_length(in_name, in, 1);
    call.in0 = check_matrix(in_name, in, problem.dtype, device, problem.cols, problem.dense, "[a.rows, N]");
    call.out =
        check_matrix(out_name, out, problem.dtype, device, problem.rows, problem.dense, "[a.cols, N] with N of dc");
  }
  call.alpha = alpha;
  call.beta = beta;
  checked.output = extent(out_name, call.out, size);
  add_input(checked, extent(in_name, call.in0, size));
  add_input(checked, extent(values_name, call.values, values_bytes(problem)));
  checked.empty = problem.rows == 0 || problem.dense == 0;
  problem.aligned16 = aligned(call.in0) && aligned(call.out);  // the turned values are
  return checked;
}

// Sets the schedule that the kernel reads, if it reads one.
void attach_schedule(const BlockPattern& pattern, const SparseGemmKernel& kernel, std::int64_t dense_tiles,
                     SparseGemmCall& call) {
  if (kernel.schedule == nullptr) return;
  if (const std::optional<ScheduleSpec> spec = kernel.schedule(call.pattern, *call.device)) {
    call.schedule = detail::find_schedule(*pattern.data(), *spec, dense_tiles);
  }
}

// The kernel for a checked call, whose schedule it sets.
const SparseGemmKernel& select_kernel(const BlockPattern& pattern, SparseGemmCall& call) {
  const SparseGemmProblem& problem = call.problem;
  const SparseGemmKernel& kernel = select_sparse_gemm(problem, *call.device);
  // spmm and linear compute each item once for every tile of about 256 columns or tokens. In sddmm an item is computed
  // once, and splitting costs nothing, because every block lies in one piece.
  const std::int64_t tiles = problem.operation == Operation::sddmm ? 0 : std::min(kManyTiles, problem.dense / 256 + 1);
  attach_schedule(pattern, kernel, tiles, call);
  return kernel;
}

std::size_t needed_workspace(const SparseGemmKernel& kernel, const SparseGemmCall& call) {
  return kernel.workspace_bytes == nullptr ? 0 : kernel.workspace_bytes(call.problem, *call.device, call.schedule);
}

std::size_t query_workspace(const BlockPattern& pattern, Checked checked) {
  if (checked.empty) return 0;
  const SparseGemmKernel& kernel = select_kernel(pattern, checked.call);
  return needed_workspace(kernel, checked.call);
}

void run(const BlockPattern& pattern, Checked checked, const WorkspaceSource& workspace, Stream stream) {
  if (checked.empty) {
    set_last_kernel("");
    return;
  }
  SparseGemmCall& call = checked.call;
  const SparseGemmKernel& kernel = select_kernel(pattern, call);
  const Extent tensors[] = {checked.output, checked.inputs[0], checked.inputs[1], checked.inputs[2]};
  call.workspace = workspace_from(workspace, needed_workspace(kernel, call), kernel.name, tensors);
  call.stream = stream;
  const DeviceGuard guard(call.device->dl);
  kernel.launch(call);
  set_last_kernel(kernel.name);
}

// The turned values come first in the workspace of a gradient by the dense operand.
std::size_t turned_bytes(const SparseGemmProblem& problem) { return (values_bytes(problem) + 255) / 256 * 256; }

std::size_t query_input_gradient_workspace(const BlockPattern& pattern, Checked checked) {
  if (checked.empty) return 0;
  const BlockPattern twin = pattern.transposed();
  const SparseGemmKernel& kernel = select_kernel(twin, checked.call);
  return turned_bytes(checked.call.problem) + needed_workspace(kernel, checked.call);
}

void run_input_gradient(const BlockPattern& pattern, Checked checked, const Workspace& workspace, Stream stream) {
  if (checked.empty) {
    set_last_kernel("");
    return;
  }
  SparseGemmCall& call = checked.call;
  const SparseGemmProblem& problem = call.problem;
  const BlockPattern twin = pattern.transposed();
  const SparseGemmKernel& kernel = select_kernel(twin, call);
  const std::size_t turned = turned_bytes(problem);
  const Extent tensors[] = {checked.output, checked.inputs[0], checked.inputs[1]};
  check_workspace(workspace, turned + needed_workspace(kernel, call), kernel.name, tensors);
  const DeviceGuard guard(call.device->dl);
  const std::int32_t* positions = pattern.data()->arrays.positions;
  if (!on_cuda(call.device->dl)) {
    cpu::turn_blocks(call.values, positions, problem.nnz_blocks, problem.block, element_bytes(problem.dtype),
                     workspace.data);
  } else if constexpr (kHasCuda) {
    turn_blocks_cuda({call.values, positions, problem.nnz_blocks, problem.block}, workspace.data, stream);
  }
  call.values = workspace.data;
  call.workspace = {static_cast<char*>(workspace.data) + turned, workspace.bytes - turned};
  call.stream = stream;
  kernel.launch(call);
  set_last_kernel(kernel.name);
}

Checked check_linear_backward_input(const BlockPattern& w, const DLTensor& w_values, const DLTensor& dy,
                                    const DLTensor& dx) {
  return check_input_gradient(w, Operation::linear, "w_values", w_values, "dy", dy, "dx", dx, 1.0f, 0.0f);
}

Checked check_spmm_backward_b(const BlockPattern& a, const DLTensor& a_values, const DLTensor& dc, const DLTensor& db,
                              const SpmmOptions& options) {
  if (options.values_layout != ValuesLayout::canonical) {
    fail_argument("options.values_layout is " + std::to_string(static_cast<int>(options.values_layout)) +
                  ", accepted here: 0 (canonical)");
  }
  return check_input_gradient(a, Operation::spmm, "a_values", a_values, "dc", dc, "db", db, options.alpha,
                              options.beta);
}

SddmmOptions weight_gradient_options(float beta) { return {SddmmLayout::xt_y, 1.0f, beta}; }

// The arguments of linear_backward_bias.
struct BiasGradient {
  Matrix dy;
  void* dbias;
  DType dtype;
  const Device* device;
  std::array<Extent, 2> tensors;
};

BiasGradient check_bias_gradient(const DLTensor& dy, const DLTensor& dbias) {
  BiasGradient checked;
  check_shape_fields("dy", dy, 2);
  checked.dtype = check_float_dtype("dy", dy);
  const DLDevice device = check_device("dy", dy);
  checked.dy = check_matrix("dy", dy, checked.dtype, device, dy.shape[0], dy.shape[1], "[T, out]");
  check_shape_fields("dbias", dbias, 1);
  check_same_device("dbias", dbias, device, "dy");
  check_dtype("dbias", dbias, checked.dtype);
  check_lengths("dbias", dbias, {checked.dy.cols}, "[out] with out of dy");
  check_contiguous("dbias", dbias);
  checked.dbias = check_data("dbias", dbias);
  const int size = element_bytes(checked.dtype);
  checked.tensors = {extent("dbias", checked.dbias, static_cast<std::size_t>(checked.dy.cols) * size),
                     extent("dy", checked.dy, size)};
  check_no_overlap(checked.tensors[0], checked.tensors[1]);
  checked.device = &probe_device(device);
  if (on_cuda(device) && size != 2) {
    throw Error(ErrorCode::unsupported, std::string("linear_backward_bias on CUDA takes float16 and bfloat16, not ") +
                                            dtype_name(checked.dtype));
  }
  return checked;
}

ColumnSums column_sums(const BiasGradient& checked) {
  return {checked.dy.data, checked.dy.rows, checked.dy.cols, checked.dy.stride, checked.dtype == DType::bfloat16};
}

}  // namespace

void spmm(const BlockPattern& a, const DLTensor& a_values, const DLTensor& b, const DLTensor& c,
          const SpmmOptions& options, const Workspace& workspace, Stream stream) {
  run(a, check_spmm(a, a_values, b, c, options), given(workspace), stream);
}

std::size_t spmm_workspace_bytes(const BlockPattern& a, const DLTensor& a_values, const DLTensor& b, const DLTensor& c,
                                 const SpmmOptions& options) {
  return query_workspace(a, check_spmm(a, a_values, b, c, options));
}

void linear(const BlockPattern& w, const DLTensor& w_values, const DLTensor& x, const DLTensor* bias, const DLTensor& y,
            const LinearOptions& options, const Workspace& workspace, Stream stream) {
  linear(w, w_values, x, bias, y, options, given(workspace), stream);
}

void linear(const BlockPattern& w, const DLTensor& w_values, const DLTensor& x, const DLTensor* bias, const DLTensor& y,
            const LinearOptions& options, const WorkspaceSource& workspace, Stream stream) {
  run(w, check_linear(w, w_values, x, bias, y, options), workspace, stream);
}

std::size_t linear_workspace_bytes(const BlockPattern& w, const DLTensor& w_values, const DLTensor& x,
                                   const DLTensor* bias, const DLTensor& y, const LinearOptions& options) {
  return query_workspace(w, check_linear(w, w_values, x, bias, y, options));
}

void sddmm(const BlockPattern& pattern, const DLTensor& x, const DLTensor& y, const DLTensor& values,
           const SddmmOptions& options, const Workspace& workspace, Stream stream) {
  run(pattern, check_sddmm(pattern, x, y, values, options), given(workspace), stream);
}

std::size_t sddmm_workspace_bytes(const BlockPattern& pattern, const DLTensor& x, const DLTensor& y,
                                  const DLTensor& values, const SddmmOptions& options) {
  return query_workspace(pattern, check_sddmm(pattern, x, y, values, options));
}

void linear_backward_input(const BlockPattern& w, const DLTensor& w_values, const DLTensor& dy, const DLTensor& dx,
                           const Workspace& workspace, Stream stream) {
  run_input_gradient(w, check_linear_backward_input(w, w_values, dy, dx), workspace, stream);
}

std::size_t linear_backward_input_workspace_bytes(const BlockPattern& w, const DLTensor& w_values, const DLTensor& dy,
                                                  const DLTensor& dx) {
  return query_input_gradient_workspace(w, check_linear_backward_input(w, w_values, dy, dx));
}

void linear_backward_weight(const BlockPattern& w, const DLTensor& dy, const DLTensor& x, const DLTensor& dw_values,
                            float beta, const Workspace& workspace, Stream stream) {
  run(w, check_sddmm(w, dy, x, dw_values, weight_gradient_options(beta), kWeightGradientNames), given(workspace), stream);
}

std::size_t linear_backward_weight_workspace_bytes(const BlockPattern& w, const DLTensor& dy, const DLTensor& x,
                                                   const DLTensor& dw_values, float beta) {
  return query_workspace(w, check_sddmm(w, dy, x, dw_values, weight_gradient_options(beta), kWeightGradientNames));
}

void linear_backward_bias(const DLTensor& dy, const DLTensor& dbias, const Workspace& workspace, Stream stream) {
  const BiasGradient checked = check_bias_gradient(dy, dbias);
  set_last_kernel("");
  if (checked.dy.cols == 0) return;
  const DeviceGuard guard(checked.device->dl);
  if (!on_cuda(checked.device->dl)) {
    cpu::sum_columns(checked.dy, checked.dtype, checked.dbias);
  } else if constexpr (kHasCuda) {
    const ColumnSums sums = column_sums(checked);
    check_workspace(workspace, sum_columns_cuda_workspace_bytes(sums), "linear_backward_bias", checked.tensors);
    sum_columns_cuda(sums, checked.dbias, workspace.data, stream);
  }
}

std::size_t linear_backward_bias_workspace_bytes(const DLTensor& dy, const DLTensor& dbias) {
  const BiasGradient checked = check_bias_gradient(dy, dbias);
  if constexpr (kHasCuda) {
    if (on_cuda(checked.device->dl) && checked.dy.cols > 0) {
      return sum_columns_cuda_workspace_bytes(column_sums(checked));
    }
  }
  return 0;
}

void spmm_backward_b(const BlockPattern& a, const DLTensor& a_values, const DLTensor& dc, const DLTensor& db,
                     const SpmmOptions& options, const Workspace& workspace, Stream stream) {
  run_input_gradient(a, check_spmm_backward_b(a, a_values, dc, db, options), workspace, stream);
}

std::size_t spmm_backward_b_workspace_bytes(const BlockPattern& a, const DLTensor& a_values, const DLTensor& dc,
                                            const DLTensor& db, const SpmmOptions& options) {
  return query_input_gradient_workspace(a, check_spmm_backward_b(a, a_values, dc, db, options));
}

void prepack(const BlockPattern& pattern, const DLTensor& values, const DLTensor& packed, PackedFor packed_for,
             Stream stream) {
  check_enum("packed_for", static_cast<int>(packed_for), 2);
  const Operation operation = packed_for == PackedFor::spmm ? Operation::spmm : Operation::linear;
  Checked checked = begin_call(pattern, operation, "values", values, 3);
  SparseGemmCall& call = checked.call;
  const DLDevice device = call.device->dl;
  call.values = check_values("values", values, call.problem.dtype, call.pattern, device);
  void* to = check_values("packed", packed, call.problem.dtype, call.pattern, device);
  check_no_overlap(extent("packed", to, values_bytes(call.problem)),
                   extent("values", call.values, values_bytes(call.problem)));
  if (call.problem.nnz_blocks == 0) {
    set_last_kernel("");
    return;
  }
  if (!aligned(call.values)) fail_argument("values is not aligned to 16 bytes, which packing needs");
  if (!aligned(to)) fail_argument("packed is not aligned to 16 bytes, which packing needs");
  const SparseGemmKernel& kernel = select_packing(call.problem, *call.device);
  attach_schedule(pattern, kernel, kManyTiles, call);  // whole groups: packing does not depend on the tiles
  call.stream = stream;
  const DeviceGuard guard(device);
  kernel.prepack(call, to);
  set_last_kernel(kernel.name);
}

}  // namespace triage
