#include "boot/mp_table.h"

#include <gtest/gtest.h>

#include <array>
#include <map>
#include <numeric>

#include "boot/kernel_images.h"
#include "boot/little_endian.h"

namespace limen::boot::mp {
namespace {

constexpr size_t kPointerSize = 16, kHeaderSize = 44;
constexpr std::array<uint32_t, 3> kIds = {0, 1, 4};
constexpr std::array<uint8_t, 2> kLevelLines = {5, 10};

using Bytes = std::vector<std::byte>;

/// The table's entries, each cut at the length that its type has (MP 1.4 table 4-3).
std::vector<std::span<const std::byte>> entries(std::span<const std::byte> bytes) {
  constexpr std::array<size_t, 5> kSizes = {20, 8, 8, 8, 8};
  std::vector<std::span<const std::byte>> found;
  for (auto rest = bytes.subspan(kPointerSize + kHeaderSize); !rest.empty();) {
    const size_t size = kSizes.at(size_t(rest[0]));
    found.push_back(rest.first(size));
    rest = rest.subspan(size);
  }
  return found;
}

unsigned at(std::span<const std::byte> entry, size_t offset) { return unsigned(entry[offset]); }

unsigned byte_sum(std::span<const std::byte> bytes) {
  return std::accumulate(bytes.begin(), bytes.end(), 0u,
                         [](unsigned sum, std::byte b) { return sum + unsigned(b); }) &
         0xFF;
}

TEST(MpTable, IsFoundAndItsSumsAreZero) {
  const auto bytes = build({.apic_ids = kIds});
  EXPECT_EQ(field<uint32_t>(bytes, 0), 0x5F50'4D5Fu);  // "_MP_"
  EXPECT_EQ(field<uint32_t>(bytes, 4), kTableAddress + kPointerSize);
  EXPECT_EQ(byte_sum(std::span(bytes).first(kPointerSize)), 0u);
  const auto table = std::span(bytes).subspan(kPointerSize);
  EXPECT_EQ(field<uint32_t>(table, 0), 0x504D'4350u);  // "PCMP"
  EXPECT_EQ(field<uint16_t>(table, 4), table.size());
  EXPECT_EQ(byte_sum(table), 0u);
  EXPECT_EQ(field<uint16_t>(table, 34), entries(bytes).size());
  EXPECT_EQ(field<uint32_t>(table, 36), 0xFEE0'0000u);
}

TEST(MpTable, NamesEveryProcessorAndTheBootProcessor) {
  const auto bytes =
      build({.apic_ids = kIds, .cpu_signature = 0x306C1, .cpu_features = 0x0178'BFBF});
  const auto found = entries(bytes);
  for (size_t i = 0; i < kIds.size(); ++i) {
    EXPECT_EQ(at(found[i], 0), 0u);
    EXPECT_EQ(at(found[i], 1), kIds[i]);
    EXPECT_EQ(at(found[i], 3), i == 0 ? 3u : 1u);
    EXPECT_EQ(field<uint32_t>(found[i], 4), 0x306C1u);
    EXPECT_EQ(field<uint32_t>(found[i], 8), 0x0178'BFBFu);
  }
  EXPECT_NE(at(found[kIds.size()], 0), 0u);
}

TEST(MpTable, LeavesOutProcessorsWhoseIdDoesNotFit) {
  std::vector<uint32_t> ids(300);
  std::iota(ids.begin(), ids.end(), 0u);
  unsigned processors = 0;
  const auto bytes = build({.apic_ids = ids});
  for (const auto entry : entries(bytes)) processors += at(entry, 0) == 0;
  EXPECT_EQ(processors, 255u);
}

/// I/O interrupts: ISA line -> (flags, input of the I/O APIC).
std::map<unsigned, std::pair<unsigned, unsigned>> interrupts(const Bytes& bytes) {
  std::map<unsigned, std::pair<unsigned, unsigned>> found;
  for (const auto entry : entries(bytes))
    if (at(entry, 0) == 3) found[at(entry, 5)] = {field<uint16_t>(entry, 2), at(entry, 7)};
  return found;
}

TEST(MpTable, RoutesIsaInterrupts) {
  const auto found = interrupts(build({.apic_ids = kIds, .level_lines = kLevelLines}));
  EXPECT_EQ(found.size(), 15u);
  EXPECT_FALSE(found.contains(2));
  for (const auto& [line, route] : found) {
    EXPECT_EQ(route.second, line == 0 ? 2u : line);
    EXPECT_EQ(route.first, line == 5 || line == 10 ? 0xDu : 0u) << line;
  }
  EXPECT_FALSE(interrupts(build({.apic_ids = kIds, .pit = false})).contains(0));
}

TEST(MpTable, HasNoExternalInterruptsWithoutThePic) {
  const auto local = [](bool pic) {
    std::map<unsigned, unsigned> found;  // type -> LINTn
    const auto bytes = build({.apic_ids = kIds, .pic = pic});
    for (const auto entry : entries(bytes))
      if (at(entry, 0) == 4) found[at(entry, 1)] = at(entry, 7);
    return found;
  };
  EXPECT_EQ(local(true), (std::map<unsigned, unsigned>{{3, 0}, {1, 1}}));
  EXPECT_EQ(local(false), (std::map<unsigned, unsigned>{{1, 1}}));
}

TEST(MpTable, LiesInRamWhereKernelsSearch) {
  const auto memory = make_memory(kMebibyte * 2);
  ASSERT_TRUE(install(*memory, {.apic_ids = kIds}));
  Bytes bytes(4);
  ASSERT_TRUE(memory->read({kTableAddress}, bytes));
  EXPECT_EQ(field<uint32_t>(bytes, 0), 0x5F50'4D5Fu);
}

}  // namespace
}  // namespace limen::boot::mp
