#include "cloud/nocloud_seed.h"

#include <archive.h>
#include <archive_entry.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <map>

namespace limen::cloud {
namespace {

using testing::HasSubstr;
using testing::Not;

/// The files of an ISO 9660 image.
std::map<std::string, std::string> files_in(const std::vector<uint8_t>& image) {
  std::map<std::string, std::string> files;
  archive* in = archive_read_new();
  archive_read_support_format_iso9660(in);
  EXPECT_EQ(archive_read_open_memory(in, image.data(), image.size()), ARCHIVE_OK);
  archive_entry* entry = nullptr;
  while (archive_read_next_header(in, &entry) == ARCHIVE_OK) {
    if (archive_entry_filetype(entry) != AE_IFREG) continue;
    std::string content(static_cast<size_t>(archive_entry_size(entry)), '\0');
    EXPECT_EQ(archive_read_data(in, content.data(), content.size()),
              static_cast<la_ssize_t>(content.size()));
    files[archive_entry_pathname(entry)] = content;
  }
  archive_read_free(in);
  return files;
}

TEST(NoCloudSeed, HoldsTheFilesThatCloudInitLooksFor) {
  const NoCloudSeed seed{.user_data = "#cloud-config\npackages: []\n",
                         .meta_data = "instance-id: one\n",
                         .network_config = "version: 2\n",
                         .vendor_data = "#!/bin/sh\nexit 0\n"};
  const auto image = make_image(seed);
  ASSERT_TRUE(image) << image.error().message;
  const auto files = files_in(*image);
  EXPECT_EQ(files.size(), 4u);
  EXPECT_EQ(files.at("user-data"), seed.user_data);
  EXPECT_EQ(files.at("meta-data"), seed.meta_data);
  EXPECT_EQ(files.at("network-config"), *seed.network_config);
  EXPECT_EQ(files.at("vendor-data"), *seed.vendor_data);
}

TEST(NoCloudSeed, IsFoundByItsLabel) {
  const auto image = make_image({.user_data = "#cloud-config\n"});
  ASSERT_TRUE(image);
  // ECMA-119 §8.4: the primary volume descriptor, in sector 16; its volume identifier.
  constexpr size_t kDescriptor = 16 * 2048, kVolume = kDescriptor + 40;
  ASSERT_GT(image->size(), kVolume + 32);
  EXPECT_EQ((*image)[kDescriptor], 1);
  EXPECT_EQ(std::string(image->begin() + kVolume, image->begin() + kVolume + 7), "CIDATA ");
  // A whole number of its blocks, and of a disk's sectors.
  EXPECT_EQ(image->size() % 2048, 0u);
}

TEST(NoCloudSeed, MakesMetaDataThatFollowsTheContent) {
  const NoCloudSeed seed{.user_data = "#cloud-config\n", .host_name = "web-1.example"};
  const auto text = default_meta_data(seed);
  EXPECT_THAT(text, HasSubstr("instance-id: iid-"));
  EXPECT_THAT(text, HasSubstr("local-hostname: web-1.example\n"));
  EXPECT_EQ(text, default_meta_data(seed));
  auto other = seed;
  other.user_data += "packages: []\n";
  EXPECT_NE(text, default_meta_data(other));
  other = seed;
  other.network_config = "";
  other.vendor_data = "#!";
  EXPECT_NE(default_meta_data(other), default_meta_data(seed));
  EXPECT_THAT(default_meta_data({.user_data = "#!"}), Not(HasSubstr("local-hostname")));
  EXPECT_EQ(files_in(*make_image(seed)).at("meta-data"), text);
}

TEST(NoCloudSeed, TakesEveryFormatOfUserData) {
  for (const char* text :
       {"", "#cloud-config\r\na: 1\r\n", "#!/bin/sh\n", "#include\nhttp://x/\n",
        "#cloud-boothook\n", "#part-handler\n", "#cloud-config-archive\n",
        "## template: jinja\n#cloud-config\n", "Content-Type: multipart/mixed; boundary=x\n",
        "MIME-Version: 1.0\n", "\x1f\x8b\x08"})
    EXPECT_TRUE(check({.user_data = text})) << text;
}

TEST(NoCloudSeed, RefusesWhatCloudInitWouldPassOver) {
  const auto message = [](const NoCloudSeed& seed) {
    const auto result = make_image(seed);
    return result ? std::string() : result.error().message;
  };
  EXPECT_THAT(message({.user_data = "users:\n- me\n"}), HasSubstr("begins with 'users:'"));
  EXPECT_THAT(message({.user_data = " #cloud-config\n"}),
              HasSubstr("begins with ' #cloud-config'"));
  EXPECT_THAT(message({.vendor_data = "x"}), HasSubstr("vendor data begins with 'x'"));
  EXPECT_THAT(message({.meta_data = "local-hostname: a\n"}), HasSubstr("no instance-id"));
  EXPECT_THAT(message({.meta_data = "instance-id: a\n", .host_name = "b"}),
              HasSubstr("local-hostname: b"));
  for (const char* name : {"-a", "a-", "a..b", "a_b", ".", "a b"})
    EXPECT_THAT(message({.host_name = name}), HasSubstr("is no host name")) << name;
  EXPECT_THAT(message({.host_name = std::string(64, 'a')}), HasSubstr("is no host name"));
}

TEST(NoCloudSeed, ReadsFilesUpToALimit) {
  EXPECT_THAT(read_seed_file("/nowhere/user-data").error().message,
              HasSubstr("'/nowhere/user-data': No such file"));
  EXPECT_THAT(read_seed_file("/dev/zero").error().message, HasSubstr("larger than 16 MiB"));
  EXPECT_THAT(read_seed_file("/").error().message, HasSubstr("cannot read '/'"));
  const std::string path = testing::TempDir() + "limen-user-data-" + std::to_string(getpid());
  std::ofstream(path) << "#cloud-config\n";
  EXPECT_EQ(*read_seed_file(path), "#cloud-config\n");
  std::ofstream(path).close();
  EXPECT_EQ(*read_seed_file(path), "");
  std::remove(path.c_str());
}

}  // namespace
}  // namespace limen::cloud
