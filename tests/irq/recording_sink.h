// Interrupt sinks that remember what they were told.
#pragma once

#include <functional>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "irq/interrupt_line.h"

namespace limen::irq {

class RecordingSink final : public InterruptSink {
 public:
  void set_line(unsigned line, bool asserted) override {
    const std::lock_guard lock(mutex_);
    if (asserted && !levels_[line]) ++rises_[line];
    levels_[line] = asserted;
    log_.emplace_back(line, asserted);
  }
  bool passes(unsigned) override { return open; }
  void on_acknowledge(unsigned line, std::function<void()> acknowledged) override {
    listeners_.emplace(line, std::move(acknowledged));
  }
  /// As if a processor had taken an edge of the line.
  void acknowledge(unsigned line) {
    for (auto [at, end] = listeners_.equal_range(line); at != end; ++at) at->second();
  }
  bool open = true;  ///< No line is masked.

  bool level(unsigned line) {
    const std::lock_guard lock(mutex_);
    return levels_[line];
  }
  int rises(unsigned line) {
    const std::lock_guard lock(mutex_);
    return rises_[line];
  }
  std::vector<std::pair<unsigned, bool>> log() {
    const std::lock_guard lock(mutex_);
    return log_;
  }

 private:
  std::mutex mutex_;
  std::map<unsigned, bool> levels_;
  std::map<unsigned, int> rises_;
  std::vector<std::pair<unsigned, bool>> log_;
  std::multimap<unsigned, std::function<void()>> listeners_;
};

}  // namespace limen::irq
