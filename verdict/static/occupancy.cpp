#include "verdict/static/occupancy.h"

#include <algorithm>

namespace triage::static_triage {
namespace {

constexpr int kPartitions = 4;  // of a multiprocessor; each has its share of the registers

// "256", "dim3(32, 8)", "dim3{16, 16}", or a variable "dim3 block(16, 16);"
std::optional<long long> block_threads(const std::string& argument, const SourceFile& file, const Constants& constants,
                                       const EvaluationContext& context, int depth = 0) {
  const auto product = [&](const std::string& list) -> std::optional<long long> {
    long long threads = 1;
    for (const std::string& part : split_arguments(list)) {
      const auto value = constants.evaluate(part, context);
      if (!value || value->value <= 0 || value->value > (1 << 20)) return std::nullopt;
      threads *= value->value;
    }
    return threads;
  };
  const std::string text = trim(argument);
  if (text.rfind("dim3", 0) == 0 && text.size() > 6) return product(text.substr(5, text.size() - 6));
  if (const auto value = constants.evaluate(text, context)) return value->value;
  if (depth > 0 || text.empty() || !std::all_of(text.begin(), text.end(), is_word_char)) return std::nullopt;
  const std::string& code = file.code();
  std::optional<long long> found;
  for (std::size_t at = find_word(code, "dim3"); at != std::string::npos; at = find_word(code, "dim3", at + 1)) {
    const std::size_t end = code.find(';', at), name = find_word(code, text, at);
    if (end == std::string::npos || name > end || file.line_of(at) > context.line) continue;
    const std::size_t open = code.find_first_of("({", name);
    if (open > end) continue;
    const std::size_t close = code.find_last_of(")}", end);
    found = product(code.substr(open + 1, close - open - 1));
  }
  return found;
}

int round_up(int value, int unit) { return (value + unit - 1) / unit * unit; }

}  // namespace

LaunchFacts find_launches(const SourceFile& file, const Constants& constants, const std::string& kernel) {
  LaunchFacts facts;
  const auto note_shared = [&](const std::string& bytes, int line) {
    EvaluationContext context;
    context.line = line;
    const auto value = constants.evaluate(bytes, context);
    if (!value || value->value < 0) return;
    facts.shared_known = true;
    if (value->value < facts.dynamic_shared) return;
    facts.dynamic_shared = static_cast<long>(std::min<long long>(value->value, 1LL << 31));
    facts.shared_arithmetic = value->arithmetic;
    facts.line = line;
  };
  for (const Launch& launch : file.launches()) {
    if (launch.kernel != kernel) continue;
    if (facts.line == 0) facts.line = launch.line;
    if (launch.arguments.size() > 2) note_shared(launch.arguments[2], launch.line);
    else facts.shared_known = true;  // no third argument: none
    if (launch.arguments.size() < 2) continue;
    EvaluationContext context;
    context.line = launch.line;
    if (const auto threads = block_threads(launch.arguments[1], file, constants, context)) {
      facts.threads = std::max(facts.threads, static_cast<int>(std::min<long long>(*threads, 1 << 20)));
    }
  }
  for (const SharedRequest& request : file.shared_requests()) {
    facts.opts_in = true;
    if (request.kernel == kernel) note_shared(request.bytes, request.line);
  }
  return facts;
}

int warp_registers(int registers_per_thread) { return round_up(registers_per_thread * 32, 256); }

int block_registers(int registers_per_thread, int threads) {
  return warp_registers(registers_per_thread) * round_up((threads + 31) / 32, kPartitions);
}

std::optional<Occupancy> occupancy(const Target& target, int threads, int registers, long shared_bytes) {
  const Limits* limits = find_limits(target.sm);
  if (limits == nullptr || threads <= 0 || threads > kMaxThreadsPerBlock || registers <= 0) return std::nullopt;
  const int warps = (threads + 31) / 32;
  // The system keeps 1 KB of each block's shared memory from 8.0 on; sizes are rounded to 128 bytes.
  const long reserved = target.sm >= 80 ? 1024 : 0;
  const long shared = (shared_bytes + reserved + 127) / 128 * 128;
  struct Bound {
    const char* name;
    long blocks;
  };
  const Bound bounds[] = {
      {"registers", block_registers(registers, threads) > kRegistersPerSm
                        ? 0
                        : kRegistersPerSm / kPartitions / warp_registers(registers) * kPartitions / warps},
      {"shared memory", shared > 0 ? limits->shared_sm_kb * 1024L / shared : limits->blocks},
      {"warps", limits->warps / warps},
      {"blocks", limits->blocks},
  };
  Occupancy result;
  result.threads = threads;
  const Bound* tightest = &bounds[3];
  for (const Bound& bound : bounds) {
    if (bound.blocks < tightest->blocks) tightest = &bound;
  }
  if (tightest->blocks == 0) return std::nullopt;
  result.blocks = static_cast<int>(tightest->blocks);
  result.percent = std::min(100, result.blocks * warps * 100 / limits->warps);
  result.limit = tightest->name;
  return result;
}

}  // namespace triage::static_triage
