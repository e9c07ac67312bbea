// What every device test needs: ports, a clock moved by hand, lines that remember.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/event_loop.h"
#include "device/character_backend.h"
#include "irq/recording_sink.h"
#include "memory/io_space.h"

namespace limen::device {

/// Keeps what the guest wrote; gives the guest what a test types.
class FakeBackend final : public CharacterBackend {
 public:
  void write(std::span<const uint8_t> bytes) override {
    output.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }
  void accept_input() override { ++accepts; }
  size_t room() { return can_receive_(); }
  void type(std::string_view text) {
    receive_({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
  }

  std::string output;
  int accepts = 0;
};

class DeviceTest : public ::testing::Test {
 protected:
  void out(uint16_t port, uint32_t value, unsigned size = 1) { ports_.write(port, size, value); }
  uint32_t in(uint16_t port, unsigned size = 1) {
    return static_cast<uint32_t>(ports_.read(port, size));
  }
  irq::InterruptLine line(unsigned number) { return {sink_, number}; }
  void advance(Clock::duration step) { loop_->advance(step); }
  /// Nothing runs for so long.
  void stand_still(Clock::duration time) { loop_->leap(time); }

  memory::IoSpace ports_{"ports"};
  memory::IoSpace mmio_{"mmio"};
  irq::RecordingSink sink_;
  std::unique_ptr<EventLoop> loop_ = EventLoop::create(EventLoop::Time::kManual).value();
};

}  // namespace limen::device
