// A root bus with spaces and sinks that a test can look into.
#pragma once

#include <gtest/gtest.h>

#include <mutex>
#include <utility>
#include <vector>

#include "pci/pci_bus.h"

namespace limen::pci {

struct RecordingMsiSink final : irq::MsiSink {
  void send_msi(const irq::MsiMessage& message) override {
    const std::lock_guard lock(mutex);
    messages.push_back(message);
  }
  std::mutex mutex;
  std::vector<irq::MsiMessage> messages;
};

struct RecordingLines final : irq::InterruptSink {
  void set_line(unsigned line, bool level) override {
    const std::lock_guard lock(mutex);
    changes.emplace_back(line, level);
    if (line < 128) levels[line] = level;
  }
  std::mutex mutex;
  std::vector<std::pair<unsigned, bool>> changes;
  bool levels[128] = {};
};

/// Answers with the offset it was asked for and remembers the last write.
struct EchoHandler final : memory::IoHandler {
  uint64_t io_read(uint64_t offset, unsigned) override { return offset; }
  void io_write(uint64_t offset, unsigned size, uint64_t value) override {
    written_offset = offset;
    written_size = size;
    written_value = value;
  }
  uint64_t written_offset = ~0ull;
  unsigned written_size = 0;
  uint64_t written_value = 0;
};

class PciTest : public testing::Test {
 protected:
  memory::IoSpace ports_{"ports"};
  memory::IoSpace mmio_{"mmio"};
  RecordingMsiSink msi_;
  RecordingLines lines_;
  PciBus bus_{"pcie.0", {.ports = &ports_, .mmio = &mmio_, .msi = &msi_}};
};

/// A function that shows its protected side.
class TestFunction final : public PciFunction {
 public:
  explicit TestFunction(std::string name = "test")
      : PciFunction(std::move(name), {.vendor = 0x1234,
                                      .device = 0x5678,
                                      .revision = 9,
                                      .class_code = 0x0200AB,
                                      .subsystem_vendor = 0x1111,
                                      .subsystem = 0x2222}) {}
  using PciFunction::add_capability;
  using PciFunction::add_msix;
  using PciFunction::deliver_intx;
  using PciFunction::msix;
  using PciFunction::record_intx;
  using PciFunction::set_bar;
  using PciFunction::set_interrupt_pin;
  using PciFunction::set_register_writable;

  void set_intx(bool level) {
    record_intx(level);
    deliver_intx();
  }
};

}  // namespace limen::pci
