// The I/O APIC: 24 interrupt lines to messages for local APICs.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include "irq/interrupt_line.h"
#include "irq/io_apic_bus.h"
#include "memory/io_space.h"

namespace limen::irq {

/// Intel 82093AA (datasheet 290566, section 3) with the EOI register of version 20H (ICH9 datasheet
/// 316972, 13.5). A line is "asserted" or not: the polarity bit is kept and has no effect, as a
/// board wires and describes its lines consistently.
class IoApic final : public InterruptSink, public memory::IoHandler {
 public:
  static constexpr uint64_t kDefaultBase = 0xFEC00000;
  static constexpr uint64_t kSize = 0x1000;
  static constexpr unsigned kLines = 24;

  IoApic(memory::IoSpace& mmio, IoApicBus& bus, uint64_t base = kDefaultBase);
  ~IoApic() override;

  void reset();
  void set_line(unsigned line, bool asserted) override;
  [[nodiscard]] bool passes(unsigned line) override;
  void on_acknowledge(unsigned line, std::function<void()> acknowledged) override;
  /// A processor begins to serve `vector`.
  void vector_taken(uint8_t vector);
  /// A local APIC ended the level-triggered interrupt `vector`.
  void end_of_interrupt(uint8_t vector);

  /// As QEMU's `info pic` has it.
  [[nodiscard]] std::string describe();

  uint64_t io_read(uint64_t offset, unsigned size) override;
  void io_write(uint64_t offset, unsigned size, uint64_t value) override;

 private:
  struct Pending {
    bool send = false;
    unsigned line = 0;
    ApicDestination destination;
    ApicMessage message;
  };

  uint32_t read_register(uint8_t index) const;            // mutex_ held
  Pending write_register(uint8_t index, uint32_t value);  // mutex_ held
  Pending service(unsigned line);                         // mutex_ held
  [[nodiscard]] Pending message_of(unsigned line) const;  // mutex_ held
  void send(const Pending& pending);                      // mutex_ not held

  memory::IoSpace& mmio_;
  IoApicBus& bus_;
  const uint64_t base_;
  std::mutex mutex_;
  uint8_t select_ = 0;                          // guest-controlled
  uint8_t id_ = 0;                              // guest-controlled
  std::array<uint64_t, kLines> redirection_{};  // guest-controlled
  uint32_t asserted_ = 0;                       // levels of the lines
  uint32_t pending_ = 0;                        // IRR: edges seen and levels asserted
  std::array<std::vector<std::function<void()>>, kLines> listeners_;  // fixed before processors run
  // Lines with listeners whose edges were sent and not taken yet; written with mutex_ held.
  std::atomic<uint32_t> awaited_ = 0;
};

}  // namespace limen::irq
