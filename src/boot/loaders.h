// The formats behind load_kernel(), one function each. Private to boot/.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "boot/elf_image.h"
#include "boot/kernel_loader.h"
#include "boot/placement.h"

namespace limen::boot {

/// What every loader works on.
struct LoadContext {
  memory::GuestMemory& memory;
  const LoadRequest& request;
  std::span<const std::byte> kernel;
  std::span<const Module> modules;
  Placement& placement;
};

[[nodiscard]] bool is_linux(std::span<const std::byte> kernel);
Result<LoadedGuest> load_linux(const LoadContext& context);

Result<LoadedGuest> load_pvh(const LoadContext& context, const ElfImage& elf, uint32_t entry);

/// Offset of the Multiboot header, if there is one in the first 8 KiB (Multiboot 0.6.96 3.1).
[[nodiscard]] std::optional<size_t> find_multiboot_header(std::span<const std::byte> kernel);
/// `elf` is null for an image that is not ELF.
Result<LoadedGuest> load_multiboot(const LoadContext& context, size_t header, const ElfImage* elf);

/// Copies the segments to their physical addresses and clears the rest of each.
Result<> load_segments(const LoadContext& context, const ElfImage& elf);

// Registers at the kernel's entry.

/// A protected-mode processor with flat 4 GiB segments, paging and interrupts off. `gdt` is an
/// address for a GDT of kGdtSize bytes that matches the selectors; code is at `code_selector`, data
/// 8 above it.
inline constexpr uint64_t kGdtSize = 64;
Result<x86::CpuState> flat_cpu(const LoadContext& context, uint64_t gdt, uint16_t code_selector);
/// The same in 64-bit mode, the first 4 GiB mapped to themselves by 2 MiB pages in the
/// kPageTablesSize bytes at `tables`.
inline constexpr uint64_t kPageTablesSize = 6 * 4096;
Result<x86::CpuState> long_mode_cpu(const LoadContext& context, uint64_t gdt,
                                    uint16_t code_selector, uint64_t tables);

/// Takes `size` bytes for a structure below 1 MiB or, when that is full, anywhere in low RAM.
Result<uint64_t> place_structure(const LoadContext& context, uint64_t size, uint64_t alignment,
                                 std::string_view what);
/// Takes a place as high as `limit` allows and copies the module there.
Result<uint64_t> place_module(const LoadContext& context, const Module& module, uint64_t limit);
/// Puts a structure into RAM; 0 for an empty one.
Result<uint64_t> place_bytes(const LoadContext& context, std::span<const std::byte> bytes,
                             std::string_view what);
/// Puts a string and its terminator into RAM.
Result<uint64_t> place_string(const LoadContext& context, std::string_view text,
                              std::string_view what);

}  // namespace limen::boot
