#include "api/attention_check.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <utility>

#include "api/attention_pattern_data.h"
#include "api/strided_view.h"

namespace triage {

namespace {

std::string number(std::int64_t value) { return std::to_string(value); }

enum class Direction { forward, backward };

// Checks what both directions have. The backward reads what the forward writes: O and lse are inputs there.
class AttentionChecker {
 public:
  AttentionChecker(Direction direction, const DLTensor& q, const DLTensor& k, const DLTensor& v, const DLTensor& o,
                   const DLTensor* lse, const AttentionOptions& options)
      : direction_(direction), options_(options), problem_(checked_.call.problem) {
    read_queries(q);
    read_keys(k, v);
    read_output(o, lse);
    check_scalars();
    read_lengths();
    read_sinks();
    read_pattern();
    finish();
  }

  CheckedAttention take() { return std::move(checked_); }

 protected:
  AttentionCall& call() { return checked_.call; }

  StridedView read(const char* name, const DLTensor& tensor, int ndim, bool first = false) {
    check_shape_fields(name, tensor, ndim);
    if (first) {
      device_ = check_device(name, tensor);
      problem_.dtype = check_float_dtype(name, tensor);
    } else {
      check_same_device(name, tensor, device_, "q");
      check_dtype(name, tensor, problem_.dtype);
    }
    StridedView view;
    view.name = name;
    view.element_size = element_bytes(problem_.dtype);
    view.data = check_data(name, tensor);
    view.axes = check_strides(name, tensor, view.element_size);
    for (int i = 0; i < tensor.ndim; i++) {
      if (tensor.shape[i] > kMaxSequence) {
        fail_argument(std::string(name) + " has the shape " + shape_text(tensor) + "; accepted: lengths up to 2^30");
      }
    }
    return view;
  }

  // Head dimensions: what every kernel's tiles and 16-byte copies rest on.
  static int head_dim(const char* name, const DLTensor& tensor) {
    const std::int64_t dim = tensor.shape[tensor.ndim - 1];
    if (dim < 8 || dim > kMaxHeadDim || dim % 8 != 0) {
      fail_argument(std::string(name) + " has the head dimension " + number(dim) +
                    ", accepted: multiples of 8 from 8 to " + number(kMaxHeadDim));
    }
    return static_cast<int>(dim);
  }

  // [batch, sequence, heads, dim], or [rows, heads, dim] when `packed`.
  static AttentionTensor tensor_of(const StridedView& view, bool packed) {
    const std::size_t sequence = packed ? 0 : 1;
    return {view.data, packed ? 0 : view.axes[0].stride, view.axes[sequence].stride, view.axes[sequence + 1].stride};
  }

  void read_queries(const DLTensor& q) {
    problem_.varlen_q = options_.cu_seqlens_q != nullptr;
    problem_.varlen_k = options_.cu_seqlens_k != nullptr;
    q_ = read("q", q, problem_.varlen_q ? 3 : 4, true);
    checked_.call.device = &probe_device(device_);
    const int sequence = problem_.varlen_q ? 0 : 1;
    problem_.heads = q.shape[sequence + 1];
    problem_.head_dim = head_dim("q", q);
    if (problem_.varlen_q) {
      call().cu_seqlens_q = read_cu_seqlens("options.cu_seqlens_q", *options_.cu_seqlens_q);
      problem_.total_q = q.shape[0];
      problem_.seqlen_q = longest("options.max_seqlen_q", options_.max_seqlen_q, problem_.total_q, "total_q");
      check_cu_seqlens("options.cu_seqlens_q", call().cu_seqlens_q, problem_.total_q, problem_.seqlen_q, "q");
    } else {
      problem_.batch = q.shape[0];
      problem_.seqlen_q = q.shape[1];
      problem_.total_q = problem_.batch * problem_.seqlen_q;
      batch_source_ = "the batch of q";
    }
    call().q = tensor_of(q_, problem_.varlen_q);
  }

