// The list of kernels and how a problem finds its kernel. Devices are made up: nothing here is launched on them.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <set>
#include <sstream>
#include <string>

#include "device/schedule_build.h"
#include "registry/attention_registry.h"
#include "registry/registry.h"
#include "registry/source_hash.h"
#include "triage/triage.h"
#include "unit/tensor_view.h"

namespace triage {
namespace {

constexpr std::size_t kKilobyte = 1024;
const std::vector<int> kKnownDevices{80, 86, 87, 89, 90, 100, 103, 120, 121};

Device made_up(int compute_capability, std::size_t shared_kilobytes) {
  Device device;
  device.dl = {kDLCUDA, 0};
  device.name = "a made-up GPU";
  device.compute_capability = compute_capability;
  device.multiprocessors = 100;
  device.shared_memory_per_block = shared_kilobytes * kKilobyte;
  device.l2_bytes = std::size_t{40} << 20;
  return device;
}

std::size_t shared_kilobytes(int compute_capability) {
  switch (compute_capability) {
    case 80:
    case 87:
      return 163;
    case 86:
    case 89:
    case 120:
    case 121:
      return 99;
    default:
      return 227;
  }
}

SparseGemmProblem problem_for(const SparseGemmKernel& kernel) {
  SparseGemmProblem problem;
  problem.operation = kernel.operation;
  problem.block = kernel.block != 0 ? kernel.block : 32;
  problem.rows = problem.cols = problem.dense = 1024;
  problem.nnz_blocks = 100;
  return problem;
}

// Sets TRIAGE_FORCE_KERNEL for a scope.
class Forced {
 public:
  explicit Forced(const char* name) { setenv("TRIAGE_FORCE_KERNEL", name, 1); }
  ~Forced() { unsetenv("TRIAGE_FORCE_KERNEL"); }
};

template <typename Call>
std::string sentence_of(ErrorCode code, const Call& call) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return "";
}

TEST(Registry, RowsAreWellFormed) {
  std::set<std::string> names;
  for (const SparseGemmKernel* kernel : sparse_gemm_kernels()) {
    SCOPED_TRACE(kernel->name);
    EXPECT_TRUE(names.insert(kernel->name).second) << "two rows of one name";
    const std::string operation = operation_name(kernel->operation);
    std::string expected = std::string(family_name(kernel->family)) + "_" + operation.substr(operation.find('.') + 1);
    if (kernel->block != 0) expected += "_b" + std::to_string(kernel->block);
    EXPECT_EQ(std::string(kernel->name).rfind(expected, 0), 0u) << "names are family_operation_bBLOCK";
    EXPECT_TRUE(kernel->block == 0 || kernel->block == 16 || kernel->block == 32 || kernel->block == 64 ||
                kernel->block == 128);
    std::istringstream dtypes(kernel->dtypes);
    for (std::string dtype; dtypes >> dtype;) {
      EXPECT_TRUE(dtype == "float16" || dtype == "bfloat16" || dtype == "float32" || dtype == "float64") << dtype;
    }
    EXPECT_NE(kernel->can_run, nullptr);
    EXPECT_TRUE(std::ifstream(std::string(TRIAGE_SOURCE_DIR) + "/" + kernel->source).good()) << kernel->source;
    EXPECT_EQ(source_sha256(kernel->source).size(), 64u) << kernel->source;
  }
}

TEST(Registry, SpecialFamiliesComeFirst) {
  const std::vector<Family> order{Family::sm100, Family::sm90, Family::sm80, Family::cpu};
  std::size_t position = 0;
  for (const SparseGemmKernel* kernel : sparse_gemm_kernels()) {
    const auto found = static_cast<std::size_t>(std::find(order.begin(), order.end(), kernel->family) - order.begin());
    EXPECT_GE(found, position) << kernel->name;
    position = found;
  }
}

TEST(Registry, EveryOperationAndBlockHasACpuKernel) {
  const Device& cpu = probe_device({kDLCPU, 0});
  for (const Operation operation : {Operation::spmm, Operation::linear, Operation::sddmm}) {
    for (const int block : {16, 32, 64, 128}) {
      for (const DType dtype : {DType::float16, DType::bfloat16, DType::float32, DType::float64}) {
        SparseGemmProblem problem;
        problem.operation = operation;
        problem.block = block;
        problem.dtype = dtype;
        problem.rows = problem.cols = problem.dense = 7;
        EXPECT_EQ(select_sparse_gemm(problem, cpu).family, Family::cpu);
      }
    }
  }
}

TEST(Registry, FamiliesMatchByListNotByOrder) {
  for (const SparseGemmKernel* kernel : sparse_gemm_kernels()) {
    SCOPED_TRACE(kernel->name);
    for (int cc = 50; cc <= 140; cc++) {
      const Device device = made_up(cc, shared_kilobytes(cc));
      const Support support = judge(*kernel, problem_for(*kernel), device);
      EXPECT_NE(support.ok, !support.reason.empty()) << "a refusal, and only a refusal, has a reason";
      const bool known = std::find(kKnownDevices.begin(), kKnownDevices.end(), cc) != kKnownDevices.end();
      const bool may = (kernel->family == Family::sm80 && known) || (kernel->family == Family::sm90 && cc == 90) ||
                       (kernel->family == Family::sm100 && cc == 100);
      const bool compiled = kernel->launch != nullptr;
      EXPECT_EQ(support.ok, may && compiled) << cc << ": " << support.reason;
    }
  }
}

TEST(Registry, WithoutCodeForTheDeviceNothingRunsThere) {
  Device device = made_up(90, 227);
  device.has_code = false;
  for (const SparseGemmKernel* kernel : sparse_gemm_kernels()) {
    EXPECT_FALSE(judge(*kernel, problem_for(*kernel), device).ok) << kernel->name;
  }
  EXPECT_TRUE(schedule_specs({1024, 1024, 100, 32}, device).empty());
}

TEST(Registry, EverySpecIsOneThatTheBuildersTake) {
  for (const int cc : kKnownDevices) {
    for (const std::size_t shared : {shared_kilobytes(cc), std::size_t{99}}) {  // as TRIAGE_SHARED_MEMORY_KB=99 has it
      const Device device = made_up(cc, shared);
      for (const SparseGemmKernel* kernel : sparse_gemm_kernels()) {
        if (kernel->schedule == nullptr) continue;
        const int block = kernel->block != 0 ? kernel->block : 32;
        for (const std::int64_t nnz : {0, 50, 1000, 10000}) {  // a spec may depend on the density
          const std::optional<ScheduleSpec> spec = kernel->schedule({100 * block, 100 * block, nnz, block}, device);
          if (!spec) continue;
          EXPECT_NO_THROW(plan_schedule(*spec, 100, 100, nnz, 100)) << kernel->name << " on " << cc;
        }
      }
      for (const int block : {16, 32, 64, 128}) {
        for (const std::int64_t nnz : {0, 50, 1000, 10000}) {
          const std::vector<ScheduleSpec> specs = schedule_specs({100 * block, 100 * block, nnz, block}, device);
          for (std::size_t i = 0; i < specs.size(); i++) {
            EXPECT_EQ(std::count(specs.begin(), specs.end(), specs[i]), 1) << "equal specs share a schedule";
          }
        }
      }
    }
  }
}

// On 9.0 the sm90 rows serve what they take, and sm80's serve the rest; elsewhere sm80's serve everything.
TEST(Registry, HopperKernelsComeFirstOnHopper) {
  if (TRIAGE_HAS_SM90 == 0) GTEST_SKIP() << "this build holds no sm90 code";
  int problems = 0;
  for (const Operation operation : {Operation::spmm, Operation::linear, Operation::sddmm}) {
    for (const int block : {16, 32, 64, 128}) {
      for (const DType dtype : {DType::float16, DType::bfloat16}) {
        SparseGemmProblem problem;
        problem.operation = operation;
        problem.dtype = dtype;
        problem.block = block;
        problem.rows = problem.cols = problem.dense = 4096;
        problem.nnz_blocks = problem.rows / block * problem.cols / block / 5;
        const auto family = [&](const Device& device) { return select_sparse_gemm(problem, device).family; };
        SCOPED_TRACE(std::string(operation_name(operation)) + " block " + std::to_string(block));
        EXPECT_EQ(family(made_up(90, 227)), Family::sm90);
        EXPECT_EQ(family(made_up(90, 99)), Family::sm80) << "too little shared memory for TMA's pipelines";
        for (const int cc : kKnownDevices) {
          if (cc == 90) continue;
          EXPECT_EQ(family(made_up(cc, shared_kilobytes(cc))), Family::sm80) << cc;
        }
        problem.aligned16 = false;
        EXPECT_EQ(family(made_up(90, 227)), Family::sm80) << "TMA takes no such strides";
        problem.aligned16 = true;
        problem.nnz_blocks = 0;
        EXPECT_EQ(family(made_up(90, 227)), Family::sm80) << "an empty matrix has no values to map";
        problems++;
      }
    }
  }
  EXPECT_EQ(problems, 24);
}

TEST(Registry, ARefusalSaysWhatEachKernelLacked) {
  SparseGemmProblem problem;
  problem.operation = Operation::linear;
  problem.block = 32;
  problem.rows = problem.cols = problem.dense = 64;
  const std::string sentence =
      sentence_of(ErrorCode::unsupported, [&] { select_sparse_gemm(problem, made_up(75, 64)); });
  for (const SparseGemmKernel* kernel : sparse_gemm_kernels()) {
    const bool named = sentence.find(std::string(kernel->name) + ": ") != std::string::npos;
    EXPECT_EQ(named, kernel->operation == Operation::linear) << kernel->name << " in: " << sentence;
  }
  EXPECT_NE(sentence.find("64 x 64"), std::string::npos) << sentence;
}

template <typename Kernels>
void expect_well_formed(const Kernels& kernels, const std::string& operation) {
  std::set<std::string> names;
  for (const auto* kernel : kernels) {
    SCOPED_TRACE(kernel->name);
    EXPECT_TRUE(names.insert(kernel->name).second) << "two rows of one name";
    const std::string expected = std::string(family_name(kernel->family)) + operation;
    EXPECT_EQ(std::string(kernel->name).rfind(expected, 0), 0u) << "names begin with family_operation";
    EXPECT_NE(kernel->can_run, nullptr);
    EXPECT_TRUE(std::ifstream(std::string(TRIAGE_SOURCE_DIR) + "/" + kernel->source).good()) << kernel->source;
    EXPECT_EQ(source_sha256(kernel->source).size(), 64u) << kernel->source;
    for (const int cc : kKnownDevices) {
      const Device device = made_up(cc, shared_kilobytes(cc));
      const Support support = judge(*kernel, ordinary_problem(*kernel), device);
      const bool may = kernel->family == Family::sm80 || (kernel->family == Family::sm90 && cc == 90);
      EXPECT_EQ(support.ok, may && kernel->launch != nullptr) << cc << ": " << support.reason;
      EXPECT_NE(support.ok, !support.reason.empty()) << "a refusal, and only a refusal, has a reason";
    }
  }
  EXPECT_EQ(names.count("cpu" + operation), 1u);
}

TEST(Registry, AttentionRowsAreWellFormed) {
  expect_well_formed(attention_kernels(), "_attention_forward");
  expect_well_formed(attention_backward_kernels(), "_attention_backward");
}

TEST(Registry, ARefusalOfAttentionSaysWhatEachKernelLacked) {
  const AttentionProblem problem = ordinary_problem(*attention_kernels().front());
  const auto expect_all_named = [](const std::string& sentence, const auto& kernels) {
    for (const auto* kernel : kernels) {
      EXPECT_NE(sentence.find(std::string(kernel->name) + ": "), std::string::npos)
          << kernel->name << " in: " << sentence;
    }
    EXPECT_NE(sentence.find("head_dim 128"), std::string::npos) << sentence;
  };
  const Device old = made_up(75, 64);
  expect_all_named(sentence_of(ErrorCode::unsupported, [&] { select_attention(problem, old); }), attention_kernels());
  expect_all_named(sentence_of(ErrorCode::unsupported, [&] { select_attention_backward(problem, old); }),
                   attention_backward_kernels());
}

TEST(Registry, ForcingAnAttentionKernelCountsForItsDirectionAlone) {
  const AttentionProblem problem = ordinary_problem(*attention_kernels().front());
  const Device& cpu = probe_device({kDLCPU, 0});
  {
    const Forced forced("cpu_attention_backward");
    EXPECT_STREQ(select_attention_backward(problem, cpu).name, "cpu_attention_backward");
    const std::string sentence = sentence_of(ErrorCode::unsupported, [&] { select_attention(problem, cpu); });
    EXPECT_NE(sentence.find("it computes attention.backward"), std::string::npos) << sentence;
  }
  {
    const Forced forced("cpu_attention_forward");
    const std::string sentence = sentence_of(ErrorCode::unsupported, [&] { select_attention_backward(problem, cpu); });
    EXPECT_NE(sentence.find("it computes attention.forward"), std::string::npos) << sentence;
  }
  const Forced forced("sm17_attention");
  const std::string sentence = sentence_of(ErrorCode::unsupported, [&] { select_attention_backward(problem, cpu); });
  for (const char* name : {"sm17_attention", "cpu_attention_forward", "cpu_attention_backward"})
    EXPECT_NE(sentence.find(name), std::string::npos) << sentence;
}

TEST(Registry, ForcingNamesWhatIsWrong) {
  SparseGemmProblem problem;
  problem.block = 32;
  problem.rows = problem.cols = problem.dense = 64;
  const Device& cpu = probe_device({kDLCPU, 0});
  {
    const Forced forced("sm17_spmm_b32");
    const std::string sentence = sentence_of(ErrorCode::unsupported, [&] { select_sparse_gemm(problem, cpu); });
    EXPECT_NE(sentence.find("sm17_spmm_b32"), std::string::npos);
    EXPECT_NE(sentence.find("cpu_spmm"), std::string::npos) << "the known names are listed";
  }
  {
    const Forced forced("cpu_linear");
    const std::string sentence = sentence_of(ErrorCode::unsupported, [&] { select_sparse_gemm(problem, cpu); });
    EXPECT_NE(sentence.find("sparse_gemm.linear"), std::string::npos) << sentence;
  }
  {
    const Forced forced("");
    EXPECT_STREQ(select_sparse_gemm(problem, cpu).name, "cpu_spmm");
  }
  {
    const Forced forced("cpu_spmm");
    EXPECT_STREQ(select_sparse_gemm(problem, cpu).name, "cpu_spmm");
    sentence_of(ErrorCode::unsupported, [&] { select_sparse_gemm(problem, made_up(90, 227)); });
  }
}

TEST(Registry, PackedValuesAreReadByTheKernelTheyArePackedFor) {
  for (const int cc : {89, 90}) {
    const Device device = made_up(cc, shared_kilobytes(cc));
    for (const SparseGemmKernel* kernel : sparse_gemm_kernels()) {
      SparseGemmProblem problem = problem_for(*kernel);
      problem.values_layout = ValuesLayout::packed;
      EXPECT_FALSE(kernel->prepack == nullptr && judge(*kernel, problem, device).ok) << kernel->name;
      const SparseGemmKernel* packing = nullptr;
      try {
        packing = &select_packing(problem, device);
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::unsupported);
        continue;
      }
      for (const bool aligned :
           {true, false}) {  // a kernel that needs alignment must not be replaced by one that does not
        problem.aligned16 = aligned;
        try {
          EXPECT_EQ(&select_sparse_gemm(problem, device), packing);
        } catch (const Error& error) {
          EXPECT_NE(std::string(error.what()).find(packing->name), std::string::npos) << error.what();
        }
      }
    }
  }
}

