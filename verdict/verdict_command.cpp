// `triage verdict`: runs every kernel that can run here, checks it, times it beside its peers, and reports.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "verdict/commands.h"
#include "verdict/evidence_run.h"
#include "verdict/job_identity.h"
#include "verdict/report.h"
#include "verdict/runner.h"
#include "verdict/terminal.h"
#include "verdict/timing.h"
#include "verdict/verdict_plan.h"
#include "verdict/worker_fault.h"

namespace triage::verdict {
namespace {

/// A grid or a crossover is many problems: it gets this many times a case's time limit.
constexpr double kLongJobTimeouts = 3;
/// --quick leaves out what would start later than this, and says so.
constexpr double kQuickSeconds = 45;
/// Beyond this spread a timing says little.
constexpr double kNoisySpread = 0.25;

/// Prints rows as they come, in columns whose widths are known from the plan.
class StreamedTable {
 public:
  StreamedTable(const VerdictPlan& plan, bool on) : on_(on), colour_(colour_on(STDOUT_FILENO)) {
    for (const std::string& title : result_header()) widths_.push_back(display_width(title));
    const std::vector<std::size_t> least{0, 0, 8, 7, 8, 5, 11, 12, 5, 6, 6};
    for (std::size_t c = 0; c < widths_.size(); ++c) widths_[c] = std::max(widths_[c], least[c]);
    bool gpu = false;
    for (const MachinePlan& machine : plan.machines) {
      gpu = gpu || machine.device.device_type == kDLCUDA;
      for (const Job& job : machine.jobs) {
        if (job.kind != JobKind::timing) continue;
        widths_[0] = std::max(widths_[0], display_width(job.kernel));
        widths_[1] = std::max(widths_[1], display_width(case_label(job.shape, job.shared_memory_kb)));
      }
    }
    if (gpu) widths_[7] = std::max(widths_[7], display_width("cusparse_blocked_ell"));
  }

  void header() { print(result_header(), Colour::bold); }

  void row(const ReceiptCase& result) {
    const bool good = result.outcome == Outcome::ok && result.correct.ok;
    print(result_cells(result), good ? Colour::none : Colour::red);
  }

 private:
  void print(const std::vector<std::string>& cells, Colour colour) {
    if (!on_) return;
    std::string line;
    for (std::size_t c = 0; c < cells.size(); ++c) {
      const std::size_t width = display_width(cells[c]);
      const std::string padding(widths_[c] > width ? widths_[c] - width : 0, ' ');
      const bool right = c == 4 || c == 5 || c >= 8;  // numbers
      line += (c > 0 ? "  " : "") + (right ? padding + cells[c] : cells[c] + padding);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    fmt::print("{}\n", painted(line, colour, colour_));
    std::fflush(stdout);
  }

  bool on_, colour_;
  std::vector<std::size_t> widths_;
};

/// Environment of the workers: idle threads of one contender must not slow the next one down.
Environment worker_environment(const VerdictOptions& options) {
  Environment environment{{"GOMP_SPINCOUNT", "20000"}, {"OPENBLAS_THREAD_TIMEOUT", "18"}};
  if (options.shared_memory_kb > 0) {
    environment.emplace_back("TRIAGE_SHARED_MEMORY_KB", std::to_string(options.shared_memory_kb));
  }
  return environment;
}

ReceiptCase failed_case(const Job& job, const Answer& answer) {
  ReceiptCase result;
  take_identity(result, job);
  result.outcome = answer.outcome;
  result.failure = answer.failure;
  return result;
}

ReceiptGrid failed_grid(const Job& job, const Answer& answer) {
  ReceiptGrid grid;
  grid.op = job.op;
  grid.kernel = job.kernel;
  grid.family = job.family;
  grid.source_sha256 = job.source_sha256;
  grid.outcome = answer.outcome;
  grid.failure = answer.failure;
  grid.shared_memory_kb = job.shared_memory_kb;
  return grid;
}

class VerdictRun {
 public:
  VerdictRun(const VerdictOptions& options, const VerdictPlan& plan)
      : options_(options), plan_(plan), table_(plan, !evidence_only(options) && !options.json && !options.markdown && options.html != "-"),
        progress_(total_jobs(plan), /*quiet=*/false) {}

  Run run() {
    Run result;
    result.quick = options_.quick;
    table_.header();
    for (const MachinePlan& machine : plan_.machines) run_machine(machine, result);
    if (left_out_ > 0) {
      result.remarks.push_back(fmt::format("--quick left out {} of {} steps for time; run without it for all", left_out_,
                                           total_jobs(plan_)));
    }
    if (evidence_on_cpu()) result.remarks.push_back(fmt::format("{} is set: evidence on the CPU means nothing", kEvidenceOnCpuVariable));
    if (faults_planted()) result.remarks.push_back(fmt::format("{} is set: faults were planted", kFaultVariable));
    return result;
  }

