// attention_backward on the CPU: the gradients that attention.h writes down.
//
// Three passes, each over tasks that own what they write, so that results depend neither on the number of threads nor
// on who runs a task:
//   1. delta = rowsum(d_o * o) - d_lse, one value a query row, into the workspace; then d_sinks, a sum over it per
//   head. 2. d_k and d_v: a task is a tile of up to 96 keys of one sequence and one KV head. Query rows pass by 128 at
//      a time; with GQA those of all heads of that KV head stand side by side (row = query * group + head in the
//      group), which sums their gradients on the way.
//   3. d_q: a task is a tile of up to 128 such rows; keys pass by 96 at a time.
// Passes 2 and 3 both compute S = Q K^T and dP = d_o V^T anew: seven products instead of five, and nothing to add up
// between threads. With a block-sparse mask a task of pass 2 takes one block of 64 keys, what passes by is gathered
// from the blocks that the mask lists, and only heads with the same mask stand side by side.
// P = exp(logit - lse) and dS = P * (dP - delta) stay in the precision of the sums.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "cpu/attention_kernels.h"
#include "cpu/attention_sequence.h"
#include "cpu/attention_tiles.h"
#include "cpu/pack.h"
#include "cpu/parallel.h"
#include "cpu/simd.h"
#include "cpu/workspace.h"

namespace triage::cpu::TRIAGE_ISA {
namespace {

constexpr int kRows = kAttentionRows, kKeys = kAttentionKeys;
// Products for which it is not worth waking another thread.
constexpr double kProductsPerThread = 1 << 16;

/// Scratch of one thread. "By panel": element (row, column c of panel p) of `rows` rows is at begin(p) * rows + row *
/// width(p) + c.
template <class T>
struct Scratch {
  T *q, *d_o;                 // [kRows][head_dim] and [kRows][head_dim_v], widened
  T *q_panels, *d_o_panels;   // the same by panel
  T *k_columns, *v_columns;   // [key panels][dim][panel columns]: transposed
  T* k_panels;                // [kKeys] by panel
  T *s, *d_p;                 // [key panels][kRows][panel columns]: logits and dP
  T *weights, *d_s;           // [kRows][kKeys]: P and dS
  T *d_k, *d_v;               // [kKeys] by panel
  T* d_q;                     // [kRows] by panel
  static constexpr int kParts = 14;

  static std::size_t elements(const AttentionProblem& problem, std::size_t (&parts)[kParts]) {
    const auto dim = static_cast<std::size_t>(problem.head_dim), dim_v = static_cast<std::size_t>(problem.head_dim_v);
    const auto wide = static_cast<std::size_t>(Panels<T>{problem.head_dim}.padded());
    const auto wide_v = static_cast<std::size_t>(Panels<T>{problem.head_dim_v}.padded());
    const std::size_t square = kRows * kKeys;
    const std::size_t counts[kParts] = {kRows * dim,  kRows * dim_v, kRows * wide, kRows * wide_v, kKeys * dim,
                                        kKeys * dim_v, kKeys * wide, square,       square,         square,
                                        square,       kKeys * wide,  kKeys * wide_v, kRows * wide};
    std::size_t all = 0;
    for (int i = 0; i < kParts; ++i) {
      parts[i] = all;
      all += (counts[i] + 15) / 16 * 16;
    }
    return all;
  }

  static std::size_t bytes(const AttentionProblem& problem) {
    std::size_t parts[kParts];
    return round_up(elements(problem, parts) * sizeof(T));
  }

  Scratch(const AttentionProblem& problem, T* base) {
    std::size_t parts[kParts];
    elements(problem, parts);
    T** const pointers[kParts] = {&q, &d_o, &q_panels, &d_o_panels, &k_columns, &v_columns, &k_panels,
                                  &s, &d_p, &weights,  &d_s,        &d_k,       &d_v,       &d_q};
    for (int i = 0; i < kParts; ++i) *pointers[i] = base + parts[i];
  }
};

template <class T>
void clear(T* values, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) values[i] = 0;
}

/// One call's arguments, typed.
template <class Storage>
class Backward {
 public:
  using T = Compute<Storage>;
  static constexpr int kColumns = kPanelColumns<T>, kKeyPanels = kKeys / kColumns;

