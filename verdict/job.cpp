#include "verdict/job.h"

#include <nlohmann/json.hpp>
#include <stdexcept>

namespace triage::verdict {
namespace {

constexpr std::pair<JobKind, const char*> kKinds[] = {{JobKind::device, "device"},
                                                      {JobKind::grid, "grid"},
                                                      {JobKind::timing, "timing"},
                                                      {JobKind::crossover, "crossover"},
                                                      {JobKind::sanitize, "sanitize"},
                                                      {JobKind::profile, "profile"}};

}  // namespace

Json to_json(const Job& job) {
  Json json;
  for (const auto& [kind, name] : kKinds) {
    if (kind == job.kind) json["kind"] = name;
  }
  json["cuda"] = job.cuda;
  json["ordinal"] = job.ordinal;
  json["op"] = job.op;
  json["kernel"] = job.kernel;
  json["family"] = job.family;
  json["source_sha256"] = job.source_sha256;
  json["dtype"] = job.dtype;
  json["shape"] = to_json(job.shape);
  json["seed"] = job.seed;
  json["quick"] = job.quick;
  json["peers"] = job.peers;
  json["limits"] = job.limits;
  json["device"] = to_json(job.device);
  json["shared_memory_kb"] = job.shared_memory_kb;
  const UserKernel& user = job.user;
  if (user.given()) {
    json["user"] = {{"library", user.library}, {"symbol", user.symbol}, {"op", user.op}, {"cuda", user.cuda}, {"python", user.python}};
  }
  return json;
}

Job job_from_json(const Json& json) {
  Job job;
  const std::string kind = json.at("kind").get<std::string>();
  bool known = false;
  for (const auto& [value, name] : kKinds) {
    if (kind != name) continue;
    job.kind = value;
    known = true;
  }
  if (!known) throw std::runtime_error("job kind '" + kind + "' is not known");
  job.cuda = json.at("cuda").get<bool>();
  job.ordinal = json.at("ordinal").get<int>();
  job.op = json.at("op").get<std::string>();
  job.kernel = json.at("kernel").get<std::string>();
  job.family = json.at("family").get<std::string>();
  job.source_sha256 = json.at("source_sha256").get<std::string>();
  job.dtype = json.at("dtype").get<std::string>();
  job.shape = shape_from_json(json.at("shape"));
  job.seed = json.at("seed").get<std::uint64_t>();
  job.quick = json.at("quick").get<bool>();
  job.peers = json.at("peers").get<bool>();
  job.limits = json.at("limits").get<bool>();
  job.device = device_from_json(json.at("device"));
  job.shared_memory_kb = json.at("shared_memory_kb").get<int>();
  if (json.contains("user")) {
    const Json& user = json.at("user");
    job.user = {user.at("library").get<std::string>(), user.at("symbol").get<std::string>(),
                user.at("op").get<std::string>(), user.at("cuda").get<bool>(), user.at("python").get<std::string>()};
  }
  return job;
}

}  // namespace triage::verdict