TEST(Registry, TheNamedKernelRan) {
  const std::vector<std::int32_t> crow{0, 1}, col{0};
  const BlockPattern pattern = BlockPattern::from_bsr(test::view(crow), test::view(col), 16, 16, 16);
  std::vector<float> values(256, 1.0f), b(16 * 3, 2.0f), c(16 * 3), none;
  const auto run = [&](std::int64_t columns) {
    const test::View values_view = test::view(values, {1, 16, 16}), b_view = test::view(b, {16, columns}),
                     c_view = test::view(c, {16, columns});
    std::vector<char> memory(spmm_workspace_bytes(pattern, values_view, b_view, c_view) + 256);
    char* aligned = memory.data() + (256 - reinterpret_cast<std::uintptr_t>(memory.data()) % 256);
    spmm(pattern, values_view, b_view, c_view, {}, {aligned, memory.size() - 256});
  };
  const Forced forced("cpu_spmm");
  run(3);
  EXPECT_EQ(last_kernel(), "cpu_spmm");
  EXPECT_EQ(c, std::vector<float>(16 * 3, 32.0f));
  EXPECT_THROW(spmm(pattern, test::view(values, {1, 16, 16}), test::view(b, {15, 3}), test::view(c, {16, 3})), Error);
  EXPECT_EQ(last_kernel(), "cpu_spmm") << "a failure changes nothing";
  run(0);
  EXPECT_EQ(last_kernel(), "") << "size zero needs no kernel";
}

