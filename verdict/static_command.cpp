#include "verdict/static_command.h"

#include <CLI/CLI.hpp>
#include <cstring>

namespace triage::verdict {

std::vector<std::string> take_compiler_flags(int& argc, char** argv) {
  if (argc < 2 || std::strcmp(argv[1], "verdict") != 0) return {};
  for (int i = 2; i < argc; ++i) {
    if (std::strcmp(argv[i], "--") != 0) continue;
    std::vector<std::string> flags(argv + i + 1, argv + argc);
    argc = i;
    return flags;
  }
  return {};
}

void add_static_options(CLI::App& command, static_triage::StaticTriageOptions& options) {
  const char* group = "For FILE.cu";
  // One value each time, so that a file name after it is not taken for another.
  const auto repeated = [&](const char* name, std::vector<std::string>& values, const char* what) {
    return command.add_option(name, values, what)->allow_extra_args(false)->group(group);
  };
  repeated("-I", options.include_dirs, "Include folder; repeatable")->type_name("DIR");
  repeated("-D", options.defines, "Macro, as X or X=1; repeatable")->type_name("MACRO");
  repeated("--arch", options.architectures, "Architectures [80,86,89,90a,100a,120a]")->type_name("LIST");
  command.add_option("--std", options.cpp_standard, "C++ standard, e.g. 17")->group(group);
  command.add_option("--nvcc", options.nvcc, "The compiler to use")->group(group);
  command.add_option("--jobs", options.jobs, "Compiles at a time [one a core]")->check(CLI::Range(1, 1024))->group(group);
}

int run_static_command(static_triage::StaticTriageOptions options, bool json, bool markdown, const std::string& html) {
  using static_triage::ReportFormat;
  if (json) options.outputs.push_back({ReportFormat::json, ""});
  if (markdown) options.outputs.push_back({ReportFormat::markdown, ""});
  if (!html.empty()) options.outputs.push_back({ReportFormat::html, html == "-" ? "" : html});
  return static_triage::run_static_triage(options);
}

}  // namespace triage::verdict