  Backward(const AttentionBackwardCall& call, T* delta)
      : call_(call),
        forward_(call.forward),
        problem_(call.forward.problem),
        side_(heads_side_by_side(call.forward)),
        rows_of_task_(rows_of_task(call.forward)),
        keys_of_task_(call.forward.mask.given() ? AttentionMask::kBlock : kKeys),
        panels_{problem_.head_dim},
        panels_v_{problem_.head_dim_v},
        delta_(delta) {}

  std::int64_t key_tasks() const {
    return ceil_div(problem_.seqlen_k, keys_of_task_) * problem_.batch * problem_.kv_heads;
  }
  std::int64_t row_tiles() const { return ceil_div(problem_.seqlen_q * side_, rows_of_task_); }
  std::int64_t row_tasks() const { return row_tiles() * problem_.batch * (problem_.heads / side_); }

  /// delta of all queries of one sequence and head.
  void find_delta(std::int64_t task) const {
    const std::int64_t b = task / problem_.heads, head = task % problem_.heads;
    const AttentionSequence sequence = sequence_of(forward_, b);
    T o[kMaxHeadDim], d_o[kMaxHeadDim];
    for (std::int64_t i = 0; i < sequence.q_length; ++i) {
      widen_row(at<Storage>(forward_.o) + query_offset(forward_.o, sequence, b, i, head), problem_.head_dim_v, o);
      widen_row(at<Storage>(call_.d_o) + query_offset(call_.d_o, sequence, b, i, head), problem_.head_dim_v, d_o);
      Vector<T> sums{};
      T sum = 0;
      int c = 0;
      for (; c + kLanes<T> <= problem_.head_dim_v; c += kLanes<T>)
        sums += *reinterpret_cast<const Vector<T>*>(o + c) * *reinterpret_cast<const Vector<T>*>(d_o + c);
      for (; c < problem_.head_dim_v; ++c) sum += o[c] * d_o[c];
      for (int lane = 0; lane < kLanes<T>; ++lane) sum += sums[lane];
      if (call_.d_lse != nullptr)
        sum -= call_.d_lse[b * call_.d_lse_batch_stride + head * call_.d_lse_head_stride + sequence.q_begin + i];
      delta_[delta_index(sequence, b, i, head)] = sum;
    }
  }

  /// d_sinks of one head: the sum runs over the queries in order.
  void find_sink(std::int64_t head) const {
    const double sink = forward_.sinks[head];
    double sum = 0;
    for (std::int64_t b = 0; b < problem_.batch; ++b) {
      const AttentionSequence sequence = sequence_of(forward_, b);
      for (std::int64_t i = 0; i < sequence.q_length; ++i) {
        const double lse = forward_.lse[lse_offset(forward_, sequence, b, i, head)];
        if (lse == -HUGE_VAL) continue;  // nothing attended, and the sink is -inf
        sum += std::exp(sink - lse) * static_cast<double>(delta_[delta_index(sequence, b, i, head)]);
      }
    }
    call_.d_sinks[head] = static_cast<float>(-sum);
  }

