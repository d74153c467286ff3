// `triage scan --json`; the fields are described in docs/scan.md.
#include <cmath>
#include <nlohmann/json.hpp>

#include "verdict/scan_report.h"

namespace triage::verdict {
namespace {

Json time_json(const ReceiptTime& time) {
  return {{"median", time.median}, {"p20", time.p20}, {"p80", time.p80}, {"repeats", time.repeats}};
}

// Numbers that JSON cannot hold become null.
Json number(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }

Json measurement_json(const Measurement& measured) {
  Json json{{"block", measured.block},
            {"density", measured.density},
            {"nnz_blocks", measured.nnz_blocks},
            {"kernel", measured.kernel},
            {"layout", measured.layout},
            {"sparse_ms", measured.sparse ? time_json(*measured.sparse) : Json(nullptr)},
            {"dense_ms", measured.dense ? time_json(*measured.dense) : Json(nullptr)},
            {"speedup", measured.dense ? number(measured.speedup()) : Json(nullptr)},
            {"pays", verdict_name(measured.verdict())},
            {"disturbed", measured.disturbed},
            {"other_cores", measured.other_cores},
            {"output_error", number(measured.output_error())},
            {"correct", {{"ok", measured.wrong.empty()}}}};
  if (!measured.wrong.empty()) json["correct"]["detail"] = measured.wrong;
  if (!measured.not_measured.empty()) json["not_measured"] = measured.not_measured;
  return json;
}

Json layer_json(const LayerReport& layer, const ScanReport& report) {
  Json zero = Json::object();
  for (std::size_t i = 0; i < kBlockSizes.size(); ++i) zero[std::to_string(kBlockSizes[i])] = layer.zero_share(i);
  Json json{{"name", layer.name},
            {"file", layer.file},
            {"dtype", layer.dtype},
            {"shape", {layer.rows, layer.cols}},
            {"stored", layer.stored_block > 0 ? Json{{"layout", "block_sparse"}, {"block", layer.stored_block}}
                                              : Json{{"layout", "dense"}}},
            {"stored_bytes", layer.stored_bytes},
            {"dense_bytes", layer.dense_bytes},
            {"zero_blocks", zero}};
  if (report.prune_to > 0) {
    json["pruned"] = {{"block", report.prune_block},
                      {"kept_blocks", layer.kept_blocks},
                      {"blocks", layer.prunable_blocks},
                      {"bytes", layer.pruned_bytes}};
  }
  json["measured"] = Json::array();
  for (const auto& measured : layer.measured) json["measured"].push_back(measurement_json(measured));
  const Measurement* best = layer.best();
  json["best_block"] = best != nullptr ? Json(best->block) : Json(nullptr);
  json["pays"] = best != nullptr ? verdict_name(best->verdict()) : verdict_name(Verdict::not_measured);
  if (!layer.not_measured.empty()) json["not_measured"] = layer.not_measured;
  return json;
}

Json totals_json(const ScanReport& report) {
  const ScanTotals totals = report.totals();
  Json zero = Json::object();
  for (std::size_t i = 0; i < kBlockSizes.size(); ++i) {
    zero[std::to_string(kBlockSizes[i])] =
        totals.blocks[i] == 0
            ? Json(nullptr)
            : Json(1 - static_cast<double>(totals.nonzero[i]) / static_cast<double>(totals.blocks[i]));
  }
  Json json{{"layers", totals.layers},
            {"zero_blocks", zero},
            {"measured", totals.measured},
            {"faster", totals.faster},
            {"slower", totals.slower},
            {"unclear", totals.unclear},
            {"disturbed", totals.disturbed},
            {"wrong", totals.wrong},
            {"sparse_ms", totals.sparse_ms},
            {"dense_ms", totals.dense_ms},
            {"speedup", totals.sparse_ms > 0 && totals.dense_ms > 0 ? Json(totals.speedup()) : Json(nullptr)},
            {"stored_bytes", totals.stored_bytes},
            {"dense_bytes", totals.dense_bytes}};
  if (report.prune_to > 0) {
    json["pruned_bytes"] = totals.pruned_bytes;
    json["kept"] = totals.total > 0 ? Json(totals.kept / totals.total) : Json(nullptr);
    json["output_error"] =
        totals.norm_squared > 0 ? number(std::sqrt(totals.error_squared / totals.norm_squared)) : Json(nullptr);
  }
  return json;
}

}  // namespace

Json scan_json(const ScanReport& report) {
  Json json{{"schema", 1},
            {"path", report.path},
            {"device", report.device},
            {"tokens", report.tokens},
            {"dense", report.dense_name.empty() ? Json(nullptr) : Json(report.dense_name)}};
  if (report.dense_name.empty()) json["dense_absence"] = report.dense_absence;
  if (report.prune_to > 0) json["prune_to"] = report.prune_to;
  json["layers"] = Json::array();
  for (const auto& layer : report.layers) json["layers"].push_back(layer_json(layer, report));
  json["totals"] = totals_json(report);
  json["break_even"] = Json::array();
  for (const auto& shape : report.break_even) {
    const ReceiptCrossover& crossover = shape.crossover;
    Json points = Json::array();
    for (const auto& [density, ms] : crossover.points) points.push_back({{"density", density}, {"sparse_ms", ms}});
    json["break_even"].push_back({{"shape", {shape.rows, shape.cols}},
                                  {"block", crossover.block},
                                  {"dtype", crossover.dtype},
                                  {"kernel", crossover.kernel},
                                  {"dense_ms", crossover.dense_ms},
                                  {"points", points},
                                  {"density", crossover.density},
                                  {"relation", crossover.relation},
                                  {"disturbed", shape.disturbed}});
  }
  json["skipped"] = Json::array();
  for (const auto& tensor : report.skipped) {
    json["skipped"].push_back(
        {{"name", tensor.name}, {"dtype", tensor.dtype}, {"shape", tensor.shape}, {"reason", tensor.reason}});
  }
  return json;
}

}  // namespace triage::verdict
