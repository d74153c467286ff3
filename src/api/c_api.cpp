// The C ABI over the C++ API: pointers are checked, exceptions become a status and a sentence.
#include "triage/c_api.h"

#include <cstdio>
#include <string>
#include <string_view>
#include <utility>

#include "api/c_call.h"
#include "triage/triage.h"

namespace {

using namespace triage::c_call;
using triage::BlockPattern;
using triage::ErrorCode;

static_assert(TRIAGE_INVALID_ARGUMENT == static_cast<int>(ErrorCode::invalid_argument));
static_assert(TRIAGE_UNSUPPORTED == static_cast<int>(ErrorCode::unsupported));
static_assert(TRIAGE_OUT_OF_MEMORY == static_cast<int>(ErrorCode::out_of_memory));
static_assert(TRIAGE_CUDA_ERROR == static_cast<int>(ErrorCode::cuda));
static_assert(TRIAGE_ACTIVATION_SILU == static_cast<int>(triage::Activation::silu));
static_assert(TRIAGE_VALUES_PACKED == static_cast<int>(triage::ValuesLayout::packed));
static_assert(TRIAGE_SDDMM_XT_Y == static_cast<int>(triage::SddmmLayout::xt_y));
static_assert(TRIAGE_PACKED_FOR_LINEAR == static_cast<int>(triage::PackedFor::linear));

const BlockPattern& require_pattern(const triage_pattern* pattern, const char* name) {
  return require(pattern, name).pattern;
}

template <typename Make>
triage_status create(triage_pattern** out, const char* name, const Make& make) noexcept {
  return guarded([&] {
    triage_pattern*& slot = require(out, name);
    slot = new triage_pattern{make()};
  });
}

triage::SpmmOptions from_c(const triage_spmm_options* options) {
  triage::SpmmOptions result;
  if (options == nullptr) return result;
  result.alpha = options->alpha;
  result.beta = options->beta;
  result.values_layout = static_cast<triage::ValuesLayout>(options->values_layout);
  return result;
}

triage::LinearOptions from_c(const triage_linear_options* options) {
  triage::LinearOptions result;
  if (options == nullptr) return result;
  result.activation = static_cast<triage::Activation>(options->activation);
  result.values_layout = static_cast<triage::ValuesLayout>(options->values_layout);
  return result;
}

triage::SddmmOptions from_c(const triage_sddmm_options* options) {
  triage::SddmmOptions result;
  if (options == nullptr) return result;
  result.layout = static_cast<triage::SddmmLayout>(options->layout);
  result.alpha = options->alpha;
  result.beta = options->beta;
  return result;
}

std::string quoted(std::string_view text) {
  std::string json = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      json += '\\';
      json += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      char escaped[8];
      std::snprintf(escaped, sizeof(escaped), "\\u%04x", static_cast<unsigned>(c));
      json += escaped;
    } else {
      json += c;
    }
  }
  return json + "\"";
}

std::string to_json(const triage::KernelReport& report) {
  std::string dtypes;
  for (const std::string& dtype : report.dtypes) dtypes += (dtypes.empty() ? "" : ", ") + quoted(dtype);
  return "{\"name\": " + quoted(report.name) + ", \"operation\": " + quoted(report.operation) +
         ", \"family\": " + quoted(report.family) + ", \"dtypes\": [" + dtypes + "]" +
         ", \"block_size\": " + std::to_string(report.block_size) + ", \"head_dims\": " + quoted(report.head_dims) +
         ", \"compiled\": " + (report.compiled ? "true" : "false") +
         ", \"can_run\": " + (report.can_run ? "true" : "false") + ", \"reason\": " + quoted(report.reason) +
         ", \"source\": " + quoted(report.source) + ", \"source_sha256\": " + quoted(report.source_sha256) + "}";
}

}  // namespace

const char* triage_version(void) { return triage::version(); }

const char* triage_last_error(void) { return last_error; }

const char* triage_last_kernel(void) {
  thread_local std::string name;
  return guarded([] { name = triage::last_kernel(); }) == TRIAGE_OK ? name.c_str() : "";
}

int triage_cuda_device_count(void) { return triage::cuda_device_count(); }

triage_status triage_kernels_json(DLDevice device, const char** json) {
  thread_local std::string text;
  return guarded([&] {
    const char*& result = require(json, "json");
    std::string rows;
    for (const triage::KernelReport& report : triage::kernel_reports(device)) {
      rows += (rows.empty() ? "" : ",\n ") + to_json(report);
    }
    text = "[" + rows + "]";
    result = text.c_str();
  });
}

triage_status triage_pattern_from_bsr(const DLTensor* crow_indices, const DLTensor* col_indices, int64_t rows,
                                      int64_t cols, int block_size, void* stream, triage_pattern** pattern) {
  return create(pattern, "pattern", [&] {
    return BlockPattern::from_bsr(require(crow_indices, "crow_indices"), require(col_indices, "col_indices"), rows,
                                  cols, block_size, stream);
  });
}

