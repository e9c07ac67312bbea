#include "soft/interpret/system/msr.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "base/host_tsc.h"
#include "soft/interpret/operand.h"
#include "x86/cpu_features.h"
#include "x86/kvm_paravirtual.h"

namespace limen::soft::interpret {

using namespace x86;  // NOLINT(google-build-using-namespace): register names by the dozen

namespace {

// Registers that only this file knows.
constexpr uint32_t kPlatformId = 0x17;
constexpr uint32_t kEblCrPowerOn = 0x2A;
constexpr uint32_t kSmiCount = 0x34;
constexpr uint32_t kCoreThreadCount = 0x35;
constexpr uint32_t kMicrocodeUpdate = 0x79;
constexpr uint32_t kLastBranchFirst = 0x1DB;
constexpr uint32_t kLastBranchLast = 0x1DE;
constexpr uint32_t kMtrrPhysLast = 0x20F;
constexpr uint32_t kMtrrFix16k = 0x258;
constexpr uint32_t kMtrrFix4k = 0x268;
constexpr uint32_t kAmdPatchLoader = 0xC001'0020;

constexpr uint64_t kMtrrCapabilities =
    8 | 1u << 8 | 1u << 10;  // 8 variable, fixed, write-combining
constexpr uint64_t kBranchTraceUnavailable = 1u << 11;
constexpr uint64_t kPebsUnavailable = 1u << 12;
constexpr uint64_t kAutomaticIbrs = 1u << 21;  // EFER

// IA32_ARCH_CAPABILITIES (SDM Vol. 4 table 2-2): this processor has none of the flaws.
constexpr uint64_t kArchCapabilities = uint64_t{1} << 0 |   // RDCL_NO
                                       uint64_t{1} << 1 |   // IBRS_ALL
                                       uint64_t{1} << 3 |   // SKIP_L1DFL_VMENTRY
                                       uint64_t{1} << 4 |   // SSB_NO
                                       uint64_t{1} << 5 |   // MDS_NO
                                       uint64_t{1} << 6 |   // IF_PSCHANGE_MC_NO
                                       uint64_t{1} << 8 |   // TAA_NO
                                       uint64_t{1} << 13 |  // SBDR_SSDP_NO
                                       uint64_t{1} << 14 |  // FBSDP_NO
                                       uint64_t{1} << 15 |  // PSDP_NO
                                       uint64_t{1} << 20 |  // BHI_NO
                                       uint64_t{1} << 24 |  // PBRSB_NO
                                       uint64_t{1} << 26 |  // GDS_NO
                                       uint64_t{1} << 27 |  // RFDS_NO
                                       uint64_t{1} << 62;   // ITS_NO

// HWCR: the TSC counts at P0's frequency, as Linux wants it of a TSC that it calls constant.
constexpr uint64_t kTscFrequencySelect = uint64_t{1} << 24;

// AMD registers that, HWCR apart, read as 0 and ignore writes: memory configuration, errata
// switches, power states, and the four legacy performance counters, which no CPUID bit announces.
// Kernels touch them on processors of the family (APM Vol. 2 appendix A; the BKDGs).
constexpr auto kAmdIgnored = std::to_array<std::pair<uint32_t, uint32_t>>({
    {0xC001'0000, 0xC001'0007},  // PerfEvtSel, PerfCtr; nothing is counted
    {msr::kSyscfg, msr::kSyscfg},
    {msr::kHwcr, 0xC001'001A},  // HWCR, IORRs, TOP_MEM
    {0xC001'001D, 0xC001'001F},
    {0xC001'0055, 0xC001'0058},
    {0xC001'0061, 0xC001'0063},
    {0xC001'0111, 0xC001'0113},
    {0xC001'0140, 0xC001'0141},
    {0xC001'1004, 0xC001'1005},
    {0xC001'1020, 0xC001'102F},  // LS_CFG, DE_CFG and neighbours
});

bool is_ignored_amd(const Cpu& cpu, uint32_t index) {
  return cpu.cpuid.is_amd() && std::ranges::any_of(kAmdIgnored, [&](const auto& range) {
           return index >= range.first && index <= range.second;
         });
}

bool has(const Cpu& cpu, std::string_view feature) { return has_feature(cpu.cpuid, feature); }

bool is_memory_type(uint64_t type) { return type <= 6 && type != 2 && type != 3; }

uint64_t physical_mask(const Cpu& cpu) {
  const uint32_t bits = cpu.cpuid.answer(0x8000'0008, 0).eax & 0xFF;
  return (uint64_t{1} << std::clamp(bits, 36u, 52u)) - 1;
}

// Index into SystemState::mtrr_fixed, or -1.
int fixed_mtrr(uint32_t index) {
  if (index == msr::kMtrrFix64k) return 0;
  if (index == kMtrrFix16k || index == kMtrrFix16k + 1)
    return static_cast<int>(index - kMtrrFix16k + 1);
  if (index >= kMtrrFix4k && index < kMtrrFix4k + 8)
    return static_cast<int>(index - kMtrrFix4k + 3);
  return -1;
}

bool is_mtrr(uint32_t index) {
  return (index >= msr::kMtrrPhysBase0 && index <= kMtrrPhysLast) || fixed_mtrr(index) >= 0 ||
         index == msr::kMtrrDefType;
}

uint64_t* mtrr_storage(Cpu& cpu, uint32_t index) {
  if (index == msr::kMtrrDefType) return &cpu.system.mtrr_def_type;
  if (const int fixed = fixed_mtrr(index); fixed >= 0)
    return &cpu.system.mtrr_fixed[static_cast<size_t>(fixed)];
  return &cpu.system.mtrr_variable[index - msr::kMtrrPhysBase0];
}

// SDM Vol. 3A 12.11.2: reserved bits and memory types raise #GP. The types themselves have no
// effect here: all memory is coherent.
bool write_mtrr(Cpu& cpu, uint32_t index, uint64_t value) {
  if (!has(cpu, "mtrr")) return false;
  if (index == msr::kMtrrDefType) {
    if ((value & ~uint64_t{0xCFF}) != 0 || !is_memory_type(value & 0xFF)) return false;
  } else if (fixed_mtrr(index) >= 0) {
    for (unsigned shift = 0; shift < 64; shift += 8)
      if (!is_memory_type(value >> shift & 0xFF)) return false;
  } else if ((index & 1) != 0) {  // mask, with the valid bit
    if ((value & ~physical_mask(cpu)) != 0 || (value & 0x7FF) != 0) return false;
  } else {
    if ((value & ~physical_mask(cpu)) != 0 || (value & 0xF00) != 0 || !is_memory_type(value & 0xFF))
      return false;
  }
  *mtrr_storage(cpu, index) = value;
  return true;
}

// SDM Vol. 3A 12.12.2.
bool write_pat(Cpu& cpu, uint64_t value) {
  for (unsigned shift = 0; shift < 64; shift += 8) {
    const uint64_t type = value >> shift & 0xFF;
    if (!is_memory_type(type) && type != 7) return false;
  }
  cpu.system.pat = value;
  return true;
}

// LMA follows CR0.PG and cannot be written; LME cannot change while paging is on (SDM Vol.
// 3A 2.2.1; APM Vol. 2 3.1.7).
bool write_efer(Cpu& cpu, uint64_t value) {
  uint64_t allowed = efer::kSce | efer::kLma;
  if (has(cpu, "lm")) allowed |= efer::kLme;
  if (has(cpu, "nx") && (cpu.system.misc_enable & misc_enable::kXdDisable) == 0)
    allowed |= efer::kNxe;
  if (cpu.cpuid.is_amd() && (cpu.cpuid.answer(0x8000'0021, 0).eax & 1u << 8) != 0)
    allowed |= kAutomaticIbrs;
  if ((value & ~allowed) != 0) return false;
  const uint64_t old = cpu.system.efer;
  if (((value ^ old) & efer::kLme) != 0 && (cpu.system.cr0 & cr0::kPaging) != 0) return false;
  cpu.system.efer = (value & ~efer::kLma) | (old & efer::kLma);
  cpu.update_mode();
  return true;
}

bool has_spec_ctrl(const Cpu& cpu) {
  return has(cpu, "spec-ctrl") || has(cpu, "stibp") || has(cpu, "ssbd") || has(cpu, "ibrs") ||
         has(cpu, "amd-stibp") || has(cpu, "amd-ssbd");
}

bool has_pred_cmd(const Cpu& cpu) { return has(cpu, "spec-ctrl") || has(cpu, "ibpb"); }

bool write_canonical(uint64_t& where, uint64_t value) {
  if (!is_canonical(value)) return false;
  where = value;
  return true;
}

bool is_local_apic(const Cpu& cpu, uint32_t index) {
  if (index == msr::kTscDeadline) return has(cpu, "tsc-deadline");
  if (index == kvm::msr::kPvEoi) return has(cpu, "kvm-pv-eoi");
  return index == msr::kApicBase || (index >= msr::kX2apicFirst && index <= msr::kX2apicLast);
}

}  // namespace

bool read_msr(Cpu& cpu, uint32_t index, uint64_t& value) {
  const SystemState& system = cpu.system;
  if (is_local_apic(cpu, index)) return cpu.interrupts.read_msr(index, value);
  if (Paravirtual::is_register(index)) return cpu.paravirtual.read(cpu, index, value);
  if (is_mtrr(index)) {
    value = *mtrr_storage(cpu, index);
    return has(cpu, "mtrr");
  }
  value = 0;
  switch (index) {
    case msr::kTimeStampCounter:
      value = cpu.guest_tsc();
      return true;
    case msr::kTscAdjust:
      value = system.tsc_adjust;
      return has(cpu, "tsc-adjust");
    case msr::kTscAux:
      value = system.tsc_aux;
      return has(cpu, "rdtscp") || has(cpu, "rdpid");
    case msr::kSpecCtrl:
      value = system.spec_ctrl;
      return has_spec_ctrl(cpu);
    case msr::kArchCapabilities:
      value = kArchCapabilities;
      return has(cpu, "arch-capabilities");
    case msr::kMtrrCap:
      value = kMtrrCapabilities;
      return has(cpu, "mtrr");
    case msr::kSysenterCs:
      value = system.sysenter_cs;
      return true;
    case msr::kSysenterEsp:
      value = system.sysenter_esp;
      return true;
    case msr::kSysenterEip:
      value = system.sysenter_eip;
      return true;
    case msr::kPat:
      value = system.pat;
      return has(cpu, "pat");
    case msr::kDebugCtl:
      value = system.debug_ctl;
      return true;
    case msr::kPkrs:
      value = system.pkrs;
      return has(cpu, "pks");
    case msr::kXss:
      value = system.xss;
      return has(cpu, "xsaves");
    case msr::kEfer:
      value = system.efer;
      return true;
    case msr::kStar:
      value = system.star;
      return true;
    case msr::kLstar:
      value = system.lstar;
      return true;
    case msr::kCstar:
      value = system.cstar;
      return true;
    case msr::kFmask:
      value = system.fmask;
      return true;
    case msr::kFsBase:
      value = system.segments[kFs].base;
      return true;
    case msr::kGsBase:
      value = system.segments[kGs].base;
      return true;
    case msr::kKernelGsBase:
      value = system.kernel_gs_base;
      return true;
    case msr::kBiosSignature:
      // Revisions that hypervisors show; a guest that compares revisions takes them for new enough.
      value = cpu.cpuid.is_amd() ? 0x0100'0065 : uint64_t{1} << 32;
      return true;
    case msr::kMcgCap:  // no banks
    case msr::kMcgStatus:
      return has(cpu, "mca");
    case kEblCrPowerOn:
      return true;
    default:
      break;
  }
  if (index >= kLastBranchFirst && index <= kLastBranchLast) return true;
  if (cpu.cpuid.is_amd()) {
    if (index == msr::kHwcr) value = kTscFrequencySelect;
    return is_ignored_amd(cpu, index);
  }
  switch (index) {
    case kPlatformId:
    case kSmiCount:
      return true;
    case kCoreThreadCount: {
      const uint32_t per_core = std::max(cpu.cpuid.answer(0xB, 0).ebx, 1u);
      const uint32_t threads = std::max(cpu.cpuid.answer(0xB, 1).ebx, 1u);
      value = uint64_t{threads / per_core} << 16 | threads;
      return true;
    }
    case msr::kFeatureControl:
      value = 1;  // locked, with nothing enabled
      return true;
    case msr::kPlatformInfo:
      value = (host_tsc_hz() / 100'000'000 & 0xFF) << 8;  // ratio to a bus of 100 MHz
      return true;
    case msr::kMiscEnable:
      value = system.misc_enable | kBranchTraceUnavailable | kPebsUnavailable;
      return true;
    default:
      return false;
  }
}

bool write_msr(Cpu& cpu, uint32_t index, uint64_t value) {
  SystemState& system = cpu.system;
  if (is_local_apic(cpu, index)) return cpu.interrupts.write_msr(index, value);
  if (Paravirtual::is_register(index)) return cpu.paravirtual.write(cpu, index, value);
  if (is_mtrr(index)) return write_mtrr(cpu, index, value);
  switch (index) {
    case msr::kTimeStampCounter: {
      // The write shows in IA32_TSC_ADJUST, too (SDM Vol. 3B 17.17.3).
      const uint64_t change = value - cpu.guest_tsc();
      system.tsc_offset += change;
      system.tsc_adjust += change;
      cpu.interrupts.set_tsc_offset(system.tsc_offset);
      cpu.paravirtual.tsc_changed(cpu);
      return true;
    }
    case msr::kTscAdjust:
      if (!has(cpu, "tsc-adjust")) return false;
      system.tsc_offset += value - system.tsc_adjust;
      system.tsc_adjust = value;
      cpu.interrupts.set_tsc_offset(system.tsc_offset);
      cpu.paravirtual.tsc_changed(cpu);
      return true;
    case msr::kTscAux:
      if ((!has(cpu, "rdtscp") && !has(cpu, "rdpid")) || value >> 32 != 0) return false;
      system.tsc_aux = value;
      return true;
    case msr::kSpecCtrl:
      if (!has_spec_ctrl(cpu) || (value & ~uint64_t{7}) != 0) return false;
      system.spec_ctrl = value;  // kept for the guest to read; there is nothing to restrain
      return true;
    case msr::kPredCmd:
      return has_pred_cmd(cpu) && (value & ~uint64_t{0x81}) == 0;
    case msr::kFlushCmd:
      return has(cpu, "flush-l1d") && (value & ~uint64_t{1}) == 0;
    case msr::kSysenterCs:
      system.sysenter_cs = value & 0xFFFF'FFFF;
      return true;
    case msr::kSysenterEsp:
      return write_canonical(system.sysenter_esp, value);
    case msr::kSysenterEip:
      return write_canonical(system.sysenter_eip, value);
    case msr::kPat:
      return has(cpu, "pat") && write_pat(cpu, value);
    case msr::kDebugCtl:
      // LBR, BTF, and the trace and freeze controls of machines without a PMU, which do nothing.
      if ((value & ~uint64_t{0x5FC3}) != 0) return false;
      system.debug_ctl = value;
      return true;
    case msr::kPkrs:
      if (!has(cpu, "pks") || value >> 32 != 0) return false;
      system.pkrs = static_cast<uint32_t>(value);
      cpu.mmu.set_supervisor_keys(system.pkrs);
      return true;
    case msr::kXss:
      return has(cpu, "xsaves") && value == 0;
    case msr::kEfer:
      return write_efer(cpu, value);
    case msr::kStar:
      system.star = value;
      return true;
    case msr::kLstar:
      return write_canonical(system.lstar, value);
    case msr::kCstar:
      return write_canonical(system.cstar, value);
    case msr::kFmask:
      if (value >> 32 != 0) return false;
      system.fmask = value;
      return true;
    case msr::kFsBase:
      return write_canonical(system.segments[kFs].base, value);
    case msr::kGsBase:
      return write_canonical(system.segments[kGs].base, value);
    case msr::kKernelGsBase:
      return write_canonical(system.kernel_gs_base, value);
    case msr::kBiosSignature:  // cleared before CPUID is used to load it (SDM Vol. 3A 10.11.7.1)
    case kMicrocodeUpdate:
    case kEblCrPowerOn:
      return true;
    case msr::kMcgStatus:
      return has(cpu, "mca") && value == 0;
    default:
      break;
  }
  if (cpu.cpuid.is_amd()) return index == kAmdPatchLoader || is_ignored_amd(cpu, index);
  switch (index) {
    case msr::kMiscEnable: {
      // Fast strings, thermal, MWAIT, CPUID limit, xTPR and XD bits. The monitor of performance (7)
      // is read-only; cpuid_answer() looks at the limit and XD.
      constexpr uint64_t kWritable = 1u << 0 | 1u << 3 | 1u << 7 | 1u << 11 | 1u << 12 | 1u << 16 |
                                     1u << 18 | 1u << 22 | 1u << 23 | uint64_t{1} << 34 |
                                     uint64_t{1} << 38;
      if ((value & ~kWritable) != 0) return false;
      system.misc_enable = value & ~(uint64_t{1} << 7);
      return true;
    }
    default:
      return false;
  }
}

}  // namespace limen::soft::interpret
