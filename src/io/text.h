// How names and sizes from a file appear in sentences.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace triage::io {

/// `name` in single quotes, fit for a terminal: control characters become \xNN, and what is longer than `limit` bytes
/// loses its middle.
std::string quote(std::string_view name, std::size_t limit = 160);

/// The start and the end of `text` with "..." between them, at most `width` code points (never fewer than 5); a UTF-8
/// sequence is not cut.
std::string elide_middle(std::string_view text, std::size_t width);

/// `text` with control characters as \xNN.
std::string printable(std::string_view text);

/// "1536 x 384".
template <class Shape>
std::string shape_text(const Shape& shape) {
  std::string text;
  for (const auto size : shape) text += (text.empty() ? "" : " x ") + std::to_string(size);
  return text.empty() ? "scalar" : text;
}

/// "12.5 MB" (decimal units).
std::string bytes_text(std::uint64_t bytes);

}  // namespace triage::io
