// Sizes as people write them.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/result.h"

namespace limen {

/// A size as -m takes it: digits with an optional fraction and B, K, M, G, T, P or E (powers of
/// 1024, upper or lower case); without a letter it counts `default_unit` bytes.
Result<uint64_t> parse_size(std::string_view text, uint64_t default_unit);

}  // namespace limen
