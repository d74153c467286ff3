// The bridge from `triage verdict FILE.cu...` to static triage.
#pragma once

#include <string>

#include "verdict/static_triage.h"

namespace CLI {
class App;
}

namespace triage::verdict {

/// The options that concern sources alone: -I, -D, --arch, --std, and what follows `--` goes to nvcc.
void add_static_options(CLI::App& command, static_triage::StaticTriageOptions& options);

/// @return static triage's exit code, whose numbers mean what the program's do.
int run_static_command(static_triage::StaticTriageOptions options, bool json, bool markdown, const std::string& html);

}  // namespace triage::verdict
