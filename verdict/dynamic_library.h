// Libraries that are used where they happen to be installed: found at run time, never linked.
#pragma once

#include <string>
#include <vector>

namespace triage::verdict {

/// A library that stays loaded until the process ends (BLAS libraries own threads: unloading them is asking for trouble).
class DynamicLibrary {
 public:
  DynamicLibrary() = default;
  explicit operator bool() const { return handle_ != nullptr; }
  const std::string& path() const { return path_; }

  /// nullptr if the library has no such function.
  template <class Function>
  Function* function(const char* name) const {
    return reinterpret_cast<Function*>(symbol(name));
  }

  /// The first candidate that loads; empty if none does.
  static DynamicLibrary open_first(const std::vector<std::string>& candidates);

 private:
  void* symbol(const char* name) const;

  void* handle_ = nullptr;
  std::string path_;
};

/// Folders that hold Python packages on this machine, without running Python where that is possible: PYTHONPATH, an active
/// virtual environment, the user's and the system's; what `python3` itself reports comes last.
const std::vector<std::string>& python_package_folders();

/// Paths of files matching a shell pattern under each of python_package_folders(), e.g. "nvidia/*/lib/libcublas.so.1?".
std::vector<std::string> in_python_packages(const std::string& pattern);

}  // namespace triage::verdict
