// Random block-sparse masks of attention: as the public API takes them, and as the oracle reads them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bench/attention_patterns.h"
#include "device/memory.h"
#include "registry/attention_kernel.h"
#include "triage/triage.h"

namespace triage::verdict {

/// Everything that defines the masks of a problem but its seed.
struct PatternSpec {
  int block_q = 0, block_k = 0;  ///< 64 or 128; 0: no pattern
  bench::PatternKind kind = bench::PatternKind::scattered;
  double density = 0.5;   ///< share of blocks that are listed
  double full = 0;        ///< share of those that are full
  double elements = 0;    ///< share of the others that have a bit mask of elements
  std::int64_t batch = 1, heads = 1;  ///< masks: 1 or the problem's; heads 1, kv_heads or heads

  bool given() const { return block_q > 0; }
  /// "pattern=scattered/64x128/0.5 ..."; empty if there is none.
  std::string label() const;
};

/// The masks of one problem in host and device memory. The oracle's bits are written here pair by pair from the blocks,
/// by nothing that the library shares.
class GuardedPattern {
 public:
  GuardedPattern() = default;
  /// @param seed of bench::random_blocks; what else is random follows from it.
  GuardedPattern(const PatternSpec& spec, std::int64_t seqlen_q, std::int64_t seqlen_k, DLDevice device,
                 std::uint64_t seed, Stream stream);

  const AttentionPattern& pattern() const { return pattern_; }
  /// Other blocks and elements in the same pattern, by its update functions.
  void refill(std::uint64_t seed, Stream stream);
  /// As the oracle reads it: host memory of this object.
  AttentionMask host_mask(std::int64_t heads) const;

 private:
  struct HostBits {
    std::vector<std::uint32_t> listed, full;
    std::vector<std::int32_t> counts;
    std::int64_t rows = 0, words = 0;
    void set(std::vector<std::uint32_t>& bits, std::int64_t mask, std::int64_t row, std::int64_t column) const {
      bits[static_cast<std::size_t>((mask * rows + row) * words + column / 32)] |= std::uint32_t{1} << (column % 32);
    }
  };

  void draw(std::uint64_t seed);
  void write_bits();
  void write_elements();
  void hand_over(bool first, Stream stream);
  std::int64_t masks() const { return spec_.batch * spec_.heads; }

  PatternSpec spec_;
  DLDevice device_{kDLCPU, 0};
  std::int64_t seqlen_q_ = 0, seqlen_k_ = 0, rows_ = 0, cols_ = 0, entries_ = 0;
  std::vector<std::uint8_t> blocks_, elements_;  // as from_mask and set_elements take them
  std::vector<std::int32_t> index_;
  HostBits by_query_, by_key_;
  std::vector<std::int32_t> index64_;
  std::vector<std::uint64_t> elements64_, elements64_by_key_;
  AttentionPattern pattern_;
};

}  // namespace triage::verdict