  void read_keys(const DLTensor& k, const DLTensor& v) {
    const bool paged = options_.block_table != nullptr, used = options_.seqused_k != nullptr;
    if (problem_.varlen_k && (paged || used)) {
      fail_argument(std::string("options.cu_seqlens_k is given with ") +
                    (paged ? "options.block_table" : "options.seqused_k") +
                    "; accepted: one of them (a cache's lengths are options.seqused_k)");
    }
    if (paged && !used) fail_argument("options.block_table needs options.seqused_k, the keys in use of each sequence");
    const int ndim = problem_.varlen_k ? 3 : 4;
    k_ = read("k", k, ndim);
    v_ = read("v", v, ndim);
    const int sequence = ndim - 3;
    problem_.kv_heads = k.shape[sequence + 1];
    if (head_dim("k", k) != problem_.head_dim) {
      fail_argument("k has the head dimension " + number(k.shape[ndim - 1]) +
                    ", accepted: " + number(problem_.head_dim) + ", that of q");
    }
    problem_.head_dim_v = head_dim("v", v);
    const std::int64_t dim_v = problem_.head_dim_v;
    if (problem_.varlen_k) {
      check_lengths("v", v, {k.shape[0], k.shape[1], dim_v},
                    "[total_k, kv_heads, head_dim_v] with total_k and kv_heads of k");
    } else {
      check_lengths("v", v, {k.shape[0], k.shape[1], k.shape[2], dim_v},
                    "[batch, seqlen_k, kv_heads, head_dim_v] with all but the last of k");
    }
    if (problem_.heads > 0 && (problem_.kv_heads == 0 || problem_.heads % problem_.kv_heads != 0)) {
      fail_argument("k has " + number(problem_.kv_heads) + " heads, accepted: a divisor of the " +
                    number(problem_.heads) + " heads of q");
    }
    if (problem_.varlen_k) {
      call().cu_seqlens_k = read_cu_seqlens("options.cu_seqlens_k", *options_.cu_seqlens_k);
      problem_.total_k = k.shape[0];
      problem_.seqlen_k = longest("options.max_seqlen_k", options_.max_seqlen_k, problem_.total_k, "total_k");
      check_cu_seqlens("options.cu_seqlens_k", call().cu_seqlens_k, problem_.total_k, problem_.seqlen_k, "k");
    } else {
      problem_.total_k = k.shape[0] * k.shape[1];
      problem_.seqlen_k = k.shape[1];
    }
    if (problem_.total_k > kMaxSequence && problem_.varlen_k) fail_argument("k has more than 2^30 rows");
    call().k = tensor_of(k_, problem_.varlen_k);
    call().v = tensor_of(v_, problem_.varlen_k);
    if (paged) {
      read_pages(k);
    } else if (!problem_.varlen_k && k.shape[0] != batch()) {
      fail_argument("k has the batch " + number(k.shape[0]) + ", accepted: " + number(batch()) + ", " + batch_source_);
    }
  }

  std::int64_t batch() const { return problem_.batch; }

  void read_pages(const DLTensor& k) {
    const DLTensor& table = *options_.block_table;
    const char* name = "options.block_table";
    problem_.page_size = static_cast<int>(k.shape[1]);
    if (k.shape[1] < 16 || k.shape[1] > 256 || (k.shape[1] & (k.shape[1] - 1)) != 0) {
      fail_argument("k has pages of " + number(k.shape[1]) +
                    " rows, accepted: 16, 32, 64, 128 or 256 with options.block_table");
    }
    check_int32(name, table, 2);
    if (table.shape[0] != batch()) {
      fail_argument(std::string(name) + " has " + number(table.shape[0]) + " rows, accepted: " + number(batch()) +
                    ", " + batch_source_);
    }
    call().block_table = static_cast<const std::int32_t*>(check_data(name, table));
    call().block_table_stride = check_row_stride(name, table);
    call().pages = k.shape[0];
    problem_.seqlen_k = table.shape[1] * problem_.page_size;
    if (table.shape[1] > kMaxSequence / problem_.page_size) {
      fail_argument(std::string(name) + " has " + number(table.shape[1]) +
                    " columns; accepted: pages for up to 2^30 keys");
    }
    add_input(name, call().block_table,
              table.shape[0] == 0 ? 0 : ((table.shape[0] - 1) * call().block_table_stride + table.shape[1]) * 4);
  }

