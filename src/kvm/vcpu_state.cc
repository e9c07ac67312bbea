// A processor's whole state, both ways.
#include <x86intrin.h>

#include <utility>
#include <vector>

#include "base/log.h"
#include "kvm/ioctl.h"
#include "kvm/state/registers.h"
#include "kvm/vcpu.h"
#include "x86/exception.h"
#include "x86/registers.h"

namespace limen::kvm {
namespace {

/// What DR6 says of #DB that comes behind an instruction.
constexpr uint64_t kDebugTraps =
    x86::dr6::kBreakpoints | x86::dr6::kSingleStep | x86::dr6::kTaskSwitch;

/// What the kernel refuses of a state is said: it is a fault here or there, and the guest will feel
/// it.
template <typename Argument>
void set(int vcpu, unsigned long request, const char* name, Argument argument) {
  if (call(vcpu, request, argument) < 0)
    log::error("kvm: {}: {}", name, fail_errno(errno, "the state is refused").error().message);
}

constexpr kvm_device_attr tsc_offset_attribute(uint64_t* value) {
  kvm_device_attr attribute{};
  attribute.group = KVM_VCPU_TSC_CTRL;
  attribute.attr = KVM_VCPU_TSC_OFFSET;
  attribute.addr = reinterpret_cast<uintptr_t>(value);
  return attribute;
}

}  // namespace

x86::CpuState Vcpu::state() const {
  x86::CpuState out;
  kvm_regs regs{};
  call(fd_.get(), KVM_GET_REGS, &regs);
  take_general_registers(regs, out);
  kvm_sregs sregs{};
  call(fd_.get(), KVM_GET_SREGS, &sregs);
  take_system_registers(sregs, out.system);
  // Before DR6: of a debug exception that waits, kernels may note what it is for only now.
  kvm_vcpu_events events{};
  call(fd_.get(), KVM_GET_VCPU_EVENTS, &events);
  kvm_debugregs debug{};
  call(fd_.get(), KVM_GET_DEBUGREGS, &debug);
  take_debug_registers(debug, out.system);
  vm_.msrs.save(fd_.get(), out.system);
  out.system.tsc_offset = tsc_offset();

  std::vector<uint8_t> area(vm_.xsave_size);
  auto* xsave = reinterpret_cast<kvm_xsave*>(area.data());
  if (call(fd_.get(), vm_.has_xsave2 ? KVM_GET_XSAVE2 : KVM_GET_XSAVE, xsave) == 0)
    vm_.extended.take(area, out.vector);
  kvm_xcrs xcrs{};
  if (call(fd_.get(), KVM_GET_XCRS, &xcrs) == 0 && xcrs.nr_xcrs != 0)
    out.system.xcr0 = xcrs.xcrs[0].value;

  out.nested = nested_state();
  out.other_msrs = Msrs::save_others(fd_.get(), other_msrs_);

  out.activity = activity(events, out.system.dr[6]);
  return out;
}

x86::ActivityState Vcpu::activity(const kvm_vcpu_events& events, uint64_t dr6) const {
  x86::ActivityState out;
  out.sti_shadow = (events.interrupt.shadow & KVM_X86_SHADOW_INT_STI) != 0;
  out.mov_ss_shadow = (events.interrupt.shadow & KVM_X86_SHADOW_INT_MOV_SS) != 0;
  // One that is on its way in blocks others, but not itself: it comes again.
  out.nmi_blocked = events.nmi.masked != 0 && events.nmi.injected == 0;
  out.nmi_pending = events.nmi.pending != 0 || events.nmi.injected != 0 || nmi_pending_;
  // An instruction that interrupts, or faults, runs again: it is what RIP points at. A trap is
  // behind its instruction.
  if (events.interrupt.injected != 0 && events.interrupt.soft == 0)
    out.interrupt = events.interrupt.nr;
  if ((events.exception.injected | events.exception.pending) != 0 &&
      events.exception.nr == static_cast<uint8_t>(x86::Vector::kDebug))
    out.pending_debug = dr6 & kDebugTraps;
  out.halted = halted_;
  out.wait_for_sipi = waits_for_startup_;
  if (kvm_mp_state mp{}; kernel_local_apic() && call(fd_.get(), KVM_GET_MP_STATE, &mp) == 0) {
    out.halted = mp.mp_state == KVM_MP_STATE_HALTED;
    out.wait_for_sipi =
        mp.mp_state == KVM_MP_STATE_UNINITIALIZED || mp.mp_state == KVM_MP_STATE_INIT_RECEIVED;
  }
  return out;
}

namespace {

/// KVM_GET_NESTED_STATE; empty: there is none.
std::vector<uint8_t> read_nested_state(int vcpu, size_t size) {
  if (size < sizeof(kvm_nested_state)) return {};
  std::vector<uint8_t> bytes(size);
  auto* state = reinterpret_cast<kvm_nested_state*>(bytes.data());
  state->size = static_cast<uint32_t>(size);
  if (call(vcpu, KVM_GET_NESTED_STATE, state) < 0) return {};
  bytes.resize(state->size);
  return bytes;
}

/// As after reset, for the processor that it is for.
kvm_nested_state unused_nested_state(uint16_t format) {
  kvm_nested_state state{};
  state.size = sizeof state;
  state.format = format;
  if (format == KVM_STATE_NESTED_FORMAT_SVM)
    state.flags = KVM_STATE_NESTED_GIF_SET;
  else
    state.hdr.vmx.vmxon_pa = state.hdr.vmx.vmcs12_pa = UINT64_MAX;
  return state;
}

}  // namespace

x86::NestedState Vcpu::nested_state() const {
  auto bytes = read_nested_state(fd_.get(), vm_.nested_state_size);
  if (bytes.empty()) return {};
  const auto& state = *reinterpret_cast<const kvm_nested_state*>(bytes.data());
  const auto unused = unused_nested_state(state.format);
  const bool is_unused =
      state.flags == unused.flags && (state.format == KVM_STATE_NESTED_FORMAT_SVM ||
                                      state.hdr.vmx.vmxon_pa == unused.hdr.vmx.vmxon_pa);
  return is_unused ? x86::NestedState{} : x86::NestedState{std::move(bytes)};
}

void Vcpu::leave_nested_state() {
  const auto bytes = read_nested_state(fd_.get(), vm_.nested_state_size);
  if (bytes.empty()) return;
  const auto& now = *reinterpret_cast<const kvm_nested_state*>(bytes.data());
  const auto unused = unused_nested_state(now.format);
  call(fd_.get(), KVM_SET_NESTED_STATE, &unused);
}

/// Between the system registers, which with SVM become those of the guest's guest, and the general
/// ones, which with VMX it would set.
void Vcpu::enter_nested_state(const x86::CpuState& state) {
  if (state.nested.empty()) return;
  if (vm_.nested_state_size == 0)
    return log::error(
        "kvm: the guest's own guests are lost: this kernel has no KVM_CAP_NESTED_STATE");
  // With VMX it has to be on before.
  if (state.system.feature_control != 0)
    Msrs::write(fd_.get(), x86::msr::kFeatureControl, state.system.feature_control);
  auto bytes = state.nested.bytes;
  set(fd_.get(), KVM_SET_NESTED_STATE, "KVM_SET_NESTED_STATE",
      reinterpret_cast<kvm_nested_state*>(bytes.data()));
}

void Vcpu::set_state(const x86::CpuState& state) {
  const int fd = fd_.get();
  // What ran here is left first: registers are then those of the hypervisor, or of no one's guest.
  leave_nested_state();
  kvm_sregs sregs{};
  call(fd, KVM_GET_SREGS, &sregs);
  fill_system_registers(state.system, sregs);
  if (!kernel_local_apic()) {
    sregs.cr8 = interrupts_.task_priority();
    uint64_t apic_base = sregs.apic_base;
    if (interrupts_.read_msr(x86::msr::kApicBase, apic_base)) sregs.apic_base = apic_base;
    run_->apic_base = sregs.apic_base;
  }
  for (auto& bits : sregs.interrupt_bitmap) bits = 0;
  set(fd, KVM_SET_SREGS, "KVM_SET_SREGS", &sregs);
  enter_nested_state(state);

  if (vm_.has_xcrs) {
    kvm_xcrs xcrs{};
    xcrs.nr_xcrs = 1;
    xcrs.xcrs[0].value = state.system.xcr0;
    set(fd, KVM_SET_XCRS, "KVM_SET_XCRS", &xcrs);
  }
  std::vector<uint8_t> area(vm_.xsave_size);
  vm_.extended.fill(state.vector, guest_components_, area);
  set(fd, KVM_SET_XSAVE, "KVM_SET_XSAVE", reinterpret_cast<kvm_xsave*>(area.data()));

  kvm_regs regs = general_registers(state);
  set(fd, KVM_SET_REGS, "KVM_SET_REGS", &regs);
  auto system = state.system;
  system.misc_enable |= fixed_misc_enable_;
  vm_.msrs.restore(fd, system);
  vm_.msrs.restore_others(fd, other_msrs_, state.other_msrs);
  set_tsc_offset(state.system.tsc_offset);
  kvm_debugregs debug = debug_registers(state.system);
  debug.dr6 |= state.activity.pending_debug;  // the kernel's #DB brings a vector, and no more
  set(fd, KVM_SET_DEBUGREGS, "KVM_SET_DEBUGREGS", &debug);
  apply_activity(state.activity);
  // As KVM_RUN would say it.
  run_->if_flag = (state.rflags & x86::rflags::kInterrupt) != 0;
  run_->ready_for_interrupt_injection = run_->if_flag != 0 && !state.activity.sti_shadow &&
                                        !state.activity.mov_ss_shadow && !state.activity.interrupt;
}

void Vcpu::apply_activity(const x86::ActivityState& activity) {
  kvm_vcpu_events events{};
  events.flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW;
  if (activity.sti_shadow) events.interrupt.shadow |= KVM_X86_SHADOW_INT_STI;
  if (activity.mov_ss_shadow) events.interrupt.shadow |= KVM_X86_SHADOW_INT_MOV_SS;
  events.nmi.masked = activity.nmi_blocked ? 1 : 0;
  events.nmi.pending = activity.nmi_pending ? 1 : 0;
  if (activity.interrupt) {
    events.interrupt.injected = 1;
    events.interrupt.nr = *activity.interrupt;
  }
  if (activity.pending_debug != 0) {
    events.exception.injected = 1;
    events.exception.nr = static_cast<uint8_t>(x86::Vector::kDebug);
  }
  set(fd_.get(), KVM_SET_VCPU_EVENTS, "KVM_SET_VCPU_EVENTS", &events);
  nmi_pending_ = false;
  if (kernel_local_apic()) {
    kvm_mp_state mp{};
    mp.mp_state = activity.wait_for_sipi ? KVM_MP_STATE_INIT_RECEIVED
                  : activity.halted      ? KVM_MP_STATE_HALTED
                                         : KVM_MP_STATE_RUNNABLE;
    set(fd_.get(), KVM_SET_MP_STATE, "KVM_SET_MP_STATE", &mp);
    return;
  }
  halted_ = activity.halted;
  waits_for_startup_ = activity.wait_for_sipi;
}

void Vcpu::set_tsc_offset(uint64_t offset) {
  tsc_offset_ = offset;
  interrupts_.set_tsc_offset(offset);
  const auto attribute = tsc_offset_attribute(&offset);
  if (call(fd_.get(), KVM_SET_DEVICE_ATTR, &attribute) == 0) return;
  Msrs::write(fd_.get(), x86::msr::kTimeStampCounter, __rdtsc() + offset);
}

uint64_t Vcpu::tsc_offset() const {
  uint64_t offset = 0;
  const auto attribute = tsc_offset_attribute(&offset);
  if (call(fd_.get(), KVM_GET_DEVICE_ATTR, &attribute) == 0) return offset;
  return Msrs::read(fd_.get(), x86::msr::kTimeStampCounter).value_or(0) - __rdtsc();
}

std::optional<GuestPhysicalAddress> Vcpu::translate(GuestLinearAddress address) const {
  kvm_translation translation{};
  translation.linear_address = address.value;
  if (call(fd_.get(), KVM_TRANSLATE, &translation) < 0 || translation.valid == 0)
    return std::nullopt;
  return GuestPhysicalAddress{translation.physical_address};
}

}  // namespace limen::kvm
