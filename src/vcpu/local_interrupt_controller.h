// What a vCPU asks of its local interrupt controller. irq/ implements it with the local APIC.
#pragma once

#include <cstdint>
#include <optional>

namespace limen::vcpu {

/// The processor's side of a local APIC (SDM Vol. 3A 11). Every call is thread-safe;
/// has_interrupt() and next_timer_tsc() are cheap enough for a hot loop.
class LocalInterruptController {
 public:
  virtual ~LocalInterruptController() = default;

  /// True if acknowledge() would give a vector: an interrupt above the processor's priority, or one
  /// from the 8259 (ExtINT). May be true in vain while a guest may end an interrupt in its memory
  /// (KVM's PV EOI): acknowledge() finds out.
  [[nodiscard]] virtual bool has_interrupt() = 0;
  /// Takes the interrupt to deliver (IRR to ISR, or INTA to the 8259); nothing if it went away.
  virtual std::optional<uint8_t> acknowledge() = 0;

  /// Takes a pending NMI, INIT or start-up request.
  enum class Event { kNone, kNmi, kInit, kStartup };
  struct EventRequest {
    Event event = Event::kNone;
    uint8_t startup_vector = 0;
  };
  virtual EventRequest take_event() = 0;

  /// CR8: the task-priority class, 0 to 15 (SDM Vol. 3A 11.8.6).
  virtual uint8_t task_priority() = 0;
  virtual void set_task_priority(uint8_t priority_class) = 0;

  /// IA32_APIC_BASE, IA32_TSC_DEADLINE and the x2APIC range 800H-8FFH. False: #GP.
  virtual bool read_msr(uint32_t index, uint64_t& value) = 0;
  virtual bool write_msr(uint32_t index, uint64_t value) = 0;

  /// The guest TSC (already with offset) at which the timer next wants attention; UINT64_MAX:
  /// never. The vCPU calls timer_due() at or after that time, on its own thread.
  [[nodiscard]] virtual uint64_t next_timer_tsc() = 0;
  virtual void timer_due(uint64_t guest_tsc) = 0;
  /// Guest TSC minus host TSC. To be called by the vCPU whenever it changes (0 until then), so that
  /// a count that is under way is not disturbed by a guest that writes its TSC.
  virtual void set_tsc_offset([[maybe_unused]] uint64_t offset) {}

  /// The accelerator's own local APIC (InterruptChips) ended a level-triggered interrupt.
  virtual void end_of_interrupt([[maybe_unused]] uint8_t vector) {}
};

}  // namespace limen::vcpu