  /// d_k and d_v of a tile of keys.
  void run_keys(std::int64_t task, T* memory) const {
    const std::int64_t sequences = problem_.batch * problem_.kv_heads, group = problem_.group();
    const std::int64_t kv_head = task % problem_.kv_heads;
    Tile tile = tile_of(forward_, task % sequences / problem_.kv_heads, kv_head * group);
    const AttentionSequence& sequence = tile.sequence;
    std::int64_t next_key = task / sequences * keys_of_task_;
    tile.keys = take_numbers(&next_key, sequence.k_length, kKeys, [](std::int64_t) { return true; },
                             static_cast<int>(keys_of_task_), tile.key);
    if (tile.keys == 0) return;
    const Scratch<T> scratch(problem_, memory);
    clear(scratch.d_k, kKeys * panels_.padded());
    clear(scratch.d_v, kKeys * panels_v_.padded());
    load_keys(tile, scratch, false);
    const KeyRange queries = queries_of_keys(tile);
    for (; tile.first_head < (kv_head + 1) * group; tile.first_head += side_) {
      for (std::int64_t row = queries.begin * side_; take_rows(&row, queries.end * side_, &tile);) {
        load_rows(tile, scratch, true);
        weigh(tile, scratch, true);
        if (call_.d_v.data != nullptr)
          add_transposed(scratch.weights, tile.rows, scratch.d_o_panels, panels_v_, scratch.d_v);
        if (call_.d_k.data != nullptr) add_transposed(scratch.d_s, tile.rows, scratch.q_panels, panels_, scratch.d_k);
      }
    }
    for (int n = 0; n < tile.keys; ++n) {
      const std::int64_t key = tile.key[n];
      if (call_.d_k.data != nullptr)
        store(scratch.d_k, kKeys, n, panels_, forward_.softmax_scale,
              at<Storage>(call_.d_k) + key_offset(forward_, call_.d_k, sequence, tile.b, key, kv_head));
      if (call_.d_v.data != nullptr)
        store(scratch.d_v, kKeys, n, panels_v_, T{1},
              at<Storage>(call_.d_v) + key_offset(forward_, call_.d_v, sequence, tile.b, key, kv_head));
    }
  }

  /// d_q of a tile of rows.
  void run_rows(std::int64_t task, T* memory) const {
    // The last tiles of a causal sequence attend most keys: they come first.
    const std::int64_t stacks = problem_.heads / side_, all = problem_.batch * stacks;
    Tile tile = tile_of(forward_, task % all / stacks, task % all % stacks * side_);
    std::int64_t next_row = (row_tiles() - 1 - task / all) * rows_of_task_;
    tile.rows = take_numbers(&next_row, tile.sequence.q_length * side_, kRows, [](std::int64_t) { return true; },
                             static_cast<int>(rows_of_task_), tile.row);
    if (tile.rows == 0) return;
    const Scratch<T> scratch(problem_, memory);
    clear(scratch.d_q, kRows * panels_.padded());
    load_rows(tile, scratch, false);
    const KeyRange range = keys_of_tile(forward_, tile);
    for (std::int64_t next_key = range.begin; take_keys(forward_, &next_key, range.end, &tile);) {
      load_keys(tile, scratch, true);
      weigh(tile, scratch, false);
      const Segment<T> keys{scratch.d_s, 0, tile.keys};
      for (std::int64_t p = 0; p < panels_.count(); ++p)
        multiply_tile<T, LeftOrder::k_contiguous>(&keys, 1, tile.rows, kKeys,
                                                  scratch.k_panels + panels_.begin(p) * kKeys, panels_.width(p),
                                                  scratch.d_q + panels_.begin(p) * kRows, true);
    }
    for (int r = 0; r < tile.rows; ++r)
      store(scratch.d_q, kRows, r, panels_, forward_.softmax_scale,
            at<Storage>(call_.d_q) + query_offset(call_.d_q, tile.sequence, tile.b, query_of(tile, r), head_of(tile, r)));
  }

 private:
  using Tile = AttentionTile;

  template <class Element>
  static Element* at(const AttentionTensor& tensor) {
    return static_cast<Element*>(tensor.data);
  }
  std::int64_t delta_index(const AttentionSequence& s, std::int64_t b, std::int64_t i, std::int64_t head) const {
    const std::int64_t start = forward_.cu_seqlens_q != nullptr ? s.q_begin : b * problem_.seqlen_q;
    return head * problem_.total_q + start + i;
  }

