// What a user would pick instead: other libraries on the same problem, in the same run.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "verdict/timed_problem.h"
#include "verdict/receipt.h"

namespace triage::verdict {

class JobContext;
class Stopwatch;
class TimedAttention;
class TimedAttentionBackward;

/// A peer that is set up and has computed the problem once.
struct Peer {
  std::string name, version, note;
  double flops = 0;                    ///< that count as useful: those of the nonzero blocks (dense: of all)
  std::function<void(int copy)> run;
  std::shared_ptr<void> memory;        ///< what `run` needs, kept alive
  /// Relative Frobenius difference between what the peer computed and `problem`'s output; absent where the two do not
  /// compute the same matrix.
  std::function<double()> difference;
};

struct PeerList {
  std::vector<Peer> present;
  std::vector<AbsentPeer> absent;
};

/// Dense sgemm or dgemm of this machine's BLAS.
PeerList cpu_peers(TimedProblem& problem, int threads);
/// Dense cuBLAS; cuSPARSE's BSR and Blocked-ELL (for sddmm its SDDMM). Only in builds with CUDA.
/// @param stopwatch used to choose among a peer's variants.
PeerList gpu_peers(TimedProblem& problem, Stopwatch& stopwatch, bool dense_only);
/// cuDNN's attention. Only in builds with CUDA. @param flops that count as useful
PeerList attention_peers(TimedAttention& problem, double flops);
PeerList attention_peers(TimedAttentionBackward& problem, double flops);

/// Runs each peer once and moves those that fail, or compute something else, to the absent ones.
/// @throws triage::Error of CUDA itself: what follows could not be trusted
void try_peers(PeerList& peers, JobContext& context);
/// What the receipt says of a peer that was timed.
ReceiptPeer timed_peer(const Peer& peer, const ReceiptTime& time);
/// Adds to a note of several parts.
void add_note(std::string& note, const std::string& text);

}  // namespace triage::verdict
