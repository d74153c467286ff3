// libFuzzer target; see tests/fuzz/README.md.
#include <cstddef>
#include <cstdint>

#include "fuzz/parsers.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  triage::fuzz::parse_safetensors_file({reinterpret_cast<const char*>(data), size});
  return 0;
}
