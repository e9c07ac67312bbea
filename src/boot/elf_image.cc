#include "boot/elf_image.h"

#include <elf.h>

#include <cstring>

#include "boot/little_endian.h"

namespace limen::boot {
namespace {

struct ProgramHeader {
  uint32_t type;
  uint64_t offset, virtual_address, physical_address, file_size, memory_size;
};

ProgramHeader program_header(std::span<const std::byte> file, size_t at, bool is_64_bit) {
  if (is_64_bit)
    return {field<uint32_t>(file, at),      field<uint64_t>(file, at + 8),
            field<uint64_t>(file, at + 16), field<uint64_t>(file, at + 24),
            field<uint64_t>(file, at + 32), field<uint64_t>(file, at + 40)};
  return {field<uint32_t>(file, at),      field<uint32_t>(file, at + 4),
          field<uint32_t>(file, at + 8),  field<uint32_t>(file, at + 12),
          field<uint32_t>(file, at + 16), field<uint32_t>(file, at + 20)};
}

constexpr uint64_t align_up_4(uint64_t value) { return (value + 3) & ~uint64_t{3}; }

}  // namespace

bool is_elf(std::span<const std::byte> file) {
  return file.size() >= SELFMAG && std::memcmp(file.data(), ELFMAG, SELFMAG) == 0;
}

Result<ElfImage> parse_elf(std::span<const std::byte> file, std::string_view path) {
  if (file.size() < sizeof(Elf32_Ehdr))
    return fail("kernel '{}' is truncated: {} bytes, an ELF header has {}", path, file.size(),
                sizeof(Elf32_Ehdr));
  const auto file_class = field<uint8_t>(file, EI_CLASS);
  const auto encoding = field<uint8_t>(file, EI_DATA);
  if (file_class != ELFCLASS32 && file_class != ELFCLASS64)
    return fail("kernel '{}' is corrupt: ELF class is {}, expected 1 (32-bit) or 2 (64-bit)", path,
                file_class);
  if (encoding != ELFDATA2LSB)
    return fail("kernel '{}' is not for x86: ELF byte order is {}, expected 1 (little-endian)",
                path, encoding);
  ElfImage elf;
  elf.is_64_bit = file_class == ELFCLASS64;
  if (elf.is_64_bit && file.size() < sizeof(Elf64_Ehdr))
    return fail("kernel '{}' is truncated: {} bytes, an ELF header has {}", path, file.size(),
                sizeof(Elf64_Ehdr));
  const auto machine = field<uint16_t>(file, 18);
  if (machine != EM_386 && machine != EM_X86_64)
    return fail("kernel '{}' is not for x86: ELF machine is {}, expected {} or {}", path, machine,
                EM_386, EM_X86_64);
  elf.entry = elf.is_64_bit ? field<uint64_t>(file, 24) : field<uint32_t>(file, 24);
  const uint64_t table = elf.is_64_bit ? field<uint64_t>(file, 32) : field<uint32_t>(file, 28);
  const auto entry_size = field<uint16_t>(file, elf.is_64_bit ? 54 : 42);
  const auto count = field<uint16_t>(file, elf.is_64_bit ? 56 : 44);
  const uint64_t expected_size = elf.is_64_bit ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr);
  if (entry_size != expected_size)
    return fail("kernel '{}' is corrupt: ELF program header size is {}, expected {}", path,
                entry_size, expected_size);
  if (!inside(table, uint64_t{count} * entry_size, file.size()))
    return fail(
        "kernel '{}' is truncated or corrupt: {} program headers at {:#x} end beyond its {} bytes",
        path, count, table, file.size());

  for (size_t i = 0; i < count; ++i) {
    const auto header =
        program_header(file, static_cast<size_t>(table) + i * entry_size, elf.is_64_bit);
    if (header.type != PT_LOAD && header.type != PT_NOTE) continue;
    if (!inside(header.offset, header.file_size, file.size()))
      return fail(
          "kernel '{}' is truncated or corrupt: segment {} has {:#x} bytes at {:#x}, beyond its {} "
          "bytes",
          path, i, header.file_size, header.offset, file.size());
    const auto bytes =
        file.subspan(static_cast<size_t>(header.offset), static_cast<size_t>(header.file_size));
    if (header.type == PT_NOTE) {
      elf.notes.push_back(bytes);
      continue;
    }
    if (header.memory_size == 0) continue;
    if (header.file_size > header.memory_size)
      return fail(
          "kernel '{}' is corrupt: segment {} has {:#x} bytes in the file but {:#x} in memory",
          path, i, header.file_size, header.memory_size);
    elf.segments.push_back(
        {header.physical_address, header.virtual_address, header.memory_size, bytes});
  }
  if (elf.segments.empty()) return fail("kernel '{}' is corrupt: no loadable ELF segment", path);
  return elf;
}

std::optional<std::span<const std::byte>> find_note(const ElfImage& elf, std::string_view owner,
                                                    uint32_t type) {
  constexpr uint64_t kHeaderSize = 12;
  for (const auto& notes : elf.notes) {
    uint64_t at = 0;
    while (inside(at, kHeaderSize, notes.size())) {
      const auto offset = static_cast<size_t>(at);
      const uint64_t name_size = field<uint32_t>(notes, offset);
      const uint64_t descriptor_size = field<uint32_t>(notes, offset + 4);
      const uint64_t name = at + kHeaderSize;
      const uint64_t descriptor = name + align_up_4(name_size);
      if (!inside(descriptor, descriptor_size, notes.size())) break;
      // The name counts its terminator.
      if (field<uint32_t>(notes, offset + 8) == type && name_size == owner.size() + 1 &&
          std::memcmp(notes.data() + name, owner.data(), owner.size()) == 0)
        return notes.subspan(static_cast<size_t>(descriptor), static_cast<size_t>(descriptor_size));
      at = descriptor + align_up_4(descriptor_size);
    }
  }
  return std::nullopt;
}

}  // namespace limen::boot
