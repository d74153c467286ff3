// What goes to the terminal: progress on standard error, tables of plain text, colour where it is wanted.
#pragma once

#include <chrono>
#include <string>
#include <vector>

namespace triage::verdict {

/// Whether text on this stream (STDOUT_FILENO, STDERR_FILENO) may have colour: a terminal, and neither NO_COLOR nor CI
/// set nor TERM=dumb.
bool colour_on(int file_descriptor);

enum class Colour { none, red, green, yellow, dim, bold };
std::string painted(const std::string& text, Colour colour, bool on);

/// Progress of a run of known length: a bar that is redrawn on a terminal, one line a case otherwise.
class Progress {
 public:
  Progress(int total, bool quiet);
  ~Progress();
  /// `label` is what runs now.
  void begin(const std::string& label);
  /// Redraws the bar (spinner and elapsed time); does nothing without a terminal.
  void tick();
  /// The case that began has ended; `summary` is printed where there is no bar.
  void end(const std::string& summary);
  /// Takes the bar off the screen, for what is printed next; the next begin or tick draws it again.
  void clear();

 private:
  void draw();

  int total_, done_ = 0, ticks_ = 0;
  bool bar_, quiet_;
  std::string label_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

/// Columns of text, padded to their widest cell. Cells that look like numbers are aligned to the right.
class TextTable {
 public:
  explicit TextTable(std::vector<std::string> header);
  void add(std::vector<std::string> cells);
  bool empty() const { return rows_.empty(); }
  /// Aligned with spaces.
  std::string text() const;
  /// As a Markdown table.
  std::string markdown() const;

 private:
  std::vector<std::string> header_;
  std::vector<std::vector<std::string>> rows_;
};

/// Number of characters of UTF-8 text.
std::size_t display_width(const std::string& text);

}  // namespace triage::verdict
