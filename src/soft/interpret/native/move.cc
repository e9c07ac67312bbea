// Plain vector moves as copies of bytes: they are most of what memcpy, strlen and the like execute,
// and a copy costs less than a call of a thunk.
#include <utility>

#include "soft/interpret/native/checks.h"
#include "soft/interpret/native/special.h"
#include "soft/interpret/operand.h"

namespace limen::soft::interpret::native {
namespace {

/// What a move does to the rest of its destination.
enum class Rest { kKeep, kClearXmm, kClearAll };

template <unsigned kBytes, Rest kRest>
void clear_rest(uint8_t* reg) {
  if constexpr (kRest == Rest::kClearXmm && kBytes < 16) std::memset(reg + kBytes, 0, 16 - kBytes);
  if constexpr (kRest == Rest::kClearAll && kBytes < 64) std::memset(reg + kBytes, 0, 64 - kBytes);
}

template <unsigned kBytes, bool kAligned>
uint64_t move_linear(Cpu& cpu, const Operation& operation, AccessKind kind) {
  if constexpr (kAligned) {
    // Before the address is looked at otherwise.
    if (unchecked_operand_linear(cpu, operation) & (kBytes - 1)) [[unlikely]]
      throw x86::Exception::general_protection();
  }
  return operand_linear(cpu, operation, kBytes, kind);
}

template <Check kCheck, unsigned kBytes, bool kAligned, Rest kRest>
void load(Cpu& cpu, const Operation& operation) {
  check<kCheck>(cpu);
  const uint64_t linear = move_linear<kBytes, kAligned>(cpu, operation, AccessKind::kRead);
  uint8_t* reg = cpu.vector.zmm[operation.reg].data();
  if (const std::byte* memory = cpu.mmu.host_for_read(linear, kBytes)) [[likely]] {
    std::memcpy(reg, memory, kBytes);
  } else {
    std::byte bytes[kBytes];
    cpu.mmu.read_bytes(linear, bytes);
    std::memcpy(reg, bytes, kBytes);
  }
  clear_rest<kBytes, kRest>(reg);
}

template <Check kCheck, unsigned kBytes, bool kAligned>
void store(Cpu& cpu, const Operation& operation) {
  check<kCheck>(cpu);
  const uint64_t linear = move_linear<kBytes, kAligned>(cpu, operation, AccessKind::kWrite);
  const uint8_t* reg = cpu.vector.zmm[operation.reg].data();
  if (std::byte* memory = cpu.mmu.host_for_write(linear, kBytes)) [[likely]]
    std::memcpy(memory, reg, kBytes);
  else
    cpu.mmu.write_bytes(linear, {reinterpret_cast<const std::byte*>(reg), kBytes});
}

template <Check kCheck, unsigned kBytes, Rest kRest>
void copy(Cpu& cpu, const Operation& operation) {
  check<kCheck>(cpu);
  uint8_t* into = cpu.vector.zmm[operation.reg].data();
  std::memmove(into, cpu.vector.zmm[operation.rm].data(), kBytes);
  clear_rest<kBytes, kRest>(into);
}

template <Check kCheck, typename T, Rest kRest>
void from_general(Cpu& cpu, const Operation& operation) {
  check<kCheck>(cpu);
  uint8_t* into = cpu.vector.zmm[operation.reg].data();
  const auto value = static_cast<T>(cpu.gpr[operation.rm]);
  std::memcpy(into, &value, sizeof value);
  clear_rest<sizeof value, kRest>(into);
}

template <Check kCheck, typename T>
void to_general(Cpu& cpu, const Operation& operation) {
  check<kCheck>(cpu);
  T value;
  std::memcpy(&value, cpu.vector.zmm[operation.reg].data(), sizeof value);
  cpu.gpr[operation.rm] = value;
}

template <Check kCheck, unsigned kBytes>
void clear(Cpu& cpu, const Operation& operation) {
  check<kCheck>(cpu);
  std::memset(cpu.vector.zmm[operation.reg].data(), 0, kBytes);
}

enum class Direction { kLoad, kStore, kCopy };

template <Check kCheck, unsigned kBytes, Rest kRest>
Handler whole_move(Direction direction, bool aligned) {
  switch (direction) {
    case Direction::kLoad:
      return aligned ? load<kCheck, kBytes, true, kRest> : load<kCheck, kBytes, false, kRest>;
    case Direction::kStore:
      return aligned ? store<kCheck, kBytes, true> : store<kCheck, kBytes, false>;
    case Direction::kCopy:
      return copy<kCheck, kBytes, kRest>;
  }
  return nullptr;
}

enum class Kind { kNone, kWhole, kAlignedWhole, kPart4, kPart8, kZeroing };

Kind kind_of(ZydisMnemonic mnemonic) {
  using enum Kind;
  switch (mnemonic) {
    case ZYDIS_MNEMONIC_MOVUPS:
    case ZYDIS_MNEMONIC_MOVUPD:
    case ZYDIS_MNEMONIC_MOVDQU:
    case ZYDIS_MNEMONIC_LDDQU:
    case ZYDIS_MNEMONIC_VMOVUPS:
    case ZYDIS_MNEMONIC_VMOVUPD:
    case ZYDIS_MNEMONIC_VMOVDQU:
    case ZYDIS_MNEMONIC_VLDDQU:
    case ZYDIS_MNEMONIC_VMOVDQU8:
    case ZYDIS_MNEMONIC_VMOVDQU16:
    case ZYDIS_MNEMONIC_VMOVDQU32:
    case ZYDIS_MNEMONIC_VMOVDQU64:
      return kWhole;
    case ZYDIS_MNEMONIC_MOVAPS:
    case ZYDIS_MNEMONIC_MOVAPD:
    case ZYDIS_MNEMONIC_MOVDQA:
    case ZYDIS_MNEMONIC_MOVNTDQ:
    case ZYDIS_MNEMONIC_MOVNTPS:
    case ZYDIS_MNEMONIC_MOVNTPD:
    case ZYDIS_MNEMONIC_VMOVAPS:
    case ZYDIS_MNEMONIC_VMOVAPD:
    case ZYDIS_MNEMONIC_VMOVDQA:
    case ZYDIS_MNEMONIC_VMOVNTDQ:
    case ZYDIS_MNEMONIC_VMOVNTPS:
    case ZYDIS_MNEMONIC_VMOVNTPD:
    case ZYDIS_MNEMONIC_VMOVDQA32:
    case ZYDIS_MNEMONIC_VMOVDQA64:
      return kAlignedWhole;
    case ZYDIS_MNEMONIC_MOVD:
    case ZYDIS_MNEMONIC_VMOVD:
      return kPart4;
    case ZYDIS_MNEMONIC_MOVQ:
    case ZYDIS_MNEMONIC_VMOVQ:
      return kPart8;
    case ZYDIS_MNEMONIC_PXOR:
    case ZYDIS_MNEMONIC_XORPS:
    case ZYDIS_MNEMONIC_XORPD:
    case ZYDIS_MNEMONIC_VPXOR:
    case ZYDIS_MNEMONIC_VXORPS:
    case ZYDIS_MNEMONIC_VXORPD:
    case ZYDIS_MNEMONIC_VPXORD:
    case ZYDIS_MNEMONIC_VPXORQ:
      return kZeroing;
    default:
      return kNone;
  }
}

template <Check kCheck>
Handler sized_move(unsigned bytes, Direction direction, bool aligned) {
  switch (bytes) {
    case 16:
      return kCheck == Check::kSse ? whole_move<kCheck, 16, Rest::kKeep>(direction, aligned)
                                   : whole_move<kCheck, 16, Rest::kClearAll>(direction, aligned);
    case 32:
      return kCheck == Check::kSse ? nullptr
                                   : whole_move<kCheck, 32, Rest::kClearAll>(direction, aligned);
    case 64:
      return kCheck == Check::kAvx512 ? whole_move<kCheck, 64, Rest::kClearAll>(direction, aligned)
                                      : nullptr;
    default:
      return nullptr;
  }
}

template <Check kCheck, typename T>
Handler part_move(const ZydisDecodedOperand& into, const ZydisDecodedOperand& from) {
  constexpr Rest kRest = kCheck == Check::kSse ? Rest::kClearXmm : Rest::kClearAll;
  if (from.type == ZYDIS_OPERAND_TYPE_MEMORY) return load<kCheck, sizeof(T), false, kRest>;
  if (into.type == ZYDIS_OPERAND_TYPE_MEMORY) return store<kCheck, sizeof(T), false>;
  const auto general = [](const ZydisDecodedOperand& operand) {
    const auto kind = ZydisRegisterGetClass(operand.reg.value);
    return kind == ZYDIS_REGCLASS_GPR32 || kind == ZYDIS_REGCLASS_GPR64;
  };
  if (general(from)) return from_general<kCheck, T, kRest>;
  if (general(into)) return to_general<kCheck, T>;
  return copy<kCheck, sizeof(T), kRest>;
}

template <Check kCheck>
Handler select_for(const decode::Instruction& instruction, Operation& operation) {
  const auto& operands = instruction.operands;
  const auto& raw = instruction.raw;
  const ZydisDecodedOperand& into = operands[0];
  // EVEX names its opmask between the two; select_move() has seen that it is none.
  const ZydisDecodedOperand& from = operands[raw.operand_count_visible - 1];
  const Kind kind = kind_of(instruction.mnemonic());
  switch (kind) {
    case Kind::kWhole:
    case Kind::kAlignedWhole: {
      Direction direction = Direction::kCopy;
      if (from.type == ZYDIS_OPERAND_TYPE_MEMORY) direction = Direction::kLoad;
      if (into.type == ZYDIS_OPERAND_TYPE_MEMORY) direction = Direction::kStore;
      if (direction == Direction::kCopy && into.encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM)
        std::swap(operation.reg, operation.rm);
      return sized_move<kCheck>(into.size / 8u, direction, kind == Kind::kAlignedWhole);
    }
    case Kind::kPart4:
      return part_move<kCheck, uint32_t>(into, from);
    case Kind::kPart8: {
      const bool vectors = into.type == ZYDIS_OPERAND_TYPE_REGISTER &&
                           from.type == ZYDIS_OPERAND_TYPE_REGISTER &&
                           into.encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM &&
                           ZydisRegisterGetClass(into.reg.value) == ZYDIS_REGCLASS_XMM;
      if (vectors) std::swap(operation.reg, operation.rm);
      return part_move<kCheck, uint64_t>(into, from);
    }
    case Kind::kZeroing: {
      const ZydisDecodedOperand& other = operands[raw.operand_count_visible - 2];
      if (from.type != ZYDIS_OPERAND_TYPE_REGISTER || other.reg.value != from.reg.value)
        return nullptr;
      return kCheck == Check::kSse ? clear<kCheck, 16> : clear<kCheck, 64>;
    }
    case Kind::kNone:
      break;
  }
  return nullptr;
}

}  // namespace

Handler select_move(const decode::Instruction& instruction, Operation& operation) {
  switch (required_check(instruction)) {
    case Check::kSse:
      // MOVQ and MOVD of MMX registers share their mnemonics.
      return uses_x87_state(instruction) ? nullptr
                                         : select_for<Check::kSse>(instruction, operation);
    case Check::kAvx:
      return select_for<Check::kAvx>(instruction, operation);
    case Check::kAvx512:
      if (instruction.raw.encoding != ZYDIS_INSTRUCTION_ENCODING_EVEX ||
          instruction.raw.raw.evex.aaa != 0)
        return nullptr;
      return select_for<Check::kAvx512>(instruction, operation);
    default:
      return nullptr;
  }
}

}  // namespace limen::soft::interpret::native
