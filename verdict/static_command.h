// The bridge from `triage verdict FILE.cu...` to static triage.
#pragma once

#include <string>
#include <vector>

#include "verdict/static_triage.h"

namespace CLI {
class App;
}

namespace triage::verdict {

/// Takes what follows `--` off the arguments of `triage verdict`: flags for nvcc.
std::vector<std::string> take_compiler_flags(int& argc, char** argv);

/// The options that concern sources alone: -I, -D, --arch, --std, --nvcc, --jobs.
void add_static_options(CLI::App& command, static_triage::StaticTriageOptions& options);

/// @return static triage's exit code, whose numbers mean what the program's do.
int run_static_command(static_triage::StaticTriageOptions options, bool json, bool markdown, const std::string& html);

}  // namespace triage::verdict
