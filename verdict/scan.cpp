#include "verdict/scan.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>
#include <regex>
#include <set>
#include <tuple>

#include "io/safetensors_model.h"
#include "io/text.h"
#include "triage/triage.h"
#include "verdict/commands.h"
#include "verdict/device_choice.h"
#include "verdict/scan_blocks.h"
#include "verdict/scan_measure.h"
#include "verdict/scan_report.h"
#include "verdict/scan_save.h"
#include "verdict/scan_weights.h"
#include "verdict/terminal.h"
#include "verdict/time_case.h"

namespace triage::verdict {
namespace {

constexpr std::int64_t kMaxTokens = 1 << 20;
// Where the break-even density is looked for, upwards until dense is faster.
constexpr double kBreakEvenDensities[] = {0.05, 0.15, 0.3, 0.5, 0.75, 1.0};
constexpr std::uint64_t kPatternSeed = 7;

struct NoDevice : Error {
  explicit NoDevice(const std::string& sentence) : Error(ErrorCode::unsupported, sentence) {}
};

[[noreturn]] void refuse(const std::string& sentence) { throw Error(ErrorCode::invalid_argument, sentence); }

std::optional<std::regex> expression(const std::string& text, const char* option) {
  if (text.empty()) return std::nullopt;
  try {
    return std::regex(text);
  } catch (const std::regex_error&) {
    refuse(fmt::format("{} {} is not a regular expression (ECMAScript syntax)", option, io::quote(text)));
  }
}

DLDevice chosen_device(std::string text) {
  if (text == "auto") text = cuda_device_count() > 0 ? "cuda" : "cpu";
  if (text == "all") refuse("--device is 'all'; accepted: auto, cpu, cuda, cuda:N");
  const DeviceChoice choice = choose_devices(text);
  if (choice.exit_code == kNoDevice) throw NoDevice(choice.problem);
  if (choice.exit_code != 0) refuse(choice.problem);
  return choice.devices.front();
}

// Checks what can be checked before the model is opened, and fills in the block sizes.
ScanOptions checked(ScanOptions options) {
  const bool prune = options.prune_to != 0;
  if (options.blocks.empty()) {
    options.blocks = prune ? std::vector<int>{32} : std::vector<int>(kBlockSizes.begin(), kBlockSizes.end());
  }
  std::sort(options.blocks.begin(), options.blocks.end());
  options.blocks.erase(std::unique(options.blocks.begin(), options.blocks.end()), options.blocks.end());
  for (const int block : options.blocks) {
    if (std::find(kBlockSizes.begin(), kBlockSizes.end(), block) == kBlockSizes.end()) {
      refuse(fmt::format("--block {} is not offered (accepted: 16, 32, 64, 128)", block));
    }
  }
  if (prune && !(options.prune_to > 0 && options.prune_to <= 1)) {
    refuse(fmt::format("--prune-to {} is not a share (accepted: above 0, at most 1)", options.prune_to));
  }
  if (prune && options.blocks.size() != 1) refuse("--prune-to takes one block size: --block 32, say");
  if (!options.out.empty() && !prune) refuse("--out saves a pruned model: give --prune-to as well");
  if (options.tokens < 1 || options.tokens > kMaxTokens) {
    refuse(fmt::format("--tokens {} is out of range (accepted: 1 to {})", options.tokens, kMaxTokens));
  }
  if (options.min_size < 1) refuse(fmt::format("--min-size {} is below 1", options.min_size));
  if (options.json && options.markdown) refuse("--json and --md exclude each other");
  return options;
}

std::size_t output_width() {
  winsize size{};
  if (!::isatty(STDOUT_FILENO) || ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0) return 100;
  return std::max<std::size_t>(size.ws_col, 80);
}

LayerReport describe(const WeightMatrix& weight, const std::array<BlockList, 4>& zeros) {
  LayerReport layer;
  layer.name = weight.name();
  layer.file = weight.file().path();
  layer.dtype = io::dtype_name(weight.dtype());
  layer.rows = weight.rows();
  layer.cols = weight.cols();
  layer.stored_block = weight.stored_block();
  layer.stored_bytes = weight.stored_bytes();
  layer.dense_bytes = weight.dense_bytes();
  for (std::size_t i = 0; i < zeros.size(); ++i) {
    layer.blocks[i] = zeros[i].total();
    layer.nonzero[i] = zeros[i].nonzero();
  }
  return layer;
}

std::string summary(const LayerReport& layer) {
  std::string text = fmt::format("{} {}x{}", io::printable(layer.name), layer.rows, layer.cols);
  if (const Measurement* best = layer.best()) {
    text += fmt::format(": block {}, density {:.3g}, {:.4g} ms", best->block, best->density, best->sparse->median);
    if (best->dense) text += fmt::format(", dense {:.4g} ms, {:.2f}x", best->dense->median, best->speedup());
  }
  return text;
}

// Scans one model; the steps share what is opened once.
class Scan {
 public:
  explicit Scan(ScanOptions options)
      : options_(checked(std::move(options))),
        filter_{expression(options_.include, "--include"), expression(options_.exclude, "--exclude"),
                options_.min_size},
        device_(chosen_device(options_.device)),
        model_(io::SafetensorsModel::open(options_.model)),
        selection_(select_weights(model_, filter_)) {
    if (!options_.out.empty()) check_output(options_.out, model_);
  }

