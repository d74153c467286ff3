#include "verdict/attention_backward_problem.h"

#include <fmt/format.h>

#include "cpu/parallel.h"

namespace triage::verdict {
namespace {

/// The layout of gradients: another order of the dimensions, another distance of rows.
AttentionSpec gradient_layout(const AttentionSpec& spec) {
  AttentionSpec other = spec;
  other.order = spec.order == HeadOrder::bshd   ? HeadOrder::bhsd
                : spec.order == HeadOrder::bhsd ? HeadOrder::sbhd
                                                : HeadOrder::bshd;
  if (spec.extra_stride > 0) other.extra_stride = spec.extra_stride + 8;
  return other;
}

}  // namespace

std::string AttentionBackwardSpec::label() const {
  std::string text = AttentionSpec::label("attention.backward");
  if (d_lse) text += " d_lse";
  if (!d_q) text += " no_d_q";
  if (!d_k) text += " no_d_k";
  if (!d_v) text += " no_d_v";
  if (!deterministic) text += " nondeterministic";
  return text;
}

struct GuardedAttentionBackward::BackwardArguments : Arguments {
  HeadTensor::View d_o, d_q, d_k, d_v;
  DLTensor d_lse, d_sinks;
  AttentionBackwardInputs inputs;
  AttentionBackwardOutputs outputs;
  GradientOrder order;

