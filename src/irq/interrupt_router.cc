#include "irq/interrupt_router.h"

namespace limen::irq {
namespace {

// The 8259s' cascade takes ISA line 2, so I/O APIC input 2 is free for the timer.
unsigned io_apic_input(unsigned line) { return line == 0 ? 2 : line; }

}  // namespace

InterruptRouter::InterruptRouter(InterruptSink* pic, InterruptSink* io_apic)
    : pic_(pic), io_apic_(io_apic), counts_(kLines), asserted_(kLines) {
  for (unsigned line = 0; line < kLines; ++line) inputs_.push_back({line, false});
}

InterruptLine InterruptRouter::connect(unsigned line) {
  const std::lock_guard lock(mutex_);
  inputs_.push_back({line < kLines ? line : 0, false});
  return {*this, static_cast<unsigned>(inputs_.size() - 1)};
}

void InterruptRouter::reset() {
  const std::lock_guard lock(mutex_);
  for (auto& input : inputs_) input.level = false;
  for (unsigned line = 0; line < kLines; ++line) {
    asserted_[line] = 0;
    drive(line);
  }
}

void InterruptRouter::set_line(unsigned input, bool level) {
  // Held while the controllers hear of it, so that levels reach them in order. They never call
  // back.
  const std::lock_guard lock(mutex_);
  if (input >= inputs_.size() || inputs_[input].level == level) return;
  inputs_[input].level = level;
  const unsigned line = inputs_[input].line;
  const unsigned before = asserted_[line];
  asserted_[line] = level ? before + 1 : before - 1;
  if (before == 0 && level) ++counts_[line];
  if ((before != 0) != (asserted_[line] != 0)) drive(line);
}

std::vector<uint64_t> InterruptRouter::counts() {
  const std::lock_guard lock(mutex_);
  return counts_;
}

void InterruptRouter::drive(unsigned line) {
  const bool level = asserted_[line] != 0;
  if (pic_ != nullptr && line < 16) pic_->set_line(line, level);
  if (io_apic_ == nullptr) return;
  if (line == 0 || line == 2)
    io_apic_->set_line(2, asserted_[0] != 0 || asserted_[2] != 0);
  else
    io_apic_->set_line(line, level);
}

bool InterruptRouter::passes(unsigned input) {
  const std::lock_guard lock(mutex_);
  if (input >= inputs_.size()) return false;
  const unsigned line = inputs_[input].line;
  return (pic_ != nullptr && line < 16 && pic_->passes(line)) ||
         (io_apic_ != nullptr && io_apic_->passes(io_apic_input(line)));
}

void InterruptRouter::on_acknowledge(unsigned input, std::function<void()> acknowledged) {
  const std::lock_guard lock(mutex_);
  if (input >= inputs_.size()) return;
  const unsigned line = inputs_[input].line;
  if (pic_ != nullptr && line < 16) pic_->on_acknowledge(line, acknowledged);
  if (io_apic_ != nullptr) io_apic_->on_acknowledge(io_apic_input(line), acknowledged);
}

}  // namespace limen::irq
