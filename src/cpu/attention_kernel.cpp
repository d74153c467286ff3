// attention_forward on the CPU: O = softmax(softmax_scale * Q K^T + mask) V.
//
// A task is a tile of up to 128 query rows of one sequence and one KV head. With GQA the rows of all query heads of
// that KV head stand side by side (row = query * group + head in the group), so that each key and value that is fetched
// serves all of them. Keys pass by 96 at a time: K is packed transposed, S = Q K^T into scratch; scale, softcap and
// mask; the running maximum and sum (online softmax, arXiv 1805.02867); P stays in the precision of the sums; V is
// packed and O = alpha * O + P V. Keys that no row of the tile attends are never read: with a block-sparse mask keys
// are gathered from the blocks that it lists, 96 at a time, and only heads with the same mask stand side by side.
//
// A row of O belongs to one task and its sums run in the order of the keys, so results do not depend on the number of
// threads. Splits over the keys are not used: num_splits changes nothing here.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "cpu/attention_kernels.h"
#include "cpu/attention_sequence.h"
#include "cpu/attention_tiles.h"
#include "cpu/epilogue.h"
#include "cpu/pack.h"
#include "cpu/parallel.h"
#include "cpu/simd.h"
#include "cpu/workspace.h"

namespace triage::cpu::TRIAGE_ISA {
namespace {

constexpr int kRows = kAttentionRows, kKeys = kAttentionKeys;
// Products for which it is not worth waking another thread.
constexpr double kProductsPerThread = 1 << 16;

template <class T>
constexpr int kKeyPanels = kKeys / kPanelColumns<T>;

/// Scratch of one thread. Sums lie by panel: element (row, column c of panel p) at begin(p) * kRows + row * width(p) +
/// c.
template <class T>
struct Scratch {
  T* q;        // [kRows][head_dim], widened
  T* k;        // [panels][head_dim][panel columns]: K transposed
  T* v;        // by panel: [kKeys][width]
  T* s;        // [panels][kRows][panel columns]: logits, then weights
  T* o;        // by panel: [kRows][width]
  T* maximum;  // [kRows]
  T* sum;      // [kRows]

  static std::size_t elements(const AttentionProblem& problem, std::size_t (&parts)[7]) {
    const auto dim = static_cast<std::size_t>(problem.head_dim);
    const auto dim_v = static_cast<std::size_t>(Panels<T>{problem.head_dim_v}.padded());
    const std::size_t counts[7] = {kRows * dim, kKeys * dim, kKeys * dim_v, kRows * kKeys, kRows * dim_v, kRows, kRows};
    std::size_t all = 0;
    for (int i = 0; i < 7; ++i) {
      parts[i] = all;
      all += (counts[i] + 15) / 16 * 16;
    }
    return all;
  }

  static std::size_t bytes(const AttentionProblem& problem) {
    std::size_t parts[7];
    return round_up(elements(problem, parts) * sizeof(T));
  }

  Scratch(const AttentionProblem& problem, T* base) {
    std::size_t parts[7];
    elements(problem, parts);
    T** const pointers[7] = {&q, &k, &v, &s, &o, &maximum, &sum};
    for (int i = 0; i < 7; ++i) *pointers[i] = base + parts[i];
  }
};

/// One call's arguments, typed.
template <class Storage>
class Attention {
 public:
  using T = Compute<Storage>;
  static constexpr int kColumns = kPanelColumns<T>;
  static constexpr T kInfinity = std::numeric_limits<T>::infinity();

  explicit Attention(const AttentionCall& call)
      : call_(call),
        problem_(call.problem),
        side_(heads_side_by_side(call)),
        rows_of_task_(rows_of_task(call)),
        output_panels_{call.problem.head_dim_v} {}

  std::int64_t row_tiles() const { return ceil_div(problem_.seqlen_q * side_, rows_of_task_); }
  std::int64_t tasks() const { return problem_.batch * (problem_.heads / side_) * row_tiles(); }

  void run_task(std::int64_t task, T* memory) const {
    // The last tiles of a causal sequence attend most keys: they come first.
    const std::int64_t stacks = problem_.heads / side_, all = problem_.batch * stacks;
    Tile tile = tile_of(call_, task % all / stacks, task % all % stacks * side_);
    std::int64_t next_row = (row_tiles() - 1 - task / all) * rows_of_task_;
    tile.rows = take_numbers(&next_row, tile.sequence.q_length * side_, kRows, [](std::int64_t) { return true; },
                             static_cast<int>(rows_of_task_), tile.row);
    if (tile.rows == 0) return;
    const Scratch<T> scratch(problem_, memory);
    begin_rows(tile, scratch);
    const KeyRange range = keys_of_tile(call_, tile);
    for (std::int64_t next_key = range.begin; take_keys(call_, &next_key, range.end, &tile);) {
      multiply_keys(tile, scratch);
      for (int r = 0; r < tile.rows; ++r) weigh_row(tile, r, scratch);
      add_values(tile, scratch);
    }
    for (int r = 0; r < tile.rows; ++r) finish_row(tile, r, scratch);
  }

