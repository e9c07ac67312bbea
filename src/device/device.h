// What the board asks of every device.
#pragma once

namespace limen::device {

/// A device gets its ports, memory ranges and interrupt lines at construction and does not know
/// which machine it is on. It guards its own state with its own lock and raises interrupts outside
/// it.
class Device {
 public:
  virtual ~Device() = default;
  /// Back to the state after power-on. Called while no vCPU runs.
  virtual void reset() = 0;
  /// Back from S3, where all have lost their power but what a device says. Called instead of
  /// reset().
  virtual void resume() { reset(); }
};

}  // namespace limen::device