  /// Queries [begin, end) of which some attend keys of the tile.
  KeyRange queries_of_keys(const Tile& tile) const {
    KeyRange range{0, tile.sequence.q_length};
    if (forward_.mask.given()) return range;  // full blocks know no window
    // From a key to the query on its diagonal.
    const std::int64_t shift = tile.sequence.q_length - tile.sequence.k_length;
    const std::int64_t first = tile.key[0], last = tile.key[tile.keys - 1];
    if (problem_.window_right >= 0 && first + shift - problem_.window_right > 0)
      range.begin = first + shift - problem_.window_right;
    if (problem_.window_left >= 0 && last + shift + problem_.window_left + 1 < range.end)
      range.end = last + shift + problem_.window_left + 1;
    return range;
  }

  /// The next rows of [*next, end) of which some may attend keys of the tile. False if there are none.
  bool take_rows(std::int64_t* next, std::int64_t end, Tile* tile) const {
    constexpr std::int64_t kBlock = AttentionMask::kBlock;
    const AttentionMask& mask = forward_.mask;
    const std::int64_t key_block = tile->key[0] / kBlock;  // with a mask all keys are of one
    const auto wanted = [&](std::int64_t query_block) {
      if (!mask.given()) return true;
      const std::int64_t words = mask_of(mask, tile->b, tile->first_head) * mask.by_key.rows + key_block;
      if (!bit_of(mask.by_key.listed + words * mask.by_key.row_words, query_block)) return false;
      const std::int64_t first = query_block * kBlock, queries = tile->sequence.q_length;
      const std::int64_t last = (first + kBlock < queries ? first + kBlock : queries) - 1;
      const MaskRow row = mask_row(mask, tile->b, tile->first_head, query_block);
      return may_attend(problem_, tile->sequence, row, first, last, key_block);
    };
    tile->rows = take_numbers(next, end, kBlock * side_, wanted, kRows, tile->row);
    return tile->rows > 0;
  }

  /// Q and d_o of the tile's rows; `panels`: by panel as well.
  void load_rows(const Tile& tile, const Scratch<T>& scratch, bool panels) const {
    const std::int64_t dim = problem_.head_dim, dim_v = problem_.head_dim_v;
    for (int r = 0; r < kRows; ++r) {
      T *const q = scratch.q + r * dim, *const d_o = scratch.d_o + r * dim_v;
      if (r >= tile.rows) {  // strips of rows are whole
        clear(q, dim);
        clear(d_o, dim_v);
        continue;
      }
      const std::int64_t query = query_of(tile, r), head = head_of(tile, r);
      widen_row(at<Storage>(forward_.q) + query_offset(forward_.q, tile.sequence, tile.b, query, head), dim, q);
      widen_row(at<Storage>(call_.d_o) + query_offset(call_.d_o, tile.sequence, tile.b, query, head), dim_v, d_o);
      if (!panels) continue;
      to_panels(q, kRows, r, panels_, scratch.q_panels);
      to_panels(d_o, kRows, r, panels_v_, scratch.d_o_panels);
    }
  }

  /// K and V of the tile's keys, transposed; `panels`: K by panel as well.
  void load_keys(const Tile& tile, const Scratch<T>& scratch, bool panels) const {
    const std::int64_t kv_head = kv_head_of(forward_, tile);
    const auto row_of = [&](const AttentionTensor& tensor, int n) -> const Storage* {
      return at<Storage>(tensor) + key_offset(forward_, tensor, tile.sequence, tile.b, tile.key[n], kv_head);
    };
    for (int p = 0; p < kKeyPanels; ++p) {
      const int first = p * kColumns;
      pack_transposed<Storage>([&](int n) { return row_of(forward_.k, first + n); }, tile.keys - first,
                               problem_.head_dim, scratch.k_columns + first * problem_.head_dim);
      pack_transposed<Storage>([&](int n) { return row_of(forward_.v, first + n); }, tile.keys - first,
                               problem_.head_dim_v, scratch.v_columns + first * problem_.head_dim_v);
    }
    if (!panels) return;
    T row[kMaxHeadDim];
    for (int n = 0; n < tile.keys; ++n) {
      widen_row(row_of(forward_.k, n), problem_.head_dim, row);
      to_panels(row, kKeys, n, panels_, scratch.k_panels);
    }
  }

