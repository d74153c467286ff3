// Offsets past 2^31 elements, in the values and in every dense matrix. Host memory is reserved but for the most part
// never touched, so that this fits a small machine; on a GPU it takes a few GB.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstring>

#include "device/memory.h"
#include "support/forced_kernel.h"
#include "support/host_memory.h"
#include "support/kernel_rows.h"
#include "support/test_seed.h"
#include "verdict/correctness.h"

namespace triage::testing {
namespace {

using namespace verdict;

constexpr std::int64_t kTwoTo31 = std::int64_t{1} << 31;
constexpr DLDevice kHost{kDLCPU, 0};

// Zeroed memory of a device; on the host only pages that are written take memory.
class LargeMemory {
 public:
  LargeMemory(DLDevice device, std::size_t bytes) : device_(device), bytes_(bytes) {
    if (on_cuda(device)) {
      buffer_ = Buffer(device, bytes, nullptr);
      data_ = buffer_.data();
      return;
    }
    void* mapped = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapped == MAP_FAILED) throw Error(ErrorCode::out_of_memory, "mmap failed");
    data_ = mapped;
  }
  ~LargeMemory() {
    if (!on_cuda(device_)) munmap(data_, bytes_);
  }
  LargeMemory(const LargeMemory&) = delete;
  LargeMemory& operator=(const LargeMemory&) = delete;
  void* data() const { return data_; }

 private:
  DLDevice device_;
  std::size_t bytes_;
  void* data_ = nullptr;
  Buffer buffer_;
};

// A matrix whose rows are so far apart that the last begins past 2^31 elements, and its compact copy on the host.
struct FarMatrix {
  FarMatrix(DLDevice device, DType dtype, std::int64_t rows, std::int64_t cols, std::uint64_t seed)
      : device(device),
        dtype(dtype),
        shape{rows, cols},
        strides{kTwoTo31 / (rows - 1) / 8 * 8 + 64, 1},
        memory(device, static_cast<std::size_t>((rows - 1) * strides[0] + cols) * dtype_bytes(dtype)),
        compact(static_cast<std::size_t>(rows * cols * dtype_bytes(dtype))) {
    fill_random(dtype, compact.data(), rows, cols, cols, seed, ValueKind::centred);
    copy_rows(true);
  }

  void copy_rows(bool to_device) {
    const std::size_t row_bytes = static_cast<std::size_t>(shape[1] * dtype_bytes(dtype));
    for (std::int64_t r = 0; r < shape[0]; ++r) {
      char* far = static_cast<char*>(memory.data()) + r * strides[0] * dtype_bytes(dtype);
      unsigned char* near = compact.data() + static_cast<std::size_t>(r) * row_bytes;
      copy_bytes(to_device ? static_cast<void*>(far) : near, to_device ? device : kHost,
                 to_device ? static_cast<void*>(near) : far, to_device ? kHost : device, row_bytes, nullptr, "test rows");
    }
    synchronize(device, nullptr);
  }

  DLTensor view() {
    DLTensor tensor{};
    tensor.data = memory.data();
    tensor.device = device;
    tensor.ndim = 2;
    tensor.dtype = dlpack_dtype(dtype);
    tensor.shape = shape;
    tensor.strides = strides;
    return tensor;
  }

  Matrix host() { return {compact.data(), shape[0], shape[1], shape[1]}; }

  DLDevice device;
  DType dtype;
  std::int64_t shape[2], strides[2];
  LargeMemory memory;
  std::vector<unsigned char> compact;
};

class LargeOffsets : public ::testing::TestWithParam<KernelRow> {
 protected:
  void SetUp() override {
    const KernelRow& row = GetParam();
    const std::string why = obstacle(row);
    if (!why.empty()) GTEST_SKIP() << row.kernel << " cannot run here: " << why;
#if defined(__SANITIZE_ADDRESS__)
    if (!row.gpu) GTEST_SKIP() << "reserved memory of this size is not for AddressSanitizer";
#endif
  }