  bool broken() const { return broken_; }
  /// A sentence if the user's kernel could not be loaded.
  const std::string& user_kernel_failed() const { return user_kernel_failed_; }

 private:
  static bool is_evidence(const Job& job) { return job.kind == JobKind::sanitize || job.kind == JobKind::profile; }

  static int total_jobs(const VerdictPlan& plan) {
    std::size_t total = 0;
    for (const MachinePlan& machine : plan.machines) {
      total += 1 + static_cast<std::size_t>(evidence_steps(machine.jobs));
      for (const Job& job : machine.jobs) total += !is_evidence(job);
    }
    return static_cast<int>(total);
  }

  bool out_of_time() {
    if (!options_.quick) return false;
    const bool late = std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count() > kQuickSeconds;
    left_out_ += late;
    return late;
  }

  void run_machine(const MachinePlan& machine, Run& run) {
    Runner cases(worker_environment(options_), options_.timeout_seconds, [&] { progress_.tick(); });
    Receipt receipt;
    receipt.date = today();

    Job probe;
    probe.kind = JobKind::device;
    probe.cuda = machine.device.device_type == kDLCUDA;
    probe.ordinal = machine.device.device_id;
    probe.quick = options_.quick;
    probe.limits = !evidence_only(options_);
    probe.user = options_.user;
    progress_.begin(probe.cuda ? "limits of the GPU" : "limits of the CPU");
    const Answer described = cases.run(probe);
    if (described.outcome != Outcome::ok) {
      progress_.end("the machine's limits: " + described.failure);
      if (options_.user.given()) user_kernel_failed_ = described.failure;
      run.remarks.push_back(fmt::format("the {} could not be measured and was left out: {}", probe.cuda ? "GPU" : "CPU",
                                        described.failure));
      broken_ = true;
      return;
    }
    receipt.device = device_from_json(described.result);
    progress_.end(device_sentence(receipt.device));

    Runner long_jobs(worker_environment(options_), kLongJobTimeouts * options_.timeout_seconds,
                     [&] { progress_.tick(); });
    std::vector<Job> evidence;
    for (Job job : machine.jobs) {
      if (is_evidence(job)) {
        evidence.push_back(job);
        continue;
      }
      if (out_of_time()) continue;
      job.device = receipt.device;
      switch (job.kind) {
        case JobKind::timing: run_timing(job, cases, receipt, run); break;
        case JobKind::grid: run_grid(job, long_jobs, receipt); break;
        case JobKind::crossover: run_crossover(job, long_jobs, receipt, run); break;
        default: break;
      }
    }
    if (!evidence.empty()) {
      gather_evidence(evidence, worker_environment(options_), options_.timeout_seconds, progress_, receipt, run.remarks);
    }
    if (without_dense_peer_ > 0) {
      run.remarks.push_back("the crossover against the dense product was not measured: there is no dense peer here");
      without_dense_peer_ = 0;
    }
    progress_.clear();
    run.receipts.push_back(std::move(receipt));
  }

  /// True if there was no result, but a reason: it becomes a remark.
  bool refused(const std::string& label, const Answer& answer, Run& run) {
    if (answer.refusal.empty()) return false;
    run.remarks.push_back(fmt::format("{} was left out: {}", label, answer.refusal));
    progress_.end(run.remarks.back());
    return true;
  }

  void run_timing(const Job& job, Runner& runner, Receipt& receipt, Run& run) {
    const std::string label = job.kernel + " " + case_label(job.shape, job.shared_memory_kb);
    progress_.begin(label);
    const Answer answer = runner.run(job);
    if (refused(label, answer, run)) return;
    receipt.cases.push_back(answer.outcome == Outcome::ok ? case_from_json(answer.result) : failed_case(job, answer));
    const ReceiptCase& result = receipt.cases.back();
    const std::string failure = result.failure.empty() ? "" : ": " + result.failure;
    progress_.end(fmt::format("{}: {}{}", label, outcome_word(result), failure));
    progress_.clear();
    table_.row(result);
  }

  void run_grid(const Job& job, Runner& runner, Receipt& receipt) {
    progress_.begin(job.kernel + " correctness grid");
    const Answer answer = runner.run(job);
    receipt.grids.push_back(answer.outcome == Outcome::ok ? grid_from_json(answer.result) : failed_grid(job, answer));
    progress_.end(grid_sentence(receipt.grids.back()));
  }

