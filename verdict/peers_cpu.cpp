#include <cmath>
#include <memory>

#include "verdict/host_blas.h"
#include "verdict/peers.h"
#include "verdict/random_inputs.h"
#include "verdict/work.h"

namespace triage::verdict {
namespace {

template <class T>
struct DenseMemory {
  std::vector<T> matrix, output;  // spmm, linear: the sparse matrix with its zeros; sddmm: none
};

/// ||theirs - ours|| / ||ours|| where ours is stored in blocks (sddmm) or like theirs.
template <class T>
double relative_difference(const T* theirs, const T* ours, std::size_t count) {
  double difference = 0, norm = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const double d = static_cast<double>(theirs[i]) - static_cast<double>(ours[i]);
    difference += d * d;
    norm += static_cast<double>(ours[i]) * static_cast<double>(ours[i]);
  }
  return norm > 0 ? std::sqrt(difference / norm) : std::sqrt(difference);
}

template <class T>
Peer dense_peer_of(TimedProblem& problem, const HostBlas& blas) {
  const ReceiptShape& s = problem.shape();
  const DLDataType type = dlpack_dtype(problem.dtype());
  const DLDevice host{kDLCPU, 0};
  auto memory = std::make_shared<DenseMemory<T>>();
  memory->output.resize(static_cast<std::size_t>(s.m * s.n));
  Peer peer;
  peer.name = blas.name() + "_dense";
  peer.version = blas.version();
  peer.flops = dense_flops(s);
  peer.memory = memory;
  if (problem.is_sddmm()) {
    const GemmShape shape{s.m, s.n, s.k, false, true, s.k, s.k, s.n};
    peer.run = [&problem, &blas, memory, shape](int copy) {
      blas.gemm(shape, static_cast<const T*>(problem.first(copy)), static_cast<const T*>(problem.second(copy)),
                memory->output.data());
    };
    peer.difference = [&problem, memory, &s, type, host] {
      std::vector<T> blocks(problem.values_elements());
      const TensorView matrix(memory->output.data(), host, type, {s.m, s.n});
      const TensorView values(blocks.data(), host, type, {problem.nnz_blocks(), s.block, s.block});
      gather_blocks(problem.pattern(), matrix.tensor, values.tensor);
      return relative_difference(blocks.data(), static_cast<const T*>(problem.output(0)), blocks.size());
    };
    return peer;
  }
  memory->matrix.resize(static_cast<std::size_t>(s.m * s.k));
  const TensorView values(problem.values(0), host, type, {problem.nnz_blocks(), s.block, s.block});
  const TensorView matrix(memory->matrix.data(), host, type, {s.m, s.k});
  scatter_blocks(problem.pattern(), values.tensor, matrix.tensor);
  const bool linear = problem.is_linear();
  const GemmShape shape = linear ? GemmShape{s.n, s.m, s.k, false, true, s.k, s.k, s.m}
                                 : GemmShape{s.m, s.n, s.k, false, false, s.k, s.n, s.n};
  peer.run = [&problem, &blas, memory, shape, linear](int copy) {
    const T* dense = static_cast<const T*>(problem.first(copy));
    const T* weights = memory->matrix.data();
    blas.gemm(shape, linear ? dense : weights, linear ? weights : dense, memory->output.data());
  };
  if (s.epilogue.empty()) {
    peer.difference = [&problem, memory] {
      return relative_difference(memory->output.data(), static_cast<const T*>(problem.output(0)),
                                 memory->output.size());
    };
  } else {
    peer.note = "without the epilogue";
  }
  return peer;
}

}  // namespace

PeerList cpu_peers(TimedProblem& problem, int threads) {
  PeerList peers;
  const HostBlas* blas = HostBlas::find();
  const std::string& dtype = problem.request().dtype;
  if (!blas) {
    peers.absent.push_back({"dense sgemm", HostBlas::absence()});
  } else if (dtype != "float32" && dtype != "float64") {
    peers.absent.push_back({"dense " + dtype, "BLAS libraries multiply float32 and float64"});
  } else {
    blas->set_threads(threads);
    peers.present.push_back(dtype == "float32" ? dense_peer_of<float>(problem, *blas)
                                               : dense_peer_of<double>(problem, *blas));
  }
  return peers;
}

}  // namespace triage::verdict
