// A model's weights: one safetensors file, or several that an index file ties together.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "io/safetensors.h"

namespace triage::io {

/// The `weight_map` of an index file (`model.safetensors.index.json`): tensor name -> file name in the same directory,
/// in the order of names. Checked: a file name must be a plain one, so that an index cannot lead out of its directory.
/// @param path for sentences.
std::vector<std::pair<std::string, std::string>> parse_index(std::string_view json, const std::string& path);

struct ModelTensor {
  const SafetensorsFile* file = nullptr;
  const TensorInfo* info = nullptr;
  bool in_index = true;  ///< false: its shard holds it, but the index does not name it
};

class SafetensorsModel {
 public:
  /// @param path a .safetensors file; an index (a .json file); or a directory with `model.safetensors.index.json` or
  ///   `model.safetensors` in it.
  static SafetensorsModel open(const std::string& path);

  /// Every tensor, in natural order of names ("layer.2" before "layer.10").
  const std::vector<ModelTensor>& tensors() const { return tensors_; }
  const std::vector<std::unique_ptr<SafetensorsFile>>& files() const { return files_; }
  const ModelTensor* find(std::string_view name) const;  ///< nullptr if there is none

 private:
  std::vector<std::unique_ptr<SafetensorsFile>> files_;
  std::vector<ModelTensor> tensors_;
};

/// Whether `a` stands before `b` when runs of digits are compared as numbers. A total order.
bool natural_less(std::string_view a, std::string_view b);

}  // namespace triage::io
