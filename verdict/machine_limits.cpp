#include "verdict/machine_limits.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <vector>

#include "cpu/parallel.h"
#include "registry/device.h"
#include "verdict/host_blas.h"
#include "verdict/random_inputs.h"
#include "verdict/work.h"

#if TRIAGE_HAS_CUDA
#include "device/cuda_check.h"
#include "device/memory.h"
#include "verdict/cublas.h"
#include "verdict/gpu_kernels.h"
#include "verdict/operands.h"
#endif

namespace triage::verdict {
namespace {

double seconds_of(const auto& body) {
  const auto begin = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

/// GB/s of a copy between two arrays that no cache holds, read plus written.
double cpu_copy_gbytes_per_s(int threads, std::size_t cache_bytes) {
  const std::size_t bytes = std::clamp<std::size_t>(4 * cache_bytes, std::size_t{64} << 20, std::size_t{256} << 20);
  std::vector<char> from(bytes, 1), to(bytes, 2);
  const auto piece = static_cast<std::int64_t>(bytes / 64);
  double best = 0;
  for (int round = 0; round < 4; ++round) {
    const double seconds = seconds_of([&] {
      cpu::parallel_for(threads, 64, [&](std::int64_t task, int) {
        std::memcpy(to.data() + task * piece, from.data() + task * piece, static_cast<std::size_t>(piece));
      });
    });
    best = std::max(best, 2 * static_cast<double>(bytes) / seconds * 1e-9);
  }
  return best;
}

double cpu_dense_tflops(int threads, bool quick) {
  const HostBlas* blas = HostBlas::find();
  if (!blas) return 0;
  blas->set_threads(threads);
  const std::int64_t n = quick ? 1024 : 2048;
  const auto count = static_cast<std::size_t>(n * n);
  std::vector<float> a(count), b(count), c(count);
  fill_random(DType::float32, a.data(), n, n, n, 1, ValueKind::centred);
  fill_random(DType::float32, b.data(), n, n, n, 2, ValueKind::centred);
  double best = 0;
  for (int round = 0; round < 4; ++round) {
    const double seconds =
        seconds_of([&] { blas->gemm(GemmShape{n, n, n, false, false, n, n, n}, a.data(), b.data(), c.data()); });
    best = std::max(best, 2.0 * static_cast<double>(n * n * n) / seconds * 1e-12);
  }
  return best;
}

#if TRIAGE_HAS_CUDA
/// Dense fp16 at 8192^3: the yardstick of every receipt.
double gpu_dense_tflops(JobContext& context) {
  Cublas* cublas = Cublas::find();
  if (!cublas) return 0;
  constexpr std::int64_t n = 8192;
  Buffer a(context.device(), n * n * 2, context.stream()), b(context.device(), n * n * 2, context.stream()),
      c(context.device(), n * n * 2, context.stream());
  fill_centred(DType::float16, a.data(), n, n, 1, context.device(), context.stream());
  fill_centred(DType::float16, b.data(), n, n, 2, context.device(), context.stream());
  const Contender dense{"cublas_dense", [&](int) {
                          cublas->gemm(GemmShape{n, n, n, false, false, n, n, n}, "float16", a.data(), b.data(),
                                       c.data(), context.stream());
                        }};
  const TimingPlan plan{.budget_ms = 60, .sample_ms = 1, .min_samples = 10, .max_samples = 100};
  const std::unique_ptr<Stopwatch> stopwatch = context.make_stopwatch();
  return tflops(2.0 * n * n * n, time_alternating({dense}, *stopwatch, plan).front().median);
}

std::string cuda_version_text(int version) { return fmt::format("{}.{}", version / 1000, version % 1000 / 10); }

void describe_gpu(ReceiptDevice& device, JobContext& context, bool limits) {
  if (limits) {
    // Shortest first, while the device is cool: a roof is the most that can be reached.
    device.mma_sync_tflops = gpu_mma_sync_tflops(context.stream());
    device.memory_gbytes_per_s = gpu_copy_gbytes_per_s(context.stream());
    device.dense_fp16_tflops = gpu_dense_tflops(context);
  }
  device.driver = context.driver_version();
  int runtime = 0, driver = 0;
  cuda_check(cudaRuntimeGetVersion(&runtime), "cudaRuntimeGetVersion");
  cuda_check(cudaDriverGetVersion(&driver), "cudaDriverGetVersion");
  device.cuda = cuda_version_text(runtime);
  if (device.driver.empty()) device.driver = "for CUDA " + cuda_version_text(driver);
}
#endif

}  // namespace

ReceiptDevice measure_machine(const Job& job, JobContext& context) {
  const Device& probed = probe_device(context.device());
  ReceiptDevice device;
  device.name = probed.name;
  if (!context.cuda()) {
    device.compute_capability = "cpu";
    device.threads = context.threads();
    if (!job.limits) return device;
    device.fp32_peak_tflops = cpu_peak_fp32_tflops(device.threads);
    device.dense_fp32_tflops = cpu_dense_tflops(device.threads, job.quick);
    device.memory_gbytes_per_s = cpu_copy_gbytes_per_s(device.threads, context.cache_bytes());
    return device;
  }
#if TRIAGE_HAS_CUDA
  device.compute_capability = fmt::format("{}.{}", probed.compute_capability / 10, probed.compute_capability % 10);
  describe_gpu(device, context, job.limits);
#endif
  return device;
}

}  // namespace triage::verdict
