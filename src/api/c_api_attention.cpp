// The C ABI of attention and its patterns.
#include <string>
#include <utility>

#include "api/c_call.h"
#include "triage/c_api.h"
#include "triage/triage.h"

namespace {

using namespace triage::c_call;
using triage::AttentionPattern;
using triage::ErrorCode;

static_assert(TRIAGE_GRADIENT_NONDETERMINISTIC == static_cast<int>(triage::GradientOrder::nondeterministic));

triage::AttentionOptions from_c(const triage_attention_options* options) {
  triage::AttentionOptions result;
  if (options == nullptr) return result;
  if (options->causal != 0 && options->causal != 1) {
    throw triage::Error(ErrorCode::invalid_argument,
                        "options.causal is " + std::to_string(options->causal) + ", accepted: 0 or 1");
  }
  result.softmax_scale = options->softmax_scale;
  result.causal = options->causal == 1;
  result.window_left = options->window_left;
  result.window_right = options->window_right;
  result.softcap = options->softcap;
  result.cu_seqlens_q = options->cu_seqlens_q;
  result.cu_seqlens_k = options->cu_seqlens_k;
  result.max_seqlen_q = options->max_seqlen_q;
  result.max_seqlen_k = options->max_seqlen_k;
  result.seqused_k = options->seqused_k;
  result.block_table = options->block_table;
  result.sinks = options->sinks;
  result.num_splits = options->num_splits;
  if (options->pattern != nullptr) result.pattern = &options->pattern->pattern;
  return result;
}

triage::AttentionBackwardInputs from_c(const triage_attention_backward_inputs& inputs) {
  return {inputs.q, inputs.k, inputs.v, inputs.o, inputs.lse, inputs.d_o, inputs.d_lse};
}

triage::AttentionBackwardOutputs from_c(const triage_attention_backward_outputs& outputs) {
  return {outputs.d_q, outputs.d_k, outputs.d_v, outputs.d_sinks};
}

triage::AttentionBlockLists from_c(const triage_attention_block_lists& lists) {
  return {lists.indices, lists.counts, lists.full_indices, lists.full_counts};
}

template <typename Make>
triage_status create(triage_attention_pattern** pattern, const Make& make) noexcept {
  return guarded([&] {
    triage_attention_pattern*& slot = require(pattern, "pattern");
    slot = new triage_attention_pattern{make()};
  });
}

}  // namespace

triage_status triage_attention_pattern_from_mask(const DLTensor* mask, int64_t seqlen_q, int64_t seqlen_k, int block_q,
                                                 int block_k, void* stream, triage_attention_pattern** pattern) {
  return create(pattern, [&] {
    return AttentionPattern::from_mask(require(mask, "mask"), seqlen_q, seqlen_k, block_q, block_k, stream);
  });
}

triage_status triage_attention_pattern_from_lists(const triage_attention_block_lists* lists, int64_t seqlen_q,
                                                  int64_t seqlen_k, int block_q, int block_k, void* stream,
                                                  triage_attention_pattern** pattern) {
  return create(pattern, [&] {
    return AttentionPattern::from_lists(from_c(require(lists, "lists")), seqlen_q, seqlen_k, block_q, block_k, stream);
  });
}

triage_status triage_attention_pattern_from_csr(const DLTensor* crow_indices, const DLTensor* col_indices,
                                                int64_t seqlen_q, int64_t seqlen_k, int block_q, int block_k,
                                                void* stream, triage_attention_pattern** pattern) {
  return create(pattern, [&] {
    return AttentionPattern::from_csr(require(crow_indices, "crow_indices"), require(col_indices, "col_indices"),
                                      seqlen_q, seqlen_k, block_q, block_k, stream);
  });
}

triage_status triage_attention_pattern_from_pattern(const triage_pattern* blocks, void* stream,
                                                    triage_attention_pattern** pattern) {
  return create(pattern, [&] { return AttentionPattern::from_pattern(require(blocks, "blocks").pattern, stream); });
}

void triage_attention_pattern_destroy(triage_attention_pattern* pattern) { delete pattern; }

