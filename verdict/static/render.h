// The verdict as text, Markdown, JSON and HTML.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "verdict/static/model.h"

namespace triage::static_triage {

/// @param colour ANSI colours.
std::string render_text(const Verdict& verdict, bool colour);
std::string render_markdown(const Verdict& verdict);
nlohmann::ordered_json render_json(const Verdict& verdict);
/// One self-contained page without scripts.
std::string render_html(const Verdict& verdict);

/// What the report says first, before the files: "3 files, 6 architectures, nvcc 13.0: ...".
std::string headline(const Verdict& verdict);
/// "on every architecture asked for", "on 80, 86 and 89".
std::string scope_text(const Cause& cause);
/// Numbers of the compiler's report as table cells; the header names them.
std::vector<std::string> usage_header();
std::vector<std::string> usage_cells(const Target& target, const KernelOnTarget& on);

}  // namespace triage::static_triage
