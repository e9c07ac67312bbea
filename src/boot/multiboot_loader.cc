// Multiboot 0.6.96: 32-bit ELF kernels, or any image whose header says where it goes.
#include <algorithm>
#include <vector>

#include "base/log.h"
#include "boot/little_endian.h"
#include "boot/loaders.h"

namespace limen::boot {
namespace {

constexpr uint32_t kHeaderMagic = 0x1BAD'B002;
constexpr uint32_t kLoaderMagic = 0x2BAD'B002;
constexpr size_t kSearchLimit = 8192;
constexpr size_t kHeaderSize = 12;
constexpr size_t kHeaderSizeWithAddresses = 32;

// Flags of the header (3.1.2). The low half is what the kernel cannot do without.
constexpr uint32_t kWantsVideoMode = 1u << 2;
constexpr uint32_t kUnderstood = 0x7;
constexpr uint32_t kRequiredMask = 0xFFFF;
constexpr uint32_t kHasAddresses = 1u << 16;

// Flags and offsets of the information structure (3.3).
constexpr uint32_t kInfoMemory = 1u << 0;
constexpr uint32_t kInfoBootDevice = 1u << 1;
constexpr uint32_t kInfoCommandLine = 1u << 2;
constexpr uint32_t kInfoModules = 1u << 3;
constexpr uint32_t kInfoMemoryMap = 1u << 6;
constexpr uint32_t kInfoLoaderName = 1u << 9;
constexpr size_t kInfoSize = 116;
constexpr uint32_t kNoBootDevice = 0x8000'FFFF;

constexpr uint16_t kCodeSelector = 0x08;

/// The image as one segment, from the addresses in its header (3.1.3).
Result<ElfImage> image_from_addresses(const LoadContext& context, size_t header) {
  const auto& path = context.request.kernel;
  const auto file = context.kernel;
  if (!inside(header, kHeaderSizeWithAddresses, file.size()))
    return fail("kernel '{}' is truncated: Multiboot header at {:#x} ends beyond its {} bytes",
                path, header, file.size());
  const uint64_t header_address = field<uint32_t>(file, header + 12);
  const uint64_t load_address = field<uint32_t>(file, header + 16);
  const uint64_t load_end = field<uint32_t>(file, header + 20);
  const uint64_t bss_end = field<uint32_t>(file, header + 24);
  const uint64_t entry = field<uint32_t>(file, header + 28);
  if (load_address > header_address || header_address - load_address > header)
    return fail(
        "kernel '{}' is corrupt: Multiboot load_addr is {:#x}, expected {:#x} to {:#x} for a "
        "header "
        "at file offset {:#x}",
        path, load_address, header_address - std::min<uint64_t>(header, header_address),
        header_address, header);
  const uint64_t start = header - (header_address - load_address);
  uint64_t size = file.size() - start;
  if (load_end != 0) {
    if (load_end < load_address || load_end - load_address > size)
      return fail(
          "kernel '{}' is truncated or corrupt: Multiboot load_end_addr is {:#x}, expected {:#x} "
          "to "
          "{:#x}",
          path, load_end, load_address, load_address + size);
    size = load_end - load_address;
  }
  uint64_t memory_size = size;
  if (bss_end != 0) {
    if (bss_end < load_address + size)
      return fail("kernel '{}' is corrupt: Multiboot bss_end_addr is {:#x}, expected {:#x} or more",
                  path, bss_end, load_address + size);
    memory_size = bss_end - load_address;
  }
  ElfImage image;
  image.entry = entry;
  image.segments.push_back({load_address, load_address, memory_size,
                            file.subspan(static_cast<size_t>(start), static_cast<size_t>(size))});
  return image;
}

/// An ELF entry is a virtual address, the processor starts with paging off.
uint64_t physical_entry(const ElfImage& image) {
  for (const auto& segment : image.segments)
    if (image.entry - segment.virtual_address < segment.memory_size)
      return segment.physical_address + (image.entry - segment.virtual_address);
  return image.entry;
}

std::vector<std::byte> memory_map(std::span<const E820Entry> e820) {
  std::vector<std::byte> map;
  for (const auto& range : e820) {
    append(map, uint32_t{20});  // of the rest of the entry
    append(map, range.start.value);
    append(map, range.size);
    append(map, static_cast<uint32_t>(range.type));
  }
  return map;
}

/// KiB of RAM that begin at `start` in the map.
uint32_t kibibytes_from(std::span<const E820Entry> e820, uint64_t start) {
  for (const auto& range : e820)
    if (range.type == E820Type::kRam && range.start.value == start)
      return static_cast<uint32_t>(std::min<uint64_t>(range.size >> 10, UINT32_MAX));
  return 0;
}

}  // namespace

std::optional<size_t> find_multiboot_header(std::span<const std::byte> kernel) {
  const size_t limit = std::min(kernel.size(), kSearchLimit);
  for (size_t at = 0; at + kHeaderSize <= limit; at += 4)
    if (field<uint32_t>(kernel, at) == kHeaderMagic && field<uint32_t>(kernel, at) +
                                                               field<uint32_t>(kernel, at + 4) +
                                                               field<uint32_t>(kernel, at + 8) ==
                                                           0)
      return at;
  return std::nullopt;
}

Result<LoadedGuest> load_multiboot(const LoadContext& context, size_t header, const ElfImage* elf) {
  const auto& request = context.request;
  const auto flags = field<uint32_t>(context.kernel, header + 4);
  if (const uint32_t unknown = flags & kRequiredMask & ~kUnderstood; unknown != 0)
    return fail("kernel '{}' needs Multiboot features {:#x}: only {:#x} are known", request.kernel,
                unknown, kUnderstood);
  if ((flags & kWantsVideoMode) != 0)
    log::warning("kernel '{}' asks for a video mode: none is set", request.kernel);

  ElfImage image;
  if ((flags & kHasAddresses) != 0) {
    image = LIMEN_TRY(image_from_addresses(context, header));
  } else if (elf == nullptr) {
    return fail(
        "kernel '{}' has a Multiboot header without addresses (flags {:#x}, expected bit 16 "
        "set) and is not ELF",
        request.kernel, flags);
  } else if (elf->is_64_bit) {
    return fail("kernel '{}' is a 64-bit ELF: Multiboot takes 32-bit ones only", request.kernel);
  } else {
    image = *elf;
  }
  LIMEN_TRY(load_segments(context, image));

  std::vector<std::byte> module_list;
  for (const auto& module : context.modules) {
    const uint64_t place = LIMEN_TRY(place_module(context, module, kHighRamStart));
    append(module_list, static_cast<uint32_t>(place));
    append(module_list, static_cast<uint32_t>(place + module.bytes.size()));
    append(module_list, static_cast<uint32_t>(LIMEN_TRY(
                            place_string(context, module.command_line, "module command line"))));
    append(module_list, uint32_t{0});
  }
  const auto map = memory_map(request.e820);
  // The first word is the kernel's name, as GRUB has it.
  const std::string command_line =
      request.command_line.empty() ? request.kernel : request.kernel + " " + request.command_line;

  std::vector<std::byte> info(kInfoSize);
  const auto set = [&info](size_t offset, uint64_t value) {
    set_field(info, offset, static_cast<uint32_t>(value));
  };
  set(0, kInfoMemory | kInfoBootDevice | kInfoCommandLine | kInfoModules | kInfoMemoryMap |
             kInfoLoaderName);
  set(4, kibibytes_from(request.e820, 0));
  set(8, kibibytes_from(request.e820, kBiosAreaEnd));
  set(12, kNoBootDevice);
  set(16, LIMEN_TRY(place_string(context, command_line, "command line")));
  set(20, context.modules.size());
  set(24, LIMEN_TRY(place_bytes(context, module_list, "Multiboot module list")));
  set(44, map.size());
  set(48, LIMEN_TRY(place_bytes(context, map, "Multiboot memory map")));
  set(64, LIMEN_TRY(place_string(context, "limen", "boot loader name")));
  const uint64_t info_address = LIMEN_TRY(place_bytes(context, info, "Multiboot information"));

  LoadedGuest guest{.protocol = Protocol::kMultiboot, .cpu = {}};
  const uint64_t gdt = LIMEN_TRY(place_structure(context, kGdtSize, 16, "GDT"));
  guest.cpu = LIMEN_TRY(flat_cpu(context, gdt, kCodeSelector));
  guest.cpu.rip = physical_entry(image) & 0xFFFF'FFFF;
  guest.cpu.gpr[x86::kRax] = kLoaderMagic;
  guest.cpu.gpr[x86::kRbx] = info_address;
  return guest;
}

}  // namespace limen::boot
