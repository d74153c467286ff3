// Patterns and schedules on the GPU: the same bits as the host's, from every kind of input, also inside a CUDA graph.
#include <gtest/gtest.h>

#if TRIAGE_HAS_CUDA

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "device/pattern_build.h"
#include "triage/block_pattern.h"
#include "triage/error.h"
#include "triage/kernels.h"
#include "unit/schedule_check.h"
#include "unit/tensor_view.h"

namespace triage {
namespace {

using test::PatternCase;
using test::random_case;
using test::random_spec;
using test::View;
using test::view;

constexpr DLDevice kGpu{kDLCUDA, 0};

void check(cudaError_t status) { ASSERT_EQ(status, cudaSuccess) << cudaGetErrorString(status); }

// A host array's copy on the GPU.
template <typename T>
class OnGpu {
 public:
  explicit OnGpu(const std::vector<T>& host) : count_(host.size()) {
    check(cudaMalloc(&data_, std::max<std::size_t>(1, bytes())));
    set(host);
  }
  ~OnGpu() { cudaFree(data_); }
  OnGpu(const OnGpu&) = delete;
  OnGpu& operator=(const OnGpu&) = delete;

  void set(const std::vector<T>& host) { check(cudaMemcpy(data_, host.data(), bytes(), cudaMemcpyHostToDevice)); }
  std::vector<T> get() const {
    std::vector<T> host(count_);
    check(cudaMemcpy(host.data(), data_, bytes(), cudaMemcpyDeviceToHost));
    return host;
  }
  T* data() { return static_cast<T*>(data_); }
  View tensor(std::vector<std::int64_t> shape = {}, std::vector<std::int64_t> strides = {}) {
    if (shape.empty()) shape = {static_cast<std::int64_t>(count_)};
    return View(data_, test::dtype_of<T>(), std::move(shape), std::move(strides), kGpu);
  }

