#include "verdict/peers.h"

#include <fmt/format.h>

#include <exception>
#include <utility>

#include "triage/triage.h"
#include "verdict/job_context.h"
#include "verdict/timing.h"
#include "verdict/work.h"

namespace triage::verdict {
namespace {

/// More than rounding in another order gives: such a peer computes something else.
constexpr double kPeerDifference = 2e-2;

}  // namespace

void try_peers(PeerList& peers, JobContext& context) {
  std::vector<Peer> good;
  for (Peer& peer : peers.present) {
    try {
      peer.run(0);
      context.synchronize();
      const double difference = peer.difference ? peer.difference() : 0;
      if (difference <= kPeerDifference) {
        good.push_back(std::move(peer));
      } else {
        peers.absent.push_back({peer.name, fmt::format("its result differs from ours by {:.2g}", difference)});
      }
    } catch (const triage::Error&) {
      throw;
    } catch (const std::exception& error) {
      peers.absent.push_back({peer.name, error.what()});
    }
  }
  peers.present = std::move(good);
}

ReceiptPeer timed_peer(const Peer& peer, const ReceiptTime& time) {
  ReceiptPeer entry{peer.name, peer.version, time.median, tflops(peer.flops, time.median), peer.note};
  if (spread(time) > kNotedSpread) add_note(entry.note, fmt::format("spread {:.0f}%", 100 * spread(time)));
  return entry;
}

void add_note(std::string& note, const std::string& text) {
  if (!text.empty()) note += (note.empty() ? "" : "; ") + text;
}

}  // namespace triage::verdict