  void read_output(const DLTensor& o, const DLTensor* lse) {
    o_ = read("o", o, problem_.varlen_q ? 3 : 4);
    if (problem_.varlen_q) {
      check_lengths("o", o, {problem_.total_q, problem_.heads, problem_.head_dim_v},
                    "[total_q, heads, head_dim_v] with total_q and heads of q, head_dim_v of v");
    } else {
      check_lengths("o", o, {batch(), problem_.seqlen_q, problem_.heads, problem_.head_dim_v},
                    "[batch, seqlen_q, heads, head_dim_v] with all but the last of q, the last of v");
    }
    call().o = tensor_of(o_, problem_.varlen_q);
    if (lse != nullptr) {
      problem_.has_lse = true;
      lse_ = read_row_values("lse", *lse);
      call().lse = static_cast<float*>(lse_.data);
      call().lse_head_stride = row_value_strides(lse_).head;
      call().lse_batch_stride = row_value_strides(lse_).batch;
    }
    if (direction_ == Direction::backward) return;
    check_apart(o_);
    for (const StridedView* input : {&q_, &k_, &v_}) check_no_shared_byte(o_, *input);
    if (lse == nullptr) return;
    check_apart(lse_);
    for (const StridedView* other : {&o_, &q_, &k_, &v_}) check_no_shared_byte(lse_, *other);
  }

  // One float a query and head: lse or its gradient.
  StridedView read_row_values(const char* name, const DLTensor& tensor) const {
    check_shape_fields(name, tensor, problem_.varlen_q ? 2 : 3);
    check_same_device(name, tensor, device_, "q");
    if (tensor.dtype.code != kDLFloat || tensor.dtype.bits != 32) {
      fail_argument(std::string(name) + " is " + dtype_text(tensor.dtype) + ", accepted: float32");
    }
    if (problem_.varlen_q) {
      check_lengths(name, tensor, {problem_.heads, problem_.total_q}, "[heads, total_q] of q");
    } else {
      check_lengths(name, tensor, {problem_.batch, problem_.heads, problem_.seqlen_q}, "[batch, heads, seqlen_q] of q");
    }
    return {name, check_data(name, tensor), 4, check_strides(name, tensor, 4)};
  }

  struct RowValueStrides {
    std::int64_t batch, head;
  };
  RowValueStrides row_value_strides(const StridedView& view) const {
    return {problem_.varlen_q ? 0 : view.axes[0].stride, view.axes[view.axes.size() - 2].stride};
  }

  void check_scalars() {
    const float scale = options_.softmax_scale;
    if (!(scale >= 0) || std::isinf(scale)) {
      fail_argument("options.softmax_scale is " + std::to_string(scale) +
                    ", accepted: a finite positive number, or 0 for 1/sqrt(head_dim)");
    }
    call().softmax_scale =
        scale > 0 ? scale : static_cast<float>(1.0 / std::sqrt(static_cast<double>(problem_.head_dim)));
    if (!(options_.softcap >= 0) || std::isinf(options_.softcap)) {
      fail_argument("options.softcap is " + std::to_string(options_.softcap) +
                    ", accepted: a finite positive number, or 0 for none");
    }
    problem_.softcap = options_.softcap;
    if (options_.num_splits < 0 || options_.num_splits > kMaxSplits) {
      fail_argument("options.num_splits is " + number(options_.num_splits) + ", accepted: 0 (the library chooses) to " +
                    number(kMaxSplits));
    }
    problem_.num_splits = options_.num_splits;
    check_window("options.window_left", options_.window_left);
    check_window("options.window_right", options_.window_right);
  }

  static void check_window(const char* name, std::int64_t window) {
    if (window < -1)
      fail_argument(std::string(name) + " is " + number(window) + ", accepted: 0 or more, or -1 for no limit");
  }

  void check_int32(const char* name, const DLTensor& tensor, int ndim) {
    check_shape_fields(name, tensor, ndim);
    check_same_device(name, tensor, device_, "q");
    if (tensor.dtype.code != kDLInt || tensor.dtype.bits != 32) {
      fail_argument(std::string(name) + " is " + dtype_text(tensor.dtype) + ", accepted: int32");
    }
  }

