#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "boot/kernel_images.h"

namespace limen::boot {
namespace {

/// What the processor would fetch: a walk of the 4-level tables at CR3.
uint64_t translate(const memory::GuestMemory& memory, uint64_t cr3, uint64_t address) {
  uint64_t table = cr3;
  for (const unsigned shift : {39u, 30u, 21u}) {
    const auto entry = peek<uint64_t>(memory, table + 8 * ((address >> shift) & 511));
    EXPECT_EQ(entry & 3, 3u);
    if ((entry & 0x80) != 0) {
      EXPECT_EQ(shift, 21u);
      return (entry & ~uint64_t{0x1F'FFFF}) | (address & 0x1F'FFFF);
    }
    table = entry & ~uint64_t{0xFFF};
  }
  ADD_FAILURE() << "no large page";
  return UINT64_MAX;
}

TEST(LinuxLoader, EntersLongModeAtThe64BitEntry) {
  const auto memory = make_memory(64 * kMebibyte);
  const auto guest = load_kernel_image(*memory, request_for(*memory), make_bzimage(), {}).value();
  EXPECT_EQ(guest.protocol, Protocol::kLinux64);
  const auto& cpu = guest.cpu;
  const auto& system = cpu.system;
  EXPECT_EQ(cpu.rip, 0x100'0200u);
  EXPECT_EQ(peek_bytes(*memory, 0x100'0000, 64 * 1024), pattern(64 * 1024, 1));
  EXPECT_EQ(cpu.rflags & x86::rflags::kInterrupt, 0u);
  EXPECT_TRUE(system.cr0 & x86::cr0::kPaging);
  EXPECT_TRUE(system.cr0 & x86::cr0::kProtection);
  EXPECT_TRUE(system.cr4 & x86::cr4::kPae);
  EXPECT_EQ(system.efer & (x86::efer::kLme | x86::efer::kLma), x86::efer::kLme | x86::efer::kLma);
  const auto& code = system.segments[x86::kCs];
  EXPECT_EQ(code.selector, 0x10);
  EXPECT_TRUE(code.is_long());
  EXPECT_FALSE(code.default_big());
  for (const auto segment : {x86::kDs, x86::kEs, x86::kSs})
    EXPECT_EQ(system.segments[segment].selector, 0x18);
  for (const uint64_t address :
       {uint64_t{0}, cpu.rip, uint64_t{0xFEE0'0123}, uint64_t{0xFFFF'FFFF}})
    EXPECT_EQ(translate(*memory, system.cr3, address), address);
}

TEST(LinuxLoader, DescriptorTableMatchesTheLoadedSegments) {
  const auto memory = make_memory(64 * kMebibyte);
  const auto cpu = load_kernel_image(*memory, request_for(*memory), make_bzimage(), {}).value().cpu;
  for (const auto which : {x86::kCs, x86::kSs}) {
    const auto& segment = cpu.system.segments[which];
    ASSERT_LE(segment.selector + 7, cpu.system.gdtr.limit);
    const auto entry = peek<uint64_t>(*memory, cpu.system.gdtr.base + segment.selector);
    EXPECT_EQ((entry >> 40) & 0xF0FF, segment.attributes);
    EXPECT_EQ((entry & 0xFFFF) | ((entry >> 32) & 0xF0000), 0xFFFFFu);
  }
  EXPECT_EQ(cpu.system.tr.type(), 11u);
}

TEST(LinuxLoader, ZeroPageTellsTheKernelWhatItWasGiven) {
  const auto memory = make_memory(uint64_t{3} << 30);
  const auto request = request_for(*memory);
  const auto initrd = pattern(100'000, 9);
  const Module module{"initrd.img", "", initrd};
  const auto cpu =
      load_kernel_image(*memory, request, make_bzimage(), std::span(&module, 1)).value().cpu;
  const uint64_t page = cpu.gpr[x86::kRsi];
  EXPECT_EQ(peek<uint8_t>(*memory, page + 0x210), 0xFF);
  EXPECT_EQ(peek<uint32_t>(*memory, page + 0x202), 0x53726448u);
  EXPECT_EQ(peek<uint64_t>(*memory, page + 0x70), 0xF0000u);
  EXPECT_EQ(peek<uint32_t>(*memory, page + 0x214), 0x100'0000u);
  EXPECT_EQ(peek<uint64_t>(*memory, page + 0x250), 0u);
  EXPECT_EQ(peek_string(*memory, peek<uint32_t>(*memory, page + 0x228)), "console=ttyS0 quiet");

  const uint64_t place = peek<uint32_t>(*memory, page + 0x218);
  EXPECT_EQ(peek<uint32_t>(*memory, page + 0x21C), initrd.size());
  EXPECT_EQ(peek_bytes(*memory, place, initrd.size()), initrd);
  EXPECT_EQ(place % 4096, 0u);
  EXPECT_LE(place + initrd.size(), acpi_region(*memory).value);
  EXPECT_GT(place + initrd.size() + 4096, acpi_region(*memory).value);

  ASSERT_EQ(peek<uint8_t>(*memory, page + 0x1E8), request.e820.size());
  for (size_t i = 0; i < request.e820.size(); ++i) {
    const uint64_t entry = page + 0x2D0 + 20 * i;
    EXPECT_EQ(peek<uint64_t>(*memory, entry), request.e820[i].start.value);
    EXPECT_EQ(peek<uint64_t>(*memory, entry + 8), request.e820[i].size);
    EXPECT_EQ(peek<uint32_t>(*memory, entry + 16), static_cast<uint32_t>(request.e820[i].type));
  }
}

TEST(LinuxLoader, InitrdStaysBelowTheKernelsLimit) {
  auto kernel = make_bzimage();
  set_field(kernel, 0x22C, uint32_t{0x1FF'FFFF});
  const auto memory = make_memory(64 * kMebibyte);
  const auto initrd = pattern(5000, 2);
  const Module module{"initrd.img", "", initrd};
  const auto cpu =
      load_kernel_image(*memory, request_for(*memory), kernel, std::span(&module, 1)).value().cpu;
  EXPECT_EQ(peek<uint32_t>(*memory, cpu.gpr[x86::kRsi] + 0x218), 0x1FF'E000u);
}

TEST(LinuxLoader, MovesARelocatableKernelThatDoesNotFitWhereItWants) {
  auto kernel = make_bzimage();
  set_field(kernel, 0x258, uint64_t{0x1000'0000});
  const auto memory = make_memory(32 * kMebibyte);
  const auto cpu = load_kernel_image(*memory, request_for(*memory), kernel, {}).value().cpu;
  EXPECT_EQ(cpu.rip, 0x20'0200u);
  EXPECT_EQ(peek<uint32_t>(*memory, cpu.gpr[x86::kRsi] + 0x214), 0x20'0000u);
}

TEST(LinuxLoader, KernelWithout64BitEntryStartsInProtectedMode) {
  auto kernel = make_bzimage();
  set_field(kernel, 0x236, uint16_t{0});
  const auto memory = make_memory(64 * kMebibyte);
  const auto guest = load_kernel_image(*memory, request_for(*memory), kernel, {}).value();
  EXPECT_EQ(guest.protocol, Protocol::kLinux32);
  EXPECT_EQ(guest.cpu.rip, 0x100'0000u);
  EXPECT_EQ(guest.cpu.system.cr0 & x86::cr0::kPaging, 0u);
  EXPECT_EQ(guest.cpu.system.efer, 0u);
  const auto& code = guest.cpu.system.segments[x86::kCs];
  EXPECT_EQ(code.selector, 0x10);
  EXPECT_TRUE(code.default_big());
  EXPECT_EQ(code.limit, 0xFFFF'FFFFu);
  for (const auto zero : {x86::kRbx, x86::kRbp, x86::kRdi}) EXPECT_EQ(guest.cpu.gpr[zero], 0u);
}

TEST(LinuxLoader, StandsAtOneMebibyteForOldProtocols) {
  auto kernel = make_bzimage();
  set_field(kernel, 0x206, uint16_t{0x206});
  set_field(kernel, 0x234, uint8_t{0});
  const auto memory = make_memory(64 * kMebibyte);
  EXPECT_EQ(load_kernel_image(*memory, request_for(*memory), kernel, {}).value().cpu.rip,
            0x10'0000u);
}

struct Damage {
  const char* name;
  size_t offset;
  uint64_t value;
  unsigned size;
  const char* reason;
};

TEST(LinuxLoader, NamesWhatIsWrongWithADamagedKernel) {
  const Damage damages[] = {
      {"boot flag", 0x1FE, 0x1234, 2, "boot flag at 0x1fe is 0x1234, expected 0xaa55"},
      {"magic", 0x202, 0, 4, "has no known format"},
      {"old protocol", 0x206, 0x203, 2, "boot protocol 2.03: 2.06 or later"},
      {"zImage", 0x211, 0, 1, "loadflags are 0x0, expected bit 0 set"},
      {"setup_sects beyond the file", 0x1F1, 255, 1, "is truncated: 68096 bytes, expected 196608"},
      {"syssize beyond the file", 0x1F4, 0x10000, 4, "is truncated: 68096 bytes, expected 1051136"},
      {"syssize at its largest", 0x1F4, 0xFFFFFFFF, 4, "is truncated"},
      {"short header", 0x201, 0, 1, "setup header ends at 0x202"},
      {"alignment", 0x230, 3, 4, "kernel_alignment is 0x3, expected a power of two"},
      {"alignment of zero", 0x230, 0, 4, "kernel_alignment is 0x0"},
      {"payload length", 0x24C, 0xFFFFFFFF, 4, "payload of 4294967295 bytes at 0x400 ends beyond"},
      {"init_size", 0x260, 0xFFFFFFFF, 4, "does not fit in 67108864 bytes of guest memory"},
      {"command line size", 0x238, 3, 4, "command line of 19 bytes is longer than the 3"},
  };
  ASSERT_EQ(load_error(make_bzimage()), "");
  for (const auto& damage : damages) {
    SCOPED_TRACE(damage.name);
    auto kernel = make_bzimage();
    std::memcpy(kernel.data() + damage.offset, &damage.value, damage.size);
    const auto error = load_error(kernel);
    EXPECT_NE(error.find(damage.reason), std::string::npos) << error;
    EXPECT_NE(error.find("'kernel.img'"), std::string::npos) << error;
  }
}

TEST(LinuxLoader, EveryTruncationIsAnError) {
  const auto kernel = make_bzimage(4096 + 0x1000);
  for (size_t size = 0; size < kernel.size(); size += size < 1024 ? 1 : 61) {
    const Bytes part(kernel.begin(), kernel.begin() + static_cast<ptrdiff_t>(size));
    EXPECT_NE(load_error(part), "") << size;
  }
}

TEST(LinuxLoader, PreferredAddressAtTheEndOfTheAddressSpaceIsNotTaken) {
  auto kernel = make_bzimage();
  set_field(kernel, 0x234, uint8_t{0});
  set_field(kernel, 0x258, ~uint64_t{0} - 0xFFF);
  EXPECT_NE(load_error(kernel).find("at 0xfffffffffffff000"), std::string::npos);
}

TEST(LinuxLoader, InitrdThatDoesNotFitNamesAllSizes) {
  const auto initrd = pattern(60 * kMebibyte, 1);
  const auto error = load_error(make_bzimage(), 64 * kMebibyte, {{"initrd.img", "", initrd}});
  EXPECT_NE(error.find("initrd 'initrd.img' of 62914560 bytes does not fit in 67108864 bytes"),
            std::string::npos)
      << error;
}

/// Where scripts/lib/common.sh says that guests are kept; empty variables count as unset there.
std::filesystem::path cache_folder() {
  const auto variable = [](const char* name) {
    const char* const value = std::getenv(name);
    return std::filesystem::path(value == nullptr ? "" : value);
  };
  if (const auto own = variable("LIMEN_CACHE"); !own.empty()) return own;
  if (const auto all = variable("XDG_CACHE_HOME"); !all.empty()) return all / "limen";
  return variable("HOME") / ".cache/limen";
}

/// A distribution's kernel: the host's, or the one that scripts/run took out of its guest.
std::string real_kernel() {
  const std::vector<std::filesystem::path> places = {"/boot", cache_folder()};
  std::error_code none;
  for (const auto& place : places)
    for (const auto& entry : std::filesystem::recursive_directory_iterator(
             place, std::filesystem::directory_options::skip_permission_denied, none))
      if (entry.path().filename().string().starts_with("vmlinuz") && entry.is_regular_file(none))
        return entry.path();
  return "";
}

TEST(LinuxLoader, TakesADistributionsKernel) {
  const auto path = real_kernel();
  if (path.empty()) GTEST_SKIP() << "no kernel in /boot or in the cache of scripts/run";
  const auto memory = make_memory(256 * kMebibyte);
  auto request = request_for(*memory);
  request.kernel = path;
  const auto guest = load_kernel(*memory, request);
  ASSERT_TRUE(guest) << guest.error().message;
  EXPECT_EQ(guest->protocol, Protocol::kLinux64);
}

TEST(RestartCode, WritesTheResetControlRegister) {
  const auto memory = make_memory(2 * kMebibyte);
  ASSERT_TRUE(install_restart_code(*memory));
  std::vector<std::byte> code(8);
  ASSERT_TRUE(memory->read({0xF'FFF0}, code));
  // mov dx, 0CF9H; mov al, 0FH; out dx, al; hlt
  EXPECT_EQ(field<uint64_t>(code, 0), 0x00F4'EE0F'B00C'F9BAu);
}

}  // namespace
}  // namespace limen::boot
