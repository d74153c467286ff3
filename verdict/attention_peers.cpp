// Attention's peers that C++ reaches: cuDNN.
#if TRIAGE_HAS_CUDA

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "device/memory.h"
#include "verdict/attention_timed_problem.h"
#include "verdict/cudnn.h"
#include "verdict/gpu_kernels.h"
#include "verdict/random_inputs.h"
#include "verdict/peers.h"

namespace triage::verdict {
namespace {

constexpr const char* kName = "cudnn_attention";

/// What a plan and the results need, kept while the peer lives.
struct CudnnMemory {
  std::shared_ptr<Cudnn::Plan> plan;
  Buffer first, second, third, workspace;  ///< forward: O and lse; backward: d_q, d_k and d_v
};

TriageCudnnAttention form_of(const TimedAttention& problem) {
  const bench::AttentionShape& s = problem.shape();
  if (s.varlen || s.page_size > 0 || s.sinks || s.softcap > 0 || s.block > 0 || s.window_right >= 0) {
    throw std::runtime_error("it is timed on dense, causal and windowed attention of equal lengths alone");
  }
  return {s.batch,
          s.heads,
          s.kv_heads,
          s.seqlen_q,
          s.seqlen_k,
          s.head_dim,
          s.head_dim_v,
          problem.dtype() == DType::bfloat16,
          s.causal,
          s.window_left,
          static_cast<float>(1.0 / std::sqrt(static_cast<double>(s.head_dim)))};
}

std::int64_t elements_of(const bench::AttentionShape& s, int which) {
  return which == 0 ? s.total_q() * s.heads * s.head_dim
                    : s.total_k() * s.kv_heads * (which == 1 ? s.head_dim : s.head_dim_v);
}

double difference(TimedAttention& problem, const void* theirs, const void* ours, std::int64_t elements, int columns) {
  return gpu_relative_difference(problem.dtype(), {theirs, columns, 1}, {ours, columns, 1}, elements / columns, columns,
                                 problem.stream());
}

/// The peer, or why there is none. @param make fills in `run`, `difference` and the results' memory
template <class Make>
PeerList cudnn_peer(TimedAttention& problem, double flops, bool backward, const Make& make) {
  PeerList peers;
  try {
    Cudnn* const cudnn = Cudnn::find();
    if (cudnn == nullptr) throw std::runtime_error(Cudnn::absence());
    auto memory = std::make_shared<CudnnMemory>();
    memory->plan = cudnn->plan(form_of(problem), backward);
    const auto buffer = [&](std::int64_t bytes) {
      return Buffer(problem.device(), static_cast<std::size_t>(std::max<std::int64_t>(bytes, 1)), problem.stream());
    };
    memory->workspace = buffer(static_cast<std::int64_t>(memory->plan->workspace_bytes()));
    Peer peer;
    peer.name = kName;
    peer.version = cudnn->version();
    peer.flops = flops;
    peer.memory = memory;
    make(peer, *memory, buffer);
    peers.present.push_back(std::move(peer));
  } catch (const std::exception& error) {
    peers.absent.push_back({kName, error.what()});
  }
  return peers;
}

}  // namespace

PeerList attention_peers(TimedAttention& problem, double flops) {
  return cudnn_peer(problem, flops, false, [&problem](Peer& peer, CudnnMemory& memory, const auto& buffer) {
    const bench::AttentionShape& s = problem.shape();
    const std::int64_t rows = s.total_q() * s.heads;
    memory.first = buffer(rows * s.head_dim_v * dtype_bytes(problem.dtype()));
    memory.second = buffer(rows * 4);
    peer.run = [&problem, &memory](int copy) {
      const TimedAttention::Tensors t = problem.tensors(copy);
      memory.plan->run({t.q, t.k, t.v, memory.first.data(), memory.second.data(), nullptr, nullptr, nullptr, nullptr,
                        memory.workspace.data(), problem.stream()});
    };
    peer.difference = [&problem, &memory, rows] {
      const int columns = problem.shape().head_dim_v;
      return difference(problem, memory.first.data(), problem.tensors(0).o, rows * columns, columns);
    };
  });
}

PeerList attention_peers(TimedAttentionBackward& problem, double flops) {
  return cudnn_peer(problem.forward(), flops, true, [&problem](Peer& peer, CudnnMemory& memory, const auto& buffer) {
    TimedAttention& forward = problem.forward();
    Buffer* const results[3] = {&memory.first, &memory.second, &memory.third};
    for (int i = 0; i < 3; ++i) *results[i] = buffer(elements_of(forward.shape(), i) * dtype_bytes(forward.dtype()));
    peer.run = [&problem, &memory](int copy) {
      const TimedAttention::Tensors t = problem.forward().tensors(copy);
      memory.plan->run({t.q, t.k, t.v, t.o, t.lse, problem.d_o(copy), memory.first.data(), memory.second.data(),
                        memory.third.data(), memory.workspace.data(), problem.forward().stream()});
    };
    peer.difference = [&problem, &memory] {
      TimedAttention& forward = problem.forward();
      const bench::AttentionShape& s = forward.shape();
      const Buffer* const theirs[3] = {&memory.first, &memory.second, &memory.third};
      double worst = 0;
      for (int i = 0; i < 3; ++i) {
        worst = std::max(worst, difference(forward, theirs[i]->data(), problem.gradient(0, i), elements_of(s, i),
                                           i == 2 ? s.head_dim_v : s.head_dim));
      }
      return worst;
    };
  });
}

}  // namespace triage::verdict

#endif
