#include "verdict/static/model.h"

#include <fmt/format.h>

namespace triage::static_triage {

std::string cell_text(const Cell& cell) {
  const std::string bracket = cell.detail.empty() ? "" : " (" + cell.detail + ")";
  switch (cell.state) {
    case CellState::compiles: return "COMPILES" + bracket;
    case CellState::spills: return fmt::format("COMPILES (spills {} bytes)", cell.spill_bytes);
    case CellState::wont_compile: return "WON'T COMPILE" + bracket;
    case CellState::too_big: return "TOO BIG" + bracket;
    case CellState::needs_target: return "NEEDS `a` TARGET" + bracket;
    case CellState::empty_body: return "COMPILES TO NOTHING" + bracket;
    case CellState::not_instantiated: return "NOT CHECKED" + bracket;
    case CellState::unknown_target: return "UNKNOWN TO THIS NVCC";
    case CellState::no_answer: return "NO ANSWER" + bracket;
  }
  return "";
}

const char* kind_name(CauseKind kind) {
  switch (kind) {
    case CauseKind::instruction: return "instruction";
    case CauseKind::wide_guard: return "wide-guard";
    case CauseKind::feature_name: return "feature-name";
    case CauseKind::zero_sized_array: return "zero-sized-array";
    case CauseKind::static_assertion: return "static-assertion";
    case CauseKind::missing_header: return "missing-header";
    case CauseKind::undefined_name: return "undefined-name";
    case CauseKind::undefined_function: return "undefined-function";
    case CauseKind::shared_memory: return "shared-memory";
    case CauseKind::launch_limits: return "launch-limits";
    case CauseKind::empty_body: return "empty-body";
    case CauseKind::spills: return "spills";
    case CauseKind::error_directive: return "error-directive";
    case CauseKind::host_code: return "host-code";
    case CauseKind::compile_error: return "compile-error";
    case CauseKind::toolchain: return "toolchain";
    case CauseKind::timeout: return "timeout";
    case CauseKind::crash: return "crash";
  }
  return "";
}

std::string join(const std::vector<std::string>& parts, const char* last) {
  std::string text;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (i > 0) text += i + 1 == parts.size() ? last : ", ";
    text += parts[i];
  }
  return text;
}

std::string place(const SourceLocation& where) {
  if (where.file.empty()) return "";
  return where.line > 0 ? fmt::format("{}:{}", where.file, where.line) : where.file;
}

std::string kilobytes(long bytes) {
  return bytes % 1024 == 0 ? fmt::format("{}", bytes / 1024) : fmt::format("{:.1f}", static_cast<double>(bytes) / 1024.0);
}

}  // namespace triage::static_triage
