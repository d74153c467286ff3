// Receipts to JSON and back, with a sentence for whatever is missing or malformed.
#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "verdict/receipt.h"

namespace triage::verdict {
namespace {

/// Reads the fields of one JSON object; `where` names it in sentences ("cases[3].shape").
class Fields {
 public:
  Fields(const Json& json, std::string where) : json_(json), where_(std::move(where)) {
    if (!json.is_object()) fail(where_, "is not an object");
  }

  bool has(const char* name) const { return json_.contains(name) && !json_.at(name).is_null(); }

  std::string text(const char* name) const {
    const Json& value = at(name);
    if (!value.is_string()) fail(path(name), "is not a string");
    return value.get<std::string>();
  }
  std::string text_or(const char* name, std::string fallback) const { return has(name) ? text(name) : fallback; }

  double number(const char* name) const {
    const Json& value = at(name);
    if (!value.is_number()) fail(path(name), "is not a number");
    const double result = value.get<double>();
    if (!std::isfinite(result) || result < 0) fail(path(name), "is not a finite number of at least 0");
    return result;
  }
  double number_or(const char* name, double fallback) const { return has(name) ? number(name) : fallback; }

  std::int64_t integer(const char* name) const {
    const Json& value = at(name);
    if (!value.is_number_integer()) fail(path(name), "is not an integer");
    return value.get<std::int64_t>();
  }
  std::int64_t integer_or(const char* name, std::int64_t fallback) const { return has(name) ? integer(name) : fallback; }

  bool boolean(const char* name) const {
    const Json& value = at(name);
    if (!value.is_boolean()) fail(path(name), "is not true or false");
    return value.get<bool>();
  }
  bool boolean_or(const char* name, bool fallback) const { return has(name) ? boolean(name) : fallback; }

  Fields object(const char* name) const { return Fields(at(name), path(name)); }

  /// Every field, all of which must be numbers, in order.
  std::vector<std::pair<std::string, double>> numbers() const {
    std::vector<std::pair<std::string, double>> result;
    for (const auto& [name, value] : json_.items()) result.emplace_back(name, number(name.c_str()));
    return result;
  }

  /// Calls `read` with each element of an array, which may be absent.
  template <class Read>
  void each(const char* name, Read read) const {
    if (!has(name)) return;
    const Json& array = at(name);
    if (!array.is_array()) fail(path(name), "is not an array");
    for (std::size_t i = 0; i < array.size(); ++i) read(Fields(array[i], fmt::format("{}[{}]", path(name), i)));
  }

  std::string path(const char* name) const { return where_.empty() ? name : where_ + "." + name; }

  [[noreturn]] static void fail(const std::string& where, const std::string& what) {
    throw std::runtime_error(fmt::format("{} {}", where.empty() ? "the receipt" : where, what));
  }

 private:
  const Json& at(const char* name) const {
    if (!json_.contains(name)) fail(path(name), "is missing");
    return json_.at(name);
  }

