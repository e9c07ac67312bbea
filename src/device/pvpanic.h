// pvpanic: how a guest says that its kernel gave up (QEMU, docs/specs/pvpanic).
#pragma once

#include <cstdint>
#include <functional>

#include "device/device.h"
#include "memory/io_space.h"

namespace limen::device {

/// What a guest can say.
enum class PanicEvent : uint8_t {
  kPanicked = 1,     ///< It gave up.
  kCrashLoaded = 2,  ///< It gave up, and a crash kernel takes over.
};

/// The register: reading gives the events that can be told, writing tells them.
class PanicRegister final : public memory::IoHandler {
 public:
  static constexpr uint8_t kEvents = 3;

  /// `told` is called on the vCPU's thread; `events` are those that may be told.
  PanicRegister(uint8_t events, std::function<void(PanicEvent)> told)
      : events_(events & kEvents), told_(std::move(told)) {}
  uint64_t io_read(uint64_t, unsigned) override { return events_; }
  void io_write(uint64_t offset, unsigned size, uint64_t value) override;

 private:
  const uint8_t events_;
  const std::function<void(PanicEvent)> told_;
};

/// -device pvpanic: at a port.
class IsaPvpanic final : public Device {
 public:
  static constexpr uint16_t kDefaultPort = 0x505;

  IsaPvpanic(memory::IoSpace& ports, uint16_t port, uint8_t events,
             std::function<void(PanicEvent)> told);
  ~IsaPvpanic() override;
  void reset() override {}

 private:
  memory::IoSpace& ports_;
  const uint16_t port_;
  PanicRegister register_;
};

}  // namespace limen::device
