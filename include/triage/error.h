// The one exception type of the library.
#pragma once

#include <stdexcept>
#include <string>

namespace triage {

/// What went wrong; the C ABI returns these values (see c_api.h).
enum class ErrorCode : int {
  ok = 0,
  invalid_argument = 1,  ///< an argument is malformed; the sentence names it and what is accepted
  unsupported = 2,       ///< well-formed, but no kernel takes it here; the sentence says what each lacked
  out_of_memory = 3,     ///< host or device memory could not be had, or a workspace is too small
  cuda = 4,              ///< the CUDA runtime or driver reported an error
};

/// Thrown by every host function of the C++ API. `what()` is one sentence that names the argument,
/// its value and what is accepted.
class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& sentence) : std::runtime_error(sentence), code_(code) {}
  ErrorCode code() const noexcept { return code_; }

 private:
  ErrorCode code_;
};

}  // namespace triage
