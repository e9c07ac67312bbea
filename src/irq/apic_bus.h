// The interrupt messages between local APICs, I/O APICs and devices that signal by message, and the
// page of physical memory behind which each processor finds its own local APIC.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "irq/apic_message.h"
#include "irq/io_apic_bus.h"
#include "irq/msi.h"
#include "memory/io_space.h"

namespace limen::irq {

class LocalApic;
class IoApic;

/// The system bus as the interrupt controllers see it (SDM Vol. 3A 11.6, 11.11). Local APICs join
/// it at construction, before any processor runs. Thread-safe afterwards.
class ApicBus final : public MsiSink, public IoApicBus {
 public:
  static constexpr uint64_t kDefaultBase = 0xFEE00000;
  static constexpr uint64_t kPageSize = 0x1000;

  /// `mmio` gets a claim for every page at which a local APIC stands.
  explicit ApicBus(memory::IoSpace& mmio);
  ~ApicBus() override;
  ApicBus(const ApicBus&) = delete;
  ApicBus& operator=(const ApicBus&) = delete;

  /// Takes a device's message; one outside FEE00000H-FEEFFFFFH is dropped.
  void send_msi(const MsiMessage& message) override;

  bool deliver(const ApicDestination& destination, const ApicMessage& message) override;
  void add(IoApic& io_apic) override;
  void remove(IoApic& io_apic) override;
  /// To all, or to all but `except`.
  void deliver_to_all(const ApicMessage& message, const LocalApic* except);
  /// Gives processors that were sent a start-up IPI the time to take it, at most a tenth of a
  /// second. Real ones start within microseconds, and SeaBIOS counts on it: after S3 it does not
  /// wait for them before it takes away the code that they are to run.
  void let_start();

  /// A local APIC ended a level-triggered interrupt: every I/O APIC hears of it.
  void broadcast_eoi(uint8_t vector);

  /// A processor begins to serve `vector`: every I/O APIC hears of it.
  void announce_taken(uint8_t vector);

  /// Says which local APIC the calling thread's processor owns, for accesses to the APIC page. A
  /// vCPU's thread calls it once before it runs; a thread that did not gets the first local APIC.
  static void set_current(LocalApic* apic);

 private:
  friend class LocalApic;
  class Page;

  void add(LocalApic& apic);
  void remove(LocalApic& apic);
  /// A local APIC's page moved to `base`.
  void move_page(uint64_t base);
  [[nodiscard]] LocalApic* current() const;

  memory::IoSpace& mmio_;
  std::vector<LocalApic*> local_;  // fixed before processors run
  std::vector<IoApic*> io_;        // fixed before processors run
  std::mutex pages_mutex_;
  std::vector<std::unique_ptr<Page>> pages_;  // guarded by pages_mutex_
  std::atomic<unsigned> turn_ = 0;            // breaks ties of lowest-priority delivery
};

}  // namespace limen::irq
