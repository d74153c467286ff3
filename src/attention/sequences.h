// The sequences of a call as kernels see them, and the order in which tiles of queries are worked on.
#pragma once

#include <algorithm>
#include <cstdint>

#include "attention/geometry.h"
#include "registry/attention_kernel.h"

namespace triage::attention {

struct Sequences {
  int batch, heads, kv_group;  ///< kv_group: query heads that share a head of K and V
  int seqlen_q, seqlen_k;      ///< the longest
  int window_left, window_right;
  const std::int32_t* cu_seqlens_q;  ///< nullptr: all have seqlen_q
  const std::int32_t* cu_seqlens_k;
  const std::int32_t* seqused_k;
};

inline Sequences sequences_of(const AttentionCall& call) {
  const AttentionProblem& p = call.problem;
  return {static_cast<int>(p.batch),
          static_cast<int>(p.heads),
          static_cast<int>(p.group()),
          static_cast<int>(p.seqlen_q),
          static_cast<int>(p.seqlen_k),
          device_window(p.window_left),
          device_window(p.window_right),
          call.cu_seqlens_q,
          call.cu_seqlens_k,
          call.seqused_k};
}

/// Whether the last queries of a sequence attend more keys than the first.
inline bool heaviest_last(const AttentionProblem& problem) {
  return problem.window_right >= 0 && problem.window_left < 0;
}

/// Into groups of how many heads `heads` are divided, evenly (a small group at the end would be uneven work): at most
/// `most`, with keys and values that fit `bytes` of L2, at least those that share one head of K and V.
inline int heads_at_once(double bytes, std::int64_t most, const AttentionProblem& problem, std::int64_t heads) {
  const double head_bytes = static_cast<double>(problem.seqlen_k) * (problem.head_dim + problem.head_dim_v) * 2;
  const std::int64_t group = problem.group();
  const double fit = std::min(head_bytes > 0 ? bytes / head_bytes * static_cast<double>(group) : 1e9,
                              static_cast<double>(std::min(most, heads)));
  const std::int64_t limit = std::max(static_cast<std::int64_t>(fit), group), groups = (heads + limit - 1) / limit;
  const std::int64_t even = (heads + groups - 1) / groups;
  return static_cast<int>(std::min(heads, (even + group - 1) / group * group));
}

#ifdef __CUDACC__
__device__ __forceinline__ int query_start(const Sequences& s, int b) { return s.cu_seqlens_q ? s.cu_seqlens_q[b] : 0; }
__device__ __forceinline__ int query_count(const Sequences& s, int b) {
  return s.cu_seqlens_q ? s.cu_seqlens_q[b + 1] - s.cu_seqlens_q[b] : s.seqlen_q;
}
__device__ __forceinline__ int key_start(const Sequences& s, int b) { return s.cu_seqlens_k ? s.cu_seqlens_k[b] : 0; }
__device__ __forceinline__ int key_count(const Sequences& s, int b) {
  if (s.seqused_k) return min(max(s.seqused_k[b], 0), s.seqlen_k);
  return s.cu_seqlens_k ? s.cu_seqlens_k[b + 1] - s.cu_seqlens_k[b] : s.seqlen_k;
}

/// Tile number `index` of `heads` heads of `m_tiles` tiles each: which head, and which of its tiles.
///
/// A group of heads after the other, so that the keys and values at work stay in L2; within a group, head after head.
/// With `heaviest_first`, tile after tile of all the group's heads, the last queries first; and where tiles are many,
/// the first three eighths of each head's, the light ones, are kept for the end: they fill what the heavy ones left
/// uneven. (Without them, the last group costs up to 15% of the time: it has few tiles, and they are long.)
__device__ __forceinline__ void place_tile(int index, int heads, int m_tiles, int heads_at_once, bool heaviest_first,
                                           int& head, int& m) {
  const int light = heaviest_first && m_tiles >= 16 ? m_tiles * 3 / 8 : 0, heavy = m_tiles - light;
  if (index >= heads * heavy) {
    const int rest = index - heads * heavy;
    m = rest / heads;
    head = rest - m * heads;
    m = light - 1 - m;
    return;
  }
  const int group = index / (heads_at_once * heavy);
  const int rest = index - group * heads_at_once * heavy;
  const int size = min(heads_at_once, heads - group * heads_at_once);
  if (heaviest_first) {
    m = rest / size;
    head = group * heads_at_once + rest - m * size;
    m = m_tiles - 1 - m;
  } else {
    head = rest / m_tiles;
    m = rest - head * m_tiles;
    head += group * heads_at_once;
  }
}
#endif

}  // namespace triage::attention
