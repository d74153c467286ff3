#include <algorithm>
#include <filesystem>
#include <stdexcept>

#include "verdict/static/diagnose.h"

namespace triage::static_triage {

namespace fs = std::filesystem;

namespace {
constexpr std::size_t kMaxHeaders = 64;  // of the project, read for their constants

std::string absolute(const std::string& path) {
  std::error_code error;
  const fs::path result = fs::weakly_canonical(path, error);
  return error ? path : result.string();
}
}  // namespace

SourceSet::SourceSet(const std::string& main_path, const std::vector<std::string>& include_dirs,
                     const std::vector<std::string>& defines)
    : main_path_(main_path), constants_(defines) {
  main_ = get(main_path);
  if (main_ == nullptr) throw std::runtime_error("cannot read '" + main_path + "'");
  project_.push_back(main_);
  for (std::size_t i = 0; i < project_.size() && project_.size() < kMaxHeaders; ++i) {
    std::vector<fs::path> places = {fs::path(project_[i]->path()).parent_path()};
    places.insert(places.end(), include_dirs.begin(), include_dirs.end());
    for (const std::string& include : project_[i]->quoted_includes()) {
      for (const fs::path& place : places) {
        std::error_code error;
        const fs::path candidate = place / include;
        if (!fs::is_regular_file(candidate, error)) continue;
        const SourceFile* header = get(candidate.string());
        const bool known = std::find(project_.begin(), project_.end(), header) != project_.end();
        if (header != nullptr && !known) project_.push_back(header);
        break;
      }
    }
  }
  for (const SourceFile* file : project_) constants_.add(*file);
}

const SourceFile* SourceSet::get(const std::string& path) {
  if (path.empty()) return nullptr;
  std::unique_ptr<SourceFile>& slot = files_[absolute(path)];
  if (!slot) {
    std::error_code error;
    if (!fs::is_regular_file(path, error)) return nullptr;
    try {
      slot = std::make_unique<SourceFile>(SourceFile::load(path));
    } catch (const std::runtime_error&) {
      return nullptr;
    }
  }
  return slot.get();
}

bool SourceSet::is_main(const std::string& path) const { return absolute(path) == absolute(main_path_); }

std::string SourceSet::shown(const std::string& path) const {
  if (path.empty() || is_main(path)) return path.empty() ? path : main_path_;
  std::error_code error;
  const fs::path relative = fs::path(absolute(path)).lexically_relative(fs::current_path(error));
  if (error || relative.empty() || *relative.begin() == "..") return absolute(path);
  return relative.string();
}

std::vector<const SourceFile*> SourceSet::project_files() const { return project_; }

}  // namespace triage::static_triage
