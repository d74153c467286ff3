// Timing: warm-up, then ours and the peers' runs alternate; median and spread of the samples.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "verdict/receipt.h"

namespace triage::verdict {

/// Something to be timed. `run(copy)` makes one call on copy `copy` of the operands (GPU: enqueues it on the stream).
struct Contender {
  std::string name;
  std::function<void(int copy)> run;
};

/// Measures a batch of calls.
class Stopwatch {
 public:
  virtual ~Stopwatch() = default;
  /// Called once before a contender's samples, with the number of calls in a sample.
  virtual void prepare(const Contender& contender, int calls) = 0;
  /// Milliseconds of one sample of the contender that was prepared as number `index`.
  virtual double sample_ms(int index) = 0;
  /// Milliseconds of one call, for planning; cheap and rough.
  virtual double rough_ms(const Contender& contender) = 0;
};

/// Uses std::chrono::steady_clock. Calls are synchronous; caches stay as the call before left them.
class CpuStopwatch final : public Stopwatch {
 public:
  void prepare(const Contender& contender, int calls) override;
  double sample_ms(int index) override;
  double rough_ms(const Contender& contender) override;

 private:
  struct Entry {
    const Contender* contender;
    int calls;
  };
  std::vector<Entry> entries_;
};

struct TimingPlan {
  double budget_ms = 150;     ///< for each contender
  double sample_ms = 1;       ///< a sample holds as many calls as that takes
  int min_samples = 10;
  int max_samples = 200;
  /// A contender takes samples for so long before the next one's turn; 0: one sample a turn.
  double turn_ms = 0;
  /// The first part of a turn, run and not counted.
  double settle_ms = 0;
};

/// Times all contenders in turn; one leaves when its samples are done. One whose spread (p80 - p20) exceeds 10% of its
/// median is given as many samples again.
std::vector<ReceiptTime> time_alternating(const std::vector<Contender>& contenders, Stopwatch& stopwatch,
                                          const TimingPlan& plan);

/// Median and percentiles of samples of `calls` calls each.
ReceiptTime summarise(std::vector<double> samples_ms, int calls);

/// A spread above this is worth a note.
inline constexpr double kNotedSpread = 0.05;

/// (p80 - p20) / median.
double spread(const ReceiptTime& time);

}  // namespace triage::verdict
