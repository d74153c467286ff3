// The one table of attention problems on which the verdict and the peers are timed.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bench/attention_patterns.h"
#include "bench/shapes.h"

namespace triage::bench {

struct AttentionShape {
  std::string name;   ///< "prefill", "decode", ...
  std::string dtype;  ///< "bfloat16", ...
  std::int64_t batch = 1, heads = 1, kv_heads = 1;
  std::int64_t seqlen_q = 0, seqlen_k = 0;  ///< of every sequence; with varlen of the longest
  int head_dim = 0, head_dim_v = 0;
  bool causal = false;
  std::int64_t window_left = -1, window_right = -1;
  double softcap = 0;
  bool sinks = false;
  bool varlen = false;  ///< packed by cu_seqlens: sequence b of n has (b + 1) / n of the longest
  int page_size = 0;    ///< 0: not paged; else pages in shuffled order, all in use
  int block = 0;        ///< 0: no block-sparse mask; else 64 or 128, of queries and of keys, a mask for each query head
  PatternKind pattern = PatternKind::uniform;  ///< with `block`, as are the next two
  double density = 0;                          ///< share of blocks that are attended
  static constexpr std::uint64_t kPatternSeed = 7;
  bool any_order = false;                      ///< of gradients: sums in any order (GradientOrder::nondeterministic)
  bool quick = false;                          ///< part of --quick

  /// E.g. "prefill d128 b4 s4096 causal"; different for different shapes of one dtype.
  std::string label() const;
  std::int64_t q_length(std::int64_t b) const { return varlen ? (b + 1) * seqlen_q / batch : seqlen_q; }
  std::int64_t k_length(std::int64_t b) const { return varlen ? (b + 1) * seqlen_k / batch : seqlen_k; }
  std::int64_t total_q() const;
  std::int64_t total_k() const;
  /// Pairs of a query and a key that it attends, of one head. Plain causal attention of a sequence with itself counts
  /// as half of its pairs, as is usual; other masks are counted exactly. Block-sparse: the pairs of attended blocks, the
  /// average of the heads.
  double attended_pairs() const;
  /// Whether its gradients are of interest: no cache, no decoding.
  bool trains() const { return page_size == 0 && seqlen_q == seqlen_k; }
  /// The same problem for a backward kernel with a faster way that does not repeat bitwise.
  AttentionShape in_any_order() const;
};

std::vector<AttentionShape> attention_shapes(Machine machine);

}  // namespace triage::bench
