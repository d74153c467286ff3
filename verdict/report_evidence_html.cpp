// The report's part on each kernel: what was checked, timed, watched by compute-sanitizer and profiled.
#include <fmt/format.h>

#include <algorithm>

#include "verdict/evidence_report.h"
#include "verdict/html.h"
#include "verdict/profile_metrics.h"
#include "verdict/report.h"

namespace triage::verdict {
namespace {

/// One kernel's part of a run: what write_receipts would put into one file.
struct KernelEvidence {
  std::string kernel, title;
  int shared_memory_kb = 0;
  Run run;  // one receipt, this kernel's entries alone
};

std::vector<KernelEvidence> by_kernel(const Run& run) {
  std::vector<KernelEvidence> all;
  const auto part_of = [&](const auto& entry) -> Receipt& {
    const auto same = [&](const KernelEvidence& known) {
      return known.kernel == entry.kernel && known.shared_memory_kb == entry.shared_memory_kb;
    };
    auto found = std::find_if(all.begin(), all.end(), same);
    if (found == all.end()) {
      KernelEvidence fresh{entry.kernel, entry.kernel, entry.shared_memory_kb, {}};
      if (entry.shared_memory_kb > 0) fresh.title += fmt::format(", {} KB of shared memory", entry.shared_memory_kb);
      fresh.run.receipts.emplace_back();
      found = all.insert(all.end(), fresh);
    }
    return found->run.receipts.front();
  };
  for (const Receipt& receipt : run.receipts) {
    for (const ReceiptCase& entry : receipt.cases) part_of(entry).cases.push_back(entry);
    for (const ReceiptGrid& entry : receipt.grids) part_of(entry).grids.push_back(entry);
    for (const ReceiptSanitizer& entry : receipt.sanitizer) part_of(entry).sanitizer.push_back(entry);
    for (const ReceiptProfile& entry : receipt.profiles) part_of(entry).profiles.push_back(entry);
  }
  return all;
}

std::string timed_sentence(const Receipt& part) {
  const ReceiptCase* fastest = nullptr;
  int timed = 0;
  for (const ReceiptCase& result : part.cases) {
    if (!result.time) continue;
    ++timed;
    if (fastest == nullptr || result.tflops > fastest->tflops) fastest = &result;
  }
  if (fastest == nullptr) return "not timed in this run";
  return fmt::format("{} cases timed; the fastest: {} TF/s on {} ({})", timed, rate(fastest->tflops),
                     case_label(fastest->shape, 0), fastest->dtype);
}

std::string source_of(const Receipt& part) {
  if (!part.cases.empty()) return part.cases.front().source_sha256;
  if (!part.grids.empty()) return part.grids.front().source_sha256;
  if (!part.sanitizer.empty()) return part.sanitizer.front().source_sha256;
  return part.profiles.empty() ? "" : part.profiles.front().source_sha256;
}

/// Where a profiled launch's warps waited, as bars.
std::string waits_chart(const ReceiptProfile& profile) {
  const ProfiledLaunch* launch = longest_launch(profile);
  if (launch == nullptr) return "";
  constexpr std::size_t kShown = 6;
  BarGroup group{"cycles a warp waits for each instruction issued", {}};
  for (const auto& [reason, cycles] : launch->stalls) {
    if (reason == "selected" || group.bars.size() == kShown) continue;
    group.bars.push_back({reason, cycles, false});
  }
  return svg_bars({group}, "", "What warps of " + profile.kernel + " wait for");
}

std::string kernel_html(const KernelEvidence& evidence) {
  const Receipt& part = evidence.run.receipts.front();
  std::vector<std::string> facts;
  for (const ReceiptGrid& grid : part.grids) facts.push_back(grid_sentence(grid));
  facts.push_back(timed_sentence(part));
  if (part.sanitizer.empty()) facts.push_back("compute-sanitizer: not run (--sanitize)");
  for (const std::string& finding : sanitizer_findings(evidence.run)) facts.push_back(finding);
  if (part.profiles.empty()) facts.push_back("Nsight Compute: not run (--profile)");
  for (const std::string& sentence : profile_sentences(evidence.run)) facts.push_back(sentence);
  if (const std::string source = source_of(part); !source.empty()) facts.push_back("sources: sha256 " + source);
  std::string html = html_list(facts);
  if (!part.sanitizer.empty()) {
    std::vector<std::vector<std::string>> classes;
    for (const ReceiptSanitizer& entry : part.sanitizer) {
      classes.push_back({"", "", outcome_word(entry) == "ok" ? "good" : "bad", "", "", ""});
    }
    html += html_table(sanitizer_header(), sanitizer_rows(evidence.run), classes);
  }
  if (const Rows rows = profile_rows(evidence.run); !rows.empty()) {
    // Fact by fact downwards: a phone has no room for this many columns.
    Rows turned;
    for (std::size_t c = 1; c < profile_header().size(); ++c) {
      std::vector<std::string> line{profile_header()[c]};
      for (const std::vector<std::string>& row : rows) line.push_back(row[c]);
      turned.push_back(line);
    }
    std::vector<std::string> header{"profile"};
    for (const std::vector<std::string>& row : rows) header.push_back(row[0]);
    html += html_table(header, turned);
  }
  for (const ReceiptProfile& profile : part.profiles) html += waits_chart(profile);
  return html;
}

}  // namespace

std::string evidence_html(const Run& run) {
  std::string html;
  for (const KernelEvidence& evidence : by_kernel(run)) html += html_details(evidence.title, kernel_html(evidence));
  return html;
}

}  // namespace triage::verdict
