// spmm, linear, sddmm, prepack: validate -> select -> launch.
#include "triage/sparse_gemm.h"

#include <algorithm>
#include <array>
#include <limits>
#include <string>

#include "api/launch.h"
#include "api/pattern_data.h"
#include "api/tensor_check.h"
#include "registry/registry.h"

namespace triage {

namespace {

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

Checked check_sddmm(const BlockPattern& pattern, const DLTensor& x, const DLTensor& y, const DLTensor& values,
                    const SddmmOptions& options) {
  check_enum("options.layout", static_cast<int>(options.layout), 2);
  Checked checked = begin_call(pattern, Operation::sddmm, "values", values, 3);
  SparseGemmCall& call = checked.call;
  SparseGemmProblem& problem = call.problem;
  const DLDevice device = call.device->dl;
  const int size = element_bytes(problem.dtype);
  problem.sddmm_layout = options.layout;
  if (options.layout == SddmmLayout::x_yt) {
    problem.dense = free_length("x", x, 1);
    call.in0 = check_matrix("x", x, problem.dtype, device, problem.rows, problem.dense, "[pattern.rows, D]");
    call.in1 =
        check_matrix("y", y, problem.dtype, device, problem.cols, problem.dense, "[pattern.cols, D] with D of x");
  } else {
    problem.dense = free_length("x", x, 0);
    call.in0 = check_matrix("x", x, problem.dtype, device, problem.dense, problem.rows, "[D, pattern.rows]");
    call.in1 =
        check_matrix("y", y, problem.dtype, device, problem.dense, problem.cols, "[D, pattern.cols] with D of x");
  }
  call.values = check_values("values", values, problem.dtype, call.pattern, device);
  call.alpha = options.alpha;
  call.beta = options.beta;
  checked.output = extent("values", call.values, values_bytes(problem));
  add_input(checked, extent("x", call.in0, size));
  add_input(checked, extent("y", call.in1, size));
  checked.empty = problem.nnz_blocks == 0;
  problem.aligned16 = aligned(call.values) && aligned(call.in0) && aligned(call.in1);
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

void run(const BlockPattern& pattern, Checked checked, const Workspace& workspace, Stream stream) {
  if (checked.empty) {
    set_last_kernel("");
    return;
  }
  SparseGemmCall& call = checked.call;
  const SparseGemmKernel& kernel = select_kernel(pattern, call);
  const Extent tensors[] = {checked.output, checked.inputs[0], checked.inputs[1], checked.inputs[2]};
  check_workspace(workspace, needed_workspace(kernel, call), kernel.name, tensors);
  call.workspace = workspace;
  call.stream = stream;
  const DeviceGuard guard(call.device->dl);
  kernel.launch(call);
  set_last_kernel(kernel.name);
}

}  // namespace

void spmm(const BlockPattern& a, const DLTensor& a_values, const DLTensor& b, const DLTensor& c,
          const SpmmOptions& options, const Workspace& workspace, Stream stream) {
  run(a, check_spmm(a, a_values, b, c, options), workspace, stream);
}

std::size_t spmm_workspace_bytes(const BlockPattern& a, const DLTensor& a_values, const DLTensor& b, const DLTensor& c,
                                 const SpmmOptions& options) {
  return query_workspace(a, check_spmm(a, a_values, b, c, options));
}

void linear(const BlockPattern& w, const DLTensor& w_values, const DLTensor& x, const DLTensor* bias, const DLTensor& y,
            const LinearOptions& options, const Workspace& workspace, Stream stream) {
  run(w, check_linear(w, w_values, x, bias, y, options), workspace, stream);
}

std::size_t linear_workspace_bytes(const BlockPattern& w, const DLTensor& w_values, const DLTensor& x,
                                   const DLTensor* bias, const DLTensor& y, const LinearOptions& options) {
  return query_workspace(w, check_linear(w, w_values, x, bias, y, options));
}

void sddmm(const BlockPattern& pattern, const DLTensor& x, const DLTensor& y, const DLTensor& values,
           const SddmmOptions& options, const Workspace& workspace, Stream stream) {
  run(pattern, check_sddmm(pattern, x, y, values, options), workspace, stream);
}

std::size_t sddmm_workspace_bytes(const BlockPattern& pattern, const DLTensor& x, const DLTensor& y,
                                  const DLTensor& values, const SddmmOptions& options) {
  return query_workspace(pattern, check_sddmm(pattern, x, y, values, options));
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
