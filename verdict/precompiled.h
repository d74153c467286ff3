// Parsed once for all of this folder's C++ files (CMake's precompiled header): what costs most of their compile time.
// Every file still includes what it uses.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>