 private:
  std::size_t bytes() const { return count_ * sizeof(T); }
  void* data_ = nullptr;
  std::size_t count_;
};

std::vector<std::int32_t> read(const DLTensor& tensor) {
  std::vector<std::int32_t> host(static_cast<std::size_t>(tensor.shape[0]));
  check(cudaMemcpy(host.data(), tensor.data, host.size() * sizeof(std::int32_t), cudaMemcpyDefault));
  return host;
}

void expect_same(const BlockPattern& gpu, const BlockPattern& host) {
  EXPECT_EQ(gpu.device().device_type, kDLCUDA);
  EXPECT_EQ(gpu.rows(), host.rows());
  EXPECT_EQ(gpu.cols(), host.cols());
  EXPECT_EQ(read(gpu.crow_indices()), read(host.crow_indices()));
  EXPECT_EQ(read(gpu.col_indices()), read(host.col_indices()));
  EXPECT_EQ(read(gpu.transposed_positions()), read(host.transposed_positions()));
  const BlockPattern gpu_twin = gpu.transposed(), host_twin = host.transposed();
  EXPECT_EQ(read(gpu_twin.crow_indices()), read(host_twin.crow_indices()));
  EXPECT_EQ(read(gpu_twin.col_indices()), read(host_twin.col_indices()));
  EXPECT_EQ(read(gpu_twin.transposed_positions()), read(host_twin.transposed_positions()));
}

BlockPattern on_host(const PatternCase& p) {
  return BlockPattern::from_bsr(view(p.crow), view(p.col), p.rows, p.cols, p.block);
}

class GpuPattern : public testing::Test {
 protected:
  void SetUp() override {
    if (cuda_device_count() == 0) GTEST_SKIP() << "no CUDA device here";
  }
};

using GpuSchedule = GpuPattern;

TEST_F(GpuPattern, EveryKindOfInputGivesTheHostsPattern) {
  for (unsigned seed = 0; seed < 64; seed++) {
    SCOPED_TRACE(seed);
    const PatternCase p = random_case(seed);
    const BlockPattern host = on_host(p);
    OnGpu<std::int32_t> crow(p.crow), col(p.col);
    expect_same(BlockPattern::from_bsr(crow.tensor(), col.tensor(), p.rows, p.cols, p.block), host);
    OnGpu<std::int64_t> wide_crow({p.crow.begin(), p.crow.end()}), wide_col({p.col.begin(), p.col.end()});
    expect_same(BlockPattern::from_bsr(wide_crow.tensor(), wide_col.tensor(), p.rows, p.cols, p.block), host);
    OnGpu<std::uint8_t> mask(p.mask);
    expect_same(BlockPattern::from_mask(mask.tensor({p.block_rows, p.block_cols}), p.rows, p.cols, p.block), host);
    expect_same(host.to(kGpu), host);
    const BlockPattern back = host.to(kGpu).to({kDLCPU, 0});
    EXPECT_EQ(read(back.col_indices()), p.col);
  }
}

TEST_F(GpuPattern, FromDenseGatherAndScatter) {
  for (unsigned seed = 0; seed < 24; seed++) {
    SCOPED_TRACE(seed);
    const PatternCase p = random_case(seed, 12);
    const BlockPattern host = on_host(p);
    const std::int64_t stride = p.cols + seed % 3, nnz = host.nnz_blocks();
    std::vector<float> matrix(static_cast<std::size_t>(p.rows * stride));
    for (std::int64_t r = 0; r < p.rows; r++) {
      for (std::int64_t c = 0; c < p.cols; c++) {
        const bool block = p.has(static_cast<std::int32_t>(r / p.block), static_cast<std::int32_t>(c / p.block));
        matrix[r * stride + c] = block ? (r + c) % 3 == 0 ? -0.0f : static_cast<float>(r * 13 + c) : 0.0f;
        if (block && r % p.block == 0 && c % p.block == 0) matrix[r * stride + c] = std::nanf("");
      }
    }
    OnGpu<float> gpu_matrix(matrix);
    const View gpu_view = gpu_matrix.tensor({p.rows, p.cols}, {stride, 1});
    const BlockPattern gpu = BlockPattern::from_dense(gpu_view, p.block);
    expect_same(gpu, host);

    std::vector<float> values(static_cast<std::size_t>(nnz * p.block * p.block), 9.0f);
    OnGpu<float> gpu_values(values);
    gather_blocks(host, view(matrix, {p.rows, p.cols}, {stride, 1}), view(values, {nnz, p.block, p.block}));
    gather_blocks(gpu, gpu_view, gpu_values.tensor({nnz, p.block, p.block}));
    const std::vector<float> gathered = gpu_values.get();
    EXPECT_EQ(std::memcmp(gathered.data(), values.data(), values.size() * sizeof(float)), 0);

    std::vector<float> back(matrix.size(), 5.0f);
    OnGpu<float> gpu_back(back);
    scatter_blocks(host, view(values, {nnz, p.block, p.block}), view(back, {p.rows, p.cols}, {stride, 1}));
    scatter_blocks(gpu, gpu_values.tensor({nnz, p.block, p.block}), gpu_back.tensor({p.rows, p.cols}, {stride, 1}));
    const std::vector<float> scattered = gpu_back.get();
    EXPECT_EQ(std::memcmp(scattered.data(), back.data(), back.size() * sizeof(float)), 0);
  }
}

TEST_F(GpuPattern, WrongIndicesGetTheHostsSentence) {
  const PatternCase p = random_case(8);
  for (unsigned seed = 0; seed < 40; seed++) {
    std::mt19937 random(seed);
    std::vector<std::int32_t> crow = p.crow, col = p.col;
    std::vector<std::int32_t>& victim = seed % 2 ? crow : col;
    victim[random() % victim.size()] = static_cast<std::int32_t>(random() % 3 ? random() % 100 : random());
    if (crow == p.crow && col == p.col) continue;
    std::string host_sentence, gpu_sentence;
    try {
      BlockPattern::from_bsr(view(crow), view(col), p.rows, p.cols, p.block);
    } catch (const Error& error) {
      host_sentence = error.what();
    }
    OnGpu<std::int32_t> gpu_crow(crow), gpu_col(col);
    try {
      BlockPattern::from_bsr(gpu_crow.tensor(), gpu_col.tensor(), p.rows, p.cols, p.block);
    } catch (const Error& error) {
      gpu_sentence = error.what();
    }
    EXPECT_EQ(gpu_sentence, host_sentence) << "seed " << seed;
  }
}

TEST_F(GpuPattern, UpdateInsideAGraphRebuildsEverything) {
  std::mt19937 random(7);
  PatternCase p = test::make_case(90 * 16, 70 * 16 - 5, 16, 0.2, random);
  OnGpu<std::int32_t> crow(p.crow), col(p.col);
  BlockPattern pattern = BlockPattern::from_bsr(crow.tensor(), col.tensor(), p.rows, p.cols, p.block);
  cudaStream_t stream;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  cudaGraph_t graph;
  cudaGraphExec_t executable;
  check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
  pattern.update(crow.tensor(), col.tensor(), stream);
  check(cudaStreamEndCapture(stream, &graph));
  check(cudaGraphInstantiate(&executable, graph, 0));
  for (int round = 0; round < 10; round++) {
    std::shuffle(p.mask.begin(), p.mask.end(), random);
    test::fill_indices(p);
    crow.set(p.crow);
    col.set(p.col);
    check(cudaGraphLaunch(executable, stream));
    check(cudaStreamSynchronize(stream));
    expect_same(pattern, on_host(p));
  }
  check(cudaGraphExecDestroy(executable));
  check(cudaGraphDestroy(graph));
  check(cudaStreamDestroy(stream));
}

TEST_F(GpuPattern, MakingAPatternInsideACaptureIsAnError) {
  const PatternCase p = random_case(8);
  OnGpu<std::int32_t> crow(p.crow), col(p.col);
  cudaStream_t stream;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
  try {
    BlockPattern::from_bsr(crow.tensor(), col.tensor(), p.rows, p.cols, p.block, stream);
    ADD_FAILURE() << "it cannot be captured";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::cuda) << error.what();
  }
  cudaGraph_t graph = nullptr;
  cudaStreamEndCapture(stream, &graph);  // the capture is void
  cudaGetLastError();
  if (graph != nullptr) check(cudaGraphDestroy(graph));
  expect_same(BlockPattern::from_bsr(crow.tensor(), col.tensor(), p.rows, p.cols, p.block, stream), on_host(p));
  check(cudaStreamDestroy(stream));
}

TEST_F(GpuPattern, HostAndGpuTensorsDoNotMix) {
  const PatternCase p = random_case(8, 12);
  OnGpu<std::int32_t> crow(p.crow), col(p.col);
  EXPECT_THROW(BlockPattern::from_bsr(crow.tensor(), view(p.col), p.rows, p.cols, p.block), Error);
  EXPECT_THROW(BlockPattern::from_bsr(view(p.crow), col.tensor(), p.rows, p.cols, p.block), Error);
  BlockPattern gpu = BlockPattern::from_bsr(crow.tensor(), col.tensor(), p.rows, p.cols, p.block);
  EXPECT_THROW(gpu.update(view(p.crow), view(p.col)), Error);
  const std::int64_t nnz = gpu.nnz_blocks();
  std::vector<float> matrix(static_cast<std::size_t>(p.rows * p.cols)),
      values(static_cast<std::size_t>(nnz * p.block * p.block));
  EXPECT_THROW(gather_blocks(gpu, view(matrix, {p.rows, p.cols}), view(values, {nnz, p.block, p.block})), Error);
}

// How long an update takes with the schedules that this device's kernels ask for: printed, not judged.
TEST_F(GpuPattern, UpdateOfA512x512Pattern) {
  for (const int block : {16, 32, 64, 128}) {
    std::mt19937 random(1);
    const PatternCase p = test::make_case(512 * block, 512 * block, block, 0.22, random);
    OnGpu<std::int32_t> crow(p.crow), col(p.col);
    BlockPattern pattern = BlockPattern::from_bsr(crow.tensor(), col.tensor(), p.rows, p.cols, p.block);
    cudaEvent_t begin, end;
    check(cudaEventCreate(&begin));
    check(cudaEventCreate(&end));
    constexpr int kUpdates = 20;
    float milliseconds = 0;
    for (int round = 0; round < 3; round++) {
      check(cudaEventRecord(begin));
      for (int i = 0; i < kUpdates; i++) pattern.update(crow.tensor(), col.tensor());
      check(cudaEventRecord(end));
      check(cudaEventSynchronize(end));
      check(cudaEventElapsedTime(&milliseconds, begin, end));
    }
    std::printf("update, block %d: %.1f us\n", block, 1000 * milliseconds / kUpdates);
    expect_same(pattern, on_host(p));
    check(cudaEventDestroy(begin));
    check(cudaEventDestroy(end));
  }
}

// All arrays of a schedule in one allocation, on the GPU.
struct GpuScheduleMemory {
  ScheduleArrays arrays;
  void* memory = nullptr;
  void* scratch = nullptr;

