// Files that belong to the program: beside it in a build, in ../lib/triage where it was installed.
#pragma once

#include <string>

namespace triage::verdict {

/// Where the file lies; empty if it does not.
std::string own_file(const std::string& name);

}  // namespace triage::verdict
