// Receipts on disk: <folder>/<device>/<kernel>.json, read with a sentence for each broken file, written atomically.
#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <stdexcept>

#include "io/atomic_file.h"
#include "verdict/receipt.h"

namespace triage::verdict {
namespace {

namespace fs = std::filesystem;

std::vector<fs::path> sorted_entries(const fs::path& folder) {
  std::vector<fs::path> entries;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, error)) entries.push_back(entry.path());
  std::sort(entries.begin(), entries.end());
  return entries;
}

bool same_case(const ReceiptCase& a, const ReceiptCase& b) {
  const ReceiptShape &x = a.shape, &y = b.shape;
  if (x.attention.has_value() != y.attention.has_value()) return false;
  if (x.attention && x.attention->label() + std::to_string(x.attention->heads) !=
                         y.attention->label() + std::to_string(y.attention->heads)) {
    return false;
  }
  return a.op == b.op && a.dtype == b.dtype && a.shared_memory_kb == b.shared_memory_kb && x.m == y.m && x.n == y.n &&
         x.k == y.k && x.block == y.block && x.density == y.density && x.pattern == y.pattern && x.layout == y.layout &&
         x.epilogue == y.epilogue;
}

/// The source that a kernel's part of a receipt speaks of.
std::string source_of(const Receipt& part) {
  if (!part.cases.empty()) return part.cases.front().source_sha256;
  if (!part.grids.empty()) return part.grids.front().source_sha256;
  if (!part.sanitizer.empty()) return part.sanitizer.front().source_sha256;
  return part.profiles.empty() ? "" : part.profiles.front().source_sha256;
}

bool same_profile(const ReceiptProfile& a, const ReceiptProfile& b) {
  return a.op == b.op && a.dtype == b.dtype && to_json(a.shape) == to_json(b.shape);
}

/// `older` evidence that `part` does not have of the same tool or case goes into `part`; the caller has compared the
/// sources.
void keep_older_evidence(Receipt& part, const Receipt& older) {
  std::vector<ReceiptSanitizer> sanitizer;
  for (const ReceiptSanitizer& entry : older.sanitizer) {
    const bool again = std::any_of(part.sanitizer.begin(), part.sanitizer.end(),
                                   [&](const ReceiptSanitizer& fresh) { return fresh.tool == entry.tool; });
    if (!again) sanitizer.push_back(entry);
  }
  part.sanitizer.insert(part.sanitizer.begin(), sanitizer.begin(), sanitizer.end());
  std::vector<ReceiptProfile> profiles;
  for (const ReceiptProfile& profile : older.profiles) {
    const bool again = std::any_of(part.profiles.begin(), part.profiles.end(),
                                   [&](const ReceiptProfile& fresh) { return same_profile(fresh, profile); });
    if (!again) profiles.push_back(profile);
  }
  part.profiles.insert(part.profiles.begin(), profiles.begin(), profiles.end());
}

/// A run under a limit on shared memory is a record of its own.
template <class Entry>
std::string file_of(const Entry& entry) {
  return entry.shared_memory_kb > 0 ? fmt::format("{}_{}kb", entry.kernel, entry.shared_memory_kb) : entry.kernel;
}

fs::path path_of(const Receipt& run, const std::string& folder, const std::string& file) {
  return fs::path(folder) / device_folder(run.device.name) / (file + ".json");
}

/// A run with filters must not replace a fuller record of the same kernel and source.
void refuse_to_lose_anything(const fs::path& path, const Receipt& fresh) {
  if (!fs::exists(path)) return;
  Receipt old;
  try {
    old = read_receipt(path.string());
  } catch (const std::exception&) {
    return;  // broken: nothing to keep
  }
  if (!source_of(fresh).empty() && source_of(old) != source_of(fresh)) return;  // it speaks of a source that is no more
  const auto refuse = [&](const std::string& what) {
    throw std::runtime_error(fmt::format("{} holds {}, which this run did not measure. Run without --shape, --dtype, "
                                         "--quick, --only and --no-peers, or give --receipt another folder",
                                         path.string(), what));
  };
  for (const ReceiptCase& kept : old.cases) {
    const bool again = std::any_of(fresh.cases.begin(), fresh.cases.end(),
                                   [&](const ReceiptCase& result) { return same_case(kept, result); });
    if (!again) refuse(fmt::format("the case {} ({} block {})", kept.shape.name, kept.dtype, kept.shape.block));
  }
  if (fresh.grids.empty() && !old.grids.empty()) refuse("the kernel's correctness grid");
  if (fresh.crossovers.empty() && !old.crossovers.empty()) refuse("the kernel's crossover");
}

}  // namespace

