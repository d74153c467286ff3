#include <cstdlib>
#include <optional>
#include <string>

#include "verdict/attention_timed_arguments.h"
#include "verdict/operands.h"
#include "verdict/timed_problem.h"

namespace triage::verdict {
namespace {

constexpr std::uint64_t kOutputGradient = 25;  // beside the streams of the forward's operands

/// No kernel is forced while this lives.
class Unforced {
 public:
  Unforced() {
    if (const char* name = std::getenv(kVariable)) name_ = name;
    unsetenv(kVariable);
  }
  ~Unforced() {
    if (name_) setenv(kVariable, name_->c_str(), 1);
  }
  Unforced(const Unforced&) = delete;
  Unforced& operator=(const Unforced&) = delete;

 private:
  static constexpr const char* kVariable = "TRIAGE_FORCE_KERNEL";
  std::optional<std::string> name_;
};

}  // namespace

// The forward's views, and of the same shapes those of the gradients.
struct TimedAttentionBackward::Arguments : TimedAttention::Arguments {
  DLTensor d_o, d_q, d_k, d_v, d_sinks;
  AttentionBackwardInputs inputs;
  AttentionBackwardOutputs outputs;

  Arguments(TimedAttentionBackward& p, int copy) : TimedAttention::Arguments(*p.forward_, copy) {
    const auto at = static_cast<std::size_t>(copy);
    char* const gradients = static_cast<char*>(p.gradients_[at].data());
    const auto like = [](const DLTensor& other, void* data) {
      DLTensor tensor = other;
      tensor.data = data;
      return tensor;
    };
    d_o = like(o.tensor, p.d_o_[at].data());
    d_q = like(q.tensor, gradients + p.begins_[0]);
    d_k = like(k.tensor, gradients + p.begins_[1]);
    d_v = like(v.tensor, gradients + p.begins_[2]);
    d_sinks = like(sinks.tensor, gradients + p.begins_[3]);
    inputs = {&q.tensor, &k.tensor, &v.tensor, &o.tensor, &lse.tensor, &d_o, nullptr};
    outputs = {&d_q, &d_k, &d_v, options.sinks != nullptr ? &d_sinks : nullptr};
  }
};

TimedAttentionBackward::TimedAttentionBackward(const bench::AttentionShape& shape, DLDevice device, std::uint64_t seed,
                                               int copies, Stream stream) {
  const Unforced unforced;
  forward_ = std::make_unique<TimedAttention>(shape, device, seed, copies, stream);
  const TimedAttention& f = *forward_;
  const std::size_t sizes[4] = {f.q_.front().bytes(), f.k_.front().bytes(), f.v_.front().bytes(), f.sinks_.bytes()};
  for (int i = 0; i < 4; ++i) begins_[i + 1] = begins_[i] + (sizes[i] + 255) / 256 * 256;
  for (int copy = 0; copy < copies; ++copy) {
    d_o_.push_back(f.make(f.o_.front().bytes()));
    fill_centred(f.dtype_, d_o_.back().data(), shape.total_q() * shape.heads, shape.head_dim_v,
                 seed * 32 + kOutputGradient, device, stream);
    gradients_.push_back(f.make(begins_[4]));
    forward_->run(copy);
  }
  synchronize(device, stream);
}

void TimedAttentionBackward::run(int copy) {
  const Arguments arguments(*this, copy % copies());
  const GradientOrder order =
      forward_->shape_.any_order ? GradientOrder::nondeterministic : GradientOrder::deterministic;
  if (workspace_.bytes() == 0) {  // the first call is not timed
    workspace_ = forward_->make(
        attention_backward_workspace_bytes(arguments.inputs, arguments.outputs, arguments.options, order));
  }
  attention_backward(arguments.inputs, arguments.outputs, arguments.options, order,
                     {workspace_.data(), workspace_.bytes()}, forward_->stream_);
}

void TimedAttentionBackward::poison_outputs() {
  for (const Buffer& buffer : gradients_) poison(buffer.data(), buffer.bytes(), forward_->device_, forward_->stream_);
  if (workspace_.bytes() > 0) {
    poison(workspace_.data(), workspace_.bytes(), forward_->device_, forward_->stream_);
  }
}

CheckResult TimedAttentionBackward::check(int copy, double operations, std::uint64_t seed) {
  const auto at = static_cast<std::size_t>(copy);
  const TimedAttention::HostCopy host = forward_->download_copy(copy);
  std::vector<char> d_o = forward_->download(d_o_[at]), gradients = forward_->download(gradients_[at]);
  synchronize(forward_->device_, forward_->stream_);
  const auto like = [](const AttentionTensor& other, void* data) {
    AttentionTensor tensor = other;
    tensor.data = data;
    return tensor;
  };
  AttentionBackwardCall call;
  call.forward = host.call;
  call.d_o = like(host.call.o, d_o.data());
  call.d_q = like(host.call.q, gradients.data() + begins_[0]);
  call.d_k = like(host.call.k, gradients.data() + begins_[1]);
  call.d_v = like(host.call.v, gradients.data() + begins_[2]);
  AttentionGradients got{call.d_q.data, call.d_k.data, call.d_v.data, nullptr};
  if (host.call.sinks != nullptr) got.d_sinks = reinterpret_cast<const float*>(gradients.data() + begins_[3]);
  return check_attention_gradients(call, got, {operations, seed});
}

}  // namespace triage::verdict
