// Kernels made by hand, field by field, for the loaders' tests.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "boot/kernel_loader.h"
#include "boot/little_endian.h"
#include "boot/memory_map.h"

namespace limen::boot {

using Bytes = std::vector<std::byte>;

inline constexpr uint64_t kMebibyte = uint64_t{1} << 20;
inline constexpr size_t kSetupSize = 512 * 5;

inline std::unique_ptr<memory::GuestMemory> make_memory(uint64_t size) {
  return memory::GuestMemory::create(ram_layout(size).value()).value();
}

inline Bytes pattern(size_t size, unsigned seed) {
  Bytes bytes(size);
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>((i * 7 + seed) & 0xFF);
  return bytes;
}

template <typename T>
T peek(const memory::GuestMemory& memory, uint64_t address) {
  Bytes bytes(sizeof(T));
  EXPECT_TRUE(memory.read({address}, bytes)) << std::hex << address;
  return field<T>(bytes, 0);
}

inline Bytes peek_bytes(const memory::GuestMemory& memory, uint64_t address, size_t size) {
  Bytes bytes(size);
  EXPECT_TRUE(memory.read({address}, bytes)) << std::hex << address;
  return bytes;
}

inline std::string peek_string(const memory::GuestMemory& memory, uint64_t address) {
  std::string text;
  while (const auto c = peek<char>(memory, address++)) text += c;
  return text;
}

/// A bzImage of protocol 2.15 with a payload of `payload_size` bytes of pattern().
inline Bytes make_bzimage(size_t payload_size = 64 * 1024) {
  Bytes image(kSetupSize);
  const auto set = [&image](size_t offset, auto value) { set_field(image, offset, value); };
  set(0x1F1, uint8_t{kSetupSize / 512 - 1});
  set(0x1F4, static_cast<uint32_t>(payload_size / 16));
  set(0x1FE, uint16_t{0xAA55});
  set(0x200, uint16_t{0x6AEB});  // jmp to 26Ch
  set(0x202, uint32_t{0x53726448});
  set(0x206, uint16_t{0x20F});
  set(0x211, uint8_t{1});
  set(0x214, uint32_t{0x100000});
  set(0x22C, uint32_t{0x7FFF'FFFF});
  set(0x230, uint32_t{0x20'0000});
  set(0x234, uint8_t{1});
  set(0x236, uint16_t{1});
  set(0x238, uint32_t{2047});
  set(0x248, uint32_t{0x400});
  set(0x24C, uint32_t{0x1000});
  set(0x258, uint64_t{0x100'0000});
  set(0x260, static_cast<uint32_t>(4 * kMebibyte));
  const auto payload = pattern(payload_size, 1);
  image.insert(image.end(), payload.begin(), payload.end());
  return image;
}

struct ElfPart {
  uint32_t type = 1;  // PT_LOAD
  uint64_t address = 0;
  Bytes bytes;
  uint64_t memory_size = 0;
};

/// An ELF executable; virtual addresses are `virtual_offset` above the physical ones.
inline Bytes make_elf(bool is_64_bit, uint64_t entry, const std::vector<ElfPart>& parts,
                      uint64_t virtual_offset = 0) {
  Bytes elf(is_64_bit ? 64 : 52);
  const size_t header_size = is_64_bit ? 56 : 32;
  set_field(elf, 0, uint32_t{0x464C457F});
  set_field(elf, 4, static_cast<uint8_t>(is_64_bit ? 2 : 1));
  set_field(elf, 5, uint8_t{1});
  set_field(elf, 6, uint8_t{1});
  set_field(elf, 16, uint16_t{2});
  set_field(elf, 18, static_cast<uint16_t>(is_64_bit ? 62 : 3));
  const size_t table = elf.size();
  if (is_64_bit) {
    set_field(elf, 24, entry);
    set_field(elf, 32, uint64_t{table});
  } else {
    set_field(elf, 24, static_cast<uint32_t>(entry));
    set_field(elf, 28, static_cast<uint32_t>(table));
  }
  set_field(elf, is_64_bit ? 54 : 42, static_cast<uint16_t>(header_size));
  set_field(elf, is_64_bit ? 56 : 44, static_cast<uint16_t>(parts.size()));
  elf.resize(table + header_size * parts.size());
  for (size_t i = 0; i < parts.size(); ++i) {
    const auto& part = parts[i];
    const size_t at = table + header_size * i;
    const uint64_t memory_size = part.memory_size ? part.memory_size : part.bytes.size();
    set_field(elf, at, part.type);
    if (is_64_bit) {
      set_field(elf, at + 8, uint64_t{elf.size()});
      set_field(elf, at + 16, part.address + virtual_offset);
      set_field(elf, at + 24, part.address);
      set_field(elf, at + 32, uint64_t{part.bytes.size()});
      set_field(elf, at + 40, memory_size);
    } else {
      set_field(elf, at + 4, static_cast<uint32_t>(elf.size()));
      set_field(elf, at + 8, static_cast<uint32_t>(part.address + virtual_offset));
      set_field(elf, at + 12, static_cast<uint32_t>(part.address));
      set_field(elf, at + 16, static_cast<uint32_t>(part.bytes.size()));
      set_field(elf, at + 20, static_cast<uint32_t>(memory_size));
    }
    elf.insert(elf.end(), part.bytes.begin(), part.bytes.end());
  }
  return elf;
}

/// A PT_NOTE segment with the PVH entry, behind a note of someone else's.
inline ElfPart make_pvh_note(uint64_t entry, bool wide) {
  ElfPart part{.type = 4, .bytes = {}};
  const auto note = [&part](std::string_view owner, uint32_t type, const Bytes& descriptor) {
    append(part.bytes, static_cast<uint32_t>(owner.size() + 1));
    append(part.bytes, static_cast<uint32_t>(descriptor.size()));
    append(part.bytes, type);
    for (const char c : owner) part.bytes.push_back(static_cast<std::byte>(c));
    part.bytes.push_back(std::byte{0});
    while (part.bytes.size() % 4 != 0) part.bytes.push_back(std::byte{0});
    part.bytes.insert(part.bytes.end(), descriptor.begin(), descriptor.end());
    while (part.bytes.size() % 4 != 0) part.bytes.push_back(std::byte{0});
  };
  note("Linux", 18, Bytes(5));
  Bytes descriptor;
  if (wide)
    append(descriptor, entry);
  else
    append(descriptor, static_cast<uint32_t>(entry));
  note("Xen", 18, descriptor);
  return part;
}

/// A Multiboot header, with the address fields if `addresses` has them.
inline Bytes make_multiboot_header(uint32_t flags, const std::vector<uint32_t>& addresses = {}) {
  Bytes header;
  append(header, uint32_t{0x1BADB002});
  append(header, flags);
  append(header, uint32_t{0} - uint32_t{0x1BADB002} - flags);
  for (const uint32_t address : addresses) append(header, address);
  return header;
}

inline LoadRequest request_for(const memory::GuestMemory& memory) {
  return {.kernel = "kernel.img",
          .initrd = "",
          .command_line = "console=ttyS0 quiet",
          .e820 = e820_map(memory),
          .rsdp = {0xF0000}};
}

/// The error of loading these bytes, "" if there is none.
inline std::string load_error(const Bytes& kernel, uint64_t memory_size = 64 * kMebibyte,
                              const std::vector<Module>& modules = {}) {
  const auto memory = make_memory(memory_size);
  const auto loaded = load_kernel_image(*memory, request_for(*memory), kernel, modules);
  return loaded ? "" : loaded.error().message;
}

}  // namespace limen::boot
