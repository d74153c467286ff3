#include "triage/attention_pattern.h"

#include <cstdint>
#include <string>
#include <utility>

#include "api/attention_pattern_data.h"
#include "api/pattern_data.h"
#include "api/tensor_check.h"
#include "registry/attention_kernel.h"

namespace triage {

namespace {

using detail::AttentionPatternData;

constexpr bool kHasCuda = TRIAGE_HAS_CUDA;
// Positions and differences of positions fit int32.
constexpr std::int64_t kMaxLength = std::int64_t{1} << 29;
constexpr int kBits = AttentionMask::kBlock;

std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

struct Size {
  std::int64_t seqlen_q, seqlen_k;
  int block_q, block_k;
  std::int64_t rows() const { return ceil_div(seqlen_q, block_q); }
  std::int64_t cols() const { return ceil_div(seqlen_k, block_k); }
};

Size check_size(std::int64_t seqlen_q, std::int64_t seqlen_k, int block_q, int block_k) {
  for (const auto& [name, block] : {std::pair{"block_q", block_q}, std::pair{"block_k", block_k}}) {
    if (block != 64 && block != 128) {
      fail_argument(std::string(name) + " is " + std::to_string(block) + ", accepted: 64, 128");
    }
  }
  for (const auto& [name, length] : {std::pair{"seqlen_q", seqlen_q}, std::pair{"seqlen_k", seqlen_k}}) {
    if (length < 0 || length > kMaxLength) {
      fail_argument(std::string(name) + " is " + std::to_string(length) + ", accepted: 0 to " +
                    std::to_string(kMaxLength));
    }
  }
  return {seqlen_q, seqlen_k, block_q, block_k};
}

Size size_of(const AttentionPatternData& data) { return {data.seqlen_q, data.seqlen_k, data.block_q, data.block_k}; }

// [batch or 1, heads or kv_heads or 1, ...]: the leading dimensions, which the call's are compared with later.
struct Stack {
  std::int64_t batch, heads;
};
Stack stack_of(const char* name, const DLTensor& tensor) {
  const Stack stack{tensor.shape[0], tensor.shape[1]};
  if (stack.batch < 1 || stack.heads < 1) {
    fail_argument(std::string(name) + " has the shape " + shape_text(tensor) +
                  "; accepted: at least one sequence and one head");
  }
  return stack;
}

bool is_byte(const DLTensor& tensor) {
  return tensor.dtype.bits == 8 && (tensor.dtype.code == kDLUInt || tensor.dtype.code == kDLBoolCode);
}

const std::uint8_t* check_bytes(const char* name, const DLTensor& tensor, int ndim) {
  check_shape_fields(name, tensor, ndim);
  if (!is_byte(tensor))
    fail_argument(std::string(name) + " is " + dtype_text(tensor.dtype) + ", accepted: bool, uint8");
  check_contiguous(name, tensor);
  return static_cast<const std::uint8_t*>(check_data(name, tensor));
}

AttentionIndices check_indices(const char* name, const DLTensor& tensor, int ndim) {
  check_shape_fields(name, tensor, ndim);
  if (tensor.dtype.code != kDLInt || (tensor.dtype.bits != 32 && tensor.dtype.bits != 64)) {
    fail_argument(std::string(name) + " is " + dtype_text(tensor.dtype) + ", accepted: int32, int64");
  }
  check_contiguous(name, tensor);
  return {check_data(name, tensor), tensor.dtype.bits};
}

std::int64_t load_index(const AttentionIndices& indices, std::int64_t i) {
  return indices.bits == 32 ? static_cast<const std::int32_t*>(indices.data)[i]
                            : static_cast<const std::int64_t*>(indices.data)[i];
}

void carve(AttentionPatternData& data, Carver& carver) {
  const std::int64_t masks = data.batch * data.heads;
  data.mask.data = carver.take<std::uint8_t>(data.mask.count() + 1);
  for (BlockBitsArrays* bits : {&data.by_query, &data.by_key}) {
    bits->listed = carver.take<std::uint32_t>(masks * bits->rows * bits->row_words + 1);
    bits->full = carver.take<std::uint32_t>(masks * bits->rows * bits->row_words + 1);
    bits->counts = carver.take<std::int32_t>(masks * bits->rows + 1);
  }
}

std::shared_ptr<AttentionPatternData> allocate(const Device& device, const Stack& stack, const Size& size,
                                               Stream stream) {
  auto data = std::make_shared<AttentionPatternData>();
  data->device = &device;
  data->batch = stack.batch;
  data->heads = stack.heads;
  data->seqlen_q = size.seqlen_q;
  data->seqlen_k = size.seqlen_k;
  data->block_q = size.block_q;
  data->block_k = size.block_k;
  const auto q_blocks = static_cast<int>(ceil_div(size.seqlen_q, kBits));
  const auto k_blocks = static_cast<int>(ceil_div(size.seqlen_k, kBits));
  data->mask.masks = stack.batch * stack.heads;
  data->mask.rows = static_cast<std::int32_t>(size.rows());
  data->mask.cols = static_cast<std::int32_t>(size.cols());
  data->by_query.rows = q_blocks;
  data->by_query.row_words = static_cast<int>(ceil_div(k_blocks, 32));
  data->by_key.rows = k_blocks;
  data->by_key.row_words = static_cast<int>(ceil_div(q_blocks, 32));
  Carver counter(nullptr);
  carve(*data, counter);
  data->memory = Buffer(device.dl, counter.bytes(), stream);
  Carver carver(data->memory.data());
  carve(*data, carver);
  return data;
}

void build_bits(const AttentionPatternData& data, [[maybe_unused]] Stream stream) {
  const BitsPlan plan{data.mask, data.block_q / kBits, data.block_k / kBits, data.by_query, data.by_key};
  if (!on_cuda(data.device->dl)) {
    build_bits_cpu(plan);
  } else if constexpr (kHasCuda) {
    build_bits_cuda(plan, stream);
  }
}

void clear_mask(const AttentionPatternData& data, [[maybe_unused]] Stream stream) {
  if (!on_cuda(data.device->dl)) {
    clear_mask_cpu(data.mask);
  } else if constexpr (kHasCuda) {
    clear_mask_cuda(data.mask, stream);
  }
}

// A source of blocks that has been checked: where it lies, which stack of masks it makes, and how to fill one.
struct MaskSource {
  const std::uint8_t* bytes;

