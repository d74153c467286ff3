#include "verdict/report.h"
namespace triage::verdict {
std::string report_html(const Run&) { return ""; }
}
