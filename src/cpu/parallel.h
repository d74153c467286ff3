// The one loop over threads that the CPU backend uses. Serial where the build has no OpenMP.
#pragma once

#include <cstdint>

#ifdef _OPENMP
#include <omp.h>
#endif

namespace triage::cpu {

/// Threads that a parallel loop of the calling thread would get.
static inline int available_threads() {
#ifdef _OPENMP
  return omp_in_parallel() ? 1 : omp_get_max_threads();
#else
  return 1;
#endif
}

/// Calls body(task, thread) for every task in [0, tasks), each on whichever of `threads` threads is free. Which thread
/// runs a task must not change its result.
template <class Body>
static inline void parallel_for(int threads, std::int64_t tasks, const Body& body) {
#ifdef _OPENMP
  if (threads > 1 && tasks > 1) {
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
    for (std::int64_t task = 0; task < tasks; ++task) body(task, omp_get_thread_num());
    return;
  }
#endif
  (void)threads;
  for (std::int64_t task = 0; task < tasks; ++task) body(task, 0);
}

}  // namespace triage::cpu
