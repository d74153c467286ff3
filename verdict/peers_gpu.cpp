// The GPU's peers: dense cuBLAS and CUTLASS, cuSPARSE in its two block-sparse formats, CUTLASS's Blocked-ELL; each is given
// its best case.
#if TRIAGE_HAS_CUDA

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <stdexcept>

#include "device/cuda_check.h"
#include "registry/device.h"
#include "verdict/cublas.h"
#include "verdict/cusparse.h"
#include "verdict/cutlass.h"
#include "verdict/gpu_kernels.h"
#include "verdict/operands.h"
#include "verdict/peers.h"
#include "verdict/random_inputs.h"
#include "verdict/timing.h"
#include "verdict/work.h"

namespace triage::verdict {
namespace {

constexpr double kShareOfFreeMemory = 0.8;
constexpr double kSameResult = 2e-2;

std::size_t element_bytes(const TimedProblem& problem) { return static_cast<std::size_t>(dtype_bytes(problem.dtype())); }

/// @throws std::runtime_error with a sentence if the device has no room for it
void require_memory(double bytes, const char* what) {
  std::size_t free = 0, total = 0;
  cuda_check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
  if (bytes > kShareOfFreeMemory * static_cast<double>(free)) {
    throw std::runtime_error(fmt::format("{} would need {:.1f} GB, {:.1f} GB are free", what, bytes * 1e-9,
                                         static_cast<double>(free) * 1e-9));
  }
}

Buffer device_buffer(const TimedProblem& problem, std::size_t elements) {
  return Buffer(problem.request().device, std::max<std::size_t>(elements, 1) * element_bytes(problem),
                problem.request().stream);
}

Buffer upload(const TimedProblem& problem, const std::vector<std::int32_t>& indices) {
  const auto& request = problem.request();
  Buffer buffer(request.device, std::max<std::size_t>(indices.size(), 1) * 4, request.stream);
  copy_bytes(buffer.data(), request.device, indices.data(), {kDLCPU, 0}, indices.size() * 4, request.stream,
             "copy of a peer's indices");
  synchronize(request.device, request.stream);
  return buffer;
}

/// How far what lies in `theirs` is from our output of copy 0, both laid out alike.
double difference_from_ours(TimedProblem& problem, const void* theirs) {
  const ReceiptShape& s = problem.shape();
  const std::int64_t columns = problem.is_sddmm() ? s.block : problem.is_linear() ? s.m : s.n;
  const std::int64_t rows = static_cast<std::int64_t>(problem.output_elements()) / columns;
  return gpu_relative_difference(problem.dtype(), {theirs, columns, 1}, {problem.output(0), columns, 1}, rows, columns,
                                 problem.request().stream);
}

// Dense cuBLAS.

struct DenseMemory {
  Buffer matrix, output, workspace;
};

/// Runs a library's dense product on two matrices, into the memory's output.
using DenseProduct = std::function<void(const GemmShape& shape, const void* left, const void* right, DenseMemory& memory)>;

Peer dense_peer_of(TimedProblem& problem, const std::string& name, const std::string& version, const DenseProduct& product) {
  const ReceiptShape& s = problem.shape();
  const auto& request = problem.request();
  const DLDataType type = dlpack_dtype(problem.dtype());
  const bool sddmm = problem.is_sddmm(), linear = problem.is_linear();
  const std::int64_t matrix_elements = sddmm ? 0 : s.m * s.k, output_elements = s.m * s.n;
  require_memory(static_cast<double>(matrix_elements + output_elements) * static_cast<double>(element_bytes(problem)),
                 "the dense product");
  auto memory = std::make_shared<DenseMemory>();
  memory->output = device_buffer(problem, static_cast<std::size_t>(output_elements));
  if (!sddmm) {
    memory->matrix = device_buffer(problem, static_cast<std::size_t>(matrix_elements));
    const TensorView values(problem.values(0), request.device, type, {problem.nnz_blocks(), s.block, s.block});
    const TensorView matrix(memory->matrix.data(), request.device, type, {s.m, s.k});
    scatter_blocks(problem.pattern(), values.tensor, matrix.tensor, request.stream);
  }
  Peer peer;
  peer.name = name;
  peer.version = version;
  peer.flops = dense_flops(s);
  peer.memory = memory;
  const GemmShape shape = sddmm    ? GemmShape{s.m, s.n, s.k, false, true, s.k, s.k, s.n}
                          : linear ? GemmShape{s.n, s.m, s.k, false, true, s.k, s.k, s.m}
                                   : GemmShape{s.m, s.n, s.k, false, false, s.k, s.n, s.n};
  peer.run = [&problem, product, memory, shape, sddmm, linear](int copy) {
    const void* left = sddmm || linear ? problem.first(copy) : memory->matrix.data();
    const void* right = sddmm ? problem.second(copy) : linear ? memory->matrix.data() : problem.first(copy);
    product(shape, left, right, *memory);
  };
  if (sddmm) {
    peer.difference = [&problem, memory, type] {
      const ReceiptShape& shape = problem.shape();
      const auto& request = problem.request();
      const Buffer blocks = device_buffer(problem, problem.values_elements());
      const TensorView matrix(memory->output.data(), request.device, type, {shape.m, shape.n});
      const TensorView values(blocks.data(), request.device, type, {problem.nnz_blocks(), shape.block, shape.block});
      gather_blocks(problem.pattern(), matrix.tensor, values.tensor, request.stream);
      return difference_from_ours(problem, blocks.data());
    };
  } else if (s.epilogue.empty()) {
    peer.difference = [&problem, memory] { return difference_from_ours(problem, memory->output.data()); };
  } else {
    peer.note = "without the epilogue";
  }
  return peer;
}

Peer cublas_peer(TimedProblem& problem, Cublas& cublas) {
  return dense_peer_of(problem, "cublas_dense", cublas.version(),
                       [&](const GemmShape& shape, const void* left, const void* right, DenseMemory& memory) {
                         cublas.gemm(shape, problem.request().dtype, left, right, memory.output.data(),
                                     problem.request().stream);
                       });
}

/// The Hopper kernel on 9.0, the Ampere one elsewhere.
Peer cutlass_peer(TimedProblem& problem, Cutlass& cutlass) {
  const auto& request = problem.request();
  if (request.dtype != "float16") throw std::runtime_error("the module holds float16 kernels alone");
  const bool hopper = probe_device(request.device).compute_capability == 90;
  return dense_peer_of(problem, "cutlass_dense", cutlass.version(),
                       [&problem, &cutlass, hopper](const GemmShape& shape, const void* left, const void* right,
                                                    DenseMemory& memory) {
                         TriageCutlassGemm call{shape.m, shape.n, shape.k, shape.b_transposed, left, right,
                                                memory.output.data(), nullptr, problem.request().stream};
                         const std::size_t bytes = cutlass.gemm_workspace(call, hopper);
                         if (bytes > memory.workspace.bytes()) {
                           memory.workspace = Buffer(problem.request().device, bytes, problem.request().stream);
                         }
                         call.workspace = memory.workspace.data();
                         cutlass.gemm(call, hopper);
                       });
}

// Block-sparse products of cuSPARSE and CUTLASS.

/// One way to hand the problem to a library: a format, and which way the dense matrices lie.
struct SparseVariant {
  std::string note;
  double flops = 0;
  bool same_matrix = false;   ///< computes what we compute, in our layout
  std::vector<Buffer> buffers;
  std::vector<std::function<void(Stream)>> products;  ///< one a copy
  void* output = nullptr;     ///< of copy 0
};

std::function<void(Stream)> product_of(std::unique_ptr<Cusparse::Product> product) {
  return [shared = std::shared_ptr<Cusparse::Product>(std::move(product))](Stream stream) { shared->run(stream); };
}

/// Blocked-ELL: every row has as many blocks as the longest; -1 where there is none.
struct EllForm {
  std::int64_t width = 0;
  std::vector<std::int32_t> col;
};

EllForm ell_form(const bench::HostPattern& pattern) {
  EllForm ell;
  for (std::int64_t r = 0; r < pattern.block_rows; ++r) {
    ell.width = std::max<std::int64_t>(ell.width, pattern.crow[r + 1] - pattern.crow[r]);
  }
  ell.col.assign(static_cast<std::size_t>(pattern.block_rows * ell.width), -1);
  for (std::int64_t r = 0; r < pattern.block_rows; ++r) {
    std::copy(pattern.col.begin() + pattern.crow[r], pattern.col.begin() + pattern.crow[r + 1],
              ell.col.begin() + r * ell.width);
  }
  return ell;
}

/// The values in Blocked-ELL's places: a row's blocks stay together, zeros fill the row up.
Buffer ell_values(TimedProblem& problem, const EllForm& ell, int copy) {
  const ReceiptShape& s = problem.shape();
  const auto& request = problem.request();
  const bench::HostPattern& pattern = problem.host_pattern();
  const std::size_t block_bytes = static_cast<std::size_t>(s.block) * s.block * element_bytes(problem);
  Buffer values = device_buffer(problem, ell.col.size() * static_cast<std::size_t>(s.block) * s.block);
  for (std::int64_t r = 0; r < pattern.block_rows; ++r) {
    const auto first = static_cast<std::size_t>(pattern.crow[r]);
    copy_bytes(static_cast<char*>(values.data()) + static_cast<std::size_t>(r * ell.width) * block_bytes, request.device,
               static_cast<const char*>(problem.values(copy)) + first * block_bytes, request.device,
               (static_cast<std::size_t>(pattern.crow[r + 1]) - first) * block_bytes, request.stream,
               "building Blocked-ELL values");
  }
  return values;
}

enum class EllRows { padded, equal };

/// Adds the products for every copy. `matrix.values` is set for each copy by `values_of`.
template <class ValuesOf>
void add_products(SparseVariant& variant, TimedProblem& problem, Cusparse& cusparse, CusparseMatrix matrix,
                  bool row_major, const ValuesOf& values_of) {
  const ReceiptShape& s = problem.shape();
  const auto& request = problem.request();
  // spmm's matrices are row-major; linear's X and Y are, seen as the transposes that cuSPARSE multiplies, column-major.
  const bool native = row_major != problem.is_linear();
  void* other_input = nullptr;
  if (!native) {
    variant.buffers.push_back(device_buffer(problem, static_cast<std::size_t>(s.k * s.n)));
    other_input = variant.buffers.back().data();
    fill_centred(problem.dtype(), other_input, s.k, s.n, request.seed + 77, request.device, request.stream);
  }
  variant.buffers.push_back(device_buffer(problem, static_cast<std::size_t>(s.m * s.n)));
  variant.output = variant.buffers.back().data();
  for (int copy = 0; copy < problem.copies(); ++copy) {
    matrix.values = values_of(copy);
    const CusparseDense b{s.k, s.n, row_major ? s.n : s.k, row_major, native ? problem.first(copy) : other_input};
    const CusparseDense c{s.m, s.n, row_major ? s.n : s.m, row_major, variant.output};
    variant.products.push_back(product_of(cusparse.spmm(matrix, b, c, request.dtype, request.stream)));
  }
  variant.same_matrix = native && s.epilogue.empty();
  variant.note = row_major ? "row-major dense matrices" : "column-major dense matrices";
}

SparseVariant bsr_variant(TimedProblem& problem, Cusparse& cusparse, bool row_major) {
  const ReceiptShape& s = problem.shape();
  SparseVariant variant;
  variant.flops = flops(problem.request().op, s);
  CusparseMatrix matrix;
  matrix.format = CusparseFormat::bsr;
  matrix.block_rows = problem.host_pattern().block_rows;
  matrix.block_cols = problem.host_pattern().block_cols;
  matrix.nnz_blocks = problem.nnz_blocks();
  matrix.block = s.block;
  matrix.crow = problem.pattern().crow_indices().data;
  matrix.col = problem.pattern().col_indices().data;
  add_products(variant, problem, cusparse, matrix, row_major, [&](int copy) { return problem.values(copy); });
  return variant;
}

SparseVariant ell_variant(TimedProblem& problem, Cusparse& cusparse, bool row_major, EllRows rows) {
  const ReceiptShape& s = problem.shape();
  const bench::HostPattern& own = problem.host_pattern();
  SparseVariant variant;
  EllForm ell;
  if (rows == EllRows::padded) {
    ell = ell_form(own);
    variant.flops = flops(problem.request().op, s);
  } else {
    const double blocks = static_cast<double>(own.block_rows) * static_cast<double>(own.block_cols);
    const bench::HostPattern equal = bench::make_pattern(
        "equal_rows", own.block_rows, own.block_cols, static_cast<double>(own.nnz_blocks()) / blocks, problem.request().seed);
    ell = ell_form(equal);
    ReceiptShape equal_shape = s;
    equal_shape.nnz_blocks = equal.nnz_blocks();
    variant.flops = flops(problem.request().op, equal_shape);
  }
  if (ell.width == 0) throw std::runtime_error("the pattern has no blocks");
  const double ell_elements = static_cast<double>(ell.col.size()) * s.block * s.block;
  require_memory(problem.copies() * ell_elements * static_cast<double>(element_bytes(problem)), "the padded Blocked-ELL form");
  variant.buffers.push_back(upload(problem, ell.col));
  CusparseMatrix matrix;
  matrix.format = CusparseFormat::blocked_ell;
  matrix.block_rows = own.block_rows;
  matrix.block_cols = own.block_cols;
  matrix.blocks_per_row = ell.width;
  matrix.block = s.block;
  matrix.col = variant.buffers.back().data();
  add_products(variant, problem, cusparse, matrix, row_major, [&](int copy) {
    if (rows == EllRows::padded) {
      variant.buffers.push_back(ell_values(problem, ell, copy));
    } else {
      variant.buffers.push_back(device_buffer(problem, ell.col.size() * static_cast<std::size_t>(s.block) * s.block));
      fill_centred(problem.dtype(), variant.buffers.back().data(), static_cast<std::int64_t>(ell.col.size()) * s.block,
                   s.block, problem.request().seed + 99, problem.request().device, problem.request().stream);
    }
    return variant.buffers.back().data();
  });
  if (rows == EllRows::padded) {
    variant.note += fmt::format(", rows padded to {:.2f} times the blocks",
                                static_cast<double>(ell.col.size()) / static_cast<double>(std::max<std::int64_t>(own.nnz_blocks(), 1)));
  } else {
    variant.note += ", on its best case: as many blocks, equally many in each row";
    variant.same_matrix = false;
  }
  return variant;
}

/// The fastest of a peer's variants as a peer; what the library said if it refused them all.
template <class Make>
void add_fastest(PeerList& peers, TimedProblem& problem, Stopwatch& stopwatch, const std::string& name,
                 const std::string& version, const std::vector<Make>& makes) {
  std::shared_ptr<SparseVariant> fastest;
  double fastest_rate = 0;
  std::string refusal;
  for (const Make& make : makes) {
    try {
      auto variant = std::make_shared<SparseVariant>(make());
      const auto run = [variant, &problem](int copy) {
        variant->products[static_cast<std::size_t>(copy) % variant->products.size()](problem.request().stream);
      };
      const double rate = tflops(variant->flops, stopwatch.rough_ms({name, run}));
      if (variant->same_matrix) {
        const double difference = difference_from_ours(problem, variant->output);
        if (!(difference <= kSameResult)) variant->note += fmt::format("; its result differs from ours by {:.2g}", difference);
      }
      if (rate > fastest_rate) {
        fastest_rate = rate;
        fastest = variant;
      }
    } catch (const triage::Error& error) {
      if (error.code() == ErrorCode::cuda) throw;
      refusal = error.what();
    } catch (const std::exception& error) {
      refusal = error.what();
    }
  }
  if (!fastest) {
    peers.absent.push_back({name, refusal});
    return;
  }
  Peer peer;
  peer.name = name;
  peer.version = version;
  peer.note = fastest->note;
  if (!problem.shape().epilogue.empty()) peer.note += ", without the epilogue";
  peer.flops = fastest->flops;
  peer.memory = fastest;
  peer.run = [fastest, &problem](int copy) {
    fastest->products[static_cast<std::size_t>(copy) % fastest->products.size()](problem.request().stream);
  };
  peers.present.push_back(std::move(peer));
}

/// CUTLASS's Blocked-ELL product: dense matrices column-major (linear's X and Y as they are), the values of a row of blocks
/// side by side in a row-major matrix. Every copy multiplies copy 0's values, laid out anew, by its own dense matrix.
SparseVariant cutlass_ell_variant(TimedProblem& problem, Cutlass& cutlass, EllRows rows) {
  const ReceiptShape& s = problem.shape();
  const auto& request = problem.request();
  if (request.dtype != "float16") throw std::runtime_error("the module holds float16 kernels alone");
  if (s.m % s.block != 0 || s.k % s.block != 0) throw std::runtime_error("its Blocked-ELL form takes whole blocks");
  SparseVariant variant;
  bench::HostPattern pattern = problem.host_pattern();
  if (rows == EllRows::equal) {
    const double blocks = static_cast<double>(pattern.block_rows) * static_cast<double>(pattern.block_cols);
    pattern = bench::make_pattern("equal_rows", pattern.block_rows, pattern.block_cols,
                                  static_cast<double>(pattern.nnz_blocks()) / blocks, request.seed);
  }
  const EllForm ell = ell_form(pattern);
  if (ell.width == 0) throw std::runtime_error("the pattern has no blocks");
  ReceiptShape stored = s;
  stored.nnz_blocks = pattern.nnz_blocks();
  variant.flops = flops(request.op, stored);
  const std::int64_t width = ell.width * s.block;
  require_memory(static_cast<double>(s.m * width) * 2, "the padded Blocked-ELL form");
  variant.buffers.push_back(upload(problem, ell.col));
  const auto* columns = static_cast<const int*>(variant.buffers.back().data());
  variant.buffers.push_back(device_buffer(problem, static_cast<std::size_t>(s.m * width)));
  void* const values = variant.buffers.back().data();
  if (rows == EllRows::padded) {
    // The same blocks at the places that they have in their row's list: a dense matrix out of that pattern.
    std::vector<std::int32_t> slots(pattern.col.size());
    for (std::int64_t r = 0; r < pattern.block_rows; ++r) {
      for (std::int32_t p = pattern.crow[r]; p < pattern.crow[r + 1]; ++p) slots[p] = p - pattern.crow[r];
    }
    const Buffer crow = upload(problem, pattern.crow), slot = upload(problem, slots);
    const DLDataType index{kDLInt, 32, 1}, type = dlpack_dtype(problem.dtype());
    const TensorView crow_view(crow.data(), request.device, index, {static_cast<std::int64_t>(pattern.crow.size())});
    const TensorView slot_view(slot.data(), request.device, index, {pattern.nnz_blocks()});
    const BlockPattern side_by_side =
        BlockPattern::from_bsr(crow_view.tensor, slot_view.tensor, s.m, width, s.block, request.stream);
    const TensorView blocks(problem.values(0), request.device, type, {pattern.nnz_blocks(), s.block, s.block});
    const TensorView matrix(values, request.device, type, {s.m, width});
    scatter_blocks(side_by_side, blocks.tensor, matrix.tensor, request.stream);
    synchronize(request.device, request.stream);
    variant.note = fmt::format("column-major dense matrices, rows padded to {:.2f} times the blocks",
                               static_cast<double>(ell.col.size()) / static_cast<double>(pattern.nnz_blocks()));
  } else {
    fill_centred(problem.dtype(), values, s.m, width, request.seed + 99, request.device, request.stream);
    variant.note = "column-major dense matrices, on its best case: as many blocks, equally many in each row";
  }
  void* other_input = nullptr;
  if (!problem.is_linear()) {
    variant.buffers.push_back(device_buffer(problem, static_cast<std::size_t>(s.k * s.n)));
    other_input = variant.buffers.back().data();
    fill_centred(problem.dtype(), other_input, s.n, s.k, request.seed + 77, request.device, request.stream);
  }
  variant.buffers.push_back(device_buffer(problem, static_cast<std::size_t>(s.m * s.n)));
  variant.output = variant.buffers.back().data();
  variant.same_matrix = problem.is_linear() && rows == EllRows::padded && s.epilogue.empty();
  for (int copy = 0; copy < problem.copies(); ++copy) {
    const TriageCutlassEll call{s.m, s.n, s.k, ell.width, s.block, values, columns,
                                problem.is_linear() ? problem.first(copy) : other_input, variant.output, request.stream};
    variant.products.push_back([call, &cutlass](Stream) { cutlass.ell(call); });
  }
  return variant;
}

/// cuSPARSE's sampled product on the BSR pattern itself.
SparseVariant sddmm_variant(TimedProblem& problem, Cusparse& cusparse) {
  const ReceiptShape& s = problem.shape();
  SparseVariant variant;
  variant.flops = flops(problem.request().op, s);
  variant.same_matrix = true;
  variant.buffers.push_back(device_buffer(problem, problem.values_elements()));
  variant.output = variant.buffers.back().data();
  CusparseMatrix matrix;
  matrix.block_rows = problem.host_pattern().block_rows;
  matrix.block_cols = problem.host_pattern().block_cols;
  matrix.nnz_blocks = problem.nnz_blocks();
  matrix.block = s.block;
  matrix.crow = problem.pattern().crow_indices().data;
  matrix.col = problem.pattern().col_indices().data;
  matrix.values = variant.output;
  for (int copy = 0; copy < problem.copies(); ++copy) {
    variant.products.push_back(product_of(cusparse.sddmm(
        matrix, CusparseDense{s.m, s.k, s.k, true, problem.first(copy)},
        CusparseDense{s.n, s.k, s.k, true, problem.second(copy)}, problem.request().dtype, problem.request().stream)));
  }
  return variant;
}

}  // namespace

PeerList gpu_peers(TimedProblem& problem, Stopwatch& stopwatch, bool dense_only) {
  PeerList peers;
  const auto add_dense = [&](const char* name, bool there, const std::string& absence, const auto& make) {
    try {
      if (!there) throw std::runtime_error(absence);
      peers.present.push_back(make());
    } catch (const triage::Error& error) {
      if (error.code() == ErrorCode::cuda) throw;
      peers.absent.push_back({name, error.what()});
    } catch (const std::exception& error) {
      peers.absent.push_back({name, error.what()});
    }
  };
  Cublas* cublas = Cublas::find();
  add_dense("cublas_dense", cublas != nullptr, Cublas::absence(), [&] { return cublas_peer(problem, *cublas); });
  if (dense_only) return peers;
  Cutlass* cutlass = Cutlass::find();
  add_dense("cutlass_dense", cutlass != nullptr, Cutlass::absence(), [&] { return cutlass_peer(problem, *cutlass); });
  using Make = std::function<SparseVariant()>;
  if (cutlass != nullptr && !problem.is_sddmm()) {
    add_fastest<Make>(peers, problem, stopwatch, "cutlass_blocked_ell", cutlass->version(),
                      {[&] { return cutlass_ell_variant(problem, *cutlass, EllRows::padded); },
                       [&] { return cutlass_ell_variant(problem, *cutlass, EllRows::equal); }});
  }

  Cusparse* cusparse = Cusparse::find();
  if (!cusparse) {
    peers.absent.push_back({"cusparse", Cusparse::absence()});
    return peers;
  }
  if (problem.is_sddmm()) {
    add_fastest<Make>(peers, problem, stopwatch, "cusparse_sddmm_bsr", cusparse->version(),
                      {[&] { return sddmm_variant(problem, *cusparse); }});
    return peers;
  }
  add_fastest<Make>(peers, problem, stopwatch, "cusparse_bsr", cusparse->version(),
                    {[&] { return bsr_variant(problem, *cusparse, true); },
                     [&] { return bsr_variant(problem, *cusparse, false); }});
  std::vector<Make> ell;
  for (bool row_major : {true, false}) {
    for (EllRows rows : {EllRows::padded, EllRows::equal}) {
      ell.push_back([&problem, cusparse, row_major, rows] { return ell_variant(problem, *cusparse, row_major, rows); });
    }
  }
  add_fastest<Make>(peers, problem, stopwatch, "cusparse_blocked_ell", cusparse->version(), ell);
  return peers;
}

}  // namespace triage::verdict

#endif  // TRIAGE_HAS_CUDA
