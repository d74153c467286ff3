// Finds nvcc and says what it can compile for.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "verdict/static/architectures.h"

namespace triage::static_triage {

struct Toolchain {
  std::string nvcc;     ///< path
  std::string version;  ///< "13.0"
  std::vector<int> capabilities;  ///< of --list-gpu-arch: 75, 80, ...
  /// Changes to the environment of every compile (see ProcessOptions::environment).
  std::vector<std::string> environment;
  std::vector<std::string> warnings;  ///< sentences for standard error

  bool knows(int sm) const;
};

/// Looks at `wanted` (a path or a name; empty: none), PATH, CUDA_HOME, CUDA_PATH and /usr/local/cuda, in this order,
/// and asks what is found for its version.
/// @param problem a sentence if nullopt is returned.
std::optional<Toolchain> find_toolchain(const std::string& wanted, std::string* problem);

/// nvcc runs its tools through a shell. @return a sentence if `text` holds one of `characters` or a control character,
/// else empty.
std::string shell_hazard(const std::string& text, const char* characters);

/// Flags behind `--` that would run the program, change what is compiled or where it goes.
/// @return a sentence about the first such flag; empty if all may pass.
std::string refused_flag(const std::vector<std::string>& flags);

}  // namespace triage::static_triage
