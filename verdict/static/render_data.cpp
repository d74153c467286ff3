// The verdict for machines: JSON. The field names are documented in docs/static-triage.md.
#include <nlohmann/json.hpp>

#include "verdict/static/render.h"

namespace triage::static_triage {
namespace {

using Json = nlohmann::ordered_json;

const char* state_name(CellState state) {
  switch (state) {
    case CellState::compiles: return "compiles";
    case CellState::spills: return "spills";
    case CellState::wont_compile: return "wont_compile";
    case CellState::too_big: return "too_big";
    case CellState::needs_target: return "needs_target";
    case CellState::empty_body: return "empty_body";
    case CellState::not_instantiated: return "not_checked";
    case CellState::unknown_target: return "unknown_target";
    case CellState::no_answer: return "no_answer";
  }
  return "";
}

Json location_json(const SourceLocation& where) { return Json{{"file", where.file}, {"line", where.line}}; }

Json cell_json(const Target& target, const Cell& cell) {
  return Json{{"target", target.name()}, {"state", state_name(cell.state)}, {"text", cell_text(cell)}};
}

Json kernel_json(const KernelReportRow& row, const std::vector<Target>& targets) {
  Json json{{"name", row.name}, {"where", location_json(row.where)}, {"targets", Json::array()}};
  for (std::size_t t = 0; t < targets.size(); ++t) {
    const KernelOnTarget& on = row.targets[t];
    Json entry = cell_json(targets[t], on.cell);
    if (on.measured) {
      entry["registers"] = on.registers;
      entry["static_shared_bytes"] = on.static_shared;
      entry["dynamic_shared_bytes"] = on.dynamic_known ? Json(on.dynamic_shared) : Json(nullptr);
      entry["stack_bytes"] = on.stack;
      entry["spill_store_bytes"] = on.spill_stores;
      entry["spill_load_bytes"] = on.spill_loads;
    }
    if (on.occupancy) {
      entry["occupancy"] = Json{{"threads", on.occupancy->threads}, {"threads_assumed", on.occupancy->assumed},
                                {"blocks", on.occupancy->blocks},   {"percent", on.occupancy->percent},
                                {"limit", on.occupancy->limit}};
    }
    json["targets"].push_back(entry);
  }
  return json;
}

Json cause_json(const Cause& cause) {
  const char* severity = cause.severity == Severity::fails ? "fails" : cause.severity == Severity::warns ? "warns" : "informs";
  Json json{{"kind", kind_name(cause.kind)}, {"severity", severity}, {"feature", cause.feature},
            {"where", location_json(cause.where)}, {"also", Json::array()}, {"via", Json::array()},
            {"source_line", cause.source_line}, {"found", cause.found}, {"why", cause.why}, {"fix", cause.fix},
            {"reference", cause.reference}, {"kernels", cause.kernels}, {"targets", cause.targets},
            {"everywhere", cause.everywhere}, {"read_in_source_only", cause.unreached}};
  for (const SourceLocation& also : cause.also) json["also"].push_back(location_json(also));
  for (const SourceLocation& via : cause.via) json["via"].push_back(location_json(via));
  return json;
}

}  // namespace

nlohmann::ordered_json render_json(const Verdict& verdict) {
  Json json{{"schema", 1},
            {"kind", "static_triage"},
            {"nvcc", Json{{"path", verdict.nvcc}, {"version", verdict.nvcc_version}}},
            {"targets", Json::array()},
            {"unknown_targets", verdict.unknown_targets},
            {"exit_code", verdict.exit_code},
            {"summary", headline(verdict)},
            {"files", Json::array()}};
  for (const Target& target : verdict.targets) json["targets"].push_back(target.name());
  for (const FileVerdict& file : verdict.files) {
    Json entry{{"path", file.path},          {"summary", file.summary},      {"matrix", Json::array()},
               {"kernels", Json::array()},   {"causes", Json::array()},      {"path_forward", Json::array()},
               {"notes", file.notes},        {"compile_seconds", file.seconds}};
    for (std::size_t t = 0; t < verdict.targets.size(); ++t) {
      entry["matrix"].push_back(cell_json(verdict.targets[t], file.cells[t]));
    }
    for (const KernelReportRow& row : file.kernels) entry["kernels"].push_back(kernel_json(row, verdict.targets));
    for (const Cause& cause : file.causes) entry["causes"].push_back(cause_json(cause));
    for (const PathForward& path : file.path_forward) {
      entry["path_forward"].push_back(Json{{"target", path.target}, {"steps", path.steps}, {"examples", path.examples}});
    }
    json["files"].push_back(entry);
  }
  return json;
}

}  // namespace triage::static_triage
