#include "verdict/attention_mask.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "verdict/random_inputs.h"

namespace triage::verdict {
namespace {

constexpr std::int64_t kEntries = 5;  // bit masks of elements that a problem's blocks share
constexpr std::int64_t kBits = AttentionMask::kBlock;

std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

/// A tensor of the public API over a copy on the device.
class DeviceArray {
 public:
  DeviceArray(const void* data, std::size_t bytes, DLDataType dtype, std::vector<std::int64_t> shape, DLDevice device,
              Stream stream)
      : buffer_(device, std::max<std::size_t>(bytes, 1), stream), shape_(std::move(shape)) {
    copy_bytes(buffer_.data(), device, data, {kDLCPU, 0}, bytes, stream, "upload of a mask");
    tensor_.data = buffer_.data();
    tensor_.device = device;
    tensor_.ndim = static_cast<int>(shape_.size());
    tensor_.dtype = dtype;
    tensor_.shape = shape_.data();
  }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;
  const DLTensor& tensor() const { return tensor_; }

 private:
  Buffer buffer_;
  std::vector<std::int64_t> shape_;
  DLTensor tensor_{};
};

}  // namespace

std::string PatternSpec::label() const {
  if (!given()) return "";
  std::string text = fmt::format("pattern={}/{}x{}/{:.3g}", bench::pattern_kind_name(kind), block_q, block_k, density);
  if (full > 0) text += fmt::format(" full={:.3g}", full);
  if (elements > 0) text += fmt::format(" elements={:.3g}", elements);
  return text + fmt::format(" masks={}x{}", batch, heads);
}

GuardedPattern::GuardedPattern(const PatternSpec& spec, std::int64_t seqlen_q, std::int64_t seqlen_k, DLDevice device,
                               std::uint64_t seed, Stream stream)
    : spec_(spec),
      device_(device),
      seqlen_q_(seqlen_q),
      seqlen_k_(seqlen_k),
      rows_(ceil_div(seqlen_q, spec.block_q)),
      cols_(ceil_div(seqlen_k, spec.block_k)),
      entries_(spec.elements > 0 ? kEntries : 0) {
  by_query_.rows = by_key_.words = ceil_div(seqlen_q, kBits);
  by_key_.rows = by_query_.words = ceil_div(seqlen_k, kBits);
  for (HostBits* bits : {&by_query_, &by_key_}) bits->words = ceil_div(bits->words, 32);
  draw(seed);
  hand_over(true, stream);
}

void GuardedPattern::refill(std::uint64_t seed, Stream stream) {
  draw(seed);
  hand_over(false, stream);
}

void GuardedPattern::draw(std::uint64_t seed) {
  Random random(random_bits(seed, 1));
  blocks_ = bench::random_blocks(spec_.kind, spec_.density, masks(), rows_, cols_, seed);
  index_.clear();
  for (std::uint8_t& block : blocks_) {
    if (block != 0 && random.chance(spec_.full)) block = 2;
    // Full blocks and those not listed name some, too: it must not matter.
    const bool has = entries_ > 0 && random.chance(spec_.elements);
    index_.push_back(has ? static_cast<std::int32_t>(random.integer(0, entries_ - 1)) : -1);
  }
  elements_.assign(static_cast<std::size_t>(entries_ * spec_.block_q * spec_.block_k), 0);
  for (std::int64_t entry = 0; entry < entries_; ++entry) {
    // Densely, thinly, and whole rows of nothing.
    const double chance = entry % 2 == 0 ? 0.6 : 0.03;
    for (std::int64_t i = 0; i < spec_.block_q; ++i) {
      const bool nothing = entry == 2 && i % 3 == 0;
      for (std::int64_t j = 0; j < spec_.block_k; ++j)
        if (!nothing && random.chance(chance))
          elements_[static_cast<std::size_t>((entry * spec_.block_q + i) * spec_.block_k + j)] =
              static_cast<std::uint8_t>(random.integer(1, 255));
    }
  }
  write_bits();
  write_elements();
}

void GuardedPattern::write_bits() {
  for (HostBits* bits : {&by_query_, &by_key_}) {
    const auto rows = static_cast<std::size_t>(masks() * bits->rows);
    bits->counts.assign(rows + 1, 0);
    bits->listed.assign(rows * static_cast<std::size_t>(bits->words) + 1, 0);
    bits->full = bits->listed;
  }
  for (std::int64_t m = 0; m < masks(); ++m)
    for (std::int64_t i = 0; i < by_query_.rows; ++i)
      for (std::int64_t j = 0; j < by_key_.rows; ++j) {
        const std::int64_t row = i * kBits / spec_.block_q, col = j * kBits / spec_.block_k;
        const std::uint8_t block = blocks_[static_cast<std::size_t>((m * rows_ + row) * cols_ + col)];
        if (block == 0) continue;
        by_query_.set(by_query_.listed, m, i, j);
        by_key_.set(by_key_.listed, m, j, i);
        ++by_query_.counts[static_cast<std::size_t>(m * by_query_.rows + i)];
        ++by_key_.counts[static_cast<std::size_t>(m * by_key_.rows + j)];
        if (block != 2) continue;
        by_query_.set(by_query_.full, m, i, j);
        by_key_.set(by_key_.full, m, j, i);
      }
}

// Each entry of the caller's becomes (block_q / 64) * (block_k / 64) of 64 x 64.
void GuardedPattern::write_elements() {
  if (entries_ == 0) return;
  const std::int64_t down = spec_.block_q / kBits, across = spec_.block_k / kBits;
  index64_.clear();
  for (std::int64_t m = 0; m < masks(); ++m)
    for (std::int64_t i = 0; i < by_query_.rows; ++i)
      for (std::int64_t j = 0; j < by_key_.rows; ++j) {
        const std::int32_t entry = index_[static_cast<std::size_t>((m * rows_ + i / down) * cols_ + j / across)];
        const std::int64_t part = i % down * across + j % across;
        index64_.push_back(entry < 0 ? -1 : static_cast<std::int32_t>(entry * down * across + part));
      }
  elements64_.assign(static_cast<std::size_t>(entries_ * down * across * kBits), 0);
  elements64_by_key_ = elements64_;
  for (std::int64_t entry = 0; entry < entries_; ++entry)
    for (std::int64_t i = 0; i < spec_.block_q; ++i)
      for (std::int64_t j = 0; j < spec_.block_k; ++j) {
        if (elements_[static_cast<std::size_t>((entry * spec_.block_q + i) * spec_.block_k + j)] == 0) continue;
        const std::int64_t part = (entry * down + i / kBits) * across + j / kBits;
        elements64_[static_cast<std::size_t>(part * kBits + i % kBits)] |= std::uint64_t{1} << (j % kBits);
        elements64_by_key_[static_cast<std::size_t>(part * kBits + j % kBits)] |= std::uint64_t{1} << (i % kBits);
      }
}

void GuardedPattern::hand_over(bool first, Stream stream) {
  const DeviceArray mask(blocks_.data(), blocks_.size(), {kDLUInt, 8, 1}, {spec_.batch, spec_.heads, rows_, cols_},
                         device_, stream);
  if (first) {
    pattern_ = AttentionPattern::from_mask(mask.tensor(), seqlen_q_, seqlen_k_, spec_.block_q, spec_.block_k, stream);
  } else {
    pattern_.update_mask(mask.tensor(), stream);
  }
  if (entries_ > 0) {
    const DeviceArray index(index_.data(), index_.size() * 4, {kDLInt, 32, 1},
                            {spec_.batch, spec_.heads, rows_, cols_}, device_, stream);
    const DeviceArray elements(elements_.data(), elements_.size(), {kDLUInt, 8, 1},
                               {entries_, spec_.block_q, spec_.block_k}, device_, stream);
    pattern_.set_elements(index.tensor(), elements.tensor(), stream);
    synchronize(device_, stream);  // before the arrays go
  }
  synchronize(device_, stream);
}

AttentionMask GuardedPattern::host_mask(std::int64_t heads) const {
  const auto view = [](const HostBits& bits) {
    return BlockBits{bits.listed.data(), bits.full.data(), bits.counts.data(), static_cast<int>(bits.rows),
                     static_cast<int>(bits.words)};
  };
  AttentionMask mask;
  mask.by_query = view(by_query_);
  mask.by_key = view(by_key_);
  mask.batch_masks = spec_.batch > 1 ? spec_.heads : 0;
  mask.heads_per_mask = static_cast<int>(std::max<std::int64_t>(1, heads / spec_.heads));
  if (entries_ > 0) {
    mask.element_index = index64_.data();
    mask.elements = elements64_.data();
    mask.elements_by_key = elements64_by_key_.data();
  }
  return mask;
}

}  // namespace triage::verdict
