// Small models in files, for the tests of `triage scan`.
#pragma once

#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "unit/safetensors_files.h"

namespace triage::test {

struct Entry {
  std::string name, dtype;
  std::vector<std::int64_t> shape;
  std::string data;
};

inline std::string model_bytes(const std::vector<Entry>& entries) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  std::string data;
  for (const auto& entry : entries) {
    header[entry.name] = {{"dtype", entry.dtype},
                          {"shape", entry.shape},
                          {"data_offsets", {data.size(), data.size() + entry.data.size()}}};
    data += entry.data;
  }
  return safetensors_bytes(header.dump(), data);
}

inline std::string bytes_of(const std::vector<float>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)};
}

// rows x cols, element (r, c) given by `value`.
template <class Value>
std::vector<float> matrix(std::int64_t rows, std::int64_t cols, Value value) {
  std::vector<float> out;
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < cols; ++c) out.push_back(value(r, c));
  }
  return out;
}

inline std::vector<float> noise(std::int64_t rows, std::int64_t cols, unsigned seed) {
  std::mt19937 random(seed);
  return matrix(rows, cols,
                [&](auto, auto) { return static_cast<float>(static_cast<int>(random() % 2001) - 1000) / 512; });
}

class ScanFiles : public testing::Test {
 protected:
  std::string save(const std::string& name, const std::vector<Entry>& entries) {
    write_bytes(directory.file(name), model_bytes(entries));
    return directory.file(name);
  }
  TemporaryDirectory directory;
};

}  // namespace triage::test
