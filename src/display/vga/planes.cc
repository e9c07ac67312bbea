#include "display/vga/planes.h"

#include <array>
#include <bit>
#include <cstring>

namespace limen::display::vga {
namespace {

/// Bit P of the number makes byte P of the word all ones.
constexpr std::array<uint32_t, 16> kPlaneMask = [] {
  std::array<uint32_t, 16> masks{};
  for (uint32_t i = 0; i < 16; ++i)
    for (uint32_t plane = 0; plane < 4; ++plane)
      if ((i >> plane & 1) != 0) masks[i] |= 0xFFu << 8 * plane;
  return masks;
}();
constexpr uint32_t kEachPlane = 0x0101'0101;

bool chained(const Registers& registers) { return (registers.sequencer[4] & 8) != 0; }
bool odd_even(const Registers& registers) { return (registers.graphics[5] & 0x10) != 0; }

/// Which address of the display memory the window shows there (graphics register 6, bits 2 and 3).
std::optional<uint64_t> address_of(const Registers& registers, uint64_t bank_start,
                                   uint64_t offset) {
  switch (registers.graphics[6] >> 2 & 3) {
    case 0:
      return offset;  // A0000h to BFFFFh
    case 1:
      if (offset >= 0x10000) return {};
      return bank_start + offset;  // A0000h to AFFFFh
    case 2:
      if (offset < 0x10000 || offset >= 0x18000) return {};
      return offset - 0x10000;  // B0000h to B7FFFh
    default:
      if (offset < 0x18000) return {};
      return offset - 0x18000;  // B8000h to BFFFFh
  }
}

/// Address A of odd and even: plane A % 2 of word A / 2.
uint64_t odd_even_byte(uint64_t address, unsigned plane) { return (address & ~1ull) << 1 | plane; }

uint32_t load_word(std::span<const std::byte> memory, uint64_t word) {
  uint32_t value = 0;
  if (word < memory.size() / 4) std::memcpy(&value, memory.data() + word * 4, 4);
  return value;
}

}  // namespace

uint8_t Planes::read(const Registers& registers, uint64_t bank_start, uint64_t offset,
                     std::span<const std::byte> memory, uint32_t& latch) {
  const auto address = address_of(registers, bank_start, offset);
  if (!address) return 0xFF;
  if (chained(registers))
    return *address < memory.size() ? static_cast<uint8_t>(memory[*address]) : 0xFF;
  if (odd_even(registers)) {
    const auto plane = (registers.graphics[4] & 2u) | (*address & 1u);
    const auto byte = odd_even_byte(*address, static_cast<unsigned>(plane));
    if (byte >= memory.size()) return 0xFF;
    latch = load_word(memory, *address >> 1);
    return static_cast<uint8_t>(memory[byte]);
  }
  if (*address >= memory.size() / 4) return 0xFF;
  latch = load_word(memory, *address);
  if ((registers.graphics[5] & 8) == 0)
    return static_cast<uint8_t>(latch >> 8 * (registers.graphics[4] & 3));
  // Read mode 1: a bit for each pixel that has the colour to compare with, in the planes that
  // count.
  uint32_t differs =
      (latch ^ kPlaneMask[registers.graphics[2] & 15]) & kPlaneMask[registers.graphics[7] & 15];
  differs |= differs >> 16;
  differs |= differs >> 8;
  return static_cast<uint8_t>(~differs);
}

void Planes::write(const Registers& registers, uint64_t bank_start, uint64_t offset, uint8_t value,
                   std::span<std::byte> memory, uint32_t latch) {
  const auto address = address_of(registers, bank_start, offset);
  if (!address) return;
  const uint8_t planes = registers.sequencer[2] & 15;
  if (chained(registers)) {
    if (*address < memory.size() && (planes >> (*address & 3) & 1) != 0)
      memory[*address] = std::byte{value};
    return;
  }
  if (odd_even(registers)) {
    const auto plane = static_cast<unsigned>(*address & 1);
    const auto byte = odd_even_byte(*address, plane);
    if (byte < memory.size() && (planes >> plane & 1) != 0) memory[byte] = std::byte{value};
    return;
  }
  if (*address >= memory.size() / 4) return;

  const auto& graphics = registers.graphics;
  const unsigned mode = graphics[5] & 3;
  uint32_t word = latch;  // write mode 1
  if (mode != 1) {
    const uint8_t rotated = std::rotr(value, graphics[3] & 7);
    uint32_t bits = graphics[8];
    switch (mode) {
      case 0: {
        const uint32_t set = kPlaneMask[graphics[1] & 15];
        word = (rotated * kEachPlane & ~set) | (kPlaneMask[graphics[0] & 15] & set);
        break;
      }
      case 2:
        word = kPlaneMask[value & 15];
        break;
      default:
        bits &= rotated;
        word = kPlaneMask[graphics[0] & 15];
        break;
    }
    switch (graphics[3] >> 3 & 3) {
      case 1:
        word &= latch;
        break;
      case 2:
        word |= latch;
        break;
      case 3:
        word ^= latch;
        break;
      default:
        break;
    }
    const uint32_t mask = bits * kEachPlane;
    word = (word & mask) | (latch & ~mask);
  }
  const uint32_t chosen = kPlaneMask[planes];
  word = (word & chosen) | (load_word(memory, *address) & ~chosen);
  std::memcpy(memory.data() + *address * 4, &word, 4);
}

}  // namespace limen::display::vga