  void run_crossover(const Job& job, Runner& runner, Receipt& receipt, Run& run) {
    const std::string label = fmt::format("{} b{} crossover", job.kernel, job.shape.block);
    progress_.begin(label);
    const double dense = job.cuda ? receipt.device.dense_fp16_tflops : receipt.device.dense_fp32_tflops;
    if (dense == 0) {
      ++without_dense_peer_;
      progress_.end(label + ": no dense peer");
      return;
    }
    const Answer answer = runner.run(job);
    if (refused(label, answer, run)) return;
    if (answer.outcome != Outcome::ok) {
      run.remarks.push_back(label + ": " + answer.failure);
      broken_ = true;
      progress_.end(run.remarks.back());
      return;
    }
    receipt.crossovers.push_back(crossover_from_json(answer.result));
    progress_.end(fmt::format("{}: sparse is faster {}", label, crossover_sentence(receipt.crossovers.back())));
  }

  const VerdictOptions& options_;
  const VerdictPlan& plan_;
  StreamedTable table_;
  Progress progress_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  int left_out_ = 0, without_dense_peer_ = 0;
  bool broken_ = false;
  std::string user_kernel_failed_;
};

int exit_code_of(const Run& run, bool broken) {
  bool wrong = false;
  int timed = 0, noisy = 0;
  for (const Receipt& receipt : run.receipts) {
    for (const ReceiptCase& result : receipt.cases) {
      wrong = wrong || result.outcome == Outcome::wrong;
      broken = broken || result.outcome == Outcome::crashed || result.outcome == Outcome::hung;
      if (!result.time) continue;
      ++timed;
      noisy += spread(*result.time) > kNoisySpread;
    }
    for (const ReceiptGrid& grid : receipt.grids) {
      wrong = wrong || grid.failed > 0;
      broken = broken || grid.outcome == Outcome::crashed || grid.outcome == Outcome::hung;
    }
    for (const ReceiptSanitizer& entry : receipt.sanitizer) {
      wrong = wrong || entry.outcome == Outcome::wrong;
      broken = broken || entry.outcome == Outcome::crashed || entry.outcome == Outcome::hung;
    }
    for (const ReceiptProfile& profile : receipt.profiles) broken = broken || profile.outcome != Outcome::ok;
  }
  const bool nothing = std::all_of(run.receipts.begin(), run.receipts.end(), [](const Receipt& receipt) {
    const bool checked = std::any_of(receipt.grids.begin(), receipt.grids.end(), [](const ReceiptGrid& grid) {
      return grid.cases > 0 || grid.outcome != Outcome::ok;
    });
    const bool evidence = !receipt.sanitizer.empty() || !receipt.profiles.empty();
    return receipt.cases.empty() && !checked && receipt.crossovers.empty() && !evidence;
  });
  if (wrong) return kWrongResult;
  if (broken) return kHungOrCrashed;
  if (nothing) return kNoDevice;  // everything that was asked for was refused
  return 2 * noisy > timed ? kTooNoisy : kAllRight;
}

/// The matrix of what is on disk and what this run adds.
SupportMatrix matrix_with(const Run& run, const std::string& folder, std::vector<std::string>& remarks) {
  ReceiptFolder stored = read_receipts(folder);
  remarks.insert(remarks.end(), stored.problems.begin(), stored.problems.end());
  std::vector<Receipt> receipts = run.receipts;
  for (ReceiptFile& file : stored.files) {
    // What was measured now speaks for its kernels on its device.
    for (const Receipt& fresh : run.receipts) {
      if (fresh.device.name != file.receipt.device.name) continue;
      const auto replaced = [&](const auto& entry) {
        return std::any_of(fresh.cases.begin(), fresh.cases.end(),
                           [&](const ReceiptCase& result) {
                             return result.kernel == entry.kernel && result.shared_memory_kb == entry.shared_memory_kb;
                           });
      };
      auto& cases = file.receipt.cases;
      auto& grids = file.receipt.grids;
      cases.erase(std::remove_if(cases.begin(), cases.end(), replaced), cases.end());
      grids.erase(std::remove_if(grids.begin(), grids.end(), replaced), grids.end());
    }
    receipts.push_back(std::move(file.receipt));
  }
  return make_matrix(registry_matrix_kernels(), receipts);
}

/// Turns --library, --symbol, --python and --op into a row and a filter for it. A sentence if they do not fit together.
std::string take_user_kernel(VerdictOptions& options) {
  UserKernel& user = options.user;
  if (!user.given()) return user.symbol.empty() ? "" : "--symbol needs --library, the shared library that holds it";
  if (!user.library.empty() && !user.python.empty()) return "--library and --python name two kernels; choose one";
  const char* option = user.python.empty() ? "--library" : "--python";
  if (!options.kernels.empty()) return fmt::format("--kernel names Triage's own kernels; it does not go with {}", option);
  if (options.ops.size() != 1) return fmt::format("{} needs one --op: spmm, linear, sddmm or attention.forward", option);
  user.op = options.ops.front();
  if (options.device == "all") options.device = "cuda";  // GPU kernels are the rule; host pointers would crash one
  user.cuda = options.device != "cpu";
  try {
    add_user_kernel(user);
    worker_program(user);  // a part that is missing is told before anything starts
  } catch (const std::exception& error) {
    return error.what();
  }
  options.kernels = {user.name()};
  return "";
}

/// A sentence if the outputs asked for cannot all be had.
std::string output_conflict(const VerdictOptions& options) {
  const int on_stdout = options.json + options.markdown + (options.html == "-");
  if (on_stdout > 1) return "--json, --md and --html - all write to standard output; choose one";
  if (options.receipt && options.user.given()) return "--receipt is for Triage's own kernels, and refused with --library and --python";
  if (options.receipt && !options.peer_results.empty()) {
    return "--receipt holds what one run measured; it does not go with --peer-results";
  }
  if (options.receipt && faults_planted()) return fmt::format("--receipt is refused while {} is set", kFaultVariable);
  return "";
}

}  // namespace

int run_verdict(const VerdictOptions& given) {
  VerdictOptions options = given;
  if (const std::string conflict = output_conflict(options); !conflict.empty()) {
    fmt::print(stderr, "triage verdict: {}\n", conflict);
    return kUsage;
  }
  if (const std::string problem = take_user_kernel(options); !problem.empty()) {
    fmt::print(stderr, "triage verdict: {}\n", problem);
    return kUsage;
  }
  Receipt peer_results;
  try {
    if (!options.peer_results.empty()) peer_results = read_receipt(options.peer_results);
  } catch (const std::exception& error) {
    fmt::print(stderr, "triage verdict: --peer-results is '{}': {}\n", options.peer_results, error.what());
    return kUsage;
  }
  const VerdictPlan plan = plan_verdict(options);
  if (!plan.problem.empty()) {
    fmt::print(stderr, "triage verdict: {}\n", plan.problem);
    return plan.exit_code;
  }
  VerdictRun verdict(options, plan);
  Run run = verdict.run();
  if (!verdict.user_kernel_failed().empty()) {
    fmt::print(stderr, "triage verdict: {}\n", verdict.user_kernel_failed());
    return kUsage;
  }
  if (!options.peer_results.empty()) run.remarks.push_back(add_peer_results(run, peer_results, options.peer_results));
  if (!options.user.given()) run.matrix = matrix_with(run, options.receipts, run.remarks);
  const int code = exit_code_of(run, verdict.broken());
  if (code == kTooNoisy) {
    run.remarks.push_back(fmt::format("more than half of the timings scatter by over {:.0f}%: too noisy to say how fast",
                                      100 * kNoisySpread));
  }

  if (options.json) {
    fmt::print("{}\n", report_json(run).dump(2));
  } else if (options.markdown) {
    fmt::print("{}", report_markdown(run));
  } else if (options.html == "-") {
    fmt::print("{}", report_html(run));
  } else {
    fmt::print("{}", report_text(run, colour_on(STDOUT_FILENO)));
  }
  std::fflush(stdout);
  bool unwritten = false;
  try {
    if (!options.html.empty() && options.html != "-") {
      write_file_atomically(options.html, report_html(run));
      fmt::print(stderr, "wrote {}\n", options.html);
    }
    if (options.receipt) {
      for (const Receipt& receipt : run.receipts) {
        if (evidence_only(options)) {
          const EvidenceWritten written = add_evidence(receipt, *options.receipt);
          for (const std::string& path : written.paths) fmt::print(stderr, "added to {}\n", path);
          for (const std::string& problem : written.problems) fmt::print(stderr, "triage verdict: {}\n", problem);
          unwritten = unwritten || !written.problems.empty();
        } else {
          for (const std::string& path : write_receipts(receipt, *options.receipt)) fmt::print(stderr, "wrote {}\n", path);
        }
      }
    }
  } catch (const std::exception& error) {
    fmt::print(stderr, "triage verdict: {}\n", error.what());
    return kUsage;
  }
  return unwritten && code == kAllRight ? kUsage : code;
}

}  // namespace triage::verdict
