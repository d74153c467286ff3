// What the parent asks of a worker process, one JSON object a line, and what it answers.
#pragma once

#include <cstdint>
#include <string>

#include "verdict/json.h"
#include "verdict/receipt.h"
#include "verdict/user_kernel.h"

namespace triage::verdict {

/// The hidden subcommand that makes this program a worker.
inline constexpr const char* kWorkerCommand = "internal-worker";

enum class JobKind {
  device,     ///< describe the machine and measure its roofs -> ReceiptDevice
  grid,       ///< many small problems of one kernel -> ReceiptGrid
  timing,     ///< one problem, checked, timed beside the peers -> ReceiptCase
  crossover,  ///< one kernel at rising density beside the dense product -> ReceiptCrossover
  sanitize,   ///< a few problems of the grid, in a process that compute-sanitizer watches -> ReceiptGrid
  profile,    ///< one call of one problem, between marks that Nsight Compute sees -> ReceiptProfile without launches
};

struct Job {
  JobKind kind = JobKind::device;
  bool cuda = false;      ///< on CUDA device `ordinal`, else on the CPU
  int ordinal = 0;
  std::string op, kernel, family, source_sha256, dtype;
  ReceiptShape shape;     ///< timing: the problem; crossover: m = n = k and block
  std::uint64_t seed = 1;
  bool quick = false;     ///< shorter measurements
  bool peers = true;
  bool limits = true;     ///< device: measure the roofs too
  ReceiptDevice device;   ///< the roofs, as the device job found them
  int shared_memory_kb = 0;
  UserKernel user;        ///< to load before anything else
};

Json to_json(const Job& job);
/// @throws std::runtime_error
Job job_from_json(const Json& json);

/// Reads jobs from standard input until it ends and answers each on standard output: {"result": ...}, {"refused": sentence}
/// where the kernel does not take the problem or the device has no room for it, or {"error": sentence, "sticky": bool}.
/// After a sticky error (CUDA) the process ends.
int run_worker();

/// The same for one job, for a process that a tool starts: read from one file, answered in another.
int run_one_job(const char* job_file, const char* answer_file);

}  // namespace triage::verdict
