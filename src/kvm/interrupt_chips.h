// The kernel's interrupt controllers.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/result.h"
#include "kvm/device.h"
#include "kvm/kernel.h"
#include "vcpu/interrupt_chips.h"

namespace limen::kvm {

/// Which controllers the kernel has (QEMU's kernel-irqchip).
enum class IrqChip { kOff, kSplit, kOn };

/// Those of one machine: local APICs (split), or all of them and the 8254 (on).
class InterruptChips final : public vcpu::InterruptChips {
 public:
  /// Whether the kernel has them.
  static Result<> check(const Device& device, IrqChip which);
  /// Before the machine's first processor, if check() is content. `vm` outlives it.
  static Result<std::unique_ptr<InterruptChips>> create(const Device& device, int vm,
                                                        IrqChip which);

  [[nodiscard]] bool complete() const override { return complete_; }
  bool send_msi(uint64_t address, uint32_t data) override;
  void set_io_apic_route(unsigned line, uint64_t address, uint32_t data) override;
  std::unique_ptr<vcpu::EventInterrupt> connect_msi(int event, uint64_t address,
                                                    uint32_t data) override;
  void set_line(unsigned line, bool level) override;
  std::unique_ptr<vcpu::EventInterrupt> connect_line(int event, unsigned line, int ended) override;
  Result<> create_timer() override;
  void set_timer_interrupt_enabled(bool enabled) override;
  [[nodiscard]] uint8_t task_priority(unsigned processor) override;
  void set_task_priority(unsigned processor, uint8_t priority_class) override;
  void reset() override;
  [[nodiscard]] std::string describe() override;
  [[nodiscard]] std::string describe_local_apic(unsigned processor) override;

  /// A processor was made. Its local APIC is as after power-on.
  Result<> add_processor(int vcpu);

 private:
  static constexpr unsigned kLines = 24;

  class EventInterrupt;

  /// A processor's local APIC after power-on.
  struct LocalApic {
    int vcpu = -1;
    kvm_lapic_state state{};
  };
  struct Message {
    uint64_t address = 0;
    uint32_t data = 0;
    bool operator==(const Message&) const = default;
  };

  InterruptChips(const Device& device, int vm, bool complete);
  Result<> create_all();
  Result<> create_local();
  Result<> set_routes();  // mutex_ held
  /// KVM_IRQFD; `ended` is -1 for an interrupt that is no level.
  std::unique_ptr<vcpu::EventInterrupt> connect(int event, unsigned number, int ended);
  void disconnect(int event, unsigned number);
  void forget_message(unsigned number);

  const Device& device_;
  const int vm_;
  const bool complete_;
  const bool has_event_interrupts_;
  const bool has_line_events_;
  const unsigned most_routes_;
  bool has_timer_ = false;
  std::array<kvm_irqchip, 3> chips_{};  ///< After power-on: both 8259 and the I/O APIC.
  kvm_pit_state2 timer_{};              ///< The same.
  std::vector<LocalApic> local_apics_;
  std::mutex mutex_;
  std::map<unsigned, Message> messages_;  // guarded by mutex_; by their number (GSI). The first
                                          // kLines are those of the machine's I/O APIC
};

}  // namespace limen::kvm
