#include "verdict/static/toolchain.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <cstring>
#include <sstream>

#include "verdict/static/process.h"

namespace triage::static_triage {
namespace {

constexpr const char* kHowToGet =
    "Install the CUDA toolkit (Debian and Ubuntu: NVIDIA's cuda-nvcc package, "
    "https://developer.nvidia.com/cuda-downloads) and put its bin directory on PATH, or set CUDA_HOME";

bool is_executable_file(const std::string& path) {
  struct stat info {};
  return stat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode) && access(path.c_str(), X_OK) == 0;
}

std::string environment_value(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

std::string on_path(const std::string& name) {
  std::istringstream path(environment_value("PATH"));
  for (std::string directory; std::getline(path, directory, ':');) {
    const std::string candidate = (directory.empty() ? "." : directory) + "/" + name;
    if (is_executable_file(candidate)) return candidate;
  }
  return "";
}

std::vector<std::string> words(const std::string& text) {
  std::istringstream in(text);
  std::vector<std::string> result;
  for (std::string word; in >> word;) result.push_back(word);
  return result;
}

// "release 13.0, V13.0.88"
std::string parse_version(const std::string& text) {
  const std::size_t at = text.find("release ");
  if (at == std::string::npos) return "";
  const std::size_t end = text.find_first_not_of("0123456789.", at + 8);
  return text.substr(at + 8, end - at - 8);
}

}  // namespace

bool Toolchain::knows(int sm) const { return std::find(capabilities.begin(), capabilities.end(), sm) != capabilities.end(); }

std::string shell_hazard(const std::string& text, const char* characters) {
  for (char c : text) {
    if (std::strchr(characters, c) == nullptr && !std::iscntrl(static_cast<unsigned char>(c))) continue;
    const std::string shown = std::iscntrl(static_cast<unsigned char>(c)) ? "a control character"
                                                                          : "'" + std::string(1, c) + "'";
    return "'" + text + "' holds " + shown + ", which nvcc hands to a shell as it is, where it could run a command";
  }
  return "";
}

std::string refused_flag(const std::vector<std::string>& flags) {
  struct Rule {
    const char* flags;  // long and short names
    const char* why;
  };
  static const Rule kRules[] = {
      {"--run -run --run-args -run-args", "would run the program, and static triage never runs it"},
      {"--options-file -optf", "hides flags in a file: write them out"},
      {"--gpu-architecture -arch --gpu-code -code --generate-code -gencode",
       "chooses architectures: use --arch of `triage verdict`"},
      {"--output-file -o --output-directory -odir --keep -keep --keep-dir -keep-dir --save-temps -save-temps",
       "writes files: static triage keeps none"},
      {"--compile -c --ptx -ptx --cubin -cubin --fatbin -fatbin --preprocess -E --cuda -cuda --lib -lib --link -link "
       "--device-link -dlink --device-c -dc --device-w -dw --dryrun -dryrun --generate-dependencies -M --version -V "
       "--optix-ir -optix-ir --ltoir -ltoir --clean-targets -clean --help -h",
       "chooses a compilation phase: static triage has its own (for relocatable device code use -rdc=true)"},
      {"--dlink-time-opt -dlto", "postpones code generation to the linker, so that there is nothing to look at"},
      {"--generate-dependencies-with-compile -MD --generate-nonsystem-dependencies -MM -MMD -MF -MT -MP --time -time "
       "--fdevice-time-trace -fdevice-time-trace",
       "writes files: static triage keeps none"},
      {"--x -x", "is set by static triage: every file is CUDA source"},
      {"--std -std", "is an option of `triage verdict` itself: use --std"},
  };
  for (std::size_t i = 0; i < flags.size(); ++i) {
    if (flags[i].empty()) return "an empty flag stands behind `--`";
    if (const std::string hazard = shell_hazard(flags[i], "$`;|&<>"); !hazard.empty()) return "the nvcc flag " + hazard;
    const std::string name = flags[i].substr(0, flags[i].find('='));
    for (const Rule& rule : kRules) {
      for (const std::string& refused : words(rule.flags)) {
        if (name == refused) return "the nvcc flag '" + flags[i] + "' " + rule.why;
      }
    }
    if (name.rfind("-o", 0) == 0 && name != "-o" && name.rfind("-opt", 0) != 0) {
      return "the nvcc flag '" + flags[i] + "' writes files: static triage keeps none";
    }
    if (name[0] != '-' && (i == 0 || flags[i - 1][0] != '-')) {
      return "'" + flags[i] + "' behind `--` is no flag: name source files in front of `--`";
    }
  }
  return "";
}

std::optional<Toolchain> find_toolchain(const std::string& wanted, std::string* problem) {
  Toolchain toolchain;
  if (!wanted.empty()) {
    toolchain.nvcc = wanted.find('/') != std::string::npos ? wanted : on_path(wanted);
    if (!is_executable_file(toolchain.nvcc)) {
      *problem = "no nvcc at '" + wanted + "'. " + kHowToGet + ".";
      return std::nullopt;
    }
  } else {
    toolchain.nvcc = on_path("nvcc");
    for (const char* variable : {"CUDA_HOME", "CUDA_PATH"}) {
      const std::string root = environment_value(variable);
      if (toolchain.nvcc.empty() && !root.empty() && is_executable_file(root + "/bin/nvcc")) {
        toolchain.nvcc = root + "/bin/nvcc";
      }
    }
    if (toolchain.nvcc.empty() && is_executable_file("/usr/local/cuda/bin/nvcc")) {
      toolchain.nvcc = "/usr/local/cuda/bin/nvcc";
    }
    if (toolchain.nvcc.empty()) {
      *problem = std::string("no nvcc on PATH, in CUDA_HOME or in /usr/local/cuda. ") + kHowToGet + ".";
      return std::nullopt;
    }
  }

  // nvcc reads more flags from these; the ones that triage refuses must not come in by the back door.
  for (const char* variable : {"NVCC_PREPEND_FLAGS", "NVCC_APPEND_FLAGS"}) {
    const std::string value = environment_value(variable);
    const std::string refused = refused_flag(words(value));
    if (value.empty() || refused.empty()) continue;
    toolchain.environment.push_back(std::string(variable) + "=");
    toolchain.warnings.push_back(std::string(variable) + " is ignored: " + refused);
  }

  ProcessOptions options;
  options.timeout_seconds = 30.0;
  options.environment = toolchain.environment;
  const ProcessResult version = run_process({toolchain.nvcc, "--version"}, options);
  toolchain.version = parse_version(version.output);
  if (!version.succeeded() || toolchain.version.empty()) {
    *problem = "'" + toolchain.nvcc + "' does not answer --version as nvcc does. " + kHowToGet + ".";
    return std::nullopt;
  }
  const ProcessResult list = run_process({toolchain.nvcc, "--list-gpu-arch"}, options);
  for (const std::string& word : words(list.output)) {
    if (word.rfind("compute_", 0) != 0) continue;
    if (const auto target = parse_target(word)) toolchain.capabilities.push_back(target->sm);
  }
  return toolchain;
}

}  // namespace triage::static_triage
