#include "kvm/state/msrs.h"

#include <algorithm>
#include <array>
#include <functional>
#include <span>

#include "base/log.h"
#include "kvm/ioctl.h"
#include "kvm/kernel.h"
#include "kvm/listed.h"
#include "x86/kvm_paravirtual.h"
#include "x86/registers.h"

namespace limen::kvm {
namespace {

namespace msr = x86::msr;
using x86::SystemState;

struct Register {
  uint32_t index;
  uint64_t SystemState::*value;
};
constexpr std::array kRegisters = {
    Register{msr::kStar, &SystemState::star},
    Register{msr::kLstar, &SystemState::lstar},
    Register{msr::kCstar, &SystemState::cstar},
    Register{msr::kFmask, &SystemState::fmask},
    Register{msr::kKernelGsBase, &SystemState::kernel_gs_base},
    Register{msr::kSysenterCs, &SystemState::sysenter_cs},
    Register{msr::kSysenterEsp, &SystemState::sysenter_esp},
    Register{msr::kSysenterEip, &SystemState::sysenter_eip},
    Register{msr::kPat, &SystemState::pat},
    Register{msr::kTscAux, &SystemState::tsc_aux},
    Register{msr::kTscAdjust, &SystemState::tsc_adjust},
    Register{msr::kMiscEnable, &SystemState::misc_enable},
    Register{msr::kSpecCtrl, &SystemState::spec_ctrl},
    Register{msr::kXss, &SystemState::xss},
    Register{msr::kDebugCtl, &SystemState::debug_ctl},
    Register{msr::kMtrrDefType, &SystemState::mtrr_def_type},
    Register{msr::kFeatureControl, &SystemState::feature_control},
    Register{msr::kVmHsavePa, &SystemState::vm_hsave_pa},
    Register{x86::kvm::msr::kWallClock, &SystemState::kvm_wall_clock},
    Register{x86::kvm::msr::kSystemTime, &SystemState::kvm_system_time},
    Register{x86::kvm::msr::kStealTime, &SystemState::kvm_steal_time},
};

/// Every processor that KVM knows has them; KVM_GET_MSR_INDEX_LIST leaves some of them out.
constexpr std::array kUnlisted = {msr::kMtrrDefType};

struct Range {
  uint32_t first, count;
};
/// CpuState::other_msrs. What counts comes before what has it count.
constexpr std::array kOthers = {
    Range{0x0E1, 1},        // IA32_UMWAIT_CONTROL
    Range{0x122, 1},        // IA32_TSX_CTRL
    Range{0x140, 1},        // MISC_FEATURES_ENABLES: CPUID faults
    Range{0x17A, 2},        // IA32_MCG_STATUS, IA32_MCG_CTL
    Range{0xC001'0015, 1},  // HWCR
    Range{0xC001'011F, 1},  // VIRT_SPEC_CTRL
    Range{0xC000'0104, 1},  // TSC_RATIO
    Range{x86::kvm::msr::kAsyncPageFaultInterrupt, 1}, Range{x86::kvm::msr::kAsyncPageFaults, 1},
    Range{x86::kvm::msr::kPvEoi, 1}, Range{x86::kvm::msr::kPollControl, 1},
    // Performance counters: Intel's (SDM Vol. 4, table 2-2) and their buffer, AMD's (APM Vol. 2,
    // appendix A).
    Range{0x0C1, 8},         // IA32_PMCn
    Range{0x309, 4},         // IA32_FIXED_CTRn
    Range{0x186, 8},         // IA32_PERFEVTSELn
    Range{0x38D, 1},         // IA32_FIXED_CTR_CTRL
    Range{0x600, 1},         // IA32_DS_AREA
    Range{0x3F1, 1},         // IA32_PEBS_ENABLE
    Range{0x38F, 1},         // IA32_PERF_GLOBAL_CTRL
    Range{0xC001'0004, 4},   // PerfCtrn
    Range{0xC001'0000, 4},   // PerfEvtSeln
    Range{0xC001'0200, 12},  // PERF_CTLn and PERF_CTRn, in turn
    Range{0xC000'0301, 1},   // PerfCntrGlobalCtl
};

constexpr unsigned kVariableMtrrs = 8;  ///< Pairs of a base and a mask.
constexpr std::array<uint32_t, 11> kFixedMtrrs = {0x250, 0x258, 0x259, 0x268, 0x269, 0x26A,
                                                  0x26B, 0x26C, 0x26D, 0x26E, 0x26F};

uint64_t* place_of(SystemState& system, uint32_t index) {
  const auto found = std::ranges::find(kRegisters, index, &Register::index);
  if (found != kRegisters.end()) return &(system.*found->value);
  if (index - msr::kMtrrPhysBase0 < 2 * kVariableMtrrs)
    return &system.mtrr_variable[index - msr::kMtrrPhysBase0];
  const auto fixed = std::ranges::find(kFixedMtrrs, index);
  return fixed == kFixedMtrrs.end()
             ? nullptr
             : &system.mtrr_fixed[static_cast<size_t>(fixed - kFixedMtrrs.begin())];
}

/// KVM_GET_MSRS and KVM_SET_MSRS take them in order, up to the first that they refuse.
using List = Listed<kvm_msrs, kvm_msr_entry>;

List list_of(size_t count) {
  List list(count);
  list->nmsrs = static_cast<uint32_t>(count);
  return list;
}

/// Calls `refused` with each of `indices` that the kernel refuses, `taken` with the others and
/// their values; `value` gives what to set.
void transfer(int vcpu, unsigned long request, std::span<const uint32_t> indices,
              const std::function<uint64_t(uint32_t)>& value,
              const std::function<void(uint32_t, uint64_t)>& taken,
              const std::function<void(uint32_t)>& refused) {
  while (!indices.empty()) {
    List list = list_of(indices.size());
    for (size_t i = 0; i < indices.size(); ++i)
      list->entries[i] = {.index = indices[i], .reserved = 0, .data = value(indices[i])};
    const auto done = static_cast<size_t>(std::max(call(vcpu, request, list.get()), 0));
    for (size_t i = 0; i < done; ++i) taken(list->entries[i].index, list->entries[i].data);
    if (done < indices.size()) refused(indices[done]);
    indices = indices.subspan(std::min(done + 1, indices.size()));
  }
}

/// Of those that the kernel gives.
std::vector<x86::Msr> values_of(int vcpu, std::span<const uint32_t> indices) {
  std::vector<x86::Msr> values;
  transfer(
      vcpu, KVM_GET_MSRS, indices, [](uint32_t) { return 0; },
      [&](uint32_t index, uint64_t value) {
        values.push_back({index, value});
      },
      [](uint32_t) {});
  return values;
}

std::vector<uint32_t> indices_of(const std::vector<x86::Msr>& list) {
  std::vector<uint32_t> indices;
  indices.reserve(list.size());
  for (const auto& each : list) indices.push_back(each.index);
  return indices;
}

}  // namespace

Msrs::Msrs(const Device& device) {
  const auto& listed = device.msrs();
  for (const auto& each : kRegisters)
    if (std::ranges::binary_search(listed, each.index) ||
        std::ranges::find(kUnlisted, each.index) != kUnlisted.end())
      indices_.push_back(each.index);
  for (uint32_t i = 0; i < 2 * kVariableMtrrs; ++i) indices_.push_back(msr::kMtrrPhysBase0 + i);
  indices_.insert(indices_.end(), kFixedMtrrs.begin(), kFixedMtrrs.end());
  for (const auto& range : kOthers)
    for (uint32_t i = 0; i < range.count; ++i)
      if (std::ranges::binary_search(listed, range.first + i)) others_.push_back(range.first + i);
}

void Msrs::save(int vcpu, SystemState& into) {
  transfer(
      vcpu, KVM_GET_MSRS, indices_, [](uint32_t) { return 0; },
      [&](uint32_t index, uint64_t value) { *place_of(into, index) = value; },
      [](uint32_t) {});  // what cannot be read was not written either
}

void Msrs::restore(int vcpu, const SystemState& from) {
  SystemState copy = from, reset;
  transfer(
      vcpu, KVM_SET_MSRS, indices_, [&](uint32_t index) { return *place_of(copy, index); },
      [](uint32_t, uint64_t) {},
      [&](uint32_t index) {
        if (*place_of(copy, index) != *place_of(reset, index)) warn(index);
      });
}

std::vector<x86::Msr> Msrs::others(int vcpu) const { return values_of(vcpu, others_); }

std::vector<x86::Msr> Msrs::save_others(int vcpu, const std::vector<x86::Msr>& reset) {
  auto now = values_of(vcpu, indices_of(reset));
  std::erase_if(
      now, [&](const x86::Msr& each) { return std::ranges::find(reset, each) != reset.end(); });
  return now;
}

void Msrs::restore_others(int vcpu, const std::vector<x86::Msr>& reset,
                          const std::vector<x86::Msr>& from) {
  std::vector<x86::Msr> wanted = reset;
  for (const auto& each : from) {
    const auto place = std::ranges::find(wanted, each.index, &x86::Msr::index);
    if (place != wanted.end())
      *place = each;
    else
      warn(each.index);
  }
  // Only what changes: some kernels log each write of a counter that they do not have.
  const auto now = values_of(vcpu, indices_of(reset));
  std::erase_if(wanted,
                [&](const x86::Msr& each) { return std::ranges::find(now, each) != now.end(); });
  transfer(
      vcpu, KVM_SET_MSRS, indices_of(wanted),
      [&](uint32_t index) { return std::ranges::find(wanted, index, &x86::Msr::index)->value; },
      [](uint32_t, uint64_t) {}, [&](uint32_t index) { warn(index); });
}

std::optional<uint64_t> Msrs::read(int vcpu, uint32_t index) {
  List list = list_of(1);
  list->entries[0].index = index;
  if (call(vcpu, KVM_GET_MSRS, list.get()) != 1) return std::nullopt;
  return list->entries[0].data;
}

bool Msrs::write(int vcpu, uint32_t index, uint64_t value) {
  List list = list_of(1);
  list->entries[0] = {.index = index, .reserved = 0, .data = value};
  return call(vcpu, KVM_SET_MSRS, list.get()) == 1;
}

void Msrs::warn(uint32_t index) {
  const std::lock_guard lock(mutex_);
  if (refused_.insert(index).second)
    log::warning("kvm: this host refuses to set MSR {:#x}; a guest that uses it will miss it",
                 index);
}

}  // namespace limen::kvm
