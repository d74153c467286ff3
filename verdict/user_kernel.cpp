#include "verdict/user_kernel.h"

#include <dlfcn.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <initializer_list>
#include <sstream>
#include <stdexcept>

#include "registry/attention_registry.h"
#include "registry/registry.h"
#include "triage/error.h"
#include "verdict/own_files.h"
#include "verdict/random_inputs.h"

namespace triage::verdict {
namespace {

// The one user kernel of this process. A row holds plain function pointers, so they find it here.
UserKernel user_kernel;
std::string row_name;
triage_sparse_gemm_function user_function = nullptr;
triage_attention_function user_attention = nullptr;

// A DLTensor with its shape and strides.
struct View {
  DLTensor tensor{};
  std::array<std::int64_t, 4> shape{}, strides{};
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

void check_status(int status) {
  if (status == TRIAGE_OK) return;
  const std::string& raised = embedded_kernel().failure;
  const std::string why = raised.empty() ? "" : ": " + raised;
  if (status == TRIAGE_UNSUPPORTED)
    throw Error(ErrorCode::unsupported, row_name + " returned TRIAGE_UNSUPPORTED" + why);
  throw Error(ErrorCode::invalid_argument, fmt::format("{} returned {}{}", row_name, status, why));
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
  check_status(user_function(&problem));
}

/// A tensor of attention with explicit strides.
void fill_strided(View& view, const void* data, DLDevice device, DLDataType type,
                  std::initializer_list<std::int64_t> shape, std::initializer_list<std::int64_t> strides) {
  if (data == nullptr) return;
  fill(view, data, device, type, shape);
  std::copy(strides.begin(), strides.end(), view.strides.begin());
}

void launch_attention(const AttentionCall& call) {
  if (user_attention == nullptr) throw std::runtime_error("the library of " + row_name + " is not loaded");
  const AttentionProblem& p = call.problem;
  const DLDevice device = call.device->dl;
  const DLDataType index{kDLInt, 32, 1}, fp32{kDLFloat, 32, 1}, type = dlpack_dtype(p.dtype);
  View q, k, v, o, lse, cu_q, cu_k, used, table, sinks;
  const auto fill_rows = [&](View& view, const AttentionTensor& tensor, bool packed, std::int64_t outer,
                             std::int64_t rows, std::int64_t heads, std::int64_t dim) {
    if (packed) {
      fill_strided(view, tensor.data, device, type, {rows, heads, dim},
                   {tensor.sequence_stride, tensor.head_stride, 1});
    } else {
      fill_strided(view, tensor.data, device, type, {outer, rows, heads, dim},
                   {tensor.batch_stride, tensor.sequence_stride, tensor.head_stride, 1});
    }
  };
  const std::int64_t q_rows = p.varlen_q ? p.total_q : p.seqlen_q;
  const std::int64_t k_outer = p.page_size > 0 ? call.pages : p.batch;
  const std::int64_t k_rows = p.varlen_k ? p.total_k : p.page_size > 0 ? p.page_size : p.seqlen_k;
  fill_rows(q, call.q, p.varlen_q, p.batch, q_rows, p.heads, p.head_dim);
  fill_rows(o, call.o, p.varlen_q, p.batch, q_rows, p.heads, p.head_dim_v);
  fill_rows(k, call.k, p.varlen_k, k_outer, k_rows, p.kv_heads, p.head_dim);
  fill_rows(v, call.v, p.varlen_k, k_outer, k_rows, p.kv_heads, p.head_dim_v);
  if (p.varlen_q) {
    fill_strided(lse, call.lse, device, fp32, {p.heads, q_rows}, {call.lse_head_stride, 1});
  } else {
    fill_strided(lse, call.lse, device, fp32, {p.batch, p.heads, q_rows},
                 {call.lse_batch_stride, call.lse_head_stride, 1});
  }
  fill_strided(cu_q, call.cu_seqlens_q, device, index, {p.batch + 1}, {1});
  fill_strided(cu_k, call.cu_seqlens_k, device, index, {p.batch + 1}, {1});
  fill_strided(used, call.seqused_k, device, index, {p.batch}, {1});
  fill_strided(table, call.block_table, device, index, {p.batch, call.block_table_stride},
               {call.block_table_stride, 1});
  fill_strided(sinks, call.sinks, device, fp32, {p.heads}, {1});

  triage_attention_problem problem{};
  problem.operation = kAttentionForward;
  problem.batch = p.batch;
  problem.heads = p.heads;
  problem.kv_heads = p.kv_heads;
  problem.seqlen_q = p.seqlen_q;
  problem.seqlen_k = p.seqlen_k;
  problem.window_left = p.window_left;
  problem.window_right = p.window_right;
  problem.head_dim = p.head_dim;
  problem.head_dim_v = p.head_dim_v;
  problem.page_size = p.page_size;
  problem.softmax_scale = call.softmax_scale;
  problem.softcap = p.softcap;
  problem.q = q.tensor;
  problem.k = k.tensor;
  problem.v = v.tensor;
  problem.o = o.tensor;
  problem.lse = lse.tensor;
  problem.cu_seqlens_q = cu_q.tensor;
  problem.cu_seqlens_k = cu_k.tensor;
  problem.seqused_k = used.tensor;
  problem.block_table = table.tensor;
  problem.sinks = sinks.tensor;
  problem.stream = call.stream;
  check_status(user_attention(&problem));
}

Support runs_there(const Device& device) {
  if (device.is_cpu() != user_kernel.cuda) return {};
  return {false, user_kernel.cuda ? "it takes tensors of a CUDA device (--device cpu changes that)"
                                  : "it takes tensors in host memory"};
}

Support can_run(const SparseGemmProblem&, const Device& device) { return runs_there(device); }
Support can_run_attention(const AttentionProblem& problem, const Device& device) {
  // triage_attention_function gets no pattern.
  if (problem.block_sparse) return {false, "a kernel of a user's library takes no block-sparse mask"};
  return runs_there(device);
}

bool is_attention(const std::string& op) { return op == kAttentionForward || op == "forward"; }

Operation operation_of(const std::string& op) {
  for (Operation operation : {Operation::spmm, Operation::linear, Operation::sddmm}) {
    const std::string name = operation_name(operation);
    if (op == name || op == name.substr(name.rfind('.') + 1)) return operation;
  }
  throw std::runtime_error(
      fmt::format("--op is '{}'; --library and --python accept: spmm, linear, sddmm, attention.forward", op));
}

void require_python(const UserKernel& kernel) {
  if (!kernel.symbol.empty()) throw std::runtime_error("--symbol is for --library; --python takes module:function");
  const std::size_t colon = kernel.python.find(':');
  if (colon == std::string::npos || colon == 0 || colon + 1 == kernel.python.size()) {
    throw std::runtime_error(fmt::format("--python is '{}'; it takes module:function", kernel.python));
  }
}

std::string required_file(const char* name) {
  std::string path = own_file(name);
  if (path.empty())
    throw std::runtime_error(fmt::format("--python needs {} beside the program or in ../lib/triage", name));
  return path;
}

/// The interpreter: TRIAGE_PYTHON, else python3 in PATH.
std::string python_program() {
  namespace fs = std::filesystem;
  const char* named = std::getenv("TRIAGE_PYTHON");
  const std::string name = named != nullptr && *named != '\0' ? named : "python3";
  if (name.find('/') != std::string::npos) {
    if (::access(name.c_str(), X_OK) == 0) return name;
    throw std::runtime_error(fmt::format("TRIAGE_PYTHON is '{}', which is no program", name));
  }
  const char* path = std::getenv("PATH");
  std::stringstream search(path != nullptr ? path : "");
  for (std::string folder; std::getline(search, folder, ':');) {
    const std::string candidate = folder + "/" + name;
    std::error_code ignored;
    if (fs::is_regular_file(candidate, ignored) && ::access(candidate.c_str(), X_OK) == 0) return candidate;
  }
  throw std::runtime_error(fmt::format("--python needs {} in PATH, or TRIAGE_PYTHON with the path of a Python", name));
}

}  // namespace

EmbeddedKernel& embedded_kernel() {
  static EmbeddedKernel embedded;
  return embedded;
}

std::vector<std::string> worker_program(const UserKernel& kernel) {
  if (kernel.python.empty()) return {std::filesystem::read_symlink("/proc/self/exe").string()};
  return {python_program(), required_file("triage_python_worker.py"), required_file("libtriage_worker.so"),
          kernel.python};
}

void add_user_kernel(const UserKernel& kernel) {
  if (!row_name.empty()) return;
  const char* option = kernel.python.empty() ? "--library" : "--python";
  if (kernel.op.empty()) {
    throw std::runtime_error(fmt::format("{} needs one --op: spmm, linear, sddmm or attention.forward", option));
  }
  std::error_code ignored;
  if (!kernel.python.empty()) {
    require_python(kernel);
  } else if (kernel.symbol.empty()) {
    throw std::runtime_error("--library needs --symbol, the name of the function to call");
  } else if (!std::filesystem::is_regular_file(kernel.library, ignored)) {
    throw std::runtime_error(fmt::format("--library is '{}', which is no file", kernel.library));
  }
  const Family family = kernel.cuda ? Family::user : Family::cpu;
  const char* dtypes = kernel.cuda ? "float16 bfloat16" : "float32 float64 float16 bfloat16";
  user_kernel = kernel;
  if (is_attention(kernel.op)) {
    row_name = kernel.name();
    AttentionKernel row{};
    row.name = row_name.c_str();
    row.family = family;
    row.dtypes = dtypes;
    row.head_dims = "what it takes";
    row.source = "";
    row.can_run = can_run_attention;
    row.launch = launch_attention;
    add_attention_kernel(row);
    return;
  }
  const Operation operation = operation_of(kernel.op);
  row_name = kernel.name();
  SparseGemmKernel row{};
  row.name = row_name.c_str();
  row.operation = operation;
  row.family = family;
  row.block = 0;
  row.dtypes = dtypes;
  row.source = "";
  row.can_run = can_run;
  row.launch = launch;
  add_sparse_gemm_kernel(row);
}

void load_user_kernel(const UserKernel& kernel) {
  add_user_kernel(kernel);
  if (user_function != nullptr || user_attention != nullptr) return;
  if (!kernel.python.empty()) {
    const EmbeddedKernel& embedded = embedded_kernel();
    if (!embedded.failure.empty())
      throw std::runtime_error(fmt::format("--python is '{}': {}", kernel.python, embedded.failure));
    if (embedded.sparse_gemm == nullptr)
      throw std::runtime_error("the worker of --python does not run inside of Python");
    user_function = embedded.sparse_gemm;
    user_attention = embedded.attention;
    return;
  }
  // An absolute path: the loader looks up bare names in the system's folders.
  const std::string path = std::filesystem::absolute(kernel.library).string();
  void* library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) throw std::runtime_error(fmt::format("--library cannot be loaded: {}", ::dlerror()));
  void* symbol = ::dlsym(library, kernel.symbol.c_str());
  if (symbol == nullptr) {
    throw std::runtime_error(
        fmt::format("--symbol is '{}', which {} does not have (C linkage?)", kernel.symbol, kernel.library));
  }
  if (is_attention(kernel.op)) {
    user_attention = reinterpret_cast<triage_attention_function>(symbol);
  } else {
    user_function = reinterpret_cast<triage_sparse_gemm_function>(symbol);
  }
}

}  // namespace triage::verdict
