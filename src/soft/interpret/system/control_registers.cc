// MOV to and from control registers, LMSW, SMSW, CLTS, XGETBV, XSETBV (SDM Vol. 2A, 2B "MOV"; Vol.
// 3A 2.5, 2.6, 4.1.2, 9.8.5).
#include "soft/interpret/operand.h"
#include "soft/interpret/system/features.h"
#include "soft/interpret/system/handlers.h"

namespace limen::soft::interpret {

using decode::CodeMode;
using x86::Exception;
namespace cr0 = x86::cr0;
namespace cr4 = x86::cr4;
namespace efer = x86::efer;

namespace {

[[noreturn]] void refuse() { Cpu::raise(Exception::general_protection()); }

void require_ring_0(const Cpu& cpu) {
  if (cpu.cpl != 0) refuse();
}

constexpr uint64_t kCr0Defined = cr0::kProtection | cr0::kMonitorCoprocessor | cr0::kEmulation |
                                 cr0::kTaskSwitched | cr0::kExtensionType | cr0::kNumericError |
                                 cr0::kWriteProtect | cr0::kAlignmentMask | cr0::kNotWriteThrough |
                                 cr0::kCacheDisable | cr0::kPaging;

void write_cr0(Cpu& cpu, uint64_t value) {
  if (value >> 32) refuse();
  value = (value & kCr0Defined) | cr0::kExtensionType;
  const uint64_t old = cpu.system.cr0;
  const bool pages = value & cr0::kPaging;
  if (pages && !(value & cr0::kProtection)) refuse();
  if ((value & cr0::kNotWriteThrough) && !(value & cr0::kCacheDisable)) refuse();

  uint64_t new_efer = cpu.system.efer;
  if (pages && !(old & cr0::kPaging)) {
    if (new_efer & efer::kLme) {
      if (!(cpu.system.cr4 & cr4::kPae) || cpu.system.segments[x86::kCs].is_long()) refuse();
      new_efer |= efer::kLma;
    }
  } else if (!pages && (old & cr0::kPaging)) {
    if (cpu.mode == CodeMode::k64 || (cpu.system.cr4 & cr4::kPcide)) refuse();
    new_efer &= ~efer::kLma;
  }
  constexpr uint64_t kLoadsPdptes = cr0::kPaging | cr0::kCacheDisable | cr0::kNotWriteThrough;
  if (pages && !(new_efer & efer::kLma) && (cpu.system.cr4 & cr4::kPae) &&
      ((old ^ value) & kLoadsPdptes) && !cpu.mmu.load_pdptes(cpu.system.cr3))
    refuse();

  cpu.system.cr0 = value;
  cpu.system.efer = new_efer;
  cpu.update_mode();
}

/// The bits of CR4 that the guest's CPUID gives a meaning to.
uint64_t cr4_defined(const Cpu& cpu) {
  struct Owner {
    Feature feature;
    uint64_t bits;
  };
  static constexpr Owner kOwners[] = {
      {Feature::kVme, cr4::kVme | cr4::kPvi},
      {Feature::kTsc, cr4::kTsd},
      {Feature::kDebugExtensions, cr4::kDe},
      {Feature::kPse, cr4::kPse},
      {Feature::kPae, cr4::kPae},
      {Feature::kMce, cr4::kMce},
      {Feature::kPge, cr4::kPge},
      {Feature::kFxsr, cr4::kOsfxsr | cr4::kOsxmmexcpt},
      {Feature::kUmip, cr4::kUmip},
      {Feature::kFsgsbase, cr4::kFsgsbase},
      {Feature::kPcid, cr4::kPcide},
      {Feature::kXsave, cr4::kOsxsave},
      {Feature::kSmep, cr4::kSmep},
      {Feature::kSmap, cr4::kSmap},
      {Feature::kPks, cr4::kPks},
  };
  uint64_t defined = cr4::kPce;
  for (const Owner& owner : kOwners)
    if (has_feature(cpu, owner.feature)) defined |= owner.bits;
  return defined;
}

void write_cr4(Cpu& cpu, uint64_t value) {
  const uint64_t old = cpu.system.cr4;
  const uint64_t changed = old ^ value;
  if (changed & value & ~cr4_defined(cpu)) refuse();
  if (cpu.long_mode && !(value & cr4::kPae)) refuse();
  if ((changed & value & cr4::kPcide) && (!cpu.long_mode || (cpu.system.cr3 & 0xFFF))) refuse();
  constexpr uint64_t kLoadsPdptes = cr4::kPae | cr4::kPge | cr4::kPse | cr4::kSmep;
  if ((cpu.system.cr0 & cr0::kPaging) && !cpu.long_mode && (value & cr4::kPae) &&
      (changed & kLoadsPdptes) && !cpu.mmu.load_pdptes(cpu.system.cr3))
    refuse();
  cpu.system.cr4 = value;
  cpu.update_mode();
}

void write_cr3(Cpu& cpu, uint64_t value) {
  constexpr uint64_t kNoFlush = uint64_t{1} << 63;
  const bool keep = (cpu.system.cr4 & cr4::kPcide) && (value & kNoFlush);
  if (keep) value &= ~kNoFlush;
  if (!cpu.mmu.load_cr3(value, keep)) refuse();
  cpu.system.cr3 = value;
  cpu.update_mode();
}

}  // namespace

void move_to_control(Cpu& cpu, const Operation& operation) {
  const unsigned number = operation.reg;
  if (number > 8 || number == 1 || (number >= 5 && number <= 7))
    Cpu::raise(Exception::invalid_opcode());
  require_ring_0(cpu);
  const uint64_t value = cpu.mode == CodeMode::k64 ? cpu.gpr[operation.rm]
                                                   : static_cast<uint32_t>(cpu.gpr[operation.rm]);
  switch (number) {
    case 0:
      return write_cr0(cpu, value);
    case 2:
      cpu.system.cr2 = value;
      return;
    case 3:
      return write_cr3(cpu, value);
    case 4:
      return write_cr4(cpu, value);
    default:
      if (value >> 4) refuse();
      cpu.interrupts.set_task_priority(static_cast<uint8_t>(value));
      cpu.attention.call();
      cpu.leave_block = true;
      return;
  }
}

void move_from_control(Cpu& cpu, const Operation& operation) {
  require_ring_0(cpu);
  uint64_t value = 0;
  switch (operation.reg) {
    case 0:
      value = cpu.system.cr0;
      break;
    case 2:
      value = cpu.system.cr2;
      break;
    case 3:
      value = cpu.system.cr3;
      break;
    case 4:
      value = cpu.system.cr4;
      break;
    case 8:
      value = cpu.interrupts.task_priority();
      break;
    default:
      Cpu::raise(Exception::invalid_opcode());
  }
  cpu.gpr[operation.rm] = cpu.mode == CodeMode::k64 ? value : static_cast<uint32_t>(value);
}

void load_machine_status(Cpu& cpu, const Operation& operation) {
  require_ring_0(cpu);
  const uint16_t value =
      (operation.flags & Operation::kMemory)
          ? cpu.mmu.read<uint16_t>(operand_linear(cpu, operation, 2, AccessKind::kRead))
          : get_register<uint16_t>(cpu, operation.rm);
  // PE can be set but not cleared.
  constexpr uint64_t kReplaced = cr0::kMonitorCoprocessor | cr0::kEmulation | cr0::kTaskSwitched;
  write_cr0(cpu, (cpu.system.cr0 & ~kReplaced) | (value & (kReplaced | cr0::kProtection)));
}

void store_machine_status(Cpu& cpu, const Operation& operation) {
  if (cpu.cpl != 0 && (cpu.system.cr4 & cr4::kUmip)) refuse();
  const uint64_t value = cpu.system.cr0;
  if (operation.flags & Operation::kMemory)
    cpu.mmu.write<uint16_t>(operand_linear(cpu, operation, 2, AccessKind::kWrite),
                            static_cast<uint16_t>(value));
  else if (operation.operand_size == 2)
    set_register<uint16_t>(cpu, operation.rm, static_cast<uint16_t>(value));
  else
    set_register<uint64_t>(cpu, operation.rm, value);
}

void clear_task_switched(Cpu& cpu, const Operation&) {
  require_ring_0(cpu);
  cpu.system.cr0 &= ~cr0::kTaskSwitched;
  cpu.update_mode();
}

namespace {

bool valid_xcr0(const Cpu& cpu, uint64_t value) {
  using namespace x86::xcr0;  // NOLINT(google-build-using-namespace)
  const x86::CpuidResult* leaf = cpu.cpuid.find(0xD, 0);
  const uint64_t supported =
      leaf == nullptr ? kX87 : leaf->eax | (static_cast<uint64_t>(leaf->edx) << 32);
  if ((value & ~supported) || !(value & kX87)) return false;
  if ((value & kAvx) && !(value & kSse)) return false;
  const uint64_t avx512 = value & kAvx512;
  return avx512 == 0 || (avx512 == kAvx512 && (value & kAvx));
}

void require_os_xsave(const Cpu& cpu) {
  if (!(cpu.system.cr4 & cr4::kOsxsave)) Cpu::raise(Exception::invalid_opcode());
}

}  // namespace

void get_extended_control(Cpu& cpu, const Operation&) {
  require_os_xsave(cpu);
  const auto index = static_cast<uint32_t>(cpu.gpr[x86::kRcx]);
  constexpr uint32_t kInUse = 1;
  constexpr uint32_t kInUseSupported = 1u << 2;  // CPUID.(0DH,1):EAX
  if (index == kInUse) {
    const x86::CpuidResult* leaf = cpu.cpuid.find(0xD, 1);
    if (leaf == nullptr || !(leaf->eax & kInUseSupported)) refuse();
  } else if (index != 0) {
    refuse();
  }
  // Every enabled component counts as in use.
  set_register<uint32_t>(cpu, x86::kRax, static_cast<uint32_t>(cpu.system.xcr0));
  set_register<uint32_t>(cpu, x86::kRdx, static_cast<uint32_t>(cpu.system.xcr0 >> 32));
}

void set_extended_control(Cpu& cpu, const Operation&) {
  require_os_xsave(cpu);
  require_ring_0(cpu);
  const uint64_t value = (cpu.gpr[x86::kRdx] << 32) | static_cast<uint32_t>(cpu.gpr[x86::kRax]);
  if (static_cast<uint32_t>(cpu.gpr[x86::kRcx]) != 0 || !valid_xcr0(cpu, value)) refuse();
  cpu.system.xcr0 = value;
  cpu.leave_block = true;
}

}  // namespace limen::soft::interpret
