// From the compiles of one file to its verdict: cells, causes told apart by architecture, a way forward.
#pragma once

#include <string>
#include <vector>

#include "triage/kernels.h"
#include "verdict/static/compile.h"
#include "verdict/static/diagnose.h"
#include "verdict/static/model.h"

namespace triage::static_triage {

/// All compiles of one file.
struct FileCompiles {
  std::vector<CompileResult> targets;
  std::vector<CompileResult> host;  ///< one, or none where no target's front end came through
};

/// @param ours Triage's kernels, for the path forward; may be empty.
FileVerdict judge_file(const std::string& path, const FileCompiles& compiles, SourceSet& sources,
                       const std::vector<KernelReport>& ours);

/// Steps for each target that the file does not run on.
std::vector<PathForward> find_path_forward(const FileVerdict& verdict, const std::vector<Target>& targets,
                                           const SourceFile& source, const std::vector<KernelReport>& ours);

/// "x.cu builds for 90a; not for 80, 86 and 89 (wgmma) ..."
std::string summary_sentence(const FileVerdict& verdict, const std::vector<Target>& targets);

/// The exit code for a whole run.
/// @param asked_by_name the targets were named on the command line: one that nvcc does not know then counts.
int exit_code_of(const Verdict& verdict, bool asked_by_name);

}  // namespace triage::static_triage
