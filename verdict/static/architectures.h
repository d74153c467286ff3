// GPU architectures as compilation targets, and the limits that decide whether a kernel fits.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace triage::static_triage {

/// A target of nvcc: compute capability and suffix ('a': architecture-specific, 'f': family-specific, 0: portable).
struct Target {
  int sm = 0;
  char suffix = 0;

  std::string name() const;     ///< "90a"
  std::string compute() const;  ///< "compute_90a"
  std::string code() const;     ///< "sm_90a"
  bool operator==(const Target& other) const { return sm == other.sm && suffix == other.suffix; }
};

/// Accepts "90a", "sm_90a", "compute_90a" and "9.0a".
/// @return nullopt if the text is none of these.
std::optional<Target> parse_target(const std::string& text);

/// Targets of one family share the instructions that a suffix 'f' unlocks: 100 and 103; 110; 120 and 121.
bool same_family(int sm, int other);

/// What one multiprocessor of a compute capability offers (CUDA C++ Programming Guide, "Technical Specifications per
/// Compute Capability", and the toolkit's cuda_occupancy.h).
struct Limits {
  int sm;
  const char* devices;   ///< for people: "L4, L40, RTX 40"
  int shared_sm_kb;      ///< shared memory of a multiprocessor
  int shared_block_kb;   ///< shared memory that one block may opt in to
  int warps;             ///< resident warps
  int blocks;            ///< resident blocks
};

/// Without opting in (cudaFuncSetAttribute) a block gets this much shared memory, on every architecture.
inline constexpr int kDefaultSharedBytes = 48 * 1024;
/// Registers of a multiprocessor, and what a thread and a block may use; the same on 7.5 to 12.1.
inline constexpr int kRegistersPerSm = 65536;
inline constexpr int kMaxThreadsPerBlock = 1024;

/// @return nullptr for a compute capability that the table does not hold.
const Limits* find_limits(int sm);

/// Every compute capability of the table, ascending.
std::vector<int> known_capabilities();

/// "89 (L4, L40, RTX 40)"
std::string describe(const Target& target);

}  // namespace triage::static_triage
