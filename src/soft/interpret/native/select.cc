// Chooses how each instruction of this folder is run.
#include "soft/interpret/select.h"

#include "soft/cpu.h"
#include "soft/interpret/native/features.h"
#include "soft/interpret/native/run.h"
#include "soft/interpret/native/special.h"
#include "soft/interpret/native/thunk.h"

namespace limen::soft::interpret {

using namespace native;  // NOLINT(google-build-using-namespace): the folder's own

namespace {

/// Opcodes that older processors read without their F3 prefix (SDM Vol. 2A LZCNT, TZCNT).
bool is_scan_without_prefix(const decode::Instruction& instruction) {
  return instruction.mnemonic() == ZYDIS_MNEMONIC_TZCNT ||
         instruction.mnemonic() == ZYDIS_MNEMONIC_LZCNT;
}

/// FOP for the instruction as the guest wrote it (SDM Vol. 1 8.1.9).
uint16_t x87_opcode(const decode::Instruction& instruction) {
  const uint8_t modrm = instruction.bytes[instruction.raw.raw.modrm.offset];
  return static_cast<uint16_t>(((instruction.raw.opcode & 7) << 8) | modrm);
}

Handler select_special(const decode::Instruction& instruction, Operation& operation, Cpu& cpu) {
  if (instruction.has(ZYDIS_ATTRIB_HAS_LOCK)) return nullptr;
  if (const Handler handler = select_move(instruction, operation)) return handler;
  if (const Handler handler = select_gather(instruction, operation)) return handler;
  if (const Handler handler = select_x87_environment(instruction)) return handler;
  if (const Handler handler = select_state_area(instruction, operation, cpu)) return handler;
  return select_miscellaneous(instruction, operation);
}

}  // namespace

Handler select_native(const decode::Instruction& instruction, Operation& operation, Cpu& cpu) {
  const Availability available = availability(instruction, cpu.cpuid);
  if (available == Availability::kForeign) return nullptr;
  const bool plain_scan = available == Availability::kHidden && is_scan_without_prefix(instruction);
  if (available == Availability::kHidden && !plain_scan) return invalid_opcode;

  if (const Handler handler = select_special(instruction, operation, cpu)) return handler;
  bool full = false;
  const Thunk* thunk = find_thunk(instruction, cpu, plain_scan, full);
  if (!thunk && !full) return nullptr;
  operation.native = thunk;
  const bool x87 = uses_x87_state(instruction);
  if (x87) operation.immediate = x87_opcode(instruction);
  if (!thunk) return run_transient;
  const Check required = required_check(instruction);
  return x87 ? x87_thunk_handler(required) : thunk_handler(required, *thunk);
}

}  // namespace limen::soft::interpret
