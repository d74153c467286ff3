// Timing on a CUDA stream with events. Present in builds with CUDA only (TRIAGE_HAS_CUDA).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "triage/types.h"
#include "verdict/timing.h"

namespace triage::verdict {

/// What NVML (found at run time) says of a device: clocks and what holds them down.
class ClockWatch {
 public:
  explicit ClockWatch(int ordinal);
  ~ClockWatch();
  std::string driver_version() const;  ///< "580.159.04"; empty without NVML
  /// Notes what holds the clocks down at this moment.
  void look();
  /// "clocks were held down by the power cap"; empty if nothing was seen since the last call.
  std::string take_note();

 private:
  struct Nvml;
  std::unique_ptr<Nvml> nvml_;
  unsigned long long seen_ = 0;
};

/// A sample of one call lies between two events; a sample of several calls is one CUDA graph of them, so that the host's
/// launches are not what is measured. A contender that cannot be captured is launched call by call.
class CudaStopwatch final : public Stopwatch {
 public:
  CudaStopwatch(Stream stream, ClockWatch* clocks);
  ~CudaStopwatch() override;
  void prepare(const Contender& contender, int calls) override;
  double sample_ms(int index) override;
  double rough_ms(const Contender& contender) override;

  /// Names of the contenders that could not be captured in a graph.
  const std::vector<std::string>& not_captured() const { return not_captured_; }

 private:
  struct Entry;
  double timed(const Contender& contender, int calls);

  Stream stream_;
  ClockWatch* clocks_;
  void *begin_ = nullptr, *end_ = nullptr;  // cudaEvent_t
  std::vector<std::unique_ptr<Entry>> entries_;
  std::vector<std::string> not_captured_;
  int samples_ = 0;
};

}  // namespace triage::verdict
