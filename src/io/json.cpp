#include "io/json.h"

#include <set>
#include <utility>
#include <vector>

#include "io/text.h"
#include "triage/error.h"

namespace triage::io {

using nlohmann::json;

nlohmann::json parse_json_object(std::string_view text, const std::string& what) {
  constexpr int kMaxDepth = 8;
  std::vector<std::set<std::string>> keys;  // of the objects and (unused) arrays that are open
  const auto callback = [&](int, json::parse_event_t event, json& parsed) {
    switch (event) {
      case json::parse_event_t::object_start:
      case json::parse_event_t::array_start:
        if (keys.size() == kMaxDepth) {
          throw Error(ErrorCode::invalid_argument,
                      what + " nests deeper than " + std::to_string(kMaxDepth) + " levels");
        }
        keys.emplace_back();
        break;
      case json::parse_event_t::object_end:
      case json::parse_event_t::array_end:
        keys.pop_back();
        break;
      case json::parse_event_t::key:
        if (!keys.back().insert(parsed.get_ref<const std::string&>()).second) {
          throw Error(ErrorCode::invalid_argument,
                      what + " names " + quote(parsed.get_ref<const std::string&>()) + " twice");
        }
        break;
      case json::parse_event_t::value:
        break;
    }
    return true;
  };
  json result;
  try {
    result = json::parse(text.begin(), text.end(), callback);
  } catch (const json::parse_error& error) {
    throw Error(ErrorCode::invalid_argument, what + " is not valid JSON (at byte " + std::to_string(error.byte) + ")");
  } catch (const json::exception&) {  // e.g. a number beyond double's range
    throw Error(ErrorCode::invalid_argument, what + " holds a value that JSON readers cannot represent");
  }
  if (!result.is_object()) throw Error(ErrorCode::invalid_argument, what + " is not a JSON object");
  return result;
}

}  // namespace triage::io
