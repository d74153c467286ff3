// `triage scan`: would block-sparsity pay for the weights of this model, on this machine?
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>
#include <vector>

namespace triage::verdict {

struct ScanOptions {
  std::string model;             ///< a .safetensors file, an index of several, or a directory that holds either
  std::vector<int> blocks;       ///< block sizes to measure; empty: all (32 with prune_to)
  std::int64_t tokens = 128;     ///< rows of the activations
  std::string device = "auto";   ///< auto (a GPU if there is one), cpu, cuda, cuda:1 ...
  std::string include, exclude;  ///< regular expressions on names
  std::int64_t min_size = 64;    ///< smaller matrices are skipped
  double prune_to = 0;           ///< share of blocks to keep; 0: do not prune
  std::string out;               ///< where to save the pruned model
  bool measure = true;
  bool json = false, markdown = false;
};

/// Prints the report on standard output, everything else on standard error. Returns the exit code: 0, 1 a wrong result,
/// 2 bad arguments or input, or the output cannot be written, 3 no such device, 4 too noisy to say, 5 the GPU failed.
int run_scan(const ScanOptions& options);

/// Adds the subcommand `scan`; it sets `exit_code` when it has run.
void add_scan_command(CLI::App& app, int& exit_code);

}  // namespace triage::verdict
