#include "verdict/user_kernel.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <initializer_list>
#include <stdexcept>

#include "registry/registry.h"
#include "triage/error.h"
#include "triage/user_kernel.h"
#include "verdict/random_inputs.h"

namespace triage::verdict {
namespace {

// The one user kernel of this process. A row holds plain function pointers, so they find it here.
UserKernel user_kernel;
std::string row_name;
triage_sparse_gemm_function user_function = nullptr;

// A DLTensor with its shape and strides.
struct View {
  DLTensor tensor{};
  std::array<std::int64_t, 3> shape{}, strides{};
};

void fill(View& view, const void* data, DLDevice device, DLDataType type, std::initializer_list<std::int64_t> shape,
          std::int64_t row_stride = 0) {
  std::copy(shape.begin(), shape.end(), view.shape.begin());
  const int dimensions = static_cast<int>(shape.size());
  view.strides[static_cast<std::size_t>(dimensions - 1)] = 1;
  for (int i = dimensions - 2; i >= 0; --i) {
    const auto at = static_cast<std::size_t>(i);
    view.strides[at] = row_stride != 0 ? row_stride : view.strides[at + 1] * view.shape[at + 1];
  }
  view.tensor = {const_cast<void*>(data), device, dimensions, type, view.shape.data(), view.strides.data(), 0};
}

void launch(const SparseGemmCall& call) {
  if (user_function == nullptr) throw std::runtime_error("the library of " + row_name + " is not loaded");
  const PatternView& pattern = call.pattern;
  const DLDevice device = call.device->dl;
  const DLDataType index{kDLInt, 32, 1}, type = dlpack_dtype(call.problem.dtype);
  View crow, col, values, in0, in1, out, bias;
  fill(crow, pattern.crow, device, index, {std::int64_t{pattern.block_rows} + 1});
  fill(col, pattern.col, device, index, {pattern.nnz_blocks});
  fill(values, call.values, device, type, {pattern.nnz_blocks, pattern.block, pattern.block});
  for (auto [view, matrix] : {std::pair{&in0, &call.in0}, std::pair{&in1, &call.in1}, std::pair{&out, &call.out}}) {
    if (matrix->data != nullptr) fill(*view, matrix->data, device, type, {matrix->rows, matrix->cols}, matrix->stride);
  }
  if (call.bias != nullptr) fill(bias, call.bias, device, type, {pattern.rows});

  triage_sparse_gemm_problem problem{};
  problem.operation = operation_name(call.problem.operation);
  problem.rows = pattern.rows;
  problem.cols = pattern.cols;
  problem.nnz_blocks = pattern.nnz_blocks;
  problem.block_size = pattern.block;
  problem.activation = static_cast<std::int32_t>(call.activation);
  problem.sddmm_layout = static_cast<std::int32_t>(call.problem.sddmm_layout);
  problem.alpha = call.alpha;
  problem.beta = call.beta;
  problem.crow_indices = crow.tensor;
  problem.col_indices = col.tensor;
  problem.values = values.tensor;
  problem.in0 = in0.tensor;
  problem.in1 = in1.tensor;
  problem.out = out.tensor;
  problem.bias = bias.tensor;
  problem.stream = call.stream;
  const int status = user_function(&problem);
  if (status == TRIAGE_UNSUPPORTED) throw Error(ErrorCode::unsupported, row_name + " returned TRIAGE_UNSUPPORTED");
  if (status != TRIAGE_OK) throw Error(ErrorCode::invalid_argument, fmt::format("{} returned {}", row_name, status));
}

Support can_run(const SparseGemmProblem&, const Device& device) {
  if (device.is_cpu() != user_kernel.cuda) return {};
  return {false, user_kernel.cuda ? "it takes tensors of a CUDA device (--device cpu changes that)"
                                  : "it takes tensors in host memory"};
}

Operation operation_of(const std::string& op) {
  for (Operation operation : {Operation::spmm, Operation::linear, Operation::sddmm}) {
    const std::string name = operation_name(operation);
    if (op == name || op == name.substr(name.rfind('.') + 1)) return operation;
  }
  throw std::runtime_error(fmt::format("--op is '{}'; --library accepts: spmm, linear, sddmm", op));
}

}  // namespace

void add_user_kernel(const UserKernel& kernel) {
  if (!row_name.empty()) return;
  if (kernel.symbol.empty()) throw std::runtime_error("--library needs --symbol, the name of the function to call");
  if (kernel.op.empty()) throw std::runtime_error("--library needs one --op: spmm, linear or sddmm");
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(kernel.library, ignored)) {
    throw std::runtime_error(fmt::format("--library is '{}', which is no file", kernel.library));
  }
  const Operation operation = operation_of(kernel.op);
  user_kernel = kernel;
  row_name = kernel.name();
  SparseGemmKernel row{};
  row.name = row_name.c_str();
  row.operation = operation;
  row.family = kernel.cuda ? Family::user : Family::cpu;
  row.block = 0;
  row.dtypes = kernel.cuda ? "float16 bfloat16" : "float32 float64 float16 bfloat16";
  row.source = "";
  row.can_run = can_run;
  row.launch = launch;
  add_sparse_gemm_kernel(row);
}

void load_user_kernel(const UserKernel& kernel) {
  add_user_kernel(kernel);
  if (user_function != nullptr) return;
  // An absolute path: the loader looks up bare names in the system's folders.
  const std::string path = std::filesystem::absolute(kernel.library).string();
  void* library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) throw std::runtime_error(fmt::format("--library cannot be loaded: {}", ::dlerror()));
  user_function = reinterpret_cast<triage_sparse_gemm_function>(::dlsym(library, kernel.symbol.c_str()));
  if (user_function == nullptr) {
    throw std::runtime_error(fmt::format("--symbol is '{}', which {} does not have (C linkage?)", kernel.symbol, kernel.library));
  }
}

}  // namespace triage::verdict
