// Pictures as files: what screendump writes.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "display/screen.h"

namespace limen::display {

enum class PictureFormat : uint8_t { kPpm, kPng };

/// "ppm" or "png".
Result<PictureFormat> parse_picture_format(std::string_view text);

/// The whole file: PPM (P6, 8 bits a colour), or PNG (8 bits a colour, no alpha; ISO/IEC 15948).
Result<std::vector<uint8_t>> encode_picture(const Frame& frame, PictureFormat format);

}  // namespace limen::display
