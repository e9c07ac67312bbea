// Small ports of a PC's chipset: reset control, fast A20, power-on self-test codes.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>

#include "device/device.h"
#include "memory/io_space.h"

namespace limen::device {

/// The reset control register at port CF9H (ICH9 datasheet 316972, 13.7.5). It stands inside the
/// range of PCI's configuration ports: claim it after them.
class ResetControl final : public Device, public memory::IoHandler {
 public:
  static constexpr uint16_t kPort = 0xCF9;
  static constexpr uint8_t kResetValue = 0x0F;  ///< For the FADT's RESET_VALUE: full reset.

  ResetControl(memory::IoSpace& ports, std::function<void()> reset_machine);
  ~ResetControl() override;
  void reset() override;
  uint64_t io_read(uint64_t offset, unsigned size) override;
  void io_write(uint64_t offset, unsigned size, uint64_t value) override;

 private:
  memory::IoSpace& ports_;
  const std::function<void()> reset_machine_;
  std::mutex mutex_;
  uint8_t value_ = 0;
};

/// System control port A at 92H: bit 0 resets, bit 1 is the gate of address line 20 (IBM PS/2
/// Hardware Interface Technical Reference, "System Control Port A").
class SystemControlPortA final : public Device, public memory::IoHandler {
 public:
  static constexpr uint16_t kPort = 0x92;

  SystemControlPortA(memory::IoSpace& ports, std::function<void()> reset_machine,
                     std::function<void(bool)> a20);
  ~SystemControlPortA() override;
  void reset() override;
  uint64_t io_read(uint64_t offset, unsigned size) override;
  void io_write(uint64_t offset, unsigned size, uint64_t value) override;

 private:
  memory::IoSpace& ports_;
  const std::function<void()> reset_machine_;
  const std::function<void(bool)> a20_;
  std::mutex mutex_;
  static constexpr uint8_t kFastReset = 1;
  static constexpr uint8_t kA20 = 2;
  uint8_t value_ = kA20;
};

/// Port 80H, where firmware shows its progress and Linux waits a moment. Keeps the last byte.
class PostCodePort final : public Device, public memory::IoHandler {
 public:
  static constexpr uint16_t kPort = 0x80;

  explicit PostCodePort(memory::IoSpace& ports);
  ~PostCodePort() override;
  void reset() override;
  uint64_t io_read(uint64_t offset, unsigned size) override;
  void io_write(uint64_t offset, unsigned size, uint64_t value) override;

 private:
  memory::IoSpace& ports_;
  std::atomic<uint8_t> value_ = 0;
};

}  // namespace limen::device
