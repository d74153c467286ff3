#include "verdict/matrix.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "registry/attention_registry.h"
#include "registry/registry.h"
#include "registry/source_hash.h"
#include "verdict/terminal.h"

namespace triage::verdict {
namespace {

/// An imposed shared-memory limit up to here runs the configuration of the devices that have no more.
constexpr int kSmallSharedMemoryKb = 99;

/// What the receipts of one architecture say about one kernel.
struct Evidence {
  bool current = false;       ///< a receipt whose source hash is the checkout's
  bool current_small = false; ///< the same, with shared memory limited to 99 KB or less
  bool stale = false;         ///< a receipt of another source
  double tflops = 0;
  std::string failure;        ///< first failure of the current source
};

std::string case_name(const ReceiptShape& shape) {
  return shape.attention ? shape.attention->label() : fmt::format("{} block {}", shape.name, shape.block);
}

Evidence gather(const MatrixKernel& kernel, const MatrixTarget& target, const std::vector<Receipt>& receipts) {
  Evidence evidence;
  const auto is_current = [&](const std::string& sha256, int shared_memory_kb) {
    if (sha256 != kernel.source_sha256 || sha256.empty()) {
      evidence.stale = true;
      return false;
    }
    const bool small = shared_memory_kb > 0 && shared_memory_kb <= kSmallSharedMemoryKb;
    (small ? evidence.current_small : evidence.current) = true;
    return true;
  };
  const auto fail = [&](const std::string& sentence) {
    if (evidence.failure.empty()) evidence.failure = sentence;
  };
  for (const Receipt& receipt : receipts) {
    if (receipt.device.compute_capability != target.compute_capability) continue;
    for (const ReceiptCase& result : receipt.cases) {
      if (result.kernel != kernel.name || !is_current(result.source_sha256, result.shared_memory_kb)) continue;
      if (result.outcome != Outcome::ok || !result.correct.ok) {
        fail(fmt::format("{}: {}", case_name(result.shape),
                         !result.failure.empty() ? result.failure : "wrong result"));
      } else if (result.shared_memory_kb == 0) {
        evidence.tflops = std::max(evidence.tflops, result.tflops);
      }
    }
    for (const ReceiptGrid& grid : receipt.grids) {
      if (grid.kernel != kernel.name || !is_current(grid.source_sha256, grid.shared_memory_kb)) continue;
      if (grid.outcome != Outcome::ok || grid.failed > 0) {
        fail(fmt::format("correctness grid: {}", !grid.failure.empty() ? grid.failure : "wrong result"));
      }
    }
  }
  return evidence;
}

const char* state_name(CellState state) {
  switch (state) {
    case CellState::validated: return "VALIDATED";
    case CellState::stale: return "STALE";
    case CellState::portable: return "PORTABLE";
    case CellState::compiles: return "COMPILES";
    case CellState::unsupported: return "UNSUPPORTED";
    case CellState::failed: return "FAILED";
  }
  return "";
}

/// Three significant digits, but no exponent: "537", "4.21", "0.0312".
std::string short_number(double value) {
  return value >= 100 ? fmt::format("{:.0f}", value) : fmt::format("{:.3g}", value);
}

std::vector<MatrixCell> make_row(const MatrixKernel& kernel, const std::vector<Receipt>& receipts) {
  const auto& targets = matrix_targets();
  std::vector<Evidence> evidence;
  for (const MatrixTarget& target : targets) evidence.push_back(gather(kernel, target, receipts));

  // Where else the same source was correct: on a device with the target's own configuration if there is one.
  const auto seen_elsewhere = [&](std::size_t here) {
    std::string anywhere;
    for (std::size_t t = 0; t < targets.size(); ++t) {
      if (t == here || !evidence[t].failure.empty()) continue;
      const bool needs_small = targets[here].shared_memory_kb <= kSmallSharedMemoryKb;
      if (needs_small && evidence[t].current_small) {
        return fmt::format("{}, {} KB", targets[t].title, kSmallSharedMemoryKb);
      }
      if (evidence[t].current && anywhere.empty()) anywhere = targets[t].title;
    }
    return anywhere;
  };

  std::vector<MatrixCell> cells;
  for (std::size_t t = 0; t < targets.size(); ++t) {
    MatrixCell cell;
    if (!evidence[t].failure.empty()) {
      cell = {CellState::failed, 0, evidence[t].failure};
    } else if (evidence[t].current) {
      cell = {CellState::validated, evidence[t].tflops, ""};
    } else if (!kernel.refusals[t].empty()) {
      cell = {CellState::unsupported, 0, kernel.refusals[t]};
    } else if (evidence[t].stale) {
      cell = {CellState::stale, 0, ""};
    } else if (const std::string elsewhere = seen_elsewhere(t); !elsewhere.empty()) {
      cell = {CellState::portable, 0, elsewhere};
    } else {
      cell = {CellState::compiles, 0, ""};
    }
    cells.push_back(cell);
  }
  return cells;
}

Colour colour_of(CellState state) {
  switch (state) {
    case CellState::validated: return Colour::green;
    case CellState::failed: return Colour::red;
    case CellState::stale: return Colour::yellow;
    case CellState::unsupported: return Colour::dim;
    default: return Colour::none;
  }
}

/// Sentences under the table: failures one by one, refusals once per family with the columns they hold for.
std::vector<std::string> remarks(const SupportMatrix& matrix) {
  std::vector<std::string> lines;
  const auto& targets = matrix_targets();
  std::map<std::pair<std::string, std::string>, std::vector<std::string>> refusals;
  for (std::size_t k = 0; k < matrix.kernels.size(); ++k) {
    for (std::size_t t = 0; t < targets.size(); ++t) {
      const MatrixCell& cell = matrix.cells[k][t];
      if (cell.state == CellState::failed) {
        lines.push_back(fmt::format("FAILED: {} on {}: {}.", matrix.kernels[k].name, targets[t].title, cell.detail));
      } else if (cell.state == CellState::unsupported) {
        auto& columns = refusals[{matrix.kernels[k].family, cell.detail}];
        if (std::find(columns.begin(), columns.end(), targets[t].title) == columns.end()) {
          columns.push_back(targets[t].title);
        }
      }
    }
  }
  for (const auto& [who, columns] : refusals) {
    lines.push_back(fmt::format("UNSUPPORTED: {} kernels on {}: {}.", who.first, fmt::join(columns, ", "), who.second));
  }
  return lines;
}

TextTable table_of(const SupportMatrix& matrix, const char* code_mark) {
  std::vector<std::string> header{"kernel"};
  for (const MatrixTarget& target : matrix_targets()) {
    header.push_back(*target.example ? fmt::format("{} ({})", target.title, target.example) : target.title);
  }
  TextTable table(header);
  for (std::size_t k = 0; k < matrix.kernels.size(); ++k) {
    std::vector<std::string> cells{code_mark + matrix.kernels[k].name + code_mark};
    for (const MatrixCell& cell : matrix.cells[k]) cells.push_back(cell.text());
    table.add(std::move(cells));
  }
  return table;
}

}  // namespace

const std::vector<MatrixTarget>& matrix_targets() {
  static const std::vector<MatrixTarget> targets{
      {"80", "A100", "8.0", 80, 163},        {"86", "RTX 30", "8.6", 86, 99}, {"89", "L4, RTX 40", "8.9", 89, 99},
      {"90", "H100, H200", "9.0", 90, 227},  {"100", "B200", "10.0", 100, 227}, {"120", "RTX 50", "12.0", 120, 99},
      {"cpu", "", "cpu", 0, 0},
  };
  return targets;
}

namespace {

/// A target's machine, made up from what is known of it.
Device device_of(const MatrixTarget& target) {
  Device device;
  device.name = *target.example ? target.example : "the CPU";
  device.compute_capability = target.number;
  device.shared_memory_per_block = static_cast<std::size_t>(target.shared_memory_kb) * 1024;
  if (target.number > 0) device.dl = {kDLCUDA, 0};
  return device;
}

/// Why a kernel of `family` refuses on each target; empty where it does not. `can_run` judges the device.
template <class CanRun>
std::vector<std::string> refusals_of(Family family, const CanRun& can_run) {
  std::vector<std::string> refusals;
  for (const MatrixTarget& target : matrix_targets()) {
    const Device device = device_of(target);
    Support support = family_runs_on(family, device);
    if (support.ok) support = can_run(device);
    // What is needed, without what was found instead: the column says that.
    const std::string needed = support.reason.substr(0, support.reason.find("; "));
    refusals.push_back(support.ok ? "" : needed.empty() ? "refused" : needed);
  }
  return refusals;
}

}  // namespace

std::vector<MatrixKernel> registry_matrix_kernels() {
  std::vector<MatrixKernel> rows;
  for (const SparseGemmKernel* kernel : sparse_gemm_kernels()) {
    SparseGemmProblem problem;
    problem.operation = kernel->operation;
    problem.dtype = kernel->family == Family::cpu ? DType::float32 : DType::float16;
    problem.block = kernel->block != 0 ? kernel->block : 32;
    problem.rows = problem.cols = problem.dense = 1024;
    problem.nnz_blocks = problem.rows / problem.block;
    rows.push_back({kernel->name, operation_name(kernel->operation), family_name(kernel->family),
                    std::string(source_sha256(kernel->source)),
                    refusals_of(kernel->family, [&](const Device& device) { return kernel->can_run(problem, device); })});
  }
  const auto add_attention = [&](const auto& kernels, const char* operation) {
    for (const auto* kernel : kernels) {
      const AttentionProblem problem = ordinary_problem(*kernel);
      rows.push_back(
          {kernel->name, operation, family_name(kernel->family), std::string(source_sha256(kernel->source)),
           refusals_of(kernel->family, [&](const Device& device) { return kernel->can_run(problem, device); })});
    }
  };
  add_attention(attention_kernels(), kAttentionForward);
  add_attention(attention_backward_kernels(), kAttentionBackward);
  return rows;
}

std::string MatrixCell::text() const {
  if (state == CellState::validated && tflops > 0) return fmt::format("VALIDATED {} TF/s", short_number(tflops));
  if (state == CellState::portable) return fmt::format("PORTABLE ({})", detail);
  return state_name(state);
}

SupportMatrix make_matrix(std::vector<MatrixKernel> kernels, const std::vector<Receipt>& receipts) {
  SupportMatrix matrix;
  for (const MatrixKernel& kernel : kernels) matrix.cells.push_back(make_row(kernel, receipts));
  matrix.kernels = std::move(kernels);
  return matrix;
}

std::string matrix_markdown(const SupportMatrix& matrix) {
  std::string text = table_of(matrix, "`").markdown();
  text +=
      "\nVALIDATED: correct there, by a receipt of this very source; the rate is that of its fastest case (nonzero blocks, "
      "or attended pairs, only). STALE: the source has changed since its receipt. PORTABLE: never run there; correct, through the same "
      "source, on the architecture named. COMPILES: builds for it, never run. UNSUPPORTED: refused. FAILED: ran and was "
      "wrong, or did not finish.\n";
  for (const std::string& line : remarks(matrix)) text += "\n- " + line;
  if (text.back() != '\n') text += '\n';
  return text;
}

std::string matrix_text(const SupportMatrix& matrix, bool colour) {
  std::string text = table_of(matrix, "").text();
  if (colour) {
    for (CellState state : {CellState::validated, CellState::stale, CellState::failed, CellState::unsupported}) {
      const std::string name = state_name(state);
      for (std::size_t at = text.find(name); at != std::string::npos; at = text.find(name, at)) {
        const std::string word = painted(name, colour_of(state), true);
        text.replace(at, name.size(), word);
        at += word.size();
      }
    }
  }
  for (const std::string& line : remarks(matrix)) text += "\n" + line;
  if (text.back() != '\n') text += '\n';
  return text;
}

Json matrix_json(const SupportMatrix& matrix) {
  Json json{{"rows", Json::array()}};
  for (std::size_t k = 0; k < matrix.kernels.size(); ++k) {
    Json row{{"kernel", matrix.kernels[k].name}, {"op", matrix.kernels[k].op}, {"family", matrix.kernels[k].family}};
    for (std::size_t t = 0; t < matrix_targets().size(); ++t) {
      const MatrixCell& cell = matrix.cells[k][t];
      Json entry{{"state", state_name(cell.state)}};
      if (cell.state == CellState::validated) entry["tflops"] = cell.tflops;
      if (!cell.detail.empty()) entry["detail"] = cell.detail;
      row["cells"][matrix_targets()[t].title] = entry;
    }
    json["rows"].push_back(row);
  }
  return json;
}

}  // namespace triage::verdict
