// The seed of tests with random inputs: fresh in every run, printed, and set by TRIAGE_TEST_SEED to repeat a run.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>

namespace triage::testing {

inline std::uint64_t test_seed() {
  static const std::uint64_t seed = [] {
    const char* variable = std::getenv("TRIAGE_TEST_SEED");
    const std::uint64_t chosen = variable != nullptr ? std::strtoull(variable, nullptr, 10) : std::random_device{}();
    std::printf("TRIAGE_TEST_SEED=%llu repeats this run\n", static_cast<unsigned long long>(chosen));
    return chosen;
  }();
  return seed;
}

}  // namespace triage::testing