 private:
  using Tile = AttentionTile;

  void begin_rows(const Tile& tile, const Scratch<T>& scratch) const {
    const std::int64_t dim = problem_.head_dim;
    const Storage* q = static_cast<const Storage*>(call_.q.data);
    for (int r = 0; r < kRows; ++r) {
      if (r < tile.rows) {
        widen_row(q + query_offset(call_.q, tile.sequence, tile.b, query_of(tile, r), head_of(tile, r)), dim,
                  scratch.q + r * dim);
      } else {
        for (std::int64_t d = 0; d < dim; ++d) scratch.q[r * dim + d] = 0;
      }
      scratch.maximum[r] = -kInfinity;
      scratch.sum[r] = 0;
    }
    for (std::int64_t i = 0; i < kRows * output_panels_.padded(); ++i) scratch.o[i] = 0;
  }

  /// S of the tile's rows with its keys; beyond tile.keys it is 0.
  void multiply_keys(const Tile& tile, const Scratch<T>& scratch) const {
    const int dim = problem_.head_dim;
    const Segment<T> all{scratch.q, 0, dim};
    for (int p = 0; p < kKeyPanels<T>; ++p) {
      T* panel = scratch.k + p * kColumns * dim;
      pack_keys(tile, p * kColumns, panel);
      multiply_tile<T, LeftOrder::k_contiguous>(&all, 1, tile.rows, dim, panel, kColumns,
                                                scratch.s + p * kRows * kColumns, false);
    }
  }

  /// panel[d][n] = K[key first + n of the tile][d] for those that there are, 0 for the rest.
  void pack_keys(const Tile& tile, int first, T* panel) const {
    const Storage* k = static_cast<const Storage*>(call_.k.data);
    const std::int64_t kv_head = kv_head_of(call_, tile);
    const auto row = [&](int n) {
      return k + key_offset(call_, call_.k, tile.sequence, tile.b, tile.key[first + n], kv_head);
    };
    pack_transposed<Storage>(row, tile.keys - first, problem_.head_dim, panel);
  }

  /// Row r of S becomes weights exp(logit - maximum); sum and O follow a new maximum.
  void weigh_row(const Tile& tile, int r, const Scratch<T>& scratch) const {
    const T scale = call_.softmax_scale, cap = problem_.softcap;
    AttendedKeys attended;
    find_attended(call_, tile, r, &attended);
    Vector<T> best = Vector<T>{} - kInfinity;
    for (int p = 0; p < kKeyPanels<T>; ++p) {
      T* s = scratch.s + (p * kRows + r) * kColumns;
      const T factor = cap > 0 ? scale / cap : scale;
      for (int c = 0; c < kColumns; ++c) s[c] *= factor;
      if (cap > 0)
        for (int c = 0; c < kColumns; ++c) s[c] = cap * tanh_of(s[c]);
      const std::int32_t* of = attended.of + p * kColumns;
      if (!attended.all)
        for (int c = 0; c < kColumns; ++c) s[c] = of[c] != 0 ? s[c] : -kInfinity;
      for (int c = 0; c < kColumns; c += kLanes<T>) {
        const Vector<T> x = *reinterpret_cast<const Vector<T>*>(s + c);
        best = x > best ? x : best;
      }
    }
    const T before = scratch.maximum[r];
    T maximum = before;
    for (int lane = 0; lane < kLanes<T>; ++lane) maximum = best[lane] > maximum ? best[lane] : maximum;
    scratch.maximum[r] = maximum;
    const T reference = maximum == -kInfinity ? T{0} : maximum;  // nothing attended yet: all weights are 0
    Vector<T> sums{};
    for (int p = 0; p < kKeyPanels<T>; ++p) {
      T* s = scratch.s + (p * kRows + r) * kColumns;
      for (int c = 0; c < kColumns; ++c) s[c] = exp_of(s[c] - reference);
      for (int c = 0; c < kColumns; c += kLanes<T>) sums += *reinterpret_cast<const Vector<T>*>(s + c);
    }
    T sum = 0;
    for (int lane = 0; lane < kLanes<T>; ++lane) sum += sums[lane];
    if (before == maximum) {
      scratch.sum[r] += sum;
      return;
    }
    const T alpha = exp_of(before - reference);  // 0 the first time
    scratch.sum[r] = scratch.sum[r] * alpha + sum;
    for (std::int64_t p = 0; p < output_panels_.count(); ++p) {
      const int width = output_panels_.width(p);
      T* o = scratch.o + output_panels_.begin(p) * kRows + r * width;
      for (int c = 0; c < width; ++c) o[c] *= alpha;
    }
  }

