#include "triage/block_pattern.h"

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>

#include "api/pattern_data.h"
#include "api/tensor_check.h"
#include "registry/registry.h"

namespace triage {

namespace {

using detail::PatternData;
using detail::PatternPair;
using detail::Schedule;

constexpr DLDevice kHost{kDLCPU, 0};
constexpr bool kHasCuda = TRIAGE_HAS_CUDA;
// Element coordinates, padding included, fit int32.
constexpr std::int64_t kMaxLength = INT32_MAX - 128;
constexpr std::int64_t kMaxBlocks = INT32_MAX - kBlockOrderPadding;

struct Size {
  std::int64_t rows, cols;
  int block;
  std::int32_t block_rows() const { return static_cast<std::int32_t>((rows + block - 1) / block); }
  std::int32_t block_cols() const { return static_cast<std::int32_t>((cols + block - 1) / block); }
};

Size check_size(std::int64_t rows, std::int64_t cols, int block) {
  if (block != 16 && block != 32 && block != 64 && block != 128) {
    fail_argument("block_size is " + std::to_string(block) + ", accepted: 16, 32, 64, 128");
  }
  for (const auto& [name, length] : {std::pair{"rows", rows}, std::pair{"cols", cols}}) {
    if (length < 0 || length > kMaxLength) {
      fail_argument(std::string(name) + " is " + std::to_string(length) + ", accepted: 0 to " +
                    std::to_string(kMaxLength));
    }
  }
  return {rows, cols, block};
}

void carve(PatternPair& pair, Carver& carver) {
  // The counts of all schedules lie side by side: they are read back in one copy.
  const std::size_t schedules = pair.pattern.schedules.size() + pair.twin.schedules.size();
  auto* counts = carver.take<ScheduleCounts>(static_cast<std::int64_t>(schedules));
  for (PatternData* data : {&pair.pattern, &pair.twin}) {
    PatternArrays& arrays = data->arrays;
    arrays.crow = carver.take<std::int32_t>(std::int64_t{arrays.block_rows} + 1);
    arrays.col = carver.take<std::int32_t>(arrays.nnz);
    arrays.row = carver.take<std::int32_t>(arrays.nnz);
    arrays.positions = carver.take<std::int32_t>(arrays.nnz);
    for (Schedule& schedule : data->schedules) {
      const SchedulePlan& plan = schedule.plan;
      schedule.arrays.stages = carver.take<StageRecord>(plan.stage_capacity + kStagePadding);
      schedule.arrays.block_order = carver.take<std::int32_t>(std::int64_t{plan.nnz} + kBlockOrderPadding);
      schedule.arrays.items = carver.take<WorkItem>(plan.group_count);
      schedule.arrays.split_items = carver.take<WorkItem>(std::int64_t{plan.group_count} + plan.split_slot_capacity);
      schedule.arrays.splits = carver.take<SplitGroup>(plan.split_slot_capacity / 2);
      schedule.arrays.counts = counts == nullptr ? nullptr : counts++;
    }
  }
}

void describe(PatternData& data, const Device& device, Size size, std::int64_t nnz) {
  data.device = &device;
  data.crow_length = size.block_rows() + std::int64_t{1};
  data.nnz = nnz;
  data.arrays.block_rows = size.block_rows();
  data.arrays.block_cols = size.block_cols();
  data.arrays.nnz = static_cast<std::int32_t>(nnz);
  for (const ScheduleSpec& spec : schedule_specs({size.rows, size.cols, nnz, size.block}, device)) {
    Schedule schedule;
    schedule.plan = plan_schedule(spec, size.block_rows(), size.block_cols(), nnz, device.multiprocessors);
    data.schedules.push_back(schedule);
  }
}

void set_view(PatternData& data, Size size) {
  PatternView& view = data.view;
  view.rows = size.rows;
  view.cols = size.cols;
  view.block = size.block;
  view.nnz_blocks = data.nnz;
  view.block_rows = data.arrays.block_rows;
  view.block_cols = data.arrays.block_cols;
  view.crow = data.arrays.crow;
  view.col = data.arrays.col;
  view.row = data.arrays.row;
}

// A pair with all of its memory, indices still zero.
std::shared_ptr<PatternPair> allocate_pair(const Device& device, Size size, std::int64_t nnz, Stream stream) {
  if (nnz > kMaxBlocks) {
    fail_argument("the pattern has " + std::to_string(nnz) + " blocks, accepted: at most " +
                  std::to_string(kMaxBlocks));
  }
  auto pair = std::make_shared<PatternPair>();
  const Size transposed{size.cols, size.rows, size.block};
  describe(pair->pattern, device, size, nnz);
  describe(pair->twin, device, transposed, nnz);
  pair->pattern.twin = &pair->twin;
  pair->twin.twin = &pair->pattern;

  Carver counter(nullptr);
  carve(*pair, counter);
  pair->memory = Buffer(device.dl, counter.bytes(), stream);
  Carver carver(pair->memory.data());
  carve(*pair, carver);
  set_view(pair->pattern, size);
  set_view(pair->twin, transposed);

  if constexpr (kHasCuda) {
    if (on_cuda(device.dl)) {
      std::size_t bytes = build_twin_cuda_scratch_bytes(nnz);
      for (const PatternData* data : {&pair->pattern, &pair->twin}) {
        for (const Schedule& schedule : data->schedules) {
          bytes = std::max(bytes, build_schedule_cuda_scratch_bytes(schedule.plan));
        }
      }
      pair->scratch = Buffer(device.dl, bytes, stream);
      pair->pattern.scratch = pair->twin.scratch = pair->scratch.data();
    }
  }
  return pair;
}

void build_schedules(const PatternData& data, bool creating, [[maybe_unused]] Stream stream) {
  for (const Schedule& schedule : data.schedules) {
    const std::int32_t slots = creating ? schedule.plan.split_slot_capacity : schedule.split_slots;
    if (!on_cuda(data.device->dl)) {
      build_schedule(schedule.plan, data.arrays.crow, data.arrays.col, slots, schedule.arrays);
    } else if constexpr (kHasCuda) {
      build_schedule_cuda(schedule.plan, data.arrays.crow, data.arrays.col, slots, schedule.arrays, data.scratch,
                          stream);
    }
  }
}

// Everything that follows from data's crow and col, in both directions.
void rebuild(const PatternData& data, bool creating, Stream stream) {
  if (!on_cuda(data.device->dl)) {
    build_twin_cpu(data.arrays, data.twin->arrays);
  } else if constexpr (kHasCuda) {
    build_twin_cuda(data.arrays, data.twin->arrays, data.scratch, stream);
  }
  build_schedules(data, creating, stream);
  build_schedules(*data.twin, creating, stream);
}

// Builds a pair whose crow and col are in place, and learns which groups were split. Synchronises.
void finish_creation(PatternPair& pair, Stream stream) {
  rebuild(pair.pattern, true, stream);
  const DLDevice device = pair.pattern.device->dl;
  std::vector<ScheduleCounts> counts(pair.pattern.schedules.size() + pair.twin.schedules.size());
  if (!counts.empty()) {
    copy_bytes(counts.data(), kHost, pair.memory.data(), device, counts.size() * sizeof(ScheduleCounts), stream,
               "reading back the schedule's counts");
  }
  synchronize(device, stream);
  std::size_t i = 0;
  for (PatternData* data : {&pair.pattern, &pair.twin}) {
    for (Schedule& schedule : data->schedules) {
      schedule.counts = counts[i++];
      schedule.split_slots = schedule.counts.split_slots;
    }
  }
}

std::shared_ptr<PatternData> point_at(const std::shared_ptr<PatternPair>& pair) { return {pair, &pair->pattern}; }

int check_index_tensor(const char* name, const DLTensor& tensor) {
  check_shape_fields(name, tensor, 1);
  if (tensor.dtype.code != kDLInt || (tensor.dtype.bits != 32 && tensor.dtype.bits != 64)) {
    fail_argument(std::string(name) + " is " + dtype_text(tensor.dtype) + ", accepted: int32, int64");
  }
  check_contiguous(name, tensor);
  return tensor.dtype.bits;
}

BsrArrays check_bsr_tensors(const DLTensor& crow, const DLTensor& col, std::int32_t block_rows) {
  BsrArrays bsr;
  bsr.crow_bits = check_index_tensor("crow_indices", crow);
  bsr.col_bits = check_index_tensor("col_indices", col);
  const DLDevice device = check_device("crow_indices", crow), col_device = check_device("col_indices", col);
  if (device.device_type != col_device.device_type || device.device_id != col_device.device_id) {
    fail_argument("crow_indices is on " + device_text(device) + ", but col_indices is on " + device_text(col_device));
  }
  check_lengths("crow_indices", crow, {std::int64_t{block_rows} + 1}, "ceil(rows / block_size) + 1");
  bsr.crow = check_data("crow_indices", crow);
  bsr.col = check_data("col_indices", col);
  return bsr;
}

// Device arrays: a kernel finds out whether anything is wrong, the host then says what.
void validate_on_cuda([[maybe_unused]] const BsrArrays& bsr, [[maybe_unused]] const PatternPair& pair,
                      [[maybe_unused]] Stream stream) {
  if constexpr (kHasCuda) {
    const PatternArrays& arrays = pair.pattern.arrays;
    const DLDevice device = pair.pattern.device->dl;
    std::int32_t* flag = pair.twin.arrays.crow;  // not in use yet
    check_bsr_cuda(bsr, arrays.block_rows, arrays.block_cols, arrays.nnz, flag, stream);
    std::int32_t invalid = 0;
    copy_bytes(&invalid, kHost, flag, device, sizeof(invalid), stream, "reading back the check of the indices");
    synchronize(device, stream);
    if (invalid == 0) return;
    std::vector<char> crow((std::size_t{1} + arrays.block_rows) * bsr.crow_bits / 8);
    std::vector<char> col(static_cast<std::size_t>(arrays.nnz) * bsr.col_bits / 8);
    copy_bytes(crow.data(), kHost, bsr.crow, device, crow.size(), stream, "reading back crow_indices");
    copy_bytes(col.data(), kHost, bsr.col, device, col.size(), stream, "reading back col_indices");
    synchronize(device, stream);
    const BsrArrays host{crow.data(), bsr.crow_bits, col.data(), bsr.col_bits};
    validate_bsr_cpu(host, arrays.block_rows, arrays.block_cols, arrays.nnz);
    fail_argument("crow_indices and col_indices changed while the pattern was being made");
  }
}

std::shared_ptr<PatternData> create_from_mask(const Device& device, const BlockMask& mask, Size size, Stream stream) {
  const std::size_t crow_bytes = (static_cast<std::size_t>(mask.block_rows) + 1) * sizeof(std::int32_t);
  const Buffer crow(device.dl, crow_bytes, stream);
  auto* crow_data = static_cast<std::int32_t*>(crow.data());
  if (!on_cuda(device.dl)) {
    mask_to_crow_cpu(mask, crow_data);
  } else if constexpr (kHasCuda) {
    mask_to_crow_cuda(mask, crow_data, stream);
  }
  std::int32_t nnz = 0;
  copy_bytes(&nnz, kHost, crow_data + mask.block_rows, device.dl, sizeof(nnz), stream, "reading back the block count");
  synchronize(device.dl, stream);
  if (nnz < 0) fail_argument("mask names more blocks than fit int32; use larger blocks");

  const std::shared_ptr<PatternPair> pair = allocate_pair(device, size, nnz, stream);
  const PatternArrays& arrays = pair->pattern.arrays;
  copy_bytes(arrays.crow, device.dl, crow_data, device.dl, crow_bytes, stream, "copying crow_indices");
  if (!on_cuda(device.dl)) {
    mask_to_col_cpu(mask, arrays.crow, arrays.col);
  } else if constexpr (kHasCuda) {
    mask_to_col_cuda(mask, arrays.crow, arrays.col, stream);
  }
  finish_creation(*pair, stream);
  return point_at(pair);
}

DLTensor index_view(const PatternData& data, std::int32_t* array, const std::int64_t& length) {
  DLTensor tensor{};
  tensor.data = array;
  tensor.device = data.device->dl;
  tensor.ndim = 1;
  tensor.dtype = {kDLInt, 32, 1};
  tensor.shape = const_cast<std::int64_t*>(&length);
  return tensor;
}

}  // namespace

BlockPattern::BlockPattern() {
  static const std::shared_ptr<PatternPair> empty = [] {
    std::shared_ptr<PatternPair> pair = allocate_pair(probe_device(kHost), Size{0, 0, 16}, 0, nullptr);
    finish_creation(*pair, nullptr);
    return pair;
  }();
  data_ = point_at(empty);
}

BlockPattern::~BlockPattern() = default;
BlockPattern::BlockPattern(const BlockPattern&) = default;
BlockPattern& BlockPattern::operator=(const BlockPattern&) = default;
// A move copies the pointer, so that what was moved from is still a pattern.
BlockPattern::BlockPattern(BlockPattern&& other) noexcept : data_(other.data_) {}
BlockPattern& BlockPattern::operator=(BlockPattern&& other) noexcept {
  data_ = other.data_;
  return *this;
}

BlockPattern BlockPattern::from_bsr(const DLTensor& crow_indices, const DLTensor& col_indices, std::int64_t rows,
                                    std::int64_t cols, int block_size, Stream stream) {
  const Size size = check_size(rows, cols, block_size);
  const BsrArrays bsr = check_bsr_tensors(crow_indices, col_indices, size.block_rows());
  const std::int64_t nnz = col_indices.shape[0];
  const Device& device = check_usable("crow_indices", check_device("crow_indices", crow_indices));
  if (!on_cuda(device.dl)) validate_bsr_cpu(bsr, size.block_rows(), size.block_cols(), nnz);

  const DeviceGuard guard(device.dl);
  const std::shared_ptr<PatternPair> pair = allocate_pair(device, size, nnz, stream);
  if (!on_cuda(device.dl)) {
    copy_bsr_cpu(bsr, pair->pattern.arrays);
  } else if constexpr (kHasCuda) {
    validate_on_cuda(bsr, *pair, stream);
    copy_bsr_cuda(bsr, pair->pattern.arrays, stream);
  }
  finish_creation(*pair, stream);
  BlockPattern pattern;
  pattern.data_ = point_at(pair);
  return pattern;
}

BlockPattern BlockPattern::from_mask(const DLTensor& mask, std::int64_t rows, std::int64_t cols, int block_size,
                                     Stream stream) {
  const Size size = check_size(rows, cols, block_size);
  check_shape_fields("mask", mask, 2);
  const bool is_byte = mask.dtype.bits == 8 && (mask.dtype.code == kDLUInt || mask.dtype.code == kDLBoolCode);
  if (!is_byte) fail_argument("mask is " + dtype_text(mask.dtype) + ", accepted: bool, uint8");
  check_lengths("mask", mask, {size.block_rows(), size.block_cols()},
                "[ceil(rows / block_size), ceil(cols / block_size)]");
  BlockMask view;
  view.stride = check_row_stride("mask", mask);
  view.data = static_cast<const std::uint8_t*>(check_data("mask", mask));
  view.block_rows = size.block_rows();
  view.block_cols = size.block_cols();
  const Device& device = check_usable("mask", check_device("mask", mask));
  const DeviceGuard guard(device.dl);
  BlockPattern pattern;
  pattern.data_ = create_from_mask(device, view, size, stream);
  return pattern;
}

BlockPattern BlockPattern::from_dense(const DLTensor& matrix, int block_size, Stream stream) {
  check_shape_fields("matrix", matrix, 2);
  const DType dtype = check_float_dtype("matrix", matrix);
  const Size size = check_size(matrix.shape[0], matrix.shape[1], block_size);
  DenseMatrix dense{nullptr, element_bytes(dtype), size.rows, size.cols, check_row_stride("matrix", matrix)};
  dense.data = check_data("matrix", matrix);
  const Device& device = check_usable("matrix", check_device("matrix", matrix));

  const DeviceGuard guard(device.dl);
  const std::size_t mask_bytes =
      static_cast<std::size_t>(size.block_rows()) * static_cast<std::size_t>(size.block_cols());
  const Buffer mask(device.dl, mask_bytes, stream);
  auto* mask_data = static_cast<std::uint8_t*>(mask.data());
  if (mask_bytes > 0) {
    if (!on_cuda(device.dl)) {
      dense_to_mask_cpu(dense, size.block, mask_data);
    } else if constexpr (kHasCuda) {
      dense_to_mask_cuda(dense, size.block, mask_data, stream);
    }
  }
  BlockPattern pattern;
  const BlockMask view{mask_data, size.block_cols(), size.block_rows(), size.block_cols()};
  pattern.data_ = create_from_mask(device, view, size, stream);
  return pattern;
}

std::int64_t BlockPattern::rows() const { return data_->view.rows; }
std::int64_t BlockPattern::cols() const { return data_->view.cols; }
int BlockPattern::block_size() const { return data_->view.block; }
std::int64_t BlockPattern::block_rows() const { return data_->view.block_rows; }
std::int64_t BlockPattern::block_cols() const { return data_->view.block_cols; }
std::int64_t BlockPattern::nnz_blocks() const { return data_->nnz; }
DLDevice BlockPattern::device() const { return data_->device->dl; }

double BlockPattern::density() const {
  const double all = static_cast<double>(block_rows()) * static_cast<double>(block_cols());
  return all == 0 ? 0.0 : static_cast<double>(nnz_blocks()) / all;
}

DLTensor BlockPattern::crow_indices() const { return index_view(*data_, data_->arrays.crow, data_->crow_length); }
DLTensor BlockPattern::col_indices() const { return index_view(*data_, data_->arrays.col, data_->nnz); }
DLTensor BlockPattern::transposed_positions() const { return index_view(*data_, data_->arrays.positions, data_->nnz); }

BlockPattern BlockPattern::transposed() const {
  BlockPattern twin;
  twin.data_ = std::shared_ptr<PatternData>(data_, data_->twin);
  return twin;
}

BlockPattern BlockPattern::to(DLDevice target, Stream stream) const {
  const Device& device = check_usable("the new pattern", device_type(target) == kDLCPU ? kHost : target);
  const DLDevice from = data_->device->dl;
  if (&device == data_->device) return *this;
  if (on_cuda(from) && on_cuda(device.dl)) return to(kHost, stream).to(target);

  const DeviceGuard guard(on_cuda(from) ? from : device.dl);
  const Size size{rows(), cols(), block_size()};
  const std::shared_ptr<PatternPair> pair = allocate_pair(device, size, nnz_blocks(), stream);
  const PatternArrays &ours = data_->arrays, &theirs = pair->pattern.arrays;
  const std::size_t word = sizeof(std::int32_t);
  copy_bytes(theirs.crow, device.dl, ours.crow, from, static_cast<std::size_t>(data_->crow_length) * word, stream,
             "copying crow_indices");
  copy_bytes(theirs.col, device.dl, ours.col, from, static_cast<std::size_t>(data_->nnz) * word, stream,
             "copying col_indices");
  synchronize(from, stream);
  finish_creation(*pair, stream);
  BlockPattern pattern;
  pattern.data_ = point_at(pair);
  return pattern;
}

void BlockPattern::update(const DLTensor& crow_indices, const DLTensor& col_indices, Stream stream) {
  const PatternArrays& arrays = data_->arrays;
  const BsrArrays bsr = check_bsr_tensors(crow_indices, col_indices, arrays.block_rows);
  check_same_device("crow_indices", crow_indices, data_->device->dl);
  check_lengths("col_indices", col_indices, {data_->nnz}, "as many blocks as the pattern was created with");
  const DeviceGuard guard(data_->device->dl);
  if (!on_cuda(data_->device->dl)) {
    validate_bsr_cpu(bsr, arrays.block_rows, arrays.block_cols, arrays.nnz);
    copy_bsr_cpu(bsr, arrays);
  } else if constexpr (kHasCuda) {
    copy_bsr_cuda(bsr, arrays, stream);
  }
  rebuild(*data_, false, stream);
}

}  // namespace triage
