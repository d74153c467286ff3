// The JSON type of the program: fields keep the order in which they were written.
#pragma once

#include <nlohmann/json_fwd.hpp>

namespace triage::verdict {

using Json = nlohmann::ordered_json;

}  // namespace triage::verdict
