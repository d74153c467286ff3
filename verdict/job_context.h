// What every job needs of its machine: device, stream, stopwatch, cache size.
#pragma once

#include <dlpack/dlpack.h>

#include <cstddef>
#include <memory>
#include <string>

#include "triage/types.h"
#include "verdict/job.h"
#include "verdict/timing.h"

namespace triage::verdict {

class JobContext {
 public:
  /// Makes the job's device current and a stream on it. @throws triage::Error, std::runtime_error
  explicit JobContext(const Job& job);
  ~JobContext();
  JobContext(const JobContext&) = delete;
  JobContext& operator=(const JobContext&) = delete;

  bool cuda() const { return device_.device_type == kDLCUDA; }
  DLDevice device() const { return device_; }
  Stream stream() const { return stream_; }
  int threads() const;              ///< of the CPU backend
  std::size_t cache_bytes() const;  ///< the last cache before memory
  void synchronize() const;

  std::unique_ptr<Stopwatch> make_stopwatch();
  TimingPlan timing_plan(bool quick) const;
  /// What held the clocks down since the last call; empty if nothing did or nobody can tell.
  std::string clock_note();
  std::string driver_version() const;

 private:
  struct Gpu;
  DLDevice device_{kDLCPU, 0};
  Stream stream_ = nullptr;
  std::unique_ptr<Gpu> gpu_;
};

}  // namespace triage::verdict
