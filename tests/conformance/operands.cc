#include "conformance/operands.h"

namespace limen::conformance {

NamedRegister named(ZydisRegister reg) {
  const auto id = static_cast<uint8_t>(ZydisRegisterGetId(reg));
  switch (ZydisRegisterGetClass(reg)) {
    case ZYDIS_REGCLASS_GPR8:
      // AL to BL, AH to BH, SPL to DIL, R8B to R15B.
      if (id < 4) return {true, id, 1, false};
      if (id < 8) return {true, static_cast<uint8_t>(id - 4), 1, true};
      return {true, static_cast<uint8_t>(id - 4), 1, false};
    case ZYDIS_REGCLASS_GPR16:
      return {true, id, 2, false};
    case ZYDIS_REGCLASS_GPR32:
      return {true, id, 4, false};
    case ZYDIS_REGCLASS_GPR64:
      return {true, id, 8, false};
    default:
      return {};
  }
}

uint64_t get(const Registers& registers, const NamedRegister& reg) {
  const uint64_t full = registers.gpr[reg.number];
  if (reg.high_byte) return full >> 8 & 0xFF;
  return reg.bytes == 8 ? full : full & ((uint64_t{1} << (8 * reg.bytes)) - 1);
}

void set(Registers& registers, const NamedRegister& reg, uint64_t value) {
  const unsigned shift = reg.high_byte ? 8 : 0;
  const uint64_t mask = (reg.bytes == 8 ? ~uint64_t{0} : (uint64_t{1} << (8 * reg.bytes)) - 1)
                        << shift;
  uint64_t& full = registers.gpr[reg.number];
  full = (full & ~mask) | (value << shift & mask);
}

}  // namespace limen::conformance
