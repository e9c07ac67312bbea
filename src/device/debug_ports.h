// Ports by which test guests and firmware talk to whoever runs the machine.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "device/character_backend.h"
#include "device/device.h"
#include "irq/interrupt_line.h"
#include "memory/io_space.h"

namespace limen::device {

/// QEMU's isa-debugcon: bytes written to the port go to a character back end; reading gives E9H, by
/// which a guest knows that it is there.
class DebugConsole final : public Device, public memory::IoHandler {
 public:
  static constexpr uint16_t kDefaultPort = 0xE9;
  static constexpr uint8_t kReadback = 0xE9;

  DebugConsole(memory::IoSpace& ports, uint16_t port, CharacterBackend& backend,
               uint8_t readback = kReadback);
  ~DebugConsole() override;
  void reset() override {}
  uint64_t io_read(uint64_t offset, unsigned size) override;
  void io_write(uint64_t offset, unsigned size, uint64_t value) override;

 private:
  memory::IoSpace& ports_;
  const uint16_t port_;
  CharacterBackend& backend_;
  const uint8_t readback_;
};

/// QEMU's isa-debug-exit: a write of `value` ends the machine with exit status value * 2 + 1.
class IsaDebugExit final : public Device, public memory::IoHandler {
 public:
  static constexpr uint16_t kDefaultBase = 0x501;
  static constexpr uint16_t kDefaultSize = 2;

  IsaDebugExit(memory::IoSpace& ports, uint16_t base, uint16_t size,
               std::function<void(int status)> exit);
  ~IsaDebugExit() override;
  void reset() override {}
  uint64_t io_read(uint64_t offset, unsigned size) override;
  void io_write(uint64_t offset, unsigned size, uint64_t value) override;

 private:
  memory::IoSpace& ports_;
  const uint16_t base_;
  const std::function<void(int)> exit_;
};

/// QEMU's pc-testdev, which public x86 test suites use: one 32-bit value that ports E0H to E3H and
/// E8H to EBH read and write, port E4H which asks for a page's host mapping to be redone (nothing
/// to do here), levels of interrupt lines 0 to 23 at port 2000H, and 64 KiB at FF000000H that
/// behave as memory but are reached as a device.
class PcTestdev final : public Device, public memory::IoHandler {
 public:
  static constexpr uint16_t kPortBase = 0xE0;
  static constexpr uint16_t kPortSize = 12;
  static constexpr uint16_t kLinesBase = 0x2000;
  static constexpr unsigned kLines = 24;
  static constexpr uint64_t kMemoryBase = 0xFF000000;
  static constexpr uint64_t kMemorySize = 0x10000;

  /// `lines[i]` is driven by port 2000H + i.
  PcTestdev(memory::IoSpace& ports, memory::IoSpace& mmio,
            std::array<irq::InterruptLine, kLines> lines);
  ~PcTestdev() override;
  void reset() override;
  uint64_t io_read(uint64_t offset, unsigned size) override;
  void io_write(uint64_t offset, unsigned size, uint64_t value) override;

 private:
  class Lines;
  class Memory;

  memory::IoSpace& ports_;
  memory::IoSpace& mmio_;
  std::unique_ptr<Lines> lines_;
  std::unique_ptr<Memory> memory_;
  std::mutex mutex_;
  uint32_t value_ = 0;  // guest-controlled
};

}  // namespace limen::device
