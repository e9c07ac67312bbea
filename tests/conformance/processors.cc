#include "conformance/processors.h"

#include <algorithm>
#include <string_view>

#include "conformance/aim.h"
#include "x86/registers.h"

namespace limen::conformance {
namespace {

using soft::decode::CodeMode;
using soft::decode::Instruction;

constexpr uint8_t kDebug = 1, kBreakpoint = 3, kInvalidOpcode = 6, kNotPresent = 11, kStack = 12,
                  kGeneralProtection = 13, kPageFault = 14, kMathFault = 16, kAlignment = 17,
                  kSimd = 19;

bool is_fault(uint8_t vector) { return vector != kDebug && vector != kBreakpoint; }

const ZydisDecodedOperand* memory_of(const Instruction& instruction) {
  for (unsigned i = 0; i < instruction.raw.operand_count; ++i)
    if (instruction.operands[i].type == ZYDIS_OPERAND_TYPE_MEMORY) return &instruction.operands[i];
  return nullptr;
}

bool is_string(const Instruction& instruction) {
  const auto category = instruction.raw.meta.category;
  return category == ZYDIS_CATEGORY_STRINGOP || category == ZYDIS_CATEGORY_IOSTRINGOP;
}

bool has_prefix(const Instruction& instruction, uint8_t prefix) {
  for (unsigned i = 0; i < instruction.raw.raw.prefix_count; ++i)
    if (instruction.raw.raw.prefixes[i].value == prefix) return true;
  return false;
}

bool is_wide_far(const Instruction& instruction) {
  const bool rex_w =
      (instruction.raw.attributes & ZYDIS_ATTRIB_HAS_REX) != 0 && instruction.raw.raw.rex.W != 0;
  if (!rex_w) return false;
  switch (instruction.mnemonic()) {
    case ZYDIS_MNEMONIC_LSS:
    case ZYDIS_MNEMONIC_LFS:
    case ZYDIS_MNEMONIC_LGS:
    case ZYDIS_MNEMONIC_IRETQ:
      return true;
    default:
      return instruction.raw.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR;
  }
}

/// Elements of vectors under RFLAGS.AC: all, none, or those that the mask does not leave out.
bool checks_vector_alignment(const Instruction& instruction, const Trial& trial) {
  const auto* memory = memory_of(instruction);
  if (memory == nullptr || (trial.before.rflags & x86::rflags::kAlignmentCheck) == 0) return false;
  const bool masked = instruction.raw.encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX &&
                      instruction.raw.raw.evex.aaa != 0;
  return memory->size >= 128 || masked;
}

/// Several things are wrong with one access, or with the far pointer that it reads.
bool has_choice_of_faults(const Instruction& instruction, uint8_t one, uint8_t other) {
  const auto is_of_access = [](uint8_t vector) {
    return vector == kNotPresent || vector == kStack || vector == kGeneralProtection ||
           vector == kPageFault || vector == kAlignment;
  };
  if (one == other || !is_of_access(one) || !is_of_access(other)) return false;
  const auto* memory = memory_of(instruction);
  const auto category = instruction.raw.meta.category;
  return instruction.raw.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR ||
         category == ZYDIS_CATEGORY_RET || category == ZYDIS_CATEGORY_POP ||
         instruction.mnemonic() == ZYDIS_MNEMONIC_IRET ||
         instruction.mnemonic() == ZYDIS_MNEMONIC_IRETD ||
         instruction.mnemonic() == ZYDIS_MNEMONIC_CLZERO ||
         (memory != nullptr && memory->size == 128);
}

/// Whether a store's page fault or the exception of what is stored comes first.
bool stores_what_may_fault(const Instruction& instruction) {
  return instruction.mnemonic() == ZYDIS_MNEMONIC_VCVTPS2PH ||
         (instruction.raw.meta.category == ZYDIS_CATEGORY_X87_ALU &&
          memory_of(instruction) != nullptr);
}

// Opcodes that a processor does not have: it may find that out before it has fetched them whole.
bool is_cut_short(const Instruction& instruction, const Outcome& fetches, const Outcome& refuses) {
  return refuses.vector == kInvalidOpcode && fetches.vector == kPageFault &&
         fetches.fault_address == kCodeAddress + kPage &&
         refuses.after.rip + instruction.length() + 8 > kCodeAddress + kPage;
}

/// XSTATE_BV for registers that only 64-bit mode names.
void forget_hidden_component(const Instruction& instruction, const Trial& trial, Outcome& expected,
                             Outcome& got) {
  constexpr uint64_t kStateBits = 512;
  constexpr uint8_t kHighZmm = 0x80;
  const auto* memory = memory_of(instruction);
  if (instruction.raw.meta.category != ZYDIS_CATEGORY_XSAVE || memory == nullptr ||
      instruction.mode == CodeMode::k64)
    return;
  const Concrete concrete{.bytes = {.data = {}, .size = trial.code_size},
                          .instruction = instruction};
  const uint64_t linear = linear_address(*memory, concrete, trial.before) + kStateBits;
  const auto offset = image_offset(linear, 1);
  if (!offset) return;
  for (Outcome* outcome : {&expected, &got})
    outcome->image[*offset] &= static_cast<uint8_t>(~kHighZmm);
}

}  // namespace

bool varies(const Instruction& instruction, const Trial& trial, const Outcome& expected,
            const Outcome& got) {
  const auto& raw = instruction.raw;
  const bool faults_differ =
      is_fault(expected.vector) != is_fault(got.vector) || expected.vector != got.vector;
  if (is_cut_short(instruction, expected, got) || is_cut_short(instruction, got, expected))
    return true;
  if (checks_vector_alignment(instruction, trial)) return true;
  // AMD's cut RIP to 16 bits, Intel's ignore the prefix.
  if (instruction.mode == CodeMode::k64 && has_prefix(instruction, 0x66) &&
      (raw.meta.branch_type == ZYDIS_BRANCH_TYPE_SHORT ||
       raw.meta.branch_type == ZYDIS_BRANCH_TYPE_NEAR || raw.meta.category == ZYDIS_CATEGORY_RET))
    return true;
  if (is_wide_far(instruction)) return true;
  if (has_choice_of_faults(instruction, expected.vector, got.vector)) return true;
  if (stores_what_may_fault(instruction) && (faults_differ || is_fault(expected.vector)))
    return true;
  switch (instruction.mnemonic()) {
    case ZYDIS_MNEMONIC_MOVSXD:  // with 16 bits: reads two bytes or four
      return raw.operand_width == 16;
    case ZYDIS_MNEMONIC_POP:  // of a segment register: reads two bytes or the whole slot
      return faults_differ && instruction.operands[0].type == ZYDIS_OPERAND_TYPE_REGISTER &&
             ZydisRegisterGetClass(instruction.operands[0].reg.value) == ZYDIS_REGCLASS_SEGMENT;
    case ZYDIS_MNEMONIC_NOP:  // 0F 0D with a register: PREFETCH or nothing
      return raw.opcode_map == ZYDIS_OPCODE_MAP_0F && raw.opcode == 0x0D;
    case ZYDIS_MNEMONIC_PAUSE:  // with REX.B: PAUSE or XCHG R8, RAX
      return (raw.attributes & ZYDIS_ATTRIB_HAS_REX) != 0 && raw.raw.rex.B != 0;
    case ZYDIS_MNEMONIC_LOOPE:  // with F2H or F3H: these choose the condition, or nothing
    case ZYDIS_MNEMONIC_LOOPNE:
      return has_prefix(instruction, 0xF2) || has_prefix(instruction, 0xF3);
    case ZYDIS_MNEMONIC_INT1:     // a trap, or, under some hypervisors, a fault
    case ZYDIS_MNEMONIC_SYSEXIT:  // #GP at CPL 3, or #UD where long mode has none
      return true;
    default:
      return false;
  }
}

bool may_have_pushed(const Instruction& instruction, uint8_t vector) {
  return vector == kGeneralProtection && instruction.mnemonic() == ZYDIS_MNEMONIC_CALL;
}

void forget_varying(const Instruction& instruction, const Trial& trial, Outcome& expected,
                    Outcome& got) {
  const bool faulted = is_fault(expected.vector);
  if (is_string(instruction)) {
    if (instruction.raw.address_width == 32)
      for (const unsigned reg : {x86::kRcx, x86::kRsi, x86::kRdi})
        for (Outcome* outcome : {&expected, &got}) outcome->after.gpr[reg] &= 0xFFFF'FFFF;
    uint64_t forgotten = x86::rflags::kResume;
    if (expected.after.rip == trial.before.rip) forgotten |= x86::rflags::kArithmetic;
    for (Outcome* outcome : {&expected, &got}) outcome->after.rflags &= ~forgotten;
  }
  forget_hidden_component(instruction, trial, expected, got);
  const std::string_view name = ZydisMnemonicGetString(instruction.mnemonic());
  const bool gathers = name.find("gather") != std::string_view::npos &&
                       instruction.raw.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX;
  if (!gathers || !faulted) return;
  const auto& mask = instruction.operands[2];
  const size_t element = instruction.operands[0].element_size / 8u;
  if (mask.type != ZYDIS_OPERAND_TYPE_REGISTER || element == 0) return;
  for (Outcome* outcome : {&expected, &got}) {
    auto& bytes =
        outcome->after.vector.zmm[static_cast<size_t>(ZydisRegisterGetId(mask.reg.value))];
    for (size_t i = 0; i < bytes.size(); i += element) {
      const uint8_t sign = bytes[i + element - 1] & 0x80;
      std::fill_n(bytes.begin() + static_cast<ptrdiff_t>(i), element, uint8_t{0});
      bytes[i + element - 1] = sign;
    }
  }
}

}  // namespace limen::conformance