  BlockPattern make_pattern(const bench::HostPattern& host, std::int64_t rows, std::int64_t cols) const {
    std::int64_t crow_shape = static_cast<std::int64_t>(host.crow.size()), col_shape = host.nnz_blocks();
    const auto view = [](const std::vector<std::int32_t>& data, std::int64_t& shape) {
      DLTensor tensor{};
      tensor.data = const_cast<std::int32_t*>(data.data());
      tensor.device = kHost;
      tensor.ndim = 1;
      tensor.dtype = {kDLInt, 32, 1};
      tensor.shape = &shape;
      return tensor;
    };
    const BlockPattern pattern = BlockPattern::from_bsr(view(host.crow, crow_shape), view(host.col, col_shape), rows, cols, GetParam().block);
    return GetParam().gpu ? pattern.to(GetParam().device()) : pattern;
  }

  SparseGemmCall host_call(const bench::HostPattern& pattern, std::int64_t rows, std::int64_t cols, std::int64_t dense) const {
    SparseGemmCall call;
    call.problem = {GetParam().operation, GetParam().dtype, GetParam().block, rows, cols, dense, pattern.nnz_blocks()};
    call.pattern.rows = rows;
    call.pattern.cols = cols;
    call.pattern.nnz_blocks = pattern.nnz_blocks();
    call.pattern.block = GetParam().block;
    call.pattern.block_rows = static_cast<std::int32_t>(pattern.block_rows);
    call.pattern.block_cols = static_cast<std::int32_t>(pattern.block_cols);
    call.pattern.crow = pattern.crow.data();
    call.pattern.col = pattern.col.data();
    return call;
  }

