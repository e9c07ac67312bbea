// A board's interrupt controllers: its own, or those of the accelerator.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "irq/accelerated_apics.h"
#include "irq/apic_bus.h"
#include "irq/interrupt_router.h"
#include "irq/io_apic.h"
#include "irq/local_apic.h"
#include "irq/pic_8259.h"
#include "memory/guest_memory.h"
#include "memory/io_space.h"
#include "vcpu/interrupt_chips.h"
#include "x86/cpuid.h"

namespace limen::machine {

/// Which of them stand where follows from vcpu::InterruptChips; devices see no difference.
class Interrupts {
 public:
  struct Config {
    memory::IoSpace& ports;
    memory::IoSpace& mmio;
    memory::GuestMemory& memory;
    std::span<const uint32_t> apic_ids;
    const x86::CpuidTable& cpuid;
    unsigned physical_address_bits = 40;
    uint64_t tsc_hz = 1'000'000'000;
    vcpu::InterruptChips* chips = nullptr;  ///< nullptr: all are the board's own.
    /// A processor may have something to take.
    std::function<void(unsigned processor)> notify;
  };
  explicit Interrupts(const Config& config);
  ~Interrupts();
  Interrupts(const Interrupts&) = delete;
  Interrupts& operator=(const Interrupts&) = delete;

  [[nodiscard]] irq::InterruptRouter& router() { return *router_; }
  /// Where devices send messages.
  [[nodiscard]] irq::MsiSink& messages();
  /// What a processor is made with.
  [[nodiscard]] vcpu::LocalInterruptController& local(unsigned processor);
  /// The board's own; nullptr: the accelerator has it.
  [[nodiscard]] irq::LocalApic* local_apic(unsigned processor);
  /// nullptr: all are the board's own.
  [[nodiscard]] vcpu::InterruptChips* chips() { return chips_; }

  void reset();
  /// An NMI for every processor. Thread-safe.
  void inject_nmi();
  /// As QEMU's `info pic` and `info lapic` have them; while no processor runs.
  [[nodiscard]] std::string describe();
  [[nodiscard]] std::string describe_local_apic(unsigned processor);

 private:
  class Lines;

  void build_own(const Config& config);
  void build_beside(const Config& config);

  vcpu::InterruptChips* const chips_;
  std::unique_ptr<irq::ApicBus> bus_;
  std::unique_ptr<irq::AcceleratedApics> accelerated_;
  std::vector<std::unique_ptr<irq::LocalApic>> local_;  ///< That of the bootstrap first.
  std::unique_ptr<irq::Pic8259> pic_;
  std::unique_ptr<irq::IoApic> io_apic_;
  std::vector<std::unique_ptr<irq::InterruptSink>> lines_;  ///< To a complete accelerator.
  std::unique_ptr<irq::InterruptRouter> router_;
};

}  // namespace limen::machine
