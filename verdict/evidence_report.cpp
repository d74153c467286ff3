#include "verdict/evidence_report.h"

#include <fmt/format.h>

#include <algorithm>

#include "verdict/profile_metrics.h"
#include "verdict/report.h"

namespace triage::verdict {
namespace {

constexpr std::size_t kShownStalls = 3;

bool clean(const ReceiptSanitizer& entry) { return entry.outcome == Outcome::ok && entry.errors == 0; }

std::string limited(const std::string& kernel, int shared_memory_kb) {
  return shared_memory_kb > 0 ? fmt::format("{} {}KB", kernel, shared_memory_kb) : kernel;
}

std::string number_cell(const ProfiledLaunch& launch, const char* metric, const char* form) {
  const double value = launch.metric(metric, -1);
  return value < 0 ? "-" : fmt::format(fmt::runtime(form), value);
}

std::string stalls_cell(const ProfiledLaunch& launch) {
  double all = 0;
  for (const auto& stall : launch.stalls) all += stall.second;
  std::string text;
  std::size_t shown = 0;
  for (const auto& [reason, cycles] : launch.stalls) {
    if (reason == "selected" || reason == "not_selected" || shown == kShownStalls) continue;
    text += fmt::format("{}{} {:.0f}%", shown++ > 0 ? ", " : "", reason, 100 * cycles / all);
  }
  return text.empty() ? "-" : text;
}

}  // namespace

std::string outcome_word(const ReceiptSanitizer& entry) {
  switch (entry.outcome) {
    case Outcome::ok:
      return entry.errors == 0 ? "ok" : "ERRORS";
    case Outcome::wrong:
      return entry.errors > 0 ? "ERRORS" : "WRONG";
    case Outcome::crashed:
      return "NO ANSWER";
    case Outcome::hung:
      return "HUNG";
  }
  return "?";
}

const std::vector<std::string>& sanitizer_header() {
  static const std::vector<std::string> header{"kernel", "tool", "result", "problems", "errors", "s"};
  return header;
}

Rows sanitizer_rows(const Run& run) {
  Rows rows;
  for (const Receipt& receipt : run.receipts) {
    for (const ReceiptSanitizer& entry : receipt.sanitizer) {
      rows.push_back({limited(entry.kernel, entry.shared_memory_kb), entry.tool, outcome_word(entry),
                      std::to_string(entry.problems), std::to_string(entry.errors),
                      fmt::format("{:.1f}", entry.seconds)});
    }
  }
  return rows;
}

std::vector<std::string> sanitizer_findings(const Run& run) {
  std::vector<std::string> lines;
  for (const Receipt& receipt : run.receipts) {
    for (const ReceiptSanitizer& entry : receipt.sanitizer) {
      if (clean(entry)) continue;
      lines.push_back(fmt::format("{} {} {}: {}", outcome_word(entry), limited(entry.kernel, entry.shared_memory_kb),
                                  entry.tool, entry.failure));
    }
  }
  return lines;
}

const std::vector<std::string>& profile_header() {
  static const std::vector<std::string> header{"kernel",    "case",      "us",        "tensor cores %", "memory %",
                                               "L2 %",      "L2 hits %", "shared %",  "occupancy %",    "registers",
                                               "shared KB", "spills",    "conflicts", "most waits"};
  return header;
}

Rows profile_rows(const Run& run) {
  Rows rows;
  for (const Receipt& receipt : run.receipts) {
    for (const ReceiptProfile& profile : receipt.profiles) {
      const ProfiledLaunch* launch = longest_launch(profile);
      if (launch == nullptr) continue;
      const double shared = launch->metric("static_shared_bytes") + launch->metric("dynamic_shared_bytes");
      rows.push_back({profile.kernel, case_label(profile.shape, profile.shared_memory_kb),
                      number_cell(*launch, "time_us", "{:.1f}"), number_cell(*launch, "tensor_percent", "{:.0f}"),
                      number_cell(*launch, "dram_percent", "{:.0f}"), number_cell(*launch, "l2_percent", "{:.0f}"),
                      number_cell(*launch, "l2_hit_percent", "{:.0f}"),
                      number_cell(*launch, "shared_percent", "{:.0f}"),
                      number_cell(*launch, "occupancy_percent", "{:.0f}"), number_cell(*launch, "registers", "{:.0f}"),
                      fmt::format("{:.0f}", shared / 1024), fmt::format("{:.4g}", spill_instructions(*launch)),
                      percent(bank_conflict_share(*launch)), stalls_cell(*launch)});
    }
  }
  return rows;
}

std::string profile_sentence(const ReceiptProfile& profile) {
  const std::string kernel = limited(profile.kernel, profile.shared_memory_kb);
  if (profile.outcome != Outcome::ok) {
    return fmt::format("{}: the profile {}: {}", kernel, profile.outcome == Outcome::hung ? "hung" : "failed",
                       profile.failure);
  }
  std::string text = fmt::format("{} ({}): {}", kernel, case_label(profile.shape, 0), profile.limited_by);
  if (profile.launches.size() > 1) {
    text += fmt::format("; {} launches a call, of which this is the longest", profile.launches.size());
  }
  return text;
}

std::vector<std::string> profile_sentences(const Run& run) {
  std::vector<std::string> lines;
  for (const Receipt& receipt : run.receipts) {
    for (const ReceiptProfile& profile : receipt.profiles) lines.push_back(profile_sentence(profile));
  }
  return lines;
}

}  // namespace triage::verdict
