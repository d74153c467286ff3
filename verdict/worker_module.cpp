// The worker as a shared library, for `triage verdict --python`: Python loads it (verdict/python_worker.py), hands over
// C functions that call the user's callable, and lets it answer jobs as the program's own worker does.
#include <cstring>

#include "verdict/job.h"
#include "verdict/user_kernel.h"

#define TRIAGE_EXPORT __attribute__((visibility("default")))

extern "C" {

/// Which functions the jobs call.
TRIAGE_EXPORT void triage_worker_set_functions(triage_sparse_gemm_function sparse_gemm,
                                               triage_attention_function attention) {
  triage::verdict::embedded_kernel().sparse_gemm = sparse_gemm;
  triage::verdict::embedded_kernel().attention = attention;
}

/// Why there is no function, or what the last call raised.
TRIAGE_EXPORT void triage_worker_set_failure(const char* sentence) {
  triage::verdict::embedded_kernel().failure = sentence;
}

/// Sizes of the two problem structs, which Python declares anew: they must be the same.
TRIAGE_EXPORT unsigned long triage_worker_struct_bytes(int attention) {
  return attention ? sizeof(triage_attention_problem) : sizeof(triage_sparse_gemm_problem);
}

/// Answers jobs from standard input; with two files, the one job in the first, into the second.
TRIAGE_EXPORT int triage_worker_run(const char* job_file, const char* answer_file) {
  if (job_file != nullptr && answer_file != nullptr) return triage::verdict::run_one_job(job_file, answer_file);
  return triage::verdict::run_worker();
}
}
