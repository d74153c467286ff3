// libtriage_cudnn.so: scaled dot product attention through cuDNN's frontend (a graph of one operation, heuristics A).
#include "verdict/cudnn_module.h"

#include <cudnn_frontend.h>

#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>

namespace {

namespace fe = cudnn_frontend;
using Tensor = std::shared_ptr<fe::graph::Tensor_attributes>;

enum Uid : std::int64_t { kQ = 1, kK, kV, kO, kStats, kDO, kDQ, kDK, kDV };

thread_local std::string last_error;

struct Plan {
  std::unique_ptr<fe::graph::Graph> graph = std::make_unique<fe::graph::Graph>();
  bool backward = false;
};

/// One a thread: a handle belongs to the device that was current when it was made.
cudnnHandle_t handle() {
  thread_local cudnnHandle_t made = [] {
    cudnnHandle_t handle = nullptr;
    const cudnnStatus_t status = cudnnCreate(&handle);
    if (status != CUDNN_STATUS_SUCCESS)
      throw std::runtime_error(std::string("cudnnCreate: ") + cudnnGetErrorString(status));
    return handle;
  }();
  return made;
}

void require(fe::error_t error) {
  if (error.is_bad()) throw std::runtime_error(error.get_message());
}

template <class Attributes>
void set_mask(Attributes& attributes, const TriageCudnnAttention& problem) {
  attributes.set_attn_scale(problem.scale);
  if (problem.causal) {
    // With equal lengths both corners mean the same, and PyTorch asks for the upper left one. (With the lower right one
    // the backward ran at half of PyTorch's rate: cuDNN 9.19, H100, head_dim 64.)
    const auto corner = problem.seqlen_q == problem.seqlen_k ? fe::DiagonalAlignment_t::TOP_LEFT
                                                             : fe::DiagonalAlignment_t::BOTTOM_RIGHT;
    attributes.set_diagonal_alignment(corner).set_diagonal_band_right_bound(0);
  }
  // cuDNN counts the diagonal itself.
  if (problem.window_left >= 0) attributes.set_diagonal_band_left_bound(static_cast<int>(problem.window_left) + 1);
}

std::unique_ptr<Plan> make_plan(const TriageCudnnAttention& p, bool backward) {
  auto plan = std::make_unique<Plan>();
  plan->backward = backward;
  fe::graph::Graph& graph = *plan->graph;
  graph.set_io_data_type(p.bfloat16 ? fe::DataType_t::BFLOAT16 : fe::DataType_t::HALF)
      .set_intermediate_data_type(fe::DataType_t::FLOAT)
      .set_compute_data_type(fe::DataType_t::FLOAT);
  const auto describe = [&](fe::graph::Tensor_attributes& tensor, Uid uid, std::int64_t heads, std::int64_t rows,
                            std::int64_t columns) -> fe::graph::Tensor_attributes& {
    return tensor.set_uid(uid)
        .set_dim({p.batch, heads, rows, columns})
        .set_stride({rows * heads * columns, columns, heads * columns, 1});
  };
  const auto input = [&](const char* name, Uid uid, std::int64_t heads, std::int64_t rows, std::int64_t columns) {
    fe::graph::Tensor_attributes tensor;
    tensor.set_name(name);
    return graph.tensor(describe(tensor, uid, heads, rows, columns));
  };
  const auto output = [&](const Tensor& tensor, Uid uid, std::int64_t heads, std::int64_t rows, std::int64_t columns) {
    describe(*tensor, uid, heads, rows, columns).set_output(true);
  };
  const Tensor q = input("q", kQ, p.heads, p.seqlen_q, p.head_dim),
               k = input("k", kK, p.kv_heads, p.seqlen_k, p.head_dim),
               v = input("v", kV, p.kv_heads, p.seqlen_k, p.head_dim_v);
  const std::vector<std::int64_t> stats_dim{p.batch, p.heads, p.seqlen_q, 1},
      stats_stride{p.heads * p.seqlen_q, p.seqlen_q, 1, 1};
  if (!backward) {
    auto attributes = fe::graph::SDPA_attributes().set_name("attention").set_generate_stats(true);
    set_mask(attributes, p);
    const auto [o, stats] = graph.sdpa(q, k, v, attributes);
    output(o, kO, p.heads, p.seqlen_q, p.head_dim_v);
    stats->set_uid(kStats)
        .set_data_type(fe::DataType_t::FLOAT)
        .set_dim(stats_dim)
        .set_stride(stats_stride)
        .set_output(true);
  } else {
    const Tensor o = input("o", kO, p.heads, p.seqlen_q, p.head_dim_v),
                 d_o = input("d_o", kDO, p.heads, p.seqlen_q, p.head_dim_v);
    fe::graph::Tensor_attributes stats;
    stats.set_name("lse")
        .set_uid(kStats)
        .set_data_type(fe::DataType_t::FLOAT)
        .set_dim(stats_dim)
        .set_stride(stats_stride);
    auto attributes = fe::graph::SDPA_backward_attributes().set_name("attention backward");
    set_mask(attributes, p);
    const auto [d_q, d_k, d_v] = graph.sdpa_backward(q, k, v, o, d_o, graph.tensor(stats), attributes);
    output(d_q, kDQ, p.heads, p.seqlen_q, p.head_dim);
    output(d_k, kDK, p.kv_heads, p.seqlen_k, p.head_dim);
    output(d_v, kDV, p.kv_heads, p.seqlen_k, p.head_dim_v);
  }
  require(graph.build(handle(), {fe::HeurMode_t::A}));
  return plan;
}

void run_plan(Plan& plan, const TriageCudnnTensors& t) {
  const cudnnStatus_t status = cudnnSetStream(handle(), static_cast<cudaStream_t>(t.stream));
  if (status != CUDNN_STATUS_SUCCESS)
    throw std::runtime_error(std::string("cudnnSetStream: ") + cudnnGetErrorString(status));
  const auto address = [](const void* data) { return const_cast<void*>(data); };
  std::unordered_map<std::int64_t, void*> tensors{
      {kQ, address(t.q)}, {kK, address(t.k)}, {kV, address(t.v)}, {kO, t.o}, {kStats, t.lse}};
  if (plan.backward) tensors.insert({{kDO, address(t.d_o)}, {kDQ, t.d_q}, {kDK, t.d_k}, {kDV, t.d_v}});
  require(plan.graph->execute(handle(), tensors, t.workspace));
}

/// No exception passes a C function.
template <class Body>
auto guarded(Body body, decltype(body()) failed) -> decltype(body()) {
  try {
    return body();
  } catch (const std::exception& error) {
    last_error = error.what();
  } catch (...) {
    last_error = "an unknown failure";
  }
  return failed;
}

}  // namespace