  static MaskSource check(const DLTensor& mask, const Size& size) {
    const MaskSource source{check_bytes("mask", mask, 4)};
    check_lengths("mask", mask, {mask.shape[0], mask.shape[1], size.rows(), size.cols()},
                  "[batch or 1, heads or kv_heads or 1, ceil(seqlen_q / block_q), ceil(seqlen_k / block_k)]");
    return source;
  }
  void fill(const AttentionPatternData& data, Stream stream) const {
    if (data.mask.count() == 0) return;
    copy_bytes(data.mask.data, data.device->dl, bytes, data.device->dl, static_cast<std::size_t>(data.mask.count()),
               stream, "copying the mask of blocks");
  }
};

struct ListSource {
  struct List {
    AttentionIndices indices, counts;
    std::int64_t width = 0;
  };
  List lists[2];  // listed blocks, then full ones
  bool has_full = false;

  static List check_list(const char* name, const char* counts_name, const DLTensor& indices, const DLTensor* counts,
                         const DLTensor& leading, const Size& size) {
    List list;
    list.indices = check_indices(name, indices, 4);
    check_lengths(name, indices, {leading.shape[0], leading.shape[1], size.rows(), indices.shape[3]},
                  "[batch or 1, heads or kv_heads or 1, ceil(seqlen_q / block_q), n]");
    check_same_device(name, indices, check_device("indices", leading), "indices");
    list.width = indices.shape[3];
    const std::int64_t rows = indices.shape[0] * indices.shape[1] * indices.shape[2];
    if (counts != nullptr) {
      list.counts = check_indices(counts_name, *counts, 3);
      check_lengths(counts_name, *counts, {leading.shape[0], leading.shape[1], size.rows()},
                    "the dimensions of the indices but the last");
      check_same_device(counts_name, *counts, check_device("indices", leading), "indices");
    }
    if (!on_cuda(check_device("indices", leading))) validate(name, counts_name, list, rows, size);
    return list;
  }

  static void validate(const char* name, const char* counts_name, const List& list, std::int64_t rows,
                       const Size& size) {
    for (std::int64_t row = 0; row < rows; row++) {
      const std::int64_t count = list.counts.data == nullptr ? list.width : load_index(list.counts, row);
      if (count < 0 || count > list.width) {
        fail_argument(std::string(counts_name) + " holds " + std::to_string(count) + " in row " + std::to_string(row) +
                      ", accepted: 0 to " + std::to_string(list.width));
      }
      for (std::int64_t i = 0; i < count; i++) {
        const std::int64_t column = load_index(list.indices, row * list.width + i);
        if (column >= size.cols()) {
          fail_argument(std::string(name) + " holds " + std::to_string(column) + " in row " + std::to_string(row) +
                        ", accepted: below " + std::to_string(size.cols()) + " (negative: none)");
        }
      }
    }
  }

