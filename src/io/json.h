// JSON from files that nobody vouches for.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace triage::io {

/// Parses `text`, which must be an object. Beyond what any JSON parser refuses it refuses a key that an object holds
/// twice (parsers keep one of the two in silence) and nesting deeper than 8.
/// @param what begins the sentence of an error, e.g. "a.safetensors: the header".
nlohmann::json parse_json_object(std::string_view text, const std::string& what);

}  // namespace triage::io
