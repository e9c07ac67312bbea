#include "display/picture_file.h"

#include <fmt/format.h>
#include <zlib.h>

#include <array>
#include <span>
#include <string>

#include "base/delayed_library.h"

namespace limen::display {
namespace {

constexpr unsigned kColours = 3;
/// Screens are mostly flat: more effort gains little.
constexpr int kCompression = 4;

void put_row(const Frame& frame, unsigned y, uint8_t* to) {
  const uint32_t* from = frame.row(y);
  for (unsigned x = 0; x < frame.width; ++x) {
    *to++ = static_cast<uint8_t>(from[x] >> 16);
    *to++ = static_cast<uint8_t>(from[x] >> 8);
    *to++ = static_cast<uint8_t>(from[x]);
  }
}

std::vector<uint8_t> encode_ppm(const Frame& frame) {
  const auto header = fmt::format("P6\n{} {}\n255\n", frame.width, frame.height);
  std::vector<uint8_t> file(header.begin(), header.end());
  const size_t row_bytes = size_t{frame.width} * kColours;
  file.resize(header.size() + row_bytes * frame.height);
  for (unsigned y = 0; y < frame.height; ++y)
    put_row(frame, y, file.data() + header.size() + y * row_bytes);
  return file;
}

void put_word(std::vector<uint8_t>& file, uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) file.push_back(static_cast<uint8_t>(value >> shift));
}

/// Length, type, data, and a check sum over type and data (ISO/IEC 15948 §5.3).
void put_chunk(std::vector<uint8_t>& file, std::string_view type, std::span<const uint8_t> data) {
  put_word(file, static_cast<uint32_t>(data.size()));
  const size_t checked = file.size();
  file.insert(file.end(), type.begin(), type.end());
  file.insert(file.end(), data.begin(), data.end());
  put_word(file, static_cast<uint32_t>(::crc32_z(0, file.data() + checked, file.size() - checked)));
}

std::vector<uint8_t> encode_png(const Frame& frame) {
  std::vector<uint8_t> file = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'};
  std::vector<uint8_t> header;
  put_word(header, frame.width);
  put_word(header, frame.height);
  // 8 bits a sample, true colour, the one compression and filter method, not interlaced.
  for (const int byte : {8, 2, 0, 0, 0}) header.push_back(static_cast<uint8_t>(byte));
  put_chunk(file, "IHDR", header);

  // Each row as the difference from the one above (filter type 2, "Up").
  const size_t row_bytes = size_t{frame.width} * kColours;
  std::vector<uint8_t> above(row_bytes), row(row_bytes);
  std::vector<uint8_t> filtered((row_bytes + 1) * frame.height);
  uint8_t* to = filtered.data();
  for (unsigned y = 0; y < frame.height; ++y) {
    put_row(frame, y, row.data());
    *to++ = 2;
    for (size_t i = 0; i < row_bytes; ++i) *to++ = static_cast<uint8_t>(row[i] - above[i]);
    above.swap(row);
  }
  uLongf size = ::compressBound(static_cast<uLong>(filtered.size()));
  std::vector<uint8_t> packed(size);
  // Into a buffer of that bound it cannot fail but for memory, which aborts elsewhere, too.
  if (::compress2(packed.data(), &size, filtered.data(), static_cast<uLong>(filtered.size()),
                  kCompression) != Z_OK)
    size = 0;
  put_chunk(file, "IDAT", std::span(packed).first(size));
  put_chunk(file, "IEND", {});
  return file;
}

}  // namespace

Result<PictureFormat> parse_picture_format(std::string_view text) {
  if (text == "ppm") return PictureFormat::kPpm;
  if (text == "png") return PictureFormat::kPng;
  return fail("Invalid parameter '{}'", text);
}

Result<std::vector<uint8_t>> encode_picture(const Frame& frame, PictureFormat format) {
  if (format == PictureFormat::kPpm) return encode_ppm(frame);
  LIMEN_TRY(load_library(LIMEN_Z_LIBRARY));
  return encode_png(frame);
}

}  // namespace limen::display
