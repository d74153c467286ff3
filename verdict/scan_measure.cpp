#include "verdict/scan_measure.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <random>

#include "io/text.h"
#include "registry/device.h"
#include "verdict/correctness_cases.h"
#include "verdict/host_load.h"
#include "verdict/operands.h"
#include "verdict/peers.h"
#include "verdict/random_inputs.h"
#include "verdict/scan_values.h"
#include "verdict/time_case.h"
#include "verdict/timed_problem.h"
#include "verdict/timing.h"
#include "verdict/work.h"

namespace triage::verdict {
namespace {

constexpr int kSampledOutputs = 64;
constexpr std::uint64_t kSeed = 0x7269616765;
constexpr DLDevice kHost{kDLCPU, 0};

bool on_cpu(DLDevice device) { return device.device_type == kDLCPU; }

// What the host can still give, bytes; 0 if the system does not say.
std::uint64_t available_host_bytes() {
  std::ifstream file("/proc/meminfo");
  std::string key;
  std::uint64_t kilobytes = 0;
  for (std::string unit; file >> key >> kilobytes; std::getline(file, unit)) {
    if (key == "MemAvailable:") return kilobytes * 1024;
  }
  return 0;
}

bool apart(const ReceiptTime& faster, const ReceiptTime& slower) { return faster.p80 < slower.p20; }

Job job_on(DLDevice device) {
  Job job;
  job.cuda = !on_cpu(device);
  job.ordinal = device.device_id;
  return job;
}

PeerList dense_peers(TimedProblem& problem, JobContext& context, Stopwatch& stopwatch) {
#if TRIAGE_HAS_CUDA
  if (context.cuda()) return gpu_peers(problem, stopwatch, /*dense_only=*/true);
#endif
  (void)stopwatch;
  return cpu_peers(problem, context.threads());
}

// The problem with packed values where the kernel has such a layout: weights are packed once and used many times.
std::unique_ptr<TimedProblem> make_problem(TimedProblem::Request request, const BlockList& blocks) {
  const auto pattern = [&] {
    return bench::HostPattern{blocks.block_rows(), blocks.block_cols(), blocks.crow, blocks.col};
  };
  request.shape.layout = "packed";
  try {
    return std::make_unique<TimedProblem>(request, pattern());
  } catch (const Error& error) {
    if (error.code() != ErrorCode::unsupported) throw;
  }
  request.shape.layout = "canonical";
  return std::make_unique<TimedProblem>(request, pattern());
}

}  // namespace

const char* verdict_name(Verdict verdict) {
  switch (verdict) {
    case Verdict::yes:
      return "yes";
    case Verdict::no:
      return "no";
    case Verdict::unclear:
      return "unclear";
    case Verdict::not_measured:
      break;
  }
  return "not measured";
}

double Measurement::speedup() const { return sparse && dense ? dense->median / sparse->median : 0; }

Verdict Measurement::verdict() const {
  if (!sparse || !dense) return Verdict::not_measured;
  if (disturbed) return Verdict::unclear;
  if (apart(*sparse, *dense)) return Verdict::yes;
  return apart(*dense, *sparse) ? Verdict::no : Verdict::unclear;
}

double Measurement::output_error() const {
  if (!sparse) return std::nan("");
  return norm_squared > 0 ? std::sqrt(error_squared / norm_squared) : error_squared > 0 ? INFINITY : 0;
}

// A row-major matrix in the device's memory.
struct LinearBench::Operand {
  Operand(const JobContext& context, DLDataType type, std::int64_t rows, std::int64_t cols)
      : stream(context.stream()),
        buffer(context.device(), static_cast<std::size_t>(rows * cols) * type.bits / 8, stream),
        view(buffer.data(), context.device(), type, {rows, cols}) {}
  std::size_t count() const { return static_cast<std::size_t>(view.shape[0] * view.shape[1]); }
  // Rounds `values` to the dtype and copies them to the device.
  void upload(std::vector<float>& values) {
    std::vector<unsigned char> bytes(buffer.bytes());
    round_to(view.tensor.dtype, values.data(), values.size(), bytes.data());
    copy_bytes(buffer.data(), view.tensor.device, bytes.data(), kHost, bytes.size(), stream, "scan's operands");
    synchronize(view.tensor.device, stream);
  }
  std::vector<float> download() const {
    std::vector<unsigned char> bytes(buffer.bytes());
    std::vector<float> values(count());
    copy_bytes(bytes.data(), kHost, buffer.data(), view.tensor.device, bytes.size(), stream, "scan's outputs");
    synchronize(view.tensor.device, stream);
    widen_from(view.tensor.dtype, bytes.data(), values.size(), values.data());
    return values;
  }
  Stream stream;
  Buffer buffer;
  TensorView view;
};

LinearBench::LinearBench(DLDevice device, std::int64_t tokens)
    : context_(job_on(device)), device_(device), tokens_(tokens) {
  // A small problem tells which dense library there is.
  const Measurement probe = time(random_blocks(128, 128, 32, 1.0, kSeed), dtype_for(device, io::TensorDtype::bf16));
  dense_absence_ = probe.not_measured;
}

LinearBench::~LinearBench() = default;

const char* LinearBench::dtype_for(DLDevice device, io::TensorDtype stored) {
  if (on_cpu(device)) return "float32";
  return stored == io::TensorDtype::f16 ? "float16" : "bfloat16";
}

std::string LinearBench::device_name() const {
  const std::string name = probe_device(device_).name;
  return on_cpu(device_) ? fmt::format("{} ({} threads)", name, context_.threads()) : name;
}

// Memory: the dense weight and its blocks, for the product and again (blocks twice: packed) for the stopwatch.
std::string LinearBench::obstacle(std::int64_t rows, std::int64_t cols, const std::string& dtype) const {
  const double elements = 6.0 * static_cast<double>(rows) * static_cast<double>(cols) +
                          6.0 * static_cast<double>(tokens_) * static_cast<double>(rows + cols);
  const double bytes = elements * (on_cpu(device_) ? dtype_bytes(dtype) : 4);
  const std::uint64_t available = available_host_bytes();
  if (available == 0 || bytes <= 0.8 * static_cast<double>(available)) return "";
  return fmt::format("a {} x {} matrix needs about {} of memory to measure, {} are free", rows, cols,
                     io::bytes_text(static_cast<std::uint64_t>(bytes)), io::bytes_text(available));
}

std::string LinearBench::load(const WeightMatrix& weight) {
  const std::string dtype = dtype_for(device_, weight.dtype());
  if (const std::string reason = obstacle(weight.rows(), weight.cols(), dtype); !reason.empty()) return reason;
  const bool same_shape =
      weight_ && weight_->view.shape[0] == weight.rows() && weight_->view.shape[1] == weight.cols() && dtype == dtype_;
  if (!same_shape) {
    for (auto* operand : {&weight_, &x_, &y_}) operand->reset();
    const DLDataType type = dlpack_dtype(dtype_from_name(dtype));
    dtype_ = dtype;
    weight_ = std::make_unique<Operand>(context_, type, weight.rows(), weight.cols());
    x_ = std::make_unique<Operand>(context_, type, tokens_, weight.cols());
    y_ = std::make_unique<Operand>(context_, type, tokens_, weight.rows());
    fill_centred(dtype_from_name(dtype), x_->buffer.data(), tokens_, weight.cols(), kSeed, device_, context_.stream());
    host_x_ = x_->download();
    host_weight_.resize(weight_->count());
  }
  dense_output_.clear();
  weight.read_rows(0, weight.rows(), host_weight_.data());
  weight_->upload(host_weight_);
  return "";
}

Measurement LinearBench::measure(const BlockList& blocks) {
  const bool full = blocks.nonzero() == blocks.total();
  const std::string key = fmt::format("{} {} {} {}", blocks.rows, blocks.cols, blocks.block, dtype_);
  if (full && full_.count(key)) return full_.at(key);
  const std::vector<float> y = product(blocks);
  if (dense_output_.empty()) dense_output_ = full ? y : product(random_blocks(blocks.rows, blocks.cols, 128, 1, 0));
  Measurement result = time(blocks, dtype_);
  result.wrong = first_wrong_output(blocks, y);
  for (std::size_t i = 0; i < y.size(); ++i) {
    const double exact = dense_output_[i], error = y[i] - exact;
    result.error_squared += error * error;
    result.norm_squared += exact * exact;
  }
  if (full) full_[key] = result;
  return result;
}

Measurement LinearBench::time(const BlockList& blocks, const std::string& dtype) {
  Measurement result;
  result.block = blocks.block;
  result.density = blocks.density();
  result.nnz_blocks = blocks.nonzero();

  TimedProblem::Request request;
  request.op = "sparse_gemm.linear";
  request.dtype = dtype;
  request.shape.m = blocks.rows;
  request.shape.n = tokens_;
  request.shape.k = blocks.cols;
  request.shape.block = blocks.block;
  request.shape.density = result.density;
  request.shape.nnz_blocks = blocks.nonzero();
  request.device = device_;
  request.stream = context_.stream();
  request.copies = timing_copies(request.op, dtype, request.shape, context_);
  const std::unique_ptr<TimedProblem> problem = make_problem(request, blocks);
  problem->poison_outputs();
  problem->run(0);
  context_.synchronize();
  result.kernel = last_kernel();
  result.layout = problem->request().shape.layout;

  const std::unique_ptr<Stopwatch> stopwatch = context_.make_stopwatch();
  const PeerList peers = dense_peers(*problem, context_, *stopwatch);
  std::vector<Contender> contenders{{"sparse", [&](int copy) { problem->run(copy); }}};
  if (!peers.present.empty()) {
    const Peer& dense = peers.present.front();
    dense_name_ = dense.name + (dense.version.empty() ? "" : " " + dense.version);
    contenders.push_back({dense.name, dense.run});
  } else {
    result.not_measured = peers.absent.empty() ? "no dense library was found" : peers.absent.front().reason;
  }
  const HostLoad load;
  const std::vector<ReceiptTime> times = time_alternating(contenders, *stopwatch, context_.timing_plan(/*quick=*/true));
  if (!context_.cuda()) {
    result.other_cores = load.other_cores();
    result.disturbed = load.disturbs(context_.threads());
  }
  result.sparse = times[0];
  if (times.size() > 1) result.dense = times[1];
  return result;
}

// Y = X * W^T with some blocks of the loaded weight.
std::vector<float> LinearBench::product(const BlockList& blocks) {
  const Stream stream = context_.stream();
  const BlockPattern pattern = blocks.pattern().to(device_, stream);
  const std::int64_t block = blocks.block;
  const DLDataType type = weight_->view.tensor.dtype;
  const Buffer memory(device_, static_cast<std::size_t>(blocks.nonzero() * block * block) * type.bits / 8, stream);
  const TensorView values(memory.data(), device_, type, {blocks.nonzero(), block, block});
  gather_blocks(pattern, weight_->view.tensor, values.tensor, stream);
  const DLTensor &x = x_->view.tensor, &y = y_->view.tensor;
  const Buffer workspace(device_, linear_workspace_bytes(pattern, values.tensor, x, nullptr, y), stream);
  poison(y_->buffer.data(), y_->buffer.bytes(), device_, stream);  // an output that nobody wrote shows
  linear(pattern, values.tensor, x, nullptr, y, {}, {workspace.data(), workspace.bytes()}, stream);
  return y_->download();
}

// A sample of the outputs against double precision. Empty if all agree.
std::string LinearBench::first_wrong_output(const BlockList& blocks, const std::vector<float>& y) const {
  const DLDataType type = weight_->view.tensor.dtype;
  const bool half = type.bits == 16;
  // Half an ulp of the result, and for sums in float (any order) less than `cols` * 2^-24 of the sum of magnitudes.
  const double rounding = half ? (type.code == kDLBfloat ? 0x1p-8 : 0x1p-11) : 0x1p-24;
  std::mt19937_64 random(kSeed);
  for (int sample = 0; sample < kSampledOutputs; ++sample) {
    const auto token = static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(tokens_));
    const auto out = static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(blocks.rows));
    const float* const weights = host_weight_.data() + out * blocks.cols;
    const float* const inputs = host_x_.data() + token * blocks.cols;
    const auto block_row = static_cast<std::size_t>(out / blocks.block);
    double sum = 0, magnitude = 0;
    for (std::int32_t i = blocks.crow[block_row]; i < blocks.crow[block_row + 1]; ++i) {
      const std::int64_t begin = std::int64_t{blocks.col[static_cast<std::size_t>(i)]} * blocks.block;
      for (std::int64_t k = begin; k < std::min(begin + blocks.block, blocks.cols); ++k) {
        const double term = static_cast<double>(weights[k]) * inputs[k];
        sum += term;
        magnitude += std::fabs(term);
      }
    }
    const double got = y[static_cast<std::size_t>(token * blocks.rows + out)];
    const double bound = rounding * std::fabs(sum) + static_cast<double>(blocks.cols) * 0x1p-24 * magnitude;
    // Sums near or beyond the dtype's largest number may overflow on the way.
    const double largest = half && type.code == kDLFloat ? 65000 : 3.3e38;
    const bool finite = magnitude < largest;
    if (finite ? !(std::fabs(got - sum) <= bound) : std::isnan(sum) && !std::isnan(got)) {
      return fmt::format("output [{}, {}] is {:.9g} instead of {:.9g}", token, out, got, sum);
    }
  }
  return "";
}

}  // namespace triage::verdict
