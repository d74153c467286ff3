#include "verdict/static/architectures.h"

#include <array>
#include <cctype>

namespace triage::static_triage {
namespace {

constexpr std::array<Limits, 12> kLimits = {{
    // sm, devices, shared KB per SM, per block, warps, blocks
    {75, "T4, RTX 20", 64, 64, 32, 16},
    {80, "A100, A30", 164, 163, 64, 32},
    {86, "A10, A40, RTX 30", 100, 99, 48, 16},
    {87, "Jetson Orin", 164, 163, 48, 16},
    {89, "L4, L40, RTX 40", 100, 99, 48, 24},
    {90, "H100, H200", 228, 227, 64, 32},
    {100, "B200, GB200", 228, 227, 64, 32},
    {101, "Thor, named 110 since CUDA 13", 228, 227, 48, 24},
    {103, "B300, GB300", 228, 227, 64, 32},
    {110, "Jetson Thor", 228, 227, 48, 24},
    {120, "RTX 50, RTX PRO 6000", 100, 99, 48, 24},
    {121, "DGX Spark", 100, 99, 48, 24},
}};

int family_of(int sm) {
  switch (sm) {
    case 103: return 100;
    case 101: return 110;  // renamed by CUDA 13
    case 121: return 120;
    default: return sm;
  }
}

}  // namespace

std::string Target::name() const { return std::to_string(sm) + (suffix ? std::string(1, suffix) : ""); }
std::string Target::compute() const { return "compute_" + name(); }
std::string Target::code() const { return "sm_" + name(); }

std::optional<Target> parse_target(const std::string& text) {
  std::string rest = text;
  for (const char* prefix : {"sm_", "compute_"}) {
    if (rest.rfind(prefix, 0) == 0) rest = rest.substr(std::string(prefix).size());
  }
  Target target;
  if (!rest.empty() && (rest.back() == 'a' || rest.back() == 'f')) {
    target.suffix = rest.back();
    rest.pop_back();
  }
  if (const std::size_t dot = rest.find('.'); dot != std::string::npos) {
    if (rest.size() - dot != 2) return std::nullopt;  // one digit stands behind the point: "9.0"
    rest.erase(dot, 1);
  }
  if (rest.size() < 2 || rest.size() > 3 || rest[0] == '0') return std::nullopt;
  for (char c : rest) {
    if (!std::isdigit(static_cast<unsigned char>(c))) return std::nullopt;
  }
  target.sm = std::stoi(rest);
  return target;
}

bool same_family(int sm, int other) { return family_of(sm) == family_of(other); }

const Limits* find_limits(int sm) {
  for (const Limits& limits : kLimits) {
    if (limits.sm == sm) return &limits;
  }
  return nullptr;
}

std::vector<int> known_capabilities() {
  std::vector<int> result;
  for (const Limits& limits : kLimits) result.push_back(limits.sm);
  return result;
}

std::string describe(const Target& target) {
  const Limits* limits = find_limits(target.sm);
  return limits ? target.name() + " (" + limits->devices + ")" : target.name();
}

}  // namespace triage::static_triage