  const std::int32_t* read_cu_seqlens(const char* name, const DLTensor& tensor) {
    check_int32(name, tensor, 1);
    const std::int64_t sequences = tensor.shape[0] - 1;
    if (sequences < 0) fail_argument(std::string(name) + " has the shape [0], accepted: [batch + 1]");
    if (batch_source_.empty()) {
      problem_.batch = sequences;
      batch_source_ = std::string("the sequences of ") + name;
    } else if (sequences != batch()) {
      fail_argument(std::string(name) + " has the shape " + shape_text(tensor) + ", accepted: [" + number(batch() + 1) +
                    "], one more than " + batch_source_);
    }
    check_contiguous(name, tensor);
    const auto* data = static_cast<const std::int32_t*>(check_data(name, tensor));
    add_input(name, data, tensor.shape[0] * 4);
    return data;
  }

  static std::int64_t longest(const char* name, std::int64_t value, std::int64_t total, const char* total_name) {
    if (value < 0 || (value == 0 && total > 0)) {
      fail_argument(std::string(name) + " is " + number(value) + ", accepted: 1 or more, the longest sequence, with " +
                    total_name + " " + number(total));
    }
    return std::min(value, total);
  }

  // Content that lies in host memory; what lies on a GPU is believed.
  void check_cu_seqlens(const char* name, const std::int32_t* data, std::int64_t total, std::int64_t most,
                        const char* tensor) {
    if (device_.device_type != kDLCPU) return;
    if (data[0] != 0) fail_argument(std::string(name) + "[0] is " + number(data[0]) + ", accepted: 0");
    for (std::int64_t b = 0; b < batch(); b++) {
      const std::int64_t length = std::int64_t{data[b + 1]} - data[b];
      const std::string element = std::string(name) + "[" + number(b + 1) + "] is " + number(data[b + 1]);
      if (length < 0)
        fail_argument(element + ", less than the " + number(data[b]) + " before it; accepted: values that never fall");
      if (data[b + 1] > total) fail_argument(element + ", but " + tensor + " has " + number(total) + " rows");
      if (length > most) {
        fail_argument(element + ", which makes a sequence of " + number(length) + "; the longest is to be " +
                      number(most) + " (options.max_seqlen_" + tensor + ")");
      }
    }
  }

  void read_lengths() {
    if (options_.seqused_k == nullptr) return;
    const char* name = "options.seqused_k";
    const DLTensor& tensor = *options_.seqused_k;
    check_int32(name, tensor, 1);
    check_lengths(name, tensor, {batch()}, ("[batch], " + batch_source_).c_str());
    check_contiguous(name, tensor);
    call().seqused_k = static_cast<const std::int32_t*>(check_data(name, tensor));
    problem_.has_seqused_k = true;
    add_input(name, call().seqused_k, batch() * 4);
    if (options_.max_seqlen_k < 0) {
      fail_argument("options.max_seqlen_k is " + number(options_.max_seqlen_k) +
                    ", accepted: 0 (the cache's capacity) or more");
    }
    if (options_.max_seqlen_k > 0) problem_.seqlen_k = std::min(problem_.seqlen_k, options_.max_seqlen_k);
    if (device_.device_type != kDLCPU) return;
    for (std::int64_t b = 0; b < batch(); b++) {
      const std::int32_t used = call().seqused_k[b];
      if (used < 0 || used > problem_.seqlen_k) {
        fail_argument(std::string(name) + "[" + number(b) + "] is " + number(used) + ", accepted: 0 to " +
                      number(problem_.seqlen_k));
      }
      for (std::int64_t j = 0; call().block_table != nullptr && j * problem_.page_size < used; j++) {
        const std::int32_t page = call().block_table[b * call().block_table_stride + j];
        if (page < 0 || page >= call().pages) {
          fail_argument("options.block_table[" + number(b) + "][" + number(j) + "] is " + number(page) +
                        ", accepted: 0 to " + number(call().pages - 1) + ", a page of k");
        }
      }
    }
  }

  void read_sinks() {
    if (options_.sinks == nullptr) return;
    const char* name = "options.sinks";
    const DLTensor& tensor = *options_.sinks;
    check_shape_fields(name, tensor, 1);
    check_same_device(name, tensor, device_, "q");
    if (tensor.dtype.code != kDLFloat || tensor.dtype.bits != 32) {
      fail_argument(std::string(name) + " is " + dtype_text(tensor.dtype) + ", accepted: float32");
    }
    check_lengths(name, tensor, {problem_.heads}, "[heads] of q");
    check_contiguous(name, tensor);
    call().sinks = static_cast<const float*>(check_data(name, tensor));
    problem_.has_sinks = true;
    add_input(name, call().sinks, problem_.heads * 4);
  }