  static void to_panels(const T* row, int rows, int r, const Panels<T>& panels, T* to) {
    for (std::int64_t p = 0; p < panels.count(); ++p) {
      const int width = panels.width(p);
      const std::int64_t first = panels.begin(p), left = panels.columns - first;
      const int present = static_cast<int>(left < width ? left : width);
      T* const place = to + first * rows + r * width;
      for (int c = 0; c < present; ++c) place[c] = row[first + c];
      for (int c = present; c < width; ++c) place[c] = 0;
    }
  }

  /// P (if asked for) and dS of the tile; 0 where a row does not attend a key.
  void weigh(const Tile& tile, const Scratch<T>& scratch, bool keep_weights) const {
    const Segment<T> q{scratch.q, 0, problem_.head_dim}, d_o{scratch.d_o, 0, problem_.head_dim_v};
    for (int p = 0; p < kKeyPanels; ++p) {
      const int first = p * kColumns;
      multiply_tile<T, LeftOrder::k_contiguous>(&q, 1, tile.rows, problem_.head_dim,
                                                scratch.k_columns + first * problem_.head_dim, kColumns,
                                                scratch.s + first * kRows, false);
      multiply_tile<T, LeftOrder::k_contiguous>(&d_o, 1, tile.rows, problem_.head_dim_v,
                                                scratch.v_columns + first * problem_.head_dim_v, kColumns,
                                                scratch.d_p + first * kRows, false);
    }
    for (int r = 0; r < tile.rows; ++r) weigh_row(tile, r, scratch, keep_weights);
  }

  void weigh_row(const Tile& tile, int r, const Scratch<T>& scratch, bool keep_weights) const {
    const std::int64_t query = query_of(tile, r), head = head_of(tile, r);
    AttendedKeys attended;
    find_attended(forward_, tile, r, &attended);
    const T scale = forward_.softmax_scale, cap = problem_.softcap, factor = cap > 0 ? scale / cap : scale;
    const T delta = delta_[delta_index(tile.sequence, tile.b, query, head)];
    // A query whose logits are all -inf has no weights.
    T lse = forward_.lse[lse_offset(forward_, tile.sequence, tile.b, query, head)];
    if (lse == -std::numeric_limits<T>::infinity()) lse = std::numeric_limits<T>::infinity();
    for (int p = 0; p < kKeyPanels; ++p) {
      const int first = p * kColumns;
      T *const s = scratch.s + first * kRows + r * kColumns, *const d_p = scratch.d_p + first * kRows + r * kColumns;
      T *const weights = scratch.weights + r * kKeys + first, *const d_s = scratch.d_s + r * kKeys + first;
      if (cap > 0) {
        for (int c = 0; c < kColumns; ++c) {
          const T bent = tanh_of(s[c] * factor);
          s[c] = exp_of(cap * bent - lse);
          d_p[c] = s[c] * (d_p[c] - delta) * (T{1} - bent * bent);
        }
      } else {
        for (int c = 0; c < kColumns; ++c) {
          s[c] = exp_of(s[c] * factor - lse);
          d_p[c] = s[c] * (d_p[c] - delta);
        }
      }
      const std::int32_t* of = attended.of + first;
      if (attended.all) {
        for (int c = 0; c < kColumns; ++c) d_s[c] = d_p[c];
      } else {
        for (int c = 0; c < kColumns; ++c) d_s[c] = of[c] != 0 ? d_p[c] : T{0};
      }
      if (!keep_weights) continue;
      if (attended.all) {
        for (int c = 0; c < kColumns; ++c) weights[c] = s[c];
      } else {
        for (int c = 0; c < kColumns; ++c) weights[c] = of[c] != 0 ? s[c] : T{0};
      }
    }
  }

  /// sums[key][column] += left[row][key] * right[row][column] over the rows.
  static void add_transposed(const T* left, int rows, const T* right, const Panels<T>& panels, T* sums) {
    const Segment<T> all{left, 0, rows};
    for (std::int64_t p = 0; p < panels.count(); ++p)
      multiply_tile<T, LeftOrder::rows_contiguous>(&all, 1, kKeys, kKeys, right + panels.begin(p) * kRows,
                                                   panels.width(p), sums + panels.begin(p) * kKeys, true);
  }

