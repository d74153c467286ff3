// What was measured, as docs/receipts.md describes it: the structs, their JSON, and reading and writing of files.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "bench/attention_shapes.h"
#include "verdict/json.h"

namespace triage::verdict {

inline constexpr int kReceiptSchema = 1;

/// The machine that ran. `compute_capability` is "9.0" and the like, or "cpu".
struct ReceiptDevice {
  std::string name;
  std::string compute_capability;
  std::string driver;  ///< empty on the CPU
  std::string cuda;    ///< version of the CUDA runtime, empty on the CPU
  int threads = 0;     ///< of the CPU backend; 0 on a GPU
  double dense_fp16_tflops = 0;     ///< cuBLAS at 8192^3 in this run; 0: not measured
  double dense_fp32_tflops = 0;     ///< CPU: sgemm of the BLAS library that was found; 0: not measured
  double mma_sync_tflops = 0;       ///< GPU: what mma.sync alone reaches here (fp16, fp32 accumulation); 0: not measured
  double fp32_peak_tflops = 0;      ///< CPU: multiply-adds in registers, all threads; 0: not measured
  double memory_gbytes_per_s = 0;   ///< copy, bytes read plus bytes written; 0: not measured
};

/// m, n, k: the sparse matrix is m x k and the dense operand has n columns (spmm) or n tokens (linear); sddmm's
/// pattern is m x n and k is the inner dimension. Attention has a shape of its own, and of the rest only the name.
struct ReceiptShape {
  std::int64_t m = 0, n = 0, k = 0;
  int block = 0;
  double density = 0;         ///< nominal; `nnz_blocks` is exact
  std::string pattern;        ///< uniform, banded, ...
  std::string layout = "canonical";
  std::int64_t nnz_blocks = 0;
  std::string name;           ///< the case's name in bench/shapes.cpp
  std::string epilogue;       ///< linear: e.g. "bias+gelu"; empty if none
  std::optional<bench::AttentionShape> attention = std::nullopt;
};

struct ReceiptCorrect {
  bool ok = false;
  double worst_block_ratio = 0;  ///< largest error of a block over the error of a plain computation of that block
  double frobenius = 0;          ///< relative
  double bound = 0;              ///< on frobenius
  double checked = 0;            ///< share of the output that was compared
  bool rechecked_after_timing = false;
  std::string detail;            ///< what was wrong; empty if ok
};

struct ReceiptTime {
  double median = 0, p20 = 0, p80 = 0;  ///< milliseconds a call
  int repeats = 0;
};

struct ReceiptPeer {
  std::string name, version;
  double time_ms = 0, tflops = 0;
  std::string note;
};

/// A peer that was not measured, why, and how to get it.
struct AbsentPeer {
  std::string name, reason;
};

enum class Outcome { ok, wrong, crashed, hung };

struct ReceiptCase {
  std::string op, kernel, family, source_sha256, dtype;
  ReceiptShape shape;
  Outcome outcome = Outcome::ok;
  std::string failure;  ///< a sentence if the outcome is not ok
  ReceiptCorrect correct;
  std::optional<ReceiptTime> time;
  double tflops = 0;
  double roof_tflops = 0;
  std::string roof_limit;  ///< compute, mma.sync or memory
  std::vector<ReceiptPeer> peers;
  std::vector<AbsentPeer> not_measured;
  std::string note;
  int shared_memory_kb = 0;  ///< the limit that was imposed for the run; 0: none
  int operand_copies = 1;    ///< timed calls took turns on so many copies of the operands, to find none in a cache
};

/// The correctness grid of one kernel: many small problems, no timing.
struct ReceiptGrid {
  std::string op, kernel, family, source_sha256;
  int cases = 0, failed = 0;
  int refused = 0;      ///< problems that the kernel says it does not take; not among `cases`
  Outcome outcome = Outcome::ok;
  std::string failure;  ///< the first failure
  int shared_memory_kb = 0;
};

/// Time of one kernel at rising density beside the dense product, and the density at which they meet.
struct ReceiptCrossover {
  std::string op, kernel, dtype;
  std::int64_t size = 0;  ///< m = n = k
  int block = 0;
  std::string dense_peer;
  double dense_ms = 0;
  std::vector<std::pair<double, double>> points;  ///< density, milliseconds; by rising density
  double density = 0;      ///< sparse is faster below it; 1 if it is faster at every density measured
  std::string relation;    ///< "at" (interpolated), "above" or "below" `density` (outside of what was measured)
  int shared_memory_kb = 0;
};

/// What one tool of compute-sanitizer said of one kernel, on a few problems of its correctness grid.
struct ReceiptSanitizer {
  std::string op, kernel, family, source_sha256;
  std::string tool;     ///< memcheck, initcheck or synccheck
  std::string version;  ///< of compute-sanitizer
  std::string date;     ///< YYYY-MM-DD, UTC
  int problems = 0;     ///< that ran under the tool
  int errors = 0;       ///< that the tool reported
  Outcome outcome = Outcome::ok;  ///< wrong: the tool found errors, or the oracle a wrong result
  std::string failure;  ///< the first finding, or why there is no answer
  double seconds = 0;
  int shared_memory_kb = 0;
};

/// One kernel launch under Nsight Compute: its metrics by the names of verdict/profile_metrics.h.
struct ProfiledLaunch {
  std::string name, grid, block;
  std::vector<std::pair<std::string, double>> metrics;
  std::vector<std::pair<std::string, double>> stalls;  ///< reason, cycles an issued instruction; the longest first

