// The table of the system class: which handler runs which mnemonic, and what it needs to know of
// the encoding.
#include "soft/interpret/select.h"

#include "soft/interpret/integer/forms.h"
#include "soft/interpret/system/handlers.h"
#include "x86/registers.h"

namespace limen::soft::interpret {
namespace {

using decode::CodeMode;
using decode::Instruction;

bool has_operand_size_prefix(const Instruction& instruction) {
  for (unsigned i = 0; i < instruction.raw.raw.prefix_count; ++i)
    if (instruction.raw.raw.prefixes[i].value == 0x66) return true;
  return false;
}

/// The operand size as the SDM defines it, whatever width the decoder reports for hidden operands
/// (SDM Vol. 1 3.6).
uint8_t operand_size(const Instruction& instruction) {
  if (instruction.raw.raw.rex.W) return 8;
  const bool prefix = has_operand_size_prefix(instruction);
  return (instruction.mode == CodeMode::k16) != prefix ? 2 : 4;
}

/// The same for instructions whose operands are 64 bits wide in 64-bit mode without REX.W.
uint8_t stack_operand_size(const Instruction& instruction) {
  if (instruction.mode != CodeMode::k64) return operand_size(instruction);
  return has_operand_size_prefix(instruction) && !instruction.raw.raw.rex.W ? 2 : 8;
}

uint8_t modrm_reg(const Instruction& instruction) {
  return static_cast<uint8_t>(instruction.raw.raw.modrm.reg | (instruction.raw.raw.rex.R << 3));
}
uint8_t modrm_rm(const Instruction& instruction) {
  return static_cast<uint8_t>(instruction.raw.raw.modrm.rm | (instruction.raw.raw.rex.B << 3));
}

Handler select_special_move(const Instruction& instruction, Operation& operation) {
  const auto map = instruction.raw.opcode_map;
  const uint8_t opcode = instruction.raw.opcode;
  if (map == ZYDIS_OPCODE_MAP_DEFAULT && (opcode == 0x8C || opcode == 0x8E)) {
    operation.reg = instruction.raw.raw.modrm.reg;
    operation.operand_size = operand_size(instruction);
    if (operation.reg > x86::kGs || (opcode == 0x8E && operation.reg == x86::kCs))
      return invalid_opcode;
    return opcode == 0x8C ? move_from_segment : move_to_segment;
  }
  if (map != ZYDIS_OPCODE_MAP_0F || opcode < 0x20 || opcode > 0x23) return nullptr;
  operation.reg = modrm_reg(instruction);
  operation.rm = modrm_rm(instruction);
  static constexpr Handler kHandlers[] = {move_from_control, move_from_debug, move_to_control,
                                          move_to_debug};
  return kHandlers[opcode - 0x20];
}

Handler select_segment_stack(const Instruction& instruction, Operation& operation,
                             Handler handler) {
  const auto& operand = instruction.operands[0];
  if (operand.type != ZYDIS_OPERAND_TYPE_REGISTER ||
      ZydisRegisterGetClass(operand.reg.value) != ZYDIS_REGCLASS_SEGMENT)
    return nullptr;
  operation.reg = static_cast<uint8_t>(ZydisRegisterGetId(operand.reg.value));
  operation.operand_size = stack_operand_size(instruction);
  return handler;
}

Handler select_port(const Instruction& instruction, Operation& operation) {
  const bool is_byte = (instruction.raw.opcode & 1) == 0;
  operation.operand_size =
      is_byte ? uint8_t{1} : static_cast<uint8_t>(operand_size(instruction) == 2 ? 2 : 4);
  switch (instruction.mnemonic()) {
    case ZYDIS_MNEMONIC_INSB:
    case ZYDIS_MNEMONIC_INSW:
    case ZYDIS_MNEMONIC_INSD:
      return port_in_string;
    case ZYDIS_MNEMONIC_OUTSB:
    case ZYDIS_MNEMONIC_OUTSW:
    case ZYDIS_MNEMONIC_OUTSD:
      operation.segment = segment_of_hidden_memory(instruction);
      return port_out_string;
    default:
      break;
  }
  const bool port_is_immediate = (instruction.raw.opcode & 0x08) == 0;
  operation.base = port_is_immediate ? kZeroRegister : uint8_t{x86::kRdx};
  operation.immediate = port_is_immediate ? operation.immediate & 0xFF : 0;
  return instruction.mnemonic() == ZYDIS_MNEMONIC_IN ? port_in : port_out;
}

/// Handlers that want the architectural operand size.
Handler with_size(const Instruction& instruction, Operation& operation, Handler handler) {
  operation.operand_size = operand_size(instruction);
  return handler;
}

Handler select_by_size(const Instruction& instruction, Operation& operation) {
  const auto sized = [&](Handler handler) { return with_size(instruction, operation, handler); };
  switch (instruction.mnemonic()) {
    case ZYDIS_MNEMONIC_LDS:
    case ZYDIS_MNEMONIC_LES:
    case ZYDIS_MNEMONIC_LFS:
    case ZYDIS_MNEMONIC_LGS:
    case ZYDIS_MNEMONIC_LSS:
      return sized(load_far_pointer);
    case ZYDIS_MNEMONIC_JMP:
      return instruction.raw.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR ? sized(jump_far) : nullptr;
    case ZYDIS_MNEMONIC_CALL:
      return instruction.raw.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR ? sized(call_far) : nullptr;
    case ZYDIS_MNEMONIC_RET:
      return instruction.raw.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR ? sized(return_far)
                                                                       : nullptr;
    case ZYDIS_MNEMONIC_IRET:
    case ZYDIS_MNEMONIC_IRETD:
    case ZYDIS_MNEMONIC_IRETQ:
      return sized(interrupt_return);
    case ZYDIS_MNEMONIC_BOUND:
      return sized(check_bounds);
    case ZYDIS_MNEMONIC_SYSRET:
      return sized(system_return);
    case ZYDIS_MNEMONIC_SYSEXIT:
      return sized(fast_system_return);
    case ZYDIS_MNEMONIC_RDFSBASE:
      return sized(read_fs_base);
    case ZYDIS_MNEMONIC_RDGSBASE:
      return sized(read_gs_base);
    case ZYDIS_MNEMONIC_WRFSBASE:
      return sized(write_fs_base);
    case ZYDIS_MNEMONIC_WRGSBASE:
      return sized(write_gs_base);
    case ZYDIS_MNEMONIC_SMSW:
      return sized(store_machine_status);
    case ZYDIS_MNEMONIC_LGDT:
      return sized(load_gdtr);
    case ZYDIS_MNEMONIC_LIDT:
      return sized(load_idtr);
    case ZYDIS_MNEMONIC_SLDT:
      return sized(store_ldtr);
    case ZYDIS_MNEMONIC_STR:
      return sized(store_task_register);
    case ZYDIS_MNEMONIC_LAR:
      return sized(load_access_rights);
    case ZYDIS_MNEMONIC_LSL:
      return sized(load_segment_limit);
    default:
      return nullptr;
  }
}

Handler select_plain(const Instruction& instruction) {
  switch (instruction.mnemonic()) {
    case ZYDIS_MNEMONIC_INT:
      return software_interrupt;
    case ZYDIS_MNEMONIC_INT3:
      return breakpoint_interrupt;
    case ZYDIS_MNEMONIC_INTO:
      return overflow_interrupt;
    case ZYDIS_MNEMONIC_INT1:
      return debug_interrupt;
    case ZYDIS_MNEMONIC_SYSCALL:
      return system_call;
    case ZYDIS_MNEMONIC_SYSENTER:
      return fast_system_call;
    case ZYDIS_MNEMONIC_SWAPGS:
      return swap_gs;
    case ZYDIS_MNEMONIC_CLI:
      return clear_interrupt_flag;
    case ZYDIS_MNEMONIC_STI:
      return set_interrupt_flag;
    case ZYDIS_MNEMONIC_CLAC:
      return clear_ac;
    case ZYDIS_MNEMONIC_STAC:
      return set_ac;
    case ZYDIS_MNEMONIC_VMCALL:
    case ZYDIS_MNEMONIC_VMMCALL:
      return hypercall;
    case ZYDIS_MNEMONIC_LMSW:
      return load_machine_status;
    case ZYDIS_MNEMONIC_CLTS:
      return clear_task_switched;
    case ZYDIS_MNEMONIC_XGETBV:
      return get_extended_control;
    case ZYDIS_MNEMONIC_XSETBV:
      return set_extended_control;
    case ZYDIS_MNEMONIC_SGDT:
      return store_gdtr;
    case ZYDIS_MNEMONIC_SIDT:
      return store_idtr;
    case ZYDIS_MNEMONIC_LLDT:
      return load_ldtr;
    case ZYDIS_MNEMONIC_LTR:
      return load_task_register;
    case ZYDIS_MNEMONIC_VERR:
      return verify_read;
    case ZYDIS_MNEMONIC_VERW:
      return verify_write;
    case ZYDIS_MNEMONIC_ARPL:
      return adjust_rpl;
    case ZYDIS_MNEMONIC_INVLPG:
      return invalidate_page;
    case ZYDIS_MNEMONIC_INVPCID:
      return invalidate_pcid;
    case ZYDIS_MNEMONIC_INVD:
    case ZYDIS_MNEMONIC_WBINVD:
      return write_back_caches;
    case ZYDIS_MNEMONIC_CLFLUSH:
    case ZYDIS_MNEMONIC_CLFLUSHOPT:
    case ZYDIS_MNEMONIC_CLWB:
      return flush_cache_line;
    case ZYDIS_MNEMONIC_CLDEMOTE:
      return demote_cache_line;
    case ZYDIS_MNEMONIC_CLZERO:
      return zero_cache_line;
    case ZYDIS_MNEMONIC_RDMSR:
      return read_model_specific;
    case ZYDIS_MNEMONIC_WRMSR:
      return write_model_specific;
    case ZYDIS_MNEMONIC_CPUID:
      return identify_processor;
    case ZYDIS_MNEMONIC_RDTSC:
      return read_tsc;
    case ZYDIS_MNEMONIC_RDTSCP:
      return read_tsc_and_aux;
    case ZYDIS_MNEMONIC_RDPID:
      return read_processor_id;
    case ZYDIS_MNEMONIC_RDPMC:
      return read_performance_counter;
    case ZYDIS_MNEMONIC_HLT:
      return halt;
    default:
      return nullptr;
  }
}

/// Instructions of features that no guest is shown: they are not to reach the host's processor.
bool is_hidden(ZydisMnemonic mnemonic) {
  switch (mnemonic) {
    case ZYDIS_MNEMONIC_RSM:
    case ZYDIS_MNEMONIC_MONITOR:
    case ZYDIS_MNEMONIC_MWAIT:
    case ZYDIS_MNEMONIC_MONITORX:
    case ZYDIS_MNEMONIC_MWAITX:
    case ZYDIS_MNEMONIC_UMONITOR:
    case ZYDIS_MNEMONIC_UMWAIT:
    case ZYDIS_MNEMONIC_TPAUSE:
    case ZYDIS_MNEMONIC_UD0:
    case ZYDIS_MNEMONIC_UD1:
    case ZYDIS_MNEMONIC_UD2:
    case ZYDIS_MNEMONIC_GETSEC:
    case ZYDIS_MNEMONIC_ENCLS:
    case ZYDIS_MNEMONIC_ENCLU:
    case ZYDIS_MNEMONIC_ENCLV:
    case ZYDIS_MNEMONIC_PCONFIG:
    case ZYDIS_MNEMONIC_RDPKRU:
    case ZYDIS_MNEMONIC_WRPKRU:
    case ZYDIS_MNEMONIC_RDPRU:
    case ZYDIS_MNEMONIC_ENQCMD:
    case ZYDIS_MNEMONIC_ENQCMDS:
    // VMX
    case ZYDIS_MNEMONIC_VMCLEAR:
    case ZYDIS_MNEMONIC_VMFUNC:
    case ZYDIS_MNEMONIC_VMLAUNCH:
    case ZYDIS_MNEMONIC_VMPTRLD:
    case ZYDIS_MNEMONIC_VMPTRST:
    case ZYDIS_MNEMONIC_VMREAD:
    case ZYDIS_MNEMONIC_VMRESUME:
    case ZYDIS_MNEMONIC_VMWRITE:
    case ZYDIS_MNEMONIC_VMXOFF:
    case ZYDIS_MNEMONIC_VMXON:
    case ZYDIS_MNEMONIC_INVEPT:
    case ZYDIS_MNEMONIC_INVVPID:
    // SVM
    case ZYDIS_MNEMONIC_VMRUN:
    case ZYDIS_MNEMONIC_VMLOAD:
    case ZYDIS_MNEMONIC_VMSAVE:
    case ZYDIS_MNEMONIC_STGI:
    case ZYDIS_MNEMONIC_CLGI:
    case ZYDIS_MNEMONIC_SKINIT:
    case ZYDIS_MNEMONIC_INVLPGA:
    case ZYDIS_MNEMONIC_INVLPGB:
    case ZYDIS_MNEMONIC_TLBSYNC:
    case ZYDIS_MNEMONIC_PSMASH:
    case ZYDIS_MNEMONIC_PVALIDATE:
    case ZYDIS_MNEMONIC_RMPADJUST:
    case ZYDIS_MNEMONIC_RMPUPDATE:
    // CET, user interrupts, TDX
    case ZYDIS_MNEMONIC_INCSSPD:
    case ZYDIS_MNEMONIC_INCSSPQ:
    case ZYDIS_MNEMONIC_SAVEPREVSSP:
    case ZYDIS_MNEMONIC_RSTORSSP:
    case ZYDIS_MNEMONIC_WRSSD:
    case ZYDIS_MNEMONIC_WRSSQ:
    case ZYDIS_MNEMONIC_WRUSSD:
    case ZYDIS_MNEMONIC_WRUSSQ:
    case ZYDIS_MNEMONIC_SETSSBSY:
    case ZYDIS_MNEMONIC_CLRSSBSY:
    case ZYDIS_MNEMONIC_CLUI:
    case ZYDIS_MNEMONIC_STUI:
    case ZYDIS_MNEMONIC_TESTUI:
    case ZYDIS_MNEMONIC_UIRET:
    case ZYDIS_MNEMONIC_SENDUIPI:
    case ZYDIS_MNEMONIC_SEAMCALL:
    case ZYDIS_MNEMONIC_SEAMOPS:
    case ZYDIS_MNEMONIC_SEAMRET:
    case ZYDIS_MNEMONIC_TDCALL:
      return true;
    default:
      return false;
  }
}

}  // namespace

Handler select_system(const Instruction& instruction, Operation& operation) {
  switch (instruction.mnemonic()) {
    case ZYDIS_MNEMONIC_MOV:
      return select_special_move(instruction, operation);
    case ZYDIS_MNEMONIC_PUSH:
      return select_segment_stack(instruction, operation, push_segment);
    case ZYDIS_MNEMONIC_POP:
      return select_segment_stack(instruction, operation, pop_segment);
    case ZYDIS_MNEMONIC_PUSHF:
    case ZYDIS_MNEMONIC_PUSHFD:
    case ZYDIS_MNEMONIC_PUSHFQ:
      operation.operand_size = stack_operand_size(instruction);
      return push_flags;
    case ZYDIS_MNEMONIC_POPF:
    case ZYDIS_MNEMONIC_POPFD:
    case ZYDIS_MNEMONIC_POPFQ:
      operation.operand_size = stack_operand_size(instruction);
      return pop_flags;
    case ZYDIS_MNEMONIC_IN:
    case ZYDIS_MNEMONIC_OUT:
    case ZYDIS_MNEMONIC_INSB:
    case ZYDIS_MNEMONIC_INSW:
    case ZYDIS_MNEMONIC_INSD:
    case ZYDIS_MNEMONIC_OUTSB:
    case ZYDIS_MNEMONIC_OUTSW:
    case ZYDIS_MNEMONIC_OUTSD:
      return select_port(instruction, operation);
    default:
      break;
  }
  if (is_hidden(instruction.mnemonic())) return invalid_opcode;
  if (const Handler handler = select_by_size(instruction, operation)) return handler;
  return select_plain(instruction);
}

}  // namespace limen::soft::interpret