triage_status triage_pattern_from_mask(const DLTensor* mask, int64_t rows, int64_t cols, int block_size, void* stream,
                                       triage_pattern** pattern) {
  return create(pattern, "pattern",
                [&] { return BlockPattern::from_mask(require(mask, "mask"), rows, cols, block_size, stream); });
}

triage_status triage_pattern_from_dense(const DLTensor* matrix, int block_size, void* stream,
                                        triage_pattern** pattern) {
  return create(pattern, "pattern",
                [&] { return BlockPattern::from_dense(require(matrix, "matrix"), block_size, stream); });
}

triage_status triage_pattern_transposed(const triage_pattern* pattern, triage_pattern** transposed) {
  return create(transposed, "transposed", [&] { return require_pattern(pattern, "pattern").transposed(); });
}

triage_status triage_pattern_to(const triage_pattern* pattern, DLDevice device, void* stream, triage_pattern** copy) {
  return create(copy, "copy", [&] { return require_pattern(pattern, "pattern").to(device, stream); });
}

void triage_pattern_destroy(triage_pattern* pattern) { delete pattern; }

triage_status triage_pattern_update(triage_pattern* pattern, const DLTensor* crow_indices, const DLTensor* col_indices,
                                    void* stream) {
  return guarded([&] {
    require(pattern, "pattern")
        .pattern.update(require(crow_indices, "crow_indices"), require(col_indices, "col_indices"), stream);
  });
}

triage_status triage_pattern_get_info(const triage_pattern* pattern, triage_pattern_info* info) {
  return guarded([&] {
    const BlockPattern& p = require_pattern(pattern, "pattern");
    require(info, "info") = {p.rows(),       p.cols(),    p.block_rows(), p.block_cols(),
                             p.nnz_blocks(), p.density(), p.block_size(), p.device()};
  });
}

triage_status triage_pattern_crow_indices(const triage_pattern* pattern, DLTensor* view) {
  return guarded([&] { require(view, "view") = require_pattern(pattern, "pattern").crow_indices(); });
}

triage_status triage_pattern_col_indices(const triage_pattern* pattern, DLTensor* view) {
  return guarded([&] { require(view, "view") = require_pattern(pattern, "pattern").col_indices(); });
}

triage_status triage_pattern_transposed_positions(const triage_pattern* pattern, DLTensor* view) {
  return guarded([&] { require(view, "view") = require_pattern(pattern, "pattern").transposed_positions(); });
}

triage_status triage_gather_blocks(const triage_pattern* pattern, const DLTensor* matrix, const DLTensor* values,
                                   void* stream) {
  return guarded([&] {
    triage::gather_blocks(require_pattern(pattern, "pattern"), require(matrix, "matrix"), require(values, "values"),
                          stream);
  });
}

triage_status triage_scatter_blocks(const triage_pattern* pattern, const DLTensor* values, const DLTensor* matrix,
                                    void* stream) {
  return guarded([&] {
    triage::scatter_blocks(require_pattern(pattern, "pattern"), require(values, "values"), require(matrix, "matrix"),
                           stream);
  });
}

triage_spmm_options triage_spmm_defaults(void) {
  const triage::SpmmOptions o;
  return {o.alpha, o.beta, static_cast<int32_t>(o.values_layout)};
}

triage_linear_options triage_linear_defaults(void) {
  const triage::LinearOptions o;
  return {static_cast<int32_t>(o.activation), static_cast<int32_t>(o.values_layout)};
}

triage_sddmm_options triage_sddmm_defaults(void) {
  const triage::SddmmOptions o;
  return {static_cast<int32_t>(o.layout), o.alpha, o.beta};
}

triage_status triage_spmm(const triage_pattern* a, const DLTensor* a_values, const DLTensor* b, const DLTensor* c,
                          const triage_spmm_options* options, const triage_workspace* workspace, void* stream) {
  return guarded([&] {
    triage::spmm(require_pattern(a, "a"), require(a_values, "a_values"), require(b, "b"), require(c, "c"),
                 from_c(options), from_c(workspace), stream);
  });
}

triage_status triage_spmm_workspace_bytes(const triage_pattern* a, const DLTensor* a_values, const DLTensor* b,
                                          const DLTensor* c, const triage_spmm_options* options, size_t* bytes) {
  return guarded([&] {
    require(bytes, "bytes") = triage::spmm_workspace_bytes(require_pattern(a, "a"), require(a_values, "a_values"),
                                                           require(b, "b"), require(c, "c"), from_c(options));
  });
}

triage_status triage_linear(const triage_pattern* w, const DLTensor* w_values, const DLTensor* x, const DLTensor* bias,
                            const DLTensor* y, const triage_linear_options* options, const triage_workspace* workspace,
                            void* stream) {
  return guarded([&] {
    triage::linear(require_pattern(w, "w"), require(w_values, "w_values"), require(x, "x"), bias, require(y, "y"),
                   from_c(options), from_c(workspace), stream);
  });
}

