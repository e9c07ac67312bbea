// The local APIC of one processor: xAPIC and x2APIC.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>

#include "irq/apic_bus.h"
#include "irq/pv_eoi.h"
#include "memory/guest_memory.h"
#include "vcpu/local_interrupt_controller.h"

namespace limen::irq {

class Pic8259;

/// A local APIC with six LVT entries, CMCI not among them (SDM Vol. 3A 11; AMD APM Vol. 2 16). Its
/// timer counts the time-stamp counter; the processor asks next_timer_tsc() and calls timer_due().
///
/// Any thread may deliver to it. `notify` is called, without a lock held, whenever an interrupt or
/// an event may have become deliverable. has_interrupt() and next_timer_tsc() take no lock.
class LocalApic final : public vcpu::LocalInterruptController {
 public:
  struct Config {
    uint32_t id = 0;
    bool bootstrap_processor = true;
    uint64_t tsc_hz = 1'000'000'000;
    uint64_t timer_hz =
        1'000'000'000;         ///< Before the divide configuration register; CPUID 15H:ECX.
    bool x2apic = true;        ///< CPUID.1:ECX[21].
    bool tsc_deadline = true;  ///< CPUID.1:ECX[24].
    unsigned physical_address_bits = 40;
    /// Where the guest's flag for KVM's PV EOI stands; nullptr: there is no such register.
    memory::GuestMemory* ram = nullptr;
    /// Time-stamp counter of the host; empty: RDTSC.
    std::function<uint64_t()> host_tsc = {};
  };

  LocalApic(ApicBus& bus, Config config, std::function<void()> notify);
  ~LocalApic() override;

  /// The state after power-on (SDM Vol. 3A 11.4.7.1), IA32_APIC_BASE included.
  void reset();

  /// Connects the 8259's output to LINT0. Once, before the processor runs.
  void connect_pic(Pic8259& pic);
  /// The 8259's output changed.
  void pic_changed();
  /// The LINT1 pin, which boards wire to NMI.
  void set_lint1(bool level);
  /// A non-maskable interrupt, regardless of the LVT (a monitor's "nmi" command).
  void inject_nmi();

  bool has_interrupt() override;
  std::optional<uint8_t> acknowledge() override;
  EventRequest take_event() override;
  uint8_t task_priority() override;
  void set_task_priority(uint8_t priority_class) override;
  bool read_msr(uint32_t index, uint64_t& value) override;
  bool write_msr(uint32_t index, uint64_t value) override;
  uint64_t next_timer_tsc() override { return next_timer_.load(std::memory_order_acquire); }
  void timer_due(uint64_t guest_tsc) override;
  void set_tsc_offset(uint64_t offset) override;

  /// As QEMU's `info lapic` has it.
  [[nodiscard]] std::string describe();
  /// IA32_APIC_BASE as it stands.
  [[nodiscard]] uint64_t apic_base();
  [[nodiscard]] uint32_t id() const { return config_.id; }

  // The APIC page in xAPIC mode; called by the bus. `base` is the page that was accessed.
  uint64_t page_read(uint64_t base, uint64_t offset, unsigned size);
  void page_write(uint64_t base, uint64_t offset, unsigned size, uint64_t value);

  // The bus's side.
  [[nodiscard]] bool is_named_by(const ApicDestination& destination);
  /// True if a fixed or lowest-priority interrupt would be taken; `priority` is the PPR.
  [[nodiscard]] bool arbitration_priority(uint8_t& priority);
  bool accept(const ApicMessage& message);
  /// The processor has not taken its start-up IPI yet.
  [[nodiscard]] bool startup_pending();

 private:
  /// What is left to do once the lock is released.
  struct Actions {
    bool notify = false;
    std::optional<uint8_t> eoi;
    std::optional<uint64_t> icr;
    std::optional<uint64_t> moved_to;
  };
  enum LvtIndex : unsigned {
    kLvtTimer,
    kLvtThermal,
    kLvtPerformance,
    kLvtLint0,
    kLvtLint1,
    kLvtError
  };
  using Bits256 = std::array<uint32_t, 8>;

  // All below: mutex_ held.
  [[nodiscard]] bool globally_enabled() const;
  [[nodiscard]] bool x2apic_mode() const;
  [[nodiscard]] bool software_enabled() const;
  [[nodiscard]] uint8_t processor_priority() const;
  void reset_registers();
  void update(Actions& actions);
  void set_irr(uint8_t vector, bool level_triggered);
  void request_nmi();
  void post_error(uint32_t bits);
  void raise_lvt(unsigned index);
  void end_of_interrupt(Actions& actions);
  void offer_pv_eoi(uint8_t vector);
  void settle_pv_eoi();
  uint64_t read_register(unsigned index, bool x2apic, bool& valid);
  bool write_register(unsigned index, uint64_t value, bool x2apic, Actions& actions);
  void write_lvt(unsigned lvt, uint32_t value);
  bool write_apic_base(uint64_t value, Actions& actions);
  void start_count(uint32_t count);
  void set_divide(uint32_t divide);
  void timer_mode_changed(uint32_t old_lvt);
  [[nodiscard]] uint64_t count_to_tsc(uint32_t count) const;
  [[nodiscard]] uint32_t current_count() const;
  [[nodiscard]] unsigned divide_shift() const;
  [[nodiscard]] unsigned timer_mode() const;
  void publish_timer();
  bool accept_locked(const ApicMessage& message);
  // mutex_ not held.
  void finish(const Actions& actions);
  void send_ipi(uint64_t icr);
  [[nodiscard]] uint64_t host_tsc() const;

  ApicBus& bus_;
  const Config config_;
  const std::function<void()> notify_;
  Pic8259* pic_ = nullptr;

  std::mutex mutex_;
  uint64_t base_ = 0;
  uint32_t xapic_id_ = 0;
  uint8_t tpr_ = 0;
  uint32_t ldr_ = 0;
  uint32_t dfr_ = 0;
  uint32_t svr_ = 0;
  uint32_t esr_ = 0;
  uint32_t esr_pending_ = 0;
  uint64_t icr_ = 0;
  std::array<uint32_t, 6> lvt_{};
  Bits256 irr_{};
  Bits256 isr_{};
  Bits256 tmr_{};
  std::optional<PvEoi> pv_eoi_;
  uint32_t initial_count_ = 0;
  uint32_t divide_ = 0;
  uint64_t count_deadline_ = 0;  // host TSC; 0: the count is not running
  uint64_t tsc_deadline_ = 0;    // guest TSC; 0: not armed
  uint64_t tsc_offset_ = 0;
  bool lint0_level_ = false;
  bool lint1_level_ = false;
  uint8_t nmis_ = 0;  ///< That the processor has not asked for yet; at most 2.
  bool init_ = false;
  std::optional<uint8_t> startup_;

  // Copies that are read without the lock, written with it.
  std::atomic<bool> deliverable_ = false;       // a vector in the IRR is above the priority
  std::atomic<bool> accepts_pic_ = false;       // LINT0 passes the 8259 through
  std::atomic<bool> external_latched_ = false;  // an ExtINT message arrived
  std::atomic<bool> event_ = false;             // take_event() has something
  std::atomic<uint64_t> next_timer_ = ~uint64_t{0};
};

}  // namespace limen::irq
