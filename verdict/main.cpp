// The `triage` program: arguments in, exit code out. Each subcommand lives in a file of its own.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <exception>

#include "triage/triage.h"
#include "verdict/child_process.h"
#include "verdict/commands.h"
#include "verdict/job.h"
#include "verdict/scan.h"
#include "verdict/static_command.h"

namespace {

using namespace triage::verdict;

constexpr const char* kExitCodes =
    "Exit codes: 0 all right, 1 a wrong result, 2 usage, 3 no device for what was asked, 4 too noisy to say,\n"
    "5 a case hung or crashed.";

void add_list_command(CLI::App& app, int& exit_code) {
  auto* command = app.add_subcommand("list", "The kernels: which are compiled, which can run here and, if not, why");
  auto options = std::make_shared<ListOptions>();
  command->add_option("--device", options->device, "auto, cpu, cuda or cuda:N")->capture_default_str();
  command->add_flag("--json", options->json, "JSON on standard output");
  command->callback([options, &exit_code] { exit_code = run_list(*options); });
}

void add_matrix_command(CLI::App& app, int& exit_code) {
  auto* command = app.add_subcommand(
      "matrix", "The support matrix, from receipts and source hashes; needs no GPU. Markdown unless on a terminal");
  auto options = std::make_shared<MatrixOptions>();
  command->add_option("--receipts", options->receipts, "Folder of receipts")->capture_default_str();
  command->add_flag("--json", options->json, "JSON on standard output");
  command->add_flag("--md", options->markdown, "Markdown on a terminal too");
  command->callback([options, &exit_code] { exit_code = run_matrix(*options); });
}

void add_verdict_command(CLI::App& app, const std::vector<std::string>& compiler_flags, int& exit_code) {
  auto* command = app.add_subcommand(
      "verdict", "Runs every kernel that can run here, checks it, times it beside what you would pick instead, and prints "
                 "the support matrix. With FILE.cu: says where that source compiles and why not elsewhere");
  command->footer(std::string("With FILE.cu, what follows `--` goes to nvcc.\n") + kExitCodes);
  auto options = std::make_shared<VerdictOptions>();
  auto sources = std::make_shared<triage::static_triage::StaticTriageOptions>();
  auto receipt = std::make_shared<std::string>();
  auto html = std::make_shared<std::string>();

  auto* files = command->add_option("files", sources->files, "CUDA sources for static triage (needs nvcc, not a GPU)");
  files->type_name("FILE.cu");
  command->add_flag("--json", options->json, "JSON on standard output: the schema of receipts");
  command->add_flag("--md", options->markdown, "Markdown on standard output");
  command->add_option("--html", *html, "One self-contained HTML file; - is standard output")->type_name("FILE");

  const char* filters = "Which cases";
  command->add_option("--device", options->device, "all (the first GPU, and the CPU), cpu, cuda or cuda:N")
      ->capture_default_str()->group(filters);
  // Lists are comma-separated words, so that a file name after one is not taken for a part of it.
  const auto list = [&](const char* name, auto& values, const char* what) {
    command->add_option(name, values, what)->delimiter(',')->allow_extra_args(false)->type_name("LIST")->group(filters);
  };
  list("--kernel", options->kernels, "Kernels by name (see `triage list`)");
  list("--op", options->ops, "spmm, linear, sddmm, attention.forward, attention.backward");
  list("--block", options->blocks, "16, 32, 64, 128");
  list("--dtype", options->dtypes, "float16, bfloat16, float32, float64");
  list("--shape", options->shapes, "Shapes whose name holds this, e.g. llama or 'cube 8192'");
  list("--only", options->only, "timing, grid (correctness), crossover, evidence (what --sanitize and --profile give)");
  command->add_flag("--quick", options->quick, "The essential cases, shorter: under a minute on two cores")->group(filters);
  command->add_flag("!--no-peers", options->peers, "Time our kernels alone")->group(filters);

  const char* evidence = "Evidence (GPU kernels; docs/verdict.md)";
  command->add_flag("--sanitize", options->sanitize, "Run compute-sanitizer's memcheck, initcheck and synccheck over each kernel")
      ->group(evidence);
  command->add_flag("--profile", options->profile, "Profile each kernel with Nsight Compute: what limits it")->group(evidence);

  const char* own = "A kernel of your own (docs/verdict.md)";
  command->add_option("--library", options->user.library, "Shared library that holds it; --op says what it computes")
      ->type_name("LIB.so")->group(own);
  command->add_option("--symbol", options->user.symbol, "Name of the function (triage/user_kernel.h)")->group(own);
  command->add_option("--python", options->user.python, "A Python function of Torch tensors instead; --op says what it computes")
      ->type_name("MODULE:FUNCTION")->group(own);

  const char* running = "How";
  command->add_option("--timeout", options->timeout_seconds, "Seconds for a case; a grid or a crossover gets three times that")
      ->capture_default_str()->check(CLI::Range(0.1, 86400.0))->group(running);
  command->add_option("--seed", options->seed, "Of the patterns and operands")->capture_default_str()->group(running);
  command->add_option("--shared-memory", options->shared_memory_kb,
                      "KB of shared memory that GPU kernels may use: 99 runs what 86, 89 and 120 get")
      ->check(CLI::Range(1, 1024))->group(running);
  command->add_option("--receipts", options->receipts, "Folder of receipts for the support matrix")
      ->capture_default_str()->group(running);
  command->add_option("--peer-results", options->peer_results,
                      "JSON with peers measured on the same cases (bench/attention_peers.py), to show beside ours")
      ->type_name("FILE")->group(running);
  auto* receipt_option = command->add_option("--receipt", *receipt, "Write receipts, into DIR [receipts]");
  receipt_option->expected(0, 1)->type_name("DIR")->group(running);

  add_static_options(*command, *sources);
  command->callback([=, &exit_code] {
    options->html = *html;
    if (receipt_option->count() > 0) options->receipt = receipt->empty() ? "receipts" : *receipt;
    sources->nvcc_flags = compiler_flags;
    sources->timeout_seconds = options->timeout_seconds;
    if (sources->files.empty() && !compiler_flags.empty()) {
      throw CLI::ValidationError("--", "flags for nvcc need a FILE.cu to compile");
    } else if (sources->files.empty()) {
      exit_code = run_verdict(*options);
    } else {
      exit_code = run_static_command(*sources, options->json, options->markdown, options->html);
    }
  });
}

/// What CLI11 says of a mistake is a sentence already; it goes to standard error with the way to more help.
int report_usage_error(const CLI::App& app, const CLI::ParseError& error) {
  if (error.get_exit_code() == 0) return app.exit(error);  // --help, --version
  fmt::print(stderr, "triage: {}\nRun `triage --help` or `triage COMMAND --help`.\n", error.what());
  return kUsage;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 2 && std::strcmp(argv[1], kWorkerCommand) == 0) return run_worker();
  if (argc == 4 && std::strcmp(argv[1], kWorkerCommand) == 0) return run_one_job(argv[2], argv[3]);
  install_interrupt_handlers();

  int exit_code = kAllRight;
  const std::vector<std::string> compiler_flags = take_compiler_flags(argc, argv);
  CLI::App app{"Which kernel runs on this machine, whether it is right, and how fast it is beside what you would pick instead."};
  app.set_version_flag("--version", triage::version());
  app.require_subcommand(1);
  app.footer(kExitCodes);
  try {
    add_verdict_command(app, compiler_flags, exit_code);
    add_list_command(app, exit_code);
    add_matrix_command(app, exit_code);
    add_scan_command(app, exit_code);
    // CLI11 would say that a subcommand is missing, and not which word it did not know.
    const auto names = app.get_subcommands([](CLI::App*) { return true; });
    const auto is_first_word = [&](const CLI::App* command) { return command->get_name() == argv[1]; };
    if (argc > 1 && argv[1][0] != '-' && std::none_of(names.begin(), names.end(), is_first_word)) {
      fmt::print(stderr, "triage: '{}' is not a command; accepted: verdict, list, matrix, scan\n", argv[1]);
      return kUsage;
    }
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return report_usage_error(app, error);
  } catch (const std::exception& error) {
    fmt::print(stderr, "triage: {}\n", error.what());
    return kUsage;
  }
  return exit_code;
}
