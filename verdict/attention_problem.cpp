#include "verdict/attention_problem.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "registry/registry.h"

namespace triage::verdict {
namespace {

const char* order_name(HeadOrder order) {
  switch (order) {
    case HeadOrder::bshd:
      return "bshd";
    case HeadOrder::bhsd:
      return "bhsd";
    case HeadOrder::sbhd:
      return "sbhd";
  }
  return "unknown";
}

const char* store_name(KeyStore store) {
  switch (store) {
    case KeyStore::dense:
      return "dense";
    case KeyStore::packed:
      return "packed";
    case KeyStore::cache:
      return "cache";
    case KeyStore::paged:
      return "paged";
  }
  return "unknown";
}

std::uint64_t seed_of(std::uint64_t seed, int operand) {
  return random_bits(seed, static_cast<std::uint64_t>(operand));
}

std::int64_t longest(const std::vector<std::int64_t>& lengths) {
  return lengths.empty() ? 0 : *std::max_element(lengths.begin(), lengths.end());
}

std::int64_t total(const std::vector<std::int64_t>& lengths) {
  return std::accumulate(lengths.begin(), lengths.end(), std::int64_t{0});
}

std::vector<std::int32_t> cumulative(const std::vector<std::int64_t>& lengths) {
  std::vector<std::int32_t> sums{0};
  for (const std::int64_t length : lengths) sums.push_back(sums.back() + static_cast<std::int32_t>(length));
  return sums;
}

Buffer upload(const std::vector<std::int32_t>& data, DLDevice device, Stream stream) {
  Buffer buffer(device, std::max<std::size_t>(data.size(), 1) * 4, stream);
  copy_bytes(buffer.data(), device, data.data(), {kDLCPU, 0}, data.size() * 4, stream, "upload of an index array");
  synchronize(device, stream);
  return buffer;
}

}  // namespace

std::string AttentionSpec::label(const char* operation) const {
  std::string text =
      fmt::format("{} dtype={} batch={} heads={} kv_heads={} seqlen_q={} seqlen_k={} head_dim={}",
                  operation, dtype_name(dtype), batch, heads, kv_heads, seqlen_q, seqlen_k, head_dim);
  const auto add = [&](bool when, const std::string& more) { text += when ? " " + more : ""; };
  add(head_dim_v != head_dim, fmt::format("head_dim_v={}", head_dim_v));
  add(!q_lengths.empty(), fmt::format("q_lengths={}", fmt::join(q_lengths, ",")));
  add(keys != KeyStore::dense, fmt::format("keys={} k_lengths={}", store_name(keys), fmt::join(k_lengths, ",")));
  add(keys == KeyStore::paged, fmt::format("page_size={}", page_size));
  add(causal, "causal");
  add(window_left >= 0 || window_right >= 0, fmt::format("window={}/{}", window_left, window_right));
  add(softmax_scale != 0, fmt::format("softmax_scale={}", softmax_scale));
  add(softcap != 0, fmt::format("softcap={}", softcap));
  add(sinks, "sinks");
  add(!lse, "no_lse");
  add(num_splits != 0, fmt::format("num_splits={}", num_splits));
  add(pattern.given(), pattern.label());
  add(order != HeadOrder::bshd, fmt::format("order={}", order_name(order)));
  add(padding != 0, fmt::format("padding={}", padding));
  add(extra_stride != 0, fmt::format("extra_stride={}", extra_stride));
  add(offset != 0, fmt::format("offset={}", offset));
  add(zero_queries, "zero_queries");
  return text + fmt::format(" inputs={} seed={}", value_kind_name(values), seed);
}

HeadTensor::HeadTensor(const char* name, DLDevice device, const AttentionSpec& spec, std::int64_t outer,
                       std::int64_t length, std::int64_t heads, int dim, std::int64_t padding, std::uint64_t seed)
    : name_(name), dtype_(spec.dtype), outer_(outer), length_(length), heads_(heads), dim_(dim) {
  const std::int64_t positions = length + padding;
  switch (spec.order) {
    case HeadOrder::bshd:
      head_rows_ = 1, position_rows_ = heads, outer_rows_ = positions * heads;
      break;
    case HeadOrder::bhsd:
      position_rows_ = 1, head_rows_ = positions, outer_rows_ = positions * heads;
      break;
    case HeadOrder::sbhd:
      head_rows_ = 1, outer_rows_ = heads, position_rows_ = outer * heads;
      break;
  }
  const std::int64_t rows = outer * positions * heads;
  used_.assign(static_cast<std::size_t>(rows), false);
  guarded_ = GuardedTensor(name, device, spec.dtype, {rows, dim}, dim + spec.extra_stride, spec.offset, seed);
}

HeadTensor::View::View(const HeadTensor& of, bool packed) {
  const std::int64_t stride = of.guarded_.stride();
  const std::int64_t shape4[4] = {of.outer_, of.length_, of.heads_, of.dim_};
  const std::int64_t strides4[4] = {of.outer_rows_ * stride, of.position_rows_ * stride, of.head_rows_ * stride, 1};
  const int drop = packed ? 1 : 0;
  std::copy(shape4 + drop, shape4 + 4, shape);
  std::copy(strides4 + drop, strides4 + 4, strides);
  tensor = of.guarded_.view();
  tensor.ndim = 4 - drop;
  tensor.shape = shape;
  tensor.strides = strides;
}

void HeadTensor::use_row(std::int64_t outer, std::int64_t position) {
  for (std::int64_t h = 0; h < heads_; ++h) used_[static_cast<std::size_t>(row(outer, position, h))] = true;
}

void HeadTensor::use_rows_of(const HeadTensor& other) {
  for (std::int64_t outer = 0; outer < outer_; ++outer)
    for (std::int64_t position = 0; position < length_; ++position)
      if (other.heads_ > 0 && other.used_[static_cast<std::size_t>(other.row(outer, position, 0))])
        use_row(outer, position);
}

void HeadTensor::fill(ValueKind kind, std::uint64_t seed, bool zero) {
  const int bytes = dtype_bytes(dtype_);
  for (std::size_t r = 0; r < used_.size(); ++r) {
    if (!used_[r]) continue;
    void* to = static_cast<char*>(guarded_.host()) + static_cast<std::int64_t>(r) * guarded_.stride() * bytes;
    if (zero) {
      std::memset(to, 0, static_cast<std::size_t>(dim_) * bytes);
    } else {
      fill_random(dtype_, to, 1, dim_, dim_, random_bits(seed, r), kind);
    }
  }
}

std::string HeadTensor::damage(bool constant) const {
  std::string found = guarded_.damage(constant);
  if (!found.empty()) return found;
  const std::size_t bytes = static_cast<std::size_t>(dtype_bytes(dtype_));
  for (std::size_t r = 0; r < used_.size(); ++r) {
    const std::size_t begin = r * static_cast<std::size_t>(guarded_.stride()) * bytes;
    if (!used_[r] && std::memcmp(static_cast<const char*>(guarded_.host()) + begin,
                                 static_cast<const char*>(guarded_.downloaded()) + begin, dim_ * bytes) != 0) {
      return fmt::format("{}: row {}, which belongs to no sequence, was written", name_, r);
    }
  }
  return "";
}

AttentionTensor HeadTensor::host_tensor(bool packed) const {
  const std::int64_t stride = guarded_.stride();
  return {const_cast<void*>(guarded_.host()), packed ? 0 : outer_rows_ * stride, position_rows_ * stride,
          head_rows_ * stride};
}

GuardedAttention::Arguments::Arguments(const GuardedAttention& problem)
    : q(problem.q_, problem.packed_q()),
      k(problem.k_, problem.packed_k()),
      v(problem.v_, problem.packed_k()),
      o(problem.o_, problem.packed_q()) {
  const AttentionSpec& spec = problem.spec_;
  const auto index = [&](const Buffer& buffer, std::int64_t* shape, int ndim) {
    DLTensor tensor{};
    tensor.data = buffer.data();
    tensor.device = problem.device_;
    tensor.ndim = ndim;
    tensor.dtype = {kDLInt, 32, 1};
    tensor.shape = shape;
    return tensor;
  };
  lse = problem.lse_.view();
  const std::int64_t rows = lse.shape[1], stride = problem.lse_.stride();
  if (problem.packed_q()) {
    lse_shape[0] = spec.heads, lse_shape[1] = rows;
    lse_strides[0] = stride, lse_strides[1] = 1;
  } else {
    lse_shape[0] = spec.batch, lse_shape[1] = spec.heads, lse_shape[2] = rows;
    lse_strides[0] = spec.heads * stride, lse_strides[1] = stride, lse_strides[2] = 1;
  }
  lse.ndim = problem.packed_q() ? 2 : 3;
  lse.shape = lse_shape;
  lse.strides = lse_strides;
  lse_or_null = spec.lse ? &lse : nullptr;

  options.softmax_scale = spec.softmax_scale;
  options.causal = spec.causal;
  options.window_left = spec.window_left;
  options.window_right = spec.window_right;
  options.softcap = spec.softcap;
  options.num_splits = spec.num_splits;
  if (problem.packed_q()) {
    cu_q_shape = spec.batch + 1;
    cu_q = index(problem.cu_q_buffer_, &cu_q_shape, 1);
    options.cu_seqlens_q = &cu_q;
    options.max_seqlen_q = longest(spec.q_lengths);
  }
  if (spec.keys == KeyStore::packed) {
    cu_k_shape = spec.batch + 1;
    cu_k = index(problem.cu_k_buffer_, &cu_k_shape, 1);
    options.cu_seqlens_k = &cu_k;
    options.max_seqlen_k = longest(spec.k_lengths);
  } else if (spec.keys != KeyStore::dense) {
    used_shape = spec.batch;
    used = index(problem.used_k_buffer_, &used_shape, 1);
    options.seqused_k = &used;
  }
  if (spec.keys == KeyStore::paged) {
    table_shape[0] = spec.batch, table_shape[1] = problem.table_width_;
    table = index(problem.table_buffer_, table_shape, 2);
    options.block_table = &table;
  }
  sinks = problem.sinks_.view();
  if (spec.sinks) options.sinks = &sinks;
  if (spec.pattern.given()) options.pattern = &problem.blocks_.pattern();
}

GuardedAttention::GuardedAttention(const AttentionSpec& spec, DLDevice device, Stream stream, bool runs)
    : spec_(spec), device_(device) {
  make_index_arrays(stream);
  int placed = 0;
  const auto make = [&](const char* name, bool packed, std::int64_t outer, std::int64_t length, std::int64_t heads,
                        int dim) {
    return HeadTensor(name, device, spec_, packed ? 1 : outer, length, heads, dim, spec_.padding,
                      seed_of(spec_.seed, 100 + placed++));
  };
  const std::int64_t q_rows = packed_q() ? total(spec_.q_lengths) : spec_.seqlen_q;
  q_ = make("q", packed_q(), spec_.batch, q_rows, spec_.heads, spec_.head_dim);
  o_ = make("o", packed_q(), spec_.batch, q_rows, spec_.heads, spec_.head_dim_v);
  const bool paged = spec_.keys == KeyStore::paged;
  const std::int64_t k_outer = paged ? pages_ : spec_.batch;
  const std::int64_t k_rows = packed_k() ? total(spec_.k_lengths) : paged ? spec_.page_size : spec_.seqlen_k;
  k_ = make("k", packed_k(), k_outer, k_rows, spec_.kv_heads, spec_.head_dim);
  v_ = make("v", packed_k(), k_outer, k_rows, spec_.kv_heads, spec_.head_dim_v);
  for (std::int64_t b = 0; b < spec_.batch; ++b) {
    for (std::int64_t i = 0; i < spec_.q_length(b); ++i)
      for (HeadTensor* tensor : {&q_, &o_})
        packed_q() ? tensor->use_row(0, cu_q_[static_cast<std::size_t>(b)] + i) : tensor->use_row(b, i);
    for (std::int64_t j = 0; j < spec_.k_length(b); ++j)
      for (HeadTensor* tensor : {&k_, &v_}) {
        if (packed_k()) {
          tensor->use_row(0, cu_k_[static_cast<std::size_t>(b)] + j);
        } else if (paged) {
          tensor->use_row(table_[static_cast<std::size_t>(b * table_width_ + j / spec_.page_size)],
                          j % spec_.page_size);
        } else {
          tensor->use_row(b, j);
        }
      }
  }
  const std::int64_t lse_rows = packed_q() ? spec_.heads : spec_.batch * spec_.heads;
  lse_ = GuardedTensor("lse", device, DType::float32, {lse_rows, q_rows}, q_rows + spec_.extra_stride, spec_.offset,
                       seed_of(spec_.seed, 110));
  sinks_ = GuardedTensor("sinks", device, DType::float32, {spec_.heads}, 0, 0, seed_of(spec_.seed, 111));
  fill(spec_.seed);
  upload_inputs(stream);
  if (spec_.pattern.given()) {
    const AttentionProblem lengths = host_call().problem;
    blocks_ = GuardedPattern(spec_.pattern, lengths.seqlen_q, lengths.seqlen_k, device, seed_of(spec_.seed, 112),
                             stream);
  }
  reset_output(stream);
  if (!runs) return;
  Arguments arguments(*this);
  workspace_ = GuardedWorkspace(device, arguments.workspace_bytes(), stream);
}

// Lengths, and a block table whose pages are in shuffled order; what it holds past the keys in use is no page at all.
void GuardedAttention::make_index_arrays(Stream stream) {
  if (packed_q()) cu_q_ = cumulative(spec_.q_lengths);
  if (packed_k()) cu_k_ = cumulative(spec_.k_lengths);
  if (spec_.keys == KeyStore::cache || spec_.keys == KeyStore::paged)
    used_k_.assign(spec_.k_lengths.begin(), spec_.k_lengths.end());
  if (spec_.keys == KeyStore::paged) {
    const std::int64_t size = spec_.page_size;
    table_width_ = std::max<std::int64_t>(1, (spec_.seqlen_k + size - 1) / size);
    std::int64_t needed = 0;
    for (const std::int64_t length : spec_.k_lengths) needed += (length + size - 1) / size;
    pages_ = needed + 2;  // two that nobody uses
    std::vector<std::int32_t> order(static_cast<std::size_t>(pages_));
    std::iota(order.begin(), order.end(), 0);
    Random random(seed_of(spec_.seed, 50));
    for (std::size_t i = order.size(); i > 1; --i)
      std::swap(order[i - 1], order[static_cast<std::size_t>(random.integer(0, static_cast<std::int64_t>(i) - 1))]);
    std::size_t next = 0;
    for (const std::int64_t length : spec_.k_lengths)
      for (std::int64_t j = 0; j < table_width_; ++j)
        table_.push_back(j * size < length ? order[next++] : (j % 2 == 0 ? 0x7fffffff : -1));
  }
  cu_q_buffer_ = upload(cu_q_, device_, stream);
  cu_k_buffer_ = upload(cu_k_, device_, stream);
  used_k_buffer_ = upload(used_k_, device_, stream);
  table_buffer_ = upload(table_, device_, stream);
}

void GuardedAttention::fill(std::uint64_t seed) {
  q_.fill(spec_.values, seed_of(seed, 0), spec_.zero_queries);
  k_.fill(spec_.values, seed_of(seed, 1));
  v_.fill(spec_.values, seed_of(seed, 2));
  fill_random(DType::float32, sinks_.host(), 1, spec_.heads, spec_.heads, seed_of(seed, 3), ValueKind::centred);
}

void GuardedAttention::upload_inputs(Stream stream) {
  for (HeadTensor* tensor : {&q_, &k_, &v_}) tensor->guarded().upload(stream);
  sinks_.upload(stream);
}

void GuardedAttention::reset_output(Stream stream) {
  o_.guarded().upload(stream);
  lse_.upload(stream);
  workspace_.poison(stream);
}

void GuardedAttention::refill(std::uint64_t seed, Stream stream) {
  fill(seed);
  refill_pattern(seed, stream);
  upload_inputs(stream);
  reset_output(stream);
}

void GuardedAttention::refill_pattern(std::uint64_t seed, Stream stream) {
  if (spec_.pattern.given()) blocks_.refill(seed_of(seed, 112), stream);
}

void GuardedAttention::run(Stream stream) {
  const Arguments arguments(*this);
  attention_forward(arguments.q, arguments.k, arguments.v, arguments.o, arguments.lse_or_null, arguments.options,
                    workspace_.view(), stream);
}

AttentionCall GuardedAttention::host_call() const {
  AttentionCall call;
  AttentionProblem& p = call.problem;
  p.dtype = spec_.dtype;
  p.batch = spec_.batch;
  p.heads = spec_.heads;
  p.kv_heads = spec_.kv_heads;
  p.seqlen_q = packed_q() ? longest(spec_.q_lengths) : spec_.seqlen_q;
  p.seqlen_k = packed_k() ? longest(spec_.k_lengths) : spec_.seqlen_k;
  p.head_dim = spec_.head_dim;
  p.head_dim_v = spec_.head_dim_v;
  p.window_left = spec_.window_left;
  p.window_right = spec_.causal ? 0 : spec_.window_right;
  p.softcap = spec_.softcap;
  p.page_size = spec_.keys == KeyStore::paged ? spec_.page_size : 0;
  call.q = q_.host_tensor(packed_q());
  call.k = k_.host_tensor(packed_k());
  call.v = v_.host_tensor(packed_k());
  call.o = o_.host_tensor(packed_q());
  call.lse_head_stride = lse_.stride();
  call.lse_batch_stride = packed_q() ? 0 : spec_.heads * lse_.stride();
  call.softmax_scale = spec_.softmax_scale != 0
                           ? spec_.softmax_scale
                           : static_cast<float>(1.0 / std::sqrt(static_cast<double>(spec_.head_dim)));
  if (!cu_q_.empty()) call.cu_seqlens_q = cu_q_.data();
  if (!cu_k_.empty()) call.cu_seqlens_k = cu_k_.data();
  if (!used_k_.empty()) call.seqused_k = used_k_.data();
  if (!table_.empty()) call.block_table = table_.data();
  call.block_table_stride = table_width_;
  if (spec_.sinks) call.sinks = static_cast<const float*>(sinks_.host());
  if (spec_.pattern.given()) {
    p.block_sparse = true;
    call.mask = blocks_.host_mask(spec_.heads);
  }
  return call;
}

// Positions of lse past the last sequence of a packed tensor do not exist, so all of its elements belong to queries.
std::string GuardedAttention::lse_damage() const { return lse_.damage(!spec_.lse); }

CheckResult GuardedAttention::check(const AttentionCheckOptions& options, Stream stream) {
  synchronize(device_, stream);
  o_.guarded().download(stream);
  lse_.download(stream);
  const auto* lse = spec_.lse ? static_cast<const float*>(lse_.downloaded()) : nullptr;
  CheckResult result = check_attention_result(host_call(), o_.guarded().downloaded(), lse, options);
  const auto add_damage = [&](const std::string& damage) {
    if (damage.empty()) return;
    result.sentence = result.ok ? damage : result.sentence + "; " + damage;
    result.ok = false;
  };
  add_damage(o_.damage(false));
  add_damage(lse_damage());
  add_damage(workspace_.damage(stream));
  for (HeadTensor* input : {&q_, &k_, &v_}) {
    input->guarded().download(stream);
    add_damage(input->damage(true));
  }
  return result;
}

std::vector<unsigned char> GuardedAttention::output_bytes(Stream stream) {
  synchronize(device_, stream);
  o_.guarded().download(stream);
  lse_.download(stream);
  std::vector<unsigned char> bytes = o_.guarded().downloaded_bytes();
  const std::vector<unsigned char>& more = lse_.downloaded_bytes();
  bytes.insert(bytes.end(), more.begin(), more.end());
  return bytes;
}

}  // namespace triage::verdict
