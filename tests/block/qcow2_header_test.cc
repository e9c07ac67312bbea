#include <gtest/gtest.h>

#include "block/open_image.h"
#include "block/probe.h"
#include "block/qcow2/compression.h"
#include "block/qcow2/header.h"
#include "block/qcow2/refcounts.h"

namespace limen::block::qcow2 {
namespace {

Header small() {
  Header header;
  header.size = 1 << 20;
  header.l1_size = 1;
  header.l1_offset = 3 << 16;
  header.refcount_table_offset = 1 << 16;
  header.refcount_table_clusters = 1;
  return header;
}

std::string error_of(const std::vector<std::byte>& bytes) {
  const auto parsed = parse_header(bytes, "x.qcow2");
  return parsed ? "" : parsed.error().message;
}

TEST(Qcow2Header, ComesBackAsItWas) {
  auto header = small();
  header.backing_file = "../base image.raw";
  header.backing_format = "raw";
  header.compatible = kLazyRefcounts;
  header.incompatible = kCompressionType | kExtendedL2;
  header.compression = Compression::kZstd;
  header.refcount_order = 6;
  header.extensions = {{0x12345678, {std::byte{1}, std::byte{2}, std::byte{3}}}};
  const auto back = parse_header(serialize_header(header).value(), "x").value();
  EXPECT_EQ(back.backing_file, header.backing_file);
  EXPECT_EQ(back.backing_format, "raw");
  EXPECT_TRUE(back.lazy_refcounts());
  EXPECT_TRUE(back.extended());
  EXPECT_EQ(back.compression, Compression::kZstd);
  EXPECT_EQ(back.refcount_bits(), 64u);
  EXPECT_EQ(back.size, header.size);
  ASSERT_EQ(back.extensions.size(), 1u);
  EXPECT_EQ(back.extensions[0].type, 0x12345678u);
  EXPECT_EQ(back.extensions[0].data, header.extensions[0].data);
}

TEST(Qcow2Header, NamesUnknownFeaturesByTheImagesOwnTable) {
  auto header = small();
  header.incompatible = uint64_t{1} << 50;
  std::vector<std::byte> table(48);
  table[1] = std::byte{50};
  std::memcpy(&table[2], "time travel", 11);
  auto bytes = serialize_header(header).value();
  // Its table says nothing of bit 50: the number, then.
  EXPECT_NE(error_of(bytes).find("4000000000000"), std::string::npos) << error_of(bytes);
  // The first feature that it names becomes ours.
  std::memcpy(&bytes[kOwnHeaderSize + 8], table.data(), table.size());
  EXPECT_NE(error_of(bytes).find("time travel"), std::string::npos) << error_of(bytes);
}

TEST(Qcow2Header, RefusesWhatCannotBe) {
  struct Case {
    size_t at;
    uint64_t value;
    size_t size;
    const char* part;
  };
  for (const auto& [at, value, size, part] : {
           Case{4, 4, 4, "version 4"},
           Case{20, 8, 4, "2^8"},
           Case{20, 22, 4, "2^22"},
           Case{24, INT64_MAX, 8, "too large"},
           Case{32, 1, 4, "AES"},
           Case{32, 2, 4, "LUKS"},
           Case{36, 0x7FFFFFFF, 4, "too large"},
           Case{36, 0, 4, "L1 table is too small"},
           Case{40, 0x30200, 8, "0x30200"},
           Case{48, 0x10001, 8, "0x10001"},
           Case{56, 0, 4, "reference count table"},
           Case{56, 4096, 4, "too large"},
           Case{64, 0x123, 8, "snapshot"},
           Case{8, 0x20000, 8, "backing file offset"},
           Case{96, 7, 4, "2^7"},
           Case{100, 50, 4, "too short"},
           Case{100, 0x20000, 4, "exceeds"},
           Case{104, 1, 1, "compression type 1"},
           Case{104, 9, 1, "unknown compression type: 9"},
       }) {
    auto bytes = serialize_header(small()).value();
    for (size_t i = 0; i < size; ++i)
      bytes[at + i] = static_cast<std::byte>(value >> (8 * (size - 1 - i)));
    EXPECT_NE(error_of(bytes).find(part), std::string::npos) << part << ": " << error_of(bytes);
  }
  EXPECT_NE(error_of(std::vector<std::byte>(50)).find("not in qcow2 format"), std::string::npos);
}

TEST(Qcow2Header, LeavesFeatureNamesOutWhereThereIsNoRoom) {
  auto header = small();
  header.cluster_bits = 9;
  header.l1_size = 64;
  header.l1_offset = 3 << 9;
  header.refcount_table_offset = 1 << 9;
  header.backing_file = std::string(300, 'x');
  const auto bytes = serialize_header(header).value();
  EXPECT_EQ(bytes.size(), 512u);
  EXPECT_EQ(parse_header(bytes, "x").value().backing_file, header.backing_file);
  header.backing_file = std::string(500, 'x');
  EXPECT_FALSE(serialize_header(header));
}

TEST(Qcow2Refcounts, EveryWidthKeepsItsNeighbours) {
  for (unsigned order = 0; order <= 6; ++order) {
    std::vector<std::byte> block(512);
    const uint64_t largest = order == 6 ? UINT64_MAX : (uint64_t{1} << (1u << order)) - 1;
    const uint64_t count = (512 * 8) >> order;
    for (uint64_t i = 0; i < count; i += 2) store_refcount(block.data(), i, order, largest);
    for (uint64_t i = 0; i < count; ++i)
      ASSERT_EQ(load_refcount(block.data(), i, order), i % 2 == 0 ? largest : 0)
          << order << " " << i;
    for (uint64_t i = 0; i < count; i += 2) store_refcount(block.data(), i, order, 0);
    for (const auto byte : block) ASSERT_EQ(byte, std::byte{0});
  }
}

TEST(Qcow2Compression, ComesBackAndRefusesDamage) {
  std::vector<std::byte> cluster(65536);
  for (size_t i = 0; i < cluster.size(); ++i) cluster[i] = static_cast<std::byte>(i / 300);
  for (const auto kind : {Compression::kZlib, Compression::kZstd}) {
    auto packed = pack(kind, cluster);
    ASSERT_FALSE(packed.empty());
    ASSERT_LT(packed.size(), cluster.size() / 4);
    std::vector<std::byte> back(cluster.size());
    auto padded = packed;
    padded.resize(packed.size() + 511);
    EXPECT_TRUE(unpack(kind, padded, back));
    EXPECT_EQ(back, cluster);
    packed.resize(packed.size() / 2);
    EXPECT_FALSE(unpack(kind, packed, back));
    EXPECT_FALSE(unpack(kind, std::vector<std::byte>(100, std::byte{0xFF}), back));
  }
}

TEST(ImageProbe, KnowsFormatsByTheirFirstBytes) {
  const auto probe = [](std::string_view text) {
    return probe_format(std::as_bytes(std::span(text)));
  };
  using namespace std::string_view_literals;
  EXPECT_EQ(probe("QFI\xFB\0\0\0\3"sv), "qcow2");
  EXPECT_EQ(probe("QFI\xFB\0\0\0\1"sv), "qcow");
  EXPECT_EQ(probe("KDMV...."sv), "vmdk");
  EXPECT_EQ(probe("vhdxfile"sv), "vhdx");
  EXPECT_EQ(probe("nothing known"sv), "raw");
  EXPECT_EQ(probe(""sv), "raw");
  EXPECT_NE(check_format_supported("vhdx", "d").error().message.find("vhdx"), std::string::npos);
  EXPECT_NE(check_format_supported("qcow3", "d").error().message.find("'qcow2'"),
            std::string::npos);
}

TEST(BackingPath, BeginsInTheImagesFolder) {
  EXPECT_EQ(backing_path("/images/top.qcow2", "base.raw").value(), "/images/base.raw");
  EXPECT_EQ(backing_path("top.qcow2", "base.raw").value(), "base.raw");
  EXPECT_EQ(backing_path("a/top.qcow2", "/base.raw").value(), "/base.raw");
  EXPECT_EQ(backing_path("a/top.qcow2", "file:base:1").value(), "a/base:1");
  EXPECT_EQ(
      backing_path("a/top", R"(json:{"driver":"qcow2","file":{"driver":"file","filename":"/b"}})")
          .value(),
      "/b");
  EXPECT_NE(backing_path("a/top", "nbd://host").error().message.find("'nbd'"), std::string::npos);
}

}  // namespace
}  // namespace limen::block::qcow2