Receipt read_receipt(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  if (!file) throw std::runtime_error("it cannot be read");
  const Json json = Json::parse(text.str(), nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) throw std::runtime_error("it is not JSON");
  return receipt_from_json(json);
}

std::string device_folder(const std::string& device_name) {
  std::string folder;
  for (unsigned char c : device_name) folder += std::isalnum(c) ? static_cast<char>(std::tolower(c)) : '-';
  return folder;
}

std::string today() { return fmt::format("{:%Y-%m-%d}", fmt::gmtime(std::time(nullptr))); }

ReceiptFolder read_receipts(const std::string& folder) {
  ReceiptFolder result;
  for (const fs::path& device : sorted_entries(folder)) {
    if (!fs::is_directory(device)) continue;
    for (const fs::path& path : sorted_entries(device)) {
      if (path.extension() != ".json") continue;
      try {
        result.files.push_back({path.string(), read_receipt(path.string())});
      } catch (const std::exception& error) {
        result.problems.push_back(fmt::format("{}: {}.", path.string(), error.what()));
      }
    }
  }
  return result;
}

std::vector<std::string> write_receipts(const Receipt& run, const std::string& folder) {
  std::map<std::string, Receipt> by_file;
  for (const ReceiptCase& result : run.cases) by_file[file_of(result)].cases.push_back(result);
  for (const ReceiptGrid& grid : run.grids) by_file[file_of(grid)].grids.push_back(grid);
  for (const ReceiptCrossover& crossover : run.crossovers) by_file[file_of(crossover)].crossovers.push_back(crossover);
  for (const ReceiptSanitizer& entry : run.sanitizer) by_file[file_of(entry)].sanitizer.push_back(entry);
  for (const ReceiptProfile& profile : run.profiles) by_file[file_of(profile)].profiles.push_back(profile);

  for (const auto& [file, part] : by_file) refuse_to_lose_anything(path_of(run, folder, file), part);
  std::vector<std::string> paths;
  for (auto& [file, part] : by_file) {
    part.device = run.device;
    part.date = run.date;
    const fs::path path = path_of(run, folder, file);
    try {
      if (const Receipt older = read_receipt(path.string()); source_of(older) == source_of(part)) keep_older_evidence(part, older);
    } catch (const std::exception&) {
      // absent or broken: nothing to keep
    }
    write_file_atomically(path.string(), to_json(part).dump(2) + "\n");
    paths.push_back(path.string());
  }
  return paths;
}

EvidenceWritten add_evidence(const Receipt& run, const std::string& folder) {
  std::map<std::string, Receipt> by_file;
  for (const ReceiptSanitizer& entry : run.sanitizer) by_file[file_of(entry)].sanitizer.push_back(entry);
  for (const ReceiptProfile& profile : run.profiles) by_file[file_of(profile)].profiles.push_back(profile);
  EvidenceWritten written;
  for (auto& [file, part] : by_file) {
    const fs::path path = path_of(run, folder, file);
    const auto leave = [&](const std::string& why) {
      written.problems.push_back(fmt::format("no evidence was added to {}: {}", path.string(), why));
    };
    if (!fs::exists(path)) {
      leave("there is no such receipt; run the verdict without --only first");
      continue;
    }
    try {
      Receipt receipt = read_receipt(path.string());
      if (receipt.device.name != run.device.name) {
        leave(fmt::format("it speaks of {}, and this is {}", receipt.device.name, run.device.name));
      } else if (source_of(receipt) != source_of(part)) {
        leave("it is STALE (the kernel's sources have changed since); run the verdict without --only");
      } else {
        keep_older_evidence(part, receipt);
        receipt.sanitizer = part.sanitizer;
        receipt.profiles = part.profiles;
        write_file_atomically(path.string(), to_json(receipt).dump(2) + "\n");
        written.paths.push_back(path.string());
      }
    } catch (const std::exception& error) {
      leave(error.what());
    }
  }
  return written;
}

void write_file_atomically(const std::string& path, const std::string& text) {
  const fs::path target(path);
  std::error_code error;
  if (target.has_parent_path()) fs::create_directories(target.parent_path(), error);
  if (error) {
    throw std::runtime_error(
        fmt::format("{} cannot be made: {}", target.parent_path().string(), error.message()));
  }
  io::AtomicFile file(path, text.size());
  file.write(text.data(), text.size());
  file.commit();
}

void remove_unfinished_file() noexcept { io::remove_unfinished_file(); }

}  // namespace triage::verdict
