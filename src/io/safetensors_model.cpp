#include "io/safetensors_model.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <system_error>

#include "io/json.h"
#include "io/text.h"
#include "triage/error.h"

namespace triage::io {
namespace {

constexpr const char* kIndexName = "model.safetensors.index.json";
constexpr const char* kSingleName = "model.safetensors";

[[noreturn]] void fail(const std::string& sentence) { throw Error(ErrorCode::invalid_argument, sentence); }

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// The run of digits at the start of `text`, without leading zeros; cut off from `text`.
std::string_view take_number(std::string_view& text) {
  std::size_t zeros = 0, end = 0;
  while (end < text.size() && is_digit(text[end])) ++end;
  while (zeros + 1 < end && text[zeros] == '0') ++zeros;
  const std::string_view number = text.substr(zeros, end - zeros);
  text.remove_prefix(end);
  return number;
}

std::string file_of_directory(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::is_directory(path, error)) return path;
  for (const char* const name : {kIndexName, kSingleName}) {
    const auto candidate = std::filesystem::path(path) / name;
    if (std::filesystem::exists(candidate, error)) return candidate.string();
  }
  fail(quote(path) + " is a directory that holds neither " + kIndexName + " nor " + kSingleName);
}

std::string read_text(const std::string& path) {
  const InputFile file(path);
  if (file.bytes() > kMaxHeaderBytes) {
    fail(quote(path) + " is " + bytes_text(file.bytes()) + " long, too long for an index (accepted: at most " +
         bytes_text(kMaxHeaderBytes) + ")");
  }
  std::string text(file.bytes(), '\0');
  file.read(0, text.data(), text.size());
  return text;
}

}  // namespace

bool natural_less(std::string_view a, std::string_view b) {
  const std::string_view whole_a = a, whole_b = b;
  while (!a.empty() && !b.empty()) {
    if (is_digit(a.front()) && is_digit(b.front())) {
      const std::string_view number_a = take_number(a), number_b = take_number(b);
      if (number_a.size() != number_b.size()) return number_a.size() < number_b.size();
      if (number_a != number_b) return number_a < number_b;
    } else {
      if (a.front() != b.front()) return static_cast<unsigned char>(a.front()) < static_cast<unsigned char>(b.front());
      a.remove_prefix(1);
      b.remove_prefix(1);
    }
  }
  if (a.empty() != b.empty()) return a.empty();
  return whole_a < whole_b;  // "1" and "01" differ only here
}

std::vector<std::pair<std::string, std::string>> parse_index(std::string_view text, const std::string& path) {
  const nlohmann::json index = parse_json_object(text, path);
  if (!index.contains("weight_map") || !index["weight_map"].is_object()) {
    fail(path + " is not an index of safetensors files: it has no object \"weight_map\"");
  }
  std::vector<std::pair<std::string, std::string>> map;
  for (const auto& [tensor, file] : index["weight_map"].items()) {
    if (!file.is_string()) fail(path + ": the file of tensor " + quote(tensor) + " is not a string");
    const auto& name = file.get_ref<const std::string&>();
    if (name.empty() || name == "." || name == ".." ||
        name.find_first_of(std::string("/\\\0", 3)) != std::string::npos) {
      fail(path + ": tensor " + quote(tensor) + " lies in " + quote(name) +
           ", which is not a plain file name (accepted: files beside the index)");
    }
    map.emplace_back(tensor, name);
  }
  if (map.empty()) fail(path + ": its weight_map names no tensors");
  return map;
}

SafetensorsModel SafetensorsModel::open(const std::string& given) {
  const std::string path = file_of_directory(given);
  SafetensorsModel model;
  if (std::filesystem::path(path).extension() != ".json") {
    model.files_.push_back(std::make_unique<SafetensorsFile>(path));
    for (const auto& info : model.files_[0]->header().tensors) model.tensors_.push_back({model.files_[0].get(), &info});
  } else {
    // Which shard the index promises each tensor in; entries that are found are crossed out.
    std::map<std::string, std::map<std::string, bool>> promised;
    for (auto& [tensor, shard] : parse_index(read_text(path), printable(path))) promised[shard][tensor] = false;
    for (auto& [shard, tensors] : promised) {
      model.files_.push_back(
          std::make_unique<SafetensorsFile>((std::filesystem::path(path).parent_path() / shard).string()));
      for (const auto& info : model.files_.back()->header().tensors) {
        const auto it = tensors.find(info.name);
        if (it != tensors.end()) it->second = true;
        model.tensors_.push_back({model.files_.back().get(), &info, it != tensors.end()});
      }
      for (const auto& [tensor, found] : tensors) {
        if (!found) {
          fail(printable(path) + ": the index places tensor " + quote(tensor) + " in " + quote(shard) +
               ", which does not hold it");
        }
      }
    }
  }
  std::stable_sort(model.tensors_.begin(), model.tensors_.end(),
                   [](const ModelTensor& a, const ModelTensor& b) { return natural_less(a.info->name, b.info->name); });
  return model;
}

const ModelTensor* SafetensorsModel::find(std::string_view name) const {
  // Two shards may hold one name; the one that the index names counts.
  const ModelTensor* found = nullptr;
  for (const auto& tensor : tensors_) {
    if (tensor.info->name == name && (found == nullptr || tensor.in_index)) found = &tensor;
  }
  return found;
}

}  // namespace triage::io
