#include "conformance/aim.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "conformance/operands.h"

namespace limen::conformance {
namespace {

uint64_t width_mask(const Concrete& concrete) {
  const unsigned width = concrete.instruction.raw.address_width;
  return width == 64 ? ~uint64_t{0} : (uint64_t{1} << width) - 1;
}

uint64_t segment_base(const ZydisDecodedOperand& operand, const Registers& registers) {
  if (operand.mem.segment == ZYDIS_REGISTER_FS) return registers.fs_base;
  if (operand.mem.segment == ZYDIS_REGISTER_GS) return registers.gs_base;
  return 0;
}

// 16-bit operands of addressing add whole registers, whatever the decoder calls them.
void set_address(Registers& registers, ZydisRegister reg, uint64_t value, Random& random) {
  const NamedRegister name = named(reg);
  if (!name.general) return;
  if (name.bytes == 4) value = (value & 0xFFFFFFFF) | random.next() << 32;
  if (name.bytes == 2) {
    set(registers, name, value);
    return;
  }
  registers.gpr[name.number] = value;
}

uint64_t get_address(const Registers& registers, ZydisRegister reg) {
  const NamedRegister name = named(reg);
  return name.general ? get(registers, name) : 0;
}

bool is_instruction_pointer(ZydisRegister reg) {
  return reg == ZYDIS_REGISTER_RIP || reg == ZYDIS_REGISTER_EIP;
}

void patch_displacement(Concrete& concrete, uint64_t value) {
  const auto& displacement = concrete.instruction.raw.raw.disp;
  const unsigned size = displacement.size / 8u;
  if (size < 4) return;
  std::memcpy(concrete.bytes.data.data() + displacement.offset, &value, size);
  auto& instruction = concrete.instruction;
  decode(instruction.mode, {concrete.bytes.data.data(), concrete.bytes.size}, instruction);
}

}  // namespace

uint64_t choose_address(Random& random, uint64_t size, bool wide, bool locked) {
  const uint64_t bytes = std::clamp<uint64_t>(size, 1, kPage);
  const unsigned roll = static_cast<unsigned>(random.below(100));
  if (roll < 84 || (locked && roll < 95)) {
    const uint64_t alignment = roll < 66 ? std::min<uint64_t>(std::bit_ceil(bytes), 64) : 1;
    const bool lone = random.percent(30);
    const uint64_t room = (lone ? kPage : 2 * kPage) - bytes;
    uint64_t offset = random.below(room / alignment + 1) * alignment;
    // A locked access across cache lines locks the bus: hosts delay it, or let nobody do it.
    if (locked && offset % 64 + bytes > 64) offset &= ~uint64_t{63};
    return (lone ? kLoneAddress : kDataAddress) + offset;
  }
  if (locked) {
    const uint64_t offset = random.below(kPage / 64) * 64;
    return (roll < 97 ? kReadOnlyAddress : kLoneAddress + kPage) + offset;
  }
  if (roll < 87) return kDataAddress + kPage - random.below(bytes);
  if (roll < 89) return kReadOnlyAddress + random.below(kPage - bytes + 1);
  if (roll < 91) return kReadOnlyAddress - random.below(bytes);
  if (roll < 95) return kLoneAddress + kPage - random.below(bytes);
  if (roll < 96) return kLoneAddress - 1 - random.below(bytes);
  if (roll < 98 || !wide) return kLoneAddress + 2 * kPage + random.below(kPage);
  if (roll < 99) return 0xFFFF'FFFF'8000'0000 + random.below(kPage);
  return random.next() >> 2 | 0x4000'0000'0000'0000;
}

void aim(const ZydisDecodedOperand& operand, uint64_t target, Random& random, Concrete& concrete,
         Registers& registers) {
  const auto memory = operand.mem;
  const uint64_t mask = width_mask(concrete);
  const bool has_base = named(memory.base).general;
  const bool has_index = memory.type != ZYDIS_MEMOP_TYPE_VSIB && named(memory.index).general;
  const bool far_segment =
      memory.segment == ZYDIS_REGISTER_FS || memory.segment == ZYDIS_REGISTER_GS;
  uint64_t offset = target;
  if (far_segment && concrete.instruction.mode == soft::decode::CodeMode::k64 &&
      target >> 47 == 0) {
    // Any offset will do: the segment's base makes up for it. (An address that is not canonical is
    // left to the offset, since no base can be.)
    offset = has_base || has_index ? random.next() & mask & 0xFF'FFFF'FFFF : target - 0x5000;
    uint64_t& base = memory.segment == ZYDIS_REGISTER_FS ? registers.fs_base : registers.gs_base;
    base = target - offset;
  } else if (far_segment) {
    offset -= segment_base(operand, registers);
  }
  const auto displacement = static_cast<uint64_t>(memory.disp.value);
  if (has_base && has_index && memory.base == memory.index) {
    set_address(registers, memory.base, (offset - displacement) / (1u + memory.scale), random);
  } else if (has_base) {
    if (has_index && random.percent(50))
      set_address(registers, memory.index, static_cast<uint64_t>(random.between(-64, 512)), random);
    const uint64_t scaled = has_index ? get_address(registers, memory.index) * memory.scale : 0;
    set_address(registers, memory.base, (offset - displacement - scaled) & mask, random);
  } else if (has_index) {
    const uint64_t scaled = (offset - displacement) & mask;
    set_address(registers, memory.index, scaled / memory.scale, random);
  } else if (is_instruction_pointer(memory.base)) {
    patch_displacement(concrete, offset - registers.rip - concrete.bytes.size);
  } else {
    patch_displacement(concrete, offset);
  }
}

uint64_t linear_address(const ZydisDecodedOperand& operand, const Concrete& concrete,
                        const Registers& registers) {
  const auto& memory = operand.mem;
  uint64_t address = static_cast<uint64_t>(memory.disp.value);
  if (is_instruction_pointer(memory.base))
    address += registers.rip + concrete.bytes.size;
  else
    address += get_address(registers, memory.base);
  if (memory.type != ZYDIS_MEMOP_TYPE_VSIB)
    address += get_address(registers, memory.index) * std::max<unsigned>(memory.scale, 1);
  return segment_base(operand, registers) + (address & width_mask(concrete));
}

std::optional<uint16_t> image_offset(uint64_t linear, uint64_t size) {
  for (size_t i = 0; i < kWritablePages.size(); ++i)
    if (linear >= kWritablePages[i] && linear + size <= kWritablePages[i] + kPage && size <= kPage)
      return static_cast<uint16_t>(i * kPage + (linear - kWritablePages[i]));
  return std::nullopt;
}

}  // namespace limen::conformance