  explicit GpuScheduleMemory(const SchedulePlan& plan) {
    const std::size_t sizes[] = {(plan.stage_capacity + kStagePadding) * sizeof(StageRecord),
                                 (std::size_t(plan.nnz) + kBlockOrderPadding) * sizeof(std::int32_t),
                                 std::size_t(plan.group_count) * sizeof(WorkItem),
                                 std::size_t(plan.group_count + plan.split_slot_capacity) * sizeof(WorkItem),
                                 std::size_t(plan.split_slot_capacity / 2) * sizeof(SplitGroup),
                                 sizeof(ScheduleCounts)};
    std::size_t offset[7] = {};
    for (int i = 0; i < 6; i++) offset[i + 1] = offset[i] + (sizes[i] + 255) / 256 * 256;
    check(cudaMalloc(&memory, offset[6]));
    check(cudaMemset(memory, 0, offset[6]));
    check(cudaMalloc(&scratch, build_schedule_cuda_scratch_bytes(plan) + 1));
    char* base = static_cast<char*>(memory);
    arrays = {reinterpret_cast<StageRecord*>(base),
              reinterpret_cast<std::int32_t*>(base + offset[1]),
              reinterpret_cast<WorkItem*>(base + offset[2]),
              reinterpret_cast<WorkItem*>(base + offset[3]),
              reinterpret_cast<SplitGroup*>(base + offset[4]),
              reinterpret_cast<ScheduleCounts*>(base + offset[5])};
  }
  ~GpuScheduleMemory() {
    cudaFree(memory);
    cudaFree(scratch);
  }
};

template <typename T>
bool same(const T* gpu, const T* host, std::size_t count) {
  std::vector<char> copy(count * sizeof(T));
  check(cudaMemcpy(copy.data(), gpu, copy.size(), cudaMemcpyDeviceToHost));
  return count == 0 || std::memcmp(copy.data(), host, copy.size()) == 0;
}

void expect_same_schedule(const PatternCase& p, const ScheduleSpec& spec, int multiprocessors, std::int32_t slots) {
  HostSchedule host(spec, p.block_rows, p.block_cols, p.crow.data(), p.col.data(), multiprocessors);
  if (slots >= 0) {
    std::fill(host.split_items.begin(), host.split_items.end(), WorkItem{});
    std::fill(host.splits.begin(), host.splits.end(), SplitGroup{});
    build_schedule(host.plan, p.crow.data(), p.col.data(), slots, host.arrays());
  }
  GpuScheduleMemory gpu(host.plan);
  OnGpu<std::int32_t> crow(p.crow), col(p.col);
  build_schedule_cuda(host.plan, crow.data(), col.data(), slots < 0 ? host.plan.split_slot_capacity : slots, gpu.arrays,
                      gpu.scratch, nullptr);
  check(cudaDeviceSynchronize());
  ASSERT_TRUE(same(gpu.arrays.counts, &host.counts, 1));
  ASSERT_TRUE(same(gpu.arrays.stages, host.stages.data(), host.stages.size()));
  ASSERT_TRUE(same(gpu.arrays.block_order, host.block_order.data(), host.block_order.size()));
  ASSERT_TRUE(same(gpu.arrays.items, host.items.data(), host.items.size()));
  ASSERT_TRUE(same(gpu.arrays.split_items, host.split_items.data(), host.counts.split_item_count));
  ASSERT_TRUE(same(gpu.arrays.splits, host.splits.data(), host.counts.split_count));
}

TEST_F(GpuSchedule, SameBitsAsTheHostOnRandomPatterns) {
  for (unsigned seed = 0; seed < 400; seed++) {
    SCOPED_TRACE(seed);
    const PatternCase p = random_case(seed, seed % 5 == 0 ? 400 : 60);
    expect_same_schedule(p, random_spec(seed), 1 + seed % 140,
                         seed % 3 == 0 ? static_cast<std::int32_t>(seed % 20) : -1);
    if (HasFatalFailure()) return;
  }
}

TEST_F(GpuSchedule, SameBitsAsTheHostOnWidePatterns) {
  for (unsigned seed = 0; seed < 12; seed++) {  // several windows of columns, some empty; and many groups
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    const bool wide = seed % 2 == 0;
    const PatternCase p = test::make_case(wide ? 30 * 16 : 5000 * 16, wide ? 9001 * 16 : 40 * 16, 16,
                                          seed % 3 == 0 ? 0.3 : 0.002, random);
    ScheduleSpec spec = random_spec(seed);
    if (!wide) spec = {1, 1, spec.columns_per_stage, spec.blocks_per_stage};
    expect_same_schedule(p, spec, 132, -1);
    if (HasFatalFailure()) return;
  }
}

TEST_F(GpuSchedule, SameBitsAsTheHostWithManyGroups) {
  std::mt19937 random(3);
  const PatternCase p = test::make_case(70000 * 16, 24 * 16, 16, 0.3, random);
  expect_same_schedule(p, ScheduleSpec{}, 132, -1);
}

TEST_F(GpuSchedule, A512x512PatternTakesLessThan100Microseconds) {
  for (const double density : {0.05, 0.22, 0.5}) {
    for (const ScheduleSpec& spec :
         {ScheduleSpec{8, 8, 16, 64}, ScheduleSpec{16, 4, 4, 64}, ScheduleSpec{24, 8, 16, 255},
          ScheduleSpec{1, 1, 1, 1}, ScheduleSpec{4, 2, 2, 8}}) {
      std::mt19937 random(1);
      const PatternCase p = test::make_case(512 * 16, 512 * 16, 16, density, random);
      const SchedulePlan plan = plan_schedule(spec, p.block_rows, p.block_cols, p.crow.back(), 132);
      GpuScheduleMemory gpu(plan);
      OnGpu<std::int32_t> crow(p.crow), col(p.col);
      cudaStream_t stream;
      cudaGraph_t graph;
      cudaGraphExec_t executable;
      cudaEvent_t begin, end;
      check(cudaStreamCreate(&stream));
      check(cudaEventCreate(&begin));
      check(cudaEventCreate(&end));
      constexpr int kBuilds = 20;
      check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
      for (int i = 0; i < kBuilds; i++) {
        build_schedule_cuda(plan, crow.data(), col.data(), plan.split_slot_capacity, gpu.arrays, gpu.scratch, stream);
      }
      check(cudaStreamEndCapture(stream, &graph));
      check(cudaGraphInstantiate(&executable, graph, 0));
      std::vector<float> times;
      for (int round = 0; round < 11; round++) {
        check(cudaEventRecord(begin, stream));
        check(cudaGraphLaunch(executable, stream));
        check(cudaEventRecord(end, stream));
        check(cudaEventSynchronize(end));
        float milliseconds = 0;
        check(cudaEventElapsedTime(&milliseconds, begin, end));
        times.push_back(1000 * milliseconds / kBuilds);
      }
      std::sort(times.begin(), times.end());
      EXPECT_LT(times[5], 100.0f);
      std::printf("density %.2f, %d rows, %d columns, %d blocks a stage: %.1f us\n", density, spec.rows_per_group,
                  spec.columns_per_stage, spec.blocks_per_stage, times[5]);
      check(cudaGraphExecDestroy(executable));
      check(cudaGraphDestroy(graph));
      check(cudaEventDestroy(begin));
      check(cudaEventDestroy(end));
      check(cudaStreamDestroy(stream));
    }
  }
}

}  // namespace
}  // namespace triage

#endif