  ScanReport run() {
    if (options_.measure && !selection_.matrices.empty()) bench_.emplace(device_, options_.tokens);
    report_.path = options_.model;
    report_.tokens = options_.tokens;
    report_.prune_to = options_.prune_to;
    report_.prune_block = options_.blocks.front();
    report_.skipped = selection_.skipped;
    describe_setting();

    const auto shapes = distinct_shapes();
    const bool break_even = bench_ && options_.prune_to == 0 && !bench_->dense_name().empty();
    Progress progress(static_cast<int>(selection_.matrices.size() + (break_even ? shapes.size() : 0)), false);
    for (const auto& weight : selection_.matrices) {
      progress.begin(io::printable(weight.name()));
      report_.layers.push_back(options_.prune_to > 0 ? prune(weight) : scan(weight));
      progress.end(summary(report_.layers.back()));
    }
    if (break_even) {
      for (const auto& [rows, cols, dtype] : shapes) {
        const std::string label = fmt::format("break-even density of {}x{}", rows, cols);
        progress.begin(label);
        find_break_evens(rows, cols, dtype);
        progress.end(label);
      }
    }
    return std::move(report_);
  }

  std::uint64_t save() const { return save_pruned(options_.out, model_, pruned_); }

 private:
  using Shape = std::tuple<std::int64_t, std::int64_t, std::string>;  // rows, columns, dtype of the kernels

  std::vector<Shape> distinct_shapes() const {
    std::set<Shape> shapes;
    for (const auto& weight : selection_.matrices) {
      shapes.emplace(weight.rows(), weight.cols(), LinearBench::dtype_for(device_, weight.dtype()));
    }
    return {shapes.begin(), shapes.end()};
  }

  void describe_setting() {
    report_.dense_absence = "--no-measure";
    report_.device = "nothing was run";
    std::set<std::string> dtypes;
    for (const auto& weight : selection_.matrices) dtypes.insert(LinearBench::dtype_for(device_, weight.dtype()));
    for (const auto& dtype : dtypes) report_.dtypes += (report_.dtypes.empty() ? "" : " and ") + dtype;
    if (!bench_) return;
    report_.device = bench_->device_name();
    report_.dense_name = bench_->dense_name();
    report_.dense_absence = bench_->dense_absence();
  }

  LayerReport scan(const WeightMatrix& weight) {
    const auto zeros = census(weight);
    LayerReport layer = describe(weight, zeros);
    if (!can_measure(weight, layer)) return layer;
    for (const auto& list : zeros) {
      if (std::find(options_.blocks.begin(), options_.blocks.end(), list.block) == options_.blocks.end()) continue;
      layer.measured.push_back(bench_->measure(list));
    }
    return layer;
  }

  LayerReport prune(const WeightMatrix& weight) {
    LayerReport layer = describe(weight, census(weight));
    pruned_.push_back({&weight, keep_largest(weight, options_.blocks.front(), options_.prune_to)});
    const PrunedWeight& pruned = pruned_.back();
    layer.kept_blocks = pruned.kept.nonzero();
    layer.prunable_blocks = pruned.kept.total();
    layer.pruned_bytes = pruned_bytes(pruned);
    if (can_measure(weight, layer)) layer.measured.push_back(bench_->measure(pruned.kept));
    return layer;
  }

  bool can_measure(const WeightMatrix& weight, LayerReport& layer) {
    if (!bench_) {
      layer.not_measured = "--no-measure";
      return false;
    }
    layer.not_measured = bench_->load(weight);
    return layer.not_measured.empty();
  }

  void find_break_evens(std::int64_t rows, std::int64_t cols, const std::string& dtype) {
    const bool too_large = std::any_of(report_.layers.begin(), report_.layers.end(), [&](const LayerReport& layer) {
      return layer.rows == rows && layer.cols == cols && layer.best() == nullptr;
    });
    if (too_large) return;  // said already for the layer itself
    for (const int block : options_.blocks) {
      BreakEven shape{rows, cols, {}, false};
      ReceiptCrossover& crossover = shape.crossover;
      crossover.op = "sparse_gemm.linear";
      crossover.dtype = dtype;
      crossover.block = block;
      crossover.dense_peer = bench_->dense_name();
      for (const double density : kBreakEvenDensities) {
        const Measurement measured = bench_->time(random_blocks(rows, cols, block, density, kPatternSeed), dtype);
        if (!measured.sparse || !measured.dense) return;
        if (!crossover.points.empty() && measured.density <= crossover.points.back().first) continue;  // few blocks
        crossover.points.emplace_back(measured.density, measured.sparse->median);
        crossover.dense_ms = measured.dense->median;
        crossover.kernel = measured.kernel;
        shape.disturbed |= measured.disturbed;
        if (measured.speedup() < 1) break;
      }
      place_crossover(crossover);
      report_.break_even.push_back(std::move(shape));
    }
  }

