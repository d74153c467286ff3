#include "io/text.h"

#include <cstdio>
#include <vector>

namespace triage::io {
namespace {

// Where each code point of `text` starts. Bytes that are no UTF-8 count as one each.
std::vector<std::size_t> code_points(std::string_view text) {
  std::vector<std::size_t> starts;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if ((static_cast<unsigned char>(text[i]) & 0xC0) != 0x80) starts.push_back(i);
  }
  return starts;
}

}  // namespace

std::string printable(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    // C1 controls (U+0080 .. U+009F, in UTF-8 C2 80 .. C2 9F) drive terminals as C0 controls do.
    const bool c1 = c == 0xC2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xA0;
    if (c < 0x20 || c == 0x7F || c1) {
      const unsigned code = c1 ? static_cast<unsigned char>(text[++i]) : c;
      char escaped[8];
      std::snprintf(escaped, sizeof escaped, "\\x%02x", code);
      out += escaped;
    } else {
      out += text[i];
    }
  }
  return out;
}

std::string elide_middle(std::string_view text, std::size_t width) {
  const auto starts = code_points(text);
  if (width < 5) width = 5;
  if (starts.size() <= width) return std::string(text);
  const std::size_t tail = (width - 3) * 3 / 5;  // the end of a name tells more: "...dense.weight"
  const std::size_t head = width - 3 - tail;
  return std::string(text.substr(0, starts[head])) + "..." + std::string(text.substr(starts[starts.size() - tail]));
}

std::string quote(std::string_view name, std::size_t limit) {
  return "'" + elide_middle(printable(name.size() > 4 * limit ? std::string(elide_middle(name, limit)) : name), limit) +
         "'";
}

std::string bytes_text(std::uint64_t bytes) {
  if (bytes < 1000) return std::to_string(bytes) + " bytes";
  const char* const units[] = {"kB", "MB", "GB", "TB", "PB", "EB"};
  double value = static_cast<double>(bytes) / 1000;
  int unit = 0;
  for (; value >= 999.95 && unit < 5; ++unit) value /= 1000;
  char text[32];
  std::snprintf(text, sizeof text, value < 99.95 ? "%.1f %s" : "%.0f %s", value, units[unit]);
  return text;
}

}  // namespace triage::io
