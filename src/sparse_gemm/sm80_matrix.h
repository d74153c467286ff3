// From a call's matrices to what sm80's copies want to know of them.
#pragma once

#include <cstdint>

#include "registry/kernel.h"
#include "sparse_gemm/sm80_copy.h"

namespace triage::sm80 {

/// The widest access that a matrix's address and stride allow.
inline Access access_of(const void* data, std::int64_t stride) {
  const auto address = reinterpret_cast<std::uintptr_t>(data);
  if (address % 16 == 0 && stride % 8 == 0) return Access::chunks;
  return address % 4 == 0 && stride % 2 == 0 ? Access::pairs : Access::elements;
}

inline MatrixSource source_of(const Matrix& m) {
  return {m.data, m.stride, m.rows, m.cols, access_of(m.data, m.stride)};
}

}  // namespace triage::sm80