  static void store(T* sums, int rows, int r, const Panels<T>& panels, T scale, Storage* to) {
    for (std::int64_t p = 0; p < panels.count(); ++p) {
      const int width = panels.width(p);
      const std::int64_t first = panels.begin(p), left = panels.columns - first;
      const int present = static_cast<int>(left < width ? left : width);
      T* const row = sums + first * rows + r * width;
      for (int c = 0; c < present; ++c) row[c] *= scale;
      narrow_row<Storage>(row, present, to + first);
    }
  }

  const AttentionBackwardCall& call_;
  const AttentionCall& forward_;
  const AttentionProblem& problem_;
  std::int64_t side_, rows_of_task_, keys_of_task_;
  Panels<T> panels_, panels_v_;
  T* delta_;  // [heads][total_q]
};

template <class Storage>
WorkspacePlan plan_of(const AttentionProblem& problem) {
  using T = Compute<Storage>;
  WorkspacePlan plan;
  plan.packed = round_up(static_cast<std::size_t>(problem.heads) * static_cast<std::size_t>(problem.total_q) * sizeof(T));
  plan.scratch = Scratch<T>::bytes(problem);
  return plan;
}

template <class Storage>
void run_typed(const AttentionBackwardCall& call, int threads) {
  using T = Compute<Storage>;
  const AttentionCall& forward = call.forward;
  const AttentionProblem& problem = forward.problem;
  const WorkspacePlan plan = plan_of<Storage>(problem);
  const double products = static_cast<double>(problem.total_q) * static_cast<double>(problem.heads) *
                          static_cast<double>(problem.seqlen_k) * 3 * (problem.head_dim + problem.head_dim_v);
  if (products < kProductsPerThread * threads) threads = 1 + static_cast<int>(products / kProductsPerThread);
  threads = plan.threads_within(forward.workspace.bytes, threads);
  const Backward<Storage> backward(call, plan.packed_in<T>(forward.workspace.data));
  const auto scratch = [&](int thread) { return plan.scratch_in<T>(forward.workspace.data, thread); };
  parallel_for(threads, problem.batch * problem.heads, [&](std::int64_t task, int) { backward.find_delta(task); });
  if (call.d_sinks != nullptr)
    parallel_for(threads, problem.heads, [&](std::int64_t head, int) { backward.find_sink(head); });
  if (call.d_k.data != nullptr || call.d_v.data != nullptr)
    parallel_for(threads, backward.key_tasks(),
                 [&](std::int64_t task, int thread) { backward.run_keys(task, scratch(thread)); });
  if (call.d_q.data != nullptr)
    parallel_for(threads, backward.row_tasks(),
                 [&](std::int64_t task, int thread) { backward.run_rows(task, scratch(thread)); });
}

std::size_t workspace_bytes(const AttentionProblem& problem, int threads) {
  switch (problem.dtype) {
    case DType::float16:
      return plan_of<Half>(problem).bytes(threads);
    case DType::bfloat16:
      return plan_of<BFloat16>(problem).bytes(threads);
    case DType::float32:
      return plan_of<float>(problem).bytes(threads);
    case DType::float64:
      return plan_of<double>(problem).bytes(threads);
  }
  return 0;
}

void run(const AttentionBackwardCall& call, int threads) {
  switch (call.forward.problem.dtype) {
    case DType::float16:
      return run_typed<Half>(call, threads);
    case DType::bfloat16:
      return run_typed<BFloat16>(call, threads);
    case DType::float32:
      return run_typed<float>(call, threads);
    case DType::float64:
      return run_typed<double>(call, threads);
  }
}

}  // namespace

const CpuAttentionBackwardKernel attention_backward = {workspace_bytes, run};

}  // namespace triage::cpu::TRIAGE_ISA