TEST(Registry, ReportsTellWhatRunsHere) {
  const std::vector<KernelReport> reports = kernel_reports({kDLCPU, 0});
  ASSERT_EQ(reports.size(), sparse_gemm_kernels().size() + attention_kernels().size() + attention_backward_kernels().size());
  for (const KernelReport& report : reports) {
    EXPECT_EQ(report.can_run, report.family == "cpu") << report.name;
    EXPECT_EQ(report.reason.empty(), report.can_run) << report.name;
    EXPECT_EQ(report.source_sha256.size(), 64u);
    EXPECT_FALSE(report.dtypes.empty());
    EXPECT_TRUE(report.operation.rfind("sparse_gemm.", 0) == 0 || report.operation == kAttentionForward ||
                report.operation == kAttentionBackward);
  }
}

TEST(Registry, UnknownDevicesAreRefused) {
  EXPECT_THROW(kernel_reports({kDLMetal, 0}), Error);
  EXPECT_THROW(kernel_reports({kDLCUDA, 4096}), Error);
  EXPECT_THROW(kernel_reports({kDLCUDA, -1}), Error);
  EXPECT_GE(cuda_device_count(), 0);
  const std::string number = version();
  EXPECT_EQ(std::count(number.begin(), number.end(), '.'), 2) << number;
}

}  // namespace
}  // namespace triage
