// From what the compiler said and what the source says to causes.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "verdict/static/compile.h"
#include "verdict/static/constants.h"
#include "verdict/static/model.h"
#include "verdict/static/source.h"

namespace triage::static_triage {

/// The sources of one translation unit: the file itself, the headers beside it, and any other file that a message
/// points at.
class SourceSet {
 public:
  SourceSet(const std::string& main_path, const std::vector<std::string>& include_dirs,
            const std::vector<std::string>& defines);

  const SourceFile& main() const { return *main_; }
  /// nullptr if it cannot be read.
  const SourceFile* get(const std::string& path);
  const Constants& constants() const { return constants_; }
  /// The path as the user would write it: the main file as given, others relative to the working directory.
  std::string shown(const std::string& path) const;
  bool is_main(const std::string& path) const;
  /// The file and the project headers that it includes by name.
  std::vector<const SourceFile*> project_files() const;

 private:
  std::string main_path_;
  std::map<std::string, std::unique_ptr<SourceFile>> files_;
  std::vector<const SourceFile*> project_;
  const SourceFile* main_ = nullptr;
  Constants constants_;
};

/// Causes of the front end's errors.
std::vector<Cause> diagnose_messages(const CompileResult& compiled, SourceSet& sources, bool host);

/// Causes of what ptxas refused, of what the kernels became (empty bodies, spills), and of instructions that the
/// compiler did not get to.
std::vector<Cause> diagnose_assembly(const CompileResult& compiled, SourceSet& sources);

/// Inline assembly of the source that the target lacks, where the front end failed before PTX was made.
std::vector<Cause> diagnose_unreached(const CompileResult& compiled, SourceSet& sources);

/// __CUDA_ARCH__ tests around an instruction that let architectures in which lack it; of the architectures known, not
/// only of those asked for. Severity::warns: where one of `targets` is let in, the compile says so itself.
std::vector<Cause> diagnose_guards(const std::vector<Target>& targets, SourceSet& sources);

/// Kernels that a target turns into nothing while another does not, or whose assembly is guarded out on all.
std::vector<Cause> diagnose_empty_bodies(const std::vector<CompileResult>& compiled, SourceSet& sources);

/// One instruction that a target lacks: found, why, fix and reference.
Cause instruction_cause(const InstructionFact& fact, const std::string& statement, const Target& target,
                        const std::vector<SourceLocation>& locations, SourceSet& sources, const std::string& ptx_version);

}  // namespace triage::static_triage
