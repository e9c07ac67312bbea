// One processor of the kernel's.
#pragma once

#include <pthread.h>

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/thread_alarm.h"
#include "base/unique_fd.h"
#include "kvm/breakpoints.h"
#include "kvm/device.h"
#include "kvm/interrupt_chips.h"
#include "kvm/kernel.h"
#include "kvm/late_writes.h"
#include "kvm/memory_slots.h"
#include "kvm/state/extended.h"
#include "kvm/state/msrs.h"
#include "vcpu/accelerator.h"

namespace limen::kvm {

/// What the processors of a machine share. It outlives them.
struct VmShared {
  VmShared(std::shared_ptr<Device> of, UniqueFd vm, const vcpu::VmResources& around,
           const x86::CpuidTable& host)
      : device(std::move(of)),
        fd(std::move(vm)),
        resources(around),
        breakpoints(around.ram),
        extended(host),
        msrs(*device) {}

  std::shared_ptr<Device> device;
  UniqueFd fd;
  vcpu::VmResources resources;
  std::unique_ptr<MemorySlots> slots;
  std::unique_ptr<LateWrites> late_writes;  ///< nullptr: all come at once.
  std::unique_ptr<InterruptChips> chips;    ///< nullptr: the local APICs are the machine's own.
  Breakpoints breakpoints;
  ExtendedLayout extended;
  Msrs msrs;
  size_t xsave_size = sizeof(kvm_xsave);  ///< Bytes of the area of KVM_GET_XSAVE2.
  bool has_xsave2 = false;
  bool has_xcrs = false;
  size_t nested_state_size = 0;       ///< Bytes of KVM_GET_NESTED_STATE at most; 0: there is none.
  bool can_block_interrupts = false;  ///< While a processor steps.
  uint64_t tsc_hz = 0;
};

/// KVM_RUN and what it comes back for (api.rst, "The kvm_run structure"). Where the local APIC is
/// the machine's own, interrupts are injected here (KVM_INTERRUPT), and a halted processor waits
/// here; where it is the kernel's, those of the machine's 8259 alone are.
class Vcpu final : public vcpu::Vcpu {
 public:
  static Result<std::unique_ptr<Vcpu>> create(VmShared& vm, unsigned index,
                                              const x86::CpuidTable& cpuid,
                                              vcpu::LocalInterruptController& interrupts);
  ~Vcpu() override;
  Vcpu(const Vcpu&) = delete;
  Vcpu& operator=(const Vcpu&) = delete;

  vcpu::Exit run() override;
  void kick() override;
  void interrupt() override;
  [[nodiscard]] x86::CpuState state() const override;
  void set_state(const x86::CpuState& state) override;
  Result<> set_debug(const vcpu::DebugRequest& request) override;
  [[nodiscard]] std::optional<GuestPhysicalAddress> translate(
      GuestLinearAddress address) const override;
  [[nodiscard]] std::string statistics() override;

 private:
  Vcpu(VmShared& vm, unsigned index, const x86::CpuidTable& cpuid,
       vcpu::LocalInterruptController& interrupts);
  Result<> open(const x86::CpuidTable& cpuid);

  // vcpu.cc: on the thread that runs it.
  [[nodiscard]] bool kernel_local_apic() const { return vm_.chips != nullptr; }
  /// Gives the kernel what became of interrupts; false: the processor has nothing to run.
  bool prepare();
  void take_events();
  /// Has the instruction end whose access was done last: until then its registers are not whole.
  void complete_access();
  /// After a time in which nothing ran.
  void spare_watchdogs();
  void wait();
  void set_alarm();
  [[nodiscard]] uint64_t guest_tsc() const;
  /// From now to that guest TSC; not below zero.
  [[nodiscard]] std::chrono::duration<double> time_until(uint64_t tsc) const;

  // vcpu_exits.cc: nothing: go on.
  std::optional<vcpu::Exit> handle_exit();
  void port_access();
  void memory_access();
  vcpu::Exit failure(std::string what);
  /// Of the instruction that it stands at.
  [[nodiscard]] std::string code_bytes() const;

  // vcpu_debug.cc
  std::optional<vcpu::Exit> debug_exit();
  vcpu::Exit breakpoint_exit(uint64_t address);
  /// Of one of the breakpoints in memory.
  [[nodiscard]] std::optional<GuestPhysicalAddress> place_of(uint64_t address) const;
  [[nodiscard]] bool has_breakpoint(uint64_t address) const;
  void insert_breakpoints();
  void remove_breakpoints();
  /// Has the instruction run that it stopped before.
  void pass_breakpoint();
  void end_passing();
  void give_int3_to_guest();
  [[nodiscard]] uint32_t step_control(bool hold_interrupts) const;

  // vcpu_state.cc
  [[nodiscard]] x86::NestedState nested_state() const;
  void leave_nested_state();
  void enter_nested_state(const x86::CpuState& state);
  void set_tsc_offset(uint64_t offset);
  [[nodiscard]] uint64_t tsc_offset() const;
  [[nodiscard]] x86::ActivityState activity(const kvm_vcpu_events& events, uint64_t dr6) const;
  void apply_activity(const x86::ActivityState& activity);

  VmShared& vm_;
  const unsigned index_;
  const uint32_t signature_;  ///< CPUID.1:EAX.
  vcpu::LocalInterruptController& interrupts_;
  UniqueFd fd_;
  kvm_run* run_ = nullptr;

  std::vector<x86::Msr> other_msrs_;  ///< As after reset.
  uint64_t guest_components_ = 0;     ///< As XCR0 counts them: what CPUID shows.
  uint64_t fixed_misc_enable_ = 0;    ///< Bits of IA32_MISC_ENABLE that tell what is there.

  // On the thread that runs it, or while it does not run.
  bool halted_ = false;
  bool waits_for_startup_ = false;
  bool nmi_pending_ = false;
  uint64_t tsc_offset_ = 0;
  uint64_t slot_changes_ = 0;  ///< MemorySlots::changes() when it last entered.
  /// A breakpoint in memory.
  struct Int3 {
    uint64_t linear = 0;
    GuestPhysicalAddress place;
    bool inserted = false;
  };
  vcpu::DebugRequest debug_;
  kvm_guest_debug armed_{};                 ///< What the kernel was told for it.
  std::vector<uint64_t> debug_addresses_;   ///< Of breakpoints, in the order of debug registers.
  std::vector<Int3> int3_;                  ///< Breakpoints that found no register.
  std::optional<uint64_t> stopped_before_;  ///< Linear address of a breakpoint.
  std::optional<uint64_t> passing_;         ///< The same, while its instruction runs.
  std::optional<ThreadAlarm> alarm_;
  uint64_t alarm_tsc_ = UINT64_MAX;  ///< Guest TSC at which it rings.
  std::optional<std::chrono::steady_clock::time_point> stood_since_;  ///< Empty: it has not run.

  std::atomic<bool> kicked_ = false;
  std::atomic<bool> in_kernel_ = false;  ///< Or on its way there: only a signal gets it out.
  std::mutex wait_mutex_;
  std::condition_variable wake_;
  bool woken_ = false;               // guarded by wait_mutex_
  std::optional<pthread_t> thread_;  // guarded by wait_mutex_; while run() is under way

  std::array<uint64_t, 64> exits_{};  ///< By reason, the last for all others.
};

}  // namespace limen::kvm
