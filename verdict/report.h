// One run of the verdict, and what is said about it: as text, Markdown, JSON and HTML.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "verdict/matrix.h"
#include "verdict/receipt.h"

namespace triage::verdict {

struct Run {
  std::vector<Receipt> receipts;  ///< one a machine: the GPU first, then the CPU
  SupportMatrix matrix;           ///< with this run's results in it; empty for a user's kernel
  std::vector<std::string> remarks;  ///< sentences on the run as a whole
  bool quick = false;
};

/// "nothing to beat" is std::nullopt.
const ReceiptPeer* fastest_peer(const ReceiptCase& result);
const ReceiptPeer* dense_peer(const ReceiptCase& result);

/// How many times faster than the peer; 0 if ours was not timed.
double speed_up(const ReceiptCase& result, const ReceiptPeer& peer);

/// "ok", "WRONG", "CRASHED", "HUNG".
std::string outcome_word(const ReceiptCase& result);

/// Numbers as the tables show them: "0.4512" ms, "537" TF/s, "1.32x".
std::string milliseconds(double ms);
std::string rate(double tflops);
std::string factor(double times);
std::string percent(double share);

/// E.g. "cube 8192 b64 d0.22".
std::string case_label(const ReceiptShape& shape, int shared_memory_kb);

/// The run's cases as table cells; `result_header` names them.
const std::vector<std::string>& result_header();
std::vector<std::string> result_cells(const ReceiptCase& result);

/// E.g. "NVIDIA H100 80GB HBM3 (9.0), driver 580.159.04, CUDA 13.0; dense fp16 676 TF/s, ...".
std::string device_sentence(const ReceiptDevice& device);
/// "below 0.37", "at every density", "at no density measured (0.05 and above)".
std::string crossover_sentence(const ReceiptCrossover& crossover);
std::string grid_sentence(const ReceiptGrid& grid);
/// What to use here, by operation and block: honest where ours is slower.
std::vector<std::string> recommendations(const Run& run);
/// How ours fare beside one peer over all cases of an operation in which both were timed.
struct PeerStanding {
  std::string op, peer;
  int cases = 0, faster = 0;
  double mean = 0, least = 0, most = 0;  ///< how many times faster ours are; the mean is geometric
  std::string sentence() const;
};
/// By operation and peer, in the order in which they appear.
std::vector<PeerStanding> peer_standings(const Run& run);

/// Adds to the run's cases the peers that another program measured on the same cases and printed as a receipt
/// (bench/attention_peers.py); a peer that a case has already stays as it is. Says how many cases got one.
std::string add_peer_results(Run& run, const Receipt& results, const std::string& source);

/// Peers that were not measured, with how to get them, each once.
std::vector<std::string> absent_peers(const Run& run);
/// The run's remarks, and in how many timings something was out of the ordinary.
std::vector<std::string> notes(const Run& run);
/// "All 84 cases are correct." or how many are not.
std::string headline(const Run& run);

/// What follows the streamed table on a terminal.
std::string report_text(const Run& run, bool colour);
std::string report_markdown(const Run& run);
std::string report_html(const Run& run);
/// Its part on each kernel: what was checked, timed, watched and profiled.
std::string evidence_html(const Run& run);
Json report_json(const Run& run);

}  // namespace triage::verdict
