// A kernel that is not Triage's own becomes a registry row of this process: `triage verdict --library` and `--python`.
#pragma once

#include <string>
#include <vector>

#include "triage/user_kernel.h"

namespace triage::verdict {

/// What the command line says of it. All empty: there is none.
struct UserKernel {
  std::string library;  ///< path of a shared library
  std::string symbol;   ///< a triage_sparse_gemm_function (or triage_attention_function) in it
  std::string op;       ///< "spmm" or "sparse_gemm.spmm", ...
  bool cuda = true;     ///< takes tensors of a CUDA device, else of the host
  std::string python;   ///< "module:function" instead of a library

  bool given() const { return !library.empty() || !python.empty(); }
  /// The row's name: "user:" and the symbol, or "python:" and the function.
  std::string name() const { return python.empty() ? "user:" + symbol : "python:" + python; }
};

/// Adds the row, once. Nothing is loaded: planning needs the row alone.
/// @throws std::runtime_error naming the option that is wrong.
void add_user_kernel(const UserKernel& kernel);

/// Loads the library and finds the symbol; from now on the row can be launched. For worker processes: the library's
/// code runs from here on. A Python function is there already: the worker runs inside of Python
/// (verdict/worker_module.cpp).
/// @throws std::runtime_error with what the loader said.
void load_user_kernel(const UserKernel& kernel);

/// What a worker inside of Python was given: the functions to call, or why there are none.
struct EmbeddedKernel {
  triage_sparse_gemm_function sparse_gemm = nullptr;
  triage_attention_function attention = nullptr;
  std::string failure;  ///< also: what the last call raised
};
EmbeddedKernel& embedded_kernel();

/// The command that starts a worker for this kernel, without the worker's own arguments: this program, or Python with
/// the worker's module.
/// @throws std::runtime_error if a part of it is not there
std::vector<std::string> worker_program(const UserKernel& kernel);

}  // namespace triage::verdict
