// Interrupt controllers that an accelerator has itself, in place of a machine's own.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/result.h"
#include "vcpu/event_interrupt.h"

namespace limen::vcpu {

/// Local APICs at least, which deliver to the processors without the machine's part. Every call is
/// thread-safe.
class InterruptChips {
 public:
  virtual ~InterruptChips() = default;

  /// It has the 8259 pair and the I/O APIC, and create_timer() gives an 8254, too; else they are
  /// the machine's and deliver by send_msi().
  [[nodiscard]] virtual bool complete() const = 0;

  /// A message to FEE00000H-FEEFFFFFH (SDM Vol. 3A 11.11). False: no processor took it.
  virtual bool send_msi(uint64_t address, uint32_t data) = 0;
  /// Has the eventfd(2) `event`, which outlives the result, send that message. nullptr: it cannot.
  virtual std::unique_ptr<EventInterrupt> connect_msi(int event, uint64_t address,
                                                      uint32_t data) = 0;
  /// Not complete(): what input `line` (0 to 23) of the machine's I/O APIC would send. When a
  /// processor ends a level-triggered one, LocalInterruptController::end_of_interrupt() is called.
  virtual void set_io_apic_route(unsigned line, uint64_t address, uint32_t data) = 0;

  /// complete(): the level of line 0 to 23 of the board, as irq::InterruptRouter counts them.
  virtual void set_line(unsigned line, bool level) = 0;
  /// complete(): has the eventfd(2) `event` raise a level-triggered line, beside what set_line()
  /// says of it. When a processor has ended the interrupt, the line falls and the eventfd `ended`
  /// is signalled: who still wants attention signals `event` again. Both outlive the result.
  /// nullptr: it cannot.
  virtual std::unique_ptr<EventInterrupt> connect_line(int event, unsigned line, int ended) = 0;
  /// complete(): an 8254 at ports 40H to 43H and 61H, on line 0. Before there are processors.
  virtual Result<> create_timer() = 0;
  /// Whether that timer's counter 0 interrupts; an HPET in its place does.
  virtual void set_timer_interrupt_enabled(bool enabled) = 0;

  /// CR8 of a processor that does not run: its local APIC's task priority class (SDM Vol. 3A
  /// 11.8.6).
  [[nodiscard]] virtual uint8_t task_priority(unsigned processor) = 0;
  virtual void set_task_priority(unsigned processor, uint8_t priority_class) = 0;

  /// All of it as after power-on. While no processor runs.
  virtual void reset() = 0;

  /// As QEMU's `info pic` and `info lapic` have them.
  [[nodiscard]] virtual std::string describe() = 0;
  [[nodiscard]] virtual std::string describe_local_apic(unsigned processor) = 0;
};

}  // namespace limen::vcpu
