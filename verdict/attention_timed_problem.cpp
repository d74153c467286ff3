#include "verdict/attention_timed_problem.h"

#include <algorithm>
#include <cmath>

#include "verdict/attention_timed_arguments.h"
#include "verdict/correctness_cases.h"
#include "verdict/operands.h"
#include "verdict/random_inputs.h"
#include "verdict/timed_problem.h"

namespace triage::verdict {
namespace {

// Seeds of the operands: different streams of one seed.
enum OperandStream : std::uint64_t { kQueries = 21, kKeys, kValues, kSinks };

}  // namespace

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
  if (shape.block > 0) {
    PatternSpec spec;
    spec.block_q = spec.block_k = shape.block;
    spec.kind = shape.pattern;
    spec.density = shape.density;
    spec.heads = shape.heads;
    blocks_ = GuardedPattern(spec, shape.seqlen_q, shape.seqlen_k, device_, shape.kPatternSeed, stream_);
  }
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

TimedAttention::Tensors TimedAttention::tensors(int copy) {
  const auto at = static_cast<std::size_t>(copy % copies());
  return {q_[at].data(), k_[at].data(), v_[at].data(), o_[at].data(), lse_[at].data()};
}

TimedAttention::HostCopy TimedAttention::download_copy(int copy) const {
  const auto index = static_cast<std::size_t>(copy);
  HostCopy host{download(q_[index]), download(k_[index]),   download(v_[index]),
                download(o_[index]), download(lse_[index]), download(sinks_),
                {}};
  synchronize(device_, stream_);
  AttentionCall& call = host.call;
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
  const auto tensor = [&](std::vector<char>& bytes, std::int64_t rows, std::int64_t heads, std::int64_t dim) {
    return AttentionTensor{bytes.data(), s.varlen ? 0 : rows * heads * dim, heads * dim, dim};
  };
  const std::int64_t k_rows = s.page_size > 0 ? s.page_size : s.seqlen_k;
  call.q = tensor(host.q, s.seqlen_q, s.heads, s.head_dim);
  call.k = tensor(host.k, k_rows, s.kv_heads, s.head_dim);
  call.v = tensor(host.v, k_rows, s.kv_heads, s.head_dim_v);
  call.o = tensor(host.o, s.seqlen_q, s.heads, s.head_dim_v);
  call.lse = reinterpret_cast<float*>(host.lse.data());
  call.lse_head_stride = s.varlen ? s.total_q() : s.seqlen_q;
  call.lse_batch_stride = s.varlen ? 0 : s.heads * s.seqlen_q;
  call.softmax_scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(s.head_dim)));
  if (s.varlen) call.cu_seqlens_q = cu_q_.data(), call.cu_seqlens_k = cu_k_.data();
  if (s.page_size > 0) {
    call.seqused_k = used_k_.data();
    call.block_table = table_.data();
    call.block_table_stride = pages_ / s.batch;
  }
  if (s.sinks) call.sinks = reinterpret_cast<const float*>(host.sinks.data());
  if (s.block > 0) call.mask = blocks_.host_mask(s.heads);
  return host;
}

CheckResult TimedAttention::check(int copy, double operations, std::uint64_t seed) {
  const HostCopy host = download_copy(copy);
  return check_attention_result(host.call, host.o.data(), reinterpret_cast<const float*>(host.lse.data()),
                                {operations, seed});
}

}  // namespace triage::verdict
