// Compressed clusters: raw deflate (RFC 1951) with a window of 4 KiB, or a zstd frame (RFC 8878).
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "block/qcow2/header.h"

namespace limen::block::qcow2 {

/// Fills `cluster`; `packed` may be longer than what was packed. False: it is damaged.
[[nodiscard]] bool unpack(Compression kind, std::span<const std::byte> packed,
                          std::span<std::byte> cluster);
/// Empty when it would not be smaller.
[[nodiscard]] std::vector<std::byte> pack(Compression kind, std::span<const std::byte> cluster);

}  // namespace limen::block::qcow2