  /// O += P V.
  void add_values(const Tile& tile, const Scratch<T>& scratch) const {
    const Storage* v = static_cast<const Storage*>(call_.v.data);
    const int keys = tile.keys;
    const std::int64_t kv_head = kv_head_of(call_, tile);
    const Storage* rows[kKeys];
    for (int n = 0; n < keys; ++n)
      rows[n] = v + key_offset(call_, call_.v, tile.sequence, tile.b, tile.key[n], kv_head);
    Segment<T> segments[kKeyPanels<T>];
    int count = 0;
    for (; count * kColumns < keys; ++count) {
      const int depth = keys - count * kColumns < kColumns ? keys - count * kColumns : kColumns;
      segments[count] = {scratch.s + count * kRows * kColumns, count * kColumns, depth};
    }
    for (std::int64_t p = 0; p < output_panels_.count(); ++p) {
      const int width = output_panels_.width(p);
      const std::int64_t first = output_panels_.begin(p), left = problem_.head_dim_v - first;
      const int present = static_cast<int>(left < width ? left : width);
      T* panel = scratch.v + first * kKeys;
      for (int n = 0; n < keys; ++n) {
        widen_row(rows[n] + first, present, panel + n * width);
        for (int c = present; c < width; ++c) panel[n * width + c] = 0;
      }
      multiply_tile<T, LeftOrder::k_contiguous>(segments, count, tile.rows, kColumns, panel, width,
                                                scratch.o + first * kRows, true);
    }
  }

  void finish_row(const Tile& tile, int r, const Scratch<T>& scratch) const {
    const std::int64_t query = query_of(tile, r), head = head_of(tile, r);
    const double maximum = scratch.maximum[r];
    double top = maximum, sum = scratch.sum[r], factor = 1;
    if (call_.sinks != nullptr) {
      const double sink = call_.sinks[head];
      if (!(sink <= top)) top = sink;  // NaN too
      if (top != -std::numeric_limits<double>::infinity()) {
        factor = std::exp(maximum - top);
        sum = sum * factor + std::exp(sink - top);
      }
    }
    const bool nothing = maximum == -kInfinity && scratch.sum[r] == 0;
    const T scale = nothing ? T{0} : static_cast<T>(factor / sum);
    Storage* o = static_cast<Storage*>(call_.o.data) + query_offset(call_.o, tile.sequence, tile.b, query, head);
    for (std::int64_t p = 0; p < output_panels_.count(); ++p) {
      const int width = output_panels_.width(p);
      const std::int64_t first = output_panels_.begin(p), left = problem_.head_dim_v - first;
      const int present = static_cast<int>(left < width ? left : width);
      T* sums = scratch.o + first * kRows + r * width;
      for (int c = 0; c < present; ++c) sums[c] = nothing ? T{0} : sums[c] * scale;
      narrow_row<Storage>(sums, present, o + first);
    }
    if (call_.lse == nullptr) return;
    const double lse = sum == 0 ? top : top + std::log(sum);
    call_.lse[lse_offset(call_, tile.sequence, tile.b, query, head)] = static_cast<float>(lse);
  }

  const AttentionCall& call_;
  const AttentionProblem& problem_;
  std::int64_t side_, rows_of_task_;
  Panels<T> output_panels_;
};

template <class Storage>
WorkspacePlan plan_of(const AttentionProblem& problem) {
  WorkspacePlan plan;
  plan.scratch = Scratch<Compute<Storage>>::bytes(problem);
  return plan;
}

template <class Storage>
void run_typed(const AttentionCall& call, int threads) {
  using T = Compute<Storage>;
  const AttentionProblem& problem = call.problem;
  const WorkspacePlan plan = plan_of<Storage>(problem);
  const double products = static_cast<double>(problem.total_q) * static_cast<double>(problem.heads) *
                          static_cast<double>(problem.seqlen_k) * (problem.head_dim + problem.head_dim_v);
  if (products < kProductsPerThread * threads) threads = 1 + static_cast<int>(products / kProductsPerThread);
  threads = plan.threads_within(call.workspace.bytes, threads);
  const Attention<Storage> attention(call);
  parallel_for(threads, attention.tasks(), [&](std::int64_t task, int thread) {
    attention.run_task(task, plan.scratch_in<T>(call.workspace.data, thread));
  });
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

void run(const AttentionCall& call, int threads) {
  switch (call.problem.dtype) {
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

const CpuAttentionKernel attention_forward = {workspace_bytes, run};

}  // namespace triage::cpu::TRIAGE_ISA
