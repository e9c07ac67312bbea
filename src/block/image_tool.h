// What limen-img and `limen image` do, behind the command line.
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
/// no file behind when it fails. `format`: "raw" (others are refused by name).
Result<> create_image(const std::string& path, std::string_view format, uint64_t size);

struct ImageInfo {
  std::string path;
  std::string format = "raw";
  uint64_t virtual_size = 0;  ///< Bytes the guest sees.
  uint64_t actual_size = 0;   ///< Bytes allocated on the disk.
};
/// `force_share`: look even while another process keeps everyone out (qemu-img info -U).
Result<ImageInfo> image_info(const std::string& path, bool force_share);
/// `file format: raw` and so on, as `qemu-img info` prints it.
std::string describe(const ImageInfo& info);
/// The same as `qemu-img info --output=json`.
std::string describe_json(const ImageInfo& info);

/// Sets the size: `size` is "20G", or "+1G" and "-1G" for relative. Making it smaller needs
/// `allow_shrink`. Returns the new size.
Result<uint64_t> resize_image(const std::string& path, std::string_view size, bool allow_shrink);

}  // namespace limen::block
