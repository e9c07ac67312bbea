// Base64 (RFC 4648 §4).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace limen {

[[nodiscard]] std::string encode_base64(std::span<const uint8_t> bytes);
/// Nothing for what is not Base64.
[[nodiscard]] std::optional<std::vector<uint8_t>> decode_base64(std::string_view text);

}  // namespace limen