  /// The metric, or `fallback` if the profiler did not give it.
  double metric(const std::string& metric_name, double fallback = 0) const;
};

/// What Nsight Compute measured of one call of a kernel.
struct ReceiptProfile {
  std::string op, kernel, family, source_sha256, dtype;
  ReceiptShape shape;
  std::string version;  ///< of Nsight Compute
  std::string date;
  Outcome outcome = Outcome::ok;
  std::string failure;
  std::vector<ProfiledLaunch> launches;  ///< of one call, in the order in which they ran
  std::string limited_by;                ///< a sentence on the longest launch
  int shared_memory_kb = 0;
};

struct Receipt {
  ReceiptDevice device;
  std::string date;  ///< YYYY-MM-DD, UTC
  std::vector<ReceiptCase> cases;
  std::vector<ReceiptGrid> grids;
  std::vector<ReceiptCrossover> crossovers;
  std::vector<ReceiptSanitizer> sanitizer;
  std::vector<ReceiptProfile> profiles;
};

const char* outcome_name(Outcome outcome);

Json to_json(const ReceiptCase& result);
Json to_json(const ReceiptGrid& grid);
Json to_json(const ReceiptCrossover& crossover);
Json to_json(const ReceiptSanitizer& entry);
Json to_json(const ReceiptProfile& profile);
Json to_json(const ReceiptDevice& device);
Json to_json(const ReceiptShape& shape);
Json to_json(const Receipt& receipt);

/// @throws std::runtime_error with a sentence that names the field that is missing or malformed.
ReceiptCase case_from_json(const Json& json);
ReceiptGrid grid_from_json(const Json& json);
ReceiptCrossover crossover_from_json(const Json& json);
ReceiptProfile profile_from_json(const Json& json);
ReceiptShape shape_from_json(const Json& json);
ReceiptDevice device_from_json(const Json& json);
Receipt receipt_from_json(const Json& json);

/// The device's name as a folder name: lower case, everything else than letters and digits as '-'.
std::string device_folder(const std::string& device_name);

/// Today in UTC, YYYY-MM-DD.
std::string today();

struct ReceiptFile {
  std::string path;
  Receipt receipt;
};

struct ReceiptFolder {
  std::vector<ReceiptFile> files;
  std::vector<std::string> problems;  ///< one sentence for each file that could not be read
};

/// @throws std::runtime_error with a sentence if the file cannot be read or is no receipt.
Receipt read_receipt(const std::string& path);

/// Reads <folder>/*/*.json in the order of their names. A folder that does not exist is empty.
ReceiptFolder read_receipts(const std::string& folder);

/// Writes each kernel's part of `run` to <folder>/<device>/<kernel>.json (<kernel>_99kb.json under a limit on shared memory),
/// each file atomically; returns the paths.
/// @throws std::runtime_error if a file cannot be written, or if it holds what `run` has not of the same source.
std::vector<std::string> write_receipts(const Receipt& run, const std::string& folder);

struct EvidenceWritten {
  std::vector<std::string> paths;
  std::vector<std::string> problems;  ///< one sentence for each kernel whose evidence has no receipt to stand in
};

/// Adds what the sanitizer and the profiler said to the receipts that <folder> has of the same kernels, device and
/// sources; what such a receipt held of the same tool or case is replaced. A receipt that is absent or stale is left as
/// it is, and a sentence says so.
EvidenceWritten add_evidence(const Receipt& run, const std::string& folder);

/// Writes `text` to `path` through a temporary file beside it and a rename, so that no reader and no interruption sees
/// half of it; makes the folders above it.
/// @throws std::runtime_error with a sentence.
void write_file_atomically(const std::string& path, const std::string& text);

/// Removes the temporary file of a write under way, if any; async-signal-safe.
void remove_unfinished_file() noexcept;

}  // namespace triage::verdict
