#include "verdict/job_context.h"

#include <unistd.h>

#include <stdexcept>

#include "cpu/parallel.h"
#include "device/memory.h"
#include "registry/device.h"

#if TRIAGE_HAS_CUDA
#include "device/cuda_check.h"
#include "verdict/cuda_stopwatch.h"
#endif

namespace triage::verdict {

#if TRIAGE_HAS_CUDA
struct JobContext::Gpu {
  explicit Gpu(int ordinal) : clocks(ordinal) {}
  ClockWatch clocks;
};
#else
struct JobContext::Gpu {};
#endif

JobContext::JobContext(const Job& job) {
  if (!job.cuda) return;
#if TRIAGE_HAS_CUDA
  device_ = {kDLCUDA, job.ordinal};
  cuda_check(cudaSetDevice(job.ordinal), "cudaSetDevice");
  cudaStream_t stream = nullptr;
  cuda_check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate");
  stream_ = stream;
  gpu_ = std::make_unique<Gpu>(job.ordinal);
#else
  throw std::runtime_error("this build holds no CUDA code");
#endif
}

JobContext::~JobContext() {
#if TRIAGE_HAS_CUDA
  if (stream_) cudaStreamDestroy(static_cast<cudaStream_t>(stream_));
#endif
}

int JobContext::threads() const { return cpu::available_threads(); }

std::size_t JobContext::cache_bytes() const {
  if (cuda()) return probe_device(device_).l2_bytes;
  const long bytes = ::sysconf(_SC_LEVEL3_CACHE_SIZE);
  return bytes > 0 ? static_cast<std::size_t>(bytes) : std::size_t{32} << 20;
}

void JobContext::synchronize() const { triage::synchronize(device_, stream_); }

std::unique_ptr<Stopwatch> JobContext::make_stopwatch() {
#if TRIAGE_HAS_CUDA
  if (cuda()) return std::make_unique<CudaStopwatch>(stream_, &gpu_->clocks);
#endif
  return std::make_unique<CpuStopwatch>();
}

TimingPlan JobContext::timing_plan(bool quick) const {
  TimingPlan plan;
  if (cuda()) {
    // Under a power cap one kernel's clocks are the work of those before it: whoever follows a kernel that draws more is
    // slower than alone. So turns are long, and their beginning is not counted.
    plan = {.budget_ms = quick ? 40.0 : 100.0,
            .sample_ms = 0.5,
            .min_samples = 10,
            .max_samples = 200,
            .turn_ms = quick ? 20.0 : 50.0,
            .settle_ms = quick ? 5.0 : 15.0};
  } else {
    // Other programs run beside us on a CPU: fewer but longer samples, and more of them where there is time.
    plan = {.budget_ms = quick ? 120.0 : 400.0, .sample_ms = 3, .min_samples = quick ? 5 : 9, .max_samples = 100};
  }
  return plan;
}

std::string JobContext::clock_note() {
#if TRIAGE_HAS_CUDA
  if (gpu_) return gpu_->clocks.take_note();
#endif
  return "";
}

std::string JobContext::driver_version() const {
#if TRIAGE_HAS_CUDA
  if (gpu_) return gpu_->clocks.driver_version();
#endif
  return "";
}

}  // namespace triage::verdict
