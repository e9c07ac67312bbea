// One wire from a device to whatever listens to it.
#pragma once

#include <functional>
#include <utility>

namespace limen::irq {

/// The listening end of numbered lines: an 8259 pair, an I/O APIC, or a board that feeds both.
class InterruptSink {
 public:
  virtual ~InterruptSink() = default;
  /// Thread-safe; called without any device's lock held.
  virtual void set_line(unsigned line, bool level) = 0;
  /// Whether an edge of the line goes on to a processor: it is not masked. Thread-safe.
  [[nodiscard]] virtual bool passes(unsigned) { return true; }
  /// `acknowledged` is called, on the processor's thread and without a lock held, when a processor
  /// has taken an edge of the line: the next one will not merge with it. Before processors run.
  // Those who override it keep it. NOLINTNEXTLINE(performance-unnecessary-value-param)
  virtual void on_acknowledge(unsigned, std::function<void()>) {}
};

/// The device's end. A default-made line leads nowhere.
class InterruptLine {
 public:
  InterruptLine() = default;
  InterruptLine(InterruptSink& sink, unsigned line) : sink_(&sink), line_(line) {}

  void set(bool level) const {
    if (sink_ != nullptr) sink_->set_line(line_, level);
  }
  [[nodiscard]] bool passes() const { return sink_ != nullptr && sink_->passes(line_); }
  void on_acknowledge(std::function<void()> acknowledged) const {
    if (sink_ != nullptr) sink_->on_acknowledge(line_, std::move(acknowledged));
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