triage_status triage_linear_workspace_bytes(const triage_pattern* w, const DLTensor* w_values, const DLTensor* x,
                                            const DLTensor* bias, const DLTensor* y,
                                            const triage_linear_options* options, size_t* bytes) {
  return guarded([&] {
    require(bytes, "bytes") = triage::linear_workspace_bytes(require_pattern(w, "w"), require(w_values, "w_values"),
                                                             require(x, "x"), bias, require(y, "y"), from_c(options));
  });
}

triage_status triage_sddmm(const triage_pattern* pattern, const DLTensor* x, const DLTensor* y, const DLTensor* values,
                           const triage_sddmm_options* options, const triage_workspace* workspace, void* stream) {
  return guarded([&] {
    triage::sddmm(require_pattern(pattern, "pattern"), require(x, "x"), require(y, "y"), require(values, "values"),
                  from_c(options), from_c(workspace), stream);
  });
}

triage_status triage_sddmm_workspace_bytes(const triage_pattern* pattern, const DLTensor* x, const DLTensor* y,
                                           const DLTensor* values, const triage_sddmm_options* options, size_t* bytes) {
  return guarded([&] {
    require(bytes, "bytes") =
        triage::sddmm_workspace_bytes(require_pattern(pattern, "pattern"), require(x, "x"), require(y, "y"),
                                      require(values, "values"), from_c(options));
  });
}

triage_status triage_linear_backward_input(const triage_pattern* w, const DLTensor* w_values, const DLTensor* dy,
                                           const DLTensor* dx, const triage_workspace* workspace, void* stream) {
  return guarded([&] {
    triage::linear_backward_input(require_pattern(w, "w"), require(w_values, "w_values"), require(dy, "dy"),
                                  require(dx, "dx"), from_c(workspace), stream);
  });
}

triage_status triage_linear_backward_input_workspace_bytes(const triage_pattern* w, const DLTensor* w_values,
                                                           const DLTensor* dy, const DLTensor* dx, size_t* bytes) {
  return guarded([&] {
    require(bytes, "bytes") = triage::linear_backward_input_workspace_bytes(
        require_pattern(w, "w"), require(w_values, "w_values"), require(dy, "dy"), require(dx, "dx"));
  });
}

triage_status triage_linear_backward_weight(const triage_pattern* w, const DLTensor* dy, const DLTensor* x,
                                            const DLTensor* dw_values, float beta, const triage_workspace* workspace,
                                            void* stream) {
  return guarded([&] {
    triage::linear_backward_weight(require_pattern(w, "w"), require(dy, "dy"), require(x, "x"),
                                   require(dw_values, "dw_values"), beta, from_c(workspace), stream);
  });
}

triage_status triage_linear_backward_weight_workspace_bytes(const triage_pattern* w, const DLTensor* dy,
                                                            const DLTensor* x, const DLTensor* dw_values, float beta,
                                                            size_t* bytes) {
  return guarded([&] {
    require(bytes, "bytes") = triage::linear_backward_weight_workspace_bytes(
        require_pattern(w, "w"), require(dy, "dy"), require(x, "x"), require(dw_values, "dw_values"), beta);
  });
}

triage_status triage_linear_backward_bias(const DLTensor* dy, const DLTensor* dbias, const triage_workspace* workspace,
                                          void* stream) {
  return guarded(
      [&] { triage::linear_backward_bias(require(dy, "dy"), require(dbias, "dbias"), from_c(workspace), stream); });
}

triage_status triage_linear_backward_bias_workspace_bytes(const DLTensor* dy, const DLTensor* dbias, size_t* bytes) {
  return guarded([&] {
    require(bytes, "bytes") = triage::linear_backward_bias_workspace_bytes(require(dy, "dy"), require(dbias, "dbias"));
  });
}

triage_status triage_spmm_backward_b(const triage_pattern* a, const DLTensor* a_values, const DLTensor* dc,
                                     const DLTensor* db, const triage_spmm_options* options,
                                     const triage_workspace* workspace, void* stream) {
  return guarded([&] {
    triage::spmm_backward_b(require_pattern(a, "a"), require(a_values, "a_values"), require(dc, "dc"),
                            require(db, "db"), from_c(options), from_c(workspace), stream);
  });
}

triage_status triage_spmm_backward_b_workspace_bytes(const triage_pattern* a, const DLTensor* a_values,
                                                     const DLTensor* dc, const DLTensor* db,
                                                     const triage_spmm_options* options, size_t* bytes) {
  return guarded([&] {
    require(bytes, "bytes") = triage::spmm_backward_b_workspace_bytes(
        require_pattern(a, "a"), require(a_values, "a_values"), require(dc, "dc"), require(db, "db"), from_c(options));
  });
}

triage_status triage_prepack(const triage_pattern* pattern, const DLTensor* values, const DLTensor* packed,
                             int32_t packed_for, void* stream) {
  return guarded([&] {
    triage::prepack(require_pattern(pattern, "pattern"), require(values, "values"), require(packed, "packed"),
                    static_cast<triage::PackedFor>(packed_for), stream);
  });
}
