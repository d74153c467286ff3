// `triage list`: every kernel, whether this build holds it, whether it can run here and, if not, why.
#include <fmt/format.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "registry/device.h"
#include "triage/triage.h"
#include "verdict/commands.h"
#include "verdict/device_choice.h"
#include "verdict/json.h"
#include "verdict/terminal.h"

namespace triage::verdict {
namespace {

Json to_json(const KernelReport& report) {
  Json json{{"name", report.name},         {"operation", report.operation}, {"family", report.family},
            {"block", report.block_size},  {"head_dims", report.head_dims}, {"dtypes", report.dtypes},       {"compiled", report.compiled},
            {"can_run", report.can_run}};
  if (!report.reason.empty()) json["reason"] = report.reason;
  json["source"] = report.source;
  json["source_sha256"] = report.source_sha256;
  return json;
}

}  // namespace

int run_list(const ListOptions& options) {
  const DeviceChoice choice = choose_devices(options.device == "auto" ? "all" : options.device);
  if (!choice.problem.empty()) {
    fmt::print(stderr, "triage list: {}\n", choice.problem);
    return choice.exit_code;
  }
  std::vector<KernelReport> reports = kernel_reports(choice.devices.front());
  if (choice.devices.size() > 1) {
    const std::vector<KernelReport> on_cpu = kernel_reports({kDLCPU, 0});
    for (std::size_t i = 0; i < reports.size(); ++i) {
      if (on_cpu[i].can_run) reports[i] = on_cpu[i];
    }
  }
  if (options.json) {
    Json json{{"version", version()}, {"devices", Json::array()}, {"kernels", Json::array()}};
    for (const DLDevice& device : choice.devices) json["devices"].push_back(probe_device(device).name);
    for (const KernelReport& report : reports) json["kernels"].push_back(to_json(report));
    fmt::print("{}\n", json.dump(2));
    return kAllRight;
  }
  for (const DLDevice& device : choice.devices) {
    const Device& probed = probe_device(device);
    if (probed.is_cpu()) {
      fmt::print("{}, {} threads\n", probed.name, probed.multiprocessors);
    } else {
      fmt::print("{}, compute capability {}.{}, {} multiprocessors, {} KB shared memory a block\n", probed.name,
                 probed.compute_capability / 10, probed.compute_capability % 10, probed.multiprocessors,
                 probed.shared_memory_per_block / 1024);
    }
  }
  if (choice.devices.size() == 1 && choice.devices[0].device_type == kDLCPU && cuda_device_count() == 0) {
    fmt::print("no CUDA device\n");
  }
  TextTable table({"kernel", "block or head_dim", "dtypes", "compiled", "can run here"});
  for (const KernelReport& report : reports) {
    const std::string block = report.block_size == 0 ? "any" : std::to_string(report.block_size);
    table.add({report.name, report.head_dims.empty() ? block : report.head_dims,
               fmt::format("{}", fmt::join(report.dtypes, " ")), report.compiled ? "yes" : "no",
               report.can_run ? "yes" : "no: " + report.reason});
  }
  fmt::print("\n{}", table.text());
  return kAllRight;
}

}  // namespace triage::verdict
