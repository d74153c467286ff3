// The CPU's roof: fp32 multiply-adds with everything in registers.
#include <algorithm>
#include <chrono>

#include "cpu/parallel.h"
#include "verdict/machine_limits.h"

namespace triage::verdict {
namespace {

constexpr int kChains = 12;      // independent sums: enough to hide the latency of a multiply-add on every unit
constexpr int kRounds = 200000;

/// `kLanes` floats in one vector register (the compiler splits what the target has no register for).
template <int kLanes>
struct Vector {
  typedef float Type __attribute__((vector_size(sizeof(float) * kLanes)));
};

// One body per instruction set: what a function may use is decided by its target attribute.
#define TRIAGE_PEAK_BODY(lanes)                                                       \
  using V = Vector<lanes>::Type;                                                      \
  V sums[kChains];                                                                    \
  for (int i = 0; i < kChains; ++i) sums[i] = V{} + static_cast<float>(i) * seed;     \
  const V factor = V{} + (1.0f - 1e-7f), summand = V{} + seed;                        \
  for (int round = 0; round < kRounds; ++round)                                       \
    for (int i = 0; i < kChains; ++i) sums[i] = sums[i] * factor + summand;           \
  V total = sums[0];                                                                  \
  for (int i = 1; i < kChains; ++i) total += sums[i];                                 \
  return total[0]

float multiply_add_4(float seed) { TRIAGE_PEAK_BODY(4); }
#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) float multiply_add_8(float seed) { TRIAGE_PEAK_BODY(8); }
__attribute__((target("avx512f,fma"))) float multiply_add_16(float seed) { TRIAGE_PEAK_BODY(16); }
#endif

struct Loop {
  float (*run)(float);
  int lanes;
};

Loop widest_loop() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) return {multiply_add_16, 16};
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return {multiply_add_8, 8};
#endif
  return {multiply_add_4, 4};
}

}  // namespace

double cpu_peak_fp32_tflops(int threads) {
  using Clock = std::chrono::steady_clock;
  const Loop loop = widest_loop();
  volatile float sink = 0;
  double best = 0;
  for (int round = 0; round < 20; ++round) {
    const auto begin = Clock::now();
    constexpr int kTasks = 4;  // a thread: the last one to start must not set the time
    cpu::parallel_for(threads, threads * kTasks, [&](std::int64_t task, int) {
      sink = sink + loop.run(static_cast<float>(task) * 1e-30f);
    });
    const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    const double operations = 2.0 * kChains * kRounds * loop.lanes * threads * kTasks;
    best = std::max(best, operations / seconds * 1e-12);
  }
  return best;
}

}  // namespace triage::verdict