triage_status triage_attention_pattern_update_mask(triage_attention_pattern* pattern, const DLTensor* mask,
                                                   void* stream) {
  return guarded([&] { require(pattern, "pattern").pattern.update_mask(require(mask, "mask"), stream); });
}

triage_status triage_attention_pattern_update_lists(triage_attention_pattern* pattern,
                                                    const triage_attention_block_lists* lists, void* stream) {
  return guarded([&] { require(pattern, "pattern").pattern.update_lists(from_c(require(lists, "lists")), stream); });
}

triage_status triage_attention_pattern_update_csr(triage_attention_pattern* pattern, const DLTensor* crow_indices,
                                                  const DLTensor* col_indices, void* stream) {
  return guarded([&] {
    require(pattern, "pattern")
        .pattern.update_csr(require(crow_indices, "crow_indices"), require(col_indices, "col_indices"), stream);
  });
}

triage_status triage_attention_pattern_set_elements(triage_attention_pattern* pattern, const DLTensor* index,
                                                    const DLTensor* elements, void* stream) {
  return guarded([&] {
    require(pattern, "pattern").pattern.set_elements(require(index, "index"), require(elements, "elements"), stream);
  });
}

triage_status triage_attention_pattern_to_mask(const triage_attention_pattern* pattern, const DLTensor* mask,
                                               void* stream) {
  return guarded([&] { require(pattern, "pattern").pattern.to_mask(require(mask, "mask"), stream); });
}

triage_status triage_attention_pattern_get_info(const triage_attention_pattern* pattern,
                                                triage_attention_pattern_info* info) {
  return guarded([&] {
    const AttentionPattern& p = require(pattern, "pattern").pattern;
    require(info, "info") = {
        p.batch(), p.heads(), p.seqlen_q(), p.seqlen_k(), p.block_q(), p.block_k(), p.has_elements() ? 1 : 0,
        p.device()};
  });
}

triage_attention_options triage_attention_defaults(void) {
  const triage::AttentionOptions o;
  return {o.softmax_scale, o.causal,       o.window_left, o.window_right, o.softcap, o.cu_seqlens_q, o.cu_seqlens_k,
          o.max_seqlen_q,  o.max_seqlen_k, o.seqused_k,   o.block_table,  o.sinks,   o.num_splits,   nullptr};
}

triage_status triage_attention_forward(const DLTensor* q, const DLTensor* k, const DLTensor* v, const DLTensor* o,
                                       const DLTensor* lse, const triage_attention_options* options,
                                       const triage_workspace* workspace, void* stream) {
  return guarded([&] {
    triage::attention_forward(require(q, "q"), require(k, "k"), require(v, "v"), require(o, "o"), lse, from_c(options),
                              from_c(workspace), stream);
  });
}

triage_status triage_attention_forward_workspace_bytes(const DLTensor* q, const DLTensor* k, const DLTensor* v,
                                                       const DLTensor* o, const DLTensor* lse,
                                                       const triage_attention_options* options, size_t* bytes) {
  return guarded([&] {
    require(bytes, "bytes") = triage::attention_forward_workspace_bytes(
        require(q, "q"), require(k, "k"), require(v, "v"), require(o, "o"), lse, from_c(options));
  });
}

triage_status triage_attention_backward(const triage_attention_backward_inputs* inputs,
                                        const triage_attention_backward_outputs* outputs,
                                        const triage_attention_options* options, int32_t gradient_order,
                                        const triage_workspace* workspace, void* stream) {
  return guarded([&] {
    triage::attention_backward(from_c(require(inputs, "inputs")), from_c(require(outputs, "outputs")), from_c(options),
                               static_cast<triage::GradientOrder>(gradient_order), from_c(workspace), stream);
  });
}

triage_status triage_attention_backward_workspace_bytes(const triage_attention_backward_inputs* inputs,
                                                        const triage_attention_backward_outputs* outputs,
                                                        const triage_attention_options* options, int32_t gradient_order,
                                                        size_t* bytes) {
  return guarded([&] {
    require(bytes, "bytes") = triage::attention_backward_workspace_bytes(
        from_c(require(inputs, "inputs")), from_c(require(outputs, "outputs")), from_c(options),
        static_cast<triage::GradientOrder>(gradient_order));
  });
}
