// A kernel that is not Triage's own becomes a registry row of this process: `triage verdict --library`.
#pragma once

#include <string>

namespace triage::verdict {

/// What the command line says of it. All empty: there is none.
struct UserKernel {
  std::string library;  ///< path of a shared library
  std::string symbol;   ///< a triage_sparse_gemm_function in it
  std::string op;       ///< "spmm" or "sparse_gemm.spmm", ...
  bool cuda = true;     ///< takes tensors of a CUDA device, else of the host

  bool given() const { return !library.empty(); }
  /// The row's name: "user:" and the symbol.
  std::string name() const { return "user:" + symbol; }
};

/// Adds the row, once. The library is not loaded: planning needs the row alone.
/// @throws std::runtime_error naming the option that is wrong.
void add_user_kernel(const UserKernel& kernel);

/// Loads the library and finds the symbol; from now on the row can be launched. For worker processes: the library's code
/// runs from here on.
/// @throws std::runtime_error with what the loader said.
void load_user_kernel(const UserKernel& kernel);

}  // namespace triage::verdict
