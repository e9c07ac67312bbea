#include "soft/translate/item.h"

#include <bit>

namespace limen::soft::translate {
namespace {

using interpret::native::Availability;
using interpret::native::Check;
using interpret::native::x87_use;

/// A form in the making.
struct Draft : Form {
  explicit Draft(const decode::Instruction& of) : instruction(of) {}
  [[nodiscard]] const ZydisDecodedOperand& memory() const {
    return instruction.operands[memory_operand];
  }

  const decode::Instruction& instruction;
  uint8_t memory_operand = 0;  ///< Index in instruction.operands.
};

bool is_general(ZydisRegister reg) {
  switch (ZydisRegisterGetClass(reg)) {
    case ZYDIS_REGCLASS_GPR8:
    case ZYDIS_REGCLASS_GPR16:
    case ZYDIS_REGCLASS_GPR32:
    case ZYDIS_REGCLASS_GPR64:
      return true;
    default:
      return false;
  }
}

/// Number of the general register that `reg` is (part of).
uint8_t general_number(ZydisRegister reg) {
  return static_cast<uint8_t>(
      ZydisRegisterGetId(ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg)));
}

/// CF PF AF ZF SF OF, in this order, from bits 0, 2, 4, 6, 7 and 11.
uint8_t compact_flags(uint32_t flags) {
  return static_cast<uint8_t>((flags & 1) | (flags >> 1 & 2) | (flags >> 2 & 4) | (flags >> 3 & 8) |
                              (flags >> 3 & 16) | (flags >> 6 & 32));
}

/// Shifts and rotates leave every flag alone where their count is 0, comparisons of the x87 unit
/// where they raise an exception that is not masked.
bool may_keep_flags(const decode::Instruction& instruction) {
  switch (instruction.mnemonic()) {
    case ZYDIS_MNEMONIC_FCOMI:
    case ZYDIS_MNEMONIC_FCOMIP:
    case ZYDIS_MNEMONIC_FUCOMI:
    case ZYDIS_MNEMONIC_FUCOMIP:
      return true;
    case ZYDIS_MNEMONIC_SHL:
    case ZYDIS_MNEMONIC_SHR:
    case ZYDIS_MNEMONIC_SAR:
    case ZYDIS_MNEMONIC_ROL:
    case ZYDIS_MNEMONIC_ROR:
    case ZYDIS_MNEMONIC_RCL:
    case ZYDIS_MNEMONIC_RCR:
    case ZYDIS_MNEMONIC_SHLD:
    case ZYDIS_MNEMONIC_SHRD:
      break;
    default:
      return false;
  }
  const auto& count = instruction.operands[instruction.raw.operand_count_visible - 1];
  if (count.type != ZYDIS_OPERAND_TYPE_IMMEDIATE) return true;
  return (count.imm.value.u & (instruction.raw.operand_width == 64 ? 63 : 31)) == 0;
}

/// Of some instructions, processors leave flags alone that the manual calls undefined.
bool may_keep_undefined_flags(ZydisMnemonic mnemonic) {
  switch (mnemonic) {
    case ZYDIS_MNEMONIC_MUL:
    case ZYDIS_MNEMONIC_IMUL:
    case ZYDIS_MNEMONIC_DIV:
    case ZYDIS_MNEMONIC_IDIV:
    case ZYDIS_MNEMONIC_BSF:
    case ZYDIS_MNEMONIC_BSR:
    case ZYDIS_MNEMONIC_BT:
    case ZYDIS_MNEMONIC_BTC:
    case ZYDIS_MNEMONIC_BTR:
    case ZYDIS_MNEMONIC_BTS:
    case ZYDIS_MNEMONIC_BEXTR:
    case ZYDIS_MNEMONIC_BLSI:
    case ZYDIS_MNEMONIC_BLSMSK:
    case ZYDIS_MNEMONIC_BLSR:
    case ZYDIS_MNEMONIC_BZHI:
    case ZYDIS_MNEMONIC_LZCNT:
    case ZYDIS_MNEMONIC_TZCNT:
      return true;
    default:
      return false;
  }
}

void note_flags(Draft& item) {
  const auto* flags = item.instruction.raw.cpu_flags;
  if (flags == nullptr) return;
  item.flags_read = compact_flags(flags->tested);
  if (may_keep_flags(item.instruction)) return;
  uint32_t written = flags->modified | flags->set_0 | flags->set_1;
  if (!may_keep_undefined_flags(item.instruction.mnemonic())) written |= flags->undefined;
  item.flags_written = compact_flags(written);
}

/// Whether something may be left of what a general register held that is not read.
bool keeps_part(const decode::Instruction& instruction, const ZydisDecodedOperand& operand) {
  if (instruction.raw.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX) return false;
  return operand.size < 32 || (operand.actions & ZYDIS_OPERAND_ACTION_CONDWRITE) != 0 ||
         instruction.mnemonic() == ZYDIS_MNEMONIC_BSF ||
         instruction.mnemonic() == ZYDIS_MNEMONIC_BSR;
}

/// False where an operand is of a kind that cannot be carried over.
bool note_operands(Draft& item) {
  const auto& instruction = item.instruction;
  for (unsigned i = 0; i < instruction.raw.operand_count; ++i) {
    const auto& operand = instruction.operands[i];
    switch (operand.type) {
      case ZYDIS_OPERAND_TYPE_IMMEDIATE:
        break;
      case ZYDIS_OPERAND_TYPE_MEMORY:
        if (operand.encoding != ZYDIS_OPERAND_ENCODING_MODRM_RM || item.has_memory) return false;
        if (operand.mem.type != ZYDIS_MEMOP_TYPE_MEM && operand.mem.type != ZYDIS_MEMOP_TYPE_AGEN)
          return false;
        item.has_memory = true;
        item.memory_operand = static_cast<uint8_t>(i);
        item.memory_size = static_cast<uint16_t>(operand.size / 8);
        item.reads_memory = (operand.actions & ZYDIS_OPERAND_ACTION_MASK_READ) != 0;
        item.writes_memory = (operand.actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) != 0;
        break;
      case ZYDIS_OPERAND_TYPE_REGISTER: {
        const ZydisRegister reg = operand.reg.value;
        if (is_general(reg)) {
          const auto bit = static_cast<uint16_t>(1u << general_number(reg));
          if ((operand.actions & ZYDIS_OPERAND_ACTION_MASK_READ) != 0 ||
              keeps_part(instruction, operand))
            item.registers_read |= bit;
          if (operand.actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) item.registers_written |= bit;
          break;
        }
        switch (ZydisRegisterGetClass(reg)) {
          case ZYDIS_REGCLASS_X87:
          case ZYDIS_REGCLASS_MMX:
          case ZYDIS_REGCLASS_XMM:
          case ZYDIS_REGCLASS_YMM:
          case ZYDIS_REGCLASS_ZMM:
          case ZYDIS_REGCLASS_MASK:
          case ZYDIS_REGCLASS_FLAGS:
            break;
          default:
            if (reg != ZYDIS_REGISTER_MXCSR && reg != ZYDIS_REGISTER_X87CONTROL &&
                reg != ZYDIS_REGISTER_X87STATUS && reg != ZYDIS_REGISTER_X87TAG)
              return false;
            break;
        }
        break;
      }
      default:
        return false;
    }
  }
  return true;
}

/// AH to BH cannot be named beside R10, which holds the address: the low byte lends its name, if no
/// other operand is a general register.
bool can_lend_low_byte(Draft& item) {
  const auto& instruction = item.instruction;
  unsigned registers = 0;
  for (unsigned i = 0; i < instruction.raw.operand_count; ++i) {
    const auto& operand = instruction.operands[i];
    if (operand.type != ZYDIS_OPERAND_TYPE_REGISTER || !is_general(operand.reg.value)) continue;
    ++registers;
    if (operand.reg.value >= ZYDIS_REGISTER_AH && operand.reg.value <= ZYDIS_REGISTER_BH)
      item.high_byte = true;
  }
  return !item.high_byte || registers == 1;
}

/// Beside the address in R10 there is R11 for one register of the guest's that is read and has no
/// place of its own in the host. One that is only written may be either, the address having been
/// used by then.
bool can_name_registers(const Draft& item) {
  constexpr uint16_t kSpilled = (1u << 10) | (1u << 11);
  if ((item.registers_read & kSpilled) == kSpilled) return false;
  const auto& instruction = item.instruction;
  for (unsigned i = 0; i < instruction.raw.operand_count; ++i) {
    const auto& operand = instruction.operands[i];
    if (operand.type == ZYDIS_OPERAND_TYPE_REGISTER && is_general(operand.reg.value) &&
        ((1u << general_number(operand.reg.value)) & kSpilled) != 0 &&
        operand.encoding != ZYDIS_OPERAND_ENCODING_MODRM_REG &&
        operand.encoding != ZYDIS_OPERAND_ENCODING_NDSNDD)
      return false;
  }
  return true;
}

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

Kind kind_of_stack_form(const Draft& item) {
  const auto& instruction = item.instruction;
  const auto& operand = instruction.operands[0];
  if (instruction.raw.operand_width != 64) return Kind::kInterpret;
  if (operand.type == ZYDIS_OPERAND_TYPE_REGISTER) {
    if (!is_general(operand.reg.value)) return Kind::kInterpret;
    return instruction.mnemonic() == ZYDIS_MNEMONIC_PUSH ? Kind::kPush : Kind::kPop;
  }
  return instruction.mnemonic() == ZYDIS_MNEMONIC_PUSH ? Kind::kPush : Kind::kInterpret;
}

bool note_register_or_memory(Draft& item) {
  const auto& operand = item.instruction.operands[0];
  if (operand.type == ZYDIS_OPERAND_TYPE_MEMORY) {
    if (operand.encoding != ZYDIS_OPERAND_ENCODING_MODRM_RM) return false;
    item.has_memory = item.reads_memory = true;
    item.memory_operand = 0;
    item.memory_size = 8;
  }
  return operand.size == 64;
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

Counter counter_of(const decode::Instruction& instruction) {
  const auto& raw = instruction.raw;
  if (raw.opcode_map != ZYDIS_OPCODE_MAP_DEFAULT || (raw.opcode & 0xF0) != 0xE0)
    return Counter::kNone;
  if (raw.address_width != 64) return Counter::kUnknown;
  switch (raw.mnemonic) {
    case ZYDIS_MNEMONIC_JRCXZ:
      return Counter::kIsZero;
    case ZYDIS_MNEMONIC_LOOP:
      return Counter::kLoop;
    default:
      return Counter::kUnknown;
  }
}

/// kString, kStringOnce or, if it is neither, kInterpret.
Kind kind_of_string(const decode::Instruction& instruction) {
  const auto& raw = instruction.raw;
  if (raw.opcode_map != ZYDIS_OPCODE_MAP_DEFAULT || raw.address_width != 64)
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
    case 0xAC:  // LODS
    case 0xAD:
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

/// MOV from and to system registers, and INVLPG.
Kind kind_of_system_move(Draft& item, CodeKind kind) {
  const auto& instruction = item.instruction;
  const auto& raw = instruction.raw;
  if (raw.mnemonic == ZYDIS_MNEMONIC_INVLPG && !kind.user)
    return note_operands(item) && item.has_memory ? Kind::kInvalidatePage : Kind::kInterpret;
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

/// Of what kind_of_system() and kind_of_system_move() name, those behind which the block ends.
bool ends_block(Kind kind) {
  switch (kind) {
    case Kind::kSystemCall:
    case Kind::kSystemReturn:
    case Kind::kInterruptReturn:
    case Kind::kLoadCr3:
    case Kind::kInvalidatePage:
      return true;
    default:
      return false;
  }
}

/// Whether the decoder's table says what the instruction does to flags here.
bool keeps_flags(Kind kind) {
  switch (kind) {
    case Kind::kStringOnce:
    case Kind::kReadSelector:
    case Kind::kReadControl:  // undefined by the manual, and kept by processors
    case Kind::kLoadCr3:
    case Kind::kInvalidatePage:
      return true;
    default:
      return false;
  }
}

Kind kind_of(Draft& item, CodeKind kind, const x86::CpuidTable& cpuid) {
  const auto& instruction = item.instruction;
  const auto& raw = instruction.raw;
  if (const Kind system = kind_of_system(instruction, kind, cpuid); system != Kind::kInterpret)
    return system;
  if (const Kind move = kind_of_system_move(item, kind); move != Kind::kInterpret) return move;
  if (raw.attributes & ZYDIS_ATTRIB_IS_PRIVILEGED) return Kind::kInterpret;
  const bool near = raw.meta.branch_type == ZYDIS_BRANCH_TYPE_SHORT ||
                    raw.meta.branch_type == ZYDIS_BRANCH_TYPE_NEAR;
  switch (raw.mnemonic) {
    case ZYDIS_MNEMONIC_NOP:
    case ZYDIS_MNEMONIC_ENDBR64:
    case ZYDIS_MNEMONIC_ENDBR32:
    case ZYDIS_MNEMONIC_PREFETCH:
    case ZYDIS_MNEMONIC_PREFETCHNTA:
    case ZYDIS_MNEMONIC_PREFETCHT0:
    case ZYDIS_MNEMONIC_PREFETCHT1:
    case ZYDIS_MNEMONIC_PREFETCHT2:
    case ZYDIS_MNEMONIC_PREFETCHW:
    case ZYDIS_MNEMONIC_PREFETCHWT1:
      if (raw.attributes & ZYDIS_ATTRIB_HAS_LOCK) return Kind::kInterpret;
      return Kind::kNothing;
    case ZYDIS_MNEMONIC_PUSH:
    case ZYDIS_MNEMONIC_POP: {
      const Kind form = kind_of_stack_form(item);
      if (form == Kind::kPush && instruction.operands[0].type == ZYDIS_OPERAND_TYPE_MEMORY &&
          !note_register_or_memory(item))
        return Kind::kInterpret;
      return form;
    }
    case ZYDIS_MNEMONIC_LEAVE:
      return raw.operand_width == 64 ? Kind::kLeave : Kind::kInterpret;
    case ZYDIS_MNEMONIC_CALL:
    case ZYDIS_MNEMONIC_JMP: {
      const bool call = raw.mnemonic == ZYDIS_MNEMONIC_CALL;
      if (!near) return Kind::kInterpret;
      if (instruction.operands[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
        if (raw.operand_width != 64) return Kind::kInterpret;
        return call ? Kind::kCall : Kind::kJump;
      }
      if (!note_register_or_memory(item)) return Kind::kInterpret;
      if (instruction.operands[0].type == ZYDIS_OPERAND_TYPE_REGISTER &&
          instruction.operands[0].reg.value == ZYDIS_REGISTER_RSP)
        return Kind::kInterpret;
      return call ? Kind::kCallAway : Kind::kJumpAway;
    }
    case ZYDIS_MNEMONIC_RET:
      return near && raw.operand_width == 64 ? Kind::kReturn : Kind::kInterpret;
    default:
      break;
  }
  if (raw.meta.category == ZYDIS_CATEGORY_COND_BR) {
    if (raw.operand_width == 16) return Kind::kInterpret;
    item.counter = counter_of(instruction);
    return item.counter == Counter::kUnknown ? Kind::kInterpret : Kind::kBranch;
  }
  if (const Kind string = kind_of_string(instruction); string != Kind::kInterpret) return string;
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

/// Whether nothing of higher priority can be wrong with the memory operand, and all of it counts:
/// no alignment that is checked, no mask.
bool faults_plainly(const Draft& item) {
  const auto& raw = item.instruction.raw;
  if (item.x87 != X87::kNothing) return false;  // an exception that is pending comes first
  const bool masked =
      raw.avx.mask.reg != ZYDIS_REGISTER_NONE && raw.avx.mask.reg != ZYDIS_REGISTER_K0;
  switch (raw.mnemonic) {
    case ZYDIS_MNEMONIC_VMOVAPS:
    case ZYDIS_MNEMONIC_VMOVAPD:
    case ZYDIS_MNEMONIC_VMOVDQA:
    case ZYDIS_MNEMONIC_VMOVDQA32:
    case ZYDIS_MNEMONIC_VMOVDQA64:
    case ZYDIS_MNEMONIC_VMOVNTDQ:
    case ZYDIS_MNEMONIC_VMOVNTDQA:
    case ZYDIS_MNEMONIC_VMOVNTPD:
    case ZYDIS_MNEMONIC_VMOVNTPS:
    case ZYDIS_MNEMONIC_VMASKMOVPD:
    case ZYDIS_MNEMONIC_VMASKMOVPS:
    case ZYDIS_MNEMONIC_VPMASKMOVD:
    case ZYDIS_MNEMONIC_VPMASKMOVQ:
    case ZYDIS_MNEMONIC_VCVTPS2PH:  // has other exceptions first
      return false;
    case ZYDIS_MNEMONIC_MOVSXD:  // reads a word into a word, whatever the decoder says
      return raw.operand_width != 16;
    case ZYDIS_MNEMONIC_MOVUPS:
    case ZYDIS_MNEMONIC_MOVUPD:
    case ZYDIS_MNEMONIC_MOVDQU:
    case ZYDIS_MNEMONIC_LDDQU:
      return true;
    default:
      break;
  }
  return raw.encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY ? item.memory_size <= 8 : !masked;
}

Operand summarize(const ZydisDecodedOperand& operand) {
  switch (operand.type) {
    case ZYDIS_OPERAND_TYPE_REGISTER: {
      const ZydisRegister reg = operand.reg.value;
      const bool general = is_general(reg);
      return {
          .type = general ? Operand::Type::kGeneral : Operand::Type::kOtherRegister,
          .number = general ? general_number(reg) : static_cast<uint8_t>(ZydisRegisterGetId(reg)),
          .size = static_cast<uint8_t>(ZydisRegisterGetWidth(ZYDIS_MACHINE_MODE_LONG_64, reg) / 8)};
    }
    case ZYDIS_OPERAND_TYPE_MEMORY:
      return {.type = Operand::Type::kMemory};
    case ZYDIS_OPERAND_TYPE_IMMEDIATE:
      return {.type = Operand::Type::kImmediate};
    default:
      return {};
  }
}

Address address_of(const Draft& item) {
  const auto& memory = item.memory().mem;
  const auto number = [](ZydisRegister reg) {
    return is_general(reg) ? general_number(reg) : kNoGeneral;
  };
  using Segment = Address::Segment;
  return {.base = number(memory.base),
          .index = number(memory.index),
          .scale = static_cast<uint8_t>(memory.scale != 0 ? std::countr_zero(memory.scale) : 0),
          .segment = memory.segment == ZYDIS_REGISTER_FS   ? Segment::kFs
                     : memory.segment == ZYDIS_REGISTER_GS ? Segment::kGs
                                                           : Segment::kFlat,
          .relative = memory.base == ZYDIS_REGISTER_RIP || memory.base == ZYDIS_REGISTER_EIP,
          .wide = item.instruction.raw.address_width == 64};
}

/// Where in the bytes is what (SDM Vol. 2A 2.1, 2.3.5, 2.7.1).
void note_encoding(Draft& item) {
  const auto& instruction = item.instruction;
  const auto& raw = instruction.raw.raw;
  const auto bit = [](unsigned value, unsigned shift) { return value != 0 ? 1u << shift : 0u; };
  switch (instruction.raw.encoding) {
    case ZYDIS_INSTRUCTION_ENCODING_VEX:
      item.encoding = Encoding::kVex;
      item.extension = {static_cast<uint8_t>(bit(raw.vex.R, 7) | raw.vex.m_mmmm),
                        static_cast<uint8_t>(bit(raw.vex.W, 7) | unsigned{raw.vex.vvvv} << 3 |
                                             bit(raw.vex.L, 2) | raw.vex.pp)};
      break;
    case ZYDIS_INSTRUCTION_ENCODING_EVEX:
      item.encoding = Encoding::kEvex;
      std::copy_n(instruction.bytes.begin() + raw.evex.offset + 1, 3, item.extension.begin());
      break;
    default:
      if (instruction.has(ZYDIS_ATTRIB_HAS_REX))
        item.extension[0] = static_cast<uint8_t>(0x40 | bit(raw.rex.W, 3) | bit(raw.rex.R, 2) |
                                                 bit(raw.rex.X, 1) | bit(raw.rex.B, 0));
      break;
  }
  item.prefix_count = raw.prefix_count;
  item.map = static_cast<uint8_t>(instruction.raw.opcode_map);
  item.opcode = instruction.raw.opcode;
  item.modrm_reg = raw.modrm.reg;
  item.displacement_offset = raw.disp.offset;
  item.displacement_size = static_cast<uint8_t>(raw.disp.size / 8);
  item.immediate_offset = raw.imm[0].offset;
  item.immediate_size = static_cast<uint8_t>(raw.imm[0].size / 8);
  for (unsigned i = 0; i < instruction.raw.operand_count; ++i) {
    const auto& operand = instruction.operands[i];
    if (operand.type != ZYDIS_OPERAND_TYPE_REGISTER || !is_general(operand.reg.value)) continue;
    if (operand.encoding == ZYDIS_OPERAND_ENCODING_MODRM_REG)
      item.named_reg = general_number(operand.reg.value);
    if (operand.encoding == ZYDIS_OPERAND_ENCODING_NDSNDD)
      item.named_vvvv = general_number(operand.reg.value);
  }
}

/// kPlain: whether nothing can keep what follows from running at once.
bool stays_inside(const Draft& item) {
  return !item.has_memory && item.instruction.raw.meta.isa_ext == ZYDIS_ISA_EXT_BASE &&
         !item.is(ZYDIS_MNEMONIC_DIV) && !item.is(ZYDIS_MNEMONIC_IDIV);
}

}  // namespace

Form classify(const decode::Instruction& instruction, CodeKind kind, const x86::CpuidTable& cpuid) {
  Draft item(instruction);
  item.mnemonic = static_cast<uint16_t>(instruction.mnemonic());
  item.operand_size = static_cast<uint8_t>(instruction.raw.operand_width / 8);
  item.kind = kind_of(item, kind, cpuid);
  item.ends_block = ends_block(item.kind);
  item.x87 = item.kind == Kind::kPlain ? x87_use(item.instruction) : X87::kNothing;
  item.faults_plainly = item.kind != Kind::kPlain || faults_plainly(item);
  item.stays_inside = item.kind == Kind::kPlain && stays_inside(item);
  if (item.has_memory) item.address = address_of(item);
  for (size_t i = 0; i < item.operands.size(); ++i)
    item.operands[i] = summarize(instruction.operands[i]);
  note_encoding(item);
  if (item.kind == Kind::kInterpret || item.kind == Kind::kPushFlags ||
      (item.ends_block && !keeps_flags(item.kind)))
    item.flags_read = kAllFlags;
  else if (!keeps_flags(item.kind))
    note_flags(item);
  return item;
}

}  // namespace limen::soft::translate
