#include "verdict/static_command.h"

#include <CLI/CLI.hpp>

namespace triage::verdict {

void add_static_options(CLI::App& command, static_triage::StaticTriageOptions& options) {
  const char* group = "For FILE.cu";
  command.add_option("-I", options.include_dirs, "Include folder")->type_name("DIR")->group(group);
  command.add_option("-D", options.defines, "Macro, as X or X=1")->group(group);
  command.add_option("--arch", options.architectures, "Architectures, e.g. 80,89,90a")->delimiter(',')->group(group);
  command.add_option("--std", options.cpp_standard, "C++ standard, e.g. 17")->group(group);
  command.add_option("--nvcc", options.nvcc, "The compiler to use")->group(group);
}

int run_static_command(static_triage::StaticTriageOptions options, bool json, bool markdown, const std::string& html) {
  using static_triage::ReportFormat;
  if (json) options.outputs.push_back({ReportFormat::json, ""});
  if (markdown) options.outputs.push_back({ReportFormat::markdown, ""});
  if (!html.empty()) options.outputs.push_back({ReportFormat::html, html == "-" ? "" : html});
  return static_triage::run_static_triage(options);
}

}  // namespace triage::verdict