  static ListSource check(const AttentionBlockLists& given, const Size& size) {
    if (given.indices == nullptr) fail_argument("lists.indices is null, accepted: a tensor");
    ListSource source;
    check_shape_fields("lists.indices", *given.indices, 4);
    source.lists[0] = check_list("lists.indices", "lists.counts", *given.indices, given.counts, *given.indices, size);
    source.has_full = given.full_indices != nullptr;
    if (!source.has_full && given.full_counts != nullptr) {
      fail_argument("lists.full_counts is given without lists.full_indices, accepted: both or neither");
    }
    if (source.has_full) {
      source.lists[1] = check_list("lists.full_indices", "lists.full_counts", *given.full_indices, given.full_counts,
                                   *given.indices, size);
    }
    return source;
  }
  void fill(const AttentionPatternData& data, [[maybe_unused]] Stream stream) const {
    clear_mask(data, stream);
    for (int i = 0; i < (has_full ? 2 : 1); i++) {
      const List& list = lists[i];
      const auto value = static_cast<std::uint8_t>(1 + i);
      if (!on_cuda(data.device->dl)) {
        add_lists_cpu(list.indices, list.width, list.counts, value, data.mask);
      } else if constexpr (kHasCuda) {
        add_lists_cuda(list.indices, list.width, list.counts, value, data.mask, stream);
      }
    }
  }
};

struct CsrSource {
  AttentionIndices crow, col;
  std::int64_t entries;

