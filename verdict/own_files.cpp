#include "verdict/own_files.h"

#include <dlfcn.h>

#include <filesystem>

namespace triage::verdict {

std::string own_file(const std::string& name) {
  namespace fs = std::filesystem;
  // This code's own file: the program, or inside of Python the worker's module.
  Dl_info self{};
  std::error_code ignored;
  fs::path file = fs::read_symlink("/proc/self/exe", ignored);
  if (::dladdr(reinterpret_cast<void*>(&own_file), &self) != 0 && self.dli_fname != nullptr &&
      std::string(self.dli_fname).find(".so") != std::string::npos) {
    file = fs::absolute(self.dli_fname, ignored);
  }
  const fs::path folder = file.parent_path();
  for (const fs::path& candidate :
       {folder / name, folder / ".." / "lib" / "triage" / name, folder / ".." / TRIAGE_LIBDIR / "triage" / name}) {
    if (fs::is_regular_file(candidate, ignored)) return fs::weakly_canonical(candidate, ignored).string();
  }
  return "";
}

}  // namespace triage::verdict