  const Json& json_;
  std::string where_;
};

Outcome outcome_from(const Fields& fields) {
  const std::string name = fields.text_or("outcome", "ok");
  for (Outcome outcome : {Outcome::ok, Outcome::wrong, Outcome::crashed, Outcome::hung}) {
    if (name == outcome_name(outcome)) return outcome;
  }
  Fields::fail(fields.path("outcome"), fmt::format("is '{}'; ok, wrong, crashed and hung are known", name));
}

bench::AttentionShape read_attention_shape(const Fields& fields) {
  bench::AttentionShape shape;
  shape.name = fields.text_or("name", "");
  shape.batch = fields.integer("batch");
  shape.heads = fields.integer("heads");
  shape.kv_heads = fields.integer("kv_heads");
  shape.seqlen_q = fields.integer("seqlen_q");
  shape.seqlen_k = fields.integer("seqlen_k");
  shape.head_dim = static_cast<int>(fields.integer("head_dim"));
  shape.head_dim_v = static_cast<int>(fields.integer_or("head_dim_v", shape.head_dim));
  shape.causal = fields.boolean("causal");
  shape.window_left = fields.integer_or("window_left", -1);
  shape.window_right = fields.integer_or("window_right", -1);
  shape.softcap = fields.number_or("softcap", 0);
  shape.sinks = fields.boolean_or("sinks", false);
  shape.varlen = fields.boolean_or("varlen", false);
  shape.page_size = static_cast<int>(fields.integer_or("page_size", 0));
  shape.any_order = !fields.boolean_or("deterministic", true);
  shape.block = static_cast<int>(fields.integer_or("block", 0));
  if (shape.block > 0) {
    const std::string pattern = fields.text("pattern");
    const auto kind = bench::pattern_kind_from_name(pattern);
    if (!kind) Fields::fail(fields.path("pattern"), fmt::format("is '{}', which is not known", pattern));
    shape.pattern = *kind;
    shape.density = fields.number("density");
  }
  return shape;
}

Json attention_json(const bench::AttentionShape& shape) {
  Json json{{"batch", shape.batch},       {"heads", shape.heads},       {"kv_heads", shape.kv_heads},
            {"seqlen_q", shape.seqlen_q}, {"seqlen_k", shape.seqlen_k}, {"head_dim", shape.head_dim},
            {"causal", shape.causal},     {"block", nullptr},           {"density", nullptr}};
  if (shape.head_dim_v != shape.head_dim) json["head_dim_v"] = shape.head_dim_v;
  if (shape.window_left >= 0) json["window_left"] = shape.window_left;
  if (shape.window_right >= 0) json["window_right"] = shape.window_right;
  if (shape.softcap > 0) json["softcap"] = shape.softcap;
  if (shape.sinks) json["sinks"] = true;
  if (shape.varlen) json["varlen"] = true;
  if (shape.page_size > 0) json["page_size"] = shape.page_size;
  if (shape.any_order) json["deterministic"] = false;
  if (shape.block > 0) {
    json["block"] = shape.block;
    json["density"] = shape.density;
    json["pattern"] = bench::pattern_kind_name(shape.pattern);
  }
  if (!shape.name.empty()) json["name"] = shape.name;
  return json;
}

ReceiptShape read_shape(const Fields& fields) {
  ReceiptShape shape;
  if (fields.has("head_dim")) {
    shape.attention = read_attention_shape(fields);
    shape.name = shape.attention->name;
    return shape;
  }
  shape.m = fields.integer("m");
  shape.n = fields.integer("n");
  shape.k = fields.integer("k");
  shape.block = static_cast<int>(fields.integer("block"));
  shape.density = fields.number("density");
  shape.pattern = fields.text("pattern");
  shape.layout = fields.text_or("layout", "canonical");
  shape.nnz_blocks = fields.integer_or("nnz_blocks", 0);
  shape.name = fields.text_or("name", "");
  shape.epilogue = fields.text_or("epilogue", "");
  return shape;
}

/// What every entry says of its kernel and, but for the sanitizers', of its case.
template <typename Entry>
void read_identity(const Fields& fields, Entry& entry) {
  entry.op = fields.text("op");
  entry.kernel = fields.text("kernel");
  entry.family = fields.text("family");
  entry.source_sha256 = fields.text("source_sha256");
  if constexpr (requires { entry.shape; }) {
    entry.dtype = fields.text("dtype");
    entry.shape = read_shape(fields.object("shape"));
  }
}

ReceiptCase read_case(const Fields& fields) {
  ReceiptCase result;
  read_identity(fields, result);
  result.outcome = outcome_from(fields);
  result.failure = fields.text_or("failure", "");
  const Fields correct = fields.object("correct");
  result.correct.ok = correct.boolean("ok");
  result.correct.worst_block_ratio = correct.number_or("worst_block_ratio", 0);
  result.correct.frobenius = correct.number_or("frobenius", 0);
  result.correct.bound = correct.number_or("bound", 0);
  result.correct.checked = correct.number_or("checked", 0);
  result.correct.rechecked_after_timing = correct.boolean_or("rechecked_after_timing", false);
  result.correct.detail = correct.text_or("detail", "");
  if (fields.has("time_ms")) {
    const Fields time = fields.object("time_ms");
    result.time = ReceiptTime{time.number("median"), time.number("p20"), time.number("p80"),
                              static_cast<int>(time.integer("repeats"))};
  }
  result.tflops = fields.number_or("tflops", 0);
  if (fields.has("roof")) {
    const Fields roof = fields.object("roof");
    result.roof_tflops = roof.number("tflops");
    result.roof_limit = roof.text("limit");
  }
  fields.each("peers", [&](const Fields& peer) {
    result.peers.push_back({peer.text("name"), peer.text_or("version", ""), peer.number("time_ms"),
                            peer.number("tflops"), peer.text_or("note", "")});
  });
  fields.each("not_measured", [&](const Fields& peer) {
    result.not_measured.push_back({peer.text("name"), peer.text("reason")});
  });
  result.note = fields.text_or("note", "");
  result.shared_memory_kb = static_cast<int>(fields.integer_or("shared_memory_kb", 0));
  result.operand_copies = static_cast<int>(fields.integer_or("operand_copies", 1));
  return result;
}

ReceiptGrid read_grid(const Fields& fields) {
  ReceiptGrid grid;
  read_identity(fields, grid);
  grid.cases = static_cast<int>(fields.integer("cases"));
  grid.failed = static_cast<int>(fields.integer("failed"));
  grid.refused = static_cast<int>(fields.integer_or("refused", 0));
  grid.outcome = outcome_from(fields);
  grid.failure = fields.text_or("failure", "");
  grid.shared_memory_kb = static_cast<int>(fields.integer_or("shared_memory_kb", 0));
  return grid;
}

ReceiptCrossover read_crossover(const Fields& fields) {
  ReceiptCrossover result;
  result.op = fields.text("op");
  result.kernel = fields.text("kernel");
  result.dtype = fields.text("dtype");
  result.size = fields.integer("size");
  result.block = static_cast<int>(fields.integer("block"));
  result.dense_peer = fields.text("dense_peer");
  result.dense_ms = fields.number("dense_ms");
  fields.each("points", [&](const Fields& point) {
    result.points.emplace_back(point.number("density"), point.number("time_ms"));
  });
  result.density = fields.number("density");
  result.relation = fields.text("relation");
  result.shared_memory_kb = static_cast<int>(fields.integer_or("shared_memory_kb", 0));
  return result;
}

ReceiptSanitizer read_sanitizer(const Fields& fields) {
  ReceiptSanitizer entry;
  read_identity(fields, entry);
  entry.tool = fields.text("tool");
  entry.version = fields.text_or("version", "");
  entry.date = fields.text_or("date", "");
  entry.problems = static_cast<int>(fields.integer("problems"));
  entry.errors = static_cast<int>(fields.integer("errors"));
  entry.outcome = outcome_from(fields);
  entry.failure = fields.text_or("failure", "");
  entry.seconds = fields.number_or("seconds", 0);
  entry.shared_memory_kb = static_cast<int>(fields.integer_or("shared_memory_kb", 0));
  return entry;
}

ProfiledLaunch read_launch(const Fields& fields) {
  ProfiledLaunch launch;
  launch.name = fields.text("name");
  launch.grid = fields.text_or("grid", "");
  launch.block = fields.text_or("block", "");
  launch.metrics = fields.object("metrics").numbers();
  launch.stalls = fields.object("stalls").numbers();
  return launch;
}

ReceiptProfile read_profile(const Fields& fields) {
  ReceiptProfile profile;
  read_identity(fields, profile);
  profile.version = fields.text_or("version", "");
  profile.date = fields.text_or("date", "");
  profile.outcome = outcome_from(fields);
  profile.failure = fields.text_or("failure", "");
  fields.each("launches", [&](const Fields& launch) { profile.launches.push_back(read_launch(launch)); });
  profile.limited_by = fields.text_or("limited_by", "");
  profile.shared_memory_kb = static_cast<int>(fields.integer_or("shared_memory_kb", 0));
  return profile;
}

ReceiptDevice read_device(const Fields& fields) {
  ReceiptDevice device;
  device.name = fields.text("name");
  device.compute_capability = fields.text("compute_capability");
  device.driver = fields.text_or("driver", "");
  device.cuda = fields.text_or("cuda", "");
  device.threads = static_cast<int>(fields.integer_or("threads", 0));
  device.dense_fp16_tflops = fields.number_or("dense_fp16_tflops", 0);
  device.dense_fp32_tflops = fields.number_or("dense_fp32_tflops", 0);
  device.mma_sync_tflops = fields.number_or("mma_sync_tflops", 0);
  device.fp32_peak_tflops = fields.number_or("fp32_peak_tflops", 0);
  device.memory_gbytes_per_s = fields.number_or("memory_gbytes_per_s", 0);
  return device;
}

/// Four significant digits: what a measurement is worth, and what keeps the files readable.
double rounded(double value) {
  if (value == 0 || !std::isfinite(value)) return value;
  return std::stod(fmt::format("{:.4g}", value));
}

void set_if(Json& json, const char* name, double value) {
  if (value > 0) json[name] = rounded(value);
}

void set_if(Json& json, const char* name, const std::string& value) {
  if (!value.empty()) json[name] = value;
}

}  // namespace

double ProfiledLaunch::metric(const std::string& metric_name, double fallback) const {
  for (const auto& [known, value] : metrics) {
    if (known == metric_name) return value;
  }
  return fallback;
}

const char* outcome_name(Outcome outcome) {
  switch (outcome) {
    case Outcome::ok: return "ok";
    case Outcome::wrong: return "wrong";
    case Outcome::crashed: return "crashed";
    case Outcome::hung: return "hung";
  }
  return "unknown";
}

Json to_json(const ReceiptShape& shape) {
  if (shape.attention) return attention_json(*shape.attention);
  Json json{{"m", shape.m},           {"n", shape.n},
            {"k", shape.k},           {"block", shape.block},
            {"density", shape.density}, {"pattern", shape.pattern},
            {"layout", shape.layout}, {"nnz_blocks", shape.nnz_blocks}};
  if (!shape.name.empty()) json["name"] = shape.name;
  if (!shape.epilogue.empty()) json["epilogue"] = shape.epilogue;
  return json;
}

Json to_json(const ReceiptCase& result) {
  Json json{{"op", result.op},
            {"kernel", result.kernel},
            {"family", result.family},
            {"source_sha256", result.source_sha256},
            {"dtype", result.dtype},
            {"shape", to_json(result.shape)}};
  if (result.outcome != Outcome::ok) json["outcome"] = outcome_name(result.outcome);
  set_if(json, "failure", result.failure);
  Json correct{{"ok", result.correct.ok}};
  if (result.correct.checked > 0) {
    // An infinite ratio or error (a NaN in the output, say) has no JSON number; `detail` tells it.
    const auto finite = [](double value) { return std::isfinite(value) ? Json(rounded(value)) : Json(nullptr); };
    correct["worst_block_ratio"] = finite(result.correct.worst_block_ratio);
    correct["frobenius"] = finite(result.correct.frobenius);
    correct["bound"] = finite(result.correct.bound);
    correct["checked"] = rounded(result.correct.checked);
    correct["rechecked_after_timing"] = result.correct.rechecked_after_timing;
  }
  set_if(correct, "detail", result.correct.detail);
  json["correct"] = correct;
  if (result.time) {
    json["time_ms"] = {{"median", rounded(result.time->median)},
                       {"p20", rounded(result.time->p20)},
                       {"p80", rounded(result.time->p80)},
                       {"repeats", result.time->repeats}};
    json["tflops"] = rounded(result.tflops);
  }
  if (result.roof_tflops > 0) json["roof"] = {{"tflops", rounded(result.roof_tflops)}, {"limit", result.roof_limit}};
  json["peers"] = Json::array();
  for (const ReceiptPeer& peer : result.peers) {
    Json entry{{"name", peer.name}, {"version", peer.version}, {"time_ms", rounded(peer.time_ms)},
               {"tflops", rounded(peer.tflops)}};
    set_if(entry, "note", peer.note);
    json["peers"].push_back(entry);
  }
  for (const AbsentPeer& peer : result.not_measured) {
    json["not_measured"].push_back({{"name", peer.name}, {"reason", peer.reason}});
  }
  if (result.shared_memory_kb > 0) json["shared_memory_kb"] = result.shared_memory_kb;
  if (result.operand_copies > 1) json["operand_copies"] = result.operand_copies;
  set_if(json, "note", result.note);
  return json;
}

Json to_json(const ReceiptGrid& grid) {
  Json json{{"op", grid.op},
            {"kernel", grid.kernel},
            {"family", grid.family},
            {"source_sha256", grid.source_sha256},
            {"cases", grid.cases},
            {"failed", grid.failed}};
  if (grid.refused > 0) json["refused"] = grid.refused;
  if (grid.outcome != Outcome::ok) json["outcome"] = outcome_name(grid.outcome);
  set_if(json, "failure", grid.failure);
  if (grid.shared_memory_kb > 0) json["shared_memory_kb"] = grid.shared_memory_kb;
  return json;
}

Json to_json(const ReceiptCrossover& crossover) {
  Json json{{"op", crossover.op},       {"kernel", crossover.kernel}, {"dtype", crossover.dtype},
            {"size", crossover.size},   {"block", crossover.block},   {"dense_peer", crossover.dense_peer},
            {"dense_ms", rounded(crossover.dense_ms)}};
  json["points"] = Json::array();
  for (const auto& [density, ms] : crossover.points) {
    json["points"].push_back({{"density", rounded(density)}, {"time_ms", rounded(ms)}});
  }
  json["density"] = rounded(crossover.density);
  json["relation"] = crossover.relation;
  if (crossover.shared_memory_kb > 0) json["shared_memory_kb"] = crossover.shared_memory_kb;
  return json;
}

Json to_json(const ReceiptSanitizer& entry) {
  Json json{{"op", entry.op},     {"kernel", entry.kernel},     {"family", entry.family}, {"source_sha256", entry.source_sha256},
            {"tool", entry.tool}, {"problems", entry.problems}, {"errors", entry.errors}};
  set_if(json, "version", entry.version);
  set_if(json, "date", entry.date);
  if (entry.outcome != Outcome::ok) json["outcome"] = outcome_name(entry.outcome);
  set_if(json, "failure", entry.failure);
  set_if(json, "seconds", entry.seconds);
  if (entry.shared_memory_kb > 0) json["shared_memory_kb"] = entry.shared_memory_kb;
  return json;
}

Json to_json(const ReceiptProfile& profile) {
  Json json{{"op", profile.op},
            {"kernel", profile.kernel},
            {"family", profile.family},
            {"source_sha256", profile.source_sha256},
            {"dtype", profile.dtype},
            {"shape", to_json(profile.shape)}};
  set_if(json, "version", profile.version);
  set_if(json, "date", profile.date);
  if (profile.outcome != Outcome::ok) json["outcome"] = outcome_name(profile.outcome);
  set_if(json, "failure", profile.failure);
  const auto object_of = [](const std::vector<std::pair<std::string, double>>& numbers) {
    Json object = Json::object();
    for (const auto& [name, value] : numbers) object[name] = rounded(value);
    return object;
  };
  json["launches"] = Json::array();
  for (const ProfiledLaunch& launch : profile.launches) {
    Json entry{{"name", launch.name}};
    set_if(entry, "grid", launch.grid);
    set_if(entry, "block", launch.block);
    entry["metrics"] = object_of(launch.metrics);
    entry["stalls"] = object_of(launch.stalls);
    json["launches"].push_back(entry);
  }
  set_if(json, "limited_by", profile.limited_by);
  if (profile.shared_memory_kb > 0) json["shared_memory_kb"] = profile.shared_memory_kb;
  return json;
}

Json to_json(const ReceiptDevice& device) {
  Json json{{"name", device.name}, {"compute_capability", device.compute_capability}};
  set_if(json, "driver", device.driver);
  set_if(json, "cuda", device.cuda);
  if (device.threads > 0) json["threads"] = device.threads;
  set_if(json, "dense_fp16_tflops", device.dense_fp16_tflops);
  set_if(json, "dense_fp32_tflops", device.dense_fp32_tflops);
  set_if(json, "mma_sync_tflops", device.mma_sync_tflops);
  set_if(json, "fp32_peak_tflops", device.fp32_peak_tflops);
  set_if(json, "memory_gbytes_per_s", device.memory_gbytes_per_s);
  return json;
}

Json to_json(const Receipt& receipt) {
  Json json{{"schema", kReceiptSchema}, {"device", to_json(receipt.device)}, {"date", receipt.date}};
  json["cases"] = Json::array();
  for (const ReceiptCase& result : receipt.cases) json["cases"].push_back(to_json(result));
  for (const ReceiptGrid& grid : receipt.grids) json["correctness_grids"].push_back(to_json(grid));
  for (const ReceiptCrossover& crossover : receipt.crossovers) json["crossovers"].push_back(to_json(crossover));
  for (const ReceiptSanitizer& entry : receipt.sanitizer) json["sanitizer"].push_back(to_json(entry));
  for (const ReceiptProfile& profile : receipt.profiles) json["profiles"].push_back(to_json(profile));
  return json;
}

ReceiptCase case_from_json(const Json& json) { return read_case(Fields(json, "")); }
ReceiptGrid grid_from_json(const Json& json) { return read_grid(Fields(json, "")); }
ReceiptCrossover crossover_from_json(const Json& json) { return read_crossover(Fields(json, "")); }
ReceiptProfile profile_from_json(const Json& json) { return read_profile(Fields(json, "")); }
ReceiptShape shape_from_json(const Json& json) { return read_shape(Fields(json, "")); }
ReceiptDevice device_from_json(const Json& json) { return read_device(Fields(json, "")); }

Receipt receipt_from_json(const Json& json) {
  const Fields fields(json, "");
  const std::int64_t schema = fields.integer("schema");
  if (schema != kReceiptSchema) {
    Fields::fail("schema", fmt::format("is {}; this program reads schema {}", schema, kReceiptSchema));
  }
  Receipt receipt;
  receipt.device = read_device(fields.object("device"));
  receipt.date = fields.text("date");
  if (!fields.has("cases")) Fields::fail("cases", "is missing");
  fields.each("cases", [&](const Fields& entry) { receipt.cases.push_back(read_case(entry)); });
  fields.each("correctness_grids", [&](const Fields& entry) { receipt.grids.push_back(read_grid(entry)); });
  fields.each("crossovers", [&](const Fields& entry) { receipt.crossovers.push_back(read_crossover(entry)); });
  fields.each("sanitizer", [&](const Fields& entry) { receipt.sanitizer.push_back(read_sanitizer(entry)); });
  fields.each("profiles", [&](const Fields& entry) { receipt.profiles.push_back(read_profile(entry)); });
  return receipt;
}

}  // namespace triage::verdict
