#include "verdict/timing.h"

#include <algorithm>
#include <chrono>
#include <cmath>

namespace triage::verdict {
namespace {

constexpr double kSpreadForMore = 0.10;

double percentile(const std::vector<double>& sorted, double share) {
  const double position = share * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(position);
  const std::size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (position - static_cast<double>(below)) * (sorted[above] - sorted[below]);
}

}  // namespace

double spread(const ReceiptTime& time) { return time.median > 0 ? (time.p80 - time.p20) / time.median : 0; }

ReceiptTime summarise(std::vector<double> samples_ms, int calls) {
  if (samples_ms.empty()) return {};
  std::sort(samples_ms.begin(), samples_ms.end());
  ReceiptTime time;
  time.median = percentile(samples_ms, 0.5) / calls;
  time.p20 = percentile(samples_ms, 0.2) / calls;
  time.p80 = percentile(samples_ms, 0.8) / calls;
  time.repeats = static_cast<int>(samples_ms.size()) * calls;
  return time;
}

void CpuStopwatch::prepare(const Contender& contender, int calls) { entries_.push_back({&contender, calls}); }

double CpuStopwatch::sample_ms(int index) {
  const Entry& entry = entries_[static_cast<std::size_t>(index)];
  if (entry.calls > 1) entry.contender->run(0);  // wakes threads and brings back what the contender before pushed out
  const auto begin = std::chrono::steady_clock::now();
  for (int call = 0; call < entry.calls; ++call) entry.contender->run(call);
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
}

double CpuStopwatch::rough_ms(const Contender& contender) {
  double best = 0;
  double total = 0;
  // The first call warms caches and threads; what follows decides, up to three calls or 20 ms.
  for (int call = 0; call < 4 && (call < 2 || total < 20); ++call) {
    const auto begin = std::chrono::steady_clock::now();
    contender.run(call);
    const double ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
    if (call > 0) best = best == 0 ? ms : std::min(best, ms);
    total += ms;
  }
  return best;
}

std::vector<ReceiptTime> time_alternating(const std::vector<Contender>& contenders, Stopwatch& stopwatch,
                                          const TimingPlan& plan) {
  struct Track {
    int calls = 1;
    int turn = 1;    // samples
    int settle = 0;  // samples before those of a turn
    int wanted = 0;
    bool extended = false;
    std::vector<double> samples;
  };
  std::vector<Track> tracks(contenders.size());
  for (std::size_t i = 0; i < contenders.size(); ++i) {
    const double rough = std::max(stopwatch.rough_ms(contenders[i]), 1e-4);
    Track& track = tracks[i];
    track.calls = std::clamp(static_cast<int>(std::ceil(plan.sample_ms / rough)), 1, 256);
    track.wanted = std::clamp(static_cast<int>(plan.budget_ms / (rough * track.calls)), plan.min_samples,
                              plan.max_samples);
    track.turn = std::max(1, static_cast<int>(plan.turn_ms / (rough * track.calls)));
    track.settle = static_cast<int>(std::ceil(plan.settle_ms / (rough * track.calls)));
    stopwatch.prepare(contenders[i], track.calls);
  }
  for (bool more = true; more;) {
    more = false;
    for (std::size_t i = 0; i < tracks.size(); ++i) {
      Track& track = tracks[i];
      const int done = static_cast<int>(track.samples.size());
      if (done == track.wanted && !track.extended && spread(summarise(track.samples, track.calls)) > kSpreadForMore) {
        track.wanted *= 2;
        track.extended = true;
      }
      if (done >= track.wanted) continue;
      for (int k = 0; k < track.settle; ++k) stopwatch.sample_ms(static_cast<int>(i));
      for (int k = 0; k < std::min(track.turn, track.wanted - done); ++k) {
        track.samples.push_back(stopwatch.sample_ms(static_cast<int>(i)));
      }
      more = true;
    }
  }
  std::vector<ReceiptTime> times;
  for (Track& track : tracks) times.push_back(summarise(std::move(track.samples), track.calls));
  return times;
}

}  // namespace triage::verdict