  ScanOptions options_;
  WeightFilter filter_;
  DLDevice device_;
  io::SafetensorsModel model_;
  WeightSelection selection_;
  std::optional<LinearBench> bench_;
  std::vector<PrunedWeight> pruned_;
  ScanReport report_;
};

// Writes `text` to standard output, all of it or a sentence.
void print_out(const std::string& text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0) {
    refuse("standard output cannot be written");
  }
}

// Idle threads of the one library must not slow the other down (as in the verdict's workers). OpenMP reads its settings
// when the program starts, so they are set and the program starts again; where it cannot, it just goes on.
void restart_for_timing() {
  if (std::getenv("GOMP_SPINCOUNT") != nullptr || std::getenv("OMP_WAIT_POLICY") != nullptr) return;
  ::setenv("GOMP_SPINCOUNT", "20000", 1);
  ::setenv("OPENBLAS_THREAD_TIMEOUT", "18", 0);
  std::ifstream file("/proc/self/cmdline", std::ios::binary);
  std::string text((std::istreambuf_iterator<char>(file)), {});
  std::vector<char*> arguments;
  for (std::size_t begin = 0; begin < text.size(); begin = text.find('\0', begin) + 1) {
    arguments.push_back(text.data() + begin);
    if (text.find('\0', begin) == std::string::npos) break;
  }
  if (arguments.empty()) return;
  arguments.push_back(nullptr);
  ::execv("/proc/self/exe", arguments.data());
}

int exit_code_of(const ScanReport& report) {
  const ScanTotals totals = report.totals();
  if (totals.wrong > 0) return kWrongResult;
  return totals.measured > 0 && totals.unclear == totals.measured ? kTooNoisy : kAllRight;
}

int scan_and_print(const ScanOptions& options) {
  Scan scan(options);
  const ScanReport report = scan.run();
  if (options.json) {
    print_out(scan_json(report).dump(2) + "\n");
  } else if (options.markdown) {
    print_out(scan_markdown(report));
  } else {
    print_out(scan_text(report, output_width(), colour_on(STDOUT_FILENO)));
  }
  if (!options.out.empty()) {
    const std::uint64_t bytes = scan.save();
    fmt::print(stderr, "wrote {} ({})\n", io::printable(options.out), io::bytes_text(bytes));
  }
  return exit_code_of(report);
}

}  // namespace

int run_scan(const ScanOptions& options) {
  const auto fail = [](const std::string& sentence, int code) {
    fmt::print(stderr, "triage scan: {}\n", sentence);
    return code;
  };
  try {
    return scan_and_print(options);
  } catch (const NoDevice& error) {
    return fail(error.what(), kNoDevice);
  } catch (const Error& error) {
    const bool machine = error.code() == ErrorCode::cuda || error.code() == ErrorCode::out_of_memory;
    return fail(error.what(), machine ? kHungOrCrashed : kUsage);
  } catch (const std::bad_alloc&) {
    return fail("out of memory", kHungOrCrashed);
  } catch (const std::exception& error) {
    return fail(error.what(), kUsage);
  }
}

void add_scan_command(CLI::App& app, int& exit_code) {
  auto options = std::make_shared<ScanOptions>();
  CLI::App* command =
      app.add_subcommand("scan", "Would block-sparsity pay for the weights of a model (safetensors), on this machine?");
  command
      ->add_option("model", options->model,
                   "a .safetensors file, an index of several (model.safetensors.index.json), or their directory")
      ->required();
  command
      ->add_option("--block", options->blocks,
                   "block sizes to measure: 16,32,64,128 (default: all; with --prune-to: 32)")
      ->delimiter(',');
  command->add_option("--tokens", options->tokens, "rows of the random activations (default 128)");
  command->add_option("--device", options->device, "auto (a GPU if there is one), cpu, cuda, cuda:1");
  command->add_option("--include", options->include, "look only at weights whose name matches this regular expression");
  command->add_option("--exclude", options->exclude, "skip weights whose name matches this regular expression");
  command->add_option("--min-size", options->min_size, "skip matrices with a side shorter than this (default 64)");
  command->add_option(
      "--prune-to", options->prune_to,
      "keep this share of each matrix's blocks, those of largest norm, and compare with the dense weight");
  command->add_option("--out", options->out, "with --prune-to: save the pruned model here (safetensors; docs/scan.md)");
  command->add_flag("!--no-measure", options->measure, "count zero blocks only, run nothing");
  command->add_flag("--json", options->json, "print JSON");
  command->add_flag("--md", options->markdown, "print Markdown");
  command->callback([options, &exit_code] {
    if (options->measure) restart_for_timing();
    exit_code = run_scan(*options);
  });
}

}  // namespace triage::verdict