  void read_pattern() {
    if (options_.pattern == nullptr) return;
    const char* name = "options.pattern";
    const detail::AttentionPatternData* const data = options_.pattern->data().get();
    if (data == nullptr) fail_argument(std::string(name) + " is empty; make one by AttentionPattern::from_mask");
    const auto refuse = [&](const char* other) {
      fail_argument(std::string(name) + " is given with " + other + "; accepted: one of them");
    };
    if (options_.block_table != nullptr) refuse("options.block_table");
    if (options_.seqused_k != nullptr) refuse("options.seqused_k");
    if (options_.num_splits > 1) {
      fail_argument("options.num_splits is " + number(options_.num_splits) + ", accepted: 0 or 1 with options.pattern");
    }
    const DLDevice device = data->device->dl;
    if (device.device_type != device_.device_type || device.device_id != device_.device_id) {
      fail_argument(std::string(name) + " is on " + device_text(device) + ", but q is on " + device_text(device_));
    }
    // With packed sequences the caller's bounds, which may lie above what the problem holds of them.
    check_pattern_size("seqlen_q", data->seqlen_q, problem_.varlen_q ? options_.max_seqlen_q : problem_.seqlen_q,
                       problem_.varlen_q, "options.max_seqlen_q");
    check_pattern_size("seqlen_k", data->seqlen_k, problem_.varlen_k ? options_.max_seqlen_k : problem_.seqlen_k,
                       problem_.varlen_k, "options.max_seqlen_k");
    if (data->batch != 1 && data->batch != batch()) {
      fail_argument(std::string(name) + " has masks for a batch of " + number(data->batch) + ", accepted: 1 or " +
                    number(batch()) + ", " + batch_source_);
    }
    if (data->heads != 1 && data->heads != problem_.heads && data->heads != problem_.kv_heads) {
      fail_argument(std::string(name) + " has masks for " + number(data->heads) + " heads, accepted: 1, " +
                    number(problem_.kv_heads) + " (those of k) or " + number(problem_.heads) + " (those of q)");
    }
    problem_.block_sparse = true;
    problem_.has_elements = data->entries > 0;
    problem_.pattern_block_q = data->block_q;
    problem_.pattern_block_k = data->block_k;
    AttentionMask& mask = call().mask;
    const auto view = [](const BlockBitsArrays& bits) {
      return BlockBits{bits.listed, bits.full, bits.counts, bits.rows, bits.row_words};
    };
    mask.by_query = view(data->by_query);
    mask.by_key = view(data->by_key);
    mask.batch_masks = data->batch == 1 ? 0 : data->heads;
    mask.heads_per_mask = static_cast<int>(std::max<std::int64_t>(problem_.heads / data->heads, 1));
    if (!problem_.has_elements) return;
    mask.element_index = data->element_index;
    mask.elements = data->elements;
    mask.elements_by_key = data->elements_by_key;
  }

  static void check_pattern_size(const char* field, std::int64_t given, std::int64_t expected, bool varlen,
                                 const char* option) {
    if (given == expected) return;
    fail_argument("options.pattern has " + std::string(field) + " " + number(given) +
                  ", accepted: " + number(expected) + ", " + (varlen ? option : "as in the call"));
  }

  // The small arrays: outputs must not touch them either.
  void add_input(const char* name, const void* data, std::int64_t bytes) {
    inputs_.push_back(extent(name, data, static_cast<std::size_t>(bytes)));
  }

