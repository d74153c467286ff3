#include "verdict/correctness_grid.h"

#include "registry/registry.h"
#include "verdict/correctness_cases.h"
#include "verdict/grid_run.h"

namespace triage::verdict {
namespace {

constexpr int kRandomCases = 8;  // for each block and dtype, on top of the edge cases

bool has_packed_layout(const std::string& name) {
  for (const SparseGemmKernel* kernel : sparse_gemm_kernels()) {
    if (name == kernel->name) return kernel->prepack != nullptr;
  }
  return false;
}

std::vector<ProblemSpec> problems_of(const Job& job, const JobContext& context) {
  std::vector<ProblemSpec> specs = choose_evenly(
      cases_of_kernel(report_of(job, context), job.quick ? 0 : kRandomCases, job.seed), grid_problems(job));
  if (!has_packed_layout(job.kernel)) return specs;
  const std::size_t canonical = specs.size();
  for (std::size_t i = 0; i < canonical; i += 3) {
    specs.push_back(specs[i]);
    specs.back().values_layout = ValuesLayout::packed;
  }
  return specs;
}

}  // namespace

ReceiptGrid run_grid(const Job& job, JobContext& context) {
  return run_problems<Problem>(job, context, problems_of(job, context),
                               [](const ProblemSpec& spec) { return check_options(spec); });
}

}  // namespace triage::verdict