#define TRIAGE_EXPORT extern "C" __attribute__((visibility("default")))

TRIAGE_EXPORT const char* triage_cudnn_version() {
  static const std::string version = [] {
    const std::size_t v = cudnnGetVersion();
    return std::to_string(v / 10000) + "." + std::to_string(v / 100 % 100) + "." + std::to_string(v % 100);
  }();
  return version.c_str();
}

TRIAGE_EXPORT void* triage_cudnn_plan(const TriageCudnnAttention* problem, int backward, std::size_t* workspace_bytes) {
  return guarded(
      [&]() -> void* {
        std::unique_ptr<Plan> plan = make_plan(*problem, backward != 0);
        *workspace_bytes = static_cast<std::size_t>(plan->graph->get_workspace_size());
        return plan.release();
      },
      nullptr);
}

TRIAGE_EXPORT int triage_cudnn_run(void* plan, const TriageCudnnTensors* tensors) {
  return guarded(
      [&] {
        run_plan(*static_cast<Plan*>(plan), *tensors);
        return 0;
      },
      1);
}

TRIAGE_EXPORT void triage_cudnn_destroy(void* plan) { delete static_cast<Plan*>(plan); }

TRIAGE_EXPORT const char* triage_cudnn_error() { return last_error.c_str(); }