  static DLTensor values_view(void* data, DLDevice device, DType dtype, std::int64_t (&shape)[3]) {
    DLTensor tensor{};
    tensor.data = data;
    tensor.device = device;
    tensor.ndim = 3;
    tensor.dtype = dlpack_dtype(dtype);
    tensor.shape = shape;
    return tensor;
  }
};

TEST_P(LargeOffsets, InDenseMatrices) {
  const KernelRow& row = GetParam();
  const ForcedKernel forced(row.kernel);
  const std::int64_t block = row.block, rows = 5 * block, cols = 4 * block, dense = 48;
  const bench::HostPattern host = make_case_pattern("uniform", 5, 4, 0.6, test_seed());
  const BlockPattern pattern = make_pattern(host, rows, cols);
  std::int64_t shape[3] = {host.nnz_blocks(), block, block};
  std::vector<unsigned char> values(static_cast<std::size_t>(shape[0] * block * block * dtype_bytes(row.dtype)));
  fill_random(row.dtype, values.data(), shape[0] * block, block, block, test_seed() + 1, ValueKind::centred);
  LargeMemory values_memory(row.device(), values.size());
  copy_bytes(values_memory.data(), row.device(), values.data(), kHost, values.size(), nullptr, "test values");
  const DLTensor values_tensor = values_view(values_memory.data(), row.device(), row.dtype, shape);

  SparseGemmCall call = host_call(host, rows, cols, dense);
  call.values = values.data();
  CheckResult check;
  if (row.operation == Operation::sddmm) {
    FarMatrix x(row.device(), row.dtype, rows, dense, 2), y(row.device(), row.dtype, cols, dense, 3);
    call.in0 = x.host();
    call.in1 = y.host();
    const Buffer workspace(row.device(), sddmm_workspace_bytes(pattern, x.view(), y.view(), values_tensor), nullptr);
    sddmm(pattern, x.view(), y.view(), values_tensor, {}, {workspace.data(), workspace.bytes()});
    synchronize(row.device(), nullptr);
    std::vector<unsigned char> result(values.size());
    copy_bytes(result.data(), kHost, values_memory.data(), row.device(), result.size(), nullptr, "test values");
    synchronize(row.device(), nullptr);
    check = check_result(call, result.data());
  } else {
    const bool linear_layer = row.operation == Operation::linear;
    FarMatrix in(row.device(), row.dtype, linear_layer ? dense : cols, linear_layer ? cols : dense, 2);
    FarMatrix out(row.device(), row.dtype, linear_layer ? dense : rows, linear_layer ? rows : dense, 3);
    call.in0 = in.host();
    call.out = out.host();
    if (linear_layer) {
      const Buffer workspace(row.device(), linear_workspace_bytes(pattern, values_tensor, in.view(), nullptr, out.view()), nullptr);
      linear(pattern, values_tensor, in.view(), nullptr, out.view(), {}, {workspace.data(), workspace.bytes()});
      synchronize(row.device(), nullptr);
    } else {
      const Buffer workspace(row.device(), spmm_workspace_bytes(pattern, values_tensor, in.view(), out.view()), nullptr);
      spmm(pattern, values_tensor, in.view(), out.view(), {}, {workspace.data(), workspace.bytes()});
      synchronize(row.device(), nullptr);
    }
    out.copy_rows(false);
    check = check_result(call, out.compact.data());
  }
  EXPECT_EQ(last_kernel(), row.kernel);
  EXPECT_TRUE(check.ok) << check.sentence;
}

// More than 2^31 values: every block but those of the last block column is 0.
TEST_P(LargeOffsets, InValues) {
  const KernelRow& row = GetParam();
  if (row.block != 128) GTEST_SKIP() << "smaller blocks would take an hour to check; the arithmetic is the same";
  if (row.dtype == DType::float32 || row.dtype == DType::float64) GTEST_SKIP() << "needs too much memory";
  if (row.dtype == DType::bfloat16 && !row.gpu) GTEST_SKIP() << "on the CPU float16 shows it for both types of 16 bits";
  // sddmm writes all of them.
  const std::uint64_t needed = row.operation == Operation::sddmm && !row.gpu ? std::uint64_t{11} << 30 : std::uint64_t{2} << 30;
  if (available_host_bytes() < needed) GTEST_SKIP() << "needs " << (needed >> 30) << " GB of free host memory";
  const ForcedKernel forced(row.kernel);
  const std::int64_t block = row.block, block_rows = 380, block_cols = 356, dense = 8;
  const std::int64_t rows = block_rows * block, cols = block_cols * block, block_size = block * block;
  const bench::HostPattern host = make_case_pattern("full", block_rows, block_cols, 1, 0);
  ASSERT_GT(host.nnz_blocks() * block_size, kTwoTo31 + block_cols * block_size);
  const BlockPattern pattern = make_pattern(host, rows, cols);
  std::int64_t shape[3] = {host.nnz_blocks(), block, block};
  const int bytes = dtype_bytes(row.dtype);
  const std::size_t values_bytes = static_cast<std::size_t>(shape[0] * block_size * bytes);
  LargeMemory device_values(row.device(), values_bytes), host_values(kHost, values_bytes);
  const DLTensor values = values_view(device_values.data(), row.device(), row.dtype, shape);
  const std::int64_t first_far = kTwoTo31 / block_size / block_cols + 1;  // this block row lies past 2^31 entirely

  std::vector<unsigned char> in0(static_cast<std::size_t>((row.operation == Operation::sddmm ? rows : cols) * dense * bytes));
  std::vector<unsigned char> second(static_cast<std::size_t>(std::max(rows, cols) * dense * bytes));
  const bool linear_layer = row.operation == Operation::linear, sampled = row.operation == Operation::sddmm;
  std::int64_t in0_shape[2] = {linear_layer ? dense : sampled ? rows : cols, linear_layer ? cols : dense};
  std::int64_t second_shape[2] = {linear_layer ? dense : sampled ? cols : rows, linear_layer ? rows : dense};
  fill_random(row.dtype, in0.data(), in0_shape[0], in0_shape[1], in0_shape[1], 5, ValueKind::centred);
  fill_random(row.dtype, second.data(), second_shape[0], second_shape[1], second_shape[1], 6, ValueKind::centred);
  const Buffer device_in0(row.device(), in0.size(), nullptr), device_second(row.device(), second.size(), nullptr);
  copy_bytes(device_in0.data(), row.device(), in0.data(), kHost, in0.size(), nullptr, "test operand");
  copy_bytes(device_second.data(), row.device(), second.data(), kHost, second.size(), nullptr, "test operand");
  const auto matrix = [&](const Buffer& buffer, std::int64_t (&matrix_shape)[2]) {
    DLTensor tensor{};
    tensor.data = buffer.data();
    tensor.device = row.device();
    tensor.ndim = 2;
    tensor.dtype = dlpack_dtype(row.dtype);
    tensor.shape = matrix_shape;
    return tensor;
  };
  const DLTensor a = matrix(device_in0, in0_shape), b = matrix(device_second, second_shape);

  SparseGemmCall call = host_call(host, rows, cols, dense);
  call.values = host_values.data();
  call.in0 = {in0.data(), in0_shape[0], in0_shape[1], in0_shape[1]};
  CheckOptions options;
  options.block_row_begin = first_far;
  if (sampled) {
    call.in1 = {second.data(), second_shape[0], second_shape[1], second_shape[1]};
    const Buffer workspace(row.device(), sddmm_workspace_bytes(pattern, a, b, values), nullptr);
    sddmm(pattern, a, b, values, {}, {workspace.data(), workspace.bytes()});
    synchronize(row.device(), nullptr);
    if (row.gpu) {
      copy_bytes(host_values.data(), kHost, device_values.data(), row.device(), values_bytes, nullptr, "test values");
      synchronize(row.device(), nullptr);
    }
    const void* result = row.gpu ? host_values.data() : device_values.data();
    const CheckResult check = check_result(call, result, options);
    EXPECT_TRUE(check.ok) << check.sentence;
    return;
  }
  for (std::int64_t i = 0; i < block_rows; ++i) {
    const std::int64_t p = (i + 1) * block_cols - 1;
    char* at = static_cast<char*>(host_values.data()) + p * block_size * bytes;
    fill_random(row.dtype, at, block, block, block, static_cast<std::uint64_t>(p), ValueKind::centred);
    copy_bytes(static_cast<char*>(device_values.data()) + p * block_size * bytes, row.device(), at, kHost,
               static_cast<std::size_t>(block_size * bytes), nullptr, "test values");
  }
  synchronize(row.device(), nullptr);
  call.out = {second.data(), second_shape[0], second_shape[1], second_shape[1]};
  if (linear_layer) {
    const Buffer workspace(row.device(), linear_workspace_bytes(pattern, values, a, nullptr, b), nullptr);
    linear(pattern, values, a, nullptr, b, {}, {workspace.data(), workspace.bytes()});
    synchronize(row.device(), nullptr);
  } else {
    const Buffer workspace(row.device(), spmm_workspace_bytes(pattern, values, a, b), nullptr);
    spmm(pattern, values, a, b, {}, {workspace.data(), workspace.bytes()});
    synchronize(row.device(), nullptr);
  }
  std::vector<unsigned char> result(second.size());
  copy_bytes(result.data(), kHost, device_second.data(), row.device(), result.size(), nullptr, "test result");
  synchronize(row.device(), nullptr);
  const CheckResult check = check_result(call, result.data(), options);
  EXPECT_TRUE(check.ok) << check.sentence;
}

INSTANTIATE_TEST_SUITE_P(Cpu, LargeOffsets, ::testing::ValuesIn(kernel_rows(false)), row_name);
INSTANTIATE_TEST_SUITE_P(Gpu, LargeOffsets, ::testing::ValuesIn(kernel_rows(true)), row_name);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(LargeOffsets);

}  // namespace
}  // namespace triage::testing
