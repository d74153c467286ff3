// The hash that ties a receipt to the source it measured.
#pragma once

#include <string_view>

namespace triage {

/// The hash of a file under src/ and of every project header that it includes, as 64 hexadecimal digits; empty for a
/// path that is not a .cpp or .cu file of this build's checkout. Computed at build time by cmake/source_hash.cmake;
/// docs/building.md has the definition and a shell line that recomputes it.
/// @param repository_path e.g. "src/sparse_gemm/sm80_spmm.cu".
std::string_view source_sha256(std::string_view repository_path);

}  // namespace triage
