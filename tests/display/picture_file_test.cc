#include "display/picture_file.h"

#include <gmock/gmock.h>
#include <zlib.h>

#include <string>

namespace limen::display {
namespace {

Frame small_frame() {
  Frame frame;
  frame.resize(3, 2);
  frame.pixels = {0xFF0000, 0x00FF00, 0x0000FF, 0x010203, 0xFFFFFF, 0x000000};
  return frame;
}
const std::vector<uint8_t> kSmallBytes = {0xFF, 0, 0, 0,    0xFF, 0,    0, 0, 0xFF,
                                          1,    2, 3, 0xFF, 0xFF, 0xFF, 0, 0, 0};

uint32_t word_at(const std::vector<uint8_t>& file, size_t at) {
  return uint32_t{file[at]} << 24 | uint32_t{file[at + 1]} << 16 | uint32_t{file[at + 2]} << 8 |
         file[at + 3];
}

TEST(PictureFile, PpmIsAHeaderAndThePixels) {
  const auto file = *encode_picture(small_frame(), PictureFormat::kPpm);
  const std::string header = "P6\n3 2\n255\n";
  ASSERT_EQ(std::string(file.begin(), file.begin() + static_cast<long>(header.size())), header);
  EXPECT_EQ(std::vector(file.begin() + static_cast<long>(header.size()), file.end()), kSmallBytes);
}

/// Reads the file as ISO/IEC 15948 says, filter and all.
TEST(PictureFile, PngHoldsThePixelsWithRightCheckSums) {
  const auto file = *encode_picture(small_frame(), PictureFormat::kPng);
  ASSERT_EQ(word_at(file, 0), 0x8950'4E47u);
  ASSERT_EQ(word_at(file, 4), 0x0D0A'1A0Au);
  std::vector<uint8_t> packed;
  std::vector<std::string> types;
  for (size_t at = 8; at < file.size();) {
    const size_t length = word_at(file, at);
    ASSERT_LE(at + 12 + length, file.size());
    types.emplace_back(file.begin() + static_cast<long>(at) + 4,
                       file.begin() + static_cast<long>(at) + 8);
    EXPECT_EQ(word_at(file, at + 8 + length), crc32_z(0, file.data() + at + 4, length + 4));
    if (types.back() == "IHDR") {
      EXPECT_EQ(word_at(file, at + 8), 3u);
      EXPECT_EQ(word_at(file, at + 12), 2u);
    }
    if (types.back() == "IDAT")
      packed.insert(packed.end(), file.begin() + static_cast<long>(at) + 8,
                    file.begin() + static_cast<long>(at + 8 + length));
    at += 12 + length;
  }
  EXPECT_THAT(types, testing::ElementsAre("IHDR", "IDAT", "IEND"));
  std::vector<uint8_t> rows(2 * (1 + 9));
  uLongf size = rows.size();
  ASSERT_EQ(uncompress(rows.data(), &size, packed.data(), packed.size()), Z_OK);
  ASSERT_EQ(size, rows.size());
  std::vector<uint8_t> pixels;
  for (size_t y = 0; y < 2; ++y) {
    ASSERT_EQ(rows[y * 10], 2);
    for (size_t i = 0; i < 9; ++i)
      pixels.push_back(
          static_cast<uint8_t>(rows[y * 10 + 1 + i] + (y > 0 ? pixels[(y - 1) * 9 + i] : 0)));
  }
  EXPECT_EQ(pixels, kSmallBytes);
}

TEST(PictureFile, KnowsTwoFormats) {
  EXPECT_EQ(parse_picture_format("png"), PictureFormat::kPng);
  EXPECT_EQ(parse_picture_format("ppm"), PictureFormat::kPpm);
  EXPECT_FALSE(parse_picture_format("jpeg"));
}

}  // namespace
}  // namespace limen::display
