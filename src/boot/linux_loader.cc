// The Linux boot protocol (Documentation/arch/x86/boot.rst, zero-page.rst): 64-bit entry where the
// kernel has one, else 32-bit.
#include <algorithm>
#include <bit>
#include <cstring>
#include <vector>

#include "boot/little_endian.h"
#include "boot/loaders.h"

namespace limen::boot {
namespace {

// Offsets in the file and in the zero page alike.
constexpr size_t kSetupSects = 0x1F1;
constexpr size_t kSysSize = 0x1F4;
constexpr size_t kVideoMode = 0x1FA;
constexpr size_t kBootFlag = 0x1FE;
constexpr size_t kJumpOffset = 0x201;
constexpr size_t kHeaderMagic = 0x202;
constexpr size_t kVersion = 0x206;
constexpr size_t kTypeOfLoader = 0x210;
constexpr size_t kLoadFlags = 0x211;
constexpr size_t kCode32Start = 0x214;
constexpr size_t kRamdiskImage = 0x218;
constexpr size_t kRamdiskSize = 0x21C;
constexpr size_t kCommandLinePointer = 0x228;
constexpr size_t kInitrdAddressMax = 0x22C;
constexpr size_t kKernelAlignment = 0x230;
constexpr size_t kRelocatable = 0x234;
constexpr size_t kXLoadFlags = 0x236;
constexpr size_t kCommandLineSize = 0x238;
constexpr size_t kPayloadOffset = 0x248;
constexpr size_t kPayloadLength = 0x24C;
constexpr size_t kSetupData = 0x250;
constexpr size_t kPreferredAddress = 0x258;
constexpr size_t kInitSize = 0x260;
constexpr size_t kHeaderEnd = 0x268;  ///< Of protocol 2.12; an older header is zero-extended.

// In the zero page only.
constexpr size_t kZeroPageSize = 4096;
constexpr size_t kAcpiRsdpAddress = 0x070;
constexpr size_t kE820Entries = 0x1E8;
constexpr size_t kE820Table = 0x2D0;
constexpr size_t kE820EntrySize = 20;
constexpr size_t kE820MaximumEntries = 128;
constexpr size_t kSetupHeaderLimit = 0x290;

constexpr uint32_t kMagic = 0x53726448;  // "HdrS"
constexpr uint16_t kBootFlagValue = 0xAA55;
constexpr uint8_t kLoadedHigh = 1u << 0;
constexpr uint8_t kKeepSegments = 1u << 6;
constexpr uint16_t kHas64BitEntry = 1u << 0;
constexpr uint64_t kEntry64Offset = 0x200;
constexpr uint64_t kSectorSize = 512;
constexpr uint16_t kBootCodeSelector = 0x10;  // __BOOT_CS; __BOOT_DS is 8 above

/// The setup header, its defaults for older protocols filled in and every field checked.
struct SetupHeader {
  uint16_t version = 0;
  bool has_64_bit_entry = false;
  bool relocatable = false;
  uint64_t alignment = 1;
  uint64_t preferred_address = kBiosAreaEnd;
  uint64_t memory_needed = 0;  ///< From the load address: for the image and to unpack it.
  uint64_t initrd_limit = 0;   ///< First address beyond what an initrd may use.
  uint64_t command_line_limit = 255;
  std::span<const std::byte> setup_bytes;  ///< What is copied to the zero page from kSetupSects on.
  std::span<const std::byte> payload;      ///< The protected-mode part.
};

Result<SetupHeader> parse(std::span<const std::byte> kernel, std::string_view path) {
  SetupHeader header;
  header.version = field<uint16_t>(kernel, kVersion);
  const auto major = header.version >> 8, minor = header.version & 0xFF;
  if (header.version < 0x206)
    return fail("kernel '{}' has Linux boot protocol {}.{:02}: 2.06 or later is needed", path,
                major, minor);
  const auto load_flags = field<uint8_t>(kernel, kLoadFlags);
  if ((load_flags & kLoadedHigh) == 0)
    return fail("kernel '{}' is a zImage: loadflags are {:#x}, expected bit 0 set (bzImage)", path,
                load_flags);

  uint64_t sectors = field<uint8_t>(kernel, kSetupSects);
  if (sectors == 0) sectors = 4;
  const uint64_t setup_size = (sectors + 1) * kSectorSize;
  const uint64_t payload_size = uint64_t{field<uint32_t>(kernel, kSysSize)} * 16;
  if (setup_size >= kernel.size() || payload_size > kernel.size() - setup_size)
    return fail(
        "kernel '{}' is truncated: {} bytes, expected {} (setup {} and protected-mode part {})",
        path, kernel.size(), setup_size + payload_size, setup_size, payload_size);
  header.payload = kernel.subspan(static_cast<size_t>(setup_size));

  const size_t header_end = kHeaderMagic + field<uint8_t>(kernel, kJumpOffset);
  if (header_end < kCommandLineSize + 4)
    return fail("kernel '{}' is corrupt: setup header ends at {:#x}, expected {:#x} or more", path,
                header_end, kCommandLineSize + 4);
  header.setup_bytes = kernel.subspan(
      kSetupSects, std::min({header_end, kSetupHeaderLimit, kernel.size()}) - kSetupSects);

  header.initrd_limit = uint64_t{field<uint32_t>(kernel, kInitrdAddressMax)} + 1;
  header.command_line_limit = field<uint32_t>(kernel, kCommandLineSize);
  header.relocatable = field<uint8_t>(kernel, kRelocatable) != 0;
  const auto alignment = field<uint32_t>(kernel, kKernelAlignment);
  if (header.relocatable) {
    if (!std::has_single_bit(alignment))
      return fail("kernel '{}' is corrupt: kernel_alignment is {:#x}, expected a power of two",
                  path, alignment);
    header.alignment = std::max<uint64_t>(alignment, 1);
  }
  header.memory_needed = header.payload.size();
  if (header.version >= 0x208) {
    const uint64_t offset = field<uint32_t>(kernel, kPayloadOffset);
    const uint64_t length = field<uint32_t>(kernel, kPayloadLength);
    if (!inside(offset, length, header.payload.size()))
      return fail(
          "kernel '{}' is truncated or corrupt: payload of {} bytes at {:#x} ends beyond the "
          "protected-mode part of {} bytes",
          path, length, offset, header.payload.size());
  }
  if (header.version >= 0x20A) {
    header.preferred_address = field<uint64_t>(kernel, kPreferredAddress);
    header.memory_needed =
        std::max<uint64_t>(header.memory_needed, field<uint32_t>(kernel, kInitSize));
  }
  if (header.version >= 0x20C)
    header.has_64_bit_entry = (field<uint16_t>(kernel, kXLoadFlags) & kHas64BitEntry) != 0;
  const uint64_t entry = header.has_64_bit_entry ? kEntry64Offset : 0;
  if (header.payload.size() <= entry)
    return fail(
        "kernel '{}' is truncated: protected-mode part of {} bytes ends before its entry at "
        "{:#x}",
        path, header.payload.size(), entry);
  return header;
}

/// The preferred address if it is free, else the lowest that the kernel can be moved to.
Result<uint64_t> place_kernel(const LoadContext& context, const SetupHeader& header) {
  auto& placement = context.placement;
  if (header.preferred_address >= kBiosAreaEnd &&
      placement.take(header.preferred_address, header.memory_needed))
    return header.preferred_address;
  if (header.relocatable)
    if (const auto place = placement.take_lowest(header.memory_needed, header.alignment,
                                                 kBiosAreaEnd, kHighRamStart))
      return *place;
  return fail(
      "kernel '{}' does not fit in {} bytes of guest memory: it needs {} bytes {} {:#x}, the "
      "largest "
      "free range has {}",
      context.request.kernel, context.memory.size(), header.memory_needed,
      header.relocatable ? "preferably at" : "at", header.preferred_address,
      placement.largest(kBiosAreaEnd, kHighRamStart));
}

Result<> fill_e820(std::span<std::byte> zero_page, std::span<const E820Entry> map) {
  if (map.size() > kE820MaximumEntries)
    return fail("memory map has {} entries: the Linux boot protocol takes at most {}", map.size(),
                kE820MaximumEntries);
  set_field(zero_page, kE820Entries, static_cast<uint8_t>(map.size()));
  size_t at = kE820Table;
  for (const auto& entry : map) {
    set_field(zero_page, at, entry.start.value);
    set_field(zero_page, at + 8, entry.size);
    set_field(zero_page, at + 16, static_cast<uint32_t>(entry.type));
    at += kE820EntrySize;
  }
  return {};
}

}  // namespace

bool is_linux(std::span<const std::byte> kernel) {
  return kernel.size() >= kHeaderEnd && field<uint16_t>(kernel, kBootFlag) == kBootFlagValue &&
         field<uint32_t>(kernel, kHeaderMagic) == kMagic;
}

Result<LoadedGuest> load_linux(const LoadContext& context) {
  const auto& request = context.request;
  const auto header = LIMEN_TRY(parse(context.kernel, request.kernel));
  if (request.command_line.size() > header.command_line_limit)
    return fail("command line of {} bytes is longer than the {} that kernel '{}' takes",
                request.command_line.size(), header.command_line_limit, request.kernel);

  // The tables first, below 1 MiB: the kernel's and the initrd's places never reach there.
  const uint64_t gdt = LIMEN_TRY(place_structure(context, kGdtSize, memory::kPageSize, "GDT"));
  const uint64_t zero_page =
      LIMEN_TRY(place_structure(context, kZeroPageSize, memory::kPageSize, "zero page"));
  const uint64_t page_tables =
      LIMEN_TRY(place_structure(context, kPageTablesSize, memory::kPageSize, "page tables"));
  const uint64_t command_line =
      LIMEN_TRY(place_string(context, request.command_line, "command line"));
  const uint64_t load_address = LIMEN_TRY(place_kernel(context, header));
  LIMEN_TRY(context.memory.write({load_address}, header.payload));

  std::vector<std::byte> page(kZeroPageSize);
  std::ranges::copy(header.setup_bytes, page.begin() + kSetupSects);
  if (!context.modules.empty()) {
    const auto& initrd = context.modules.front();
    const uint64_t place = LIMEN_TRY(place_module(context, initrd, header.initrd_limit));
    set_field(page, kRamdiskImage, static_cast<uint32_t>(place));
    set_field(page, kRamdiskSize, static_cast<uint32_t>(initrd.bytes.size()));
  } else {
    set_field(page, kRamdiskImage, uint32_t{0});
    set_field(page, kRamdiskSize, uint32_t{0});
  }
  const auto load_flags = static_cast<uint8_t>(page[kLoadFlags]);
  set_field(page, kLoadFlags, static_cast<uint8_t>(load_flags & ~kKeepSegments));
  set_field(page, kTypeOfLoader, uint8_t{0xFF});  // no number was assigned to us
  set_field(page, kVideoMode, uint16_t{0xFFFF});  // "normal": text, as the firmware left it
  set_field(page, kCode32Start, static_cast<uint32_t>(load_address));
  set_field(page, kCommandLinePointer, static_cast<uint32_t>(command_line));
  set_field(page, kSetupData, uint64_t{0});
  set_field(page, kAcpiRsdpAddress, request.rsdp.value);
  LIMEN_TRY(fill_e820(page, request.e820));
  LIMEN_TRY(context.memory.write({zero_page}, page));

  LoadedGuest guest;
  if (header.has_64_bit_entry) {
    guest.protocol = Protocol::kLinux64;
    guest.cpu = LIMEN_TRY(long_mode_cpu(context, gdt, kBootCodeSelector, page_tables));
    guest.cpu.rip = load_address + kEntry64Offset;
  } else {
    guest.protocol = Protocol::kLinux32;
    guest.cpu = LIMEN_TRY(flat_cpu(context, gdt, kBootCodeSelector));
    guest.cpu.rip = load_address;
  }
  guest.cpu.gpr[x86::kRsi] = zero_page;
  return guest;
}

}  // namespace limen::boot
