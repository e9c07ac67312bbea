#include "pci/line_publisher.h"

#include <bit>

namespace limen::pci {

void LinePublisher::connect(irq::InterruptSink& sink, unsigned first_line) {
  const std::lock_guard lock(mutex_);
  sink_ = &sink;
  first_line_ = first_line;
}

void LinePublisher::record(uint32_t mask, uint32_t levels) {
  const std::lock_guard lock(mutex_);
  wanted_ = (wanted_ & ~mask) | (levels & mask);
}

void LinePublisher::deliver() {
  std::unique_lock lock(mutex_);
  if (sink_ == nullptr || delivering_)
    return;  // who delivers sees the newest levels before it ends
  delivering_ = true;
  while (sent_ != wanted_) {
    const auto line = static_cast<unsigned>(std::countr_zero(sent_ ^ wanted_));
    const bool level = (wanted_ >> line & 1) != 0;
    sent_ ^= uint32_t{1} << line;
    lock.unlock();
    sink_->set_line(first_line_ + line, level);
    lock.lock();
  }
  delivering_ = false;
}

}  // namespace limen::pci
