// Interrupt lines whose level several threads change.
#pragma once

#include <cstdint>
#include <mutex>

#include "irq/interrupt_line.h"

namespace limen::pci {

/// Passes the levels of up to 32 lines on to a sink so that the sink always ends with the latest
/// level, though it is called without any lock held: one thread at a time delivers, and goes on for
/// as long as others have changed a level meanwhile.
class LinePublisher {
 public:
  /// Where line n of this publisher goes: `sink` line `first_line` + n. Before the machine runs.
  void connect(irq::InterruptSink& sink, unsigned first_line);
  /// Sets the levels of the lines in `mask`; the sink hears of them with the next deliver(). May be
  /// called under the lock that decides the level.
  void record(uint32_t mask, uint32_t levels);
  /// Tells the sink what changed. Call without a lock that the sink could need.
  void deliver();

 private:
  std::mutex mutex_;
  irq::InterruptSink* sink_ = nullptr;
  unsigned first_line_ = 0;
  uint32_t wanted_ = 0;      // guarded by mutex_
  uint32_t sent_ = 0;        // guarded by mutex_
  bool delivering_ = false;  // guarded by mutex_
};

}  // namespace limen::pci
