// Deterministic mutations of a valid input, for tests that run anywhere in seconds.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <string_view>

namespace triage::fuzz {

/// One to four random edits out of: flip a bit, set a byte, cut the end, insert bytes, delete bytes, copy a piece
/// elsewhere, replace a decimal number by one that is likely to break arithmetic, set a 32- or 64-bit integer.
inline std::string mutate(std::string_view seed, std::mt19937_64& random) {
  std::string bytes(seed);
  const auto below = [&](std::size_t n) { return n == 0 ? 0 : static_cast<std::size_t>(random() % n); };
  const auto digit = [&](std::size_t i) { return bytes[i] >= '0' && bytes[i] <= '9'; };
  const std::size_t edits = 1 + below(4);
  for (std::size_t edit = 0; edit < edits; ++edit) {
    if (bytes.empty()) bytes = "{";
    const std::size_t at = below(bytes.size());
    const std::size_t count = 1 + below(std::min<std::size_t>(bytes.size() - at, 12));
    switch (below(9)) {
      case 0:
        bytes[at] = static_cast<char>(bytes[at] ^ 1 << below(8));
        break;
      case 1:
        bytes[at] = static_cast<char>(below(256));
        break;
      case 2:
        bytes.resize(at);
        break;
      case 3:
        bytes.insert(at, std::string(count, static_cast<char>(below(256))));
        break;
      case 4:
        bytes.erase(at, count);
        break;
      case 5:
        bytes.insert(below(bytes.size()), bytes.substr(at, count));
        break;
      case 6: {  // a number in the JSON: the most telling edits
        std::size_t begin = at;
        while (begin < bytes.size() && !digit(begin)) ++begin;
        std::size_t end = begin;
        while (end < bytes.size() && digit(end)) ++end;
        constexpr const char* kNumbers[] = {"0",
                                            "1",
                                            "-1",
                                            "1e3",
                                            "2147483647",
                                            "2147483648",
                                            "4294967296",
                                            "9223372036854775807",
                                            "9223372036854775808",
                                            "18446744073709551615",
                                            "18446744073709551616",
                                            "null",
                                            "[]",
                                            "\"7\"",
                                            "1.5",
                                            "7"};
        bytes.replace(begin, end - begin, kNumbers[below(std::size(kNumbers))]);
        break;
      }
      case 7: {  // an integer in the data, or the header's length
        constexpr std::int64_t kValues[] = {0, 1, -1, 2, 3, 1 << 20, INT32_MAX, INT32_MIN, INT64_MAX, INT64_MIN};
        const std::int64_t value = kValues[below(std::size(kValues))];
        const std::size_t width = below(2) ? 8 : 4, aligned = at / 4 * 4;
        for (std::size_t i = 0; i < width && aligned + i < bytes.size(); ++i) {
          bytes[aligned + i] = static_cast<char>(value >> 8 * i & 0xFF);
        }
        break;
      }
      case 8:
        bytes[at] = "{}[]\",:\\ \t\n\x80\xff"[below(14)];
        break;
    }
  }
  return bytes;
}

}  // namespace triage::fuzz
