#include "block/image_tool.h"

#include <gtest/gtest.h>

#include <cstdio>

#include "block/raw_image.h"
#include "block/scratch.h"

namespace limen::block {
namespace {

std::string output_of(const std::string& command) {
  std::FILE* pipe = ::popen(command.c_str(), "r");
  std::string text;
  char buffer[256];
  while (std::fgets(buffer, sizeof buffer, pipe) != nullptr) text += buffer;
  return ::pclose(pipe) == 0 ? text : "";
}

TEST(ImageSize, TakesSuffixesFractionsAndRoundsUpToASector) {
  EXPECT_EQ(parse_image_size("20G").value(), uint64_t{20} << 30);
  EXPECT_EQ(parse_image_size("1.5G").value(), uint64_t{3} << 29);
  EXPECT_EQ(parse_image_size("512").value(), 512u);
  EXPECT_EQ(parse_image_size("513b").value(), 1024u);
  EXPECT_EQ(parse_image_size("1000").value(), 1024u);
  EXPECT_EQ(parse_image_size("3m").value(), 3u << 20);
  EXPECT_EQ(parse_image_size("4K").value(), 4096u);
  EXPECT_EQ(parse_image_size("0").value(), 0u);
  EXPECT_EQ(parse_image_size("7E").value(), uint64_t{7} << 60);
}

TEST(ImageSize, RefusesWhatIsNone) {
  for (const char* bad : {"", "G", "-1", "1.5", "1.", ".5G", "1..5G", "0x10", "1GB", "20 G", "abc"})
    EXPECT_NE(parse_image_size(bad).error().message.find("is not a size"), std::string::npos)
        << bad;
  for (const char* large : {"8E", "99999999999999999999", "100000P"})
    EXPECT_NE(parse_image_size(large).error().message.find("too large"), std::string::npos)
        << large;
}

TEST(ImageTool, CreatesASparseImage) {
  const ScratchFolder folder;
  const auto path = folder.path("disk \"1\".img");
  ASSERT_TRUE(create_image(path, uint64_t{20} << 30));
  EXPECT_LE(allocated(path), 4096u);
  EXPECT_EQ(std::filesystem::file_size(path), uint64_t{20} << 30);
}

TEST(ImageTool, PrintsSizesAsQemuImgDoes) {
  if (output_of("command -v qemu-img").empty()) GTEST_SKIP() << "qemu-utils not installed";
  const ScratchFolder folder;
  for (const uint64_t size : {0ull, 512ull, 999'936ull, 1'000'448ull, 1'048'064ull, 1'048'576ull,
                              1'610'612'736ull, 1'072'693'248ull, 5'000'000'000'000ull}) {
    const auto path = folder.image("disk", size);
    EXPECT_NE(output_of("qemu-img info -f raw '" + path + "'")
                  .find(fmt::format("virtual size: {} ({} bytes)", human_size(size), size)),
              std::string::npos)
        << human_size(size);
  }
}

TEST(ImageTool, CreatingAgainEmptiesTheImage) {
  const ScratchFolder folder;
  const auto path = folder.path("disk");
  ASSERT_TRUE(create_image(path, 4096));
  {
    const auto image = RawImage::open(path, {}).value();
    ASSERT_EQ(write_at(*image, 0, std::vector<uint8_t>(512, 7)), 0);
    // Not while a machine has it.
    EXPECT_FALSE(create_image(path, 8192));
    EXPECT_EQ(read_at(*image, 0, 512), std::vector<uint8_t>(512, 7));
  }
  ASSERT_TRUE(create_image(path, 8192));
  const auto image = RawImage::open(path, {}).value();
  EXPECT_EQ(image->size(), 8192u);
  EXPECT_EQ(read_at(*image, 0, 512), std::vector<uint8_t>(512, 0));
}

TEST(ImageTool, FailedCreationLeavesNothingBehind) {
  const ScratchFolder folder;
  const auto path = folder.path("disk");
  const auto huge = create_image(path, INT64_MAX & ~511ull);
  if (!huge) {
    EXPECT_NE(huge.error().message.find(path), std::string::npos);
  }
  EXPECT_EQ(std::filesystem::exists(path), huge.has_value());
  const auto nowhere = create_image(folder.path("none/disk"), 512);
  EXPECT_NE(nowhere.error().message.find("No such file or directory"), std::string::npos);
  EXPECT_NE(create_image(folder.path(""), 512).error().message.find("is a directory"),
            std::string::npos);
}

TEST(ImageTool, ResizesAbsolutelyAndRelatively) {
  const ScratchFolder folder;
  const auto path = folder.image("disk", 4096);
  EXPECT_EQ(resize_image(path, "8k", false).value(), 8192u);
  EXPECT_EQ(resize_image(path, "+1k", false).value(), 9216u);
  EXPECT_EQ(resize_image(path, "-4k", true).value(), 5120u);
  EXPECT_EQ(std::filesystem::file_size(path), 5120u);
}

TEST(ImageTool, ShrinksOnlyWhenAllowedAndNeverBelowNothing) {
  const ScratchFolder folder;
  const auto path = folder.image("disk", 4096);
  EXPECT_NE(resize_image(path, "1k", false).error().message.find("--shrink"), std::string::npos);
  EXPECT_NE(resize_image(path, "-8k", true).error().message.find("nothing would be left"),
            std::string::npos);
  EXPECT_NE(resize_image(path, "+7E", false).error().message.find(path), std::string::npos);
  EXPECT_NE(resize_image(path, "much", false).error().message.find("'much'"), std::string::npos);
  EXPECT_EQ(std::filesystem::file_size(path), 4096u);
}

}  // namespace
}  // namespace limen::block
