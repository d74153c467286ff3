#include "verdict/attention_timed_problem.h"

#include <algorithm>
#include <cmath>

#include "verdict/correctness_cases.h"
#include "verdict/operands.h"
#include "verdict/random_inputs.h"
#include "verdict/timed_problem.h"

namespace triage::verdict {
namespace {

// Seeds of the operands: different streams of one seed.
enum OperandStream : std::uint64_t { kQueries = 21, kKeys, kValues, kSinks };

}  // namespace

// The views and options of one call.
struct TimedAttention::Arguments {
  TensorView q, k, v, o, lse, cu_q, cu_k, used, sinks;
  std::int64_t table_shape[2];
  DLTensor table{};
  // TensorView has three dimensions at most; batched tensors have four.
  std::int64_t shapes[4][4];
  AttentionOptions options;

  Arguments(TimedAttention& p, int copy)
      : q(p.q_[static_cast<std::size_t>(copy)].data(), p.device_, dlpack_dtype(p.dtype_),
          {p.shape_.total_q(), p.shape_.heads, p.shape_.head_dim}),
        k(p.k_[static_cast<std::size_t>(copy)].data(), p.device_, dlpack_dtype(p.dtype_),
          {p.shape_.total_k(), p.shape_.kv_heads, p.shape_.head_dim}),
        v(p.v_[static_cast<std::size_t>(copy)].data(), p.device_, dlpack_dtype(p.dtype_),
          {p.shape_.total_k(), p.shape_.kv_heads, p.shape_.head_dim_v}),
        o(p.o_[static_cast<std::size_t>(copy)].data(), p.device_, dlpack_dtype(p.dtype_),
          {p.shape_.total_q(), p.shape_.heads, p.shape_.head_dim_v}),
        lse(p.lse_[static_cast<std::size_t>(copy)].data(), p.device_, {kDLFloat, 32, 1},
            p.shape_.varlen ? std::vector<std::int64_t>{p.shape_.heads, p.shape_.total_q()}
                            : std::vector<std::int64_t>{p.shape_.batch, p.shape_.heads, p.shape_.seqlen_q}),
        cu_q(p.cu_q_buffer_.data(), p.device_, {kDLInt, 32, 1}, {p.shape_.batch + 1}),
        cu_k(p.cu_k_buffer_.data(), p.device_, {kDLInt, 32, 1}, {p.shape_.batch + 1}),
        used(p.used_k_buffer_.data(), p.device_, {kDLInt, 32, 1}, {p.shape_.batch}),
        sinks(p.sinks_.data(), p.device_, {kDLFloat, 32, 1}, {p.shape_.heads}) {
    const bench::AttentionShape& s = p.shape_;
    options.causal = s.causal;
    options.window_left = s.window_left;
    options.window_right = s.window_right;
    options.softcap = static_cast<float>(s.softcap);
    if (s.sinks) options.sinks = &sinks.tensor;
    if (s.varlen) {
      options.cu_seqlens_q = &cu_q.tensor;
      options.cu_seqlens_k = &cu_k.tensor;
      options.max_seqlen_q = s.seqlen_q;
      options.max_seqlen_k = s.seqlen_k;
    } else {
      const std::int64_t outer = s.page_size > 0 ? p.pages_ : s.batch,
                         rows = s.page_size > 0 ? s.page_size : s.seqlen_k;
      batched(q, 0, s.batch, s.seqlen_q);
      batched(o, 1, s.batch, s.seqlen_q);
      batched(k, 2, outer, rows);
      batched(v, 3, outer, rows);
    }
    if (s.page_size > 0) {
      table_shape[0] = s.batch, table_shape[1] = p.pages_ / s.batch;
      table = cu_q.tensor;
      table.data = p.table_buffer_.data();
      table.ndim = 2;
      table.shape = table_shape;
      table.strides = nullptr;
      options.block_table = &table;
      options.seqused_k = &used.tensor;
    }
  }