  void finish() {
    // A query's window is about d = i + lk - lq. No key lies left of it if d - left <= 0 even for the last query, where
    // d = lk - 1; none right of it if d + right >= lk - 1 even for the first, where d = lk - lq.
    std::int64_t left = options_.window_left, right = options_.window_right;
    if (options_.causal) right = 0;
    problem_.window_left = left >= problem_.seqlen_k - 1 ? -1 : left;
    problem_.window_right = right >= problem_.seqlen_q - 1 ? -1 : right;

    checked_.empty = batch() == 0 || problem_.heads == 0 || problem_.total_q == 0;
    for (const StridedView* view : {&q_, &k_, &v_, &o_, &lse_}) {
      if (!view->given()) continue;
      const Extent whole = extents_of(*view).front();
      checked_.tensors.push_back(whole);
      if (direction_ == Direction::backward || (view != &o_ && view != &lse_)) continue;
      for (const Extent& input : inputs_) check_no_overlap(whole, input);
    }
    checked_.tensors.insert(checked_.tensors.end(), inputs_.begin(), inputs_.end());

    problem_.aligned16 = true;
    for (const StridedView* view : {&q_, &k_, &v_, &o_}) problem_.aligned16 = problem_.aligned16 && view->aligned16();
  }

  const Direction direction_;
  const AttentionOptions& options_;
  CheckedAttention checked_;
  AttentionProblem& problem_;
  DLDevice device_{kDLCPU, 0};
  std::string batch_source_;  // what told the batch, for sentences
  StridedView q_, k_, v_, o_, lse_;
  std::vector<Extent> inputs_;
};

const DLTensor& required(const DLTensor* tensor, const char* name) {
  if (tensor == nullptr) fail_argument(std::string(name) + " is null, accepted: a tensor; the backward needs it");
  return *tensor;
}

// Before anything else is looked at: options that only the forward has.
const AttentionOptions& backward_options(const AttentionOptions& options) {
  if (options.seqused_k != nullptr || options.block_table != nullptr) {
    fail_argument(std::string("options.") + (options.seqused_k != nullptr ? "seqused_k" : "block_table") +
                  " is given, but gradients through a cache are not computed; accepted: null (options.cu_seqlens_k "
                  "serves sequences of different lengths)");
  }
  if (options.num_splits != 0) {
    fail_argument("options.num_splits is " + number(options.num_splits) +
                  ", accepted: 0, because the backward does not split the keys");
  }
  return options;
}

class BackwardChecker : AttentionChecker {
 public:
  BackwardChecker(const AttentionBackwardInputs& inputs, const AttentionBackwardOutputs& outputs,
                  const AttentionOptions& options, GradientOrder order)
      : AttentionChecker(Direction::backward, required(inputs.q, "q"), required(inputs.k, "k"), required(inputs.v, "v"),
                         required(inputs.o, "o"), &required(inputs.lse, "lse"), backward_options(options)) {
    if (problem_.heads == 0 && problem_.kv_heads > 0) {
      fail_argument("q has 0 heads, but k has " + number(problem_.kv_heads) + "; accepted: heads of q for those of k");
    }
    if (order != GradientOrder::deterministic && order != GradientOrder::nondeterministic) {
      fail_argument("order is " + number(static_cast<int>(order)) +
                    ", accepted: 0 (deterministic) or 1 (nondeterministic)");
    }
    gradients_.deterministic = problem_.deterministic = order == GradientOrder::deterministic;
    others_ = {&q_, &k_, &v_, &o_, &lse_};
    d_o_ = read_like("d_o", required(inputs.d_o, "d_o"), *inputs.o, "o", problem_.varlen_q);
    gradients_.d_o = tensor_of(d_o_, problem_.varlen_q);
    others_.push_back(&d_o_);
    if (inputs.d_lse != nullptr) {
      d_lse_ = read_row_values("d_lse", *inputs.d_lse);
      gradients_.d_lse = static_cast<const float*>(d_lse_.data);
      gradients_.d_lse_head_stride = row_value_strides(d_lse_).head;
      gradients_.d_lse_batch_stride = row_value_strides(d_lse_).batch;
      others_.push_back(&d_lse_);
    }
    read_outputs(inputs, outputs);
    for (const StridedView* view : {&d_o_, &d_lse_, &d_q_, &d_k_, &d_v_, &d_sinks_}) {
      if (!view->given()) continue;
      checked_.tensors.push_back(extents_of(*view).front());
      const bool row_values = view == &d_lse_ || view == &d_sinks_;
      problem_.aligned16 = problem_.aligned16 && (row_values || view->aligned16());
    }
    const bool no_queries = problem_.total_q == 0 || problem_.heads == 0;
    const bool no_keys = problem_.total_k == 0 || problem_.kv_heads == 0;
    const bool sinks_to_write = gradients_.d_sinks != nullptr && problem_.heads > 0;  // zeros, whatever is missing
    checked_.empty = (batch() == 0 || (no_queries && no_keys)) && !sinks_to_write;
  }

