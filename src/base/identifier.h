// The ids that people give to what they make.
#pragma once

#include <algorithm>
#include <string_view>

namespace limen {

/// As QEMU has them: letters, digits, '-', '.', '_', starting with a letter.
[[nodiscard]] inline bool is_identifier(std::string_view id) {
  const auto letter = [](char c) { return (c | 0x20) >= 'a' && (c | 0x20) <= 'z'; };
  return !id.empty() && letter(id.front()) && std::ranges::all_of(id, [&](char c) {
    return letter(c) || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_';
  });
}

}  // namespace limen