 private:
  // [rows, heads, dim] as [outer, rows / outer, heads, dim]
  void batched(TensorView& view, int slot, std::int64_t outer, std::int64_t rows) {
    const std::int64_t lengths[4] = {outer, rows, view.shape[1], view.shape[2]};
    std::copy(lengths, lengths + 4, shapes[slot]);
    view.tensor.ndim = 4;
    view.tensor.shape = shapes[slot];
    view.tensor.strides = nullptr;
  }
};

TimedAttention::TimedAttention(const bench::AttentionShape& shape, DLDevice device, std::uint64_t seed, int copies,
                               Stream stream)
    : shape_(shape), dtype_(dtype_from_name(shape.dtype)), device_(device), stream_(stream) {
  const std::size_t size = static_cast<std::size_t>(dtype_bytes(dtype_));
  const std::int64_t q_rows = shape.total_q() * shape.heads, k_rows = shape.total_k() * shape.kv_heads;
  const auto filled = [&](std::int64_t rows, std::int64_t cols, OperandStream operand) {
    Buffer buffer = make(static_cast<std::size_t>(rows * cols) * size);
    fill_centred(dtype_, buffer.data(), rows, cols, seed * 32 + operand, device_, stream_);
    return buffer;
  };
  for (int copy = 0; copy < copies; ++copy) {
    q_.push_back(filled(q_rows, shape.head_dim, kQueries));
    k_.push_back(filled(k_rows, shape.head_dim, kKeys));
    v_.push_back(filled(k_rows, shape.head_dim_v, kValues));
    o_.push_back(make(static_cast<std::size_t>(q_rows * shape.head_dim_v) * size));
    lse_.push_back(make(static_cast<std::size_t>(q_rows) * 4));
  }
  std::vector<float> sinks(static_cast<std::size_t>(shape.heads));
  fill_centred(DType::float32, sinks.data(), 1, shape.heads, seed * 32 + kSinks, {kDLCPU, 0}, nullptr);
  sinks_ = make(sinks.size() * 4);
  copy_bytes(sinks_.data(), device_, sinks.data(), {kDLCPU, 0}, sinks.size() * 4, stream_, "upload of the sinks");
  synchronize(device_, stream_);
  if (shape.varlen) {
    cu_q_ = cu_k_ = {0};
    for (std::int64_t b = 0; b < shape.batch; ++b) {
      cu_q_.push_back(cu_q_.back() + static_cast<std::int32_t>(shape.q_length(b)));
      cu_k_.push_back(cu_k_.back() + static_cast<std::int32_t>(shape.k_length(b)));
    }
  }
  if (shape.page_size > 0) {
    pages_ = shape.total_k() / shape.page_size;
    used_k_.assign(static_cast<std::size_t>(shape.batch), static_cast<std::int32_t>(shape.seqlen_k));
    for (std::int64_t page = 0; page < pages_; ++page) table_.push_back(static_cast<std::int32_t>(page));
    Random random(seed);
    for (std::size_t i = table_.size(); i > 1; --i)
      std::swap(table_[i - 1], table_[static_cast<std::size_t>(random.integer(0, static_cast<std::int64_t>(i) - 1))]);
  }
  cu_q_buffer_ = upload(cu_q_);
  cu_k_buffer_ = upload(cu_k_);
  used_k_buffer_ = upload(used_k_);
  table_buffer_ = upload(table_);
  Arguments arguments(*this, 0);
  workspace_ = make(attention_forward_workspace_bytes(arguments.q.tensor, arguments.k.tensor, arguments.v.tensor,
                                                      arguments.o.tensor, &arguments.lse.tensor, arguments.options));
}

Buffer TimedAttention::make(std::size_t bytes) const {
  return Buffer(device_, std::max<std::size_t>(bytes, 1), stream_);
}

Buffer TimedAttention::upload(const std::vector<std::int32_t>& data) const {
  Buffer buffer = make(data.size() * 4);
  copy_bytes(buffer.data(), device_, data.data(), {kDLCPU, 0}, data.size() * 4, stream_, "upload of an index array");
  synchronize(device_, stream_);
  return buffer;
}

std::vector<char> TimedAttention::download(const Buffer& buffer) const {
  std::vector<char> bytes(buffer.bytes());
  copy_bytes(bytes.data(), {kDLCPU, 0}, buffer.data(), device_, bytes.size(), stream_, "download of a tensor");
  return bytes;
}

void TimedAttention::run(int copy) {
  Arguments arguments(*this, copy % copies());
  attention_forward(arguments.q.tensor, arguments.k.tensor, arguments.v.tensor, arguments.o.tensor,
                    &arguments.lse.tensor, arguments.options, {workspace_.data(), workspace_.bytes()}, stream_);
}

void TimedAttention::poison_outputs() {
  for (const std::vector<Buffer>* buffers : {&o_, &lse_}) {
    for (const Buffer& buffer : *buffers) poison(buffer.data(), buffer.bytes(), device_, stream_);
  }
  poison(workspace_.data(), workspace_.bytes(), device_, stream_);
}

std::size_t TimedAttention::output_bytes() const { return o_.front().bytes(); }

CheckResult TimedAttention::check(int copy, double operations, std::uint64_t seed) {
  const auto index = static_cast<std::size_t>(copy);
  const std::vector<char> q = download(q_[index]), k = download(k_[index]), v = download(v_[index]),
                          o = download(o_[index]), lse = download(lse_[index]), sinks = download(sinks_);
  synchronize(device_, stream_);
  AttentionCall call;
  AttentionProblem& p = call.problem;
  const bench::AttentionShape& s = shape_;
  p.dtype = dtype_;
  p.batch = s.batch;
  p.heads = s.heads;
  p.kv_heads = s.kv_heads;
  p.seqlen_q = s.seqlen_q;
  p.seqlen_k = s.seqlen_k;
  p.head_dim = s.head_dim;
  p.head_dim_v = s.head_dim_v;
  p.window_left = s.window_left;
  p.window_right = s.causal ? 0 : s.window_right;
  p.softcap = static_cast<float>(s.softcap);
  p.page_size = s.page_size;
  const auto tensor = [&](const std::vector<char>& bytes, std::int64_t rows, std::int64_t heads, std::int64_t dim) {
    return AttentionTensor{const_cast<char*>(bytes.data()), s.varlen ? 0 : rows * heads * dim, heads * dim, dim};
  };
  const std::int64_t k_rows = s.page_size > 0 ? s.page_size : s.seqlen_k;
  call.q = tensor(q, s.seqlen_q, s.heads, s.head_dim);
  call.k = tensor(k, k_rows, s.kv_heads, s.head_dim);
  call.v = tensor(v, k_rows, s.kv_heads, s.head_dim_v);
  call.o = tensor(o, s.seqlen_q, s.heads, s.head_dim_v);
  call.lse_head_stride = s.varlen ? s.total_q() : s.seqlen_q;
  call.lse_batch_stride = s.varlen ? 0 : s.heads * s.seqlen_q;
  call.softmax_scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(s.head_dim)));
  if (s.varlen) call.cu_seqlens_q = cu_q_.data(), call.cu_seqlens_k = cu_k_.data();
  if (s.page_size > 0) {
    call.seqused_k = used_k_.data();
    call.block_table = table_.data();
    call.block_table_stride = pages_ / s.batch;
  }
  if (s.sinks) call.sinks = reinterpret_cast<const float*>(sinks.data());
  return check_attention_result(call, o.data(), reinterpret_cast<const float*>(lse.data()), {operations, seed});
}

}  // namespace triage::verdict
