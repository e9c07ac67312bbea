#include <gtest/gtest.h>

#include "boot/kernel_images.h"

namespace limen::boot {
namespace {

constexpr uint64_t kText = 0x100'0000;
constexpr uint64_t kEntry = kText + 0x100;

Bytes make_kernel(bool is_64_bit, bool wide_note = true) {
  return make_elf(is_64_bit, 0xFFFF'FFFF'8100'0000,
                  {{.address = kText, .bytes = pattern(5000, 3), .memory_size = 20000},
                   make_pvh_note(kEntry, wide_note)});
}

TEST(PvhLoader, EntersFlatProtectedModeWithTheStartInfo) {
  for (const bool is_64_bit : {false, true}) {
    const auto memory = make_memory(64 * kMebibyte);
    // What lay in the kernel's BSS before must be gone.
    ASSERT_TRUE(memory->write({kText + 5000}, pattern(15000, 8)));
    const auto initrd = pattern(3000, 4);
    const Module module{"initrd.img", "", initrd};
    const auto request = request_for(*memory);
    const auto guest = load_kernel_image(*memory, request, make_kernel(is_64_bit, is_64_bit),
                                         std::span(&module, 1))
                           .value();
    EXPECT_EQ(guest.protocol, Protocol::kPvh);
    EXPECT_EQ(guest.cpu.rip, kEntry);
    EXPECT_EQ(guest.cpu.system.cr0 & x86::cr0::kPaging, 0u);
    EXPECT_EQ(guest.cpu.system.cr4, 0u);
    EXPECT_TRUE(guest.cpu.system.segments[x86::kCs].default_big());
    EXPECT_EQ(guest.cpu.system.tr.limit, 0x67u);
    EXPECT_EQ(peek_bytes(*memory, kText, 5000), pattern(5000, 3));
    EXPECT_EQ(peek_bytes(*memory, kText + 5000, 15000), Bytes(15000));

    const uint64_t info = guest.cpu.gpr[x86::kRbx];
    EXPECT_EQ(peek<uint32_t>(*memory, info), 0x336EC578u);
    EXPECT_EQ(peek<uint32_t>(*memory, info + 4), 1u);
    ASSERT_EQ(peek<uint32_t>(*memory, info + 12), 1u);
    const auto list = peek<uint64_t>(*memory, info + 16);
    EXPECT_EQ(peek_bytes(*memory, peek<uint64_t>(*memory, list), 3000), initrd);
    EXPECT_EQ(peek<uint64_t>(*memory, list + 8), 3000u);
    EXPECT_EQ(peek_string(*memory, peek<uint64_t>(*memory, info + 24)), "console=ttyS0 quiet");
    EXPECT_EQ(peek<uint64_t>(*memory, info + 32), 0xF0000u);
    const auto map = peek<uint64_t>(*memory, info + 40);
    ASSERT_EQ(peek<uint32_t>(*memory, info + 48), request.e820.size());
    for (size_t i = 0; i < request.e820.size(); ++i) {
      EXPECT_EQ(peek<uint64_t>(*memory, map + 24 * i), request.e820[i].start.value);
      EXPECT_EQ(peek<uint64_t>(*memory, map + 24 * i + 8), request.e820[i].size);
      EXPECT_EQ(peek<uint32_t>(*memory, map + 24 * i + 16),
                static_cast<uint32_t>(request.e820[i].type));
    }
  }
}

TEST(PvhLoader, KernelInLowMemoryIsNotOverlaidByTheTables) {
  const auto text = pattern(0x9'0000, 5);
  const auto memory = make_memory(16 * kMebibyte);
  const auto kernel =
      make_elf(true, 0, {{.address = 0x1000, .bytes = text}, make_pvh_note(0x1000, true)});
  ASSERT_TRUE(load_kernel_image(*memory, request_for(*memory), kernel, {}));
  EXPECT_EQ(peek_bytes(*memory, 0x1000, text.size()), text);
}

TEST(PvhLoader, SegmentsOutsideRamOrOverEachOtherAreErrors) {
  const auto note = make_pvh_note(kEntry, true);
  const std::vector<std::vector<ElfPart>> bad = {
      {{.address = 63 * kMebibyte, .bytes = pattern(64, 1), .memory_size = 2 * kMebibyte}, note},
      {{.address = ~uint64_t{0} - 10, .bytes = pattern(64, 1)}, note},
      {{.address = kText, .bytes = pattern(64, 1), .memory_size = ~uint64_t{0}}, note},
      {{.address = kText, .bytes = pattern(64, 1)},
       {.address = kText, .bytes = pattern(8, 1)},
       note},
      {{.address = 0xA'0000, .bytes = pattern(64, 1)}, note},
  };
  for (const auto& parts : bad) {
    const auto error = load_error(make_elf(true, kEntry, parts));
    EXPECT_NE(error.find("does not fit in 67108864 bytes"), std::string::npos) << error;
  }
}

struct Damage {
  const char* name;
  size_t offset;
  uint64_t value;
  unsigned size;
  const char* reason;
};

TEST(PvhLoader, NamesWhatIsWrongWithADamagedKernel) {
  const Damage damages[] = {
      {"class", 4, 9, 1, "ELF class is 9"},
      {"byte order", 5, 2, 1, "ELF byte order is 2"},
      {"machine", 18, 183, 2, "ELF machine is 183"},
      {"header size", 54, 8, 2, "program header size is 8, expected 56"},
      {"header count", 56, 0xFFFF, 2, "65535 program headers"},
      {"header offset", 32, ~uint64_t{0}, 8, "program headers at 0xffffffffffffffff"},
      {"segment offset", 64 + 8, ~uint64_t{0} - 5, 8, "segment 0 has"},
      {"file size", 64 + 32, ~uint64_t{0}, 8, "segment 0 has"},
      {"memory size", 64 + 40, 16, 8, "0x1388 bytes in the file but 0x10 in memory"},
      {"no load segment", 64, 7, 4, "no loadable ELF segment"},
      {"no note", 64 + 56, 7, 4, "without a PVH entry note or a Multiboot header"},
  };
  ASSERT_EQ(load_error(make_kernel(true)), "");
  for (const auto& damage : damages) {
    SCOPED_TRACE(damage.name);
    auto kernel = make_kernel(true);
    std::memcpy(kernel.data() + damage.offset, &damage.value, damage.size);
    const auto error = load_error(kernel);
    EXPECT_NE(error.find(damage.reason), std::string::npos) << error;
    EXPECT_NE(error.find("'kernel.img'"), std::string::npos) << error;
  }
}

TEST(PvhLoader, EntryAboveFourGibibytesIsAnError) {
  const auto error = load_error(make_elf(
      true, 0, {{.address = kText, .bytes = pattern(64, 1)}, make_pvh_note(0x1'0000'0000, true)}));
  EXPECT_NE(error.find("PVH entry 0x100000000 is above 4 GiB"), std::string::npos) << error;
}

TEST(PvhLoader, EveryTruncationIsAnError) {
  const auto kernel = make_kernel(true);
  for (size_t size = 0; size < kernel.size(); size += 7) {
    const Bytes part(kernel.begin(), kernel.begin() + static_cast<ptrdiff_t>(size));
    EXPECT_NE(load_error(part), "") << size;
  }
}

}  // namespace
}  // namespace limen::boot
