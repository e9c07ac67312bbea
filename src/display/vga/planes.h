// The window at A0000h: how a processor's bytes reach the four planes of a VGA's memory.
//
// In memory the planes lie beside each other: byte P of the 32-bit word W is plane P at address W.
// What is chained (256 colours) or odd and even (text) uses the same words one after the other, so
// that linear modes see the memory as it is.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "display/vga/registers.h"

namespace limen::display::vga {

inline constexpr uint64_t kWindowStart = 0xA0000, kWindowBytes = 0x20000;

class Planes {
 public:
  /// `bank_start`: of the bank that the first 64 KiB show.
  static uint8_t read(const Registers& registers, uint64_t bank_start, uint64_t offset,
                      std::span<const std::byte> memory, uint32_t& latch);
  static void write(const Registers& registers, uint64_t bank_start, uint64_t offset, uint8_t value,
                    std::span<std::byte> memory, uint32_t latch);
};

}  // namespace limen::display::vga