  CheckedAttentionBackward take() {
    gradients_.forward = checked_.call;
    return {gradients_, checked_.empty, std::move(checked_.tensors)};
  }

 private:
  // A tensor of the shape and dtype of `other`, with strides of its own.
  StridedView read_like(const char* name, const DLTensor& tensor, const DLTensor& other, const char* other_name,
                        bool packed) {
    StridedView view = read(name, tensor, packed ? 3 : 4);
    const std::string meaning = std::string("the shape of ") + other_name;
    if (packed) {
      check_lengths(name, tensor, {other.shape[0], other.shape[1], other.shape[2]}, meaning.c_str());
    } else {
      check_lengths(name, tensor, {other.shape[0], other.shape[1], other.shape[2], other.shape[3]}, meaning.c_str());
    }
    return view;
  }

  void read_outputs(const AttentionBackwardInputs& inputs, const AttentionBackwardOutputs& outputs) {
    if (outputs.d_q == nullptr && outputs.d_k == nullptr && outputs.d_v == nullptr && outputs.d_sinks == nullptr) {
      fail_argument("d_q, d_k, d_v and d_sinks are all null, accepted: at least one of them");
    }
    if (outputs.d_q != nullptr) {
      d_q_ = read_like("d_q", *outputs.d_q, *inputs.q, "q", problem_.varlen_q);
      gradients_.d_q = tensor_of(d_q_, problem_.varlen_q);
      check_output(d_q_);
    }
    if (outputs.d_k != nullptr) {
      d_k_ = read_like("d_k", *outputs.d_k, *inputs.k, "k", problem_.varlen_k);
      gradients_.d_k = tensor_of(d_k_, problem_.varlen_k);
      check_output(d_k_);
    }
    if (outputs.d_v != nullptr) {
      d_v_ = read_like("d_v", *outputs.d_v, *inputs.v, "v", problem_.varlen_k);
      gradients_.d_v = tensor_of(d_v_, problem_.varlen_k);
      check_output(d_v_);
    }
    if (outputs.d_sinks == nullptr) return;
    if (options_.sinks == nullptr) fail_argument("d_sinks is given without options.sinks, accepted: both or neither");
    const DLTensor& sinks = *outputs.d_sinks;
    check_shape_fields("d_sinks", sinks, 1);
    check_same_device("d_sinks", sinks, device_, "q");
    if (sinks.dtype.code != kDLFloat || sinks.dtype.bits != 32) {
      fail_argument("d_sinks is " + dtype_text(sinks.dtype) + ", accepted: float32");
    }
    check_lengths("d_sinks", sinks, {problem_.heads}, "[heads] of q");
    check_contiguous("d_sinks", sinks);
    d_sinks_ = {"d_sinks", check_data("d_sinks", sinks), 4, {Axis{problem_.heads, 1}}};
    gradients_.d_sinks = static_cast<float*>(d_sinks_.data);
    check_output(d_sinks_);
  }

  // Elements apart, and no byte of another tensor of the call.
  void check_output(const StridedView& output) {
    check_apart(output);
    for (const StridedView* other : others_) check_no_shared_byte(output, *other);
    for (const Extent& input : inputs_) check_no_overlap(extents_of(output).front(), input);
    others_.push_back(&output);
  }

  AttentionBackwardCall gradients_;
  std::vector<const StridedView*> others_;  // what the next output must not touch
  StridedView d_o_, d_lse_, d_q_, d_k_, d_v_, d_sinks_;
};

}  // namespace

CheckedAttention check_attention(const DLTensor& q, const DLTensor& k, const DLTensor& v, const DLTensor& o,
                                 const DLTensor* lse, const AttentionOptions& options) {
  return AttentionChecker(Direction::forward, q, k, v, o, lse, options).take();
}

CheckedAttentionBackward check_attention_backward(const AttentionBackwardInputs& inputs,
                                                  const AttentionBackwardOutputs& outputs,
                                                  const AttentionOptions& options, GradientOrder order) {
  return BackwardChecker(inputs, outputs, options, order).take();
}

}  // namespace triage
