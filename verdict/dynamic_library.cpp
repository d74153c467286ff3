#include "verdict/dynamic_library.h"

#include <dlfcn.h>
#include <glob.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>

namespace triage::verdict {
namespace {

std::vector<std::string> matches(const std::string& pattern) {
  glob_t found{};
  std::vector<std::string> paths;
  if (::glob(pattern.c_str(), 0, nullptr, &found) == 0) paths.assign(found.gl_pathv, found.gl_pathv + found.gl_pathc);
  ::globfree(&found);
  return paths;
}

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::size_t begin = 0;
  while (begin <= text.size()) {
    const std::size_t end = std::min(text.find(separator, begin), text.size());
    if (end > begin) parts.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

/// What `python3` searches. It costs some tens of milliseconds, and says nothing where there is no python3.
std::vector<std::string> reported_by_python() {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> pipe(
      ::popen("python3 -c \"import sys; print('\\n'.join(sys.path))\" 2>/dev/null", "r"), ::pclose);
  std::string text;
  std::array<char, 4096> chunk;
  while (pipe && std::fgets(chunk.data(), chunk.size(), pipe.get())) text += chunk.data();
  return split(text, '\n');
}

}  // namespace

void* DynamicLibrary::symbol(const char* name) const { return handle_ ? ::dlsym(handle_, name) : nullptr; }

DynamicLibrary DynamicLibrary::open_first(const std::vector<std::string>& candidates) {
  DynamicLibrary library;
  for (const std::string& path : candidates) {
    library.handle_ = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!library.handle_) continue;
    library.path_ = path;
    return library;
  }
  return library;
}

const std::vector<std::string>& python_package_folders() {
  static const std::vector<std::string> folders = [] {
    std::vector<std::string> found = split(environment("PYTHONPATH"), ':');
    std::vector<std::string> roots;
    if (const std::string venv = environment("VIRTUAL_ENV"); !venv.empty()) roots.push_back(venv + "/lib");
    if (const std::string home = environment("HOME"); !home.empty()) roots.push_back(home + "/.local/lib");
    roots.insert(roots.end(), {"/usr/local/lib", "/usr/lib"});
    for (const std::string& root : roots) {
      for (const char* kind : {"/site-packages", "/dist-packages"}) {
        for (const std::string& path : matches(root + "/python3*" + kind)) found.push_back(path);
      }
    }
    for (const std::string& path : reported_by_python()) found.push_back(path);
    std::vector<std::string> unique;
    for (const std::string& path : found) {
      std::error_code error;
      if (!std::filesystem::is_directory(path, error)) continue;
      if (std::find(unique.begin(), unique.end(), path) == unique.end()) unique.push_back(path);
    }
    return unique;
  }();
  return folders;
}

std::vector<std::string> in_python_packages(const std::string& pattern) {
  std::vector<std::string> paths;
  for (const std::string& folder : python_package_folders()) {
    const std::vector<std::string> found = matches(folder + "/" + pattern);
    paths.insert(paths.end(), found.begin(), found.end());
  }
  return paths;
}

}  // namespace triage::verdict
