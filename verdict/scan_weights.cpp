#include "verdict/scan_weights.h"

#include <algorithm>
#include <cstring>
#include <set>

#include "io/text.h"
#include "triage/error.h"
#include "verdict/scan_values.h"

namespace triage::verdict {
namespace {

// std::regex recurses along the text; a name of megabytes would overflow the stack.
constexpr std::size_t kMaxNameForRegex = 1000;

// The dimensions' number as people say it.
std::string dimensions_text(std::size_t count) { return count == 0 ? "a scalar" : std::to_string(count) + "-D"; }

// Why a tensor is skipped; empty if it is not. `shape` and `dtype` are those of the matrix.
std::string skip_reason(const std::string& name, io::TensorDtype dtype, const std::vector<std::int64_t>& shape,
                        const WeightFilter& filter) {
  bool named = false;  // the user asked for it by name
  if (filter.include || filter.exclude) {
    if (name.size() > kMaxNameForRegex) return "its name is too long to be matched";
    if (filter.exclude && std::regex_search(name, *filter.exclude)) return "--exclude matches";
    named = filter.include && std::regex_search(name, *filter.include);
    if (filter.include && !named) return "--include does not match";
  }
  if (shape.size() != 2) return dimensions_text(shape.size()) + ", not a matrix";
  if (!io::is_weight_dtype(dtype)) {
    return std::string("dtype ") + io::dtype_name(dtype) + " (looked at: F64, F32, F16, BF16)";
  }
  if (!named && is_embedding_name(name)) return "an embedding: looked up, not multiplied by";
  if (std::min(shape[0], shape[1]) < filter.min_size) {
    return "a side shorter than --min-size " + std::to_string(filter.min_size);
  }
  return "";
}

}  // namespace

bool is_embedding_name(const std::string& name) {
  // "embeddings.word_embeddings.weight", "model.embed_tokens.weight", "transformer.wte.weight", T5's "shared.weight",
  // ...
  static const std::regex embedding(
      "(^|[._])(embed|embedding|embeddings|wte|wpe|emb|embed_tokens|embed_positions|relative_attention_bias)([._]|$)"
      "|(^|\\.)shared\\.weight$");
  return name.size() <= kMaxNameForRegex && std::regex_search(name, embedding);
}

WeightMatrix::WeightMatrix(const io::SafetensorsFile& file, const io::TensorInfo& dense)
    : name_(dense.name), rows_(dense.shape[0]), cols_(dense.shape[1]), file_(&file), dense_(&dense) {}

WeightMatrix::WeightMatrix(const io::SafetensorsFile& file, const io::BlockSparseEntry& entry)
    : name_(entry.name),
      rows_(entry.shape.rows),
      cols_(entry.shape.cols),
      file_(&file),
      entry_(entry),
      pattern_(io::read_pattern(file, entry)) {}

io::TensorDtype WeightMatrix::dtype() const { return entry_ ? entry_->values->dtype : dense_->dtype; }

std::uint64_t WeightMatrix::stored_bytes() const {
  return entry_ ? entry_->values->bytes() + entry_->crow->bytes() + entry_->col->bytes() : dense_->bytes();
}

std::uint64_t WeightMatrix::dense_bytes() const {
  return static_cast<std::uint64_t>(rows_) * static_cast<std::uint64_t>(cols_) *
         static_cast<std::uint64_t>(io::dtype_bits(dtype()) / 8);
}

void WeightMatrix::read_raw_rows(std::int64_t begin, std::int64_t count, unsigned char* out) const {
  const std::int64_t element = io::dtype_bits(dtype()) / 8;
  if (!entry_) {
    file_->read(*dense_, static_cast<std::uint64_t>(begin * cols_ * element), out,
                static_cast<std::size_t>(count * cols_ * element));
    return;
  }
  std::memset(out, 0, static_cast<std::size_t>(count * cols_ * element));
  const std::int64_t block = entry_->shape.block, block_bytes = block * block * element;
  const auto* crow = static_cast<const std::int32_t*>(pattern_.crow_indices().data);
  const auto* col = static_cast<const std::int32_t*>(pattern_.col_indices().data);
  std::vector<unsigned char> values;
  for (std::int64_t block_row = begin / block; block_row * block < begin + count; ++block_row) {
    const std::int64_t first = crow[block_row], blocks = crow[block_row + 1] - first;
    values.resize(static_cast<std::size_t>(blocks * block_bytes));
    file_->read(*entry_->values, static_cast<std::uint64_t>(first * block_bytes), values.data(), values.size());
    const std::int64_t row_begin = std::max(begin, block_row * block);
    const std::int64_t row_end = std::min({begin + count, (block_row + 1) * block, rows_});
    for (std::int64_t i = 0; i < blocks; ++i) {
      const std::int64_t column = col[first + i] * block, width = std::min(block, cols_ - column);
      for (std::int64_t row = row_begin; row < row_end; ++row) {
        std::memcpy(out + ((row - begin) * cols_ + column) * element,
                    values.data() + i * block_bytes + (row - block_row * block) * block * element,
                    static_cast<std::size_t>(width * element));
      }
    }
  }
}

void WeightMatrix::read_rows(std::int64_t begin, std::int64_t count, float* out) const {
  const auto elements = static_cast<std::size_t>(count * cols_);
  std::vector<unsigned char> raw(elements * static_cast<std::size_t>(io::dtype_bits(dtype()) / 8));
  read_raw_rows(begin, count, raw.data());
  to_float(dtype(), raw.data(), elements, out);
}

WeightSelection select_weights(const io::SafetensorsModel& model, const WeightFilter& filter) {
  WeightSelection selection;
  const auto skip = [&](const std::string& name, io::TensorDtype dtype, std::vector<std::int64_t> shape,
                        const std::string& reason) {
    selection.skipped.push_back({name, io::dtype_name(dtype), std::move(shape), reason});
  };
  std::set<const io::TensorInfo*> parts;  // tensors that make up block-sparse matrices
  for (const auto& file : model.files()) {
    for (const auto& entry : io::parse_block_sparse(file->header(), io::printable(file->path()))) {
      parts.insert({entry.values, entry.crow, entry.col});
      const std::vector<std::int64_t> shape{entry.shape.rows, entry.shape.cols};
      const std::string reason = skip_reason(entry.name, entry.values->dtype, shape, filter);
      if (reason.empty()) {
        selection.matrices.emplace_back(*file, entry);
      } else {
        skip(entry.name, entry.values->dtype, shape, reason);
      }
    }
  }
  for (const auto& tensor : model.tensors()) {
    if (parts.count(tensor.info)) continue;
    const std::string reason = tensor.in_index
                                   ? skip_reason(tensor.info->name, tensor.info->dtype, tensor.info->shape, filter)
                                   : "the index does not name it";
    if (reason.empty()) {
      selection.matrices.emplace_back(*tensor.file, *tensor.info);
    } else {
      skip(tensor.info->name, tensor.info->dtype, tensor.info->shape, reason);
    }
  }
  std::stable_sort(selection.matrices.begin(), selection.matrices.end(),
                   [](const WeightMatrix& a, const WeightMatrix& b) { return io::natural_less(a.name(), b.name()); });
  return selection;
}

}  // namespace triage::verdict
