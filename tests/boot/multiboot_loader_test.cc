#include <gtest/gtest.h>

#include "boot/kernel_images.h"

namespace limen::boot {
namespace {

constexpr uint32_t kAddresses = 1u << 16;
constexpr uint32_t kLoad = 0x40'0000;

/// Padding, a header at 64 that says where all of it goes, and text.
Bytes make_flat(uint32_t header_address, uint32_t load, uint32_t load_end, uint32_t bss_end,
                uint32_t entry) {
  Bytes image = pattern(64, 1);
  const auto header =
      make_multiboot_header(kAddresses | 3, {header_address, load, load_end, bss_end, entry});
  image.insert(image.end(), header.begin(), header.end());
  image.resize(4096);
  return image;
}

Bytes make_elf_kernel(bool is_64_bit, uint64_t virtual_offset = 0, bool pvh = false) {
  auto text = make_multiboot_header(3);
  text.resize(1000);
  std::vector<ElfPart> parts = {{.address = kLoad, .bytes = text, .memory_size = 5000}};
  if (pvh) parts.push_back(make_pvh_note(kLoad + 16, true));
  return make_elf(is_64_bit, kLoad + 32 + virtual_offset, parts, virtual_offset);
}

TEST(MultibootLoader, LoadsA32BitElfAndFillsInTheInformation) {
  const auto memory = make_memory(64 * kMebibyte);
  const auto request = request_for(*memory);
  const auto first = pattern(3000, 4), second = pattern(17, 6);
  const Module modules[] = {{"one", "one with arguments", first}, {"two", "two", second}};
  const auto guest = load_kernel_image(*memory, request, make_elf_kernel(false), modules).value();
  EXPECT_EQ(guest.protocol, Protocol::kMultiboot);
  EXPECT_EQ(guest.cpu.rip, kLoad + 32);
  EXPECT_EQ(guest.cpu.gpr[x86::kRax], 0x2BADB002u);
  EXPECT_EQ(guest.cpu.system.cr0 & x86::cr0::kPaging, 0u);
  EXPECT_TRUE(guest.cpu.system.cr0 & x86::cr0::kProtection);
  EXPECT_EQ(guest.cpu.rflags & x86::rflags::kInterrupt, 0u);

  const uint64_t info = guest.cpu.gpr[x86::kRbx];
  const auto at = [&](uint64_t offset) { return peek<uint32_t>(*memory, info + offset); };
  EXPECT_EQ(at(0), 0x24Fu);
  EXPECT_EQ(at(4), 639u);
  EXPECT_EQ(at(8), (64 * 1024 - 1024 - 128));
  EXPECT_EQ(peek_string(*memory, at(16)), "kernel.img console=ttyS0 quiet");
  ASSERT_EQ(at(20), 2u);
  const uint64_t list = at(24);
  for (unsigned i = 0; i < 2; ++i) {
    const auto start = peek<uint32_t>(*memory, list + 16 * i);
    const auto end = peek<uint32_t>(*memory, list + 16 * i + 4);
    EXPECT_EQ(start % 4096, 0u);
    EXPECT_EQ(end - start, modules[i].bytes.size());
    EXPECT_EQ(peek_bytes(*memory, start, end - start),
              Bytes(modules[i].bytes.begin(), modules[i].bytes.end()));
    EXPECT_EQ(peek_string(*memory, peek<uint32_t>(*memory, list + 16 * i + 8)),
              modules[i].command_line);
  }
  uint64_t map = at(48);
  const uint64_t map_end = map + at(44);
  for (const auto& entry : request.e820) {
    ASSERT_LT(map, map_end);
    EXPECT_EQ(peek<uint64_t>(*memory, map + 4), entry.start.value);
    EXPECT_EQ(peek<uint64_t>(*memory, map + 12), entry.size);
    EXPECT_EQ(peek<uint32_t>(*memory, map + 20), static_cast<uint32_t>(entry.type));
    map += peek<uint32_t>(*memory, map) + 4;
  }
  EXPECT_EQ(map, map_end);
  EXPECT_EQ(peek_string(*memory, at(64)), "limen");
}

TEST(MultibootLoader, EntryOfAHigherHalfKernelIsTranslated) {
  const auto memory = make_memory(64 * kMebibyte);
  const auto guest =
      load_kernel_image(*memory, request_for(*memory), make_elf_kernel(false, 0xC000'0000), {})
          .value();
  EXPECT_EQ(guest.cpu.rip, kLoad + 32);
}

TEST(MultibootLoader, AddressesInTheHeaderPlaceAnyImage) {
  const auto memory = make_memory(64 * kMebibyte);
  ASSERT_TRUE(memory->write({kLoad}, pattern(9000, 8)));
  // Loads from file offset 32 on: the header, at 64, goes to kLoad + 32.
  const auto image = make_flat(kLoad + 32, kLoad, kLoad + 2000, kLoad + 8000, kLoad + 100);
  const auto guest = load_kernel_image(*memory, request_for(*memory), image, {}).value();
  EXPECT_EQ(guest.cpu.rip, kLoad + 100);
  EXPECT_EQ(peek_bytes(*memory, kLoad, 2000), Bytes(image.begin() + 32, image.begin() + 2032));
  EXPECT_EQ(peek_bytes(*memory, kLoad + 2000, 6000), Bytes(6000));
  EXPECT_EQ(peek_bytes(*memory, kLoad + 8000, 1), Bytes(1, pattern(9000, 8)[8000]));
}

TEST(MultibootLoader, WithoutAnEndTheWholeFileIsLoaded) {
  const auto memory = make_memory(64 * kMebibyte);
  const auto image = make_flat(kLoad + 64, kLoad, 0, 0, kLoad + 100);
  ASSERT_TRUE(load_kernel_image(*memory, request_for(*memory), image, {}));
  EXPECT_EQ(peek_bytes(*memory, kLoad, image.size()), image);
}

TEST(MultibootLoader, AddressesThatContradictTheFileAreErrors) {
  const auto expect = [](const Bytes& image, const char* reason) {
    const auto error = load_error(image);
    EXPECT_NE(error.find(reason), std::string::npos) << error;
  };
  expect(make_flat(kLoad, kLoad + 1, 0, 0, kLoad), "load_addr is 0x400001");
  expect(make_flat(kLoad + 65, kLoad, 0, 0, kLoad), "load_addr is 0x400000");
  expect(make_flat(kLoad + 64, kLoad, kLoad - 1, 0, kLoad), "load_end_addr is 0x3fffff");
  expect(make_flat(kLoad + 64, kLoad, kLoad + 4097, 0, kLoad), "load_end_addr is 0x401001");
  expect(make_flat(kLoad + 64, kLoad, 0, kLoad + 4095, kLoad), "bss_end_addr is 0x400fff");
  expect(make_flat(0xFFFF'FFF0, 0xFFFF'FFE0, 0, 0, 0), "does not fit");
  expect(make_flat(64, 0, 0, 0, 0), "does not fit");
  auto cut = make_flat(kLoad + 64, kLoad, 0, 0, kLoad);
  cut.resize(64 + 20);
  expect(cut, "Multiboot header at 0x40 ends beyond its 84 bytes");
}

TEST(MultibootLoader, UnknownRequirementsAreRefused) {
  auto text = make_multiboot_header(1u << 5);
  text.resize(100);
  const auto error = load_error(make_elf(false, kLoad, {{.address = kLoad, .bytes = text}}));
  EXPECT_NE(error.find("needs Multiboot features 0x20"), std::string::npos) << error;
}

TEST(MultibootLoader, HeaderWithAWrongSumIsNoHeader) {
  auto text = make_multiboot_header(3);
  text[8] ^= std::byte{1};
  const auto error = load_error(make_elf(false, kLoad, {{.address = kLoad, .bytes = text}}));
  EXPECT_NE(error.find("without a PVH entry note or a Multiboot header"), std::string::npos);
}

TEST(MultibootLoader, Refuses64BitElfUnlessItHasAPvhEntry) {
  const auto error = load_error(make_elf_kernel(true));
  EXPECT_NE(error.find("64-bit ELF: Multiboot takes 32-bit ones only"), std::string::npos) << error;
  const auto memory = make_memory(64 * kMebibyte);
  const auto guest =
      load_kernel_image(*memory, request_for(*memory), make_elf_kernel(true, 0, true), {}).value();
  EXPECT_EQ(guest.protocol, Protocol::kPvh);
}

TEST(MultibootLoader, HeaderWithoutAddressesNeedsElf) {
  auto image = make_multiboot_header(3);
  image.resize(1000);
  const auto error = load_error(image);
  EXPECT_NE(error.find("without addresses"), std::string::npos) << error;
}

}  // namespace
}  // namespace limen::boot