  explicit BackwardArguments(const GuardedAttentionBackward& problem)
      : Arguments(problem),
        d_o(problem.d_o_, problem.packed_q()),
        d_q(problem.d_q_, problem.packed_q()),
        d_k(problem.d_k_, problem.packed_k()),
        d_v(problem.d_v_, problem.packed_k()) {
    const AttentionBackwardSpec& spec = problem.backward_spec_;
    d_lse = problem.d_lse_.view();
    d_lse.ndim = lse.ndim;
    d_lse.shape = lse_shape;
    d_lse.strides = lse_strides;
    d_sinks = problem.d_sinks_.view();
    inputs = {&q.tensor, &k.tensor, &v.tensor, &o.tensor, &lse, &d_o.tensor, spec.d_lse ? &d_lse : nullptr};
    outputs = {spec.d_q ? &d_q.tensor : nullptr, spec.d_k ? &d_k.tensor : nullptr, spec.d_v ? &d_v.tensor : nullptr,
               spec.sinks ? &d_sinks : nullptr};
    order = spec.deterministic ? GradientOrder::deterministic : GradientOrder::nondeterministic;
  }
};

GuardedAttentionBackward::GuardedAttentionBackward(const AttentionBackwardSpec& spec, DLDevice device, Stream stream)
    : GuardedAttention(spec, device, stream, false), backward_spec_(spec) {
  const AttentionSpec layout = gradient_layout(spec);
  const auto like = [&](const char* name, const AttentionSpec& how, const HeadTensor& other, int dim, int number) {
    HeadTensor made(name, device, how, other.outer(), other.length(), other.heads(), dim, how.padding,
                    random_bits(spec.seed, static_cast<std::uint64_t>(200 + number)));
    made.use_rows_of(other);
    return made;
  };
  d_o_ = like("d_o", spec, o_, spec.head_dim_v, 0);
  d_q_ = like("d_q", layout, q_, spec.head_dim, 1);
  d_k_ = like("d_k", layout, k_, spec.head_dim, 2);
  d_v_ = like("d_v", layout, v_, spec.head_dim_v, 3);
  const DLTensor lse = lse_.view();
  d_lse_ = GuardedTensor("d_lse", device, DType::float32, {lse.shape[0], lse.shape[1]}, lse_.stride(), spec.offset,
                         random_bits(spec.seed, 210));
  d_sinks_ = GuardedTensor("d_sinks", device, DType::float32, {spec.heads}, 0, 0, random_bits(spec.seed, 211));
  fill_inputs(spec.seed, stream);
  const BackwardArguments arguments(*this);
  backward_workspace_ = GuardedWorkspace(
      device, attention_backward_workspace_bytes(arguments.inputs, arguments.outputs, arguments.options, arguments.order),
      stream);
  reset_output(stream);
}

void GuardedAttentionBackward::fill_inputs(std::uint64_t seed, Stream stream) {
  fill(seed);
  d_o_.fill(spec_.values, random_bits(seed, 220));
  const DLTensor lse = lse_.view();
  fill_random(DType::float32, d_lse_.host(), lse.shape[0], lse.shape[1], d_lse_.stride(), random_bits(seed, 221),
              ValueKind::centred);
  const AttentionCall call = host_call();
  const AttentionOracle oracle(call);
  cpu::parallel_for(cpu::available_threads(), oracle.row_count(), [&](std::int64_t i, int) {
    const AttentionRow row = oracle.row(i);
    AttentionRowResult result;
    oracle.compute(row, &result);
    for (int c = 0; c < spec_.head_dim_v; ++c)
      write_element(spec_.dtype, o_.guarded().host(), oracle.output_offset(row) + c, result.plain[c]);
    static_cast<float*>(lse_.host())[oracle.lse_offset(row)] = static_cast<float>(result.plain_lse);
  });
  upload_inputs(stream);
  o_.guarded().upload(stream);
  lse_.upload(stream);
  d_o_.guarded().upload(stream);
  d_lse_.upload(stream);
}

void GuardedAttentionBackward::reset_output(Stream stream) {
  for (HeadTensor* gradient : {&d_q_, &d_k_, &d_v_}) gradient->guarded().upload(stream);
  d_sinks_.upload(stream);
  backward_workspace_.poison(stream);
}

void GuardedAttentionBackward::run(Stream stream) {
  const BackwardArguments arguments(*this);
  attention_backward(arguments.inputs, arguments.outputs, arguments.options, arguments.order,
                     backward_workspace_.view(), stream);
}

void GuardedAttentionBackward::refill(std::uint64_t seed, Stream stream) {
  refill_pattern(seed, stream);
  fill_inputs(seed, stream);
  reset_output(stream);
}

AttentionBackwardCall GuardedAttentionBackward::backward_host_call() const {
  AttentionBackwardCall call;
  call.forward = host_call();
  call.forward.lse = static_cast<float*>(const_cast<void*>(lse_.host()));
  call.d_o = d_o_.host_tensor(packed_q());
  call.d_q = d_q_.host_tensor(packed_q());
  call.d_k = d_k_.host_tensor(packed_k());
  call.d_v = d_v_.host_tensor(packed_k());
  if (backward_spec_.d_lse) {
    call.d_lse = static_cast<const float*>(d_lse_.host());
    call.d_lse_batch_stride = call.forward.lse_batch_stride;
    call.d_lse_head_stride = call.forward.lse_head_stride;
  }
  return call;
}

CheckResult GuardedAttentionBackward::check(const AttentionCheckOptions& options, Stream stream) {
  synchronize(device_, stream);
  const AttentionBackwardSpec& spec = backward_spec_;
  for (HeadTensor* gradient : {&d_q_, &d_k_, &d_v_}) gradient->guarded().download(stream);
  d_sinks_.download(stream);
  AttentionGradients got;
  if (spec.d_q) got.d_q = d_q_.guarded().downloaded();
  if (spec.d_k) got.d_k = d_k_.guarded().downloaded();
  if (spec.d_v) got.d_v = d_v_.guarded().downloaded();
  if (spec.sinks) got.d_sinks = static_cast<const float*>(d_sinks_.downloaded());
  CheckResult result = check_attention_gradients(backward_host_call(), got, options);
  const auto add_damage = [&](const std::string& damage) {
    if (damage.empty()) return;
    result.sentence = result.ok ? damage : result.sentence + "; " + damage;
    result.ok = false;
  };
  add_damage(d_q_.damage(!spec.d_q));
  add_damage(d_k_.damage(!spec.d_k));
  add_damage(d_v_.damage(!spec.d_v));
  add_damage(d_sinks_.damage(!spec.sinks));
  add_damage(backward_workspace_.damage(stream));
  for (HeadTensor* input : {&q_, &k_, &v_, &o_, &d_o_}) {
    input->guarded().download(stream);
    add_damage(input->damage(true));
  }
  for (GuardedTensor* input : {&lse_, &d_lse_, &sinks_}) {
    input->download(stream);
    add_damage(input->damage(true));
  }
  return result;
}

std::vector<unsigned char> GuardedAttentionBackward::output_bytes(Stream stream) {
  synchronize(device_, stream);
  std::vector<unsigned char> bytes;
  for (GuardedTensor* gradient : {&d_q_.guarded(), &d_k_.guarded(), &d_v_.guarded(), &d_sinks_}) {
    gradient->download(stream);
    bytes.insert(bytes.end(), gradient->downloaded_bytes().begin(), gradient->downloaded_bytes().end());
  }
  return bytes;
}

double GuardedAttentionBackward::element(const void* data, const AttentionTensor& layout, std::int64_t b,
                                         std::int64_t i, std::int64_t head, int column) const {
  return read_element(spec_.dtype, data,
                      b * layout.batch_stride + i * layout.sequence_stride + head * layout.head_stride + column);
}
double GuardedAttentionBackward::d_o_element(std::int64_t b, std::int64_t i, std::int64_t head, int column) const {
  return element(d_o_.guarded().host(), d_o_.host_tensor(false), b, i, head, column);
}
double GuardedAttentionBackward::d_q_element(std::int64_t b, std::int64_t i, std::int64_t head, int column) const {
  return element(d_q_.guarded().downloaded(), d_q_.host_tensor(false), b, i, head, column);
}
double GuardedAttentionBackward::d_v_element(std::int64_t b, std::int64_t j, std::int64_t head, int column) const {
  return element(d_v_.guarded().downloaded(), d_v_.host_tensor(false), b, j, head, column);
}

}  // namespace triage::verdict