  static CsrSource check(const DLTensor& crow_indices, const DLTensor& col_indices, const Size& size) {
    CsrSource source{check_indices("crow_indices", crow_indices, 3), check_indices("col_indices", col_indices, 1),
                     col_indices.shape[0]};
    check_lengths("crow_indices", crow_indices, {crow_indices.shape[0], crow_indices.shape[1], size.rows() + 1},
                  "[batch or 1, heads or kv_heads or 1, ceil(seqlen_q / block_q) + 1]");
    const DLDevice device = check_device("crow_indices", crow_indices);
    check_same_device("col_indices", col_indices, device, "crow_indices");
    if (!on_cuda(device)) source.validate(crow_indices.shape[0] * crow_indices.shape[1], size);
    return source;
  }
  void validate(std::int64_t masks, const Size& size) const {
    for (std::int64_t i = 0; i < masks * (size.rows() + 1); i++) {
      const std::int64_t begin = load_index(crow, i);
      const bool first = i % (size.rows() + 1) == 0;
      if (begin < 0 || begin > entries || (!first && begin < load_index(crow, i - 1))) {
        fail_argument("crow_indices holds " + std::to_string(begin) + " at " + std::to_string(i) + ", accepted: 0 to " +
                      std::to_string(entries) + ", never falling within a mask");
      }
    }
    for (std::int64_t i = 0; i < entries; i++) {
      const std::int64_t column = load_index(col, i);
      if (column < 0 || column >= size.cols()) {
        fail_argument("col_indices holds " + std::to_string(column) + " at " + std::to_string(i) + ", accepted: 0 to " +
                      std::to_string(size.cols() - 1));
      }
    }
  }
  void fill(const AttentionPatternData& data, [[maybe_unused]] Stream stream) const {
    clear_mask(data, stream);
    if (!on_cuda(data.device->dl)) {
      add_rows_cpu(crow, col, entries, 1, data.mask);
    } else if constexpr (kHasCuda) {
      add_rows_cuda(crow, col, entries, 1, data.mask, stream);
    }
  }
};

template <typename Source>
std::shared_ptr<AttentionPatternData> create(const Source& source, const char* name, const DLTensor& leading,
                                             const Size& size, Stream stream) {
  const Stack stack = stack_of(name, leading);
  const Device& device = check_usable(name, check_device(name, leading));
  const DeviceGuard guard(device.dl);
  std::shared_ptr<AttentionPatternData> data = allocate(device, stack, size, stream);
  source.fill(*data, stream);
  build_bits(*data, stream);
  return data;
}

template <typename Source>
void replace(const Source& source, const char* name, const DLTensor& leading, const AttentionPatternData& data,
             Stream stream) {
  check_same_device(name, leading, data.device->dl);
  const Stack stack = stack_of(name, leading);
  if (stack.batch != data.batch || stack.heads != data.heads) {
    fail_argument(std::string(name) + " has the shape " + shape_text(leading) + "; accepted: the pattern's batch " +
                  std::to_string(data.batch) + " and heads " + std::to_string(data.heads));
  }
  const DeviceGuard guard(data.device->dl);
  source.fill(data, stream);
  build_bits(data, stream);
}

const AttentionPatternData& required(const std::shared_ptr<AttentionPatternData>& data) {
  if (data == nullptr) fail_argument("the attention pattern is empty; make one by AttentionPattern::from_mask");
  return *data;
}

void carve_elements(AttentionPatternData& data, Carver& carver) {
  const std::int64_t parts = data.block_q / kBits * (data.block_k / kBits);
  data.element_index = carver.take<std::int32_t>(data.mask.masks * data.by_query.rows * data.by_key.rows + 1);
  data.elements = carver.take<std::uint64_t>(data.capacity * parts * kBits);
  data.elements_by_key = carver.take<std::uint64_t>(data.capacity * parts * kBits);
}

}  // namespace

AttentionPattern::AttentionPattern() = default;
AttentionPattern::AttentionPattern(std::shared_ptr<AttentionPatternData> data) : data_(std::move(data)) {}
AttentionPattern::~AttentionPattern() = default;
AttentionPattern::AttentionPattern(const AttentionPattern&) = default;
AttentionPattern::AttentionPattern(AttentionPattern&&) noexcept = default;
AttentionPattern& AttentionPattern::operator=(const AttentionPattern&) = default;
AttentionPattern& AttentionPattern::operator=(AttentionPattern&&) noexcept = default;

AttentionPattern AttentionPattern::from_mask(const DLTensor& mask, std::int64_t seqlen_q, std::int64_t seqlen_k,
                                             int block_q, int block_k, Stream stream) {
  const Size size = check_size(seqlen_q, seqlen_k, block_q, block_k);
  return AttentionPattern(create(MaskSource::check(mask, size), "mask", mask, size, stream));
}

AttentionPattern AttentionPattern::from_lists(const AttentionBlockLists& lists, std::int64_t seqlen_q,
                                              std::int64_t seqlen_k, int block_q, int block_k, Stream stream) {
  const Size size = check_size(seqlen_q, seqlen_k, block_q, block_k);
  const ListSource source = ListSource::check(lists, size);
  return AttentionPattern(create(source, "lists.indices", *lists.indices, size, stream));
}

AttentionPattern AttentionPattern::from_csr(const DLTensor& crow_indices, const DLTensor& col_indices,
                                            std::int64_t seqlen_q, std::int64_t seqlen_k, int block_q, int block_k,
                                            Stream stream) {
  const Size size = check_size(seqlen_q, seqlen_k, block_q, block_k);
  const CsrSource source = CsrSource::check(crow_indices, col_indices, size);
  return AttentionPattern(create(source, "crow_indices", crow_indices, size, stream));
}

AttentionPattern AttentionPattern::from_pattern(const BlockPattern& pattern, Stream stream) {
  const int block = pattern.block_size();
  if (block != 64 && block != 128) {
    fail_argument("pattern has blocks of " + std::to_string(block) + ", accepted for attention: 64, 128");
  }
  DLTensor crow = pattern.crow_indices();
  std::int64_t shape[3] = {1, 1, pattern.block_rows() + 1};
  crow.ndim = 3;
  crow.shape = shape;
  const Size size = check_size(pattern.rows(), pattern.cols(), block, block);
  const PatternView& view = pattern.data()->view;
  const CsrSource source{{view.crow, 32}, {view.col, 32}, pattern.nnz_blocks()};
  return AttentionPattern(create(source, "pattern", crow, size, stream));
}

void AttentionPattern::update_mask(const DLTensor& mask, Stream stream) {
  const AttentionPatternData& data = required(data_);
  replace(MaskSource::check(mask, size_of(data)), "mask", mask, data, stream);
}

void AttentionPattern::update_lists(const AttentionBlockLists& lists, Stream stream) {
  const AttentionPatternData& data = required(data_);
  const ListSource source = ListSource::check(lists, size_of(data));
  replace(source, "lists.indices", *lists.indices, data, stream);
}

void AttentionPattern::update_csr(const DLTensor& crow_indices, const DLTensor& col_indices, Stream stream) {
  const AttentionPatternData& data = required(data_);
  replace(CsrSource::check(crow_indices, col_indices, size_of(data)), "crow_indices", crow_indices, data, stream);
}

void AttentionPattern::set_elements(const DLTensor& index, const DLTensor& elements, Stream stream) {
  required(data_);
  AttentionPatternData& data = *data_;
  ElementsPlan plan;
  plan.elements = check_bytes("elements", elements, 3);
  check_lengths("elements", elements, {elements.shape[0], data.block_q, data.block_k}, "[n, block_q, block_k]");
  const std::int64_t n = elements.shape[0], most = INT32_MAX / 4;
  if (n < 1 || n > most) {
    fail_argument("elements holds " + std::to_string(n) + " blocks, accepted: 1 to " + std::to_string(most));
  }
  const AttentionIndices indices = check_indices("index", index, 4);
  if (indices.bits != 32) fail_argument("index is int64, accepted: int32");
  check_lengths("index", index, {data.batch, data.heads, data.mask.rows, data.mask.cols}, "as the pattern's masks");
  plan.index = static_cast<const std::int32_t*>(indices.data);
  check_same_device("index", index, data.device->dl);
  check_same_device("elements", elements, data.device->dl);
  if (!on_cuda(data.device->dl)) {
    for (std::int64_t i = 0; i < data.mask.count(); i++) {
      if (plan.index[i] >= -1 && plan.index[i] < n) continue;
      fail_argument("index holds " + std::to_string(plan.index[i]) + " at " + std::to_string(i) + ", accepted: -1 to " +
                    std::to_string(n - 1));
    }
  }
  const DeviceGuard guard(data.device->dl);
  if (n > data.capacity) {
    if (on_cuda(data.device->dl) && data.capacity > 0) synchronize(data.device->dl, stream);  // the old memory goes
    data.capacity = n;
    Carver counter(nullptr);
    carve_elements(data, counter);
    data.element_memory = Buffer(data.device->dl, counter.bytes(), stream);
    Carver carver(data.element_memory.data());
    carve_elements(data, carver);
  }
  data.entries = n;
  plan.masks = data.mask.masks;
  plan.entries = n;
  plan.rows = data.mask.rows;
  plan.cols = data.mask.cols;
  plan.factor_q = data.block_q / kBits;
  plan.factor_k = data.block_k / kBits;
  plan.rows64 = data.by_query.rows;
  plan.cols64 = data.by_key.rows;
  plan.index64 = data.element_index;
  plan.by_query = data.elements;
  plan.by_key = data.elements_by_key;
  if (!on_cuda(data.device->dl)) {
    build_elements_cpu(plan);
  } else if constexpr (kHasCuda) {
    build_elements_cuda(plan, stream);
  }
}

std::int64_t AttentionPattern::batch() const { return data_ == nullptr ? 0 : data_->batch; }
std::int64_t AttentionPattern::heads() const { return data_ == nullptr ? 0 : data_->heads; }
std::int64_t AttentionPattern::seqlen_q() const { return data_ == nullptr ? 0 : data_->seqlen_q; }
std::int64_t AttentionPattern::seqlen_k() const { return data_ == nullptr ? 0 : data_->seqlen_k; }
int AttentionPattern::block_q() const { return data_ == nullptr ? 0 : data_->block_q; }
int AttentionPattern::block_k() const { return data_ == nullptr ? 0 : data_->block_k; }
bool AttentionPattern::has_elements() const { return data_ != nullptr && data_->entries > 0; }
DLDevice AttentionPattern::device() const { return data_ == nullptr ? DLDevice{kDLCPU, 0} : data_->device->dl; }

void AttentionPattern::to_mask(const DLTensor& mask, Stream stream) const {
  const AttentionPatternData& data = required(data_);
  auto* const to = const_cast<std::uint8_t*>(check_bytes("mask", mask, 4));
  check_lengths("mask", mask, {data.batch, data.heads, data.mask.rows, data.mask.cols}, "as the pattern's masks");
  check_same_device("mask", mask, data.device->dl);
  if (data.mask.count() == 0) return;
  const DeviceGuard guard(data.device->dl);
  copy_bytes(to, data.device->dl, data.mask.data, data.device->dl, static_cast<std::size_t>(data.mask.count()), stream,
             "copying the mask of blocks");
}

}  // namespace triage
