// Sizes as people type and read them, and what limen-img does with raw images.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace limen::block {

/// A size as qemu-img takes it: a number, optionally with a fraction, and b, k, M, G, T, P or E
/// (powers of 1024). Rounded up to a whole number of 512-byte sectors.
Result<uint64_t> parse_image_size(std::string_view text);
/// The same, not rounded.
Result<uint64_t> parse_byte_size(std::string_view text);
/// Three digits and a unit, as qemu-img prints sizes: "1.5 GiB", "10 MiB", "0 B".
std::string human_size(uint64_t bytes);

/// Makes a sparse raw image, or empties an existing file to it, as `qemu-img create` does. Leaves
/// no file behind when it fails.
Result<> create_image(const std::string& path, uint64_t size);

/// Sets the size: `size` is "20G", or "+1G" and "-1G" for relative. Making it smaller needs
/// `allow_shrink`. Returns the new size.
Result<uint64_t> resize_image(const std::string& path, std::string_view size, bool allow_shrink);

}  // namespace limen::block
