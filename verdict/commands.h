// The subcommands: their options, and the functions that do them. main.cpp fills the options from the command line.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "verdict/user_kernel.h"

namespace triage::verdict {

/// What the program returns; scripts and CI rely on it. docs/verdict.md has the same list.
enum ExitCode : int {
  kAllRight = 0,
  kWrongResult = 1,
  kUsage = 2,
  kNoDevice = 3,     ///< no device for what was asked
  kTooNoisy = 4,     ///< most timings scatter too much to say anything
  kHungOrCrashed = 5,
};

struct VerdictOptions {
  std::string device = "all";           ///< all, cpu, cuda, cuda:N
  std::vector<std::string> kernels, ops, dtypes, shapes;
  std::vector<int> blocks;
  std::vector<std::string> only;        ///< timing, grid, crossover, evidence; empty: all
  bool sanitize = false, profile = false;  ///< evidence: compute-sanitizer, Nsight Compute
  bool quick = false;
  bool peers = true;
  bool json = false, markdown = false;  ///< on standard output, instead of the table
  std::string html;                     ///< a file, or "-"
  std::string peer_results;             ///< what bench/attention_peers.py printed, to show beside ours
  std::optional<std::string> receipt;   ///< folder to write receipts into
  std::string receipts = "receipts";    ///< folder to read for the support matrix
  double timeout_seconds = 120;
  int shared_memory_kb = 0;             ///< limit to impose on GPU kernels; 0: none
  std::uint64_t seed = 1;
  UserKernel user;                      ///< a kernel that is not Triage's own, instead of the registry's
};

struct ListOptions {
  std::string device = "auto";  ///< auto: the first CUDA device, else the CPU
  bool json = false;
};

struct MatrixOptions {
  std::string receipts = "receipts";
  bool json = false, markdown = false;
};

int run_verdict(const VerdictOptions& options);
int run_list(const ListOptions& options);
int run_matrix(const MatrixOptions& options);

}  // namespace triage::verdict
