// An ELF executable as a boot loader needs it: loadable segments and notes, every field checked
// (System V ABI, chapters 4 and 5).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace limen::boot {

struct ElfSegment {
  uint64_t physical_address = 0;
  uint64_t virtual_address = 0;
  uint64_t memory_size = 0;
  std::span<const std::byte> bytes;
};

struct ElfImage {
  bool is_64_bit = false;
  uint64_t entry = 0;  ///< As the header has it: a virtual address.
  std::vector<ElfSegment> segments;
  std::vector<std::span<const std::byte>> notes;  ///< Contents of the PT_NOTE segments.
};

[[nodiscard]] bool is_elf(std::span<const std::byte> file);

/// Checks every header. `path` names the file in errors.
Result<ElfImage> parse_elf(std::span<const std::byte> file, std::string_view path);

/// The descriptor of the note with that owner and type.
[[nodiscard]] std::optional<std::span<const std::byte>> find_note(const ElfImage& elf,
                                                                  std::string_view owner,
                                                                  uint32_t type);

}  // namespace limen::boot
