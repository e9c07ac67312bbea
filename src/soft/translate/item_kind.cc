// How an instruction is carried over.
#include <algorithm>
#include <span>

#include "soft/translate/draft.h"
#include "x86/registers.h"

namespace limen::soft::translate {
namespace {

using interpret::native::Availability;
using interpret::native::Check;
using interpret::native::x87_use;

bool runs_as_is(const decode::Instruction& instruction, CodeKind kind,
                const x86::CpuidTable& cpuid) {
  if (interpret::native::availability(instruction, cpuid) != Availability::kAvailable) return false;
  if (x87_use(instruction) != X87::kNothing && !kind.x87) return false;
  switch (instruction.mnemonic()) {  // those whose operands do not show what they need
    case ZYDIS_MNEMONIC_LDMXCSR:
    case ZYDIS_MNEMONIC_STMXCSR:
      return kind.sse;
    case ZYDIS_MNEMONIC_VLDMXCSR:
    case ZYDIS_MNEMONIC_VSTMXCSR:
    case ZYDIS_MNEMONIC_VZEROUPPER:
    case ZYDIS_MNEMONIC_VZEROALL:
      return kind.avx;
    default:
      break;
  }
  switch (interpret::native::required_check(instruction)) {
    case Check::kNone:
    case Check::kVexGeneral:
      return true;
    case Check::kSse:
      return kind.sse;
    case Check::kAvx:
      return kind.avx;
    case Check::kAvx512:
      return kind.avx512;
    case Check::kX87:
    case Check::kMmx:
      return kind.x87;
    default:
      return false;
  }
}

/// Instructions that availability() leaves to others, and that nevertheless do in every ring what
/// the host does; and those that it passes and that must not run as they are.
enum class Verdict : uint8_t { kUnknown, kSame, kNever };
Verdict verdict(const decode::Instruction& instruction) {
  switch (instruction.mnemonic()) {
    case ZYDIS_MNEMONIC_LAHF:
    case ZYDIS_MNEMONIC_SAHF:
    case ZYDIS_MNEMONIC_CMPXCHG8B:
    case ZYDIS_MNEMONIC_CMPXCHG16B:
      return Verdict::kSame;
    case ZYDIS_MNEMONIC_BT:
    case ZYDIS_MNEMONIC_BTC:
    case ZYDIS_MNEMONIC_BTR:
    case ZYDIS_MNEMONIC_BTS:
      // A bit offset in a register reaches beyond the operand.
      if (instruction.operands[0].type == ZYDIS_OPERAND_TYPE_MEMORY &&
          instruction.operands[1].type == ZYDIS_OPERAND_TYPE_REGISTER &&
          instruction.raw.operand_width == 16)
        return Verdict::kNever;
      return Verdict::kUnknown;
    case ZYDIS_MNEMONIC_MOV:
    case ZYDIS_MNEMONIC_PUSH:
    case ZYDIS_MNEMONIC_POP:
      return Verdict::kUnknown;  // segments and control registers are no operands of ours
    case ZYDIS_MNEMONIC_UD0:
    case ZYDIS_MNEMONIC_UD1:
    case ZYDIS_MNEMONIC_UD2:
    case ZYDIS_MNEMONIC_VMCALL:
    case ZYDIS_MNEMONIC_VMMCALL:
    case ZYDIS_MNEMONIC_CLFLUSH:
    case ZYDIS_MNEMONIC_CLFLUSHOPT:
    case ZYDIS_MNEMONIC_CLWB:
    case ZYDIS_MNEMONIC_CLDEMOTE:
    case ZYDIS_MNEMONIC_RDPID:
    case ZYDIS_MNEMONIC_RDSSPD:
    case ZYDIS_MNEMONIC_RDSSPQ:
    case ZYDIS_MNEMONIC_MOVDIR64B:
    case ZYDIS_MNEMONIC_XGETBV:
    case ZYDIS_MNEMONIC_CLD:
    case ZYDIS_MNEMONIC_STD:
    case ZYDIS_MNEMONIC_SALC:
    case ZYDIS_MNEMONIC_ENTER:
    case ZYDIS_MNEMONIC_BOUND:
    case ZYDIS_MNEMONIC_XLAT:
    case ZYDIS_MNEMONIC_INT:
    case ZYDIS_MNEMONIC_INT1:
    case ZYDIS_MNEMONIC_INT3:
    case ZYDIS_MNEMONIC_INTO:
    case ZYDIS_MNEMONIC_IRET:
    case ZYDIS_MNEMONIC_IRETD:
    case ZYDIS_MNEMONIC_IRETQ:
    case ZYDIS_MNEMONIC_HLT:
    case ZYDIS_MNEMONIC_CLI:
    case ZYDIS_MNEMONIC_STI:
    case ZYDIS_MNEMONIC_PUSHF:
    case ZYDIS_MNEMONIC_PUSHFD:
    case ZYDIS_MNEMONIC_PUSHFQ:
    case ZYDIS_MNEMONIC_POPF:
    case ZYDIS_MNEMONIC_POPFD:
    case ZYDIS_MNEMONIC_POPFQ:
    case ZYDIS_MNEMONIC_CPUID:
    case ZYDIS_MNEMONIC_RDTSC:
    case ZYDIS_MNEMONIC_RDTSCP:
    case ZYDIS_MNEMONIC_RDPMC:
    case ZYDIS_MNEMONIC_RDMSR:
    case ZYDIS_MNEMONIC_WRMSR:
    case ZYDIS_MNEMONIC_CLTS:
    case ZYDIS_MNEMONIC_INVD:
    case ZYDIS_MNEMONIC_WBINVD:
    case ZYDIS_MNEMONIC_LAR:
    case ZYDIS_MNEMONIC_LSL:
    case ZYDIS_MNEMONIC_VERR:
    case ZYDIS_MNEMONIC_VERW:
    case ZYDIS_MNEMONIC_SLDT:
    case ZYDIS_MNEMONIC_STR:
    case ZYDIS_MNEMONIC_LLDT:
    case ZYDIS_MNEMONIC_LTR:
    case ZYDIS_MNEMONIC_SMSW:
    case ZYDIS_MNEMONIC_LMSW:
    case ZYDIS_MNEMONIC_SWAPGS:
    case ZYDIS_MNEMONIC_IN:
    case ZYDIS_MNEMONIC_OUT:
    case ZYDIS_MNEMONIC_SGDT:
    case ZYDIS_MNEMONIC_SIDT:
    case ZYDIS_MNEMONIC_LGDT:
    case ZYDIS_MNEMONIC_LIDT:
    case ZYDIS_MNEMONIC_INVLPG:
    case ZYDIS_MNEMONIC_FNSTENV:  // shows the pointers, or changes them
    case ZYDIS_MNEMONIC_FLDENV:
    case ZYDIS_MNEMONIC_FNSAVE:
    case ZYDIS_MNEMONIC_FRSTOR:
    case ZYDIS_MNEMONIC_FNINIT:
    case ZYDIS_MNEMONIC_FNCLEX:  // takes away what they tell of
    case ZYDIS_MNEMONIC_MONITOR:
    case ZYDIS_MNEMONIC_MWAIT:
    case ZYDIS_MNEMONIC_RSM:
      return Verdict::kNever;
    default:
      return Verdict::kUnknown;
  }
}

/// Instructions of 32-bit code that 64-bit code does not have, or has with another meaning, and
/// operands that it has not.
bool differs_in_32_bit_code(const decode::Instruction& instruction) {
  const auto& raw = instruction.raw;
  if (raw.address_width != 32) return true;
  for (const auto& operand : std::span(instruction.operands).first(raw.operand_count))
    if (operand.type == ZYDIS_OPERAND_TYPE_MEMORY && operand.mem.segment == ZYDIS_REGISTER_CS)
      return true;  // which cannot be written to, and perhaps not read
  switch (raw.encoding) {
    case ZYDIS_INSTRUCTION_ENCODING_LEGACY:
      break;
    case ZYDIS_INSTRUCTION_ENCODING_VEX: {
      // Bits that name the other registers, or 64-bit operands, count for nothing.
      const auto& vex = raw.raw.vex;
      const bool general = std::ranges::any_of(
          std::span(instruction.operands).first(raw.operand_count), [](const auto& operand) {
            return operand.type == ZYDIS_OPERAND_TYPE_REGISTER && is_general(operand.reg.value);
          });
      const bool register_in_immediate = raw.opcode_map == ZYDIS_OPCODE_MAP_0F3A &&
                                         raw.raw.imm[0].size == 8 &&
                                         (raw.raw.imm[0].value.u & 0x80) != 0;
      if (vex.R != 0 || vex.X != 0 || vex.B != 0 || (vex.vvvv & 8) == 0 || register_in_immediate ||
          (vex.W != 0 && general))
        return true;
      break;
    }
    default:
      return true;
  }
  switch (raw.mnemonic) {
    case ZYDIS_MNEMONIC_AAA:
    case ZYDIS_MNEMONIC_AAD:
    case ZYDIS_MNEMONIC_AAM:
    case ZYDIS_MNEMONIC_AAS:
    case ZYDIS_MNEMONIC_DAA:
    case ZYDIS_MNEMONIC_DAS:
    case ZYDIS_MNEMONIC_ARPL:
    case ZYDIS_MNEMONIC_LDS:
    case ZYDIS_MNEMONIC_LES:
    case ZYDIS_MNEMONIC_PUSHA:
    case ZYDIS_MNEMONIC_PUSHAD:
    case ZYDIS_MNEMONIC_POPA:
    case ZYDIS_MNEMONIC_POPAD:
    case ZYDIS_MNEMONIC_SYSCALL:
    case ZYDIS_MNEMONIC_SYSRET:
    case ZYDIS_MNEMONIC_VZEROUPPER:  // leave YMM8 to YMM15 alone
    case ZYDIS_MNEMONIC_VZEROALL:
      return true;
    default:
      return raw.opcode_map == ZYDIS_OPCODE_MAP_DEFAULT && raw.opcode == 0x82;
  }
}

Kind kind_of_stack_form(const Draft& item) {
  const auto& instruction = item.instruction;
  const auto& operand = instruction.operands[0];
  if (instruction.raw.operand_width != 8 * item.word()) return Kind::kInterpret;
  if (operand.type == ZYDIS_OPERAND_TYPE_REGISTER) {
    if (!is_general(operand.reg.value)) return Kind::kInterpret;
    return instruction.mnemonic() == ZYDIS_MNEMONIC_PUSH ? Kind::kPush : Kind::kPop;
  }
  return instruction.mnemonic() == ZYDIS_MNEMONIC_PUSH ? Kind::kPush : Kind::kInterpret;
}

bool is_bit_test(const decode::Instruction& instruction) {
  switch (instruction.mnemonic()) {
    case ZYDIS_MNEMONIC_BT:
    case ZYDIS_MNEMONIC_BTC:
    case ZYDIS_MNEMONIC_BTR:
    case ZYDIS_MNEMONIC_BTS:
      return true;
    default:
      return false;
  }
}

Counter counter_of(const Draft& item) {
  const auto& instruction = item.instruction;
  const auto& raw = instruction.raw;
  if (raw.opcode_map != ZYDIS_OPCODE_MAP_DEFAULT || (raw.opcode & 0xF0) != 0xE0)
    return Counter::kNone;
  if (raw.address_width != 8 * item.word()) return Counter::kUnknown;
  switch (raw.mnemonic) {
    case ZYDIS_MNEMONIC_JRCXZ:
    case ZYDIS_MNEMONIC_JECXZ:
      return Counter::kIsZero;
    case ZYDIS_MNEMONIC_LOOP:
      return Counter::kLoop;
    default:
      return Counter::kUnknown;
  }
}

/// kString, kStringOnce or, if it is neither, kInterpret.
Kind kind_of_string(const Draft& item) {
  const auto& instruction = item.instruction;
  const auto& raw = instruction.raw;
  if (raw.opcode_map != ZYDIS_OPCODE_MAP_DEFAULT || raw.address_width != 8 * item.word())
    return Kind::kInterpret;
  if (raw.attributes & (ZYDIS_ATTRIB_HAS_SEGMENT_FS | ZYDIS_ATTRIB_HAS_SEGMENT_GS))
    return Kind::kInterpret;
  const bool repeats = instruction.has(ZYDIS_ATTRIB_HAS_REP);
  for (unsigned i = 0; i < raw.raw.prefix_count && !repeats; ++i)
    if (raw.raw.prefixes[i].value == 0xF2 || raw.raw.prefixes[i].value == 0xF3)
      return Kind::kInterpret;  // whatever that does
  switch (raw.opcode) {
    case 0xA4:  // MOVS
    case 0xA5:
    case 0xAA:  // STOS
    case 0xAB:
      return repeats ? Kind::kString : Kind::kStringOnce;
    case 0xA6:  // CMPS
    case 0xA7:
    case 0xAC:  // LODS
    case 0xAD:
    case 0xAE:  // SCAS
    case 0xAF:
      return repeats ? Kind::kInterpret : Kind::kStringOnce;
    default:
      return Kind::kInterpret;
  }
}

/// Of the instructions whose meaning depends on the ring, those that have code of their own.
Kind kind_of_system(const decode::Instruction& instruction, CodeKind kind,
                    const x86::CpuidTable& cpuid) {
  const auto smap = [&] { return (cpuid.answer(7, 0).ebx >> 20 & 1) != 0; };
  const auto rdtscp = [&] { return (cpuid.answer(0x8000'0001, 0).edx >> 27 & 1) != 0; };
  if (instruction.has(ZYDIS_ATTRIB_HAS_LOCK)) return Kind::kInterpret;
  switch (instruction.mnemonic()) {
    case ZYDIS_MNEMONIC_PUSHFQ:
    case ZYDIS_MNEMONIC_PUSHFD:
      return Kind::kPushFlags;
    case ZYDIS_MNEMONIC_RDTSC:
      return kind.tsc ? Kind::kReadTsc : Kind::kInterpret;
    case ZYDIS_MNEMONIC_RDTSCP:
      return kind.tsc && rdtscp() ? Kind::kReadTsc : Kind::kInterpret;
    case ZYDIS_MNEMONIC_PAUSE:
      return Kind::kPause;
    case ZYDIS_MNEMONIC_CLD:
    case ZYDIS_MNEMONIC_STD:
      return Kind::kDirection;
    case ZYDIS_MNEMONIC_POPFQ:
    case ZYDIS_MNEMONIC_POPFD:
      return Kind::kPopFlags;
    case ZYDIS_MNEMONIC_RDFSBASE:
    case ZYDIS_MNEMONIC_RDGSBASE:
      return kind.base ? Kind::kReadBase : Kind::kInterpret;
    case ZYDIS_MNEMONIC_WRFSBASE:
    case ZYDIS_MNEMONIC_WRGSBASE:
      return kind.base ? Kind::kWriteBase : Kind::kInterpret;
    case ZYDIS_MNEMONIC_SYSCALL:
      return kind.user ? Kind::kSystemCall : Kind::kInterpret;
    case ZYDIS_MNEMONIC_SYSRET:
      return kind.user || !instruction.raw.raw.rex.W ? Kind::kInterpret : Kind::kSystemReturn;
    case ZYDIS_MNEMONIC_IRETQ:
      return kind.user ? Kind::kInterpret : Kind::kInterruptReturn;
    case ZYDIS_MNEMONIC_CLI:
      return kind.user ? Kind::kInterpret : Kind::kClearInterrupt;
    case ZYDIS_MNEMONIC_STI:
      return kind.user ? Kind::kInterpret : Kind::kSetInterrupt;
    case ZYDIS_MNEMONIC_SWAPGS:
      return kind.user ? Kind::kInterpret : Kind::kSwapGs;
    case ZYDIS_MNEMONIC_STAC:
      return kind.user || !smap() ? Kind::kInterpret : Kind::kSetAc;
    case ZYDIS_MNEMONIC_CLAC:
      return kind.user || !smap() ? Kind::kInterpret : Kind::kClearAc;
    default:
      return Kind::kInterpret;
  }
}

/// Whether the memory operand is in FS or GS.
bool has_base_segment(const Draft& item) {
  const ZydisRegister segment = item.memory().mem.segment;
  return segment == ZYDIS_REGISTER_FS || segment == ZYDIS_REGISTER_GS;
}

/// MOV from and to system registers, and INVLPG.
Kind kind_of_system_move(Draft& item, CodeKind kind) {
  const auto& instruction = item.instruction;
  const auto& raw = instruction.raw;
  if (raw.mnemonic == ZYDIS_MNEMONIC_INVLPG && !kind.user)
    return note_operands(item) && item.has_memory && !(item.code32 && has_base_segment(item))
               ? Kind::kInvalidatePage
               : Kind::kInterpret;
  if (raw.mnemonic != ZYDIS_MNEMONIC_MOV || instruction.has(ZYDIS_ATTRIB_HAS_LOCK))
    return Kind::kInterpret;
  const auto& to = instruction.operands[0];
  const auto& from = instruction.operands[1];
  if (to.type != ZYDIS_OPERAND_TYPE_REGISTER || from.type != ZYDIS_OPERAND_TYPE_REGISTER)
    return Kind::kInterpret;
  if (is_general(to.reg.value) && raw.opcode_map == ZYDIS_OPCODE_MAP_DEFAULT && raw.opcode == 0x8C)
    return ZydisRegisterGetClass(from.reg.value) == ZYDIS_REGCLASS_SEGMENT ? Kind::kReadSelector
                                                                           : Kind::kInterpret;
  if (kind.user) return Kind::kInterpret;
  switch (from.reg.value) {
    case ZYDIS_REGISTER_CR0:
    case ZYDIS_REGISTER_CR2:
    case ZYDIS_REGISTER_CR3:
    case ZYDIS_REGISTER_CR4:
      return Kind::kReadControl;
    default:
      return to.reg.value == ZYDIS_REGISTER_CR3 ? Kind::kLoadCr3 : Kind::kInterpret;
  }
}
}  // namespace

Kind kind_of(Draft& item, CodeKind kind, const x86::CpuidTable& cpuid) {
  const auto& instruction = item.instruction;
  const auto& raw = instruction.raw;
  if (item.code32 && differs_in_32_bit_code(instruction)) return Kind::kInterpret;
  const unsigned word = 8 * item.word();
  if (const Kind system = kind_of_system(instruction, kind, cpuid); system != Kind::kInterpret)
    return system;
  if (const Kind move = kind_of_system_move(item, kind); move != Kind::kInterpret) return move;
  if (raw.attributes & ZYDIS_ATTRIB_IS_PRIVILEGED) return Kind::kInterpret;
  const bool near = raw.meta.branch_type == ZYDIS_BRANCH_TYPE_SHORT ||
                    raw.meta.branch_type == ZYDIS_BRANCH_TYPE_NEAR;
  if (decode::is_hint(raw.mnemonic))
    return (raw.attributes & ZYDIS_ATTRIB_HAS_LOCK) != 0 ? Kind::kInterpret : Kind::kNothing;
  switch (raw.mnemonic) {
    case ZYDIS_MNEMONIC_PUSH:
    case ZYDIS_MNEMONIC_POP: {
      const Kind form = kind_of_stack_form(item);
      if (form == Kind::kPush && instruction.operands[0].type == ZYDIS_OPERAND_TYPE_MEMORY &&
          !note_register_or_memory(item))
        return Kind::kInterpret;
      return form;
    }
    case ZYDIS_MNEMONIC_LEAVE:
      return raw.operand_width == word ? Kind::kLeave : Kind::kInterpret;
    case ZYDIS_MNEMONIC_CALL:
    case ZYDIS_MNEMONIC_JMP: {
      const bool call = raw.mnemonic == ZYDIS_MNEMONIC_CALL;
      if (!near) return Kind::kInterpret;
      if (instruction.operands[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
        if (raw.operand_width != word) return Kind::kInterpret;
        return call ? Kind::kCall : Kind::kJump;
      }
      if (!note_register_or_memory(item)) return Kind::kInterpret;
      if (const auto& to = instruction.operands[0];
          to.type == ZYDIS_OPERAND_TYPE_REGISTER && general_number(to.reg.value) == x86::kRsp)
        return Kind::kInterpret;
      return call ? Kind::kCallAway : Kind::kJumpAway;
    }
    case ZYDIS_MNEMONIC_RET:
      return near && raw.operand_width == word ? Kind::kReturn : Kind::kInterpret;
    default:
      break;
  }
  if (raw.meta.category == ZYDIS_CATEGORY_COND_BR) {
    if (raw.operand_width == 16) return Kind::kInterpret;
    item.counter = counter_of(item);
    return item.counter == Counter::kUnknown ? Kind::kInterpret : Kind::kBranch;
  }
  if (const Kind string = kind_of_string(item); string != Kind::kInterpret) return string;
  if (raw.attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE))
    return Kind::kInterpret;
  const Verdict known = verdict(instruction);
  if (known == Verdict::kNever) return Kind::kInterpret;
  if (!note_operands(item)) return Kind::kInterpret;
  if (known != Verdict::kSame && !runs_as_is(instruction, kind, cpuid)) return Kind::kInterpret;
  if (raw.mnemonic == ZYDIS_MNEMONIC_SERIALIZE) return Kind::kSerialize;
  if (raw.mnemonic == ZYDIS_MNEMONIC_LEA) {
    if (raw.operand_width == 16) return Kind::kInterpret;
    const auto& memory = item.memory().mem;
    for (const ZydisRegister reg : {memory.base, memory.index})
      if (is_general(reg)) item.registers_read |= static_cast<uint16_t>(1u << general_number(reg));
    return Kind::kAddress;
  }
  if (!item.has_memory) return Kind::kPlain;
  if (item.memory_size == 0 || item.memory_size > 64 || !can_lend_low_byte(item))
    return Kind::kInterpret;
  if (!item.reads_memory && !item.writes_memory) return Kind::kInterpret;
  if (is_bit_test(instruction) && instruction.operands[1].type == ZYDIS_OPERAND_TYPE_REGISTER)
    return Kind::kBitTest;
  return can_name_registers(item) ? Kind::kPlain : Kind::kInterpret;
}

}  // namespace limen::soft::translate
