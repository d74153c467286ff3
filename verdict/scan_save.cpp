#include "verdict/scan_save.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <map>
#include <set>

#include "io/block_sparse_layout.h"
#include "io/safetensors_writer.h"
#include "io/text.h"
#include "triage/error.h"

namespace triage::verdict {
namespace {

using Source = std::function<void(io::SafetensorsWriter&)>;

constexpr std::size_t kCopyBytes = std::size_t{4} << 20;

// Block rows of values, gathered from the weight's own dtype, so that nothing is rounded.
void write_values(const PrunedWeight& pruned, io::SafetensorsWriter& writer) {
  const WeightMatrix& weight = *pruned.weight;
  const BlockList& kept = pruned.kept;
  const std::int64_t element = io::dtype_bits(weight.dtype()) / 8, block = kept.block;
  std::vector<unsigned char> rows(static_cast<std::size_t>(std::min(block, kept.rows) * kept.cols * element)), values;
  for (std::int64_t block_row = 0; block_row < kept.block_rows(); ++block_row) {
    const std::int64_t first = block_row * block, count = std::min(block, kept.rows - first);
    const std::int32_t begin = kept.crow[static_cast<std::size_t>(block_row)];
    const std::int32_t end = kept.crow[static_cast<std::size_t>(block_row) + 1];
    if (begin == end) continue;
    weight.read_raw_rows(first, count, rows.data());
    values.assign(static_cast<std::size_t>((end - begin) * block * block * element), 0);  // ragged edges stay zero
    for (std::int32_t i = begin; i < end; ++i) {
      const std::int64_t column = kept.col[static_cast<std::size_t>(i)] * block;
      const std::int64_t width = std::min(block, kept.cols - column);
      for (std::int64_t row = 0; row < count; ++row) {
        std::memcpy(values.data() + ((i - begin) * block + row) * block * element,
                    rows.data() + (row * kept.cols + column) * element, static_cast<std::size_t>(width * element));
      }
    }
    writer.append(values.data(), values.size());
  }
}

void copy_tensor(const io::SafetensorsFile& file, const io::TensorInfo& tensor, io::SafetensorsWriter& writer) {
  std::vector<unsigned char> piece(std::min<std::uint64_t>(kCopyBytes, tensor.bytes()));
  for (std::uint64_t offset = 0; offset < tensor.bytes(); offset += piece.size()) {
    const std::size_t count = std::min<std::uint64_t>(piece.size(), tensor.bytes() - offset);
    file.read(tensor, offset, piece.data(), count);
    writer.append(piece.data(), count);
  }
}

void append_indices(const std::vector<std::int32_t>& indices, io::SafetensorsWriter& writer) {
  writer.append(indices.data(), indices.size() * sizeof(std::int32_t));
}

}  // namespace

std::uint64_t pruned_bytes(const PrunedWeight& pruned) {
  std::uint64_t bytes = 0;
  const io::BlockSparseShape shape{pruned.kept.rows, pruned.kept.cols, pruned.kept.block};
  for (const auto& tensor :
       io::block_sparse_tensors(pruned.weight->name(), shape, pruned.weight->dtype(), pruned.kept.nonzero())) {
    bytes += io::tensor_bytes(tensor.dtype, tensor.shape, tensor.name);
  }
  return bytes;
}

void check_output(const std::string& path, const io::SafetensorsModel& model) {
  for (const auto& file : model.files()) {
    if (file->file().is_same_file(path)) {
      throw Error(ErrorCode::invalid_argument, "--out " + io::quote(path) + " is the model itself; name another file");
    }
  }
  const io::AtomicFile probe(path, 0);  // and removed again
}

std::uint64_t save_pruned(const std::string& path, const io::SafetensorsModel& model,
                          const std::vector<PrunedWeight>& pruned) {
  std::vector<io::TensorInfo> tensors;
  std::map<std::string, Source> sources;
  std::map<std::string, io::BlockSparseShape> shapes;
  std::set<std::string> replaced;
  const auto add_matrix = [&](const std::string& name, const io::BlockSparseShape& shape, io::TensorDtype dtype,
                              std::int64_t nnz_blocks) {
    shapes[name] = shape;
    for (auto& tensor : io::block_sparse_tensors(name, shape, dtype, nnz_blocks)) tensors.push_back(std::move(tensor));
  };
  for (const auto& matrix : pruned) {
    const std::string& name = matrix.weight->name();
    replaced.insert(name);
    add_matrix(name, {matrix.kept.rows, matrix.kept.cols, matrix.kept.block}, matrix.weight->dtype(),
               matrix.kept.nonzero());
    sources[name + io::kValuesSuffix] = [&matrix](auto& writer) { write_values(matrix, writer); };
    sources[name + io::kCrowSuffix] = [&matrix](auto& writer) { append_indices(matrix.kept.crow, writer); };
    sources[name + io::kColSuffix] = [&matrix](auto& writer) { append_indices(matrix.kept.col, writer); };
  }
  // Block-sparse matrices that were skipped stay what they are; the tensors of those that were pruned again go.
  std::set<const io::TensorInfo*> gone;
  for (const auto& file : model.files()) {
    for (const auto& entry : io::parse_block_sparse(file->header(), io::printable(file->path()))) {
      if (replaced.count(entry.name)) {
        gone.insert({entry.values, entry.crow, entry.col});
      } else {
        shapes[entry.name] = entry.shape;
      }
    }
  }
  for (const auto& tensor : model.tensors()) {
    if (replaced.count(tensor.info->name) || gone.count(tensor.info) || !tensor.in_index) continue;
    tensors.push_back(*tensor.info);
    sources[tensor.info->name] = [&tensor](auto& writer) { copy_tensor(*tensor.file, *tensor.info, writer); };
  }
  io::SafetensorsWriter writer(path, std::move(tensors), io::block_sparse_metadata(shapes));
  for (const auto& tensor : writer.tensors()) sources.at(tensor.name)(writer);
  writer.commit();
  return writer.file_bytes();
}

}  // namespace triage::verdict
