#include "verdict/terminal.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <string_view>

namespace triage::verdict {
namespace {

bool is_set(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr && *value != '\0';
}

/// A terminal that a person looks at: in CI a log gets plain lines.
bool interactive(int file_descriptor) {
  const char* term = std::getenv("TERM");
  return ::isatty(file_descriptor) && !is_set("CI") && !(term && std::string_view(term) == "dumb");
}

std::size_t terminal_width() {
  winsize size{};
  if (::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col < 20) return 80;
  return size.ws_col;
}

bool looks_like_number(const std::string& cell) {
  if (cell.empty() || cell == "-") return true;
  return std::isdigit(static_cast<unsigned char>(cell[0])) && cell.find_first_not_of("0123456789.e-+%x ") == std::string::npos;
}

}  // namespace

bool colour_on(int file_descriptor) { return interactive(file_descriptor) && !is_set("NO_COLOR"); }

std::string painted(const std::string& text, Colour colour, bool on) {
  if (!on || colour == Colour::none) return text;
  const char* code = "";
  switch (colour) {
    case Colour::none: break;
    case Colour::red: code = "31"; break;
    case Colour::green: code = "32"; break;
    case Colour::yellow: code = "33"; break;
    case Colour::dim: code = "2"; break;
    case Colour::bold: code = "1"; break;
  }
  return fmt::format("\x1b[{}m{}\x1b[0m", code, text);
}

std::size_t display_width(const std::string& text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

Progress::Progress(int total, bool quiet) : total_(total), bar_(interactive(STDERR_FILENO)), quiet_(quiet) {}

Progress::~Progress() { clear(); }

void Progress::begin(const std::string& label) {
  label_ = label;
  draw();
}

void Progress::tick() {
  ++ticks_;
  draw();
}

void Progress::end(const std::string& summary) {
  ++done_;
  if (quiet_) return;
  if (bar_) {
    draw();
  } else {
    fmt::print(stderr, "[{:>{}}/{}] {}\n", done_, fmt::formatted_size("{}", total_), total_, summary);
    std::fflush(stderr);
  }
}

void Progress::draw() {
  if (!bar_ || quiet_) return;
  constexpr int kBarWidth = 24;
  constexpr std::string_view kSpinner = "|/-\\";
  const int filled = total_ > 0 ? kBarWidth * done_ / total_ : 0;
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(std::chrono::steady_clock::now() - start_).count();
  std::string line = fmt::format("[{:#>{}}{:.>{}}] {}/{} {}s {} {}", "", filled, "", kBarWidth - filled, done_, total_,
                                 seconds, kSpinner[static_cast<std::size_t>(ticks_) % kSpinner.size()], label_);
  line.resize(std::min(line.size(), terminal_width() - 1));
  fmt::print(stderr, "\r\x1b[K{}", line);
  std::fflush(stderr);
}

void Progress::clear() {
  if (!bar_ || quiet_) return;
  fmt::print(stderr, "\r\x1b[K");
  std::fflush(stderr);
}

TextTable::TextTable(std::vector<std::string> header) : header_(std::move(header)) {}

void TextTable::add(std::vector<std::string> cells) {
  cells.resize(header_.size());
  rows_.push_back(std::move(cells));
}

std::string TextTable::text() const {
  std::vector<std::size_t> widths;
  std::vector<bool> numeric;
  for (std::size_t c = 0; c < header_.size(); ++c) {
    std::size_t width = display_width(header_[c]);
    bool numbers = true;
    for (const auto& row : rows_) {
      width = std::max(width, display_width(row[c]));
      numbers = numbers && looks_like_number(row[c]);
    }
    widths.push_back(width);
    numeric.push_back(numbers);
  }
  const auto line = [&](const std::vector<std::string>& cells) {
    std::string text;
    for (std::size_t c = 0; c < cells.size(); ++c) {
      const std::string padding(widths[c] - display_width(cells[c]), ' ');
      text += (c > 0 ? "  " : "") + (numeric[c] ? padding + cells[c] : cells[c] + padding);
    }
    text.erase(text.find_last_not_of(' ') + 1);
    return text + "\n";
  };
  std::string text = line(header_);
  std::vector<std::string> rule;
  for (std::size_t width : widths) rule.push_back(std::string(width, '-'));
  text += line(rule);
  for (const auto& row : rows_) text += line(row);
  return text;
}

std::string TextTable::markdown() const {
  const auto line = [](const std::vector<std::string>& cells) {
    std::string text = "|";
    for (const std::string& cell : cells) text += " " + cell + " |";
    return text + "\n";
  };
  std::string text = line(header_);
  text += line(std::vector<std::string>(header_.size(), "---"));
  for (const auto& row : rows_) text += line(row);
  return text;
}

}  // namespace triage::verdict
