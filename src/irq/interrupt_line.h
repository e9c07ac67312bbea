// One wire from a device to whatever listens to it.
#pragma once

namespace limen::irq {

/// The listening end of numbered lines: an 8259 pair, an I/O APIC, or a board that feeds both.
class InterruptSink {
 public:
  virtual ~InterruptSink() = default;
  /// Thread-safe; called without any device's lock held.
  virtual void set_line(unsigned line, bool level) = 0;
};

/// The device's end. A default-made line leads nowhere.
class InterruptLine {
 public:
  InterruptLine() = default;
  InterruptLine(InterruptSink& sink, unsigned line) : sink_(&sink), line_(line) {}

  void set(bool level) const {
    if (sink_ != nullptr) sink_->set_line(line_, level);
  }
  /// A rising and a falling edge.
  void pulse() const {
    set(true);
    set(false);
  }

 private:
  InterruptSink* sink_ = nullptr;
  unsigned line_ = 0;
};

}  // namespace limen::irq
